//! Transfers between accounts by a few clients, each of whose transactions leaves traces in every
//! kind of table, and the check that all traces of a transaction are there or none.

use tokio::sync::mpsc;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

const CLIENTS: usize = 4;
const ACCOUNTS: i64 = 10;
const BALANCE: i64 = 1000;

pub struct Load {
    /// Transactions that each client knows to be committed.
    acknowledged: [i64; CLIENTS],
    /// Whether the client's next one has been sent, its outcome unknown.
    in_flight: [bool; CLIENTS],
    seed: u64,
}

impl Load {
    pub fn new(seed: u64) -> Load {
        Load { acknowledged: [0; CLIENTS], in_flight: [false; CLIENTS], seed }
    }

    /// The next of a series of numbers (SplitMix64).
    pub fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Runs transactions and calls `kill` in the middle of them.
    pub fn run_and_kill(&mut self, port: u16, kill: impl FnOnce()) {
        let commits = 1 + self.random() % 120;
        let seeds: Vec<u64> = (0..CLIENTS).map(|_| self.random()).collect();
        let start = self.acknowledged;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ends: Vec<(i64, bool)> = runtime.block_on(async {
            let (acknowledge, mut acknowledged) = mpsc::unbounded_channel();
            let mut clients = Vec::new();
            for (client, seed) in seeds.into_iter().enumerate() {
                let load = run_client(port, client, start[client], seed, acknowledge.clone());
                clients.push(tokio::spawn(load));
            }
            drop(acknowledge);
            for _ in 0..commits {
                acknowledged.recv().await.expect("the node answers until it is killed");
            }
            kill();
            let mut ends = Vec::new();
            for client in clients {
                ends.push(client.await.unwrap());
            }
            ends
        });
        for (client, (acknowledged, in_flight)) in ends.into_iter().enumerate() {
            self.acknowledged[client] = acknowledged;
            self.in_flight[client] = in_flight;
        }
    }

    /// Creates the tables, or compares them with what was acknowledged. What is found counts as
    /// acknowledged from then on.
    pub fn check(&mut self, port: u16) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let found = runtime.block_on(look(port))?;
        for (client, found) in found.into_iter().enumerate() {
            let least = self.acknowledged[client];
            let most = least + i64::from(self.in_flight[client]);
            if found < least {
                return Err(format!("client {client}: {least} acknowledged, {found} found"));
            }
            if found > most {
                return Err(format!("client {client}: at most {most} sent, {found} found"));
            }
            self.acknowledged[client] = found;
            self.in_flight[client] = false;
        }
        Ok(())
    }
}

