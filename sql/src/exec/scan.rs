//! Table scans: over the primary index, over a secondary index alone where that has every column
//! wanted, or over a secondary index with a look at each row.

use std::sync::Arc;

use bytes::Bytes;
use cairn_kv::encoding;
use cairn_kv::seam::BoxFuture;
use cairn_txn::Scan;

use super::access::AccessPlan;
use super::{Context, Meters, Operator, Plan};
use crate::batch::{BATCH_BYTES, Batch, Column};
use crate::catalog::TableDesc;
use crate::expr::Program;
use crate::storage::entry::TableLayout;
use crate::storage::key::PREFIX_LEN;
use crate::storage::row::{Place, RowReader};
use crate::storage::{key, row};
use crate::types::{Datum, TypeKind};
use crate::{Result, SqlError, SqlState};

/// Rows a scan decodes before it hands them on: several batches, since each chunk opens iterators.
const SCAN_ROWS: usize = 4096;

/// Rows looked up at a time behind a secondary index.
const LOOKUP_ROWS: usize = 512;

/// Where an output column comes from.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// The n-th element of the key scanned.
    Key(usize),
    /// Stored column, by position.
    Value(usize),
    /// The row's encoded primary key.
    PrimaryKey,
}

/// Decodes rows into columns.
pub struct Decoder {
    layout: Arc<TableLayout>,
    kinds: Vec<TypeKind>,
    /// By output column.
    sources: Vec<Source>,
    /// For each key element up to the last one wanted: which output columns get it.
    key_elements: Vec<(TypeKind, Vec<usize>)>,
    reads_value: bool,
}

impl Decoder {
    /// A decoder of rows under the primary index.
    pub fn of_rows(table: &TableDesc, layout: &Arc<TableLayout>, columns: &[usize]) -> Decoder {
        let sources = columns
            .iter()
            .map(|c| match *c {
                c if c == table.columns.len() => Source::PrimaryKey,
                c => match layout.row.place(c) {
                    Place::Key(n) => Source::Key(n),
                    _ => Source::Value(c),
                },
            })
            .collect();
        let elements = layout.primary().columns.iter().map(|c| c.kind).collect();
        Decoder::new(table, layout, columns, sources, elements)
    }

    /// A decoder of a secondary index's entries, if these hold all the columns.
    pub fn of_entries(
        table: &TableDesc,
        layout: &Arc<TableLayout>,
        index: usize,
        columns: &[usize],
    ) -> Option<Decoder> {
        let entry = &layout.indexes[index];
        let mut elements: Vec<(usize, TypeKind)> = entry.columns.iter().map(|c| (c.column, c.kind)).collect();
        if !entry.unique {
            elements.extend(layout.row.key_columns().iter().map(|c| (c.column, c.kind)));
        }
        let sources = columns
            .iter()
            .map(|wanted| {
                if *wanted == table.columns.len() {
                    return None;
                }
                let position = elements.iter().position(|(c, kind)| c == wanted && key::is_exact(*kind))?;
                Some(Source::Key(position))
            })
            .collect::<Option<Vec<_>>>()?;
        let kinds = elements.iter().map(|(_, kind)| *kind).collect();
        Some(Decoder::new(table, layout, columns, sources, kinds))
    }

    fn new(
        table: &TableDesc,
        layout: &Arc<TableLayout>,
        columns: &[usize],
        sources: Vec<Source>,
        elements: Vec<TypeKind>,
    ) -> Decoder {
        let kinds =
            columns.iter().map(|c| table.columns.get(*c).map_or(TypeKind::Bytea, |c| c.ty.kind)).collect();
        let mut key_elements: Vec<(TypeKind, Vec<usize>)> =
            elements.into_iter().map(|kind| (kind, Vec::new())).collect();
        for (output, source) in sources.iter().enumerate() {
            if let Source::Key(n) = source {
                key_elements[*n].1.push(output);
            }
        }
        while key_elements.last().is_some_and(|(_, outputs)| outputs.is_empty()) {
            key_elements.pop();
        }
        let reads_value = sources.iter().any(|s| matches!(s, Source::Value(_)));
        Decoder { layout: layout.clone(), kinds, sources, key_elements, reads_value }
    }

    /// Empty columns for the output.
    pub fn columns(&self, capacity: usize) -> Vec<Column> {
        self.kinds.iter().map(|kind| Column::new(*kind, capacity)).collect()
    }

