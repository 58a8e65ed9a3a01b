//! The service Admin on the port for other nodes, and its clients.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tonic::{Code, Request, Response, Status};

use super::message::{
    InitAnswer, InitRequest, JoinAnswer, JoinRequest, NodeStatus, Peer, StatusAnswer, StatusRequest,
};
use super::{Place, Stage, cluster_name, registry, status};
use crate::transport::dial;

/// The service, generated.
#[allow(missing_docs, clippy::all, reason = "generated")]
mod service {
    include!(concat!(env!("OUT_DIR"), "/cairn.v1.Admin.rs"));
}

use service::admin_client::AdminClient;
use service::admin_server;

/// The service of a node.
pub type AdminServer = admin_server::AdminServer<Service>;

/// How long a node that was told to found the cluster may take to serve.
const FOUNDING_TIMEOUT: Duration = Duration::from_secs(30);

/// Answers for a node.
pub struct Service(Arc<Place>);

/// The service of the node at `place`.
pub fn server(place: Arc<Place>) -> AdminServer {
    AdminServer::new(Service(place))
}

#[tonic::async_trait]
impl admin_server::Admin for Service {
    async fn init(&self, _: Request<InitRequest>) -> Result<Response<InitAnswer>, Status> {
        let place = &self.0;
        let (answer, told) = oneshot::channel();
        if place.stage().me().is_none() && place.init.send(answer).await.is_ok() {
            // An error: it has come into a cluster before it could hear.
            if let Ok(outcome) = told.await {
                outcome?;
                let serving = place.reached(|stage| matches!(stage, Stage::Serving(_)));
                let stage = tokio::time::timeout(FOUNDING_TIMEOUT, serving).await;
                let stage = stage.map_err(|_| Status::deadline_exceeded("the node does not serve yet"))?;
                let me = stage.me().expect("who serves is somebody");
                return Ok(Response::new(InitAnswer { cluster: me.cluster.to_vec().into() }));
            }
        }
        Err(match place.stage().me() {
            Some(me) => Status::failed_precondition(format!(
                "the cluster is initialized already: this is node {} of {}",
                me.node,
                cluster_name(me.cluster)
            )),
            // Into its cluster.
            None => Status::unavailable("it is on its way"),
        })
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinAnswer>, Status> {
        let (place, request) = (&self.0, request.into_inner());
        let Some(me) = place.stage().me() else {
            return Err(Status::unavailable("it waits itself: tell one node to begin, with cairn init"));
        };
        let Some(opened) = place.opened() else { return Err(Status::unavailable("it is starting up")) };
        let admitted =
            registry::admit(&opened.db, &request.token, &request.rpc_address, &request.sql_address);
        let node = admitted.await.map_err(|error| Status::unavailable(error.message().to_owned()))?;
        place.changed.notify_one();
        let members = registry::members(&opened.db);
        let members = members.await.map_err(|error| Status::unavailable(error.message().to_owned()))?;
        let peers = members.into_iter().map(|member| member.peer).filter(|peer| peer.node != node);
        let mut peers: Vec<Peer> = peers.collect();
        if !peers.iter().any(|peer| peer.node == me.node) {
            // It has not entered itself yet.
            let (rpc_address, sql_address) = (place.rpc_address.clone(), place.sql_address.clone());
            peers.push(Peer { node: me.node, rpc_address, sql_address });
        }
        let answer = JoinAnswer { cluster: me.cluster.to_vec().into(), node, peers };
        Ok(Response::new(answer))
    }

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusAnswer>, Status> {
        let nodes = if request.into_inner().only_here {
            vec![status::of_this(&self.0).await]
        } else {
            status::of_all(&self.0).await
        };
        Ok(Response::new(StatusAnswer { nodes }))
    }
}

/// Asks the node at `address` to found the cluster; waits for others that are about to start.
pub async fn init(address: &str) -> Result<[u8; 16], Status> {
    let answer = AdminClient::new(dial(address).await?).init(InitRequest {}).await?.into_inner();
    answer.cluster[..].try_into().map_err(|_| Status::internal("the answer names no cluster"))
}

/// Asks the node at `address` for a place in its cluster.
pub async fn join(address: &str, request: JoinRequest) -> Result<JoinAnswer, Status> {
    Ok(AdminClient::new(dial(address).await?).join(request).await?.into_inner())
}

/// How the node at `address` is.
pub async fn status_of(address: &str) -> Result<NodeStatus, Status> {
    let request = StatusRequest { only_here: true };
    let answer = AdminClient::new(dial(address).await?).status(request).await?.into_inner();
    answer.nodes.into_iter().next().ok_or_else(|| Status::internal("the answer names no node"))
}

/// How all nodes are, as the one at `address` knows.
pub async fn status_of_all(address: &str) -> Result<Vec<NodeStatus>, Status> {
    let request = StatusRequest { only_here: false };
    Ok(AdminClient::new(dial(address).await?).status(request).await?.into_inner().nodes)
}

/// Whether asking again may help.
pub fn is_temporary(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded)
}
