//! COPY, with the options of PostgreSQL 9 and later and of its elders.

use super::{Parser, lex};
use crate::ast::{Copy, CopyFormat, CopyOptions, CopySource, Ident, Statement};
use crate::error::{Result, SqlError, SqlState};

impl Parser<'_> {
    /// COPY.
    pub(super) fn copy(&mut self) -> Result<Statement> {
        self.advance()?;
        let mut options = CopyOptions {
            format: CopyFormat::Text,
            freeze: false,
            delimiter: None,
            null: None,
            header: false,
            header_match: false,
            quote: None,
            escape: None,
            force_quote: None,
            force_not_null: Vec::new(),
            force_null: Vec::new(),
            encoding: None,
        };
        if self.is_word("binary") && !self.peek_is_word(1, "from")? && !self.peek_is_word(1, "to")? {
            self.advance()?;
            options.format = CopyFormat::Binary;
        }
        let source = if self.eat("(")? {
            let statement = self.statement()?;
            self.expect(")")?;
            CopySource::Query(Box::new(statement))
        } else {
            let name = self.object_name()?;
            let columns = if self.is("(") { self.parenthesized(Parser::ident)? } else { Vec::new() };
            CopySource::Table { name, columns }
        };
        let from = if self.eat_word("from")? {
            true
        } else {
            self.expect_word("to")?;
            false
        };
        if from && matches!(source, CopySource::Query(_)) {
            return Err(lex::error_at(self.sql, self.previous_end - 4, self.previous_end, "syntax error"));
        }
        if self.is_word("program") || self.at_string() {
            return Err(SqlError::unsupported("COPY with a file or program").at(self.token.start));
        }
        // Both words are accepted in both directions.
        if !self.eat_word("stdin")? {
            self.expect_word("stdout")?;
        }
        if self.is_word("using") && self.peek_is_word(1, "delimiters")? {
            self.advance()?;
            self.advance()?;
            options.delimiter = Some(self.string()?);
        }
        self.eat_word("with")?;
        if self.is("(") {
            self.parenthesized(|p| p.copy_option(&mut options))?;
        } else {
            while self.old_copy_option(&mut options)? {}
        }
        if self.is_word("where") {
            return Err(SqlError::unsupported("COPY … WHERE").at(self.token.start));
        }
        Ok(Statement::Copy(Box::new(Copy { source, from, options })))
    }

    fn copy_option(&mut self, options: &mut CopyOptions) -> Result<()> {
        let position = self.token.start;
        let name = self.option_name()?;
        match name.as_str() {
            "format" => {
                options.format = match self.option_word()?.as_str() {
                    "text" => CopyFormat::Text,
                    "csv" => CopyFormat::Csv,
                    "binary" => CopyFormat::Binary,
                    format => {
                        return Err(SqlError::new(
                            SqlState::INVALID_PARAMETER_VALUE,
                            format!("COPY format \"{format}\" not recognized"),
                        )
                        .at(position));
                    }
                }
            }
            "freeze" => options.freeze = self.option_bool()?,
            "delimiter" => options.delimiter = Some(self.option_word()?),
            "null" => options.null = Some(self.option_word()?),
            "header" => {
                if self.eat_word("match")? {
                    (options.header, options.header_match) = (true, true);
                } else {
                    options.header = self.option_bool()?;
                }
            }
            "quote" => options.quote = Some(self.option_word()?),
            "escape" => options.escape = Some(self.option_word()?),
            "force_quote" => {
                options.force_quote = Some(if self.eat("*")? { Vec::new() } else { self.copy_columns()? });
            }
            "force_not_null" => options.force_not_null = self.copy_columns()?,
            "force_null" => options.force_null = self.copy_columns()?,
            "encoding" => options.encoding = Some(self.option_word()?),
            _ => {
                return Err(SqlError::new(
                    SqlState::SYNTAX_ERROR,
                    format!("option \"{name}\" not recognized"),
                )
                .at(position));
            }
        }
        Ok(())
    }

    fn copy_columns(&mut self) -> Result<Vec<Ident>> {
        self.parenthesized(Parser::ident)
    }

    fn old_copy_option(&mut self, options: &mut CopyOptions) -> Result<bool> {
        if self.eat_word("binary")? {
            options.format = CopyFormat::Binary;
        } else if self.eat_word("csv")? {
            options.format = CopyFormat::Csv;
        } else if self.eat_word("freeze")? {
            options.freeze = true;
        } else if self.eat_word("header")? {
            options.header = true;
        } else if self.is_any(&["delimiter", "delimiters", "null", "quote", "escape", "encoding"]) {
            let name = self.option_name()?;
            self.eat_word("as")?;
            let value = Some(self.string()?);
            match name.as_str() {
                "null" => options.null = value,
                "quote" => options.quote = value,
                "escape" => options.escape = value,
                "encoding" => options.encoding = value,
                _ => options.delimiter = value,
            }
        } else if self.eat_words(&["force", "quote"])? {
            options.force_quote =
                Some(if self.eat("*")? { Vec::new() } else { self.comma_separated(Parser::ident)? });
        } else if self.eat_words(&["force", "not", "null"])? {
            options.force_not_null = self.comma_separated(Parser::ident)?;
        } else if self.eat_words(&["force", "null"])? {
            options.force_null = self.comma_separated(Parser::ident)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }
}
