//! How a replica goes over to a snapshot, or goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use cairn_kv::effects::{self, ThresholdUpdate};
use cairn_kv::engine::{Cf, SharedEngine};
use cairn_kv::seam::{self, Runtime};
use cairn_kv::{Error, Result};
use raft::eraftpb::HardState;

use crate::RangeId;
use crate::driver::Core;
use crate::entries::RangeLog;
use crate::open::LocalState;
use crate::record::{Marker, SnapshotId};
use crate::replica::{Received, Replica};
use crate::store::Inner;

use super::{TableName, clearing, discard, discard_one, staged_tables};

impl Core {
    /// Removes replicas that are none any more, and brings others over to their snapshots. False if there was
    /// nothing to do.
    pub(crate) async fn change_replicas(&mut self, inner: &Inner) -> Result<bool> {
        let removals = std::mem::take(&mut self.removals);
        let installs = std::mem::take(&mut self.installs);
        let any = !removals.is_empty() || !installs.is_empty();
        for range in removals {
            self.remove(inner, range).await?;
        }
        for (range, received) in installs {
            self.install(inner, range, received).await?;
        }
        Ok(any)
    }

    async fn install(&mut self, inner: &Inner, range: RangeId, received: Received) -> Result<()> {
        let message = &received.message;
        let metadata = message.get_snapshot().get_metadata().clone();
        let mut hard_state = HardState { term: message.term, vote: raft::INVALID_ID, commit: metadata.index };
        if let Some(replica) = self.replicas.get(&range) {
            // What came before this in the same batch may have changed all.
            if message.to != replica.id()
                || message.term < replica.raw.raft.term
                || replica.leads()
                || replica.covers(message.get_snapshot())
            {
                return Ok(());
            }
            hard_state = replica.hard_state_behind(message.term, metadata.index);
        }
        let conf = metadata.get_conf_state();
        let mut members = conf.voters.iter().chain(&conf.learners).chain(&conf.voters_outgoing);
        let (Some(id), true) = (decode_id(&message.get_snapshot().data), members.any(|id| *id == message.to))
        else {
            return Ok(());
        };
        // Before they are counted: the other task must not discard them in between.
        inner.desk.state.lock().held.insert((range, id));
        let tables = staged_tables(&*inner.engine, range, id)?;
        if !tables.last().is_some_and(|table| table.is_last) {
            // It is an old word, or they were forgotten: the leader will send them again.
            if self.markers.get(&range).map(Marker::number) != Some(id.number) {
                inner.desk.state.lock().held.remove(&(range, id));
            }
            return Ok(());
        }
        let (index, term) = (metadata.index, metadata.term);
        let marker = Marker::Ingest { index, term, snapshot: id, tables: tables.len() as u64 };
        let record = self.new_record();
        record.marker(range, &marker);
        record.hard_state(range, &hard_state);
        if inner.config.faults.no_redo_marker {
            record.marker_end(range, marker.number());
        }
        self.write(inner).await?;
        let earlier = self.replicas.remove(&range);
        let before = self.markers.insert(range, marker);
        if let Some(Marker::Ingest { snapshot, .. }) = before.filter(|before| *before != marker) {
            inner.desk.state.lock().held.remove(&(range, snapshot));
            discard_one(&*inner.engine, range, snapshot)?;
        }
        inner.publish_lease(range, None);
        inner.pasts.exchange(range);
        ingest(&*inner.env.runtime, &inner.engine, tables).await?;

        let local = LocalState::read(&*inner.engine)?;
        let (Some(descriptor), Some(state)) = (local.descriptor(range), local.state(range)) else {
            return Err(Error::Corruption(format!(
                "a snapshot of range {range} has no descriptor or no state"
            )));
        };
        let store = inner.identity.store;
        let is_mine = descriptor.replicas.iter().any(|r| (r.replica, r.store) == (message.to, store));
        if (state.index, state.term) != (index, term) || !is_mine {
            return Err(Error::Corruption(format!(
                "a snapshot of range {range} behind entry {index} of term {term} has state {state:?} of {descriptor:?}"
            )));
        }
        let mut log = RangeLog::behind(range, Arc::clone(self.log.live()), (index, term));
        log.set_hard_state(hard_state);
        let mut replica = Replica::new(descriptor, store, message.to, *state, log, inner.config.faults)?;
        if let Some(mut earlier) = earlier {
            replica.takes_over(&earlier);
            earlier.abandon("the replica went over to a snapshot");
        }
        let thresholds = effects::thresholds(&*inner.engine)?;
        let (gc, tombstone, marker_ts) = (thresholds.gc.0, thresholds.tombstone.0, thresholds.marker.0);
        inner.thresholds.raise(&ThresholdUpdate { gc, tombstone, marker: marker_ts });
        inner.publish_descriptor(range, Some(Arc::clone(replica.descriptor())));
        tracing::info!(range, index, "a snapshot is in place");
        inner.metrics.snapshots_taken.inc();
        {
            // To raft-rs this is something that it has already: it says so to the leader.
            let terms = inner.cluster.terms.read();
            replica.receive(received, &terms, inner.now_for_liveness())?;
        }
        self.replicas.insert(range, replica);
        inner.flush.done.lock().push((range, marker.number()));
        inner.flush_in_background();
        Ok(())
    }

