//! Evaluation of a program over one row.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::context::EvalContext;
use super::program::{AnyArray, Call, InList, Node};
use crate::func::{Builtin, Comparison, Kernel};
use crate::types::{Datum, Type, TypeKind, compare};
use crate::{Result, SqlError, SqlState};

const TRUE: Datum = Datum::Bool(true);
const FALSE: Datum = Datum::Bool(false);

fn owned<'a>(value: Datum) -> Result<Cow<'a, Datum>> {
    Ok(Cow::Owned(value))
}

fn boolean<'a>(value: bool) -> Result<Cow<'a, Datum>> {
    owned(if value { TRUE } else { FALSE })
}

/// A boolean's value; NULL is `None`.
pub(super) fn truth(value: &Datum) -> Option<bool> {
    match value {
        Datum::Bool(v) => Some(*v),
        Datum::Null => None,
        other => unreachable!("a condition is boolean, not {other:?}"),
    }
}

pub(super) fn param(context: &EvalContext, index: usize) -> Result<&Datum> {
    context.params.get(index).ok_or_else(|| {
        SqlError::new(SqlState::UNDEFINED_PARAMETER, format!("there is no parameter ${}", index + 1))
    })
}

pub(super) fn outer(context: &EvalContext, slot: usize) -> &Datum {
    context.outer.get(slot).expect("Apply sets the slots of its subplan")
}

/// Evaluates a node.
pub(super) fn eval<'a>(node: &'a Node, context: &'a EvalContext, row: &'a [Datum]) -> Result<Cow<'a, Datum>> {
    match node {
        Node::Const(value, _) => Ok(Cow::Borrowed(value)),
        Node::Column(index, _) => Ok(Cow::Borrowed(&row[*index])),
        Node::Param(index, _) => param(context, *index).map(Cow::Borrowed),
        Node::Outer(slot, _) => Ok(Cow::Borrowed(outer(context, *slot))),
        Node::Call(call) => call_row(call, context, row),
        Node::And(items) => {
            let mut unknown = false;
            for item in items {
                match truth(&*eval(item, context, row)?) {
                    Some(false) => return boolean(false),
                    Some(true) => {}
                    None => unknown = true,
                }
            }
            if unknown { owned(Datum::Null) } else { boolean(true) }
        }
        Node::Or(items) => {
            let mut unknown = false;
            for item in items {
                match truth(&*eval(item, context, row)?) {
                    Some(true) => return boolean(true),
                    Some(false) => {}
                    None => unknown = true,
                }
            }
            if unknown { owned(Datum::Null) } else { boolean(false) }
        }
        Node::Not(a) => match truth(&*eval(a, context, row)?) {
            Some(v) => boolean(!v),
            None => owned(Datum::Null),
        },
        Node::IsNull(a) => {
            let is_null = eval(a, context, row)?.is_null();
            boolean(is_null)
        }
        Node::Case { whens, otherwise, .. } => {
            for (condition, result) in whens {
                if truth(&*eval(condition, context, row)?) == Some(true) {
                    return eval(result, context, row);
                }
            }
            match otherwise {
                Some(result) => eval(result, context, row),
                None => owned(Datum::Null),
            }
        }
        Node::Coalesce { args, .. } => {
            for arg in args {
                let value = eval(arg, context, row)?;
                if !value.is_null() {
                    return Ok(value);
                }
            }
            owned(Datum::Null)
        }
        Node::Extreme { greatest, args, kind } => {
            let mut best = Cow::Owned(Datum::Null);
            for arg in args {
                let value = eval(arg, context, row)?;
                if better(&value, &best, *greatest, *kind) {
                    best = value;
                }
            }
            Ok(best)
        }
        Node::InSet { left, items, has_null, kind } => {
            let value = eval(left, context, row)?;
            owned(in_set(&value, items, *has_null, *kind))
        }
        Node::InList(list) => in_list(list, context, row),
        Node::AnyArray(any) => {
            let left = eval(&any.left, context, row)?;
            let array = eval(&any.array, context, row)?;
            owned(any_array(any, context, &left, &array)?)
        }
        Node::Array { items, element } => {
            let items = items
                .iter()
                .map(|i| eval(i, context, row).map(Cow::into_owned))
                .collect::<Result<Vec<_>>>()?;
            owned(Datum::array(*element, items))
        }
    }
}

