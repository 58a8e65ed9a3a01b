//! Real processes under fault: the nodes of a cluster, each in a process of its own, on the sockets, files and clocks
//! of the operating system.
//!
//! A node's process ([`seams`]) runs the production node with something around its seams, which obeys [`order`]s:
//! so a disk hangs, a clock is off and a link is cut without root and without network namespaces. The rest is done
//! from outside, by signals ([`cluster`]). A [`nemesis`] brings one [`fault`] after the other while clients run the
//! workloads over sockets ([`clients`], [`connection`]) and a [`probe`] writes at a fixed rate through every node,
//! whatever is answered. At the end everything is healed and checked ([`run`]); the [`timeline`] tells what was when.

pub mod clients;
pub mod cluster;
pub mod connection;
pub mod fault;
pub mod nemesis;
pub mod order;
pub mod probe;
pub mod run;
pub mod seams;
pub mod timeline;
