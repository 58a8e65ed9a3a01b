//! The binary `cairn`.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tune_malloc();
    cairn_server::cli::main()
}

/// RocksDB's memory comes from the C library, which keeps what a thread freed for that thread: of a
/// bulk update of 200 MB a node kept 1.1 GB (measured). With few arenas, and large pieces, memtables'
/// above all, taken from the system and given back, it keeps 0.4 GB, most of it the block cache.
fn tune_malloc() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets parameters of the allocator, before there are other threads.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 64 << 10);
    }
}
