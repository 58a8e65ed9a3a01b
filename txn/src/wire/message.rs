//! Requests and answers, as protocol buffers.

use bytes::Bytes;
use cairn_kv::mvcc::ProvisionalValue;

/// A node's gateway, from its start to its end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ::prost::Message)]
pub struct Gateway {
    /// The node.
    #[prost(uint64, tag = "1")]
    pub node: u64,
    /// Rises with every start of the node.
    #[prost(uint64, tag = "2")]
    pub incarnation: u64,
}

/// A request to the leaseholder of a range.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Request {
    /// [`super::WIRE_VERSION`] of the sender.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// The range.
    #[prost(uint64, tag = "2")]
    pub range: u64,
    /// Who asks.
    #[prost(message, required, tag = "3")]
    pub gateway: Gateway,
    /// The sender's clock.
    #[prost(fixed64, tag = "4")]
    pub now: u64,
    /// Rises from request to request of a gateway: of two announcements the later one counts.
    #[prost(uint64, tag = "5")]
    pub announcement: u64,
    /// Oldest read timestamp in use at the gateway; zero: none.
    #[prost(fixed64, tag = "6")]
    pub oldest_read: u64,
    /// The gateway's transactions with lower numbers have ended.
    #[prost(uint64, tag = "7")]
    pub oldest_txn: u64,
    /// The transaction, where it has a session.
    #[prost(message, optional, tag = "8")]
    pub txn: Option<TxnRef>,
    /// Set where a snapshot that is drawn or moved is only of use if the watch is still this.
    #[prost(message, optional, tag = "9")]
    pub expected: Option<WatchRef>,
    /// A step: objects that are to be locked before it is taken.
    #[prost(message, optional, tag = "10")]
    pub objects: Option<Objects>,
    /// What is asked for.
    #[prost(oneof = "Body", tags = "16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32")]
    pub body: Option<Body>,
}

/// Objects that a transaction locks shared.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Objects {
    /// Their keys in the lock table.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub keys: Vec<Bytes>,
    /// What is to be done with them was planned under this watch: once they are locked it has to be the present one.
    #[prost(message, optional, tag = "2")]
    pub expected: Option<WatchRef>,
}

/// A [`crate::Watch`] as it is sent.
#[derive(Clone, Copy, PartialEq, ::prost::Message)]
pub struct WatchRef {
    /// Sequence of the lease under which it is counted.
    #[prost(uint64, tag = "1")]
    pub lease: u64,
    /// Commits by other nodes' gateways.
    #[prost(uint64, tag = "2")]
    pub count: u64,
}

/// A transaction with a session at the leaseholder.
#[derive(Clone, Copy, PartialEq, ::prost::Message)]
pub struct TxnRef {
    /// Its number at its gateway.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// Which of its steps this is, from one; a look has zero.
    #[prost(uint64, tag = "2")]
    pub step: u64,
    /// Its SQL session, for messages.
    #[prost(uint64, tag = "3")]
    pub session: u64,
    /// Microseconds that the step may wait for a lock; absent: for ever.
    #[prost(uint64, optional, tag = "4")]
    pub lock_timeout: Option<u64>,
    /// The lease under which the last step was taken that was answered; zero: none was.
    #[prost(uint64, tag = "5")]
    pub lease: u64,
}

