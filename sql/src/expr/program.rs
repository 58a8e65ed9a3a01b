//! Compiled expressions.
//!
//! [`Program::compile`] checks the depth once, folds constants and prepares lists for searching; the
//! result is immutable and shared by all executions of a plan. It evaluates one row
//! ([`Program::eval_row`], the direct path) or a batch ([`Program::eval`]); both call the same
//! builtins, and both evaluate only what SQL's CASE, COALESCE, AND and OR let them.

use std::borrow::Cow;
use std::sync::Arc;

use super::context::EvalContext;
use super::{Scalar, evaluate, vector};
use crate::batch::{Batch, Column};
use crate::func::{Builtin, Kernel, Volatility};
use crate::types::{Datum, Type, TypeKind, compare};
use crate::{Result, SqlError, SqlState};

/// Deepest nesting that is compiled: evaluation recurses, and stacks are finite.
pub const MAX_DEPTH: usize = 400;

/// A compiled expression.
#[derive(Debug)]
pub struct Program {
    root: Node,
    ty: Type,
    /// Calls of volatile functions in it.
    volatile_calls: usize,
}

/// A node of the compiled tree.
#[derive(Debug)]
pub(super) enum Node {
    Const(Datum, TypeKind),
    Column(usize, TypeKind),
    Param(usize, TypeKind),
    Outer(usize, TypeKind),
    Call(Box<Call>),
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    IsNull(Box<Node>),
    Case {
        whens: Vec<(Node, Node)>,
        otherwise: Option<Box<Node>>,
        kind: TypeKind,
    },
    Coalesce {
        args: Vec<Node>,
        kind: TypeKind,
    },
    Extreme {
        greatest: bool,
        args: Vec<Node>,
        kind: TypeKind,
    },
    InList(Box<InList>),
    /// IN over constants: sorted and without NULLs.
    InSet {
        left: Box<Node>,
        items: Vec<Datum>,
        has_null: bool,
        kind: TypeKind,
    },
    AnyArray(Box<AnyArray>),
    Array {
        items: Vec<Node>,
        element: TypeKind,
    },
}

#[derive(Debug)]
pub(super) struct Call {
    pub function: &'static Builtin,
    pub args: Vec<Node>,
    /// Types of the arguments.
    pub types: Vec<Type>,
    /// Type of the result.
    pub kind: TypeKind,
}

#[derive(Debug)]
pub(super) struct InList {
    pub left: Node,
    pub items: Vec<Node>,
    pub equals: &'static Builtin,
    pub types: [Type; 2],
}

#[derive(Debug)]
pub(super) struct AnyArray {
    pub left: Node,
    pub array: Node,
    pub operator: &'static Builtin,
    pub types: [Type; 2],
    pub all: bool,
}

impl Program {
    /// Compiles an expression.
    pub fn compile(scalar: &Scalar) -> Result<Program> {
        let context = EvalContext::constant();
        let root = compile(scalar, 0, &context)?;
        Ok(Program { volatile_calls: scalar.volatile_calls(), root, ty: scalar.ty() })
    }

    /// Compiles several.
    pub fn compile_all<'a>(scalars: impl IntoIterator<Item = &'a Scalar>) -> Result<Vec<Program>> {
        scalars.into_iter().map(Program::compile).collect()
    }

    /// Type of the result.
    pub fn ty(&self) -> Type {
        self.ty
    }

    /// The value, where the expression is a constant.
    pub fn as_const(&self) -> Option<&Datum> {
        match &self.root {
            Node::Const(value, _) => Some(value),
            _ => None,
        }
    }

    /// The input column, where the expression is nothing else.
    pub fn as_column(&self) -> Option<usize> {
        match self.root {
            Node::Column(index, _) => Some(index),
            _ => None,
        }
    }

    /// Evaluates over one row.
    #[inline]
    pub fn eval_row(&self, context: &EvalContext, row: &[Datum]) -> Result<Datum> {
        evaluate::eval(&self.root, context, row).map(Cow::into_owned)
    }

    /// Evaluates over one row without copying a value that is there already.
    #[inline]
    pub fn eval_row_ref<'a>(&'a self, context: &'a EvalContext, row: &'a [Datum]) -> Result<Cow<'a, Datum>> {
        evaluate::eval(&self.root, context, row)
    }

    /// Whether a predicate is true for a row (neither false nor NULL).
    #[inline]
    pub fn is_true(&self, context: &EvalContext, row: &[Datum]) -> Result<bool> {
        evaluate::is_true(&self.root, context, row)
    }

    /// Evaluates over the selected rows of a batch: one value for each, in order.
    pub fn eval(&self, context: &EvalContext, batch: &Batch) -> Result<Arc<Column>> {
        vector::eval(&self.root, context, batch)
    }

    /// Evaluates several over the selected rows of a batch. The calls of volatile functions go row by
    /// row: `nextval` is told from `nextval` by which comes first.
    pub fn eval_all(programs: &[Program], context: &EvalContext, batch: &Batch) -> Result<Vec<Arc<Column>>> {
        if programs.iter().map(|p| p.volatile_calls).sum::<usize>() < 2 {
            return programs.iter().map(|p| p.eval(context, batch)).collect();
        }
        let mut columns: Vec<Column> = programs.iter().map(|p| Column::new(p.ty.kind, batch.len())).collect();
        let mut bytes = 0;
        for i in 0..batch.len() {
            let row = batch.row(i);
            for (column, program) in columns.iter_mut().zip(programs) {
                let value = program.eval_row_ref(context, &row)?;
                bytes += value.heap_size();
                vector::check_size(bytes, i + 1)?;
                column.push(&value);
            }
        }
        Ok(columns.into_iter().map(Arc::new).collect())
    }

    /// The selected rows (physical numbers) for which a predicate is true.
    pub fn select(&self, context: &EvalContext, batch: &Batch) -> Result<Vec<u32>> {
        vector::select(&self.root, context, batch)
    }

    /// Narrows a batch's selection to the rows for which a predicate is true.
    pub fn filter(&self, context: &EvalContext, batch: &mut Batch) -> Result<()> {
        batch.selection = Some(self.select(context, batch)?);
        Ok(())
    }
}

