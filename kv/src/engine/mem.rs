//! The engine in memory, for the simulator and for tests: a copy-on-write map per family.
//!
//! An iterator holds the map of its creation; a write copies a map only while somebody holds it.
//! A flush holds the maps too, and a crash puts them back.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use super::{
    Cf, Digest, Engine, EngineIter, EngineSnapshot, EngineStats, FilterThresholds, SharedThresholds, Stage,
    WriteBatch, WriteOp,
};
use crate::effects::Thresholds;
use crate::gc::is_garbage;
use crate::{Error, Result, local_keys};

type Map = BTreeMap<Bytes, Bytes>;

/// The families' maps, in the order of [`Cf`].
#[derive(Clone, Default)]
struct Maps([Arc<Map>; 4]);

impl Maps {
    fn get(&self, cf: Cf) -> &Arc<Map> {
        &self.0[cf as usize]
    }

    fn get_mut(&mut self, cf: Cf) -> &mut Map {
        Arc::make_mut(&mut self.0[cf as usize])
    }

    /// The thresholds stored in these maps, by which what is missing from them can be explained.
    fn thresholds(&self) -> FilterThresholds {
        let stored = self.get(Cf::Local).get(&local_keys::thresholds(&[])[..]);
        let thresholds = stored.map_or(Thresholds::default(), |value| {
            local_keys::parse_thresholds_value(value).expect("the memory engine's content is never damaged")
        });
        thresholds.into()
    }
}

struct State {
    now: Maps,
    flushed: Maps,
    /// A flush that has begun and not ended: a crash keeps it or not.
    flushing: Option<Maps>,
    /// Bytes written since the last flush.
    unflushed_bytes: u64,
    /// Finished tables; a crash keeps them.
    staged: Arc<Mutex<BTreeMap<String, Table>>>,
}

/// A table that is staged or about to be.
#[derive(Clone, Default)]
struct Table {
    clears: Vec<(Bytes, Bytes)>,
    entries: Vec<(Bytes, Bytes)>,
}

/// A storage engine in memory whose crashes are the caller's.
pub struct MemEngine {
    state: RwLock<State>,
    thresholds: SharedThresholds,
}

impl Default for MemEngine {
    fn default() -> MemEngine {
        MemEngine::new()
    }
}

impl MemEngine {
    /// An engine that holds what a new store holds: its format.
    pub fn new() -> MemEngine {
        let mut maps = Maps::default();
        maps.get_mut(Cf::Local)
            .insert(Bytes::from_static(local_keys::STORE_FORMAT_KEY), local_keys::store_format_value());
        MemEngine {
            state: RwLock::new(State {
                now: maps.clone(),
                flushed: maps,
                flushing: None,
                unflushed_bytes: 0,
                staged: Arc::default(),
            }),
            thresholds: SharedThresholds::default(),
        }
    }

    /// Begins a flush of what has been written so far. Until [`MemEngine::end_flush`] a crash may
    /// keep it or not, as `random` says. [`Engine::flush`] does both at once.
    pub fn begin_flush(&self) {
        let mut state = self.state.write();
        state.flushing = Some(state.now.clone());
        state.unflushed_bytes = 0;
    }

    /// Ends a flush: it is durable.
    pub fn end_flush(&self) {
        let mut state = self.state.write();
        if let Some(maps) = state.flushing.take() {
            state.flushed = maps;
        }
    }

    /// Loses what was written after the last flush, as a crash of the process does. A flush under
    /// way is kept or lost as `random` says. Iterators stay what they were; drop them.
    pub fn crash(&self, random: u64) {
        let mut state = self.state.write();
        let flushing = state.flushing.take();
        if let Some(maps) = flushing.filter(|_| random & 1 == 1) {
            state.flushed = maps;
        }
        state.now = state.flushed.clone();
        state.unflushed_bytes = 0;
        self.thresholds.reset(state.now.thresholds());
    }

    /// A hash of the whole content.
    pub fn digest(&self) -> u64 {
        let maps = self.state.read().now.clone();
        let mut hash = Digest::default();
        for cf in Cf::ALL {
            hash.bytes(cf.name().as_bytes());
            for (key, value) in maps.get(cf).iter() {
                hash.entry(key, value);
            }
        }
        hash.finish()
    }
}

fn get(map: &Map, key: &[u8], out: &mut Vec<u8>) -> bool {
    match map.get(key) {
        Some(value) => {
            out.clear();
            out.extend_from_slice(value);
            true
        }
        None => false,
    }
}

type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// `[lower, upper)` for a map's range; `None` where it is empty or upside down.
fn span<'a>(lower: &'a [u8], upper: &'a [u8]) -> Option<Bounds<'a>> {
    if upper.is_empty() {
        Some((Bound::Included(lower), Bound::Unbounded))
    } else if lower < upper {
        Some((Bound::Included(lower), Bound::Excluded(upper)))
    } else {
        None
    }
}

