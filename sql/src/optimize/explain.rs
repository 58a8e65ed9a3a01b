//! EXPLAIN: a plan as lines, in PostgreSQL's style.

use super::estimate::width;
use crate::expr::Scalar;
use crate::plan::OutputColumn;
use crate::plan::deparse::deparse;
use crate::plan::physical::{Access, ApplyKind, JoinKind, Node, Op, SortKey};

/// The plan's lines. `costs`: with estimates; `verbose`: with output columns. `measured` tells what
/// to add to the line of an operator; they are numbered in the order of the lines.
pub fn explain(node: &Node, costs: bool, verbose: bool, measured: &dyn Fn(usize) -> String) -> Vec<String> {
    let mut printer = Printer { lines: Vec::new(), costs, verbose, measured, number: 0 };
    printer.node(node, 0, true, "");
    printer.lines
}

struct Printer<'a> {
    lines: Vec<String>,
    costs: bool,
    verbose: bool,
    measured: &'a dyn Fn(usize) -> String,
    number: usize,
}

impl Printer<'_> {
    fn node(&mut self, node: &Node, indent: usize, root: bool, prefix: &str) {
        let names = |i: usize| column_name(&node.schema, i);
        let (title, children, details) = describe(node);
        let arrow = if root { "" } else { "->  " };
        let costs = if self.costs {
            format!(
                "  (cost={:.2}..{:.2} rows={:.0} width={})",
                start_cost(node),
                node.cost,
                node.rows.max(if node.rows > 0.0 { 1.0 } else { 0.0 }),
                width(&node.schema)
            )
        } else {
            String::new()
        };
        let measured = (self.measured)(self.number);
        self.number += 1;
        self.lines.push(format!("{}{arrow}{prefix}{title}{costs}{measured}", " ".repeat(indent)));
        let inner = indent + if root { 2 } else { 6 };
        if self.verbose {
            let list: Vec<String> = (0..node.schema.len()).map(names).collect();
            if !list.is_empty() {
                self.lines.push(format!("{}Output: {}", " ".repeat(inner), list.join(", ")));
            }
        }
        for detail in details {
            self.lines.push(format!("{}{detail}", " ".repeat(inner)));
        }
        for (label, child) in children {
            self.node(child, inner, false, label);
        }
    }
}

fn column_name(schema: &[OutputColumn], index: usize) -> String {
    match schema.get(index) {
        Some(column) if !column.name.is_empty() => {
            if crate::parse::needs_quotes(&column.name) && column.name != "?column?" {
                format!("\"{}\"", column.name)
            } else {
                column.name.clone()
            }
        }
        _ => format!("column{}", index + 1),
    }
}

/// What is paid before the first row.
fn start_cost(node: &Node) -> f64 {
    match &node.op {
        Op::Sort { input, .. } => input.cost + (node.cost - input.cost) * 0.9,
        Op::Aggregate { input, .. } => input.cost,
        Op::HashJoin { left, right, .. } => start_cost(left) + right.cost,
        Op::TableScan { access, .. } if !access.prefix.is_empty() => 0.3_f64.min(node.cost),
        Op::Project { input, .. }
        | Op::Filter { input, .. }
        | Op::Limit { input, .. }
        | Op::LockRows { input, .. }
        | Op::Apply { input, .. } => start_cost(input).min(node.cost),
        Op::LookupJoin { left, .. } | Op::NestedLoopJoin { left, .. } => start_cost(left).min(node.cost),
        _ => 0.0,
    }
}

type Described<'n> = (String, Vec<(&'static str, &'n Node)>, Vec<String>);

