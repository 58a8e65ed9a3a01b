//! The tests of behaviour once more, with a gateway on a node that does not have the lease
//! (`support/mod.rs` looks at this file's name), and those that only such a gateway needs.

// Those files are tests of their own, too, each with its own `support`.
#![allow(clippy::duplicate_mod)]

#[path = "scripts.rs"]
mod scripts;
#[path = "remote/sessions.rs"]
mod sessions;
#[path = "transactions.rs"]
mod transactions;
