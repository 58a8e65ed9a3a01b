//! System views over a small catalog: rows fit their columns, and definitions read as PostgreSQL's.

use std::sync::Arc;

use cairn_sql::batch::Column;
use cairn_sql::catalog::system::{
    CatalogSource, SchemaEntry, SequenceEntry, SessionEntry, SettingEntry, all_views, constraint_oid,
    definition, lookup,
};
use cairn_sql::catalog::{ColumnDesc, IndexColumn, IndexDesc, RelationKind, TableDesc, oids};
use cairn_sql::expr::{EvalContext, SessionView};
use cairn_sql::func;
use cairn_sql::types::{Datum, TextContext, Type, TypeKind, modifier, parse_text, text_of};

struct Sample;

fn column(name: &str, attnum: i16, ty: Type, default: Option<&str>) -> ColumnDesc {
    ColumnDesc {
        name: name.into(),
        ty,
        not_null: attnum == 1,
        default: default.map(str::to_owned),
        attnum,
        hidden: false,
        ..ColumnDesc::default()
    }
}

fn index(id: u32, name: &str, columns: &[(usize, bool)], primary_key: bool, unique: bool) -> IndexDesc {
    let columns = columns.iter().map(|(column, descending)| IndexColumn {
        column: *column,
        descending: *descending,
        nulls_first: *descending,
    });
    IndexDesc {
        id,
        name: name.into(),
        unique,
        columns: columns.collect(),
        primary_key,
        ..IndexDesc::default()
    }
}

fn table(
    id: u32,
    name: &str,
    kind: RelationKind,
    columns: Vec<ColumnDesc>,
    indexes: Vec<IndexDesc>,
) -> Arc<TableDesc> {
    let next_attnum = columns.len() as i16 + 1;
    Arc::new(TableDesc {
        id,
        schema: oids::PUBLIC,
        name: name.into(),
        kind,
        version: 1,
        columns,
        indexes,
        next_attnum,
        ..TableDesc::default()
    })
}

impl CatalogSource for Sample {
    fn relations(&self) -> Vec<Arc<TableDesc>> {
        let varchar =
            Type { kind: TypeKind::Varchar, modifier: modifier::parse(TypeKind::Varchar, &[20]).unwrap() };
        let hidden = ColumnDesc { name: "rowid".into(), hidden: true, attnum: 2, ..ColumnDesc::default() };
        vec![
            table(
                16_384,
                "accounts",
                RelationKind::Table,
                vec![
                    column("id", 1, TypeKind::Int4.into(), Some("nextval('accounts_id_seq'::regclass)")),
                    column("Owner", 2, varchar, None),
                ],
                vec![
                    index(16_385, "accounts_pkey", &[(0, false)], true, true),
                    index(16_386, "accounts_owner", &[(1, false), (0, true)], false, false),
                ],
            ),
            table(
                16_390,
                "log",
                RelationKind::Table,
                vec![column("line", 1, TypeKind::Text.into(), None), hidden],
                vec![index(16_391, "log_rowid", &[(1, false)], false, true)],
            ),
            table(16_392, "accounts_id_seq", RelationKind::Sequence, Vec::new(), Vec::new()),
        ]
    }

    fn schemas(&self) -> Vec<SchemaEntry> {
        vec![SchemaEntry { oid: oids::PUBLIC, name: "public".into() }]
    }

    fn search_path(&self) -> Vec<String> {
        vec!["public".into()]
    }

    fn database(&self) -> String {
        "postgres".into()
    }

    fn sessions(&self) -> Vec<SessionEntry> {
        vec![SessionEntry { pid: 7, user: "postgres".into(), state: "idle", ..SessionEntry::default() }]
    }

    fn settings(&self) -> Vec<SettingEntry> {
        let text = |s: &str| s.to_owned();
        vec![SettingEntry {
            name: text("TimeZone"),
            value: text("UTC"),
            description: text("zone"),
            reset: text("UTC"),
        }]
    }

    fn index_size(&self, index: u32) -> Option<u64> {
        Some(u64::from(index) * 10)
    }

    fn sequence(&self, _: u32) -> Option<SequenceEntry> {
        Some(SequenceEntry { start: 1, increment: 1, min: 1, max: i64::MAX, cycle: false, last_value: None })
    }
}

struct SampleSession;

impl SessionView for SampleSession {
    fn clock_micros(&self) -> u64 {
        0
    }

    fn random(&self) -> u64 {
        1
    }

    fn current_user(&self) -> String {
        "postgres".into()
    }

