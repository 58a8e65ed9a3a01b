//! The registry: a table of all nodes that there are, by number.
//!
//! Numbers are given by transactions that lock the row of the next one, so each is given once, and to one token. A
//! node that founds a cluster has its number by that, and enters itself; as does every node when it is started, for
//! it may have moved.

use std::sync::Arc;

use bytes::Bytes;
use cairn_kv::seam::NodeId;
use cairn_sql::catalog::store::{scan_all, system_key};
use cairn_sql::storage::ids;
use cairn_sql::{Result, SqlError, SqlState};
use cairn_txn::{Db, Txn, TxnOptions};
use prost::Message as _;

use super::FIRST_NODE;
use super::message::{Member, Peer};

/// The row that has the next number instead of a node.
const NEXT: u64 = 0;

/// How often a change is tried that meets others.
const ATTEMPTS: u32 = 20;

/// All nodes, by number.
pub async fn members(db: &Arc<Db>) -> Result<Vec<Member>> {
    let mut txn = db.begin(TxnOptions { read_only: true, ..TxnOptions::default() });
    let members = async {
        txn.begin_statement().await?;
        read(&mut txn).await
    };
    let members = members.await;
    txn.rollback().await;
    members
}

/// The number of the node whose directory is known by `token`: the one that it has, or a new one. The node is where
/// `rpc_address` and `sql_address` say.
pub async fn admit(db: &Arc<Db>, token: &[u8], rpc_address: &str, sql_address: &str) -> Result<NodeId> {
    let peer = Peer { node: NEXT, rpc_address: rpc_address.into(), sql_address: sql_address.into() };
    let asking = Member { peer, token: Bytes::copy_from_slice(token) };
    again(|| try_admit(db, &asking)).await
}

async fn try_admit(db: &Arc<Db>, asking: &Member) -> Result<NodeId> {
    let mut txn = db.begin(TxnOptions::default());
    txn.begin_statement().await?;
    let next = next_number(&mut txn).await?;
    let members = read(&mut txn).await?;
    let known = members.iter().find(|member| member.token == asking.token);
    let mut member = asking.clone();
    member.peer.node = known.map_or(next, |known| known.peer.node);
    if known.is_none() {
        put(&mut txn, NEXT, (next + 1).to_le_bytes().to_vec()).await?;
    }
    if known != Some(&member) {
        put(&mut txn, member.peer.node, member.encode_to_vec()).await?;
    }
    txn.commit().await?;
    Ok(member.peer.node)
}

/// Enters the node itself, where it is now. False: its number is another directory's.
pub async fn announce(db: &Arc<Db>, me: &Member) -> Result<bool> {
    if members(db).await?.contains(me) {
        return Ok(true);
    }
    again(|| try_announce(db, me)).await
}

async fn try_announce(db: &Arc<Db>, me: &Member) -> Result<bool> {
    let mut txn = db.begin(TxnOptions::default());
    txn.begin_statement().await?;
    // Whoever asks for a number at the same time waits.
    next_number(&mut txn).await?;
    let mut members = read(&mut txn).await?.into_iter();
    if members.any(|member| member.peer.node == me.peer.node && member.token != me.token) {
        return Ok(false);
    }
    put(&mut txn, me.peer.node, me.encode_to_vec()).await?;
    txn.commit().await?;
    Ok(true)
}

/// Does work again that met others.
async fn again<T, F: Future<Output = Result<T>>>(work: impl Fn() -> F) -> Result<T> {
    let mut attempt = 0;
    loop {
        match work().await {
            Err(error) if error.fields().retryable && attempt < ATTEMPTS => attempt += 1,
            done => return done,
        }
    }
}

/// The next number, under a lock.
async fn next_number(txn: &mut Txn) -> Result<NodeId> {
    let Some(value) = txn.get_for_update(&system_key(ids::NODES, NEXT)).await? else {
        return Ok(FIRST_NODE + 1);
    };
    let bytes = value[..].try_into().map_err(|_| malformed())?;
    Ok(NodeId::from_le_bytes(bytes))
}

async fn put(txn: &mut Txn, node: NodeId, value: Vec<u8>) -> Result<()> {
    let key = system_key(ids::NODES, node);
    txn.get_for_update(&key).await?;
    txn.put(key, value.into()).await?;
    Ok(())
}

async fn read(txn: &mut Txn) -> Result<Vec<Member>> {
    let rows = scan_all(txn, ids::NODES).await?;
    let members = rows.into_iter().filter(|(node, _)| *node != NEXT);
    members.map(|(_, value)| Member::decode(value).map_err(|_| malformed())).collect()
}

fn malformed() -> SqlError {
    SqlError::new(SqlState::DATA_CORRUPTED, "a row of the registry of nodes is malformed")
}
