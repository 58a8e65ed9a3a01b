//! From physical plans to compiled ones.

use std::sync::Arc;

use super::access::AccessPlan;
use super::aggregate::{AggregatePlan, Call};
use super::append::AppendPlan;
use super::apply::{ApplyPlan, Kind};
use super::distinct::DistinctPlan;
use super::filter::{FilterPlan, ProjectPlan};
use super::function_scan::FunctionScanPlan;
use super::hash_join::HashJoinPlan;
use super::limit::LimitPlan;
use super::lock_rows::LockRowsPlan;
use super::lookup_join::LookupJoinPlan;
use super::modify::{Assignments, ConflictPlan, DeletePlan, InsertPlan, UpdatePlan};
use super::nested_loop::{LateralPlan, NestedLoopPlan};
use super::scan::ScanPlan;
use super::set_op::SetOpPlan;
use super::sort::{Key, SortPlan};
use super::system_scan::SystemScanPlan;
use super::values::ValuesPlan;
use super::writer::TableWriter;
use super::{Plan, PlanRef};
use crate::Result;
use crate::catalog::{Oid, TableDesc};
use crate::expr::{Program, Scalar};
use crate::plan::physical::{ApplyKind, Assignment, Node, Op};
use crate::storage::key;
use crate::types::{Datum, TypeKind};

/// Compiles a plan. Nodes are numbered in preorder, subplans after inputs.
pub fn compile(root: &Node) -> Result<PlanRef> {
    Compiler { next: 0 }.node(root)
}

/// The OIDs of the sequences that an expression's `nextval` calls name, where they are constants.
pub fn collect_sequences(scalar: &Scalar, out: &mut Vec<Oid>) {
    if let Scalar::Call { function, args, .. } = scalar
        && function.name == "nextval"
        && let Some(Datum::Oid(sequence)) = args.first().and_then(crate::expr::program::fold)
    {
        out.push(sequence);
    }
    for child in scalar.children() {
        collect_sequences(child, out);
    }
}

fn sequences<'a>(scalars: impl IntoIterator<Item = &'a Scalar>) -> Vec<Oid> {
    let mut out = Vec::new();
    scalars.into_iter().for_each(|s| collect_sequences(s, &mut out));
    out
}

fn program(scalar: &Option<Scalar>) -> Result<Option<Program>> {
    scalar.as_ref().map(Program::compile).transpose()
}

fn shared(scalar: &Option<Scalar>) -> Result<Option<Arc<Program>>> {
    Ok(program(scalar)?.map(Arc::new))
}

fn slots(slots: &[(usize, Scalar)]) -> Result<Vec<(usize, Program)>> {
    slots.iter().map(|(slot, scalar)| Ok((*slot, Program::compile(scalar)?))).collect()
}

fn assignments(assignments: &[Assignment]) -> Result<Assignments> {
    assignments.iter().map(|a| Ok((a.column, Program::compile(&a.value)?))).collect()
}

/// Whether a plan reads a table.
fn reads(node: &Node, table: &TableDesc) -> bool {
    let own = match &node.op {
        Op::TableScan { table: t, .. } | Op::LookupJoin { table: t, .. } => t.id == table.id,
        _ => false,
    };
    own || children(node).into_iter().any(|child| reads(child, table))
}

/// Whether a plan may yield a row of one of its tables more than once, also where no columns of another
/// are left.
fn joins(node: &Node) -> bool {
    let own = matches!(
        node.op,
        Op::LookupJoin { .. } | Op::NestedLoopJoin { .. } | Op::HashJoin { .. } | Op::LateralJoin { .. }
    );
    own || children(node).into_iter().any(joins)
}

/// A node's inputs, in the order of their numbers.
pub fn children(node: &Node) -> Vec<&Node> {
    match &node.op {
        Op::Values { .. } | Op::TableScan { .. } | Op::SystemScan { .. } | Op::FunctionScan { .. } => {
            Vec::new()
        }
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
        Op::LookupJoin { left, .. } => vec![left],
        Op::NestedLoopJoin { left, right, .. }
        | Op::HashJoin { left, right, .. }
        | Op::LateralJoin { left, right, .. }
        | Op::SetOp { left, right, .. } => vec![left, right],
        Op::Apply { input, subplan, .. } => vec![input, subplan],
        Op::Append { inputs } => inputs.iter().collect(),
    }
}

struct Compiler {
    next: usize,
}

impl Compiler {
    fn node(&mut self, node: &Node) -> Result<PlanRef> {
        let number = self.next;
        self.next += 1;
        let kinds: Arc<[TypeKind]> = node.schema.iter().map(|c| c.ty.kind).collect();
        let plan = self.operator(node, &kinds)?;
        Ok(PlanRef { plan, number, kinds })
    }

