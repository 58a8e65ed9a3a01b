//! Checkers of histories.

pub mod linear;
pub mod serial;
