//! Functions over the catalog: what psql and drivers ask for.

use std::sync::Arc;

use super::args::*;
use super::{Body, Builtin, all_functions};
use crate::catalog::system::{self, CatalogSource, Relation, definition, find_relation, is_visible};
use crate::expr::EvalContext;
use crate::types::TypeKind::{self, Bool, Int2, Int4, Int8, Name, PgNodeTree, Regclass, Text};
use crate::types::{Datum, Type, format_type, text};
use crate::{Result, SqlError, SqlState};

const OID: TypeKind = TypeKind::Oid;

fn source(c: &EvalContext) -> Result<Arc<dyn CatalogSource>> {
    c.session.catalog().ok_or_else(|| SqlError::unsupported("a catalog function here"))
}

fn string(value: Option<String>) -> Result<Datum> {
    Ok(value.map_or(Datum::Null, Datum::text))
}

/// `format_type(oid, typmod)`, which shows unknown types as `???`.
fn format(args: &[Datum]) -> Result<Datum> {
    if args[0].is_null() {
        return Ok(Datum::Null);
    }
    let modifier = match args[1] {
        Datum::Int4(m) => Some(m),
        _ => None,
    };
    string(Some(match (oid(&args[0]), TypeKind::from_oid(oid(&args[0])), modifier) {
        (0, ..) => "-".to_owned(),
        (_, None, _) => "???".to_owned(),
        // Without a modifier at all the SQL name is meant.
        (_, Some(TypeKind::Bpchar), None) => "character".to_owned(),
        (_, Some(TypeKind::BpcharArray), None) => "character[]".to_owned(),
        (_, Some(kind), m) => format_type(Type { kind, modifier: m.unwrap_or(-1) }),
    }))
}

fn indexes_size(source: &dyn CatalogSource, relation: &Relation, rows: bool, others: bool) -> Option<i64> {
    let size = |index: u32| source.index_size(index).unwrap_or(0) as i64;
    Some(match relation {
        Relation::Table(t) => {
            let primary = if rows { size(t.indexes[0].id) } else { 0 };
            primary + if others { t.indexes.iter().skip(1).map(|i| size(i.id)).sum() } else { 0 }
        }
        Relation::Index(t, at) => {
            // The primary index is the table itself: its size is counted there.
            if *at == 0 || !rows { 0 } else { size(t.indexes[*at].id) }
        }
        _ => 0,
    })
}

fn size(c: &EvalContext, relation: u32, rows: bool, others: bool) -> Result<Datum> {
    let source = source(c)?;
    let found = find_relation(&*source, relation);
    Ok(found.and_then(|r| indexes_size(&*source, &r, rows, others)).map_or(Datum::Null, Datum::Int8))
}

fn database_size(c: &EvalContext) -> Result<Datum> {
    let source = source(c)?;
    let tables = source.relations();
    let indexes = tables.iter().flat_map(|t| &t.indexes);
    Ok(Datum::Int8(indexes.map(|i| source.index_size(i.id).unwrap_or(0) as i64).sum()))
}

fn visible(c: &EvalContext, relation: u32) -> Result<Datum> {
    let source = source(c)?;
    Ok(find_relation(&*source, relation).map_or(Datum::Null, |r| Datum::Bool(is_visible(&*source, &r))))
}

fn user_name(c: &EvalContext, role: u32) -> Result<Datum> {
    let found = source(c)?.roles().into_iter().find(|r| r.oid == role);
    string(Some(found.map_or_else(|| format!("unknown (OID={role})"), |r| r.name)))
}

fn encoding_name(number: i32) -> &'static str {
    match number {
        0 => "SQL_ASCII",
        6 => "UTF8",
        8 => "LATIN1",
        _ => "",
    }
}

/// Argument types of a function as `\df` shows them.
fn arguments(function: u32) -> Option<String> {
    let (_, builtin) = all_functions().find(|(id, _)| *id == function)?;
    let last = builtin.args.len().saturating_sub(1);
    let shown = builtin.args.iter().enumerate().map(|(i, kind)| {
        let prefix = if builtin.variadic && i == last { "VARIADIC " } else { "" };
        format!("{prefix}{}", format_type((*kind).into()))
    });
    Some(shown.collect::<Vec<_>>().join(", "))
}

fn result_type(function: u32) -> Option<String> {
    let (_, builtin) = all_functions().find(|(id, _)| *id == function)?;
    Some(format_type(builtin.result.into()))
}

