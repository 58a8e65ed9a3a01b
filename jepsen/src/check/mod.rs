//! Checkers of histories.

pub mod append;
pub mod linear;
pub mod serial;
