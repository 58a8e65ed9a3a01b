//! From text to [`crate::ast`].
//!
//! A recursive-descent parser over PostgreSQL's tokens ([`lex`]) for what Cairn executes, and
//! `sqlparser` behind it for what it does not: a statement that our grammar refuses but `sqlparser`
//! knows is answered with `0A000` and the feature's name rather than with a syntax error
//! ([`foreign`]).
//!
//! Why `sqlparser` does not parse everything: its tree keeps no positions of operators and incomplete
//! ones otherwise, its chains of operators are left-deep (parsing, walking and dropping 100,000 `+`
//! overflows a stack), its errors are not PostgreSQL's, its tokens follow other rules than
//! PostgreSQL's for operators and COPY, and it accepts the grammar of a dozen other databases, which
//! we would have to find and refuse.
//!
//! Depth: [`MAX_DEPTH`] bounds the recursion; chains are parsed by loops into flat nodes. Size:
//! [`MAX_NODES`] bounds the number of expressions. Both give 54001.

mod copy;
mod ddl;
mod dml;
mod expr;
mod fingerprint;
mod foreign;
mod keyword;
mod lex;
mod query;
mod session;
mod types;

use std::ops::Range;

pub use fingerprint::{Fingerprint, fingerprint};
pub use keyword::needs_quotes;
use smallvec::SmallVec;

use crate::ast::{Expr, ExprKind, Ident, ObjectName, Statement};
use crate::error::{Result, SqlError, SqlState};
use lex::{Kind, Token};

/// How deep parentheses, subqueries and prefix operators may nest. A level takes up to 4 KiB of
/// stack in the parser and in the binder (unoptimized); sessions run on stacks of 2 MiB.
pub const MAX_DEPTH: usize = 256;

/// How many expressions a statement may hold; one takes about 100 bytes.
pub const MAX_NODES: usize = 4_000_000;

/// A statement of a query string.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The statement.
    pub statement: Statement,
    /// Its bytes in the string, without the semicolon.
    pub text: Range<usize>,
}

/// Parses a query string: any number of statements. Positions count from the string's beginning.
pub fn parse(sql: &str) -> Result<Vec<Parsed>> {
    let mut parser = Parser::new(sql)?;
    let mut statements = Vec::new();
    loop {
        while parser.eat(";")? {}
        if parser.token.kind == Kind::End {
            return Ok(statements);
        }
        let start = parser.token.start;
        let statement = match parser.statement().and_then(|s| parser.expect_statement_end().map(|()| s)) {
            Ok(statement) => statement,
            Err(error) => return Err(foreign::explain(sql, start, error)),
        };
        if statements.len() == MAX_STATEMENTS {
            return Err(too_complex("too many statements in one message", start));
        }
        statements.push(Parsed { statement, text: start..parser.previous_end });
    }
}

/// Statements of one message: all are parsed before the first runs, at some 800 bytes each.
const MAX_STATEMENTS: usize = 200_000;

/// Parses one statement: the extended protocol's, which allows no second one. `None`: empty.
pub fn parse_one(sql: &str) -> Result<Option<Parsed>> {
    let mut statements = parse(sql)?;
    if statements.len() > 1 {
        return Err(SqlError::new(
            SqlState::SYNTAX_ERROR,
            "cannot insert multiple commands into a prepared statement",
        ));
    }
    Ok(statements.pop())
}

/// Parses an expression that stands alone: a column's stored default.
pub fn parse_expression(sql: &str) -> Result<Expr> {
    let mut parser = Parser::new(sql)?;
    let expr = parser.expr()?;
    if parser.token.kind != Kind::End {
        return Err(parser.unexpected());
    }
    Ok(expr)
}

/// The parser's state: one token of look-ahead, more on demand.
struct Parser<'a> {
    sql: &'a str,
    token: Token,
    /// Scanned tokens after `token`.
    ahead: SmallVec<[Token; 4]>,
    /// Where the token before `token` ended.
    previous_end: usize,
    depth: usize,
    nodes: usize,
    /// AS OF SYSTEM TIME of the select just parsed, until its query takes it.
    as_of_seen: Option<Expr>,
}

impl<'a> Parser<'a> {
    fn new(sql: &'a str) -> Result<Parser<'a>> {
        let token = lex::scan(sql, 0)?;
        Ok(Parser {
            sql,
            token,
            ahead: SmallVec::new(),
            previous_end: 0,
            depth: 0,
            nodes: 0,
            as_of_seen: None,
        })
    }

    /// The text of the token.
    fn text(&self) -> &'a str {
        self.text_of(self.token)
    }

