//! The door of a node whose database may still be opening.

use std::sync::{Arc, OnceLock};

use cairn_sql::session::{ClientInfo, Session, SqlNode};
use cairn_sql::{Result, SqlError, SqlState};

use super::backend::Connect;

/// Lets clients in once there is something to serve them.
#[derive(Clone, Default)]
pub struct Gate(Arc<OnceLock<Arc<SqlNode>>>);

impl Gate {
    /// From now on sessions come from `sql`.
    pub fn open(&self, sql: Arc<SqlNode>) {
        let _ = self.0.set(sql);
    }

    /// Whether clients are let in.
    pub fn is_open(&self) -> bool {
        self.0.get().is_some()
    }
}

impl Connect for Gate {
    type Session = Session;

    fn connect(&self, id: u32, client: ClientInfo) -> Result<Session> {
        match self.0.get() {
            Some(sql) => Session::new(sql, id, client),
            None => Err(SqlError::new(SqlState::CANNOT_CONNECT_NOW, "the database system is starting up")),
        }
    }
}
