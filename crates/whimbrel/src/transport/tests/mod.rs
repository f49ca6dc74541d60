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

/// What a transport shares, without any task of it.
pub(super) fn shared() -> std::sync::Arc<super::registry::Shared> {
    let (events, _) = tokio::sync::mpsc::channel(1);
    std::sync::Arc::new(super::registry::Shared::new(harness::config(), events, harness::deaf()))
}
