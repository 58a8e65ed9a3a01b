//! Batches of rows loaded by COPY, into a table with a key and into one without: each is there as a
//! whole, once and in its index, or not at all. Most are small; some are so large that they go in bulk.

use crate::client::{Client, Failure, Op, Table};
use crate::history::{Batch, Outcome, Recorder};

use super::{Context, bank};

/// Keys of a batch lie between its number times this and the next one's.
const SPACE: i64 = 10_000;

/// Rows beyond which COPY writes in bulk.
const BULK: u64 = 1_000;

/// One COPY or one look.
pub async fn step<C: Client>(client: &mut C, context: &Context) -> Result<(), Failure> {
    match context.rng.below(8) {
        0 | 1 => look(client, context).await,
        2 => load_again(client, context).await,
        _ => load(client, context).await,
    }
}

async fn load<C: Client>(client: &mut C, context: &Context) -> Result<(), Failure> {
    let Context { recorder, rng, .. } = context;
    let table = if rng.one_in(2) { Table::Loads } else { Table::Heap };
    let count = if rng.one_in(16) { rng.between(BULK, BULK + 300) } else { rng.between(1, 40) } as i64;
    let number = recorder.unique();
    recorder.invoke(|h| h.batches.insert(number, Batch { table, count, outcome: Outcome::Unknown }));
    let op = Op::Load { table, first: number * SPACE, count, value: number };
    let result = load_once(client, context, &op).await;
    let outcome = match &result {
        Ok(true) => Outcome::Committed,
        Ok(false) | Err(Failure::Retry(_)) => Outcome::Aborted,
        Err(_) => Outcome::Unknown,
    };
    recorder.answer(|h| h.batches.get_mut(&number).expect("invoked").outcome = outcome);
    if outcome == Outcome::Committed {
        recorder.committed();
    }
    result.map(|_| ())
}

/// Whether it was committed: sometimes it is part of a transaction that is rolled back.
async fn load_once<C: Client>(client: &mut C, context: &Context, op: &Op) -> Result<bool, Failure> {
    if !context.rng.one_in(4) {
        client.execute(op).await?;
        return Ok(true);
    }
    client.begin().await?;
    client.execute(op).await?;
    bank::end(client, context, 3).await
}

/// New rows and at the end one that is there: refused, and the new ones are not there either.
async fn load_again<C: Client>(client: &mut C, context: &Context) -> Result<(), Failure> {
    let Context { recorder, rng, .. } = context;
    let Some((number, _)) =
        pick(context, |batch| batch.table == Table::Loads && batch.outcome == Outcome::Committed)
    else {
        return Ok(());
    };
    let before = if rng.one_in(16) { BULK as i64 + 100 } else { rng.between(1, 30) as i64 };
    let value = recorder.unique();
    let batch = Batch { table: Table::Loads, count: before + 1, outcome: Outcome::Aborted };
    recorder.invoke(|h| h.batches.insert(value, batch));
    let first = number * SPACE - before;
    match client.execute(&Op::Load { table: Table::Loads, first, count: before + 1, value }).await {
        Err(Failure::Duplicate) => {
            client.rollback().await;
            Ok(())
        }
        Ok(_) => {
            recorder.violation(format!("batch {number} was loaded and its first row is not in the way"));
            Ok(())
        }
        Err(failure) => Err(failure),
    }
}

/// A batch that was, is or will be loaded, in one snapshot.
async fn look<C: Client>(client: &mut C, context: &Context) -> Result<(), Failure> {
    let Some((number, known)) = pick(context, |_| true) else { return Ok(()) };
    let op = Op::ByValue { table: known.table, value: number };
    let rows = client.execute(&op).await?.rows();
    if let Err(why) = compare(number, known, &rows) {
        context.recorder.violation(why);
    }
    Ok(())
}

/// Compares the rows found of a batch with what is known of it.
fn compare(number: i64, batch: Batch, rows: &[(i64, i64)]) -> Result<(), String> {
    let whole = (0..batch.count).map(|row| (number * SPACE + row, number));
    let is_whole = rows.len() as i64 == batch.count && rows.iter().copied().eq(whole);
    let may_be = match batch.outcome {
        Outcome::Committed => is_whole,
        Outcome::Aborted => rows.is_empty(),
        Outcome::Unknown => is_whole || rows.is_empty(),
    };
    if may_be {
        return Ok(());
    }
    Err(format!("batch {number}: {batch:?} with {} rows: {:?} …", rows.len(), rows.first()))
}

/// The final tables and the index against what clients were told.
pub async fn check<C: Client>(client: &mut C, recorder: &Recorder) -> Result<(), Failure> {
    let batches = recorder.with(|h| h.batches.clone());
    for table in [Table::Loads, Table::Heap] {
        let mut rows = client.execute(&Op::Scan { table }).await?.rows();
        for (number, batch) in batches.iter().filter(|(_, batch)| batch.table == table) {
            let found: Vec<_> = rows.extract_if(.., |row| row.1 == *number).collect();
            if let Err(why) = compare(*number, *batch, &found) {
                recorder.violation(why);
            }
            if table.is_indexed() {
                let by_index = client.execute(&Op::ByValue { table, value: *number }).await?.rows();
                if by_index != found {
                    recorder.violation(format!(
                        "batch {number} in the table: {found:?}, in the index: {by_index:?}"
                    ));
                }
            }
        }
        if let Some(row) = rows.first() {
            recorder.violation(format!("{table:?} has {row:?}, which nobody loaded"));
        }
    }
    Ok(())
}

/// One of the newest batches that `wanted` accepts, as it was known before what comes next.
fn pick(context: &Context, wanted: impl Fn(&Batch) -> bool) -> Option<(i64, Batch)> {
    context.recorder.with(|h| {
        let newest = h.batches.iter().rev().filter(|(_, batch)| wanted(batch)).take(8);
        let found: Vec<_> = newest.map(|(number, batch)| (*number, *batch)).collect();
        if found.is_empty() { None } else { Some(*context.rng.choose(&found)) }
    })
}
