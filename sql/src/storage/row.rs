//! The format of a stored row.
//!
//! A row names its columns by attribute number, as PostgreSQL's tuples do: it holds the attributes
//! 1 to `natts` that existed when it was written. Columns added later are absent and read as
//! [`ColumnDesc::missing`](crate::catalog::ColumnDesc); dropped ones are skipped. So a table's
//! columns change without rewriting its rows. Attributes of the primary key whose key encoding is
//! exact are not stored again.
//!
//! | bytes | content |
//! |---|---|
//! | 1 | format, [`FORMAT`] |
//! | 1 | flags: 1 = there are NULLs, 2 = offsets are four bytes wide rather than two |
//! | 2 | `natts`, little-endian |
//! | ⌈natts/8⌉, if there are NULLs | a set bit is a NULL |
//! | fixed part | every stored attribute of fixed width at its place; zeroes where NULL |
//! | offsets | for every stored attribute of variable width the end of its bytes in the rest |
//! | rest | bytes of the attributes of variable width |
//!
//! A column is found by arithmetic from its attribute number, without looking at the others.

use std::sync::Arc;

use bigdecimal::BigDecimal;
use num_bigint::BigInt;

use super::key;
use crate::catalog::TableDesc;
use crate::types::numeric::Numeric;
use crate::types::{Array, Datum, Interval, TypeKind};
use crate::{Result, SqlError, SqlState};

/// Format version of a row.
pub const FORMAT: u8 = 1;

const HAS_NULLS: u8 = 1;
const WIDE: u8 = 2;
const HEADER: usize = 4;

/// Where an attribute is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Only in the key: the n-th column of the primary index.
    Key(usize),
    /// In the fixed part at this offset.
    Fixed(usize),
    /// The n-th of variable width.
    Variable(usize),
}

#[derive(Clone, Debug)]
struct Attribute {
    kind: TypeKind,
    place: Place,
    /// Position in `TableDesc::columns`; `None`: dropped.
    column: Option<usize>,
}

/// How a table's rows are laid out; derived from its descriptor.
#[derive(Clone, Debug)]
pub struct RowLayout {
    /// By attribute number less one.
    attributes: Vec<Attribute>,
    /// Width of the fixed part of a row of n attributes, by n.
    fixed_width: Vec<usize>,
    /// Attributes of variable width in a row of n attributes, by n.
    variable_count: Vec<usize>,
    /// By position in `TableDesc::columns`: attribute number less one.
    attribute_of: Vec<usize>,
    /// By position: value where the row is older than the column.
    missing: Vec<Datum>,
    /// Primary key columns: position in `TableDesc::columns`, kind, descending, NULLs first.
    key: Vec<KeyColumn>,
}

/// A column of the primary key.
#[derive(Clone, Copy, Debug)]
pub struct KeyColumn {
    /// Position in `TableDesc::columns`.
    pub column: usize,
    /// Its type.
    pub kind: TypeKind,
    /// DESC.
    pub descending: bool,
    /// NULLS FIRST.
    pub nulls_first: bool,
}

impl RowLayout {
    /// The layout of a table.
    pub fn new(table: &TableDesc) -> RowLayout {
        let mut key: Vec<KeyColumn> = Vec::new();
        if let Some(primary) = table.indexes.first() {
            key.extend(primary.columns.iter().map(|c| KeyColumn {
                column: c.column,
                kind: table.columns[c.column].ty.kind,
                descending: c.descending,
                nulls_first: c.nulls_first,
            }));
        }
        let natts = (table.next_attnum - 1).max(0) as usize;
        let mut kinds: Vec<(TypeKind, Option<usize>)> = vec![(TypeKind::Bool, None); natts];
        for dropped in &table.dropped {
            kinds[dropped.attnum as usize - 1].0 = dropped.ty.kind;
        }
        let mut attribute_of = Vec::with_capacity(table.columns.len());
        for (position, column) in table.columns.iter().enumerate() {
            kinds[column.attnum as usize - 1] = (column.ty.kind, Some(position));
            attribute_of.push(column.attnum as usize - 1);
        }
        let (mut fixed, mut variable) = (0, 0);
        let (mut fixed_width, mut variable_count) = (vec![0], vec![0]);
        let mut attributes = Vec::with_capacity(natts);
        for (kind, column) in kinds {
            let in_key =
                column.and_then(|c| key.iter().position(|k| k.column == c)).filter(|_| key::is_exact(kind));
            let place = match (in_key, fixed_size(kind)) {
                (Some(n), _) => Place::Key(n),
                (None, Some(width)) => {
                    fixed += width;
                    Place::Fixed(fixed - width)
                }
                (None, None) => {
                    variable += 1;
                    Place::Variable(variable - 1)
                }
            };
            attributes.push(Attribute { kind, place, column });
            fixed_width.push(fixed);
            variable_count.push(variable);
        }
        let missing = table.columns.iter().map(|c| c.missing.clone().unwrap_or(Datum::Null)).collect();
        RowLayout { attributes, fixed_width, variable_count, attribute_of, missing, key }
    }

