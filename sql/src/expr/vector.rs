//! Evaluation of a program over a batch.
//!
//! Every node yields one value for each row asked for (a dense vector); CASE, COALESCE, AND and OR
//! ask their parts only for the rows that need them.

use std::borrow::Cow;
use std::sync::Arc;

use smallvec::SmallVec;

use super::context::EvalContext;
use super::evaluate::{any_array, better, in_set, outer, param, truth};
use super::program::{Call, Node};
use crate::batch::{Batch, Bitmap, Column, Strings, Values};
use crate::func::{Comparison, Kernel};
use crate::types::order::compare_f64;
use crate::types::{Datum, TypeKind, compare};
use crate::{Result, SqlError, SqlState};

/// The rows that are evaluated.
#[derive(Clone, Copy)]
enum Rows<'a> {
    /// The first so many, all of a batch.
    All(usize),
    /// Physical rows.
    Some(&'a [u32]),
}

impl Rows<'_> {
    fn len(self) -> usize {
        match self {
            Rows::All(n) => n,
            Rows::Some(rows) => rows.len(),
        }
    }

    /// Physical row of the `i`th one.
    fn at(self, i: usize) -> u32 {
        match self {
            Rows::All(_) => i as u32,
            Rows::Some(rows) => rows[i],
        }
    }
}

/// A node's values: one each, or the same for all rows.
enum Vector {
    Column(Arc<Column>),
    Const(Datum),
}

impl Vector {
    fn get(&self, i: usize) -> Datum {
        match self {
            Vector::Column(c) => c.get(i),
            Vector::Const(value) => value.clone(),
        }
    }

    fn is_null(&self, i: usize) -> bool {
        match self {
            Vector::Column(c) => c.is_null(i),
            Vector::Const(value) => value.is_null(),
        }
    }

    fn truth(&self, i: usize) -> Option<bool> {
        match self {
            Vector::Const(value) => truth(value),
            Vector::Column(c) => match c.values() {
                Values::Bool(v) => (!c.is_null(i)).then(|| v[i]),
                _ => truth(&c.get(i)),
            },
        }
    }

    fn nulls(&self) -> Option<&Bitmap> {
        match self {
            Vector::Column(c) => c.nulls(),
            Vector::Const(_) => None,
        }
    }

    fn into_column(self, kind: TypeKind, len: usize) -> Arc<Column> {
        match self {
            Vector::Column(c) => c,
            Vector::Const(value) => Arc::new(Column::repeat(kind, &value, len)),
        }
    }
}

pub(super) fn eval(node: &Node, context: &EvalContext, batch: &Batch) -> Result<Arc<Column>> {
    let rows = match &batch.selection {
        Some(rows) => Rows::Some(rows),
        None => Rows::All(batch.rows),
    };
    Ok(evaluate(node, context, batch, rows)?.into_column(kind_of(node), rows.len()))
}

pub(super) fn select(node: &Node, context: &EvalContext, batch: &Batch) -> Result<Vec<u32>> {
    let rows = match &batch.selection {
        Some(rows) => Cow::Borrowed(rows.as_slice()),
        None => Cow::Owned((0..batch.rows as u32).collect()),
    };
    let whole = batch.selection.is_none();
    if let Node::And(items) = node {
        let mut left: Option<Vec<u32>> = None;
        for item in items {
            let next = match &left {
                None if whole => select_one(item, context, batch, Rows::All(batch.rows))?,
                None => select_one(item, context, batch, Rows::Some(&rows))?,
                Some(rows) => select_one(item, context, batch, Rows::Some(rows))?,
            };
            if next.is_empty() {
                return Ok(next);
            }
            left = Some(next);
        }
        return Ok(left.unwrap_or_else(|| rows.into_owned()));
    }
    let rows = if whole { Rows::All(batch.rows) } else { Rows::Some(&rows) };
    select_one(node, context, batch, rows)
}