fn describe(node: &Node) -> Described<'_> {
    let over = |schema: &[OutputColumn], s: &Scalar| {
        let schema = schema.to_vec();
        deparse(s, &move |i| column_name(&schema, i))
    };
    let filter = |label: &str, schema: &[OutputColumn], f: &Option<Scalar>| -> Vec<String> {
        f.iter().map(|f| format!("{label}: {}", over(schema, f))).collect()
    };
    let both =
        |l: &Node, r: &[OutputColumn]| -> Vec<OutputColumn> { l.schema.iter().chain(r).cloned().collect() };
    match &node.op {
        Op::Values { rows } => {
            let title = match rows.as_slice() {
                [] => "Result (no rows)".to_owned(),
                [_] => "Result".to_owned(),
                _ => "Values Scan".to_owned(),
            };
            (title, Vec::new(), Vec::new())
        }
        Op::TableScan { table, access, filter: f, .. } => {
            let index = &table.indexes[access.index];
            let keyed = !access.prefix.is_empty() || access.lower.is_some() || access.upper.is_some();
            let backward = if access.reverse { " Backward" } else { "" };
            let name = if access.index == 0 && !keyed && !access.reverse {
                format!("Seq Scan on {}", table.name)
            } else if index.columns.iter().any(|c| table.columns[c.column].hidden) {
                format!("Seq Scan{backward} on {}", table.name)
            } else {
                format!("Index Scan{backward} using {} on {}", index.name, table.name)
            };
            let mut details = Vec::new();
            if let Some(condition) = index_condition(access, table, &[]) {
                details.push(format!("Index Cond: {condition}"));
            }
            details.extend(filter("Filter", &node.schema, f));
            (name, Vec::new(), details)
        }
        Op::SystemScan { view, filter: f, .. } => {
            (format!("Seq Scan on {}", view.name), Vec::new(), filter("Filter", &node.schema, f))
        }
        Op::FunctionScan { function, .. } => {
            (format!("Function Scan on {}", function.name), Vec::new(), Vec::new())
        }
        Op::Filter { input, predicate } => (
            "Filter".to_owned(),
            vec![("", &**input)],
            vec![format!("Filter: {}", over(&input.schema, predicate))],
        ),
        Op::Project { input, exprs } => {
            let list: Vec<String> = exprs.iter().map(|e| over(&input.schema, e)).collect();
            ("Project".to_owned(), vec![("", &**input)], vec![format!("Expressions: {}", list.join(", "))])
        }
        Op::NestedLoopJoin { kind, left, right, on } => (
            format!("Nested Loop{}", join_word(*kind)),
            vec![("", &**left), ("", &**right)],
            filter("Join Filter", &both(left, &right.schema), on),
        ),
        Op::HashJoin { kind, left, right, left_keys, right_keys, residual } => {
            let pairs: Vec<String> = left_keys
                .iter()
                .zip(right_keys)
                .map(|(l, r)| format!("({} = {})", over(&left.schema, l), over(&right.schema, r)))
                .collect();
            let mut details = vec![format!("Hash Cond: {}", joined_by_and(pairs))];
            details.extend(filter("Join Filter", &both(left, &right.schema), residual));
            (format!("Hash{} Join", join_word(*kind)), vec![("", &**left), ("", &**right)], details)
        }
        Op::LookupJoin { kind, left, table, access, columns, residual } => {
            let index = &table.indexes[access.index];
            let mut details = Vec::new();
            if let Some(condition) = index_condition(access, table, &left.schema) {
                details.push(format!("Index Cond: {condition}"));
            }
            let right: Vec<OutputColumn> = columns
                .iter()
                .map(|c| OutputColumn {
                    name: table.columns.get(*c).map_or_else(String::new, |c| c.name.clone()),
                    ty: crate::types::Type::new(crate::types::TypeKind::Bytea),
                    source: (0, 0),
                })
                .collect();
            details.extend(filter("Join Filter", &both(left, &right), residual));
            let title = format!("Lookup{} Join using {} on {}", join_word(*kind), index.name, table.name);
            (title, vec![("", &**left)], details)
        }
        Op::Apply { input, subplan, kind, .. } => {
            let what = match kind {
                ApplyKind::Scalar => "scalar",
                ApplyKind::Exists => "exists",
                ApplyKind::Quantified { all: false, .. } => "any",
                ApplyKind::Quantified { all: true, .. } => "all",
                ApplyKind::Array => "array",
            };
            (format!("Apply ({what})"), vec![("", &**input), ("SubPlan: ", &**subplan)], Vec::new())
        }
        Op::LateralJoin { kind, left, right, on, .. } => (
            format!("Nested Loop{} (lateral)", join_word(*kind)),
            vec![("", &**left), ("", &**right)],
            filter("Join Filter", &both(left, &right.schema), on),
        ),
        Op::Aggregate { input, keys, .. } => {
            let title = if keys.is_empty() { "Aggregate" } else { "HashAggregate" };
            let list: Vec<String> = keys.iter().map(|k| over(&input.schema, k)).collect();
            let details =
                if keys.is_empty() { Vec::new() } else { vec![format!("Group Key: {}", list.join(", "))] };
            (title.to_owned(), vec![("", &**input)], details)
        }
        Op::Sort { input, keys, limit } => {
            let list: Vec<String> = keys.iter().map(|k| sort_key(k, &over(&input.schema, &k.expr))).collect();
            let title = if limit.is_some() { "Top-N Sort" } else { "Sort" };
            (title.to_owned(), vec![("", &**input)], vec![format!("Sort Key: {}", list.join(", "))])
        }
        Op::Limit { input, .. } => ("Limit".to_owned(), vec![("", &**input)], Vec::new()),
        Op::Distinct { input, on } => {
            let title = if on.is_empty() { "HashAggregate" } else { "Unique" };
            (title.to_owned(), vec![("", &**input)], Vec::new())
        }
        Op::Append { inputs } => ("Append".to_owned(), inputs.iter().map(|i| ("", i)).collect(), Vec::new()),
        Op::SetOp { left, right, except, all } => {
            let word = if *except { "Except" } else { "Intersect" };
            let all = if *all { " All" } else { "" };
            (format!("HashSetOp {word}{all}"), vec![("", &**left), ("", &**right)], Vec::new())
        }
        Op::Insert { table, input, .. } => {
            (format!("Insert on {}", table.name), vec![("", &**input)], Vec::new())
        }
        Op::Update { table, input, .. } => {
            (format!("Update on {}", table.name), vec![("", &**input)], Vec::new())
        }
        Op::Delete { table, input, .. } => {
            (format!("Delete on {}", table.name), vec![("", &**input)], Vec::new())
        }
        Op::LockRows { input, .. } => ("LockRows".to_owned(), vec![("", &**input)], Vec::new()),
    }
}