    /// The primary key's columns.
    pub fn key_columns(&self) -> &[KeyColumn] {
        &self.key
    }

    /// Where a column (by position) is stored.
    pub fn place(&self, column: usize) -> Place {
        self.attributes[self.attribute_of[column]].place
    }

    /// Encodes a row, by position in `TableDesc::columns`, behind what `out` holds.
    pub fn encode(&self, row: &[Datum], out: &mut Vec<u8>) -> Result<()> {
        let start = out.len();
        let natts = self.attributes.len();
        let stored = |a: &Attribute| match a.column {
            Some(column) if !matches!(a.place, Place::Key(_)) => Some(&row[column]),
            _ => None,
        };
        let has_nulls = self.attributes.iter().any(|a| matches!(stored(a), Some(Datum::Null)));
        let fixed_width = self.fixed_width[natts];
        let variable_count = self.variable_count[natts];
        let bitmap = if has_nulls { natts.div_ceil(8) } else { 0 };
        let fixed_start = start + HEADER + bitmap;
        let offsets = fixed_start + fixed_width;
        out.extend_from_slice(&[FORMAT, if has_nulls { HAS_NULLS } else { 0 }]);
        out.extend_from_slice(&(natts as u16).to_le_bytes());
        out.resize(offsets + 2 * variable_count, 0);
        let data = out.len();
        for (number, attribute) in self.attributes.iter().enumerate() {
            let datum = stored(attribute).unwrap_or(&Datum::Null);
            let null = matches!(datum, Datum::Null);
            if null && has_nulls {
                out[start + HEADER + number / 8] |= 1 << (number % 8);
            }
            match attribute.place {
                Place::Key(_) => {}
                Place::Fixed(offset) if !null => {
                    let at = fixed_start + offset;
                    put_fixed(datum, attribute.kind, out, at)?;
                }
                Place::Fixed(_) => {}
                Place::Variable(n) => {
                    if !null {
                        put_variable(datum, out)?;
                    }
                    let end = out.len() - data;
                    if end > u16::MAX as usize {
                        return self.encode_wide(row, out, start);
                    }
                    let at = offsets + 2 * n;
                    out[at..at + 2].copy_from_slice(&(end as u16).to_le_bytes());
                }
            }
        }
        Ok(())
    }

    /// Encodes anew with offsets of four bytes.
    fn encode_wide(&self, row: &[Datum], out: &mut Vec<u8>, start: usize) -> Result<()> {
        out.truncate(start);
        let natts = self.attributes.len();
        let offsets = start + HEADER + natts.div_ceil(8) + self.fixed_width[natts];
        out.extend_from_slice(&[FORMAT, HAS_NULLS | WIDE]);
        out.extend_from_slice(&(natts as u16).to_le_bytes());
        out.resize(offsets + 4 * self.variable_count[natts], 0);
        let data = out.len();
        let fixed_start = start + HEADER + natts.div_ceil(8);
        for (number, attribute) in self.attributes.iter().enumerate() {
            let datum = attribute.column.map_or(&Datum::Null, |c| &row[c]);
            let null = matches!(datum, Datum::Null);
            if null {
                out[start + HEADER + number / 8] |= 1 << (number % 8);
            }
            match attribute.place {
                Place::Key(_) => {}
                Place::Fixed(offset) => {
                    if !null {
                        put_fixed(datum, attribute.kind, out, fixed_start + offset)?;
                    }
                }
                Place::Variable(n) => {
                    if !null {
                        put_variable(datum, out)?;
                    }
                    let at = offsets + 4 * n;
                    let end = (out.len() - data) as u32;
                    out[at..at + 4].copy_from_slice(&end.to_le_bytes());
                }
            }
        }
        Ok(())
    }

