//! Rule: the order of inner joins, greedily by estimated rows.

use std::collections::BTreeSet;

use super::physical::estimated_rows;
use crate::expr::Scalar;
use crate::func::Comparison;
use crate::plan::logical::{Op, Plan};
use crate::plan::physical::JoinKind;

/// Reorders the inner joins of a plan; its output stays.
pub fn reorder(plan: Plan) -> Plan {
    let Plan { op, schema } = plan;
    let op = match op {
        Op::Join { kind: JoinKind::Inner, left, right, on } => {
            return inner(Plan { op: Op::Join { kind: JoinKind::Inner, left, right, on }, schema });
        }
        Op::Join { kind, left, right, on } => Op::Join { kind, left: below(left), right: below(right), on },
        Op::Filter { input, predicates } => Op::Filter { input: below(input), predicates },
        Op::Project { input, exprs } => Op::Project { input: below(input), exprs },
        Op::LateralJoin { kind, left, right, slots, on } => {
            Op::LateralJoin { kind, left: below(left), right: below(right), slots, on }
        }
        Op::Apply { input, subplan, slots, kind } => {
            Op::Apply { input: below(input), subplan: below(subplan), slots, kind }
        }
        Op::Aggregate { input, keys, calls } => Op::Aggregate { input: below(input), keys, calls },
        Op::Sort { input, keys } => Op::Sort { input: below(input), keys },
        Op::Limit { input, limit, offset } => Op::Limit { input: below(input), limit, offset },
        Op::Distinct { input, on } => Op::Distinct { input: below(input), on },
        Op::Append { inputs } => Op::Append { inputs: inputs.into_iter().map(reorder).collect() },
        Op::SetOp { left, right, except, all } => {
            Op::SetOp { left: below(left), right: below(right), except, all }
        }
        Op::Insert { table, input, values, on_conflict, returning } => {
            Op::Insert { table, input: below(input), values, on_conflict, returning }
        }
        Op::Update { table, input, assignments, returning } => {
            Op::Update { table, input: below(input), assignments, returning }
        }
        Op::Delete { table, input, returning } => Op::Delete { table, input: below(input), returning },
        Op::LockRows { input, table, key_column, shared } => {
            Op::LockRows { input: below(input), table, key_column, shared }
        }
        leaf @ (Op::Values { .. } | Op::Scan { .. } | Op::SystemScan { .. } | Op::FunctionScan { .. }) => {
            leaf
        }
    };
    Plan { op, schema }
}

#[expect(clippy::boxed_local, reason = "the inputs of operators are boxed")]
fn below(plan: Box<Plan>) -> Box<Plan> {
    Box::new(reorder(*plan))
}

/// A tree of inner joins taken apart: its inputs with their first columns, and all conditions over
/// the whole row.
#[derive(Default)]
struct Parts {
    leaves: Vec<(Plan, usize)>,
    conditions: Vec<Scalar>,
}

fn collect(plan: Plan, offset: usize, parts: &mut Parts) {
    match plan.op {
        Op::Join { kind: JoinKind::Inner, left, right, on } => {
            let width = left.schema.len();
            parts.conditions.extend(on.into_iter().map(|p| p.shifted(offset)));
            collect(*left, offset, parts);
            collect(*right, offset + width, parts);
        }
        op => parts.leaves.push((reorder(Plan { op, schema: plan.schema }), offset)),
    }
}

fn inner(plan: Plan) -> Plan {
    let schema = plan.schema.clone();
    let mut parts = Parts::default();
    collect(plan, 0, &mut parts);
    let Parts { leaves, mut conditions } = parts;
    let owner = |column: usize| {
        leaves
            .iter()
            .position(|(leaf, offset)| (*offset..offset + leaf.schema.len()).contains(&column))
            .expect("a column belongs to an input")
    };
    let uses = |p: &Scalar| {
        let mut set = BTreeSet::new();
        p.for_each_column(&mut |c| {
            set.insert(owner(c));
        });
        set
    };
    let rows: Vec<f64> = leaves.iter().map(|(leaf, _)| estimated_rows(leaf)).collect();
    let links: Vec<(BTreeSet<usize>, bool)> = conditions.iter().map(|p| (uses(p), is_equality(p))).collect();
    let order = greedy(&rows, &links);
    // Build left-deep in that order.
    let mut widths = Vec::new();
    let mut leaves: Vec<Option<(Plan, usize)>> = leaves.into_iter().map(Some).collect();
    for leaf in leaves.iter().flatten() {
        widths.push((leaf.1, leaf.0.schema.len()));
    }
    let mut position = vec![usize::MAX; schema.len()];
    let mut joined: Option<Plan> = None;
    let mut done = BTreeSet::new();
    let mut used = vec![false; conditions.len()];
    for n in order {
        let (leaf, offset) = leaves[n].take().expect("each input is joined once");
        let start = joined.as_ref().map_or(0, |p| p.schema.len());
        for i in 0..leaf.schema.len() {
            position[offset + i] = start + i;
        }
        done.insert(n);
        let mut on = Vec::new();
        for (i, (set, _)) in links.iter().enumerate() {
            if !used[i] && set.is_subset(&done) && joined.is_some() {
                used[i] = true;
                let mut p = std::mem::replace(&mut conditions[i], Scalar::And(Vec::new()));
                p.map_columns(&mut |c| position[c]);
                on.push(p);
            }
        }
        joined = Some(match joined {
            None => leaf,
            Some(left) => {
                let mut schema = left.schema.clone();
                schema.extend(leaf.schema.iter().cloned());
                let op = Op::Join { kind: JoinKind::Inner, left: Box::new(left), right: Box::new(leaf), on };
                Plan { op, schema }
            }
        });
    }
    let joined = joined.expect("a join has inputs");
    if position.iter().enumerate().all(|(old, new)| old == *new) {
        return joined;
    }
    let exprs = schema
        .iter()
        .zip(&position)
        .map(|(column, index)| Scalar::Column { index: *index, ty: column.ty })
        .collect();
    Plan { op: Op::Project { input: Box::new(joined), exprs }, schema }
}

/// The order: the smallest input first, then always the one that keeps the result smallest, linked
/// ones before others.
fn greedy(rows: &[f64], links: &[(BTreeSet<usize>, bool)]) -> Vec<usize> {
    let mut left: BTreeSet<usize> = (0..rows.len()).collect();
    let first = (0..rows.len()).min_by(|a, b| rows[*a].total_cmp(&rows[*b])).expect("a join has inputs");
    let mut order = vec![first];
    left.remove(&first);
    let mut current = rows[first];
    while !left.is_empty() {
        let done: BTreeSet<usize> = order.iter().copied().collect();
        let result = |n: usize| {
            let mut with = done.clone();
            with.insert(n);
            let linked = links
                .iter()
                .any(|(set, equal)| *equal && set.contains(&n) && set.len() > 1 && set.is_subset(&with));
            if linked {
                (false, current.max(rows[n]).min(current * rows[n]))
            } else {
                (true, current * rows[n])
            }
        };
        let next = left
            .iter()
            .copied()
            .min_by(|a, b| {
                let (a, b) = (result(*a), result(*b));
                a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
            })
            .expect("inputs are left");
        current = result(next).1;
        left.remove(&next);
        order.push(next);
    }
    order
}

fn is_equality(predicate: &Scalar) -> bool {
    matches!(predicate, Scalar::Call { function, .. } if function.comparison() == Some(Comparison::Eq))
}