    /// Whether rows need not be looked at.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Appends one row to the columns. `key` includes the index's prefix.
    pub fn decode(&self, key: &[u8], value: &[u8], columns: &mut [Column]) -> Result<()> {
        let mut rest = &key[PREFIX_LEN..];
        let primary_key = rest;
        for (kind, outputs) in &self.key_elements {
            match outputs.as_slice() {
                [] => encoding::skip(&mut rest).map_err(key::corrupt)?,
                outputs => push_key_element(&mut rest, *kind, outputs, columns)?,
            }
        }
        if self.reads_value {
            let reader = RowReader::new(&self.layout.row, value)?;
            for (column, source) in columns.iter_mut().zip(&self.sources) {
                if let Source::Value(position) = source {
                    push_stored(&reader, *position, column)?;
                }
            }
        }
        for (column, source) in columns.iter_mut().zip(&self.sources) {
            if let Source::PrimaryKey = source {
                column.push_bytes(primary_key);
            }
        }
        Ok(())
    }
}

fn push_key_element(
    rest: &mut &[u8],
    kind: TypeKind,
    outputs: &[usize],
    columns: &mut [Column],
) -> Result<()> {
    // The common case without the detour of a datum.
    if let (TypeKind::Int4 | TypeKind::Int8, [output]) = (kind, outputs) {
        let column = &mut columns[*output];
        match encoding::take_i64(rest).map_err(key::corrupt)? {
            None => column.push_null(),
            Some(v) if kind == TypeKind::Int8 => column.push_i64(v),
            Some(v) => column.push_i32(i32::try_from(v).map_err(|_| {
                SqlError::new(SqlState::DATA_CORRUPTED, "key element does not fit its column")
            })?),
        }
        return Ok(());
    }
    let datum = key::take_datum(rest, kind)?;
    for output in outputs {
        columns[*output].push(&datum);
    }
    Ok(())
}

fn push_stored(reader: &RowReader<'_>, position: usize, column: &mut Column) -> Result<()> {
    if let Some(missing) = reader.missing(position) {
        column.push(missing);
        return Ok(());
    }
    let Some(bytes) = reader.bytes(position)? else {
        column.push_null();
        return Ok(());
    };
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("fixed width of eight"));
    match column.kind() {
        TypeKind::Int4 | TypeKind::Date => {
            column.push_i32(i32::from_le_bytes(bytes.try_into().expect("fixed width of four")));
        }
        TypeKind::Int8 | TypeKind::Timestamp | TypeKind::TimestampTz | TypeKind::Time => {
            column.push_i64(word(bytes) as i64);
        }
        TypeKind::Float8 => column.push_f64(f64::from_bits(word(bytes))),
        TypeKind::Text | TypeKind::Varchar | TypeKind::Bpchar => column.push_str(row::text_of(bytes)?),
        TypeKind::Bytea => column.push_bytes(bytes),
        kind => column.push(&row::datum_of(bytes, kind)?),
    }
    Ok(())
}

/// How a scan gets at its columns.
enum Way {
    /// Entries scanned have them all.
    Direct(Decoder),
    /// Each entry leads to a row.
    Lookup(Decoder),
}

/// A compiled table scan.
pub struct ScanPlan {
    layout: Arc<TableLayout>,
    access: AccessPlan,
    way: Way,
    filter: Option<Program>,
    limit: Option<u64>,
}

impl ScanPlan {
    /// Compiles a scan.
    pub fn new(
        table: &TableDesc,
        access: AccessPlan,
        columns: &[usize],
        filter: Option<Program>,
        limit: Option<u64>,
    ) -> ScanPlan {
        let layout = Arc::new(TableLayout::new(table));
        let way = if access.index == 0 {
            Way::Direct(Decoder::of_rows(table, &layout, columns))
        } else {
            match Decoder::of_entries(table, &layout, access.index, columns) {
                Some(decoder) => Way::Direct(decoder),
                None => Way::Lookup(Decoder::of_rows(table, &layout, columns)),
            }
        };
        ScanPlan { layout, access, way, filter, limit }
    }
}

impl Plan for Arc<ScanPlan> {
    fn open(&self, _: &Meters) -> Box<dyn Operator> {
        Box::new(TableScan { plan: self.clone(), rest: Rest::Unopened, ahead: Ahead::default(), returned: 0 })
    }
}

