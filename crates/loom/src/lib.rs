//! The lock that gate and mailbox of a process are under, and the waker beside it, run in every order that threads can
//! take. Tests only.
//!
//! What is tried is what runs: `exchange/locked.rs` of the library is compiled here a second time, with the locks of
//! `loom`, and the state in it is the real `Port` of the core. Around them stands `entry.rs`, which repeats in a few
//! lines what the library does around them: a send, an input of the port, the wait of a process.
//!
//! A schedule in which nobody can go on is a lost wake-up; loom finds it as a deadlock. Schedules with more than three
//! forced switches are not tried: the number of the others would explode, and one is enough for each bug planted here.
//! Models marked `should_panic` have a bug planted, in proof that it would be found.
#![cfg(test)]
#![allow(clippy::unwrap_used)]

mod entry;
#[path = "../../whimbrel/src/exchange/locked.rs"]
mod locked;
mod park;
mod tests;

/// Where `locked` has its locks from.
mod sync {
    pub(super) use loom::sync::{Mutex, MutexGuard};
}
