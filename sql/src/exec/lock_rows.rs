//! SELECT … FOR UPDATE and FOR SHARE.

use cairn_kv::seam::BoxFuture;
use cairn_txn::{Isolation, LockStrength};

use super::{Context, Meters, Operator, Plan, PlanRef};
use crate::Result;
use crate::batch::{Batch, Values};
use crate::storage::key::PREFIX_LEN;

/// Locks each row and passes it on.
pub struct LockRowsPlan {
    /// Input.
    pub input: PlanRef,
    /// Prefix of the table's rows.
    pub prefix: [u8; PREFIX_LEN],
    /// Column with the encoded primary key.
    pub key_column: usize,
    /// FOR SHARE.
    pub shared: bool,
}

struct LockRows {
    input: Box<dyn Operator>,
    prefix: [u8; PREFIX_LEN],
    key_column: usize,
    shared: bool,
}

impl Plan for LockRowsPlan {
    fn open(&self, meters: &Meters) -> Box<dyn Operator> {
        Box::new(LockRows {
            input: self.input.open(meters),
            prefix: self.prefix,
            key_column: self.key_column,
            shared: self.shared,
        })
    }
}

impl Operator for LockRows {
    fn next<'a>(&'a mut self, cx: &'a mut Context<'_>) -> BoxFuture<'a, Result<Option<Batch>>> {
        Box::pin(async move {
            let Some(batch) = self.input.next(cx).await? else { return Ok(None) };
            let column = batch.columns[self.key_column].clone();
            for i in 0..batch.len() {
                let at = batch.physical(i);
                // An outer join may have no row of the table here.
                if column.is_null(at) {
                    continue;
                }
                let Values::Bytea(keys) = column.values() else { unreachable!("encoded keys are bytea") };
                let key = [&self.prefix, keys.get(at)].concat();
                // The row was read before it was locked. SERIALIZABLE finds a change between by
                // refreshing; below it only a locking read does.
                if self.shared && cx.isolation == Isolation::Serializable {
                    cx.txn.lock(&key, LockStrength::Shared).await?;
                } else {
                    cx.txn.get_for_update(&key).await?;
                }
            }
            Ok(Some(batch))
        })
    }
}
