//! From [`crate::ast`] to [`crate::plan::logical`]: names and types are resolved, conversions made
//! explicit, defaults filled in, subqueries in expressions turned into `Apply`.
//!
//! Errors carry PostgreSQL's states, words and positions.

mod aggregate;
mod change;
mod coerce;
mod expr;
mod from;
mod function;
mod scope;
mod select;
mod utility;

use std::sync::Arc;

pub use expr::equality;
pub use utility::Bound;

use crate::ast::{ObjectName, TypeName};
use crate::catalog::CatalogReader;
use crate::error::{Result, SqlError, SqlState};
use crate::expr::Scalar;
use crate::plan::logical::{Op, Plan};
use crate::plan::{OutputColumn, PlanSettings};
use crate::types::{Type, TypeKind, modifier, type_by_name};
use scope::{APPLIED, Level, PendingApply};

/// How many relations, set operations and subqueries a statement may have: each may make the plan
/// deeper by a few operators, and what optimizes and compiles plans recurses.
const MAX_OPERATORS: usize = 200;

/// How deep a bound expression may be: what compiles and evaluates it recurses.
const MAX_SCALAR_DEPTH: usize = 600;

/// The state of binding one statement.
pub struct Binder<'a> {
    catalog: &'a dyn CatalogReader,
    settings: &'a PlanSettings,
    /// Types of parameters, as far as known.
    params: Vec<Option<Type>>,
    /// Where parameters of unknown type stand.
    param_positions: Vec<(usize, usize)>,
    /// Slots used by correlated subqueries.
    slots: usize,
    levels: Vec<Level>,
    /// Common tables in reach, innermost last.
    ctes: Vec<(String, Arc<Plan>)>,
    /// AS OF SYSTEM TIME.
    as_of: Option<Scalar>,
    locks_rows: bool,
    /// Relations, set operations and subqueries in expressions so far: what deepens the plan.
    operators: usize,
    /// Depth of the expression tree being built upwards by an operator chain.
    chain_depth: usize,
}

impl<'a> Binder<'a> {
    /// Begins a statement.
    pub fn new(
        catalog: &'a dyn CatalogReader,
        settings: &'a PlanSettings,
        params: &[Option<Type>],
    ) -> Binder<'a> {
        Binder {
            catalog,
            settings,
            params: params.to_vec(),
            param_positions: Vec::new(),
            slots: 0,
            levels: Vec::new(),
            ctes: Vec::new(),
            as_of: None,
            locks_rows: false,
            operators: 0,
            chain_depth: 0,
        }
    }

    /// The parameters' types, all determined.
    pub fn finish_parameters(&self) -> Result<Vec<Type>> {
        self.params
            .iter()
            .enumerate()
            .map(|(i, ty)| match ty {
                Some(ty) if ty.kind != TypeKind::Unknown => Ok(*ty),
                _ => {
                    let error = SqlError::new(
                        SqlState::INDETERMINATE_DATATYPE,
                        format!("could not determine data type of parameter ${}", i + 1),
                    );
                    Err(match self.param_positions.iter().find(|(index, _)| *index == i) {
                        Some((_, position)) => error.at(*position),
                        None => error,
                    })
                }
            })
            .collect()
    }

    /// Whether there are parameters, given or found.
    pub fn has_parameters(&self) -> bool {
        !self.params.is_empty()
    }

    /// Slots, AS OF SYSTEM TIME, and whether rows are locked.
    pub fn finish(self) -> (usize, Option<Scalar>, bool) {
        (self.slots, self.as_of, self.locks_rows)
    }

    /// Resolves a type's name.
    pub(crate) fn resolve_type(&self, name: &TypeName) -> Result<Type> {
        resolve_type(name)
    }

    /// `relation "x" does not exist`.
    fn no_relation(&self, name: &ObjectName) -> SqlError {
        if let Some(schema) = &name.schema
            && !self.catalog.schema_exists(schema)
        {
            return SqlError::new(SqlState::UNDEFINED_TABLE, format!("relation \"{name}\" does not exist"))
                .at(name.position);
        }
        SqlError::new(SqlState::UNDEFINED_TABLE, format!("relation \"{name}\" does not exist"))
            .at(name.position)
    }

    /// Counts what makes the plan deeper.
    fn count_operator(&mut self, position: usize) -> Result<()> {
        self.operators += 1;
        if self.operators > MAX_OPERATORS {
            return Err(SqlError::new(SqlState::STATEMENT_TOO_COMPLEX, "stack depth limit exceeded")
                .hint("The statement has too many tables, set operations or subqueries.")
                .at(position));
        }
        Ok(())
    }

    /// Refuses what would make a tree too deep to recurse over.
    fn depth_of_call(&mut self, position: usize) -> Result<()> {
        // Only chains build trees deeper than the text is nested; they count their links.
        if self.chain_depth > MAX_SCALAR_DEPTH {
            return Err(SqlError::new(SqlState::STATEMENT_TOO_COMPLEX, "stack depth limit exceeded")
                .hint("The expression has too many operators in a row.")
                .at(position));
        }
        Ok(())
    }

    /// The level whose expressions are being bound.
    fn level(&mut self) -> &mut Level {
        self.levels.last_mut().expect("an expression is bound within a level")
    }

    /// Puts subqueries of expressions below: each appends a column. Returns the plan and what maps
    /// virtual positions to real ones.
    fn attach(mut plan: Plan, applies: Vec<PendingApply>) -> (Plan, usize) {
        let base = plan.schema.len();
        for PendingApply { subplan, mut slots, mut kind, ty } in applies {
            for (_, value) in &mut slots {
                place_applied(value, base);
            }
            if let crate::plan::logical::Subquery::Quantified { left, .. } = &mut kind {
                place_applied(left, base);
            }
            let mut schema = plan.schema.clone();
            let name = subplan.schema.first().map_or("?column?", |c| c.name.as_str()).to_owned();
            schema.push(OutputColumn { name, ty, source: (0, 0) });
            let op = Op::Apply { input: Box::new(plan), subplan: Box::new(subplan), slots, kind };
            plan = Plan { op, schema };
        }
        (plan, base)
    }
}

