//! Statements.

use super::{Alias, CommonTable, Expr, Ident, ObjectName, OrderItem, Query, SelectItem, TableRef, TypeName};

/// A statement.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Statement {
    Query(Box<Query>),
    Insert(Box<Insert>),
    Update(Box<Update>),
    Delete(Box<Delete>),
    CreateTable(Box<CreateTable>),
    /// DROP TABLE.
    DropTable(Drop),
    CreateIndex(Box<CreateIndex>),
    /// DROP INDEX.
    DropIndex(Drop),
    CreateSequence(Box<CreateSequence>),
    /// DROP SEQUENCE.
    DropSequence(Drop),
    CreateSchema(CreateSchema),
    /// DROP SCHEMA.
    DropSchema(Drop),
    Truncate(Truncate),
    AlterTable(Box<AlterTable>),
    Begin(TransactionModes),
    Commit {
        chain: bool,
    },
    Rollback {
        chain: bool,
    },
    Savepoint(Ident),
    Release(Ident),
    RollbackTo(Ident),
    /// SET TRANSACTION.
    SetTransaction(TransactionModes),
    /// SET SESSION CHARACTERISTICS AS TRANSACTION.
    SetSessionCharacteristics(TransactionModes),
    Set(Set),
    /// SHOW; `None`: ALL.
    Show(Option<String>),
    /// RESET; `None`: ALL.
    Reset(Option<String>),
    Explain(Box<Explain>),
    Analyze(Analyze),
    Vacuum(Vacuum),
    Copy(Box<Copy>),
    Prepare(Box<Prepare>),
    Execute(Execute),
    /// DEALLOCATE; `None`: ALL.
    Deallocate(Option<Ident>),
    Declare(Box<Declare>),
    Fetch(Fetch),
    /// CLOSE; `None`: ALL.
    Close(Option<Ident>),
    Discard(DiscardTarget),
    LockTable(LockTable),
}

/// INSERT.
#[derive(Clone, Debug, PartialEq)]
pub struct Insert {
    /// WITH.
    pub with: Vec<CommonTable>,
    /// Table.
    pub table: ObjectName,
    /// Alias.
    pub alias: Option<Ident>,
    /// Column list; empty: all.
    pub columns: Vec<Ident>,
    /// Source; `None`: DEFAULT VALUES.
    pub source: Option<Box<Query>>,
    /// ON CONFLICT.
    pub on_conflict: Option<OnConflict>,
    /// RETURNING.
    pub returning: Vec<SelectItem>,
}

/// ON CONFLICT.
#[derive(Clone, Debug, PartialEq)]
pub struct OnConflict {
    /// Where conflicts are looked for.
    pub target: ConflictTarget,
    /// DO UPDATE SET; `None`: DO NOTHING.
    pub update: Option<Vec<Assignment>>,
    /// WHERE of DO UPDATE.
    pub filter: Option<Expr>,
    /// Byte position.
    pub position: usize,
}

/// Target of ON CONFLICT.
#[derive(Clone, Debug, PartialEq)]
pub enum ConflictTarget {
    /// None given.
    Any,
    /// Columns.
    Columns(Vec<Ident>),
    /// ON CONSTRAINT.
    Constraint(Ident),
}

/// `column = value` of SET.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// Columns; several: `(a, b) = …`.
    pub columns: Vec<Ident>,
    /// Value.
    pub value: Expr,
}

/// UPDATE.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// WITH.
    pub with: Vec<CommonTable>,
    /// Table.
    pub table: ObjectName,
    /// Alias.
    pub alias: Option<Alias>,
    /// SET.
    pub assignments: Vec<Assignment>,
    /// FROM.
    pub from: Vec<TableRef>,
    /// WHERE.
    pub filter: Option<Expr>,
    /// RETURNING.
    pub returning: Vec<SelectItem>,
}

/// DELETE.
#[derive(Clone, Debug, PartialEq)]
pub struct Delete {
    /// WITH.
    pub with: Vec<CommonTable>,
    /// Table.
    pub table: ObjectName,
    /// Alias.
    pub alias: Option<Alias>,
    /// USING.
    pub using: Vec<TableRef>,
    /// WHERE.
    pub filter: Option<Expr>,
    /// RETURNING.
    pub returning: Vec<SelectItem>,
}

