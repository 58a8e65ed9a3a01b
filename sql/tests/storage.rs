//! The format of stored rows and index entries: what goes in comes out, across changes of the
//! table's columns, and keys order as values do.

use std::sync::Arc;

use cairn_sql::catalog::{ColumnDesc, DroppedColumn, IndexColumn, IndexDesc, TableDesc, codec};
use cairn_sql::storage::entry::{EntryKind, TableLayout};
use cairn_sql::storage::key::{PREFIX_LEN, describe_key};
use cairn_sql::types::{Datum, Type, TypeKind, compare};
use proptest::prelude::*;

fn column(name: &str, kind: TypeKind, attnum: i16) -> ColumnDesc {
    ColumnDesc { name: name.into(), ty: Type::new(kind), attnum, ..ColumnDesc::default() }
}

fn index(id: u32, name: &str, unique: bool, columns: &[usize]) -> IndexDesc {
    IndexDesc {
        id,
        name: name.into(),
        unique,
        columns: columns
            .iter()
            .map(|c| IndexColumn { column: *c, descending: false, nulls_first: false })
            .collect(),
        ..IndexDesc::default()
    }
}

/// Key of a char(n) and an int, so that one key column is stored in the value too.
fn table() -> TableDesc {
    TableDesc {
        id: 20000,
        name: "t".into(),
        columns: vec![
            column("a", TypeKind::Int4, 1),
            column("b", TypeKind::Text, 2),
            column("c", TypeKind::Bpchar, 3),
            column("d", TypeKind::Float8, 4),
            column("e", TypeKind::Bytea, 5),
            column("f", TypeKind::Int8, 6),
        ],
        indexes: vec![
            index(20001, "t_pkey", true, &[2, 0]),
            index(20002, "t_f_key", true, &[5]),
            index(20003, "t_b_idx", false, &[1]),
        ],
        next_attnum: 7,
        ..TableDesc::default()
    }
}

fn same(a: &[Datum], b: &[Datum]) -> bool {
    format!("{a:?}") == format!("{b:?}")
}

fn round_trip(table: &TableDesc, row: &[Datum]) -> Vec<Datum> {
    let layout = TableLayout::new(table);
    let (mut key, mut value, mut out) = (Vec::new(), Vec::new(), Vec::new());
    layout.row_key(row, &mut key).expect("encodes");
    layout.row_value(row, &mut value).expect("encodes");
    layout.row.decode(&key[PREFIX_LEN..], &value, &mut out).expect("decodes");
    out
}

fn text() -> impl Strategy<Value = Datum> {
    prop_oneof![
        Just(Datum::Null),
        "[a-c\u{0}-\u{3}é ]{0,12}".prop_map(Datum::text),
        (60_000usize..80_000).prop_map(|n| Datum::text("x".repeat(n))),
    ]
}

fn row() -> impl Strategy<Value = Vec<Datum>> {
    let bytes = prop::collection::vec(any::<u8>(), 0..8).prop_map(|b| Datum::Bytea(b.into()));
    (any::<i32>(), text(), "[a-c]{0,3} {0,3}", any::<i32>(), bytes, prop::option::of(any::<i64>())).prop_map(
        |(a, b, c, d, e, f)| {
            let f = f.map_or(Datum::Null, Datum::Int8);
            vec![Datum::Int4(a), b, Datum::text(c), Datum::Float8(d as f64), e, f]
        },
    )
}

