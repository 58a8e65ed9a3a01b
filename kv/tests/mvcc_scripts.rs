//! Runs `tests/scripts/mvcc`: each command prints what it answers; `dump` prints the families as
//! they are stored. `UPDATE_GOLDENFILES=1` rewrites the scripts.

use std::error::Error;
use std::fmt::Write;

use bytes::Bytes;
use cairn_kv::effects::{
    self, ClearSpan, EFFECTS_FORMAT, Effects, RawWrite, ResolveSpan, ThresholdUpdate, VersionWrite,
};
use cairn_kv::engine::{Cf, Engine, MemEngine, WriteBatch};
use cairn_kv::mvcc::{self, LOCK_FORMAT, LockValue, ProvisionalValue, Scanner, Strength};
use cairn_kv::version::{self, HEADER_LEN, escape};
use cairn_kv::{Timestamp, gc};
use goldenscript::{Command, Context, Runner};
use prost::Message;

const TXN: [u8; 16] = [1; 16];

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

#[derive(Default)]
struct Script {
    engine: MemEngine,
}

impl Script {
    fn apply(&self, effects: Effects) -> Result<String, Box<dyn Error>> {
        let mut batch = WriteBatch::default();
        effects::apply(&self.engine, &Effects { format: EFFECTS_FORMAT, ..effects }, &mut batch)?;
        self.engine.write(&batch)?;
        Ok(String::new())
    }

    fn dump(&self) -> Result<String, Box<dyn Error>> {
        let mut out = String::new();
        for cf in [Cf::Lock, Cf::Data, Cf::History] {
            let mut iter = self.engine.iter(cf, b"", b"")?;
            iter.seek_to_first();
            while iter.valid() {
                let (stored, value) = (iter.key(), iter.value());
                write!(out, "{} ", cf.name())?;
                if cf == Cf::Lock {
                    let (key, strength, _) = mvcc::parse_lock_key(stored)?;
                    let value = mvcc::decode_lock_value(stored, Bytes::copy_from_slice(value))?;
                    write!(out, "{} {strength:?}", escape(key))?;
                    for value in value.values {
                        let text = value.value.as_deref().map_or("deleted".into(), escape);
                        write!(out, " {}={text}", value.seq)?;
                    }
                } else {
                    let header = version::header(stored, value)?;
                    let text = if header.tombstone { "deleted".into() } else { escape(&value[HEADER_LEN..]) };
                    if cf == Cf::Data {
                        write!(out, "{}@{} {text}", escape(stored), header.ts.0)?;
                    } else {
                        let (key, ts) = version::parse_history_key(stored)?;
                        write!(out, "{}@{} {text} until {}", escape(key), ts.0, header.ts.0)?;
                    }
                }
                out.push('\n');
                iter.next();
            }
            iter.status()?;
        }
        Ok(out)
    }
}

