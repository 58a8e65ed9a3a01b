//! What the outside may send must not overflow a stack or panic: deep nesting, long chains, noise.

mod support;

use cairn_sql::SqlState;
use cairn_sql::expr::{EvalContext, Program};
use cairn_sql::parse::{fingerprint, parse};
use cairn_sql::plan::physical::{Node, Op};
use cairn_sql::plan::{PlanSettings, Planned, plan};
use cairn_sql::types::Datum;
use proptest::prelude::*;
use support::TestCatalog;

/// Plans and compiles on a stack of 2 MiB, as a session has; the state of the first error.
fn outcome(sql: String) -> Option<SqlState> {
    let run = move || {
        let catalog = TestCatalog::default();
        let settings = PlanSettings::default();
        fingerprint(&sql);
        match parse(&sql) {
            Err(error) => Some(error.state()),
            Ok(statements) => {
                statements.iter().find_map(|s| match plan(&s.statement, &catalog, &[], &settings) {
                    Err(error) => Some(error.state()),
                    Ok(Planned::Query(query)) => {
                        evaluate(&query.root, query.parameter_types.len());
                        None
                    }
                    Ok(Planned::Utility(_)) => None,
                })
            }
        }
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(run).expect("a thread starts");
    thread.join().expect("no panic")
}

/// Compiles and evaluates what a plan of constants computes.
fn evaluate(node: &Node, params: usize) {
    if let Op::Values { rows } = &node.op
        && let [row] = rows.as_slice()
    {
        let mut context = EvalContext::constant();
        context.params = vec![Datum::Int4(1); params].into();
        for value in row {
            let program = Program::compile(value).expect("what is planned compiles");
            let _ = program.eval_row(&context, &[]);
        }
    }
}

fn nested(open: &str, middle: &str, close: &str, depth: usize) -> String {
    format!("SELECT {}{middle}{}", open.repeat(depth), close.repeat(depth))
}

#[test]
fn deep_nesting_is_an_answer_or_54001() {
    let shapes = [
        ("(", "1", ")"),
        ("-", "1", ""),
        ("- ", "1", ""),
        ("NOT ", "true", ""),
        ("(SELECT ", "1", ")"),
        ("abs(", "1", ")"),
        ("CASE WHEN true THEN ", "1", " END"),
        ("coalesce(1, ", "1", ")"),
        ("ARRAY[", "1", "]"),
        ("", "1", "::int"),
        ("", "1", " COLLATE \"C\""),
        ("", "'a'", " AT TIME ZONE 'UTC'"),
        ("1 IN (", "1", ")"),
        ("1 + (", "1", ")"),
        ("exists(SELECT * FROM (SELECT 1) q WHERE ", "true", ")"),
    ];
    for (open, middle, close) in shapes {
        for depth in [40, 120, 250, 600, 10_000] {
            let state = outcome(nested(open, middle, close, depth));
            if depth == 10_000 && !matches!(open, "-") {
                assert_eq!(state, Some(SqlState::STATEMENT_TOO_COMPLEX), "{open} × {depth}");
            }
        }
    }
    for from in ["(", "(SELECT * FROM "] {
        let sql = format!("SELECT * FROM {}(SELECT 1) a{}", from.repeat(10_000), ") b".repeat(10_000));
        assert_eq!(outcome(sql), Some(SqlState::STATEMENT_TOO_COMPLEX));
    }
}

#[test]
fn moderate_nesting_is_answered() {
    assert_eq!(outcome(nested("(", "1", ")", 100)), None);
    assert_eq!(outcome(nested("abs(", "$1::int", ")", 100)), None);
    assert_eq!(outcome(nested("(SELECT ", "1", ")", 60)), None);
}

#[test]
fn long_chains_are_answers_or_54001() {
    let n = 100_000;
    let answered = [
        format!("SELECT 1{}", " + 0".repeat(n)),
        format!("SELECT true{}", " OR $1 = 1".repeat(n)),
        format!("SELECT true{}", " AND $1 = 1".repeat(n)),
        format!("SELECT $1 IN (1{})", ", 2".repeat(n)),
        format!("SELECT 1{}", ", 1".repeat(n)),
        format!("VALUES (1){}", ", (1)".repeat(n)),
    ];
    for sql in answered {
        assert_eq!(outcome(sql.clone()), None, "{}", &sql[..40]);
    }
    let refused =
        [format!("SELECT $1::int{}", " + $1".repeat(n)), format!("SELECT 'a' || $1{}", " || 'b'".repeat(n))];
    for sql in refused {
        assert_eq!(outcome(sql.clone()), Some(SqlState::STATEMENT_TOO_COMPLEX), "{}", &sql[..40]);
    }
    // Set operations, joins and subqueries are chains, too.
    assert_eq!(outcome(format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(3_000))), None);
    assert_eq!(outcome(format!("SELECT 1{}", " UNION SELECT 1".repeat(3_000))), None);
    let cross = |n: usize| {
        let joins: String = (0..n).map(|i| format!(" CROSS JOIN (SELECT 1) b{i}")).collect();
        format!("SELECT * FROM (SELECT 1) a{joins}")
    };
    let many = |n: usize| {
        vec![
            format!("SELECT 1{}", " EXCEPT SELECT 1".repeat(n)),
            cross(n),
            format!("SELECT true{}", " AND exists(SELECT $1 = 1)".repeat(n)),
            format!("SELECT 1 WHERE true{}", " AND exists(SELECT $1 = 1)".repeat(n)),
        ]
    };
    for sql in many(190) {
        assert_eq!(outcome(sql.clone()), None, "{}", &sql[..40]);
    }
    for sql in many(20_000) {
        assert_eq!(outcome(sql.clone()), Some(SqlState::STATEMENT_TOO_COMPLEX), "{}", &sql[..40]);
    }
}

