//! Types and values.
//!
//! [`Type`] is a SQL type with its modifier; [`Datum`] one value. Text and binary formats are
//! PostgreSQL's.

use std::sync::Arc;

/// A SQL type's identity. The discriminant is PostgreSQL's OID of the type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
#[allow(missing_docs)]
pub enum TypeKind {
    Bool = 16,
    Bytea = 17,
    /// `"char"`: one byte.
    InternalChar = 18,
    Name = 19,
    Int8 = 20,
    Int2 = 21,
    Int2Vector = 22,
    Int4 = 23,
    Regproc = 24,
    Text = 25,
    Oid = 26,
    OidVector = 30,
    Json = 114,
    Float4 = 700,
    Float8 = 701,
    /// A literal whose type is not yet known.
    Unknown = 705,
    Bpchar = 1042,
    Varchar = 1043,
    Date = 1082,
    Time = 1083,
    Timestamp = 1114,
    TimestampTz = 1184,
    Interval = 1186,
    Numeric = 1700,
    Regclass = 2205,
    Regtype = 2206,
    Uuid = 2950,
    Void = 2278,
    Record = 2249,
    BoolArray = 1000,
    ByteaArray = 1001,
    CharArray = 1002,
    NameArray = 1003,
    Int2Array = 1005,
    Int4Array = 1007,
    TextArray = 1009,
    BpcharArray = 1014,
    VarcharArray = 1015,
    Int8Array = 1016,
    Float4Array = 1021,
    Float8Array = 1022,
    OidArray = 1028,
    TimestampArray = 1115,
    DateArray = 1182,
    TimestampTzArray = 1185,
    NumericArray = 1231,
    UuidArray = 2951,
    /// Pseudo-type of polymorphic function arguments.
    AnyElement = 2283,
    AnyArray = 2277,
    /// Pseudo-type: any type at all.
    Any = 2276,
}

/// A type with its modifier (PostgreSQL's `atttypmod`; -1: none).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Type {
    /// Which type.
    pub kind: TypeKind,
    /// Length, precision and scale, as PostgreSQL encodes them.
    pub modifier: i32,
}

impl Type {
    /// The type without a modifier.
    pub const fn new(kind: TypeKind) -> Type {
        Type { kind, modifier: -1 }
    }

    /// PostgreSQL's OID.
    pub const fn oid(self) -> u32 {
        self.kind as u32
    }
}

impl From<TypeKind> for Type {
    fn from(kind: TypeKind) -> Type {
        Type::new(kind)
    }
}

/// A value. The variant is the representation, which several types share: `Text` serves text,
/// varchar, char(n) (blank-padded, as PostgreSQL stores it), name, json and unknown; `Oid` serves oid and the reg* types.
#[derive(Clone, Debug)]
pub enum Datum {
    /// NULL of any type.
    Null,
    /// bool
    Bool(bool),
    /// int2
    Int2(i16),
    /// int4
    Int4(i32),
    /// int8
    Int8(i64),
    /// float4
    Float4(f32),
    /// float8
    Float8(f64),
    /// numeric
    Numeric(Arc<numeric::Numeric>),
    /// Character types.
    Text(Arc<str>),
    /// bytea
    Bytea(Arc<[u8]>),
    /// `"char"`
    Char(u8),
    /// Days since 2000-01-01; `i32::MAX`/`MIN`: infinity.
    Date(i32),
    /// Microseconds since midnight.
    Time(i64),
    /// Microseconds since 2000-01-01, of timestamp and (in UTC) timestamptz; `i64::MAX`/`MIN`:
    /// infinity.
    Timestamp(i64),
    /// interval
    Interval(Interval),
    /// uuid
    Uuid([u8; 16]),
    /// oid and aliases
    Oid(u32),
    /// One-dimensional arrays, int2vector, oidvector.
    Array(Arc<Array>),
}

/// An interval, as PostgreSQL stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Interval {
    /// Months.
    pub months: i32,
    /// Days.
    pub days: i32,
    /// Microseconds.
    pub micros: i64,
}

/// A one-dimensional array.
#[derive(Clone, Debug)]
pub struct Array {
    /// Element type.
    pub element: TypeKind,
    /// Elements.
    pub items: Vec<Datum>,
}

pub mod numeric {
    //! `numeric`: arbitrary precision with a display scale, NaN and infinities.

    /// A numeric value.
    #[derive(Clone, Debug)]
    pub enum Numeric {
        /// NaN, which equals itself and sorts above all.
        NaN,
        /// Infinity.
        Infinity,
        /// -Infinity.
        NegInfinity,
        /// A finite value; the scale of `BigDecimal` (never negative) is PostgreSQL's display scale.
        Finite(bigdecimal::BigDecimal),
    }
}
