//! From logical to physical operators, by cost.

use super::access::{self, Ordered, OrderedColumn, Ordering, Wish, conjunction, match_index, satisfies};
use super::estimate::{VIEW_ROWS, distinct, selectivity, table_rows};
use crate::expr::Scalar;
use crate::func::{CastMethod, Comparison, cast};
use crate::plan::logical::{self, Plan, Subquery};
use crate::plan::physical::{JoinKind, Node, Op, SortKey};
use crate::plan::{OutputColumn, PlanSettings};
use crate::types::{Datum, Type, TypeKind};

/// Cost of handling a row.
const ROW: f64 = 0.01;
/// Cost of evaluating an expression.
const EXPR: f64 = 0.0025;

/// Builds physical plans.
pub struct Builder<'a> {
    /// Settings.
    pub settings: &'a PlanSettings,
}

impl Builder<'_> {
    /// The physical plan for a logical one.
    pub fn build(&self, plan: Plan, wish: &Wish) -> Ordered {
        let Plan { op, schema } = plan;
        match op {
            logical::Op::Values { rows } => {
                let count = rows.len() as f64;
                unordered(Node { op: Op::Values { rows }, schema, rows: count, cost: count * ROW })
            }
            logical::Op::Scan { table, columns } => {
                access::scan(&table, &columns, &schema, Vec::new(), wish, self.settings)
            }
            logical::Op::SystemScan { view, columns } => self.system(view, columns, schema, Vec::new()),
            logical::Op::FunctionScan { function, args } => {
                let rows = 1000.0;
                unordered(Node { op: Op::FunctionScan { function, args }, schema, rows, cost: rows * ROW })
            }
            logical::Op::Filter { input, predicates } => self.filter(*input, predicates, wish),
            logical::Op::Project { input, exprs } => self.project(*input, exprs, schema, wish),
            logical::Op::Join { kind, left, right, on } => self.join(kind, *left, *right, on, schema),
            logical::Op::LateralJoin { kind, left, right, slots, on } => {
                let left = self.build(*left, &Wish::default());
                let right = self.build(*right, &Wish::default()).node;
                let rows = left.node.rows * right.rows;
                let cost = left.node.cost + left.node.rows.max(1.0) * right.cost;
                let Ordered { node, order, fixed } = left;
                let op = Op::LateralJoin {
                    kind,
                    left: Box::new(node),
                    right: Box::new(right),
                    slots,
                    on: conjunction(on),
                };
                Ordered { node: Node { op, schema, rows, cost }, order, fixed }
            }
            logical::Op::Apply { input, subplan, slots, kind } => {
                let input = self.build(*input, wish);
                let wanted = match kind {
                    Subquery::Exists => Wish { order: Vec::new(), limit: Some(1.0) },
                    _ => Wish::default(),
                };
                let subplan = self.build(*subplan, &wanted).node;
                let runs = if slots.is_empty() { 1.0 } else { input.node.rows.max(1.0) };
                let Ordered { node, order, fixed } = input;
                let (rows, cost) = (node.rows, node.cost + runs * subplan.cost);
                let op =
                    Op::Apply { input: Box::new(node), subplan: Box::new(subplan), slots, kind: kind.into() };
                Ordered { node: Node { op, schema, rows, cost }, order, fixed }
            }
            logical::Op::Aggregate { input, keys, calls } => {
                let input = self.build(*input, &Wish::default()).node;
                let rows = if keys.is_empty() { 1.0 } else { (input.rows / 5.0).max(1.0).min(input.rows) };
                let cost =
                    input.cost + input.rows * (ROW + EXPR * (keys.len() + calls.len()) as f64) + rows * ROW;
                unordered(Node {
                    op: Op::Aggregate { input: Box::new(input), keys, calls },
                    schema,
                    rows,
                    cost,
                })
            }
            logical::Op::Sort { input, keys } => self.sort(*input, keys, schema, wish),
            logical::Op::Limit { input, limit, offset } => {
                let constant = |s: &Option<Scalar>| match s {
                    Some(Scalar::Const { value, .. }) => value.as_i64(),
                    None => Some(0),
                    Some(_) => None,
                };
                let count = limit.as_ref().and_then(|_| constant(&limit));
                let wanted = match (&limit, count, constant(&offset)) {
                    (None, _, _) => None,
                    (Some(_), Some(count), Some(offset)) => {
                        Some((count.max(0).saturating_add(offset.max(0))) as f64)
                    }
                    // An unknown limit is probably small.
                    (Some(_), _, _) => Some(100.0),
                };
                let known = count.is_some() && constant(&offset).is_some();
                let mut below = self.build(*input, &Wish { order: Vec::new(), limit: wanted });
                if let (true, Some(wanted)) = (known, wanted) {
                    limit_below(&mut below.node, wanted as u64);
                }
                let Ordered { node, order, fixed } = below;
                let rows = wanted.map_or(node.rows, |w| w.min(node.rows));
                let fraction = if blocks(&node) { 1.0 } else { (rows / node.rows.max(1.0)).min(1.0) };
                let cost = node.cost * fraction;
                let skips = constant(&offset) != Some(0);
                let limited = |input: Node, schema: Vec<OutputColumn>, cost| {
                    let op = Op::Limit { input: Box::new(input), limit, offset };
                    Node { op, schema, rows, cost }
                };
                let node = match node.op {
                    // Rows that are left out are not evaluated, where that can be told.
                    Op::Project { input, exprs } if !skips && exprs.iter().any(Scalar::is_volatile) => {
                        let below = input.schema.clone();
                        let input = Box::new(limited(*input, below, cost));
                        Node { op: Op::Project { input, exprs }, schema, rows, cost }
                    }
                    op => limited(Node { op, ..node }, schema, cost),
                };
                Ordered { node, order, fixed }
            }
            logical::Op::Distinct { input, on } => {
                let below = self.build(*input, &Wish::default());
                let Ordered { node, order, fixed } = below;
                let rows = (node.rows / 2.0).max(1.0).min(node.rows);
                let cost = node.cost + node.rows * ROW;
                let sorted = !on.is_empty();
                let op = Op::Distinct { input: Box::new(node), on };
                let node = Node { op, schema, rows, cost };
                if sorted { Ordered { node, order, fixed } } else { unordered(node) }
            }
            logical::Op::Append { inputs } => {
                let inputs: Vec<Node> =
                    inputs.into_iter().map(|i| self.build(i, &Wish::default()).node).collect();
                let rows = inputs.iter().map(|i| i.rows).sum();
                let cost = inputs.iter().map(|i| i.cost).sum::<f64>() + rows * EXPR;
                unordered(Node { op: Op::Append { inputs }, schema, rows, cost })
            }
            logical::Op::SetOp { left, right, except, all } => {
                let left = self.build(*left, &Wish::default()).node;
                let right = self.build(*right, &Wish::default()).node;
                let rows = if except { left.rows } else { left.rows.min(right.rows) };
                let cost = left.cost + right.cost + (left.rows + right.rows) * ROW;
                let op = Op::SetOp { left: Box::new(left), right: Box::new(right), except, all };
                unordered(Node { op, schema, rows, cost })
            }
            logical::Op::Insert { table, input, values, on_conflict, returning } => {
                let input = self.build(*input, &Wish::default()).node;
                let (rows, cost) = (input.rows, input.cost + input.rows);
                let input = Box::new(input);
                unordered(Node {
                    op: Op::Insert { table, input, values, on_conflict, returning },
                    schema,
                    rows,
                    cost,
                })
            }
            logical::Op::Update { table, input, assignments, mut returning } => {
                skip_key(&mut returning, table.columns.len());
                let input = self.build(*input, &Wish::default()).node;
                let (rows, cost) = (input.rows, input.cost + input.rows);
                let input = Box::new(input);
                unordered(Node {
                    op: Op::Update { table, input, assignments, returning },
                    schema,
                    rows,
                    cost,
                })
            }
            logical::Op::Delete { table, input, mut returning } => {
                skip_key(&mut returning, table.columns.len());
                let input = self.build(*input, &Wish::default()).node;
                let (rows, cost) = (input.rows, input.cost + input.rows);
                unordered(Node {
                    op: Op::Delete { table, input: Box::new(input), returning },
                    schema,
                    rows,
                    cost,
                })
            }
            logical::Op::LockRows { input, table, key_column, shared } => {
                let Ordered { node, order, fixed } = self.build(*input, wish);
                let (rows, cost) = (node.rows, node.cost + node.rows * ROW);
                let op = Op::LockRows { input: Box::new(node), table, key_column, shared };
                Ordered { node: Node { op, schema, rows, cost }, order, fixed }
            }
        }
    }

    fn system(
        &self,
        view: &'static crate::catalog::system::SystemView,
        columns: Vec<usize>,
        schema: Vec<OutputColumn>,
        predicates: Vec<Scalar>,
    ) -> Ordered {
        let kept: f64 = predicates.iter().map(|p| selectivity(p, &|_| None)).product();
        let op = Op::SystemScan { view, columns, filter: conjunction(predicates) };
        unordered(Node { op, schema, rows: (VIEW_ROWS * kept).max(1.0), cost: VIEW_ROWS * ROW })
    }

    fn filter(&self, input: Plan, predicates: Vec<Scalar>, wish: &Wish) -> Ordered {
        // Constant predicates: true ones vanish, a false one leaves nothing to read.
        let predicates: Vec<Scalar> =
            predicates.into_iter().filter(|p| constant_bool(p) != Some(true)).collect();
        if predicates.is_empty() {
            return self.build(input, wish);
        }
        let schema = input.schema;
        match input.op {
            _ if predicates.iter().any(|p| {
                constant_bool(p) == Some(false) || matches!(p, Scalar::Const { value: Datum::Null, .. })
            }) =>
            {
                unordered(Node { op: Op::Values { rows: Vec::new() }, schema, rows: 0.0, cost: 0.0 })
            }
            logical::Op::Scan { table, columns } => {
                let plain = access::scan(&table, &columns, &schema, predicates.clone(), wish, self.settings);
                match self.in_list(&table, &columns, &schema, predicates) {
                    Some(points) if points.node.cost < plain.node.cost => points,
                    _ => plain,
                }
            }
            logical::Op::SystemScan { view, columns } => self.system(view, columns, schema, predicates),
            op => {
                let Ordered { node, order, fixed } = self.build(Plan { op, schema: schema.clone() }, wish);
                let kept: f64 = predicates.iter().map(|p| selectivity(p, &|_| None)).product();
                let rows = (node.rows * kept).max(1.0);
                let cost = node.cost + node.rows * EXPR * predicates.len() as f64;
                let predicate = conjunction(predicates).expect("there are predicates");
                let op = Op::Filter { input: Box::new(node), predicate };
                Ordered { node: Node { op, schema, rows, cost }, order, fixed }
            }
        }
    }

    /// IN over a key: a lookup for each distinct item.
    fn in_list(
        &self,
        table: &std::sync::Arc<crate::catalog::TableDesc>,
        columns: &[usize],
        schema: &[OutputColumn],
        mut predicates: Vec<Scalar>,
    ) -> Option<Ordered> {
        let (n, output, items, equals) = access::in_list_points(table, columns, &predicates)?;
        predicates.remove(n);
        let ty = Type::new(table.columns[columns[output]].ty.kind);
        let item = OutputColumn { name: "item".into(), ty, source: (0, 0) };
        let count = items.len() as f64;
        let rows = items.into_iter().map(|i| vec![i]).collect();
        let values =
            Node { op: Op::Values { rows }, schema: vec![item.clone()], rows: count, cost: count * ROW };
        let op = Op::Distinct { input: Box::new(values), on: Vec::new() };
        let points = Node { op, schema: vec![item], rows: count, cost: count * 2.0 * ROW };
        let left_column = Scalar::Column { index: 0, ty };
        let mut on: Vec<Scalar> = predicates.into_iter().map(|p| p.shifted(1)).collect();
        let equals = crate::bind::equality(ty.kind).unwrap_or(equals);
        on.push(Scalar::Call {
            function: equals,
            args: vec![left_column, Scalar::Column { index: output + 1, ty }],
            ty: Type::new(TypeKind::Bool),
            position: usize::MAX,
        });
        let scan = Plan {
            op: logical::Op::Scan { table: table.clone(), columns: columns.to_vec() },
            schema: schema.to_vec(),
        };
        let joined = self.lookup(JoinKind::Inner, &points, &scan, &on)?;
        let exprs = schema
            .iter()
            .enumerate()
            .map(|(index, c)| Scalar::Column { index: index + 1, ty: c.ty })
            .collect();
        let (rows, cost) = (joined.rows, joined.cost + joined.rows * EXPR);
        let op = Op::Project { input: Box::new(joined), exprs };
        Some(unordered(Node { op, schema: schema.to_vec(), rows, cost }))
    }

    fn project(&self, input: Plan, exprs: Vec<Scalar>, schema: Vec<OutputColumn>, wish: &Wish) -> Ordered {
        let below = Wish { order: Vec::new(), limit: wish.limit };
        let mut wanted = below;
        for o in &wish.order {
            match exprs.get(o.column) {
                Some(Scalar::Column { index, .. }) => {
                    wanted.order.push(OrderedColumn { column: *index, ..*o })
                }
                _ => break,
            }
        }
        let Ordered { node, order, fixed } = self.build(input, &wanted);
        let output = |column: usize| {
            exprs.iter().position(|e| matches!(e, Scalar::Column { index, .. } if *index == column))
        };
        let order: Ordering =
            order.iter().map_while(|o| Some(OrderedColumn { column: output(o.column)?, ..*o })).collect();
        let fixed = fixed.iter().filter_map(|c| output(*c)).collect();
        // A projection that changes nothing is none; names are the root's to give.
        let same = exprs.len() == node.schema.len()
            && exprs
                .iter()
                .enumerate()
                .all(|(i, e)| matches!(e, Scalar::Column { index, .. } if *index == i));
        if same {
            return Ordered { node: Node { schema, ..node }, order, fixed };
        }
        let node = match narrowed(node, &exprs) {
            Ok(node) => return Ordered { node: Node { schema, ..node }, order, fixed },
            Err(node) => *node,
        };
        if let Op::Values { rows } = &node.op
            && let [row] = rows.as_slice()
            && row.is_empty()
        {
            let op = Op::Values { rows: vec![exprs] };
            return Ordered { node: Node { op, schema, rows: 1.0, cost: ROW }, order, fixed };
        }
        let (rows, cost) = (node.rows, node.cost + node.rows * EXPR * exprs.len() as f64);
        Ordered {
            node: Node { op: Op::Project { input: Box::new(node), exprs }, schema, rows, cost },
            order,
            fixed,
        }
    }

    fn sort(&self, input: Plan, keys: Vec<SortKey>, schema: Vec<OutputColumn>, wish: &Wish) -> Ordered {
        let mut wanted = Ordering::new();
        for key in &keys {
            let Scalar::Column { index, .. } = key.expr else { break };
            wanted.push(OrderedColumn {
                column: index,
                descending: key.descending,
                nulls_first: key.nulls_first,
                not_null: false,
            });
        }
        let complete = wanted.len() == keys.len();
        let below = Wish { order: if complete { wanted.clone() } else { Vec::new() }, limit: wish.limit };
        let Ordered { node, order, fixed } = self.build(input, &below);
        let single = matches!(&node.op, Op::TableScan { access, .. } if access.unique);
        if complete && satisfies(&order, &fixed, &wanted, single) {
            return Ordered { node, order, fixed };
        }
        let rows = node.rows;
        let compared = wish.limit.unwrap_or(rows).min(rows) + 2.0;
        let cost = node.cost + rows * compared.log2() * 0.005 + rows * EXPR;
        let op = Op::Sort { input: Box::new(node), keys, limit: None };
        Ordered { node: Node { op, schema, rows, cost }, order: wanted, fixed }
    }

    fn join(
        &self,
        kind: JoinKind,
        left: Plan,
        right: Plan,
        on: Vec<Scalar>,
        schema: Vec<OutputColumn>,
    ) -> Ordered {
        let width = left.schema.len();
        let left = self.build(left, &Wish::default());
        let lookup = self.lookup(kind, &left.node, &right, &on);
        let right_node = self.build(right, &Wish::default()).node;
        let (l, r) = (&left.node, &right_node);
        let (left_keys, right_keys, residual) = equi_keys(&on, width);
        let matched = join_rows(kind, l.rows, r.rows, &on, left_keys.len());
        let hash_cost = l.cost
            + r.cost
            + r.rows * 2.0 * ROW
            + l.rows * 1.5 * ROW
            + matched * EXPR
            + if self.settings.enable_hashjoin { 0.0 } else { 1e10 };
        let loop_cost = l.cost
            + r.cost
            + l.rows.max(1.0) * r.rows.max(1.0) * (EXPR + EXPR * on.len() as f64)
            + if self.settings.enable_nestloop { 0.0 } else { 1e10 };
        let best_other = if left_keys.is_empty() { loop_cost } else { hash_cost.min(loop_cost) };
        if let Some(mut node) = lookup
            && (node.cost < best_other)
        {
            node.schema = schema;
            return Ordered { node, order: left.order, fixed: left.fixed };
        }
        let Ordered { node: left, order, fixed } = left;
        if !left_keys.is_empty() && hash_cost <= loop_cost {
            let (left, right) = (Box::new(left), Box::new(right_node));
            let op =
                Op::HashJoin { kind, left, right, left_keys, right_keys, residual: conjunction(residual) };
            return unordered(Node { op, schema, rows: matched, cost: hash_cost });
        }
        let op = Op::NestedLoopJoin {
            kind,
            left: Box::new(left),
            right: Box::new(right_node),
            on: conjunction(on),
        };
        let node = Node { op, schema, rows: matched, cost: loop_cost };
        if matches!(kind, JoinKind::Right | JoinKind::Full) {
            unordered(node)
        } else {
            Ordered { node, order, fixed }
        }
    }

    /// A join by looking up an index of the right side for each left row.
    fn lookup(&self, kind: JoinKind, left: &Node, right: &Plan, on: &[Scalar]) -> Option<Node> {
        if !matches!(kind, JoinKind::Inner | JoinKind::Left | JoinKind::Semi | JoinKind::Anti) {
            return None;
        }
        let width = left.schema.len();
        let (scan, own) = match &right.op {
            logical::Op::Filter { input, predicates } => (&**input, predicates.as_slice()),
            _ => (right, &[][..]),
        };
        let logical::Op::Scan { table, columns } = &scan.op else { return None };
        let mut predicates = on.to_vec();
        predicates.extend(own.iter().cloned().map(|p| p.shifted(width)));
        let bound = |s: &Scalar| super::pushdown::within(s, 0, width) && !s.is_volatile();
        let matches =
            (0..table.indexes.len()).map(|i| (i, match_index(table, i, columns, width, &predicates, &bound)));
        let (index, m) = matches
            .filter(|(_, m)| {
                // Some key part must come from the left row.
                m.access.prefix.iter().any(|s| !s.is_row_independent())
            })
            .min_by(|(_, a), (_, b)| a.fraction.total_cmp(&b.fraction))?;
        let residual: Vec<Scalar> = predicates
            .iter()
            .enumerate()
            .filter(|(i, _)| !m.used.contains(i))
            .map(|(_, p)| p.clone())
            .collect();
        let per_row = (table_rows(table) * m.fraction).max(if m.access.unique { 1.0 } else { 0.1 });
        let kept: f64 = residual.iter().map(|p| selectivity(p, &|_| None)).product();
        let rows = match kind {
            JoinKind::Semi | JoinKind::Anti => (left.rows * 0.5).max(1.0),
            JoinKind::Left => (left.rows * per_row * kept).max(left.rows),
            _ => (left.rows * per_row * kept).max(1.0),
        };
        let read = if index == 0 { 0.02 } else { 0.04 };
        let cost = left.cost + left.rows * (0.05 + per_row * (read + EXPR * residual.len() as f64));
        let mut schema = left.schema.clone();
        if !matches!(kind, JoinKind::Semi | JoinKind::Anti) {
            schema.extend(scan.schema.iter().cloned());
        }
        let op = Op::LookupJoin {
            kind,
            left: Box::new(left.clone()),
            table: table.clone(),
            access: m.access,
            columns: columns.clone(),
            residual: conjunction(residual),
        };
        Some(Node { op, schema, rows, cost })
    }
}

