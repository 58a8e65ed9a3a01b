//! A set that grows and shrinks: what was acknowledged is there, what was not may be, nothing
//! twice, and the secondary index agrees with the table in every snapshot.

use crate::client::{Client, Failure, Op, Table};
use crate::history::{Element, Histories, Outcome, Recorder};

use super::Context;

/// Different values, so that index entries of several rows lie together.
const VALUES: i64 = 7;

/// One insertion, deletion or look.
pub async fn step<C: Client>(client: &mut C, context: &Context) -> Result<(), Failure> {
    match context.rng.below(20) {
        0 => look(client, context).await,
        1..=6 => delete(client, context).await,
        7 => insert_again(client, context).await,
        8 | 9 => move_value(client, context).await,
        _ => insert(client, context).await,
    }
}

async fn insert<C: Client>(client: &mut C, context: &Context) -> Result<(), Failure> {
    let recorder = &context.recorder;
    let key = recorder.unique();
    recorder.invoke(|h| {
        h.elements.insert(key, Element { inserted: Outcome::Unknown, deleted: None, reinsertions: 0 })
    });
    let result = client.execute(&Op::Insert { table: Table::Items, key, value: key % VALUES }).await;
    let outcome = outcome(recorder, &result);
    recorder.answer(|h| element(h, key).inserted = outcome);
    result.map(|_| ())
}

async fn delete<C: Client>(client: &mut C, context: &Context) -> Result<(), Failure> {
    let recorder = &context.recorder;
    let Some(key) = pick(context, |e| e.inserted == Outcome::Committed && e.deleted.is_none()) else {
        return Ok(());
    };
    recorder.invoke(|h| element(h, key).deleted = Some(Outcome::Unknown));
    let result = client.execute(&Op::Delete { table: Table::Items, key }).await;
    if matches!(&result, Ok(answer) if !answer.clone().changed()) {
        recorder.violation(format!("element {key} was inserted and is not there to be deleted"));
    }
    let outcome = outcome(recorder, &result);
    recorder.answer(|h| element(h, key).deleted = (outcome != Outcome::Aborted).then_some(outcome));
    result.map(|_| ())
}

/// An insertion of what is there must be refused; it succeeds only where another client has
/// deleted the element meanwhile, which from then on may be there.
async fn insert_again<C: Client>(client: &mut C, context: &Context) -> Result<(), Failure> {
    let present = |e: &Element| e.inserted == Outcome::Committed && e.deleted.is_none();
    let Some(key) = pick(context, present) else { return Ok(()) };
    let recorder = &context.recorder;
    recorder.invoke(|h| element(h, key).reinsertions += 1);
    let result = client.execute(&Op::Insert { table: Table::Items, key, value: key % VALUES }).await;
    match result {
        Err(Failure::Duplicate) => {
            recorder.answer(|h| element(h, key).reinsertions -= 1);
            client.rollback().await;
            Ok(())
        }
        Ok(_) => {
            if recorder.with(|h| h.elements[&key].deleted.is_none()) {
                recorder.violation(format!("element {key} was inserted twice"));
            }
            recorder.committed();
            Ok(())
        }
        Err(failure) => {
            if matches!(failure, Failure::Retry(_)) {
                recorder.answer(|h| element(h, key).reinsertions -= 1);
            }
            Err(failure)
        }
    }
}

/// Moves an element to another value and back in one transaction that also looks at the index.
async fn move_value<C: Client>(client: &mut C, context: &Context) -> Result<(), Failure> {
    let present = |e: &Element| e.inserted == Outcome::Committed && e.deleted.is_none();
    let Some(key) = pick(context, present) else { return Ok(()) };
    let elsewhere = VALUES + key % 3;
    client.begin().await?;
    let moved = client.execute(&Op::Set { table: Table::Items, key, value: elsewhere }).await?.changed();
    let found = client.execute(&Op::ByValue { table: Table::Items, value: elsewhere }).await?.rows();
    if moved != found.iter().any(|row| row.0 == key) {
        context.recorder.violation(format!("a transaction does not see its own index entry of {key}"));
    }
    client.execute(&Op::Set { table: Table::Items, key, value: key % VALUES }).await?;
    client.commit().await?;
    if moved {
        context.recorder.committed();
    }
    Ok(())
}

/// Table and index in one snapshot.
async fn look<C: Client>(client: &mut C, context: &Context) -> Result<(), Failure> {
    client.begin().await?;
    let result = compare(client).await?;
    client.commit().await?;
    if let Err(why) = result {
        context.recorder.violation(why);
    }
    Ok(())
}

/// Compares table and index; the rows, or what is wrong.
async fn compare<C: Client>(client: &mut C) -> Result<Result<Vec<(i64, i64)>, String>, Failure> {
    let rows = client.execute(&Op::Scan { table: Table::Items }).await?.rows();
    if !rows.windows(2).all(|pair| pair[0].0 < pair[1].0) {
        return Ok(Err(format!("a scan is out of order or shows a key twice: {rows:?}")));
    }
    for value in 0..VALUES + 3 {
        let by_index = client.execute(&Op::ByValue { table: Table::Items, value }).await?.rows();
        let by_scan: Vec<_> = rows.iter().copied().filter(|row| row.1 == value).collect();
        if by_index != by_scan {
            return Ok(Err(format!("value {value}: the index has {by_index:?}, the table {by_scan:?}")));
        }
    }
    Ok(Ok(rows))
}

/// The final content against what clients were told.
pub async fn check<C: Client>(client: &mut C, recorder: &Recorder) -> Result<(), Failure> {
    client.begin().await?;
    let compared = compare(client).await?;
    client.commit().await?;
    let rows = match compared {
        Ok(rows) => rows,
        Err(why) => {
            recorder.violation(why);
            return Ok(());
        }
    };
    let violations = recorder.with(|histories| differences(histories, &rows));
    violations.into_iter().for_each(|what| recorder.violation(what));
    Ok(())
}

fn differences(histories: &Histories, rows: &[(i64, i64)]) -> Vec<String> {
    let mut violations = Vec::new();
    for (key, element) in &histories.elements {
        let is_there = rows.binary_search_by_key(key, |row| row.0).is_ok();
        let must = element.inserted == Outcome::Committed && element.deleted.is_none();
        let gone = element.inserted == Outcome::Aborted || element.deleted == Some(Outcome::Committed);
        let must_not = gone && element.reinsertions == 0;
        if must && !is_there {
            violations.push(format!("element {key} was acknowledged and is lost"));
        }
        if must_not && is_there {
            violations.push(format!("element {key} is there: {element:?}"));
        }
    }
    violations.extend(
        rows.iter().filter(|row| row.1 != row.0 % VALUES).map(|row| format!("element {row:?} is half moved")),
    );
    violations
}

fn outcome<T>(recorder: &Recorder, result: &Result<T, Failure>) -> Outcome {
    match result {
        Ok(_) => {
            recorder.committed();
            Outcome::Committed
        }
        Err(Failure::Retry(_)) => Outcome::Aborted,
        Err(_) => Outcome::Unknown,
    }
}

fn element(histories: &mut Histories, key: i64) -> &mut Element {
    histories.elements.get_mut(&key).expect("its insertion was recorded")
}

/// One of the newest elements that `wanted` accepts.
fn pick(context: &Context, wanted: impl Fn(&Element) -> bool) -> Option<i64> {
    context.recorder.with(|h| {
        let found: Vec<i64> =
            h.elements.iter().rev().filter(|(_, e)| wanted(e)).map(|(k, _)| *k).take(16).collect();
        if found.is_empty() { None } else { Some(*context.rng.choose(&found)) }
    })
}
