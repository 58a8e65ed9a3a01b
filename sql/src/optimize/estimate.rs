//! Estimates: how many rows a predicate keeps, a key groups into, an operator yields.

use crate::catalog::TableDesc;
use crate::expr::Scalar;
use crate::func::Comparison;
use crate::plan::OutputColumn;
use crate::types::TypeKind;

/// Rows assumed of a table without statistics.
pub const DEFAULT_ROWS: f64 = 1000.0;
/// Rows assumed of a system view.
pub const VIEW_ROWS: f64 = 200.0;

/// Rows of a table.
pub fn table_rows(table: &TableDesc) -> f64 {
    table.stats.as_ref().map_or(DEFAULT_ROWS, |s| s.rows.max(1.0))
}

/// Distinct values of a table's column.
pub fn distinct(table: &TableDesc, column: usize) -> f64 {
    let rows = table_rows(table);
    let stats = table.stats.as_ref().and_then(|s| s.columns.get(column));
    let unique =
        table.indexes.iter().any(|i| i.unique && i.columns.len() == 1 && i.columns[0].column == column);
    match stats {
        _ if unique => rows,
        Some(stats) if stats.distinct < 0.0 => (-stats.distinct * rows).max(1.0),
        Some(stats) if stats.distinct > 0.0 => stats.distinct.min(rows),
        _ => (rows / 5.0).clamp(1.0, 200.0),
    }
}

/// The fraction of rows that a predicate keeps; `column_distinct` tells the distinct values of a
/// column of the row.
pub fn selectivity(predicate: &Scalar, column_distinct: &dyn Fn(usize) -> Option<f64>) -> f64 {
    let equality = |scalar: &Scalar| match scalar {
        Scalar::Column { index, .. } => column_distinct(*index).map(|d| 1.0 / d.max(1.0)),
        _ => None,
    };
    match predicate {
        Scalar::Const { value, .. } => {
            if value.as_bool() == Some(true) {
                1.0
            } else {
                0.0
            }
        }
        Scalar::And(items) => items.iter().map(|p| selectivity(p, column_distinct)).product(),
        Scalar::Or(items) => {
            1.0 - items.iter().map(|p| 1.0 - selectivity(p, column_distinct)).product::<f64>()
        }
        Scalar::Not(inner) => match &**inner {
            Scalar::IsNull(_) => 0.995,
            other => 1.0 - selectivity(other, column_distinct),
        },
        Scalar::IsNull(_) => 0.005,
        Scalar::InList { left, items, .. } => (equality(left).unwrap_or(0.005) * items.len() as f64).min(1.0),
        Scalar::Call { function, args, .. } => match (function.comparison(), args.as_slice()) {
            (Some(Comparison::Eq), [l, r]) => match (equality(l), equality(r)) {
                (Some(a), Some(b)) => a.min(b),
                (Some(a), None) | (None, Some(a)) => a,
                (None, None) => 0.005,
            },
            (Some(Comparison::Ne), [l, r]) => 1.0 - equality(l).or(equality(r)).unwrap_or(0.005),
            (Some(_), _) => 1.0 / 3.0,
            (None, _) if matches!(function.symbol, "~~" | "~~*" | "~" | "~*") => 0.05,
            _ => 1.0 / 3.0,
        },
        _ => 0.5,
    }
}

/// Average bytes of a row.
pub fn width(schema: &[OutputColumn]) -> usize {
    schema
        .iter()
        .map(|column| match column.ty.kind {
            TypeKind::Bool | TypeKind::InternalChar => 1,
            TypeKind::Int2 => 2,
            TypeKind::Int4 | TypeKind::Float4 | TypeKind::Date | TypeKind::Oid => 4,
            TypeKind::Int8
            | TypeKind::Float8
            | TypeKind::Timestamp
            | TypeKind::TimestampTz
            | TypeKind::Time => 8,
            TypeKind::Uuid | TypeKind::Interval => 16,
            TypeKind::Name => 64,
            TypeKind::Bpchar | TypeKind::Varchar if column.ty.modifier > 4 => {
                (column.ty.modifier as usize - 4).min(256)
            }
            _ => 32,
        })
        .sum()
}
