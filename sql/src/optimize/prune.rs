//! Rule: operators yield only the columns that someone above reads.

use std::collections::BTreeSet;

use crate::expr::Scalar;
use crate::plan::OutputColumn;
use crate::plan::logical::{Op, Plan, Subquery};
use crate::plan::physical::JoinKind;

/// Where old columns are in the new plan: `usize::MAX` for those that are gone.
type Map = Vec<usize>;

/// A set of column positions.
type Needed = BTreeSet<usize>;

/// Removes columns that are not `needed`. The new plan may keep more; its order is the old one's.
pub fn prune(plan: Plan, needed: &Needed) -> (Plan, Map) {
    let Plan { op, schema } = plan;
    match op {
        Op::Scan { table, columns } => {
            let (columns, map, schema) = keep(&columns, &schema, needed);
            (Plan { op: Op::Scan { table, columns }, schema }, map)
        }
        Op::SystemScan { view, columns } => {
            let (columns, map, schema) = keep(&columns, &schema, needed);
            (Plan { op: Op::SystemScan { view, columns }, schema }, map)
        }
        Op::Values { rows } => {
            let positions: Vec<usize> = (0..schema.len()).collect();
            let (kept, map, schema) = keep(&positions, &schema, needed);
            let rows = rows.into_iter().map(|row| kept.iter().map(|i| row[*i].clone()).collect()).collect();
            (Plan { op: Op::Values { rows }, schema }, map)
        }
        op @ Op::FunctionScan { .. } => identity(Plan { op, schema }),
        Op::Filter { input, mut predicates } => {
            let mut below = needed.clone();
            predicates.iter().for_each(|p| add(p, &mut below));
            let (input, map) = prune(*input, &below);
            predicates.iter_mut().for_each(|p| remap(p, &map));
            (input.filter(predicates), map)
        }
        Op::Project { input, exprs } => {
            let positions: Vec<usize> = (0..schema.len()).collect();
            let (kept, map, schema) = keep(&positions, &schema, needed);
            let mut exprs: Vec<Scalar> = kept.iter().map(|i| exprs[*i].clone()).collect();
            let mut below = Needed::new();
            exprs.iter().for_each(|e| add(e, &mut below));
            let (input, below) = prune(*input, &below);
            exprs.iter_mut().for_each(|e| remap(e, &below));
            (Plan { op: Op::Project { input: Box::new(input), exprs }, schema }, map)
        }
        Op::Join { kind, left, right, mut on } => {
            let mut below = needed.clone();
            on.iter().for_each(|p| add(p, &mut below));
            let (left, right, both) = prune_sides(*left, *right, &below);
            on.iter_mut().for_each(|p| remap(p, &both));
            let semi = matches!(kind, JoinKind::Semi | JoinKind::Anti);
            let (schema, map) = joined(&left, &right, both, semi);
            let op = Op::Join { kind, left: Box::new(left), right: Box::new(right), on };
            (Plan { op, schema }, map)
        }
        Op::LateralJoin { kind, left, right, mut slots, mut on } => {
            let mut below = needed.clone();
            on.iter().for_each(|p| add(p, &mut below));
            slots.iter().for_each(|(_, s)| add(s, &mut below));
            let (left, right, both) = prune_sides(*left, *right, &below);
            on.iter_mut().for_each(|p| remap(p, &both));
            slots.iter_mut().for_each(|(_, s)| remap(s, &both));
            let (schema, map) = joined(&left, &right, both, false);
            let op = Op::LateralJoin { kind, left: Box::new(left), right: Box::new(right), slots, on };
            (Plan { op, schema }, map)
        }
        Op::Apply { input, subplan, mut slots, mut kind } => {
            let result = input.schema.len();
            let used = needed.contains(&result);
            let mut below: Needed = needed.range(..result).copied().collect();
            if !used && !matches!(kind, Subquery::Scalar) {
                let (plan, mut map) = prune(*input, &below);
                map.push(usize::MAX);
                return (plan, map);
            }
            slots.iter().for_each(|(_, s)| add(s, &mut below));
            if let Subquery::Quantified { left, .. } = &kind {
                add(left, &mut below);
            }
            let (input, mut map) = prune(*input, &below);
            slots.iter_mut().for_each(|(_, s)| remap(s, &map));
            if let Subquery::Quantified { left, .. } = &mut kind {
                remap(left, &map);
            }
            let wanted = if matches!(kind, Subquery::Exists) { Needed::new() } else { Needed::from([0]) };
            let (subplan, _) = exactly(*subplan, &wanted);
            map.push(input.schema.len());
            let mut new = input.schema.clone();
            new.push(schema[result].clone());
            let op = Op::Apply { input: Box::new(input), subplan: Box::new(subplan), slots, kind };
            (Plan { op, schema: new }, map)
        }
        Op::Aggregate { input, mut keys, calls } => {
            let count = keys.len();
            let mut map: Map = (0..count).collect();
            let mut new = schema[..count].to_vec();
            let mut kept = Vec::new();
            for (i, call) in calls.into_iter().enumerate() {
                if needed.contains(&(count + i)) {
                    map.push(new.len());
                    new.push(schema[count + i].clone());
                    kept.push(call);
                } else {
                    map.push(usize::MAX);
                }
            }
            let mut below = Needed::new();
            keys.iter().for_each(|k| add(k, &mut below));
            kept.iter().flat_map(|c| c.args.iter().chain(&c.filter)).for_each(|s| add(s, &mut below));
            let (input, inner) = prune(*input, &below);
            keys.iter_mut().for_each(|k| remap(k, &inner));
            for call in &mut kept {
                call.args.iter_mut().chain(&mut call.filter).for_each(|s| remap(s, &inner));
            }
            (Plan { op: Op::Aggregate { input: Box::new(input), keys, calls: kept }, schema: new }, map)
        }
        Op::Sort { input, mut keys } => {
            let mut below = needed.clone();
            keys.iter().for_each(|k| add(&k.expr, &mut below));
            let (input, map) = prune(*input, &below);
            keys.iter_mut().for_each(|k| remap(&mut k.expr, &map));
            let schema = input.schema.clone();
            (Plan { op: Op::Sort { input: Box::new(input), keys }, schema }, map)
        }
        Op::Limit { input, limit, offset } => {
            let (input, map) = prune(*input, needed);
            let schema = input.schema.clone();
            (Plan { op: Op::Limit { input: Box::new(input), limit, offset }, schema }, map)
        }
        Op::Distinct { input, mut on } => {
            let mut below = needed.clone();
            if on.is_empty() {
                below.extend(0..schema.len());
            }
            on.iter().for_each(|e| add(e, &mut below));
            let (input, map) = if on.is_empty() { exactly(*input, &below) } else { prune(*input, &below) };
            on.iter_mut().for_each(|e| remap(e, &map));
            let schema = input.schema.clone();
            (Plan { op: Op::Distinct { input: Box::new(input), on }, schema }, map)
        }
        Op::Append { inputs } => {
            let inputs: Vec<Plan> = inputs.into_iter().map(|input| exactly(input, needed).0).collect();
            let positions: Vec<usize> = (0..schema.len()).collect();
            let (_, map, schema) = keep(&positions, &schema, needed);
            (Plan { op: Op::Append { inputs }, schema }, map)
        }
        Op::SetOp { left, right, except, all } => {
            let every: Needed = (0..schema.len()).collect();
            let (left, _) = exactly(*left, &every);
            let (right, _) = exactly(*right, &every);
            identity(Plan {
                op: Op::SetOp { left: Box::new(left), right: Box::new(right), except, all },
                schema,
            })
        }
        Op::Insert { table, input, mut values, on_conflict, returning } => {
            let mut below = Needed::new();
            values.iter().for_each(|v| add(v, &mut below));
            let (input, map) = prune(*input, &below);
            values.iter_mut().for_each(|v| remap(v, &map));
            let input = Box::new(input);
            identity(Plan { op: Op::Insert { table, input, values, on_conflict, returning }, schema })
        }
        Op::Update { table, input, mut assignments, mut returning } => {
            let mut below: Needed = (0..=table.columns.len()).collect();
            assignments.iter().for_each(|a| add(&a.value, &mut below));
            returning.iter().flatten().for_each(|e| add(e, &mut below));
            let (input, map) = prune(*input, &below);
            assignments.iter_mut().for_each(|a| remap(&mut a.value, &map));
            returning.iter_mut().flatten().for_each(|e| remap(e, &map));
            let input = Box::new(input);
            identity(Plan { op: Op::Update { table, input, assignments, returning }, schema })
        }
        Op::Delete { table, input, mut returning } => {
            let mut below: Needed = (0..=table.columns.len()).collect();
            returning.iter().flatten().for_each(|e| add(e, &mut below));
            let (input, map) = prune(*input, &below);
            returning.iter_mut().flatten().for_each(|e| remap(e, &map));
            identity(Plan { op: Op::Delete { table, input: Box::new(input), returning }, schema })
        }
        Op::LockRows { input, table, key_column, shared } => {
            let mut below = needed.clone();
            below.insert(key_column);
            let (input, map) = prune(*input, &below);
            let schema = input.schema.clone();
            let key_column = map[key_column];
            (Plan { op: Op::LockRows { input: Box::new(input), table, key_column, shared }, schema }, map)
        }
    }
}

