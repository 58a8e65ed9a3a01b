//! Rule: which keys of which index a scan visits.

use std::sync::Arc;

use super::estimate::{distinct, selectivity, table_rows, width};
use crate::catalog::{IndexDesc, TableDesc};
use crate::expr::Scalar;
use crate::func::{Builtin, CastMethod, Comparison, cast};
use crate::plan::physical::{Access, Node, Op};
use crate::plan::{OutputColumn, PlanSettings};
use crate::types::{Datum, Type, TypeKind};

/// An order that rows come in: column of the output, descending, NULLs first.
pub type Ordering = Vec<OrderedColumn>;

/// A column of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderedColumn {
    /// Position in the output.
    pub column: usize,
    /// Descending.
    pub descending: bool,
    /// NULLs first.
    pub nulls_first: bool,
    /// It holds no NULLs.
    pub not_null: bool,
}

/// A node with the order of its rows.
#[derive(Clone, Debug)]
pub struct Ordered {
    /// Node.
    pub node: Node,
    /// Order, by leading columns.
    pub order: Ordering,
    /// Columns that have one value only.
    pub fixed: Vec<usize>,
}

/// What the operators above want of a scan.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Order that saves a sort.
    pub order: Ordering,
    /// How many rows suffice.
    pub limit: Option<f64>,
}

/// A predicate `column comparison value`, where the value reads no column of the table.
struct Sargable {
    predicate: usize,
    column: usize,
    comparison: Comparison,
    value: Scalar,
}

/// A comparison with a column on its left side: the column, the comparison, the other side.
fn column_comparison(
    predicate: &Scalar,
    bound: &dyn Fn(&Scalar) -> bool,
    is_column: &dyn Fn(usize) -> bool,
) -> Option<(usize, Comparison, Scalar)> {
    let Scalar::Call { function, args, .. } = predicate else { return None };
    let comparison = function.comparison()?;
    match args.as_slice() {
        [Scalar::Column { index, .. }, value] if is_column(*index) && bound(value) => {
            Some((*index, comparison, value.clone()))
        }
        [value, Scalar::Column { index, .. }] if is_column(*index) && bound(value) => {
            Some((*index, comparison.commuted(), value.clone()))
        }
        _ => None,
    }
}

/// A value in a column's type, if that loses nothing.
fn fit(value: &Scalar, to: Type) -> Option<Scalar> {
    let from = value.ty().kind;
    let plain = Type::new(to.kind);
    let same = |kinds: &[TypeKind]| kinds.contains(&from) && kinds.contains(&to.kind);
    if from == to.kind || same(&[TypeKind::Text, TypeKind::Varchar]) {
        return Some(value.clone().retyped(plain));
    }
    if same(&[TypeKind::Oid, TypeKind::Regclass, TypeKind::Regtype, TypeKind::Regproc]) {
        return Some(value.clone().retyped(plain));
    }
    let integers = [TypeKind::Int2, TypeKind::Int4, TypeKind::Int8];
    if !same(&integers) {
        return None;
    }
    if let Scalar::Const { value, .. } = value {
        let value = value.as_i64()?;
        let value = match to.kind {
            TypeKind::Int2 => Datum::Int2(value.try_into().ok()?),
            TypeKind::Int4 => Datum::Int4(value.try_into().ok()?),
            _ => Datum::Int8(value),
        };
        return Some(Scalar::Const { value, ty: plain });
    }
    let rank = |kind: TypeKind| integers.iter().position(|k| *k == kind);
    if rank(from) > rank(to.kind) {
        return None;
    }
    match cast(from, to.kind)?.method {
        CastMethod::Call(function) => {
            Some(Scalar::Call { function, args: vec![value.clone()], ty: plain, position: usize::MAX })
        }
        CastMethod::Relabel => Some(value.clone().retyped(plain)),
    }
}

/// What an index offers for some predicates.
pub struct Match {
    /// Keys to visit.
    pub access: Access,
    /// Predicates that the access makes superfluous.
    pub used: Vec<usize>,
    /// Fraction of the table's rows visited.
    pub fraction: f64,
}

