//! `pg_class`: tables, indexes, sequences and the system views.

use super::cell::*;
use super::relation::{Relation, relations};
use super::{CatalogSource, Row};

view! {
    PG_CATALOG "pg_class" 1259 { "oid" Oid, "relname" Name, "relnamespace" Oid, "reltype" Oid, "reloftype" Oid, "relowner" Oid, "relam" Oid, "relfilenode" Oid, "reltablespace" Oid, "relpages" Int4, "reltuples" Float4, "relallvisible" Int4, "reltoastrelid" Oid, "relhasindex" Bool, "relisshared" Bool, "relpersistence" InternalChar, "relkind" InternalChar, "relnatts" Int2, "relchecks" Int2, "relhasrules" Bool, "relhastriggers" Bool, "relhassubclass" Bool, "relrowsecurity" Bool, "relforcerowsecurity" Bool, "relispopulated" Bool, "relreplident" InternalChar, "relispartition" Bool, "relrewrite" Oid, "relfrozenxid" Xid, "relminmxid" Xid, "relacl" AclitemArray, "reloptions" TextArray, "relpartbound" PgNodeTree }
}

fn rows(source: &dyn CatalogSource) -> Vec<Row> {
    relations(source).iter().map(|relation| row(source, relation)).collect()
}

fn row(source: &dyn CatalogSource, relation: &Relation) -> Row {
    let (kind, am, tuples, pages) = match relation {
        Relation::Table(t) => {
            let tuples = t.stats.as_ref().map_or(-1.0, |s| s.rows as f32);
            (b'r', HEAP, tuples, source.index_size(t.indexes[0].id).unwrap_or(0) / 8192)
        }
        Relation::Sequence(_) => (b'S', 0, 1.0, 1),
        Relation::Index(t, i) => {
            let tuples = t.stats.as_ref().map_or(0.0, |s| s.rows as f32);
            (b'i', BTREE, tuples, source.index_size(t.indexes[*i].id).unwrap_or(0) / 8192)
        }
        Relation::View(_) => (b'v', 0, -1.0, 0),
    };
    let has_index = matches!(relation, Relation::Table(t) if t.indexes.iter().any(|i| visible(t, i)));
    VIEW.row(&[
        ("oid", oid(relation.oid())),
        ("relname", name(relation.name())),
        ("relnamespace", oid(relation.schema())),
        ("reltype", oid(0)),
        ("reloftype", oid(0)),
        ("relowner", oid(OWNER)),
        ("relam", oid(am)),
        ("relfilenode", oid(if kind == b'v' { 0 } else { relation.oid() })),
        ("reltablespace", oid(0)),
        ("relpages", int4(pages as i32)),
        ("reltuples", float4(tuples)),
        ("relallvisible", int4(0)),
        ("reltoastrelid", oid(0)),
        ("relhasindex", flag(has_index)),
        ("relisshared", flag(false)),
        ("relpersistence", letter(b'p')),
        ("relkind", letter(kind)),
        ("relnatts", int2(relation.columns().len())),
        ("relchecks", int2(0)),
        ("relhasrules", flag(false)),
        ("relhastriggers", flag(false)),
        ("relhassubclass", flag(false)),
        ("relrowsecurity", flag(false)),
        ("relforcerowsecurity", flag(false)),
        ("relispopulated", flag(true)),
        ("relreplident", letter(if kind == b'r' { b'd' } else { b'n' })),
        ("relispartition", flag(false)),
        ("relrewrite", oid(0)),
        ("relfrozenxid", oid(0)),
        ("relminmxid", oid(0)),
    ])
}