#[test]
fn queries_of_psql_are_planned() {
    let catalog = TestCatalog::default();
    let mut refused = Vec::new();
    for parsed in parse(include_str!("support/psql.sql")).expect("psql's queries are SQL") {
        if let Err(error) = plan(&parsed.statement, &catalog, &[], &PlanSettings::default()) {
            refused.push(error.to_string());
        }
    }
    assert!(refused.is_empty(), "{refused:#?}");
}

fn words() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "SELECT",
        "FROM",
        "WHERE",
        "GROUP BY",
        "ORDER BY",
        "HAVING",
        "LIMIT",
        "(",
        ")",
        ",",
        "*",
        "+",
        "-",
        "=",
        "<",
        "::",
        "int",
        "text",
        "'a'",
        "'1'",
        "1",
        "2.5",
        "1e9",
        "$1",
        "$2",
        "a",
        "b",
        "t",
        "t.a",
        "\"q\"",
        "AND",
        "OR",
        "NOT",
        "IN",
        "BETWEEN",
        "LIKE",
        "IS NULL",
        "CASE WHEN",
        "THEN",
        "ELSE",
        "END",
        "count",
        "sum",
        "EXISTS",
        "JOIN",
        "LEFT JOIN",
        "ON",
        "USING",
        "UNION",
        "ALL",
        "DISTINCT",
        "VALUES",
        "INSERT INTO",
        "UPDATE",
        "SET",
        "DELETE FROM",
        "RETURNING",
        "CREATE TABLE",
        "PRIMARY KEY",
        "DEFAULT",
        "AS",
        "WITH",
        "LATERAL",
        "[",
        "]",
        ":",
        ";",
        "$$",
        "/*",
        "*/",
        "--",
        "E'\\n'",
        "ARRAY",
        "ANY",
        "generate_series",
        "NULL",
        "true",
        "COPY",
        "STDIN",
        "INTERVAL",
        "CAST",
        "EXTRACT",
        "é",
        ".",
        "AS OF SYSTEM TIME",
        "FOR UPDATE",
        "COALESCE",
        "ROW",
        "@",
        "!~~",
    ]);
    prop::collection::vec(pieces, 0..40).prop_map(|words| words.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn noise_never_panics(head in prop::sample::select(vec!["", "SELECT ", "SELECT a FROM t WHERE ", "INSERT INTO t VALUES "]), tail in words()) {
        let sql = format!("{head}{tail}");
        let catalog = support::with_tables(&["CREATE TABLE t (a int PRIMARY KEY, b text)"]);
        fingerprint(&sql);
        if let Ok(statements) = parse(&sql) {
            for s in statements {
                let _ = plan(&s.statement, &catalog, &[], &PlanSettings::default());
            }
        }
    }

    #[test]
    fn bytes_never_panic(sql in ".{0,60}") {
        fingerprint(&sql);
        let _ = parse(&sql);
    }
}