fn select_one(node: &Node, context: &EvalContext, batch: &Batch, rows: Rows<'_>) -> Result<Vec<u32>> {
    if let Node::And(items) = node {
        let mut left: Vec<u32> = (0..rows.len()).map(|i| rows.at(i)).collect();
        for item in items {
            left = select_one(item, context, batch, Rows::Some(&left))?;
        }
        return Ok(left);
    }
    let values = evaluate(node, context, batch, rows)?;
    let len = rows.len();
    Ok(match &values {
        Vector::Const(value) if truth(value) == Some(true) => (0..len).map(|i| rows.at(i)).collect(),
        Vector::Const(_) => Vec::new(),
        Vector::Column(c) => match (c.values(), c.nulls()) {
            (Values::Bool(v), None) => (0..len).filter(|i| v[*i]).map(|i| rows.at(i)).collect(),
            _ => (0..len).filter(|i| values.truth(*i) == Some(true)).map(|i| rows.at(i)).collect(),
        },
    })
}

/// The type of a node's values.
fn kind_of(node: &Node) -> TypeKind {
    match node {
        Node::Const(_, kind) | Node::Column(_, kind) | Node::Param(_, kind) | Node::Outer(_, kind) => *kind,
        Node::Call(call) => call.kind,
        Node::Case { kind, .. } | Node::Coalesce { kind, .. } | Node::Extreme { kind, .. } => *kind,
        Node::Array { element, .. } => element.array().unwrap_or(TypeKind::TextArray),
        Node::And(_)
        | Node::Or(_)
        | Node::Not(_)
        | Node::IsNull(_)
        | Node::InList(_)
        | Node::InSet { .. }
        | Node::AnyArray(_) => TypeKind::Bool,
    }
}

fn evaluate(node: &Node, context: &EvalContext, batch: &Batch, rows: Rows<'_>) -> Result<Vector> {
    let len = rows.len();
    match node {
        Node::Const(value, _) => Ok(Vector::Const(value.clone())),
        Node::Param(index, _) => param(context, *index).cloned().map(Vector::Const),
        Node::Outer(slot, _) => Ok(Vector::Const(outer(context, *slot).clone())),
        Node::Column(index, _) => {
            let column = &batch.columns[*index];
            Ok(Vector::Column(match rows {
                Rows::All(_) => column.clone(),
                Rows::Some(rows) => Arc::new(column.gather(rows)),
            }))
        }
        Node::Call(call) => call_rows(call, context, batch, rows),
        Node::And(items) => junction(items, false, context, batch, rows),
        Node::Or(items) => junction(items, true, context, batch, rows),
        Node::Not(a) => Ok(match evaluate(a, context, batch, rows)? {
            Vector::Const(value) => Vector::Const(truth(&value).map_or(Datum::Null, |v| Datum::Bool(!v))),
            vector => booleans(len, |i| vector.truth(i).map(|v| !v)),
        }),
        Node::IsNull(a) => {
            let vector = evaluate(a, context, batch, rows)?;
            Ok(booleans(len, |i| Some(vector.is_null(i))))
        }
        Node::Case { whens, otherwise, kind } => {
            let mut parts = Parts::new(len, rows);
            for (condition, result) in whens {
                if parts.open.is_empty() {
                    break;
                }
                let condition = evaluate(condition, context, batch, Rows::Some(&parts.open_rows()))?;
                let matched = parts.take(|i| condition.truth(i) == Some(true));
                parts.fill(matched, |rows| evaluate(result, context, batch, rows))?;
            }
            if let Some(result) = otherwise {
                let rest = parts.take(|_| true);
                parts.fill(rest, |rows| evaluate(result, context, batch, rows))?;
            }
            Ok(parts.assemble(*kind))
        }
        Node::Coalesce { args, kind } => {
            let mut parts = Parts::new(len, rows);
            for arg in args {
                if parts.open.is_empty() {
                    break;
                }
                let vector = evaluate(arg, context, batch, Rows::Some(&parts.open_rows()))?;
                parts.fill_from(vector, |v, i| !v.is_null(i));
            }
            Ok(parts.assemble(*kind))
        }
        Node::Extreme { greatest, args, kind } => {
            let vectors =
                args.iter().map(|a| evaluate(a, context, batch, rows)).collect::<Result<Vec<_>>>()?;
            let mut column = Column::new(*kind, len);
            for i in 0..len {
                let mut best = Datum::Null;
                for vector in &vectors {
                    let value = vector.get(i);
                    if better(&value, &best, *greatest, *kind) {
                        best = value;
                    }
                }
                column.push(&best);
            }
            Ok(Vector::Column(Arc::new(column)))
        }
        Node::InSet { left, items, has_null, kind } => {
            let left = evaluate(left, context, batch, rows)?;
            Ok(booleans(len, |i| truth(&in_set(&left.get(i), items, *has_null, *kind))))
        }
        Node::InList(list) => {
            let left = evaluate(&list.left, context, batch, rows)?;
            let mut state = vec![Some(false); len];
            let mut open: Vec<u32> = (0..len as u32).collect();
            for item in &list.items {
                let physical: Vec<u32> = open.iter().map(|i| rows.at(*i as usize)).collect();
                let item = evaluate(item, context, batch, Rows::Some(&physical))?;
                let mut still = Vec::with_capacity(open.len());
                for (k, i) in open.iter().enumerate() {
                    let at = *i as usize;
                    let equal = list.equals.call(context, &list.types, &[left.get(at), item.get(k)])?;
                    match truth(&equal) {
                        Some(true) => {
                            state[at] = Some(true);
                            continue;
                        }
                        Some(false) => {}
                        None => state[at] = None,
                    }
                    still.push(*i);
                }
                open = still;
            }
            Ok(booleans(len, |i| state[i]))
        }
        Node::AnyArray(any) => {
            let left = evaluate(&any.left, context, batch, rows)?;
            let array = evaluate(&any.array, context, batch, rows)?;
            let mut column = Column::new(TypeKind::Bool, len);
            for i in 0..len {
                column.push(&any_array(any, context, &left.get(i), &array.get(i))?);
            }
            Ok(Vector::Column(Arc::new(column)))
        }
        Node::Array { items, element } => {
            let vectors =
                items.iter().map(|a| evaluate(a, context, batch, rows)).collect::<Result<Vec<_>>>()?;
            let data = (0..len)
                .map(|i| Datum::array(*element, vectors.iter().map(|v| v.get(i)).collect()))
                .collect();
            Ok(Vector::Column(Arc::new(Column::from_values(kind_of(node), Values::Any(data), None))))
        }
    }
}

