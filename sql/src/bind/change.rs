//! INSERT, UPDATE and DELETE.

use std::sync::Arc;

use super::from::scan;
use super::scope::{Clause, Level, Relation, Scope, ScopeColumn};
use super::select::project_items;
use super::{Binder, place_applied};
use crate::ast::{
    self, ConflictTarget, Delete, Expr, ExprKind, Ident, Insert, QueryBody, SelectItem, Update,
};
use crate::catalog::TableDesc;
use crate::error::{Result, SqlError, SqlState};
use crate::expr::Scalar;
use crate::func::CastContext;
use crate::plan::OutputColumn;
use crate::plan::logical::{Op, Plan};
use crate::plan::physical::{Assignment, JoinKind, OnConflict};
use crate::types::{Datum, Type};

impl Binder<'_> {
    /// INSERT.
    pub(super) fn insert(&mut self, insert: &Insert) -> Result<Plan> {
        self.with(&insert.with)?;
        let table = self.changed_table(&insert.table)?;
        let targets = self.target_columns(&table, &insert.columns)?;
        let (input, mut given) = match &insert.source {
            None => (Plan::single_row(), Vec::new()),
            Some(query) => match &query.body {
                QueryBody::Values(rows) if is_plain_values(query) => {
                    self.inserted_rows(&table, &targets, &insert.columns, rows)?
                }
                _ => self.inserted_query(&table, &targets, insert, query)?,
            },
        };
        let mut values = Vec::with_capacity(table.columns.len());
        for position in 0..table.columns.len() {
            let value = match targets.iter().position(|t| *t == position).filter(|n| *n < given.len()) {
                Some(n) => std::mem::replace(&mut given[n], Scalar::And(Vec::new())),
                None => self.default_value(&table, position)?,
            };
            values.push(value);
        }
        let alias = insert.alias.as_ref().map_or(table.name.as_str(), |a| a.name.as_str());
        let on_conflict =
            insert.on_conflict.as_ref().map(|c| self.on_conflict(&table, alias, c)).transpose()?;
        let scope = Scope::of(self.target_relation(&table, alias, 0));
        let (returning, schema) = self.returning(&insert.returning, scope)?;
        let op = Op::Insert { table, input: Box::new(input), values, on_conflict, returning };
        Ok(Plan { op, schema })
    }

    fn changed_table(&self, name: &ast::ObjectName) -> Result<Arc<TableDesc>> {
        // User tables first: PostgreSQL refuses changes of its catalog.
        if let Some(table) = self.catalog.table(name.schema.as_deref(), &name.name) {
            if table.kind != crate::catalog::RelationKind::Table {
                return Err(SqlError::new(
                    SqlState::WRONG_OBJECT_TYPE,
                    format!("cannot change sequence \"{}\"", table.name),
                )
                .at(name.position));
            }
            return Ok(table);
        }
        if let Some(view) = self.catalog.system_view(name.schema.as_deref(), &name.name) {
            return Err(SqlError::new(
                SqlState::INSUFFICIENT_PRIVILEGE,
                format!("permission denied: \"{}\" is a system catalog", view.name),
            )
            .at(name.position));
        }
        Err(self.no_relation(name))
    }

    fn target_columns(&self, table: &TableDesc, names: &[Ident]) -> Result<Vec<usize>> {
        if names.is_empty() {
            return Ok((0..table.columns.len()).filter(|i| !table.columns[*i].hidden).collect());
        }
        let mut targets = Vec::with_capacity(names.len());
        for name in names {
            let position = column_position(table, name)?;
            if targets.contains(&position) {
                return Err(SqlError::new(
                    SqlState::DUPLICATE_COLUMN,
                    format!("column \"{}\" specified more than once", name.name),
                )
                .at(name.position));
            }
            targets.push(position);
        }
        Ok(targets)
    }

    /// VALUES of an INSERT: each expression is converted to its column's type.
    fn inserted_rows(
        &mut self,
        table: &Arc<TableDesc>,
        targets: &[usize],
        columns: &[Ident],
        rows: &[Vec<Expr>],
    ) -> Result<(Plan, Vec<Scalar>)> {
        let width = rows[0].len();
        self.levels.push(Level::new(Scope::default(), Clause::Other("VALUES")));
        let bound: Result<_> = (|| {
            let mut bound = Vec::with_capacity(rows.len());
            for row in rows {
                if row.len() != width {
                    return Err(SqlError::new(
                        SqlState::SYNTAX_ERROR,
                        "VALUES lists must all be the same length",
                    )
                    .at(row[0].position));
                }
                if row.len() > targets.len() {
                    return Err(SqlError::new(
                        SqlState::SYNTAX_ERROR,
                        "INSERT has more expressions than target columns",
                    )
                    .at(row[targets.len()].position));
                }
                if let Some(column) = columns.get(row.len()) {
                    return Err(SqlError::new(
                        SqlState::SYNTAX_ERROR,
                        "INSERT has more target columns than expressions",
                    )
                    .at(column.position));
                }
                let values = row
                    .iter()
                    .zip(targets)
                    .map(|(expr, position)| self.assigned(table, *position, expr))
                    .collect::<Result<Vec<_>>>()?;
                bound.push(values);
            }
            Ok(bound)
        })();
        let level = self.levels.pop().expect("it was pushed");
        let mut bound: Vec<Vec<Scalar>> = bound?;
        if bound.len() == 1 {
            // One row: its expressions are the values, over an input of no columns.
            let (input, base) = Binder::attach(Plan::single_row(), level.applies);
            let mut values = bound.pop().expect("one row");
            values.iter_mut().for_each(|v| place_applied(v, base));
            return Ok((input, values));
        }
        let schema: Vec<OutputColumn> = targets[..width]
            .iter()
            .map(|i| OutputColumn {
                name: table.columns[*i].name.clone(),
                ty: table.columns[*i].ty,
                source: (0, 0),
            })
            .collect();
        let values = schema.iter().enumerate().map(|(index, c)| Scalar::Column { index, ty: c.ty }).collect();
        Ok((self.rows(bound, level, schema)?, values))
    }

    fn inserted_query(
        &mut self,
        table: &Arc<TableDesc>,
        targets: &[usize],
        insert: &Insert,
        query: &ast::Query,
    ) -> Result<(Plan, Vec<Scalar>)> {
        let types: Vec<Type> = targets.iter().map(|i| Type::new(table.columns[*i].ty.kind)).collect();
        let input = self.query_into(query, Some(&types))?;
        if input.schema.len() > targets.len() {
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                "INSERT has more expressions than target columns",
            )
            .at(query.position));
        }
        if let Some(column) = insert.columns.get(input.schema.len()) {
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                "INSERT has more target columns than expressions",
            )
            .at(column.position));
        }
        let mut values = Vec::with_capacity(input.schema.len());
        for (index, (column, position)) in input.schema.iter().zip(targets).enumerate() {
            let value = Scalar::Column { index, ty: column.ty };
            values.push(self.assign(table, *position, value, query.position)?);
        }
        Ok((input, values))
    }

    /// An expression for a column, which may be DEFAULT.
    fn assigned(&mut self, table: &Arc<TableDesc>, position: usize, expr: &Expr) -> Result<Scalar> {
        if matches!(expr.kind, ExprKind::Default) {
            return self.default_value(table, position);
        }
        let value = self.expr(expr)?;
        self.assign(table, position, value, expr.position)
    }

    /// Converts a value to a column's type.
    pub(super) fn assign(
        &mut self,
        table: &TableDesc,
        position: usize,
        value: Scalar,
        at: usize,
    ) -> Result<Scalar> {
        let column = &table.columns[position];
        match self.try_coerce(value, column.ty, CastContext::Assignment, at)? {
            Ok(value) => Ok(value),
            Err(from) => Err(SqlError::new(
                SqlState::DATATYPE_MISMATCH,
                format!(
                    "column \"{}\" is of type {} but expression is of type {}",
                    column.name,
                    Type::new(column.ty.kind),
                    Type::new(from.kind)
                ),
            )
            .hint("You will need to rewrite or cast the expression.")
            .at(at)),
        }
    }

    /// A column's default; NULL where there is none (the hidden row id is filled in by the executor).
    pub(super) fn default_value(&mut self, table: &TableDesc, position: usize) -> Result<Scalar> {
        let column = &table.columns[position];
        let Some(text) = &column.default else {
            return Ok(Scalar::Const { value: Datum::Null, ty: column.ty });
        };
        // Positions within the default's text would point into the wrong statement.
        let bind = |binder: &mut Self| {
            let expr = crate::parse::parse_expression(text)?;
            let value = binder.lone_expr(&expr, "DEFAULT expressions")?;
            binder.assign(table, position, value, expr.position)
        };
        bind(self).map_err(|mut error| {
            error.fields_mut().position = None;
            error
        })
    }

    fn target_relation(&self, table: &Arc<TableDesc>, alias: &str, offset: usize) -> Relation {
        let columns = table
            .columns
            .iter()
            .enumerate()
            .map(|(i, c)| ScopeColumn {
                name: c.name.clone(),
                value: Scalar::Column { index: i + offset, ty: c.ty },
                source: (table.id, c.attnum),
                hidden: c.hidden,
            })
            .collect();
        Relation { alias: alias.to_owned(), schema: None, columns, table: None }
    }

    fn on_conflict(
        &mut self,
        table: &Arc<TableDesc>,
        alias: &str,
        clause: &ast::OnConflict,
    ) -> Result<OnConflict> {
        let index = match &clause.target {
            ConflictTarget::Any => None,
            ConflictTarget::Columns(names) => {
                let mut wanted =
                    names.iter().map(|n| column_position(table, n)).collect::<Result<Vec<_>>>()?;
                wanted.sort_unstable();
                wanted.dedup();
                let found = table.indexes.iter().position(|index| {
                    let mut columns: Vec<usize> = index.columns.iter().map(|c| c.column).collect();
                    columns.sort_unstable();
                    index.unique && columns == wanted
                });
                Some(found.ok_or_else(|| {
                    SqlError::new(
                        SqlState::INVALID_COLUMN_REFERENCE,
                        "there is no unique or exclusion constraint matching the ON CONFLICT specification",
                    )
                    .at(clause.position)
                })?)
            }
            ConflictTarget::Constraint(name) => {
                let found =
                    table.indexes.iter().position(|i| i.name == name.name && (i.primary_key || i.constraint));
                Some(found.ok_or_else(|| {
                    SqlError::new(
                        SqlState::UNDEFINED_OBJECT,
                        format!("constraint \"{}\" for table \"{}\" does not exist", name.name, table.name),
                    )
                    .at(name.position)
                })?)
            }
        };
        let Some(update) = &clause.update else {
            return Ok(OnConflict { index, assignments: Vec::new(), filter: None });
        };
        let mut scope = Scope::of(self.target_relation(table, alias, 0));
        // `excluded` is reached by its name only.
        scope.relations.push(self.target_relation(table, "excluded", table.columns.len()));
        self.levels.push(Level::new(scope, Clause::Other("ON CONFLICT DO UPDATE")));
        let bound: Result<_> = (|| {
            let assignments = self.assignments(table, update)?;
            let filter = clause.filter.as_ref().map(|f| self.condition(f, "WHERE")).transpose()?;
            Ok((assignments, filter))
        })();
        let level = self.levels.pop().expect("it was pushed");
        let (assignments, filter) = bound?;
        if !level.applies.is_empty() {
            return Err(SqlError::unsupported("a subquery in ON CONFLICT DO UPDATE").at(clause.position));
        }
        Ok(OnConflict { index, assignments, filter })
    }

    fn assignments(&mut self, table: &Arc<TableDesc>, list: &[ast::Assignment]) -> Result<Vec<Assignment>> {
        let mut out: Vec<Assignment> = Vec::new();
        let mut add = |binder: &mut Self, name: &Ident, expr: &Expr| -> Result<()> {
            let column = column_position(table, name)?;
            if out.iter().any(|a| a.column == column) {
                return Err(SqlError::new(
                    SqlState::SYNTAX_ERROR,
                    format!("multiple assignments to same column \"{}\"", name.name),
                )
                .at(name.position));
            }
            let value = binder.assigned(table, column, expr)?;
            out.push(Assignment { column, value });
            Ok(())
        };
        for assignment in list {
            match (assignment.columns.as_slice(), &assignment.value.kind) {
                (columns, ExprKind::Row(values)) if columns.len() == values.len() => {
                    for (name, value) in columns.iter().zip(values) {
                        add(self, name, value)?;
                    }
                }
                ([name], _) => add(self, name, &assignment.value)?,
                (_, ExprKind::Subquery(_)) => {
                    return Err(SqlError::unsupported("assignment of a subquery to several columns")
                        .at(assignment.value.position));
                }
                _ => {
                    return Err(SqlError::new(
                        SqlState::SYNTAX_ERROR,
                        "number of columns does not match number of values",
                    )
                    .at(assignment.value.position));
                }
            }
        }
        Ok(out)
    }

    /// The scan of a changed table, joined with FROM or USING.
    fn changed_rows(
        &mut self,
        name: &ast::ObjectName,
        alias: Option<&ast::Alias>,
        from: &[ast::TableRef],
    ) -> Result<(Arc<TableDesc>, Plan, Scope)> {
        let table = self.changed_table(name)?;
        let (mut plan, mut relation) = scan(&table);
        if let Some(alias) = alias {
            relation.alias = alias.name.name.clone();
        }
        let mut scope = Scope::of(relation);
        if !from.is_empty() {
            let (other, other_scope) = self.from(from)?;
            let offset = plan.schema.len();
            scope.join(other_scope.shifted(offset)).map_err(|e| e.at(name.position))?;
            let mut schema = plan.schema.clone();
            schema.extend(other.schema.iter().cloned());
            let op = Op::Join {
                kind: JoinKind::Inner,
                left: Box::new(plan),
                right: Box::new(other),
                on: Vec::new(),
            };
            plan = Plan { op, schema };
        }
        Ok((table, plan, scope))
    }

    /// UPDATE.
    pub(super) fn update(&mut self, update: &Update) -> Result<Plan> {
        self.with(&update.with)?;
        let (table, plan, scope) = self.changed_rows(&update.table, update.alias.as_ref(), &update.from)?;
        self.levels.push(Level::new(scope.clone(), Clause::Other("WHERE")));
        let bound: Result<_> = (|| {
            let plan = match &update.filter {
                Some(filter) => self.filter(plan, filter)?,
                None => plan,
            };
            self.level().clause = Clause::Other("UPDATE");
            let mut assignments = self.assignments(&table, &update.assignments)?;
            let applies = std::mem::take(&mut self.level().applies);
            let (plan, base) = Binder::attach(plan, applies);
            assignments.iter_mut().for_each(|a| place_applied(&mut a.value, base));
            Ok((plan, assignments))
        })();
        self.levels.pop();
        let (plan, assignments) = bound?;
        let (returning, schema) = self.returning(&update.returning, scope)?;
        let op = Op::Update { table, input: Box::new(plan), assignments, returning };
        Ok(Plan { op, schema })
    }

    /// DELETE.
    pub(super) fn delete(&mut self, delete: &Delete) -> Result<Plan> {
        self.with(&delete.with)?;
        let (table, mut plan, scope) =
            self.changed_rows(&delete.table, delete.alias.as_ref(), &delete.using)?;
        if let Some(filter) = &delete.filter {
            self.levels.push(Level::new(scope.clone(), Clause::Other("WHERE")));
            let filtered = self.filter(plan, filter);
            self.levels.pop();
            plan = filtered?;
        }
        let (returning, schema) = self.returning(&delete.returning, scope)?;
        Ok(Plan { op: Op::Delete { table, input: Box::new(plan), returning }, schema })
    }

    /// RETURNING over the changed row.
    fn returning(
        &mut self,
        items: &[SelectItem],
        scope: Scope,
    ) -> Result<(Option<Vec<Scalar>>, Vec<OutputColumn>)> {
        if items.is_empty() {
            return Ok((None, Vec::new()));
        }
        self.levels.push(Level::new(scope, Clause::Other("RETURNING")));
        let bound = self.items(items, None);
        let level = self.levels.pop().expect("it was pushed");
        let bound = bound?;
        if !level.applies.is_empty() {
            return Err(SqlError::unsupported("a subquery in RETURNING").at(bound[0].position));
        }
        let plan = project_items(Plan::single_row(), bound);
        let Op::Project { exprs, .. } = plan.op else { unreachable!("it is a projection") };
        Ok((Some(exprs), plan.schema))
    }
}

/// A column's position in its table.
pub fn column_position(table: &TableDesc, name: &Ident) -> Result<usize> {
    table.columns.iter().position(|c| c.name == name.name && !c.hidden).ok_or_else(|| {
        SqlError::new(
            SqlState::UNDEFINED_COLUMN,
            format!("column \"{}\" of relation \"{}\" does not exist", name.name, table.name),
        )
        .at(name.position)
    })
}

fn is_plain_values(query: &ast::Query) -> bool {
    query.with.is_empty()
        && query.order_by.is_empty()
        && query.limit.is_none()
        && query.offset.is_none()
        && query.locking.is_empty()
        && query.as_of.is_none()
}