/// CREATE TABLE.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateTable {
    /// Name.
    pub name: ObjectName,
    /// UNLOGGED.
    pub unlogged: bool,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// Columns.
    pub columns: Vec<ColumnDef>,
    /// Column names before AS.
    pub names: Vec<Ident>,
    /// Table constraints.
    pub constraints: Vec<TableConstraint>,
    /// AS query.
    pub query: Option<Box<Query>>,
    /// WITH NO DATA.
    pub no_data: bool,
}

/// A column's definition.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnDef {
    /// Name.
    pub name: Ident,
    /// Type.
    pub ty: TypeName,
    /// NOT NULL.
    pub not_null: bool,
    /// DEFAULT.
    pub default: Option<Expr>,
    /// GENERATED … AS IDENTITY.
    pub identity: bool,
    /// PRIMARY KEY and UNIQUE of the column.
    pub constraints: Vec<TableConstraint>,
}

/// A constraint over columns.
#[derive(Clone, Debug, PartialEq)]
pub struct TableConstraint {
    /// Name, where given.
    pub name: Option<Ident>,
    /// PRIMARY KEY rather than UNIQUE.
    pub primary_key: bool,
    /// Columns.
    pub columns: Vec<Ident>,
    /// USING INDEX.
    pub using_index: Option<Ident>,
    /// Byte position.
    pub position: usize,
}

/// DROP of objects of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Drop {
    /// Names.
    pub names: Vec<ObjectName>,
    /// IF EXISTS.
    pub if_exists: bool,
    /// CASCADE.
    pub cascade: bool,
    /// CONCURRENTLY (of indexes).
    pub concurrently: bool,
}

/// CREATE INDEX.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateIndex {
    /// Name, where given.
    pub name: Option<Ident>,
    /// Table.
    pub table: ObjectName,
    /// UNIQUE.
    pub unique: bool,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// CONCURRENTLY.
    pub concurrently: bool,
    /// Columns.
    pub columns: Vec<OrderItem>,
}

/// CREATE SEQUENCE.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateSequence {
    /// Name.
    pub name: ObjectName,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// START WITH.
    pub start: Option<i64>,
    /// INCREMENT BY.
    pub increment: Option<i64>,
    /// MINVALUE.
    pub min: Option<i64>,
    /// MAXVALUE.
    pub max: Option<i64>,
    /// CACHE.
    pub cache: Option<i64>,
    /// CYCLE.
    pub cycle: bool,
    /// AS type.
    pub ty: Option<TypeName>,
    /// OWNED BY table.column.
    pub owned_by: Option<(ObjectName, Ident)>,
}

/// CREATE SCHEMA.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateSchema {
    /// Name.
    pub name: Ident,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
}

/// TRUNCATE.
#[derive(Clone, Debug, PartialEq)]
pub struct Truncate {
    /// Tables.
    pub tables: Vec<ObjectName>,
    /// RESTART IDENTITY.
    pub restart_identity: bool,
    /// CASCADE.
    pub cascade: bool,
}

/// ALTER TABLE (and ALTER INDEX … RENAME TO).
#[derive(Clone, Debug, PartialEq)]
pub struct AlterTable {
    /// Table.
    pub name: ObjectName,
    /// IF EXISTS.
    pub if_exists: bool,
    /// It was written ALTER INDEX.
    pub index: bool,
    /// Actions.
    pub actions: Vec<AlterAction>,
}

/// An action of ALTER TABLE.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum AlterAction {
    AddConstraint(TableConstraint),
    DropConstraint { name: Ident, if_exists: bool, cascade: bool },
    AddColumn { column: ColumnDef, if_not_exists: bool },
    DropColumn { name: Ident, if_exists: bool, cascade: bool },
    RenameTable(Ident),
    RenameColumn { from: Ident, to: Ident },
    RenameConstraint { from: Ident, to: Ident },
    SetDefault { column: Ident, default: Option<Expr> },
    SetNotNull { column: Ident, not_null: bool },
    OwnerTo(Ident),
}

/// Modes of BEGIN and SET TRANSACTION.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TransactionModes {
    /// ISOLATION LEVEL.
    pub isolation: Option<Isolation>,
    /// READ ONLY or READ WRITE.
    pub read_only: Option<bool>,
    /// DEFERRABLE.
    pub deferrable: Option<bool>,
    /// AS OF SYSTEM TIME.
    pub as_of: Option<Expr>,
    /// Spelled START TRANSACTION, which its command tag repeats.
    pub start: bool,
}

/// Isolation levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Isolation {
    ReadUncommitted,
    ReadCommitted,
    RepeatableRead,
    Serializable,
}