impl Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let mut out = String::new();
        match command.name.as_str() {
            // put TS key=value …
            "put" => {
                let ts = args.next_pos().ok_or("timestamp")?.parse()?;
                let mut writes = Vec::new();
                while let Some((key, value)) = args.next_key() {
                    writes.push(VersionWrite {
                        key: bytes(key),
                        ts,
                        value: Some(bytes(value)),
                        fresh: false,
                        supersedes: None,
                    });
                }
                out = self.apply(Effects { writes, ..Effects::default() })?;
            }
            // delete TS key …
            "delete" => {
                let ts = args.next_pos().ok_or("timestamp")?.parse()?;
                let mut writes = Vec::new();
                while let Some(key) = args.next_pos() {
                    writes.push(VersionWrite {
                        key: bytes(key),
                        ts,
                        value: None,
                        fresh: false,
                        supersedes: None,
                    });
                }
                out = self.apply(Effects { writes, ..Effects::default() })?;
            }
            // intent TS KEY value … : the values of sequence numbers 1, 2, …; `deleted` deletes
            "intent" => {
                let write_ts = args.next_pos().ok_or("timestamp")?.parse()?;
                let key = args.next_pos().ok_or("key")?;
                let mut values = Vec::new();
                while let Some(value) = args.next_pos() {
                    let value = (value != "deleted").then(|| bytes(value));
                    values.push(ProvisionalValue { seq: values.len() as u32 + 1, value });
                }
                let value = LockValue { format: LOCK_FORMAT, write_ts, values, ..LockValue::default() };
                let key = mvcc::lock_key(key.as_bytes(), Strength::Intent, &TXN);
                let locks = vec![RawWrite { key, value: Some(value.encode_to_vec().into()) }];
                out = self.apply(Effects { locks, ..Effects::default() })?;
            }
            // resolve COMMIT_TS START END [ignored sequence]
            "resolve" => {
                let commit_ts = args.next_pos().ok_or("timestamp")?.parse()?;
                let start = bytes(args.next_pos().ok_or("start")?);
                let end = bytes(args.next_pos().ok_or("end")?);
                let mut ignored_seqs = Vec::new();
                while let Some(seq) = args.next_pos() {
                    let seq: u32 = seq.parse()?;
                    ignored_seqs.extend([seq, seq]);
                }
                let txn_id = Bytes::copy_from_slice(&TXN);
                let resolves = vec![ResolveSpan { start, end, txn_id, commit_ts, ignored_seqs }];
                out = self.apply(Effects { resolves, ..Effects::default() })?;
            }
            // get TS key …
            "get" => {
                let ts = Timestamp(args.next_pos().ok_or("timestamp")?.parse()?);
                while let Some(key) = args.next_pos() {
                    let mut value = Vec::new();
                    let found = mvcc::get(&self.engine, key.as_bytes(), ts, &mut value)?;
                    let text = if found.exists { escape(&value) } else { "none".into() };
                    let newer = if found.newer { ", newer exists" } else { "" };
                    writeln!(out, "{key}@{} {text}{newer}", found.ts.0)?;
                }
            }
            // scan TS [reverse=true]
            "scan" => {
                let ts = Timestamp(args.next_pos().ok_or("timestamp")?.parse()?);
                let reverse = args.take_key("reverse").is_some_and(|value| value == "true");
                let mut scanner = Scanner::new(&self.engine, b"", b"", ts, reverse)?;
                scanner.for_each(&mut |key, value, ts| {
                    writeln!(out, "{}@{} {}", escape(key), ts.0, escape(value)).is_ok()
                })?;
                writeln!(out, "skipped {}", scanner.skipped())?;
            }
            // changed AFTER UPTO
            "changed" => {
                let after = Timestamp(args.next_pos().ok_or("timestamp")?.parse()?);
                let upto = Timestamp(args.next_pos().ok_or("timestamp")?.parse()?);
                let changed = mvcc::changed_in(&self.engine, b"", b"", after, upto)?;
                writeln!(out, "{}", changed.map_or("nothing".into(), |key| escape(&key)))?;
            }
            // clear START END
            "clear" => {
                let start = bytes(args.next_pos().ok_or("start")?);
                let end = bytes(args.next_pos().ok_or("end")?);
                out = self.apply(Effects { clears: vec![ClearSpan { start, end }], ..Effects::default() })?;
            }
            // vacuum gc=TS tombstone=TS
            "vacuum" => {
                let gc = args.take_key("gc").unwrap_or("0").parse()?;
                let tombstone = args.take_key("tombstone").unwrap_or("0").parse()?;
                let thresholds = Some(ThresholdUpdate { gc, tombstone, marker: 0 });
                self.apply(Effects { thresholds, ..Effects::default() })?;
                self.engine.flush()?;
                self.engine.set_filter_thresholds(effects::flushed_thresholds(&self.engine)?.into());
                gc::collect(&self.engine, b"", b"")?;
            }
            "dump" => out = self.dump()?,
            name => return Err(format!("unknown command {name}").into()),
        }
        args.reject_next()?;
        Ok(out)
    }
}

#[test]
fn scripts() {
    let mut paths: Vec<_> =
        std::fs::read_dir("tests/scripts/mvcc").unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    for path in paths {
        goldenscript::run(&mut Script::default(), path).unwrap();
    }
}