    /// Encodes a row's primary key behind what `out` holds (without the index's prefix).
    pub fn encode_key(&self, row: &[Datum], out: &mut Vec<u8>) -> Result<()> {
        for k in &self.key {
            key::put_datum(out, &row[k.column], k.kind, k.descending, k.nulls_first);
        }
        Ok(())
    }

    /// Decodes a whole row, by position in `TableDesc::columns`, from its key (behind the prefix)
    /// and value.
    pub fn decode(&self, mut key: &[u8], value: &[u8], row: &mut Vec<Datum>) -> Result<()> {
        row.clear();
        let reader = RowReader::new(self, value)?;
        for column in 0..self.attribute_of.len() {
            row.push(match self.place(column) {
                Place::Key(_) => Datum::Null,
                _ => reader.datum(column)?,
            });
        }
        for k in &self.key {
            if matches!(self.place(k.column), Place::Key(_)) {
                row[k.column] = key::take_datum(&mut key, k.kind)?;
            } else {
                cairn_kv::encoding::skip(&mut key).map_err(key::corrupt)?;
            }
        }
        Ok(())
    }
}

/// Reads single columns of one row's value.
pub struct RowReader<'a> {
    layout: &'a RowLayout,
    value: &'a [u8],
    natts: usize,
    bitmap: Option<usize>,
    fixed: usize,
    offsets: usize,
    data: usize,
    wide: bool,
}

impl<'a> RowReader<'a> {
    /// Looks at a row's header.
    pub fn new(layout: &'a RowLayout, value: &'a [u8]) -> Result<RowReader<'a>> {
        let [format, flags, low, high, ..] = *value else {
            return Err(bad_row("it is too short"));
        };
        if format != FORMAT {
            return Err(bad_row("its format version is unknown"));
        }
        let natts = u16::from_le_bytes([low, high]) as usize;
        if natts > layout.attributes.len() {
            return Err(bad_row("it has more columns than its table"));
        }
        let bitmap = (flags & HAS_NULLS != 0).then_some(HEADER);
        let fixed = HEADER + if bitmap.is_some() { natts.div_ceil(8) } else { 0 };
        let offsets = fixed + layout.fixed_width[natts];
        let wide = flags & WIDE != 0;
        let data = offsets + layout.variable_count[natts] * if wide { 4 } else { 2 };
        if data > value.len() {
            return Err(bad_row("it is too short"));
        }
        Ok(RowReader { layout, value, natts, bitmap, fixed, offsets, data, wide })
    }

    /// The bytes of a stored column by position; `None`: NULL. Not for columns that are only in the
    /// key, nor for those that the row is too old to have ([`RowReader::missing`]).
    pub fn bytes(&self, column: usize) -> Result<Option<&'a [u8]>> {
        let number = self.layout.attribute_of[column];
        if let Some(bitmap) = self.bitmap
            && self.value[bitmap + number / 8] & (1 << (number % 8)) != 0
        {
            return Ok(None);
        }
        let attribute = &self.layout.attributes[number];
        match attribute.place {
            Place::Fixed(offset) => {
                let width = fixed_size(attribute.kind).expect("placed in the fixed part");
                let at = self.fixed + offset;
                Ok(Some(&self.value[at..at + width]))
            }
            Place::Variable(n) => {
                let start = if n == 0 { 0 } else { self.offset(n - 1) };
                let end = self.offset(n);
                let bytes = self.value.get(self.data + start..self.data + end);
                bytes.map(Some).ok_or_else(|| bad_row("an offset lies outside"))
            }
            Place::Key(_) => Err(bad_row("the column is stored in the key")),
        }
    }

    /// The value of a column that this row is too old to have.
    pub fn missing(&self, column: usize) -> Option<&'a Datum> {
        (self.layout.attribute_of[column] >= self.natts).then(|| &self.layout.missing[column])
    }

    /// A stored column as a datum.
    pub fn datum(&self, column: usize) -> Result<Datum> {
        if let Some(missing) = self.missing(column) {
            return Ok(missing.clone());
        }
        let kind = self.layout.attributes[self.layout.attribute_of[column]].kind;
        match self.bytes(column)? {
            None => Ok(Datum::Null),
            Some(bytes) => datum_of(bytes, kind),
        }
    }

    fn offset(&self, n: usize) -> usize {
        if self.wide {
            let at = self.offsets + 4 * n;
            u32::from_le_bytes(self.value[at..at + 4].try_into().expect("four bytes")) as usize
        } else {
            let at = self.offsets + 2 * n;
            u16::from_le_bytes([self.value[at], self.value[at + 1]]) as usize
        }
    }
}