/// What is asked for.
#[derive(Clone, PartialEq, ::prost::Oneof)]
pub enum Body {
    /// Nothing: the request only announces.
    #[prost(message, tag = "16")]
    Announce(Announce),
    /// Points.
    #[prost(message, tag = "17")]
    Points(Points),
    /// A chunk of a scan.
    #[prost(message, tag = "18")]
    Chunk(Chunk),
    /// Whether what was read is unchanged.
    #[prost(message, tag = "19")]
    Refresh(Refresh),
    /// A step: a lock, and perhaps a read under it.
    #[prost(message, tag = "20")]
    Lock(Lock),
    /// A step: reads that will count for the commit.
    #[prost(message, tag = "21")]
    Stage(Stage),
    /// A step: intents.
    #[prost(message, tag = "22")]
    WriteIntents(WriteIntents),
    /// A step, the last one: a commit by one command.
    #[prost(message, tag = "23")]
    Commit(Commit),
    /// A step, the last one: the commit of intents.
    #[prost(message, tag = "24")]
    CommitIntents(CommitIntents),
    /// A step, the last one: nothing is committed.
    #[prost(message, tag = "25")]
    End(End),
    /// The step under way is not wanted any more.
    #[prost(message, tag = "26")]
    Cancel(Cancel),
    /// A step of its own: garbage is collected.
    #[prost(message, tag = "27")]
    CollectGarbage(CollectGarbage),
    /// A span is removed.
    #[prost(message, tag = "28")]
    ClearSpan(Span),
    /// A snapshot is drawn.
    #[prost(message, tag = "29")]
    Draw(Draw),
    /// What has become of a commit.
    #[prost(message, tag = "30")]
    FindCommit(FindCommit),
    /// The watch, once nothing that concerns it is under way.
    #[prost(message, tag = "31")]
    AskWatch(Draw),
    /// To a gateway, by who has a new lease: what sessions does it have?
    #[prost(message, tag = "32")]
    Tell(Tell),
}

/// See [`Body::Announce`].
#[derive(Clone, Copy, PartialEq, ::prost::Message)]
pub struct Announce {}

/// See [`Body::Draw`].
#[derive(Clone, Copy, PartialEq, ::prost::Message)]
pub struct Draw {}

/// Asks a gateway for its sessions.
#[derive(Clone, Copy, PartialEq, ::prost::Message)]
pub struct Tell {
    /// Sequence of the new lease. Answers under earlier ones count for nothing at the gateway from now on.
    #[prost(uint64, tag = "1")]
    pub lease: u64,
}

/// A gateway's sessions.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Told {
    /// The gateway.
    #[prost(message, required, tag = "1")]
    pub gateway: Gateway,
    /// As in a [`Request`].
    #[prost(uint64, tag = "2")]
    pub announcement: u64,
    /// As in a [`Request`].
    #[prost(fixed64, tag = "3")]
    pub oldest_read: u64,
    /// As in a [`Request`].
    #[prost(uint64, tag = "4")]
    pub oldest_txn: u64,
    /// Those that can go on.
    #[prost(message, repeated, tag = "5")]
    pub sessions: Vec<OpenSession>,
}

/// A session between two steps.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct OpenSession {
    /// The transaction, with the last step that was answered.
    #[prost(message, required, tag = "1")]
    pub txn: TxnRef,
    /// In the order in which they were taken; a key may be there several times.
    #[prost(message, repeated, tag = "2")]
    pub locks: Vec<OpenLock>,
}

/// A lock of an open session.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct OpenLock {
    /// The key.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// Exclusively.
    #[prost(bool, tag = "2")]
    pub exclusive: bool,
    /// The timestamp of the version that was seen under it; zero: there was none.
    #[prost(fixed64, optional, tag = "3")]
    pub seen: Option<u64>,
}

/// Asks for the outcome of a commit that was proposed under an earlier lease.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct FindCommit {
    /// The transaction.
    #[prost(message, required, tag = "1")]
    pub identity: Identity,
    /// Sequence of that lease.
    #[prost(uint64, tag = "2")]
    pub lease: u64,
}

/// What a transaction's reads see of its intents.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct OwnView {
    /// Writes up to this sequence number.
    #[prost(uint32, tag = "1")]
    pub seq: u32,
    /// But not these: pairs first, last.
    #[prost(uint32, repeated, tag = "2")]
    pub ignored: Vec<u32>,
}

/// Reads some keys.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Points {
    /// The keys.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub keys: Vec<Bytes>,
    /// The snapshot; zero: it is drawn.
    #[prost(fixed64, tag = "2")]
    pub read_ts: u64,
    /// Set where the transaction has intents.
    #[prost(message, optional, tag = "3")]
    pub own: Option<OwnView>,
}

