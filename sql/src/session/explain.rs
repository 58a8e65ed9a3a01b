//! EXPLAIN: the plan's lines, with what was measured if it was run.

use crate::exec::Meter;
use crate::optimize;
use crate::plan::{ExplainOptions, QueryPlan};

/// The plan as lines. Meters are numbered as [`optimize::explain`] visits the operators.
pub fn explain(plan: &QueryPlan, options: ExplainOptions, meters: Option<&[Meter]>) -> Vec<String> {
    optimize::explain(&plan.root, options.costs, options.verbose, &|number| match meters {
        None => String::new(),
        Some(meters) => measured(meters.get(number).copied(), options.timing),
    })
}

fn measured(meter: Option<Meter>, timing: bool) -> String {
    let Some(m) = meter.filter(|m| m.loops > 0) else { return " (never executed)".into() };
    let loops = m.loops as f64;
    let millis = |nanos: u64| nanos as f64 / loops / 1e6;
    let rows = (m.rows as f64 / loops).round();
    if timing {
        let (first, all) = (millis(m.first_nanos), millis(m.nanos));
        format!(" (actual time={first:.3}..{all:.3} rows={rows} loops={})", m.loops)
    } else {
        format!(" (actual rows={rows} loops={})", m.loops)
    }
}
