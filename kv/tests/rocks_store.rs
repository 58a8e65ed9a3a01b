//! Directories of the RocksDB engine: in use, newer, damaged, looked at without being changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cairn_kv::Error;
use cairn_kv::engine::{Cf, Engine, RocksEngine, RocksOptions, WriteBatch};
use cairn_kv::local_keys::{STORE_FORMAT, STORE_FORMAT_KEY};

fn open(path: &Path) -> Result<RocksEngine, Error> {
    RocksEngine::open(path, &RocksOptions::default())
}

fn open_read_only(path: &Path) -> Result<RocksEngine, Error> {
    RocksEngine::open_read_only(path, &RocksOptions::default())
}

/// Fills a family with entries that do not compress.
fn fill(engine: &RocksEngine, cf: Cf) {
    let mut batch = WriteBatch::default();
    let mut random = 1u64;
    for n in 0..2_000 {
        let value: Vec<u8> = (0..16)
            .flat_map(|_| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random.to_le_bytes()
            })
            .collect();
        batch.put(cf, format!("key{n:05}").into_bytes(), value);
    }
    engine.write(&batch).unwrap();
    engine.flush().unwrap();
}

fn files(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect()
}

fn message<T>(result: Result<T, Error>) -> String {
    result.err().expect("an error").to_string()
}

#[test]
fn a_directory_is_opened_by_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path()).unwrap();
    let text = message(open(dir.path()));
    assert!(text.contains("in use") && text.contains(dir.path().to_str().unwrap()), "{text}");
    drop(engine);
    open(dir.path()).unwrap();
}

#[test]
fn a_newer_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path()).unwrap();
    let mut batch = WriteBatch::default();
    batch.put(Cf::Local, STORE_FORMAT_KEY, (STORE_FORMAT + 1).to_be_bytes().to_vec());
    engine.write(&batch).unwrap();
    engine.flush().unwrap();
    drop(engine);
    for result in [open(dir.path()), open_read_only(dir.path())] {
        let error = result.err().unwrap();
        assert!(matches!(error, Error::NewerFormat { found, .. } if found == STORE_FORMAT + 1), "{error}");
    }
    let mut batch = WriteBatch::default();
    batch.put(Cf::Local, STORE_FORMAT_KEY, "what?");
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path()).unwrap();
    engine.write(&batch).unwrap();
    engine.flush().unwrap();
    drop(engine);
    assert!(matches!(open(dir.path()), Err(Error::Corruption(_))));
}

#[test]
fn looking_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path()).unwrap();
    fill(&engine, Cf::Data);
    drop(engine);
    let before = files(dir.path());
    let engine = open_read_only(dir.path()).unwrap();
    let mut out = Vec::new();
    assert!(engine.get(Cf::Data, b"key00042", &mut out).unwrap());
    engine.verify_checksums().unwrap();
    let mut batch = WriteBatch::default();
    batch.put(Cf::Data, "key", "value");
    assert!(engine.write(&batch).is_err());
    assert!(engine.flush().is_err());
    drop(engine);
    assert_eq!(files(dir.path()), before);

    let missing = dir.path().join("missing");
    assert!(message(open_read_only(&missing)).contains("holds no store"));
    assert!(!missing.exists());
}

#[test]
fn every_flipped_bit_of_a_table_is_found_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path()).unwrap();
    for cf in Cf::ALL {
        fill(&engine, cf);
    }
    drop(engine);
    let mut named = BTreeMap::new();
    for (path, bytes) in files(dir.path()) {
        if path.extension().is_none_or(|extension| extension != "sst") {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        // Every part of the file: data, filter, index, properties, footer.
        for step in 0..24 {
            let at = (bytes.len() - 1) * step / 23;
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (step % 8);
            std::fs::write(&path, &damaged).unwrap();
            let error = match open_read_only(dir.path()) {
                Ok(engine) => engine.verify_checksums().err(),
                Err(error) => Some(error),
            };
            let error = error.unwrap_or_else(|| panic!("{name}: bit at {at} of {} not found", bytes.len()));
            let text = error.to_string();
            assert!(text.contains(&name) && text.contains("family"), "{name} at {at}: {text}");
            let text_open = message(open(dir.path()).and_then(|engine| engine.verify_checksums()));
            assert!(text_open.contains(&name), "{name} at {at}: {text_open}");
            if let Some(cf) =
                Cf::ALL.iter().find(|cf| text.contains(&format!("family {}, behind key", cf.name())))
            {
                named.entry(cf.name()).or_insert(text);
            }
        }
        std::fs::write(&path, &bytes).unwrap();
    }
    assert_eq!(named.len(), Cf::ALL.len(), "damaged entries are named by family and key: {named:?}");
    open_read_only(dir.path()).unwrap().verify_checksums().unwrap();
}

#[test]
fn damage_met_by_a_read_names_family_and_key() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path()).unwrap();
    fill(&engine, Cf::Data);
    drop(engine);
    let damaged = files(dir.path())
        .into_iter()
        .filter(|(path, _)| path.extension().is_some_and(|extension| extension == "sst"))
        .max_by_key(|(_, bytes)| bytes.len());
    let (path, mut bytes) = damaged.unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let engine = open(dir.path()).unwrap();
    let mut out = Vec::new();
    let errors: Vec<_> = (0..2_000)
        .filter_map(|n| engine.get(Cf::Data, format!("key{n:05}").as_bytes(), &mut out).err())
        .collect();
    let text = errors.first().expect("a block is damaged").to_string();
    assert!(matches!(errors[0], Error::Corruption(_)));
    assert!(text.contains("family data at key \"key0") && text.contains(".sst"), "{text}");
    let mut iter = engine.iter(Cf::Data, b"", b"").unwrap();
    iter.seek_to_first();
    while iter.valid() {
        iter.next();
    }
    assert!(matches!(iter.status(), Err(Error::Corruption(_))), "a scan does not end as if all were well");
}
