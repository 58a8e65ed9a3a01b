//! Random transactions over a few cells: reads, scans, and writes that name what they replace. The
//! whole history must be strictly serializable ([`crate::check::serial`]).

use std::time::Duration;

use crate::check::serial::Transaction;
use crate::client::{Client, Failure, Op, Table};
use crate::history::{Course, Recorder};

use super::Context;

const CELLS: u64 = 12;

/// One transaction.
pub async fn step<C: Client>(client: &mut C, context: &Context) -> Result<(), Failure> {
    let recorder = &context.recorder;
    let index = invoke(recorder);
    let result = transaction(client, context, index).await;
    let answered = recorder.event();
    recorder.answer(|h| h.transactions[index].course.end(answered, &result));
    match result {
        // Two transactions insert the same absent cell: the later one may be told so.
        Err(Failure::Duplicate) => Err(Failure::Retry("duplicate".into())),
        other => other,
    }
}

fn invoke(recorder: &Recorder) -> usize {
    let course = Course::begun(recorder.event());
    recorder.invoke(|h| {
        h.transactions.push(Transaction { course, reads: Vec::new(), writes: Vec::new() });
        h.transactions.len() - 1
    })
}

async fn transaction<C: Client>(client: &mut C, context: &Context, index: usize) -> Result<(), Failure> {
    let Context { recorder, rng, .. } = context;
    let table = Table::Cells;
    client.begin().await?;
    let mut reads = Vec::new();
    let mut writes: Vec<(i64, i64, i64)> = Vec::new();
    if rng.one_in(8) {
        let rows = client.execute(&Op::Scan { table }).await?.rows();
        for key in 0..CELLS as i64 {
            let found = rows.iter().find(|row| row.0 == key);
            reads.push((key, found.map_or(0, |row| row.1)));
        }
    }
    for _ in 0..rng.between(1, 4) {
        let key = rng.below(CELLS) as i64;
        let is_write = rng.one_in(2);
        let get = Op::Get { table, key, lock: is_write && rng.one_in(2) };
        let value = client.execute(&get).await?.value();
        let own = writes.iter().rfind(|w| w.0 == key).map(|w| w.2);
        if let Some(own) = own {
            if value != Some(own) {
                recorder.violation(format!("a transaction wrote {own} to cell {key} and reads {value:?}"));
            }
            continue;
        }
        reads.push((key, value.unwrap_or(0)));
        if rng.one_in(8) {
            context.pause(Duration::from_millis(1)).await;
        }
        if is_write {
            let new = recorder.unique();
            let (op, replaced) = match value {
                None => (Op::Insert { table, key, value: new }, 0),
                Some(old) => (Op::Set { table, key, value: new }, old),
            };
            if !client.execute(&op).await?.changed() {
                return Err(Failure::Broken(format!("cell {key} is gone between two statements")));
            }
            writes.push((key, replaced, new));
        }
    }
    let has_writes = !writes.is_empty();
    // Before the commit, whose answer may never come.
    recorder.invoke(|h| {
        h.transactions[index].reads = reads;
        h.transactions[index].writes = writes;
    });
    client.commit().await?;
    if has_writes {
        recorder.committed();
    }
    Ok(())
}

/// A last look at every cell, as one transaction of the history.
pub async fn check<C: Client>(client: &mut C, recorder: &Recorder) -> Result<(), Failure> {
    let index = invoke(recorder);
    let rows = client.execute(&Op::Scan { table: Table::Cells }).await?.rows();
    let answered = recorder.event();
    recorder.invoke(|h| {
        let transaction = &mut h.transactions[index];
        transaction.reads = (0..CELLS as i64)
            .map(|key| (key, rows.iter().find(|row| row.0 == key).map_or(0, |row| row.1)))
            .collect();
        transaction.course.end(answered, &Ok(()));
    });
    Ok(())
}