/// Reads from one end of a span.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Chunk {
    /// The span that is left.
    #[prost(message, required, tag = "1")]
    pub span: Span,
    /// From its end.
    #[prost(bool, tag = "2")]
    pub reverse: bool,
    /// The snapshot; zero: it is drawn.
    #[prost(fixed64, tag = "3")]
    pub read_ts: u64,
    /// Set where the transaction has intents.
    #[prost(message, optional, tag = "4")]
    pub own: Option<OwnView>,
    /// Rows that are wanted.
    #[prost(uint32, tag = "5")]
    pub max_rows: u32,
}

/// A span of keys.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Span {
    /// First key.
    #[prost(bytes = "bytes", tag = "1")]
    pub start: Bytes,
    /// First key behind; empty: no bound.
    #[prost(bytes = "bytes", tag = "2")]
    pub end: Bytes,
}

/// A key that was read.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct PointRead {
    /// The key.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// Its slot's stamp then.
    #[prost(fixed32, tag = "2")]
    pub stamp: u32,
}

/// What was read.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Reads {
    /// Sequence of the lease under which the stamps were taken; zero: of several.
    #[prost(uint64, tag = "1")]
    pub lease: u64,
    /// Keys.
    #[prost(message, repeated, tag = "2")]
    pub points: Vec<PointRead>,
    /// Spans.
    #[prost(message, repeated, tag = "3")]
    pub spans: Vec<Span>,
}

/// Asks whether what was read at one timestamp is still true at a later one.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Refresh {
    /// What was read, or a piece of it.
    #[prost(message, required, tag = "1")]
    pub reads: Reads,
    /// When.
    #[prost(fixed64, tag = "2")]
    pub after: u64,
    /// Until when it must be true.
    #[prost(fixed64, tag = "3")]
    pub upto: u64,
    /// The transaction has intents, which do not count.
    #[prost(bool, tag = "4")]
    pub has_intents: bool,
}

/// Locks a key.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Lock {
    /// The key.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// Exclusively.
    #[prost(bool, tag = "2")]
    pub exclusive: bool,
    /// Then reads it.
    #[prost(message, optional, tag = "3")]
    pub read: Option<ReadLocked>,
}

/// Reads a locked key's newest version.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ReadLocked {
    /// The snapshot; zero: it is drawn once the key is locked.
    #[prost(fixed64, tag = "1")]
    pub read_ts: u64,
    /// Set where the transaction has intents.
    #[prost(message, optional, tag = "2")]
    pub own: Option<OwnView>,
}

/// See [`Body::Stage`].
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Stage {
    /// A piece of what was read.
    #[prost(message, required, tag = "1")]
    pub reads: Reads,
}

/// What identifies a transaction in what it writes.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Identity {
    /// Random, 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub txn_id: Bytes,
    /// Its first written key.
    #[prost(bytes = "bytes", tag = "2")]
    pub anchor: Bytes,
    /// Its first read timestamp.
    #[prost(fixed64, tag = "3")]
    pub start_ts: u64,
}

/// Isolation levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub enum Level {
    /// A snapshot per statement.
    ReadCommitted = 0,
    /// One snapshot.
    RepeatableRead = 1,
    /// As if one after the other.
    Serializable = 2,
}

/// A key's values.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Write {
    /// The key.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// Values by sequence number; never empty.
    #[prost(message, repeated, tag = "2")]
    pub values: Vec<ProvisionalValue>,
}

/// Lays intents.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct WriteIntents {
    /// The transaction.
    #[prost(message, required, tag = "1")]
    pub identity: Identity,
    /// Its isolation level.
    #[prost(enumeration = "Level", tag = "2")]
    pub level: i32,
    /// Where it read.
    #[prost(fixed64, tag = "3")]
    pub read_ts: u64,
    /// Ascending by key; never empty.
    #[prost(message, repeated, tag = "4")]
    pub writes: Vec<Write>,
    /// None of the keys may exist, as the transaction sees its own intents.
    #[prost(message, optional, tag = "5")]
    pub absent: Option<OwnView>,
}

