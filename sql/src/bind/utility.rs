//! Statements: queries and changes become plans, the rest [`Utility`].

use super::change::column_position;
use super::{Binder, resolve_type, serial_type};
use crate::ast::{
    self, AlterAction, ColumnDef, CopySource, Expr, ExprKind, Ident, Statement, TableConstraint,
};
use crate::catalog::RelationKind;
use crate::error::{Result, SqlError, SqlState};
use crate::expr::Scalar;
use crate::func::CastContext;
use crate::plan::deparse::deparse;
use crate::plan::logical::Plan;
use crate::plan::{
    BoundCopy, CopyTarget, ExplainOptions, NewColumn, NewTable, Planned, QueryKind, Utility, plan,
};
use crate::types::{Datum, Type, TypeKind, text_of};

/// A bound statement.
#[allow(clippy::large_enum_variant)]
pub enum Bound {
    /// A query or a change of rows.
    Query(QueryKind, Plan),
    /// Anything else.
    Utility(Utility),
}

impl Binder<'_> {
    /// Binds a statement.
    pub fn statement(&mut self, statement: &Statement) -> Result<Bound> {
        let utility = match statement {
            Statement::Query(query) => return Ok(Bound::Query(QueryKind::Select, self.query(query)?)),
            Statement::Insert(insert) => return Ok(Bound::Query(QueryKind::Insert, self.insert(insert)?)),
            Statement::Update(update) => return Ok(Bound::Query(QueryKind::Update, self.update(update)?)),
            Statement::Delete(delete) => return Ok(Bound::Query(QueryKind::Delete, self.delete(delete)?)),
            Statement::CreateTable(table) => Utility::CreateTable(self.new_table(table)?),
            Statement::DropTable(drop) => Utility::DropTable(drop.clone()),
            Statement::CreateIndex(index) => {
                self.check_index(index)?;
                Utility::CreateIndex((**index).clone())
            }
            Statement::DropIndex(drop) => Utility::DropIndex(drop.clone()),
            Statement::CreateSequence(sequence) => Utility::CreateSequence((**sequence).clone()),
            Statement::DropSequence(drop) => Utility::DropSequence(drop.clone()),
            Statement::CreateSchema(schema) => Utility::CreateSchema(schema.clone()),
            Statement::DropSchema(drop) => Utility::DropSchema(drop.clone()),
            Statement::Truncate(truncate) => Utility::Truncate(truncate.clone()),
            Statement::AlterTable(alter) => self.alter(alter)?,
            Statement::Begin(modes) => Utility::Begin(modes.clone()),
            Statement::Commit { chain } => Utility::Commit { chain: *chain },
            Statement::Rollback { chain } => Utility::Rollback { chain: *chain },
            Statement::Savepoint(name) => Utility::Savepoint(name.clone()),
            Statement::Release(name) => Utility::Release(name.clone()),
            Statement::RollbackTo(name) => Utility::RollbackTo(name.clone()),
            Statement::SetTransaction(modes) => Utility::SetTransaction(modes.clone()),
            Statement::SetSessionCharacteristics(modes) => Utility::SetSessionCharacteristics(modes.clone()),
            Statement::Set(set) => Utility::Set(set.clone()),
            Statement::Show(name) => Utility::Show(name.clone()),
            Statement::Reset(name) => Utility::Reset(name.clone()),
            Statement::Explain(explain) => {
                let options = ExplainOptions {
                    analyze: explain.analyze,
                    verbose: explain.verbose,
                    costs: explain.costs,
                    timing: explain.timing,
                };
                let plan = plan(&explain.statement, self.catalog, &self.params, self.settings)?;
                if let Planned::Query(query) = &plan {
                    self.params = query.parameter_types.iter().copied().map(Some).collect();
                }
                Utility::Explain { plan, options }
            }
            Statement::Analyze(analyze) => Utility::Analyze(analyze.clone()),
            Statement::Vacuum(vacuum) => Utility::Vacuum(vacuum.clone()),
            Statement::Copy(copy) => Utility::Copy(self.copy(copy)?),
            Statement::Prepare(prepare) => {
                let types = prepare
                    .types
                    .iter()
                    .map(|ty| match ty.name.as_str() {
                        "unknown" => Ok(None),
                        _ => resolve_type(ty).map(Some),
                    })
                    .collect::<Result<Vec<_>>>()?;
                let statement = Box::new(prepare.statement.clone());
                Utility::Prepare { name: prepare.name.clone(), types, statement }
            }
            Statement::Execute(execute) => Utility::Execute(execute.clone()),
            Statement::Deallocate(name) => Utility::Deallocate(name.clone()),
            Statement::Declare(declare) => {
                let query = Statement::Query(declare.query.clone());
                let Planned::Query(plan) = plan(&query, self.catalog, &self.params, self.settings)? else {
                    unreachable!("a query is planned as one")
                };
                Utility::Declare {
                    name: declare.name.clone(),
                    hold: declare.hold,
                    scroll: declare.scroll,
                    binary: declare.binary,
                    plan,
                }
            }
            Statement::Fetch(fetch) => Utility::Fetch(fetch.clone()),
            Statement::Close(name) => Utility::Close(name.clone()),
            Statement::Discard(target) => Utility::Discard(*target),
            Statement::LockTable(lock) => Utility::LockTable(lock.clone()),
        };
        Ok(Bound::Utility(utility))
    }

    fn new_table(&mut self, table: &ast::CreateTable) -> Result<NewTable> {
        let mut columns: Vec<NewColumn> = Vec::new();
        let mut constraints = Vec::new();
        for column in &table.columns {
            if columns.iter().any(|c| c.name == column.name.name) {
                return Err(SqlError::new(
                    SqlState::DUPLICATE_COLUMN,
                    format!("column \"{}\" specified more than once", column.name.name),
                ));
            }
            constraints.extend(column.constraints.iter().cloned());
            columns.push(self.new_column(column)?);
        }
        constraints.extend(table.constraints.iter().cloned());
        let mut query = None;
        if let Some(source) = &table.query {
            if table.no_data {
                return Err(SqlError::unsupported("WITH NO DATA").at(table.name.position));
            }
            let statement = Statement::Query(source.clone());
            let Planned::Query(plan) = plan(&statement, self.catalog, &self.params, self.settings)? else {
                unreachable!("a query is planned as one")
            };
            if plan.as_of.is_some() {
                return Err(
                    SqlError::unsupported("AS OF SYSTEM TIME in CREATE TABLE AS").at(table.name.position)
                );
            }
            if table.names.len() > plan.columns.len() {
                return Err(SqlError::new(SqlState::SYNTAX_ERROR, "too many column names were specified"));
            }
            for (n, column) in plan.columns.iter().enumerate() {
                columns.push(NewColumn {
                    name: table.names.get(n).map_or(&column.name, |name| &name.name).clone(),
                    ty: column.ty,
                    not_null: false,
                    default: None,
                    serial: false,
                });
            }
            query = Some(plan);
        }
        let mut primary = None;
        for constraint in &constraints {
            if constraint.using_index.is_some() {
                return Err(SqlError::unsupported("USING INDEX in CREATE TABLE").at(constraint.position));
            }
            check_key_columns(constraint, |name| columns.iter().any(|c| c.name == name))?;
            if constraint.primary_key && primary.replace(constraint).is_some() {
                return Err(SqlError::new(
                    SqlState::INVALID_TABLE_DEFINITION,
                    format!("multiple primary keys for table \"{}\" are not allowed", table.name.name),
                )
                .at(constraint.position));
            }
            for name in &constraint.columns {
                let column = columns.iter_mut().find(|c| c.name == name.name).expect("it was checked");
                check_key_type(column.ty, name)?;
                column.not_null |= constraint.primary_key;
            }
        }
        Ok(NewTable {
            name: table.name.clone(),
            unlogged: table.unlogged,
            if_not_exists: table.if_not_exists,
            columns,
            constraints,
            query,
        })
    }

    fn new_column(&mut self, column: &ColumnDef) -> Result<NewColumn> {
        let serial = serial_type(&column.ty.name).filter(|_| column.ty.schema.is_none());
        if serial.is_some() && column.ty.array {
            return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, "array of serial is not implemented")
                .at(column.ty.position));
        }
        let ty = match serial {
            Some(kind) => Type::new(kind),
            None => resolve_type(&column.ty)?,
        };
        if matches!(ty.kind.category(), crate::types::Category::Pseudo | crate::types::Category::Unknown) {
            return Err(SqlError::new(
                SqlState::INVALID_TABLE_DEFINITION,
                format!("column \"{}\" has pseudo-type {ty}", column.name.name),
            )
            .at(column.name.position));
        }
        let serial = serial.is_some() || column.identity;
        if serial && let Some(default) = &column.default {
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                format!("multiple default values specified for column \"{}\"", column.name.name),
            )
            .at(default.position));
        }
        if column.identity && !matches!(ty.kind, TypeKind::Int2 | TypeKind::Int4 | TypeKind::Int8) {
            return Err(SqlError::new(
                SqlState::INVALID_PARAMETER_VALUE,
                "identity column type must be smallint, integer, or bigint",
            )
            .at(column.name.position));
        }
        let default = match &column.default {
            Some(expr) => self.default_text(&column.name, ty, expr)?,
            None => None,
        };
        Ok(NewColumn {
            name: column.name.name.clone(),
            ty,
            not_null: column.not_null || serial,
            default,
            serial,
        })
    }

    /// A default's text, deparsed; `None` for NULL.
    fn default_text(&mut self, column: &Ident, ty: Type, expr: &Expr) -> Result<Option<String>> {
        if contains_column(expr) {
            return Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "cannot use column reference in DEFAULT expression",
            )
            .at(expr.position));
        }
        let value = self.lone_expr(expr, "DEFAULT expressions")?;
        if value.any(&mut |s| matches!(s, Scalar::Param { .. })) {
            return Err(
                SqlError::new(SqlState::UNDEFINED_PARAMETER, "there is no parameter $1").at(expr.position)
            );
        }
        let value = match self.try_coerce(value, ty, CastContext::Assignment, expr.position)? {
            Ok(value) => value,
            Err(from) => {
                return Err(SqlError::new(
                    SqlState::DATATYPE_MISMATCH,
                    format!(
                        "column \"{}\" is of type {} but default expression is of type {}",
                        column.name,
                        Type::new(ty.kind),
                        Type::new(from.kind)
                    ),
                )
                .hint("You will need to rewrite or cast the expression."));
            }
        };
        if matches!(value, Scalar::Const { value: Datum::Null, .. }) {
            return Ok(None);
        }
        // A plain number reads better without its type, which the column gives it again.
        if let Scalar::Const { value: Datum::Int2(_) | Datum::Int8(_) | Datum::Numeric(_), ty } = &value
            && let Scalar::Const { value, .. } = &value
            && let Some(text) = text_of(value, *ty, &self.settings.text)
            && text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        {
            return Ok(Some(text.to_string()));
        }
        Ok(Some(deparse(&value, &|_| "?".into())))
    }

    fn check_index(&self, index: &ast::CreateIndex) -> Result<()> {
        let table = self.table(&index.table)?;
        for item in &index.columns {
            let ExprKind::Column(parts) = &item.expr.kind else {
                return Err(SqlError::unsupported("an index on an expression").at(item.expr.position));
            };
            let name = parts.last().expect("a name has parts");
            let Some(column) = table.columns.iter().find(|c| c.name == name.name && !c.hidden) else {
                return Err(SqlError::new(
                    SqlState::UNDEFINED_COLUMN,
                    format!("column \"{}\" does not exist", name.name),
                )
                .at(name.position));
            };
            check_key_type(column.ty, name)?;
        }
        Ok(())
    }

    fn alter(&mut self, alter: &ast::AlterTable) -> Result<Utility> {
        let mut columns = Vec::new();
        let mut defaults = Vec::new();
        let table = self.catalog.table(alter.name.schema.as_deref(), &alter.name.name);
        let mut added: Vec<&str> = Vec::new();
        for action in &alter.actions {
            match action {
                AlterAction::AddColumn { column, .. } => {
                    columns.push(self.new_column(column)?);
                    added.push(&column.name.name);
                }
                AlterAction::SetDefault { column, default } => {
                    let Some(table) = &table else {
                        defaults.push(None);
                        continue;
                    };
                    let ty = table.columns[column_position(table, column)?].ty;
                    defaults.push(match default {
                        Some(expr) => self.default_text(column, ty, expr)?,
                        None => None,
                    });
                }
                AlterAction::AddConstraint(constraint) => {
                    if let Some(table) = &table {
                        check_key_columns(constraint, |name| {
                            added.contains(&name) || table.columns.iter().any(|c| c.name == name && !c.hidden)
                        })?;
                        for name in &constraint.columns {
                            if let Some(column) = table.columns.iter().find(|c| c.name == name.name) {
                                check_key_type(column.ty, name)?;
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(Utility::AlterTable { alter: alter.clone(), columns, defaults })
    }

    fn copy(&mut self, copy: &ast::Copy) -> Result<BoundCopy> {
        let options = copy.options.clone();
        let (name, names) = match &copy.source {
            CopySource::Query(statement) => {
                let Planned::Query(plan) = plan(statement, self.catalog, &self.params, self.settings)? else {
                    return Err(SqlError::unsupported("COPY of this statement"));
                };
                if !plan.returns_rows {
                    return Err(SqlError::new(
                        SqlState::FEATURE_NOT_SUPPORTED,
                        "COPY query must have a RETURNING clause",
                    ));
                }
                return Ok(BoundCopy { target: CopyTarget::To(plan), options });
            }
            CopySource::Table { name, columns } => (name, columns),
        };
        let table = self.catalog.table(name.schema.as_deref(), &name.name);
        let Some(table) = table.filter(|t| t.kind == RelationKind::Table) else {
            return Err(self.no_relation(name));
        };
        let mut columns = Vec::new();
        for name in names {
            let position = column_position(&table, name)?;
            if columns.contains(&position) {
                return Err(SqlError::new(
                    SqlState::DUPLICATE_COLUMN,
                    format!("column \"{}\" specified more than once", name.name),
                )
                .at(name.position));
            }
            columns.push(position);
        }
        if names.is_empty() {
            columns = (0..table.columns.len()).filter(|i| !table.columns[*i].hidden).collect();
        }
        let target = if copy.from {
            let mut defaults = Vec::new();
            for position in 0..table.columns.len() {
                // The hidden row id is the executor's to give.
                if !columns.contains(&position) && !table.columns[position].hidden {
                    defaults.push((position, self.default_value(&table, position)?));
                }
            }
            CopyTarget::From { table, columns, defaults }
        } else {
            let query = copied_table(name, columns.iter().map(|i| table.columns[*i].name.clone()));
            let Planned::Query(plan) = plan(&query, self.catalog, &self.params, self.settings)? else {
                unreachable!("a query is planned as one")
            };
            CopyTarget::To(plan)
        };
        Ok(BoundCopy { target, options })
    }

    /// The arguments of EXECUTE, converted to the statement's parameter types.
    pub fn arguments(&mut self, execute: &ast::Execute, types: &[Type]) -> Result<Vec<Scalar>> {
        if execute.args.len() != types.len() {
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                format!("wrong number of parameters for prepared statement \"{}\"", execute.name.name),
            )
            .detail(format!(
                "Expected {} parameters but got {}.",
                types.len(),
                execute.args.len()
            )));
        }
        let mut values = Vec::with_capacity(types.len());
        for (i, (arg, ty)) in execute.args.iter().zip(types).enumerate() {
            let value = self.lone_expr(arg, "EXECUTE parameters")?;
            if let Some((index, position)) = self.param_positions.first() {
                return Err(SqlError::new(
                    SqlState::UNDEFINED_PARAMETER,
                    format!("there is no parameter ${}", index + 1),
                )
                .at(*position));
            }
            match self.try_coerce(value, *ty, CastContext::Assignment, arg.position)? {
                Ok(value) => values.push(value),
                Err(from) => {
                    return Err(SqlError::new(
                        SqlState::DATATYPE_MISMATCH,
                        format!(
                            "parameter ${} of type {from} cannot be coerced to the expected type {ty}",
                            i + 1
                        ),
                    )
                    .hint("You will need to rewrite or cast the expression.")
                    .at(arg.position));
                }
            }
        }
        Ok(values)
    }
}

/// `SELECT columns FROM table`.
fn copied_table(name: &ast::ObjectName, columns: impl Iterator<Item = String>) -> Statement {
    let position = name.position;
    let items = columns
        .map(|name| {
            let kind = ExprKind::Column(vec![Ident { name, position }]);
            ast::SelectItem::Expr { expr: Expr { kind, position }, alias: None }
        })
        .collect();
    let select = ast::Select {
        distinct: ast::Distinct::All,
        items,
        from: vec![ast::TableRef::Table { name: name.clone(), alias: None }],
        filter: None,
        group_by: Vec::new(),
        having: None,
        position,
    };
    Statement::Query(Box::new(ast::Query {
        with: Vec::new(),
        body: ast::QueryBody::Select(Box::new(select)),
        order_by: Vec::new(),
        limit: None,
        offset: None,
        locking: Vec::new(),
        as_of: None,
        position,
    }))
}

fn check_key_columns(constraint: &TableConstraint, exists: impl Fn(&str) -> bool) -> Result<()> {
    for (i, name) in constraint.columns.iter().enumerate() {
        if !exists(&name.name) {
            return Err(SqlError::new(
                SqlState::UNDEFINED_COLUMN,
                format!("column \"{}\" named in key does not exist", name.name),
            )
            .at(constraint.position));
        }
        if constraint.columns[..i].iter().any(|c| c.name == name.name) {
            let kind = if constraint.primary_key { "primary key" } else { "unique" };
            return Err(SqlError::new(
                SqlState::DUPLICATE_COLUMN,
                format!("column \"{}\" appears twice in {kind} constraint", name.name),
            )
            .at(constraint.position));
        }
    }
    Ok(())
}

/// Refuses keys of types that have no order-preserving encoding.
fn check_key_type(ty: Type, name: &Ident) -> Result<()> {
    if !ty.kind.is_ordered() {
        return Err(SqlError::new(
            SqlState::UNDEFINED_OBJECT,
            format!("data type {ty} has no default operator class for access method \"btree\""),
        )
        .hint("You must specify an operator class for the index or define a default operator class for the data type."));
    }
    if ty.kind.is_array() {
        return Err(SqlError::unsupported("an array as part of a key").at(name.position));
    }
    Ok(())
}

/// Whether an expression names a column, subqueries aside.
fn contains_column(expr: &Expr) -> bool {
    let mut stack = vec![expr];
    while let Some(expr) = stack.pop() {
        match &expr.kind {
            ExprKind::Column(_) | ExprKind::Wildcard(_) => return true,
            ExprKind::Chain { first, rest } => {
                stack.push(first);
                stack.extend(rest.iter().map(|link| &link.operand));
            }
            ExprKind::And(items)
            | ExprKind::Or(items)
            | ExprKind::Coalesce(items)
            | ExprKind::Array(items) => {
                stack.extend(items);
            }
            ExprKind::Cast { operand, .. }
            | ExprKind::Unary { operand, .. }
            | ExprKind::Not(operand)
            | ExprKind::IsNull { operand, .. } => stack.push(operand),
            ExprKind::Function(call) => stack.extend(&call.args),
            _ => {}
        }
    }
    false
}
