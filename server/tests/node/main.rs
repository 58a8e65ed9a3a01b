//! A whole node as clients see it: tokio-postgres, psql, psycopg 3, pgbench and sysbench against
//! the real binary.

mod giants;
mod process;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, TryStreamExt, pin_mut};
use process::Node;
use tokio_postgres::error::ErrorPosition;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, NoTls};

/// The binary.
fn cairn() -> &'static str {
    env!("CARGO_BIN_EXE_cairn")
}

async fn connect(node: &Node) -> Client {
    let config = format!("host=127.0.0.1 port={} user=postgres", node.port);
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Runs a program that must succeed; returns its standard output.
fn output_of(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}\n{stdout}{stderr}");
    stdout.into_owned()
}

fn psql(node: &Node, commands: &[&str]) -> String {
    let mut psql = Command::new("psql");
    psql.args([
        "-X",
        "-v",
        "ON_ERROR_STOP=1",
        "-h",
        "127.0.0.1",
        "-U",
        "postgres",
        "-p",
        &node.port.to_string(),
    ]);
    for command in commands {
        psql.args(["-c", command]);
    }
    output_of(&mut psql)
}

#[tokio::test]
async fn tokio_postgres_prepares_fetches_and_pipelines() {
    let root = tempfile::tempdir().unwrap();
    let node = Node::start(root.path(), &[]);
    assert!(node.announcement.contains(&format!("psql -h 127.0.0.1 -p {} -U postgres", node.port)));
    let mut client = connect(&node).await;
    client.batch_execute("CREATE TABLE t (a int PRIMARY KEY, b text)").await.unwrap();
    let insert = client.prepare("INSERT INTO t VALUES ($1, $2)").await.unwrap();
    assert_eq!(insert.params(), [Type::INT4, Type::TEXT]);
    // Pipelined: all are sent before the first answer is awaited.
    let words: Vec<String> = (0..100).map(|i| format!("wörd {i}")).collect();
    let keys: Vec<i32> = (0..100).collect();
    let parameters: Vec<[&(dyn tokio_postgres::types::ToSql + Sync); 2]> =
        keys.iter().zip(&words).map(|(key, word)| [key as _, word as _]).collect();
    let inserts = parameters.iter().map(|parameters| client.execute(&insert, parameters));
    let counts = futures_util::future::try_join_all(inserts).await.unwrap();
    assert_eq!(counts, vec![1; 100]);

    let row = client.query_one("SELECT b FROM t WHERE a = $1", &[&7]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "wörd 7");

    // A portal with a row limit.
    let transaction = client.transaction().await.unwrap();
    let portal = transaction.bind("SELECT a FROM t ORDER BY a", &[]).await.unwrap();
    let mut seen = Vec::new();
    loop {
        let rows = transaction.query_portal(&portal, 33).await.unwrap();
        if rows.is_empty() {
            break;
        }
        assert!(rows.len() <= 33);
        seen.extend(rows.iter().map(|row| row.get::<_, i32>(0)));
    }
    assert_eq!(seen, keys);
    transaction.rollback().await.unwrap();
    node.stop();
}

#[tokio::test]
async fn execute_in_the_extended_protocol_is_described_and_fetched_in_pieces() {
    let root = tempfile::tempdir().unwrap();
    let node = Node::start(root.path(), &[]);
    let mut client = connect(&node).await;
    client
        .batch_execute(
            "PREPARE numbers (int) AS SELECT i, 'n' || i AS name FROM generate_series(1, $1) AS g(i)",
        )
        .await
        .unwrap();
    let execute = client.prepare("EXECUTE numbers (2 + 5)").await.unwrap();
    let columns: Vec<_> = execute.columns().iter().map(|c| (c.name(), c.type_().clone())).collect();
    assert_eq!(columns, [("i", Type::INT4), ("name", Type::TEXT)]);
    let rows = client.query(&execute, &[]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get::<_, i32>(0)).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7]);
    let transaction = client.transaction().await.unwrap();
    let portal = transaction.bind(&execute, &[]).await.unwrap();
    let mut pieces = Vec::new();
    for _ in 0..3 {
        let rows = transaction.query_portal(&portal, 3).await.unwrap();
        pieces.push(rows.iter().map(|row| row.get::<_, &str>(1).to_owned()).collect::<Vec<_>>().join(" "));
    }
    assert_eq!(pieces, ["n1 n2 n3", "n4 n5 n6", "n7"]);
    transaction.rollback().await.unwrap();
    node.stop();
}

