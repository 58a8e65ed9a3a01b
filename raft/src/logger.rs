//! raft-rs logs through slog; what is worth a person's attention goes on to tracing.

use slog::{Drain, Level, Logger, Never, OwnedKVList, Record};

struct ToTracing;

impl Drain for ToTracing {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, _values: &OwnedKVList) -> Result<(), Never> {
        match record.level() {
            Level::Critical | Level::Error => tracing::error!(target: "raft", "{}", record.msg()),
            Level::Warning => tracing::warn!(target: "raft", "{}", record.msg()),
            _ => {}
        }
        Ok(())
    }
}

/// A logger for raft-rs.
pub fn logger() -> Logger {
    Logger::root(ToTracing, slog::o!())
}
