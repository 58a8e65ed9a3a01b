//! A store's directory: its layout, its format version and its lock.
//!
//! ```text
//! cairn-data/
//!   FORMAT   version of this layout and who created it; written last when a store is created
//!   NODE     the node's place in its cluster: `cluster::node_file`
//!   LOCK     held (flock) by the process that works on the store; names its id
//!   log/     the Raft log, through `Disk`
//!   data/    RocksDB
//!   tmp/     spilled work; emptied at start
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::disk::create_directory;
use crate::error::{Error, Result, reason};

/// Version of the layout above.
const FORMAT: u32 = 1;

/// Contents of the file `FORMAT`.
#[derive(Serialize, Deserialize)]
struct FormatFile {
    /// Version of the layout.
    format: u32,
    /// The Cairn that created the store, for people.
    created_by: String,
}

/// An open, locked directory.
#[derive(Debug)]
pub struct StoreDirectory {
    path: PathBuf,
    /// Held for its lock.
    _lock: File,
}

impl StoreDirectory {
    /// Opens a store's directory for a node, creating it where there is none.
    pub fn open_or_create(path: &Path) -> Result<StoreDirectory> {
        create(path)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut lock = options.open(path.join("LOCK")).map_err(|error| {
            Error::new(format!("cannot open the store in {}: {}", path.display(), reason(&error)))
        })?;
        take_lock(&mut lock, path)?;
        let mut opened = || -> io::Result<()> {
            lock.set_len(0)?;
            lock.rewind()?;
            writeln!(lock, "{}", std::process::id())
        };
        opened()
            .map_err(|error| Error::new(format!("cannot write to {}: {}", path.display(), reason(&error))))?;
        match read_format(path)? {
            Some(format) => check_format(path, &format)?,
            None => initialize(path)?,
        }
        let tmp = path.join("tmp");
        let emptied = || -> io::Result<()> {
            if tmp.exists() {
                fs::remove_dir_all(&tmp)?;
            }
            create_directory(&tmp)
        };
        emptied()
            .map_err(|error| Error::new(format!("cannot empty {}: {}", tmp.display(), reason(&error))))?;
        Ok(StoreDirectory { path: path.to_owned(), _lock: lock })
    }

    /// Opens the directory of a stopped store, changing nothing.
    pub fn open_stopped(path: &Path) -> Result<StoreDirectory> {
        if !path.is_dir() {
            return Err(Error::new(format!("there is no directory {}", path.display())));
        }
        let Some(format) = read_format(path)? else {
            return Err(Error::new(format!(
                "{} is not a Cairn store: it has no file FORMAT",
                path.display()
            )));
        };
        check_format(path, &format)?;
        let mut lock = File::open(path.join("LOCK")).map_err(|error| {
            Error::new(format!("cannot open {}/LOCK: {}", path.display(), reason(&error)))
        })?;
        take_lock(&mut lock, path)?;
        Ok(StoreDirectory { path: path.to_owned(), _lock: lock })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether nothing was ever written to the log, or all of it is lost.
    pub fn has_no_log(&self) -> Result<bool> {
        let log = self.log();
        let mut files = fs::read_dir(&log)
            .map_err(|error| Error::new(format!("cannot read {}: {}", log.display(), reason(&error))))?;
        Ok(files.next().is_none())
    }

    /// Where the log lies.
    pub fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Where RocksDB's files lie.
    pub fn data(&self) -> PathBuf {
        self.path.join("data")
    }
}

fn create(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let made = || -> io::Result<()> {
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            create_directory(parent)?;
        }
        // Nobody else is to read the data.
        fs::DirBuilder::new().mode(0o700).create(path)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    };
    made().map_err(|error| {
        Error::new(format!("cannot create the store directory {}: {}", path.display(), reason(&error)))
    })
}

fn take_lock(lock: &mut File, path: &Path) -> Result<()> {
    match flock(&*lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            let _ = lock.take(32).read_to_string(&mut holder);
            let holder = match holder.trim() {
                "" => "another process".to_owned(),
                id => format!("process {id}"),
            };
            Err(Error::new(format!("the store in {} is in use by {holder}", path.display())))
        }
        Err(error) => {
            Err(Error::new(format!("cannot lock the store in {}: {}", path.display(), reason(&error.into()))))
        }
    }
}