/// Matches predicates with an index. `columns` are the positions of the scan's output in the table,
/// offset by `offset` in the predicates' row; `bound` tells what is a constant to the scan.
pub fn match_index(
    table: &TableDesc,
    index: usize,
    columns: &[usize],
    offset: usize,
    predicates: &[Scalar],
    bound: &dyn Fn(&Scalar) -> bool,
) -> Match {
    let desc = &table.indexes[index];
    let is_column = |i: usize| {
        i.checked_sub(offset).and_then(|i| columns.get(i)).is_some_and(|c| *c < table.columns.len())
    };
    let sargable: Vec<Sargable> = predicates
        .iter()
        .enumerate()
        .filter_map(|(predicate, p)| {
            let (i, comparison, value) = column_comparison(p, bound, &is_column)?;
            let column = columns[i - offset];
            let value = fit(&value, table.columns[column].ty)?;
            Some(Sargable { predicate, column, comparison, value })
        })
        .collect();
    let mut access =
        Access { index, prefix: Vec::new(), lower: None, upper: None, reverse: false, unique: false };
    let mut used = Vec::new();
    let mut fraction = 1.0;
    for key in &desc.columns {
        let found = sargable.iter().find(|s| s.column == key.column && s.comparison == Comparison::Eq);
        if let Some(s) = found {
            access.prefix.push(s.value.clone());
            used.push(s.predicate);
            fraction /= distinct(table, key.column);
            continue;
        }
        let nullable = !table.columns[key.column].not_null;
        let (mut lower, mut upper) = (None, None);
        for s in sargable.iter().filter(|s| s.column == key.column) {
            let (slot, inclusive) = match s.comparison {
                Comparison::Gt | Comparison::Ge => (&mut lower, s.comparison == Comparison::Ge),
                Comparison::Lt | Comparison::Le => (&mut upper, s.comparison == Comparison::Le),
                _ => continue,
            };
            if slot.is_none() {
                *slot = Some((s.value.clone(), inclusive, s.predicate));
            }
        }
        let both = lower.is_some() && upper.is_some();
        for bound in [&lower, &upper].into_iter().flatten() {
            // A span that is open to one side may hold NULLs: the filter stays.
            if both || !nullable {
                used.push(bound.2);
            }
            fraction *= 1.0 / 3.0;
        }
        if both {
            fraction *= 0.3;
        }
        access.lower = lower.map(|(value, inclusive, _)| (value, inclusive));
        access.upper = upper.map(|(value, inclusive, _)| (value, inclusive));
        break;
    }
    access.unique = desc.unique && access.prefix.len() == desc.columns.len();
    if access.unique {
        fraction = 1.0 / table_rows(table);
    }
    Match { access, used, fraction }
}

/// Whether an index's entries alone hold the columns.
fn covers(table: &TableDesc, index: &IndexDesc, columns: &[usize]) -> bool {
    let primary = &table.indexes[0];
    columns.iter().all(|c| {
        *c == table.columns.len()
            || index.columns.iter().any(|k| k.column == *c)
            || primary.columns.iter().any(|k| k.column == *c)
    })
}

/// The cheapest scan of a table under some predicates over its output.
pub fn scan(
    table: &Arc<TableDesc>,
    columns: &[usize],
    schema: &[OutputColumn],
    predicates: Vec<Scalar>,
    wish: &Wish,
    settings: &PlanSettings,
) -> Ordered {
    let bound = |s: &Scalar| s.is_row_independent() && !s.is_volatile();
    let rows = table_rows(table);
    let column_distinct =
        |i: usize| columns.get(i).filter(|c| **c < table.columns.len()).map(|c| distinct(table, *c));
    let kept = |p: &Scalar| selectivity(p, &column_distinct);
    let total: f64 = predicates.iter().map(kept).product();
    let mut best: Option<(f64, Ordered)> = None;
    for (index, desc) in table.indexes.iter().enumerate() {
        let m = match_index(table, index, columns, 0, &predicates, &bound);
        let keyed = !m.access.prefix.is_empty() || m.access.lower.is_some() || m.access.upper.is_some();
        let full = ordering_of(table, desc, m.access.prefix.len(), columns);
        let fixed = fixed_columns(desc, m.access.prefix.len(), columns);
        let ordered = !wish.order.is_empty() && satisfies(&full, &fixed, &wish.order, m.access.unique);
        let reversed = !wish.order.is_empty()
            && !ordered
            && satisfies(&reverse(&full), &fixed, &wish.order, m.access.unique);
        if index > 0 && !keyed && !ordered && !reversed {
            let scannable = covers(table, desc, columns);
            if !scannable {
                continue;
            }
        }
        let visited = (rows * m.fraction).max(if m.access.unique { 1.0 } else { 1.0_f64.min(rows) });
        let rest: Vec<Scalar> = predicates
            .iter()
            .enumerate()
            .filter(|(i, _)| !m.used.contains(i))
            .map(|(_, p)| p.clone())
            .collect();
        let covering = index == 0 || covers(table, desc, columns);
        let pages = visited * (width(schema).max(16) + 32) as f64 / 8192.0;
        let mut cost = visited * (0.01 + 0.0025 * rest.len() as f64) + pages;
        if keyed {
            cost += 0.3;
        }
        if !covering {
            cost += visited * 1.5;
        }
        let penalty = if keyed { !settings.enable_indexscan } else { !settings.enable_seqscan };
        if penalty {
            cost += 1e10;
        }
        let out = if m.access.unique { 1.0_f64.min(rows) } else { (rows * total).max(1.0) };
        let mut access = m.access;
        access.reverse = reversed;
        let order = if reversed { reverse(&full) } else { full };
        // What the query pays in the end: a sort, or only the rows up to its limit.
        let sorted = wish.order.is_empty() || ordered || reversed;
        let paid = if sorted {
            match wish.limit {
                Some(limit) if out > limit => cost * (limit / out).max(1.0 / visited),
                _ => cost,
            }
        } else {
            cost + out * (out + 2.0).log2() * 0.005 + 0.01
        };
        if best.as_ref().is_some_and(|(known, _)| *known <= paid) {
            continue;
        }
        let filter = conjunction(rest);
        let op =
            Op::TableScan { table: table.clone(), access, columns: columns.to_vec(), filter, limit: None };
        let node = Node { op, schema: schema.to_vec(), rows: out, cost };
        best = Some((paid, Ordered { node, order, fixed }));
    }
    best.expect("a table has a primary index").1
}

