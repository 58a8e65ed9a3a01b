//! SQL errors: what a client is told.

use std::borrow::Cow;
use std::fmt;

/// A SQLSTATE: five characters (PostgreSQL appendix A).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState(pub [u8; 5]);

impl SqlState {
    /// The state written as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("states are ASCII")
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! states {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        impl SqlState { $($(#[$doc])* pub const $name: SqlState = SqlState(*$code);)* }
    };
}

states! {
    /// successful_completion
    SUCCESS = b"00000";
    /// feature_not_supported
    FEATURE_NOT_SUPPORTED = b"0A000";
    /// protocol_violation
    PROTOCOL_VIOLATION = b"08P01";
    /// cardinality_violation
    CARDINALITY_VIOLATION = b"21000";
    /// string_data_right_truncation
    STRING_TRUNCATION = b"22001";
    /// numeric_value_out_of_range
    NUMERIC_OUT_OF_RANGE = b"22003";
    /// null_value_not_allowed
    NULL_NOT_ALLOWED = b"22004";
    /// invalid_datetime_format
    INVALID_DATETIME_FORMAT = b"22007";
    /// datetime_field_overflow
    DATETIME_OVERFLOW = b"22008";
    /// invalid_time_zone_displacement_value
    INVALID_TIME_ZONE_DISPLACEMENT = b"22009";
    /// substring_error
    SUBSTRING_ERROR = b"22011";
    /// division_by_zero
    DIVISION_BY_ZERO = b"22012";
    /// invalid_argument_for_logarithm
    INVALID_LOGARITHM_ARGUMENT = b"2201E";
    /// invalid_argument_for_power_function
    INVALID_POWER_ARGUMENT = b"2201F";
    /// invalid_escape_sequence
    INVALID_ESCAPE = b"22025";
    /// invalid_regular_expression
    INVALID_REGULAR_EXPRESSION = b"2201B";
    /// array_subscript_error
    ARRAY_SUBSCRIPT = b"2202E";
    /// invalid_parameter_value
    INVALID_PARAMETER_VALUE = b"22023";
    /// invalid_text_representation
    INVALID_TEXT = b"22P02";
    /// invalid_binary_representation
    INVALID_BINARY = b"22P03";
    /// bad_copy_file_format
    BAD_COPY_FORMAT = b"22P04";
    /// character_not_in_repertoire
    CHARACTER_NOT_IN_REPERTOIRE = b"22021";
    /// not_null_violation
    NOT_NULL_VIOLATION = b"23502";
    /// unique_violation
    UNIQUE_VIOLATION = b"23505";
    /// active_sql_transaction
    ACTIVE_TRANSACTION = b"25001";
    /// read_only_sql_transaction
    READ_ONLY_TRANSACTION = b"25006";
    /// no_active_sql_transaction
    NO_ACTIVE_TRANSACTION = b"25P01";
    /// in_failed_sql_transaction
    IN_FAILED_TRANSACTION = b"25P02";
    /// invalid_sql_statement_name
    INVALID_STATEMENT_NAME = b"26000";
    /// dependent_objects_still_exist
    DEPENDENT_OBJECTS = b"2BP01";
    /// invalid_authorization_specification
    INVALID_AUTHORIZATION = b"28000";
    /// invalid_cursor_name
    INVALID_CURSOR_NAME = b"34000";
    /// invalid_catalog_name
    INVALID_CATALOG_NAME = b"3D000";
    /// invalid_schema_name
    INVALID_SCHEMA_NAME = b"3F000";
    /// serialization_failure
    SERIALIZATION_FAILURE = b"40001";
    /// statement_completion_unknown
    COMPLETION_UNKNOWN = b"40003";
    /// deadlock_detected
    DEADLOCK = b"40P01";
    /// syntax_error
    SYNTAX_ERROR = b"42601";
    /// insufficient_privilege
    INSUFFICIENT_PRIVILEGE = b"42501";
    /// cannot_coerce
    CANNOT_COERCE = b"42846";
    /// grouping_error
    GROUPING_ERROR = b"42803";
    /// wrong_object_type
    WRONG_OBJECT_TYPE = b"42809";
    /// datatype_mismatch
    DATATYPE_MISMATCH = b"42804";
    /// indeterminate_datatype
    INDETERMINATE_DATATYPE = b"42P18";
    /// undefined_column
    UNDEFINED_COLUMN = b"42703";
    /// undefined_function
    UNDEFINED_FUNCTION = b"42883";
    /// undefined_table
    UNDEFINED_TABLE = b"42P01";
    /// undefined_parameter
    UNDEFINED_PARAMETER = b"42P02";
    /// undefined_object
    UNDEFINED_OBJECT = b"42704";
    /// duplicate_column
    DUPLICATE_COLUMN = b"42701";
    /// duplicate_object
    DUPLICATE_OBJECT = b"42710";
    /// duplicate_prepared_statement
    DUPLICATE_STATEMENT = b"42P05";
    /// duplicate_cursor
    DUPLICATE_CURSOR = b"42P03";
    /// duplicate_table
    DUPLICATE_TABLE = b"42P07";
    /// duplicate_alias
    DUPLICATE_ALIAS = b"42712";
    /// ambiguous_column
    AMBIGUOUS_COLUMN = b"42702";
    /// ambiguous_function
    AMBIGUOUS_FUNCTION = b"42725";
    /// invalid_column_reference
    INVALID_COLUMN_REFERENCE = b"42P10";
    /// invalid_table_definition
    INVALID_TABLE_DEFINITION = b"42P16";
    /// invalid_name
    INVALID_NAME = b"42602";
    /// name_too_long
    NAME_TOO_LONG = b"42622";
    /// out_of_memory
    OUT_OF_MEMORY = b"53200";
    /// disk_full
    DISK_FULL = b"53100";
    /// too_many_connections
    TOO_MANY_CONNECTIONS = b"53300";
    /// program_limit_exceeded
    PROGRAM_LIMIT = b"54000";
    /// statement_too_complex
    STATEMENT_TOO_COMPLEX = b"54001";
    /// object_not_in_prerequisite_state
    OBJECT_NOT_IN_STATE = b"55000";
    /// lock_not_available
    LOCK_NOT_AVAILABLE = b"55P03";
    /// query_canceled
    QUERY_CANCELED = b"57014";
    /// admin_shutdown
    ADMIN_SHUTDOWN = b"57P01";
    /// cannot_connect_now
    CANNOT_CONNECT_NOW = b"57P03";
    /// idle_session_timeout
    IDLE_SESSION_TIMEOUT = b"57P05";
    /// idle_in_transaction_session_timeout
    IDLE_IN_TRANSACTION_TIMEOUT = b"25P03";
    /// io_error
    IO_ERROR = b"58030";
    /// snapshot_too_old
    SNAPSHOT_TOO_OLD = b"72000";
    /// internal_error
    INTERNAL = b"XX000";
    /// data_corrupted
    DATA_CORRUPTED = b"XX001";
}

/// An error (or notice) as PostgreSQL's protocol shows it.
#[derive(Clone, Debug)]
pub struct SqlError(Box<Fields>);

/// The fields of an error.
#[derive(Clone, Debug)]
pub struct Fields {
    /// SQLSTATE.
    pub state: SqlState,
    /// The message.
    pub message: Cow<'static, str>,
    /// DETAIL.
    pub detail: Option<String>,
    /// HINT.
    pub hint: Option<String>,
    /// Byte offset (from 0) in the statement's text; the connection turns it into characters from 1.
    pub position: Option<usize>,
    /// CONTEXT.
    pub context: Option<String>,
    /// Schema name of the object.
    pub schema: Option<String>,
    /// Table name.
    pub table: Option<String>,
    /// Column name.
    pub column: Option<String>,
    /// Constraint name.
    pub constraint: Option<String>,
    /// Whether running the statement (or transaction) again inside the server may succeed: set
    /// only from `TxnError::Retry` and `TxnError::Stale`.
    pub retryable: bool,
    /// Whether the catalog must be caught up with first: set only from `TxnError::Stale`.
    pub stale: bool,
}

/// Result of SQL work.
pub type Result<T, E = SqlError> = std::result::Result<T, E>;

impl SqlError {
    /// An error with a state and a message in PostgreSQL's words.
    pub fn new(state: SqlState, message: impl Into<Cow<'static, str>>) -> SqlError {
        SqlError(Box::new(Fields {
            state,
            message: message.into(),
            detail: None,
            hint: None,
            position: None,
            context: None,
            schema: None,
            table: None,
            column: None,
            constraint: None,
            retryable: false,
            stale: false,
        }))
    }

    /// `0A000`, naming the feature: "<feature> is not supported".
    pub fn unsupported(feature: impl fmt::Display) -> SqlError {
        SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, format!("{feature} is not supported"))
    }

    /// Adds DETAIL.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> SqlError {
        self.0.detail = Some(detail.into());
        self
    }

    /// Adds HINT.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> SqlError {
        self.0.hint = Some(hint.into());
        self
    }