/// Width of a type in the fixed part.
pub fn fixed_size(kind: TypeKind) -> Option<usize> {
    use TypeKind as K;
    Some(match kind {
        K::Bool | K::InternalChar => 1,
        K::Int2 => 2,
        K::Int4 | K::Float4 | K::Date => 4,
        K::Oid | K::Xid | K::Regclass | K::Regtype | K::Regproc | K::Regnamespace | K::Regrole => 4,
        K::Int8 | K::Float8 | K::Time | K::Timestamp | K::TimestampTz => 8,
        K::Interval | K::Uuid => 16,
        _ => return None,
    })
}

fn put_fixed(datum: &Datum, kind: TypeKind, out: &mut [u8], at: usize) -> Result<()> {
    let mut put = |bytes: &[u8]| {
        if Some(bytes.len()) != fixed_size(kind) {
            return Err(wrong_datum(kind, datum));
        }
        out[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    };
    match datum {
        Datum::Bool(v) => put(&[*v as u8]),
        Datum::Char(v) => put(&[*v]),
        Datum::Int2(v) => put(&v.to_le_bytes()),
        Datum::Int4(v) | Datum::Date(v) => put(&v.to_le_bytes()),
        Datum::Int8(v) | Datum::Time(v) | Datum::Timestamp(v) => put(&v.to_le_bytes()),
        Datum::Float4(v) => put(&v.to_le_bytes()),
        Datum::Float8(v) => put(&v.to_le_bytes()),
        Datum::Oid(v) => put(&v.to_le_bytes()),
        Datum::Uuid(v) => put(v),
        Datum::Interval(v) => {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&v.micros.to_le_bytes());
            bytes[8..12].copy_from_slice(&v.days.to_le_bytes());
            bytes[12..].copy_from_slice(&v.months.to_le_bytes());
            put(&bytes)
        }
        _ => Err(wrong_datum(kind, datum)),
    }
}

fn put_variable(datum: &Datum, out: &mut Vec<u8>) -> Result<()> {
    match datum {
        Datum::Text(v) => out.extend_from_slice(v.as_bytes()),
        Datum::Bytea(v) => out.extend_from_slice(v),
        Datum::Numeric(v) => match &**v {
            Numeric::NaN => out.push(0),
            Numeric::Infinity => out.push(1),
            Numeric::NegInfinity => out.push(2),
            Numeric::Finite(v) => {
                let (int, scale) = v.as_bigint_and_exponent();
                out.push(3);
                out.extend_from_slice(&(scale as i32).to_le_bytes());
                out.extend_from_slice(&int.to_signed_bytes_le());
            }
        },
        Datum::Array(v) => put_array(v, out)?,
        _ => return Err(wrong_datum(TypeKind::Any, datum)),
    }
    Ok(())
}

/// Element type, count, then for each element its length (all ones: NULL) and bytes.
fn put_array(array: &Array, out: &mut Vec<u8>) -> Result<()> {
    out.extend_from_slice(&(array.element as u32).to_le_bytes());
    out.extend_from_slice(&(array.items.len() as u32).to_le_bytes());
    for item in &array.items {
        let at = out.len();
        out.extend_from_slice(&u32::MAX.to_le_bytes());
        match item {
            Datum::Null => continue,
            item if fixed_size(array.element).is_some() => {
                let width = fixed_size(array.element).expect("just matched");
                out.resize(at + 4 + width, 0);
                put_fixed(item, array.element, out, at + 4)?;
            }
            item => put_variable(item, out)?,
        }
        let length = (out.len() - at - 4) as u32;
        out[at..at + 4].copy_from_slice(&length.to_le_bytes());
    }
    Ok(())
}