/// Statements of a pipeline are one transaction, which commits at Sync. A conflict found there, or
/// at any statement before, is not the client's affair while it has seen no answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn conflicts_of_small_transactions_stay_in_the_server() {
    const CLIENTS: usize = 8;
    const ROUNDS: i64 = 60;
    let root = tempfile::tempdir().unwrap();
    let node = Node::start(root.path(), &[]);
    let client = connect(&node).await;
    client
        .batch_execute("CREATE TABLE t (a int PRIMARY KEY, v int8, w int8); CREATE INDEX ON t (v);")
        .await
        .unwrap();
    client.batch_execute("CREATE TABLE log (client int8, round int8, total int8)").await.unwrap();
    client.batch_execute("INSERT INTO t SELECT i, 0, 0 FROM generate_series(1, 4) AS g(i)").await.unwrap();
    let tasks = (0..CLIENTS).map(|n| {
        let port = node.port;
        tokio::spawn(async move {
            let config = format!("host=127.0.0.1 port={port} user=postgres");
            let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
            tokio::spawn(connection);
            let add = client.prepare("UPDATE t SET v = v + 1 WHERE a = $1 RETURNING v").await.unwrap();
            // It reads what others change and writes what they read.
            let sum =
                client.prepare("UPDATE t SET w = (SELECT sum(v)::int8 FROM t) WHERE a = $1").await.unwrap();
            let log = client.prepare("INSERT INTO log SELECT $1, $2, sum(v)::int8 FROM t").await.unwrap();
            for round in 0..ROUNDS {
                let a = (round as i32 + n as i32) % 4 + 1;
                assert_eq!(client.query(&add, &[&a]).await.unwrap().len(), 1);
                assert_eq!(client.execute(&sum, &[&a]).await.unwrap(), 1);
                assert_eq!(client.execute(&log, &[&(n as i64), &round]).await.unwrap(), 1);
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let sum = client.query_one("SELECT sum(v)::int8 FROM t", &[]).await.unwrap();
    assert_eq!(sum.get::<_, i64>(0), CLIENTS as i64 * ROUNDS);
    let logged = client.query_one("SELECT count(*) FROM log", &[]).await.unwrap();
    assert_eq!(logged.get::<_, i64>(0), CLIENTS as i64 * ROUNDS);

    // Several statements before one Sync: all of them run again, and each has its own answer.
    let script = root.path().join("pipeline.sql");
    let lines = [
        "\\set a random(1, 4)",
        "\\startpipeline",
        "UPDATE t SET v = v + 1 WHERE a = :a;",
        "SELECT sum(w) FROM t;",
        "UPDATE t SET w = (SELECT sum(v)::int8 FROM t) WHERE a = :a;",
        "INSERT INTO log SELECT -1, 0, sum(v)::int8 FROM t;",
        "\\endpipeline",
    ];
    std::fs::write(&script, lines.join("\n")).unwrap();
    for mode in ["extended", "prepared"] {
        let port = node.port.to_string();
        let mut pgbench = Command::new("pgbench");
        pgbench.args([
            "-n",
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-p",
            &port,
            "-M",
            mode,
            "-c",
            "8",
            "-t",
            "30",
        ]);
        let output = output_of(pgbench.arg("-f").arg(&script).arg("postgres"));
        assert!(output.contains("number of transactions actually processed: 240/240"), "{output}");
        assert!(output.contains("number of failed transactions: 0 "), "{output}");
    }
    let logged = client.query_one("SELECT count(*) FROM log WHERE client = -1", &[]).await.unwrap();
    assert_eq!(logged.get::<_, i64>(0), 480);
    let sum = client.query_one("SELECT sum(v)::int8 FROM t", &[]).await.unwrap();
    assert_eq!(sum.get::<_, i64>(0), CLIENTS as i64 * ROUNDS + 480);
    node.stop();
}

#[tokio::test]
async fn errors_have_state_position_and_names() {
    let root = tempfile::tempdir().unwrap();
    let node = Node::start(root.path(), &[]);
    let client = connect(&node).await;
    client.batch_execute("CREATE TABLE t (a int PRIMARY KEY)").await.unwrap();
    client.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
    let error = client.batch_execute("SELECT 'ü', nothing FROM t").await.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code().code(), "42703");
    assert_eq!(error.position(), Some(&ErrorPosition::Original(13)), "characters, not bytes");
    let error = client.prepare("SELECT 'ü', nothing FROM t").await.unwrap_err();
    assert_eq!(error.as_db_error().unwrap().position(), Some(&ErrorPosition::Original(13)));
    let error = client.batch_execute("INSERT INTO t VALUES (1)").await.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code().code(), "23505");
    assert_eq!((error.table(), error.constraint()), (Some("t"), Some("t_pkey")));
    // The session goes on.
    client.batch_execute("SELECT 1").await.unwrap();
    node.stop();
}

#[tokio::test]
async fn copy_goes_in_and_out() {
    let root = tempfile::tempdir().unwrap();
    let node = Node::start(root.path(), &[]);
    let client = connect(&node).await;
    client.batch_execute("CREATE TABLE t (a int PRIMARY KEY, b text)").await.unwrap();
    let sink = client.copy_in::<_, Bytes>("COPY t FROM STDIN").await.unwrap();
    pin_mut!(sink);
    for i in 0..20_000 {
        sink.send(Bytes::from(format!("{i}\trow {i}\n"))).await.unwrap();
    }
    assert_eq!(sink.finish().await.unwrap(), 20_000);
    let stream = client.copy_out("COPY t TO STDOUT").await.unwrap();
    let text: Vec<Bytes> = stream.try_collect().await.unwrap();
    assert_eq!(text.concat().iter().filter(|&&byte| byte == b'\n').count(), 20_000);
    // Abandoned: nothing of it stays.
    client.batch_execute("TRUNCATE t").await.unwrap();
    {
        let sink = client.copy_in::<_, Bytes>("COPY t FROM STDIN").await.unwrap();
        pin_mut!(sink);
        sink.send(Bytes::from_static(b"1\tx\n")).await.unwrap();
    }
    let row = client.query_one("SELECT count(*) FROM t", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 0);
    let stream = client.copy_out("COPY t TO STDOUT").await.unwrap();
    pin_mut!(stream);
    assert!(stream.next().await.is_none());
    node.stop();
}

#[tokio::test]
async fn copy_keeps_every_row_of_a_table_without_primary_key() {
    let root = tempfile::tempdir().unwrap();
    let node = Node::start(root.path(), &[]);
    let client = connect(&node).await;
    client.batch_execute("CREATE TABLE t (a int, b text DEFAULT 'x')").await.unwrap();
    let sink = client.copy_in::<_, Bytes>("COPY t (a) FROM STDIN").await.unwrap();
    pin_mut!(sink);
    sink.send(Bytes::from_static(b"1\n1\n2\n")).await.unwrap();
    assert_eq!(sink.finish().await.unwrap(), 3);
    let row = client.query_one("SELECT count(*), sum(a), min(b) FROM t", &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, &str>(2)), (3, 4, "x"));
    node.stop();
}

#[tokio::test]
async fn every_write_keeps_the_rows_of_a_table_without_primary_key() {
    let root = tempfile::tempdir().unwrap();
    let node = Node::start(root.path(), &[]);
    let client = connect(&node).await;
    client.batch_execute("CREATE TABLE t (a int, b text DEFAULT 'x')").await.unwrap();
    for (statement, rows) in [
        ("INSERT INTO t VALUES (1, 'y')", 1),
        ("INSERT INTO t VALUES (1, 'y')", 2),
        ("INSERT INTO t (a) VALUES (2), (2), (3)", 5),
        ("INSERT INTO t SELECT * FROM t", 10),
        ("INSERT INTO t (a) SELECT 7 FROM generate_series(1, 2000)", 2010),
        ("UPDATE t SET a = 8 WHERE a = 7", 2010),
        ("CREATE INDEX ON t (a)", 2010),
        ("UPDATE t SET a = a + 1", 2010),
        ("DELETE FROM t WHERE a = 9", 10),
        ("INSERT INTO t DEFAULT VALUES", 11),
        ("CREATE TABLE u AS SELECT * FROM t", 11),
        ("INSERT INTO t SELECT * FROM u", 22),
        ("ALTER TABLE t ADD COLUMN c int", 22),
        ("INSERT INTO t (a, c) VALUES (1, 1)", 23),
    ] {
        client.batch_execute(statement).await.unwrap();
        let row = client.query_one("SELECT count(*) FROM t", &[]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), rows, "{statement}");
        // By the index, where there is one by now, and past it: the sum cannot be looked up.
        let both = "SELECT (SELECT count(*) FROM t WHERE a = 2) = (SELECT count(*) FROM t WHERE a + 0 = 2)";
        assert!(client.query_one(both, &[]).await.unwrap().get::<_, bool>(0), "{statement}");
    }
    let row = client.query_one("SELECT count(*) FROM u", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 11);
    client
        .batch_execute(
            "CREATE TABLE v (a int); INSERT INTO v SELECT generate_series FROM generate_series(1, 500)",
        )
        .await
        .unwrap();
    client.batch_execute("ALTER TABLE v ADD PRIMARY KEY (a)").await.unwrap();
    let row = client.query_one("SELECT count(*), sum(a) FROM v", &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (500, 125_250));
    node.stop();
}

