//! Types and values.
//!
//! [`Type`] is a SQL type with its modifier; [`Datum`] one value. Text and binary formats are
//! PostgreSQL's.

pub mod array;
pub mod binary;
pub mod context;
pub mod datetime;
pub mod float;
pub mod interval;
pub mod json;
pub mod key;
pub mod modifier;
pub mod name;
pub mod numeric;
pub mod order;
pub mod text;
pub mod timezone;

use std::sync::Arc;

pub use binary::{read_binary, write_binary};
pub use context::{ObjectNames, TextContext};
pub use name::{Category, format_type, type_by_name};
pub use order::{compare, hash, hash_into, is_equal};
pub use text::{parse_text, text_of, write_text};

/// A SQL type's identity. The discriminant is PostgreSQL's OID of the type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
#[expect(missing_docs, reason = "the variants are PostgreSQL's type names")]
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
    Regnamespace = 4089,
    Regrole = 4096,
    Aclitem = 1033,
    PgNodeTree = 194,
    Xid = 28,
    Cstring = 2275,
    AclitemArray = 1034,
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
    TimeArray = 1183,
    IntervalArray = 1187,
    RegclassArray = 2210,
    RegtypeArray = 2211,
    JsonArray = 199,
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

impl Datum {
    /// Whether this is NULL.
    pub fn is_null(&self) -> bool {
        matches!(self, Datum::Null)
    }

    /// A text value.
    pub fn text(value: impl Into<Arc<str>>) -> Datum {
        Datum::Text(value.into())
    }

    /// A numeric value.
    pub fn numeric(value: numeric::Numeric) -> Datum {
        Datum::Numeric(Arc::new(value))
    }

    /// An array value.
    pub fn array(element: TypeKind, items: Vec<Datum>) -> Datum {
        Datum::Array(Arc::new(Array { element, items }))
    }

    /// An integer of any width, and oid.
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Datum::Int2(v) => Some(v.into()),
            Datum::Int4(v) => Some(v.into()),
            Datum::Int8(v) => Some(v),
            Datum::Oid(v) => Some(v.into()),
            _ => None,
        }
    }

    /// A boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Datum::Bool(v) => Some(v),
            _ => None,
        }
    }

    /// A string of a character type.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Datum::Text(v) => Some(v),
            _ => None,
        }
    }

    /// Bytes the value occupies outside the enum, for memory accounting.
    pub fn heap_size(&self) -> usize {
        match self {
            Datum::Text(v) => v.len() + 16,
            Datum::Bytea(v) => v.len() + 16,
            Datum::Numeric(v) => 56 + v.heap_size(),
            Datum::Array(a) => {
                a.items.iter().map(|d| d.heap_size() + std::mem::size_of::<Datum>()).sum::<usize>() + 40
            }
            _ => 0,
        }
    }
}