struct TableScan {
    plan: Arc<ScanPlan>,
    rest: Rest,
    ahead: Ahead,
    returned: u64,
}

/// Rows that entries have led to and that are not looked up yet.
#[derive(Default)]
struct Ahead {
    keys: Vec<Bytes>,
    /// Those before it are.
    from: usize,
}

enum Rest {
    Unopened,
    Span(Scan),
    Nothing,
}

impl Operator for TableScan {
    fn next<'a>(&'a mut self, cx: &'a mut Context<'_>) -> BoxFuture<'a, Result<Option<Batch>>> {
        Box::pin(async move {
            if let Rest::Unopened = self.rest
                && self.plan.access.unique
            {
                self.rest = Rest::Nothing;
                let mut batch = point(cx, &self.plan).await?;
                if let Some(filter) = &self.plan.filter
                    && batch.rows > 0
                {
                    filter.filter(cx.eval, &mut batch)?;
                }
                return Ok((!batch.is_empty()).then_some(batch));
            }
            if let Rest::Unopened = self.rest {
                let span = self.plan.access.span(&self.plan.layout, cx.eval, &[])?;
                self.rest = match span {
                    None => Rest::Nothing,
                    Some(span) => Rest::Span(Scan {
                        start: span.start,
                        end: span.end,
                        reverse: self.plan.access.reverse,
                    }),
                };
            }
            loop {
                cx.check_cancel()?;
                let plan = &self.plan;
                // Where the parent wants few rows, no more are decoded; a filter may drop some.
                let wanted = match plan.limit {
                    Some(limit) if plan.filter.is_none() => limit.saturating_sub(self.returned).max(1),
                    Some(limit) => limit.saturating_sub(self.returned).saturating_mul(4).max(64),
                    None => u64::MAX,
                };
                let mut batch = Batch::default();
                if let Rest::Span(scan) = &mut self.rest
                    && self.ahead.is_empty()
                {
                    let next = match &plan.way {
                        Way::Direct(decoder) => {
                            let (rows, next) = scan_chunk(cx, scan, decoder, wanted).await?;
                            batch = rows;
                            next
                        }
                        Way::Lookup(_) => self.ahead.scan(cx, scan, plan, wanted).await?,
                    };
                    match next {
                        Some(next) if scan.reverse => scan.end = next,
                        Some(next) => scan.start = next,
                        None => self.rest = Rest::Nothing,
                    }
                } else if self.ahead.is_empty() {
                    return Ok(None);
                }
                if let Way::Lookup(decoder) = &plan.way {
                    batch = self.ahead.fetch(cx, decoder).await?;
                }
                if let Some(filter) = &self.plan.filter
                    && batch.rows > 0
                {
                    filter.filter(cx.eval, &mut batch)?;
                }
                if !batch.is_empty() {
                    self.returned += batch.len() as u64;
                    return Ok(Some(batch));
                }
            }
        })
    }
}

/// Reads the one row that an access to all columns of a unique index can find.
async fn point(cx: &mut Context<'_>, plan: &ScanPlan) -> Result<Batch> {
    let mut key = Vec::with_capacity(32);
    if !plan.access.point(&plan.layout, cx.eval, &[], &mut key)? {
        return Ok(Batch::default());
    }
    let (Way::Direct(decoder) | Way::Lookup(decoder)) = &plan.way;
    let Some(value) = cx.txn.get(&key).await? else { return Ok(Batch::default()) };
    if let Way::Lookup(_) = &plan.way {
        let row_key: Bytes = [&plan.layout.primary().prefix, &value[..]].concat().into();
        return fetch_rows(cx, &[row_key], decoder).await.map(|(batch, _)| batch);
    }
    let mut columns = decoder.columns(1);
    decoder.decode(&key, &value, &mut columns)?;
    Ok(Batch::new(columns.into_iter().map(Arc::new).collect(), 1))
}