/// The collector of dropped indexes runs while an index is built that stands on its list: what comes
/// to be in use must stay.
#[tokio::test]
async fn an_index_built_beside_the_removal_of_another_stays() {
    let root = tempfile::tempdir().unwrap();
    let node = Node::start(root.path(), &[]);
    let client = connect(&node).await;
    client
        .batch_execute(
            "CREATE TABLE dropped (a int PRIMARY KEY); CREATE TABLE t (a int, b int); \
             INSERT INTO dropped SELECT i FROM generate_series(1, 20000) AS g(i); \
             INSERT INTO t SELECT i, i FROM generate_series(1, 60000) AS g(i)",
        )
        .await
        .unwrap();
    client.batch_execute("DROP TABLE dropped").await.unwrap();
    // VACUUM sends the collector, again and again while the index is built and once behind it.
    let other = connect(&node).await;
    let vacuum = async {
        loop {
            other.batch_execute("VACUUM").await.unwrap();
        }
    };
    tokio::select! {
        built = client.batch_execute("ALTER TABLE t ADD PRIMARY KEY (a)") => built.unwrap(),
        () = vacuum => {}
    }
    client.batch_execute("VACUUM").await.unwrap();
    let rows = client.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get::<_, i64>(0);
    assert_eq!(rows, 60_000);
    node.stop();
}

