//! Relations as clients see them: tables, sequences, indexes and the system views alike.

use std::sync::Arc;

use super::cell::{PG_CATALOG, visible};
use super::{CatalogSource, SystemView, all_views};
use crate::catalog::{Oid, RelationKind, TableDesc, oids};
use crate::types::{Type, TypeKind};

/// A relation.
#[derive(Clone, Debug)]
pub enum Relation {
    /// A table.
    Table(Arc<TableDesc>),
    /// A sequence.
    Sequence(Arc<TableDesc>),
    /// An index, by its position in the table.
    Index(Arc<TableDesc>, usize),
    /// A system view.
    View(&'static SystemView),
}

/// A column of a relation.
pub(super) struct RelationColumn {
    pub name: String,
    pub number: i16,
    pub ty: Type,
    pub not_null: bool,
    pub has_default: bool,
    pub default: Option<String>,
}

impl Relation {
    /// Its OID.
    pub fn oid(&self) -> Oid {
        match self {
            Relation::Table(t) | Relation::Sequence(t) => t.id,
            Relation::Index(t, i) => t.indexes[*i].id,
            Relation::View(v) => v.oid,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Relation::Table(t) | Relation::Sequence(t) => &t.name,
            Relation::Index(t, i) => &t.indexes[*i].name,
            Relation::View(v) => v.name,
        }
    }

    /// OID of its schema.
    pub fn schema(&self) -> Oid {
        match self {
            Relation::Table(t) | Relation::Sequence(t) | Relation::Index(t, _) => t.schema,
            Relation::View(v) if v.schema == PG_CATALOG => oids::PG_CATALOG,
            Relation::View(_) => oids::INFORMATION_SCHEMA,
        }
    }

    /// Its columns, without hidden ones.
    pub(super) fn columns(&self) -> Vec<RelationColumn> {
        let plain = |name: &str, number: usize, ty: Type| RelationColumn {
            name: name.to_owned(),
            number: number as i16,
            ty,
            not_null: false,
            has_default: false,
            default: None,
        };
        match self {
            Relation::Table(t) => t
                .columns
                .iter()
                .filter(|c| !c.hidden)
                .map(|c| RelationColumn {
                    name: c.name.clone(),
                    number: c.attnum,
                    ty: c.ty,
                    not_null: c.not_null,
                    has_default: c.default.is_some(),
                    default: c.default.clone(),
                })
                .collect(),
            Relation::Sequence(_) => {
                [("last_value", TypeKind::Int8), ("log_cnt", TypeKind::Int8), ("is_called", TypeKind::Bool)]
                    .iter()
                    .zip(1..)
                    .map(|((name, kind), number)| RelationColumn {
                        not_null: true,
                        ..plain(name, number, (*kind).into())
                    })
                    .collect()
            }
            Relation::Index(t, i) => t.indexes[*i]
                .columns
                .iter()
                .zip(1..)
                .map(|(c, number)| plain(&t.columns[c.column].name, number, t.columns[c.column].ty))
                .collect(),
            Relation::View(v) => v
                .columns
                .iter()
                .zip(1..)
                .map(|((name, kind), number)| plain(name, number, (*kind).into()))
                .collect(),
        }
    }
}

fn of_table(table: &Arc<TableDesc>) -> Vec<Relation> {
    let mut all = vec![match table.kind {
        RelationKind::Sequence => Relation::Sequence(table.clone()),
        _ => Relation::Table(table.clone()),
    }];
    let shown = (0..table.indexes.len()).filter(|i| visible(table, &table.indexes[*i]));
    all.extend(shown.map(|i| Relation::Index(table.clone(), i)));
    all
}

/// All relations.
pub(super) fn relations(source: &dyn CatalogSource) -> Vec<Relation> {
    let tables = source.relations();
    all_views().map(Relation::View).chain(tables.iter().flat_map(of_table)).collect()
}

/// A relation by OID.
pub fn find_relation(source: &dyn CatalogSource, oid: Oid) -> Option<Relation> {
    if let Some(view) = all_views().find(|v| v.oid == oid) {
        return Some(Relation::View(view));
    }
    if let Some(table) = source.relation(oid) {
        return of_table(&table).into_iter().next();
    }
    relations(source).into_iter().find(|r| r.oid() == oid)
}

/// A relation by name, in a schema or along the search path (`pg_catalog` first, unless the path
/// says otherwise).
pub(super) fn find_by_name(source: &dyn CatalogSource, schema: Option<&str>, name: &str) -> Option<Relation> {
    let path = match schema {
        Some(schema) => vec![schema.to_owned()],
        None => effective_path(source),
    };
    let named: Vec<Relation> = relations(source).into_iter().filter(|r| r.name() == name).collect();
    path.iter()
        .find_map(|schema| named.iter().find(|r| super::schema_name(source, r.schema()) == *schema).cloned())
}

fn effective_path(source: &dyn CatalogSource) -> Vec<String> {
    let mut path = source.search_path();
    if !path.iter().any(|s| s == PG_CATALOG) {
        path.insert(0, PG_CATALOG.to_owned());
    }
    path
}

/// Whether a relation's bare name finds it.
pub fn is_visible(source: &dyn CatalogSource, relation: &Relation) -> bool {
    find_by_name(source, None, relation.name()).is_some_and(|found| found.oid() == relation.oid())
}
