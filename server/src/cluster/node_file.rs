//! The file `NODE` in a store's directory: what a node knows of its place in the cluster before, and
//! beside, its log.
//!
//! It is replaced as a whole and is durable before what it says is told to anyone, but for the peers, which are a
//! convenience: with them a node finds the others after a restart.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use cairn_kv::seam::NodeId;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::cluster_name;
use super::message::Peer;
use crate::error::{Error, Result, reason};
use crate::transport::Me;

/// Newest format of the file.
const FORMAT: u32 = 1;

/// The file of an open directory.
pub struct NodeFile {
    path: PathBuf,
    contents: Mutex<Contents>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Contents {
    format: u32,
    /// What the directory is known by; random, hexadecimal.
    token: String,
    /// Its cluster, hexadecimal.
    cluster: Option<String>,
    /// Its number there.
    node: Option<NodeId>,
    /// Whether there has been a store under that number.
    #[serde(default)]
    founded: bool,
    #[serde(default)]
    peers: Vec<Peer>,
}

impl NodeFile {
    /// Reads the file of a store's directory. Where there is none, it is made when there is something to say.
    pub fn open(directory: &Path) -> Result<NodeFile> {
        let path = directory.join("NODE");
        let contents = match fs::read_to_string(&path) {
            Ok(text) => parse(&text, &path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Contents {
                format: FORMAT,
                token: format!("{:032x}", rand::random::<u128>()),
                cluster: None,
                node: None,
                founded: false,
                peers: Vec::new(),
            },
            Err(error) => {
                return Err(Error::new(format!("cannot read {}: {}", path.display(), reason(&error))));
            }
        };
        Ok(NodeFile { path, contents: Mutex::new(contents) })
    }

    /// What the directory is known by.
    pub fn token(&self) -> [u8; 16] {
        parse_id(&self.contents.lock().token).expect("checked when it was read")
    }

    /// Who the node is, if that was settled.
    pub fn me(&self) -> Option<Me> {
        let contents = self.contents.lock();
        let cluster =
            contents.cluster.as_deref().map(|text| parse_id(text).expect("checked when it was read"));
        Some(Me { cluster: cluster?, node: contents.node? })
    }

    /// Whether there has been a store under its number.
    pub fn is_founded(&self) -> bool {
        self.contents.lock().founded
    }

    /// The other nodes, as far as they were known.
    pub fn peers(&self) -> Vec<Peer> {
        self.contents.lock().peers.clone()
    }

    /// Makes the token durable: from now on it may be told.
    pub fn keep_token(&self) -> Result<()> {
        self.write(&self.contents.lock())
    }

    /// The node's number is settled.
    pub fn admit(&self, me: Me) -> Result<()> {
        self.change(|contents| {
            (contents.cluster, contents.node) = (Some(cluster_name(me.cluster)), Some(me.node));
        })
    }

    /// There is a store under its number.
    pub fn found(&self, me: Me) -> Result<()> {
        self.change(|contents| {
            (contents.cluster, contents.node) = (Some(cluster_name(me.cluster)), Some(me.node));
            contents.founded = true;
        })
    }

    /// Remembers the other nodes. That this fails does no harm: the others dial this one.
    pub fn set_peers(&self, peers: Vec<Peer>) {
        if let Err(error) = self.change(|contents| contents.peers = peers) {
            tracing::warn!(%error, "the other nodes' addresses are not kept");
        }
    }

    fn change(&self, change: impl FnOnce(&mut Contents)) -> Result<()> {
        let mut contents = self.contents.lock();
        let mut changed = contents.clone();
        change(&mut changed);
        if changed != *contents {
            self.write(&changed)?;
            *contents = changed;
        }
        Ok(())
    }

    fn write(&self, contents: &Contents) -> Result<()> {
        let written = || -> io::Result<()> {
            let text = toml::to_string(contents).map_err(io::Error::other)?;
            let new = self.path.with_extension("new");
            let mut file = File::create(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &self.path)?;
            File::open(self.path.parent().expect("it lies in a directory"))?.sync_all()
        };
        written()
            .map_err(|error| Error::new(format!("cannot write {}: {}", self.path.display(), reason(&error))))
    }
}

fn parse(text: &str, path: &Path) -> Result<Contents> {
    let damaged = || Error::new(format!("the file {} is damaged", path.display()));
    let contents: Contents = toml::from_str(text).map_err(|_| damaged())?;
    if contents.format > FORMAT {
        return Err(Error::new(format!(
            "the file {} has format {}, and this cairn knows formats up to {FORMAT}: use a newer cairn",
            path.display(),
            contents.format
        )));
    }
    let ids = std::iter::once(&contents.token).chain(&contents.cluster);
    if ids.map(|id| parse_id(id)).any(|id| id.is_none())
        || contents.cluster.is_some() != contents.node.is_some()
    {
        return Err(damaged());
    }
    Ok(contents)
}

fn parse_id(text: &str) -> Option<[u8; 16]> {
    let number = u128::from_str_radix(text, 16).ok()?;
    (text.len() == 32).then(|| number.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_says_is_found_again() {
        let root = tempfile::tempdir().unwrap();
        let file = NodeFile::open(root.path()).unwrap();
        assert!(!root.path().join("NODE").exists(), "nothing to say yet");
        assert_eq!(file.me(), None);
        file.keep_token().unwrap();
        let token = file.token();
        let file = NodeFile::open(root.path()).unwrap();
        assert_eq!(file.token(), token);
        let me = Me { cluster: [7; 16], node: 3 };
        file.admit(me).unwrap();
        let peer = Peer { node: 1, rpc_address: "a:1".into(), sql_address: "a:2".into() };
        file.set_peers(vec![peer.clone()]);
        let file = NodeFile::open(root.path()).unwrap();
        assert_eq!((file.me(), file.is_founded()), (Some(me), false));
        file.found(me).unwrap();
        let file = NodeFile::open(root.path()).unwrap();
        assert_eq!((file.token(), file.me(), file.is_founded()), (token, Some(me), true));
        assert_eq!(file.peers(), [peer]);
    }

    #[test]
    fn damage_and_newer_formats_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let token = "0".repeat(32);
        for (text, says) in [
            ("form".to_owned(), "is damaged"),
            ("format = 1\ntoken = \"xyz\"\n".to_owned(), "is damaged"),
            (format!("format = 1\ntoken = \"{token}\"\nnode = 1\n"), "is damaged"),
            (format!("format = 2\ntoken = \"{token}\"\n"), "use a newer cairn"),
        ] {
            fs::write(root.path().join("NODE"), &text).unwrap();
            let error = NodeFile::open(root.path()).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
