//! `pg_stat_activity`: the node's sessions.

use super::cell::*;
use super::{CatalogSource, Row};

view! {
    PG_CATALOG "pg_stat_activity" 12222 { "datid" Oid, "datname" Name, "pid" Int4, "leader_pid" Int4, "usesysid" Oid, "usename" Name, "application_name" Text, "client_addr" Text, "client_hostname" Text, "client_port" Int4, "backend_start" TimestampTz, "xact_start" TimestampTz, "query_start" TimestampTz, "state_change" TimestampTz, "wait_event_type" Text, "wait_event" Text, "state" Text, "backend_xid" Xid, "backend_xmin" Xid, "query_id" Int8, "query" Text, "backend_type" Text }
}

fn rows(source: &dyn CatalogSource) -> Vec<Row> {
    let (database, roles) = (source.database(), source.roles());
    let sessions = source.sessions();
    sessions
        .iter()
        .map(|s| {
            let role = roles.iter().find(|r| r.name == s.user);
            VIEW.row(&[
                ("datid", oid(POSTGRES_DATABASE)),
                ("datname", name(&database)),
                ("pid", int4(s.pid)),
                ("usesysid", role.map_or(Datum::Null, |r| oid(r.oid))),
                ("usename", name(&s.user)),
                ("application_name", text(&s.application)),
                ("client_addr", text(&s.address)),
                ("backend_start", Datum::Timestamp(s.backend_start)),
                ("xact_start", s.xact_start.map_or(Datum::Null, Datum::Timestamp)),
                ("query_start", s.query_start.map_or(Datum::Null, Datum::Timestamp)),
                ("state_change", s.state_change.map_or(Datum::Null, Datum::Timestamp)),
                ("state", text(s.state)),
                ("query", text(&s.query)),
                ("backend_type", text("client backend")),
            ])
        })
        .collect()
}
