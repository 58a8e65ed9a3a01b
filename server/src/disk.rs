//! The production [`Disk`]: a directory.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_kv::seam::{BoxFuture, Disk, DiskFile};
use cairn_kv::{Error, Result};

/// A directory of files. Everything blocks its caller; [`Disk::sync_dir`] and [`DiskFile::sync`]
/// are ready at once.
pub struct DirectoryDisk {
    path: PathBuf,
    /// The open directory, to sync it.
    directory: File,
}

impl DirectoryDisk {
    /// Opens a directory, creating it (durably) where it is missing.
    pub fn open(path: &Path) -> io::Result<DirectoryDisk> {
        create_directory(path)?;
        Ok(DirectoryDisk { path: path.to_owned(), directory: File::open(path)? })
    }

    /// The file's path. A name is one component: nothing outside the directory is reached.
    fn path(&self, name: &str) -> Result<PathBuf> {
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
            return Err(Error::Io(format!("invalid file name {name:?}")));
        }
        Ok(self.path.join(name))
    }
}

/// Creates a directory and makes its entry in the parent durable.
pub fn create_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => {
            create_directory(parent)?;
            create_one(path)?;
            File::open(parent)?.sync_all()
        }
        _ => {
            create_one(path)?;
            File::open(".")?.sync_all()
        }
    }
}

fn create_one(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other,
    }
}

/// An error's text begins with what failed and where.
fn failed(what: &str, path: &Path, error: &io::Error) -> Error {
    Error::Io(format!("cannot {what} {}: {error}", path.display()))
}

impl Disk for DirectoryDisk {
    fn list(&self) -> Result<Vec<String>> {
        let list = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(&self.path)? {
                let entry = entry?;
                if entry.file_type()?.is_file() {
                    let name = entry.file_name();
                    names.push(name.into_string().map_err(|name| {
                        io::Error::new(io::ErrorKind::InvalidData, format!("file name {name:?} is not UTF-8"))
                    })?);
                }
            }
            names.sort();
            Ok(names)
        };
        list().map_err(|error| failed("list", &self.path, &error))
    }

    fn open(&self, name: &str, create: bool) -> Result<Arc<dyn DiskFile>> {
        let path = self.path(name)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(create).mode(0o600);
        let file = options.open(&path).map_err(|error| failed("open", &path, &error))?;
        Ok(Arc::new(RealFile { file, path }))
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        let (from, to) = (self.path(from)?, self.path(to)?);
        fs::rename(&from, &to).map_err(|error| failed("rename", &from, &error))
    }

    fn remove(&self, name: &str) -> Result<()> {
        let path = self.path(name)?;
        fs::remove_file(&path).map_err(|error| failed("remove", &path, &error))
    }

    fn sync_dir(&self) -> BoxFuture<'_, Result<()>> {
        let synced = self.directory.sync_all().map_err(|error| failed("sync", &self.path, &error));
        Box::pin(std::future::ready(synced))
    }
}

/// A file of a [`DirectoryDisk`].
struct RealFile {
    file: File,
    path: PathBuf,
}

impl DiskFile for RealFile {
    fn len(&self) -> Result<u64> {
        self.file.metadata().map(|data| data.len()).map_err(|error| failed("stat", &self.path, &error))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.file.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed("read", &self.path, &error)),
            }
        }
        Ok(done)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.file.write_all_at(data, offset).map_err(|error| failed("write", &self.path, &error))
    }

    fn sync(&self) -> BoxFuture<'_, Result<()>> {
        // `fdatasync` makes a changed length durable too, which is all that reads depend on.
        let synced = self.file.sync_data().map_err(|error| failed("sync", &self.path, &error));
        Box::pin(std::future::ready(synced))
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len).map_err(|error| failed("resize", &self.path, &error))
    }
}
