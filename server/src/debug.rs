//! `cairn debug`: what a stopped store holds, for people. Nothing is changed: the log is only
//! read, RocksDB is opened read-only, and the store's lock keeps a node from starting meanwhile.

use std::io::Write;
use std::path::Path;

use cairn_kv::engine::{Cf, Engine, RocksEngine, RocksOptions};
use cairn_kv::version;
use cairn_raft::StoreError;
use cairn_raft::debug as log_debug;
use cairn_sql::storage::check::check_tables;

use crate::disk::DirectoryDisk;
use crate::error::{Error, Result, reason};
use crate::node::store_error;
use crate::store_directory::StoreDirectory;

/// Memory for reading: a scan needs no more.
const CACHE_BYTES: usize = 32 << 20;

/// Bytes of a value that are printed.
const SHOWN_BYTES: usize = 64;

/// Prints the log.
pub fn log(store: &Path, out: &mut dyn Write) -> Result<()> {
    let directory = StoreDirectory::open_stopped(store)?;
    let disk = open_log(&directory)?;
    log_debug::dump_log(&disk, &mut Text(out)).map_err(|error| store_error(store, &error.into()))
}

/// Prints keys and values of all families or one.
pub fn keys(store: &Path, family: Option<&str>, limit: usize, out: &mut dyn Write) -> Result<()> {
    let families: Vec<Cf> = match family {
        None => Cf::ALL.to_vec(),
        Some(name) => match Cf::ALL.into_iter().find(|cf| cf.name() == name) {
            Some(cf) => vec![cf],
            None => {
                let message = format!("there is no family {name}: they are data, history, lock and local");
                return Err(Error::new(message));
            }
        },
    };
    let directory = StoreDirectory::open_stopped(store)?;
    let engine = open_engine(&directory)?;
    for cf in families {
        let mut iter = engine.iter(cf, &[], &[]).map_err(|error| store_error(store, &error.into()))?;
        iter.seek_to_first();
        let mut count = 0;
        while iter.valid() && count < limit {
            writeln!(out, "{}  {}", cf.name(), describe(cf, iter.key(), iter.value()))
                .map_err(write_error)?;
            count += 1;
            iter.next();
        }
        iter.status().map_err(|error| store_error(store, &error.into()))?;
    }
    Ok(())
}

/// Checks everything and prints what is wrong; returns how many things are.
pub fn check(store: &Path, out: &mut dyn Write) -> Result<usize> {
    let directory = StoreDirectory::open_stopped(store)?;
    let mut problems = 0;
    let mut report = |out: &mut dyn Write, what: &str| {
        problems += 1;
        writeln!(out, "PROBLEM  {what}").map_err(write_error)
    };
    let disk = open_log(&directory)?;
    let mut log_identity = None;
    match log_debug::check_log(&disk) {
        Ok(summary) => {
            log_identity = Some(summary.identity);
            let entries: u64 =
                summary.ranges.values().map(|(first, last)| (last + 1).saturating_sub(*first)).sum();
            writeln!(
                out,
                "log      {} segments, {} records, {entries} entries not yet truncated",
                summary.segments, summary.records
            )
            .map_err(write_error)?;
        }
        Err(error) => report(out, &error.to_string())?,
    }
    // A damaged manifest shows at once, a damaged block when it is read.
    let engine = match open_engine(&directory) {
        Ok(engine) => engine,
        Err(error) => {
            report(out, &error.to_string())?;
            return Ok(problems);
        }
    };
    if let Some(identity) = log_identity
        && let Err(error) = log_debug::check_engine(&engine, identity)
    {
        report(out, &error.to_string())?;
    }
    if let Err(error) = engine.verify_checksums() {
        report(out, &error.to_string())?;
        // Which keys a damaged file hides is unknown: what follows would only repeat it.
        return Ok(problems);
    }
    for cf in Cf::ALL {
        let mut iter = engine.iter(cf, &[], &[]).map_err(|error| store_error(store, &error.into()))?;
        iter.seek_to_first();
        let (mut count, mut bytes) = (0u64, 0u64);
        while iter.valid() {
            count += 1;
            bytes += (iter.key().len() + iter.value().len()) as u64;
            if let Err(error) = well_formed(cf, iter.key(), iter.value()) {
                report(out, &format!("family {}, key {}: {error}", cf.name(), version::escape(iter.key())))?;
            }
            iter.next();
        }
        iter.status().map_err(|error| store_error(store, &error.into()))?;
        writeln!(out, "{:<8} {count} entries, {bytes} bytes", cf.name()).map_err(write_error)?;
    }
    let mut found = Vec::new();
    let tables = check_tables(&engine, &mut |problem| found.push(problem))
        .map_err(|error| store_error(store, &error.into()))?;
    for problem in found {
        report(out, &problem)?;
    }
    for table in tables {
        writeln!(out, "table    {}: {} rows, {} index entries", table.name, table.rows, table.entries)
            .map_err(write_error)?;
    }
    Ok(problems)
}

/// Lets what writes text write to a stream.
struct Text<'a>(&'a mut dyn Write);

impl std::fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.write_all(text.as_bytes()).map_err(|_| std::fmt::Error)
    }
}

fn open_log(directory: &StoreDirectory) -> Result<DirectoryDisk> {
    DirectoryDisk::open(&directory.log())
        .map_err(|error| Error::new(format!("cannot open {}: {}", directory.log().display(), reason(&error))))
}

fn open_engine(directory: &StoreDirectory) -> Result<RocksEngine> {
    let options = RocksOptions { cache_bytes: CACHE_BYTES, ..RocksOptions::default() };
    RocksEngine::open_read_only(&directory.data(), &options)
        .map_err(|error| store_error(directory.path(), &StoreError::Kv(error)))
}

/// An entry in words: key, version, beginning of the value.
fn describe(cf: Cf, key: &[u8], value: &[u8]) -> String {
    let versioned = |user_key: &[u8], when: String| match version::header(key, value) {
        Ok(header) if header.tombstone => format!("{}  {when}  deleted", version::escape(user_key)),
        Ok(_) => format!("{}  {when}  {} bytes  {}", version::escape(user_key), value.len(), shown(value)),
        Err(error) => format!("{}  {error}", version::escape(user_key)),
    };
    let ts = version::header(key, value).map(|header| header.ts.to_string()).unwrap_or_default();
    match cf {
        Cf::Data => versioned(key, format!("at {ts}")),
        Cf::History => match version::parse_history_key(key) {
            Ok((user_key, own)) => versioned(user_key, format!("at {own}, superseded at {ts}")),
            Err(error) => format!("{}  {error}", version::escape(key)),
        },
        Cf::Lock | Cf::Local => format!("{}  {} bytes  {}", version::escape(key), value.len(), shown(value)),
    }
}

fn shown(value: &[u8]) -> String {
    match value.get(..SHOWN_BYTES) {
        Some(start) if value.len() > SHOWN_BYTES => format!("{}…", version::escape(start)),
        _ => version::escape(value),
    }
}

fn well_formed(cf: Cf, key: &[u8], value: &[u8]) -> cairn_kv::Result<()> {
    match cf {
        Cf::Data => version::header(key, value).map(drop),
        Cf::History => {
            version::parse_history_key(key)?;
            version::header(key, value).map(drop)
        }
        Cf::Lock | Cf::Local => Ok(()),
    }
}

fn write_error(error: std::io::Error) -> Error {
    Error::new(format!("cannot write the output: {}", reason(&error)))
}
