//! What operators are given at every call.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cairn_txn::{CancelToken, Txn};

use crate::expr::EvalContext;
use crate::session::SqlNode;
use crate::{Result, SqlError, SqlState};

/// Surroundings of a running plan.
pub struct Context<'a> {
    /// The transaction.
    pub txn: &'a mut Txn,
    /// The node.
    pub node: &'a Arc<SqlNode>,
    /// Parameters, settings, outer rows.
    pub eval: &'a mut EvalContext,
    /// The statement's memory.
    pub memory: &'a Memory,
    /// The transaction's isolation level.
    pub isolation: cairn_txn::Isolation,
    /// Set when the statement is to end.
    pub cancel: &'a CancelToken,
}

impl Context<'_> {
    /// Fails once the statement is canceled.
    pub fn check_cancel(&self) -> Result<()> {
        if self.cancel.is_canceled() {
            return Err(cairn_txn::TxnError::Canceled.into());
        }
        Ok(())
    }

    /// Lets others run, between batches of work that does not wait by itself, and fails once the
    /// statement is canceled.
    pub async fn breathe(&self) -> Result<()> {
        self.check_cancel()?;
        self.node.db().store().env().runtime.yield_now().await;
        Ok(())
    }
}

/// The memory that one statement's sorts, hashes and materialized rows hold. Operators fail where
/// it would pass the limit, rather than take the node down.
#[derive(Debug)]
pub struct Memory {
    limit: usize,
    used: AtomicUsize,
}

impl Memory {
    /// An account with a limit, in bytes.
    pub fn new(limit: usize) -> Memory {
        Memory { limit, used: AtomicUsize::new(0) }
    }

    /// Accounts for `bytes` more; 53200 when they are too many.
    pub fn take(&self, bytes: usize) -> Result<()> {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if used > self.limit {
            return Err(SqlError::new(SqlState::OUT_OF_MEMORY, "out of memory")
                .detail(format!("The statement needs more than the {} bytes of work_mem.", self.limit))
                .hint(
                    "Raise work_mem for this session, or make the statement handle fewer rows at a time.",
                ));
        }
        Ok(())
    }

    /// Gives `bytes` back.
    pub fn give(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}
