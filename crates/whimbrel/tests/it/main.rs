//! The library as its users see it: one node without a socket, and several nodes in one program over loopback.

#![allow(clippy::unwrap_used, missing_docs)]

mod bounds;
mod dead_letters;
mod drains;
mod groups;
mod hostile;
mod kinds;
mod conflicts;
mod discovery;
mod local;
mod lives;
mod machine;
mod monitors;
mod move_steps;
mod moves;
mod nodes;
mod placed;
mod registered;
mod singleton;
mod trees;
mod unhandled;
mod watching;
