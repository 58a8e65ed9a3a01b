//! EXPLAIN.

use std::fmt::Write as _;

use crate::exec::{Meter, children};
use crate::plan::physical::{Access, ApplyKind, JoinKind, Node, Op};
use crate::plan::{ExplainOptions, QueryPlan};

/// The plan as lines, with what was measured if it was run.
pub fn explain(plan: &QueryPlan, options: ExplainOptions, meters: Option<&[Meter]>) -> Vec<String> {
    let mut printer = Printer { options, meters, number: 0, lines: Vec::new() };
    printer.node(&plan.root, 0);
    printer.lines
}

struct Printer<'a> {
    options: ExplainOptions,
    meters: Option<&'a [Meter]>,
    number: usize,
    lines: Vec<String>,
}

impl Printer<'_> {
    fn node(&mut self, node: &Node, depth: usize) {
        let meter = self.meters.and_then(|m| m.get(self.number)).copied();
        self.number += 1;
        let mut line = match depth {
            0 => String::new(),
            depth => format!("{}->  ", " ".repeat(6 * depth - 4)),
        };
        line.push_str(&title(node));
        if self.options.costs {
            let _ = write!(line, "  (cost={:.2} rows={:.0})", node.cost, node.rows.max(0.0));
        }
        if self.meters.is_some() {
            match meter.filter(|m| m.loops > 0) {
                None => line.push_str(" (never executed)"),
                Some(m) => {
                    let loops = m.loops as f64;
                    let millis = |nanos: u64| nanos as f64 / loops / 1e6;
                    let rows = (m.rows as f64 / loops).round();
                    if self.options.timing {
                        let (first, all) = (millis(m.first_nanos), millis(m.nanos));
                        let _ =
                            write!(line, " (actual time={first:.3}..{all:.3} rows={rows} loops={})", m.loops);
                    } else {
                        let _ = write!(line, " (actual rows={rows} loops={})", m.loops);
                    }
                }
            }
        }
        self.lines.push(line);
        for child in children(node) {
            self.node(child, depth + 1);
        }
    }
}

fn title(node: &Node) -> String {
    match &node.op {
        Op::Values { .. } if node.schema.is_empty() => "Result".into(),
        Op::Values { rows } => format!("Values Scan ({} rows)", rows.len()),
        Op::TableScan { table, access, filter, .. } => {
            let filter = if filter.is_some() { " with filter" } else { "" };
            format!("{}{filter}", scan_title(&table.name, &table.indexes[access.index].name, access))
        }
        Op::SystemScan { view, .. } => format!("System Scan on {}", view.name),
        Op::FunctionScan { function, .. } => format!("Function Scan on {}", function.name),
        Op::Filter { .. } => "Filter".into(),
        Op::Project { .. } => "Project".into(),
        Op::NestedLoopJoin { kind, .. } => join_title("Nested Loop", *kind),
        Op::HashJoin { kind, .. } => join_title("Hash", *kind),
        Op::LookupJoin { kind, table, access, .. } => {
            format!("{} using {}", join_title("Lookup", *kind), index_name(table, access))
        }
        Op::Apply { kind, .. } => match kind {
            ApplyKind::Scalar => "SubPlan (scalar)".into(),
            ApplyKind::Exists => "SubPlan (exists)".into(),
            ApplyKind::Quantified { all, .. } => format!("SubPlan ({})", if *all { "all" } else { "any" }),
            ApplyKind::Array => "SubPlan (array)".into(),
        },
        Op::LateralJoin { kind, .. } => join_title("Lateral", *kind),
        Op::Aggregate { keys, .. } if keys.is_empty() => "Aggregate".into(),
        Op::Aggregate { .. } => "HashAggregate".into(),
        Op::Sort { limit: Some(limit), .. } => format!("Top-N Sort ({limit})"),
        Op::Sort { .. } => "Sort".into(),
        Op::Limit { .. } => "Limit".into(),
        Op::Distinct { .. } => "Unique".into(),
        Op::Append { .. } => "Append".into(),
        Op::SetOp { except: true, .. } => "SetOp Except".into(),
        Op::SetOp { .. } => "SetOp Intersect".into(),
        Op::Insert { table, .. } => format!("Insert on {}", table.name),
        Op::Update { table, .. } => format!("Update on {}", table.name),
        Op::Delete { table, .. } => format!("Delete on {}", table.name),
        Op::LockRows { .. } => "LockRows".into(),
    }
}

fn index_name<'a>(table: &'a crate::catalog::TableDesc, access: &Access) -> &'a str {
    match table.indexes[access.index].name.as_str() {
        "" => &table.name,
        name => name,
    }
}

fn scan_title(table: &str, index: &str, access: &Access) -> String {
    let bounded = !access.prefix.is_empty() || access.lower.is_some() || access.upper.is_some();
    let backward = if access.reverse { " Backward" } else { "" };
    match (access.index, bounded) {
        (0, false) => format!("Seq Scan{backward} on {table}"),
        _ => format!("Index Scan{backward} using {index} on {table}"),
    }
}

fn join_title(method: &str, kind: JoinKind) -> String {
    let word = match kind {
        JoinKind::Inner => return format!("{method} Join").replace("Nested Loop Join", "Nested Loop"),
        JoinKind::Left => "Left",
        JoinKind::Right => "Right",
        JoinKind::Full => "Full",
        JoinKind::Semi => "Semi",
        JoinKind::Anti => "Anti",
    };
    format!("{method} {word} Join")
}