    fn database(&self) -> String {
        "postgres".into()
    }

    fn backend_pid(&self) -> i32 {
        7
    }

    fn search_path(&self) -> Vec<String> {
        vec!["public".into()]
    }

    fn setting(&self, _: &str) -> Option<String> {
        None
    }

    fn catalog(&self) -> Option<Arc<dyn CatalogSource>> {
        Some(Arc::new(Sample))
    }
}

fn context() -> EvalContext {
    EvalContext {
        text: Arc::new(TextContext {
            names: Some(Arc::new(definition::Names(Arc::new(Sample)))),
            ..TextContext::default()
        }),
        session: Arc::new(SampleSession),
        ..EvalContext::constant()
    }
}

fn call(name: &str, args: &[(TypeKind, Datum)]) -> String {
    let kinds: Vec<TypeKind> = args.iter().map(|(k, _)| *k).collect();
    let builtin = func::lookup_function(name).iter().find(|b| b.args == kinds).expect("the function exists");
    let types: Vec<Type> = kinds.iter().map(|k| (*k).into()).collect();
    let values: Vec<Datum> = args.iter().map(|(_, d)| d.clone()).collect();
    let context = context();
    let value = builtin.call(&context, &types, &values).unwrap();
    text_of(&value, builtin.result.into(), &context.text).map_or("NULL".into(), |s| s.to_string())
}

#[test]
fn every_view_yields_rows_that_fit_its_columns() {
    let mut oids = std::collections::BTreeSet::new();
    for view in all_views() {
        assert!(oids.insert(view.oid), "{} shares its oid", view.name);
        for row in (view.rows)(&Sample) {
            assert_eq!(row.len(), view.columns.len(), "{}", view.name);
            for ((name, kind), value) in view.columns.iter().zip(&row) {
                // A column of the declared type refuses another representation.
                let pushed = std::panic::catch_unwind(|| Column::from_datums(*kind, [value]));
                assert!(pushed.is_ok(), "{}.{name}", view.name);
            }
        }
    }
}

#[test]
fn hidden_row_ids_and_their_index_are_not_shown() {
    let class = lookup(None, "pg_class").unwrap();
    let names: Vec<String> =
        (class.rows)(&Sample).iter().map(|r| r[1].as_str().unwrap().to_owned()).collect();
    assert!(names.iter().any(|n| n == "accounts_pkey"));
    assert!(!names.iter().any(|n| n == "log_rowid"));
    let attribute = lookup(None, "pg_attribute").unwrap();
    let of_log = (attribute.rows)(&Sample).into_iter().filter(|r| r[0].as_i64() == Some(16_390)).count();
    assert_eq!(of_log, 1);
}

#[test]
fn definitions_read_as_in_postgresql() {
    let oid = |v: u32| (TypeKind::Oid, Datum::Oid(v));
    assert_eq!(
        call("pg_get_indexdef", &[oid(16_386)]),
        "CREATE INDEX accounts_owner ON public.accounts USING btree (\"Owner\", id DESC)"
    );
    assert_eq!(call("pg_get_constraintdef", &[oid(constraint_oid(16_385))]), "PRIMARY KEY (id)");
    assert_eq!(
        call(
            "pg_get_serial_sequence",
            &[(TypeKind::Text, Datum::text("accounts")), (TypeKind::Text, Datum::text("id"))]
        ),
        "public.accounts_id_seq"
    );
    assert_eq!(call("format_type", &[oid(1043), (TypeKind::Int4, Datum::Int4(24))]), "character varying(20)");
    assert_eq!(call("pg_total_relation_size", &[(TypeKind::Regclass, Datum::Oid(16_384))]), "327710");
    assert_eq!(call("pg_get_userbyid", &[oid(10)]), "postgres");
    assert_eq!(call("pg_table_is_visible", &[oid(16_384)]), "t");
}

#[test]
fn regclass_reads_and_writes_names() {
    let context = context();
    let regclass = Type::new(TypeKind::Regclass);
    let parsed = parse_text("public.accounts", regclass, &context.text).unwrap();
    assert_eq!(parsed.as_i64(), Some(16_384));
    assert_eq!(text_of(&parsed, regclass, &context.text).unwrap().as_ref(), "accounts");
    let view = parse_text("pg_class", regclass, &context.text).unwrap();
    assert_eq!(view.as_i64(), Some(1259));
    let error = parse_text("nothing", regclass, &context.text).unwrap_err();
    assert_eq!(error.to_string(), "42P01: relation \"nothing\" does not exist");
}
