//! Statements that are not queries.

use std::sync::Arc;

use bytes::Bytes;
use cairn_txn::TxnError;

use super::describe::text_column;
use super::explain::explain;
use super::plan_cache::Executable;
use super::portal::{no_statement, utility_of};
use super::run::Fetch;
use super::settings::Settings;
use super::{Outcome, ResultSink, Session, Severity, Work};
use crate::ast::{DiscardTarget, ObjectName, Set, TransactionModes};
use crate::catalog::{CatalogReader, ColumnStats, IndexDesc, TableDesc, TableStats, store};
use crate::copy::{self, CopyIn};
use crate::ddl::{Ddl, quote_ident};
use crate::exec::{Context, Memory, Meters};
use crate::parse;
use crate::plan::{BoundCopy, CopyTarget, ExplainOptions, NewColumn, Planned, QueryPlan, Utility};
use crate::storage::key;
use crate::types::{Datum, format_type, text_of};
use crate::{Result, SqlError, SqlState};

/// How often a schema change is tried.
const TRIES: u32 = 20;

impl Session {
    /// Runs a utility statement. `last`: it ends a simple query string, so the implicit transaction
    /// commits before it is called complete.
    pub(super) async fn run_utility(
        &mut self,
        work: Work,
        sink: &mut dyn ResultSink,
        last: bool,
    ) -> Result<Outcome> {
        let compiled = match &work.compiled {
            Some(compiled) => compiled.clone(),
            None => self.compile_statement(&work.statement, &[], None).await?,
        };
        let utility =
            utility_of(&compiled).ok_or_else(|| SqlError::new(SqlState::INTERNAL, "not a utility"))?;
        let simple = last || !self.pending.is_empty();
        let tag = match utility {
            Utility::Begin(modes) => {
                self.begin(modes, sink).await?;
                if modes.start { "START TRANSACTION".to_owned() } else { "BEGIN".to_owned() }
            }
            Utility::Commit { chain } => {
                let failed = self.txn.as_ref().is_some_and(|t| t.failed);
                self.end(sink, *chain, failed).await?;
                if failed { "ROLLBACK".into() } else { "COMMIT".into() }
            }
            Utility::Rollback { chain } => {
                self.end(sink, *chain, true).await?;
                "ROLLBACK".into()
            }
            Utility::Savepoint(name) => {
                self.savepoint(&name.name)?;
                "SAVEPOINT".into()
            }
            Utility::Release(name) => {
                self.release(&name.name)?;
                "RELEASE".into()
            }
            Utility::RollbackTo(name) => {
                self.rollback_to(&name.name)?;
                "ROLLBACK".into()
            }
            Utility::SetTransaction(modes) => {
                if self.txn.as_ref().is_none_or(|t| !t.explicit) {
                    let warning = SqlError::new(
                        SqlState::NO_ACTIVE_TRANSACTION,
                        "SET TRANSACTION can only be used in transaction blocks",
                    );
                    self.tell(Severity::Warning, &warning, sink);
                } else {
                    self.set_modes(modes).await?;
                }
                "SET".into()
            }
            Utility::SetSessionCharacteristics(modes) => {
                self.set_characteristics(modes)?;
                "SET".into()
            }
            Utility::Set(set) => {
                self.set(set).await?;
                "SET".into()
            }
            Utility::Reset(name) => {
                match name {
                    Some(name) => self.settings.set(name, None, false)?,
                    None => self.settings.reset_all(),
                }
                "RESET".into()
            }
            Utility::Show(name) => {
                self.show(name.as_deref(), sink, simple)?;
                "SHOW".into()
            }
            Utility::Explain { plan, options } => {
                let lines = self.explain(plan, *options).await?;
                let columns = [text_column("QUERY PLAN")];
                if simple {
                    sink.row_description(&columns, &[]);
                }
                for line in lines {
                    sink.row(&[Datum::text(line)], &columns, &[]);
                }
                "EXPLAIN".into()
            }
            Utility::Copy(copy) => return self.copy(copy, sink, last).await,
            Utility::Prepare { name, types, statement } => {
                if self.statements.contains_key(&name.name) {
                    return Err(SqlError::new(
                        SqlState::DUPLICATE_STATEMENT,
                        format!("prepared statement \"{}\" already exists", name.name),
                    ));
                }
                let prepared =
                    self.make_prepared(Some((**statement).clone()), work.text.clone(), types.clone()).await?;
                self.statements.insert(name.name.clone(), prepared);
                "PREPARE".into()
            }
            Utility::Execute(execute) => {
                let (prepared, compiled) = self.executed(execute).await?;
                let params = self.execute_arguments(execute, &prepared).await?;
                let fetch = Fetch { described: simple, ..Fetch::ALL };
                let (tag, _) = self.run_query(&compiled, &prepared, params, fetch, sink).await?;
                tag.unwrap_or_default()
            }
            Utility::Deallocate(name) => match name {
                Some(name) if self.statements.remove(&name.name).is_none() => {
                    return Err(no_statement(&name.name));
                }
                Some(_) => "DEALLOCATE".into(),
                None => {
                    self.statements.clear();
                    "DEALLOCATE ALL".into()
                }
            },
            Utility::Discard(target) => self.discard(*target).await?,
            Utility::Declare { .. } | Utility::Fetch(_) | Utility::Close(_) => {
                return Err(SqlError::unsupported("a cursor declared in SQL"));
            }
            Utility::LockTable(lock) => {
                if self.txn.as_ref().is_none_or(|t| !t.explicit) {
                    return Err(SqlError::new(
                        SqlState::NO_ACTIVE_TRANSACTION,
                        "LOCK TABLE can only be used in transaction blocks",
                    ));
                }
                return Err(SqlError::unsupported(format_args!("LOCK TABLE in {} mode", lock.mode)));
            }
            Utility::CreateSchema(_) | Utility::DropSchema(_) => {
                return Err(SqlError::unsupported("a schema other than public"));
            }
            Utility::Vacuum(vacuum) => {
                self.vacuum(&vacuum.tables, vacuum.analyze).await?;
                "VACUUM".into()
            }
            Utility::Analyze(analyze) => {
                self.analyze(&analyze.tables).await?;
                "ANALYZE".into()
            }
            Utility::CreateTable(_)
            | Utility::DropTable(_)
            | Utility::CreateIndex(_)
            | Utility::DropIndex(_)
            | Utility::CreateSequence(_)
            | Utility::DropSequence(_)
            | Utility::Truncate(_)
            | Utility::AlterTable { .. } => self.schema_change(utility, sink).await?,
        };
        if last && self.txn.as_ref().is_some_and(|t| !t.explicit) {
            self.commit().await?;
        }
        sink.complete(&tag);
        Ok(Outcome::Done)
    }

