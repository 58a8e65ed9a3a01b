//! Queries and FROM.

use super::{Parser, keyword};
use crate::ast::{
    Alias, CommonTable, Distinct, Expr, Ident, JoinClause, JoinCondition, JoinType, LockWait, Locking,
    ObjectName, OrderItem, Query, QueryBody, Select, SelectItem, SetLink, SetOperator, TableRef, TypeName,
};
use crate::error::{Result, SqlError, SqlState};

impl Parser<'_> {
    /// Whether a query begins here (parentheses aside).
    pub(super) fn at_query(&self) -> bool {
        self.is_any(&["select", "values", "with"])
    }

    /// Whether something follows that only a query can have.
    pub(super) fn at_query_tail(&self) -> bool {
        self.is_any(&["union", "intersect", "except", "order", "limit", "offset", "fetch", "for"])
    }

    /// A query, with everything around its body.
    pub(super) fn query(&mut self) -> Result<Query> {
        self.nested(|p| {
            let position = p.token.start;
            let with = p.with()?;
            let body = p.set_operations(None)?;
            p.query_tail(with, body, position)
        })
    }

    /// The rest of a query whose first body, in parentheses, is parsed.
    pub(super) fn query_after_nested(&mut self, first: Query) -> Result<Query> {
        let position = first.position;
        let body = self.set_operations(Some(QueryBody::Nested(Box::new(first))))?;
        self.query_tail(Vec::new(), body, position)
    }

    fn query_tail(&mut self, with: Vec<CommonTable>, body: QueryBody, position: usize) -> Result<Query> {
        let mut query = Query {
            with,
            body,
            order_by: Vec::new(),
            limit: None,
            offset: None,
            locking: Vec::new(),
            as_of: None,
            position,
        };
        if self.is_word("order") {
            query.order_by = self.order_by()?;
        }
        loop {
            let at = self.token.start;
            if self.eat_word("limit")? {
                if query.limit.is_some() {
                    return Err(
                        SqlError::new(SqlState::SYNTAX_ERROR, "multiple LIMIT clauses not allowed").at(at)
                    );
                }
                if !self.eat_word("all")? {
                    query.limit = Some(self.expr()?);
                }
                if self.is(",") {
                    return Err(SqlError::new(SqlState::SYNTAX_ERROR, "LIMIT #,# syntax is not supported")
                        .hint("Use separate LIMIT and OFFSET clauses.")
                        .at(at));
                }
            } else if self.eat_word("offset")? {
                query.offset = Some(self.expr()?);
                if !self.eat_word("rows")? {
                    self.eat_word("row")?;
                }
            } else if self.is_word("fetch") {
                self.advance()?;
                if !self.eat_word("first")? {
                    self.expect_word("next")?;
                }
                query.limit = Some(if self.is_any(&["row", "rows"]) {
                    let literal = crate::ast::Literal::Integer("1".into());
                    self.node(at, crate::ast::ExprKind::Literal(literal))?
                } else {
                    self.fetch_count()?
                });
                if !self.eat_word("rows")? {
                    self.expect_word("row")?;
                }
                if self.eat_words(&["with", "ties"])? {
                    return Err(SqlError::unsupported("WITH TIES").at(at));
                }
                self.expect_word("only")?;
            } else if self.is_word("for") {
                if self.peek_is_word(1, "read")? {
                    self.advance()?;
                    self.expect_words(&["read", "only"])?;
                } else {
                    query.locking.push(self.locking()?);
                }
            } else if self.is_word("as") && self.peek_is_word(1, "of")? {
                query.as_of = Some(self.as_of()?);
            } else {
                break;
            }
        }
        // AS OF SYSTEM TIME stands after FROM or at the end; it holds for the whole query.
        if query.as_of.is_none() {
            query.as_of = self.as_of_seen.take();
        }
        Ok(query)
    }

    /// The count of FETCH FIRST: a constant, a parameter or an expression in parentheses.
    fn fetch_count(&mut self) -> Result<Expr> {
        self.nested(|p| {
            let position = p.token.start;
            let negative = p.is("-");
            if negative || p.is("+") {
                let value = p.signed_integer()?;
                return p.node(
                    position,
                    crate::ast::ExprKind::Literal(crate::ast::Literal::Integer(value.to_string())),
                );
            }
            p.primary()
        })
    }

    /// `AS OF SYSTEM TIME expression`.
    pub(super) fn as_of(&mut self) -> Result<Expr> {
        self.expect_words(&["as", "of", "system", "time"])?;
        self.expr()
    }

    fn locking(&mut self) -> Result<Locking> {
        let position = self.token.start;
        self.expect_word("for")?;
        let shared = if self.eat_words(&["key", "share"])? || self.eat_word("share")? {
            true
        } else {
            self.eat_words(&["no", "key"])?;
            self.expect_word("update")?;
            false
        };
        let tables = if self.eat_word("of")? { self.comma_separated(Parser::ident)? } else { Vec::new() };
        let wait = if self.eat_word("nowait")? {
            LockWait::NoWait
        } else if self.eat_words(&["skip", "locked"])? {
            LockWait::SkipLocked
        } else {
            LockWait::Block
        };
        Ok(Locking { shared, tables, wait, position })
    }

    /// WITH, if it follows.
    pub(super) fn with(&mut self) -> Result<Vec<CommonTable>> {
        if !self.eat_word("with")? {
            return Ok(Vec::new());
        }
        if self.is_word("recursive") {
            return Err(SqlError::unsupported("WITH RECURSIVE").at(self.token.start));
        }
        self.comma_separated(|p| {
            let name = p.ident()?;
            let columns = if p.is("(") { p.parenthesized(Parser::ident)? } else { Vec::new() };
            p.expect_word("as")?;
            if !p.eat_word("materialized")? {
                p.eat_words(&["not", "materialized"])?;
            }
            p.expect("(")?;
            if p.is_any(&["insert", "update", "delete"]) {
                return Err(SqlError::unsupported("a data-modifying statement in WITH").at(p.token.start));
            }
            let query = Box::new(p.query()?);
            p.expect(")")?;
            Ok(CommonTable { alias: Alias { name, columns }, query })
        })
    }

    pub(super) fn order_by(&mut self) -> Result<Vec<OrderItem>> {
        self.expect_words(&["order", "by"])?;
        self.comma_separated(Parser::order_item)
    }

    pub(super) fn order_item(&mut self) -> Result<OrderItem> {
        let expr = self.expr()?;
        let descending = if self.eat_word("desc")? {
            true
        } else {
            self.eat_word("asc")?;
            false
        };
        if self.is_word("using") {
            return Err(SqlError::unsupported("ORDER BY … USING").at(self.token.start));
        }
        let nulls_first = if self.eat_words(&["nulls", "first"])? {
            Some(true)
        } else if self.eat_words(&["nulls", "last"])? {
            Some(false)
        } else {
            None
        };
        Ok(OrderItem { expr, descending, nulls_first })
    }

    /// UNION and EXCEPT of INTERSECTs.
    fn set_operations(&mut self, first: Option<QueryBody>) -> Result<QueryBody> {
        let first = self.intersections(first)?;
        self.set_chain(first, &["union", "except"], |p| p.intersections(None))
    }

    fn intersections(&mut self, first: Option<QueryBody>) -> Result<QueryBody> {
        let first = match first {
            Some(first) => first,
            None => self.simple_query()?,
        };
        self.set_chain(first, &["intersect"], Parser::simple_query)
    }

    fn set_chain(
        &mut self,
        first: QueryBody,
        words: &[&str],
        mut operand: impl FnMut(&mut Self) -> Result<QueryBody>,
    ) -> Result<QueryBody> {
        let mut rest = Vec::new();
        while self.is_any(words) {
            let operator = match self.text().as_bytes()[0].to_ascii_lowercase() {
                b'u' => SetOperator::Union,
                b'i' => SetOperator::Intersect,
                _ => SetOperator::Except,
            };
            let position = self.advance()?.start;
            let all = self.eat_word("all")?;
            if !all {
                self.eat_word("distinct")?;
            }
            let body = operand(self)?;
            rest.push(SetLink { operator, all, body, position });
        }
        Ok(if rest.is_empty() { first } else { QueryBody::Set { first: Box::new(first), rest } })
    }

    fn simple_query(&mut self) -> Result<QueryBody> {
        if self.eat("(")? {
            let query = self.query()?;
            self.expect(")")?;
            return Ok(QueryBody::Nested(Box::new(query)));
        }
        if self.eat_word("values")? {
            let rows = self.comma_separated(|p| p.parenthesized(Parser::expr))?;
            return Ok(QueryBody::Values(rows));
        }
        if self.is_word("table") {
            let position = self.advance()?.start;
            let name = self.object_name()?;
            return Ok(QueryBody::Select(Box::new(Select {
                distinct: Distinct::All,
                items: vec![SelectItem::Star(position)],
                from: vec![TableRef::Table { name, alias: None }],
                filter: None,
                group_by: Vec::new(),
                having: None,
                position,
            })));
        }
        if !self.is_word("select") {
            return Err(self.unexpected());
        }
        Ok(QueryBody::Select(Box::new(self.select()?)))
    }

    fn select(&mut self) -> Result<Select> {
        let position = self.advance()?.start;
        let mut distinct = Distinct::All;
        if self.eat_word("distinct")? {
            distinct = if self.eat_word("on")? {
                Distinct::On(self.parenthesized(Parser::expr)?)
            } else {
                Distinct::Distinct
            };
        } else {
            self.eat_word("all")?;
        }
        let empty = self.is_any(&["from", "where"])
            || self.is(";")
            || self.is(")")
            || self.token.kind == super::Kind::End;
        let items = if empty { Vec::new() } else { self.select_items()? };
        if self.is_word("into") {
            return Err(SqlError::unsupported("SELECT INTO").at(self.token.start));
        }
        let from = if self.eat_word("from")? { self.table_list()? } else { Vec::new() };
        if self.is_word("as") && self.peek_is_word(1, "of")? {
            let position = self.token.start;
            let as_of = self.as_of()?;
            if self.as_of_seen.replace(as_of).is_some() {
                return Err(
                    SqlError::new(SqlState::SYNTAX_ERROR, "multiple AS OF SYSTEM TIME clauses").at(position)
                );
            }
        }
        let filter = if self.eat_word("where")? { Some(self.expr()?) } else { None };
        let mut group_by = Vec::new();
        if self.eat_words(&["group", "by"])? {
            if self.eat_word("distinct")? {
                return Err(SqlError::unsupported("GROUP BY DISTINCT").at(self.previous_end));
            }
            self.eat_word("all")?;
            group_by = self.comma_separated(|p| {
                if p.is("(") && p.peek_is(1, ")")?
                    || p.is_any(&["rollup", "cube"]) && p.peek_is(1, "(")?
                    || p.is_word("grouping") && p.peek_is_word(1, "sets")?
                {
                    return Err(SqlError::unsupported("GROUPING SETS").at(p.token.start));
                }
                p.expr()
            })?;
        }
        let having = if self.eat_word("having")? { Some(self.expr()?) } else { None };
        if self.is_word("window") {
            return Err(SqlError::unsupported("WINDOW").at(self.token.start));
        }
        Ok(Select { distinct, items, from, filter, group_by, having, position })
    }

    /// The items of a select list or of RETURNING.
    pub(super) fn select_items(&mut self) -> Result<Vec<SelectItem>> {
        self.comma_separated(|p| {
            if p.is("*") {
                let position = p.advance()?.start;
                return Ok(SelectItem::Star(position));
            }
            let expr = p.expr()?;
            let alias = if p.is_word("as") && !p.peek_is_word(1, "of")? {
                p.advance()?;
                Some(p.label()?)
            } else {
                match p.token.kind {
                    super::Kind::Word if keyword::is_bare_label(p.text()) => Some(p.label()?),
                    super::Kind::Quoted | super::Kind::UnicodeIdent => Some(p.label()?),
                    _ => None,
                }
            };
            Ok(SelectItem::Expr { expr, alias })
        })
    }

    pub(super) fn table_list(&mut self) -> Result<Vec<TableRef>> {
        self.comma_separated(Parser::joined)
    }

    fn joined(&mut self) -> Result<TableRef> {
        self.nested(|p| {
            let first = p.table_primary()?;
            let mut joins = Vec::new();
            while let Some(join) = p.join()? {
                joins.push(join);
            }
            Ok(if joins.is_empty() { first } else { TableRef::Joined { first: Box::new(first), joins } })
        })
    }

    fn join(&mut self) -> Result<Option<JoinClause>> {
        let position = self.token.start;
        let natural = self.eat_word("natural")?;
        let kind = if self.eat_words(&["cross", "join"])? {
            JoinType::Cross
        } else if self.eat_words(&["inner", "join"])? || self.eat_word("join")? {
            JoinType::Inner
        } else if self.is_any(&["left", "right", "full"]) {
            let kind = match self.text().as_bytes()[0].to_ascii_lowercase() {
                b'l' => JoinType::Left,
                b'r' => JoinType::Right,
                _ => JoinType::Full,
            };
            self.advance()?;
            self.eat_word("outer")?;
            self.expect_word("join")?;
            kind
        } else if natural {
            return Err(self.unexpected());
        } else {
            return Ok(None);
        };
        let right =
            if kind == JoinType::Cross || natural { self.table_primary()? } else { self.join_operand()? };
        let condition = if kind == JoinType::Cross {
            JoinCondition::None
        } else if natural {
            JoinCondition::Natural
        } else if self.eat_word("on")? {
            JoinCondition::On(self.expr()?)
        } else if self.eat_word("using")? {
            let columns = self.parenthesized(Parser::ident)?;
            if self.is_word("as") && !self.peek_is_word(1, "of")? {
                return Err(SqlError::unsupported("an alias of JOIN … USING").at(self.token.start));
            }
            JoinCondition::Using(columns)
        } else {
            return Err(self.unexpected());
        };
        Ok(Some(JoinClause { kind, right, condition, position }))
    }

    /// The right side of a join with a condition, which may itself be a join: `a JOIN b JOIN c ON …
    /// ON …`.
    fn join_operand(&mut self) -> Result<TableRef> {
        self.nested(|p| {
            let first = p.table_primary()?;
            let mut joins = Vec::new();
            while p.is_any(&["join", "inner", "left", "right", "full", "cross", "natural"]) {
                joins.extend(p.join()?);
            }
            Ok(if joins.is_empty() { first } else { TableRef::Joined { first: Box::new(first), joins } })
        })
    }

    fn table_primary(&mut self) -> Result<TableRef> {
        let position = self.token.start;
        let lateral = self.eat_word("lateral")?;
        if self.is("(") {
            return self.nested(|p| p.parenthesized_table(lateral, position));
        }
        if self.is_word("rows") && self.peek_is_word(1, "from")? {
            return Err(SqlError::unsupported("ROWS FROM").at(position));
        }
        let only = self.eat_word("only")?;
        let parenthesized = only && self.eat("(")?;
        // Functions like current_schema() are no names of tables.
        let first = self.ident_if(|word| keyword::is_column_name(word) || keyword::is_function_name(word))?;
        let name = self.object_name_after(first)?;
        if parenthesized {
            self.expect(")")?;
        }
        if self.is("(") && !only {
            return self.table_function(name);
        }
        if lateral {
            return Err(self.unexpected());
        }
        if !only {
            self.eat("*")?;
        }
        let alias = self.table_alias()?;
        if self.is_word("tablesample") {
            return Err(SqlError::unsupported("TABLESAMPLE").at(self.token.start));
        }
        Ok(TableRef::Table { name, alias })
    }

    fn parenthesized_table(&mut self, lateral: bool, position: usize) -> Result<TableRef> {
        let begin = (self.token, self.previous_end);
        self.advance()?;
        let query = if self.at_query() {
            Some(self.query()?)
        } else if self.is("(") {
            // A query in several parentheses, or a join: PostgreSQL's grammar looks ahead without
            // limit; so do we, by trying.
            match self.query() {
                Ok(query) if self.is(")") => Some(query),
                Ok(_) => None,
                Err(error) if error.state() == SqlState::STATEMENT_TOO_COMPLEX => return Err(error),
                Err(_) => None,
            }
        } else {
            None
        };
        if let Some(query) = query {
            self.expect(")")?;
            let alias = self.table_alias()?;
            return Ok(TableRef::Subquery { query: Box::new(query), alias, lateral, position });
        }
        self.rewind(begin.0, begin.1);
        self.advance()?;
        let inner = self.joined()?;
        self.expect(")")?;
        if lateral || !matches!(inner, TableRef::Joined { .. }) {
            return Err(self.unexpected());
        }
        if self.is_word("as") && !self.peek_is_word(1, "of")? || self.at_ident() && !self.at_join_word() {
            return Err(SqlError::unsupported("an alias of a parenthesized join").at(self.token.start));
        }
        Ok(inner)
    }

    fn at_join_word(&self) -> bool {
        self.is_any(&["join", "inner", "left", "right", "full", "cross", "natural"])
    }

    fn table_function(&mut self, name: ObjectName) -> Result<TableRef> {
        let call = Box::new(self.call_arguments(name)?);
        let ordinality = self.eat_words(&["with", "ordinality"])?;
        let mut column_types = Vec::<TypeName>::new();
        let alias = self.table_alias_with(|p, columns: &mut Vec<Ident>| {
            columns.push(p.ident()?);
            if !p.is(",") && !p.is(")") {
                column_types.push(p.type_name()?);
            }
            Ok(())
        })?;
        Ok(TableRef::Function { call, ordinality, alias, column_types })
    }

    fn table_alias(&mut self) -> Result<Option<Alias>> {
        self.table_alias_with(|p, columns| {
            columns.push(p.ident()?);
            Ok(())
        })
    }

    fn table_alias_with(
        &mut self,
        mut column: impl FnMut(&mut Self, &mut Vec<Ident>) -> Result<()>,
    ) -> Result<Option<Alias>> {
        let named = self.is_word("as") && !self.peek_is_word(1, "of")?;
        if named {
            self.advance()?;
        } else if !self.at_ident() {
            return Ok(None);
        }
        let name = self.ident()?;
        let mut columns = Vec::new();
        if self.eat("(")? {
            self.comma_separated(|p| column(p, &mut columns))?;
            self.expect(")")?;
        }
        Ok(Some(Alias { name, columns }))
    }
}
