//! The SQL layer: parse, bind, optimize, execute; catalog, types and functions; session semantics.
//!
//! A statement's way: [`parse`] (the only module that knows `sqlparser`) lowers text into [`ast`];
//! [`bind`] resolves names and types into a [`plan::logical`] plan; [`optimize`] turns that into a
//! [`plan::physical`] plan, which is cached; [`exec`] runs it over `cairn-txn`. [`session`] is what a
//! connection holds; it knows nothing of sockets.

pub mod ast;
pub mod batch;
pub mod bind;
pub mod catalog;
pub mod copy;
pub mod ddl;
pub mod error;
pub mod exec;
pub mod expr;
pub mod func;
pub mod optimize;
pub mod parse;
pub mod plan;
pub mod session;
pub mod storage;
pub mod types;

pub use error::{Result, SqlError, SqlState};
