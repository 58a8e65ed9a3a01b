//! A client without SQL: transactions of `cairn_txn`, rows and index entries by hand.

use std::sync::Arc;

use bytes::Bytes;
use cairn_kv::Timestamp;
use cairn_txn::{Db, Isolation, Scan, Txn, TxnError, TxnOptions};

use crate::client::{Answer, Client, Failure, Op, Table};

/// A connection.
pub struct KvClient {
    db: Arc<Db>,
    open: Option<Txn>,
}

impl KvClient {
    /// Connects.
    pub fn new(db: &Arc<Db>) -> KvClient {
        KvClient { db: Arc::clone(db), open: None }
    }

    fn transaction(&mut self) -> Result<&mut Txn, Failure> {
        self.open.as_mut().ok_or_else(|| Failure::Broken("no transaction is open".into()))
    }
}

impl Client for KvClient {
    async fn create_tables(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    async fn begin(&mut self) -> Result<(), Failure> {
        self.open = Some(self.db.begin(TxnOptions::default()));
        Ok(())
    }

    async fn begin_read_committed(&mut self) -> Result<(), Failure> {
        let options = TxnOptions { isolation: Isolation::ReadCommitted, ..TxnOptions::default() };
        self.open = Some(self.db.begin(options));
        Ok(())
    }

    async fn begin_as_of(&mut self, past: &str) -> Result<(), Failure> {
        let ts = past.parse().map_err(|_| Failure::Broken(format!("no timestamp: {past}")))?;
        let options = TxnOptions { as_of: Some(Timestamp(ts)), read_only: true, ..TxnOptions::default() };
        self.open = Some(self.db.begin(options));
        Ok(())
    }

    async fn past(&mut self) -> Result<String, Failure> {
        Ok(self.db.now().await.map_err(failure)?.0.to_string())
    }

    async fn execute(&mut self, op: &Op) -> Result<Answer, Failure> {
        let commits_itself = self.open.is_none();
        let mut txn = match self.open.take() {
            Some(txn) => txn,
            None => self.db.begin(TxnOptions::default()),
        };
        let mut result = statement(&mut txn, op).await;
        // What SQL does with a conflict inside a statement.
        for _ in 0..3 {
            if !matches!(result, Err(Error::Txn(TxnError::Retry { .. })))
                || txn.restart_statement().await.is_err()
            {
                break;
            }
            result = statement(&mut txn, op).await;
        }
        let result = result.map_err(|error| match error {
            Error::Duplicate => Failure::Duplicate,
            Error::Txn(error) => failure(error),
        });
        if !commits_itself {
            self.open = Some(txn);
            return result;
        }
        match result {
            Ok(answer) => txn.commit().await.map(|_| answer).map_err(failure),
            Err(failure) => {
                txn.rollback().await;
                Err(failure)
            }
        }
    }

    async fn commit(&mut self) -> Result<(), Failure> {
        let result = self.transaction()?.commit().await;
        self.open = None;
        result.map(|_| ()).map_err(failure)
    }

    async fn rollback(&mut self) {
        if let Some(mut txn) = self.open.take() {
            txn.rollback().await;
        }
    }
}

enum Error {
    Duplicate,
    Txn(TxnError),
}

impl From<TxnError> for Error {
    fn from(error: TxnError) -> Error {
        Error::Txn(error)
    }
}

async fn statement(txn: &mut Txn, op: &Op) -> Result<Answer, Error> {
    txn.begin_statement().await?;
    Ok(match *op {
        Op::Get { table, key, lock } => {
            let row = row_key(table, key);
            let found = if lock { txn.get_for_update(&row).await? } else { txn.get(&row).await? };
            Answer::Rows(found.map(|value| (key, decode(&value))).into_iter().collect())
        }
        Op::Add { table, key, delta } => update(txn, table, key, |old| Some(old + delta)).await?,
        Op::Set { table, key, value } => update(txn, table, key, |_| Some(value)).await?,
        Op::CompareAndSet { table, key, old, new } => {
            update(txn, table, key, |found| (found == old).then_some(new)).await?
        }
        Op::Insert { table, key, value } => {
            let row = row_key(table, key);
            if txn.get_for_update(&row).await?.is_some() {
                return Err(Error::Duplicate);
            }
            txn.put(row, encode(value)).await?;
            if table.is_indexed() {
                txn.put(index_key(table, value, key), Bytes::new()).await?;
            }
            Answer::Changed(1)
        }
        Op::Delete { table, key } => {
            let row = row_key(table, key);
            let Some(old) = txn.get_for_update(&row).await? else { return Ok(Answer::Changed(0)) };
            if table.is_indexed() {
                txn.delete(index_key(table, decode(&old), key)).await?;
            }
            txn.delete(row).await?;
            Answer::Changed(1)
        }
        Op::Transfer { from, to, amount } => {
            for (key, delta) in [(from, -amount), (to, amount)] {
                update(txn, Table::Accounts, key, |old| Some(old + delta)).await?;
            }
            Answer::Changed(2)
        }
        Op::Load { table, first, count, value } => {
            let keys = first..first + count;
            let rows = keys.clone().map(|key| (row_key(table, key), encode(value)));
            let entries =
                keys.filter(|_| table.is_indexed()).map(|key| (index_key(table, value, key), Bytes::new()));
            match txn.insert_new(rows.chain(entries).collect()).await {
                Ok(()) => Answer::Changed(count as u64),
                Err(TxnError::Exists { .. }) => return Err(Error::Duplicate),
                Err(error) => return Err(error.into()),
            }
        }
        Op::Append { key, element } => {
            let row = row_key(Table::Lists, key);
            let Some(list) = txn.get_for_update(&row).await? else { return Ok(Answer::Changed(0)) };
            txn.put(row, Bytes::from([&list[..], &encode(element)].concat())).await?;
            Answer::Changed(1)
        }
        Op::List { key } => {
            let list = txn.get(&row_key(Table::Lists, key)).await?.unwrap_or_default();
            Answer::Elements(list.chunks(8).skip(1).map(decode).collect())
        }
        Op::Scan { table } => {
            let span = Scan { start: prefix(table, 0), end: prefix(table, 1), reverse: false };
            Answer::Rows(scan(txn, span, |key, value| (decode(&key[1..]), decode(value))).await?)
        }
        Op::ByValue { table, value } if !table.is_indexed() => {
            let span = Scan { start: prefix(table, 0), end: prefix(table, 1), reverse: false };
            let mut rows = scan(txn, span, |key, value| (decode(&key[1..]), decode(value))).await?;
            rows.retain(|row| row.1 == value);
            Answer::Rows(rows)
        }
        Op::ByValue { table, value } => {
            let span = Scan {
                start: index_key(table, value, 0),
                end: index_key(table, value + 1, 0),
                reverse: false,
            };
            Answer::Rows(scan(txn, span, |key, _| (decode(&key[9..]), value)).await?)
        }
    })
}

async fn update(
    txn: &mut Txn,
    table: Table,
    key: i64,
    change: impl FnOnce(i64) -> Option<i64> + Send,
) -> Result<Answer, Error> {
    let row = row_key(table, key);
    let Some(old) = txn.get_for_update(&row).await? else { return Ok(Answer::Changed(0)) };
    let old = decode(&old);
    let Some(new) = change(old) else { return Ok(Answer::Changed(0)) };
    txn.put(row, encode(new)).await?;
    if table.is_indexed() {
        txn.delete(index_key(table, old, key)).await?;
        txn.put(index_key(table, new, key), Bytes::new()).await?;
    }
    Ok(Answer::Changed(1))
}

async fn scan(
    txn: &mut Txn,
    mut span: Scan,
    row: impl Fn(&[u8], &[u8]) -> (i64, i64) + Send + Sync,
) -> Result<Vec<(i64, i64)>, Error> {
    let mut rows = Vec::new();
    while let Some(next) = txn
        .scan(&span, &mut |key, value| {
            rows.push(row(key, value));
            true
        })
        .await?
    {
        span.start = next;
    }
    Ok(rows)
}

/// Rows of a table lie under an even byte, its index under the odd one behind it.
fn prefix(table: Table, part: u8) -> Bytes {
    Bytes::from(vec![0x40 + table as u8 * 2 + part])
}

fn row_key(table: Table, key: i64) -> Bytes {
    Bytes::from([&prefix(table, 0)[..], &key.to_be_bytes()].concat())
}

fn index_key(table: Table, value: i64, key: i64) -> Bytes {
    Bytes::from([&prefix(table, 1)[..], &value.to_be_bytes(), &key.to_be_bytes()].concat())
}

fn encode(value: i64) -> Bytes {
    Bytes::copy_from_slice(&value.to_be_bytes())
}

fn decode(bytes: &[u8]) -> i64 {
    i64::from_be_bytes(bytes.try_into().expect("this client writes eight bytes"))
}

fn failure(error: TxnError) -> Failure {
    match error {
        TxnError::Retry { .. } | TxnError::Deadlock { .. } => Failure::Retry(error.to_string()),
        TxnError::SnapshotTooOld { .. } => Failure::TooOld,
        TxnError::Ambiguous(_) | TxnError::Unavailable(_) | TxnError::Storage(cairn_kv::Error::Io(_)) => {
            Failure::Unknown(error.to_string())
        }
        other => Failure::Broken(other.to_string()),
    }
}