/// A scan that yields a projection's columns itself, if its filter reads no others.
fn narrowed(node: Node, exprs: &[Scalar]) -> Result<Node, Box<Node>> {
    let wanted: Option<Vec<usize>> = exprs
        .iter()
        .map(|e| match e {
            Scalar::Column { index, .. } => Some(*index),
            _ => None,
        })
        .collect();
    let (Some(wanted), Op::TableScan { filter, .. }) = (wanted, &node.op) else { return Err(Box::new(node)) };
    let mut fits = wanted.iter().enumerate().all(|(n, i)| !wanted[..n].contains(i));
    if let Some(filter) = filter {
        filter.for_each_column(&mut |i| fits &= wanted.contains(&i));
    }
    if !fits {
        return Err(Box::new(node));
    }
    let Op::TableScan { table, access, columns, mut filter, limit } = node.op else {
        unreachable!("checked above")
    };
    if let Some(filter) = &mut filter {
        filter.map_columns(&mut |i| wanted.iter().position(|w| *w == i).expect("it fits"));
    }
    let columns = wanted.iter().map(|i| columns[*i]).collect();
    Ok(Node { op: Op::TableScan { table, access, columns, filter, limit }, ..node })
}

/// RETURNING reads the changed row and the input's further columns, without the encoded key between
/// them.
fn skip_key(returning: &mut Option<Vec<Scalar>>, key: usize) {
    for expr in returning.iter_mut().flatten() {
        expr.map_columns(&mut |i| if i > key { i - 1 } else { i });
    }
}

