//! How nodes are, for `cairn node status`.

use std::collections::BTreeMap;
use std::time::Duration;

use cairn_raft::ReplicaProgress;
use cairn_raft::command::ReplicaRole;
use futures_util::future::join_all;
use tokio::time::timeout;

use super::message::{NodeStatus, Peer, ReplicaStatus};
use super::{Place, RANGE, Stage, admin, registry};

/// A node that does not answer within this time is not live.
const PATIENCE: Duration = Duration::from_millis(500);

/// How this node is.
pub async fn of_this(place: &Place) -> NodeStatus {
    let stage = place.stage();
    let me = stage.me();
    let store = place.opened().map(|opened| &opened.store);
    let progress = match store {
        Some(store) => store.progress(RANGE).await.unwrap_or_default(),
        None => Vec::new(),
    };
    NodeStatus {
        peer: Peer {
            node: me.map_or(0, |me| me.node),
            rpc_address: place.rpc_address.clone(),
            sql_address: place.sql_address.clone(),
        },
        is_live: true,
        token: place.file.token().to_vec().into(),
        cluster: me.map(|me| me.cluster.to_vec().into()).unwrap_or_default(),
        is_founding: stage == Stage::Founding,
        is_serving: matches!(stage, Stage::Serving(_)),
        has_lease: store.is_some_and(|store| store.lease(RANGE).is_some()),
        replicas: replicas(&progress),
        uptime_seconds: place.started.elapsed().as_secs(),
        version: crate::VERSION.to_owned(),
    }
}

/// How all nodes are: this one, and what the others answer.
pub async fn of_all(place: &Place) -> Vec<NodeStatus> {
    let this = of_this(place).await;
    let mut peers: BTreeMap<u64, Peer> = place.peers().into_iter().map(|peer| (peer.node, peer)).collect();
    // The newest there is, where the range can be read.
    if let Some(opened) = place.opened()
        && let Ok(Ok(members)) = timeout(PATIENCE, registry::members(&opened.db)).await
    {
        peers.extend(members.into_iter().map(|member| (member.peer.node, member.peer)));
    }
    // Where they are now is best known to the streams.
    for (node, address, _) in place.transport().map(|transport| transport.peers()).unwrap_or_default() {
        peers.entry(node).or_insert_with(|| Peer { node, ..Peer::default() }).rpc_address = address;
    }
    peers.remove(&this.peer.node);
    // No async closure: of one here, rustc 1.95 fails when it compiles incrementally.
    let others = peers.into_values().map(|peer| async move {
        match timeout(PATIENCE, admin::status_of(&peer.rpc_address)).await {
            Ok(Ok(status)) if status.peer.node == peer.node => status,
            _ => NodeStatus { peer, ..NodeStatus::default() },
        }
    });
    let mut nodes = join_all(others).await;
    nodes.push(this);
    nodes.sort_by_key(|node| node.peer.node);
    nodes
}

fn replicas(progress: &[ReplicaProgress]) -> Vec<ReplicaStatus> {
    let last = progress.iter().map(|replica| replica.matched).max().unwrap_or(0);
    let status = |replica: &ReplicaProgress| ReplicaStatus {
        node: replica.store,
        role: match replica.role {
            ReplicaRole::Voter => "voter",
            ReplicaRole::Learner => "learner",
            ReplicaRole::VoterIncoming => "voter (incoming)",
            ReplicaRole::VoterOutgoing | ReplicaRole::LearnerNext => "voter (outgoing)",
        }
        .to_owned(),
        matched: replica.matched,
        behind: last - replica.matched,
        needs_snapshot: replica.needs_snapshot,
    };
    progress.iter().map(status).collect()
}

/// A table for people.
pub fn table(nodes: &[NodeStatus]) -> String {
    let replicas: Vec<&ReplicaStatus> = nodes.iter().flat_map(|node| &node.replicas).collect();
    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    let heads = ["node", "address", "sql address", "live", "lease", "replica", "behind", "uptime", "version"];
    let mut rows = vec![heads.map(str::to_owned)];
    for node in nodes {
        let replica = replicas.iter().find(|replica| replica.node == node.peer.node);
        let state = match (node.is_live, node.is_serving) {
            (true, false) if node.peer.node == 0 => "waiting".to_owned(),
            (true, false) => "starting".to_owned(),
            (live, _) => yes(live),
        };
        rows.push([
            if node.peer.node == 0 { "-".to_owned() } else { node.peer.node.to_string() },
            node.peer.rpc_address.clone(),
            node.peer.sql_address.clone(),
            state,
            yes(node.has_lease),
            replica.map_or("-".to_owned(), |replica| replica.role.clone()),
            replica.map_or("-".to_owned(), |replica| {
                if replica.needs_snapshot { "snapshot".to_owned() } else { replica.behind.to_string() }
            }),
            if node.is_live { uptime(node.uptime_seconds) } else { "-".to_owned() },
            if node.is_live { node.version.clone() } else { "-".to_owned() },
        ]);
    }
    let widths: Vec<usize> =
        (0..heads.len()).map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

fn uptime(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m{}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h{minutes}m"),
        (days, hours, _) => format!("{days}d{hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_who_is_there() {
        let peer = |node, port| Peer {
            node,
            rpc_address: format!("a:{port}"),
            sql_address: format!("a:{}", port + 1),
        };
        let replica = |node: u64, role: &str, behind| ReplicaStatus {
            node,
            role: role.to_owned(),
            behind,
            ..ReplicaStatus::default()
        };
        let leader = NodeStatus {
            peer: peer(1, 10),
            is_live: true,
            is_serving: true,
            has_lease: true,
            replicas: vec![replica(1, "voter", 0), replica(2, "learner", 17)],
            uptime_seconds: 3_700,
            version: "1.2".to_owned(),
            ..NodeStatus::default()
        };
        let dead = NodeStatus { peer: peer(2, 20), ..NodeStatus::default() };
        let expected = "\
node  address  sql address  live  lease  replica  behind  uptime  version
1     a:10     a:11         yes   yes    voter    0       1h1m    1.2
2     a:20     a:21         no    no     learner  17      -       -
";
        assert_eq!(table(&[leader, dead]), expected);
    }
}
