//! Removal of dropped indexes beside the building of others.

use std::time::Duration;

use cairn_jepsen::sim::node::{self, Machine, Sizes};
use cairn_jepsen::sim::sql_client::{Message, SqlClient};

/// The collector takes the list of garbage, on which an index stands while it is built, and is then
/// busy with old indexes until the new one is finished.
#[test]
fn an_index_built_beside_the_collector_keeps_its_entries() {
    for seed in 10..60 {
        let machine = Machine::new(seed);
        machine.env.block_on(async {
            let node = node::open(&machine, Sizes::Small { buffer: None }, None).await.expect("it opens");
            let mut client = SqlClient::new(&node.sql, 1).expect("a session");
            client.query("CREATE TABLE t (k int PRIMARY KEY, v int)").await.expect("a table");
            client.query("INSERT INTO t SELECT g, g FROM generate_series(1, 3000) g").await.expect("rows");
            let old = ["o1", "o2", "o3", "o4", "o5", "o6"];
            for name in old {
                client.query(&format!("CREATE INDEX {name} ON t (v)")).await.expect("an index");
            }
            client.query(&format!("DROP INDEX {}", old.join(", "))).await.expect("dropped");
            // VACUUM lets the collector act at once. It begins some way into the building.
            let runtime = node.store.env().runtime.clone();
            let mut other = SqlClient::new(&node.sql, 2).expect("a session");
            let delay = Duration::from_micros(500 * (seed - 10));
            let vacuum = async {
                runtime.sleep(delay).await;
                other.query("VACUUM").await.expect("it runs");
            };
            let build = async { client.query("CREATE INDEX new ON t (v)").await.expect("it is built") };
            futures_util::join!(vacuum, build);
            runtime.sleep(Duration::from_secs(5)).await;
            let plan = client.query("EXPLAIN SELECT k FROM t WHERE v = 2900").await.expect("a plan");
            assert!(format!("{plan:?}").contains("new"), "it is used: {plan:?}");
            let rows = client.query("SELECT k FROM t WHERE v = 2900").await.expect("rows");
            assert!(rows.contains(&Message::Row(vec![Some("2900".into())])), "seed {seed}: {rows:?}");
        });
    }
}
