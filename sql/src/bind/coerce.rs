//! Type conversion and overload resolution, by the rules of PostgreSQL's chapter 10.

use super::Binder;
use crate::error::{Result, SqlError, SqlState};
use crate::expr::{EvalContext, Scalar};
use crate::func::{Builtin, CastContext, CastMethod, Volatility, cast, length_coercion, lookup_operator};
use crate::types::{Category, Datum, Type, TypeKind, modifier, parse_text};

/// No position in the text.
pub const NOWHERE: usize = usize::MAX;

fn at(error: SqlError, position: usize) -> SqlError {
    if position == NOWHERE { error } else { error.at(position) }
}

/// A signature's argument types for `count` arguments: a variadic last one repeats.
pub fn signature(args: &'static [TypeKind], variadic: bool, count: usize) -> Option<Vec<TypeKind>> {
    if variadic && count >= args.len() && !args.is_empty() {
        let last = args[args.len() - 1];
        let last = last.element().filter(|_| last != TypeKind::AnyArray).unwrap_or(last);
        let mut all = args[..args.len() - 1].to_vec();
        all.resize(count, last);
        return Some(all);
    }
    (args.len() == count).then(|| args.to_vec())
}

/// Whether `from` converts to `to` without being told.
fn converts(from: TypeKind, to: TypeKind) -> bool {
    match to {
        _ if from == to || from == TypeKind::Unknown => true,
        TypeKind::Any | TypeKind::AnyElement => true,
        TypeKind::AnyArray => from.is_array(),
        _ => cast(from, to).is_some_and(|cast| cast.context == CastContext::Implicit),
    }
}

/// The best of several signatures for arguments of the given types: its number, if there is one.
/// `Err(())`: several are equally good.
pub fn choose(candidates: &[Vec<TypeKind>], given: &[TypeKind]) -> std::result::Result<Option<usize>, ()> {
    let exact = |c: &[TypeKind]| c.iter().zip(given).filter(|(c, g)| c == g).count();
    if let Some(i) = candidates.iter().position(|c| exact(c) == given.len()) {
        return Ok(Some(i));
    }
    let mut left: Vec<usize> = (0..candidates.len())
        .filter(|&i| candidates[i].iter().zip(given).all(|(to, from)| converts(*from, *to)))
        .filter(|&i| polymorphic_ok(&candidates[i], given))
        .collect();
    if left.len() <= 1 {
        return Ok(left.pop());
    }
    let keep_best = |left: &mut Vec<usize>, score: &dyn Fn(&[TypeKind]) -> usize| {
        let best = left.iter().map(|&i| score(&candidates[i])).max().unwrap_or(0);
        left.retain(|&i| score(&candidates[i]) == best);
    };
    keep_best(&mut left, &exact);
    keep_best(&mut left, &|c| {
        c.iter()
            .zip(given)
            .filter(|(c, g)| c == g || c.is_preferred() && g.category() == c.category())
            .count()
    });
    if left.len() == 1 {
        return Ok(left.pop());
    }
    // Unknown literals: strings where any candidate takes one, else the one category that all take.
    for (n, from) in given.iter().enumerate() {
        if *from != TypeKind::Unknown {
            continue;
        }
        let categories: Vec<Category> = left.iter().map(|&i| candidates[i][n].category()).collect();
        let category = if categories.contains(&Category::String) {
            Category::String
        } else if categories.windows(2).all(|w| w[0] == w[1]) {
            categories[0]
        } else {
            continue;
        };
        left.retain(|&i| candidates[i][n].category() == category);
        if left.iter().any(|&i| candidates[i][n].is_preferred()) {
            left.retain(|&i| candidates[i][n].is_preferred());
        }
    }
    if left.len() == 1 {
        return Ok(left.pop());
    }
    // All known arguments of one type: the unknown ones are assumed to be of it.
    let mut known = given.iter().copied().filter(|k| *k != TypeKind::Unknown);
    if given.contains(&TypeKind::Unknown)
        && let Some(first) = known.next()
        && known.all(|k| k == first)
    {
        let fitting: Vec<usize> =
            left.iter().copied().filter(|&i| candidates[i].iter().all(|c| converts(first, *c))).collect();
        if let [one] = fitting[..] {
            return Ok(Some(one));
        }
        if let Some(&i) = left.iter().find(|&&i| candidates[i].iter().all(|c| *c == first)) {
            return Ok(Some(i));
        }
    }
    if left.is_empty() { Ok(None) } else { Err(()) }
}

