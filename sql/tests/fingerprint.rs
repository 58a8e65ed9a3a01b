//! Fingerprints: what is taken out, what stays, and that plans do not change by it.

mod support;

use cairn_sql::parse::{fingerprint, parse};
use cairn_sql::plan::{PlanSettings, Planned, plan};
use cairn_sql::types::{Type, TypeKind};

/// The text without the comment that tells the widths, and the constants.
fn taken(sql: &str) -> Option<(String, String)> {
    let print = fingerprint(sql)?;
    let text = print.text.rsplit_once("/*").expect("widths are appended").0.to_owned();
    let constants: Vec<String> = print.constants.iter().map(|(kind, v)| format!("{kind:?} {v:?}")).collect();
    Some((text, constants.join(", ")))
}

#[test]
fn constants_beside_operators_are_taken_out() {
    let cases = [
        ("SELECT abalance FROM a WHERE aid = 17;", "SELECT abalance FROM a WHERE aid = $1", "Int4 Int4(17)"),
        (
            "UPDATE a SET b = b + -5 WHERE aid = 3000000000",
            "UPDATE a SET b = b + $1 WHERE aid = $2",
            "Int4 Int4(-5), Int8 Int8(3000000000)",
        ),
        (
            "INSERT INTO h (a, b) VALUES (1, 'it''s'), (-2, 'x')",
            "INSERT INTO h (a, b) VALUES ($1, $2), ($3, $4)",
            "Int4 Int4(1), Unknown Text(\"it's\"), Int4 Int4(-2), Unknown Text(\"x\")",
        ),
        (
            "SELECT c FROM s WHERE id BETWEEN 5 AND 104 ORDER BY 1 LIMIT 3",
            "SELECT c FROM s WHERE id BETWEEN $1 AND $2 ORDER BY 1 LIMIT 3",
            "Int4 Int4(5), Int4 Int4(104)",
        ),
        (
            "DELETE FROM s WHERE id IN (1, 2) -- x",
            "DELETE FROM s WHERE id IN ($1, $2) -- x",
            "Int4 Int4(1), Int4 Int4(2)",
        ),
    ];
    for (sql, text, constants) in cases {
        assert_eq!(taken(sql), Some((text.to_owned(), constants.to_owned())), "{sql}");
    }
}

#[test]
fn what_a_parameter_would_change_stays() {
    for sql in [
        "SELECT 1, 'a'",
        "SELECT a FROM t ORDER BY 1 LIMIT 5 OFFSET 2",
        "SELECT a + 1 FROM t GROUP BY a + 1 HAVING a + 1 > 3",
        "SELECT a FROM t WHERE a = '5'::int",
        "SELECT a FROM t WHERE d > date '2020-01-01'",
        "SELECT a FROM t WHERE f(1) AND x LIKE 'a%'",
        "SELECT a FROM t WHERE a = 'x' 'y'",
        "SELECT a FROM t WHERE a = $1 AND b = 5",
        "SELECT a FROM t WHERE a = 1; SELECT 2",
        "CREATE TABLE t (a int DEFAULT 5)",
        "SELECT a FROM t WHERE a = 99999999999999999999",
        "SELECT a FROM t WHERE a[1] IS NULL",
    ] {
        assert!(taken(sql).is_none(), "{sql}: {:?}", taken(sql));
    }
    let widths = |sql| fingerprint(sql).expect("it has a constant").text;
    assert_ne!(widths("SELECT 1 WHERE 1 = 1"), widths("SELECT 1 WHERE 1 = 3000000000"));
}

#[test]
fn plans_and_errors_stay_the_same() {
    let catalog = support::with_tables(&[
        "CREATE TABLE t (id int PRIMARY KEY, n bigint, s text, d date, x numeric(10,2), v varchar(3))",
    ]);
    let settings = PlanSettings::default();
    for sql in [
        "SELECT s FROM t WHERE id = 5",
        "SELECT id FROM t WHERE n = 5 AND d > '2020-01-01' AND x < 3",
        "SELECT id FROM t WHERE id BETWEEN 1 AND 20 AND s = 'a'",
        "SELECT id FROM t WHERE id IN (1, 2, 3)",
        "UPDATE t SET n = n + 1, s = 'b', x = 3, d = '2020-02-02' WHERE id = -5",
        "DELETE FROM t WHERE id = 7 RETURNING n + 1",
        "INSERT INTO t (id, n, s, d, x, v) VALUES (1, 2, 'a', '2021-01-01', 3, 'abc')",
        "SELECT id FROM t WHERE s = 5",
        "SELECT id FROM t WHERE d = 5",
    ] {
        let print = fingerprint(sql).expect("it has constants");
        let types: Vec<Option<Type>> = print
            .constants
            .iter()
            .map(|(kind, _)| (*kind != TypeKind::Unknown).then(|| Type::new(*kind)))
            .collect();
        let shape = |text: &str, types: &[Option<Type>]| {
            let statement = parse(text).expect("it is SQL").remove(0).statement;
            match plan(&statement, &catalog, types, &settings) {
                Ok(Planned::Query(query)) => {
                    let columns: Vec<String> =
                        query.columns.iter().map(|c| format!("{} {}", c.name, c.ty)).collect();
                    format!("{columns:?} {:?}", query.direct)
                }
                Ok(Planned::Utility(_)) => "utility".to_owned(),
                Err(error) => error.to_string(),
            }
        };
        assert_eq!(shape(sql, &[]), shape(&print.text, &types), "{sql}");
    }
}
