//! What stands in a range's log entries and in the `local` family.
//!
//! An entry's payload is a fixed header and a body:
//!
//! | bytes | what |
//! |---|---|
//! | 0 | format version |
//! | 1 | kind: command, lease or descriptor |
//! | 2–9 | sequence of the lease under which it was evaluated |
//! | 10–17 | lease index: rises from command to command of a lease |
//! | 18– | body: [`Effects`], [`LeaseGrant`] or [`RangeDescriptor`], protocol buffers |
//!
//! A descriptor is the context of a change of Raft's configuration, which is what stands in the entry.
//! The empty payload is raft-rs's own, at the start of a term.

use bytes::Bytes;
use cairn_kv::effects::Effects;
use cairn_kv::{Error, Result};
use prost::Message;

use crate::RangeId;
use crate::record::le64;
use crate::segment::Identity;

/// Newest payload format that this binary applies.
pub const PAYLOAD_FORMAT: u8 = 1;

/// Newest format of the values this crate keeps in `local`.
pub const LOCAL_FORMAT: u32 = 1;

const HEADER_BYTES: usize = 18;
const KIND_COMMAND: u8 = 1;
const KIND_LEASE: u8 = 2;
const KIND_DESCRIPTOR: u8 = 3;

/// An entry's payload, decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct Payload {
    /// Sequence of the lease it was proposed under.
    pub lease_sequence: u64,
    /// Its place among that lease's commands (R7).
    pub lease_index: u64,
    /// What it does.
    pub body: Body,
}

/// The body of a payload.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// An evaluated command.
    Command(Effects),
    /// A new lease, in place of the one with the header's sequence.
    Lease(LeaseGrant),
    /// The descriptor that a change of replicas leads to.
    Descriptor(RangeDescriptor),
}

/// A new lease.
#[derive(Clone, Copy, PartialEq, ::prost::Message)]
pub struct LeaseGrant {
    /// Its sequence.
    #[prost(uint64, tag = "1")]
    pub sequence: u64,
    /// Replica that holds it.
    #[prost(uint64, tag = "2")]
    pub holder: u64,
    /// Nothing was served under it below.
    #[prost(uint64, tag = "3")]
    pub start: u64,
}

/// Encodes a command. [`set_lease_index`] completes it when its order is known.
pub fn encode_command(lease_sequence: u64, effects: &Effects) -> Vec<u8> {
    encode(KIND_COMMAND, lease_sequence, effects)
}

/// Encodes a lease that follows the one with `previous` as its sequence.
pub fn encode_lease(previous: u64, grant: &LeaseGrant) -> Vec<u8> {
    encode(KIND_LEASE, previous, grant)
}

/// Encodes a descriptor, for a change at this place in a lease.
pub fn encode_change(lease_sequence: u64, lease_index: u64, descriptor: &RangeDescriptor) -> Vec<u8> {
    let mut payload = encode(KIND_DESCRIPTOR, lease_sequence, descriptor);
    set_lease_index(&mut payload, lease_index);
    payload
}

fn encode(kind: u8, lease_sequence: u64, body: &impl Message) -> Vec<u8> {
    let mut payload = Vec::with_capacity(HEADER_BYTES + body.encoded_len());
    payload.extend_from_slice(&[PAYLOAD_FORMAT, kind]);
    payload.extend_from_slice(&lease_sequence.to_le_bytes());
    payload.extend_from_slice(&[0; 8]);
    body.encode(&mut payload).expect("a Vec grows");
    payload
}

/// Gives a command its place in its lease.
pub fn set_lease_index(payload: &mut [u8], lease_index: u64) {
    payload[10..HEADER_BYTES].copy_from_slice(&lease_index.to_le_bytes());
}

/// The lease sequence and lease index of a payload.
pub fn lease_position(payload: &[u8]) -> Result<(u64, u64)> {
    check_header(payload)?;
    Ok((le64(&payload[2..]), le64(&payload[10..])))
}

impl Payload {
    /// Decodes a payload that is not empty.
    pub fn decode(payload: &[u8]) -> Result<Payload> {
        let (lease_sequence, lease_index) = lease_position(payload)?;
        let body = &payload[HEADER_BYTES..];
        let body = match payload[1] {
            KIND_COMMAND => Body::Command(Effects::decode(body).map_err(undecodable)?),
            KIND_LEASE => Body::Lease(LeaseGrant::decode(body).map_err(undecodable)?),
            KIND_DESCRIPTOR => Body::Descriptor(decode_descriptor(body)?),
            kind => return Err(Error::Corruption(format!("log entry of unknown kind {kind}"))),
        };
        Ok(Payload { lease_sequence, lease_index, body })
    }
}

fn check_header(payload: &[u8]) -> Result<()> {
    match payload.first() {
        Some(&format) if format > PAYLOAD_FORMAT => {
            Err(Error::NewerFormat { found: format.into(), supported: PAYLOAD_FORMAT.into() })
        }
        Some(_) if payload.len() >= HEADER_BYTES => Ok(()),
        _ => Err(Error::Corruption("log entry shorter than its header".into())),
    }
}

