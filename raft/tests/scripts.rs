//! Golden scripts: what recovery, flush and truncation do step by step, on a simulated machine.
//!
//! Timestamps, salts and the cluster's id are masked.

mod support;

use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;

use cairn_kv::effects;
use cairn_kv::engine::{Cf, Engine};
use cairn_kv::local_keys;
use cairn_kv::sim::Stopped;
use cairn_raft::command::decode_range_state;
use cairn_raft::debug::{check_log, dump_log};
use cairn_raft::store::FIRST_RANGE;
use cairn_raft::{Faults, Store, StoreConfig};

use support::{Machine, OpenStore, put, read};

struct Runner {
    machine: Machine,
    store: Option<Arc<Store>>,
}

type Output = Result<String, Box<dyn Error>>;

impl Runner {
    /// Runs `work`, or crashes at its `crash`th disk or engine operation.
    fn run_or_crash<T>(
        machine: &Machine,
        crash: Option<u32>,
        work: impl Future<Output = Result<T, String>>,
    ) -> Result<Option<T>, Box<dyn Error>> {
        if let Some(operation) = crash {
            machine.env.crash_after_operations(operation);
        }
        let done = machine.env.run(work);
        match done {
            Ok(_) if !machine.env.executor.is_powered() => {
                machine.env.crash();
                Ok(None)
            }
            Ok(done) => Ok(Some(done?)),
            Err(Stopped::Crashed) => Ok(None),
            Err(stopped) => Err(format!("{stopped:?}").into()),
        }
    }

    fn store(&self) -> Result<&Arc<Store>, Box<dyn Error>> {
        Ok(self.store.as_ref().ok_or("the store is not open")?)
    }

    /// Applied index of the range in the engine, as it stands and as it is flushed.
    fn engine_state(&self) -> Output {
        let key = local_keys::range_state(FIRST_RANGE);
        let mut value = Vec::new();
        let show = |found: bool, value: &[u8]| {
            if !found {
                return Ok("nothing".to_string());
            }
            let s = decode_range_state(FIRST_RANGE, value)?;
            Ok::<_, Box<dyn Error>>(format!(
                "entry {} (lease {}.{})",
                s.index, s.lease_sequence, s.lease_index
            ))
        };
        let found = self.machine.engine.get(Cf::Local, &key, &mut value)?;
        let now = show(found, &value)?;
        let found = self.machine.engine.get_flushed(Cf::Local, &key, &mut value)?;
        Ok(format!("engine: applied {now}, flushed {}", show(found, &value)?))
    }
}

impl goldenscript::Runner for Runner {
    type Command = goldenscript::Command;