/// The sequence whose `nextval` is a column's default.
fn serial_sequence(c: &EvalContext, table: &str, column: &str) -> Result<Datum> {
    let source = source(c)?;
    let invalid = || SqlError::new(SqlState::INVALID_NAME, "invalid name syntax");
    let parts = text::split_name(table).ok_or_else(invalid)?;
    let (schema, name) = match parts.as_slice() {
        [name] => (None, name),
        [.., schema, name] => (Some(schema.as_str()), name),
        [] => return Err(invalid()),
    };
    let found = definition::relation_oid(&*source, schema, name).and_then(|oid| source.relation(oid));
    let Some(table) = found else {
        return Err(SqlError::new(
            SqlState::UNDEFINED_TABLE,
            format!("relation \"{}\" does not exist", parts.join(".")),
        ));
    };
    let Some(described) = table.columns.iter().find(|d| d.name == column && !d.hidden) else {
        return Err(SqlError::new(
            SqlState::UNDEFINED_COLUMN,
            format!("column \"{column}\" of relation \"{}\" does not exist", table.name),
        ));
    };
    let default = described.default.as_deref().unwrap_or("");
    let sequence = default.strip_prefix("nextval('").and_then(|rest| rest.split('\'').next());
    let Some(parts) = sequence.and_then(text::split_name) else { return Ok(Datum::Null) };
    let name = parts.last().expect("a name has a part");
    let schema = match parts.as_slice() {
        [schema, _] => schema.clone(),
        _ => system::schema_name(&*source, table.schema),
    };
    string(Some(format!("{}.{}", super::quote_identifier(&schema), super::quote_identifier(name))))
}

macro_rules! null {
    ($name:literal ($($arg:expr),*) -> $result:expr) => {
        Builtin::new($name, &[$($arg),*], $result, Body::Plain(|_| Ok(Datum::Null))).stable()
    };
}

macro_rules! yes {
    ($name:literal ($($arg:expr),*)) => {
        Builtin::new($name, &[$($arg),*], Bool, Body::Plain(|_| Ok(Datum::Bool(true)))).stable()
    };
}

static DEFINITIONS: &[Builtin] = &[
    Builtin::new("format_type", &[OID, Int4], Text, Body::Plain(format)).stable().sees_null(),
    Builtin::new("pg_get_expr", &[PgNodeTree, OID], Text, Body::Plain(|a| Ok(a[0].clone()))).stable(),
    Builtin::new("pg_get_expr", &[PgNodeTree, OID, Bool], Text, Body::Plain(|a| Ok(a[0].clone()))).stable(),
    Builtin::new(
        "pg_get_indexdef",
        &[OID],
        Text,
        Body::Context(|c, a| string(definition::index_by_oid(&*source(c)?, oid(&a[0]), 0))),
    )
    .stable(),
    Builtin::new(
        "pg_get_indexdef",
        &[OID, Int4, Bool],
        Text,
        Body::Context(|c, a| string(definition::index_by_oid(&*source(c)?, oid(&a[0]), int4(&a[1])))),
    )
    .stable(),
    Builtin::new(
        "pg_get_constraintdef",
        &[OID],
        Text,
        Body::Context(|c, a| string(definition::constraint(&*source(c)?, oid(&a[0])))),
    )
    .stable(),
    Builtin::new(
        "pg_get_constraintdef",
        &[OID, Bool],
        Text,
        Body::Context(|c, a| string(definition::constraint(&*source(c)?, oid(&a[0])))),
    )
    .stable(),
    Builtin::new("pg_get_userbyid", &[OID], Name, Body::Context(|c, a| user_name(c, oid(&a[0])))).stable(),
    Builtin::new(
        "pg_get_serial_sequence",
        &[Text, Text],
        Text,
        Body::Context(|c, a| serial_sequence(c, super::args::text(&a[0]), super::args::text(&a[1]))),
    )
    .stable(),
    Builtin::new("pg_get_function_result", &[OID], Text, Body::Plain(|a| string(result_type(oid(&a[0])))))
        .stable(),
    Builtin::new("pg_get_function_arguments", &[OID], Text, Body::Plain(|a| string(arguments(oid(&a[0])))))
        .stable(),
    Builtin::new(
        "pg_get_function_identity_arguments",
        &[OID],
        Text,
        Body::Plain(|a| string(arguments(oid(&a[0])))),
    )
    .stable(),
    Builtin::new(
        "pg_encoding_to_char",
        &[Int4],
        Name,
        Body::Plain(|a| Ok(Datum::text(encoding_name(int4(&a[0]))))),
    )
    .stable(),
    Builtin::new("getdatabaseencoding", &[], Name, Body::Plain(|_| Ok(Datum::text("UTF8")))).stable(),
    // Objects that Cairn does not have have no definition.
    null!("pg_get_viewdef"(OID) -> Text),
    null!("pg_get_viewdef"(OID, Bool) -> Text),
    null!("pg_get_ruledef"(OID) -> Text),
    null!("pg_get_ruledef"(OID, Bool) -> Text),
    null!("pg_get_triggerdef"(OID) -> Text),
    null!("pg_get_triggerdef"(OID, Bool) -> Text),
    null!("pg_get_partkeydef"(OID) -> Text),
    null!("pg_get_statisticsobjdef"(OID) -> Text),
    null!("pg_get_statisticsobjdef_columns"(OID) -> Text),
    null!("pg_get_functiondef"(OID) -> Text),
    null!("pg_tablespace_location"(OID) -> Text),
    // There are no comments.
    null!("obj_description"(OID, Name) -> Text),
    null!("obj_description"(OID) -> Text),
    null!("col_description"(OID, Int4) -> Text),
    null!("shobj_description"(OID, Name) -> Text),
];

