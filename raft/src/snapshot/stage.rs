//! The receiver's side: stages what comes as tables.

use std::collections::BTreeMap;

use bytes::Bytes;
use cairn_kv::Result;
use cairn_kv::engine::{Cf, Stage};
use cairn_kv::seam::{self, NodeId};

use crate::RangeId;
use crate::record::SnapshotId;
use crate::store::Inner;

use super::wire::{Ack, Frame, Piece, damaged};
use super::{TableName, discard, staged_tables};

/// What was begun and is not gone on with for so long is forgotten.
const FORGET_NANOS: u64 = 120_000_000_000;

/// Pieces that may wait for one that is missing before them.
const MOST_AHEAD: usize = 64;

/// Snapshots that are being staged, one of each range.
pub(super) struct Receiving {
    ranges: BTreeMap<RangeId, Staging>,
    /// When to look for tables that nobody has asked for since this life began.
    tidy_nanos: Option<u64>,
}

struct Staging {
    id: SnapshotId,
    /// The piece that is waited for.
    next: u64,
    /// From here on pieces are in an unfinished table.
    durable: u64,
    is_complete: bool,
    table: Option<Table>,
    /// Pieces that have come before an earlier one.
    ahead: BTreeMap<u64, Piece>,
    heard_nanos: u64,
}

/// A table in the making.
struct Table {
    stage: Box<dyn Stage>,
    cf: Cf,
    first: u64,
    /// The last key in it.
    last: Vec<u8>,
    /// A span to clear that the next one may continue.
    clear: Option<(Bytes, Bytes)>,
}

impl Receiving {
    pub(super) fn new(now: u64) -> Receiving {
        Receiving { ranges: BTreeMap::new(), tidy_nanos: Some(now + FORGET_NANOS) }
    }

    /// Takes in a question or a piece; gives the answer.
    pub(super) async fn receive(
        &mut self,
        inner: &Inner,
        from: NodeId,
        frame: Frame,
        now: u64,
    ) -> Result<Option<Frame>> {
        let (range, id) = (frame.range, frame.id());
        let incarnation = inner.cluster.terms.read().incarnation();
        let known = self.ranges.get(&range).map(|staging| staging.id);
        if known.is_some_and(|known| id < known) {
            let refusal = Ack { refused: true, incarnation, ..Ack::default() };
            return Ok(Some(Frame { ack: Some(refusal), ..Frame::new(range, id) }));
        }
        if known != Some(id) {
            tracing::info!(range, from, "a snapshot is received");
            self.ranges.remove(&range);
            discard(&*inner.engine, range, |of| of == id || inner.desk.is_held(range, of))?;
            let tables = staged_tables(&*inner.engine, range, id)?;
            let next = tables.last().map_or(0, |table| table.next);
            let is_complete = tables.last().is_some_and(|table| table.is_last);
            let staging = Staging {
                id,
                next,
                durable: next,
                is_complete,
                table: None,
                ahead: BTreeMap::new(),
                heard_nanos: now,
            };
            self.ranges.insert(range, staging);
        }
        let staging = self.ranges.get_mut(&range).expect("it is known");
        staging.heard_nanos = now;
        if let Some(piece) = frame.piece
            && piece.at >= staging.next
            && !staging.is_complete
        {
            if piece.is_whole() && (piece.at == staging.next || staging.ahead.len() < MOST_AHEAD) {
                staging.ahead.insert(piece.at, piece);
            }
            while let Some(piece) = staging.ahead.remove(&staging.next) {
                if let Err(error) = staging.check(&piece) {
                    // Whole, but nonsense: its sender is at fault, and not this store.
                    tracing::error!(range, from, %error, "a snapshot is refused");
                    self.ranges.remove(&range);
                    discard(&*inner.engine, range, |of| inner.desk.is_held(range, of))?;
                    let refusal = Ack { refused: true, incarnation, ..Ack::default() };
                    return Ok(Some(Frame { ack: Some(refusal), ..Frame::new(range, id) }));
                }
                staging.take(inner, range, piece).await?;
            }
        }
        let Staging { next, durable, is_complete, .. } = *staging;
        let ack = Ack { next, durable, staged: is_complete, refused: false, incarnation };
        Ok(Some(Frame { ack: Some(ack), ..Frame::new(range, id) }))
    }

    /// Forgets what is not gone on with.
    pub(super) fn forget_idle(&mut self, inner: &Inner, now: u64) -> Result<()> {
        let idle = |staging: &Staging| now >= staging.heard_nanos + FORGET_NANOS;
        for (range, _) in self.ranges.extract_if(.., |_, staging| idle(staging)) {
            discard(&*inner.engine, range, |of| inner.desk.is_held(range, of))?;
        }
        if self.tidy_nanos.is_some_and(|at| now >= at) {
            self.tidy_nanos = None;
            for table in inner.engine.staged()?.iter().filter_map(|name| TableName::decode(name)) {
                let TableName { range, snapshot, .. } = table;
                if !self.ranges.contains_key(&range) && !inner.desk.is_held(range, snapshot) {
                    inner.engine.discard(&table.encode())?;
                }
            }
        }
        Ok(())
    }
}

impl Staging {
    /// Whether the piece that was waited for can follow on what is there.
    fn check(&self, piece: &Piece) -> Result<()> {
        let cf = piece.cf()?;
        match &self.table {
            Some(table) if table.cf != cf => Err(damaged("its family is not that of its table")),
            Some(table) => piece.check(&table.last),
            None => piece.check(&[]),
        }
    }

    /// Adds the piece that was waited for, which has been checked.
    async fn take(&mut self, inner: &Inner, range: RangeId, piece: Piece) -> Result<()> {
        let cf = piece.cf()?;
        let table = match &mut self.table {
            Some(table) => table,
            none => none.insert(Table {
                stage: inner.engine.stage(cf)?,
                cf,
                first: piece.at,
                last: Vec::new(),
                clear: None,
            }),
        };
        for clear in &piece.clears {
            table.clear(&clear.start, &clear.end)?;
        }
        piece.for_each(|key, value| {
            table.last.clear();
            table.last.extend_from_slice(key);
            table.stage.put(key, value)
        })?;
        self.next = piece.at + 1;
        if piece.ends_table || piece.is_last {
            let mut table = self.table.take().expect("it was just added to");
            if let Some((start, end)) = table.clear.take() {
                table.stage.clear(&start, &end)?;
            }
            let name = TableName {
                range,
                snapshot: self.id,
                first: table.first,
                next: self.next,
                cf,
                is_last: piece.is_last,
            };
            let (stage, name) = (table.stage, name.encode());
            seam::blocking(&*inner.env.runtime, "stage", move || stage.finish(&name)).await?;
            self.durable = self.next;
            self.is_complete = piece.is_last;
        }
        Ok(())
    }
}

impl Table {
    /// One span to clear rather than one of each piece: each costs reads.
    fn clear(&mut self, start: &Bytes, end: &Bytes) -> Result<()> {
        match &mut self.clear {
            Some((_, before)) if before == start => *before = end.clone(),
            clear => {
                if let Some((start, end)) = clear.replace((start.clone(), end.clone())) {
                    self.stage.clear(&start, &end)?;
                }
            }
        }
        Ok(())
    }
}
