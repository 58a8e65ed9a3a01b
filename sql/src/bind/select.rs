//! Queries.

use std::sync::Arc;

use super::aggregate::Grouping;
use super::from::conjuncts;
use super::scope::{Clause, Level, Scope, relation_of};
use super::{Binder, place_applied};
use crate::ast::{
    Distinct, Expr, ExprKind, Ident, Literal, LockWait, Locking, OrderItem, Query, QueryBody, Select,
    SelectItem, SetLink, SetOperator,
};
use crate::error::{Result, SqlError, SqlState};
use crate::expr::Scalar;
use crate::func::CastContext;
use crate::plan::OutputColumn;
use crate::plan::logical::{Op, Plan, Subquery};
use crate::plan::physical::{JoinKind, SortKey};
use crate::types::{Type, TypeKind};

/// Targets that leave constants as they are, for as many items as a select list may have.
static UNKNOWN: [Type; 1664] = [Type { kind: TypeKind::Unknown, modifier: -1 }; 1664];

/// An item of a select list.
pub struct Item {
    pub value: Scalar,
    pub name: String,
    pub source: (u32, i16),
    pub position: usize,
}

impl Binder<'_> {
    /// A query.
    pub(super) fn query(&mut self, query: &Query) -> Result<Plan> {
        self.query_into(query, None)
    }

    /// A query whose constants of unknown type take the types of `targets`.
    pub(super) fn query_into(&mut self, query: &Query, targets: Option<&[Type]>) -> Result<Plan> {
        let ctes = self.ctes.len();
        let result = self.query_inner(query, targets);
        self.ctes.truncate(ctes);
        result
    }

    /// Brings common tables into reach.
    pub(super) fn with(&mut self, tables: &[crate::ast::CommonTable]) -> Result<()> {
        for (n, table) in tables.iter().enumerate() {
            let name = &table.alias.name;
            if tables[..n].iter().any(|earlier| earlier.alias.name.name == name.name) {
                return Err(SqlError::new(
                    SqlState::DUPLICATE_ALIAS,
                    format!("WITH query name \"{}\" specified more than once", name.name),
                )
                .at(name.position));
            }
            let mut plan = self.query(&table.query)?;
            let names = &table.alias.columns;
            if names.len() > plan.schema.len() {
                return Err(SqlError::new(
                    SqlState::INVALID_COLUMN_REFERENCE,
                    format!(
                        "WITH query \"{}\" has {} columns available but {} columns specified",
                        table.alias.name.name,
                        plan.schema.len(),
                        names.len()
                    ),
                )
                .at(table.alias.name.position));
            }
            for (column, name) in plan.schema.iter_mut().zip(names) {
                column.name = name.name.clone();
            }
            self.ctes.push((table.alias.name.name.clone(), Arc::new(plan)));
        }
        Ok(())
    }

    /// The expression of AS OF SYSTEM TIME.
    pub fn point_in_time(&mut self, as_of: &Expr) -> Result<Scalar> {
        let value = self.lone_expr(as_of, "AS OF SYSTEM TIME")?;
        self.known(value, as_of.position)
    }

    fn query_inner(&mut self, query: &Query, targets: Option<&[Type]>) -> Result<Plan> {
        self.with(&query.with)?;
        if let Some(as_of) = &query.as_of {
            if self.as_of.is_some() || !self.levels.is_empty() {
                return Err(SqlError::unsupported("AS OF SYSTEM TIME in a subquery").at(as_of.position));
            }
            self.as_of = Some(self.point_in_time(as_of)?);
        }
        let mut plan = match &query.body {
            QueryBody::Select(select) => self.select(select, &query.order_by, &query.locking, targets)?,
            body => {
                if let Some(locking) = query.locking.first() {
                    return Err(SqlError::unsupported(
                        "FOR UPDATE with a set operation, VALUES or a nested query",
                    )
                    .at(locking.position));
                }
                let plan = self.body(body, targets)?;
                self.order_output(plan, &query.order_by)?
            }
        };
        if query.limit.is_some() || query.offset.is_some() {
            let limit = query.limit.as_ref().map(|e| self.row_count(e, "LIMIT")).transpose()?;
            let offset = query.offset.as_ref().map(|e| self.row_count(e, "OFFSET")).transpose()?;
            let schema = plan.schema.clone();
            plan = Plan { op: Op::Limit { input: Box::new(plan), limit, offset }, schema };
        }
        Ok(plan)
    }

    fn row_count(&mut self, expr: &Expr, clause: &'static str) -> Result<Scalar> {
        self.levels.push(Level::new(Scope::default(), Clause::Other(clause)));
        let value = self.expr(expr);
        let level = self.levels.pop().expect("it was pushed");
        let value = value?;
        if !level.applies.is_empty() {
            return Err(SqlError::unsupported(format!("a subquery in {clause}")).at(expr.position));
        }
        let int8 = Type::new(TypeKind::Int8);
        match self.try_coerce(value, int8, CastContext::Assignment, expr.position)? {
            Ok(value) => Ok(value),
            Err(from) => Err(SqlError::new(
                SqlState::DATATYPE_MISMATCH,
                format!("argument of {clause} must be type bigint, not type {from}"),
            )
            .at(expr.position)),
        }
    }

    /// A body without the clauses around it.
    fn body(&mut self, body: &QueryBody, targets: Option<&[Type]>) -> Result<Plan> {
        match body {
            QueryBody::Select(select) => self.select(select, &[], &[], targets),
            QueryBody::Nested(query) => self.query_into(query, targets),
            QueryBody::Values(rows) => self.values(rows),
            QueryBody::Set { first, rest } => {
                let mut left = self.arm(first)?;
                for link in rest {
                    let right = self.arm(&link.body)?;
                    left = self.set_operation(left, right, link)?;
                }
                Ok(left)
            }
        }
    }

    /// One side of a set operation: the constants of unknown type in it take the common type.
    fn arm(&mut self, body: &QueryBody) -> Result<Plan> {
        let leave_unknown = matches!(body, QueryBody::Select(select) if select.distinct == Distinct::All);
        self.body(body, leave_unknown.then_some(&UNKNOWN[..]))
    }

    fn set_operation(&mut self, mut left: Plan, mut right: Plan, link: &SetLink) -> Result<Plan> {
        let SetLink { operator, all, position, .. } = *link;
        // Errors point at the right side's items.
        let item = |n: usize| item_position(&link.body, n).unwrap_or(position);
        let word = match operator {
            SetOperator::Union => "UNION",
            SetOperator::Intersect => "INTERSECT",
            SetOperator::Except => "EXCEPT",
        };
        if left.schema.len() != right.schema.len() {
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                format!("each {word} query must have the same number of columns"),
            )
            .at(item(0)));
        }
        let mut types = Vec::with_capacity(left.schema.len());
        for (n, (l, r)) in left.schema.iter().zip(&right.schema).enumerate() {
            types.push(self.common_type(&[(l.ty, position), (r.ty, item(n))], word)?);
        }
        self.resolve_unknown(&mut left, &types, &|_| position)?;
        self.resolve_unknown(&mut right, &types, &item)?;
        let left = self.retype(left, &types, position)?;
        let right = self.retype(right, &types, position)?;
        let schema: Vec<OutputColumn> = left
            .schema
            .iter()
            .zip(&types)
            .map(|(c, ty)| OutputColumn { name: c.name.clone(), ty: *ty, source: (0, 0) })
            .collect();
        Ok(match operator {
            SetOperator::Union => {
                let mut inputs = Vec::new();
                match left {
                    // UNION ALL of several, and UNION of several: one operator.
                    Plan { op: Op::Append { inputs: more }, .. } if all => inputs.extend(more),
                    Plan { op: Op::Distinct { input, on }, schema } if !all && on.is_empty() => {
                        match *input {
                            Plan { op: Op::Append { inputs: more }, .. } => inputs.extend(more),
                            input => {
                                let op = Op::Distinct { input: Box::new(input), on };
                                inputs.push(Plan { op, schema });
                                self.count_operator(position)?;
                            }
                        }
                    }
                    left => {
                        inputs.push(left);
                        self.count_operator(position)?;
                    }
                }
                inputs.push(right);
                let plan = Plan { op: Op::Append { inputs }, schema: schema.clone() };
                if all {
                    plan
                } else {
                    Plan { op: Op::Distinct { input: Box::new(plan), on: Vec::new() }, schema }
                }
            }
            _ => {
                self.count_operator(position)?;
                let op = Op::SetOp {
                    left: Box::new(left),
                    right: Box::new(right),
                    except: operator == SetOperator::Except,
                    all,
                };
                Plan { op, schema }
            }
        })
    }

    /// Converts the constants that [`Binder::arm`] left without a type, where they stand.
    fn resolve_unknown(
        &mut self,
        plan: &mut Plan,
        types: &[Type],
        position: &dyn Fn(usize) -> usize,
    ) -> Result<()> {
        let mut rows: Vec<&mut Vec<Scalar>> = match &mut plan.op {
            Op::Project { exprs, .. } => vec![exprs],
            Op::Values { rows } => rows.iter_mut().collect(),
            _ => return Ok(()),
        };
        for (n, (column, ty)) in plan.schema.iter_mut().zip(types).enumerate() {
            if column.ty.kind != TypeKind::Unknown {
                continue;
            }
            for row in &mut rows {
                let value = std::mem::replace(&mut row[n], Scalar::And(Vec::new()));
                row[n] = self.coerce(value, *ty, CastContext::Implicit, position(n))?;
            }
            column.ty = *ty;
        }
        Ok(())
    }

    /// A plan with its columns converted to types.
    pub(super) fn retype(&mut self, plan: Plan, types: &[Type], position: usize) -> Result<Plan> {
        if plan.schema.iter().zip(types).all(|(c, ty)| c.ty.kind == ty.kind) {
            return Ok(plan);
        }
        let mut exprs = Vec::with_capacity(types.len());
        for (index, (column, ty)) in plan.schema.iter().zip(types).enumerate() {
            let value = Scalar::Column { index, ty: column.ty };
            exprs.push(self.coerce(value, *ty, CastContext::Implicit, position)?);
        }
        let names = plan.schema.iter().map(|c| c.name.clone()).collect();
        Ok(self.project(plan, exprs, Some(names)))
    }

    /// A projection; names default to those below.
    pub(super) fn project(&mut self, input: Plan, exprs: Vec<Scalar>, names: Option<Vec<String>>) -> Plan {
        let schema = exprs
            .iter()
            .enumerate()
            .map(|(i, e)| {
                let below = match e {
                    Scalar::Column { index, .. } => input.schema.get(*index),
                    _ => None,
                };
                let name = names.as_ref().and_then(|n| n.get(i).cloned()).or(below.map(|c| c.name.clone()));
                OutputColumn {
                    name: name.unwrap_or_else(|| "?column?".into()),
                    ty: e.ty(),
                    source: below.map_or((0, 0), |c| c.source),
                }
            })
            .collect();
        Plan { op: Op::Project { input: Box::new(input), exprs }, schema }
    }

    fn values(&mut self, rows: &[Vec<Expr>]) -> Result<Plan> {
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
                bound.push(row.iter().map(|e| self.expr(e)).collect::<Result<Vec<_>>>()?);
            }
            let mut types = Vec::with_capacity(width);
            for i in 0..width {
                let column: Vec<(Type, usize)> =
                    bound.iter().zip(rows).map(|(b, r)| (b[i].ty(), r[i].position)).collect();
                types.push(self.common_type(&column, "VALUES")?);
            }
            for (values, row) in bound.iter_mut().zip(rows) {
                for ((value, expr), ty) in values.iter_mut().zip(row).zip(&types) {
                    let taken = std::mem::replace(value, Scalar::And(Vec::new()));
                    *value = self.coerce(taken, *ty, CastContext::Implicit, expr.position)?;
                }
            }
            Ok((bound, types))
        })();
        let level = self.levels.pop().expect("it was pushed");
        let (bound, types) = bound?;
        let schema: Vec<OutputColumn> = types
            .iter()
            .enumerate()
            .map(|(i, ty)| OutputColumn { name: format!("column{}", i + 1), ty: *ty, source: (0, 0) })
            .collect();
        self.rows(bound, level, schema)
    }

    /// Rows of expressions, with the subqueries in them attached.
    pub(super) fn rows(
        &mut self,
        mut rows: Vec<Vec<Scalar>>,
        level: Level,
        schema: Vec<OutputColumn>,
    ) -> Result<Plan> {
        if level.applies.is_empty() {
            return Ok(Plan { op: Op::Values { rows }, schema });
        }
        if rows.len() > 1 {
            return Err(SqlError::unsupported("a subquery in VALUES of several rows"));
        }
        let (plan, base) = Binder::attach(Plan::single_row(), level.applies);
        let mut exprs = rows.pop().expect("one row");
        exprs.iter_mut().for_each(|e| place_applied(e, base));
        Ok(Plan { op: Op::Project { input: Box::new(plan), exprs }, schema })
    }

    /// ORDER BY over the output of a set operation, VALUES or a nested query.
    fn order_output(&mut self, plan: Plan, order_by: &[OrderItem]) -> Result<Plan> {
        if order_by.is_empty() {
            return Ok(plan);
        }
        let scope = Scope::of(relation_of("", &plan.schema));
        let mut keys = Vec::new();
        for item in order_by {
            let position = item.expr.position;
            let expr = match ordinal(&item.expr, plan.schema.len(), "ORDER BY")? {
                Some(index) => Scalar::Column { index, ty: plan.schema[index].ty },
                None => {
                    if !matches!(item.expr.kind, ExprKind::Column(_)) {
                        return Err(SqlError::new(
                            SqlState::FEATURE_NOT_SUPPORTED,
                            "invalid UNION/INTERSECT/EXCEPT ORDER BY clause",
                        )
                        .detail("Only result column names can be used, not expressions or functions.")
                        .hint("Add the expression/function to every SELECT, or move the UNION into a FROM clause.")
                        .at(position));
                    }
                    self.levels.push(Level::new(scope.clone(), Clause::Other("ORDER BY")));
                    let value = self.expr(&item.expr);
                    self.levels.pop();
                    value?
                }
            };
            keys.push(self.sort_key(expr, item)?);
        }
        let schema = plan.schema.clone();
        Ok(Plan { op: Op::Sort { input: Box::new(plan), keys }, schema })
    }

    fn sort_key(&mut self, expr: Scalar, item: &OrderItem) -> Result<SortKey> {
        let expr = self.known(expr, item.expr.position)?;
        if super::expr::equality(expr.ty().kind).is_none() {
            return Err(SqlError::new(
                SqlState::UNDEFINED_FUNCTION,
                format!("could not identify an ordering operator for type {}", expr.ty()),
            )
            .hint("Use an explicit ordering operator or modify the query.")
            .at(item.expr.position));
        }
        Ok(SortKey {
            expr,
            descending: item.descending,
            nulls_first: item.nulls_first.unwrap_or(item.descending),
        })
    }

    /// The items of a select list, `*` expanded, at the current level.
    pub(super) fn items(&mut self, items: &[SelectItem], targets: Option<&[Type]>) -> Result<Vec<Item>> {
        let mut out = Vec::new();
        for item in items {
            match item {
                SelectItem::Star(position) => {
                    let scope = &self.levels.last().expect("a level").scope;
                    if scope.relations.is_empty() {
                        return Err(SqlError::new(
                            SqlState::SYNTAX_ERROR,
                            "SELECT * with no tables specified is not valid",
                        )
                        .at(*position));
                    }
                    let columns = scope.columns.clone();
                    self.star(columns, *position, &mut out);
                }
                SelectItem::Expr { expr: Expr { kind: ExprKind::Wildcard(parts), position }, .. } => {
                    let depth = self.levels.len() - 1;
                    let Some(relation) = self.relation_at(depth, parts)? else {
                        return Err(SqlError::new(
                            SqlState::UNDEFINED_TABLE,
                            format!(
                                "missing FROM-clause entry for table \"{}\"",
                                parts.last().expect("a name").name
                            ),
                        )
                        .at(*position));
                    };
                    let columns = relation.columns.clone();
                    self.star(columns, *position, &mut out);
                }
                SelectItem::Expr { expr, alias } => {
                    let mut value = self.expr(expr)?;
                    if value.ty().kind == TypeKind::Unknown {
                        let ty = targets.and_then(|t| t.get(out.len()).copied());
                        let ty = ty.unwrap_or(Type::new(TypeKind::Text));
                        let context = CastContext::Assignment;
                        value = self.coerce(value, ty, context, expr.position)?;
                    }
                    let name = match alias {
                        Some(alias) => alias.name.clone(),
                        None => figure_name(expr).unwrap_or_else(|| "?column?".into()),
                    };
                    let source = self.source(&value);
                    out.push(Item { value, name, source, position: expr.position });
                }
            }
        }
        Ok(out)
    }

    fn star(&mut self, columns: Vec<super::scope::ScopeColumn>, position: usize, out: &mut Vec<Item>) {
        for column in columns.into_iter().filter(|c| !c.hidden) {
            if let Scalar::Column { index, .. } = column.value {
                let depth = self.levels.len() - 1;
                let owner = self.levels[depth]
                    .scope
                    .relations
                    .iter()
                    .find(|r| {
                        r.columns
                            .iter()
                            .any(|c| matches!(c.value, Scalar::Column { index: i, .. } if i == index))
                    })
                    .map(|r| format!("{}.{}", r.alias, column.name));
                let shown = owner.unwrap_or_else(|| column.name.clone());
                self.level().named.push((index, position, shown));
            }
            out.push(Item { value: column.value, name: column.name, source: column.source, position });
        }
    }

    /// The table column that a value is, unchanged.
    fn source(&self, value: &Scalar) -> (u32, i16) {
        let Scalar::Column { index, .. } = value else { return (0, 0) };
        let scope = &self.levels.last().expect("a level").scope;
        let columns = scope.relations.iter().flat_map(|r| &r.columns);
        columns
            .filter(|c| matches!(c.value, Scalar::Column { index: i, .. } if i == *index))
            .map(|c| c.source)
            .next()
            .unwrap_or((0, 0))
    }

    /// A SELECT with the ORDER BY and locking around it.
    fn select(
        &mut self,
        select: &Select,
        order_by: &[OrderItem],
        locking: &[Locking],
        targets: Option<&[Type]>,
    ) -> Result<Plan> {
        // The level of the query's own expressions lies above those of its FROM clause.
        let chain = std::mem::take(&mut self.chain_depth);
        let (plan, scope) = self.from(&select.from)?;
        self.levels.push(Level::new(scope, Clause::Other("WHERE")));
        let result = self.select_at_level(select, order_by, locking, targets, plan);
        self.levels.pop();
        self.chain_depth = chain;
        result
    }

    fn select_at_level(
        &mut self,
        select: &Select,
        order_by: &[OrderItem],
        locking: &[Locking],
        targets: Option<&[Type]>,
        mut plan: Plan,
    ) -> Result<Plan> {
        if let Some(filter) = &select.filter {
            plan = self.filter(plan, filter)?;
        }
        self.level().clause = Clause::Grouped;
        let mut items = self.items(&select.items, targets)?;
        self.level().clause = Clause::Other("GROUP BY");
        let mut keys = Vec::new();
        for expr in &select.group_by {
            let key = self.group_key(expr, select, &items)?;
            if !keys.iter().any(|known: &Scalar| known.same(&key)) {
                keys.push(key);
            }
        }
        self.level().clause = Clause::Grouped;
        let having = select.having.as_ref().map(|h| self.condition(h, "HAVING")).transpose()?;
        let mut having = having.map(conjuncts).unwrap_or_default();
        let mut on = Vec::new();
        if let Distinct::On(exprs) = &select.distinct {
            for expr in exprs {
                let value = self.output_expr(expr, &items, "SELECT DISTINCT ON")?;
                on.push((self.known(value, expr.position)?, expr.position));
            }
        }
        let mut sort = Vec::new();
        for item in order_by {
            let expr = self.output_expr(&item.expr, &items, "ORDER BY")?;
            sort.push(self.sort_key(expr, item)?);
        }
        let grouped = !keys.is_empty()
            || !select.group_by.is_empty()
            || select.having.is_some()
            || !self.level().aggregates.is_empty();
        let mut applies = std::mem::take(&mut self.level().applies);
        if grouped {
            let calls = std::mem::take(&mut self.level().aggregates);
            let mut grouping = Grouping { keys };
            let level = self.levels.last().expect("a level");
            let mut over_groups: Vec<&mut Scalar> = items.iter_mut().map(|i| &mut i.value).collect();
            over_groups.extend(having.iter_mut());
            over_groups.extend(on.iter_mut().map(|(e, _)| e));
            over_groups.extend(sort.iter_mut().map(|k| &mut k.expr));
            for apply in &mut applies {
                over_groups.extend(apply.slots.iter_mut().map(|(_, e)| e));
                if let Subquery::Quantified { left, .. } = &mut apply.kind {
                    over_groups.push(left);
                }
            }
            for scalar in &mut over_groups {
                grouping.regroup(scalar, level)?;
            }
            for scalar in over_groups {
                grouping.place(scalar);
            }
            let mut schema: Vec<OutputColumn> = Vec::new();
            for key in &grouping.keys {
                let below = match key {
                    Scalar::Column { index, .. } => plan.schema.get(*index).cloned(),
                    _ => None,
                };
                let column =
                    below.unwrap_or(OutputColumn { name: "?column?".into(), ty: key.ty(), source: (0, 0) });
                schema.push(OutputColumn { ty: key.ty(), ..column });
            }
            for call in &calls {
                schema.push(OutputColumn {
                    name: call.function.name.to_owned(),
                    ty: call.ty,
                    source: (0, 0),
                });
            }
            let op = Op::Aggregate { input: Box::new(plan), keys: grouping.keys, calls };
            plan = Plan { op, schema };
        }
        let (attached, base) = Binder::attach(plan, applies);
        plan = attached;
        let values = items.iter_mut().map(|i| &mut i.value).chain(&mut having);
        let values = values.chain(on.iter_mut().map(|(e, _)| e)).chain(sort.iter_mut().map(|k| &mut k.expr));
        values.for_each(|scalar| place_applied(scalar, base));
        plan = plan.filter(having);
        let distinct = select.distinct == Distinct::Distinct;
        if !on.is_empty() {
            self.sort_for_distinct(&mut sort, &on)?;
        }
        if !sort.is_empty() && !distinct {
            let schema = plan.schema.clone();
            plan = Plan { op: Op::Sort { input: Box::new(plan), keys: sort.clone() }, schema };
        }
        if !on.is_empty() {
            let schema = plan.schema.clone();
            let on = on.into_iter().map(|(e, _)| e).collect();
            plan = Plan { op: Op::Distinct { input: Box::new(plan), on }, schema };
        }
        if let Some(first) = locking.first() {
            if grouped || select.distinct != Distinct::All {
                let what = if grouped { "GROUP BY or aggregate functions" } else { "DISTINCT clause" };
                return Err(SqlError::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    format!("FOR UPDATE is not allowed with {what}"),
                )
                .at(first.position));
            }
            plan = self.lock(plan, locking)?;
        }
        if distinct {
            for item in &items {
                if super::expr::equality(item.value.ty().kind).is_none() {
                    return Err(SqlError::new(
                        SqlState::UNDEFINED_FUNCTION,
                        format!("could not identify an equality operator for type {}", item.value.ty()),
                    )
                    .at(item.position));
                }
            }
            for (key, item) in sort.iter_mut().zip(order_by) {
                let Some(i) = items.iter().position(|i| i.value.same(&key.expr)) else {
                    return Err(SqlError::new(
                        SqlState::INVALID_COLUMN_REFERENCE,
                        "for SELECT DISTINCT, ORDER BY expressions must appear in select list",
                    )
                    .at(item.expr.position));
                };
                key.expr = Scalar::Column { index: i, ty: items[i].value.ty() };
            }
        }
        plan = project_items(plan, items);
        if distinct {
            let schema = plan.schema.clone();
            plan =
                Plan { op: Op::Distinct { input: Box::new(plan), on: Vec::new() }, schema: schema.clone() };
            if !sort.is_empty() {
                plan = Plan { op: Op::Sort { input: Box::new(plan), keys: sort }, schema };
            }
        }
        Ok(plan)
    }

    /// WHERE at the current level.
    pub(super) fn filter(&mut self, plan: Plan, filter: &Expr) -> Result<Plan> {
        let condition = self.condition(filter, "WHERE")?;
        let mut predicates = conjuncts(condition);
        let applies = std::mem::take(&mut self.level().applies);
        let (plan, base) = Binder::attach(plan, applies);
        predicates.iter_mut().for_each(|p| place_applied(p, base));
        Ok(plan.filter(predicates))
    }

    fn sort_for_distinct(&mut self, sort: &mut Vec<SortKey>, on: &[(Scalar, usize)]) -> Result<()> {
        let leading = sort.len().min(on.len());
        for key in &sort[..leading] {
            if !on.iter().any(|(e, _)| e.same(&key.expr)) {
                return Err(SqlError::new(
                    SqlState::INVALID_COLUMN_REFERENCE,
                    "SELECT DISTINCT ON expressions must match initial ORDER BY expressions",
                )
                .at(on[0].1));
            }
        }
        for (expr, _) in on {
            if !sort.iter().any(|key| key.expr.same(expr)) {
                if sort.len() > on.len() {
                    return Err(SqlError::new(
                        SqlState::INVALID_COLUMN_REFERENCE,
                        "SELECT DISTINCT ON expressions must match initial ORDER BY expressions",
                    )
                    .at(on[0].1));
                }
                sort.push(SortKey { expr: expr.clone(), descending: false, nulls_first: false });
            }
        }
        Ok(())
    }

    fn group_key(&mut self, expr: &Expr, select: &Select, items: &[Item]) -> Result<Scalar> {
        if let Some(index) = ordinal(expr, items.len(), "GROUP BY")? {
            let value = items[index].value.clone();
            if value
                .any(&mut |s| matches!(s, Scalar::Column { index, .. } if *index >= super::scope::AGGREGATED))
            {
                return Err(SqlError::new(
                    SqlState::GROUPING_ERROR,
                    "aggregate functions are not allowed in GROUP BY",
                )
                .at(items[index].position));
            }
            return self.groupable(value, expr.position);
        }
        if let ExprKind::Column(parts) = &expr.kind
            && let [name] = parts.as_slice()
        {
            // An input column first, then an output name.
            let depth = self.levels.len() - 1;
            let input = self.levels[depth].scope.columns.iter().any(|c| c.name == name.name && !c.hidden);
            if !input && let Some(item) = aliased(select, items, &name.name) {
                return self.groupable(item.value.clone(), expr.position);
            }
        }
        let applies = self.level().applies.len();
        let value = self.expr(expr)?;
        if self.level().applies.len() > applies {
            return Err(SqlError::unsupported("a subquery in GROUP BY").at(expr.position));
        }
        self.groupable(value, expr.position)
    }

    fn groupable(&mut self, value: Scalar, position: usize) -> Result<Scalar> {
        let value = self.known(value, position)?;
        if super::expr::equality(value.ty().kind).is_none() {
            return Err(SqlError::new(
                SqlState::UNDEFINED_FUNCTION,
                format!("could not identify an equality operator for type {}", value.ty()),
            )
            .at(position));
        }
        Ok(value)
    }

    /// An expression of ORDER BY or DISTINCT ON: an ordinal, an output name, or over the input.
    fn output_expr(&mut self, expr: &Expr, items: &[Item], clause: &'static str) -> Result<Scalar> {
        if let Some(index) = ordinal(expr, items.len(), clause)? {
            return Ok(items[index].value.clone());
        }
        if let ExprKind::Column(parts) = &expr.kind
            && let [Ident { name, .. }] = parts.as_slice()
        {
            let mut found = items.iter().filter(|i| i.name == *name);
            if let Some(first) = found.next() {
                if found.any(|other| !other.value.same(&first.value)) {
                    return Err(SqlError::new(
                        SqlState::AMBIGUOUS_COLUMN,
                        format!("{clause} \"{name}\" is ambiguous"),
                    )
                    .at(expr.position));
                }
                return Ok(first.value.clone());
            }
        }
        self.expr(expr)
    }

    fn lock(&mut self, mut plan: Plan, locking: &[Locking]) -> Result<Plan> {
        for clause in locking {
            match clause.wait {
                LockWait::Block => {}
                LockWait::NoWait => return Err(SqlError::unsupported("NOWAIT").at(clause.position)),
                LockWait::SkipLocked => return Err(SqlError::unsupported("SKIP LOCKED").at(clause.position)),
            }
            self.locks_rows = true;
            let relations = &self.levels.last().expect("a level").scope.relations;
            for name in &clause.tables {
                if !relations.iter().any(|r| r.alias == name.name) {
                    return Err(SqlError::new(
                        SqlState::UNDEFINED_TABLE,
                        format!("relation \"{}\" in FOR UPDATE clause not found in FROM clause", name.name),
                    )
                    .at(name.position));
                }
            }
            let chosen = relations
                .iter()
                .filter(|r| clause.tables.is_empty() || clause.tables.iter().any(|t| t.name == r.alias));
            let tables: Vec<_> = chosen.filter_map(|r| r.table.clone()).collect();
            if nullable_side(&plan) && !tables.is_empty() {
                return Err(SqlError::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "FOR UPDATE cannot be applied to the nullable side of an outer join",
                )
                .at(clause.position));
            }
            for (table, key_column) in tables {
                let schema = plan.schema.clone();
                let op = Op::LockRows { input: Box::new(plan), table, key_column, shared: clause.shared };
                plan = Plan { op, schema };
            }
        }
        Ok(plan)
    }
}

