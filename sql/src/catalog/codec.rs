//! Descriptors as stored bytes: protocol buffers, so that fields can be added, behind a format
//! number that refuses what this binary does not know.

use prost::Message;

use super::{
    ColumnDesc, ColumnStats, DroppedColumn, IndexColumn, IndexDesc, RelationKind, SequenceDesc, TableDesc,
    TableStats,
};
use crate::storage::row;
use crate::types::{Datum, Type, TypeKind};
use crate::{Result, SqlError, SqlState};

/// Newest descriptor format this binary reads.
pub const FORMAT: u32 = 1;

#[derive(Clone, PartialEq, Message)]
struct StoredTable {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(uint32, tag = "2")]
    id: u32,
    #[prost(uint32, tag = "3")]
    schema: u32,
    #[prost(string, tag = "4")]
    name: String,
    /// 0: table, 1: sequence.
    #[prost(uint32, tag = "5")]
    kind: u32,
    #[prost(uint64, tag = "6")]
    version: u64,
    #[prost(message, repeated, tag = "7")]
    columns: Vec<StoredColumn>,
    #[prost(message, repeated, tag = "8")]
    indexes: Vec<StoredIndex>,
    #[prost(int32, tag = "9")]
    next_attnum: i32,
    #[prost(message, optional, tag = "10")]
    stats: Option<StoredStats>,
    #[prost(message, repeated, tag = "11")]
    dropped: Vec<StoredColumn>,
    #[prost(message, optional, tag = "12")]
    sequence: Option<StoredSequence>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredColumn {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "2")]
    type_oid: u32,
    #[prost(int32, tag = "3")]
    modifier: i32,
    #[prost(bool, tag = "4")]
    not_null: bool,
    #[prost(string, optional, tag = "5")]
    default_text: Option<String>,
    #[prost(int32, tag = "6")]
    attnum: i32,
    #[prost(bool, tag = "7")]
    hidden: bool,
    /// As in a row: `storage::row::datum_of` reads it.
    #[prost(bytes = "vec", optional, tag = "8")]
    missing: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredIndex {
    #[prost(uint32, tag = "1")]
    id: u32,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(bool, tag = "3")]
    unique: bool,
    #[prost(message, repeated, tag = "4")]
    columns: Vec<StoredIndexColumn>,
    #[prost(bool, tag = "5")]
    primary_key: bool,
    #[prost(bool, tag = "6")]
    constraint: bool,
    #[prost(uint32, tag = "7")]
    collation_version: u32,
}

#[derive(Clone, PartialEq, Message)]
struct StoredIndexColumn {
    /// Attribute number.
    #[prost(int32, tag = "1")]
    attnum: i32,
    #[prost(bool, tag = "2")]
    descending: bool,
    #[prost(bool, tag = "3")]
    nulls_first: bool,
}

