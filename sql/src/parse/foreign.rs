//! What Cairn does not execute, recognized by `sqlparser`.
//!
//! A statement that our grammar refuses may be wrong, or may be SQL that PostgreSQL has and Cairn has
//! not. `sqlparser` knows far more of the language: if it parses the statement, the honest answer is
//! `0A000` and the feature's name. Its tree is only looked at for its kind, then dropped; since that
//! recurses, long statements keep their syntax error.

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser as SqlParser;

use crate::error::{SqlError, SqlState};

/// Longer statements are not tried: parsing and dropping recurse over the tree.
const MAX_LEN: usize = 4096;

/// The error to show for the statement at `start`, which our grammar refused with `error`.
pub fn explain(sql: &str, start: usize, error: SqlError) -> SqlError {
    if error.state() != SqlState::SYNTAX_ERROR {
        return error;
    }
    let statement = &sql[start..];
    match feature(statement) {
        Some(feature) => SqlError::unsupported(feature).at(start),
        None => error,
    }
}

/// Statements of PostgreSQL that our grammar has no rule for, by their first words.
const STATEMENTS: &[&str] = &[
    "ALTER",
    "CALL",
    "CHECKPOINT",
    "CLUSTER",
    "COMMENT",
    "CREATE",
    "DO",
    "DROP",
    "GRANT",
    "IMPORT",
    "LISTEN",
    "LOAD",
    "MERGE",
    "NOTIFY",
    "REASSIGN",
    "REFRESH",
    "REINDEX",
    "REVOKE",
    "SECURITY",
    "UNLISTEN",
];

fn feature(statement: &str) -> Option<String> {
    let words: Vec<String> = statement
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
        .take(6)
        .map(str::to_ascii_uppercase)
        .collect();
    let first = words.first()?;
    if !STATEMENTS.contains(&first.as_str()) {
        return None;
    }
    if !matches!(first.as_str(), "CREATE" | "ALTER" | "DROP") {
        // These begin with words that begin nothing else; COMMENT and GRANT read best alone.
        return Some(first.clone());
    }
    // What `sqlparser` refuses, or what our own grammar has rules for, is a syntax error.
    let own = ["TABLE", "INDEX", "SEQUENCE", "SCHEMA", "UNIQUE"];
    let kind: Vec<&str> = words[1..]
        .iter()
        .map(String::as_str)
        .skip_while(|word| matches!(*word, "OR" | "REPLACE" | "TEMP" | "TEMPORARY"))
        .take(1)
        .collect();
    let object = kind.first()?;
    if own.contains(object) && !(first == "ALTER" && matches!(*object, "SEQUENCE" | "SCHEMA")) {
        return None;
    }
    let known = statement.len() <= MAX_LEN && SqlParser::parse_sql(&PostgreSqlDialect {}, statement).is_ok();
    let objects = [
        "AGGREGATE",
        "CAST",
        "COLLATION",
        "CONVERSION",
        "DATABASE",
        "DOMAIN",
        "EVENT",
        "EXTENSION",
        "FOREIGN",
        "FUNCTION",
        "GROUP",
        "LANGUAGE",
        "MATERIALIZED",
        "OPERATOR",
        "POLICY",
        "PROCEDURE",
        "PUBLICATION",
        "ROLE",
        "RULE",
        "SCHEMA",
        "SEQUENCE",
        "SERVER",
        "STATISTICS",
        "SUBSCRIPTION",
        "SYSTEM",
        "TABLESPACE",
        "TEXT",
        "TRANSFORM",
        "TRIGGER",
        "TYPE",
        "USER",
        "VIEW",
    ];
    (known || objects.contains(object)).then(|| format!("{first} {object}"))
}