/// Where the `n`th item of a body's select list stands.
fn item_position(body: &QueryBody, n: usize) -> Option<usize> {
    match body {
        QueryBody::Select(select) => match select.items.get(n)? {
            SelectItem::Star(position) => Some(*position),
            SelectItem::Expr { expr, .. } => Some(expr.position),
        },
        QueryBody::Values(rows) => rows.first()?.get(n).map(|e| e.position),
        QueryBody::Nested(query) => item_position(&query.body, n),
        QueryBody::Set { first, .. } => item_position(first, n),
    }
}

/// Whether a plan holds an outer join.
fn nullable_side(plan: &Plan) -> bool {
    match &plan.op {
        Op::Join { kind, left, right, .. } => {
            !matches!(kind, JoinKind::Inner) || nullable_side(left) || nullable_side(right)
        }
        Op::Filter { input, .. }
        | Op::Sort { input, .. }
        | Op::Apply { input, .. }
        | Op::LockRows { input, .. } => nullable_side(input),
        _ => false,
    }
}

/// A projection to select-list items.
pub fn project_items(plan: Plan, items: Vec<Item>) -> Plan {
    let schema = items
        .iter()
        .map(|i| OutputColumn { name: i.name.clone(), ty: i.value.ty(), source: i.source })
        .collect();
    let exprs = items.into_iter().map(|i| i.value).collect();
    Plan { op: Op::Project { input: Box::new(plan), exprs }, schema }
}