fn sort_key(key: &SortKey, expr: &str) -> String {
    let direction = if key.descending { " DESC" } else { "" };
    let nulls = match (key.descending, key.nulls_first) {
        (false, true) => " NULLS FIRST",
        (true, false) => " NULLS LAST",
        _ => "",
    };
    format!("{expr}{direction}{nulls}")
}

fn join_word(kind: JoinKind) -> &'static str {
    match kind {
        JoinKind::Inner => "",
        JoinKind::Left => " Left",
        JoinKind::Right => " Right",
        JoinKind::Full => " Full",
        JoinKind::Semi => " Semi",
        JoinKind::Anti => " Anti",
    }
}

fn joined_by_and(parts: Vec<String>) -> String {
    match parts.as_slice() {
        [one] => one.clone(),
        _ => format!("({})", parts.join(" AND ")),
    }
}

fn index_condition(
    access: &Access,
    table: &crate::catalog::TableDesc,
    outer: &[OutputColumn],
) -> Option<String> {
    let index = &table.indexes[access.index];
    let text = |s: &Scalar| deparse(s, &|i| column_name(outer, i));
    let name = |n: usize| table.columns[index.columns[n].column].name.clone();
    let mut parts: Vec<String> =
        access.prefix.iter().enumerate().map(|(n, s)| format!("({} = {})", name(n), text(s))).collect();
    let next = access.prefix.len();
    if let Some((value, inclusive)) = &access.lower {
        parts.push(format!("({} {} {})", name(next), if *inclusive { ">=" } else { ">" }, text(value)));
    }
    if let Some((value, inclusive)) = &access.upper {
        parts.push(format!("({} {} {})", name(next), if *inclusive { "<=" } else { "<" }, text(value)));
    }
    (!parts.is_empty()).then(|| joined_by_and(parts))
}