/// Commits by one command.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Commit {
    /// The transaction.
    #[prost(message, required, tag = "1")]
    pub identity: Identity,
    /// Its isolation level.
    #[prost(enumeration = "Level", tag = "2")]
    pub level: i32,
    /// Where it read.
    #[prost(fixed64, tag = "3")]
    pub read_ts: u64,
    /// Ascending by key; never empty.
    #[prost(message, repeated, tag = "4")]
    pub writes: Vec<Write>,
    /// None of the keys may exist.
    #[prost(bool, tag = "5")]
    pub absent: bool,
    /// What it read beside what was staged.
    #[prost(message, required, tag = "6")]
    pub reads: Reads,
    /// The newest lease that its gateway knew of when it was sent first: under an earlier one it certainly did not take
    /// effect, nor under a later one for as long as that has not seen it.
    #[prost(uint64, tag = "7")]
    pub lease: u64,
}

/// Commits what was written as intents.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct CommitIntents {
    /// The transaction.
    #[prost(message, required, tag = "1")]
    pub identity: Identity,
    /// Its isolation level.
    #[prost(enumeration = "Level", tag = "2")]
    pub level: i32,
    /// Where it read.
    #[prost(fixed64, tag = "3")]
    pub read_ts: u64,
    /// Sequence numbers that were rolled back: pairs first, last.
    #[prost(uint32, repeated, tag = "4")]
    pub ignored: Vec<u32>,
    /// What it read beside what was staged.
    #[prost(message, required, tag = "5")]
    pub reads: Reads,
}

/// Ends a transaction that writes nothing: locks go, intents are aborted.
#[derive(Clone, Copy, PartialEq, ::prost::Message)]
pub struct End {
    /// What was seen under locks is confirmed to be true here, before they go; zero: not wanted.
    #[prost(fixed64, tag = "1")]
    pub confirm_at: u64,
}

/// See [`Body::Cancel`].
#[derive(Clone, Copy, PartialEq, ::prost::Message)]
pub struct Cancel {
    /// The transaction's number.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// The step.
    #[prost(uint64, tag = "2")]
    pub step: u64,
}

/// Collects the garbage of some spans.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct CollectGarbage {
    /// The spans.
    #[prost(message, repeated, tag = "1")]
    pub spans: Vec<Span>,
}

/// The answer to a request.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Answer {
    /// [`super::WIRE_VERSION`] of the sender.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// The sender's clock.
    #[prost(fixed64, tag = "2")]
    pub now: u64,
    /// Sequence of the lease under which it was given.
    #[prost(uint64, tag = "3")]
    pub lease: u64,
    /// Reads below it fail.
    #[prost(fixed64, tag = "4")]
    pub gc_threshold: u64,
    /// The count of the gateway's [`WatchRef`] under that lease.
    #[prost(uint64, tag = "5")]
    pub watch_count: u64,
    /// How it went.
    #[prost(oneof = "Outcome", tags = "16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27")]
    pub outcome: Option<Outcome>,
}

/// How a request went.
#[derive(Clone, PartialEq, ::prost::Oneof)]
pub enum Outcome {
    /// Done; there is nothing to tell.
    #[prost(message, tag = "16")]
    Done(Done),
    /// Failed.
    #[prost(message, tag = "17")]
    Failed(Failure),
    /// Not executed: the leaseholder is elsewhere.
    #[prost(message, tag = "18")]
    NotLeaseholder(NotLeaseholder),
    /// Not executed: the transaction has no session (any more), or a later step.
    #[prost(message, tag = "19")]
    NoSession(Done),
    /// Some of the points, from the first one on.
    #[prost(message, tag = "20")]
    Points(FoundPoints),
    /// Rows of a scan.
    #[prost(message, tag = "21")]
    Rows(Rows),
    /// Refreshed: the points' stamps now.
    #[prost(message, tag = "22")]
    Stamps(Stamps),
    /// Locked and read.
    #[prost(message, tag = "23")]
    Locked(Locked),
    /// Committed at a timestamp.
    #[prost(fixed64, tag = "24")]
    Committed(u64),
    /// Not executed: the gateway's node has been declared dead; it goes on as another incarnation.
    #[prost(message, tag = "25")]
    GatewayGone(Done),
    /// A snapshot that was drawn.
    #[prost(fixed64, tag = "26")]
    Drawn(u64),
    /// A gateway's sessions.
    #[prost(message, tag = "27")]
    Told(Told),
}

