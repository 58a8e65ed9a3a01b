//! What stores send one another for their Raft groups.
//!
//! A frame carries messages of several ranges, each as raft-rs's own bytes: its protocol buffers are those
//! of another version of `prost` than ours.

use bytes::Bytes;
use cairn_kv::{Error, Result};
use prost::Message as _;
use prost_011::Message as _;
use raft::eraftpb;

use crate::RangeId;

/// Newest format of frames.
const FORMAT: u32 = 1;

/// Bytes of messages that close a frame (R8): with one message more, which holds one command at least and
/// a MiB of them at most, it stays below twice the largest command.
pub const FRAME_BYTES: usize = 1 << 20;

/// Messages from one store to another.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct RaftFrame {
    /// [`FORMAT`] of the sender.
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// The life of the sender's store.
    #[prost(uint64, tag = "2")]
    pub incarnation: u64,
    /// Reading of the sender's hybrid clock.
    #[prost(uint64, tag = "3")]
    pub hlc: u64,
    /// The messages.
    #[prost(message, repeated, tag = "4")]
    pub messages: Vec<RangeMessage>,
}

/// A message of a range's group.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct RangeMessage {
    /// Which range.
    #[prost(uint64, tag = "1")]
    pub range: RangeId,
    /// The epoch in which the sender follows the receiver, supporting its store; zero: it does not.
    #[prost(uint64, tag = "2")]
    pub follows_in: u64,
    /// raft-rs's message.
    #[prost(bytes = "bytes", tag = "3")]
    pub raft: Bytes,
    /// From a leader: none of its followers needs the log up to here any more.
    #[prost(uint64, tag = "4")]
    pub passed: u64,
    /// The sender's replica, of this number, has not heard of a leader for long: is it one at all?
    #[prost(uint64, tag = "5")]
    pub asks: u64,
    /// The receiver's replica of this number was removed.
    #[prost(uint64, tag = "6")]
    pub removed: u64,
    /// From a leaseholder: where entry `closed_at` is applied, all is that commits at or below this timestamp;
    /// zero: nothing is said.
    #[prost(fixed64, tag = "7")]
    pub closed: u64,
    /// See `closed`.
    #[prost(uint64, tag = "8")]
    pub closed_at: u64,
    /// From a leader: nobody waits for what comes of it ([`crate::quorum`]).
    #[prost(bool, tag = "9")]
    pub unhurried: bool,
}

impl RaftFrame {
    /// An empty frame.
    pub fn new(incarnation: u64, hlc: u64) -> RaftFrame {
        RaftFrame { format: FORMAT, incarnation, hlc, messages: Vec::new() }
    }

    /// Decodes a frame.
    pub fn decode_frame(bytes: Bytes) -> Result<RaftFrame> {
        let frame = RaftFrame::decode(bytes)
            .map_err(|e| Error::Corruption(format!("undecodable frame of Raft messages: {e}")))?;
        if frame.format > FORMAT {
            return Err(Error::NewerFormat { found: frame.format, supported: FORMAT });
        }
        Ok(frame)
    }

    /// Whether nobody waits for what comes of any of its messages.
    pub fn is_unhurried(&self) -> bool {
        self.messages.iter().all(|message| message.unhurried)
    }
}

impl RangeMessage {
    /// Encodes a message.
    pub fn new(range: RangeId, follows_in: u64, message: &eraftpb::Message) -> RangeMessage {
        let raft = Bytes::from(message.encode_to_vec());
        RangeMessage { range, follows_in, raft, ..RangeMessage::default() }
    }

    /// Asks whether a replica still is one.
    pub fn ask(range: RangeId, replica: u64) -> RangeMessage {
        RangeMessage { range, asks: replica, ..RangeMessage::default() }
    }

    /// Says that a replica was removed.
    pub fn removed(range: RangeId, replica: u64) -> RangeMessage {
        RangeMessage { range, removed: replica, ..RangeMessage::default() }
    }

    /// Says what is closed where entry `index` is applied.
    pub fn closed(range: RangeId, index: u64, upto: u64) -> RangeMessage {
        RangeMessage { range, closed: upto, closed_at: index, ..RangeMessage::default() }
    }

    /// raft-rs's message.
    pub fn message(&self) -> Result<eraftpb::Message> {
        eraftpb::Message::decode(&self.raft[..])
            .map_err(|e| Error::Corruption(format!("undecodable Raft message of range {}: {e}", self.range)))
    }
}