/// The order of an index's entries behind a fixed prefix, over a scan's output.
pub fn ordering_of(table: &TableDesc, index: &IndexDesc, prefix: usize, columns: &[usize]) -> Ordering {
    let mut keys: Vec<(usize, bool, bool)> =
        index.columns.iter().skip(prefix).map(|k| (k.column, k.descending, k.nulls_first)).collect();
    if !index.unique {
        // Equal entries come in the order of the primary key.
        for key in &table.indexes[0].columns {
            if !keys.iter().any(|(c, _, _)| *c == key.column) {
                keys.push((key.column, key.descending, key.nulls_first));
            }
        }
    }
    let mut order = Ordering::new();
    for (column, descending, nulls_first) in keys {
        let Some(position) = columns.iter().position(|c| *c == column) else { break };
        let not_null = table.columns[column].not_null;
        order.push(OrderedColumn { column: position, descending, nulls_first, not_null });
    }
    order
}

fn fixed_columns(index: &IndexDesc, prefix: usize, columns: &[usize]) -> Vec<usize> {
    index.columns[..prefix].iter().filter_map(|k| columns.iter().position(|c| *c == k.column)).collect()
}

fn reverse(order: &Ordering) -> Ordering {
    order
        .iter()
        .map(|o| OrderedColumn { descending: !o.descending, nulls_first: !o.nulls_first, ..*o })
        .collect()
}

/// Whether rows in `order` are in the order of `wanted`; `single`: there is one row at most.
pub fn satisfies(order: &Ordering, fixed: &[usize], wanted: &Ordering, single: bool) -> bool {
    if single {
        return true;
    }
    let mut have = order.iter();
    for want in wanted {
        if fixed.contains(&want.column) {
            continue;
        }
        match have.next() {
            Some(o)
                if o.column == want.column
                    && o.descending == want.descending
                    && (o.not_null || o.nulls_first == want.nulls_first) => {}
            _ => return false,
        }
    }
    true
}

/// One expression for several conjuncts.
pub fn conjunction(mut predicates: Vec<Scalar>) -> Option<Scalar> {
    match predicates.len() {
        0 => None,
        1 => predicates.pop(),
        _ => Some(Scalar::And(predicates)),
    }
}

/// IN over a key column, when no other access is keyed: the position of the predicate, and its items
/// in the column's type.
pub fn in_list_points(
    table: &TableDesc,
    columns: &[usize],
    predicates: &[Scalar],
) -> Option<(usize, usize, Vec<Scalar>, &'static Builtin)> {
    for (p, predicate) in predicates.iter().enumerate() {
        let Scalar::InList { left, items, equals } = predicate else { continue };
        let Scalar::Column { index: output, .. } = &**left else { continue };
        let Some(column) = columns.get(*output).copied().filter(|c| *c < table.columns.len()) else {
            continue;
        };
        let keyed = table.indexes.iter().any(|i| i.columns[0].column == column);
        if !keyed || !items.iter().all(|i| i.is_row_independent() && !i.is_volatile()) {
            continue;
        }
        let fitted: Option<Vec<Scalar>> = items.iter().map(|i| fit(i, table.columns[column].ty)).collect();
        if let Some(items) = fitted {
            return Some((p, *output, items, equals));
        }
    }
    None
}
