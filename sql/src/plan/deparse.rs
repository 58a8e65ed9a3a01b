//! Expressions as SQL text, as PostgreSQL's `pg_get_expr` and EXPLAIN print them.

use crate::expr::Scalar;
use crate::func::{Builtin, CastMethod, cast, length_coercion};
use crate::types::{Datum, TextContext, Type, TypeKind, text_of};

/// The text of an expression; `column` names columns.
pub fn deparse(scalar: &Scalar, column: &dyn Fn(usize) -> String) -> String {
    let list = |items: &[Scalar]| items.iter().map(|i| deparse(i, column)).collect::<Vec<_>>().join(", ");
    match scalar {
        Scalar::Const { value, ty } => constant(value, *ty),
        Scalar::Column { index, .. } => column(*index),
        Scalar::Param { index, .. } => format!("${}", index + 1),
        Scalar::Outer { slot, .. } => format!("$outer{slot}"),
        Scalar::Call { function, args, ty, .. } => call(function, args, *ty, column),
        Scalar::And(items) | Scalar::Or(items) => {
            let word = if matches!(scalar, Scalar::And(_)) { " AND " } else { " OR " };
            let parts: Vec<String> = items.iter().map(|i| deparse(i, column)).collect();
            format!("({})", parts.join(word))
        }
        Scalar::Not(inner) => match &**inner {
            Scalar::IsNull(operand) => format!("({} IS NOT NULL)", deparse(operand, column)),
            other => format!("(NOT {})", deparse(other, column)),
        },
        Scalar::IsNull(operand) => format!("({} IS NULL)", deparse(operand, column)),
        Scalar::Case { whens, otherwise, .. } => {
            let mut out = String::from("CASE");
            for (condition, result) in whens {
                out += &format!(" WHEN {} THEN {}", deparse(condition, column), deparse(result, column));
            }
            if let Some(otherwise) = otherwise {
                out += &format!(" ELSE {}", deparse(otherwise, column));
            }
            out + " END"
        }
        Scalar::Coalesce { args, .. } => format!("COALESCE({})", list(args)),
        Scalar::Extreme { greatest, args, .. } => {
            format!("{}({})", if *greatest { "GREATEST" } else { "LEAST" }, list(args))
        }
        Scalar::InList { left, items, .. } => {
            format!("({} = ANY (ARRAY[{}]))", deparse(left, column), list(items))
        }
        Scalar::AnyArray { left, operator, array, all } => format!(
            "({} {} {} ({}))",
            deparse(left, column),
            operator.symbol,
            if *all { "ALL" } else { "ANY" },
            deparse(array, column)
        ),
        Scalar::Array { items, ty } => {
            if items.is_empty() {
                format!("ARRAY[]::{ty}")
            } else {
                format!("ARRAY[{}]", list(items))
            }
        }
    }
}

fn constant(value: &Datum, ty: Type) -> String {
    let text = text_of(value, ty, &TextContext::default());
    let Some(text) = text else { return format!("NULL::{ty}") };
    match (value, ty.kind) {
        (Datum::Bool(value), _) => value.to_string(),
        (Datum::Int4(v), TypeKind::Int4) if *v >= 0 => text.to_string(),
        (Datum::Numeric(_), TypeKind::Numeric)
            if ty.modifier < 0 && text.starts_with(|c: char| c.is_ascii_digit()) && text.contains('.') =>
        {
            text.to_string()
        }
        _ => {
            let quoted = text.replace('\'', "''");
            let escape = if quoted.contains('\\') { "E" } else { "" };
            format!(
                "{escape}'{}'::{ty}",
                if escape.is_empty() { quoted } else { quoted.replace('\\', "\\\\") }
            )
        }
    }
}

fn call(function: &'static Builtin, args: &[Scalar], ty: Type, column: &dyn Fn(usize) -> String) -> String {
    let text = |arg: &Scalar| deparse(arg, column);
    match args {
        [left, right] if !function.symbol.is_empty() => {
            return format!("({} {} {})", text(left), function.symbol, text(right));
        }
        [operand] if !function.symbol.is_empty() => {
            return format!("({} {})", function.symbol, text(operand));
        }
        [operand] => {
            let method = cast(operand.ty().kind, ty.kind).map(|c| c.method);
            if matches!(method, Some(CastMethod::Call(b)) if std::ptr::eq(b, function)) {
                return format!("{}::{ty}", parenthesized(operand, text(operand)));
            }
        }
        [operand, Scalar::Const { value: Datum::Int4(_), .. }, _]
            if length_coercion(ty.kind).is_some_and(|b| std::ptr::eq(b, function)) =>
        {
            return format!("{}::{ty}", parenthesized(operand, text(operand)));
        }
        [] => {
            if matches!(
                function.name,
                "current_user"
                    | "session_user"
                    | "current_role"
                    | "current_date"
                    | "current_timestamp"
                    | "localtimestamp"
                    | "current_catalog"
                    | "user"
            ) {
                return function.name.to_ascii_uppercase();
            }
        }
        _ => {}
    }
    let list: Vec<String> = args.iter().map(text).collect();
    format!("{}({})", function.name, list.join(", "))
}

fn parenthesized(operand: &Scalar, text: String) -> String {
    match operand {
        Scalar::Column { .. } | Scalar::Call { .. } if !text.starts_with('(') => format!("({text})"),
        _ => text,
    }
}
