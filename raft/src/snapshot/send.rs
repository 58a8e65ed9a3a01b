//! The sender's side: reads a view of the engine, piece by piece.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use cairn_kv::Result;
use cairn_kv::engine::Cf;
use cairn_kv::seam::{Channel, NodeId};
use prost::Message as _;

use crate::driver::Work;
use crate::record::SnapshotId;
use crate::store::Inner;

use super::wire::{Ack, Clear, Frame, Piece, put_entry};
use super::{Shipping, SnapshotConfig};

/// Without an acknowledgement of something new for so long, what is under way is sent again.
const RESEND: Duration = Duration::from_millis(250);

/// Without a word of the receiver for so long, the snapshot is given up.
const GIVE_UP: Duration = Duration::from_secs(20);

/// Where a piece begins.
#[derive(Clone)]
struct Position {
    /// Number of the piece.
    at: u64,
    span: usize,
    key: Bytes,
    /// Bytes of the table so far.
    table_bytes: usize,
}

/// A snapshot on its way.
pub(super) struct Sending {
    shipping: Shipping,
    config: SnapshotConfig,
    /// Where the next piece begins; none: all have been sent.
    next: Option<Position>,
    /// Sent and not acknowledged, with their numbers.
    unacknowledged: VecDeque<(u64, Bytes)>,
    unacknowledged_bytes: usize,
    /// Where the pieces begin that the receiver would want again after a restart, and the next one.
    positions: VecDeque<Position>,
    /// The life of the receiver's store that has said where it stands; zero: none has.
    incarnation: u64,
    heard_nanos: Option<u64>,
    /// When something was sent last for the first time, or again, or acknowledged.
    moved_nanos: Option<u64>,
    /// Not before this time is more sent.
    pace_nanos: u64,
    outcome: Option<bool>,
}

/// What is next.
pub(super) enum Step {
    /// To wait for an acknowledgement, or so long.
    Wait(Duration),
    /// It has ended: all is staged, or it was given up.
    Ended { staged: bool },
}

impl Shipping {
    /// What the driver is told.
    pub(super) fn outcome(self, staged: bool) -> Work {
        let Shipping { range, replica, snapshot, .. } = self;
        Work::Shipped { range, replica, snapshot: Box::new(snapshot), staged }
    }
}

impl Sending {
    pub(super) fn new(shipping: Shipping, config: SnapshotConfig) -> Sending {
        let first = Position { at: 0, span: 0, key: shipping.spans[0].start.clone(), table_bytes: 0 };
        Sending {
            shipping,
            config,
            positions: VecDeque::from([first.clone()]),
            next: Some(first),
            unacknowledged: VecDeque::new(),
            unacknowledged_bytes: 0,
            incarnation: 0,
            heard_nanos: None,
            moved_nanos: None,
            pace_nanos: 0,
            outcome: None,
        }
    }

    pub(super) fn into_shipping(self) -> Shipping {
        self.shipping
    }

    fn send(&self, inner: &Inner, frame: Bytes) {
        inner.env.transport.send(self.shipping.store, Channel::Snapshot, frame);
    }

    /// Sends what may be sent.
    pub(super) fn step(&mut self, inner: &Inner, now: u64) -> Result<Step> {
        if let Some(staged) = self.outcome {
            return Ok(Step::Ended { staged });
        }
        let heard = *self.heard_nanos.get_or_insert(now);
        if self.shipping.cancelled.load(Ordering::Relaxed) || now >= heard + GIVE_UP.as_nanos() as u64 {
            return Ok(Step::Ended { staged: false });
        }
        let resend = RESEND.as_nanos() as u64;
        if self.moved_nanos.is_none_or(|moved| now >= moved + resend) {
            self.moved_nanos = Some(now);
            // With nothing under way it asks.
            self.send(inner, Frame::new(self.shipping.range, self.shipping.id).encode_to_vec().into());
            for (_, frame) in &self.unacknowledged {
                self.send(inner, frame.clone());
            }
        }
        if self.incarnation != 0
            && self.unacknowledged_bytes < self.config.window_bytes
            && self.next.is_some()
        {
            if now < self.pace_nanos {
                return Ok(Step::Wait(Duration::from_nanos(self.pace_nanos - now)));
            }
            let frame = self.read_piece()?;
            self.pace_nanos = now + frame.len() as u64 * 1_000_000_000 / self.config.bytes_per_second.max(1);
            self.moved_nanos = Some(now);
            self.send(inner, frame);
            // Others run first: there is more of the same.
            return Ok(Step::Wait(Duration::ZERO));
        }
        Ok(Step::Wait(RESEND))
    }

