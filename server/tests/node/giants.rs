//! Statements and values of absurd size: an answer or a clear error, other sessions undisturbed,
//! memory bounded.

use bytes::Bytes;
use futures_util::{SinkExt, pin_mut};
use tokio_postgres::{Client, Error, SimpleQueryMessage};

use crate::connect;
use crate::process::Node;

/// A fraction of what 25 million operators would take as a tree, or a value of 100 MB copied by
/// every layer.
const MOST_MEMORY_KB: u64 = 3 << 19;

/// The answer's last value, or the error's state.
fn outcome(answer: Result<Vec<SimpleQueryMessage>, Error>) -> Result<String, String> {
    match answer {
        Ok(messages) => {
            let row = messages.iter().rev().find_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("NULL").to_owned()),
                _ => None,
            });
            Ok(row.unwrap_or_default())
        }
        Err(error) => match error.as_db_error() {
            Some(error) => Err(error.code().code().to_owned()),
            None => panic!("the connection broke: {error:?}"),
        },
    }
}

async fn run(client: &Client, sql: &str) -> Result<String, String> {
    outcome(client.simple_query(sql).await)
}

fn refused(state: &str) -> Result<String, String> {
    Err(state.to_owned())
}

#[tokio::test]
async fn giants_are_answered_or_refused_in_bounded_memory() {
    let root = tempfile::tempdir().unwrap();
    let node = Node::start(root.path(), &[]);
    let client = connect(&node).await;
    client.batch_execute("CREATE TABLE t (a int PRIMARY KEY, b text)").await.unwrap();
    let mut peak = 0;
    let mut peaked = |what: &str| {
        let now = node.memory_peak_kb();
        println!("{what}: {} MiB at most so far", now >> 10);
        assert!(now < MOST_MEMORY_KB, "{what}: {now} KiB, before it {peak} KiB");
        peak = now;
    };

    let nested = format!("SELECT {}1{}", "(".repeat(10_000), ")".repeat(10_000));
    assert_eq!(run(&client, &nested).await, refused("54001"));
    peaked("10,000 parentheses");
    let long = format!("SELECT 1{}", " + 1".repeat(100_000));
    assert_eq!(run(&client, &long).await, Ok("100001".to_owned()));
    peaked("100,000 additions");

    // 50 MB: one literal; many operators; many statements.
    let literal = format!("SELECT length('{}')", "x".repeat(50_000_000));
    assert_eq!(run(&client, &literal).await, Ok("50000000".to_owned()));
    drop(literal);
    peaked("a literal of 50 MB");
    let chain = format!("SELECT 1{}", "+1".repeat(25_000_000));
    let answer = run(&client, &chain).await;
    assert!(answer == Ok("25000001".to_owned()) || answer == refused("54001"), "{answer:?}");
    drop(chain);
    peaked("50 MB of additions");
    assert_eq!(run(&client, &"SELECT 1;".repeat(5_500_000)).await, refused("54001"));
    peaked("50 MB of statements");

    // 100 MB: a parameter, a row, a line of COPY.
    let value = "y".repeat(100_000_000);
    let row = client.query_one("SELECT length($1::text)", &[&value]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 100_000_000);
    peaked("a parameter of 100 MB");
    let error = client.execute("INSERT INTO t VALUES (1, $1)", &[&value]).await.unwrap_err();
    assert_eq!(error.as_db_error().unwrap().code().code(), "54000");
    peaked("a row of 100 MB");
    let sink = client.copy_in::<_, Bytes>("COPY t FROM STDIN").await.unwrap();
    pin_mut!(sink);
    sink.send(Bytes::from("2\t")).await.unwrap();
    let value = Bytes::from(value);
    for piece in 0..100 {
        if sink.send(value.slice(piece * 1_000_000..(piece + 1) * 1_000_000)).await.is_err() {
            break;
        }
    }
    let error = sink.finish().await.unwrap_err();
    assert_eq!(error.as_db_error().unwrap().code().code(), "54000");
    peaked("a line of 100 MB");
    // Made by the statement itself.
    let answer = run(&client, "INSERT INTO t SELECT 3, repeat('z', 100000000)").await;
    assert_eq!(answer, refused("54000"));
    peaked("a value of 100 MB made here");
    assert_eq!(run(&client, "SELECT count(*) FROM t").await, Ok("0".to_owned()));
    node.stop();
}

#[tokio::test]
async fn large_rows_behind_an_index_are_fetched_a_few_at_a_time() {
    let root = tempfile::tempdir().unwrap();
    let node = Node::start(root.path(), &[]);
    let client = connect(&node).await;
    let fill = "CREATE TABLE wide (id int PRIMARY KEY, a int, b text); CREATE INDEX wide_a ON wide (a);
                INSERT INTO wide SELECT i, i, repeat('x', 1 << 20) FROM generate_series(1, 120) i";
    client.batch_execute(fill).await.unwrap();
    node.stop();
    let node = Node::start(root.path(), &[]);
    let mut client = connect(&node).await;
    client.batch_execute("SET enable_hashjoin = off; SET enable_seqscan = off").await.unwrap();
    for (plan, sql) in [
        ("Index Scan using wide_a", "SELECT b FROM wide WHERE a BETWEEN 1 AND 110 ORDER BY a"),
        ("Lookup", "SELECT w.b FROM generate_series(1, 110) AS g(n) LEFT JOIN wide w ON w.a = g.n"),
    ] {
        let explained = client.simple_query(&format!("EXPLAIN {sql}")).await.unwrap();
        let lines = explained.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        let text: Vec<&str> = lines.collect();
        assert!(text.iter().any(|line| line.contains(plan)), "{text:?}");
        let before = node.memory_peak_kb();
        let transaction = client.transaction().await.unwrap();
        let portal = transaction.bind(sql, &[]).await.unwrap();
        for _ in 0..2 {
            let rows = transaction.query_portal(&portal, 2).await.unwrap();
            assert!(rows.iter().all(|row| row.get::<_, &str>(0).len() == 1 << 20));
        }
        transaction.rollback().await.unwrap();
        let grown = node.memory_peak_kb() - before;
        assert!(grown < 48 << 10, "{sql}: {grown} KiB more for a few rows of a MiB");
    }
    node.stop();
}