/// Nothing to tell.
#[derive(Clone, Copy, PartialEq, ::prost::Message)]
pub struct Done {}

/// See [`Outcome::NotLeaseholder`].
#[derive(Clone, Copy, PartialEq, ::prost::Message)]
pub struct NotLeaseholder {
    /// The node that has the lease, as far as the sender knows.
    #[prost(uint64, optional, tag = "1")]
    pub leaseholder: Option<u64>,
    /// It was begun here under a lease that is over since: what was proposed of it may take effect all the same.
    #[prost(bool, tag = "2")]
    pub was_begun: bool,
}

/// Points that were found.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct FoundPoints {
    /// In the order of the request.
    #[prost(message, repeated, tag = "1")]
    pub points: Vec<FoundPoint>,
    /// The snapshot.
    #[prost(fixed64, tag = "2")]
    pub read_ts: u64,
}

/// A point that was found, or found absent.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct FoundPoint {
    /// Its value.
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub value: Option<Bytes>,
    /// Its slot's stamp.
    #[prost(fixed32, tag = "2")]
    pub stamp: u32,
    /// It is the transaction's own write: nothing else was read.
    #[prost(bool, tag = "3")]
    pub is_own: bool,
}

/// Rows of a scan.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Rows {
    /// In the scan's order.
    #[prost(message, repeated, tag = "1")]
    pub rows: Vec<Row>,
    /// Where to go on; absent: at the end.
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub resume: Option<Bytes>,
    /// The snapshot.
    #[prost(fixed64, tag = "3")]
    pub read_ts: u64,
}

/// A row.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Row {
    /// Its key.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// Its value.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

/// Stamps of points.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Stamps {
    /// In the order of the request.
    #[prost(fixed32, repeated, tag = "1")]
    pub stamps: Vec<u32>,
}

/// What was found under a lock.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Locked {
    /// The value.
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub value: Option<Bytes>,
    /// Timestamp of the newest version; zero: none.
    #[prost(fixed64, tag = "2")]
    pub ts: u64,
    /// It was written after the snapshot: ask again with one that has moved.
    #[prost(bool, tag = "3")]
    pub newer: bool,
    /// It is the transaction's own write: nothing else was read.
    #[prost(bool, tag = "4")]
    pub is_own: bool,
    /// The snapshot.
    #[prost(fixed64, tag = "5")]
    pub read_ts: u64,
}

/// What kind of failure it is: [`crate::TxnError`]'s variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub enum FailureKind {
    /// Not a kind.
    Unspecified = 0,
    /// A conflict.
    Retry = 1,
    /// A key exists.
    Exists = 2,
    /// A deadlock.
    Deadlock = 3,
    /// `lock_timeout`.
    LockTimeout = 4,
    /// Canceled.
    Canceled = 5,
    /// The outcome is unknown.
    Ambiguous = 6,
    /// A snapshot below what is kept.
    SnapshotTooOld = 7,
    /// Above a limit.
    TooLarge = 8,
    /// A write where none is allowed.
    ReadOnly = 9,
    /// Not now.
    Unavailable = 10,
    /// Storage is corrupt.
    Corruption = 11,
    /// Storage failed.
    Io = 12,
    /// Storage of a newer binary.
    NewerFormat = 13,
    /// The watch is another.
    Stale = 14,
}

/// A failure.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Failure {
    /// What kind.
    #[prost(enumeration = "FailureKind", tag = "1")]
    pub kind: i32,
    /// Reason or circle, in words.
    #[prost(string, tag = "2")]
    pub text: String,
    /// The key in conflict.
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub key: Option<Bytes>,
    /// The other SQL session.
    #[prost(uint64, optional, tag = "4")]
    pub other_session: Option<u64>,
    /// What was too low or too new, and what is known: timestamps or versions.
    #[prost(fixed64, tag = "5")]
    pub found: u64,
    /// See there.
    #[prost(fixed64, tag = "6")]
    pub known: u64,
}
