//! Transfers between accounts. Money is neither made nor lost in any snapshot; every acknowledged
//! transfer is in the ledger, and the ledger explains every balance: no half transaction.

use std::time::Duration;

use crate::client::{Client, Failure, Op, Table};
use crate::history::{Outcome, Recorder, Transfer};

use super::Context;

const ACCOUNTS: i64 = 10;
const OPENING_BALANCE: i64 = 1000;

/// Opens the accounts.
pub async fn set_up<C: Client>(client: &mut C) -> Result<(), Failure> {
    for key in 0..ACCOUNTS {
        client.execute(&Op::Insert { table: Table::Accounts, key, value: OPENING_BALANCE }).await?;
    }
    Ok(())
}

/// One transfer or one look.
pub async fn step<C: Client>(client: &mut C, context: &Context) -> Result<(), Failure> {
    match context.rng.below(8) {
        0 => look(client, context).await,
        1 => look_back(client, context).await,
        _ => transfer(client, context).await,
    }
}

async fn transfer<C: Client>(client: &mut C, context: &Context) -> Result<(), Failure> {
    let (id, record) = propose(context);
    let result = transfer_once(client, context, id, record).await;
    settle(context, id, &result);
    result.map(|_| ())
}

/// Draws a transfer and records that it is tried.
pub fn propose(context: &Context) -> (i64, Transfer) {
    let rng = &context.rng;
    let from = rng.below(ACCOUNTS as u64) as i64;
    let to = (from + rng.between(1, ACCOUNTS as u64 - 1) as i64) % ACCOUNTS;
    let amount = rng.between(1, 50) as i64;
    let id = context.recorder.unique();
    let record = Transfer { from, to, amount, outcome: Outcome::Unknown };
    context.recorder.invoke(|h| h.transfers.insert(id, record));
    (id, record)
}

/// Records what became of it: whether it was committed, or why that is not known.
pub fn settle(context: &Context, id: i64, result: &Result<bool, Failure>) {
    let outcome = match result {
        Ok(true) => Outcome::Committed,
        Ok(false) | Err(Failure::Retry(_)) => Outcome::Aborted,
        Err(_) => Outcome::Unknown,
    };
    context.recorder.answer(|h| h.transfers.get_mut(&id).expect("invoked").outcome = outcome);
    if outcome == Outcome::Committed {
        context.recorder.committed();
    }
}

/// Whether there was enough money.
async fn transfer_once<C: Client>(
    client: &mut C,
    context: &Context,
    id: i64,
    transfer: Transfer,
) -> Result<bool, Failure> {
    let Transfer { from, to, amount, .. } = transfer;
    let rng = &context.rng;
    client.begin().await?;
    let get = Op::Get { table: Table::Accounts, key: from, lock: rng.one_in(2) };
    let Some(balance) = client.execute(&get).await?.value() else {
        return Err(Failure::Broken(format!("account {from} is gone")));
    };
    if balance < amount {
        client.rollback().await;
        return Ok(false);
    }
    if rng.one_in(4) {
        context.pause(Duration::from_millis(2)).await;
    }
    let debit = if rng.one_in(2) {
        Op::Add { table: Table::Accounts, key: from, delta: -amount }
    } else {
        Op::Set { table: Table::Accounts, key: from, value: balance - amount }
    };
    client.execute(&debit).await?;
    client.execute(&Op::Add { table: Table::Accounts, key: to, delta: amount }).await?;
    client.execute(&Op::Insert { table: Table::Ledger, key: id, value: encode(transfer) }).await?;
    end(client, context, 20).await
}

/// Rolls back once in so many times, else commits; whether it was committed.
pub async fn end<C: Client>(client: &mut C, context: &Context, one_in: u64) -> Result<bool, Failure> {
    if context.rng.one_in(one_in) {
        client.rollback().await;
        return Ok(false);
    }
    client.commit().await?;
    Ok(true)
}

/// Reads all accounts twice in one transaction.
async fn look<C: Client>(client: &mut C, context: &Context) -> Result<(), Failure> {
    client.begin().await?;
    let accounts = Op::Scan { table: Table::Accounts };
    let rows = client.execute(&accounts).await?.rows();
    check_sum(context, "a snapshot", &rows);
    if context.rng.one_in(2) {
        context.pause(Duration::from_millis(200)).await;
        let again = client.execute(&accounts).await?.rows();
        if again != rows {
            context
                .recorder
                .violation(format!("a snapshot changed under its reader: {rows:?}, then {again:?}"));
        }
    }
    client.commit().await
}

