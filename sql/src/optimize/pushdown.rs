//! Rule: predicates move as close to their tables as they can.

use crate::expr::Scalar;
use crate::plan::logical::{Op, Plan};
use crate::plan::physical::JoinKind;

use super::semijoin;

/// Pushes `predicates` (and all filters within) into the plan.
pub fn push(plan: Plan, predicates: Vec<Scalar>) -> Plan {
    let Plan { op, schema } = plan;
    let with = |op: Op, rest: Vec<Scalar>| Plan { op, schema: schema.clone() }.filter(rest);
    match op {
        Op::Filter { input, predicates: own } => {
            let all = own.into_iter().chain(predicates).collect();
            push(*input, all)
        }
        Op::Project { input, exprs } => {
            let fixed = exprs.iter().any(Scalar::is_volatile);
            let (mut below, above): (Vec<Scalar>, Vec<Scalar>) =
                predicates.into_iter().partition(|p| !fixed && !p.is_volatile());
            below.iter_mut().for_each(|p| p.substitute(&exprs));
            let input = Box::new(push(*input, below));
            with(Op::Project { input, exprs }, above)
        }
        Op::Join { kind, left, right, on } => join(kind, *left, *right, on, predicates, schema),
        Op::LateralJoin { kind, left, right, slots, on } => {
            let width = left.schema.len();
            let (below, above) =
                predicates.into_iter().partition(|p| within(p, 0, width) && !p.is_volatile());
            let left = Box::new(push(*left, below));
            let right = Box::new(push(*right, Vec::new()));
            with(Op::LateralJoin { kind, left, right, slots, on }, above)
        }
        Op::Apply { input, subplan, slots, kind } => {
            let width = input.schema.len();
            let (below, above): (Vec<Scalar>, Vec<Scalar>) =
                predicates.into_iter().partition(|p| within(p, 0, width) && !p.is_volatile());
            match semijoin::convert(*input, *subplan, slots, kind, above, &schema) {
                Ok((plan, above)) => {
                    // The new join takes what went below the Apply, too.
                    let all = below.into_iter().chain(above).collect();
                    push(plan, all)
                }
                Err(parts) => {
                    let (input, subplan, slots, kind, above) = *parts;
                    let input = Box::new(push(input, below));
                    let subplan = Box::new(push(subplan, Vec::new()));
                    with(Op::Apply { input, subplan, slots, kind }, above)
                }
            }
        }
        Op::Aggregate { input, keys, calls } => {
            let (mut below, above): (Vec<Scalar>, Vec<Scalar>) = predicates
                .into_iter()
                .partition(|p| !keys.is_empty() && within(p, 0, keys.len()) && !p.is_volatile());
            below.iter_mut().for_each(|p| p.substitute(&keys));
            let input = Box::new(push(*input, below));
            with(Op::Aggregate { input, keys, calls }, above)
        }
        Op::Sort { input, keys } => {
            let input = Box::new(push(*input, predicates));
            Plan { op: Op::Sort { input, keys }, schema }
        }
        Op::Distinct { input, on } if on.is_empty() => {
            let input = Box::new(push(*input, predicates));
            Plan { op: Op::Distinct { input, on }, schema }
        }
        Op::Distinct { input, on } => {
            let input = Box::new(push(*input, Vec::new()));
            with(Op::Distinct { input, on }, predicates)
        }
        Op::Limit { input, limit, offset } => {
            let input = Box::new(push(*input, Vec::new()));
            with(Op::Limit { input, limit, offset }, predicates)
        }
        Op::Append { inputs } => {
            let inputs = inputs.into_iter().map(|input| push(input, predicates.clone())).collect();
            Plan { op: Op::Append { inputs }, schema }
        }
        Op::SetOp { left, right, except, all } => {
            let left = Box::new(push(*left, Vec::new()));
            let right = Box::new(push(*right, Vec::new()));
            with(Op::SetOp { left, right, except, all }, predicates)
        }
        Op::Insert { table, input, values, on_conflict, returning } => {
            let input = Box::new(push(*input, Vec::new()));
            Plan { op: Op::Insert { table, input, values, on_conflict, returning }, schema }
        }
        Op::Update { table, input, assignments, returning } => {
            let input = Box::new(push(*input, Vec::new()));
            Plan { op: Op::Update { table, input, assignments, returning }, schema }
        }
        Op::Delete { table, input, returning } => {
            let input = Box::new(push(*input, Vec::new()));
            Plan { op: Op::Delete { table, input, returning }, schema }
        }
        Op::LockRows { input, table, key_column, shared } => {
            let input = Box::new(push(*input, Vec::new()));
            with(Op::LockRows { input, table, key_column, shared }, predicates)
        }
        leaf @ (Op::Values { .. } | Op::Scan { .. } | Op::SystemScan { .. } | Op::FunctionScan { .. }) => {
            with(leaf, predicates)
        }
    }
}

