//! Where rows and index entries live: their keys and the format of a row.
//!
//! An index's keys begin with [`DATA`] and the index's OID, four bytes big-endian; the encoded key
//! columns follow. The entries of a table's primary index are its rows: the value is a [`row`]. A
//! secondary entry's value is empty, or (unique, no NULLs: R2) the row's encoded primary key.

pub mod check;
pub mod entries;
pub mod entry;
pub mod key;
pub mod row;

/// First byte of rows and index entries.
pub const DATA: u8 = 0x10;
/// First byte of keys that only exist in the lock table: one for each catalog object.
pub const OBJECT_LOCK: u8 = 0x20;
/// First byte of lock-table keys that stand for names about to be created.
pub const NAME_LOCK: u8 = 0x21;

/// Index ids of the catalog's own storage.
pub mod ids {
    /// Descriptors, by OID.
    pub const DESCRIPTORS: u32 = 1;
    /// Counters: next OID, next row id block.
    pub const COUNTERS: u32 = 2;
    /// Sequences' states, by OID.
    pub const SEQUENCES: u32 = 3;
    /// Index ids whose entries are to be removed in the background.
    pub const GARBAGE: u32 = 4;
    /// The cluster's nodes, by number.
    pub const NODES: u32 = 5;
}

/// Largest encoded row or index key, bytes: a row must fit into one command (R8).
pub const MAX_VALUE_BYTES: usize = 3 << 20;
/// Largest encoded key.
pub const MAX_KEY_BYTES: usize = 64 << 10;