/// Reads a moment just gone and remembers it, or reads again what was remembered: the same, or
/// refused as too old.
async fn look_back<C: Client>(client: &mut C, context: &Context) -> Result<(), Failure> {
    let remembered = context.recorder.invoke(|h| {
        let back = context.rng.below(6) as usize;
        h.snapshots.len().checked_sub(back).and_then(|at| h.snapshots.get(at)).cloned()
    });
    let (past, remembered) = match remembered {
        Some((past, rows)) => (past, Some(rows)),
        None => (client.past().await?, None),
    };
    let seen = match client.begin_as_of(&past).await {
        Ok(()) => client.execute(&Op::Scan { table: Table::Accounts }).await,
        Err(failure) => Err(failure),
    };
    let seen = match seen {
        Ok(seen) => seen.rows(),
        Err(Failure::TooOld) => {
            client.rollback().await;
            return Ok(());
        }
        Err(failure) => return Err(failure),
    };
    client.commit().await?;
    match remembered {
        Some(rows) if rows != seen => {
            context.recorder.violation(format!("as of {past} there was {rows:?}, now it is {seen:?}"));
        }
        Some(_) => {}
        None => {
            // A wall clock that jumped back may name a time before the accounts were opened.
            if !seen.is_empty() {
                check_sum(context, "a look back", &seen);
            }
            context.recorder.answer(|h| h.snapshots.push((past, seen)));
        }
    }
    Ok(())
}

/// Reports a snapshot of the accounts that money was made or lost in.
pub fn check_sum(context: &Context, what: &str, rows: &[(i64, i64)]) {
    if let Err(why) = sum(rows) {
        context.recorder.violation(format!("{what}: {why}"));
    }
}

fn sum(rows: &[(i64, i64)]) -> Result<(), String> {
    let total: i64 = rows.iter().map(|(_, balance)| balance).sum();
    if rows.len() as i64 != ACCOUNTS || total != ACCOUNTS * OPENING_BALANCE {
        return Err(format!(
            "the accounts sum to {total} instead of {}: {rows:?}",
            ACCOUNTS * OPENING_BALANCE
        ));
    }
    Ok(())
}

/// Compares balances, ledger and what clients were told.
pub async fn check<C: Client>(client: &mut C, recorder: &Recorder) -> Result<(), Failure> {
    client.begin().await?;
    let accounts = client.execute(&Op::Scan { table: Table::Accounts }).await?.rows();
    let ledger = client.execute(&Op::Scan { table: Table::Ledger }).await?.rows();
    client.commit().await?;
    if let Err(why) = sum(&accounts) {
        recorder.violation(why);
    }
    let mut expected: Vec<(i64, i64)> = (0..ACCOUNTS).map(|key| (key, OPENING_BALANCE)).collect();
    let violations: Vec<String> = recorder.with(|histories| {
        let mut violations = Vec::new();
        for (id, value) in &ledger {
            match histories.transfers.get(id) {
                Some(transfer) if encode(*transfer) == *value => {
                    expected[transfer.from as usize].1 -= transfer.amount;
                    expected[transfer.to as usize].1 += transfer.amount;
                    if transfer.outcome == Outcome::Aborted {
                        violations.push(format!("transfer {id} was rolled back and is in the ledger"));
                    }
                }
                _ => violations.push(format!("the ledger has {id} → {value}, which nobody wrote")),
            }
        }
        for (id, transfer) in &histories.transfers {
            if transfer.outcome == Outcome::Committed && ledger.binary_search_by_key(id, |row| row.0).is_err()
            {
                violations.push(format!("transfer {id} was acknowledged and is lost: {transfer:?}"));
            }
        }
        violations
    });
    violations.into_iter().for_each(|what| recorder.violation(what));
    if accounts != expected {
        recorder.violation(format!(
            "the ledger makes {expected:?}, the accounts have {accounts:?}: half a transaction"
        ));
    }
    Ok(())
}

/// A transfer as the ledger has it.
pub fn encode(transfer: Transfer) -> i64 {
    (transfer.from * 1000 + transfer.to) * 1000 + transfer.amount
}