/// AND (`stop` false) and OR (`stop` true): a part is evaluated for the rows that no earlier part
/// has decided.
fn junction(
    items: &[Node],
    stop: bool,
    context: &EvalContext,
    batch: &Batch,
    rows: Rows<'_>,
) -> Result<Vector> {
    let len = rows.len();
    let mut state = vec![Some(!stop); len];
    let mut open: Option<Vec<u32>> = None;
    for item in items {
        let physical: Option<Vec<u32>> =
            open.as_ref().map(|open| open.iter().map(|i| rows.at(*i as usize)).collect());
        let asked = physical.as_deref().map_or(rows, Rows::Some);
        if asked.len() == 0 {
            break;
        }
        let vector = evaluate(item, context, batch, asked)?;
        let mut still = Vec::with_capacity(asked.len());
        for k in 0..asked.len() {
            let at = open.as_ref().map_or(k, |open| open[k] as usize);
            match vector.truth(k) {
                Some(v) if v == stop => {
                    state[at] = Some(stop);
                    continue;
                }
                Some(_) => {}
                None => state[at] = None,
            }
            still.push(at as u32);
        }
        open = Some(still);
    }
    Ok(booleans(len, |i| state[i]))
}

/// Values of rows that come from several parts.
struct Parts<'a> {
    rows: Rows<'a>,
    /// Positions that have no value yet.
    open: Vec<u32>,
    /// For each position the part and the index in it; `u32::MAX`: NULL.
    origin: Vec<(u32, u32)>,
    parts: Vec<Vector>,
}