fn aliased<'i>(select: &Select, items: &'i [Item], name: &str) -> Option<&'i Item> {
    let alias = select
        .items
        .iter()
        .any(|item| matches!(item, SelectItem::Expr { alias: Some(alias), .. } if alias.name == name));
    items.iter().find(|i| alias && i.name == name)
}

/// The select-list position that an integer constant in ORDER BY or GROUP BY means.
fn ordinal(expr: &Expr, items: usize, clause: &str) -> Result<Option<usize>> {
    match &expr.kind {
        ExprKind::Literal(Literal::Integer(digits)) => {
            let n = digits.parse::<i64>().unwrap_or(0);
            match usize::try_from(n) {
                Ok(n) if (1..=items).contains(&n) => Ok(Some(n - 1)),
                _ => Err(SqlError::new(
                    SqlState::INVALID_COLUMN_REFERENCE,
                    format!("{clause} position {digits} is not in select list"),
                )
                .at(expr.position)),
            }
        }
        ExprKind::Literal(Literal::Null) => Ok(None),
        ExprKind::Literal(_) => {
            Err(SqlError::new(SqlState::SYNTAX_ERROR, format!("non-integer constant in {clause}"))
                .at(expr.position))
        }
        _ => Ok(None),
    }
}

/// The name that PostgreSQL gives an expression's column.
pub fn figure_name(expr: &Expr) -> Option<String> {
    name_of(expr).map(|(name, _)| name)
}

