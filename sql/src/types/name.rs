//! Names of types, as SQL writes them and as the catalog holds them, and the properties that
//! overload resolution asks for.

use super::modifier;
use super::{Type, TypeKind};
use TypeKind::*;

/// PostgreSQL's type categories (`pg_type.typcategory`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "named as in PostgreSQL's documentation of pg_type")]
pub enum Category {
    Array = b'A',
    Boolean = b'B',
    DateTime = b'D',
    Numeric = b'N',
    Pseudo = b'P',
    String = b'S',
    Timespan = b'T',
    User = b'U',
    Unknown = b'X',
    Internal = b'Z',
}

/// What the catalog knows of a type.
#[derive(Debug)]
pub struct TypeInfo {
    /// Which.
    pub kind: TypeKind,
    /// `pg_type.typname`.
    pub name: &'static str,
    /// As `format_type` shows it; for arrays, of the element.
    pub display: &'static str,
    /// `pg_type.typlen`: -1 for variable length.
    pub length: i16,
    /// Category.
    pub category: Category,
    /// Preferred in its category.
    pub preferred: bool,
    /// Element type of an array (and of int2vector, oidvector).
    pub element: Option<TypeKind>,
    /// Array type over this type.
    pub array: Option<TypeKind>,
}

macro_rules! types {
    ($($kind:ident $name:literal $display:literal $length:literal $category:ident $preferred:literal $element:expr, $array:expr;)*) => {
        /// Every type.
        pub static TYPES: &[TypeInfo] = &[$(TypeInfo {
            kind: $kind, name: $name, display: $display, length: $length, category: Category::$category,
            preferred: $preferred, element: $element, array: $array,
        }),*];

        impl TypeKind {
            /// What the catalog knows of the type.
            pub fn info(self) -> &'static TypeInfo {
                match self { $($kind => {
                    static INFO: TypeInfo = TypeInfo {
                        kind: $kind, name: $name, display: $display, length: $length,
                        category: Category::$category, preferred: $preferred, element: $element, array: $array,
                    };
                    &INFO
                })* }
            }
        }
    };
}

