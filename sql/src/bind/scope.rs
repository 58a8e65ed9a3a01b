//! What names mean at a place of a statement.

use std::sync::Arc;

use super::Binder;
use crate::ast::Ident;
use crate::catalog::TableDesc;
use crate::error::{Result, SqlError, SqlState};
use crate::expr::Scalar;
use crate::plan::OutputColumn;
use crate::plan::logical::{Plan, Subquery};
use crate::types::Type;

/// First virtual position of values that subqueries append to the row (see [`Level`]).
pub const APPLIED: usize = 1 << 40;
/// First virtual position of aggregates.
pub const AGGREGATED: usize = 1 << 41;

/// A column that a relation in FROM offers.
#[derive(Clone, Debug)]
pub struct ScopeColumn {
    /// Name.
    pub name: String,
    /// The column over the row of the FROM clause (a COALESCE for FULL JOIN … USING).
    pub value: Scalar,
    /// As in [`OutputColumn`].
    pub source: (u32, i16),
    /// Not shown by `*`.
    pub hidden: bool,
}

/// A relation in FROM.
#[derive(Clone, Debug)]
pub struct Relation {
    /// Its alias or name.
    pub alias: String,
    /// Its schema, when it has no alias.
    pub schema: Option<String>,
    /// Columns.
    pub columns: Vec<ScopeColumn>,
    /// The table it is, with the position of its encoded key.
    pub table: Option<(Arc<TableDesc>, usize)>,
}

/// The relations of a FROM clause.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Relations, for qualified names.
    pub relations: Vec<Relation>,
    /// Columns for unqualified names and `*`, in order.
    pub columns: Vec<ScopeColumn>,
}

impl Scope {
    /// The scope of one relation.
    pub fn of(relation: Relation) -> Scope {
        Scope { columns: relation.columns.clone(), relations: vec![relation] }
    }

    /// The scope with its row moved by `offset`.
    pub fn shifted(mut self, offset: usize) -> Scope {
        for column in self.columns.iter_mut().chain(self.relations.iter_mut().flat_map(|r| &mut r.columns)) {
            column.value.map_columns(&mut |i| i + offset);
        }
        for relation in &mut self.relations {
            if let Some((_, key)) = &mut relation.table {
                *key += offset;
            }
        }
        self
    }

    /// Adds another scope's relations.
    pub fn join(&mut self, other: Scope) -> Result<()> {
        for relation in &other.relations {
            if self.relations.iter().any(|r| r.alias == relation.alias && r.schema == relation.schema) {
                return Err(SqlError::new(
                    SqlState::DUPLICATE_ALIAS,
                    format!("table name \"{}\" specified more than once", relation.alias),
                ));
            }
        }
        self.relations.extend(other.relations);
        self.columns.extend(other.columns);
        Ok(())
    }
}

/// A subquery whose value an expression uses.
#[derive(Debug)]
pub struct PendingApply {
    /// Plan.
    pub subplan: Plan,
    /// Slots and what they hold, over the row of the level.
    pub slots: Vec<(usize, Scalar)>,
    /// What is appended.
    pub kind: Subquery,
    /// Type of it.
    pub ty: Type,
}

/// Where in a query an expression stands, for errors about aggregates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clause {
    /// Aggregates are allowed.
    Grouped,
    /// Within an aggregate's arguments.
    AggregateArgument,
    /// Anywhere else: its name.
    Other(&'static str),
}

/// A level of query nesting while its expressions are bound.
///
/// Subqueries in expressions become `Apply` operators below the operator that uses them. Until that
/// one is made, their values have virtual positions from [`APPLIED`] on, aggregates such from
/// [`AGGREGATED`] on.
#[derive(Debug)]
pub struct Level {
    /// Names.
    pub scope: Scope,
    /// Columns that the subquery being bound has used: slot and column.
    pub captures: Vec<(usize, Scalar)>,
    /// Subqueries in expressions, not yet attached.
    pub applies: Vec<PendingApply>,
    /// Aggregates.
    pub aggregates: Vec<crate::plan::physical::AggregateCall>,
    /// Clause.
    pub clause: Clause,
    /// Whether subqueries may see it (FROM items see their left neighbours only under LATERAL).
    pub visible: bool,
    /// Where columns were last named, for errors about grouping.
    pub named: Vec<(usize, usize, String)>,
}

