//! Objects as SQL text: `pg_get_indexdef`, `pg_get_constraintdef`, and names for `regclass`.

use super::cell::index_of_constraint;
use super::relation::{Relation, find_by_name, find_relation, is_visible};
use super::{CatalogSource, schemas};
use crate::catalog::{IndexColumn, IndexDesc, Oid, TableDesc};
use crate::func::quote_identifier;

fn qualified(source: &dyn CatalogSource, schema: Oid, name: &str) -> String {
    format!("{}.{}", quote_identifier(&super::schema_name(source, schema)), quote_identifier(name))
}

fn column(table: &TableDesc, column: &IndexColumn) -> String {
    let order = match (column.descending, column.nulls_first) {
        (false, false) => "",
        (false, true) => " NULLS FIRST",
        (true, true) => " DESC",
        (true, false) => " DESC NULLS LAST",
    };
    quote_identifier(&table.columns[column.column].name) + order
}

/// The CREATE INDEX of an index.
pub fn index(source: &dyn CatalogSource, table: &TableDesc, index: &IndexDesc) -> String {
    let columns: Vec<String> = index.columns.iter().map(|c| column(table, c)).collect();
    format!(
        "CREATE {}INDEX {} ON {} USING btree ({})",
        if index.unique { "UNIQUE " } else { "" },
        quote_identifier(&index.name),
        qualified(source, table.schema, &table.name),
        columns.join(", ")
    )
}

/// An index by OID, as CREATE INDEX, or one of its columns (from 1).
pub fn index_by_oid(source: &dyn CatalogSource, oid: Oid, number: i32) -> Option<String> {
    let Relation::Index(table, at) = find_relation(source, oid)? else { return None };
    let found = &table.indexes[at];
    if number == 0 {
        return Some(index(source, &table, found));
    }
    let column = usize::try_from(number - 1).ok().and_then(|i| found.columns.get(i));
    Some(column.map_or(String::new(), |c| quote_identifier(&table.columns[c.column].name)))
}

/// A constraint by OID: `PRIMARY KEY (a, b)`.
pub fn constraint(source: &dyn CatalogSource, oid: Oid) -> Option<String> {
    let Relation::Index(table, at) = find_relation(source, index_of_constraint(oid))? else { return None };
    let index = &table.indexes[at];
    let columns: Vec<String> =
        index.columns.iter().map(|c| quote_identifier(&table.columns[c.column].name)).collect();
    let kind = if index.primary_key { "PRIMARY KEY" } else { "UNIQUE" };
    Some(format!("{kind} ({})", columns.join(", ")))
}

/// A relation's name as `regclass` shows it: qualified unless the bare name finds it.
pub fn relation_name(source: &dyn CatalogSource, oid: Oid) -> Option<String> {
    let relation = find_relation(source, oid)?;
    Some(if is_visible(source, &relation) {
        quote_identifier(relation.name())
    } else {
        qualified(source, relation.schema(), relation.name())
    })
}

/// A relation's OID by name.
pub fn relation_oid(source: &dyn CatalogSource, schema: Option<&str>, name: &str) -> Option<Oid> {
    find_by_name(source, schema, name).map(|r| r.oid())
}

/// Names of catalog objects over a [`CatalogSource`], for text input and output.
pub struct Names(pub std::sync::Arc<dyn CatalogSource>);

impl crate::types::ObjectNames for Names {
    fn relation_name(&self, oid: u32) -> Option<String> {
        relation_name(&*self.0, oid)
    }

    fn relation_oid(&self, schema: Option<&str>, name: &str) -> Option<u32> {
        relation_oid(&*self.0, schema, name)
    }

    fn schema_name(&self, oid: u32) -> Option<String> {
        schemas(&*self.0).into_iter().find(|s| s.oid == oid).map(|s| s.name)
    }

    fn schema_oid(&self, name: &str) -> Option<u32> {
        schemas(&*self.0).into_iter().find(|s| s.name == name).map(|s| s.oid)
    }

    fn role_name(&self, oid: u32) -> Option<String> {
        self.0.roles().into_iter().find(|r| r.oid == oid).map(|r| r.name)
    }

    fn role_oid(&self, name: &str) -> Option<u32> {
        self.0.roles().into_iter().find(|r| r.name == name).map(|r| r.oid)
    }
}