types! {
    Bool "bool" "boolean" 1 Boolean true None, Some(BoolArray);
    Bytea "bytea" "bytea" -1 User false None, Some(ByteaArray);
    InternalChar "char" "\"char\"" 1 Internal false None, Some(CharArray);
    Name "name" "name" 64 String false Some(InternalChar), Some(NameArray);
    Int8 "int8" "bigint" 8 Numeric false None, Some(Int8Array);
    Int2 "int2" "smallint" 2 Numeric false None, Some(Int2Array);
    Int2Vector "int2vector" "int2vector" -1 Array false Some(Int2), None;
    Int4 "int4" "integer" 4 Numeric false None, Some(Int4Array);
    Regproc "regproc" "regproc" 4 Numeric false None, None;
    Text "text" "text" -1 String true None, Some(TextArray);
    Oid "oid" "oid" 4 Numeric true None, Some(OidArray);
    Xid "xid" "xid" 4 User false None, None;
    OidVector "oidvector" "oidvector" -1 Array false Some(Oid), None;
    Json "json" "json" -1 User false None, Some(JsonArray);
    PgNodeTree "pg_node_tree" "pg_node_tree" -1 Internal false None, None;
    Float4 "float4" "real" 4 Numeric false None, Some(Float4Array);
    Float8 "float8" "double precision" 8 Numeric true None, Some(Float8Array);
    Unknown "unknown" "unknown" -2 Unknown false None, None;
    Aclitem "aclitem" "aclitem" 12 User false None, Some(AclitemArray);
    Bpchar "bpchar" "character" -1 String false None, Some(BpcharArray);
    Varchar "varchar" "character varying" -1 String false None, Some(VarcharArray);
    Date "date" "date" 4 DateTime false None, Some(DateArray);
    Time "time" "time without time zone" 8 DateTime false None, Some(TimeArray);
    Timestamp "timestamp" "timestamp without time zone" 8 DateTime false None, Some(TimestampArray);
    TimestampTz "timestamptz" "timestamp with time zone" 8 DateTime true None, Some(TimestampTzArray);
    Interval "interval" "interval" 16 Timespan true None, Some(IntervalArray);
    Numeric "numeric" "numeric" -1 Numeric false None, Some(NumericArray);
    Regclass "regclass" "regclass" 4 Numeric false None, Some(RegclassArray);
    Regtype "regtype" "regtype" 4 Numeric false None, Some(RegtypeArray);
    Regnamespace "regnamespace" "regnamespace" 4 Numeric false None, None;
    Regrole "regrole" "regrole" 4 Numeric false None, None;
    Uuid "uuid" "uuid" 16 User false None, Some(UuidArray);
    Void "void" "void" 4 Pseudo false None, None;
    Record "record" "record" -1 Pseudo false None, None;
    Cstring "cstring" "cstring" -2 Pseudo false None, None;
    BoolArray "_bool" "boolean[]" -1 Array false Some(Bool), None;
    ByteaArray "_bytea" "bytea[]" -1 Array false Some(Bytea), None;
    CharArray "_char" "\"char\"[]" -1 Array false Some(InternalChar), None;
    NameArray "_name" "name[]" -1 Array false Some(Name), None;
    Int2Array "_int2" "smallint[]" -1 Array false Some(Int2), None;
    Int4Array "_int4" "integer[]" -1 Array false Some(Int4), None;
    TextArray "_text" "text[]" -1 Array false Some(Text), None;
    BpcharArray "_bpchar" "character[]" -1 Array false Some(Bpchar), None;
    VarcharArray "_varchar" "character varying[]" -1 Array false Some(Varchar), None;
    Int8Array "_int8" "bigint[]" -1 Array false Some(Int8), None;
    Float4Array "_float4" "real[]" -1 Array false Some(Float4), None;
    Float8Array "_float8" "double precision[]" -1 Array false Some(Float8), None;
    OidArray "_oid" "oid[]" -1 Array false Some(Oid), None;
    AclitemArray "_aclitem" "aclitem[]" -1 Array false Some(Aclitem), None;
    TimestampArray "_timestamp" "timestamp without time zone[]" -1 Array false Some(Timestamp), None;
    DateArray "_date" "date[]" -1 Array false Some(Date), None;
    TimeArray "_time" "time without time zone[]" -1 Array false Some(Time), None;
    TimestampTzArray "_timestamptz" "timestamp with time zone[]" -1 Array false Some(TimestampTz), None;
    IntervalArray "_interval" "interval[]" -1 Array false Some(Interval), None;
    NumericArray "_numeric" "numeric[]" -1 Array false Some(Numeric), None;
    RegclassArray "_regclass" "regclass[]" -1 Array false Some(Regclass), None;
    RegtypeArray "_regtype" "regtype[]" -1 Array false Some(Regtype), None;
    JsonArray "_json" "json[]" -1 Array false Some(Json), None;
    UuidArray "_uuid" "uuid[]" -1 Array false Some(Uuid), None;
    AnyElement "anyelement" "anyelement" 4 Pseudo false None, None;
    AnyArray "anyarray" "anyarray" -1 Pseudo false None, None;
    Any "any" "\"any\"" 4 Pseudo false None, None;
}

impl TypeKind {
    /// The type of an OID.
    pub fn from_oid(oid: u32) -> Option<TypeKind> {
        TYPES.iter().find(|t| t.kind as u32 == oid).map(|t| t.kind)
    }

    /// `pg_type.typname`.
    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// Category for overload resolution.
    pub fn category(self) -> Category {
        self.info().category
    }

    /// Whether the type is preferred in its category.
    pub fn is_preferred(self) -> bool {
        self.info().preferred
    }

    /// Element type of an array type.
    pub fn element(self) -> Option<TypeKind> {
        if self == Name { None } else { self.info().element }
    }

    /// Array type over an element type.
    pub fn array(self) -> Option<TypeKind> {
        self.info().array
    }