fn unordered(node: Node) -> Ordered {
    Ordered { node, order: Vec::new(), fixed: Vec::new() }
}

fn constant_bool(scalar: &Scalar) -> Option<bool> {
    match scalar {
        Scalar::Const { value, .. } => value.as_bool(),
        _ => None,
    }
}

/// Whether a node must read all its input before its first row.
fn blocks(node: &Node) -> bool {
    match &node.op {
        Op::Sort { .. } | Op::Aggregate { .. } | Op::SetOp { .. } => true,
        Op::Project { input, .. } | Op::Filter { input, .. } | Op::LockRows { input, .. } => blocks(input),
        _ => false,
    }
}

/// Tells sorts and scans how many rows are wanted.
fn limit_below(node: &mut Node, wanted: u64) {
    match &mut node.op {
        Op::Sort { limit, .. } => *limit = Some(wanted),
        Op::TableScan { limit, .. } => *limit = Some(wanted),
        Op::Project { input, .. } | Op::LockRows { input, .. } => limit_below(input, wanted),
        _ => {}
    }
}

/// Splits a join's condition over left ++ right into equal keys and the rest.
fn equi_keys(on: &[Scalar], width: usize) -> (Vec<Scalar>, Vec<Scalar>, Vec<Scalar>) {
    let (mut left_keys, mut right_keys, mut residual) = (Vec::new(), Vec::new(), Vec::new());
    for predicate in on {
        match equi_key(predicate, width) {
            Some((left, right)) => {
                left_keys.push(left);
                right_keys.push(right);
            }
            None => residual.push(predicate.clone()),
        }
    }
    (left_keys, right_keys, residual)
}