    /// COMMIT and ROLLBACK.
    async fn end(&mut self, sink: &mut dyn ResultSink, chain: bool, roll_back: bool) -> Result<()> {
        if self.txn.as_ref().is_none_or(|t| !t.explicit) {
            if chain {
                let word = if roll_back { "ROLLBACK" } else { "COMMIT" };
                return Err(SqlError::new(
                    SqlState::NO_ACTIVE_TRANSACTION,
                    format!("{word} AND CHAIN can only be used in transaction blocks"),
                ));
            }
            let warning =
                SqlError::new(SqlState::NO_ACTIVE_TRANSACTION, "there is no transaction in progress");
            self.tell(Severity::Warning, &warning, sink);
        }
        if roll_back {
            self.rollback().await;
        } else {
            self.commit().await?;
        }
        if chain {
            self.begin(&TransactionModes::default(), sink).await?;
        }
        Ok(())
    }

    fn set_characteristics(&mut self, modes: &TransactionModes) -> Result<()> {
        use crate::ast::Isolation as I;
        if modes.as_of.is_some() {
            return Err(SqlError::unsupported("AS OF SYSTEM TIME for a session"));
        }
        if let Some(isolation) = modes.isolation {
            let text = match isolation {
                I::ReadUncommitted => "read uncommitted",
                I::ReadCommitted => "read committed",
                I::RepeatableRead => "repeatable read",
                I::Serializable => "serializable",
            };
            self.settings.set("default_transaction_isolation", Some(&[text.to_owned()]), false)?;
        }
        if let Some(read_only) = modes.read_only {
            let text = if read_only { "on" } else { "off" };
            self.settings.set("default_transaction_read_only", Some(&[text.to_owned()]), false)?;
        }
        Ok(())
    }