    /// Whether the type is an array (of any representation).
    pub fn is_array(self) -> bool {
        self.category() == Category::Array
    }

    /// Whether values can be sorted and hashed by [`super::compare`] and [`super::hash`].
    pub fn is_ordered(self) -> bool {
        !matches!(
            self,
            Json | Aclitem | Xid | Unknown | Void | PgNodeTree | Record | Any | AnyElement | AnyArray
        )
    }
}

/// The type's name as PostgreSQL prints it, modifier included: `character varying(20)`.
pub fn format_type(ty: Type) -> String {
    let (base, array) = match ty.kind.element() {
        Some(element) if ty.kind.array().is_none() && ty.kind.name().starts_with('_') => (element, "[]"),
        _ => (ty.kind, ""),
    };
    let m = ty.modifier;
    let named = match base {
        // A bare "character" would mean character(1), so a bpchar without length has its own name.
        Bpchar if m < 0 => return format!("bpchar{array}"),
        Time | Timestamp | TimestampTz if m >= 0 => {
            let (word, zone) = base.info().display.split_once(' ').expect("these names have several words");
            format!("{word}({m}) {zone}")
        }
        _ => match modifier::print(base, m) {
            Some(arguments) => format!("{}{arguments}", base.info().display),
            None => base.info().display.to_owned(),
        },
    };
    named + array
}

impl std::fmt::Display for Type {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&format_type(*self))
    }
}

/// The base type of a name in lower case, either the catalog's (`int4`, `_int4`) or SQL's (`integer`,
/// `character varying`, `double precision`). Modifiers are [`modifier::parse`]'s. `char` is
/// `character(1)` in SQL unless quoted: the caller tells.
pub fn type_by_name(name: &str) -> Option<TypeKind> {
    Some(match name {
        "boolean" => Bool,
        "smallint" => Int2,
        "int" | "integer" => Int4,
        "bigint" => Int8,
        "real" => Float4,
        "float" | "double precision" => Float8,
        "decimal" | "dec" => Numeric,
        "character varying" | "char varying" | "nchar varying" | "national character varying" => Varchar,
        "character" | "nchar" | "national character" => Bpchar,
        "time without time zone" => Time,
        "timestamp without time zone" => Timestamp,
        "timestamp with time zone" => TimestampTz,
        _ => return TYPES.iter().find(|t| t.name == name).map(|t| t.kind),
    })
}

/// Parses a type written as text, as `::regtype` and `to_regtype` do: a name, modifiers, `[]`.
pub fn parse_type(input: &str) -> Option<Type> {
    let text = input.trim();
    let (text, array) = match text.strip_suffix("[]") {
        Some(rest) => (rest.trim_end(), true),
        None => (text, false),
    };
    let text = text.strip_prefix("pg_catalog.").unwrap_or(text);
    let (name, arguments, rest) = match text.split_once('(') {
        Some((name, rest)) => {
            let (arguments, rest) = rest.split_once(')')?;
            let arguments =
                arguments.split(',').map(|a| a.trim().parse().ok()).collect::<Option<Vec<i32>>>()?;
            (name.trim_end(), arguments, rest.trim())
        }
        None => (text, Vec::new(), ""),
    };
    let kind = if let Some(quoted) = name.strip_prefix('"') {
        type_by_name(quoted.strip_suffix('"')?)?
    } else {
        let lower = name.to_ascii_lowercase();
        let words = lower.split_whitespace().chain(rest.split_whitespace()).collect::<Vec<_>>().join(" ");
        match words.as_str() {
            "char" => Bpchar,
            words => type_by_name(words)?,
        }
    };
    let modifier = match (kind, arguments.is_empty()) {
        (Bpchar, true) if !name.starts_with('"') && name != "bpchar" => modifier::parse(Bpchar, &[1]).ok()?,
        (_, true) => -1,
        (_, false) => modifier::parse(kind, &arguments).ok()?,
    };
    Some(Type { kind: if array { kind.array()? } else { kind }, modifier })
}