    fn text_of(&self, token: Token) -> &'a str {
        &self.sql[token.start..token.end]
    }

    /// The `n`th token after the current one.
    fn peek(&mut self, n: usize) -> Result<Token> {
        while self.ahead.len() < n {
            let end = self.ahead.last().map_or(self.token.end, |t| t.end);
            self.ahead.push(lex::scan(self.sql, end)?);
        }
        Ok(self.ahead.get(n.wrapping_sub(1)).copied().unwrap_or(self.token))
    }

    fn peek_is(&mut self, n: usize, symbol: &str) -> Result<bool> {
        let token = self.peek(n)?;
        Ok(matches!(token.kind, Kind::Punctuation | Kind::Operator) && self.text_of(token) == symbol)
    }

    fn peek_is_word(&mut self, n: usize, word: &str) -> Result<bool> {
        let token = self.peek(n)?;
        Ok(token.kind == Kind::Word && self.text_of(token).eq_ignore_ascii_case(word))
    }

    fn advance(&mut self) -> Result<Token> {
        let token = self.token;
        self.previous_end = token.end;
        self.token =
            if self.ahead.is_empty() { lex::scan(self.sql, token.end)? } else { self.ahead.remove(0) };
        Ok(token)
    }

    /// Goes back to a token seen before.
    fn rewind(&mut self, token: Token, previous_end: usize) {
        self.token = token;
        self.previous_end = previous_end;
        self.ahead.clear();
    }

    fn is(&self, symbol: &str) -> bool {
        matches!(self.token.kind, Kind::Punctuation | Kind::Operator) && self.text() == symbol
    }

    fn is_word(&self, word: &str) -> bool {
        self.token.kind == Kind::Word && self.text().eq_ignore_ascii_case(word)
    }

    fn is_any(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.is_word(word))
    }

    fn eat(&mut self, symbol: &str) -> Result<bool> {
        let found = self.is(symbol);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn eat_word(&mut self, word: &str) -> Result<bool> {
        let found = self.is_word(word);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    /// Eats `words` if all of them follow.
    fn eat_words(&mut self, words: &[&str]) -> Result<bool> {
        for (i, word) in words.iter().enumerate() {
            if !self.peek_is_word(i, word)? {
                return Ok(false);
            }
        }
        for _ in words {
            self.advance()?;
        }
        Ok(true)
    }

    fn expect(&mut self, symbol: &str) -> Result<()> {
        if self.eat(symbol)? { Ok(()) } else { Err(self.unexpected()) }
    }

    fn expect_word(&mut self, word: &str) -> Result<()> {
        if self.eat_word(word)? { Ok(()) } else { Err(self.unexpected()) }
    }

    fn expect_words(&mut self, words: &[&str]) -> Result<()> {
        words.iter().try_for_each(|word| self.expect_word(word))
    }

    fn expect_statement_end(&mut self) -> Result<()> {
        if self.token.kind == Kind::End || self.is(";") { Ok(()) } else { Err(self.unexpected()) }
    }

    /// The syntax error that the current token is.
    fn unexpected(&self) -> SqlError {
        if self.token.kind == Kind::End {
            return SqlError::new(SqlState::SYNTAX_ERROR, "syntax error at end of input")
                .at(self.token.start);
        }
        lex::error_at(self.sql, self.token.start, self.token.end, "syntax error")
    }

    /// Runs `parse` one level deeper.
    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= MAX_DEPTH {
            return Err(too_complex("stack depth limit exceeded", self.token.start));
        }
        self.depth += 1;
        let result = parse(self);
        self.depth -= 1;
        result
    }

    fn node(&mut self, position: usize, kind: ExprKind) -> Result<Expr> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(too_complex("statement is too complex", position));
        }
        Ok(Expr { kind, position })
    }

    /// One or more, separated by commas.
    fn comma_separated<T>(&mut self, mut parse: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = vec![parse(self)?];
        while self.eat(",")? {
            items.push(parse(self)?);
        }
        Ok(items)
    }

    /// The same within parentheses.
    fn parenthesized<T>(&mut self, parse: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        self.expect("(")?;
        let items = self.comma_separated(parse)?;
        self.expect(")")?;
        Ok(items)
    }

    fn ident_if(&mut self, accept: impl Fn(&str) -> bool) -> Result<Ident> {
        let token = self.token;
        let fits = match token.kind {
            Kind::Word => accept(self.text()),
            Kind::Quoted | Kind::UnicodeIdent => true,
            _ => false,
        };
        if !fits {
            return Err(self.unexpected());
        }
        self.advance()?;
        Ok(Ident { name: lex::identifier(self.sql, token)?, position: token.start })
    }

    /// A name of a column, table, alias and so on.
    fn ident(&mut self) -> Result<Ident> {
        self.ident_if(keyword::is_column_name)
    }

    /// Any word: after a point or AS.
    fn label(&mut self) -> Result<Ident> {
        self.ident_if(|_| true)
    }

    /// Whether the current token could be an [`Parser::ident`].
    fn at_ident(&self) -> bool {
        match self.token.kind {
            Kind::Word => keyword::is_column_name(self.text()),
            Kind::Quoted | Kind::UnicodeIdent => true,
            _ => false,
        }
    }

    fn object_name(&mut self) -> Result<ObjectName> {
        let first = self.ident()?;
        self.object_name_after(first)
    }

    /// The rest of a qualified name.
    fn object_name_after(&mut self, first: Ident) -> Result<ObjectName> {
        let position = first.position;
        let mut parts = vec![first];
        while self.eat(".")? {
            parts.push(self.label()?);
        }
        let name = parts.pop().expect("a name has a part").name;
        let schema = parts.pop().map(|part| part.name);
        // `database.schema.name` names the one database there is.
        if parts.len() > 1 {
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                "improper qualified name (too many dotted names)",
            )
            .at(position));
        }
        Ok(ObjectName { schema, name, position })
    }

    /// A string constant.
    fn string(&mut self) -> Result<String> {
        match self.token.kind {
            Kind::String | Kind::EscapeString | Kind::UnicodeString | Kind::DollarString => {
                let token = self.advance()?;
                Ok(lex::string_value(self.sql, token)?.into_owned())
            }
            _ => Err(self.unexpected()),
        }
    }

    fn at_string(&self) -> bool {
        matches!(
            self.token.kind,
            Kind::String | Kind::EscapeString | Kind::UnicodeString | Kind::DollarString
        )
    }

    /// An integer with an optional sign.
    fn signed_integer(&mut self) -> Result<i64> {
        let negative = self.is("-");
        if negative || self.is("+") {
            self.advance()?;
        }
        if self.token.kind != Kind::Integer {
            return Err(self.unexpected());
        }
        let text = format!("{}{}", if negative { "-" } else { "" }, self.text());
        let value = text.parse().map_err(|_| self.unexpected())?;
        self.advance()?;
        Ok(value)
    }

    fn statement(&mut self) -> Result<Statement> {
        self.nested(Parser::statement_inner)
    }

    fn statement_inner(&mut self) -> Result<Statement> {
        if self.is("(") {
            return Ok(Statement::Query(Box::new(self.query()?)));
        }
        if self.token.kind != Kind::Word {
            return Err(self.unexpected());
        }
        let word = self.text().to_ascii_lowercase();
        match word.as_str() {
            "select" | "values" | "table" => Ok(Statement::Query(Box::new(self.query()?))),
            "with" | "insert" | "update" | "delete" => self.change_or_query(),
            "create" => self.create(),
            "drop" => self.drop_objects(),
            "alter" => self.alter(),
            "truncate" => self.truncate(),
            "begin" | "start" | "commit" | "end" | "rollback" | "abort" | "savepoint" | "release" => {
                self.transaction()
            }
            "set" => self.set(),
            "show" => self.show(),
            "reset" => self.reset(),
            "explain" => self.explain(),
            "analyze" | "analyse" => self.analyze(),
            "vacuum" => self.vacuum(),
            "copy" => self.copy(),
            "prepare" => self.prepare(),
            "execute" => self.execute(),
            "deallocate" => self.deallocate(),
            "declare" => self.declare(),
            "fetch" | "move" => self.fetch(),
            "close" => self.close(),
            "discard" => self.discard(),
            "lock" => self.lock_table(),
            _ => Err(self.unexpected()),
        }
    }
}

fn too_complex(message: &'static str, position: usize) -> SqlError {
    SqlError::new(SqlState::STATEMENT_TOO_COMPLEX, message)
        .hint("Simplify the statement, or use parameters or a temporary result instead.")
        .at(position)
}
