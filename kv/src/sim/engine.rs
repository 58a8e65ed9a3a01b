//! An engine whose operations are part of the trace.

use std::sync::Arc;

use crate::engine::{
    Cf, Engine, EngineIter, EngineSnapshot, EngineStats, FilterThresholds, SharedEngine, Stage, WriteBatch,
    WriteOp,
};
use crate::{Error, Result};

use super::executor::SimRuntime;
use super::trace::{Digest, Trace, hash_bytes};

/// Wraps an engine for one incarnation of a simulated node: folds every operation with its result
/// into the trace, counts it for crashes at operations, and refuses writes once the incarnation is
/// over (destructors that run during a crash must not reach the engine).
pub struct TracedEngine {
    inner: SharedEngine,
    runtime: SimRuntime,
    trace: Trace,
}

impl TracedEngine {
    /// Wraps `inner`.
    pub fn new(inner: SharedEngine, runtime: SimRuntime, trace: Trace) -> TracedEngine {
        TracedEngine { inner, runtime, trace }
    }

    /// Counts the operation; whether it takes effect, or the error of a dead node.
    fn operation(&self) -> Result<bool> {
        if !self.runtime.is_alive() {
            return Err(Error::Io("the node has crashed".into()));
        }
        Ok(self.runtime.operation())
    }

    fn read(&self, what: &'static str, cf: Cf, key: &[u8], found: bool, out: &[u8]) {
        let value = if found { hash_bytes(out) } else { 0 };
        self.trace.event("engine", &[cf as u64, hash_bytes(key), u64::from(found), value], || {
            format!("{what} {} {} {found}", cf.name(), Hex(key))
        });
    }
}

impl Engine for TracedEngine {
    fn get(&self, cf: Cf, key: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        let found = self.inner.get(cf, key, out)?;
        self.read("get", cf, key, found, out);
        Ok(found)
    }

    fn get_flushed(&self, cf: Cf, key: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        let found = self.inner.get_flushed(cf, key, out)?;
        self.read("get flushed", cf, key, found, out);
        Ok(found)
    }

    fn iter<'a>(&'a self, cf: Cf, lower: &[u8], upper: &[u8]) -> Result<Box<dyn EngineIter + Send + 'a>> {
        self.trace.event("engine", &[cf as u64, hash_bytes(lower), hash_bytes(upper)], || {
            format!("iterate {} {}..{}", cf.name(), Hex(lower), Hex(upper))
        });
        let inner = self.inner.iter(cf, lower, upper)?;
        Ok(Box::new(TracedIter { inner, seen: Digest::default(), trace: self.trace.clone() }))
    }

    fn write(&self, batch: &WriteBatch) -> Result<()> {
        self.operation()?;
        let mut digest = Digest::default();
        for op in &batch.ops {
            fold(&mut digest, op);
        }
        self.trace.event("engine", &[batch.ops.len() as u64, digest.value().0], || {
            let ops: Vec<String> = batch.ops.iter().map(show).collect();
            format!("write {}", ops.join("; "))
        });
        self.inner.write(batch)
    }

    fn flush(&self) -> Result<()> {
        let powered = self.operation()?;
        self.trace.event("engine", &[1], || "flush".into());
        if powered { self.inner.flush() } else { Ok(()) }
    }

    fn compact(&self, cf: Cf, start: &[u8], end: &[u8]) -> Result<()> {
        let powered = self.operation()?;
        self.trace.event("engine", &[2, cf as u64, hash_bytes(start), hash_bytes(end)], || {
            format!("compact {} {}..{}", cf.name(), Hex(start), Hex(end))
        });
        if powered { self.inner.compact(cf, start, end) } else { Ok(()) }
    }

    fn set_filter_thresholds(&self, thresholds: FilterThresholds) {
        let FilterThresholds { gc, tombstone, marker } = thresholds;
        self.trace.event("engine", &[3, gc.0, tombstone.0, marker.0], || {
            format!("filter thresholds: gc {gc}, tombstone {tombstone}, marker {marker}")
        });
        if self.runtime.is_alive() {
            self.inner.set_filter_thresholds(thresholds);
        }
    }

    fn filter_thresholds(&self) -> FilterThresholds {
        self.inner.filter_thresholds()
    }

    fn snapshot(self: Arc<Self>) -> Result<Box<dyn EngineSnapshot>> {
        self.trace.event("engine", &[4], || "snapshot".into());
        Arc::clone(&self.inner).snapshot()
    }

    fn stage(&self, cf: Cf) -> Result<Box<dyn Stage>> {
        let inner = self.inner.stage(cf)?;
        Ok(Box::new(TracedStage { inner, runtime: self.runtime.clone(), trace: self.trace.clone() }))
    }

    fn staged(&self) -> Result<Vec<String>> {
        self.inner.staged()
    }

    fn ingest(&self, cf: Cf, names: &[String]) -> Result<()> {
        let powered = self.operation()?;
        self.trace.event("engine", &[5, cf as u64], || format!("ingest {} {names:?}", cf.name()));
        if powered { self.inner.ingest(cf, names) } else { Ok(()) }
    }

    fn discard(&self, name: &str) -> Result<()> {
        let powered = self.operation()?;
        self.trace.event("engine", &[6, hash_bytes(name.as_bytes())], || format!("discard {name}"));
        if powered { self.inner.discard(name) } else { Ok(()) }
    }

    fn approximate_size(&self, cf: Cf, start: &[u8], end: &[u8]) -> Result<u64> {
        self.inner.approximate_size(cf, start, end)
    }

    fn stats(&self) -> EngineStats {
        self.inner.stats()
    }
}