    async fn set(&mut self, set: &Set) -> Result<()> {
        let value = set.value.as_deref();
        let first = value.and_then(|v| v.first()).map(|v| v.to_ascii_lowercase());
        match set.name.as_str() {
            "transaction_isolation" => {
                use crate::ast::Isolation as I;
                let isolation = match first.as_deref() {
                    Some("serializable") => I::Serializable,
                    Some("repeatable read") => I::RepeatableRead,
                    Some("read committed") => I::ReadCommitted,
                    Some("read uncommitted") => I::ReadUncommitted,
                    _ => return self.settings.set(&set.name, value, true),
                };
                self.set_modes(&TransactionModes { isolation: Some(isolation), ..Default::default() }).await
            }
            "transaction_read_only" => {
                let read_only = matches!(first.as_deref(), Some("on" | "true" | "1" | "yes"));
                self.set_modes(&TransactionModes { read_only: Some(read_only), ..Default::default() }).await
            }
            name => {
                self.settings.set(name, value, set.local)?;
                if name.eq_ignore_ascii_case("application_name") {
                    let application = self.settings.text("application_name").to_owned();
                    self.node.update_session(self.id, |entry| entry.application = application);
                }
                Ok(())
            }
        }
    }

    fn show(&mut self, name: Option<&str>, sink: &mut dyn ResultSink, describe: bool) -> Result<()> {
        let Some(name) = name else {
            let columns = ["name", "setting", "description"].map(text_column);
            if describe {
                sink.row_description(&columns, &[]);
            }
            for (name, value, about) in self.settings.show_all() {
                sink.row(&[Datum::text(name), Datum::text(value), Datum::text(about)], &columns, &[]);
            }
            return Ok(());
        };
        let value = match name {
            "transaction_isolation" => match self.isolation() {
                cairn_txn::Isolation::Serializable => "serializable".to_owned(),
                cairn_txn::Isolation::RepeatableRead => "repeatable read".to_owned(),
                cairn_txn::Isolation::ReadCommitted => "read committed".to_owned(),
            },
            "transaction_read_only" => match self.txn.as_ref().is_some_and(|t| t.options.read_only) {
                true => "on".to_owned(),
                false => "off".to_owned(),
            },
            name => self.settings.show(name)?,
        };
        let columns = [text_column(Settings::canonical_name(name))];
        if describe {
            sink.row_description(&columns, &[]);
        }
        sink.row(&[Datum::text(value)], &columns, &[]);
        Ok(())
    }

    async fn discard(&mut self, target: DiscardTarget) -> Result<String> {
        Ok(match target {
            DiscardTarget::All => {
                if self.txn.as_ref().is_some_and(|t| t.explicit) {
                    return Err(SqlError::new(
                        SqlState::ACTIVE_TRANSACTION,
                        "DISCARD ALL cannot run inside a transaction block",
                    ));
                }
                self.portals.clear();
                self.statements.clear();
                self.settings.reset_all();
                *self.effects.lock() = Default::default();
                "DISCARD ALL".into()
            }
            DiscardTarget::Plans => "DISCARD PLANS".into(),
            DiscardTarget::Sequences => {
                *self.effects.lock() = Default::default();
                "DISCARD SEQUENCES".into()
            }
            DiscardTarget::Temp => "DISCARD TEMP".into(),
        })
    }

    /// Evaluates an expression that stands alone, written as SQL.
    async fn evaluate_text(&mut self, sql: &str) -> Result<Datum> {
        let parsed = parse::parse_one(sql)?;
        let parsed = parsed.ok_or_else(|| SqlError::new(SqlState::INTERNAL, "nothing to evaluate"))?;
        let compiled = self.compile_statement(&parsed.statement, &[], None).await?;
        let executable = compiled.query.as_ref();
        let executable = executable.ok_or_else(|| SqlError::new(SqlState::INTERNAL, "not a query"))?;
        self.ensure_transaction();
        let mut rows = self.collect(executable, Arc::new([])).await?;
        rows.pop().and_then(|mut row| row.pop()).ok_or_else(|| SqlError::new(SqlState::INTERNAL, "no value"))
    }