fn equi_key(predicate: &Scalar, width: usize) -> Option<(Scalar, Scalar)> {
    let Scalar::Call { function, args, .. } = predicate else { return None };
    let [a, b] = args.as_slice() else { return None };
    if function.comparison() != Some(Comparison::Eq) {
        return None;
    }
    let is_left = |s: &Scalar| super::pushdown::within(s, 0, width) && !s.is_row_independent();
    let is_right = |s: &Scalar| super::pushdown::within(s, width, usize::MAX);
    let (left, right) = if is_left(a) && is_right(b) {
        (a.clone(), b.clone())
    } else if is_left(b) && is_right(a) {
        (b.clone(), a.clone())
    } else {
        return None;
    };
    let mut right = right;
    right.map_columns(&mut |i| i - width);
    let (l, r) = (left.ty().kind, right.ty().kind);
    let text = |k: TypeKind| matches!(k, TypeKind::Text | TypeKind::Varchar);
    let oid =
        |k: TypeKind| matches!(k, TypeKind::Oid | TypeKind::Regclass | TypeKind::Regtype | TypeKind::Regproc);
    if l == r {
        return Some((left, right));
    }
    if text(l) && text(r) {
        return Some((left.retyped(Type::new(TypeKind::Text)), right.retyped(Type::new(TypeKind::Text))));
    }
    if oid(l) && oid(r) {
        return Some((left.retyped(Type::new(TypeKind::Oid)), right.retyped(Type::new(TypeKind::Oid))));
    }
    let integer = |k: TypeKind| matches!(k, TypeKind::Int2 | TypeKind::Int4 | TypeKind::Int8);
    if integer(l) && integer(r) {
        return Some((widened(left)?, widened(right)?));
    }
    None
}

