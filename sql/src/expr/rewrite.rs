//! Walking and rewriting of expressions.

use super::Scalar;
use crate::func::Volatility;
use crate::types::{Datum, Type, TypeKind};

impl Scalar {
    /// A constant.
    pub fn constant(value: Datum, kind: TypeKind) -> Scalar {
        Scalar::Const { value, ty: Type::new(kind) }
    }

    /// The expressions directly below, to change.
    pub fn children_mut(&mut self) -> Vec<&mut Scalar> {
        match self {
            Scalar::Const { .. } | Scalar::Column { .. } | Scalar::Param { .. } | Scalar::Outer { .. } => {
                Vec::new()
            }
            Scalar::Call { args, .. }
            | Scalar::And(args)
            | Scalar::Or(args)
            | Scalar::Coalesce { args, .. }
            | Scalar::Extreme { args, .. }
            | Scalar::Array { items: args, .. } => args.iter_mut().collect(),
            Scalar::Not(a) | Scalar::IsNull(a) => vec![a],
            Scalar::Case { whens, otherwise, .. } => {
                whens.iter_mut().flat_map(|(c, r)| [c, r]).chain(otherwise.as_deref_mut()).collect()
            }
            Scalar::InList { left, items, .. } => std::iter::once(&mut **left).chain(items).collect(),
            Scalar::AnyArray { left, array, .. } => vec![left, array],
        }
    }

    /// Whether `test` holds for this expression or one below it.
    pub fn any(&self, test: &mut impl FnMut(&Scalar) -> bool) -> bool {
        test(self) || self.children().into_iter().any(|child| child.any(test))
    }

    /// Calls `visit` for each column.
    pub fn for_each_column(&self, visit: &mut impl FnMut(usize)) {
        if let Scalar::Column { index, .. } = self {
            visit(*index);
        }
        for child in self.children() {
            child.for_each_column(visit);
        }
    }

    /// Gives each column another position.
    pub fn map_columns(&mut self, map: &mut impl FnMut(usize) -> usize) {
        if let Scalar::Column { index, .. } = self {
            *index = map(*index);
        }
        for child in self.children_mut() {
            child.map_columns(map);
        }
    }

    /// The expression with its columns moved by `offset`.
    #[must_use]
    pub fn shifted(mut self, offset: usize) -> Scalar {
        self.map_columns(&mut |index| index + offset);
        self
    }

    /// Replaces each column by an expression.
    pub fn substitute(&mut self, exprs: &[Scalar]) {
        if let Scalar::Column { index, ty } = self {
            let ty = *ty;
            *self = exprs[*index].clone().retyped(ty);
            return;
        }
        for child in self.children_mut() {
            child.substitute(exprs);
        }
    }

    /// The same value under another type of the same representation.
    #[must_use]
    pub fn retyped(mut self, to: Type) -> Scalar {
        match &mut self {
            Scalar::Const { ty, .. }
            | Scalar::Column { ty, .. }
            | Scalar::Param { ty, .. }
            | Scalar::Outer { ty, .. }
            | Scalar::Call { ty, .. }
            | Scalar::Case { ty, .. }
            | Scalar::Coalesce { ty, .. }
            | Scalar::Extreme { ty, .. }
            | Scalar::Array { ty, .. } => *ty = to,
            Scalar::And(_)
            | Scalar::Or(_)
            | Scalar::Not(_)
            | Scalar::IsNull(_)
            | Scalar::InList { .. }
            | Scalar::AnyArray { .. } => {}
        }
        self
    }

    /// Whether the expression reads no column of its row.
    pub fn is_row_independent(&self) -> bool {
        !self.any(&mut |s| matches!(s, Scalar::Column { .. }))
    }

    /// Whether two evaluations may differ within a statement.
    pub fn is_volatile(&self) -> bool {
        self.any(&mut |s| {
            matches!(s, Scalar::Call { function, .. } if function.volatility == Volatility::Volatile)
        })
    }

    /// How often it calls volatile functions.
    pub fn volatile_calls(&self) -> usize {
        let mut calls = 0;
        self.any(&mut |s| {
            calls += matches!(s, Scalar::Call { function, .. } if function.volatility == Volatility::Volatile)
                as usize;
            false
        });
        calls
    }

    /// Whether two expressions are the same, positions aside.
    pub fn same(&self, other: &Scalar) -> bool {
        let shapes = match (self, other) {
            (Scalar::Const { value: a, ty: s }, Scalar::Const { value: b, ty: t }) => {
                return s == t && format!("{a:?}") == format!("{b:?}");
            }
            (Scalar::Column { index: a, ty: s }, Scalar::Column { index: b, ty: t })
            | (Scalar::Param { index: a, ty: s }, Scalar::Param { index: b, ty: t })
            | (Scalar::Outer { slot: a, ty: s }, Scalar::Outer { slot: b, ty: t }) => {
                a == b && s.kind == t.kind
            }
            (Scalar::Call { function: f, ty: s, .. }, Scalar::Call { function: g, ty: t, .. }) => {
                std::ptr::eq(*f, *g) && s == t
            }
            (Scalar::InList { equals: f, .. }, Scalar::InList { equals: g, .. }) => std::ptr::eq(*f, *g),
            (Scalar::AnyArray { operator: f, all: a, .. }, Scalar::AnyArray { operator: g, all: b, .. }) => {
                std::ptr::eq(*f, *g) && a == b
            }
            (Scalar::Extreme { greatest: a, .. }, Scalar::Extreme { greatest: b, .. }) => a == b,
            (Scalar::Case { whens: a, otherwise: s, .. }, Scalar::Case { whens: b, otherwise: t, .. }) => {
                a.len() == b.len() && s.is_some() == t.is_some()
            }
            (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
        };
        let (left, right) = (self.children(), other.children());
        shapes && left.len() == right.len() && left.iter().zip(right).all(|(a, b)| a.same(b))
    }
}