impl Engine for MemEngine {
    fn get(&self, cf: Cf, key: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        Ok(get(self.state.read().now.get(cf), key, out))
    }

    fn get_flushed(&self, cf: Cf, key: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        Ok(get(self.state.read().flushed.get(cf), key, out))
    }

    fn iter<'a>(&'a self, cf: Cf, lower: &[u8], upper: &[u8]) -> Result<Box<dyn EngineIter + Send + 'a>> {
        let map = Arc::clone(self.state.read().now.get(cf));
        let (lower, upper) = (Bytes::copy_from_slice(lower), Bytes::copy_from_slice(upper));
        Ok(Box::new(MemIter { map, lower, upper, at: None }))
    }

    fn write(&self, batch: &WriteBatch) -> Result<()> {
        let mut state = self.state.write();
        for op in &batch.ops {
            match op {
                WriteOp::Put { cf, key, value } => {
                    state.unflushed_bytes += (key.len() + value.len()) as u64;
                    state.now.get_mut(*cf).insert(key.clone(), value.clone());
                }
                WriteOp::Delete { cf, key } => {
                    state.unflushed_bytes += key.len() as u64;
                    state.now.get_mut(*cf).remove(key);
                }
                WriteOp::DeleteRange { cf, start, end } => {
                    state.unflushed_bytes += (start.len() + end.len()) as u64;
                    let map = state.now.get_mut(*cf);
                    let Some(span) = span(start, end) else { continue };
                    let keys: Vec<Bytes> = map.range::<[u8], _>(span).map(|(key, _)| key.clone()).collect();
                    for key in keys {
                        map.remove(&key);
                    }
                }
            }
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        self.begin_flush();
        self.end_flush();
        Ok(())
    }

    /// Drops the span's garbage, durably: as on a disk, where compaction rewrites flushed files, a
    /// crash does not bring it back.
    fn compact(&self, cf: Cf, start: &[u8], end: &[u8]) -> Result<()> {
        let thresholds = self.thresholds.load();
        let Some(span) = span(start, end) else { return Ok(()) };
        let collect = |maps: &mut Maps| {
            let garbage: Vec<Bytes> = maps
                .get(cf)
                .range::<[u8], _>(span)
                .filter(|(key, value)| is_garbage(cf, key, value, &thresholds))
                .map(|(key, _)| key.clone())
                .collect();
            if !garbage.is_empty() {
                let map = maps.get_mut(cf);
                for key in garbage {
                    map.remove(&key);
                }
            }
        };
        let mut state = self.state.write();
        collect(&mut state.now);
        collect(&mut state.flushed);
        if let Some(maps) = &mut state.flushing {
            collect(maps);
        }
        Ok(())
    }

    fn set_filter_thresholds(&self, thresholds: FilterThresholds) {
        self.thresholds.raise(thresholds);
    }

    fn filter_thresholds(&self) -> FilterThresholds {
        self.thresholds.load()
    }

    fn snapshot(self: Arc<Self>) -> Result<Box<dyn EngineSnapshot>> {
        let maps = self.state.read().now.clone();
        let iter = |map| MemIter { map, lower: Bytes::new(), upper: Bytes::new(), at: None };
        Ok(Box::new(MemSnapshot(maps.0.map(iter))))
    }

    fn stage(&self, _cf: Cf) -> Result<Box<dyn Stage>> {
        let staged = Arc::clone(&self.state.read().staged);
        Ok(Box::new(MemStage { staged, table: Table::default() }))
    }

    fn staged(&self) -> Result<Vec<String>> {
        Ok(self.state.read().staged.lock().keys().cloned().collect())
    }

    /// As RocksDB does, which flushes memtables that a table overlaps: all families, since flushes are atomic.
    fn ingest(&self, cf: Cf, names: &[String]) -> Result<()> {
        let mut state = self.state.write();
        let tables = {
            let staged = state.staged.lock();
            let table = |name: &String| {
                staged.get(name).cloned().ok_or_else(|| Error::Io(format!("no table {name} is staged")))
            };
            names.iter().map(table).collect::<Result<Vec<_>>>()?
        };
        let map = state.now.get_mut(cf);
        for Table { clears, entries } in tables {
            for (start, end) in &clears {
                let Some(span) = span(start, end) else { continue };
                let keys: Vec<Bytes> = map.range::<[u8], _>(span).map(|(key, _)| key.clone()).collect();
                for key in keys {
                    map.remove(&key);
                }
            }
            map.extend(entries);
        }
        state.flushing = None;
        state.flushed = state.now.clone();
        state.unflushed_bytes = 0;
        Ok(())
    }

    fn discard(&self, name: &str) -> Result<()> {
        self.state.read().staged.lock().remove(name);
        Ok(())
    }

    fn approximate_size(&self, cf: Cf, start: &[u8], end: &[u8]) -> Result<u64> {
        let map = Arc::clone(self.state.read().now.get(cf));
        let Some(span) = span(start, end) else { return Ok(0) };
        Ok(map.range::<[u8], _>(span).map(|(key, value)| (key.len() + value.len()) as u64).sum())
    }

    fn stats(&self) -> EngineStats {
        let state = self.state.read();
        let table_bytes = Cf::ALL
            .iter()
            .flat_map(|cf| state.flushed.get(*cf).iter())
            .map(|(key, value)| (key.len() + value.len()) as u64)
            .sum();
        EngineStats { memtable_bytes: state.unflushed_bytes, table_bytes }
    }
}

