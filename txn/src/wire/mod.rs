//! The boundary between gateway and leaseholder: what a request is when they are on different nodes.
//!
//! # Who calls whom
//!
//! A [`crate::Txn`] belongs to a node's gateway; what it asks for is done by the range's leaseholder.
//! Where both are one node, the gateway calls [`crate::leaseholder::Leaseholder`] as functions on plain
//! arguments: nothing is encoded, boxed or copied. Where they are not, each such function has a message
//! here; the gateway ([`crate::gateway::remote`]) encodes it and hands it to a [`Remote`] (between nodes:
//! [`calls`]), and the other side ([`crate::leaseholder::serve`]) decodes it, calls the same functions and answers.
//!
//! A leaseholder lives as long as its store has the lease ([`crate::leaseholder::tenure`]). A transaction belongs to
//! where the lease was when it began to do something: at a leaseholder that was local it fails once that tenure is
//! over; through messages it follows the lease, even back to its own node.
//! Where the lease is a gateway learns from its own store's replica or from whoever it asks in vain, or it asks all
//! contacts in turn. A call is given up when the peer is silent, or when the replica hears that somebody else leads.
//!
//! # What may be lost, doubled or late
//!
//! Anything: a [`Remote`] says of a call either that it was certainly not executed, or that it is unknown.
//! Requests fall into two kinds.
//!
//! - **Looks** (points, chunks of scans, refreshes, drawing a snapshot, what became of a commit) only read, or may be
//!   done twice. They are sent again until they are answered, and hold no state at the leaseholder.
//! - **Steps** of a transaction (locks, locking reads, intents, commit, end) change what the leaseholder
//!   knows of it: its *session*. A session is named by the gateway and a number that the gateway drew; its
//!   steps are numbered from one. The leaseholder takes them in order, answers a step that it has taken
//!   from memory, and refuses an older one. A newer step means that nobody waits for the one under way
//!   (the client is gone): it is canceled first. [`Cancel`] cancels a step that is waited for.
//!
//! A session begins with step one and ends with its commit or [`End`]. Ended numbers are remembered as
//! intervals, so a copy of a request that arrives late begins nothing. Every request says below which
//! number all transactions of its gateway have ended, which ends sessions whose [`End`] was lost and lets
//! the intervals go. When a gateway is gone (it has said nothing for two seconds, though while it has something here
//! it announces that twice a second; or a later incarnation of it calls), all of its sessions are ended: locks
//! released, intents aborted. If it comes back all the same it goes on as another incarnation.
//!
//! Only who has the lease says that something did not happen: a refusal, or that a session is unknown, is answered
//! after the lease was confirmed. Otherwise the request is answered as one that was not for this node and was perhaps
//! begun; it goes to the next leaseholder, and the gateway counts the attempt as one whose effect is unknown.
//!
//! The session keeps what its locks were taken for: what was seen under them, and what was staged. So a commit carries writes and reads, and
//! what does not fit into one message (of reads) is staged before in pieces.
//!
//! # A commit happens once
//!
//! A commit whose answer is lost is a step as any other while its session is remembered. Where it is not,
//! because the leaseholder is another one or restarted, the commit marker (R7) tells: the request names the
//! transaction by anchor, start timestamp and id, and the newest lease that the gateway knew of when it first sent it. Whoever
//! has another lease executes nothing unless it knows the session: a marker means that it is committed; none means that
//! it never will be, as commands of earlier leases do not apply any more, and that it may be sent again as one for
//! this lease; and where markers of that time are gone the outcome stays unknown (40003). In the same way a commit
//! at a local leaseholder is found out about ([`FindCommit`]) whose store cannot say whether it took effect.
//!
//! Sessions outlive the lease as far as their gateway can tell the next leaseholder of them, which asks for them
//! ([`Tell`], [`crate::leaseholder::resume`]). Any other step without its session fails as a conflict (40001): locks in memory were lost. Stamps
//! ([`crate::leaseholder::slot::Stamp`]) are worth something only to the lease they were taken under, which
//! goes with them; others are not believed, and the engine is asked.
//!
//! # Time
//!
//! Each request and each answer shows the sender's clock, and the receiver's passes it before it goes on, unless no
//! clock within its limits can show that.
//!
//! **Snapshots are drawn at the leaseholder**, by the first request that reads at them (its `read_ts` is zero), or by
//! a [`Draw`] where the timestamp is needed before. Whatever was acknowledged before the request was made was applied
//! at a leaseholder whose clock had passed it: this one, or one of an earlier lease, above all of whose commits this lease
//! begins. That this one still is the leaseholder is confirmed after the draw. So a snapshot lies above
//! everything that was acknowledged before it was asked for, however the clocks of the two nodes differ: with one range
//! there is no uncertainty. Where a snapshot moves (a refresh), the gateway's own clock will do, which has passed what
//! made it move.
//!
//! A gateway registers its read timestamps itself ([`crate::leaseholder::live`]), and each request announces
//! the oldest, which is pinned at the leaseholder until a later announcement. Before it asks for a snapshot it pins a
//! timestamp below. A new leaseholder collects nothing for a few seconds, in which all gateways announce.
//!
//! # What others have changed
//!
//! A gateway that keeps something of a watched span in memory (SQL's catalog) is told with each answer how much others
//! have committed there, and may ask for a snapshot on the condition that this is still what it knows
//! ([`crate::leaseholder::watched`], [`crate::Txn::expect`]).
//!
//! # Limits
//!
//! A message is at most [`MAX_MESSAGE_BYTES`]: a command's worth of writes and some reads; or one value and
//! a chunk of rows. Versions: a request of a newer version is refused; a replicated cluster version will
//! say which one may be sent (DESIGN §4).
//!
//! # What is to come
//!
//! There is one range, and each request names it. With several, a transaction has a session at each
//! leaseholder, a scan stops at the range's end as it does at its chunk's, and a parallel commit is
//! intents of several with the record listing them.

pub mod calls;
pub(crate) mod convert;
mod error;
mod message;

use bytes::Bytes;
use cairn_kv::seam::BoxFuture;

pub use cairn_kv::seam::NodeId;
pub use message::*;

/// Newest version of requests and answers that this binary understands; the one it sends.
pub const WIRE_VERSION: u32 = 2;

/// No encoded request or answer is longer.
pub const MAX_MESSAGE_BYTES: usize = (4 << 20) + (1 << 20);

/// The way to the leaseholder on another node.
pub trait Remote: Send + Sync {
    /// Has `request` executed by [`crate::Db::serve`] of `node`, and returns its answer. Dropping the future
    /// does not take the request back.
    fn call(&self, node: NodeId, request: Bytes) -> BoxFuture<'_, Result<Bytes, CallError>>;
}

/// Why a call has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// Certainly not executed: the node could not be reached.
    #[error("not sent: {0}")]
    NotSent(String),
    /// It may have been executed, or may be yet.
    #[error("no answer: {0}")]
    Unknown(String),
}
