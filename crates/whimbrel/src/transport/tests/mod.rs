//! Two and three transports in one process, over loopback and through a relay that misbehaves.
//!
//! Nothing sleeps to wait for a state: tests await events, or that a stranger's connection closes.

#![allow(clippy::unwrap_used)]

mod harness;
mod lanes;
mod puppet;
mod reconnect;
mod relay;
mod sessions;
mod strangers;
