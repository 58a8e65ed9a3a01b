//! Single rows, read, written and compared by statements that commit themselves: linearizable.

use crate::check::linear::{Call, Operation, Reply};
use crate::client::{Client, Failure, Op, Table};
use crate::history::Recorder;

use super::Context;

const REGISTERS: i64 = 6;

/// Value that every register begins with.
pub const INITIAL: i64 = 0;

/// Creates the registers.
pub async fn set_up<C: Client>(client: &mut C) -> Result<(), Failure> {
    for key in 0..REGISTERS {
        client.execute(&Op::Insert { table: Table::Registers, key, value: INITIAL }).await?;
    }
    Ok(())
}

/// One operation on one register.
pub async fn step<C: Client>(client: &mut C, context: &Context) -> Result<(), Failure> {
    let Context { recorder, rng, .. } = context;
    let key = rng.below(REGISTERS as u64) as i64;
    let call = match rng.below(5) {
        0 | 1 => Call::Read,
        2 | 3 => Call::Write(recorder.unique()),
        _ => {
            // A value that may well be there: the newest that somebody wrote or saw.
            let old = recorder.with(|h| {
                h.operations.iter().rev().filter(|o| o.key == key).find_map(|o| match (o.call, o.answer) {
                    (Call::Write(value), Some((_, Reply::Done))) => Some(value),
                    (Call::CompareAndSet { new, .. }, Some((_, Reply::Done))) => Some(new),
                    (Call::Read, Some((_, Reply::Value(value)))) => Some(value),
                    _ => None,
                })
            });
            Call::CompareAndSet { old: old.unwrap_or(INITIAL), new: recorder.unique() }
        }
    };
    perform(client, recorder, key, call).await
}

/// A read of one register. Where writes are not answered any more, as at a leaseholder that is cut off, who also
/// writes soon waits; who only reads sees what is stale.
pub async fn look<C: Client>(client: &mut C, context: &Context) -> Result<(), Failure> {
    let key = context.rng.below(REGISTERS as u64) as i64;
    perform(client, &context.recorder, key, Call::Read).await
}

async fn perform<C: Client>(
    client: &mut C,
    recorder: &Recorder,
    key: i64,
    call: Call,
) -> Result<(), Failure> {
    let table = Table::Registers;
    let op = match call {
        Call::Read => Op::Get { table, key, lock: false },
        Call::Write(value) => Op::Set { table, key, value },
        Call::CompareAndSet { old, new } => Op::CompareAndSet { table, key, old, new },
    };
    let invoked = recorder.event();
    let index = recorder.invoke(|h| {
        h.operations.push(Operation { key, call, invoked, answer: None });
        h.operations.len() - 1
    });
    let result = client.execute(&op).await;
    let reply = match (&result, call) {
        (Ok(answer), Call::Read) => match answer.clone().value() {
            Some(value) => Reply::Value(value),
            None => return Err(Failure::Broken(format!("register {key} is gone"))),
        },
        (Ok(answer), Call::CompareAndSet { .. }) if !answer.clone().changed() => Reply::Differs,
        (Ok(answer), Call::Write(_)) if !answer.clone().changed() => {
            return Err(Failure::Broken(format!("register {key} is gone")));
        }
        (Ok(_), _) => Reply::Done,
        (Err(Failure::Retry(_)), _) => Reply::Nothing,
        (Err(_), _) => return result.map(|_| ()),
    };
    if reply == Reply::Done {
        recorder.committed();
    }
    let answered = recorder.event();
    recorder.answer(|h| h.operations[index].answer = Some((answered, reply)));
    result.map(|_| ())
}

/// A last read of every register; the history is checked as a whole afterwards.
pub async fn check<C: Client>(client: &mut C, recorder: &Recorder) -> Result<(), Failure> {
    for key in 0..REGISTERS {
        perform(client, recorder, key, Call::Read).await?;
    }
    Ok(())
}