    fn operator(&mut self, node: &Node, kinds: &Arc<[TypeKind]>) -> Result<Arc<dyn Plan>> {
        Ok(match &node.op {
            Op::Values { rows } => Arc::new(ValuesPlan {
                rows: rows.iter().map(Program::compile_all).collect::<Result<_>>()?,
                kinds: kinds.clone(),
                sequences: sequences(rows.iter().flatten()).into(),
            }),
            Op::TableScan { table, access, columns, filter, limit } => {
                let access = AccessPlan::new(access)?;
                Arc::new(Arc::new(ScanPlan::new(table, access, columns, program(filter)?, *limit)))
            }
            Op::SystemScan { view, columns, filter } => Arc::new(Arc::new(SystemScanPlan {
                view,
                columns: columns.clone(),
                filter: program(filter)?,
            })),
            Op::FunctionScan { function, args } => Arc::new(Arc::new(FunctionScanPlan {
                function,
                args: Program::compile_all(args)?,
                kinds: kinds.clone(),
            })),
            Op::Filter { input, predicate } => Arc::new(FilterPlan {
                input: self.node(input)?,
                predicate: Arc::new(Program::compile(predicate)?),
            }),
            Op::Project { input, exprs } => Arc::new(ProjectPlan {
                input: self.node(input)?,
                exprs: Program::compile_all(exprs)?.into(),
                sequences: sequences(exprs).into(),
            }),
            Op::NestedLoopJoin { kind, left, right, on } => Arc::new(Arc::new(NestedLoopPlan {
                kind: *kind,
                left: self.node(left)?,
                right: self.node(right)?,
                on: program(on)?,
            })),
            Op::HashJoin { kind, left, right, left_keys, right_keys, residual } => {
                Arc::new(Arc::new(HashJoinPlan {
                    kind: *kind,
                    left: self.node(left)?,
                    right: self.node(right)?,
                    left_keys: Program::compile_all(left_keys)?,
                    right_keys: Program::compile_all(right_keys)?,
                    residual: program(residual)?,
                }))
            }
            Op::LookupJoin { kind, left, table, access, columns, residual } => {
                let left = self.node(left)?;
                let access = AccessPlan::new(access)?;
                let residual = program(residual)?;
                Arc::new(Arc::new(LookupJoinPlan::new(*kind, left, table, access, columns, residual)))
            }
            Op::Apply { input, subplan, slots: s, kind } => Arc::new(Arc::new(ApplyPlan {
                input: self.node(input)?,
                subplan: self.node(subplan)?,
                slots: slots(s)?,
                kind: match kind {
                    ApplyKind::Scalar => Kind::Scalar,
                    ApplyKind::Exists => Kind::Exists,
                    ApplyKind::Quantified { left, operator, all } => {
                        Kind::Quantified { left: Program::compile(left)?, operator, all: *all }
                    }
                    ApplyKind::Array => Kind::Array(subplan.schema[0].ty.kind),
                },
                ty: kinds[kinds.len() - 1],
            })),
            Op::LateralJoin { kind, left, right, slots: s, on } => Arc::new(Arc::new(LateralPlan {
                kind: *kind,
                left: self.node(left)?,
                right: self.node(right)?,
                slots: slots(s)?,
                on: program(on)?,
            })),
            Op::Aggregate { input, keys, calls } => {
                let calls = calls
                    .iter()
                    .map(|call| {
                        Ok(Call {
                            function: call.function,
                            args: Program::compile_all(&call.args)?,
                            distinct: call.distinct,
                            filter: program(&call.filter)?,
                            ty: call.ty,
                        })
                    })
                    .collect::<Result<_>>()?;
                let keys = Program::compile_all(keys)?;
                Arc::new(Arc::new(AggregatePlan { input: self.node(input)?, keys, calls }))
            }
            Op::Sort { input, keys, limit } => {
                let keys = keys
                    .iter()
                    .map(|key| {
                        Ok(Key {
                            program: Program::compile(&key.expr)?,
                            descending: key.descending,
                            nulls_first: key.nulls_first,
                        })
                    })
                    .collect::<Result<Vec<_>>>()?;
                Arc::new(SortPlan { input: self.node(input)?, keys: keys.into(), limit: *limit })
            }
            Op::Limit { input, limit, offset } => Arc::new(LimitPlan {
                input: self.node(input)?,
                limit: shared(limit)?,
                offset: shared(offset)?,
            }),
            Op::Distinct { input, on } => {
                Arc::new(DistinctPlan { input: self.node(input)?, on: Program::compile_all(on)?.into() })
            }
            Op::Append { inputs } => Arc::new(AppendPlan {
                inputs: inputs.iter().map(|input| self.node(input)).collect::<Result<_>>()?,
            }),
            Op::SetOp { left, right, except, all } => Arc::new(SetOpPlan {
                left: self.node(left)?,
                right: self.node(right)?,
                except: *except,
                all: *all,
            }),
            Op::Insert { table, input, values, on_conflict, returning } => {
                let on_conflict = on_conflict
                    .as_ref()
                    .map(|c| {
                        Ok::<_, crate::SqlError>(ConflictPlan {
                            index: c.index,
                            assignments: assignments(&c.assignments)?,
                            filter: program(&c.filter)?,
                        })
                    })
                    .transpose()?;
                Arc::new(Arc::new(InsertPlan {
                    writer: TableWriter::new(table.clone()),
                    reads_own_table: reads(input, table),
                    input: self.node(input)?,
                    values: Program::compile_all(values)?,
                    on_conflict,
                    returning: returning.as_ref().map(Program::compile_all).transpose()?,
                    sequences: sequences(values),
                }))
            }
            Op::Update { table, input, assignments: a, returning } => Arc::new(Arc::new(UpdatePlan {
                writer: TableWriter::new(table.clone()),
                may_repeat: joins(input),
                input: self.node(input)?,
                assignments: assignments(a)?,
                returning: returning.as_ref().map(Program::compile_all).transpose()?,
                sequences: sequences(a.iter().map(|a| &a.value)),
            })),
            Op::Delete { table, input, returning } => Arc::new(Arc::new(DeletePlan {
                writer: TableWriter::new(table.clone()),
                may_repeat: joins(input),
                input: self.node(input)?,
                returning: returning.as_ref().map(Program::compile_all).transpose()?,
            })),
            Op::LockRows { input, table, key_column, shared } => Arc::new(LockRowsPlan {
                input: self.node(input)?,
                prefix: key::index_prefix(table.indexes[0].id),
                key_column: *key_column,
                shared: *shared,
            }),
        })
    }
}