    /// All rows of a query.
    async fn collect(&mut self, executable: &Executable, params: Arc<[Datum]>) -> Result<Vec<Vec<Datum>>> {
        let mut eval = self.eval_context(params, executable.plan.slots);
        let memory = self.memory();
        let mut operator = executable.root.open(&Meters::default());
        let txn = self.txn.as_deref_mut().expect("the caller opened one");
        txn.txn.begin_statement().await?;
        let mut rows = Vec::new();
        loop {
            let mut cx = Context {
                txn: &mut txn.txn,
                node: &self.node,
                eval: &mut eval,
                memory: &memory,
                isolation: txn.options.isolation,
                cancel: &self.cancel,
            };
            let Some(batch) = operator.next(&mut cx).await? else { return Ok(rows) };
            memory.take(batch.memory())?;
            rows.extend((0..batch.len()).map(|i| batch.row(i)));
        }
    }

    fn memory(&self) -> Memory {
        Memory::new((self.settings.number("work_mem") as usize).saturating_mul(1024))
    }

    /// EXPLAIN.
    async fn explain(&mut self, planned: &Planned, options: ExplainOptions) -> Result<Vec<String>> {
        let executed;
        let (plan, params) = match planned {
            Planned::Query(plan) => (plan, Arc::new([]) as Arc<[Datum]>),
            Planned::Utility(utility) => {
                let Utility::Execute(execute) = &**utility else {
                    return Ok(vec!["Utility statements have no plan structure".into()]);
                };
                let (prepared, compiled) = self.executed(execute).await?;
                let params = self.execute_arguments(execute, &prepared).await?;
                executed = compiled;
                let Planned::Query(plan) = &executed.planned else {
                    unreachable!("only queries are executed")
                };
                (plan, params)
            }
        };
        if !options.analyze {
            return Ok(explain(plan, options, None));
        }
        let clock = self.node.db().store().env().clock.clone();
        let start = clock.monotonic_nanos();
        let meters = Meters::on(count_nodes(&plan.root));
        let executable = Executable::new(plan)?;
        self.ensure_transaction();
        let version = self.derived().version;
        if !self.lock_tables(&executable, version).await? {
            return Err(SqlError::new(
                SqlState::OBJECT_NOT_IN_STATE,
                "a table was changed meanwhile; try again",
            ));
        }
        let mut eval = self.eval_context(params, plan.slots);
        let memory = self.memory();
        let mut operator = executable.root.open(&meters);
        let txn = self.txn.as_deref_mut().expect("just opened");
        txn.txn.begin_statement().await?;
        loop {
            let mut cx = Context {
                txn: &mut txn.txn,
                node: &self.node,
                eval: &mut eval,
                memory: &memory,
                isolation: txn.options.isolation,
                cancel: &self.cancel,
            };
            if operator.next(&mut cx).await?.is_none() {
                break;
            }
        }
        txn.statements += 1;
        let mut lines = explain(plan, options, Some(&meters.read()));
        let millis = (clock.monotonic_nanos() - start) as f64 / 1e6;
        lines.push(format!("Execution Time: {millis:.3} ms"));
        Ok(lines)
    }

    /// A schema change, run again after conflicts where that can help.
    async fn schema_change(&mut self, utility: &Utility, sink: &mut dyn ResultSink) -> Result<String> {
        if self.txn.as_ref().is_some_and(|t| t.options.read_only) {
            return Err(SqlError::new(
                SqlState::READ_ONLY_TRANSACTION,
                "cannot execute a schema change in a read-only transaction",
            ));
        }
        self.node.catch_up().await?;
        let mut tries = 0;
        loop {
            self.ensure_transaction();
            match self.try_schema_change(utility, sink).await {
                Err(e) if e.fields().retryable && tries < TRIES => {
                    tries += 1;
                    if self.txn.as_ref().is_some_and(|t| t.statements == 0) {
                        self.restart_transaction().await;
                    } else {
                        let txn = self.txn.as_deref_mut().expect("it ran in one");
                        if txn.txn.restart_statement().await.is_err() {
                            return Err(e);
                        }
                    }
                }
                Ok(tag) => {
                    self.txn.as_deref_mut().expect("it ran in one").statements += 1;
                    return Ok(tag);
                }
                Err(e) => return Err(e),
            }
        }
    }

