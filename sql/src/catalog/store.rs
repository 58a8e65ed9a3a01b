//! The catalog's rows: descriptors by OID, versioned like any data, so that a read in the past
//! finds the descriptors of its time.

use std::sync::Arc;

use bytes::Bytes;
use cairn_kv::encoding::{self, Direction};
use cairn_txn::{Scan, Txn};

use super::{Catalog, Oid, TableDesc, codec};
use crate::storage::{ids, key};
use crate::{Result, SqlError};

/// The span of the descriptors.
pub fn descriptors() -> (Bytes, Bytes) {
    let (start, end) = (key::index_prefix(ids::DESCRIPTORS), key::index_end(ids::DESCRIPTORS));
    (Bytes::copy_from_slice(&start), Bytes::copy_from_slice(&end))
}

/// Key of a row of one of the catalog's own tables.
pub fn system_key(table: u32, id: u64) -> Bytes {
    let mut out = key::index_prefix(table).to_vec();
    encoding::put_i64(&mut out, id as i64, Direction::Asc);
    out.into()
}

/// Reads the whole catalog at the transaction's snapshot.
pub async fn load(txn: &mut Txn) -> Result<Catalog> {
    let mut catalog = Catalog::default();
    for (_, value) in scan_all(txn, ids::DESCRIPTORS).await? {
        catalog.put(Arc::new(codec::decode(&value)?));
    }
    Ok(catalog)
}

/// Reads one descriptor.
pub async fn read(txn: &mut Txn, id: Oid) -> Result<Option<TableDesc>> {
    let value = txn.get(&system_key(ids::DESCRIPTORS, id as u64)).await?;
    value.map(|v| codec::decode(&v)).transpose()
}

/// Writes a descriptor; its object is locked exclusively, or it is new.
pub async fn write(txn: &mut Txn, table: &TableDesc) -> Result<()> {
    let key = system_key(ids::DESCRIPTORS, table.id as u64);
    txn.get_for_update(&key).await?;
    txn.put(key, codec::encode(table)?.into()).await?;
    Ok(())
}

/// Removes a descriptor.
pub async fn remove(txn: &mut Txn, id: Oid) -> Result<()> {
    let key = system_key(ids::DESCRIPTORS, id as u64);
    txn.get_for_update(&key).await?;
    txn.delete(key).await?;
    Ok(())
}

/// All rows of one of the catalog's own tables: id and value.
pub async fn scan_all(txn: &mut Txn, table: u32) -> Result<Vec<(u64, Bytes)>> {
    let mut rows = Vec::new();
    let mut failure = None;
    let mut scan = Scan {
        start: Bytes::copy_from_slice(&key::index_prefix(table)),
        end: Bytes::copy_from_slice(&key::index_end(table)),
        reverse: false,
    };
    loop {
        let next = txn
            .scan(&scan, &mut |key, value| {
                let mut rest = &key[key::PREFIX_LEN..];
                match encoding::take_i64(&mut rest) {
                    Ok(Some(id)) => rows.push((id as u64, Bytes::copy_from_slice(value))),
                    Ok(None) => {}
                    Err(e) => failure = Some(e),
                }
                true
            })
            .await?;
        if let Some(e) = failure {
            return Err(SqlError::from(cairn_txn::TxnError::from(e)));
        }
        match next {
            Some(next) => scan.start = next,
            None => return Ok(rows),
        }
    }
}
