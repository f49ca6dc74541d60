//! The pure protocol of Whimbrel.
//!
//! Nothing in this crate reads a clock, draws entropy, opens a socket, starts a thread or logs: time and
//! randomness are arguments, and what should happen is returned as data. The real shell (`whimbrel`) and the
//! simulator (`whimbrel-sim`) drive exactly the same types.
//!
//! Layers, each importing only those before it:
//! [`base`] -> [`view`] -> {[`membership`], [`placement`]} -> {[`directory`], [`groups`], [`handoff`],
//! [`delivery`]} -> [`wire`] -> [`node`]. Siblings never import each other; only [`node`] routes one part's output to another's input.
//! The messages and their flow are in `docs/protocol.md`.

pub mod base;
pub mod view;
pub mod membership;
pub mod placement;
pub mod directory;
pub mod groups;
pub mod handoff;
pub mod delivery;
pub mod wire;
pub mod node;
