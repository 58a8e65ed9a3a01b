//! Function calls and aggregates.

use super::Binder;
use super::coerce::{choose, concrete, element_of, signature};
use super::scope::{AGGREGATED, APPLIED, Clause};
use crate::ast::FunctionCall;
use crate::error::{Result, SqlError, SqlState};
use crate::expr::Scalar;
use crate::func::{CastContext, lookup_aggregate, lookup_function, lookup_table_function};
use crate::plan::physical::AggregateCall;
use crate::types::{Type, TypeKind, type_by_name};

impl Binder<'_> {
    /// Binds a call.
    pub(super) fn function(&mut self, call: &FunctionCall, position: usize) -> Result<Scalar> {
        let name = call.name.name.as_str();
        let builtin_schema = call.name.schema.as_deref().is_none_or(|s| s == "pg_catalog");
        if builtin_schema && !lookup_aggregate(name).is_empty() {
            return self.aggregate(call, position);
        }
        if call.star || call.distinct || !call.order_by.is_empty() || call.filter.is_some() {
            let feature = if call.star {
                format!("{name}(*) specified, but {name} is not an aggregate function")
            } else if call.distinct {
                format!("DISTINCT specified, but {name} is not an aggregate function")
            } else if call.filter.is_some() {
                format!("FILTER specified, but {name} is not an aggregate function")
            } else {
                format!("ORDER BY specified, but {name} is not an aggregate function")
            };
            return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, feature).at(position));
        }
        if call.variadic {
            return Err(SqlError::unsupported("VARIADIC").at(position));
        }
        let args =
            call.args.iter().map(|arg| Ok((self.expr(arg)?, arg.position))).collect::<Result<Vec<_>>>()?;
        if !builtin_schema {
            return Err(self.no_function(&call.name.to_string(), &args, position));
        }
        self.function_by_name(name, args, position)
    }

    fn no_function(&self, name: &str, args: &[(Scalar, usize)], position: usize) -> SqlError {
        let types: Vec<String> = args.iter().map(|(a, _)| Type::new(a.ty().kind).to_string()).collect();
        SqlError::new(
            SqlState::UNDEFINED_FUNCTION,
            format!("function {name}({}) does not exist", types.join(", ")),
        )
        .hint("No function matches the given name and argument types. You might need to add explicit type casts.")
        .at(position)
    }

    /// Resolves a builtin by name and arguments and calls it.
    pub(super) fn function_by_name(
        &mut self,
        name: &str,
        args: Vec<(Scalar, usize)>,
        position: usize,
    ) -> Result<Scalar> {
        let given: Vec<TypeKind> = args.iter().map(|(a, _)| a.ty().kind).collect();
        let candidates: Vec<_> = lookup_function(name)
            .iter()
            .filter_map(|b| Some((*b, signature(b.args, b.variadic, given.len())?)))
            .collect();
        let signatures: Vec<Vec<TypeKind>> = candidates.iter().map(|(_, s)| s.clone()).collect();
        match choose(&signatures, &given) {
            Ok(Some(i)) => self.apply(candidates[i].0, args, position),
            outcome => {
                // A type's name called with one argument is a cast.
                if let ([(_, at)], Some(kind)) = (args.as_slice(), type_by_name(name)) {
                    let at = *at;
                    let value = args.into_iter().next().expect("one argument").0;
                    return self.coerce(value, Type::new(kind), CastContext::Explicit, at);
                }
                if outcome.is_err() {
                    let types: Vec<String> = given.iter().map(|k| Type::new(*k).to_string()).collect();
                    return Err(SqlError::new(
                        SqlState::AMBIGUOUS_FUNCTION,
                        format!("function {name}({}) is not unique", types.join(", ")),
                    )
                    .hint("Could not choose a best candidate function. You might need to add explicit type casts.")
                    .at(position));
                }
                if !lookup_table_function(name).is_empty() {
                    return Err(
                        SqlError::unsupported("a set-returning function outside of FROM").at(position)
                    );
                }
                Err(self.no_function(name, &args, position))
            }
        }
    }

    fn aggregate(&mut self, call: &FunctionCall, position: usize) -> Result<Scalar> {
        let name = call.name.name.as_str();
        let clause = match self.levels.last() {
            Some(level) => level.clause,
            None => Clause::Other("this context"),
        };
        match clause {
            Clause::Grouped => {}
            Clause::AggregateArgument => {
                return Err(SqlError::new(
                    SqlState::GROUPING_ERROR,
                    "aggregate function calls cannot be nested",
                )
                .at(position));
            }
            Clause::Other(clause) => {
                return Err(SqlError::new(
                    SqlState::GROUPING_ERROR,
                    format!("aggregate functions are not allowed in {clause}"),
                )
                .at(position));
            }
        }
        if !call.order_by.is_empty() {
            return Err(SqlError::unsupported("ORDER BY in an aggregate").at(position));
        }
        if call.star && name != "count" || call.args.is_empty() && !call.star {
            if call.args.is_empty() && name == "count" {
                return Err(SqlError::new(
                    SqlState::WRONG_OBJECT_TYPE,
                    "count(*) must be used to call a parameterless aggregate function",
                )
                .at(position));
            }
            return Err(self.no_function(name, &[], position));
        }
        let applies = self.level().applies.len();
        let named = self.level().named.len();
        self.level().clause = Clause::AggregateArgument;
        let bound: Result<_> = (|| {
            let args = call
                .args
                .iter()
                .map(|arg| Ok((self.expr(arg)?, arg.position)))
                .collect::<Result<Vec<_>>>()?;
            let filter = call.filter.as_ref().map(|f| self.condition(f, "FILTER")).transpose()?;
            Ok((args, filter))
        })();
        self.level().clause = clause;
        let (args, filter): (Vec<(Scalar, usize)>, Option<Scalar>) = bound?;
        if self.level().applies.len() > applies {
            return Err(SqlError::unsupported("a subquery in an aggregate's argument").at(position));
        }
        self.level().named.truncate(named);
        let outer = |s: &Scalar| s.any(&mut |s| matches!(s, Scalar::Outer { .. }));
        let own = |s: &Scalar| s.any(&mut |s| matches!(s, Scalar::Column { index, .. } if *index < APPLIED));
        if args.iter().any(|(a, _)| outer(a)) && !args.iter().any(|(a, _)| own(a)) {
            return Err(SqlError::unsupported("an aggregate of an outer query's columns").at(position));
        }
        let given: Vec<TypeKind> = args.iter().map(|(a, _)| a.ty().kind).collect();
        let candidates: Vec<_> =
            lookup_aggregate(name).into_iter().filter(|a| a.args.len() == given.len()).collect();
        let signatures: Vec<Vec<TypeKind>> = candidates.iter().map(|a| a.args.to_vec()).collect();
        let function = match choose(&signatures, &given) {
            Ok(Some(i)) => candidates[i],
            Err(()) => {
                let types: Vec<String> = given.iter().map(|k| Type::new(*k).to_string()).collect();
                return Err(SqlError::new(
                    SqlState::AMBIGUOUS_FUNCTION,
                    format!("function {name}({}) is not unique", types.join(", ")),
                )
                .hint(
                    "Could not choose a best candidate function. You might need to add explicit type casts.",
                )
                .at(position));
            }
            Ok(None) => return Err(self.no_function(name, &args, position)),
        };
        let element = element_of(function.args, &given);
        let mut converted = Vec::with_capacity(args.len());
        for ((arg, at), to) in args.into_iter().zip(function.args) {
            let to = concrete(*to, element);
            let to = if *function.args.first().expect("it has arguments") == TypeKind::Any
                && arg.ty().kind != TypeKind::Unknown
            {
                arg.ty()
            } else {
                Type::new(to)
            };
            converted.push(self.coerce(arg, to, CastContext::Implicit, at)?);
        }
        let ty = Type::new(concrete(function.result, element));
        let call = AggregateCall { function, args: converted, distinct: call.distinct, filter, ty };
        let same = |a: &AggregateCall, b: &AggregateCall| {
            std::ptr::eq(a.function, b.function)
                && a.distinct == b.distinct
                && a.args.len() == b.args.len()
                && a.args.iter().zip(&b.args).all(|(a, b)| a.same(b) && !a.is_volatile())
                && match (&a.filter, &b.filter) {
                    (None, None) => true,
                    (Some(a), Some(b)) => a.same(b),
                    _ => false,
                }
        };
        let level = self.level();
        let n = match level.aggregates.iter().position(|known| same(known, &call)) {
            Some(n) => n,
            None => {
                level.aggregates.push(call);
                level.aggregates.len() - 1
            }
        };
        Ok(Scalar::Column { index: AGGREGATED + n, ty })
    }
}
