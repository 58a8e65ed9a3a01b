//! Walking over plans.

use crate::expr::Scalar;
use crate::plan::logical::{Op, Plan, Subquery};

/// The plans directly below.
pub fn inputs(plan: &Plan) -> Vec<&Plan> {
    match &plan.op {
        Op::Values { .. } | Op::Scan { .. } | Op::SystemScan { .. } | Op::FunctionScan { .. } => Vec::new(),
        Op::Filter { input, .. }
        | Op::Project { input, .. }
        | Op::Aggregate { input, .. }
        | Op::Sort { input, .. }
        | Op::Limit { input, .. }
        | Op::Distinct { input, .. }
        | Op::Insert { input, .. }
        | Op::Update { input, .. }
        | Op::Delete { input, .. }
        | Op::LockRows { input, .. } => vec![input],
        Op::Join { left, right, .. }
        | Op::LateralJoin { left, right, .. }
        | Op::SetOp { left, right, .. } => {
            vec![left, right]
        }
        Op::Apply { input, subplan, .. } => vec![input, subplan],
        Op::Append { inputs } => inputs.iter().collect(),
    }
}

/// Calls `visit` for each expression of the plan and all below.
pub fn for_each_scalar(plan: &Plan, visit: &mut impl FnMut(&Scalar)) {
    match &plan.op {
        Op::Values { rows } => rows.iter().flatten().for_each(&mut *visit),
        Op::FunctionScan { args, .. } => args.iter().for_each(&mut *visit),
        Op::Filter { predicates, .. } => predicates.iter().for_each(&mut *visit),
        Op::Project { exprs, .. } => exprs.iter().for_each(&mut *visit),
        Op::Join { on, .. } => on.iter().for_each(&mut *visit),
        Op::LateralJoin { slots, on, .. } => {
            slots.iter().map(|(_, s)| s).chain(on).for_each(&mut *visit);
        }
        Op::Apply { slots, kind, .. } => {
            slots.iter().for_each(|(_, s)| visit(s));
            if let Subquery::Quantified { left, .. } = kind {
                visit(left);
            }
        }
        Op::Aggregate { keys, calls, .. } => {
            keys.iter().for_each(&mut *visit);
            for call in calls {
                call.args.iter().chain(&call.filter).for_each(&mut *visit);
            }
        }
        Op::Sort { keys, .. } => keys.iter().for_each(|k| visit(&k.expr)),
        Op::Limit { limit, offset, .. } => limit.iter().chain(offset).for_each(&mut *visit),
        Op::Distinct { on, .. } => on.iter().for_each(&mut *visit),
        Op::Insert { values, on_conflict, returning, .. } => {
            values.iter().chain(returning.iter().flatten()).for_each(&mut *visit);
            if let Some(conflict) = on_conflict {
                conflict.assignments.iter().map(|a| &a.value).chain(&conflict.filter).for_each(&mut *visit);
            }
        }
        Op::Update { assignments, returning, .. } => {
            assignments.iter().map(|a| &a.value).chain(returning.iter().flatten()).for_each(&mut *visit);
        }
        Op::Delete { returning, .. } => returning.iter().flatten().for_each(&mut *visit),
        Op::Scan { .. }
        | Op::SystemScan { .. }
        | Op::Append { .. }
        | Op::SetOp { .. }
        | Op::LockRows { .. } => {}
    }
    for input in inputs(plan) {
        for_each_scalar(input, visit);
    }
}
