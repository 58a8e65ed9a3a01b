//! Messages of the service Admin, and rows of the registry.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Where a node is.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ::prost::Message)]
pub struct Peer {
    /// Its number.
    #[prost(uint64, tag = "1")]
    pub node: u64,
    /// Where other nodes reach it, `HOST:PORT`.
    #[prost(string, tag = "2")]
    pub rpc_address: String,
    /// Where clients reach it, `HOST:PORT`.
    #[prost(string, tag = "3")]
    pub sql_address: String,
}

/// A row of the registry.
#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub struct Member {
    /// Its node.
    #[prost(message, required, tag = "1")]
    pub peer: Peer,
    /// What its directory is known by.
    #[prost(bytes = "bytes", tag = "2")]
    pub token: Bytes,
}

/// Asks a waiting node to found the cluster.
#[derive(Clone, Copy, PartialEq, ::prost::Message)]
pub struct InitRequest {}

/// The cluster is founded.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct InitAnswer {
    /// Its identity.
    #[prost(bytes = "bytes", tag = "1")]
    pub cluster: Bytes,
}

/// Asks for a place in the cluster.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct JoinRequest {
    /// What the asking node's directory is known by.
    #[prost(bytes = "bytes", tag = "1")]
    pub token: Bytes,
    /// Where other nodes reach it.
    #[prost(string, tag = "2")]
    pub rpc_address: String,
    /// Where clients reach it.
    #[prost(string, tag = "3")]
    pub sql_address: String,
}

/// A node has its place.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct JoinAnswer {
    /// The cluster's identity.
    #[prost(bytes = "bytes", tag = "1")]
    pub cluster: Bytes,
    /// Its number there.
    #[prost(uint64, tag = "2")]
    pub node: u64,
    /// The other nodes.
    #[prost(message, repeated, tag = "3")]
    pub peers: Vec<Peer>,
}

/// Asks how nodes are.
#[derive(Clone, Copy, PartialEq, ::prost::Message)]
pub struct StatusRequest {
    /// Only the one that is asked; else all, of which it asks the others.
    #[prost(bool, tag = "1")]
    pub only_here: bool,
}

/// How nodes are.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct StatusAnswer {
    /// By number; the node that was asked may have none.
    #[prost(message, repeated, tag = "1")]
    pub nodes: Vec<NodeStatus>,
}

/// How a node is.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct NodeStatus {
    /// Which one, and where; number zero: it belongs to no cluster yet.
    #[prost(message, required, tag = "1")]
    pub peer: Peer,
    /// It has answered.
    #[prost(bool, tag = "2")]
    pub is_live: bool,
    /// What its directory is known by.
    #[prost(bytes = "bytes", tag = "3")]
    pub token: Bytes,
    /// The cluster it belongs to; empty: none.
    #[prost(bytes = "bytes", tag = "4")]
    pub cluster: Bytes,
    /// It is about to found a cluster.
    #[prost(bool, tag = "5")]
    pub is_founding: bool,
    /// It serves SQL.
    #[prost(bool, tag = "6")]
    pub is_serving: bool,
    /// It has the range's lease.
    #[prost(bool, tag = "7")]
    pub has_lease: bool,
    /// The range's replicas, where it has the lease.
    #[prost(message, repeated, tag = "8")]
    pub replicas: Vec<ReplicaStatus>,
    /// How long it runs.
    #[prost(uint64, tag = "9")]
    pub uptime_seconds: u64,
    /// Its program's version.
    #[prost(string, tag = "10")]
    pub version: String,
}

/// How a replica is, as its leader knows.
#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub struct ReplicaStatus {
    /// The node that has it.
    #[prost(uint64, tag = "1")]
    pub node: u64,
    /// Its part, for people.
    #[prost(string, tag = "2")]
    pub role: String,
    /// It has the log up to this entry.
    #[prost(uint64, tag = "3")]
    pub matched: u64,
    /// Entries that it lacks.
    #[prost(uint64, tag = "4")]
    pub behind: u64,
    /// It is filled by a snapshot.
    #[prost(bool, tag = "5")]
    pub needs_snapshot: bool,
}
