//! The engine on RocksDB.
//!
//! RocksDB is used without its write-ahead log: what a crash takes back, the Raft log replays. A
//! flush covers all families atomically, and none starts by itself below sizes that the store
//! never lets memtables reach; where one does start (a manual compaction flushes what it is about
//! to compact), it is as atomic, and the persisted applied index moves along.

use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rocksdb::compaction_filter::{CompactionFilter, Decision};
use rocksdb::compaction_filter_factory::{CompactionFilterContext, CompactionFilterFactory};
use rocksdb::{
    AsRawPtr, BlockBasedOptions, BlockBasedTablePinningTier, BottommostLevelCompaction, Cache, ColumnFamily,
    ColumnFamilyDescriptor, CompactOptions, DB, DBCompressionType, DBRawIterator, DataBlockIndexType,
    FlushOptions, IngestExternalFileOptions, LogLevel, Options, ReadOptions, ReadTier, SstFileWriter,
    WriteOptions,
};

use super::{
    BEYOND_ALL_KEYS, Cf, Engine, EngineIter, EngineSnapshot, EngineStats, FilterThresholds, SharedThresholds,
    Stage, WriteBatch, WriteOp,
};
use crate::version::escape;
use crate::{Error, Result, effects, gc, local_keys};

/// How to open a [`RocksEngine`].
#[derive(Clone, Debug)]
pub struct RocksOptions {
    /// Bytes of the block cache, shared by all families. It grows as it is used.
    pub cache_bytes: usize,
    /// Background threads for flushes and compactions.
    pub background_jobs: i32,
}

impl Default for RocksOptions {
    fn default() -> RocksOptions {
        RocksOptions { cache_bytes: 256 << 20, background_jobs: 2 }
    }
}

/// Memtables of this size would flush by themselves: far above what the store lets them grow to.
const WRITE_BUFFER_BYTES: usize = 1 << 30;
/// Memtables that may exist at once, the active one included.
const WRITE_BUFFERS: i32 = 8;

/// A storage engine on RocksDB.
pub struct RocksEngine {
    /// Handles into `db`, in the order of [`Cf`]; see [`RocksEngine::handle`].
    handles: [NonNull<ColumnFamily>; 4],
    db: Box<DB>,
    path: PathBuf,
    cache: Cache,
    thresholds: Arc<SharedThresholds>,
    read: ReadOptions,
    read_flushed: ReadOptions,
    write: WriteOptions,
    read_only: bool,
    /// Tables begun.
    stages: AtomicU64,
}

// SAFETY: the handles are shared references in disguise, to objects that RocksDB lets every thread
// use (`ColumnFamily` and `DB` are Sync); the options are only read.
unsafe impl Send for RocksEngine {}
// SAFETY: as above.
unsafe impl Sync for RocksEngine {}

impl RocksEngine {
    /// Opens or creates the engine in the directory `path`.
    pub fn open(path: &Path, options: &RocksOptions) -> Result<RocksEngine> {
        check_families(path)?;
        match RocksEngine::open_db(path, options, false) {
            Ok(engine) => {
                engine.remove_unfinished()?;
                engine.start()
            }
            Err(error) => Err(match RocksEngine::open_db(path, options, true) {
                Ok(engine) => engine.name_damage(error),
                Err(_) => error,
            }),
        }
    }

    /// Opens an engine that nobody else has open, to look at it: changes nothing in its directory.
    pub fn open_read_only(path: &Path, options: &RocksOptions) -> Result<RocksEngine> {
        if !path.join("CURRENT").is_file() {
            return Err(Error::Io(format!("{} holds no store", path.display())));
        }
        check_unlocked(path)?;
        check_families(path)?;
        RocksEngine::open_db(path, options, true)?.start()
    }

    /// Removes what an earlier life left of tables that it did not finish staging.
    fn remove_unfinished(&self) -> Result<()> {
        let dir = self.path.join(STAGED);
        let Ok(entries) = std::fs::read_dir(&dir) else { return Ok(()) };
        for entry in entries {
            let path = entry.map_err(|error| staging_error(&dir, &error))?.path();
            if !path.to_string_lossy().ends_with(FINISHED) {
                std::fs::remove_file(&path).map_err(|error| staging_error(&path, &error))?;
            }
        }
        Ok(())
    }