#[tokio::test]
async fn a_lock_wait_is_canceled_and_times_out() {
    let root = tempfile::tempdir().unwrap();
    let node = Node::start(root.path(), &[]);
    let (holder, waiter) = (connect(&node).await, connect(&node).await);
    holder.batch_execute("CREATE TABLE t (a int PRIMARY KEY, b int)").await.unwrap();
    holder.batch_execute("INSERT INTO t VALUES (1, 1)").await.unwrap();
    holder.batch_execute("BEGIN; UPDATE t SET b = 2 WHERE a = 1").await.unwrap();
    let token = waiter.cancel_token();
    let cancel = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        token.cancel_query(NoTls).await.unwrap();
    };
    let (error, ()) = tokio::join!(waiter.batch_execute("UPDATE t SET b = 3 WHERE a = 1"), cancel);
    let error = error.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!((error.code().code(), error.message()), ("57014", "canceling statement due to user request"));
    waiter.batch_execute("SET statement_timeout = 100").await.unwrap();
    let error = waiter.batch_execute("UPDATE t SET b = 3 WHERE a = 1").await.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(
        (error.code().code(), error.message()),
        ("57014", "canceling statement due to statement timeout")
    );
    holder.batch_execute("COMMIT").await.unwrap();
    waiter.batch_execute("UPDATE t SET b = 3 WHERE a = 1").await.unwrap();
    node.stop();
}

