//! The bank's customers under READ COMMITTED: each statement sees a snapshot of its own, which holds
//! all that was acknowledged before the statement began and nothing that is not committed. Transfers
//! by one statement and by relative changes lose nothing to others, whatever their isolation.

use std::time::Duration;

use crate::client::{Client, Failure, Op, Table};
use crate::history::{Outcome, Transfer};

use super::{Context, bank};

/// One transfer or one look.
pub async fn step<C: Client>(client: &mut C, context: &Context) -> Result<(), Failure> {
    match context.rng.below(5) {
        0 => look(client, context).await,
        _ => {
            let (id, transfer) = bank::propose(context);
            let result = transfer_once(client, context, id, transfer).await;
            bank::settle(context, id, &result);
            result.map(|_| ())
        }
    }
}

/// Whether it was committed.
async fn transfer_once<C: Client>(
    client: &mut C,
    context: &Context,
    id: i64,
    transfer: Transfer,
) -> Result<bool, Failure> {
    let Transfer { from, to, amount, .. } = transfer;
    let rng = &context.rng;
    client.begin_read_committed().await?;
    let ledger = Op::Insert { table: Table::Ledger, key: id, value: bank::encode(transfer) };
    if rng.one_in(2) {
        client.execute(&ledger).await?;
        client.execute(&Op::Transfer { from, to, amount }).await?;
    } else {
        // In one order of accounts, or else two of these wait for each other all the time.
        let mut changes = [(from, -amount), (to, amount)];
        changes.sort_unstable();
        for (key, delta) in changes {
            client.execute(&Op::Add { table: Table::Accounts, key, delta }).await?;
        }
        client.execute(&ledger).await?;
    }
    if rng.one_in(8) {
        context.pause(Duration::from_millis(2)).await;
    }
    bank::end(client, context, 8).await
}

/// Several statements of one transaction, others' commits in between.
async fn look<C: Client>(client: &mut C, context: &Context) -> Result<(), Failure> {
    client.begin_read_committed().await?;
    for _ in 0..2 {
        let accounts = client.execute(&Op::Scan { table: Table::Accounts }).await?.rows();
        bank::check_sum(context, "a statement", &accounts);
        let before = known(context);
        let ledger = client.execute(&Op::Scan { table: Table::Ledger }).await?.rows();
        for (id, outcome) in before {
            let is_there = ledger.binary_search_by_key(&id, |row| row.0).is_ok();
            let wrong = match outcome {
                Outcome::Committed => !is_there,
                Outcome::Aborted => is_there,
                Outcome::Unknown => false,
            };
            if wrong {
                context.recorder.violation(format!(
                    "transfer {id} was {outcome:?} before a statement that {} it",
                    if is_there { "sees" } else { "does not see" }
                ));
            }
        }
        context.pause(Duration::from_millis(2)).await;
    }
    client.commit().await
}

/// The newest transfers and what is known of them.
fn known(context: &Context) -> Vec<(i64, Outcome)> {
    context.recorder.with(|h| h.transfers.iter().rev().take(100).map(|(id, t)| (*id, t.outcome)).collect())
}