    /// Checks the store's format and takes up what it stores for the engine.
    fn start(self) -> Result<RocksEngine> {
        let thresholds = self.check_format().and_then(|()| effects::thresholds(&self));
        match thresholds {
            Ok(thresholds) => self.thresholds.raise(thresholds.into()),
            Err(error) => return Err(self.name_damage(error)),
        }
        Ok(self)
    }

    /// RocksDB does not always say which table is damaged: looks for it.
    fn name_damage(&self, error: Error) -> Error {
        match &error {
            Error::Corruption(text) if !text.contains(".sst") => {
                self.verify_checksums().err().unwrap_or(error)
            }
            _ => error,
        }
    }

    fn open_db(path: &Path, options: &RocksOptions, read_only: bool) -> Result<RocksEngine> {
        let cache = Cache::new_hyper_clock_cache(options.cache_bytes, 0);
        let thresholds = Arc::new(SharedThresholds::default());
        let families =
            Cf::ALL.map(|cf| ColumnFamilyDescriptor::new(cf.name(), family_options(cf, &cache, &thresholds)));
        let db_options = db_options(options, read_only);
        let db = if read_only {
            DB::open_cf_descriptors_read_only(&db_options, path, families, false)
        } else {
            DB::open_cf_descriptors(&db_options, path, families)
        };
        let db = Box::new(db.map_err(|error| open_error(path, error))?);
        let mut handles = [NonNull::dangling(); 4];
        for cf in Cf::ALL {
            let handle = db.cf_handle(cf.name()).expect("every family was opened with the database");
            handles[cf as usize] = NonNull::from(handle);
        }
        let mut read = ReadOptions::default();
        read.set_verify_checksums(true);
        let mut read_flushed = ReadOptions::default();
        read_flushed.set_verify_checksums(true);
        read_flushed.set_read_tier(ReadTier::Persisted);
        let mut write = WriteOptions::default();
        write.disable_wal(true);
        Ok(RocksEngine {
            handles,
            db,
            path: path.to_path_buf(),
            cache,
            thresholds,
            read,
            read_flushed,
            write,
            read_only,
            stages: AtomicU64::new(0),
        })
    }

    /// Checks the store's format; gives a new store its format, durably, before anything else.
    fn check_format(&self) -> Result<()> {
        let mut value = Vec::new();
        if self.get(Cf::Local, local_keys::STORE_FORMAT_KEY, &mut value)? {
            return local_keys::check_store_format(&value);
        }
        for cf in Cf::ALL {
            let mut iter = self.iter(cf, &[], &[])?;
            iter.seek_to_first();
            iter.status()?;
            if iter.valid() {
                return Err(Error::Corruption(format!(
                    "{}: family {} has entries but the store has no format entry",
                    self.path.display(),
                    cf.name()
                )));
            }
        }
        if self.read_only {
            return Ok(());
        }
        let mut batch = WriteBatch::default();
        batch.put(Cf::Local, local_keys::STORE_FORMAT_KEY, local_keys::store_format_value());
        self.write(&batch)?;
        self.flush()
    }

    #[inline]
    fn handle(&self, cf: Cf) -> &ColumnFamily {
        // SAFETY: the handles point into the map of families inside `db`, which only `create_cf`
        // and `drop_cf` change; both need `&mut DB`, which nobody gets: `db` is private, boxed and
        // never borrowed mutably. It lives as long as `self`, and so does the returned reference.
        unsafe { self.handles[cf as usize].as_ref() }
    }

    /// Reads every block of every table and checks its checksum. The error names family, file and
    /// the keys concerned.
    pub fn verify_checksums(&self) -> Result<()> {
        for cf in Cf::ALL {
            self.verify_entries(cf)?;
        }
        // What an iteration does not read: filters and properties.
        let mut error = std::ptr::null_mut();
        // SAFETY: the database is open while `self` is borrowed, and `error` is a valid place for
        // the message, which is ours to free.
        let message = unsafe {
            librocksdb_sys::rocksdb_verify_checksum(self.db.as_raw_ptr(), &mut error);
            if error.is_null() {
                return Ok(());
            }
            let message = CStr::from_ptr(error).to_string_lossy().into_owned();
            librocksdb_sys::rocksdb_free(error.cast());
            message
        };
        for cf in Cf::ALL {
            if let Some(place) = self.locate(cf, &message)? {
                return Err(Error::Corruption(format!("family {}, {place}: {message}", cf.name())));
            }
        }
        Err(Error::Corruption(message))
    }

