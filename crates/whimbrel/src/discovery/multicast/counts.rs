//! What became of packets, counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// What became of a packet that arrived on the multicast port. All but the first two were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PacketFate {
    /// It told where a node of this cluster is.
    Accepted,
    /// It was this node's own.
    Own,
    /// Longer than any packet of ours.
    TooLong,
    /// Not of this protocol.
    Malformed,
    /// Of another version of it.
    OtherVersion,
    /// For another cluster, or under another secret: the two look the same.
    OtherCluster,
    /// It says that it is for this cluster and does not prove it.
    Forged,
    /// Genuine, and more than a minute away from this node's clock: late, kept by somebody, or of a node whose clock
    /// is wrong.
    Old,
    /// Genuine, and not newer than one that was heard before from the same sender.
    Replayed,
    /// Genuine, from one sender too many.
    Full,
}

/// Number of fates.
const FATES: usize = PacketFate::Full as usize + 1;

/// One counter for each fate.
#[derive(Debug, Default)]
pub(super) struct Counts([AtomicU64; FATES]);

impl Counts {
    pub(super) fn add(&self, fate: PacketFate) {
        let before = self.0[fate as usize].fetch_add(1, Ordering::Relaxed);
        if before > 0 {
            return;
        }
        // One line of its kind, for whoever wonders why nobody is found; a stranger can not fill the log.
        match fate {
            PacketFate::Accepted | PacketFate::Own => {}
            PacketFate::Old => tracing::warn!(
                "a multicast packet of this cluster is more than a minute old or early: is a clock wrong? Further \
                 ones are only counted"
            ),
            fate => tracing::debug!(?fate, "a multicast packet is dropped; further ones are only counted"),
        }
    }

    pub(super) fn of(&self, fate: PacketFate) -> u64 {
        self.0[fate as usize].load(Ordering::Relaxed)
    }
}