#[derive(Clone, PartialEq, Message)]
struct StoredStats {
    #[prost(double, tag = "1")]
    rows: f64,
    #[prost(message, repeated, tag = "2")]
    columns: Vec<StoredColumnStats>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredColumnStats {
    #[prost(double, tag = "1")]
    distinct: f64,
    #[prost(double, tag = "2")]
    null_fraction: f64,
    #[prost(string, repeated, tag = "3")]
    histogram: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredSequence {
    #[prost(int64, tag = "1")]
    start: i64,
    #[prost(int64, tag = "2")]
    increment: i64,
    #[prost(int64, tag = "3")]
    min: i64,
    #[prost(int64, tag = "4")]
    max: i64,
    #[prost(bool, tag = "5")]
    cycle: bool,
    #[prost(uint32, tag = "6")]
    owner_table: u32,
    #[prost(int32, tag = "7")]
    owner_attnum: i32,
}

/// Encodes a descriptor.
pub fn encode(table: &TableDesc) -> Result<Vec<u8>> {
    let columns = table.columns.iter().map(encode_column).collect::<Result<_>>()?;
    let stored = StoredTable {
        format: FORMAT,
        id: table.id,
        schema: table.schema,
        name: table.name.clone(),
        kind: match table.kind {
            RelationKind::Table => 0,
            RelationKind::Sequence => 1,
        },
        version: table.version,
        columns,
        indexes: table
            .indexes
            .iter()
            .map(|index| StoredIndex {
                id: index.id,
                name: index.name.clone(),
                unique: index.unique,
                columns: index
                    .columns
                    .iter()
                    .map(|c| StoredIndexColumn {
                        attnum: table.columns[c.column].attnum as i32,
                        descending: c.descending,
                        nulls_first: c.nulls_first,
                    })
                    .collect(),
                primary_key: index.primary_key,
                constraint: index.constraint,
                collation_version: index.collation_version,
            })
            .collect(),
        next_attnum: table.next_attnum as i32,
        stats: table.stats.as_ref().map(|stats| StoredStats {
            rows: stats.rows,
            columns: stats
                .columns
                .iter()
                .map(|c| StoredColumnStats {
                    distinct: c.distinct,
                    null_fraction: c.null_fraction,
                    histogram: c.histogram.clone(),
                })
                .collect(),
        }),
        dropped: table
            .dropped
            .iter()
            .map(|d| StoredColumn {
                type_oid: d.ty.oid(),
                modifier: d.ty.modifier,
                attnum: d.attnum as i32,
                ..Default::default()
            })
            .collect(),
        sequence: table.sequence.as_ref().map(|s| StoredSequence {
            start: s.start,
            increment: s.increment,
            min: s.min,
            max: s.max,
            cycle: s.cycle,
            owner_table: s.owned_by.map_or(0, |(table, _)| table),
            owner_attnum: s.owned_by.map_or(0, |(_, attnum)| attnum as i32),
        }),
    };
    Ok(stored.encode_to_vec())
}

fn encode_column(column: &ColumnDesc) -> Result<StoredColumn> {
    let missing = match &column.missing {
        None | Some(Datum::Null) => None,
        Some(datum) => Some(row::bytes_of(datum, column.ty.kind)?),
    };
    Ok(StoredColumn {
        name: column.name.clone(),
        type_oid: column.ty.oid(),
        modifier: column.ty.modifier,
        not_null: column.not_null,
        default_text: column.default.clone(),
        attnum: column.attnum as i32,
        hidden: column.hidden,
        missing,
    })
}

/// Decodes a descriptor.
pub fn decode(bytes: &[u8]) -> Result<TableDesc> {
    let stored = StoredTable::decode(bytes).map_err(|e| corrupt(&e.to_string()))?;
    if stored.format > FORMAT {
        return Err(SqlError::new(
            SqlState::DATA_CORRUPTED,
            format!(
                "descriptor format {} is newer than this binary's {FORMAT}: use a newer cairn",
                stored.format
            ),
        ));
    }
    let columns = stored.columns.into_iter().map(decode_column).collect::<Result<Vec<_>>>()?;
    let position = |attnum: i32| {
        columns
            .iter()
            .position(|c| c.attnum as i32 == attnum)
            .ok_or_else(|| corrupt("an index names a column that does not exist"))
    };
    let mut indexes = Vec::with_capacity(stored.indexes.len());
    for index in stored.indexes {
        let mut index_columns = Vec::with_capacity(index.columns.len());
        for c in index.columns {
            index_columns.push(IndexColumn {
                column: position(c.attnum)?,
                descending: c.descending,
                nulls_first: c.nulls_first,
            });
        }
        indexes.push(IndexDesc {
            id: index.id,
            name: index.name,
            unique: index.unique,
            columns: index_columns,
            primary_key: index.primary_key,
            constraint: index.constraint,
            collation_version: index.collation_version,
        });
    }
    let dropped = stored
        .dropped
        .into_iter()
        .map(|d| Ok(DroppedColumn { attnum: d.attnum as i16, ty: decode_type(d.type_oid, d.modifier)? }))
        .collect::<Result<Vec<_>>>()?;
    let kind = match stored.kind {
        0 => RelationKind::Table,
        1 => RelationKind::Sequence,
        _ => return Err(corrupt("unknown kind of relation")),
    };
    let numbers = columns.iter().map(|c| c.attnum).chain(dropped.iter().map(|d| d.attnum));
    if numbers.into_iter().any(|n| n < 1 || n as i32 >= stored.next_attnum) {
        return Err(corrupt("a column number is out of range"));
    }
    Ok(TableDesc {
        id: stored.id,
        schema: stored.schema,
        name: stored.name,
        kind,
        version: stored.version,
        columns,
        indexes,
        next_attnum: stored.next_attnum as i16,
        stats: stored.stats.map(|s| TableStats {
            rows: s.rows,
            columns: s
                .columns
                .into_iter()
                .map(|c| ColumnStats {
                    distinct: c.distinct,
                    null_fraction: c.null_fraction,
                    histogram: c.histogram,
                })
                .collect(),
        }),
        dropped,
        sequence: stored.sequence.map(|s| SequenceDesc {
            start: s.start,
            increment: s.increment,
            min: s.min,
            max: s.max,
            cycle: s.cycle,
            owned_by: (s.owner_table != 0).then_some((s.owner_table, s.owner_attnum as i16)),
        }),
        changed_at: cairn_kv::Timestamp::ZERO,
    })
}

fn decode_column(column: StoredColumn) -> Result<ColumnDesc> {
    let ty = decode_type(column.type_oid, column.modifier)?;
    let missing = column.missing.map(|bytes| row::datum_of(&bytes, ty.kind)).transpose()?;
    Ok(ColumnDesc {
        name: column.name,
        ty,
        not_null: column.not_null,
        default: column.default_text,
        attnum: column.attnum as i16,
        hidden: column.hidden,
        missing,
    })
}

fn decode_type(oid: u32, modifier: i32) -> Result<Type> {
    let kind = TypeKind::from_oid(oid).ok_or_else(|| corrupt("unknown column type"))?;
    Ok(Type { kind, modifier })
}

fn corrupt(why: &str) -> SqlError {
    SqlError::new(SqlState::DATA_CORRUPTED, format!("stored descriptor is malformed: {why}"))
}
