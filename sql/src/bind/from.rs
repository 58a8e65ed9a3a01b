//! FROM: relations and joins.

use std::sync::Arc;

use super::Binder;
use super::coerce::{NOWHERE, choose};
use super::scope::{Clause, Level, Relation, Scope, ScopeColumn, relation_of};
use crate::ast::{Alias, FunctionCall, Ident, JoinClause, JoinCondition, JoinType, ObjectName, TableRef};
use crate::catalog::{RelationKind, TableDesc};
use crate::error::{Result, SqlError, SqlState};
use crate::expr::Scalar;
use crate::func::{CastContext, lookup_table_function};
use crate::plan::OutputColumn;
use crate::plan::logical::{Op, Plan};
use crate::plan::physical::JoinKind;
use crate::types::{Type, TypeKind};

impl Binder<'_> {
    /// A FROM list: its items joined without condition.
    pub(super) fn from(&mut self, items: &[TableRef]) -> Result<(Plan, Scope)> {
        let mut items = items.iter();
        let Some(first) = items.next() else { return Ok((Plan::single_row(), Scope::default())) };
        let (mut plan, mut scope) = self.table_ref(first)?;
        for item in items {
            (plan, scope) = self.lateral(
                plan,
                scope,
                |binder| binder.table_ref(item),
                JoinKind::Inner,
                |_, _| Ok(Vec::new()),
            )?;
        }
        Ok((plan, scope))
    }

    /// Joins `left` with what `right` binds, which may refer to `left` if it is LATERAL.
    fn lateral(
        &mut self,
        left: Plan,
        left_scope: Scope,
        right: impl FnOnce(&mut Self) -> Result<(Plan, Scope)>,
        kind: JoinKind,
        on: impl FnOnce(&mut Self, &Scope) -> Result<Vec<Scalar>>,
    ) -> Result<(Plan, Scope)> {
        let mut level = Level::new(left_scope, Clause::Other("FROM"));
        level.visible = false;
        self.levels.push(level);
        let bound = right(self);
        let level = self.levels.pop().expect("it was pushed");
        let (right, right_scope) = bound?;
        let width = left.schema.len();
        let mut scope = level.scope;
        scope.join(right_scope.shifted(width))?;
        let on = on(self, &scope)?;
        let mut schema = left.schema.clone();
        schema.extend(right.schema.iter().cloned());
        let (left, right) = (Box::new(left), Box::new(right));
        let op = if level.captures.is_empty() {
            Op::Join { kind, left, right, on }
        } else {
            Op::LateralJoin { kind, left, right, slots: level.captures, on }
        };
        Ok((Plan { op, schema }, scope))
    }

    fn table_ref(&mut self, item: &TableRef) -> Result<(Plan, Scope)> {
        let position = match item {
            TableRef::Table { name, .. } => name.position,
            TableRef::Subquery { position, .. } => *position,
            TableRef::Function { call, .. } => call.name.position,
            TableRef::Joined { .. } => 0,
        };
        self.count_operator(position)?;
        match item {
            TableRef::Table { name, alias } => self.named_table(name, alias.as_ref()),
            TableRef::Subquery { query, alias, lateral, position } => {
                let Some(alias) = alias else {
                    return Err(SqlError::new(SqlState::SYNTAX_ERROR, "subquery in FROM must have an alias")
                        .hint("For example, FROM (SELECT ...) [AS] foo.")
                        .at(*position));
                };
                let plan = self.seeing(*lateral, |binder| binder.query(query))?;
                self.derived(plan, alias, "table")
            }
            TableRef::Function { call, ordinality, alias, column_types } => {
                if *ordinality {
                    return Err(SqlError::unsupported("WITH ORDINALITY").at(call.name.position));
                }
                if !column_types.is_empty() {
                    return Err(SqlError::unsupported("a column definition list").at(call.name.position));
                }
                // Functions in FROM are LATERAL by nature.
                self.seeing(true, |binder| binder.table_function(call, alias.as_ref()))
            }
            TableRef::Joined { first, joins } => {
                let (mut plan, mut scope) = self.table_ref(first)?;
                for join in joins {
                    (plan, scope) = self.join(plan, scope, join)?;
                }
                Ok((plan, scope))
            }
        }
    }

    /// Runs `bind` with or without sight of the left neighbours in FROM.
    fn seeing<T>(&mut self, lateral: bool, bind: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        // The neighbours are the innermost levels of clause FROM.
        let depth = self.levels.iter().rposition(|l| l.clause != Clause::Other("FROM")).map_or(0, |i| i + 1);
        let saved: Vec<bool> = self.levels[depth..].iter().map(|l| l.visible).collect();
        for level in &mut self.levels[depth..] {
            level.visible = lateral;
        }
        let result = bind(self);
        for (level, visible) in self.levels[depth..].iter_mut().zip(saved) {
            level.visible = visible;
        }
        result
    }

    /// A plan as a relation under an alias.
    fn derived(&mut self, plan: Plan, alias: &Alias, what: &str) -> Result<(Plan, Scope)> {
        let mut relation = relation_of(&alias.name.name, &plan.schema);
        rename(&mut relation, alias, what)?;
        Ok((plan, Scope::of(relation)))
    }

    fn named_table(&mut self, name: &ObjectName, alias: Option<&Alias>) -> Result<(Plan, Scope)> {
        if name.schema.is_none()
            && let Some((_, plan)) = self.ctes.iter().rev().find(|(cte, _)| *cte == name.name)
        {
            let plan = Plan::clone(plan);
            let mut relation = relation_of(&name.name, &plan.schema);
            if let Some(alias) = alias {
                relation.alias = alias.name.name.clone();
                rename(&mut relation, alias, "table")?;
            }
            return Ok((plan, Scope::of(relation)));
        }
        if let Some(view) = self.catalog.system_view(name.schema.as_deref(), &name.name) {
            let schema: Vec<OutputColumn> = view
                .columns
                .iter()
                .enumerate()
                .map(|(i, (column, kind))| OutputColumn {
                    name: (*column).to_owned(),
                    ty: Type::new(*kind),
                    source: (view.oid, i as i16 + 1),
                })
                .collect();
            let mut relation = relation_of(&name.name, &schema);
            relation.schema = Some(view.schema.to_owned());
            if let Some(alias) = alias {
                relation.alias = alias.name.name.clone();
                relation.schema = None;
                rename(&mut relation, alias, "table")?;
            }
            let columns = (0..view.columns.len()).collect();
            return Ok((Plan { op: Op::SystemScan { view, columns }, schema }, Scope::of(relation)));
        }
        let table = self.table(name)?;
        let (plan, mut relation) = scan(&table);
        relation.schema = name.schema.clone().or_else(|| Some("public".into()));
        if let Some(alias) = alias {
            relation.alias = alias.name.name.clone();
            relation.schema = None;
            rename(&mut relation, alias, "table")?;
        }
        Ok((plan, Scope::of(relation)))
    }

    /// A table by name.
    pub(super) fn table(&self, name: &ObjectName) -> Result<Arc<TableDesc>> {
        let Some(table) = self.catalog.table(name.schema.as_deref(), &name.name) else {
            return Err(self.no_relation(name));
        };
        if table.kind != RelationKind::Table {
            return Err(SqlError::unsupported("reading a sequence as a table").at(name.position));
        }
        Ok(table)
    }

    fn table_function(&mut self, call: &FunctionCall, alias: Option<&Alias>) -> Result<(Plan, Scope)> {
        let position = call.name.position;
        let name = call.name.name.as_str();
        self.levels.push(Level::new(Scope::default(), Clause::Other("functions in FROM")));
        let args =
            call.args.iter().map(|arg| Ok((self.expr(arg)?, arg.position))).collect::<Result<Vec<_>>>();
        let level = self.levels.pop().expect("it was pushed");
        let args = args?;
        if !level.applies.is_empty() {
            return Err(SqlError::unsupported("a subquery in a function's argument in FROM").at(position));
        }
        let given: Vec<TypeKind> = args.iter().map(|(a, _)| a.ty().kind).collect();
        let candidates: Vec<_> =
            lookup_table_function(name).into_iter().filter(|f| f.args.len() == given.len()).collect();
        let shown = alias.map_or(name, |alias| alias.name.name.as_str()).to_owned();
        if candidates.is_empty() {
            // A scalar function: one row of one column.
            let value = self.function_by_name(name, args, position)?;
            let value = self.known(value, position)?;
            let ty = value.ty();
            let schema = vec![OutputColumn { name: shown.clone(), ty, source: (0, 0) }];
            let plan =
                Plan { op: Op::Project { input: Box::new(Plan::single_row()), exprs: vec![value] }, schema };
            let mut relation = relation_of(&shown, &plan.schema);
            if let Some(alias) = alias {
                rename(&mut relation, alias, "function")?;
            }
            return Ok((plan, Scope::of(relation)));
        }
        let signatures: Vec<Vec<TypeKind>> = candidates.iter().map(|f| f.args.to_vec()).collect();
        let Ok(Some(i)) = choose(&signatures, &given) else {
            let types: Vec<String> = given.iter().map(|k| Type::new(*k).to_string()).collect();
            return Err(SqlError::new(
                SqlState::UNDEFINED_FUNCTION,
                format!("function {name}({}) does not exist", types.join(", ")),
            )
            .hint("No function matches the given name and argument types. You might need to add explicit type casts.")
            .at(position));
        };
        let function = candidates[i];
        let element = super::coerce::element_of(function.args, &given);
        let args = args
            .into_iter()
            .zip(function.args)
            .map(|((arg, at), to)| {
                let to = Type::new(super::coerce::concrete(*to, element));
                self.coerce(arg, to, CastContext::Implicit, at)
            })
            .collect::<Result<Vec<_>>>()?;
        let single = function.columns.len() == 1;
        let schema: Vec<OutputColumn> = function
            .columns
            .iter()
            .map(|(column, kind)| OutputColumn {
                name: if single { shown.clone() } else { (*column).to_owned() },
                ty: Type::new(super::coerce::concrete(*kind, element)),
                source: (0, 0),
            })
            .collect();
        let mut relation = relation_of(&shown, &schema);
        if let Some(alias) = alias {
            rename(&mut relation, alias, "function")?;
        }
        Ok((Plan { op: Op::FunctionScan { function, args }, schema }, Scope::of(relation)))
    }

    fn join(&mut self, left: Plan, left_scope: Scope, join: &JoinClause) -> Result<(Plan, Scope)> {
        let kind = match join.kind {
            JoinType::Inner | JoinType::Cross => JoinKind::Inner,
            JoinType::Left => JoinKind::Left,
            JoinType::Right => JoinKind::Right,
            JoinType::Full => JoinKind::Full,
        };
        let left_columns = left_scope.columns.len();
        let mut using: Option<Vec<Ident>> = None;
        let mut subqueries = Vec::new();
        let (mut plan, mut scope) = self.lateral(
            left,
            left_scope,
            |binder| binder.table_ref(&join.right),
            kind,
            |binder, scope| {
                let names = match &join.condition {
                    JoinCondition::None => return Ok(Vec::new()),
                    JoinCondition::On(condition) => {
                        binder.levels.push(Level::new(scope.clone(), Clause::Other("JOIN conditions")));
                        let bound = binder.condition(condition, "JOIN/ON");
                        let level = binder.levels.pop().expect("it was pushed");
                        subqueries = level.applies;
                        return Ok(conjuncts(bound?));
                    }
                    JoinCondition::Using(names) => names.clone(),
                    JoinCondition::Natural => {
                        let (l, r) = scope.columns.split_at(left_columns);
                        l.iter()
                            .filter(|c| !c.hidden && r.iter().any(|d| !d.hidden && d.name == c.name))
                            .map(|c| Ident { name: c.name.clone(), position: join.position })
                            .collect()
                    }
                };
                let mut on = Vec::new();
                for name in &names {
                    let (l, r) = using_columns(scope, left_columns, name)?;
                    let (l, r) = (l.value.clone(), r.value.clone());
                    on.push(binder.operator(None, "=", vec![(l, NOWHERE), (r, NOWHERE)], name.position)?);
                }
                using = Some(names);
                Ok(on)
            },
        )?;
        if let Op::LateralJoin { kind: JoinKind::Right | JoinKind::Full, .. } = plan.op {
            return Err(SqlError::new(
                SqlState::INVALID_COLUMN_REFERENCE,
                "The combining JOIN type must be INNER or LEFT for a LATERAL reference.",
            )
            .at(join.position));
        }
        if !subqueries.is_empty() {
            // The condition moves above the join, where subqueries can be attached.
            let Op::Join { kind: JoinKind::Inner, on, .. } = &mut plan.op else {
                return Err(
                    SqlError::unsupported("a subquery in the condition of an outer join").at(join.position)
                );
            };
            let mut predicates = std::mem::take(on);
            let schema = plan.schema.clone();
            let (attached, base) = Binder::attach(plan, subqueries);
            for predicate in &mut predicates {
                super::place_applied(predicate, base);
            }
            let filtered = attached.filter(predicates);
            let exprs =
                schema.iter().enumerate().map(|(index, c)| Scalar::Column { index, ty: c.ty }).collect();
            plan = Plan { op: Op::Project { input: Box::new(filtered), exprs }, schema };
        }
        if let Some(names) = using {
            self.merge_columns(&mut scope, left_columns, &names, join.kind)?;
        }
        Ok((plan, scope))
    }

    /// USING: each named pair becomes one column, which comes first.
    fn merge_columns(
        &mut self,
        scope: &mut Scope,
        left: usize,
        names: &[Ident],
        kind: JoinType,
    ) -> Result<()> {
        let mut merged = Vec::new();
        for name in names {
            let (l, r) = using_columns(scope, left, name)?;
            let (l, r) = (l.clone(), r.clone());
            let types = [(l.value.ty(), NOWHERE), (r.value.ty(), NOWHERE)];
            let ty = self.common_type(&types, "JOIN/USING")?;
            let l_value = self.coerce(l.value.clone(), ty, CastContext::Implicit, name.position)?;
            let r_value = self.coerce(r.value.clone(), ty, CastContext::Implicit, name.position)?;
            let (value, source) = match kind {
                JoinType::Right => (r_value, r.source),
                JoinType::Full => (Scalar::Coalesce { args: vec![l_value, r_value], ty }, (0, 0)),
                _ => (l_value, l.source),
            };
            merged.push(ScopeColumn { name: name.name.clone(), value, source, hidden: false });
        }
        let named = |c: &ScopeColumn| names.iter().any(|n| n.name == c.name);
        let rest = scope.columns.drain(..).filter(|c| !named(c));
        let columns: Vec<ScopeColumn> = merged.into_iter().chain(rest).collect();
        scope.columns = columns;
        Ok(())
    }
}

