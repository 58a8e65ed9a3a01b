//! A whole cluster in one process, on stores that go with it.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, Result, reason};
use crate::node::{Hooks, Node, NodeConfig};

/// The nodes, in the order in which they were started.
pub struct Demo {
    nodes: Vec<Node>,
    folder: Folder,
}

/// A directory that is removed in the end.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, "the demo's stores in {} are left behind", self.0.display());
        }
    }
}

impl Demo {
    /// Starts a cluster of `count` nodes, on ports that are free. They all serve.
    pub async fn start(count: usize) -> Result<Demo> {
        let folder = std::env::temp_dir().join(format!("cairn-demo-{}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(|error| {
            Error::new(format!("cannot create the directory {}: {}", folder.display(), reason(&error)))
        })?;
        let mut demo = Demo { nodes: Vec::new(), folder: Folder(folder) };
        for number in 1..=count {
            let config = NodeConfig {
                store: demo.folder.0.join(number.to_string()),
                sql_addr: "127.0.0.1:0".into(),
                rpc_addr: "127.0.0.1:0".into(),
                http_addr: None,
                // The first one founds the cluster.
                join: demo.nodes.first().map(|node| node.rpc_address().to_owned()).into_iter().collect(),
                cache_bytes: (128 << 20) / count.max(1),
                ..NodeConfig::default()
            };
            match Node::start_with(&config, Hooks::default()).await {
                Ok(node) => demo.nodes.push(node),
                Err(error) => {
                    let _ = demo.stop(Duration::ZERO).await;
                    return Err(error);
                }
            }
        }
        Ok(demo)
    }

    /// The nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Ends all of them: the last first, so that the lease does not go from one to the next.
    pub async fn stop(self, drain: Duration) -> Result<()> {
        let mut stopped = Ok(());
        for node in self.nodes.into_iter().rev() {
            stopped = node.stop(drain).await.and(stopped);
        }
        drop(self.folder);
        stopped
    }
}
