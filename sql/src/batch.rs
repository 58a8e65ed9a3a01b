//! Column batches: what the batch executor's operators pass to each other.
//!
//! A [`Column`] holds values of one type in a vector of their representation; a [`Batch`] some
//! columns of equal length and, where a filter has run, the selected rows.

use std::cmp::Ordering;
use std::hash::Hasher;
use std::sync::Arc;

use crate::types::order::StableHasher;
use crate::types::{Datum, TypeKind, compare, hash_into};

/// Rows of a full batch.
pub const BATCH_ROWS: usize = 1024;

/// Bytes that close a batch before it has all its rows: some values are of megabytes.
pub const BATCH_BYTES: usize = 4 << 20;

/// One bit for each row.
#[derive(Clone, Debug, Default)]
pub struct Bitmap {
    words: Vec<u64>,
    len: usize,
}

impl Bitmap {
    /// `len` clear bits.
    pub fn zeroes(len: usize) -> Bitmap {
        Bitmap { words: vec![0; len.div_ceil(64)], len }
    }

    /// Whether bit `i` is set.
    #[inline]
    pub fn get(&self, i: usize) -> bool {
        debug_assert!(i < self.len);
        self.words[i / 64] >> (i % 64) & 1 == 1
    }

    /// Sets bit `i`.
    #[inline]
    pub fn set(&mut self, i: usize) {
        debug_assert!(i < self.len);
        self.words[i / 64] |= 1 << (i % 64);
    }

    /// Appends a bit.
    #[inline]
    pub fn push(&mut self, bit: bool) {
        if self.len.is_multiple_of(64) {
            self.words.push(0);
        }
        self.len += 1;
        if bit {
            self.set(self.len - 1);
        }
    }

    /// Number of bits.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether any bit is set.
    pub fn any(&self) -> bool {
        self.words.iter().any(|w| *w != 0)
    }

    /// Bits set in either, of equal lengths.
    pub fn union(a: Option<&Bitmap>, b: Option<&Bitmap>) -> Option<Bitmap> {
        match (a, b) {
            (None, None) => None,
            (Some(x), None) | (None, Some(x)) => Some(x.clone()),
            (Some(x), Some(y)) => {
                Some(Bitmap { words: x.words.iter().zip(&y.words).map(|(p, q)| p | q).collect(), len: x.len })
            }
        }
    }
}

/// Byte strings end to end.
#[derive(Clone, Debug)]
pub struct Strings {
    /// Ends of the strings; the first entry is 0.
    ends: Vec<usize>,
    bytes: Vec<u8>,
}

impl Default for Strings {
    fn default() -> Strings {
        Strings { ends: vec![0], bytes: Vec::new() }
    }
}

impl Strings {
    /// String `i`.
    #[inline]
    pub fn get(&self, i: usize) -> &[u8] {
        &self.bytes[self.ends[i]..self.ends[i + 1]]
    }

    /// Appends a string.
    #[inline]
    pub fn push(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.ends.push(self.bytes.len());
    }

