//! The statements of a script file.
//!
//! A statement ends with a line that ends with `;`. Lines beginning with `--!` concern the statement
//! that follows:
//!
//! - `--! differs: reason`: Cairn answers otherwise than PostgreSQL.
//! - `--! cairn: reason`: only Cairn runs it.
//! - `--! unordered`: rows come in any order and are sorted.
//! - `--! simple`: several statements in one message; the simple protocol in any case.
//! - `--! bind NAME`: the statement is bound to a portal of that name and not executed.
//! - `--! fetch`: not SQL but `NAME ROWS`: so many rows of a portal.
//! - `--! session NAME`: this and the following statements run in that session.
//!
//! Behind COPY … FROM STDIN its data follow, up to a line `\.`.

/// Why PostgreSQL's answer is not Cairn's.
pub enum Mark {
    /// Cairn answers otherwise, for this reason.
    Differs(String),
    /// What PostgreSQL does not have.
    CairnOnly(String),
}

/// Messages that a statement goes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Messages {
    /// Those of the protocol that the script runs in.
    Either,
    /// One query.
    Simple,
    /// Parse and Bind to a portal of this name.
    Bind(String),
    /// Execute.
    Fetch,
}

pub struct Statement {
    /// Its first line in the file, counted from 1.
    pub line: usize,
    /// As it stands in the file, with marks and data.
    pub source: String,
    pub sql: String,
    /// Data for COPY FROM STDIN.
    pub data: Option<String>,
    pub mark: Option<Mark>,
    pub unordered: bool,
    pub messages: Messages,
    pub session: String,
}

pub struct Script {
    pub statements: Vec<Statement>,
}

impl Script {
    pub fn parse(text: &str) -> Script {
        let mut statements = Vec::new();
        let mut session = String::from("main");
        let mut lines = text.lines().enumerate();
        let new = |session: &str| Statement {
            line: 0,
            source: String::new(),
            sql: String::new(),
            data: None,
            mark: None,
            unordered: false,
            messages: Messages::Either,
            session: session.to_owned(),
        };
        let mut next = new(&session);
        while let Some((i, line)) = lines.next() {
            let trimmed = line.trim_end();
            if next.sql.is_empty() && trimmed.is_empty() {
                continue;
            }
            next.source += &format!("{line}\n");
            if next.sql.is_empty() {
                next.line = i + 1;
                if let Some(directive) = trimmed.strip_prefix("--! ") {
                    match directive.split_once(' ').unwrap_or((directive, "")) {
                        ("differs:", reason) => next.mark = Some(Mark::Differs(reason.to_owned())),
                        ("cairn:", reason) => next.mark = Some(Mark::CairnOnly(reason.to_owned())),
                        ("unordered", "") => next.unordered = true,
                        ("simple", "") => next.messages = Messages::Simple,
                        ("bind", name) => next.messages = Messages::Bind(name.to_owned()),
                        ("fetch", "") => next.messages = Messages::Fetch,
                        ("session", name) => {
                            session = name.to_owned();
                            next.session.clone_from(&session);
                        }
                        _ => panic!("line {}: {line}", i + 1),
                    }
                    continue;
                }
                if trimmed.starts_with("--") {
                    continue;
                }
            }
            next.sql += &format!("{line}\n");
            if !trimmed.ends_with(';') {
                continue;
            }
            // The semicolon is left away: a Parse message holds one statement.
            next.sql.truncate(next.sql.trim_end().len() - 1);
            let upper = next.sql.to_uppercase();
            if upper.starts_with("COPY") && upper.contains("FROM STDIN") {
                let mut data = String::new();
                for (_, line) in lines.by_ref() {
                    next.source += &format!("{line}\n");
                    if line == "\\." {
                        break;
                    }
                    data += &format!("{line}\n");
                }
                next.data = Some(data);
            }
            statements.push(std::mem::replace(&mut next, new(&session)));
        }
        assert!(next.sql.is_empty(), "the last statement ends with a semicolon: {}", next.sql);
        Script { statements }
    }
}
