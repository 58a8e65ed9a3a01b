//! Opening a store: log and engine are brought together, or refused.
//!
//! A new store is made in steps, each of which the next open can continue from: the log with its
//! identity and no entries; the same identity, the first range's descriptor and an empty applied
//! state in the engine, flushed; only then the first entry.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cairn_kv::engine::{Cf, Engine, SharedEngine, WriteBatch};
use cairn_kv::hlc::Hlc;
use cairn_kv::seam::{Env, NodeId, Rng};
use cairn_kv::{Error, Result, Timestamp, effects, encoding, local_keys};
use prost::Message as _;

use crate::RangeId;
use crate::cluster;
use crate::command::{
    LOCAL_FORMAT, RangeDescriptor, RangeState, ReplicaDescriptor, ReplicaRole, decode_descriptor,
    decode_identity, decode_range_state, encode_identity,
};
use crate::driver::{Core, Work};
use crate::entries::RangeLog;
use crate::flush::flush_engine;
use crate::liveness::{Now, Terms};
use crate::log::{Log, Recovered};
use crate::record::RecordWriter;
use crate::replica::Replica;
use crate::segment::Identity;
use crate::snapshot;
use crate::store::{FIRST_RANGE, Faults, Found, Founding, Inner, StoreConfig, StoreError};
use crate::waiter::Reply;

/// Records after which a store gives up whose disk is too slow for its clock.
const BOUND_ATTEMPTS: u32 = 20;

pub(crate) async fn open(
    env: Env,
    engine: SharedEngine,
    config: StoreConfig,
    founding: Founding,
) -> Result<Arc<Inner>, StoreError> {
    let faults = config.faults;
    let mut local = LocalState::read(&*engine)?;
    let mut recovered = recover(&env, &config, &local).await?;
    if let Some((_, found)) = &recovered
        && !found.markers.is_empty()
    {
        if let Some(engine) = local.identity.filter(|engine| *engine != found.identity) {
            return Err(mismatch(&found.identity, &engine));
        }
        snapshot::redo(&*env.runtime, &engine, &found.markers).await?;
        // What the engine has applied may be less than before: more of the log is to be kept in memory.
        local = LocalState::read(&*engine)?;
        recovered = recover(&env, &config, &local).await?;
    }
    let (log, recovered) = match (recovered, local.identity) {
        (Some((log, recovered)), _) => (log, recovered),
        (None, Some(engine)) => {
            return Err(StoreError::Mismatch(format!(
                "the engine is that of {engine}, but its log is missing"
            )));
        }
        (None, None) => create_log(&env, &config, &founding).await?,
    };
    let identity = recovered.identity;
    match local.identity {
        Some(engine) if engine == identity => {}
        Some(engine) => return Err(mismatch(&identity, &engine)),
        None if recovered.ranges.values().all(|log| log.last() == 0) => {
            write_first_state(&env, &engine, &identity, &founding.voters).await?;
            local = LocalState::read(&*engine)?;
        }
        None => {
            return Err(StoreError::Mismatch(format!(
                "the log of {identity} has entries, but the engine is empty: it was removed or replaced"
            )));
        }
    }

    // The engine holds flushed state only, so far.
    let thresholds = effects::thresholds(&*engine)?;
    engine.set_filter_thresholds(thresholds.into());
    let floor = if faults.hlc_back_after_restart { Timestamp::ZERO } else { recovered.hlc_bound };
    let markers = recovered.markers.clone();
    let replicas = bring_together(&log, recovered, &local, faults)?;
    let hlc = Hlc::new(Arc::clone(&env.clock), floor);
    // A store without a replica waits for others to give it one.
    let meets = replicas.is_empty()
        || replicas.values().any(|replica| replica.peers().next().is_some())
        || cluster::has_met_others(&*env.disk)?;
    let (file, terms) = if meets {
        wait_for_clock(&env, floor).await;
        let (file, terms) = cluster::begin_terms(&env, config.liveness, &hlc, faults).await?;
        (Some(file), terms)
    } else {
        (None, Terms::begin(None, config.liveness, Now::read(&hlc, &*env.clock))?)
    };
    let inner = Arc::new_cyclic(|this| {
        Inner::new(this.clone(), env, engine, config, identity, hlc, Found { thresholds, terms })
    });
    for (range, replica) in &replicas {
        inner.publish_descriptor(*range, Some(Arc::clone(replica.descriptor())));
    }
    inner.adopt_markers(&markers);

    // Elected, a sole voter commits what the log has, and applies it; then it takes the leases. Who has met other
    // stores may have promised them not to.
    let mut core = Core::new(log, replicas, markers);
    for replica in core.replicas.values_mut().filter(|r| !meets && r.is_only_voter()) {
        replica.campaign()?;
        replica.settle_leadership(&inner.cluster.terms.read());
    }
    first_timestamp(&mut core, &inner).await?;
    inner.start(core);
    match file {
        Some(file) => cluster::start(&inner, file),
        // What was applied just now has given it company.
        None if !inner.cluster.peers.read().is_empty() => inner.meet_others().await?,
        None => {}
    }
    Ok(inner)
}