/// Removes all but the needed columns.
pub fn exactly(plan: Plan, needed: &Needed) -> (Plan, Map) {
    let width = plan.schema.len();
    let (plan, map) = prune(plan, needed);
    if plan.schema.len() == needed.len() {
        return (plan, map);
    }
    let mut new: Map = vec![usize::MAX; width];
    let mut exprs = Vec::new();
    let mut schema = Vec::new();
    for old in needed {
        new[*old] = exprs.len();
        let column = &plan.schema[map[*old]];
        exprs.push(Scalar::Column { index: map[*old], ty: column.ty });
        schema.push(column.clone());
    }
    (Plan { op: Op::Project { input: Box::new(plan), exprs }, schema }, new)
}

fn identity(plan: Plan) -> (Plan, Map) {
    let map = (0..plan.schema.len()).collect();
    (plan, map)
}

fn keep(columns: &[usize], schema: &[OutputColumn], needed: &Needed) -> (Vec<usize>, Map, Vec<OutputColumn>) {
    let mut map = vec![usize::MAX; columns.len()];
    let mut kept = Vec::new();
    let mut new = Vec::new();
    for (i, column) in columns.iter().enumerate() {
        if needed.contains(&i) {
            map[i] = kept.len();
            kept.push(*column);
            new.push(schema[i].clone());
        }
    }
    (kept, map, new)
}