    /// The tables of a family that an error message means, with their keys: those it names, else
    /// those in whose key range an iteration fails.
    fn locate(&self, cf: Cf, message: &str) -> Result<Option<String>> {
        let files = self.db.live_files().map_err(|error| write_error("list tables", error))?;
        let (mut named, mut failing) = (Vec::new(), Vec::new());
        for file in files.iter().filter(|file| file.column_family_name == cf.name()) {
            let (Some(start), Some(end)) = (&file.start_key, &file.end_key) else { continue };
            let keys = format!("{} with keys {} to {}", file.name, escape(start), escape(end));
            if message.contains(&file.name) {
                named.push(keys);
                continue;
            }
            let mut read = ReadOptions::default();
            read.set_verify_checksums(true);
            read.fill_cache(false);
            read.set_iterate_upper_bound([&end[..], &[0]].concat());
            let mut iter = self.db.raw_iterator_cf_opt(self.handle(cf), read);
            iter.seek(start);
            while iter.valid() {
                iter.next();
            }
            if iter.status().is_err() {
                failing.push(keys);
            }
        }
        let found = if named.is_empty() { failing } else { named };
        Ok((!found.is_empty()).then(|| format!("table {}", found.join(" or "))))
    }

    /// Reads all entries of a family; the error names the last good key before the damage.
    fn verify_entries(&self, cf: Cf) -> Result<()> {
        let mut read = ReadOptions::default();
        read.set_verify_checksums(true);
        read.fill_cache(false);
        read.set_readahead_size(2 << 20);
        let mut iter = self.db.raw_iterator_cf_opt(self.handle(cf), read);
        let mut last = Vec::new();
        iter.seek_to_first();
        while let Some(key) = iter.key() {
            last.clear();
            last.extend_from_slice(key);
            iter.next();
        }
        match iter.status() {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == rocksdb::ErrorKind::Corruption => {
                let place = self.locate(cf, error.as_ref())?.unwrap_or_default();
                let (cf, last) = (cf.name(), escape(&last));
                Err(Error::Corruption(format!("family {cf}, behind key {last}, {place}: {error}")))
            }
            Err(error) => Err(engine_error(cf, None, error)),
        }
    }

    /// Not every entry of RocksDB refuses by itself to change a database opened for reading.
    fn check_writable(&self) -> Result<()> {
        if self.read_only {
            return Err(Error::Io(format!("{} is open for reading only", self.path.display())));
        }
        Ok(())
    }

    /// Bytes in the block cache.
    pub fn cache_usage(&self) -> usize {
        self.cache.get_usage()
    }

    fn int_property(&self, cf: Cf, name: &str) -> u64 {
        self.db.property_int_value_cf(self.handle(cf), name).ok().flatten().unwrap_or(0)
    }

    fn get_with(&self, cf: Cf, key: &[u8], options: &ReadOptions, out: &mut Vec<u8>) -> Result<bool> {
        match self.db.get_pinned_cf_opt(self.handle(cf), key, options) {
            Ok(Some(value)) => {
                out.clear();
                out.extend_from_slice(&value);
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(error) => Err(engine_error(cf, Some(key), error)),
        }
    }
}

impl Engine for RocksEngine {
    fn get(&self, cf: Cf, key: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        self.get_with(cf, key, &self.read, out)
    }

    fn get_flushed(&self, cf: Cf, key: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        self.get_with(cf, key, &self.read_flushed, out)
    }