/// Whether polymorphic arguments agree on one element type.
fn polymorphic_ok(candidate: &[TypeKind], given: &[TypeKind]) -> bool {
    let mut element = None;
    for (to, from) in candidate.iter().zip(given) {
        let kind = match to {
            _ if *from == TypeKind::Unknown => continue,
            TypeKind::AnyArray => from.element(),
            TypeKind::AnyElement => Some(*from),
            _ => continue,
        };
        let Some(kind) = kind else { return false };
        match element {
            None => element = Some(kind),
            Some(element) if element == kind => {}
            Some(element) => {
                if !converts(kind, element) && !converts(element, kind) {
                    return false;
                }
            }
        }
    }
    true
}

/// What the polymorphic types of a signature stand for: the element type.
pub fn element_of(candidate: &[TypeKind], given: &[TypeKind]) -> Option<TypeKind> {
    let arrays = candidate
        .iter()
        .zip(given)
        .filter(|(to, from)| **to == TypeKind::AnyArray && **from != TypeKind::Unknown);
    let elements = candidate
        .iter()
        .zip(given)
        .filter(|(to, from)| **to == TypeKind::AnyElement && **from != TypeKind::Unknown);
    arrays.filter_map(|(_, from)| from.element()).chain(elements.map(|(_, from)| *from)).next()
}

/// A type with the polymorphic ones replaced.
pub fn concrete(kind: TypeKind, element: Option<TypeKind>) -> TypeKind {
    match (kind, element) {
        (TypeKind::AnyElement, Some(element)) => element,
        (TypeKind::AnyArray, Some(element)) => element.array().unwrap_or(kind),
        (TypeKind::AnyElement | TypeKind::Any, None) => TypeKind::Text,
        (TypeKind::AnyArray, None) => TypeKind::TextArray,
        (kind, _) => kind,
    }
}