/// Recovers the log, as far as the engine does not make it superfluous.
async fn recover(env: &Env, config: &StoreConfig, local: &LocalState) -> Result<Option<(Log, Recovered)>> {
    let applied: BTreeMap<RangeId, u64> = local.states.iter().map(|(range, s)| (*range, s.index)).collect();
    let (disk, rng) = (Arc::clone(&env.disk), Arc::clone(&env.rng));
    Log::recover(disk, rng, config.segment_bytes, config.faults, &|range| {
        applied.get(&range).copied().unwrap_or(0)
    })
    .await
}

/// R11: an earlier life may have handed out anything below `bound`. Going on from there, this one would be
/// ahead of the other nodes by more than clocks may be, until the wall clock has caught up.
async fn wait_for_clock(env: &Env, bound: Timestamp) {
    let behind = bound.micros().saturating_sub(env.clock.wall_micros());
    if behind > 1_000_000 {
        let seconds = behind / 1_000_000;
        tracing::warn!(
            seconds,
            "the clock is behind what this store has used: waiting until it has caught up"
        );
    }
    if behind > 0 {
        env.runtime.sleep(Duration::from_micros(behind)).await;
    }
}

/// The first record raises the clock's durable bound; where it took longer to sync than the bound
/// leads, the next one does. Then sole voters have their leases.
async fn first_timestamp(core: &mut Core, inner: &Inner) -> Result<()> {
    for _ in 0..BOUND_ATTEMPTS {
        let reply = Reply::new(Arc::default());
        core.process(inner, &mut vec![Work::RaiseBound { reply }]).await?;
        if !core.replicas.values().any(|r| r.wants_lease()) && inner.hlc.try_now().is_some() {
            return Ok(());
        }
    }
    let lead_ms = inner.config.hlc_lead_micros / 1000;
    Err(Error::Io(format!("each of {BOUND_ATTEMPTS} syncs of the log took longer than {lead_ms} ms")))
}

/// A log and an engine of different stores.
pub(crate) fn mismatch(log: &Identity, engine: &Identity) -> StoreError {
    StoreError::Mismatch(format!("the log is that of {log}, the engine that of {engine}"))
}

/// What the engine says about this store.
pub(crate) struct LocalState {
    pub(crate) identity: Option<Identity>,
    descriptors: BTreeMap<RangeId, RangeDescriptor>,
    states: BTreeMap<RangeId, RangeState>,
}

impl LocalState {
    pub(crate) fn descriptor(&self, range: RangeId) -> Option<&RangeDescriptor> {
        self.descriptors.get(&range)
    }

    pub(crate) fn state(&self, range: RangeId) -> Option<&RangeState> {
        self.states.get(&range)
    }

    pub(crate) fn read(engine: &dyn Engine) -> Result<LocalState> {
        let mut value = Vec::new();
        let found = engine.get(Cf::Local, &local_keys::ident(), &mut value)?;
        let identity = found.then(|| decode_identity(&value)).transpose()?;
        let mut descriptors = BTreeMap::new();
        for_each(engine, &local_keys::range_descriptors(), |_, value| {
            let descriptor = decode_descriptor(value)?;
            descriptors.insert(descriptor.range, descriptor);
            Ok(())
        })?;
        let mut states = BTreeMap::new();
        for_each(engine, &local_keys::range_states(), |key, value| {
            let range = local_keys::parse_range_state(key)?;
            states.insert(range, decode_range_state(range, value)?);
            Ok(())
        })?;
        Ok(LocalState { identity, descriptors, states })
    }
}

fn for_each(
    engine: &dyn Engine,
    prefix: &[u8],
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<()>,
) -> Result<()> {
    let mut iter = engine.iter(Cf::Local, prefix, &encoding::prefix_end(prefix))?;
    iter.seek_to_first();
    while iter.valid() {
        visit(iter.key(), iter.value())?;
        iter.next();
    }
    iter.status()
}