    async fn try_schema_change(&mut self, utility: &Utility, sink: &mut dyn ResultSink) -> Result<String> {
        let mut added = Vec::new();
        if let Utility::AlterTable { columns, .. } = utility {
            for column in columns {
                let value = self.constant_default(column).await?;
                added.push((column.clone(), value));
            }
        }
        let search_path = self.derived().view.search_path.clone();
        let memory = (self.settings.number("maintenance_work_mem") as usize).saturating_mul(1024);
        let saved = self.txn.as_ref().map(|t| t.changes.clone()).unwrap_or_default();
        let txn = self.txn.as_deref_mut().expect("the caller opened one");
        txn.txn.begin_statement().await?;
        let mut ddl = Ddl {
            node: &self.node,
            isolation: txn.options.isolation,
            txn: &mut txn.txn,
            changes: &mut txn.changes,
            search_path,
            memory,
            notices: Vec::new(),
        };
        let mut created = None;
        let outcome = match utility {
            Utility::CreateTable(new) => ddl.create_table(new).await.map(|table| {
                let skipped = table.is_none();
                created = table.filter(|_| new.query.is_some()).zip(new.query.clone());
                if skipped && new.query.is_some() { "CREATE TABLE AS" } else { "CREATE TABLE" }
            }),
            Utility::DropTable(drop) => ddl.drop_tables(drop).await.map(|()| "DROP TABLE"),
            Utility::CreateIndex(new) => ddl.create_index(new).await.map(|()| "CREATE INDEX"),
            Utility::DropIndex(drop) => ddl.drop_indexes(drop).await.map(|()| "DROP INDEX"),
            Utility::CreateSequence(new) => ddl.create_sequence(new).await.map(|()| "CREATE SEQUENCE"),
            Utility::DropSequence(drop) => ddl.drop_sequences(drop).await.map(|()| "DROP SEQUENCE"),
            Utility::Truncate(truncate) => ddl.truncate(truncate).await.map(|()| "TRUNCATE TABLE"),
            Utility::AlterTable { alter, defaults, .. } => {
                let tag = if alter.index { "ALTER INDEX" } else { "ALTER TABLE" };
                ddl.alter_table(alter, &added, defaults).await.map(|()| tag)
            }
            _ => Err(SqlError::new(SqlState::INTERNAL, "not a schema change")),
        };
        let notices = ddl.notices;
        let tag = match outcome {
            Ok(tag) => tag,
            Err(error) => {
                // Descriptors of a statement that failed are not part of the transaction.
                let building = std::mem::take(&mut txn.changes.building);
                txn.changes = saved;
                txn.changes.building = building;
                return Err(error);
            }
        };
        for notice in &notices {
            self.tell(Severity::Notice, notice, sink);
        }
        match created {
            None => Ok(tag.to_owned()),
            Some((table, query)) => {
                let rows = self.fill_table(&table, &query).await?;
                Ok(format!("SELECT {rows}"))
            }
        }
    }

    /// CREATE TABLE AS: the rows.
    async fn fill_table(&mut self, table: &Arc<TableDesc>, query: &Arc<QueryPlan>) -> Result<u64> {
        use crate::exec::writer::{TableWriter, WriteState};
        let executable = Executable::new(query)?;
        let rows = self.collect(&executable, Arc::new([])).await?;
        let writer = TableWriter::new(table.clone());
        let text = self.derived().text.clone();
        let mut row_id = self.node.new_row_ids(rows.len() as u64).await?;
        let txn = self.txn.as_deref_mut().expect("the caller opened one");
        let mut state = WriteState::new(false);
        let count = rows.len() as u64;
        for mut row in rows {
            row.push(Datum::Int8(row_id as i64));
            row_id += 1;
            writer.insert(&mut txn.txn, &mut state, &row, &text).await?;
        }
        Ok(count)
    }

