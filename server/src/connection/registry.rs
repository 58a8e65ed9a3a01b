//! The node's connections: who may come, how one is cancelled, and how all end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use cairn_kv::seam::Rng;
use cairn_sql::{SqlError, SqlState};
use cairn_txn::CancelToken;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

/// Bytes of a secret key where the client's protocol allows for a long one (3.2).
pub const SECRET_BYTES: usize = 32;

/// How far the node's end has come. Only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Serving.
    Serving,
    /// Sessions outside a transaction end; transactions may finish.
    Draining,
    /// Everything ends now.
    Killed,
}

impl Phase {
    fn from_byte(byte: u8) -> Phase {
        match byte {
            0 => Phase::Serving,
            1 => Phase::Draining,
            _ => Phase::Killed,
        }
    }
}

/// All connections of a node.
pub struct Registry {
    phase: AtomicU8,
    next_id: AtomicU32,
    limit: usize,
    rng: Arc<dyn Rng>,
    handles: Mutex<BTreeMap<u32, Arc<Handle>>>,
}

impl Registry {
    /// An empty registry for up to `limit` sessions.
    pub fn new(limit: usize, rng: Arc<dyn Rng>) -> Arc<Registry> {
        Arc::new(Registry {
            phase: AtomicU8::new(Phase::Serving as u8),
            next_id: AtomicU32::new(1),
            limit,
            rng,
            handles: Mutex::default(),
        })
    }

    /// How far the node's end has come.
    pub fn phase(&self) -> Phase {
        Phase::from_byte(self.phase.load(Ordering::SeqCst))
    }

    /// Moves on to `phase` and tells every connection.
    pub fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::SeqCst);
        for handle in self.handles.lock().values() {
            handle.waker.wake();
        }
    }

    /// Sessions at present.
    pub fn count(&self) -> usize {
        self.handles.lock().len()
    }

    /// A place for a new session, until the registration is dropped.
    pub fn register(self: &Arc<Registry>) -> Result<Registration, SqlError> {
        if self.phase() != Phase::Serving {
            return Err(SqlError::new(SqlState::CANNOT_CONNECT_NOW, "the database system is shutting down"));
        }
        let mut secret = [0; SECRET_BYTES];
        for chunk in secret.chunks_exact_mut(8) {
            chunk.copy_from_slice(&self.rng.next_u64().to_le_bytes());
        }
        let mut handles = self.handles.lock();
        if handles.len() >= self.limit {
            return Err(SqlError::new(SqlState::TOO_MANY_CONNECTIONS, "sorry, too many clients already"));
        }
        let id = loop {
            // Clients show it as a process id: positive.
            let id = self.next_id.fetch_add(1, Ordering::Relaxed) & 0x7fff_ffff;
            if id != 0 && !handles.contains_key(&id) {
                break id;
            }
        };
        let handle = Arc::new(Handle {
            id,
            secret,
            registry: Arc::clone(self),
            cancel: OnceLock::new(),
            waker: AtomicWaker::new(),
        });
        handles.insert(id, Arc::clone(&handle));
        Ok(Registration(handle))
    }

    /// Cancels the statement that session `id` runs, if `secret` is its key (or, for protocol 3.0,
    /// the key's first four bytes).
    pub fn cancel(&self, id: u32, secret: &[u8]) {
        let handle = self.handles.lock().get(&id).cloned();
        if let Some(handle) = handle
            && (secret == handle.secret || secret == handle.short_secret())
            && let Some(cancel) = handle.cancel.get()
        {
            cancel.cancel();
        }
    }
}

/// What the node knows of one connection.
pub struct Handle {
    id: u32,
    secret: [u8; SECRET_BYTES],
    registry: Arc<Registry>,
    cancel: OnceLock<CancelToken>,
    waker: AtomicWaker,
}

impl Handle {
    /// The process id that clients see.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The key of cancel requests.
    pub fn secret(&self) -> &[u8; SECRET_BYTES] {
        &self.secret
    }

    /// The key of protocol 3.0, which has room for four bytes.
    pub fn short_secret(&self) -> &[u8] {
        &self.secret[..4]
    }

    /// Connects cancel requests with the session.
    pub fn set_cancel(&self, token: CancelToken) {
        let _ = self.cancel.set(token);
    }

    /// How far the node's end has come.
    pub fn phase(&self) -> Phase {
        self.registry.phase()
    }

    /// Whether everything ends now.
    pub fn is_killed(&self) -> bool {
        self.phase() == Phase::Killed
    }

    /// Has the connection's task woken when the phase changes.
    pub fn watch(&self, waker: &Waker) {
        self.waker.register(waker);
    }
}

/// A session's place in the registry.
pub struct Registration(Arc<Handle>);

impl Registration {
    /// The handle.
    pub fn handle(&self) -> &Arc<Handle> {
        &self.0
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.0.registry.handles.lock().remove(&self.0.id);
    }
}
