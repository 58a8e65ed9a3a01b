//! The beginning of a node that is started with `--join` and has no store yet: it asks the nodes that it is told of
//! for a number until one of them gives it one, or until `cairn init` tells this node to found the cluster.
//!
//! Two of the waiting nodes must not found two clusters. So a node that is told to looks at all the others first:
//! none may belong to a cluster or be about to found one, and all must answer.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tonic::Status;

use super::message::{JoinRequest, Peer};
use super::{FIRST_NODE, Place, Stage, Told, admin, cluster_name};
use crate::error::Result;
use crate::transport::Me;

/// How long after an attempt the next one follows.
const PAUSE: Duration = Duration::from_millis(200);

/// A node that does not answer for this long is not waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who the node is to be, durably, and the others as far as they are known.
pub async fn join(
    place: &Place,
    addresses: &[String],
    told: &mut mpsc::Receiver<Told>,
) -> Result<(Me, Vec<Peer>)> {
    place.file.keep_token()?;
    let mut last = String::new();
    loop {
        for address in addresses.iter().filter(|address| **address != place.rpc_address) {
            match ask(place, address).await {
                Ok((me, peers)) => {
                    place.file.admit(me)?;
                    let cluster = cluster_name(me.cluster);
                    tracing::info!(node = me.node, cluster, "this node has joined a cluster");
                    return Ok((me, peers));
                }
                Err(status) => {
                    let why = format!("{address}: {}", status.message());
                    if why != last {
                        tracing::info!("not in a cluster yet: {why}");
                        last = why;
                    }
                }
            }
        }
        let init = tokio::select! {
            biased;
            told = told.recv() => told,
            () = sleep(PAUSE) => None,
        };
        let Some(answer) = init else { continue };
        place.enter(Stage::Founding);
        match may_found(place, addresses).await {
            Ok(()) => {
                let me = Me { cluster: rand::random(), node: FIRST_NODE };
                place.file.admit(me)?;
                let cluster = cluster_name(me.cluster);
                tracing::info!(node = me.node, cluster, "this node founds a cluster");
                // Who has hung up will see it.
                let _ = answer.send(Ok(()));
                return Ok((me, Vec::new()));
            }
            Err(status) => {
                place.enter(Stage::Waiting);
                let _ = answer.send(Err(status));
            }
        }
    }
}

async fn ask(place: &Place, address: &str) -> Result<(Me, Vec<Peer>), Status> {
    let request = JoinRequest {
        token: place.file.token().to_vec().into(),
        rpc_address: place.rpc_address.clone(),
        sql_address: place.sql_address.clone(),
    };
    let asked = timeout(PATIENCE, admin::join(address, request));
    let answer = asked.await.map_err(|_| Status::deadline_exceeded("no answer"))??;
    let cluster =
        answer.cluster[..].try_into().map_err(|_| Status::internal("the answer names no cluster"))?;
    Ok((Me { cluster, node: answer.node }, answer.peers))
}

/// Whether nobody else has founded the cluster or is about to.
async fn may_found(place: &Place, addresses: &[String]) -> Result<(), Status> {
    for address in addresses {
        let Ok(Ok(other)) = timeout(PATIENCE, admin::status_of(address)).await else {
            return Err(Status::unavailable(format!("no answer from {address}, which --join names")));
        };
        if other.token[..] == place.file.token() {
            continue;
        }
        if let Ok(cluster) = other.cluster[..].try_into() {
            return Err(Status::failed_precondition(format!(
                "the cluster is initialized already: {address} is a node of {}",
                cluster_name(cluster)
            )));
        }
        if other.is_founding {
            return Err(Status::unavailable(format!("{address} is about to found the cluster")));
        }
    }
    Ok(())
}