/// Evaluates a constant expression (no columns): LIMIT, VALUES, index bounds.
pub fn evaluate_constant(scalar: &Scalar, context: &EvalContext) -> Result<Datum> {
    match scalar {
        Scalar::Const { value, .. } => Ok(value.clone()),
        Scalar::Param { index, .. } => evaluate::param(context, *index).cloned(),
        _ => Program::compile(scalar)?.eval_row(context, &[]),
    }
}

/// Folds what is constant and immutable; errors stay where they are, to be raised (or not) by
/// evaluation.
pub fn fold(scalar: &Scalar) -> Option<Datum> {
    Program::compile(scalar).ok()?.as_const().cloned()
}

fn compile(scalar: &Scalar, depth: usize, context: &EvalContext) -> Result<Node> {
    if depth > MAX_DEPTH {
        return Err(SqlError::new(SqlState::STATEMENT_TOO_COMPLEX, "stack depth limit exceeded")
            .hint(format!("Expressions nested deeper than {MAX_DEPTH} levels are not evaluated.")));
    }
    let list = |items: &[Scalar]| -> Result<Vec<Node>> {
        items.iter().map(|s| compile(s, depth + 1, context)).collect()
    };
    let one = |s: &Scalar| compile(s, depth + 1, context);
    Ok(match scalar {
        Scalar::Const { value, ty } => Node::Const(value.clone(), ty.kind),
        Scalar::Column { index, ty } => Node::Column(*index, ty.kind),
        Scalar::Param { index, ty } => Node::Param(*index, ty.kind),
        Scalar::Outer { slot, ty } => Node::Outer(*slot, ty.kind),
        Scalar::Call { function, args, ty, .. } => {
            let call = Call {
                function,
                args: list(args)?,
                types: args.iter().map(Scalar::ty).collect(),
                kind: ty.kind,
            };
            fold_call(call, context)
        }
        Scalar::And(items) => Node::And(list(items)?),
        Scalar::Or(items) => Node::Or(list(items)?),
        Scalar::Not(a) => Node::Not(Box::new(one(a)?)),
        Scalar::IsNull(a) => Node::IsNull(Box::new(one(a)?)),
        Scalar::Case { whens, otherwise, ty } => Node::Case {
            whens: whens.iter().map(|(c, r)| Ok((one(c)?, one(r)?))).collect::<Result<_>>()?,
            otherwise: otherwise.as_deref().map(one).transpose()?.map(Box::new),
            kind: ty.kind,
        },
        Scalar::Coalesce { args, ty } => Node::Coalesce { args: list(args)?, kind: ty.kind },
        Scalar::Extreme { greatest, args, ty } => {
            Node::Extreme { greatest: *greatest, args: list(args)?, kind: ty.kind }
        }
        Scalar::InList { left, items, equals } => {
            let types = [left.ty(), items.first().map_or(left.ty(), Scalar::ty)];
            compile_in(one(left)?, list(items)?, equals, types)
        }
        Scalar::AnyArray { left, operator, array, all } => {
            let element = array.ty().kind.element().unwrap_or(left.ty().kind);
            Node::AnyArray(Box::new(AnyArray {
                left: one(left)?,
                array: one(array)?,
                operator,
                types: [left.ty(), Type::new(element)],
                all: *all,
            }))
        }
        Scalar::Array { items, ty } => Node::Array {
            items: list(items)?,
            element: ty.kind.element().ok_or_else(|| {
                SqlError::new(SqlState::INTERNAL, "an array constructor's type is not an array")
            })?,
        },
    })
}

fn fold_call(call: Call, context: &EvalContext) -> Node {
    if call.function.volatility == Volatility::Immutable {
        let values: Option<Vec<Datum>> = call
            .args
            .iter()
            .map(|a| match a {
                Node::Const(value, _) => Some(value.clone()),
                _ => None,
            })
            .collect();
        if let Some(values) = values
            && let Ok(value) = call.function.call(context, &call.types, &values)
        {
            return Node::Const(value, call.kind);
        }
    }
    Node::Call(Box::new(call))
}

fn compile_in(left: Node, items: Vec<Node>, equals: &'static Builtin, types: [Type; 2]) -> Node {
    let constant =
        matches!(equals.kernel, Kernel::Compare(_)) && items.iter().all(|i| matches!(i, Node::Const(..)));
    if !constant {
        return Node::InList(Box::new(InList { left, items, equals, types }));
    }
    let kind = equals.args[0];
    let total = items.len();
    let mut values: Vec<Datum> = items
        .into_iter()
        .filter_map(|i| match i {
            Node::Const(value, _) if !value.is_null() => Some(value),
            _ => None,
        })
        .collect();
    let has_null = values.len() < total;
    values.sort_by(|a, b| compare(a, b, kind));
    values.dedup_by(|a, b| compare(a, b, kind).is_eq());
    Node::InSet { left: Box::new(left), items: values, has_null, kind }
}