    /// The value that existing rows get for an added column: its default, evaluated now, where it
    /// gives one value for all.
    async fn constant_default(&mut self, column: &NewColumn) -> Result<Option<Datum>> {
        if column.serial {
            return Ok(None);
        }
        let Some(default) = &column.default else { return Ok(Some(Datum::Null)) };
        if default.contains("nextval(") || default.contains("random(") || default.contains("gen_random_uuid(")
        {
            return Ok(None);
        }
        let sql = format!("SELECT CAST(({default}) AS {})", format_type(column.ty));
        self.evaluate_text(&sql).await.map(Some)
    }

    /// The tables named, or all.
    fn named_tables(&mut self, names: &[ObjectName]) -> Result<Vec<Arc<TableDesc>>> {
        let derived = self.derived();
        let view = crate::catalog::cache::CatalogView {
            catalog: derived.view.catalog.clone(),
            search_path: derived.view.search_path.clone(),
        };
        if names.is_empty() {
            let tables = view.catalog.tables().filter(|t| t.sequence.is_none()).cloned();
            return Ok(tables.collect());
        }
        names
            .iter()
            .map(|name| {
                view.table(name.schema.as_deref(), &name.name).ok_or_else(|| {
                    SqlError::new(SqlState::UNDEFINED_TABLE, format!("relation \"{name}\" does not exist"))
                })
            })
            .collect()
    }

    /// VACUUM: garbage collection; with ANALYZE, statistics too.
    async fn vacuum(&mut self, names: &[ObjectName], analyze: bool) -> Result<()> {
        if self.txn.as_ref().is_some_and(|t| t.explicit) {
            return Err(SqlError::new(
                SqlState::ACTIVE_TRANSACTION,
                "VACUUM cannot run inside a transaction block",
            ));
        }
        self.node.catch_up().await?;
        let tables = self.named_tables(names)?;
        // What its own snapshot would hold back is to go.
        self.rollback().await;
        if names.is_empty() {
            self.node.db().collect_all_garbage(&self.cancel).await?;
            // What it leaves when it is canceled, the node's own collector takes up.
            tokio::select! {
                biased;
                () = self.cancel.canceled() => return Err(TxnError::Canceled.into()),
                collected = crate::ddl::garbage::collect(&self.node) => collected?,
            };
        } else {
            let span = |index: &IndexDesc| {
                let (start, end) = (key::index_prefix(index.id), key::index_end(index.id));
                (Bytes::copy_from_slice(&start), Bytes::copy_from_slice(&end))
            };
            let spans: Vec<_> = tables.iter().flat_map(|table| &table.indexes).map(span).collect();
            self.node.db().collect_garbage(&spans, &self.cancel).await?;
            // What was dropped is no part of these tables, but its time may have come.
            self.node.wake_collector();
        }
        if analyze {
            self.analyze(names).await?;
        }
        Ok(())
    }

    /// ANALYZE: scans the tables and stores statistics.
    async fn analyze(&mut self, names: &[ObjectName]) -> Result<()> {
        self.node.catch_up().await?;
        for table in self.named_tables(names)? {
            if table.sequence.is_none() {
                self.analyze_table(&table).await?;
            }
        }
        Ok(())
    }