fn using_columns<'s>(
    scope: &'s Scope,
    left: usize,
    name: &Ident,
) -> Result<(&'s ScopeColumn, &'s ScopeColumn)> {
    let (l, r) = scope.columns.split_at(left);
    let find = |columns: &'s [ScopeColumn], side: &str| {
        let mut found = columns.iter().filter(|c| !c.hidden && c.name == name.name);
        let first = found.next().ok_or_else(|| {
            SqlError::new(
                SqlState::UNDEFINED_COLUMN,
                format!("column \"{}\" specified in USING clause does not exist in {side} table", name.name),
            )
            .at(name.position)
        })?;
        if found.next().is_some() {
            return Err(SqlError::new(
                SqlState::AMBIGUOUS_COLUMN,
                format!("common column name \"{}\" appears more than once in {side} table", name.name),
            )
            .at(name.position));
        }
        Ok(first)
    };
    Ok((find(l, "left")?, find(r, "right")?))
}

/// Gives a relation's columns the names of an alias.
fn rename(relation: &mut Relation, alias: &Alias, what: &str) -> Result<()> {
    let shown = relation.columns.iter().filter(|c| !c.hidden).count();
    if alias.columns.len() > shown {
        return Err(SqlError::new(
            SqlState::INVALID_COLUMN_REFERENCE,
            format!(
                "{what} \"{}\" has {shown} columns available but {} columns specified",
                alias.name.name,
                alias.columns.len()
            ),
        )
        .at(alias.name.position));
    }
    relation.alias = alias.name.name.clone();
    let columns = relation.columns.iter_mut().filter(|c| !c.hidden);
    for (column, name) in columns.zip(&alias.columns) {
        column.name = name.name.clone();
    }
    Ok(())
}

/// A scan of a table: all columns, then the encoded key.
pub fn scan(table: &Arc<TableDesc>) -> (Plan, Relation) {
    let mut schema: Vec<OutputColumn> = table
        .columns
        .iter()
        .map(|c| OutputColumn { name: c.name.clone(), ty: c.ty, source: (table.id, c.attnum) })
        .collect();
    let mut relation = relation_of(&table.name, &schema);
    for (column, desc) in relation.columns.iter_mut().zip(&table.columns) {
        column.hidden = desc.hidden;
    }
    relation.table = Some((table.clone(), table.columns.len()));
    schema.push(OutputColumn { name: String::new(), ty: Type::new(TypeKind::Bytea), source: (0, 0) });
    let columns = (0..=table.columns.len()).collect();
    (Plan { op: Op::Scan { table: table.clone(), columns }, schema }, relation)
}

/// The conjuncts of a condition.
pub fn conjuncts(condition: Scalar) -> Vec<Scalar> {
    match condition {
        Scalar::And(items) => items.into_iter().flat_map(conjuncts).collect(),
        other => vec![other],
    }
}