/// SET of a setting.
#[derive(Clone, Debug, PartialEq)]
pub struct Set {
    /// Setting, in lower case.
    pub name: String,
    /// Values as text; `None`: DEFAULT.
    pub value: Option<Vec<String>>,
    /// SET LOCAL.
    pub local: bool,
}

/// EXPLAIN.
#[derive(Clone, Debug, PartialEq)]
pub struct Explain {
    /// Statement.
    pub statement: Statement,
    /// ANALYZE.
    pub analyze: bool,
    /// VERBOSE.
    pub verbose: bool,
    /// COSTS.
    pub costs: bool,
    /// TIMING.
    pub timing: bool,
}

/// ANALYZE.
#[derive(Clone, Debug, PartialEq)]
pub struct Analyze {
    /// Tables; empty: all.
    pub tables: Vec<ObjectName>,
    /// VERBOSE.
    pub verbose: bool,
}

/// VACUUM.
#[derive(Clone, Debug, PartialEq)]
pub struct Vacuum {
    /// Tables; empty: all.
    pub tables: Vec<ObjectName>,
    /// ANALYZE too.
    pub analyze: bool,
    /// FULL.
    pub full: bool,
    /// FREEZE.
    pub freeze: bool,
    /// VERBOSE.
    pub verbose: bool,
}

/// COPY.
#[derive(Clone, Debug, PartialEq)]
pub struct Copy {
    /// What is copied.
    pub source: CopySource,
    /// FROM STDIN rather than TO STDOUT.
    pub from: bool,
    /// Options.
    pub options: CopyOptions,
}

/// What COPY copies.
#[derive(Clone, Debug, PartialEq)]
pub enum CopySource {
    /// A table and its column list (empty: all).
    Table {
        /// Table.
        name: ObjectName,
        /// Columns.
        columns: Vec<Ident>,
    },
    /// A query (or INSERT, UPDATE, DELETE with RETURNING).
    Query(Box<Statement>),
}

/// Formats of COPY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum CopyFormat {
    Text,
    Csv,
    Binary,
}

/// Options of COPY. `None` stands for the format's default.
#[derive(Clone, Debug, PartialEq)]
pub struct CopyOptions {
    /// FORMAT.
    pub format: CopyFormat,
    /// FREEZE: it allows what Cairn does anyway.
    pub freeze: bool,
    /// DELIMITER.
    pub delimiter: Option<String>,
    /// NULL.
    pub null: Option<String>,
    /// HEADER.
    pub header: bool,
    /// HEADER MATCH.
    pub header_match: bool,
    /// QUOTE.
    pub quote: Option<String>,
    /// ESCAPE.
    pub escape: Option<String>,
    /// FORCE_QUOTE; `Some(empty)`: all.
    pub force_quote: Option<Vec<Ident>>,
    /// FORCE_NOT_NULL.
    pub force_not_null: Vec<Ident>,
    /// FORCE_NULL.
    pub force_null: Vec<Ident>,
    /// ENCODING.
    pub encoding: Option<String>,
}

/// PREPARE.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepare {
    /// Name.
    pub name: Ident,
    /// Parameter types.
    pub types: Vec<TypeName>,
    /// Statement.
    pub statement: Statement,
}

/// EXECUTE.
#[derive(Clone, Debug, PartialEq)]
pub struct Execute {
    /// Name.
    pub name: Ident,
    /// Arguments.
    pub args: Vec<Expr>,
}

/// DECLARE CURSOR.
#[derive(Clone, Debug, PartialEq)]
pub struct Declare {
    /// Name.
    pub name: Ident,
    /// WITH HOLD.
    pub hold: bool,
    /// SCROLL.
    pub scroll: bool,
    /// BINARY.
    pub binary: bool,
    /// Query.
    pub query: Box<Query>,
}

/// FETCH or MOVE.
#[derive(Clone, Debug, PartialEq)]
pub struct Fetch {
    /// Cursor.
    pub cursor: Ident,
    /// How many rows forward (negative: backward); `None`: all.
    pub count: Option<i64>,
    /// MOVE.
    pub skip: bool,
}

/// DISCARD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum DiscardTarget {
    All,
    Plans,
    Sequences,
    Temp,
}

/// LOCK TABLE.
#[derive(Clone, Debug, PartialEq)]
pub struct LockTable {
    /// Tables.
    pub tables: Vec<ObjectName>,
    /// Mode, in upper case.
    pub mode: String,
    /// NOWAIT.
    pub nowait: bool,
}