static VISIBILITY: &[Builtin] = &[
    Builtin::new("pg_table_is_visible", &[OID], Bool, Body::Context(|c, a| visible(c, oid(&a[0])))).stable(),
    yes!("pg_type_is_visible"(OID)),
    yes!("pg_function_is_visible"(OID)),
    yes!("pg_operator_is_visible"(OID)),
    yes!("pg_collation_is_visible"(OID)),
    yes!("pg_statistics_obj_is_visible"(OID)),
    Builtin::new(
        "pg_relation_is_publishable",
        &[Regclass],
        Bool,
        Body::Context(|c, a| {
            let relation = find_relation(&*source(c)?, oid(&a[0]));
            Ok(relation.map_or(Datum::Null, |r| Datum::Bool(matches!(r, Relation::Table(_)))))
        }),
    )
    .stable(),
    Builtin::new("pg_is_other_temp_schema", &[OID], Bool, Body::Plain(|_| Ok(Datum::Bool(false)))).stable(),
    Builtin::new("pg_my_temp_schema", &[], OID, Body::Plain(|_| Ok(Datum::Oid(0)))).stable(),
    Builtin::new("row_security_active", &[OID], Bool, Body::Plain(|_| Ok(Datum::Bool(false)))).stable(),
];

/// The one role may do everything.
static PRIVILEGES: &[Builtin] = &[
    yes!("has_database_privilege"(Text, Text)),
    yes!("has_database_privilege"(OID, Text)),
    yes!("has_database_privilege"(Name, Text, Text)),
    yes!("has_schema_privilege"(Text, Text)),
    yes!("has_schema_privilege"(OID, Text)),
    yes!("has_schema_privilege"(Name, Text, Text)),
    yes!("has_table_privilege"(Text, Text)),
    yes!("has_table_privilege"(OID, Text)),
    yes!("has_table_privilege"(Name, Text, Text)),
    yes!("has_table_privilege"(Name, OID, Text)),
    yes!("has_column_privilege"(OID, Text, Text)),
    yes!("has_column_privilege"(OID, Int2, Text)),
    yes!("has_sequence_privilege"(OID, Text)),
    yes!("has_sequence_privilege"(Text, Text)),
    yes!("has_function_privilege"(OID, Text)),
    yes!("has_tablespace_privilege"(OID, Text)),
    yes!("pg_has_role"(OID, Text)),
    yes!("pg_has_role"(Name, Text)),
    yes!("pg_has_role"(Name, OID, Text)),
    yes!("pg_has_role"(Name, Name, Text)),
    null!("pg_relation_filenode"(Regclass) -> OID),
];

static SIZES: &[Builtin] = &[
    Builtin::new(
        "pg_relation_size",
        &[Regclass],
        Int8,
        Body::Context(|c, a| size(c, oid(&a[0]), true, false)),
    )
    .volatile(),
    Builtin::new(
        "pg_relation_size",
        &[Regclass, Text],
        Int8,
        Body::Context(|c, a| {
            let main = super::args::text(&a[1]) == "main";
            if main { size(c, oid(&a[0]), true, false) } else { Ok(Datum::Int8(0)) }
        }),
    )
    .volatile(),
    Builtin::new("pg_table_size", &[Regclass], Int8, Body::Context(|c, a| size(c, oid(&a[0]), true, false)))
        .volatile(),
    Builtin::new(
        "pg_indexes_size",
        &[Regclass],
        Int8,
        Body::Context(|c, a| size(c, oid(&a[0]), false, true)),
    )
    .volatile(),
    Builtin::new(
        "pg_total_relation_size",
        &[Regclass],
        Int8,
        Body::Context(|c, a| size(c, oid(&a[0]), true, true)),
    )
    .volatile(),
    Builtin::new("pg_database_size", &[OID], Int8, Body::Context(|c, _| database_size(c))).volatile(),
    Builtin::new("pg_database_size", &[Name], Int8, Body::Context(|c, _| database_size(c))).volatile(),
];

pub(super) static LISTS: &[&[Builtin]] = &[DEFINITIONS, VISIBILITY, PRIVILEGES, SIZES];