    /// Sets the byte position in the statement, unless one is set.
    #[must_use]
    pub fn at(mut self, position: usize) -> SqlError {
        self.0.position.get_or_insert(position);
        self
    }

    /// Adds CONTEXT.
    #[must_use]
    pub fn context(mut self, context: impl Into<String>) -> SqlError {
        self.0.context = Some(context.into());
        self
    }

    /// The fields.
    pub fn fields(&self) -> &Fields {
        &self.0
    }

    /// The fields, to change.
    pub fn fields_mut(&mut self) -> &mut Fields {
        &mut self.0
    }

    /// The state.
    pub fn state(&self) -> SqlState {
        self.0.state
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.0.message
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.state.as_str(), self.0.message)
    }
}

impl std::error::Error for SqlError {}

impl From<cairn_txn::TxnError> for SqlError {
    fn from(error: cairn_txn::TxnError) -> SqlError {
        use cairn_txn::TxnError as E;
        let message = error.to_string();
        match error {
            E::Retry { other_session, .. } => {
                let mut e = SqlError::new(SqlState::SERIALIZATION_FAILURE, message)
                    .hint("The transaction might succeed if retried.");
                if let Some(other) = other_session {
                    e = e.detail(format!("In conflict with session {other}."));
                }
                e.0.retryable = true;
                e
            }
            E::Exists { .. } => SqlError::new(SqlState::UNIQUE_VIOLATION, message),
            E::Deadlock { cycle } => SqlError::new(SqlState::DEADLOCK, message).detail(cycle),
            E::LockTimeout => SqlError::new(SqlState::LOCK_NOT_AVAILABLE, message),
            E::Canceled => SqlError::new(SqlState::QUERY_CANCELED, message),
            E::Ambiguous(_) => SqlError::new(SqlState::COMPLETION_UNKNOWN, message),
            E::SnapshotTooOld { .. } => SqlError::new(SqlState::SNAPSHOT_TOO_OLD, message),
            E::TooLarge(_) => SqlError::new(SqlState::PROGRAM_LIMIT, message),
            E::ReadOnly => SqlError::new(SqlState::READ_ONLY_TRANSACTION, message),
            // Nothing was read yet: with a plan from the present catalog the statement may go well.
            E::Stale => {
                let mut e = SqlError::new(SqlState::SERIALIZATION_FAILURE, message);
                (e.0.retryable, e.0.stale) = (true, true);
                e
            }
            E::Unavailable(_) => SqlError::new(SqlState::CANNOT_CONNECT_NOW, message),
            E::Storage(cairn_kv::Error::Corruption(_)) => SqlError::new(SqlState::DATA_CORRUPTED, message),
            E::Storage(_) => SqlError::new(SqlState::IO_ERROR, message),
        }
    }
}