#[tokio::test]
async fn a_copy_times_out_as_one_statement() {
    let root = tempfile::tempdir().unwrap();
    let node = Node::start(root.path(), &[]);
    let client = connect(&node).await;
    client.batch_execute("CREATE TABLE t (a int)").await.unwrap();
    client.batch_execute("SET statement_timeout = 300").await.unwrap();
    let sink = client.copy_in::<_, Bytes>("COPY t FROM STDIN").await.unwrap();
    pin_mut!(sink);
    // No single message takes long; those behind the timeout may find the sink closed.
    for _ in 0..25 {
        let _ = sink.send(Bytes::from_static(b"1\n")).await;
        let _ = sink.flush().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let error = sink.finish().await.unwrap_err();
    let error = error.as_db_error().expect("an answer of the server");
    assert_eq!(
        (error.code().code(), error.message()),
        ("57014", "canceling statement due to statement timeout")
    );
    let rows = client.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get::<_, i64>(0);
    assert_eq!(rows, 0);
    node.stop();
}

#[tokio::test]
async fn acknowledged_rows_survive_kill_9() {
    let root = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 0..3 {
        let node = Node::start(root.path(), &[]);
        let client = connect(&node).await;
        if round == 0 {
            client.batch_execute("CREATE TABLE t (a int PRIMARY KEY)").await.unwrap();
        }
        let rows = client.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get::<_, i64>(0);
        assert_eq!(rows, acknowledged);
        for _ in 0..50 {
            client.execute("INSERT INTO t VALUES ($1)", &[&(acknowledged as i32)]).await.unwrap();
            acknowledged += 1;
        }
        // An open transaction leaves nothing.
        client.batch_execute("BEGIN; INSERT INTO t VALUES (-1)").await.unwrap();
        node.kill();
    }
}

#[test]
fn psql_describes() {
    let root = tempfile::tempdir().unwrap();
    let node = Node::start(root.path(), &[]);
    psql(
        &node,
        &["CREATE TABLE t (a int PRIMARY KEY, b text NOT NULL DEFAULT 'x')", "CREATE INDEX t_b ON t (b)"],
    );
    assert!(psql(&node, &["\\d"]).contains(" public | t    | table | postgres"));
    let table = psql(&node, &["\\d t"]);
    for part in [
        "Table \"public.t\"",
        "a      | integer",
        "'x'::text",
        "\"t_pkey\" PRIMARY KEY, btree (a)",
        "\"t_b\" btree (b)",
    ] {
        assert!(table.contains(part), "{part} is missing:\n{table}");
    }
    assert!(psql(&node, &["\\dt"]).contains("| t "));
    assert!(psql(&node, &["\\l"]).contains("postgres"));
    assert!(psql(&node, &["\\dn"]).contains("public"));
    node.stop();
}

#[test]
fn pgbench_runs_unmodified() {
    let root = tempfile::tempdir().unwrap();
    let node = Node::start(root.path(), &[]);
    let port = node.port.to_string();
    let pgbench = |args: &[&str]| {
        let mut command = Command::new("pgbench");
        command.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &port]).args(args).arg("postgres");
        output_of(&mut command)
    };
    pgbench(&["-i", "-q"]);
    // Without -n each run would truncate the history, which the sums are compared with.
    for protocol in ["simple", "extended", "prepared"] {
        for script in ["tpcb-like", "simple-update", "select-only"] {
            let report = pgbench(&["-n", "-M", protocol, "-b", script, "-c", "2", "-t", "20"]);
            assert!(report.contains("number of transactions actually processed: 40/40"), "{report}");
        }
    }
    // simple-update leaves branches and tellers alone, so each pair is compared on its own.
    for invariant in [
        "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history)",
        "SELECT (SELECT sum(bbalance) FROM pgbench_branches) = (SELECT sum(tbalance) FROM pgbench_tellers)",
        "SELECT (SELECT count(*) FROM pgbench_accounts) = 100000",
        "SELECT (SELECT count(*) FROM pgbench_history) = 240",
    ] {
        assert!(psql(&node, &[invariant]).contains(" t\n"), "{invariant}");
    }
    // With its VACUUM and TRUNCATE.
    pgbench(&["-t", "5"]);
    assert!(psql(&node, &["SELECT count(*) = 5 FROM pgbench_history"]).contains(" t\n"));
    node.stop();
}

#[test]
fn sysbench_runs_unmodified() {
    let root = tempfile::tempdir().unwrap();
    let node = Node::start(root.path(), &[]);
    let sysbench = |test: &str, command: &str| {
        let mut sysbench = Command::new("sysbench");
        sysbench.args([
            "--db-driver=pgsql",
            "--pgsql-host=127.0.0.1",
            "--pgsql-user=postgres",
            "--pgsql-db=postgres",
        ]);
        sysbench.arg(format!("--pgsql-port={}", node.port));
        sysbench.args([
            "--tables=1",
            "--table-size=1000",
            "--threads=2",
            "--events=40",
            "--time=0",
            test,
            command,
        ]);
        output_of(&mut sysbench)
    };
    sysbench("oltp_read_write", "prepare");
    for test in [
        "oltp_read_write",
        "oltp_read_only",
        "oltp_write_only",
        "oltp_point_select",
        "oltp_insert",
        "oltp_delete",
        "oltp_update_index",
        "oltp_update_non_index",
        "select_random_points",
        "select_random_ranges",
    ] {
        sysbench(test, "run");
    }
    sysbench("oltp_read_write", "cleanup");
    node.stop();
}

