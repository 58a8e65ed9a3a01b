//! Plans shared by the node's sessions.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::Result;
use crate::catalog::{Catalog, TableDesc};
use crate::exec::direct::DirectPlan;
use crate::exec::{PlanRef, compile};
use crate::plan::physical::{Node, Op};
use crate::plan::{Planned, QueryKind, QueryPlan};
use crate::types::Type;

/// How many plans are kept; when there are more, all go (they are quickly made again).
const CAPACITY: usize = 4096;

/// What a plan depends on besides the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PlanKey {
    /// Text or fingerprint.
    pub text: Arc<str>,
    /// Parameter types given (0: none).
    pub types: Vec<u32>,
    /// Search path, role and settings that the planner reads, as one text.
    pub environment: Arc<str>,
}

/// A statement planned and compiled.
pub struct Compiled {
    /// What the planner made of it.
    pub planned: Planned,
    /// A query's executable form.
    pub query: Option<Executable>,
    /// Catalog version it was planned at.
    pub version: u64,
}

/// A compiled query or change of rows.
pub struct Executable {
    /// The plan.
    pub plan: Arc<QueryPlan>,
    /// Operators.
    pub root: PlanRef,
    /// The direct path, where it takes that.
    pub direct: Option<DirectPlan>,
    /// Tables it uses.
    pub tables: Vec<Arc<TableDesc>>,
    /// Whether it writes or locks rows.
    pub writes: bool,
    /// Whether it reads the catalog itself.
    pub reads_catalog: bool,
}

impl Executable {
    /// Compiles a plan.
    pub fn new(plan: &Arc<QueryPlan>) -> Result<Executable> {
        let (mut tables, mut reads_catalog) = (Vec::new(), false);
        collect_tables(&plan.root, &mut tables, &mut reads_catalog);
        Ok(Executable {
            root: compile(&plan.root)?,
            direct: DirectPlan::new(plan)?,
            tables,
            reads_catalog,
            writes: plan.kind != QueryKind::Select || plan.locks_rows,
            plan: plan.clone(),
        })
    }

    /// Whether the first thing that it does to its tables, if there is any, is to lock a row.
    pub fn locks_first(&self) -> bool {
        self.direct.as_ref().is_some_and(|direct| !matches!(direct, DirectPlan::Read(_)))
    }

    /// Whether all tables are still as planned in a catalog.
    pub fn is_current(&self, catalog: &Catalog) -> bool {
        self.tables.iter().all(|t| catalog.get(t.id).is_some_and(|now| now.version == t.version))
    }
}

fn collect_tables(node: &Node, out: &mut Vec<Arc<TableDesc>>, reads_catalog: &mut bool) {
    *reads_catalog |= matches!(&node.op, Op::SystemScan { .. });
    let table = match &node.op {
        Op::TableScan { table, .. }
        | Op::LookupJoin { table, .. }
        | Op::Insert { table, .. }
        | Op::Update { table, .. }
        | Op::Delete { table, .. } => Some(table),
        _ => None,
    };
    if let Some(table) = table
        && !out.iter().any(|t: &Arc<TableDesc>| t.id == table.id)
    {
        out.push(table.clone());
    }
    crate::exec::children(node).into_iter().for_each(|child| collect_tables(child, out, reads_catalog));
}

impl Compiled {
    /// Compiles what was planned at a version of the catalog.
    pub fn new(planned: Planned, version: u64) -> Result<Compiled> {
        let query = match &planned {
            Planned::Query(plan) => Some(Executable::new(plan)?),
            Planned::Utility(_) => None,
        };
        Ok(Compiled { planned, query, version })
    }

    /// Types of the parameters.
    pub fn parameter_types(&self) -> &[Type] {
        match &self.planned {
            Planned::Query(plan) => &plan.parameter_types,
            Planned::Utility(_) => &[],
        }
    }
}

/// The cache.
#[derive(Default)]
pub struct PlanCache {
    plans: Mutex<HashMap<PlanKey, Arc<Compiled>>>,
}

impl PlanCache {
    /// A plan made at this version of the catalog.
    pub fn get(&self, key: &PlanKey, version: u64) -> Option<Arc<Compiled>> {
        self.plans.lock().get(key).filter(|c| c.version == version).cloned()
    }

    /// Keeps a plan.
    pub fn put(&self, key: PlanKey, compiled: Arc<Compiled>) {
        let mut plans = self.plans.lock();
        if plans.len() >= CAPACITY {
            plans.clear();
        }
        plans.insert(key, compiled);
    }
}