    async fn remove(&mut self, inner: &Inner, range: RangeId) -> Result<()> {
        let Some(replica) = self.replicas.get(&range) else { return Ok(()) };
        tracing::info!(range, replica = replica.id(), "a replica is removed");
        let marker = Marker::Remove { number: inner.desk.number(inner.hlc.reading().0) };
        self.new_record().marker(range, &marker);
        self.write(inner).await?;
        if let Some(Marker::Ingest { snapshot, .. }) = self.markers.insert(range, marker) {
            inner.desk.state.lock().held.remove(&(range, snapshot));
            discard_one(&*inner.engine, range, snapshot)?;
        }
        let mut replica = self.replicas.remove(&range).expect("it is there");
        inner.publish_leadership(range, None);
        inner.pasts.exchange(range);
        inner.engine.write(&clearing(replica.descriptor()))?;
        inner.publish_descriptor(range, None);
        replica.abandon("the replica was removed");
        inner.flush.done.lock().push((range, marker.number()));
        inner.flush_in_background();
        Ok(())
    }

    /// What a marker stands for is flushed, and its end synced.
    pub(crate) fn end_marker(&mut self, inner: &Inner, range: RangeId, number: u64) -> Result<()> {
        if self.markers.get(&range).map(Marker::number) != Some(number) {
            return Ok(());
        }
        if let Some(Marker::Ingest { snapshot, .. }) = self.markers.remove(&range) {
            inner.desk.state.lock().held.remove(&(range, snapshot));
            discard_one(&*inner.engine, range, snapshot)?;
        }
        Ok(())
    }
}

fn decode_id(data: &[u8]) -> Option<SnapshotId> {
    let (halves, []) = data.as_chunks::<8>() else { return None };
    let [term, number] = halves else { return None };
    Some(SnapshotId { term: u64::from_be_bytes(*term), number: u64::from_be_bytes(*number) })
}

/// Ingests tables family by family, away from the workers.
async fn ingest(runtime: &dyn Runtime, engine: &SharedEngine, tables: Vec<TableName>) -> Result<()> {
    for cf in Cf::ALL {
        let names: Vec<String> = tables.iter().filter(|t| t.cf == cf).map(TableName::encode).collect();
        if names.is_empty() {
            continue;
        }
        let engine = Arc::clone(engine);
        seam::blocking(runtime, "ingest", move || engine.ingest(cf, &names)).await?;
    }
    Ok(())
}

/// Recovery: what the markers stand for is done again.
pub(crate) async fn redo(
    runtime: &dyn Runtime,
    engine: &SharedEngine,
    markers: &BTreeMap<RangeId, Marker>,
) -> Result<()> {
    for (&range, marker) in markers {
        match *marker {
            Marker::Ingest { snapshot, tables, .. } => {
                let found = staged_tables(&**engine, range, snapshot)?;
                if found.len() as u64 != tables || !found.last().is_some_and(|table| table.is_last) {
                    return Err(Error::Corruption(format!(
                        "{} of {tables} tables are left of the snapshot of range {range} that is to be ingested",
                        found.len()
                    )));
                }
                ingest(runtime, engine, found).await?;
            }
            Marker::Remove { .. } => {
                let local = LocalState::read(&**engine)?;
                if let Some(descriptor) = local.descriptor(range) {
                    engine.write(&clearing(descriptor))?;
                }
                discard(&**engine, range, |_| false)?;
            }
        }
    }
    Ok(())
}

impl Inner {
    /// After recovery: what its markers stand for is done, but not flushed.
    pub(crate) fn adopt_markers(&self, markers: &BTreeMap<RangeId, Marker>) {
        for (&range, marker) in markers {
            if let Marker::Ingest { snapshot, .. } = marker {
                self.desk.state.lock().held.insert((range, *snapshot));
            }
            self.flush.done.lock().push((range, marker.number()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tables_tell_all_and_other_names_nothing() {
        let table = TableName {
            range: 1,
            snapshot: SnapshotId { term: 3, number: 77 },
            first: 5,
            next: 9,
            cf: Cf::History,
            is_last: true,
        };
        assert_eq!(TableName::decode(&table.encode()), Some(table.clone()));
        let open = TableName { is_last: false, ..table };
        assert_eq!(TableName::decode(&open.encode()), Some(open));
        for other in ["", "x", "1-3-77-5-9-history", "0-0-0-0-0-0"] {
            assert_eq!(TableName::decode(other), None);
        }
    }
}