    /// Number of strings.
    pub fn len(&self) -> usize {
        self.ends.len() - 1
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The values of a column; a NULL's place holds anything.
#[derive(Clone, Debug)]
pub enum Values {
    /// bool
    Bool(Vec<bool>),
    /// int2
    I16(Vec<i16>),
    /// int4, date
    I32(Vec<i32>),
    /// int8, time, timestamp, timestamptz
    I64(Vec<i64>),
    /// oid and the reg* types
    U32(Vec<u32>),
    /// float4
    F32(Vec<f32>),
    /// float8
    F64(Vec<f64>),
    /// uuid
    Uuid(Vec<[u8; 16]>),
    /// Character types (UTF-8).
    Text(Strings),
    /// bytea
    Bytea(Strings),
    /// Everything else.
    Any(Vec<Datum>),
}

impl Values {
    fn new(kind: TypeKind, capacity: usize) -> Values {
        use TypeKind as K;
        match kind {
            K::Bool => Values::Bool(Vec::with_capacity(capacity)),
            K::Int2 => Values::I16(Vec::with_capacity(capacity)),
            K::Int4 | K::Date => Values::I32(Vec::with_capacity(capacity)),
            K::Int8 | K::Time | K::Timestamp | K::TimestampTz => Values::I64(Vec::with_capacity(capacity)),
            K::Oid | K::Xid | K::Regclass | K::Regtype | K::Regproc | K::Regnamespace | K::Regrole => {
                Values::U32(Vec::with_capacity(capacity))
            }
            K::Float4 => Values::F32(Vec::with_capacity(capacity)),
            K::Float8 => Values::F64(Vec::with_capacity(capacity)),
            K::Uuid => Values::Uuid(Vec::with_capacity(capacity)),
            K::Text | K::Varchar | K::Bpchar | K::Name | K::Json | K::Unknown => {
                Values::Text(Strings::default())
            }
            K::Bytea => Values::Bytea(Strings::default()),
            _ => Values::Any(Vec::with_capacity(capacity)),
        }
    }

    fn len(&self) -> usize {
        match self {
            Values::Bool(v) => v.len(),
            Values::I16(v) => v.len(),
            Values::I32(v) => v.len(),
            Values::I64(v) => v.len(),
            Values::U32(v) => v.len(),
            Values::F32(v) => v.len(),
            Values::F64(v) => v.len(),
            Values::Uuid(v) => v.len(),
            Values::Text(v) | Values::Bytea(v) => v.len(),
            Values::Any(v) => v.len(),
        }
    }
}

/// Values of one type, and which of them are NULL. Also its own builder: values are appended.
#[derive(Clone, Debug)]
pub struct Column {
    kind: TypeKind,
    values: Values,
    /// Set bits are NULL; absent while there was none.
    nulls: Option<Bitmap>,
}

impl Column {
    /// An empty column.
    pub fn new(kind: TypeKind, capacity: usize) -> Column {
        Column { kind, values: Values::new(kind, capacity), nulls: None }
    }

    /// A column of given values and NULLs. Their lengths agree.
    pub fn from_values(kind: TypeKind, values: Values, nulls: Option<Bitmap>) -> Column {
        assert!(nulls.as_ref().is_none_or(|n| n.len() == values.len()), "one null bit for each value");
        Column { kind, values, nulls: nulls.filter(Bitmap::any) }
    }

    /// A column of data.
    pub fn from_datums<'a>(kind: TypeKind, data: impl IntoIterator<Item = &'a Datum>) -> Column {
        let data = data.into_iter();
        let mut column = Column::new(kind, data.size_hint().0);
        data.for_each(|d| column.push(d));
        column
    }

    /// `len` times the same value.
    pub fn repeat(kind: TypeKind, value: &Datum, len: usize) -> Column {
        let mut column = Column::new(kind, len);
        for _ in 0..len {
            column.push(value);
        }
        column
    }

    /// The type.
    pub fn kind(&self) -> TypeKind {
        self.kind
    }

    /// The same values under another type of the same representation.
    #[must_use]
    pub fn relabel(mut self, kind: TypeKind) -> Column {
        if std::mem::discriminant(&Values::new(kind, 0)) == std::mem::discriminant(&self.values) {
            self.kind = kind;
            return self;
        }
        let data: Vec<Datum> = (0..self.len()).map(|i| self.get(i)).collect();
        Column::from_datums(kind, &data)
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// Which rows are NULL, if any is.
    pub fn nulls(&self) -> Option<&Bitmap> {
        self.nulls.as_ref()
    }

    /// Whether row `i` is NULL.
    #[inline]
    pub fn is_null(&self, i: usize) -> bool {
        self.nulls.as_ref().is_some_and(|n| n.get(i))
    }

    /// Row `i` as a datum.
    pub fn get(&self, i: usize) -> Datum {
        if self.is_null(i) {
            return Datum::Null;
        }
        match &self.values {
            Values::Bool(v) => Datum::Bool(v[i]),
            Values::I16(v) => Datum::Int2(v[i]),
            Values::I32(v) if self.kind == TypeKind::Date => Datum::Date(v[i]),
            Values::I32(v) => Datum::Int4(v[i]),
            Values::I64(v) => match self.kind {
                TypeKind::Int8 => Datum::Int8(v[i]),
                TypeKind::Time => Datum::Time(v[i]),
                _ => Datum::Timestamp(v[i]),
            },
            Values::U32(v) => Datum::Oid(v[i]),
            Values::F32(v) => Datum::Float4(v[i]),
            Values::F64(v) => Datum::Float8(v[i]),
            Values::Uuid(v) => Datum::Uuid(v[i]),
            Values::Text(v) => Datum::text(std::str::from_utf8(v.get(i)).expect("text columns hold UTF-8")),
            Values::Bytea(v) => Datum::Bytea(v.get(i).into()),
            Values::Any(v) => v[i].clone(),
        }
    }

    /// Appends NULL.
    pub fn push_null(&mut self) {
        let len = self.len();
        self.nulls.get_or_insert_with(|| Bitmap::zeroes(len)).push(true);
        match &mut self.values {
            Values::Bool(v) => v.push(false),
            Values::I16(v) => v.push(0),
            Values::I32(v) => v.push(0),
            Values::I64(v) => v.push(0),
            Values::U32(v) => v.push(0),
            Values::F32(v) => v.push(0.0),
            Values::F64(v) => v.push(0.0),
            Values::Uuid(v) => v.push([0; 16]),
            Values::Text(v) | Values::Bytea(v) => v.push(b""),
            Values::Any(v) => v.push(Datum::Null),
        }
    }

    #[inline]
    fn not_null(&mut self) {
        if let Some(nulls) = &mut self.nulls {
            nulls.push(false);
        }
    }

    /// Appends a datum of the column's type, or NULL.
    #[inline]
    pub fn push(&mut self, value: &Datum) {
        match (&mut self.values, value) {
            (_, Datum::Null) => return self.push_null(),
            (Values::Bool(v), Datum::Bool(d)) => v.push(*d),
            (Values::I16(v), Datum::Int2(d)) => v.push(*d),
            (Values::I32(v), Datum::Int4(d) | Datum::Date(d)) => v.push(*d),
            (Values::I64(v), Datum::Int8(d) | Datum::Time(d) | Datum::Timestamp(d)) => v.push(*d),
            (Values::U32(v), Datum::Oid(d)) => v.push(*d),
            (Values::F32(v), Datum::Float4(d)) => v.push(*d),
            (Values::F64(v), Datum::Float8(d)) => v.push(*d),
            (Values::Uuid(v), Datum::Uuid(d)) => v.push(*d),
            (Values::Text(v), Datum::Text(d)) => v.push(d.as_bytes()),
            (Values::Bytea(v), Datum::Bytea(d)) => v.push(d),
            (Values::Any(v), d) => v.push(d.clone()),
            (_, d) => panic!("a column of {:?} cannot hold {d:?}", self.kind),
        }
        self.not_null();
    }

    /// Appends a value of a bool column.
    pub fn push_bool(&mut self, value: bool) {
        let Values::Bool(v) = &mut self.values else { panic!("not a bool column") };
        v.push(value);
        self.not_null();
    }

    /// Appends a value of an int2 column.
    pub fn push_i16(&mut self, value: i16) {
        let Values::I16(v) = &mut self.values else { panic!("not an int2 column") };
        v.push(value);
        self.not_null();
    }

    /// Appends a value of an int4 or date column.
    #[inline]
    pub fn push_i32(&mut self, value: i32) {
        let Values::I32(v) = &mut self.values else { panic!("not an int4 column") };
        v.push(value);
        self.not_null();
    }

    /// Appends a value of an int8, time or timestamp column.
    #[inline]
    pub fn push_i64(&mut self, value: i64) {
        let Values::I64(v) = &mut self.values else { panic!("not an int8 column") };
        v.push(value);
        self.not_null();
    }

    /// Appends a value of a float8 column.
    pub fn push_f64(&mut self, value: f64) {
        let Values::F64(v) = &mut self.values else { panic!("not a float8 column") };
        v.push(value);
        self.not_null();
    }

    /// Appends a value of a text column.
    #[inline]
    pub fn push_str(&mut self, value: &str) {
        let Values::Text(v) = &mut self.values else { panic!("not a text column") };
        v.push(value.as_bytes());
        self.not_null();
    }

    /// Appends a value of a bytea column.
    pub fn push_bytes(&mut self, value: &[u8]) {
        let Values::Bytea(v) = &mut self.values else { panic!("not a bytea column") };
        v.push(value);
        self.not_null();
    }

    /// Appends row `i` of another column of the same type.
    pub fn push_from(&mut self, other: &Column, i: usize) {
        if other.is_null(i) {
            return self.push_null();
        }
        match (&mut self.values, &other.values) {
            (Values::Bool(v), Values::Bool(o)) => v.push(o[i]),
            (Values::I16(v), Values::I16(o)) => v.push(o[i]),
            (Values::I32(v), Values::I32(o)) => v.push(o[i]),
            (Values::I64(v), Values::I64(o)) => v.push(o[i]),
            (Values::U32(v), Values::U32(o)) => v.push(o[i]),
            (Values::F32(v), Values::F32(o)) => v.push(o[i]),
            (Values::F64(v), Values::F64(o)) => v.push(o[i]),
            (Values::Uuid(v), Values::Uuid(o)) => v.push(o[i]),
            (Values::Text(v), Values::Text(o)) | (Values::Bytea(v), Values::Bytea(o)) => v.push(o.get(i)),
            _ => return self.push(&other.get(i)),
        }
        self.not_null();
    }

    /// The rows at `rows`, in this order.
    #[must_use]
    pub fn gather(&self, rows: &[u32]) -> Column {
        fn pick<T: Copy>(v: &[T], rows: &[u32]) -> Vec<T> {
            rows.iter().map(|r| v[*r as usize]).collect()
        }
        fn strings(v: &Strings, rows: &[u32]) -> Strings {
            let mut out = Strings::default();
            rows.iter().for_each(|r| out.push(v.get(*r as usize)));
            out
        }
        let values = match &self.values {
            Values::Bool(v) => Values::Bool(pick(v, rows)),
            Values::I16(v) => Values::I16(pick(v, rows)),
            Values::I32(v) => Values::I32(pick(v, rows)),
            Values::I64(v) => Values::I64(pick(v, rows)),
            Values::U32(v) => Values::U32(pick(v, rows)),
            Values::F32(v) => Values::F32(pick(v, rows)),
            Values::F64(v) => Values::F64(pick(v, rows)),
            Values::Uuid(v) => Values::Uuid(pick(v, rows)),
            Values::Text(v) => Values::Text(strings(v, rows)),
            Values::Bytea(v) => Values::Bytea(strings(v, rows)),
            Values::Any(v) => Values::Any(rows.iter().map(|r| v[*r as usize].clone()).collect()),
        };
        let nulls = self.nulls.as_ref().map(|n| {
            let mut out = Bitmap::default();
            rows.iter().for_each(|r| out.push(n.get(*r as usize)));
            out
        });
        Column::from_values(self.kind, values, nulls)
    }

    /// Appends all rows of another column of the same type.
    pub fn extend(&mut self, other: &Column) {
        for i in 0..other.len() {
            self.push_from(other, i);
        }
    }

    /// Compares row `i` with row `j` of another column of the same type, NULLs equal and last.
    pub fn compare_rows(&self, i: usize, other: &Column, j: usize) -> Ordering {
        match (self.is_null(i), other.is_null(j)) {
            (true, true) => return Ordering::Equal,
            (true, false) => return Ordering::Greater,
            (false, true) => return Ordering::Less,
            (false, false) => {}
        }
        match (&self.values, &other.values) {
            (Values::I32(a), Values::I32(b)) => a[i].cmp(&b[j]),
            (Values::I64(a), Values::I64(b)) => a[i].cmp(&b[j]),
            (Values::Text(a), Values::Text(b)) if self.kind != TypeKind::Bpchar => a.get(i).cmp(b.get(j)),
            _ => compare(&self.get(i), &other.get(j), self.kind),
        }
    }

    /// Mixes the hash of every row into `hashes`, which begin as zeroes for the first column.
    pub fn hash_rows(&self, hashes: &mut [u64]) {
        assert_eq!(hashes.len(), self.len(), "one hash for each row");
        for (i, hash) in hashes.iter_mut().enumerate() {
            let mut hasher = StableHasher::default();
            hasher.write_u64(*hash);
            match &self.values {
                _ if self.is_null(i) => hash_into(&Datum::Null, self.kind, &mut hasher),
                Values::I16(v) => hasher.write_i64(v[i].into()),
                Values::I32(v) => hasher.write_i64(v[i].into()),
                Values::I64(v) => hasher.write_i64(v[i]),
                Values::Text(v) if self.kind != TypeKind::Bpchar => {
                    hasher.write(v.get(i));
                    hasher.write_u8(0);
                }
                _ => hash_into(&self.get(i), self.kind, &mut hasher),
            }
            *hash = hasher.finish();
        }
    }

    /// Whether values differ in size.
    pub fn varies(&self) -> bool {
        matches!(self.values, Values::Text(_) | Values::Bytea(_) | Values::Any(_))
    }

    /// Bytes of the value in row `i` that stand outside its fixed part.
    pub fn heap_size(&self, i: usize) -> usize {
        match &self.values {
            Values::Text(v) | Values::Bytea(v) => v.get(i).len(),
            Values::Any(v) => v[i].heap_size(),
            _ => 0,
        }
    }

    /// Bytes of memory, roughly.
    pub fn memory(&self) -> usize {
        let values = match &self.values {
            Values::Bool(v) => v.len(),
            Values::I16(v) => v.len() * 2,
            Values::I32(v) => v.len() * 4,
            Values::U32(v) => v.len() * 4,
            Values::F32(v) => v.len() * 4,
            Values::I64(v) => v.len() * 8,
            Values::F64(v) => v.len() * 8,
            Values::Uuid(v) => v.len() * 16,
            Values::Text(v) | Values::Bytea(v) => v.bytes.len() + v.ends.len() * 8,
            Values::Any(v) => v.iter().map(|d| d.heap_size() + std::mem::size_of::<Datum>()).sum(),
        };
        values + self.nulls.as_ref().map_or(0, |n| n.len() / 8)
    }
}

/// Columns of equal length, and which of their rows count.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Columns, shared where operators pass them on.
    pub columns: Vec<Arc<Column>>,
    /// Physical rows (columns may be none).
    pub rows: usize,
    /// Selected physical rows, ascending; absent: all.
    pub selection: Option<Vec<u32>>,
}

impl Batch {
    /// A batch of columns.
    pub fn new(columns: Vec<Arc<Column>>, rows: usize) -> Batch {
        debug_assert!(columns.iter().all(|c| c.len() == rows));
        Batch { columns, rows, selection: None }
    }