impl Level {
    /// A level over a scope.
    pub fn new(scope: Scope, clause: Clause) -> Level {
        Level {
            scope,
            captures: Vec::new(),
            applies: Vec::new(),
            aggregates: Vec::new(),
            clause,
            visible: true,
            named: Vec::new(),
        }
    }
}

impl Binder<'_> {
    /// Resolves a column's name.
    pub(super) fn column(&mut self, parts: &[Ident], position: usize) -> Result<Scalar> {
        let top = self.levels.len();
        for depth in (0..top).rev() {
            if !self.levels[depth].visible {
                continue;
            }
            let Some(column) = self.column_at(depth, parts, position)? else { continue };
            if depth + 1 == top {
                if let Scalar::Column { index, .. } = column.value {
                    let shown = match parts {
                        [.., table, column] => format!("{}.{}", table.name, column.name),
                        _ => self.qualified(depth, index, &column.name),
                    };
                    self.levels[depth].named.push((index, position, shown));
                }
                return Ok(column.value);
            }
            if let Scalar::Column { index, ty } = column.value {
                let shown = self.qualified(depth, index, &column.name);
                self.levels[depth].named.push((index, position, shown));
                let known = self.levels[depth]
                    .captures
                    .iter()
                    .find(|(_, c)| matches!(c, Scalar::Column { index: i, .. } if *i == index));
                let slot = match known {
                    Some((slot, _)) => *slot,
                    None => {
                        let slot = self.slots;
                        self.slots += 1;
                        self.levels[depth].captures.push((slot, Scalar::Column { index, ty }));
                        slot
                    }
                };
                return Ok(Scalar::Outer { slot, ty });
            }
            let (slot, ty) = (self.slots, column.value.ty());
            self.slots += 1;
            self.levels[depth].captures.push((slot, column.value));
            return Ok(Scalar::Outer { slot, ty });
        }
        Err(self.unknown_column(parts, position))
    }

    fn qualified(&self, depth: usize, index: usize, name: &str) -> String {
        for relation in &self.levels[depth].scope.relations {
            for column in &relation.columns {
                if matches!(column.value, Scalar::Column { index: i, .. } if i == index) {
                    return format!("{}.{}", relation.alias, column.name);
                }
            }
        }
        name.to_owned()
    }

    fn column_at(&self, depth: usize, parts: &[Ident], position: usize) -> Result<Option<ScopeColumn>> {
        let scope = &self.levels[depth].scope;
        let (columns, name): (&[ScopeColumn], &str) = match parts {
            [name] => (&scope.columns, &name.name),
            [.., name] => match self.relation_at(depth, &parts[..parts.len() - 1])? {
                Some(relation) => (&relation.columns, &name.name),
                None => return Ok(None),
            },
            [] => unreachable!("a name has parts"),
        };
        let mut found = columns.iter().filter(|c| c.name == name && !c.hidden);
        let first = found.next();
        if found.next().is_some() {
            return Err(SqlError::new(
                SqlState::AMBIGUOUS_COLUMN,
                format!("column reference \"{name}\" is ambiguous"),
            )
            .at(position));
        }
        if first.is_none() && parts.len() > 1 {
            return Err(SqlError::new(
                SqlState::UNDEFINED_COLUMN,
                format!("column {}.{name} does not exist", parts[parts.len() - 2].name),
            )
            .at(position));
        }
        Ok(first.cloned())
    }

    /// Finds a relation of a level by its qualified name.
    pub(super) fn relation_at(&self, depth: usize, parts: &[Ident]) -> Result<Option<&Relation>> {
        let (schema, name) = match parts {
            [name] => (None, name),
            [.., schema, name] => (Some(schema.name.as_str()), name),
            [] => unreachable!("a name has parts"),
        };
        let relations = &self.levels[depth].scope.relations;
        let mut found = relations.iter().filter(|r| {
            r.alias == name.name
                && schema.is_none_or(|s| match &r.schema {
                    Some(schema) => schema == s,
                    None => false,
                })
        });
        let first = found.next();
        if found.next().is_some() {
            return Err(SqlError::new(
                SqlState(*b"42P09"),
                format!("table reference \"{}\" is ambiguous", name.name),
            )
            .at(name.position));
        }
        Ok(first)
    }

    fn unknown_column(&self, parts: &[Ident], position: usize) -> SqlError {
        if let [.., table, _] = parts {
            let hidden = self
                .levels
                .iter()
                .any(|l| !l.visible && l.scope.relations.iter().any(|r| r.alias == table.name));
            if hidden {
                return SqlError::new(
                    SqlState::UNDEFINED_TABLE,
                    format!("invalid reference to FROM-clause entry for table \"{}\"", table.name),
                )
                .hint(format!(
                    "There is an entry for table \"{}\", but it cannot be referenced from this part of the query.",
                    table.name
                ))
                .at(position);
            }
            let renamed = self.levels.iter().rev().flat_map(|l| &l.scope.relations).find(|r| {
                r.table.as_ref().is_some_and(|(desc, _)| desc.name == table.name && r.alias != table.name)
            });
            if let Some(relation) = renamed {
                return SqlError::new(
                    SqlState::UNDEFINED_TABLE,
                    format!("invalid reference to FROM-clause entry for table \"{}\"", table.name),
                )
                .hint(format!("Perhaps you meant to reference the table alias \"{}\".", relation.alias))
                .at(position);
            }
            return SqlError::new(
                SqlState::UNDEFINED_TABLE,
                format!("missing FROM-clause entry for table \"{}\"", table.name),
            )
            .at(position);
        }
        let name = &parts[0].name;
        if self.levels.iter().any(|l| l.visible && l.scope.relations.iter().any(|r| r.alias == *name)) {
            return SqlError::unsupported("a whole row as a value").at(position);
        }
        let error = SqlError::new(SqlState::UNDEFINED_COLUMN, format!("column \"{name}\" does not exist"))
            .at(position);
        match self.similar_column(name) {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    /// `Perhaps you meant to reference the column "t.a".`, for a name at a small distance.
    fn similar_column(&self, name: &str) -> Option<String> {
        let level = self.levels.last()?;
        let limit = (name.chars().count() / 2).min(3);
        let mut best: Option<(usize, String)> = None;
        for relation in &level.scope.relations {
            for column in relation.columns.iter().filter(|c| !c.hidden) {
                let distance = edit_distance(name, &column.name);
                if distance <= limit && best.as_ref().is_none_or(|(d, _)| distance < *d) {
                    best = Some((distance, format!("{}.{}", relation.alias, column.name)));
                }
            }
        }
        best.map(|(_, column)| format!("Perhaps you meant to reference the column \"{column}\"."))
    }
}

fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (above + 1).min(row[j] + 1).min(diagonal + usize::from(x != *y));
            diagonal = above;
        }
    }
    row[b.len()]
}

/// The columns of a plan as a relation of a given name offers them.
pub fn relation_of(alias: &str, schema: &[OutputColumn]) -> Relation {
    let columns = schema
        .iter()
        .enumerate()
        .map(|(index, column)| ScopeColumn {
            name: column.name.clone(),
            value: Scalar::Column { index, ty: column.ty },
            source: column.source,
            hidden: false,
        })
        .collect();
    Relation { alias: alias.to_owned(), schema: None, columns, table: None }
}
