//! CREATE, ALTER, DROP, TRUNCATE.

use super::Parser;
use super::lex::Kind;
use crate::ast::{
    AlterAction, AlterTable, ColumnDef, CreateIndex, CreateSchema, CreateSequence, CreateTable, Drop, Expr,
    ExprKind, Ident, ObjectName, OrderItem, Statement, TableConstraint, Truncate,
};
use crate::error::{Result, SqlError, SqlState};

impl Parser<'_> {
    /// CREATE.
    pub(super) fn create(&mut self) -> Result<Statement> {
        let position = self.advance()?.start;
        if self.is_any(&["temp", "temporary", "local", "global"]) {
            return Err(SqlError::unsupported("a temporary object").at(self.token.start));
        }
        let unlogged = self.eat_word("unlogged")?;
        if self.eat_word("table")? {
            return self.create_table(unlogged);
        }
        if unlogged && self.is_word("sequence") {
            return Err(SqlError::unsupported("an unlogged sequence").at(position));
        }
        if unlogged {
            return Err(self.unexpected());
        }
        if self.is_word("index") || self.is_word("unique") && self.peek_is_word(1, "index")? {
            let unique = self.eat_word("unique")?;
            self.advance()?;
            return self.create_index(unique);
        }
        if self.eat_word("sequence")? {
            return self.create_sequence();
        }
        if self.eat_word("schema")? {
            let if_not_exists = self.eat_words(&["if", "not", "exists"])?;
            if self.is_word("authorization") {
                return Err(SqlError::unsupported("CREATE SCHEMA AUTHORIZATION").at(self.token.start));
            }
            let name = self.ident()?;
            if self.is_any(&["authorization", "create", "grant"]) {
                return Err(SqlError::unsupported("an element of CREATE SCHEMA").at(self.token.start));
            }
            return Ok(Statement::CreateSchema(CreateSchema { name, if_not_exists }));
        }
        Err(self.unexpected().at(position))
    }

    fn create_table(&mut self, unlogged: bool) -> Result<Statement> {
        let if_not_exists = self.eat_words(&["if", "not", "exists"])?;
        let name = self.object_name()?;
        let mut table = CreateTable {
            name,
            unlogged,
            if_not_exists,
            columns: Vec::new(),
            names: Vec::new(),
            constraints: Vec::new(),
            query: None,
            no_data: false,
        };
        if self.is_any(&["partition", "of"]) {
            return Err(SqlError::unsupported("a partition or typed table").at(self.token.start));
        }
        if self.is("(") && (self.peek_is(2, ",")? || self.peek_is(2, ")")?) {
            // Names without types: AS must follow.
            self.advance()?;
            self.comma_separated(|p| {
                table.names.push(p.ident()?);
                Ok(())
            })?;
            self.expect(")")?;
        } else if self.eat("(")? {
            if !self.is(")") {
                self.comma_separated(|p| p.table_element(&mut table))?;
            }
            self.expect(")")?;
        }
        if self.is_word("inherits") {
            return Err(SqlError::unsupported("INHERITS").at(self.token.start));
        }
        if self.is_word("partition") {
            return Err(SqlError::unsupported("PARTITION BY").at(self.token.start));
        }
        if self.is_word("using") {
            return Err(SqlError::unsupported("a table access method").at(self.token.start));
        }
        self.storage_options()?;
        if self.is_word("on") && self.peek_is_word(1, "commit")? {
            return Err(SqlError::unsupported("ON COMMIT").at(self.token.start));
        }
        self.tablespace()?;
        if self.eat_word("as")? {
            if self.is_word("execute") {
                return Err(SqlError::unsupported("CREATE TABLE AS EXECUTE").at(self.token.start));
            }
            table.query = Some(Box::new(self.query()?));
            if self.eat_words(&["with", "no", "data"])? {
                table.no_data = true;
            } else {
                self.eat_words(&["with", "data"])?;
            }
        } else if !table.names.is_empty() {
            return Err(self.unexpected());
        }
        Ok(Statement::CreateTable(Box::new(table)))
    }

    /// WITH (…): `fillfactor` has no effect that can be seen, so it is accepted.
    fn storage_options(&mut self) -> Result<()> {
        if self.eat_words(&["without", "oids"])? || !self.is_word("with") || !self.peek_is(1, "(")? {
            return Ok(());
        }
        self.advance()?;
        self.parenthesized(|p| {
            let position = p.token.start;
            let name = p.option_name()?;
            if p.eat("=")? {
                p.option_word()?;
            }
            if name != "fillfactor" {
                return Err(SqlError::unsupported(format!("storage parameter \"{name}\"")).at(position));
            }
            Ok(())
        })?;
        Ok(())
    }

    fn tablespace(&mut self) -> Result<()> {
        if self.is_word("tablespace") {
            return Err(SqlError::unsupported("TABLESPACE").at(self.token.start));
        }
        Ok(())
    }

    fn table_element(&mut self, table: &mut CreateTable) -> Result<()> {
        if self.is_word("like") {
            return Err(SqlError::unsupported("LIKE in CREATE TABLE").at(self.token.start));
        }
        let constraint = self.is_any(&["constraint", "primary", "unique", "check", "foreign", "exclude"]);
        if constraint {
            table.constraints.push(self.table_constraint()?);
        } else {
            let column = self.column(&table.name)?;
            table.columns.push(column);
        }
        Ok(())
    }

    fn column(&mut self, table: &ObjectName) -> Result<ColumnDef> {
        let name = self.ident()?;
        let ty = self.type_name()?;
        let mut column =
            ColumnDef { name, ty, not_null: false, default: None, identity: false, constraints: Vec::new() };
        let mut null_said = false;
        loop {
            let position = self.token.start;
            let constraint_name = if self.eat_word("constraint")? { Some(self.ident()?) } else { None };
            let clash = |column: &ColumnDef| {
                SqlError::new(
                    SqlState::SYNTAX_ERROR,
                    format!(
                        "conflicting NULL/NOT NULL declarations for column \"{}\" of table \"{}\"",
                        column.name.name, table.name
                    ),
                )
                .at(position)
            };
            if self.eat_words(&["not", "null"])? {
                if null_said {
                    return Err(clash(&column));
                }
                column.not_null = true;
            } else if self.eat_word("null")? {
                if column.not_null {
                    return Err(clash(&column));
                }
                null_said = true;
            } else if self.eat_word("default")? {
                if column.default.is_some() {
                    return Err(SqlError::new(
                        SqlState::SYNTAX_ERROR,
                        format!(
                            "multiple default values specified for column \"{}\" of table \"{}\"",
                            column.name.name, table.name
                        ),
                    )
                    .at(position));
                }
                column.default = Some(self.default_expr()?);
            } else if self.eat_words(&["primary", "key"])? {
                let constraint = self.column_constraint(&column, constraint_name, true, position)?;
                column.constraints.push(constraint);
            } else if self.eat_word("unique")? {
                let constraint = self.column_constraint(&column, constraint_name, false, position)?;
                column.constraints.push(constraint);
            } else if self.is_word("check") {
                return Err(SqlError::unsupported("a CHECK constraint").at(position));
            } else if self.is_word("references") {
                return Err(SqlError::unsupported("a foreign key").at(position));
            } else if self.eat_word("generated")? {
                self.generated(&mut column, position)?;
            } else if self.eat_word("collate")? {
                let name = self.ident_if(|_| true)?;
                let name = self.object_name_after(name)?;
                if !matches!(name.name.as_str(), "C" | "POSIX" | "default") {
                    return Err(SqlError::unsupported(format!("collation \"{}\"", name.name)).at(position));
                }
            } else if constraint_name.is_some() {
                return Err(self.unexpected());
            } else {
                return Ok(column);
            }
        }
    }

    /// The expression of DEFAULT, which ends before NOT NULL.
    fn default_expr(&mut self) -> Result<Expr> {
        self.nested(|p| {
            let first = p.prefix()?;
            p.infix(first, super::expr::DEFAULT_OPERATORS)
        })
    }

    fn generated(&mut self, column: &mut ColumnDef, position: usize) -> Result<()> {
        if self.eat_words(&["by", "default"])? {
            self.expect_words(&["as", "identity"])?;
            if self.is("(") {
                return Err(SqlError::unsupported("options of an identity column").at(self.token.start));
            }
            column.identity = true;
            column.not_null = true;
            return Ok(());
        }
        self.expect_words(&["always", "as"])?;
        if self.is_word("identity") {
            return Err(SqlError::unsupported("GENERATED ALWAYS AS IDENTITY").at(position));
        }
        Err(SqlError::unsupported("a generated column").at(position))
    }

    fn column_constraint(
        &mut self,
        column: &ColumnDef,
        name: Option<Ident>,
        primary_key: bool,
        position: usize,
    ) -> Result<TableConstraint> {
        self.constraint_options()?;
        Ok(TableConstraint {
            name,
            primary_key,
            columns: vec![column.name.clone()],
            using_index: None,
            position,
        })
    }

    fn constraint_options(&mut self) -> Result<()> {
        if self.is_word("include") {
            return Err(SqlError::unsupported("INCLUDE").at(self.token.start));
        }
        if self.is_word("nulls") {
            return Err(SqlError::unsupported("NULLS NOT DISTINCT").at(self.token.start));
        }
        self.storage_options()?;
        if self.eat_words(&["using", "index"])? {
            return Err(SqlError::unsupported("TABLESPACE").at(self.token.start));
        }
        if self.eat_words(&["not", "deferrable"])? {
            return Ok(());
        }
        if self.is_word("deferrable") || self.is_word("initially") {
            return Err(SqlError::unsupported("a deferrable constraint").at(self.token.start));
        }
        Ok(())
    }

    fn table_constraint(&mut self) -> Result<TableConstraint> {
        let position = self.token.start;
        let name = if self.eat_word("constraint")? { Some(self.ident()?) } else { None };
        let primary_key = if self.eat_words(&["primary", "key"])? {
            true
        } else if self.eat_word("unique")? {
            false
        } else if self.is_word("check") {
            return Err(SqlError::unsupported("a CHECK constraint").at(self.token.start));
        } else if self.is_word("foreign") {
            return Err(SqlError::unsupported("a foreign key").at(self.token.start));
        } else if self.is_word("exclude") {
            return Err(SqlError::unsupported("an exclusion constraint").at(self.token.start));
        } else {
            return Err(self.unexpected());
        };
        if self.is_word("nulls") {
            return Err(SqlError::unsupported("NULLS NOT DISTINCT").at(self.token.start));
        }
        let mut constraint =
            TableConstraint { name, primary_key, columns: Vec::new(), using_index: None, position };
        if self.eat_words(&["using", "index"])? {
            constraint.using_index = Some(self.ident()?);
        } else {
            constraint.columns = self.parenthesized(Parser::ident)?;
        }
        self.constraint_options()?;
        Ok(constraint)
    }

    fn create_index(&mut self, unique: bool) -> Result<Statement> {
        let concurrently = self.eat_word("concurrently")?;
        let if_not_exists = self.eat_words(&["if", "not", "exists"])?;
        let name = if self.is_word("on") { None } else { Some(self.ident()?) };
        if if_not_exists && name.is_none() {
            return Err(self.unexpected());
        }
        self.expect_word("on")?;
        self.eat_word("only")?;
        let table = self.object_name()?;
        if self.eat_word("using")? {
            let position = self.token.start;
            let method = self.ident()?;
            if method.name != "btree" {
                return Err(SqlError::unsupported(format!("index method \"{}\"", method.name)).at(position));
            }
        }
        let columns = self.parenthesized(Parser::index_column)?;
        if self.is_word("include") {
            return Err(SqlError::unsupported("INCLUDE").at(self.token.start));
        }
        if self.is_word("nulls") {
            if self.eat_words(&["nulls", "distinct"])? {
            } else {
                return Err(SqlError::unsupported("NULLS NOT DISTINCT").at(self.token.start));
            }
        }
        self.storage_options()?;
        self.tablespace()?;
        if self.is_word("where") {
            return Err(SqlError::unsupported("a partial index").at(self.token.start));
        }
        let index = CreateIndex { name, table, unique, if_not_exists, concurrently, columns };
        Ok(Statement::CreateIndex(Box::new(index)))
    }

    fn index_column(&mut self) -> Result<OrderItem> {
        let position = self.token.start;
        let expr = if self.at_ident() && !self.peek_is(1, "(")? {
            let ident = self.ident()?;
            self.node(position, ExprKind::Column(vec![ident]))?
        } else {
            let expr = self.expr()?;
            match expr.kind {
                ExprKind::Column(_) => expr,
                _ => return Err(SqlError::unsupported("an index on an expression").at(position)),
            }
        };
        if self.eat_word("collate")? {
            let position = self.token.start;
            let name = self.ident_if(|_| true)?;
            let name = self.object_name_after(name)?;
            if !matches!(name.name.as_str(), "C" | "POSIX" | "default") {
                return Err(SqlError::unsupported(format!("collation \"{}\"", name.name)).at(position));
            }
        }
        if self.at_ident() && !self.is_any(&["nulls"]) {
            // An operator class: those whose order is the default one, in the "C" collation.
            let position = self.token.start;
            let class = self.object_name()?.name;
            let plain = ["text_pattern_ops", "varchar_pattern_ops", "bpchar_pattern_ops"];
            let default =
                ["int2_ops", "int4_ops", "int8_ops", "text_ops", "varchar_ops", "uuid_ops", "date_ops"];
            if !plain.contains(&class.as_str()) && !default.contains(&class.as_str()) {
                return Err(SqlError::unsupported(format!("operator class \"{class}\"")).at(position));
            }
        }
        let descending = if self.eat_word("desc")? {
            true
        } else {
            self.eat_word("asc")?;
            false
        };
        let nulls_first = if self.eat_words(&["nulls", "first"])? {
            Some(true)
        } else if self.eat_words(&["nulls", "last"])? {
            Some(false)
        } else {
            None
        };
        Ok(OrderItem { expr, descending, nulls_first })
    }

    fn create_sequence(&mut self) -> Result<Statement> {
        let if_not_exists = self.eat_words(&["if", "not", "exists"])?;
        let name = self.object_name()?;
        let mut sequence = CreateSequence {
            name,
            if_not_exists,
            start: None,
            increment: None,
            min: None,
            max: None,
            cache: None,
            cycle: false,
            ty: None,
            owned_by: None,
        };
        loop {
            if self.eat_word("as")? {
                sequence.ty = Some(self.type_name()?);
            } else if self.eat_word("increment")? {
                self.eat_word("by")?;
                sequence.increment = Some(self.signed_integer()?);
            } else if self.eat_word("minvalue")? {
                sequence.min = Some(self.signed_integer()?);
            } else if self.eat_word("maxvalue")? {
                sequence.max = Some(self.signed_integer()?);
            } else if self.eat_word("start")? {
                self.eat_word("with")?;
                sequence.start = Some(self.signed_integer()?);
            } else if self.eat_word("cache")? {
                sequence.cache = Some(self.signed_integer()?);
            } else if self.eat_word("cycle")? {
                sequence.cycle = true;
            } else if self.eat_words(&["no", "minvalue"])? || self.eat_words(&["no", "maxvalue"])? {
            } else if self.eat_words(&["no", "cycle"])? {
                sequence.cycle = false;
            } else if self.eat_words(&["owned", "by"])? {
                sequence.owned_by = self.owner_column()?;
            } else {
                return Ok(Statement::CreateSequence(Box::new(sequence)));
            }
        }
    }

    /// `table.column`, or NONE.
    fn owner_column(&mut self) -> Result<Option<(ObjectName, Ident)>> {
        if self.eat_word("none")? {
            return Ok(None);
        }
        let mut parts = vec![self.ident()?];
        while self.eat(".")? {
            parts.push(self.label()?);
        }
        let column = parts.pop().expect("a name has a part");
        let Some(table) = parts.pop() else {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, "invalid OWNED BY option")
                .hint("Specify OWNED BY table.column or OWNED BY NONE.")
                .at(column.position));
        };
        let schema = parts.pop().map(|part| part.name);
        Ok(Some((ObjectName { schema, name: table.name, position: table.position }, column)))
    }

    /// DROP.
    pub(super) fn drop_objects(&mut self) -> Result<Statement> {
        self.advance()?;
        let kind = match self.text().to_ascii_lowercase().as_str() {
            "table" => Statement::DropTable as fn(Drop) -> Statement,
            "index" => Statement::DropIndex,
            "sequence" => Statement::DropSequence,
            "schema" => Statement::DropSchema,
            _ => return Err(self.unexpected()),
        };
        let index = self.is_word("index");
        self.advance()?;
        let concurrently = index && self.eat_word("concurrently")?;
        let if_exists = self.eat_words(&["if", "exists"])?;
        let names = self.comma_separated(Parser::object_name)?;
        let cascade = self.cascade()?;
        Ok(kind(Drop { names, if_exists, cascade, concurrently }))
    }

    fn cascade(&mut self) -> Result<bool> {
        let cascade = self.eat_word("cascade")?;
        if !cascade {
            self.eat_word("restrict")?;
        }
        Ok(cascade)
    }

    /// TRUNCATE.
    pub(super) fn truncate(&mut self) -> Result<Statement> {
        self.advance()?;
        self.eat_word("table")?;
        let tables = self.comma_separated(|p| {
            p.eat_word("only")?;
            let name = p.object_name()?;
            p.eat("*")?;
            Ok(name)
        })?;
        let restart_identity = self.eat_words(&["restart", "identity"])?;
        if !restart_identity {
            self.eat_words(&["continue", "identity"])?;
        }
        let cascade = self.cascade()?;
        Ok(Statement::Truncate(Truncate { tables, restart_identity, cascade }))
    }

    /// ALTER TABLE and ALTER INDEX … RENAME.
    pub(super) fn alter(&mut self) -> Result<Statement> {
        self.advance()?;
        let index = self.is_word("index");
        if !index && !self.is_word("table") {
            return Err(self.unexpected());
        }
        self.advance()?;
        let if_exists = self.eat_words(&["if", "exists"])?;
        self.eat_word("only")?;
        let name = self.object_name()?;
        self.eat("*")?;
        let actions = if self.is_word("rename") {
            vec![self.rename(index)?]
        } else if index {
            return Err(
                SqlError::unsupported("an action of ALTER INDEX other than RENAME").at(self.token.start)
            );
        } else {
            self.comma_separated(|p| p.alter_action(&name))?
        };
        Ok(Statement::AlterTable(Box::new(AlterTable { name, if_exists, index, actions })))
    }

    fn rename(&mut self, index: bool) -> Result<AlterAction> {
        self.advance()?;
        if self.eat_word("to")? {
            return Ok(AlterAction::RenameTable(self.ident()?));
        }
        if index {
            return Err(self.unexpected());
        }
        if self.eat_word("constraint")? {
            let from = self.ident()?;
            self.expect_word("to")?;
            return Ok(AlterAction::RenameConstraint { from, to: self.ident()? });
        }
        self.eat_word("column")?;
        let from = self.ident()?;
        self.expect_word("to")?;
        Ok(AlterAction::RenameColumn { from, to: self.ident()? })
    }

    fn alter_action(&mut self, table: &ObjectName) -> Result<AlterAction> {
        let position = self.token.start;
        if self.eat_word("add")? {
            if self.is_any(&["constraint", "primary", "unique", "check", "foreign", "exclude"]) {
                return Ok(AlterAction::AddConstraint(self.table_constraint()?));
            }
            self.eat_word("column")?;
            let if_not_exists = self.eat_words(&["if", "not", "exists"])?;
            return Ok(AlterAction::AddColumn { column: self.column(table)?, if_not_exists });
        }
        if self.eat_word("drop")? {
            let constraint = self.eat_word("constraint")?;
            if !constraint {
                self.eat_word("column")?;
            }
            let if_exists = self.eat_words(&["if", "exists"])?;
            let name = self.ident()?;
            let cascade = self.cascade()?;
            return Ok(if constraint {
                AlterAction::DropConstraint { name, if_exists, cascade }
            } else {
                AlterAction::DropColumn { name, if_exists, cascade }
            });
        }
        if self.eat_words(&["owner", "to"])? {
            return Ok(AlterAction::OwnerTo(self.ident_if(|_| true)?));
        }
        if self.eat_word("alter")? {
            self.eat_word("column")?;
            let column = self.ident()?;
            if self.eat_words(&["set", "default"])? {
                return Ok(AlterAction::SetDefault { column, default: Some(self.expr()?) });
            }
            if self.eat_words(&["drop", "default"])? {
                return Ok(AlterAction::SetDefault { column, default: None });
            }
            if self.eat_words(&["set", "not", "null"])? {
                return Ok(AlterAction::SetNotNull { column, not_null: true });
            }
            if self.eat_words(&["drop", "not", "null"])? {
                return Ok(AlterAction::SetNotNull { column, not_null: false });
            }
            if self.is_any(&["set", "type", "add", "drop", "reset"]) {
                return Err(SqlError::unsupported("this form of ALTER COLUMN").at(position));
            }
            return Err(self.unexpected());
        }
        if self.token.kind == Kind::Word
            && self.is_any(&[
                "set", "reset", "enable", "disable", "attach", "detach", "inherit", "no", "validate",
                "cluster", "replica", "force",
            ])
        {
            let word = self.text().to_ascii_uppercase();
            return Err(SqlError::unsupported(format!("ALTER TABLE … {word}")).at(position));
        }
        Err(self.unexpected())
    }
}