/// A table of an incarnation: not finished once that is over.
struct TracedStage {
    inner: Box<dyn Stage>,
    runtime: SimRuntime,
    trace: Trace,
}

impl Stage for TracedStage {
    fn clear(&mut self, start: &[u8], end: &[u8]) -> Result<()> {
        self.inner.clear(start, end)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.inner.put(key, value)
    }

    fn finish(self: Box<Self>, name: &str) -> Result<()> {
        if !self.runtime.is_alive() {
            return Err(Error::Io("the node has crashed".into()));
        }
        let powered = self.runtime.operation();
        self.trace.event("engine", &[7, hash_bytes(name.as_bytes())], || format!("stage {name}"));
        if powered { self.inner.finish(name) } else { Ok(()) }
    }
}

/// Folds what an iterator shows; the sum enters the trace when the iterator ends.
struct TracedIter<'a> {
    inner: Box<dyn EngineIter + Send + 'a>,
    seen: Digest,
    trace: Trace,
}

impl TracedIter<'_> {
    fn moved(&mut self) {
        if self.inner.valid() {
            self.seen.bytes(self.inner.key());
            self.seen.bytes(self.inner.value());
        } else {
            self.seen.word(0);
        }
    }
}

impl EngineIter for TracedIter<'_> {
    fn seek(&mut self, key: &[u8]) {
        self.inner.seek(key);
        self.moved();
    }

    fn seek_for_prev(&mut self, key: &[u8]) {
        self.inner.seek_for_prev(key);
        self.moved();
    }

    fn seek_to_first(&mut self) {
        self.inner.seek_to_first();
        self.moved();
    }

    fn seek_to_last(&mut self) {
        self.inner.seek_to_last();
        self.moved();
    }

    fn next(&mut self) {
        self.inner.next();
        self.moved();
    }

    fn prev(&mut self) {
        self.inner.prev();
        self.moved();
    }

    fn valid(&self) -> bool {
        self.inner.valid()
    }

    fn key(&self) -> &[u8] {
        self.inner.key()
    }

    fn value(&self) -> &[u8] {
        self.inner.value()
    }

    fn status(&self) -> Result<()> {
        self.inner.status()
    }
}

impl Drop for TracedIter<'_> {
    fn drop(&mut self) {
        let (a, b) = self.seen.value();
        self.trace.event("engine", &[a, b], || "iterator ends".into());
    }
}

fn fold(digest: &mut Digest, op: &WriteOp) {
    match op {
        WriteOp::Put { cf, key, value } => {
            digest.word(*cf as u64);
            digest.bytes(key);
            digest.bytes(value);
        }
        WriteOp::Delete { cf, key } => {
            digest.word(16 + *cf as u64);
            digest.bytes(key);
        }
        WriteOp::DeleteRange { cf, start, end } => {
            digest.word(32 + *cf as u64);
            digest.bytes(start);
            digest.bytes(end);
        }
    }
}

fn show(op: &WriteOp) -> String {
    match op {
        WriteOp::Put { cf, key, value } => format!("put {} {} ({} bytes)", cf.name(), Hex(key), value.len()),
        WriteOp::Delete { cf, key } => format!("delete {} {}", cf.name(), Hex(key)),
        WriteOp::DeleteRange { cf, start, end } => {
            format!("delete range {} {}..{}", cf.name(), Hex(start), Hex(end))
        }
    }
}

struct Hex<'a>(&'a [u8]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