struct MemSnapshot([MemIter; 4]);

impl EngineSnapshot for MemSnapshot {
    fn iter(&mut self, cf: Cf) -> &mut (dyn EngineIter + Send) {
        &mut self.0[cf as usize]
    }
}

struct MemStage {
    staged: Arc<Mutex<BTreeMap<String, Table>>>,
    table: Table,
}

impl Stage for MemStage {
    fn clear(&mut self, start: &[u8], end: &[u8]) -> Result<()> {
        self.table.clears.push((Bytes::copy_from_slice(start), Bytes::copy_from_slice(end)));
        Ok(())
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if self.table.entries.last().is_some_and(|(last, _)| *key <= last[..]) {
            return Err(Error::Io("keys of a table must ascend".into()));
        }
        self.table.entries.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        Ok(())
    }

    fn finish(self: Box<Self>, name: &str) -> Result<()> {
        self.staged.lock().insert(name.into(), self.table);
        Ok(())
    }
}

/// An iterator over the map of its creation.
struct MemIter {
    map: Arc<Map>,
    lower: Bytes,
    upper: Bytes,
    at: Option<(Bytes, Bytes)>,
}

impl MemIter {
    fn first_in(&mut self, from: Bound<&[u8]>) {
        let upper = if self.upper.is_empty() { Bound::Unbounded } else { Bound::Excluded(&self.upper[..]) };
        // A map's range must not be upside down.
        let empty = match (from, upper) {
            (Bound::Included(from) | Bound::Excluded(from), Bound::Excluded(upper)) => from >= upper,
            _ => false,
        };
        let found = if empty { None } else { self.map.range::<[u8], _>((from, upper)).next() };
        self.at = found.map(|(key, value)| (key.clone(), value.clone()));
    }

    fn last_in(&mut self, to: Bound<&[u8]>) {
        let lower = &self.lower[..];
        let empty = match to {
            Bound::Included(to) => to < lower,
            Bound::Excluded(to) => to <= lower,
            Bound::Unbounded => false,
        };
        let range = (Bound::Included(lower), to);
        let found = if empty { None } else { self.map.range::<[u8], _>(range).next_back() };
        self.at = found.map(|(key, value)| (key.clone(), value.clone()));
    }
}

impl EngineIter for MemIter {
    fn seek(&mut self, key: &[u8]) {
        let lower = self.lower.clone();
        self.first_in(Bound::Included(key.max(&lower)));
    }

    fn seek_for_prev(&mut self, key: &[u8]) {
        let upper = self.upper.clone();
        if !upper.is_empty() && key >= &upper[..] {
            self.last_in(Bound::Excluded(&upper));
        } else {
            self.last_in(Bound::Included(key));
        }
    }

    fn seek_to_first(&mut self) {
        let lower = self.lower.clone();
        self.first_in(Bound::Included(&lower));
    }

    fn seek_to_last(&mut self) {
        let upper = self.upper.clone();
        self.last_in(if upper.is_empty() { Bound::Unbounded } else { Bound::Excluded(&upper) });
    }

    fn next(&mut self) {
        let (key, _) = self.at.take().expect("next is called on a valid iterator");
        self.first_in(Bound::Excluded(&key));
    }

    fn prev(&mut self) {
        let (key, _) = self.at.take().expect("prev is called on a valid iterator");
        self.last_in(Bound::Excluded(&key));
    }

    fn valid(&self) -> bool {
        self.at.is_some()
    }

    fn key(&self) -> &[u8] {
        &self.at.as_ref().expect("the iterator is valid").0
    }

    fn value(&self) -> &[u8] {
        &self.at.as_ref().expect("the iterator is valid").1
    }

    fn status(&self) -> Result<()> {
        Ok(())
    }
}