/// Whether a predicate is true. Of a conjunction, nothing behind the first part that is not.
pub(super) fn is_true(node: &Node, context: &EvalContext, row: &[Datum]) -> Result<bool> {
    match node {
        Node::And(items) => {
            for item in items {
                if !is_true(item, context, row)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        _ => Ok(truth(&*eval(node, context, row)?) == Some(true)),
    }
}

/// Whether a value beats the best so far of GREATEST or LEAST.
pub(super) fn better(value: &Datum, best: &Datum, greatest: bool, kind: TypeKind) -> bool {
    if value.is_null() || best.is_null() {
        return !value.is_null();
    }
    let order = compare(value, best, kind);
    if greatest { order.is_gt() } else { order.is_lt() }
}

pub(super) fn in_set(value: &Datum, items: &[Datum], has_null: bool, kind: TypeKind) -> Datum {
    if value.is_null() {
        // NULL IN () would be false, but SQL has no empty list.
        return Datum::Null;
    }
    match items.binary_search_by(|item| compare(item, value, kind)) {
        Ok(_) => TRUE,
        Err(_) if has_null => Datum::Null,
        Err(_) => FALSE,
    }
}

fn in_list<'a>(list: &'a InList, context: &'a EvalContext, row: &'a [Datum]) -> Result<Cow<'a, Datum>> {
    let left = eval(&list.left, context, row)?;
    let mut unknown = false;
    for item in &list.items {
        let item = eval(item, context, row)?;
        match truth(&binary(list.equals, context, &list.types, &left, &item)?) {
            Some(true) => return boolean(true),
            Some(false) => {}
            None => unknown = true,
        }
    }
    if unknown { owned(Datum::Null) } else { boolean(false) }
}

/// Applies an operator to a value and each of an array's items.
pub(super) fn any_array(any: &AnyArray, context: &EvalContext, left: &Datum, array: &Datum) -> Result<Datum> {
    let array = match array {
        Datum::Null => return Ok(Datum::Null),
        Datum::Array(array) => array,
        other => unreachable!("ANY takes an array, not {other:?}"),
    };
    let mut unknown = false;
    for item in &array.items {
        match truth(&binary(any.operator, context, &any.types, left, item)?) {
            Some(v) if v != any.all => return Ok(Datum::Bool(!any.all)),
            Some(_) => {}
            None => unknown = true,
        }
    }
    Ok(if unknown { Datum::Null } else { Datum::Bool(any.all) })
}

/// Applies a binary operator.
pub(super) fn binary(
    function: &Builtin,
    context: &EvalContext,
    types: &[Type],
    left: &Datum,
    right: &Datum,
) -> Result<Datum> {
    if let Kernel::Compare(comparison) = function.kernel {
        return Ok(compare_values(function, comparison, left, right));
    }
    function.call(context, types, &[left.clone(), right.clone()])
}

#[inline]
fn compare_values(function: &Builtin, comparison: Comparison, left: &Datum, right: &Datum) -> Datum {
    if left.is_null() || right.is_null() {
        return Datum::Null;
    }
    Datum::Bool(comparison.holds(compare(left, right, function.args[0])))
}

fn call_row<'a>(call: &'a Call, context: &'a EvalContext, row: &'a [Datum]) -> Result<Cow<'a, Datum>> {
    let function = call.function;
    if let (Kernel::Compare(comparison), [left, right]) = (function.kernel, call.args.as_slice()) {
        let left = eval(left, context, row)?;
        let right = eval(right, context, row)?;
        return owned(compare_values(function, comparison, &left, &right));
    }
    let mut args: SmallVec<[Datum; 3]> = SmallVec::with_capacity(call.args.len());
    for arg in &call.args {
        args.push(eval(arg, context, row)?.into_owned());
    }
    owned(function.call(context, &call.types, &args)?)
}
