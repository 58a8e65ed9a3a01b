//! A stopped store, written through the layers below SQL.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use cairn_kv::effects::{EFFECTS_FORMAT, Effects, VersionWrite};
use cairn_kv::engine::{RocksEngine, RocksOptions};
use cairn_kv::seam::{Env, NoPeers};
use cairn_raft::store::FIRST_RANGE;
use cairn_raft::{Store, StoreConfig};
use cairn_server::disk::DirectoryDisk;
use cairn_server::seams::{SystemClock, SystemRng, TokioRuntime};
use cairn_server::store_directory::StoreDirectory;

/// Opens (or creates) a store, writes `keys` twice and stops: cleanly, or as if killed.
pub fn write(path: &Path, keys: &[&str], clean: bool) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let directory = StoreDirectory::open_or_create(path).unwrap();
        let engine = RocksEngine::open(&directory.data(), &RocksOptions::default()).unwrap();
        let tasks = TokioRuntime::current();
        let env = Env {
            clock: Arc::new(SystemClock::default()),
            rng: Arc::new(SystemRng),
            runtime: Arc::clone(&tasks) as _,
            disk: Arc::new(DirectoryDisk::open(&directory.log()).unwrap()),
            transport: Arc::new(NoPeers),
        };
        let store = Store::open(env, Arc::new(engine), StoreConfig::default()).await.unwrap();
        let lease = store.lease(FIRST_RANGE).unwrap();
        for round in 0..2 {
            for key in keys {
                let ts = store.now().await.unwrap().0;
                let value = Some(Bytes::from(format!("{key} of round {round}").repeat(50)));
                let write = VersionWrite {
                    key: Bytes::from((*key).to_owned()),
                    ts,
                    value,
                    fresh: round == 0,
                    supersedes: None,
                };
                let effects = Effects { format: EFFECTS_FORMAT, writes: vec![write], ..Effects::default() };
                store.propose(FIRST_RANGE, lease, effects).await.unwrap();
            }
        }
        if clean {
            store.close().await.unwrap();
        }
        tasks.stop().await;
    });
}