/// Decodes a chunk of entries; returns where to go on.
async fn scan_chunk(
    cx: &mut Context<'_>,
    scan: &Scan,
    decoder: &Decoder,
    wanted: u64,
) -> Result<(Batch, Option<Bytes>)> {
    if decoder.is_empty() {
        let mut rows: usize = 0;
        let next = cx
            .txn
            .scan(scan, &mut |_, _| {
                rows += 1;
                (rows as u64) < wanted
            })
            .await?;
        return Ok((Batch::new(Vec::new(), rows), next));
    }
    let wanted = (wanted as usize).min(SCAN_ROWS);
    let mut columns = decoder.columns(wanted.min(SCAN_ROWS));
    let (mut rows, mut bytes) = (0, 0);
    let mut failure = None;
    let next = cx
        .txn
        .scan(scan, &mut |key, value| match decoder.decode(key, value, &mut columns) {
            Ok(()) => {
                rows += 1;
                bytes += value.len();
                rows < wanted && bytes < BATCH_BYTES
            }
            Err(error) => {
                failure = Some(error);
                false
            }
        })
        .await?;
    if let Some(error) = failure {
        return Err(error);
    }
    Ok((Batch::new(columns.into_iter().map(Arc::new).collect(), rows), next))
}

impl Ahead {
    fn is_empty(&self) -> bool {
        self.from == self.keys.len()
    }

    /// Finds the rows that a chunk of a secondary index leads to; returns where to go on.
    async fn scan(
        &mut self,
        cx: &mut Context<'_>,
        scan: &Scan,
        plan: &ScanPlan,
        wanted: u64,
    ) -> Result<Option<Bytes>> {
        let wanted = (wanted as usize).min(LOOKUP_ROWS);
        let index = &plan.layout.indexes[plan.access.index];
        let prefix = plan.layout.primary().prefix;
        let keys = &mut self.keys;
        keys.clear();
        self.from = 0;
        let mut failure = None;
        let next = cx
            .txn
            .scan(scan, &mut |key, value| match index.primary_key(&key[PREFIX_LEN..], value) {
                Ok(primary_key) => {
                    keys.push([&prefix, primary_key].concat().into());
                    keys.len() < wanted
                }
                Err(error) => {
                    failure = Some(error);
                    false
                }
            })
            .await?;
        failure.map_or(Ok(next), Err)
    }

    /// Looks up as many as make a batch.
    async fn fetch(&mut self, cx: &mut Context<'_>, decoder: &Decoder) -> Result<Batch> {
        let (batch, fetched) = fetch_rows(cx, &self.keys[self.from..], decoder).await?;
        self.from += fetched;
        Ok(batch)
    }
}

/// Reads rows by their whole keys, in order, up to about [`BATCH_BYTES`] of them; returns how many.
/// All must exist: an index entry led to them.
async fn fetch_rows(cx: &mut Context<'_>, keys: &[Bytes], decoder: &Decoder) -> Result<(Batch, usize)> {
    let mut columns = decoder.columns(keys.len());
    let fetched = fetch(cx, keys, |position, value| {
        let value = value.ok_or_else(|| dangling(&keys[position]))?;
        decoder.decode(&keys[position], value, &mut columns)?;
        Ok(value.len())
    })
    .await?;
    Ok((Batch::new(columns.into_iter().map(Arc::new).collect(), fetched), fetched))
}

/// Reads several keys in order; `row` takes each with its position and says how many bytes it makes of it.
/// Stops at about [`BATCH_BYTES`], and at an error; returns how many were read.
pub async fn fetch(
    cx: &mut Context<'_>,
    keys: &[Bytes],
    mut row: impl FnMut(usize, Option<&[u8]>) -> Result<usize> + Send,
) -> Result<usize> {
    let (mut bytes, mut failure) = (0, None);
    let mut take = |position: usize, value: Option<&[u8]>| match row(position, value) {
        Ok(more) => {
            bytes += more;
            bytes < BATCH_BYTES
        }
        Err(error) => {
            failure = Some(error);
            false
        }
    };
    let fetched = cx.txn.get_many(keys, &mut take).await?;
    failure.map_or(Ok(fetched), Err)
}

/// An index entry without a row.
pub fn dangling(row_key: &[u8]) -> SqlError {
    SqlError::new(
        SqlState::DATA_CORRUPTED,
        format!("an index entry leads to the missing row {}", key::describe_key(row_key)),
    )
}

/// Appends a datum row from a batch row, reusing `out`.
pub fn read_row(batch: &Batch, i: usize, out: &mut Vec<Datum>) {
    let at = batch.physical(i);
    out.clear();
    out.extend(batch.columns.iter().map(|c| c.get(at)));
}
