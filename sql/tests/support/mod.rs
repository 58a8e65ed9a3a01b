//! A catalog in memory for tests of the planner.

use std::collections::BTreeMap;
use std::sync::Arc;

use cairn_sql::ast::ExprKind;
use cairn_sql::catalog::system::{self, SystemView};
use cairn_sql::catalog::{CatalogReader, ColumnDesc, IndexColumn, IndexDesc, RelationKind, TableDesc, oids};
use cairn_sql::plan::Utility;
use cairn_sql::types::TypeKind;

/// Tables by name, all in `public`.
#[derive(Default)]
pub struct TestCatalog {
    tables: BTreeMap<String, Arc<TableDesc>>,
    next: u32,
}

impl TestCatalog {
    /// Applies CREATE TABLE, CREATE INDEX and ANALYZE; tells what was done.
    pub fn apply(&mut self, utility: &Utility) -> Option<String> {
        match utility {
            Utility::CreateTable(new) => {
                self.next += 10;
                let id = 16384 + self.next;
                let mut columns: Vec<ColumnDesc> = new
                    .columns
                    .iter()
                    .enumerate()
                    .map(|(i, c)| ColumnDesc {
                        name: c.name.clone(),
                        ty: c.ty,
                        not_null: c.not_null,
                        default: if c.serial { Some("1".into()) } else { c.default.clone() },
                        attnum: i as i16 + 1,
                        hidden: false,
                        missing: None,
                    })
                    .collect();
                let position =
                    |name: &str| new.columns.iter().position(|c| c.name == name).expect("it was checked");
                let mut indexes = Vec::new();
                for constraint in &new.constraints {
                    let keys: Vec<String> = constraint.columns.iter().map(|c| c.name.clone()).collect();
                    let index = IndexDesc {
                        id: id + 1 + indexes.len() as u32,
                        name: match (&constraint.name, constraint.primary_key) {
                            (Some(name), _) => name.name.clone(),
                            (None, true) => format!("{}_pkey", new.name.name),
                            (None, false) => format!("{}_{}_key", new.name.name, keys.join("_")),
                        },
                        unique: true,
                        columns: keys.iter().map(|k| key(position(k), false, false)).collect(),
                        primary_key: constraint.primary_key,
                        constraint: true,
                        collation_version: 0,
                    };
                    if constraint.primary_key { indexes.insert(0, index) } else { indexes.push(index) }
                }
                if !indexes.first().is_some_and(|i: &IndexDesc| i.primary_key) {
                    columns.push(ColumnDesc {
                        name: "rowid".into(),
                        ty: TypeKind::Int8.into(),
                        not_null: true,
                        default: None,
                        attnum: columns.len() as i16 + 1,
                        hidden: true,
                        missing: None,
                    });
                    let index = IndexDesc {
                        id: id + 9,
                        name: format!("{}_rowid", new.name.name),
                        unique: true,
                        columns: vec![key(columns.len() - 1, false, false)],
                        primary_key: false,
                        constraint: false,
                        collation_version: 0,
                    };
                    indexes.insert(0, index);
                }
                let defaults: Vec<String> = columns
                    .iter()
                    .filter_map(|c| Some(format!("{} default {}", c.name, c.default.as_ref()?)))
                    .collect();
                let table = TableDesc {
                    id,
                    schema: oids::PUBLIC,
                    name: new.name.name.clone(),
                    kind: RelationKind::Table,
                    version: 1,
                    next_attnum: columns.len() as i16 + 1,
                    columns,
                    indexes,
                    stats: None,
                    changed_at: Default::default(),
                    dropped: Default::default(),
                    sequence: None,
                };
                self.tables.insert(table.name.clone(), Arc::new(table));
                Some(["ok".to_owned()].into_iter().chain(defaults).collect::<Vec<_>>().join("\n"))
            }
            Utility::CreateIndex(new) => {
                let table = Arc::make_mut(self.tables.get_mut(&new.table.name).expect("it was bound"));
                let columns = new
                    .columns
                    .iter()
                    .map(|item| {
                        let ExprKind::Column(parts) = &item.expr.kind else { panic!("it was checked") };
                        let position = table.columns.iter().position(|c| c.name == parts[0].name);
                        key(
                            position.expect("it was checked"),
                            item.descending,
                            item.nulls_first.unwrap_or(item.descending),
                        )
                    })
                    .collect();
                table.indexes.push(IndexDesc {
                    id: table.id + 1 + table.indexes.len() as u32,
                    name: new.name.as_ref().expect("tests name indexes").name.clone(),
                    unique: new.unique,
                    columns,
                    primary_key: false,
                    constraint: false,
                    collation_version: 0,
                });
                Some("ok".into())
            }
            _ => None,
        }
    }
}

fn key(column: usize, descending: bool, nulls_first: bool) -> IndexColumn {
    IndexColumn { column, descending, nulls_first }
}

impl CatalogReader for TestCatalog {
    fn table(&self, schema: Option<&str>, name: &str) -> Option<Arc<TableDesc>> {
        schema.is_none_or(|s| s == "public").then(|| self.tables.get(name).cloned()).flatten()
    }

    fn system_view(&self, schema: Option<&str>, name: &str) -> Option<&'static SystemView> {
        system::lookup(schema, name)
    }

    fn schema_exists(&self, schema: &str) -> bool {
        matches!(schema, "public" | "pg_catalog" | "information_schema")
    }

    fn version(&self) -> u64 {
        1
    }
}

/// A catalog with tables.
#[allow(dead_code, reason = "not every test needs it")]
pub fn with_tables(statements: &[&str]) -> TestCatalog {
    let mut catalog = TestCatalog::default();
    for sql in statements {
        for parsed in cairn_sql::parse::parse(sql).expect("tests write SQL") {
            let planned = cairn_sql::plan::plan(&parsed.statement, &catalog, &[], &Default::default());
            if let Ok(cairn_sql::plan::Planned::Utility(utility)) = planned {
                catalog.apply(&utility);
            }
        }
    }
    catalog
}
