//! Views: numbered lists of members, in a chain.
//!
//! A *line* is a chain of views; every view but the first has one parent. A member's *age* is the place at which
//! its incarnation entered the line: members stand in that order in the list. A new incarnation of a node is
//! always another member: "the old one died, a new one joined".

mod chain;

pub use chain::Chain;

use std::fmt;

use minicbor::{Decode, Encode};

use crate::base::{Address, Incarnation, Kind, NodeName};

/// Identifies a view: its counter and the life that authored it.
///
/// A life authors at most one view per counter, so no two views share an id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct ViewId {
    /// Rises along every line; see [`counter_at`].
    #[n(0)]
    pub counter: u64,
    /// The author's nonce.
    #[n(1)]
    pub author: u64,
}

impl fmt::Debug for ViewId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}/{:04x}", self.counter, self.author >> 48)
    }
}

impl fmt::Display for ViewId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Milliseconds of one tick of view counters.
pub const TICK_MS: u64 = 200;
/// 2020-01-01T00:00:00Z, where ticks start.
const TICKS_START_MS: u64 = 1_577_836_800_000;

/// The lowest counter that a view authored at this wall time may have: ticks of 200 ms since 2020.
///
/// With at most one view per tick the counter does not outrun the clock, so tokens rise over full restarts.
pub const fn counter_at(wall_ms: u64) -> u64 {
    wall_ms.saturating_sub(TICKS_START_MS) / TICK_MS
}

/// What a view says of one member.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct MemberInfo {
    /// The node's name: stable over restarts; weights and placement hash it.
    #[n(0)]
    pub name: NodeName,
    /// The node's present life.
    #[n(1)]
    pub incarnation: Incarnation,
    /// Where peers dial it, `host:port`.
    #[cbor(n(2), with = "crate::base::text")]
    pub address: Address,
    /// Share of slots relative to others: 1 to 1,000, default 100.
    #[n(3)]
    pub weight: u32,
    /// Kinds it can host; none for a pure client.
    #[n(4)]
    pub kinds: Vec<Kind>,
    /// It is on its way out and takes nothing new.
    #[n(5)]
    pub draining: bool,
}

impl MemberInfo {
    /// Whether processes of `kind` may be placed here.
    pub fn hosts(&self, kind: &Kind) -> bool {
        !self.draining && self.kinds.contains(kind)
    }
}

/// A numbered list of members, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct View {
    /// Its identity.
    #[n(0)]
    pub id: ViewId,
    /// The view it was authored on; none for the first of a line.
    #[n(1)]
    pub parent: Option<ViewId>,
    /// Members in the order in which they entered the line.
    #[n(2)]
    pub members: Vec<MemberInfo>,
}

impl View {
    /// The member of this incarnation.
    pub fn member(&self, incarnation: Incarnation) -> Option<&MemberInfo> {
        self.members.iter().find(|m| m.incarnation == incarnation)
    }

    /// Whether this incarnation is a member.
    pub fn contains(&self, incarnation: Incarnation) -> bool {
        self.member(incarnation).is_some()
    }

    /// Incarnations of all members, oldest first.
    pub fn incarnations(&self) -> impl Iterator<Item = Incarnation> + '_ {
        self.members.iter().map(|m| m.incarnation)
    }
}