/// psycopg 3 in a virtual environment that is kept from one run to the next.
fn psycopg() -> Result<PathBuf, String> {
    let environment = std::env::temp_dir().join("cairn-psycopg3");
    let python = environment.join("bin/python");
    let works = |python: &Path| {
        Command::new(python).args(["-c", "import psycopg"]).output().is_ok_and(|o| o.status.success())
    };
    if !works(&python) {
        let steps: [(&str, &[&str]); 2] = [
            ("python3", &["-m", "venv", environment.to_str().ok_or("path")?]),
            (python.to_str().ok_or("path")?, &["-m", "pip", "install", "-q", "psycopg[binary]"]),
        ];
        for (program, args) in steps {
            let output =
                Command::new(program).args(args).output().map_err(|error| format!("{program}: {error}"))?;
            if !output.status.success() {
                return Err(String::from_utf8_lossy(&output.stderr).into_owned());
            }
        }
    }
    if works(&python) { Ok(python) } else { Err("psycopg cannot be imported".into()) }
}

#[test]
fn psycopg_3_works() {
    let python = match psycopg() {
        Ok(python) => python,
        Err(reason) => {
            eprintln!("SKIPPED: no psycopg 3: {reason}");
            return;
        }
    };
    let root = tempfile::tempdir().unwrap();
    let node = Node::start(root.path(), &[]);
    let output = output_of(Command::new(python).arg("tests/node/psycopg3.py").arg(node.port.to_string()));
    assert_eq!(output, "ok\n");
    node.stop();
}

#[test]
fn health_and_metrics_are_served() {
    let root = tempfile::tempdir().unwrap();
    let port = process::free_port();
    let node = Node::start(root.path(), &["--http-addr", &format!("127.0.0.1:{port}")]);
    let get =
        |path: &str| output_of(Command::new("curl").args(["-sS", &format!("http://127.0.0.1:{port}{path}")]));
    assert_eq!(get("/health"), "ok\n");
    assert!(get("/metrics").contains("\ncairn_sessions 0\n"));
    node.stop();
}

#[test]
fn a_truncated_table_is_readable_in_the_past_and_a_dropped_one_leaves_the_disk() {
    let root = tempfile::tempdir().unwrap();
    let node = Node::start(root.path(), &[]);
    let before = psql(
        &node,
        &[
            "CREATE TABLE gone (a int PRIMARY KEY, b text)",
            "CREATE INDEX ON gone (b)",
            "INSERT INTO gone SELECT g, 'dropped-' || g FROM generate_series(1, 3000) g",
            "CREATE TABLE kept (a int PRIMARY KEY, b text)",
            "INSERT INTO kept VALUES (1, 'kept')",
            "SELECT now()",
        ],
    );
    let now = before.lines().find(|line| line.starts_with(" 20")).unwrap().trim().to_owned();
    psql(&node, &["DROP TABLE gone", "TRUNCATE kept", "INSERT INTO kept VALUES (2, 'kept')"]);
    let past = psql(&node, &[&format!("SELECT * FROM kept AS OF SYSTEM TIME '{now}'")]);
    assert!(past.contains("1 | kept"), "{past}");
    psql(&node, &["VACUUM"]);
    assert!(psql(&node, &["SELECT * FROM kept"]).contains("2 | kept"));
    node.stop();
    let mut keys = Command::new(cairn());
    let keys = output_of(keys.args(["debug", "keys"]).arg(root.path()));
    assert!(keys.contains("kept"), "{keys}");
    assert!(!keys.contains("dropped-"), "the dropped table's rows are still in the store");
}