fn prune_sides(left: Plan, right: Plan, needed: &Needed) -> (Plan, Plan, Map) {
    let width = left.schema.len();
    let for_left: Needed = needed.range(..width).copied().collect();
    let for_right: Needed = needed.range(width..).map(|i| i - width).collect();
    let (left, mut map) = prune(left, &for_left);
    let (right, right_map) = prune(right, &for_right);
    let offset = left.schema.len();
    map.extend(right_map.into_iter().map(|i| if i == usize::MAX { i } else { i + offset }));
    (left, right, map)
}

fn joined(left: &Plan, right: &Plan, mut map: Map, semi: bool) -> (Vec<OutputColumn>, Map) {
    let mut schema = left.schema.clone();
    if semi {
        let width = schema.len();
        map.iter_mut().for_each(|i| *i = if *i < width { *i } else { usize::MAX });
    } else {
        schema.extend(right.schema.iter().cloned());
    }
    (schema, map)
}

fn add(scalar: &Scalar, needed: &mut Needed) {
    scalar.for_each_column(&mut |i| {
        needed.insert(i);
    });
}

fn remap(scalar: &mut Scalar, map: &Map) {
    scalar.map_columns(&mut |i| {
        let new = map[i];
        assert!(new != usize::MAX, "a column in use was pruned");
        new
    });
}
