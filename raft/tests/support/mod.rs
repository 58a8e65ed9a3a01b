//! A simulated machine with a store on it.

#![allow(dead_code, reason = "each test crate uses a part")]

pub mod misfortune;
pub mod world;

use std::sync::Arc;

use bytes::Bytes;
use cairn_kv::effects::{EFFECTS_FORMAT, Effects, VersionWrite};
use cairn_kv::engine::{Cf, Engine, MemEngine};
pub use cairn_kv::sim::Machine;
use cairn_kv::{Timestamp, mvcc};
use cairn_raft::store::FIRST_RANGE;
use cairn_raft::{Applied, ProposeError, Store, StoreConfig, StoreError};

/// Opens the store of a simulated machine.
pub(crate) trait OpenStore {
    async fn open_with(&self, config: StoreConfig) -> Result<Arc<Store>, StoreError>;

    async fn open(&self) -> Arc<Store> {
        self.open_with(small()).await.expect("the store opens")
    }
}

impl OpenStore for Machine {
    async fn open_with(&self, config: StoreConfig) -> Result<Arc<Store>, StoreError> {
        Store::open(self.env.seams(), self.traced_engine(), config).await
    }
}

/// Segments small enough that tests roll and recycle them.
pub fn small() -> StoreConfig {
    StoreConfig { segment_bytes: 64 << 10, ..StoreConfig::default() }
}

pub fn write(key: &str, ts: Timestamp, value: &str) -> Effects {
    Effects {
        format: EFFECTS_FORMAT,
        writes: vec![VersionWrite {
            key: Bytes::copy_from_slice(key.as_bytes()),
            ts: ts.0,
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            fresh: false,
            supersedes: None,
        }],
        ..Effects::default()
    }
}

pub async fn put(store: &Store, key: &str, value: &str) -> Result<Applied, ProposeError> {
    let lease = store.lease(FIRST_RANGE).ok_or_else(|| ProposeError::Unavailable("no lease".into()))?;
    let ts = store.now().await?;
    store.propose(FIRST_RANGE, lease, write(key, ts, value)).await
}

pub fn get(store: &Store, key: &str) -> Option<String> {
    read(&**store.engine(), key)
}

pub fn read(engine: &dyn Engine, key: &str) -> Option<String> {
    let mut out = Vec::new();
    let found = mvcc::get(engine, key.as_bytes(), Timestamp::MAX.prev(), &mut out).expect("read");
    found.exists.then(|| String::from_utf8_lossy(&out).into_owned())
}

/// Data and history: what commands did, without applied states.
pub fn content(engine: &MemEngine) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut content = Vec::new();
    for cf in [Cf::Data, Cf::History] {
        let mut iter = engine.iter(cf, &[], &[]).expect("iterates");
        iter.seek_to_first();
        while iter.valid() {
            content.push((iter.key().to_vec(), iter.value().to_vec()));
            iter.next();
        }
    }
    content
}