/// Names mean in the past what they meant then.
#[tokio::test]
async fn the_past_has_its_own_catalog() {
    let root = tempfile::tempdir().unwrap();
    let node = Node::start(root.path(), &[]);
    let client = connect(&node).await;
    let now = async || {
        let row = client.query_one("SELECT clock_timestamp()::text", &[]).await.unwrap();
        row.get::<_, String>(0)
    };
    let before = now().await;
    client.batch_execute("CREATE TABLE t (a int PRIMARY KEY, b text)").await.unwrap();
    client
        .batch_execute("CREATE INDEX t_b ON t (b); INSERT INTO t VALUES (1, 'one'), (2, 'two')")
        .await
        .unwrap();
    let first = now().await;
    client.batch_execute("ALTER TABLE t ADD COLUMN c int DEFAULT 7").await.unwrap();
    client.batch_execute("ALTER TABLE t DROP COLUMN b; INSERT INTO t VALUES (3, 8)").await.unwrap();
    let second = now().await;
    client.batch_execute("DROP TABLE t").await.unwrap();
    let dropped = now().await;
    client.batch_execute("CREATE TABLE t (x text); INSERT INTO t VALUES ('new')").await.unwrap();
    let last = now().await;

    // What a simple query and a prepared statement see: columns and rows.
    let simple = async |sql: &str| -> Result<String, tokio_postgres::Error> {
        let mut text = String::new();
        for message in client.simple_query(sql).await? {
            if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
                let columns = row.columns().iter().enumerate();
                let values = columns.map(|(i, c)| format!("{}={}", c.name(), row.get(i).unwrap_or("NULL")));
                text += &(values.collect::<Vec<_>>().join(" ") + "; ");
            }
        }
        Ok(text)
    };
    let state = |error: tokio_postgres::Error| error.as_db_error().unwrap().code().code().to_owned();
    let seen =
        [(&first, "a=1 b=one; a=2 b=two; "), (&second, "a=1 c=7; a=2 c=7; a=3 c=8; "), (&last, "x=new; ")];
    for (time, expected) in seen {
        let query = format!("SELECT * FROM t AS OF SYSTEM TIME '{time}'");
        assert_eq!(simple(&query).await.unwrap(), expected);
        // One transaction after another, and one that stays.
        let begin = format!("BEGIN AS OF SYSTEM TIME '{time}'; SELECT * FROM t; COMMIT");
        assert_eq!(simple(&begin).await.unwrap(), expected);
        client.batch_execute(&format!("BEGIN; SET TRANSACTION AS OF SYSTEM TIME '{time}'")).await.unwrap();
        assert_eq!(simple("SELECT * FROM t").await.unwrap(), expected);
        let columns = "SELECT attname FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0 \
                       AND NOT attisdropped ORDER BY attnum";
        let names = simple(columns).await.unwrap();
        let first_row = expected.split(';').next().unwrap();
        let described = first_row.split(' ').map(|c| format!("attname={}; ", c.split('=').next().unwrap()));
        assert_eq!(names, described.collect::<String>());
        client.batch_execute("COMMIT").await.unwrap();
        // Described, with the types of then.
        let statement = client.prepare(&query).await.unwrap();
        let names: Vec<&str> = statement.columns().iter().map(|c| c.name()).collect();
        let rows = client.query(&statement, &[]).await.unwrap();
        assert_eq!(rows.len(), expected.matches(';').count());
        assert!(names.iter().all(|name| expected.contains(&format!("{name}="))), "{names:?}");
        let copy = format!("COPY (SELECT * FROM t AS OF SYSTEM TIME '{time}') TO STDOUT");
        let copied: Vec<Bytes> = client.copy_out(&copy).await.unwrap().try_collect().await.unwrap();
        assert_eq!(copied.concat().iter().filter(|b| **b == b'\n').count(), rows.len());
    }
    let explained = simple(&format!("EXPLAIN SELECT * FROM t AS OF SYSTEM TIME '{first}' WHERE b = 'two'"))
        .await
        .unwrap();
    assert!(explained.contains("t_b"), "an index of then: {explained}");
    for time in [&before, &dropped] {
        let query = format!("SELECT * FROM t AS OF SYSTEM TIME '{time}'");
        assert_eq!(state(simple(&query).await.unwrap_err()), "42P01");
        assert_eq!(state(client.prepare(&query).await.unwrap_err()), "42P01");
        client.batch_execute(&format!("BEGIN AS OF SYSTEM TIME '{time}'")).await.unwrap();
        assert_eq!(state(simple("SELECT * FROM t").await.unwrap_err()), "42P01");
        client.batch_execute("ROLLBACK").await.unwrap();
    }
    // A time that comes with the parameters: described as of now, and run if that is what it returns.
    let timed = client.prepare("SELECT * FROM t AS OF SYSTEM TIME $1").await.unwrap();
    assert_eq!(client.query_one(&timed, &[&last]).await.unwrap().get::<_, &str>(0), "new");
    assert_eq!(state(client.query(&timed, &[&first]).await.unwrap_err()), "0A000");
    assert_eq!(state(client.query(&timed, &[&dropped]).await.unwrap_err()), "42P01");
    assert_eq!(simple("SELECT * FROM t").await.unwrap(), "x=new; ");
    let made = format!("CREATE TABLE u AS SELECT * FROM t AS OF SYSTEM TIME '{first}'");
    assert_eq!(state(simple(&made).await.unwrap_err()), "0A000");
    // VACUUM takes the past away.
    client.batch_execute("VACUUM").await.unwrap();
    for sql in ["SELECT * FROM t AS OF SYSTEM TIME '{}'", "BEGIN AS OF SYSTEM TIME '{}'; SELECT * FROM t"] {
        let error = simple(&sql.replace("{}", &first)).await.unwrap_err();
        assert_eq!(state(error), "72000");
        client.batch_execute("ROLLBACK").await.unwrap();
    }
    node.stop();
}

