//! The contract of `Disk`, on a real directory.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use cairn_kv::Error;
use cairn_kv::seam::{Disk, DiskFile};
use cairn_server::disk::DirectoryDisk;

/// Syncs are ready at once in production: the log's group commit counts on it.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a sync was not ready at once"),
    }
}

fn disk() -> (tempfile::TempDir, DirectoryDisk) {
    let root = tempfile::tempdir().unwrap();
    let disk = DirectoryDisk::open(&root.path().join("a/b")).unwrap();
    (root, disk)
}

fn contents(file: &Arc<dyn DiskFile>) -> Vec<u8> {
    let mut bytes = vec![0xee; file.len().unwrap() as usize + 10];
    let read = file.read_at(0, &mut bytes).unwrap();
    bytes.truncate(read);
    bytes
}

#[test]
fn a_file_is_read_as_it_was_written() {
    let (_root, disk) = disk();
    let file = disk.open("f", true).unwrap();
    assert_eq!(file.len().unwrap(), 0);
    file.write_at(3, b"def").unwrap();
    assert_eq!(contents(&file), b"\0\0\0def");
    file.write_at(0, b"abcd").unwrap();
    assert_eq!(contents(&file), b"abcdef");
    let mut part = [0; 4];
    assert_eq!(file.read_at(4, &mut part).unwrap(), 2, "short at the end");
    assert_eq!(&part[..2], b"ef");
    assert_eq!(file.read_at(100, &mut part).unwrap(), 0);
    file.set_len(2).unwrap();
    file.set_len(4).unwrap();
    assert_eq!(contents(&file), b"ab\0\0");
    at_once(file.sync()).unwrap();
    // Every handle is the same file.
    let other = disk.open("f", false).unwrap();
    other.write_at(1, b"B").unwrap();
    assert_eq!(contents(&file), b"aB\0\0");
}

#[test]
fn names_are_listed_in_order_renamed_and_removed() {
    let (_root, disk) = disk();
    for name in ["b", "a", "c"] {
        disk.open(name, true).unwrap().write_at(0, name.as_bytes()).unwrap();
    }
    assert_eq!(disk.list().unwrap(), ["a", "b", "c"]);
    disk.rename("a", "c").unwrap();
    disk.remove("b").unwrap();
    at_once(disk.sync_dir()).unwrap();
    assert_eq!(disk.list().unwrap(), ["c"]);
    assert_eq!(contents(&disk.open("c", false).unwrap()), b"a");
    // Opening does not truncate.
    assert_eq!(contents(&disk.open("c", true).unwrap()), b"a");
}

#[test]
fn what_is_missing_or_outside_is_an_error() {
    let (root, disk) = disk();
    let is_io = |result: cairn_kv::Result<()>| assert!(matches!(result, Err(Error::Io(_))), "{result:?}");
    is_io(disk.open("missing", false).map(drop));
    is_io(disk.remove("missing"));
    is_io(disk.rename("missing", "other"));
    for name in ["", ".", "..", "../x", "/etc/passwd", "a/b", "a\0b"] {
        is_io(disk.open(name, true).map(drop));
        is_io(disk.remove(name));
    }
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1, "nothing was made outside");
}

#[test]
fn an_error_names_operation_and_file() {
    let (_root, disk) = disk();
    let error = disk.open("missing", false).map(drop).unwrap_err().to_string();
    assert!(error.contains("cannot open") && error.contains("a/b/missing"), "{error}");
}
