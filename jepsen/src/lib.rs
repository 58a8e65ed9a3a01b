//! cairn-jepsen