fn undecodable(error: prost::DecodeError) -> Error {
    Error::Corruption(format!("log entry does not decode: {error}"))
}

/// How far a range's state machine has come; written to `local` in the batch of each entry.
#[derive(Clone, Copy, PartialEq, ::prost::Message)]
pub struct RangeState {
    /// [`LOCAL_FORMAT`] of the writer.
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// Index of the last entry applied.
    #[prost(uint64, tag = "2")]
    pub index: u64,
    /// Its term.
    #[prost(uint64, tag = "3")]
    pub term: u64,
    /// Sequence of the lease in force; zero: none yet.
    #[prost(uint64, tag = "4")]
    pub lease_sequence: u64,
    /// Lease index of the last command applied under it.
    #[prost(uint64, tag = "5")]
    pub lease_index: u64,
    /// Replica that holds it.
    #[prost(uint64, tag = "6")]
    pub lease_holder: u64,
    /// Its start.
    #[prost(uint64, tag = "7")]
    pub lease_start: u64,
}

/// A range: its bounds and replicas. Kept in `local` under its start key.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct RangeDescriptor {
    /// [`LOCAL_FORMAT`] of the writer.
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// Identity.
    #[prost(uint64, tag = "2")]
    pub range: RangeId,
    /// First key.
    #[prost(bytes = "bytes", tag = "3")]
    pub start: Bytes,
    /// First key behind it; empty: no bound.
    #[prost(bytes = "bytes", tag = "4")]
    pub end: Bytes,
    /// Rises with every change of bounds or replicas.
    #[prost(uint64, tag = "5")]
    pub generation: u64,
    /// Its replicas.
    #[prost(message, repeated, tag = "6")]
    pub replicas: Vec<ReplicaDescriptor>,
    /// No replica has had this number or a higher one. Zero: not said, the highest there is counts.
    #[prost(uint64, tag = "7")]
    pub next_replica: u64,
}

/// A copy of a range.
#[derive(Clone, Copy, PartialEq, ::prost::Message)]
pub struct ReplicaDescriptor {
    /// Identity within the range; never reused. It is the Raft id.
    #[prost(uint64, tag = "1")]
    pub replica: u64,
    /// Store that has it.
    #[prost(uint64, tag = "2")]
    pub store: u64,
    /// Part in Raft's configuration.
    #[prost(enumeration = "ReplicaRole", tag = "3")]
    pub role: i32,
}

/// A replica's part in Raft's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub enum ReplicaRole {
    /// Votes.
    Voter = 0,
    /// Follows.
    Learner = 1,
    /// Votes in the old configuration only, while a change is under way.
    VoterOutgoing = 2,
    /// Becomes a learner when the change is complete.
    LearnerNext = 3,
    /// Votes in the new configuration only, while a change is under way.
    VoterIncoming = 4,
}

/// The engine's record of whose it is, against the log's [`Identity`].
#[derive(Clone, PartialEq, ::prost::Message)]
struct StoredIdentity {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(bytes = "bytes", tag = "2")]
    cluster: Bytes,
    #[prost(uint64, tag = "3")]
    store: u64,
}

/// Encodes the engine's identity.
pub fn encode_identity(identity: &Identity) -> Vec<u8> {
    let Identity { cluster, store } = *identity;
    StoredIdentity { format: LOCAL_FORMAT, cluster: Bytes::copy_from_slice(&cluster), store }.encode_to_vec()
}

/// Decodes the engine's identity.
pub fn decode_identity(value: &[u8]) -> Result<Identity> {
    let bad = || Error::Corruption("local: undecodable store identity".into());
    let stored = StoredIdentity::decode(value).map_err(|_| bad())?;
    check_local_format(stored.format)?;
    Ok(Identity { cluster: stored.cluster[..].try_into().map_err(|_| bad())?, store: stored.store })
}

/// Decodes a range's applied state.
pub fn decode_range_state(range: RangeId, value: &[u8]) -> Result<RangeState> {
    let state = RangeState::decode(value)
        .map_err(|_| Error::Corruption(format!("local: undecodable state of range {range}")))?;
    check_local_format(state.format)?;
    Ok(state)
}

/// Decodes a range's descriptor.
pub fn decode_descriptor(value: &[u8]) -> Result<RangeDescriptor> {
    let descriptor = RangeDescriptor::decode(value)
        .map_err(|_| Error::Corruption("local: undecodable range descriptor".into()))?;
    check_local_format(descriptor.format)?;
    Ok(descriptor)
}

fn check_local_format(found: u32) -> Result<()> {
    match found {
        0 => Err(Error::Corruption("local: a value without format version".into())),
        found if found > LOCAL_FORMAT => Err(Error::NewerFormat { found, supported: LOCAL_FORMAT }),
        _ => Ok(()),
    }
}