    /// Statistics of one table, by queries over it.
    async fn analyze_table(&mut self, table: &Arc<TableDesc>) -> Result<()> {
        /// Rows whose values are looked at for distinct values and histograms.
        const SAMPLE: usize = 30_000;
        const BOUNDS: usize = 100;
        self.ensure_transaction();
        let schema = crate::catalog::cache::schema_name(table.schema);
        let name = format!("{}.{}", quote_ident(schema), quote_ident(&table.name));
        let Datum::Int8(rows) = self.evaluate_text(&format!("SELECT count(*) FROM {name}")).await? else {
            return Err(SqlError::new(SqlState::INTERNAL, "count is not a bigint"));
        };
        let text = self.derived().text.clone();
        let mut columns = Vec::with_capacity(table.columns.len());
        for column in &table.columns {
            if column.hidden {
                columns.push(ColumnStats { distinct: -1.0, ..ColumnStats::default() });
                continue;
            }
            let sql = format!("SELECT {} FROM {name} LIMIT {SAMPLE}", quote_ident(&column.name));
            let parsed = parse::parse_one(&sql)?;
            let parsed = parsed.ok_or_else(|| SqlError::new(SqlState::INTERNAL, "nothing to sample"))?;
            let compiled = self.compile_statement(&parsed.statement, &[], None).await?;
            let executable = compiled.query.as_ref().expect("a query");
            let sampled = self.collect(executable, Arc::new([])).await?;
            let seen = sampled.len();
            let mut values: Vec<Datum> = sampled.into_iter().flatten().filter(|v| !v.is_null()).collect();
            let nulls = (seen - values.len()) as f64 / seen.max(1) as f64;
            let kind = column.ty.kind;
            if !kind.is_ordered() {
                columns.push(ColumnStats { null_fraction: nulls, ..ColumnStats::default() });
                continue;
            }
            values.sort_by(|a, b| crate::types::compare(a, b, kind));
            let repeated = values.windows(2).filter(|w| crate::types::is_equal(&w[0], &w[1], kind)).count();
            let distinct = values.len() - repeated;
            let distinct = match values.len() {
                0 => 0.0,
                // Nearly all differ: their number grows with the table.
                n if distinct * 10 > n * 9 => -(distinct as f64 / n as f64) * (1.0 - nulls),
                _ => distinct as f64,
            };
            let histogram = match values.len() {
                0..2 => Vec::new(),
                n => {
                    let bounds = BOUNDS.min(n - 1);
                    let at = (0..=bounds).map(|i| &values[i * (n - 1) / bounds]);
                    at.filter_map(|v| text_of(v, column.ty, &text)).map(|s| s.to_string()).collect()
                }
            };
            columns.push(ColumnStats { distinct, null_fraction: nulls, histogram });
        }
        let stats = TableStats { rows: rows as f64, columns };
        let txn = self.txn.as_deref_mut().expect("just opened");
        txn.txn.begin_statement().await?;
        // The newest descriptor, under its key's lock: another change of it is not lost.
        let key = store::system_key(crate::storage::ids::DESCRIPTORS, table.id as u64);
        let Some(stored) = txn.txn.get_for_update(&key).await? else { return Ok(()) };
        let mut newest = crate::catalog::codec::decode(&stored)?;
        if newest.columns.len() == table.columns.len() {
            newest.stats = Some(stats);
            newest.version += 1;
            store::write(&mut txn.txn, &newest).await?;
            txn.changes.touched.insert(newest.id, Some(Arc::new(newest)));
            txn.changes.count += 1;
        }
        txn.statements += 1;
        if !txn.explicit {
            self.commit().await?;
        }
        Ok(())
    }

    /// COPY.
    async fn copy(&mut self, copy: &BoundCopy, sink: &mut dyn ResultSink, last: bool) -> Result<Outcome> {
        let options = copy::Options::new(&copy.options)?;
        self.ensure_transaction();
        match &copy.target {
            CopyTarget::From { table, columns, defaults } => {
                if self.txn.as_ref().is_some_and(|t| t.options.read_only) {
                    return Err(SqlError::new(
                        SqlState::READ_ONLY_TRANSACTION,
                        "cannot execute COPY FROM in a read-only transaction",
                    ));
                }
                self.lock_for_copy(table).await?;
                let eval = self.eval_context(Arc::new([]), 0);
                let count = columns.len();
                let copy = CopyIn::new(table.clone(), columns.clone(), defaults, options, eval, last)?;
                let txn = self.txn.as_deref_mut().expect("just opened");
                txn.txn.begin_statement().await?;
                self.copy = Some(Box::new(copy));
                sink.copy_in(count, super::Format::Text);
                Ok(Outcome::CopyIn)
            }
            CopyTarget::To(plan) => {
                let rows = self.copy_out(plan, options, sink).await?;
                if last && self.txn.as_ref().is_some_and(|t| !t.explicit) {
                    self.commit().await?;
                }
                sink.complete(&format!("COPY {rows}"));
                Ok(Outcome::Done)
            }
        }
    }