/// COPY of many rows goes another way than that of a few: duplicates of every origin are noticed.
#[tokio::test]
async fn copy_in_bulk_checks_every_key() {
    let root = tempfile::tempdir().unwrap();
    let node = Node::start(root.path(), &[]);
    let client = connect(&node).await;
    client.batch_execute("CREATE TABLE t (a int PRIMARY KEY, b text UNIQUE, c int NOT NULL)").await.unwrap();
    client.batch_execute("CREATE INDEX ON t (c); INSERT INTO t VALUES (-1, 'committed', 0)").await.unwrap();
    let row = |i: i32| format!("{i}\tb{i}\t{}\n", i % 7);
    let copy = async |lines: Vec<String>| {
        let sink = client.copy_in::<_, Bytes>("COPY t FROM STDIN").await?;
        pin_mut!(sink);
        for chunk in lines.chunks(500) {
            sink.send(Bytes::from(chunk.concat())).await?;
        }
        sink.finish().await
    };
    const ROWS: i32 = 30_000;
    let rows = || (1..=ROWS).map(row).collect::<Vec<_>>();
    // (where a wrong line stands, the line, what is said of it)
    let wrong = [
        (1_500, row(1_501 - 3), "t_pkey", "Key (a)=(1498) already exists."),
        (25_000, row(24_998), "t_pkey", "Key (a)=(24998) already exists."),
        (25_000, row(2_000), "t_pkey", "Key (a)=(2000) already exists."),
        (25_000, row(5), "t_pkey", "Key (a)=(5) already exists."),
        (20_000, "-1\tnew\t1\n".to_owned(), "t_pkey", "Key (a)=(-1) already exists."),
        (20_000, "-2\tcommitted\t1\n".to_owned(), "t_b_key", "Key (b)=(committed) already exists."),
        (20_000, "-2\tb7\t1\n".to_owned(), "t_b_key", "Key (b)=(b7) already exists."),
    ];
    for (at, line, constraint, detail) in wrong {
        let mut lines = rows();
        lines.insert(at, line);
        let error = copy(lines).await.unwrap_err();
        let error = error.as_db_error().unwrap();
        assert_eq!((error.code().code(), error.constraint()), ("23505", Some(constraint)));
        assert_eq!(error.detail(), Some(detail));
        assert_eq!(error.where_(), Some(&*format!("COPY t, line {}", at + 1)));
        let count: i64 = client.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get(0);
        assert_eq!(count, 1, "nothing of it is left");
    }
    let mut lines = rows();
    lines.insert(20_000, "-3\tx\t\\N\n".to_owned());
    assert_eq!(copy(lines).await.unwrap_err().code().unwrap().code(), "23502");

    // Keys that the transaction itself deleted are free, and free again behind a savepoint.
    client.batch_execute("BEGIN; DELETE FROM t; SAVEPOINT s").await.unwrap();
    let mut lines = rows();
    lines.push("-1\tcommitted\t1\n".to_owned());
    assert_eq!(copy(lines).await.unwrap(), 30_001);
    client.batch_execute("ROLLBACK TO s").await.unwrap();
    assert_eq!(copy(rows()).await.unwrap(), 30_000);
    client.batch_execute("DELETE FROM t WHERE a > 29000; COMMIT").await.unwrap();
    let query = "SELECT count(*), sum(a)::int8, count(DISTINCT b), sum(c)::int8 FROM t";
    let found = client.query_one(query, &[]).await.unwrap();
    let expected = (1..=29_000_i64).fold((0, 0), |(a, c), i| (a + i, c + i % 7));
    assert_eq!(
        [found.get::<_, i64>(0), found.get(1), found.get(2), found.get(3)],
        [29_000, expected.0, 29_000, expected.1]
    );
    let by_index = client.query_one("SELECT count(*) FROM t WHERE c = 3", &[]).await.unwrap();
    assert_eq!(by_index.get::<_, i64>(0), (1..=29_000).filter(|i| i % 7 == 3).count() as i64);
    node.stop();
    let mut check = Command::new(cairn());
    output_of(check.args(["debug", "check"]).arg(root.path()));
}