/// Gives columns at virtual positions of subqueries their real ones.
fn place_applied(scalar: &mut Scalar, base: usize) {
    scalar
        .map_columns(&mut |i| if (APPLIED..scope::AGGREGATED).contains(&i) { i - APPLIED + base } else { i });
}

/// PostgreSQL's types that Cairn does not have: an error that says so is better than "does not exist".
const NOT_HERE_YET: &[&str] = &[
    "bit",
    "bit varying",
    "box",
    "cidr",
    "circle",
    "daterange",
    "inet",
    "int4range",
    "int8range",
    "json",
    "jsonb",
    "jsonpath",
    "line",
    "lseg",
    "macaddr",
    "macaddr8",
    "money",
    "numrange",
    "path",
    "pg_lsn",
    "point",
    "polygon",
    "tsquery",
    "tsrange",
    "tstzrange",
    "tsvector",
    "varbit",
    "xml",
];

/// Resolves a type's name.
pub fn resolve_type(name: &TypeName) -> Result<Type> {
    let unknown = || {
        let shown = match &name.schema {
            Some(schema) => format!("{schema}.{}", name.name),
            None => name.name.clone(),
        };
        SqlError::new(SqlState::UNDEFINED_OBJECT, format!("type \"{shown}\" does not exist"))
            .at(name.position)
    };
    if name.schema.as_deref().is_some_and(|s| s != "pg_catalog") {
        return Err(unknown());
    }
    let kind = match (name.name.as_str(), &name.schema) {
        (serial, _) if serial_type(serial).is_some() => return Err(unknown()),
        ("timetz", _) => return Err(SqlError::unsupported("type time with time zone").at(name.position)),
        (text, _) if NOT_HERE_YET.contains(&text) => {
            return Err(SqlError::unsupported(format!("type {text}")).at(name.position));
        }
        (text, _) => type_by_name(text).ok_or_else(unknown)?,
    };
    let modifier = if name.modifiers.is_empty() {
        -1
    } else {
        modifier::parse(kind, &name.modifiers).map_err(|e| e.at(name.position))?
    };
    let kind = if name.array {
        kind.array().ok_or_else(|| {
            SqlError::unsupported(format!("an array of {}", Type::new(kind))).at(name.position)
        })?
    } else {
        kind
    };
    Ok(Type { kind, modifier })
}

/// The integer type of a serial pseudo-type.
pub fn serial_type(name: &str) -> Option<TypeKind> {
    match name {
        "serial" | "serial4" => Some(TypeKind::Int4),
        "bigserial" | "serial8" => Some(TypeKind::Int8),
        "smallserial" | "serial2" => Some(TypeKind::Int2),
        _ => None,
    }
}