    /// Locks the table of a COPY FROM; it must not have changed since it was bound.
    async fn lock_for_copy(&mut self, table: &Arc<TableDesc>) -> Result<()> {
        let node = self.node.clone();
        let txn = self.txn.as_deref_mut().expect("the caller opened one");
        if !txn.locked.contains(&table.id) {
            txn.txn.lock(&crate::ddl::object_lock(table.id), cairn_txn::LockStrength::Shared).await?;
            txn.locked.push(table.id);
        }
        node.catch_up_with(&txn.txn).await?;
        let catalog = txn.changes.apply(&node.catalog());
        if catalog.get(table.id).is_none_or(|now| now.version != table.version) {
            return Err(SqlError::new(
                SqlState::OBJECT_NOT_IN_STATE,
                format!("table \"{}\" was changed meanwhile; try again", table.name),
            ));
        }
        if table.changed_at > txn.txn.read_ts().await? {
            txn.txn.refresh_to(table.changed_at).await?;
        }
        Ok(())
    }

    async fn copy_out(
        &mut self,
        plan: &Arc<QueryPlan>,
        options: copy::Options,
        sink: &mut dyn ResultSink,
    ) -> Result<u64> {
        let executable = Executable::new(plan)?;
        let version = self.derived().version;
        if !self.lock_tables(&executable, version).await? {
            return Err(SqlError::new(
                SqlState::OBJECT_NOT_IN_STATE,
                "a table was changed meanwhile; try again",
            ));
        }
        let mut eval = self.eval_context(Arc::new([]), plan.slots);
        let text = eval.text.clone();
        let memory = self.memory();
        let mut operator = executable.root.open(&Meters::default());
        let txn = self.txn.as_deref_mut().expect("the caller opened one");
        txn.txn.begin_statement().await?;
        sink.copy_out(plan.columns.len(), super::Format::Text);
        let mut writer = copy::Writer::new(options);
        let (mut line, mut row) = (Vec::new(), Vec::new());
        if writer.has_header() {
            writer.header(&plan.columns, &mut line);
            sink.copy_data(&line);
        }
        let mut rows = 0;
        loop {
            let mut cx = Context {
                txn: &mut txn.txn,
                node: &self.node,
                eval: &mut eval,
                memory: &memory,
                isolation: txn.options.isolation,
                cancel: &self.cancel,
            };
            let Some(batch) = operator.next(&mut cx).await? else { break };
            for i in 0..batch.len() {
                let at = batch.physical(i);
                row.clear();
                row.extend(batch.columns.iter().map(|c| c.get(at)));
                line.clear();
                writer.row(&row, &plan.columns, &text, &mut line);
                sink.copy_data(&line);
                rows += 1;
            }
            if sink.is_full() {
                sink.flush().await?;
            }
        }
        txn.statements += 1;
        sink.copy_done();
        Ok(rows)
    }

    /// A chunk of COPY FROM.
    pub(super) async fn copy_chunk(&mut self, data: &[u8]) -> Result<()> {
        let (Some(copy), Some(txn)) = (self.copy.as_deref_mut(), self.txn.as_deref_mut()) else {
            return Err(SqlError::new(SqlState::PROTOCOL_VIOLATION, "COPY data without COPY"));
        };
        copy.push(&self.node, &mut txn.txn, data).await
    }

    /// The end of COPY FROM, and the rest of the query string.
    pub(super) async fn copy_finish(&mut self, sink: &mut dyn ResultSink) -> Result<Outcome> {
        let (Some(copy), Some(txn)) = (self.copy.as_deref_mut(), self.txn.as_deref_mut()) else {
            return Err(SqlError::new(SqlState::PROTOCOL_VIOLATION, "COPY end without COPY"));
        };
        copy.finish(&self.node, &mut txn.txn).await?;
        let (rows, last) = (copy.rows(), copy.last);
        txn.statements += 1;
        self.copy = None;
        if last && !self.txn.as_ref().is_some_and(|t| t.explicit) {
            self.commit().await?;
        }
        sink.complete(&format!("COPY {rows}"));
        self.run_pending(sink).await
    }
}

fn count_nodes(node: &crate::plan::physical::Node) -> usize {
    1 + crate::exec::children(node).into_iter().map(count_nodes).sum::<usize>()
}