    fn iter<'a>(&'a self, cf: Cf, lower: &[u8], upper: &[u8]) -> Result<Box<dyn EngineIter + Send + 'a>> {
        let mut read = ReadOptions::default();
        read.set_verify_checksums(true);
        if !lower.is_empty() {
            read.set_iterate_lower_bound(lower);
        }
        if !upper.is_empty() {
            read.set_iterate_upper_bound(upper);
        }
        Ok(Box::new(RocksIter { cf, inner: self.db.raw_iterator_cf_opt(self.handle(cf), read) }))
    }

    fn write(&self, batch: &WriteBatch) -> Result<()> {
        self.check_writable()?;
        if batch.is_empty() {
            return Ok(());
        }
        let mut out = rocksdb::WriteBatch::default();
        for op in &batch.ops {
            match op {
                WriteOp::Put { cf, key, value } => out.put_cf(self.handle(*cf), key, value),
                WriteOp::Delete { cf, key } => out.delete_cf(self.handle(*cf), key),
                WriteOp::DeleteRange { cf, start, end } => {
                    if start < end {
                        out.delete_range_cf(self.handle(*cf), &start[..], &end[..]);
                    }
                }
            }
        }
        self.db.write_opt(out, &self.write).map_err(|error| write_error("write", error))
    }

    fn flush(&self) -> Result<()> {
        self.check_writable()?;
        let mut options = FlushOptions::default();
        options.set_wait(true);
        let handles = Cf::ALL.map(|cf| self.handle(cf));
        self.db.flush_cfs_opt(&handles, &options).map_err(|error| write_error("flush", error))
    }

    fn compact(&self, cf: Cf, start: &[u8], end: &[u8]) -> Result<()> {
        self.check_writable()?;
        let mut options = CompactOptions::default();
        options.set_exclusive_manual_compaction(false);
        // The lowest level too, where the garbage is; what this compaction has just put there once only.
        options.set_bottommost_level_compaction(BottommostLevelCompaction::ForceOptimized);
        let bound = |key: &[u8]| (!key.is_empty()).then(|| key.to_vec());
        self.db.compact_range_cf_opt(self.handle(cf), bound(start), bound(end), &options);
        Ok(())
    }

    fn set_filter_thresholds(&self, thresholds: FilterThresholds) {
        self.thresholds.raise(thresholds);
    }

    fn filter_thresholds(&self) -> FilterThresholds {
        self.thresholds.load()
    }

    fn snapshot(self: Arc<Self>) -> Result<Box<dyn EngineSnapshot>> {
        let iters = Cf::ALL.map(|cf| {
            let mut read = ReadOptions::default();
            read.set_verify_checksums(true);
            read.fill_cache(false);
            let inner = self.db.raw_iterator_cf_opt(self.handle(cf), read);
            // SAFETY: the iterator borrows the database, which is boxed in the engine, which the snapshot owns a
            // share of and drops after its iterators.
            let inner = unsafe { std::mem::transmute::<DBRawIterator<'_>, DBRawIterator<'static>>(inner) };
            (cf, RocksIter { cf, inner })
        });
        Ok(Box::new(RocksSnapshot { iters, _engine: self }))
    }

    fn stage(&self, cf: Cf) -> Result<Box<dyn Stage>> {
        self.check_writable()?;
        let dir = self.path.join(STAGED);
        std::fs::create_dir_all(&dir).map_err(|error| staging_error(&dir, &error))?;
        let number = self.stages.fetch_add(1, Ordering::Relaxed);
        let unfinished = dir.join(format!("{number}{UNFINISHED}"));
        let options = Box::new(family_options(cf, &self.cache, &self.thresholds));
        // SAFETY: the writer borrows the options, which are boxed beside it and dropped after it.
        let writer = SstFileWriter::create(unsafe { &*std::ptr::from_ref(&*options) });
        writer.open(&unfinished).map_err(|error| write_error("stage", error))?;
        Ok(Box::new(RocksStage { writer, _options: options, unfinished, finished: false }))
    }

    fn staged(&self) -> Result<Vec<String>> {
        let dir = self.path.join(STAGED);
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(staging_error(&dir, &error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| staging_error(&dir, &error))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            names.extend(name.strip_suffix(FINISHED).map(str::to_owned));
        }
        names.sort_unstable();
        Ok(names)
    }

    fn ingest(&self, cf: Cf, names: &[String]) -> Result<()> {
        self.check_writable()?;
        let dir = self.path.join(STAGED);
        let mut links = Vec::with_capacity(names.len());
        for name in names {
            // RocksDB takes the link and leaves the table.
            let link = dir.join(format!("{name}{LINKED}"));
            match std::fs::remove_file(&link) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(staging_error(&link, &error));
                }
                _ => {}
            }
            let table = dir.join(format!("{name}{FINISHED}"));
            std::fs::hard_link(&table, &link).map_err(|error| staging_error(&table, &error))?;
            links.push(link);
        }
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        self.db
            .ingest_external_file_cf_opts(self.handle(cf), &options, links)
            .map_err(|error| write_error("ingest", error))
    }

    fn discard(&self, name: &str) -> Result<()> {
        let path = self.path.join(STAGED).join(format!("{name}{FINISHED}"));
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(staging_error(&path, &error)),
            _ => Ok(()),
        }
    }

    fn approximate_size(&self, cf: Cf, start: &[u8], end: &[u8]) -> Result<u64> {
        let end = if end.is_empty() { BEYOND_ALL_KEYS } else { end };
        let range = rocksdb::Range::new(start, end);
        let sizes = self.db.get_approximate_sizes_cf(self.handle(cf), &[range]);
        Ok(sizes.into_iter().sum())
    }

    fn stats(&self) -> EngineStats {
        let sum = |name: &str| Cf::ALL.iter().map(|cf| self.int_property(*cf, name)).sum();
        EngineStats {
            memtable_bytes: sum("rocksdb.cur-size-all-mem-tables"),
            table_bytes: sum("rocksdb.live-sst-files-size"),
        }
    }
}