    /// A batch of rows of data with these types.
    pub fn from_rows<'a>(kinds: &[TypeKind], rows: impl IntoIterator<Item = &'a [Datum]>) -> Batch {
        let mut columns: Vec<Column> = kinds.iter().map(|k| Column::new(*k, BATCH_ROWS)).collect();
        let mut count = 0;
        for row in rows {
            for (column, value) in columns.iter_mut().zip(row) {
                column.push(value);
            }
            count += 1;
        }
        Batch::new(columns.into_iter().map(Arc::new).collect(), count)
    }

    /// Selected rows.
    pub fn len(&self) -> usize {
        self.selection.as_ref().map_or(self.rows, Vec::len)
    }

    /// Whether no row is selected.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The physical row of the `i`th selected one.
    #[inline]
    pub fn physical(&self, i: usize) -> usize {
        self.selection.as_ref().map_or(i, |s| s[i] as usize)
    }

    /// The `i`th selected row as data.
    pub fn row(&self, i: usize) -> Vec<Datum> {
        let at = self.physical(i);
        self.columns.iter().map(|c| c.get(at)).collect()
    }

    /// The same rows without a selection.
    #[must_use]
    pub fn compact(self) -> Batch {
        match self.selection {
            None => self,
            Some(rows) => Batch {
                columns: self.columns.iter().map(|c| Arc::new(c.gather(&rows))).collect(),
                rows: rows.len(),
                selection: None,
            },
        }
    }

    /// Bytes of memory, roughly.
    pub fn memory(&self) -> usize {
        self.columns.iter().map(|c| c.memory()).sum::<usize>()
            + self.selection.as_ref().map_or(0, |s| s.len() * 4)
    }
}
