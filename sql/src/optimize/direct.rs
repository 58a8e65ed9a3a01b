//! Which plans are so simple that they need no batch operators.

use crate::plan::Direct;
use crate::plan::physical::{Node, Op};

/// Classifies a plan.
pub fn direct(node: &Node) -> Option<Direct> {
    match &node.op {
        Op::TableScan { .. } => is_point(node, false).then_some(Direct::PointRead),
        Op::Project { input, .. } => is_point(input, false).then_some(Direct::PointRead),
        Op::Update { input, .. } => is_point(input, true).then_some(Direct::UpdateByKey),
        Op::Delete { input, .. } => is_point(input, true).then_some(Direct::DeleteByKey),
        Op::Insert { input, on_conflict: None, .. } => match &input.op {
            Op::Values { rows } => (rows.len() == 1 && rows[0].is_empty()).then_some(Direct::InsertRow),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a node reads one row by all columns of the primary key; `whole`: all columns and the
/// encoded key.
fn is_point(node: &Node, whole: bool) -> bool {
    let Op::TableScan { table, access, columns, .. } = &node.op else { return false };
    let full = columns.len() == table.columns.len() + 1 && columns.iter().enumerate().all(|(i, c)| i == *c);
    access.index == 0 && access.unique && (!whole || full)
}