/// Iterators over all families, and the engine that they read.
struct RocksSnapshot {
    /// In the order of [`Cf::ALL`]. Dropped before the engine.
    iters: [(Cf, RocksIter<'static>); 4],
    _engine: Arc<RocksEngine>,
}

impl EngineSnapshot for RocksSnapshot {
    fn iter(&mut self, cf: Cf) -> &mut (dyn EngineIter + Send) {
        let found = self.iters.iter_mut().find(|(of, _)| *of == cf);
        &mut found.expect("each family has one").1
    }
}

/// Folder, within the database's, of tables to be ingested, and what their names end with: written, durable, about
/// to be taken.
const STAGED: &str = "staged";
const UNFINISHED: &str = ".part";
const FINISHED: &str = ".sst";
const LINKED: &str = ".link";

fn staging_error(path: &Path, error: &std::io::Error) -> Error {
    Error::Io(format!("{}: {error}", path.display()))
}

/// A table file in the making.
struct RocksStage {
    /// Dropped before the options.
    writer: SstFileWriter<'static>,
    _options: Box<Options>,
    unfinished: PathBuf,
    finished: bool,
}

impl Stage for RocksStage {
    fn clear(&mut self, start: &[u8], end: &[u8]) -> Result<()> {
        self.writer.delete_range(start, end).map_err(|error| write_error("stage", error))
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.writer.put(key, value).map_err(|error| write_error("stage", error))
    }

    fn finish(mut self: Box<Self>, name: &str) -> Result<()> {
        // It syncs the file.
        self.writer.finish().map_err(|error| write_error("stage", error))?;
        let path = self.unfinished.with_file_name(format!("{name}{FINISHED}"));
        let folder = self.unfinished.parent().expect("it lies in a folder");
        std::fs::rename(&self.unfinished, &path).map_err(|error| staging_error(&path, &error))?;
        self.finished = true;
        let sync = |dir: &Path| std::fs::File::open(dir).and_then(|dir| dir.sync_all());
        sync(folder).map_err(|error| staging_error(folder, &error))?;
        // The folder itself may be new.
        folder.parent().map_or(Ok(()), |dir| sync(dir).map_err(|error| staging_error(dir, &error)))
    }
}

impl Drop for RocksStage {
    fn drop(&mut self) {
        if !self.finished {
            // What stays is removed when the engine opens.
            let _ = std::fs::remove_file(&self.unfinished);
        }
    }
}

/// An iterator whose bounds are owned by the read options inside it.
struct RocksIter<'a> {
    cf: Cf,
    inner: DBRawIterator<'a>,
}

impl EngineIter for RocksIter<'_> {
    fn seek(&mut self, key: &[u8]) {
        self.inner.seek(key);
    }

