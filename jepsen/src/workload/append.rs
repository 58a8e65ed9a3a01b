//! Transactions that append to a few lists and read them ([`crate::check::append`]). Appends do not read first:
//! only the order of the elements tells who came when.

use crate::check::append::Transaction;
use crate::client::{Client, Failure, Op, Table};
use crate::history::{Course, Recorder};

use super::Context;

const LISTS: i64 = 6;

/// Creates the lists, each with the element 0, which is no element.
pub async fn set_up<C: Client>(client: &mut C) -> Result<(), Failure> {
    for key in 0..LISTS {
        client.execute(&Op::Insert { table: Table::Lists, key, value: 0 }).await?;
    }
    Ok(())
}

/// One transaction.
pub async fn step<C: Client>(client: &mut C, context: &Context) -> Result<(), Failure> {
    let recorder = &context.recorder;
    let index = invoke(recorder);
    let result = transaction(client, context, index).await;
    let answered = recorder.event();
    recorder.answer(|h| {
        let transaction = &mut h.appends[index];
        transaction.course.end(answered, &result);
        if result.is_err() {
            // What it read may never have been confirmed.
            transaction.reads.clear();
        }
    });
    result
}

fn invoke(recorder: &Recorder) -> usize {
    let course = Course::begun(recorder.event());
    recorder.invoke(|h| {
        h.appends.push(Transaction { course, reads: Vec::new(), appends: Vec::new() });
        h.appends.len() - 1
    })
}

async fn transaction<C: Client>(client: &mut C, context: &Context, index: usize) -> Result<(), Failure> {
    let Context { recorder, rng, .. } = context;
    client.begin().await?;
    let mut reads: Vec<(i64, Vec<i64>)> = Vec::new();
    let mut appends: Vec<(i64, i64)> = Vec::new();
    for _ in 0..rng.between(1, 4) {
        let key = rng.below(LISTS as u64) as i64;
        // Appended to, or read, once: so what is read holds nothing of its own.
        if reads.iter().any(|(read, _)| *read == key) || appends.iter().any(|(to, _)| *to == key) {
            continue;
        }
        if rng.one_in(2) {
            reads.push((key, client.execute(&Op::List { key }).await?.elements()));
        } else {
            let element = recorder.unique();
            if !client.execute(&Op::Append { key, element }).await?.changed() {
                return Err(Failure::Broken(format!("list {key} is gone")));
            }
            appends.push((key, element));
        }
    }
    let has_writes = !appends.is_empty();
    // Before the commit, whose answer may never come.
    recorder.invoke(|h| (h.appends[index].reads, h.appends[index].appends) = (reads, appends));
    client.commit().await?;
    if has_writes {
        recorder.committed();
    }
    Ok(())
}

/// A last look at every list, as one transaction of the history.
pub async fn check<C: Client>(client: &mut C, recorder: &Recorder) -> Result<(), Failure> {
    let index = invoke(recorder);
    let mut reads = Vec::new();
    for key in 0..LISTS {
        reads.push((key, client.execute(&Op::List { key }).await?.elements()));
    }
    let answered = recorder.event();
    recorder.invoke(|h| {
        let transaction = &mut h.appends[index];
        transaction.reads = reads;
        transaction.course.end(answered, &Ok(()));
    });
    Ok(())
}
