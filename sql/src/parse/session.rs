//! Transactions, settings, EXPLAIN, prepared statements, cursors, maintenance.

use super::Parser;
use super::lex::Kind;
use crate::ast::{
    Analyze, Declare, DiscardTarget, Execute, Explain, Fetch, Isolation, LockTable, Prepare, Set, Statement,
    TransactionModes, Vacuum,
};
use crate::error::{Result, SqlError, SqlState};

impl Parser<'_> {
    /// BEGIN, COMMIT, ROLLBACK, SAVEPOINT and their kin.
    pub(super) fn transaction(&mut self) -> Result<Statement> {
        if self.eat_word("begin")? {
            self.eat_transaction_word()?;
            return Ok(Statement::Begin(self.transaction_modes()?));
        }
        if self.eat_word("start")? {
            self.expect_word("transaction")?;
            return Ok(Statement::Begin(TransactionModes { start: true, ..self.transaction_modes()? }));
        }
        if self.eat_word("commit")? || self.eat_word("end")? {
            if self.is_word("prepared") {
                return Err(SqlError::unsupported("COMMIT PREPARED").at(self.token.start));
            }
            self.eat_transaction_word()?;
            return Ok(Statement::Commit { chain: self.and_chain()? });
        }
        if self.eat_word("savepoint")? {
            return Ok(Statement::Savepoint(self.ident()?));
        }
        if self.eat_word("release")? {
            self.eat_word("savepoint")?;
            return Ok(Statement::Release(self.ident()?));
        }
        self.advance()?;
        if self.is_word("prepared") {
            return Err(SqlError::unsupported("ROLLBACK PREPARED").at(self.token.start));
        }
        self.eat_transaction_word()?;
        if self.eat_word("to")? {
            self.eat_word("savepoint")?;
            return Ok(Statement::RollbackTo(self.ident()?));
        }
        Ok(Statement::Rollback { chain: self.and_chain()? })
    }

    fn eat_transaction_word(&mut self) -> Result<()> {
        if !self.eat_word("work")? {
            self.eat_word("transaction")?;
        }
        Ok(())
    }

    fn and_chain(&mut self) -> Result<bool> {
        if !self.eat_word("and")? {
            return Ok(false);
        }
        let no = self.eat_word("no")?;
        self.expect_word("chain")?;
        Ok(!no)
    }

    fn transaction_modes(&mut self) -> Result<TransactionModes> {
        let mut modes = TransactionModes::default();
        loop {
            if self.eat_words(&["isolation", "level"])? {
                modes.isolation = Some(self.isolation()?);
            } else if self.eat_word("read")? {
                modes.read_only = Some(if self.eat_word("only")? {
                    true
                } else {
                    self.expect_word("write")?;
                    false
                });
            } else if self.eat_word("deferrable")? {
                modes.deferrable = Some(true);
            } else if self.is_word("not") {
                self.expect_words(&["not", "deferrable"])?;
                modes.deferrable = Some(false);
            } else if self.is_word("as") {
                modes.as_of = Some(self.as_of()?);
            } else {
                return Ok(modes);
            }
            self.eat(",")?;
        }
    }

    fn isolation(&mut self) -> Result<Isolation> {
        if self.eat_word("serializable")? {
            return Ok(Isolation::Serializable);
        }
        if self.eat_words(&["repeatable", "read"])? {
            return Ok(Isolation::RepeatableRead);
        }
        self.expect_word("read")?;
        if self.eat_word("committed")? {
            return Ok(Isolation::ReadCommitted);
        }
        self.expect_word("uncommitted")?;
        Ok(Isolation::ReadUncommitted)
    }

    /// SET.
    pub(super) fn set(&mut self) -> Result<Statement> {
        self.advance()?;
        if self.is_word("session") && self.peek_is_word(1, "characteristics")? {
            self.expect_words(&["session", "characteristics", "as", "transaction"])?;
            return Ok(Statement::SetSessionCharacteristics(self.transaction_modes()?));
        }
        let local = self.eat_word("local")?;
        if !local && !self.peek_is_word(1, "authorization")? {
            self.eat_word("session")?;
        }
        if self.eat_word("transaction")? {
            if self.is_word("snapshot") {
                return Err(SqlError::unsupported("SET TRANSACTION SNAPSHOT").at(self.token.start));
            }
            return Ok(Statement::SetTransaction(self.transaction_modes()?));
        }
        if self.is_word("constraints") {
            return Err(SqlError::unsupported("SET CONSTRAINTS").at(self.token.start));
        }
        let special = if self.eat_words(&["time", "zone"])? {
            Some("timezone")
        } else if self.eat_word("names")? {
            Some("client_encoding")
        } else if self.eat_word("schema")? {
            Some("search_path")
        } else if self.eat_words(&["session", "authorization"])? {
            Some("session_authorization")
        } else if self.is_word("role") && !self.peek_is(1, "=")? && !self.peek_is_word(1, "to")? {
            self.advance()?;
            Some("role")
        } else {
            None
        };
        if let Some(name) = special {
            let value = if self.token.kind == Kind::End || self.is(";") {
                None
            } else {
                self.setting_values(name == "timezone")?
            };
            return Ok(Statement::Set(Set { name: name.to_owned(), value, local }));
        }
        let name = self.setting_name()?;
        if !self.eat("=")? {
            self.expect_word("to")?;
        }
        let value = self.setting_values(false)?;
        Ok(Statement::Set(Set { name, value, local }))
    }

    fn setting_name(&mut self) -> Result<String> {
        let mut name = self.ident_if(super::keyword::is_column_name)?.name;
        while self.eat(".")? {
            name.push('.');
            name.push_str(&self.label()?.name);
        }
        Ok(name.to_ascii_lowercase())
    }

    fn setting_values(&mut self, zone: bool) -> Result<Option<Vec<String>>> {
        if self.eat_word("default")? || zone && self.eat_word("local")? {
            return Ok(None);
        }
        self.comma_separated(|p| {
            if zone && p.eat_word("interval")? {
                let text = p.string()?;
                p.interval_fields()?;
                return Ok(text);
            }
            if p.at_string() {
                return p.string();
            }
            match p.token.kind {
                Kind::Integer | Kind::Numeric => {
                    let text = p.text().to_owned();
                    p.advance()?;
                    Ok(text)
                }
                Kind::Operator if p.is("-") || p.is("+") => {
                    let sign = if p.is("-") { "-" } else { "" };
                    p.advance()?;
                    if !matches!(p.token.kind, Kind::Integer | Kind::Numeric) {
                        return Err(p.unexpected());
                    }
                    let text = format!("{sign}{}", p.text());
                    p.advance()?;
                    Ok(text)
                }
                _ => Ok(p
                    .ident_if(|word| {
                        super::keyword::is_column_name(word)
                            || super::keyword::is_function_name(word)
                            || ["on", "true", "false"].iter().any(|w| word.eq_ignore_ascii_case(w))
                    })?
                    .name),
            }
        })
        .map(Some)
    }

    /// SHOW.
    pub(super) fn show(&mut self) -> Result<Statement> {
        self.advance()?;
        Ok(Statement::Show(self.setting_or_all()?))
    }

    /// RESET.
    pub(super) fn reset(&mut self) -> Result<Statement> {
        self.advance()?;
        Ok(Statement::Reset(self.setting_or_all()?))
    }

    fn setting_or_all(&mut self) -> Result<Option<String>> {
        if self.eat_word("all")? {
            return Ok(None);
        }
        if self.eat_words(&["time", "zone"])? {
            return Ok(Some("timezone".into()));
        }
        if self.eat_words(&["transaction", "isolation", "level"])? {
            return Ok(Some("transaction_isolation".into()));
        }
        if self.eat_words(&["session", "authorization"])? {
            return Ok(Some("session_authorization".into()));
        }
        self.setting_name().map(Some)
    }

    /// EXPLAIN.
    pub(super) fn explain(&mut self) -> Result<Statement> {
        self.advance()?;
        let mut analyze = false;
        let mut verbose = false;
        let mut costs = true;
        let mut timing = true;
        if self.is("(") {
            self.parenthesized(|p| {
                let position = p.token.start;
                let option = p.option_name()?;
                match option.as_str() {
                    "analyze" => analyze = p.option_bool()?,
                    "verbose" => verbose = p.option_bool()?,
                    "costs" => costs = p.option_bool()?,
                    "timing" => timing = p.option_bool()?,
                    // They add what Cairn has no figures of when they are on.
                    "buffers" | "wal" | "settings" => {
                        if p.option_bool()? {
                            return Err(SqlError::unsupported(format!(
                                "EXPLAIN option {}",
                                option.to_ascii_uppercase()
                            ))
                            .at(position));
                        }
                    }
                    "summary" => {
                        p.option_bool()?;
                    }
                    "format" => {
                        let format = p.option_word()?;
                        if format != "text" {
                            return Err(SqlError::unsupported(format!(
                                "EXPLAIN format {}",
                                format.to_ascii_uppercase()
                            ))
                            .at(position));
                        }
                    }
                    _ => {
                        return Err(SqlError::new(
                            SqlState::SYNTAX_ERROR,
                            format!("unrecognized EXPLAIN option \"{option}\""),
                        )
                        .at(position));
                    }
                }
                Ok(())
            })?;
        } else {
            analyze = self.eat_word("analyze")? || self.eat_word("analyse")?;
            verbose = self.eat_word("verbose")?;
        }
        let explainable = self.is("(")
            || self.is_any(&[
                "select", "values", "with", "insert", "update", "delete", "table", "execute", "create",
                "declare",
            ]);
        if !explainable {
            return Err(self.unexpected());
        }
        let statement = self.statement()?;
        Ok(Statement::Explain(Box::new(Explain { statement, analyze, verbose, costs, timing })))
    }

    /// The name of an option in parentheses.
    pub(super) fn option_name(&mut self) -> Result<String> {
        Ok(self.ident_if(|_| true)?.name.to_ascii_lowercase())
    }

    /// The value of a boolean option; none means true.
    pub(super) fn option_bool(&mut self) -> Result<bool> {
        if self.is(",") || self.is(")") {
            return Ok(true);
        }
        let position = self.token.start;
        let word = self.option_word()?;
        match word.as_str() {
            "on" | "true" | "1" => Ok(true),
            "off" | "false" | "0" => Ok(false),
            _ => Err(SqlError::new(SqlState::SYNTAX_ERROR, "option requires a Boolean value").at(position)),
        }
    }

    /// A word, string or number as an option's value, in lower case unless quoted.
    pub(super) fn option_word(&mut self) -> Result<String> {
        if self.at_string() {
            return self.string();
        }
        if matches!(self.token.kind, Kind::Integer | Kind::Numeric) {
            let text = self.text().to_owned();
            self.advance()?;
            return Ok(text);
        }
        Ok(self.ident_if(|_| true)?.name)
    }

    /// ANALYZE.
    pub(super) fn analyze(&mut self) -> Result<Statement> {
        self.advance()?;
        let mut verbose = false;
        if self.is("(") {
            self.parenthesized(|p| {
                let position = p.token.start;
                match p.option_name()?.as_str() {
                    "verbose" => verbose = p.option_bool()?,
                    "skip_locked" => {
                        p.option_bool()?;
                    }
                    option => {
                        return Err(SqlError::new(
                            SqlState::SYNTAX_ERROR,
                            format!("unrecognized ANALYZE option \"{option}\""),
                        )
                        .at(position));
                    }
                }
                Ok(())
            })?;
        } else {
            verbose = self.eat_word("verbose")?;
        }
        let tables = self.maintained_tables()?;
        Ok(Statement::Analyze(Analyze { tables, verbose }))
    }

    fn maintained_tables(&mut self) -> Result<Vec<crate::ast::ObjectName>> {
        if !self.at_ident() {
            return Ok(Vec::new());
        }
        self.comma_separated(|p| {
            let table = p.object_name()?;
            if p.is("(") {
                return Err(SqlError::unsupported("a column list of ANALYZE").at(p.token.start));
            }
            Ok(table)
        })
    }

    /// VACUUM.
    pub(super) fn vacuum(&mut self) -> Result<Statement> {
        self.advance()?;
        let mut vacuum =
            Vacuum { tables: Vec::new(), analyze: false, full: false, freeze: false, verbose: false };
        if self.is("(") {
            self.parenthesized(|p| {
                let position = p.token.start;
                match p.option_name()?.as_str() {
                    "analyze" | "analyse" => vacuum.analyze = p.option_bool()?,
                    "full" => vacuum.full = p.option_bool()?,
                    "freeze" => vacuum.freeze = p.option_bool()?,
                    "verbose" => vacuum.verbose = p.option_bool()?,
                    // Hints about PostgreSQL's own files.
                    "disable_page_skipping" | "skip_locked" | "process_toast" | "truncate" => {
                        p.option_bool()?;
                    }
                    "index_cleanup" | "parallel" => {
                        p.option_word()?;
                    }
                    option => {
                        return Err(SqlError::new(
                            SqlState::SYNTAX_ERROR,
                            format!("unrecognized VACUUM option \"{option}\""),
                        )
                        .at(position));
                    }
                }
                Ok(())
            })?;
        } else {
            vacuum.full = self.eat_word("full")?;
            vacuum.freeze = self.eat_word("freeze")?;
            vacuum.verbose = self.eat_word("verbose")?;
            vacuum.analyze = self.eat_word("analyze")? || self.eat_word("analyse")?;
        }
        vacuum.tables = self.maintained_tables()?;
        Ok(Statement::Vacuum(vacuum))
    }

    /// PREPARE.
    pub(super) fn prepare(&mut self) -> Result<Statement> {
        self.advance()?;
        if self.is_word("transaction") {
            return Err(SqlError::unsupported("PREPARE TRANSACTION").at(self.token.start));
        }
        let name = self.ident()?;
        let types = if self.is("(") { self.parenthesized(Parser::type_name)? } else { Vec::new() };
        self.expect_word("as")?;
        let preparable =
            self.is("(") || self.is_any(&["select", "values", "with", "insert", "update", "delete", "table"]);
        if !preparable {
            return Err(self.unexpected());
        }
        let statement = self.statement()?;
        Ok(Statement::Prepare(Box::new(Prepare { name, types, statement })))
    }

    /// EXECUTE.
    pub(super) fn execute(&mut self) -> Result<Statement> {
        self.advance()?;
        let name = self.ident()?;
        let args = if self.is("(") { self.parenthesized(Parser::expr)? } else { Vec::new() };
        Ok(Statement::Execute(Execute { name, args }))
    }

    /// DEALLOCATE.
    pub(super) fn deallocate(&mut self) -> Result<Statement> {
        self.advance()?;
        self.eat_word("prepare")?;
        Ok(Statement::Deallocate(if self.eat_word("all")? { None } else { Some(self.ident()?) }))
    }

    /// DECLARE.
    pub(super) fn declare(&mut self) -> Result<Statement> {
        self.advance()?;
        let name = self.ident()?;
        let mut declare_scroll = false;
        let mut binary = false;
        loop {
            if self.eat_word("binary")? {
                binary = true;
            } else if self.eat_words(&["no", "scroll"])? {
                declare_scroll = false;
            } else if self.eat_word("scroll")? {
                declare_scroll = true;
            } else if !self.eat_word("insensitive")? && !self.eat_word("asensitive")? {
                break;
            }
        }
        self.expect_word("cursor")?;
        let hold = if self.eat_words(&["with", "hold"])? {
            true
        } else {
            self.eat_words(&["without", "hold"])?;
            false
        };
        self.expect_word("for")?;
        let query = Box::new(self.query()?);
        Ok(Statement::Declare(Box::new(Declare { name, hold, scroll: declare_scroll, binary, query })))
    }

    /// FETCH and MOVE.
    pub(super) fn fetch(&mut self) -> Result<Statement> {
        let skip = self.is_word("move");
        self.advance()?;
        let position = self.token.start;
        let mut count = Some(1);
        let mut sign = 1;
        if self.eat_word("next")? {
        } else if self.eat_word("prior")? {
            count = Some(-1);
        } else if self.is_any(&["first", "last", "absolute", "relative"]) {
            let word = self.text().to_ascii_uppercase();
            return Err(SqlError::unsupported(format!("FETCH {word}")).at(position));
        } else {
            if self.eat_word("backward")? {
                sign = -1;
            } else {
                self.eat_word("forward")?;
            }
            if self.eat_word("all")? {
                count = None;
            } else if self.token.kind == Kind::Integer || self.is("-") || self.is("+") {
                count = Some(self.signed_integer()?);
            }
        }
        if sign < 0 {
            count = match count {
                Some(n) => Some(-n),
                None => return Err(SqlError::unsupported("FETCH BACKWARD ALL").at(position)),
            };
        }
        if !self.eat_word("from")? {
            self.eat_word("in")?;
        }
        Ok(Statement::Fetch(Fetch { cursor: self.ident()?, count, skip }))
    }

    /// CLOSE.
    pub(super) fn close(&mut self) -> Result<Statement> {
        self.advance()?;
        Ok(Statement::Close(if self.eat_word("all")? { None } else { Some(self.ident()?) }))
    }

    /// DISCARD.
    pub(super) fn discard(&mut self) -> Result<Statement> {
        self.advance()?;
        let target = if self.eat_word("all")? {
            DiscardTarget::All
        } else if self.eat_word("plans")? {
            DiscardTarget::Plans
        } else if self.eat_word("sequences")? {
            DiscardTarget::Sequences
        } else if self.eat_word("temp")? || self.eat_word("temporary")? {
            DiscardTarget::Temp
        } else {
            return Err(self.unexpected());
        };
        Ok(Statement::Discard(target))
    }

    /// LOCK TABLE.
    pub(super) fn lock_table(&mut self) -> Result<Statement> {
        self.advance()?;
        self.eat_word("table")?;
        self.eat_word("only")?;
        let tables = self.comma_separated(Parser::object_name)?;
        let mut mode = "ACCESS EXCLUSIVE".to_owned();
        if self.eat_word("in")? {
            let mut words = Vec::new();
            while !self.is_word("mode") {
                words.push(self.ident_if(|_| true)?.name.to_ascii_uppercase());
            }
            self.advance()?;
            mode = words.join(" ");
        }
        let nowait = self.eat_word("nowait")?;
        Ok(Statement::LockTable(LockTable { tables, mode, nowait }))
    }
}