    fn seek_for_prev(&mut self, key: &[u8]) {
        self.inner.seek_for_prev(key);
    }

    fn seek_to_first(&mut self) {
        self.inner.seek_to_first();
    }

    fn seek_to_last(&mut self) {
        self.inner.seek_to_last();
    }

    fn next(&mut self) {
        self.inner.next();
    }

    fn prev(&mut self) {
        self.inner.prev();
    }

    fn valid(&self) -> bool {
        self.inner.valid()
    }

    fn entry(&self) -> Option<(&[u8], &[u8])> {
        self.inner.item()
    }

    fn key(&self) -> &[u8] {
        self.inner.key().expect("the iterator is valid")
    }

    fn value(&self) -> &[u8] {
        self.inner.value().expect("the iterator is valid")
    }

    fn status(&self) -> Result<()> {
        self.inner.status().map_err(|error| engine_error(self.cf, None, error))
    }
}

/// Makes a family's compaction filters.
struct FilterFactory {
    cf: Cf,
    thresholds: Arc<SharedThresholds>,
}

impl CompactionFilterFactory for FilterFactory {
    type Filter = Filter;

    fn create(&mut self, _: CompactionFilterContext) -> Filter {
        Filter { cf: self.cf, thresholds: self.thresholds.load() }
    }

    fn name(&self) -> &CStr {
        c"cairn.garbage"
    }
}

/// Drops garbage as of one compaction's start.
struct Filter {
    cf: Cf,
    thresholds: FilterThresholds,
}

impl CompactionFilter for Filter {
    fn filter(&mut self, _level: u32, key: &[u8], value: &[u8]) -> Decision {
        if gc::is_garbage(self.cf, key, value, &self.thresholds) { Decision::Remove } else { Decision::Keep }
    }

    fn name(&self) -> &CStr {
        c"cairn.garbage"
    }
}

fn db_options(options: &RocksOptions, read_only: bool) -> Options {
    let mut db = Options::default();
    db.create_if_missing(!read_only);
    db.create_missing_column_families(!read_only);
    db.set_atomic_flush(true);
    // To look at a damaged store it must open: reads still check what they read.
    db.set_paranoid_checks(!read_only);
    db.set_max_background_jobs(options.background_jobs);
    // A table stays open, so that a read finds it without a look into the table cache.
    db.set_max_open_files(-1);
    db.set_stats_dump_period_sec(0);
    db.set_stats_persist_period_sec(0);
    db.set_manifest_preallocation_size(64 << 10);
    db.set_max_manifest_file_size(16 << 20);
    db.set_bytes_per_sync(1 << 20);
    db.set_keep_log_file_num(4);
    db.set_max_log_file_size(4 << 20);
    db.set_log_level(LogLevel::Warn);
    if read_only {
        // Without this RocksDB would start a log file in the directory.
        db.set_info_logger(rocksdb::InfoLogger::new_callback_logger(LogLevel::Error, |level, message| {
            // Headers, hundreds of lines of options, pass whatever the level, as information.
            if matches!(level, LogLevel::Warn | LogLevel::Error | LogLevel::Fatal) {
                tracing::warn!("rocksdb: {message}");
            }
        }));
    }
    db
}