    /// The receiver says where it stands.
    pub(super) fn acknowledged(&mut self, from: NodeId, id: SnapshotId, ack: Ack, now: u64) {
        if from != self.shipping.store || id != self.shipping.id {
            return;
        }
        self.heard_nanos = Some(now);
        if ack.refused || ack.staged {
            self.outcome = Some(ack.staged && !ack.refused);
            return;
        }
        if ack.incarnation < self.incarnation {
            return;
        }
        while let Some((_, frame)) = self.unacknowledged.pop_front_if(|(at, _)| *at < ack.next) {
            self.unacknowledged_bytes -= frame.len();
            self.moved_nanos = Some(now);
        }
        while self.positions.pop_front_if(|position| position.at < ack.durable).is_some() {}
        if ack.incarnation > self.incarnation {
            // It goes on where another life of it had everything durable.
            self.incarnation = ack.incarnation;
            self.unacknowledged.clear();
            self.unacknowledged_bytes = 0;
            match self.positions.iter().position(|position| position.at == ack.next) {
                Some(found) => {
                    self.positions.truncate(found + 1);
                    self.next = self.positions.back().cloned();
                }
                // What it has is not of this view.
                None => self.outcome = Some(false),
            }
        }
    }

    /// Reads the next piece, and goes on behind it.
    fn read_piece(&mut self) -> Result<Bytes> {
        let from = self.next.take().expect("there is one");
        let Shipping { view, spans, range, id, .. } = &mut self.shipping;
        let cf = spans[from.span].cf;
        let iter = view.iter(cf);
        let (mut entries, mut clears) = (Vec::new(), Vec::new());
        let (mut span, mut start) = (from.span, from.key);
        let next = loop {
            let end = spans[span].end.clone();
            iter.seek(&start);
            let mut full = None;
            while let Some((key, value)) = iter.entry().filter(|(key, _)| *key < &end[..]) {
                if entries.len() >= self.config.piece_bytes {
                    full = Some(Bytes::copy_from_slice(key));
                    break;
                }
                put_entry(&mut entries, key, value);
                iter.next();
            }
            iter.status()?;
            if let Some(key) = full {
                clears.push(Clear { start, end: key.clone() });
                break Some((span, key));
            }
            clears.push(Clear { start, end });
            span += 1;
            let Some(following) = spans.get(span) else { break None };
            start = following.start.clone();
            if following.cf != cf {
                break Some((span, start));
            }
        };
        let table_bytes = from.table_bytes + entries.len();
        let goes_on = next.as_ref().is_some_and(|(span, _)| spans[*span].cf == cf);
        let ends_table = !goes_on || table_bytes >= self.config.table_bytes;
        let family = Cf::ALL.iter().position(|of| *of == cf).expect("it is one of all") as u32;
        let piece = Piece {
            at: from.at,
            family,
            clears,
            checksum: crc32c::crc32c(&entries),
            entries: entries.into(),
            ends_table,
            is_last: next.is_none(),
        };
        let frame = Frame { piece: Some(piece), ..Frame::new(*range, *id) };
        let frame = Bytes::from(frame.encode_to_vec());
        self.unacknowledged_bytes += frame.len();
        self.unacknowledged.push_back((from.at, frame.clone()));
        self.next = next.map(|(span, key)| {
            let table_bytes = if ends_table { 0 } else { table_bytes };
            Position { at: from.at + 1, span, key, table_bytes }
        });
        self.positions.extend(self.next.clone());
        Ok(frame)
    }
}