fn join(
    mut kind: JoinKind,
    left: Plan,
    right: Plan,
    on: Vec<Scalar>,
    predicates: Vec<Scalar>,
    schema: Vec<crate::plan::OutputColumn>,
) -> Plan {
    let (width, end) = (left.schema.len(), left.schema.len() + right.schema.len());
    // A predicate that NULLs of the right side fail turns an outer join into an inner one.
    if kind == JoinKind::Left && predicates.iter().any(|p| rejects_nulls(p, width, end)) {
        kind = JoinKind::Inner;
    }
    let (mut below_left, mut below_right, mut both, mut above) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let inner = kind == JoinKind::Inner;
    let semi = matches!(kind, JoinKind::Semi | JoinKind::Anti);
    for p in predicates {
        let left_only = within(&p, 0, width);
        match () {
            () if p.is_volatile() => above.push(p),
            () if left_only && (inner || semi || kind == JoinKind::Left) => below_left.push(p),
            () if inner && within(&p, width, end) => below_right.push(p),
            () if inner => both.push(p),
            () => above.push(p),
        }
    }
    for p in on {
        match () {
            () if p.is_volatile() => both.push(p),
            () if within(&p, 0, width) && (inner || matches!(kind, JoinKind::Semi | JoinKind::Right)) => {
                below_left.push(p);
            }
            () if within(&p, width, end) && !matches!(kind, JoinKind::Right | JoinKind::Full) => {
                below_right.push(p)
            }
            () => both.push(p),
        }
    }
    below_right.iter_mut().for_each(|p| p.map_columns(&mut |i| i - width));
    let left = Box::new(push(left, below_left));
    let right = Box::new(push(right, below_right));
    Plan { op: Op::Join { kind, left, right, on: both }, schema }.filter(above)
}

/// Whether an expression reads columns of a span only (and at least one of it, unless the span
/// begins the row).
pub fn within(scalar: &Scalar, start: usize, end: usize) -> bool {
    let mut inside = true;
    let mut count = 0;
    scalar.for_each_column(&mut |i| {
        inside &= (start..end).contains(&i);
        count += 1;
    });
    inside && (count > 0 || start == 0)
}

/// Whether a predicate cannot be true when all columns of a span are NULL.
fn rejects_nulls(predicate: &Scalar, start: usize, end: usize) -> bool {
    match predicate {
        Scalar::Call { .. } | Scalar::Column { .. } => strict_in(predicate, start, end),
        Scalar::Not(inner) => match &**inner {
            Scalar::IsNull(operand) => strict_in(operand, start, end),
            other => strict_in(other, start, end),
        },
        Scalar::InList { left, .. } => strict_in(left, start, end),
        Scalar::And(items) => items.iter().any(|p| rejects_nulls(p, start, end)),
        Scalar::Or(items) => items.iter().all(|p| rejects_nulls(p, start, end)),
        _ => false,
    }
}

/// Whether an expression is NULL when all columns of a span are.
fn strict_in(scalar: &Scalar, start: usize, end: usize) -> bool {
    match scalar {
        Scalar::Column { index, .. } => (start..end).contains(index),
        Scalar::Call { function, args, .. } => {
            function.strict && args.iter().any(|a| strict_in(a, start, end))
        }
        _ => false,
    }
}
