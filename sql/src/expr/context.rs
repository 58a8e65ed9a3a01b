//! What the evaluation of an expression may ask of its surroundings.

use std::sync::Arc;

use crate::catalog::Oid;
use crate::catalog::system::CatalogSource;
use crate::types::{Datum, TextContext};
use crate::{Result, SqlError};

/// What functions ask of the session. Methods with a default are features that a caller may lack.
pub trait SessionView: Send + Sync {
    /// Wall clock, microseconds since the Unix epoch (through the node's `Clock`).
    fn clock_micros(&self) -> u64;
    /// 64 random bits (through the node's `Rng`).
    fn random(&self) -> u64;
    /// Effective role.
    fn current_user(&self) -> String;
    /// Role the session began with.
    fn session_user(&self) -> String {
        self.current_user()
    }
    /// Database.
    fn database(&self) -> String;
    /// Backend process id shown to clients.
    fn backend_pid(&self) -> i32;
    /// Schemas of the search path that exist, without the implicit `pg_catalog`.
    fn search_path(&self) -> Vec<String>;
    /// A setting's value as SHOW prints it; `None`: there is no such setting.
    fn setting(&self, name: &str) -> Option<String>;
    /// `set_config`: SET, or SET LOCAL; returns the new value.
    fn set_setting(&self, name: &str, value: &str, local: bool) -> Result<String> {
        let _ = (name, value, local);
        Err(SqlError::unsupported("set_config"))
    }
    /// The catalog as the statement sees it.
    fn catalog(&self) -> Option<Arc<dyn CatalogSource>> {
        None
    }
    /// `nextval`. Evaluation does not wait: the session has reserved a block of values before.
    fn nextval(&self, sequence: Oid) -> Result<i64> {
        let _ = sequence;
        Err(SqlError::unsupported("nextval"))
    }
    /// `currval`; fails with 55000 before the session's first `nextval`.
    fn currval(&self, sequence: Oid) -> Result<i64> {
        let _ = sequence;
        Err(SqlError::unsupported("currval"))
    }
    /// `lastval`.
    fn lastval(&self) -> Result<i64> {
        Err(SqlError::unsupported("lastval"))
    }
    /// `setval`.
    fn setval(&self, sequence: Oid, value: i64, is_called: bool) -> Result<i64> {
        let _ = (sequence, value, is_called);
        Err(SqlError::unsupported("setval"))
    }
    /// When the node started, microseconds since the Unix epoch.
    fn node_start_micros(&self) -> u64 {
        self.clock_micros()
    }
}

/// One statement's execution, as its expressions see it.
#[derive(Clone)]
pub struct EvalContext {
    /// Bind parameters.
    pub params: Arc<[Datum]>,
    /// Slots of enclosing queries' current rows (`Scalar::Outer`), set by `Apply`.
    pub outer: Vec<Datum>,
    /// Start of the statement, microseconds since 2000 in UTC.
    pub statement_time: i64,
    /// Formats; holds the transaction's start too.
    pub text: Arc<TextContext>,
    /// The session.
    pub session: Arc<dyn SessionView>,
}

impl EvalContext {
    /// A context for expressions that depend on nothing: constant folding, tests.
    pub fn constant() -> EvalContext {
        EvalContext {
            params: Arc::new([]),
            outer: Vec::new(),
            statement_time: 0,
            text: Arc::default(),
            session: Arc::new(NoSession),
        }
    }

    /// Start of the transaction, microseconds since 2000 in UTC.
    pub fn transaction_time(&self) -> i64 {
        self.text.transaction_time
    }

    /// The clock, microseconds since 2000 in UTC.
    pub fn clock(&self) -> i64 {
        self.session.clock_micros() as i64 - crate::types::datetime::EPOCH_UNIX_MICROS
    }
}

impl std::fmt::Debug for EvalContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EvalContext")
            .field("params", &self.params)
            .field("outer", &self.outer)
            .field("statement_time", &self.statement_time)
            .field("text", &self.text)
            .finish_non_exhaustive()
    }
}

/// The session of [`EvalContext::constant`]: a clock that stands still.
struct NoSession;

impl SessionView for NoSession {
    fn clock_micros(&self) -> u64 {
        crate::types::datetime::EPOCH_UNIX_MICROS as u64
    }

    fn random(&self) -> u64 {
        0
    }

    fn current_user(&self) -> String {
        "postgres".into()
    }

    fn database(&self) -> String {
        "postgres".into()
    }

    fn backend_pid(&self) -> i32 {
        0
    }

    fn search_path(&self) -> Vec<String> {
        vec!["public".into()]
    }

    fn setting(&self, _: &str) -> Option<String> {
        None
    }
}