impl<'a> Parts<'a> {
    fn new(len: usize, rows: Rows<'a>) -> Parts<'a> {
        Parts { rows, open: (0..len as u32).collect(), origin: vec![(u32::MAX, 0); len], parts: Vec::new() }
    }

    /// Physical rows of the open positions.
    fn open_rows(&self) -> Vec<u32> {
        self.open.iter().map(|i| self.rows.at(*i as usize)).collect()
    }

    /// Takes the open positions that satisfy a predicate over their index among them.
    fn take(&mut self, mut predicate: impl FnMut(usize) -> bool) -> Vec<u32> {
        let mut index = 0;
        let mut taken = Vec::new();
        self.open.retain(|i| {
            let take = predicate(index);
            index += 1;
            if take {
                taken.push(*i);
            }
            !take
        });
        taken
    }

    /// Evaluates a part for positions that were taken.
    fn fill(&mut self, positions: Vec<u32>, part: impl FnOnce(Rows<'_>) -> Result<Vector>) -> Result<()> {
        if positions.is_empty() {
            return Ok(());
        }
        let physical: Vec<u32> = positions.iter().map(|i| self.rows.at(*i as usize)).collect();
        let vector = part(Rows::Some(&physical))?;
        for (k, i) in positions.iter().enumerate() {
            self.origin[*i as usize] = (self.parts.len() as u32, k as u32);
        }
        self.parts.push(vector);
        Ok(())
    }

    /// Takes from a vector over the open positions those that satisfy a predicate.
    fn fill_from(&mut self, vector: Vector, predicate: impl Fn(&Vector, usize) -> bool) {
        let part = self.parts.len() as u32;
        let mut index = 0;
        let origin = &mut self.origin;
        self.open.retain(|i| {
            let take = predicate(&vector, index);
            if take {
                origin[*i as usize] = (part, index as u32);
            }
            index += 1;
            !take
        });
        self.parts.push(vector);
    }

    fn assemble(self, kind: TypeKind) -> Vector {
        let mut column = Column::new(kind, self.origin.len());
        for (part, index) in self.origin {
            match self.parts.get(part as usize) {
                None => column.push_null(),
                Some(Vector::Column(c)) => column.push_from(c, index as usize),
                Some(Vector::Const(value)) => column.push(value),
            }
        }
        Vector::Column(Arc::new(column))
    }
}

fn booleans(len: usize, mut value: impl FnMut(usize) -> Option<bool>) -> Vector {
    let mut column = Column::new(TypeKind::Bool, len);
    for i in 0..len {
        match value(i) {
            Some(v) => column.push_bool(v),
            None => column.push_null(),
        }
    }
    Vector::Column(Arc::new(column))
}

/// What a function may return for all rows of a batch together: as much as PostgreSQL allows one value.
const MOST_BYTES: usize = 1 << 30;

/// Fails where the values of so many rows are too large together.
pub(super) fn check_size(bytes: usize, rows: usize) -> Result<()> {
    if bytes <= MOST_BYTES {
        return Ok(());
    }
    Err(SqlError::new(SqlState::OUT_OF_MEMORY, "out of memory")
        .detail(format!("The values of {rows} rows together are larger than 1 GiB.")))
}

fn call_rows(call: &Call, context: &EvalContext, batch: &Batch, rows: Rows<'_>) -> Result<Vector> {
    let len = rows.len();
    let args = call.args.iter().map(|a| evaluate(a, context, batch, rows)).collect::<Result<Vec<_>>>()?;
    if call.function.strict && args.iter().any(|a| matches!(a, Vector::Const(Datum::Null))) {
        return Ok(Vector::Const(Datum::Null));
    }
    let fast = match (call.function.kernel, args.as_slice()) {
        (Kernel::Compare(comparison), [left, right]) => {
            Some(compare_rows(comparison, left, right, call.function.args[0], len))
        }
        (Kernel::Add | Kernel::Sub | Kernel::Mul, [left, right]) => {
            arithmetic(call, left, right, len).transpose()?
        }
        (Kernel::Widen, [a]) => widen(call.kind, a),
        _ => None,
    };
    if let Some(column) = fast {
        return Ok(Vector::Column(Arc::new(column)));
    }
    let mut column = Column::new(call.kind, len);
    let varies = column.varies();
    let mut bytes = 0;
    for i in 0..len {
        if call.function.strict && args.iter().any(|a| a.is_null(i)) {
            column.push_null();
            continue;
        }
        let values: SmallVec<[Datum; 3]> = args.iter().map(|a| a.get(i)).collect();
        let value = call.function.call(context, &call.types, &values)?;
        if varies {
            bytes += value.heap_size();
            check_size(bytes, i + 1)?;
        }
        column.push(&value);
    }
    Ok(Vector::Column(Arc::new(column)))
}

/// One side of a loop: values for each row, or one for all.
#[derive(Clone, Copy)]
enum Side<'a, T> {
    Each(&'a [T]),
    Same(T),
}

fn zip<A: Copy, B: Copy, R>(len: usize, a: Side<'_, A>, b: Side<'_, B>, f: impl Fn(A, B) -> R) -> Vec<R> {
    match (a, b) {
        (Side::Each(x), Side::Each(y)) => x.iter().zip(y).map(|(p, q)| f(*p, *q)).collect(),
        (Side::Each(x), Side::Same(q)) => x.iter().map(|p| f(*p, q)).collect(),
        (Side::Same(p), Side::Each(y)) => y.iter().map(|q| f(p, *q)).collect(),
        (Side::Same(p), Side::Same(q)) => (0..len).map(|_| f(p, q)).collect(),
    }
}

/// Sides by representation.
enum Typed<'a> {
    I32(Side<'a, i32>),
    I64(Side<'a, i64>),
    F64(Side<'a, f64>),
    Text(TextSide<'a>),
    Other,
}

#[derive(Clone, Copy)]
enum TextSide<'a> {
    Each(&'a Strings),
    Same(&'a [u8]),
}

impl<'a> TextSide<'a> {
    fn get(self, i: usize) -> &'a [u8] {
        match self {
            TextSide::Each(s) => s.get(i),
            TextSide::Same(s) => s,
        }
    }
}

fn typed(vector: &Vector) -> Typed<'_> {
    match vector {
        Vector::Column(c) => match c.values() {
            Values::I32(v) => Typed::I32(Side::Each(v)),
            Values::I64(v) => Typed::I64(Side::Each(v)),
            Values::F64(v) => Typed::F64(Side::Each(v)),
            Values::Text(v) => Typed::Text(TextSide::Each(v)),
            _ => Typed::Other,
        },
        Vector::Const(value) => match value {
            Datum::Int4(v) | Datum::Date(v) => Typed::I32(Side::Same(*v)),
            Datum::Int8(v) | Datum::Time(v) | Datum::Timestamp(v) => Typed::I64(Side::Same(*v)),
            Datum::Float8(v) => Typed::F64(Side::Same(*v)),
            Datum::Text(v) => Typed::Text(TextSide::Same(v.as_bytes())),
            _ => Typed::Other,
        },
    }
}

fn compare_rows(comparison: Comparison, left: &Vector, right: &Vector, kind: TypeKind, len: usize) -> Column {
    // One loop for each comparison, so that the compiler can vectorize it.
    fn ints<A: Copy, B: Copy>(c: Comparison, len: usize, a: Side<'_, A>, b: Side<'_, B>) -> Vec<bool>
    where
        i64: From<A> + From<B>,
    {
        match c {
            Comparison::Eq => zip(len, a, b, |x, y| i64::from(x) == i64::from(y)),
            Comparison::Ne => zip(len, a, b, |x, y| i64::from(x) != i64::from(y)),
            Comparison::Lt => zip(len, a, b, |x, y| i64::from(x) < i64::from(y)),
            Comparison::Le => zip(len, a, b, |x, y| i64::from(x) <= i64::from(y)),
            Comparison::Gt => zip(len, a, b, |x, y| i64::from(x) > i64::from(y)),
            Comparison::Ge => zip(len, a, b, |x, y| i64::from(x) >= i64::from(y)),
        }
    }
    let result = match (typed(left), typed(right)) {
        (Typed::I32(a), Typed::I32(b)) => ints(comparison, len, a, b),
        (Typed::I64(a), Typed::I64(b)) => ints(comparison, len, a, b),
        (Typed::I32(a), Typed::I64(b)) => ints(comparison, len, a, b),
        (Typed::I64(a), Typed::I32(b)) => ints(comparison, len, a, b),
        (Typed::F64(a), Typed::F64(b)) => zip(len, a, b, |x, y| comparison.holds(compare_f64(x, y))),
        (Typed::Text(a), Typed::Text(b)) if kind != TypeKind::Bpchar => {
            (0..len).map(|i| comparison.holds(a.get(i).cmp(b.get(i)))).collect()
        }
        _ => (0..len)
            .map(|i| {
                let (a, b) = (left.get(i), right.get(i));
                !a.is_null() && !b.is_null() && comparison.holds(compare(&a, &b, kind))
            })
            .collect(),
    };
    Column::from_values(TypeKind::Bool, Values::Bool(result), Bitmap::union(left.nulls(), right.nulls()))
}

/// Addition, subtraction, multiplication; `None`: no loop for these types.
fn arithmetic(call: &Call, left: &Vector, right: &Vector, len: usize) -> Option<Result<Column>> {
    let kernel = call.function.kernel;
    let nulls = Bitmap::union(left.nulls(), right.nulls());
    // An overflow counts only where neither side is NULL: the body raises the error.
    let check = |failed: Vec<bool>| -> Result<(), SqlError> {
        let null = |i: usize| nulls.as_ref().is_some_and(|n| n.get(i));
        match (0..len).find(|i| failed[*i] && !null(*i)) {
            None => Ok(()),
            Some(i) => {
                let args = [left.get(i), right.get(i)];
                call.function.call(&EvalContext::constant(), &call.types, &args).map(|_| ())
            }
        }
    };
    macro_rules! integers {
        ($a:ident, $b:ident, $ty:ty, $values:ident) => {{
            let pairs = match kernel {
                Kernel::Add => zip(len, $a, $b, |x, y| <$ty>::from(x).overflowing_add(<$ty>::from(y))),
                Kernel::Sub => zip(len, $a, $b, |x, y| <$ty>::from(x).overflowing_sub(<$ty>::from(y))),
                _ => zip(len, $a, $b, |x, y| <$ty>::from(x).overflowing_mul(<$ty>::from(y))),
            };
            if pairs.iter().any(|p| p.1)
                && let Err(error) = check(pairs.iter().map(|p| p.1).collect())
            {
                return Some(Err(error));
            }
            Values::$values(pairs.into_iter().map(|p| p.0).collect())
        }};
    }
    let values = match (typed(left), typed(right), call.kind) {
        (Typed::I32(a), Typed::I32(b), TypeKind::Int4) => integers!(a, b, i32, I32),
        (Typed::I64(a), Typed::I64(b), TypeKind::Int8) => integers!(a, b, i64, I64),
        (Typed::I32(a), Typed::I64(b), TypeKind::Int8) => integers!(a, b, i64, I64),
        (Typed::I64(a), Typed::I32(b), TypeKind::Int8) => integers!(a, b, i64, I64),
        (Typed::F64(a), Typed::F64(b), TypeKind::Float8) => {
            let v = match kernel {
                Kernel::Add => zip(len, a, b, |x, y| x + y),
                Kernel::Sub => zip(len, a, b, |x, y| x - y),
                _ => zip(len, a, b, |x, y| x * y),
            };
            // Infinity and zero may be errors: the body decides.
            let suspicious = |v: &f64| v.is_infinite() || (kernel == Kernel::Mul && *v == 0.0);
            if v.iter().any(suspicious) {
                for (i, value) in v.iter().enumerate() {
                    if suspicious(value)
                        && let Err(error) = check((0..len).map(|k| k == i).collect())
                    {
                        return Some(Err(error));
                    }
                }
            }
            Values::F64(v)
        }
        _ => return None,
    };
    Some(Ok(Column::from_values(call.kind, values, nulls)))
}

fn widen(kind: TypeKind, a: &Vector) -> Option<Column> {
    let Vector::Column(c) = a else { return None };
    let values = match (c.values(), kind) {
        (Values::I16(v), TypeKind::Int4) => Values::I32(v.iter().map(|x| (*x).into()).collect()),
        (Values::I16(v), TypeKind::Int8) => Values::I64(v.iter().map(|x| (*x).into()).collect()),
        (Values::I32(v), TypeKind::Int8) => Values::I64(v.iter().map(|x| (*x).into()).collect()),
        (Values::I16(v), TypeKind::Float8) => Values::F64(v.iter().map(|x| (*x).into()).collect()),
        (Values::I32(v), TypeKind::Float8) => Values::F64(v.iter().map(|x| (*x).into()).collect()),
        (Values::I64(v), TypeKind::Float8) => Values::F64(v.iter().map(|x| *x as f64).collect()),
        _ => return None,
    };
    Some(Column::from_values(kind, values, c.nulls().cloned()))
}