fn family_options(cf: Cf, cache: &Cache, thresholds: &Arc<SharedThresholds>) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(16 << 10);
    table.set_cache_index_and_filter_blocks(true);
    // Charged to the cache, but found without a look into it.
    table.set_unpartitioned_pinning_tier(BlockBasedTablePinningTier::All);
    // One byte per entry or so buys a point read 7 % (measured).
    table.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
    table.set_data_block_hash_ratio(0.75);
    table.set_optimize_filters_for_memory(true);
    let mut family = Options::default();
    family.set_write_buffer_size(WRITE_BUFFER_BYTES);
    family.set_max_write_buffer_number(WRITE_BUFFERS);
    // Flushes come from the store, many keys or 32 MiB at a time: they must never wait long.
    family.set_level_zero_file_num_compaction_trigger(4);
    family.set_level_zero_slowdown_writes_trigger(32);
    family.set_level_zero_stop_writes_trigger(64);
    family.set_target_file_size_base(64 << 20);
    family.set_max_bytes_for_level_base(256 << 20);
    family.set_level_compaction_dynamic_level_bytes(true);
    family.set_compression_type(DBCompressionType::Lz4);
    match cf {
        Cf::Data => {
            table.set_bloom_filter(10.0, false);
            family.set_arena_block_size(256 << 10);
            // Half a MiB of bloom filter, enough for the keys of one flush: spares most reads of
            // flushed and of absent keys the search of the memtable.
            family.set_memtable_whole_key_filtering(true);
            family.set_memtable_prefix_bloom_ratio(0.000_5);
            family.add_compact_on_deletion_collector_factory(1 << 10, 1 << 9, 0.5);
            family.set_periodic_compaction_seconds(24 * 3600);
        }
        Cf::History => {
            family.set_arena_block_size(256 << 10);
            family.set_periodic_compaction_seconds(6 * 3600);
        }
        Cf::Lock => {
            table.set_bloom_filter(10.0, false);
            family.set_arena_block_size(64 << 10);
            family.add_compact_on_deletion_collector_factory(128, 64, 0.5);
            family.set_periodic_compaction_seconds(24 * 3600);
        }
        Cf::Local => {
            table.set_bloom_filter(10.0, false);
            family.set_arena_block_size(64 << 10);
            family.set_periodic_compaction_seconds(6 * 3600);
        }
    }
    if cf != Cf::Lock {
        family.set_compaction_filter_factory(FilterFactory { cf, thresholds: Arc::clone(thresholds) });
    }
    family.set_block_based_table_factory(&table);
    family
}

/// Refuses a store with families that this binary does not know, before RocksDB does so in its
/// own words.
fn check_families(path: &Path) -> Result<()> {
    if !path.join("CURRENT").is_file() {
        return Ok(());
    }
    let found = DB::list_cf(&Options::default(), path).map_err(|error| open_error(path, error))?;
    for name in found {
        if name != rocksdb::DEFAULT_COLUMN_FAMILY_NAME && Cf::ALL.iter().all(|cf| cf.name() != name) {
            return Err(Error::Io(format!(
                "{}: the store has a column family {name:?} that this binary does not know: use a newer cairn",
                path.display()
            )));
        }
    }
    Ok(())
}

/// Refuses a directory that a running node has open.
fn check_unlocked(path: &Path) -> Result<()> {
    let Ok(file) = std::fs::File::open(path.join("LOCK")) else { return Ok(()) };
    // SAFETY: zero is a valid value for every field of this plain C struct.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as _;
    lock.l_whence = libc::SEEK_SET as _;
    // SAFETY: the descriptor is open and `lock` outlives the call, which only fills it in.
    let asked = unsafe { libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(&file), libc::F_GETLK, &mut lock) };
    if asked == 0 && i32::from(lock.l_type) != libc::F_UNLCK {
        return Err(in_use(path));
    }
    Ok(())
}

fn in_use(path: &Path) -> Error {
    Error::Io(format!("{} is in use by another process", path.display()))
}

fn open_error(path: &Path, error: rocksdb::Error) -> Error {
    let text = error.to_string();
    match error.kind() {
        _ if text.contains("lock file") || text.contains("lock hold by") => in_use(path),
        rocksdb::ErrorKind::Corruption => Error::Corruption(format!("{}: {text}", path.display())),
        _ => Error::Io(format!("{}: {text}", path.display())),
    }
}

/// The error of a read, with family and key.
fn engine_error(cf: Cf, key: Option<&[u8]>, error: rocksdb::Error) -> Error {
    let key = key.map(|key| format!(" at key {}", escape(key))).unwrap_or_default();
    let text = format!("family {}{key}: {error}", cf.name());
    match error.kind() {
        rocksdb::ErrorKind::Corruption => Error::Corruption(text),
        _ => Error::Io(text),
    }
}

fn write_error(what: &str, error: rocksdb::Error) -> Error {
    match error.kind() {
        rocksdb::ErrorKind::Corruption => Error::Corruption(format!("{what}: {error}")),
        _ => Error::Io(format!("{what}: {error}")),
    }
}
