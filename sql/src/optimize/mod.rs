//! From logical to physical plans: rules that rewrite, then a choice by cost.
//!
//! In order: [`pushdown`] (with [`semijoin`]), [`prune`], [`join_order`], then [`physical`], which
//! chooses accesses ([`access`]) and methods of joining by the estimates of [`estimate`]. Constants
//! are folded when expressions are bound.

mod access;
mod direct;
mod estimate;
mod explain;
mod join_order;
mod physical;
mod prune;
mod pushdown;
mod semijoin;
mod walk;

pub use direct::direct;
pub use explain::explain;

use crate::plan::PlanSettings;
use crate::plan::logical::Plan;
use crate::plan::physical::Node;

/// Optimizes a plan.
pub fn optimize(plan: Plan, settings: &PlanSettings) -> Node {
    let schema = plan.schema.clone();
    let plan = pushdown::push(plan, Vec::new());
    let all = (0..schema.len()).collect();
    let (plan, _) = prune::exactly(plan, &all);
    let plan = join_order::reorder(plan);
    let mut node = physical::Builder { settings }.build(plan, &access::Wish::default()).node;
    node.schema = schema;
    node
}
