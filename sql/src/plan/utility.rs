//! Statements that are not plans of operators, with their names and types resolved as far as that
//! does not depend on the moment of execution.

use std::sync::Arc;

use super::{Planned, QueryPlan};
use crate::ast::{self, Ident, ObjectName, TableConstraint};
use crate::catalog::TableDesc;
use crate::expr::Scalar;
use crate::types::Type;

/// A statement for the session or the schema changer.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Utility {
    CreateTable(NewTable),
    DropTable(ast::Drop),
    CreateIndex(ast::CreateIndex),
    DropIndex(ast::Drop),
    CreateSequence(ast::CreateSequence),
    DropSequence(ast::Drop),
    CreateSchema(ast::CreateSchema),
    DropSchema(ast::Drop),
    Truncate(ast::Truncate),
    /// ALTER TABLE; added columns are in `columns`, in the order of their actions, and `defaults`
    /// holds the deparsed text of each `SetDefault`, likewise.
    AlterTable {
        alter: ast::AlterTable,
        columns: Vec<NewColumn>,
        defaults: Vec<Option<String>>,
    },
    Begin(ast::TransactionModes),
    Commit {
        chain: bool,
    },
    Rollback {
        chain: bool,
    },
    Savepoint(Ident),
    Release(Ident),
    RollbackTo(Ident),
    SetTransaction(ast::TransactionModes),
    SetSessionCharacteristics(ast::TransactionModes),
    Set(ast::Set),
    /// SHOW; `None`: ALL.
    Show(Option<String>),
    /// RESET; `None`: ALL.
    Reset(Option<String>),
    Explain {
        plan: Planned,
        options: ExplainOptions,
    },
    Analyze(ast::Analyze),
    Vacuum(ast::Vacuum),
    Copy(BoundCopy),
    /// PREPARE: the session plans `statement` when it is executed.
    Prepare {
        name: Ident,
        types: Vec<Option<Type>>,
        statement: Box<ast::Statement>,
    },
    /// EXECUTE: the arguments, which the session coerces with [`super::bind_arguments`].
    Execute(ast::Execute),
    /// DEALLOCATE; `None`: ALL.
    Deallocate(Option<Ident>),
    Declare {
        name: Ident,
        hold: bool,
        scroll: bool,
        binary: bool,
        plan: Arc<QueryPlan>,
    },
    Fetch(ast::Fetch),
    /// CLOSE; `None`: ALL.
    Close(Option<Ident>),
    Discard(ast::DiscardTarget),
    LockTable(ast::LockTable),
}

/// Options of EXPLAIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ExplainOptions {
    pub analyze: bool,
    pub verbose: bool,
    pub costs: bool,
    pub timing: bool,
}

/// A table to create.
#[derive(Clone, Debug)]
pub struct NewTable {
    /// Name; the schema is that of the search path unless given.
    pub name: ObjectName,
    /// UNLOGGED was said; the table is as durable as any.
    pub unlogged: bool,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// Columns.
    pub columns: Vec<NewColumn>,
    /// Constraints, those of columns included; at most one is a primary key.
    pub constraints: Vec<TableConstraint>,
    /// CREATE TABLE AS: where the rows come from.
    pub query: Option<Arc<QueryPlan>>,
}

/// A column to create.
#[derive(Clone, Debug)]
pub struct NewColumn {
    /// Name.
    pub name: String,
    /// Type.
    pub ty: Type,
    /// NOT NULL (said, or implied by SERIAL or PRIMARY KEY).
    pub not_null: bool,
    /// DEFAULT, deparsed.
    pub default: Option<String>,
    /// SERIAL (or identity): the creator makes a sequence `table_column_seq`, owned by the column, and the
    /// default `nextval('…'::regclass)`.
    pub serial: bool,
}

/// A bound COPY.
#[derive(Clone, Debug)]
pub struct BoundCopy {
    /// What is copied.
    pub target: CopyTarget,
    /// Options.
    pub options: ast::CopyOptions,
}

/// What COPY copies.
#[derive(Clone, Debug)]
pub enum CopyTarget {
    /// COPY table FROM STDIN.
    From {
        /// Table.
        table: Arc<TableDesc>,
        /// Positions in `table.columns` of the fields of a line.
        columns: Vec<usize>,
        /// Values of the other columns (over no input), by position in `table.columns`.
        defaults: Vec<(usize, Scalar)>,
    },
    /// COPY … TO STDOUT, of a table too.
    To(Arc<QueryPlan>),
}
