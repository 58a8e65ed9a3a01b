//! INSERT, UPDATE and DELETE.

use super::Parser;
use crate::ast::{
    Alias, Assignment, CommonTable, ConflictTarget, Delete, Expr, ExprKind, Insert, OnConflict, SelectItem,
    Statement, Update,
};
use crate::error::{Result, SqlError, SqlState};

impl Parser<'_> {
    /// A statement that begins with WITH, INSERT, UPDATE or DELETE.
    pub(super) fn change_or_query(&mut self) -> Result<Statement> {
        if self.is_word("with") {
            let begin = (self.token, self.previous_end);
            let with = self.with()?;
            if !self.is_any(&["insert", "update", "delete"]) {
                self.rewind(begin.0, begin.1);
                return Ok(Statement::Query(Box::new(self.query()?)));
            }
            return self.change(with);
        }
        self.change(Vec::new())
    }

    fn change(&mut self, with: Vec<CommonTable>) -> Result<Statement> {
        if self.eat_word("insert")? {
            self.insert(with)
        } else if self.eat_word("update")? {
            self.update(with)
        } else {
            self.advance()?;
            self.delete(with)
        }
    }

    fn insert(&mut self, with: Vec<CommonTable>) -> Result<Statement> {
        self.expect_word("into")?;
        let table = self.object_name()?;
        let alias = if self.eat_word("as")? { Some(self.ident()?) } else { None };
        let mut columns = Vec::new();
        if self.is("(") {
            // A column list or a query in parentheses.
            let begin = (self.token, self.previous_end);
            self.advance()?;
            if self.at_query() || self.is("(") {
                self.rewind(begin.0, begin.1);
            } else {
                columns = self.comma_separated(|p| {
                    let column = p.ident()?;
                    if p.is("[") || p.is(".") {
                        return Err(
                            SqlError::unsupported("assignment to a part of a column").at(p.token.start)
                        );
                    }
                    Ok(column)
                })?;
                self.expect(")")?;
            }
        }
        if self.eat_word("overriding")? {
            return Err(SqlError::unsupported("OVERRIDING").at(self.previous_end - "overriding".len()));
        }
        let source =
            if self.eat_words(&["default", "values"])? { None } else { Some(Box::new(self.query()?)) };
        let on_conflict = if self.is_word("on") { Some(self.on_conflict()?) } else { None };
        let returning = self.returning()?;
        let insert = Insert { with, table, alias, columns, source, on_conflict, returning };
        Ok(Statement::Insert(Box::new(insert)))
    }

    fn on_conflict(&mut self) -> Result<OnConflict> {
        let position = self.token.start;
        self.expect_words(&["on", "conflict"])?;
        let target = if self.eat_words(&["on", "constraint"])? {
            ConflictTarget::Constraint(self.ident()?)
        } else if self.is("(") {
            let columns = self.parenthesized(|p| {
                let expr = p.expr()?;
                match expr.kind {
                    ExprKind::Column(mut parts) if parts.len() == 1 => Ok(parts.remove(0)),
                    _ => Err(SqlError::unsupported("an expression in ON CONFLICT").at(expr.position)),
                }
            })?;
            if self.is_word("where") {
                return Err(SqlError::unsupported("a partial index in ON CONFLICT").at(self.token.start));
            }
            ConflictTarget::Columns(columns)
        } else {
            ConflictTarget::Any
        };
        self.expect_word("do")?;
        if self.eat_word("nothing")? {
            return Ok(OnConflict { target, update: None, filter: None, position });
        }
        self.expect_words(&["update", "set"])?;
        if target == ConflictTarget::Any {
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                "ON CONFLICT DO UPDATE requires inference specification or constraint name",
            )
            .hint("For example, ON CONFLICT (column_name).")
            .at(position));
        }
        let update = Some(self.assignments()?);
        let filter = if self.eat_word("where")? { Some(self.expr()?) } else { None };
        Ok(OnConflict { target, update, filter, position })
    }

    fn assignments(&mut self) -> Result<Vec<Assignment>> {
        self.comma_separated(|p| {
            let columns = if p.is("(") { p.parenthesized(Parser::ident)? } else { vec![p.ident()?] };
            if p.is("[") || p.is(".") {
                return Err(SqlError::unsupported("assignment to a part of a column").at(p.token.start));
            }
            p.expect("=")?;
            let value: Expr = p.expr()?;
            Ok(Assignment { columns, value })
        })
    }

    fn returning(&mut self) -> Result<Vec<SelectItem>> {
        if self.eat_word("returning")? { self.select_items() } else { Ok(Vec::new()) }
    }

    fn target_alias(&mut self) -> Result<Option<Alias>> {
        let named = self.eat_word("as")?;
        if !named && (!self.at_ident() || self.is_word("set")) {
            return Ok(None);
        }
        Ok(Some(Alias { name: self.ident()?, columns: Vec::new() }))
    }

    fn update(&mut self, with: Vec<CommonTable>) -> Result<Statement> {
        self.eat_word("only")?;
        let table = self.object_name()?;
        self.eat("*")?;
        let alias = self.target_alias()?;
        self.expect_word("set")?;
        let assignments = self.assignments()?;
        let from = if self.eat_word("from")? { self.table_list()? } else { Vec::new() };
        let filter = self.change_filter()?;
        let returning = self.returning()?;
        let update = Update { with, table, alias, assignments, from, filter, returning };
        Ok(Statement::Update(Box::new(update)))
    }

    fn delete(&mut self, with: Vec<CommonTable>) -> Result<Statement> {
        self.expect_word("from")?;
        self.eat_word("only")?;
        let table = self.object_name()?;
        self.eat("*")?;
        let alias = self.target_alias()?;
        let using = if self.eat_word("using")? { self.table_list()? } else { Vec::new() };
        let filter = self.change_filter()?;
        let returning = self.returning()?;
        Ok(Statement::Delete(Box::new(Delete { with, table, alias, using, filter, returning })))
    }

    fn change_filter(&mut self) -> Result<Option<Expr>> {
        if !self.eat_word("where")? {
            return Ok(None);
        }
        if self.is_word("current") && self.peek_is_word(1, "of")? {
            return Err(SqlError::unsupported("WHERE CURRENT OF").at(self.token.start));
        }
        Ok(Some(self.expr()?))
    }
}