/// Decodes the stored bytes of a value of type `kind`.
pub fn datum_of(bytes: &[u8], kind: TypeKind) -> Result<Datum> {
    use TypeKind as K;
    macro_rules! int {
        ($t:ty) => {
            <$t>::from_le_bytes(bytes.try_into().map_err(|_| bad_row("a value has the wrong width"))?)
        };
    }
    Ok(match kind {
        K::Bool => Datum::Bool(int!(u8) != 0),
        K::InternalChar => Datum::Char(int!(u8)),
        K::Int2 => Datum::Int2(int!(i16)),
        K::Int4 => Datum::Int4(int!(i32)),
        K::Int8 => Datum::Int8(int!(i64)),
        K::Float4 => Datum::Float4(int!(f32)),
        K::Float8 => Datum::Float8(int!(f64)),
        K::Date => Datum::Date(int!(i32)),
        K::Time => Datum::Time(int!(i64)),
        K::Timestamp | K::TimestampTz => Datum::Timestamp(int!(i64)),
        K::Oid | K::Xid | K::Regclass | K::Regtype | K::Regproc | K::Regnamespace | K::Regrole => {
            Datum::Oid(int!(u32))
        }
        K::Uuid => Datum::Uuid(bytes.try_into().map_err(|_| bad_row("a uuid has the wrong width"))?),
        K::Interval => {
            let all = int!(i128);
            Datum::Interval(Interval {
                micros: all as i64,
                days: (all >> 64) as i32,
                months: (all >> 96) as i32,
            })
        }
        K::Text | K::Varchar | K::Bpchar | K::Name | K::Json | K::Unknown => {
            Datum::Text(text_of(bytes)?.into())
        }
        K::Bytea => Datum::Bytea(bytes.into()),
        K::Numeric => Datum::Numeric(Arc::new(numeric_of(bytes)?)),
        _ => Datum::Array(Arc::new(array_of(bytes)?)),
    })
}

/// Stored text; it is checked, since disks lie.
pub fn text_of(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| bad_row("text is not UTF-8"))
}

fn numeric_of(bytes: &[u8]) -> Result<Numeric> {
    Ok(match bytes {
        [0] => Numeric::NaN,
        [1] => Numeric::Infinity,
        [2] => Numeric::NegInfinity,
        [3, a, b, c, d, int @ ..] => Numeric::Finite(BigDecimal::new(
            BigInt::from_signed_bytes_le(int),
            i32::from_le_bytes([*a, *b, *c, *d]) as i64,
        )),
        _ => return Err(bad_row("a numeric is malformed")),
    })
}

fn array_of(mut bytes: &[u8]) -> Result<Array> {
    let word = |bytes: &mut &[u8]| -> Result<u32> {
        let (first, rest) = bytes.split_first_chunk().ok_or_else(|| bad_row("an array is too short"))?;
        *bytes = rest;
        Ok(u32::from_le_bytes(*first))
    };
    let oid = word(&mut bytes)?;
    let element = TypeKind::from_oid(oid).ok_or_else(|| bad_row("an array's element type is unknown"))?;
    let count = word(&mut bytes)?;
    let mut items = Vec::new();
    for _ in 0..count {
        let length = word(&mut bytes)?;
        if length == u32::MAX {
            items.push(Datum::Null);
            continue;
        }
        let (item, rest) =
            bytes.split_at_checked(length as usize).ok_or_else(|| bad_row("an array is too short"))?;
        items.push(datum_of(item, element)?);
        bytes = rest;
    }
    Ok(Array { element, items })
}

fn bad_row(why: &'static str) -> SqlError {
    SqlError::new(SqlState::DATA_CORRUPTED, format!("stored row is malformed: {why}"))
}

fn wrong_datum(kind: TypeKind, datum: &Datum) -> SqlError {
    SqlError::new(SqlState::INTERNAL, format!("cannot store {datum:?} in a column of type {kind:?}"))
}

/// The stored bytes of a value by itself: [`datum_of`] reads them.
pub fn bytes_of(datum: &Datum, kind: TypeKind) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    match fixed_size(kind) {
        Some(width) => {
            out.resize(width, 0);
            put_fixed(datum, kind, &mut out, 0)?;
        }
        None => put_variable(datum, &mut out)?,
    }
    Ok(out)
}