/// An integer as int8.
fn widened(scalar: Scalar) -> Option<Scalar> {
    let from = scalar.ty().kind;
    if from == TypeKind::Int8 {
        return Some(scalar);
    }
    match cast(from, TypeKind::Int8)?.method {
        CastMethod::Call(function) => Some(Scalar::Call {
            function,
            args: vec![scalar],
            ty: Type::new(TypeKind::Int8),
            position: usize::MAX,
        }),
        CastMethod::Relabel => None,
    }
}

fn join_rows(kind: JoinKind, left: f64, right: f64, on: &[Scalar], keys: usize) -> f64 {
    let others = on.len().saturating_sub(keys) as i32;
    let mut inner = left * right;
    if keys > 0 {
        // Keys usually refer to the smaller side's key: as many matches as the larger side has rows.
        inner /= left.min(right).max(1.0);
    }
    inner *= (1.0_f64 / 3.0).powi(others);
    match kind {
        JoinKind::Inner => inner.max(1.0),
        JoinKind::Left => inner.max(left),
        JoinKind::Right => inner.max(right),
        JoinKind::Full => inner.max(left).max(right),
        JoinKind::Semi | JoinKind::Anti => (left * 0.5).max(1.0),
    }
}

/// Estimated rows of a logical plan, for the order of joins.
pub fn estimated_rows(plan: &Plan) -> f64 {
    match &plan.op {
        logical::Op::Values { rows } => rows.len() as f64,
        logical::Op::Scan { table, .. } => table_rows(table),
        logical::Op::SystemScan { .. } => VIEW_ROWS,
        logical::Op::FunctionScan { .. } => 1000.0,
        logical::Op::Filter { input, predicates } => {
            let column_distinct = |i: usize| match &input.op {
                logical::Op::Scan { table, columns } => {
                    columns.get(i).filter(|c| **c < table.columns.len()).map(|c| distinct(table, *c))
                }
                _ => None,
            };
            let kept: f64 = predicates.iter().map(|p| selectivity(p, &column_distinct)).product();
            (estimated_rows(input) * kept).max(1.0)
        }
        logical::Op::Aggregate { input, keys, .. } => {
            if keys.is_empty() {
                1.0
            } else {
                (estimated_rows(input) / 5.0).max(1.0)
            }
        }
        logical::Op::Join { kind, left, right, on } => {
            let (keys, _, _) = equi_keys(on, left.schema.len());
            join_rows(*kind, estimated_rows(left), estimated_rows(right), on, keys.len())
        }
        logical::Op::LateralJoin { left, right, .. } => estimated_rows(left) * estimated_rows(right),
        logical::Op::Append { inputs } => inputs.iter().map(estimated_rows).sum(),
        logical::Op::Limit { input, limit: Some(Scalar::Const { value, .. }), .. } => {
            estimated_rows(input).min(value.as_i64().map_or(f64::MAX, |n| n as f64))
        }
        _ => super::walk::inputs(plan).first().map_or(1.0, |input| estimated_rows(input)),
    }
}
