//! Rule: EXISTS and IN as whole predicates become semi-joins, NOT EXISTS an anti-join.
//!
//! NOT IN stays an `Apply`: a NULL among the subquery's rows makes it NULL, which no join does.

use crate::expr::Scalar;
use crate::plan::OutputColumn;
use crate::plan::logical::{Op, Plan, Subquery};
use crate::plan::physical::JoinKind;
use crate::types::{Datum, Type, TypeKind};

type Slots = Vec<(usize, Scalar)>;
type Parts = (Plan, Plan, Slots, Subquery, Vec<Scalar>);

/// Makes a join of an `Apply` of which `predicates` use the result; gives everything back when that
/// is not possible. `schema` is the Apply's; the new plan has it, too.
pub fn convert(
    input: Plan,
    subplan: Plan,
    slots: Slots,
    kind: Subquery,
    mut predicates: Vec<Scalar>,
    schema: &[OutputColumn],
) -> Result<(Plan, Vec<Scalar>), Box<Parts>> {
    let result = input.schema.len();
    let is = |s: &Scalar| matches!(s, Scalar::Column { index, .. } if *index == result);
    let found = predicates.iter().position(|p| match p {
        Scalar::Not(inner) => is(inner),
        p => is(p),
    });
    let Some(n) = found else { return Err(Box::new((input, subplan, slots, kind, predicates))) };
    let negated = matches!(predicates[n], Scalar::Not(_));
    let join = match (&kind, negated) {
        (Subquery::Exists, false) | (Subquery::Quantified { all: false, .. }, false) => JoinKind::Semi,
        (Subquery::Exists, true) => JoinKind::Anti,
        _ => return Err(Box::new((input, subplan, slots, kind, predicates))),
    };
    let Some((right, on)) = decorrelate(&subplan, &slots, &kind, result) else {
        return Err(Box::new((input, subplan, slots, kind, predicates)));
    };
    predicates.remove(n);
    let below = input.schema.clone();
    let mut exprs: Vec<Scalar> =
        below.iter().enumerate().map(|(index, c)| Scalar::Column { index, ty: c.ty }).collect();
    exprs.push(Scalar::constant(Datum::Bool(!negated), TypeKind::Bool));
    let op = Op::Join { kind: join, left: Box::new(input), right: Box::new(right), on };
    let joined = Plan { op, schema: below };
    let plan = Plan { op: Op::Project { input: Box::new(joined), exprs }, schema: schema.to_vec() };
    Ok((plan, predicates))
}

/// The subplan without its references to the outer row, which become a join's condition over outer
/// row ++ subplan's row.
fn decorrelate(subplan: &Plan, slots: &Slots, kind: &Subquery, width: usize) -> Option<(Plan, Vec<Scalar>)> {
    let (mut plan, value) = match &subplan.op {
        Op::Project { input, exprs } => (&**input, exprs.first().cloned()),
        _ => (subplan, subplan.schema.first().map(|c| Scalar::Column { index: 0, ty: c.ty })),
    };
    // The order of the subquery's rows does not matter.
    if let Op::Sort { input, .. } = &plan.op {
        plan = input;
    }
    let (source, predicates) = match &plan.op {
        Op::Filter { input, predicates } => (&**input, predicates.clone()),
        _ => (plan, Vec::new()),
    };
    let mine = |s: &Scalar| {
        s.any(&mut |s| matches!(s, Scalar::Outer { slot, .. } if slots.iter().any(|(n, _)| n == slot)))
    };
    let volatile = |s: &Scalar| s.is_volatile();
    if uses_slots(source, slots) || predicates.iter().any(volatile) || value.as_ref().is_some_and(volatile) {
        return None;
    }
    let (correlated, plain): (Vec<Scalar>, Vec<Scalar>) = predicates.into_iter().partition(|p| mine(p));
    let over_both = |mut s: Scalar| {
        s.map_columns(&mut |i| i + width);
        replace_slots(&mut s, slots);
        s
    };
    let mut on: Vec<Scalar> = correlated.into_iter().map(over_both).collect();
    if let Subquery::Quantified { left, operator, .. } = kind {
        on.push(Scalar::Call {
            function: operator,
            args: vec![left.clone(), over_both(value?)],
            ty: Type::new(TypeKind::Bool),
            position: usize::MAX,
        });
    }
    Some((source.clone().filter(plain), on))
}

fn replace_slots(scalar: &mut Scalar, slots: &Slots) {
    if let Scalar::Outer { slot, ty } = scalar
        && let Some((_, value)) = slots.iter().find(|(n, _)| n == slot)
    {
        *scalar = value.clone().retyped(*ty);
        return;
    }
    for child in scalar.children_mut() {
        replace_slots(child, slots);
    }
}

/// Whether a plan reads any of the slots.
pub fn uses_slots(plan: &Plan, slots: &[(usize, Scalar)]) -> bool {
    let mut found = false;
    super::walk::for_each_scalar(plan, &mut |s| {
        found |=
            s.any(&mut |s| matches!(s, Scalar::Outer { slot, .. } if slots.iter().any(|(n, _)| n == slot)));
    });
    found
}