impl Binder<'_> {
    /// Converts to a type where `context` allows it.
    pub(super) fn coerce(
        &mut self,
        scalar: Scalar,
        to: Type,
        context: CastContext,
        position: usize,
    ) -> Result<Scalar> {
        match self.try_coerce(scalar, to, context, position)? {
            Ok(scalar) => Ok(scalar),
            Err(from) => {
                let message = if context == CastContext::Explicit {
                    format!("cannot cast type {} to {to}", Type::new(from.kind))
                } else {
                    format!("cannot convert type {} to {to}", Type::new(from.kind))
                };
                Err(at(SqlError::new(SqlState::CANNOT_COERCE, message), position))
            }
        }
    }

    /// Likewise; the inner error is the type that does not convert.
    pub(super) fn try_coerce(
        &mut self,
        scalar: Scalar,
        to: Type,
        context: CastContext,
        position: usize,
    ) -> Result<std::result::Result<Scalar, Type>> {
        let from = scalar.ty();
        let explicit = context == CastContext::Explicit;
        match scalar {
            Scalar::Const { value: Datum::Null, ty }
                if ty.kind == TypeKind::Unknown
                    || ty.kind == to.kind
                    || cast(ty.kind, to.kind).is_some_and(|cast| cast.context <= context) =>
            {
                return Ok(Ok(Scalar::Const { value: Datum::Null, ty: to }));
            }
            Scalar::Const { value: Datum::Text(text), ty } if ty.kind == TypeKind::Unknown => {
                if to.kind == TypeKind::Unknown {
                    return Ok(Ok(Scalar::Const { value: Datum::Text(text), ty: to }));
                }
                let fail = |error| at(error, position);
                if is_moving(&text, to.kind) {
                    // Its meaning depends on when the plan runs.
                    let text = Scalar::constant(Datum::Text(text), TypeKind::Text);
                    return self.try_coerce(text, to, CastContext::Explicit, position);
                }
                let value = parse_text(&text, Type::new(to.kind), &self.settings.text).map_err(fail)?;
                let value = if to.modifier >= 0 {
                    modifier::coerce(value, to, explicit).map_err(fail)?
                } else {
                    value
                };
                return Ok(Ok(Scalar::Const { value, ty: to }));
            }
            Scalar::Param { index, ty } if ty.kind == TypeKind::Unknown => {
                let ty = Type::new(to.kind);
                let ty = match self.params[index] {
                    // A second use in the same expression: the first one decided.
                    Some(known) if known.kind != TypeKind::Unknown => known,
                    _ => {
                        self.params[index] = Some(ty);
                        ty
                    }
                };
                let param = Scalar::Param { index, ty };
                if ty.kind != to.kind {
                    return self.try_coerce(param, to, context, position);
                }
                return Ok(Ok(self.apply_modifier(param, to, explicit, position)?));
            }
            _ => {}
        }
        if matches!(to.kind, TypeKind::Any | TypeKind::AnyElement | TypeKind::AnyArray) {
            return Ok(Ok(scalar));
        }
        if from.kind == to.kind {
            return Ok(Ok(self.apply_modifier(scalar, to, explicit, position)?));
        }
        let Some(cast) = cast(from.kind, to.kind).filter(|cast| cast.context <= context) else {
            return Ok(Err(from));
        };
        let plain = Type::new(to.kind);
        let scalar = match cast.method {
            CastMethod::Relabel => scalar.retyped(plain),
            CastMethod::Call(function) => self.call(function, vec![scalar], plain, position)?,
        };
        Ok(Ok(self.apply_modifier(scalar, to, explicit, position)?))
    }

    /// Brings a value of the right type to its length or precision.
    fn apply_modifier(
        &mut self,
        scalar: Scalar,
        to: Type,
        explicit: bool,
        position: usize,
    ) -> Result<Scalar> {
        if to.modifier < 0 || scalar.ty() == to {
            return Ok(scalar);
        }
        let Some(function) = length_coercion(to.kind) else { return Ok(scalar.retyped(to)) };
        let args = vec![
            scalar,
            Scalar::constant(Datum::Int4(to.modifier), TypeKind::Int4),
            Scalar::constant(Datum::Bool(explicit), TypeKind::Bool),
        ];
        self.call(function, args, to, position)
    }

    /// A call, folded when it is immutable and its arguments are constants.
    pub(super) fn call(
        &mut self,
        function: &'static Builtin,
        args: Vec<Scalar>,
        ty: Type,
        position: usize,
    ) -> Result<Scalar> {
        let constant = function.volatility == Volatility::Immutable
            && args.iter().all(|arg| matches!(arg, Scalar::Const { .. }));
        if constant {
            let (types, values): (Vec<Type>, Vec<Datum>) = args
                .iter()
                .map(|arg| match arg {
                    Scalar::Const { value, ty } => (*ty, value.clone()),
                    _ => unreachable!("all are constants"),
                })
                .unzip();
            let mut context = EvalContext::constant();
            context.text = self.settings.text.clone();
            // An error is left to the execution: the call may never be reached.
            if let Ok(value) = function.call(&context, &types, &values) {
                return Ok(Scalar::Const { value, ty });
            }
        }
        self.depth_of_call(position)?;
        Ok(Scalar::Call { function, args, ty, position })
    }

    /// The type that several expressions are brought to (UNION, CASE, VALUES and so on).
    pub(super) fn common_type(&self, items: &[(Type, usize)], construct: &str) -> Result<Type> {
        let mut known = items.iter().filter(|(ty, _)| ty.kind != TypeKind::Unknown);
        let Some(&(first, _)) = known.next() else { return Ok(Type::new(TypeKind::Text)) };
        let mut best = first;
        for &(ty, position) in known {
            if ty.kind == best.kind {
                if ty.modifier != best.modifier {
                    best.modifier = -1;
                }
                continue;
            }
            if ty.kind.category() != best.kind.category() {
                return Err(at(
                    SqlError::new(
                        SqlState::DATATYPE_MISMATCH,
                        format!(
                            "{construct} types {} and {} cannot be matched",
                            Type::new(best.kind),
                            Type::new(ty.kind)
                        ),
                    ),
                    position,
                ));
            }
            if !best.kind.is_preferred() && converts(best.kind, ty.kind) && !converts(ty.kind, best.kind)
                || ty.kind.is_preferred() && converts(best.kind, ty.kind)
            {
                best = Type::new(ty.kind);
            } else {
                best.modifier = -1;
            }
        }
        Ok(best)
    }

    /// An operator's call: `operands` has one element for a prefix operator.
    pub(super) fn operator(
        &mut self,
        schema: Option<&str>,
        symbol: &str,
        operands: Vec<(Scalar, usize)>,
        position: usize,
    ) -> Result<Scalar> {
        let given: Vec<TypeKind> = operands.iter().map(|(s, _)| s.ty().kind).collect();
        let builtin = self.find_operator(schema, symbol, &given, position)?;
        self.apply(builtin, operands, position)
    }

    /// Resolves an operator.
    pub(super) fn find_operator(
        &self,
        schema: Option<&str>,
        symbol: &str,
        given: &[TypeKind],
        position: usize,
    ) -> Result<&'static Builtin> {
        let candidates: Vec<&'static Builtin> = if schema.is_none_or(|s| s == "pg_catalog") {
            lookup_operator(symbol).iter().copied().filter(|b| b.args.len() == given.len()).collect()
        } else {
            Vec::new()
        };
        // An unknown operand is first assumed to have the other one's type.
        if let [left, right] = given
            && (*left == TypeKind::Unknown) != (*right == TypeKind::Unknown)
        {
            let known = if *left == TypeKind::Unknown { *right } else { *left };
            let kinds = if known.is_array() { &[known, TypeKind::AnyArray][..] } else { &[known][..] };
            for kind in kinds {
                if let Some(found) = candidates.iter().find(|b| b.args == [*kind, *kind]) {
                    return Ok(found);
                }
            }
        }
        let signatures: Vec<Vec<TypeKind>> = candidates.iter().map(|b| b.args.to_vec()).collect();
        match choose(&signatures, given) {
            Ok(Some(i)) => Ok(candidates[i]),
            outcome => {
                let types: Vec<String> = given.iter().map(|k| Type::new(*k).to_string()).collect();
                let shown = match types.as_slice() {
                    [operand] => format!("{symbol} {operand}"),
                    [left, right] => format!("{left} {symbol} {right}"),
                    _ => unreachable!("operators have one or two operands"),
                };
                Err(at(
                    if outcome.is_err() {
                        SqlError::new(SqlState::AMBIGUOUS_FUNCTION, format!("operator is not unique: {shown}"))
                            .hint("Could not choose a best candidate operator. You might need to add explicit type casts.")
                    } else {
                        SqlError::new(SqlState::UNDEFINED_FUNCTION, format!("operator does not exist: {shown}"))
                            .hint(match types.len() {
                                1 => "No operator matches the given name and argument type. You might need to add an explicit type cast.",
                                _ => "No operator matches the given name and argument types. You might need to add explicit type casts.",
                            })
                    },
                    position,
                ))
            }
        }
    }

    /// Calls a builtin with its arguments converted.
    pub(super) fn apply(
        &mut self,
        builtin: &'static Builtin,
        operands: Vec<(Scalar, usize)>,
        position: usize,
    ) -> Result<Scalar> {
        let given: Vec<TypeKind> = operands.iter().map(|(s, _)| s.ty().kind).collect();
        let declared =
            signature(builtin.args, builtin.variadic, operands.len()).expect("the signature was chosen");
        let element = element_of(&declared, &given);
        let mut args = Vec::with_capacity(operands.len());
        for ((operand, at), to) in operands.into_iter().zip(&declared) {
            let to = concrete(*to, element);
            // `"any"` takes what comes, but no unknown.
            let to = if matches!(to, TypeKind::Any)
                || operand.ty().kind != TypeKind::Unknown
                    && matches!(to, TypeKind::AnyElement | TypeKind::AnyArray)
            {
                operand.ty()
            } else {
                Type::new(to)
            };
            let keep = declared_any(builtin, args.len()) && operand.ty().kind != TypeKind::Unknown;
            let operand = if keep { operand } else { self.coerce(operand, to, CastContext::Implicit, at)? };
            args.push(operand);
        }
        let mut ty = Type::new(concrete(builtin.result, element));
        if ty.kind == TypeKind::Numeric || !builtin.symbol.is_empty() {
            ty.modifier = -1;
        }
        self.call(builtin, args, ty, position)
    }
}

/// Whether a text stands for a moment relative to now.
fn is_moving(text: &str, kind: TypeKind) -> bool {
    let dated = matches!(kind, TypeKind::Date | TypeKind::Timestamp | TypeKind::TimestampTz | TypeKind::Time);
    let words = ["now", "today", "tomorrow", "yesterday"];
    dated
        && text
            .split(|c: char| !c.is_ascii_alphabetic())
            .any(|w| words.iter().any(|n| w.eq_ignore_ascii_case(n)))
}

fn declared_any(builtin: &Builtin, n: usize) -> bool {
    let last = builtin.args.len().saturating_sub(1);
    builtin.args.get(n.min(last)) == Some(&TypeKind::Any)
}