async fn create_log(env: &Env, config: &StoreConfig, founding: &Founding) -> Result<(Log, Recovered)> {
    let cluster = founding.cluster.unwrap_or_else(|| random_id(&*env.rng));
    let identity = Identity { cluster, store: founding.store };
    let mut checkpoint = RecordWriter::default();
    checkpoint.clear();
    checkpoint.hlc_bound(Timestamp::ZERO);
    let (disk, rng) = (Arc::clone(&env.disk), Arc::clone(&env.rng));
    let log = Log::create(disk, rng, config.segment_bytes, config.faults, identity, &mut checkpoint).await?;
    let recovered =
        Recovered { identity, ranges: BTreeMap::new(), hlc_bound: Timestamp::ZERO, markers: BTreeMap::new() };
    Ok((log, recovered))
}

fn random_id(rng: &dyn Rng) -> [u8; 16] {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&rng.next_u64().to_be_bytes());
    id[8..].copy_from_slice(&rng.next_u64().to_be_bytes());
    id
}

/// The engine's part of a new store, whose range has a replica on each of `stores`, numbered alike; without stores
/// it has none yet.
async fn write_first_state(
    env: &Env,
    engine: &SharedEngine,
    identity: &Identity,
    stores: &[NodeId],
) -> Result<()> {
    let descriptor = RangeDescriptor {
        format: LOCAL_FORMAT,
        range: FIRST_RANGE,
        start: bytes::Bytes::new(),
        end: bytes::Bytes::new(),
        generation: 1,
        replicas: (stores.iter())
            .map(|&store| ReplicaDescriptor { replica: store, store, role: ReplicaRole::Voter as i32 })
            .collect(),
        next_replica: stores.iter().max().map_or(0, |store| store + 1),
    };
    let state = RangeState { format: LOCAL_FORMAT, ..RangeState::default() };
    let mut batch = WriteBatch::default();
    batch.put(Cf::Local, local_keys::ident(), encode_identity(identity));
    if !stores.is_empty() {
        batch.put(Cf::Local, local_keys::range_descriptor(&descriptor.start), descriptor.encode_to_vec());
        batch.put(Cf::Local, local_keys::range_state(FIRST_RANGE), state.encode_to_vec());
    }
    engine.write(&batch)?;
    flush_engine(&*env.runtime, engine).await
}

/// Makes replicas of what log and engine have, or says why they are not two halves of one store.
fn bring_together(
    log: &Log,
    mut recovered: Recovered,
    local: &LocalState,
    faults: Faults,
) -> Result<BTreeMap<RangeId, Replica>, StoreError> {
    let mut replicas = BTreeMap::new();
    for (&range, descriptor) in &local.descriptors {
        let mismatch = |what: String| Err(StoreError::Mismatch(format!("range {range}: {what}")));
        let Some(&state) = local.states.get(&range) else {
            return mismatch("the engine has its descriptor, but no applied state".into());
        };
        let Some(replica) = descriptor.replicas.iter().find(|r| r.store == recovered.identity.store) else {
            return mismatch(format!("its descriptor names no replica on {}", recovered.identity));
        };
        let entries =
            recovered.ranges.remove(&range).unwrap_or_else(|| RangeLog::new(range, Arc::clone(log.live())));
        let (truncated, _) = entries.truncated();
        if state.index < truncated {
            return mismatch(format!(
                "the engine has applied entry {}, but the log begins behind entry {truncated}: the engine's \
                 directory is older than the log",
                state.index
            ));
        }
        if state.index > entries.last() {
            return mismatch(format!(
                "the engine has applied entry {}, but the log ends at entry {}: the log is older than the \
                 engine's directory, or has lost its end",
                state.index,
                entries.last()
            ));
        }
        if entries.term_of(state.index) != Some(state.term) {
            return mismatch(format!(
                "entry {} is of term {:?} in the log, of term {} in the engine: they are of different histories",
                state.index,
                entries.term_of(state.index),
                state.term
            ));
        }
        replicas
            .insert(range, Replica::new(descriptor, replica.store, replica.replica, state, entries, faults)?);
    }
    if let Some((range, _)) = recovered.ranges.first_key_value() {
        return Err(StoreError::Mismatch(format!(
            "the log has range {range}, which the engine does not know"
        )));
    }
    Ok(replicas)
}