async fn connect(port: u16) -> Client {
    let config = format!("host=127.0.0.1 port={port} user=postgres");
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Runs transactions until the node is gone; returns the last one that was acknowledged, and
/// whether one more was sent.
async fn run_client(
    port: u16,
    client: usize,
    mut done: i64,
    mut seed: u64,
    acknowledge: mpsc::UnboundedSender<()>,
) -> (i64, bool) {
    let session = connect(port).await;
    loop {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let from = (seed >> 33) as i64 % ACCOUNTS;
        let to = (from + 1 + (seed >> 43) as i64 % (ACCOUNTS - 1)) % ACCOUNTS;
        let amount = (seed >> 53) as i64 % 50;
        let next = done + 1;
        let padding = "x".repeat((seed >> 20) as usize % 2000);
        let transaction = format!(
            "BEGIN; \
             UPDATE account SET balance = balance - {amount} WHERE id = {from}; \
             UPDATE account SET balance = balance + {amount} WHERE id = {to}; \
             INSERT INTO journal VALUES ({client}, {next}, {from}, {to}, {amount}, '{padding}'); \
             INSERT INTO note (client, n) VALUES ({client}, {next}); \
             UPDATE progress SET n = {next} WHERE client = {client}; \
             COMMIT"
        );
        match session.simple_query(&transaction).await {
            Ok(_) => {
                done = next;
                // Nobody listens any more once the node is being killed.
                let _ = acknowledge.send(());
            }
            Err(error) if error.as_db_error().is_some_and(|error| is_conflict(error.code().code())) => {
                if session.simple_query("ROLLBACK").await.is_err() {
                    return (done, false);
                }
            }
            Err(error) if error.as_db_error().is_none() => return (done, true),
            Err(error) => panic!("{transaction}: {error:?}"),
        }
    }
}

/// A conflict that left nothing of a transaction: serialization or deadlock.
fn is_conflict(state: &str) -> bool {
    matches!(state, "40001" | "40P01")
}

/// Checks that the tables agree with one another; returns the number of each client's transactions.
async fn look(port: u16) -> Result<Vec<i64>, String> {
    let session = connect(port).await;
    let exists = numbers(&session, "SELECT count(*) FROM pg_tables WHERE tablename = 'progress'").await?;
    if exists == [[0]] {
        // Journal: composite key, secondary index. Note: no key of its own, a unique index.
        let create = format!(
            "BEGIN; \
             CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL); \
             CREATE TABLE journal (client int, n bigint, source int, target int, amount bigint, padding text, \
               PRIMARY KEY (client, n)); \
             CREATE INDEX ON journal (source, amount); \
             CREATE TABLE note (client int, n bigint, UNIQUE (n, client)); \
             CREATE TABLE progress (client int PRIMARY KEY, n bigint); \
             INSERT INTO account SELECT i - 1, {BALANCE} FROM generate_series(1, {ACCOUNTS}) AS g(i); \
             INSERT INTO progress SELECT i - 1, 0 FROM generate_series(1, {CLIENTS}) AS g(i); \
             COMMIT"
        );
        session.batch_execute(&create).await.map_err(|error| error.to_string())?;
    }
    let found = numbers(&session, "SELECT client, n FROM progress ORDER BY client").await?;
    for row in &found {
        let (client, n) = (row[0], row[1]);
        let traces = format!(
            "SELECT (SELECT count(*) FROM journal WHERE client = {client}), \
                    (SELECT coalesce(max(n), 0) FROM journal WHERE client = {client}), \
                    (SELECT count(*) FROM note WHERE client + 0 = {client}), \
                    (SELECT coalesce(max(n), 0) FROM note WHERE client + 0 = {client})"
        );
        let traces = numbers(&session, &traces).await?;
        if traces != [[n; 4]] {
            return Err(format!("client {client} made {n} transactions, its traces are {traces:?}"));
        }
    }
    let balances = numbers(
        &session,
        &format!(
            "SELECT id, balance - {BALANCE} + (SELECT coalesce(sum(amount), 0) FROM journal WHERE source = id) \
               - (SELECT coalesce(sum(amount), 0) FROM journal WHERE target = id) FROM account ORDER BY id"
        ),
    )
    .await?;
    if balances.iter().any(|row| row[1] != 0) || balances.len() as i64 != ACCOUNTS {
        return Err(format!("accounts and their differences from the journal: {balances:?}"));
    }
    let sum = numbers(&session, "SELECT sum(balance) FROM account").await?;
    if sum != [[ACCOUNTS * BALANCE]] {
        return Err(format!("{sum:?} in all accounts"));
    }
    // By the unique index, where the scans above went by the rows.
    for row in &found {
        if row[1] > 0 {
            let by_index = format!("SELECT client FROM note WHERE n = {} AND client = {}", row[1], row[0]);
            if numbers(&session, &by_index).await? != [[row[0]]] {
                return Err(format!("client {}: its last note is not in the index", row[0]));
            }
        }
    }
    Ok(found.into_iter().map(|row| row[1]).collect())
}

/// A result that consists of numbers.
async fn numbers(session: &Client, query: &str) -> Result<Vec<Vec<i64>>, String> {
    let messages = session.simple_query(query).await.map_err(|error| format!("{query}: {error:?}"))?;
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    Ok(rows
        .map(|row| (0..row.len()).map(|i| row.get(i).expect("no NULL").parse().expect("a number")).collect())
        .collect())
}