proptest! {
    #[test]
    fn rows_come_back_as_they_were(row in row()) {
        prop_assert!(same(&round_trip(&table(), &row), &row));
    }

    #[test]
    fn rows_survive_changes_of_columns(row in row()) {
        let old = table();
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let layout = TableLayout::new(&old);
        layout.row_key(&row, &mut key).unwrap();
        layout.row_value(&row, &mut value).unwrap();
        // Drops "d", adds "g" with a value for old rows and "h" without.
        let mut new = old.clone();
        new.columns.remove(3);
        new.indexes[1].columns[0].column = 4;
        new.dropped.push(DroppedColumn { attnum: 4, ty: Type::new(TypeKind::Float8) });
        let added = ColumnDesc { missing: Some(Datum::text("new")), ..column("g", TypeKind::Text, 7) };
        new.columns.push(added);
        new.columns.push(column("h", TypeKind::Int2, 8));
        new.next_attnum = 9;
        let new = codec::decode(&codec::encode(&new).unwrap()).unwrap();
        let mut out = Vec::new();
        TableLayout::new(&new).row.decode(&key[PREFIX_LEN..], &value, &mut out).unwrap();
        let mut expected = row.clone();
        expected.remove(3);
        expected.extend([Datum::text("new"), Datum::Null]);
        prop_assert!(same(&out, &expected), "{out:?}");
        prop_assert!(same(&round_trip(&new, &expected), &expected));
    }

    #[test]
    fn keys_order_as_values(a in row(), b in row()) {
        let layout = TableLayout::new(&table());
        let (mut x, mut y) = (Vec::new(), Vec::new());
        layout.row_key(&a, &mut x).unwrap();
        layout.row_key(&b, &mut y).unwrap();
        let order = compare(&a[2], &b[2], TypeKind::Bpchar).then(compare(&a[0], &b[0], TypeKind::Int4));
        prop_assert_eq!(x.cmp(&y), order);
    }

    #[test]
    fn damaged_rows_are_errors(row in row(), cut in 0usize..64, flip in any::<u8>()) {
        let layout = TableLayout::new(&table());
        let (mut key, mut value, mut out) = (Vec::new(), Vec::new(), Vec::new());
        layout.row_key(&row, &mut key).unwrap();
        layout.row_value(&row, &mut value).unwrap();
        value.truncate(cut);
        // It may decode to something else, but must not panic.
        let _ = layout.row.decode(&key[PREFIX_LEN..], &value, &mut out);
        if let Some(byte) = value.get_mut(cut / 2) {
            *byte ^= flip;
        }
        let _ = layout.row.decode(&key[PREFIX_LEN..], &value, &mut out);
    }
}

#[test]
fn unique_entries_hold_the_primary_key_unless_a_column_is_null() {
    let layout = TableLayout::new(&table());
    let mut row = vec![
        Datum::Int4(7),
        Datum::text("b"),
        Datum::text("c  "),
        Datum::Float8(0.5),
        Datum::Null,
        Datum::Int8(9),
    ];
    let mut primary_key = Vec::new();
    layout.row.encode_key(&row, &mut primary_key).unwrap();
    let unique = &layout.indexes[1];
    let mut key = Vec::new();
    assert_eq!(unique.entry(&row, &primary_key, &mut key).unwrap(), EntryKind::Unique);
    assert_eq!(describe_key(&key), "/data/20002/9");
    assert_eq!(unique.primary_key(&key[PREFIX_LEN..], &primary_key).unwrap(), &primary_key[..]);
    row[5] = Datum::Null;
    key.clear();
    assert_eq!(unique.entry(&row, &primary_key, &mut key).unwrap(), EntryKind::Plain);
    assert_eq!(describe_key(&key), "/data/20002/NULL/\"c\"/7");
    assert_eq!(unique.primary_key(&key[PREFIX_LEN..], &[]).unwrap(), &primary_key[..]);
}

#[test]
fn descriptors_of_a_newer_format_are_refused() {
    let table: Arc<TableDesc> = Arc::new(table());
    let mut bytes = codec::encode(&table).unwrap();
    // Field 1, the format, comes first: tag and value.
    assert_eq!(bytes[..2], [0x08, 1]);
    bytes[1] = 2;
    let error = codec::decode(&bytes).unwrap_err();
    assert!(error.message().contains("newer"), "{error}");
}
