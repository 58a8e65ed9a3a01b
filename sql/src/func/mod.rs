//! Builtin functions, operators, casts, aggregates and table functions: a static registry.
//!
//! An operator is a builtin with a symbol, a cast a builtin found by [`cast`]. The binder resolves a
//! call to one [`Builtin`]; the compiled program calls its body. Names and signatures are
//! PostgreSQL's, so that overload resolution finds what PostgreSQL finds.

pub mod aggregate;
mod args;
pub mod cast;
mod catalog;
mod comparison;
mod datetime;
mod math;
mod registry;
mod session;
mod string;
pub mod table;

use crate::Result;
use crate::expr::EvalContext;
use crate::types::{Datum, Type, TypeKind};

pub use aggregate::{Aggregate, lookup_aggregate};
pub use cast::{Cast, CastContext, CastMethod, cast, length_coercion};
pub use registry::{all_functions, lookup_function, lookup_operator, proc_name, proc_oid};
pub use string::{like_prefix, quote_identifier, quote_literal};
pub use table::{TableFunction, lookup_table_function};

/// How a builtin's result may vary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volatility {
    /// Depends on the arguments only.
    Immutable,
    /// Fixed within a statement.
    Stable,
    /// May change at every call.
    Volatile,
}

/// An order comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Eq,
    /// `<>`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
}

impl Comparison {
    /// Whether an order satisfies the comparison.
    pub fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            Comparison::Eq => order.is_eq(),
            Comparison::Ne => order.is_ne(),
            Comparison::Lt => order.is_lt(),
            Comparison::Le => order.is_le(),
            Comparison::Gt => order.is_gt(),
            Comparison::Ge => order.is_ge(),
        }
    }

    /// The comparison with its sides exchanged.
    pub fn commuted(self) -> Comparison {
        match self {
            Comparison::Lt => Comparison::Gt,
            Comparison::Le => Comparison::Ge,
            Comparison::Gt => Comparison::Lt,
            Comparison::Ge => Comparison::Le,
            same => same,
        }
    }

    /// The comparison that holds when this one does not.
    pub fn negated(self) -> Comparison {
        match self {
            Comparison::Eq => Comparison::Ne,
            Comparison::Ne => Comparison::Eq,
            Comparison::Lt => Comparison::Ge,
            Comparison::Le => Comparison::Gt,
            Comparison::Gt => Comparison::Le,
            Comparison::Ge => Comparison::Lt,
        }
    }

    /// The operator's symbol.
    pub fn symbol(self) -> &'static str {
        match self {
            Comparison::Eq => "=",
            Comparison::Ne => "<>",
            Comparison::Lt => "<",
            Comparison::Le => "<=",
            Comparison::Gt => ">",
            Comparison::Ge => ">=",
        }
    }
}

/// Builtins for which the compiled program has loops of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// None: the body is called row by row.
    None,
    /// A comparison by [`crate::types::compare`], of two values of one type or two integers.
    Compare(Comparison),
    /// Checked addition of two values of the result's type.
    Add,
    /// Checked subtraction likewise.
    Sub,
    /// Checked multiplication likewise.
    Mul,
    /// Conversion of an integer to a wider one or to float8, which cannot fail.
    Widen,
}

/// A builtin's implementation. Arguments have the declared representation; a strict builtin sees no
/// NULL.
#[derive(Clone, Copy, Debug)]
pub enum Body {
    /// Over its arguments alone.
    Plain(fn(&[Datum]) -> Result<Datum>),
    /// Also over the context.
    Context(fn(&EvalContext, &[Datum]) -> Result<Datum>),
    /// Also over the arguments' types, which the representation does not tell.
    Typed(fn(&EvalContext, &[Type], &[Datum]) -> Result<Datum>),
}

/// A builtin of one signature. Operators and casts are builtins too.
#[derive(Debug)]
pub struct Builtin {
    /// PostgreSQL's function name (for an operator, that of its function: `int4pl`).
    pub name: &'static str,
    /// Argument types.
    pub args: &'static [TypeKind],
    /// Result type.
    pub result: TypeKind,
    /// NULL for any NULL argument.
    pub strict: bool,
    /// How the result may vary.
    pub volatility: Volatility,
    /// The last argument type may repeat, once or more.
    pub variadic: bool,
    /// The operator's symbol, empty for others. One argument: a prefix operator.
    pub symbol: &'static str,
    /// The program's own loop for it.
    pub kernel: Kernel,
    /// The implementation.
    pub body: Body,
}

impl Builtin {
    /// A strict, immutable function.
    pub(crate) const fn new(
        name: &'static str,
        args: &'static [TypeKind],
        result: TypeKind,
        body: Body,
    ) -> Builtin {
        Builtin {
            name,
            args,
            result,
            strict: true,
            volatility: Volatility::Immutable,
            variadic: false,
            symbol: "",
            kernel: Kernel::None,
            body,
        }
    }

    pub(crate) const fn stable(self) -> Builtin {
        Builtin { volatility: Volatility::Stable, ..self }
    }

    pub(crate) const fn volatile(self) -> Builtin {
        Builtin { volatility: Volatility::Volatile, ..self }
    }

    pub(crate) const fn sees_null(self) -> Builtin {
        Builtin { strict: false, ..self }
    }

    pub(crate) const fn variadic(self) -> Builtin {
        Builtin { variadic: true, ..self }
    }

    pub(crate) const fn operator(self, symbol: &'static str) -> Builtin {
        Builtin { symbol, ..self }
    }

    pub(crate) const fn kernel(self, kernel: Kernel) -> Builtin {
        Builtin { kernel, ..self }
    }

    /// Calls the builtin. NULL arguments of a strict one give NULL.
    pub fn call(&self, context: &EvalContext, types: &[Type], args: &[Datum]) -> Result<Datum> {
        if self.strict && args.iter().any(Datum::is_null) {
            return Ok(Datum::Null);
        }
        match self.body {
            Body::Plain(f) => f(args),
            Body::Context(f) => f(context, args),
            Body::Typed(f) => f(context, types, args),
        }
    }

    /// Which order comparison this operator is, if it is one.
    pub fn comparison(&self) -> Option<Comparison> {
        match self.kernel {
            Kernel::Compare(c) => Some(c),
            _ => None,
        }
    }

    /// The operator with its arguments exchanged (`a < b` and `b > a`), for comparisons.
    pub fn commutator(&self) -> Option<&'static Builtin> {
        let symbol = self.comparison()?.commuted().symbol();
        let [left, right] = self.args else { return None };
        lookup_operator(symbol).iter().copied().find(|b| b.args == [*right, *left])
    }

    /// The operator that is true when this one is false, for comparisons.
    pub fn negator(&self) -> Option<&'static Builtin> {
        let symbol = self.comparison()?.negated().symbol();
        lookup_operator(symbol).iter().copied().find(|b| b.args == self.args)
    }
}

/// The operator of a comparison over one type: what sorting, grouping and IN need.
pub fn comparison_operator(comparison: Comparison, kind: TypeKind) -> Option<&'static Builtin> {
    let kind = match kind {
        TypeKind::Varchar => TypeKind::Text,
        TypeKind::Regclass
        | TypeKind::Regtype
        | TypeKind::Regproc
        | TypeKind::Regnamespace
        | TypeKind::Regrole => TypeKind::Oid,
        kind if kind.element().is_some() && kind != TypeKind::OidVector => TypeKind::AnyArray,
        kind => kind,
    };
    lookup_operator(comparison.symbol()).iter().copied().find(|b| b.args == [kind, kind])
}