    fn run(&mut self, command: &goldenscript::Command, _: &goldenscript::Context) -> Output {
        let mut args = command.consume_args();
        let crash: Option<u32> = args.take_key("crash").map(str::parse).transpose()?;
        let machine = &self.machine;
        let mut out = String::new();
        match command.name.as_str() {
            // open [segment=BYTES] [crash=N] [fault=NAME]: opens or recovers the store.
            "open" => {
                let segment_bytes = args.take_key("segment").map_or(Ok(128 << 10), str::parse)?;
                let mut faults = Faults::default();
                match args.take_key("fault") {
                    Some("accept_torn_tail") => faults.accept_torn_tail = true,
                    Some(other) => return Err(format!("no fault {other}").into()),
                    None => {}
                }
                let config = StoreConfig { segment_bytes, faults, ..StoreConfig::default() };
                let open = async { machine.open_with(config).await.map_err(|e| mask(&e.to_string())) };
                self.store = Self::run_or_crash(machine, crash, open)?;
                match &self.store {
                    Some(store) => {
                        let lease = store.lease(FIRST_RANGE).map_or(0, |l| l.sequence);
                        writeln!(out, "open under lease {lease}, {}", self.engine_state()?)?;
                    }
                    None => writeln!(out, "crashed")?,
                }
            }
            // put KEY=VALUE... [size=N] [crash=N]: a command each, one after the other.
            "put" => {
                let size: usize = args.take_key("size").map_or(Ok(0), str::parse)?;
                while let Some((key, value)) = args.next_key() {
                    let store = self.store()?;
                    let value = format!("{value:<size$}");
                    let put = async { put(store, key, &value).await.map_err(|e| e.to_string()) };
                    match Self::run_or_crash(&self.machine, crash, put)? {
                        Some(applied) => writeln!(out, "{key} applied as entry {}", applied.index)?,
                        None => {
                            writeln!(out, "crashed")?;
                            self.store = None;
                        }
                    }
                }
            }
            // flush [crash=N]
            "flush" => {
                let store = self.store()?;
                let flush = async { store.flush().await.map_err(|e| e.to_string()) };
                match Self::run_or_crash(&self.machine, crash, flush)? {
                    Some(()) => writeln!(out, "flushed, {}", self.engine_state()?)?,
                    None => {
                        writeln!(out, "crashed")?;
                        self.store = None;
                    }
                }
            }
            "crash" => {
                machine.env.crash();
                self.store = None;
            }
            "get" => {
                while let Some(key) = args.next_pos() {
                    let value = read(&*machine.engine, key);
                    writeln!(out, "{key} = {}", value.as_deref().map_or("none", str::trim_end))?;
                }
            }
            "engine" => writeln!(out, "{}", self.engine_state()?)?,
            "thresholds" => writeln!(out, "{:?}", effects::thresholds(&*machine.engine)?)?,
            "files" => {
                for (name, bytes) in machine.env.disk.contents() {
                    writeln!(out, "{name} {} bytes", bytes.len())?;
                }
            }
            // dump: the log as `cairn debug log` shows it.
            "dump" => {
                let mut dump = String::new();
                let result = dump_log(&*machine.env.seams().disk, &mut dump);
                write!(out, "{}", mask(&dump))?;
                result?;
            }
            "check" => {
                let summary = check_log(&*machine.env.seams().disk)?;
                writeln!(out, "sound: {} records in {} segments", summary.records, summary.segments)?;
                for (range, (first, last)) in summary.ranges {
                    writeln!(out, "range {range}: entries {first} to {last}")?;
                }
            }
            // flip FILE OFFSET [bit=N]
            "flip" => {
                let bit = args.take_key("bit").map_or(Ok(0), str::parse)?;
                let name = args.next_pos().ok_or("which file?")?;
                let offset = number(args.next_pos().ok_or("where?")?)?;
                machine.env.disk.flip_bit(name, offset, bit)?;
            }
            // zero FILE OFFSET LENGTH: as if a write had not reached the disk.
            "zero" => {
                let name = args.next_pos().ok_or("which file?")?;
                let offset = number(args.next_pos().ok_or("where?")?)? as usize;
                let length = number(args.next_pos().ok_or("how much?")?)? as usize;
                let mut bytes = machine.env.disk.contents().remove(name).ok_or("no such file")?;
                bytes[offset..offset + length].fill(0);
                machine.env.disk.plant(name, &bytes);
            }
            // version FILE N: as a newer cairn would have written it.
            "version" => {
                let name = args.next_pos().ok_or("which file?")?;
                let format: u32 = args.next_pos().ok_or("which version?")?.parse()?;
                let mut bytes = machine.env.disk.contents().remove(name).ok_or("no such file")?;
                bytes[8..12].copy_from_slice(&format.to_le_bytes());
                let crc = crc32c::crc32c(&bytes[..12]);
                bytes[12..16].copy_from_slice(&crc.to_le_bytes());
                machine.env.disk.plant(name, &bytes);
            }
            "remove" => machine.env.seams().disk.remove(args.next_pos().ok_or("which file?")?)?,
            other => return Err(format!("no command {other}").into()),
        }
        args.reject_next()?;
        Ok(out)
    }
}

fn number(text: &str) -> Result<u64, Box<dyn Error>> {
    Ok(match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16)?,
        None => text.parse()?,
    })
}

/// Hides what differs from run to run of a changed program: timestamps, salts, the cluster's id.
fn mask(text: &str) -> String {
    let mut masked = String::new();
    for token in text.split_inclusive(|c: char| !(c.is_ascii_alphanumeric() || c == '.' || c == '-')) {
        let (word, end) = match token.char_indices().last() {
            Some((at, last)) if !last.is_ascii_alphanumeric() => token.split_at(at),
            _ => (token, ""),
        };
        let hex = |len| word.len() == len && word.chars().all(|c| c.is_ascii_hexdigit());
        let is_time = word.split_once('.').is_some_and(|(secs, micros)| {
            secs.len() >= 9 && micros.len() == 6 && secs.chars().all(|c| c.is_ascii_digit())
        });
        masked.push_str(if hex(32) {
            "CLUSTER"
        } else if hex(16) {
            "SALT"
        } else if is_time {
            "TIME"
        } else {
            word
        });
        masked.push_str(end);
    }
    // The logical part of a timestamp follows its comma.
    let mut parts = masked.split("TIME,");
    let mut out = parts.next().unwrap_or_default().to_string();
    for part in parts {
        out.push_str("TIME");
        out.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    out
}

#[test]
fn scripts() -> Result<(), Box<dyn Error>> {
    let mut paths: Vec<_> =
        std::fs::read_dir("tests/scripts")?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
    paths.sort();
    assert!(!paths.is_empty());
    for path in paths {
        let mut runner = Runner { machine: Machine::new(1), store: None };
        goldenscript::run(&mut runner, &path)?;
    }
    Ok(())
}
