//! A connection that ends while its schema change commits: the change is there as a whole or not at
//! all, the node knows which, and it does not go on believing that a change is being published.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use cairn_jepsen::sim::node::{self, Sizes};
use cairn_jepsen::sim::sql_client::SqlClient;
use cairn_kv::sim::Machine;

/// Drops a CREATE TABLE after so many polls; whether it had ended before.
fn drop_after(polls: u32) -> bool {
    let machine = Machine::new(7);
    let run = async {
        let node = node::open(&machine, Sizes::Production, None).await.expect("opens");
        let mut client = SqlClient::new(&node.sql, 1).expect("a session");
        let ended = {
            let mut left = polls;
            let mut create = pin!(client.query("CREATE TABLE t (k bigint PRIMARY KEY)"));
            let limited = poll_fn(|context| {
                if left == 0 {
                    return Poll::Ready(false);
                }
                left -= 1;
                create.as_mut().poll(context).map(|result| {
                    result.expect("creates");
                    true
                })
            });
            limited.await
        };
        drop(client);
        let mut other = SqlClient::new(&node.sql, 2).expect("a session");
        // Both lock the name or the table and wait for what is being published.
        let created = other.query("CREATE TABLE t (k bigint PRIMARY KEY)").await;
        if let Err(error) = &created {
            assert_eq!(error.state().as_str(), "42P07", "{error:?}");
        }
        assert!(created.is_err() || !ended, "an acknowledged table is lost");
        other.query("INSERT INTO t VALUES (1)").await.expect("there is one table, in storage and cache");
        node.store.env().runtime.sleep(std::time::Duration::from_secs(1)).await;
        assert!(!node.sql.is_publishing(), "dropped after {polls} polls: still publishing");
        ended
    };
    machine.env.run(run).expect("does not crash")
}

#[test]
fn a_schema_change_that_is_dropped_is_published_or_never_was() {
    let needed = (0..1_000).find(|polls| drop_after(*polls)).expect("it ends");
    // It was dropped while the commit waited for the log, too.
    assert!(needed > 2, "{needed} polls");
}
