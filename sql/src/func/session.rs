//! Functions about the session and the node.

use super::args::*;
use super::{Body, Builtin};
use crate::expr::EvalContext;
use crate::types::TypeKind::{self, Bool, Int4, Int8, Name, NameArray, Regclass, Text, TimestampTz, Uuid};
use crate::types::{Datum, Type, parse_text};
use crate::{Result, SqlError, SqlState};

/// What `version()` says; it begins as clients expect of a PostgreSQL 15.
pub const VERSION: &str = concat!("PostgreSQL 15.0 (Cairn ", env!("CARGO_PKG_VERSION"), ")");

fn uuid(c: &EvalContext) -> Datum {
    let mut bytes = [0u8; 16];
    bytes[..8].copy_from_slice(&c.session.random().to_be_bytes());
    bytes[8..].copy_from_slice(&c.session.random().to_be_bytes());
    // Version 4, variant 1 (RFC 4122).
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Datum::Uuid(bytes)
}

fn schemas(c: &EvalContext, implicit: bool) -> Datum {
    let mut names = c.session.search_path();
    if implicit && !names.iter().any(|n| n == "pg_catalog") {
        names.insert(0, "pg_catalog".into());
    }
    Datum::array(Name, names.into_iter().map(Datum::text).collect())
}

fn current_setting(c: &EvalContext, name: &str, missing_ok: bool) -> Result<Datum> {
    match c.session.setting(name) {
        Some(value) => Ok(Datum::text(value)),
        None if missing_ok => Ok(Datum::Null),
        None => Err(SqlError::new(
            SqlState::UNDEFINED_OBJECT,
            format!("unrecognized configuration parameter \"{name}\""),
        )),
    }
}

/// nextval and its like take regclass; text converts implicitly.
static SEQUENCES: &[Builtin] = &[
    Builtin::new(
        "nextval",
        &[Regclass],
        Int8,
        Body::Context(|c, a| c.session.nextval(oid(&a[0])).map(Datum::Int8)),
    )
    .volatile(),
    Builtin::new(
        "currval",
        &[Regclass],
        Int8,
        Body::Context(|c, a| c.session.currval(oid(&a[0])).map(Datum::Int8)),
    )
    .volatile(),
    Builtin::new("lastval", &[], Int8, Body::Context(|c, _| c.session.lastval().map(Datum::Int8))).volatile(),
    Builtin::new(
        "setval",
        &[Regclass, Int8],
        Int8,
        Body::Context(|c, a| c.session.setval(oid(&a[0]), int8(&a[1]), true).map(Datum::Int8)),
    )
    .volatile(),
    Builtin::new(
        "setval",
        &[Regclass, Int8, Bool],
        Int8,
        Body::Context(|c, a| c.session.setval(oid(&a[0]), int8(&a[1]), boolean(&a[2])).map(Datum::Int8)),
    )
    .volatile(),
];

static FUNCTIONS: &[Builtin] = &[
    Builtin::new("gen_random_uuid", &[], Uuid, Body::Context(|c, _| Ok(uuid(c)))).volatile(),
    Builtin::new("current_user", &[], Name, Body::Context(|c, _| Ok(Datum::text(c.session.current_user()))))
        .stable(),
    Builtin::new("user", &[], Name, Body::Context(|c, _| Ok(Datum::text(c.session.current_user())))).stable(),
    Builtin::new("current_role", &[], Name, Body::Context(|c, _| Ok(Datum::text(c.session.current_user()))))
        .stable(),
    Builtin::new("session_user", &[], Name, Body::Context(|c, _| Ok(Datum::text(c.session.session_user()))))
        .stable(),
    Builtin::new("current_database", &[], Name, Body::Context(|c, _| Ok(Datum::text(c.session.database()))))
        .stable(),
    Builtin::new("current_catalog", &[], Name, Body::Context(|c, _| Ok(Datum::text(c.session.database()))))
        .stable(),
    Builtin::new(
        "current_schema",
        &[],
        Name,
        Body::Context(|c, _| Ok(c.session.search_path().into_iter().next().map_or(Datum::Null, Datum::text))),
    )
    .stable(),
    Builtin::new("current_schemas", &[Bool], NameArray, Body::Context(|c, a| Ok(schemas(c, boolean(&a[0])))))
        .stable(),
    Builtin::new("version", &[], Text, Body::Plain(|_| Ok(Datum::text(VERSION)))).stable(),
    Builtin::new("pg_backend_pid", &[], Int4, Body::Context(|c, _| Ok(Datum::Int4(c.session.backend_pid()))))
        .stable(),
    Builtin::new(
        "current_setting",
        &[Text],
        Text,
        Body::Context(|c, a| current_setting(c, text(&a[0]), false)),
    )
    .stable(),
    Builtin::new(
        "current_setting",
        &[Text, Bool],
        Text,
        Body::Context(|c, a| current_setting(c, text(&a[0]), boolean(&a[1]))),
    )
    .stable(),
    Builtin::new(
        "set_config",
        &[Text, Text, Bool],
        Text,
        Body::Context(|c, a| {
            c.session.set_setting(text(&a[0]), text(&a[1]), boolean(&a[2])).map(Datum::text)
        }),
    )
    .volatile(),
    Builtin::new(
        "pg_postmaster_start_time",
        &[],
        TimestampTz,
        Body::Context(|c, _| {
            let unix = c.session.node_start_micros() as i64;
            Ok(Datum::Timestamp(unix - crate::types::datetime::EPOCH_UNIX_MICROS))
        }),
    )
    .stable(),
    Builtin::new("pg_is_in_recovery", &[], Bool, Body::Plain(|_| Ok(Datum::Bool(false)))).stable(),
    Builtin::new("pg_client_encoding", &[], Name, Body::Plain(|_| Ok(Datum::text("UTF8")))).stable(),
    Builtin::new(
        "to_regclass",
        &[Text],
        Regclass,
        Body::Context(|c, a| match parse_text(text(&a[0]), Type::new(Regclass), &c.text) {
            Err(e) if e.state() == SqlState::UNDEFINED_TABLE => Ok(Datum::Null),
            result => result,
        }),
    )
    .stable(),
    Builtin::new(
        "to_regtype",
        &[Text],
        TypeKind::Regtype,
        Body::Context(|c, a| match parse_text(text(&a[0]), Type::new(TypeKind::Regtype), &c.text) {
            Err(e) if e.state() == SqlState::UNDEFINED_OBJECT => Ok(Datum::Null),
            result => result,
        }),
    )
    .stable(),
];

pub(super) static LISTS: &[&[Builtin]] = &[SEQUENCES, FUNCTIONS];
