//! Golden scripts of plans and errors: each line beginning with `>` is a statement. CREATE TABLE and
//! CREATE INDEX change the script's catalog; all else is planned, and printed as EXPLAIN does with
//! its parameters and columns.

mod support;

use std::error::Error;
use std::fmt::Write as _;

use cairn_sql::optimize::explain;
use cairn_sql::parse::parse;
use cairn_sql::plan::{PlanSettings, Planned, plan};
use support::TestCatalog;

#[test]
fn scripts() {
    let mut failed = Vec::new();
    let mut paths: Vec<_> = std::fs::read_dir("tests/scripts/plan")
        .expect("the scripts are there")
        .map(|entry| entry.expect("a directory can be read").path())
        .collect();
    paths.sort();
    for path in paths {
        let run = std::panic::catch_unwind(|| goldenscript::run(&mut Runner::default(), &path));
        if !matches!(run, Ok(Ok(()))) {
            failed.push(path);
        }
    }
    assert!(failed.is_empty(), "scripts that differ: {failed:?}");
}

#[derive(Default)]
struct Runner {
    catalog: TestCatalog,
    settings: PlanSettings,
}

impl goldenscript::Runner for Runner {
    type Command = goldenscript::Command;

    fn run(
        &mut self,
        command: &goldenscript::Command,
        _: &goldenscript::Context,
    ) -> Result<String, Box<dyn Error>> {
        let sql = command.name.as_str();
        let mut out = String::new();
        match self.statement(sql, &mut out) {
            Ok(()) => {}
            Err(error) => {
                let fields = error.fields();
                let position = fields.position.map_or(String::new(), |p| {
                    format!(" at {}", &sql[p..].split(' ').next().unwrap_or_default())
                });
                writeln!(out, "ERROR {}{position}: {}", fields.state.as_str(), fields.message)?;
                if let Some(detail) = &fields.detail {
                    writeln!(out, "DETAIL: {detail}")?;
                }
                if let Some(hint) = &fields.hint {
                    writeln!(out, "HINT: {hint}")?;
                }
            }
        }
        Ok(out)
    }
}

impl Runner {
    fn statement(&mut self, sql: &str, out: &mut String) -> cairn_sql::Result<()> {
        for parsed in parse(sql)? {
            match plan(&parsed.statement, &self.catalog, &[], &self.settings)? {
                Planned::Query(query) => {
                    if !query.parameter_types.is_empty() {
                        let types: Vec<String> =
                            query.parameter_types.iter().map(ToString::to_string).collect();
                        let _ = writeln!(out, "parameters: {}", types.join(", "));
                    }
                    let columns: Vec<String> =
                        query.columns.iter().map(|c| format!("{} {}", c.name, c.ty)).collect();
                    if query.returns_rows {
                        let _ = writeln!(out, "columns: {}", columns.join(", "));
                    }
                    if let Some(direct) = query.direct {
                        let _ = writeln!(out, "direct: {direct:?}");
                    }
                    for line in explain(&query.root, false, false, &|_| String::new()) {
                        let _ = writeln!(out, "{line}");
                    }
                }
                Planned::Utility(utility) => match self.catalog.apply(&utility) {
                    Some(done) => {
                        let _ = writeln!(out, "{done}");
                    }
                    None => {
                        let _ = writeln!(out, "{utility:?}");
                    }
                },
            }
        }
        Ok(())
    }
}