fn read_format(path: &Path) -> Result<Option<FormatFile>> {
    let text = match fs::read_to_string(path.join("FORMAT")) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            let message = format!("cannot read {}/FORMAT: {}", path.display(), reason(&error));
            return Err(Error::new(message));
        }
    };
    let format = toml::from_str(&text)
        .map_err(|_| Error::new(format!("the file {}/FORMAT is damaged", path.display())))?;
    Ok(Some(format))
}

fn check_format(path: &Path, format: &FormatFile) -> Result<()> {
    if format.format > FORMAT {
        return Err(Error::new(format!(
            "the store in {} has format {}, and this cairn knows formats up to {FORMAT}: use a newer cairn",
            path.display(),
            format.format
        )));
    }
    Ok(())
}

/// Makes an empty directory a store.
fn initialize(path: &Path) -> Result<()> {
    let strange = |path: &Path| -> io::Result<bool> {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let name = entry.file_name();
            // What a creation left that was interrupted: the parts exist, but hold nothing yet.
            let ours = match name.to_str() {
                Some("LOCK" | "FORMAT.new" | "tmp") => true,
                Some("log" | "data") => fs::read_dir(entry.path())?.next().is_none(),
                _ => false,
            };
            if !ours {
                return Ok(true);
            }
        }
        Ok(false)
    };
    let cannot = |error: io::Error| {
        Error::new(format!("cannot create a store in {}: {}", path.display(), reason(&error)))
    };
    if strange(path).map_err(cannot)? {
        return Err(Error::new(format!(
            "the directory {} is not empty and not a Cairn store: name another one with --store",
            path.display()
        )));
    }
    let written = || -> io::Result<()> {
        create_directory(&path.join("log"))?;
        create_directory(&path.join("data"))?;
        let format = FormatFile { format: FORMAT, created_by: crate::VERSION.to_owned() };
        let text = toml::to_string(&format).map_err(io::Error::other)?;
        let mut file = File::create(path.join("FORMAT.new"))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(path.join("FORMAT.new"), path.join("FORMAT"))?;
        File::open(path)?.sync_all()
    };
    written().map_err(cannot)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(result: Result<StoreDirectory>) -> String {
        result.expect_err("refused").to_string()
    }

    #[test]
    fn a_store_is_created_once_and_locked_by_one() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        let open = StoreDirectory::open_or_create(&path).unwrap();
        let in_use = format!("the store in {} is in use by process {}", path.display(), std::process::id());
        assert_eq!(error_of(StoreDirectory::open_or_create(&path)), in_use);
        assert_eq!(error_of(StoreDirectory::open_stopped(&path)), in_use);
        drop(open);
        StoreDirectory::open_stopped(&path).unwrap();
        StoreDirectory::open_or_create(&path).unwrap();
    }

    #[test]
    fn strange_newer_and_damaged_directories_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("s");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("thesis.tex"), "x").unwrap();
        assert!(error_of(StoreDirectory::open_or_create(&path)).contains("not empty and not a Cairn store"));
        fs::remove_file(path.join("thesis.tex")).unwrap();
        drop(StoreDirectory::open_or_create(&path).unwrap());

        fs::write(path.join("FORMAT"), "format = 2\ncreated_by = \"9\"\n").unwrap();
        assert!(error_of(StoreDirectory::open_or_create(&path)).contains("use a newer cairn"));
        fs::write(path.join("FORMAT"), "form").unwrap();
        assert!(error_of(StoreDirectory::open_or_create(&path)).contains("is damaged"));
        // A store whose FORMAT is lost is not taken for an empty directory.
        fs::remove_file(path.join("FORMAT")).unwrap();
        fs::write(path.join("log/1"), "x").unwrap();
        assert!(error_of(StoreDirectory::open_or_create(&path)).contains("not a Cairn store"));
        assert!(
            error_of(StoreDirectory::open_stopped(&root.path().join("no"))).contains("there is no directory")
        );
    }
}