/// A name and whether it is a strong one.
fn name_of(expr: &Expr) -> Option<(String, bool)> {
    Some(match &expr.kind {
        ExprKind::Column(parts) => (parts.last()?.name.clone(), true),
        ExprKind::Function(call) => (call.name.name.clone(), true),
        ExprKind::Cast { operand, ty } => match name_of(operand) {
            Some((name, true)) => (name, true),
            _ => (ty.name.clone(), false),
        },
        ExprKind::Collate { operand, .. } => return name_of(operand),
        ExprKind::Subscript { array, .. } | ExprKind::Slice { array, .. } => return name_of(array),
        ExprKind::Case { otherwise, .. } => match otherwise.as_deref().and_then(name_of) {
            Some((name, true)) => (name, true),
            _ => ("case".into(), false),
        },
        ExprKind::Coalesce(_) => ("coalesce".into(), true),
        ExprKind::NullIf(..) => ("nullif".into(), true),
        ExprKind::MinMax { greatest, .. } => (if *greatest { "greatest" } else { "least" }.into(), true),
        ExprKind::Exists(_) => ("exists".into(), true),
        ExprKind::Array(_) | ExprKind::ArraySubquery(_) => ("array".into(), true),
        ExprKind::Row(_) => ("row".into(), true),
        ExprKind::Subquery(query) => match &query.body {
            QueryBody::Select(select) => match select.items.first()? {
                SelectItem::Expr { alias: Some(alias), .. } => (alias.name.clone(), true),
                SelectItem::Expr { expr, alias: None } => {
                    (figure_name(expr).unwrap_or_else(|| "?column?".into()), true)
                }
                SelectItem::Star(_) => return None,
            },
            QueryBody::Values(_) => ("column1".into(), true),
            _ => return None,
        },
        _ => return None,
    })
}
