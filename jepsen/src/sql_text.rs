//! The workloads' statements as SQL text, and what to make of the answers: shared by the sessions
//! of the simulated node and by connections over sockets.

use crate::client::{Answer, Failure, Op, Table};

/// The statements that create all tables.
pub fn create_tables() -> Vec<String> {
    let table = |table: Table| {
        let name = table.name();
        let key = if table.has_key() { "PRIMARY KEY" } else { "NOT NULL" };
        let create = format!("CREATE TABLE {name} (k bigint {key}, v {} NOT NULL)", table.value_type());
        let index = table.is_indexed().then(|| format!("CREATE INDEX {name}_v ON {name} (v)"));
        [create].into_iter().chain(index)
    };
    Table::ALL.into_iter().flat_map(table).collect()
}

/// A statement as text.
pub fn text(op: &Op) -> String {
    match op {
        Op::Get { table, key, lock } => {
            let lock = if *lock { " FOR UPDATE" } else { "" };
            format!("SELECT k, v FROM {} WHERE k = {key}{lock}", table.name())
        }
        Op::Add { table, key, delta } => {
            format!("UPDATE {} SET v = v + ({delta}) WHERE k = {key}", table.name())
        }
        Op::Set { table, key, value } => format!("UPDATE {} SET v = {value} WHERE k = {key}", table.name()),
        Op::CompareAndSet { table, key, old, new } => {
            format!("UPDATE {} SET v = {new} WHERE k = {key} AND v = {old}", table.name())
        }
        Op::Insert { table, key, value } => format!("INSERT INTO {} VALUES ({key}, {value})", table.name()),
        Op::Delete { table, key } => format!("DELETE FROM {} WHERE k = {key}", table.name()),
        Op::Transfer { from, to, amount } => format!(
            "UPDATE accounts SET v = v + CASE k WHEN {from} THEN {} ELSE {amount} END WHERE k IN ({from}, {to})",
            -amount
        ),
        Op::Load { table, .. } => format!("COPY {} (k, v) FROM STDIN", table.name()),
        Op::Append { key, element } => format!("UPDATE lists SET v = v || ' {element}' WHERE k = {key}"),
        Op::List { key } => format!("SELECT k, v FROM lists WHERE k = {key}"),
        Op::Scan { table } => format!("SELECT k, v FROM {} ORDER BY k", table.name()),
        Op::ByValue { table, value } => {
            format!("SELECT k, v FROM {} WHERE v = {value} ORDER BY k", table.name())
        }
    }
}

/// The data of a COPY.
pub fn copy_data(first: i64, count: i64, value: i64) -> String {
    (first..first + count).map(|key| format!("{key}\t{value}\n")).collect()
}

/// The answer to a statement from its rows or its command tag's count.
pub fn answer(op: &Op, rows: &[&[Option<String>]], changed: u64) -> Result<Answer, Failure> {
    if let Op::List { key } = op {
        let list = match rows {
            [[_, Some(list)]] => elements(list),
            _ => None,
        };
        return list.map(Answer::Elements).ok_or_else(|| Failure::Broken(format!("list {key} is {rows:?}")));
    }
    if !matches!(op, Op::Get { .. } | Op::Scan { .. } | Op::ByValue { .. }) {
        return Ok(Answer::Changed(changed));
    }
    let row = |row: &[Option<String>]| match row {
        [Some(key), Some(value)] => Some((key.parse().ok()?, value.parse().ok()?)),
        _ => None,
    };
    rows.iter()
        .map(|r| row(r).ok_or_else(|| Failure::Broken(format!("not a row of two numbers: {r:?}"))))
        .collect::<Result<_, _>>()
        .map(Answer::Rows)
}

/// The elements of a list from its text, which begins with 0.
fn elements(list: &str) -> Option<Vec<i64>> {
    list.split_whitespace().skip(1).map(|element| element.parse().ok()).collect()
}

/// The time from the rows of `SELECT clock_timestamp()`.
pub fn past(rows: &[&[Option<String>]]) -> Result<String, Failure> {
    match rows {
        [[Some(now)]] => Ok(now.clone()),
        other => Err(Failure::Broken(format!("clock_timestamp() gave {other:?}"))),
    }
}

/// What a SQLSTATE that `sql` was answered with means for a workload; `in_past`: in a transaction that reads the past.
pub fn failure(state: &str, message: &str, sql: &str, in_past: bool) -> Failure {
    let message = format!("{message} ({sql})");
    match state {
        // Undefined table, or a past that lies in the future after a clock was set back.
        "42P01" | "22023" if in_past => Failure::TooOld,
        // Conflicts, and a canceled statement.
        "40001" | "40P01" | "57014" => Failure::Retry(message),
        "23505" => Failure::Duplicate,
        "72000" => Failure::TooOld,
        // Unknown outcome, connection trouble, shutdown, storage failure.
        "40003" | "57P01" | "57P02" | "57P03" | "58030" => Failure::Unknown(message),
        state if state.starts_with("08") => Failure::Unknown(message),
        state => Failure::Broken(format!("{state} {message}")),
    }
}
