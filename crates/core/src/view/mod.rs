//! Views: numbered lists of members, in a chain.
//!
//! A *line* is a chain of views; every view but the first has one parent. A member's *age* is the place at which
//! its incarnation entered the line: members stand in that order in the list. A new incarnation of a node is
//! always another member: "the old one died, a new one joined".

mod chain;

pub use chain::Chain;

use std::collections::BTreeMap;
use std::fmt;

use minicbor::{Decode, Encode};

use crate::base::{Address, Incarnation, Kind, Name, NodeName};

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
    /// What its operator says of it, as `zone` = `a`: what others may admit it by. At most
    /// [`LABELS_MAX`](crate::base::limits::LABELS_MAX).
    #[n(6)]
    #[cbor(default)]
    pub labels: Labels,
}

/// Labels of a node, by key.
pub type Labels = BTreeMap<Name, Name>;

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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn member(name: &str, nonce: u64) -> MemberInfo {
        MemberInfo {
            name: Name::new(name).unwrap(),
            incarnation: Incarnation { started_ms: 1, nonce },
            address: "127.0.0.1:4100".into(),
            weight: 100,
            kinds: vec![Name::new("counter").unwrap()],
            draining: false,
            labels: Labels::from([(Name::new("zone").unwrap(), Name::new("a").unwrap())]),
        }
    }

    fn view() -> View {
        let id = |counter| ViewId { counter, author: 7 };
        View { id: id(2), parent: Some(id(1)), members: vec![member("b", 1), member("a", 2)] }
    }

    #[test]
    fn counters_are_ticks_since_2020() {
        for (wall_ms, counter) in [
            (0, 0),
            (1_577_836_800_000, 0),
            (1_577_836_800_199, 0),
            (1_577_836_800_200, 1),
            // 2026-01-01T00:00:00Z
            (1_767_225_600_000, 946_944_000),
        ] {
            assert_eq!(counter_at(wall_ms), counter, "{wall_ms}");
        }
    }

    #[test]
    fn a_restarted_node_is_another_member() {
        let view = view();
        assert!(view.contains(member("a", 2).incarnation));
        assert!(!view.contains(member("a", 3).incarnation));
        assert_eq!(view.member(member("b", 1).incarnation).map(|m| m.name.as_str()), Some("b"));
    }

    #[test]
    fn members_stand_in_the_order_of_their_age() {
        let nonces: Vec<u64> = view().incarnations().map(|incarnation| incarnation.nonce).collect();
        assert_eq!(nonces, [1, 2]);
    }

    #[test]
    fn a_draining_member_hosts_nothing_new() {
        let kind = Name::new("counter").unwrap();
        let mut member = member("a", 1);
        assert!(member.hosts(&kind));
        assert!(!member.hosts(&Name::new("other").unwrap()));
        member.draining = true;
        assert!(!member.hosts(&kind));
    }

    #[test]
    fn a_view_survives_the_wire() {
        let wire = minicbor::to_vec(view()).unwrap();
        assert_eq!(minicbor::decode::<View>(&wire).unwrap(), view());
    }

    #[test]
    fn a_field_of_a_later_version_is_passed_over() {
        let View { id, parent, members } = view();
        let wire = minicbor::to_vec((id, parent, members, "later")).unwrap();
        assert_eq!(minicbor::decode::<View>(&wire).unwrap(), view());
    }

    #[test]
    fn a_count_of_members_without_members_is_an_error_and_no_allocation() {
        let empty = View { members: Vec::new(), ..view() };
        let mut wire = minicbor::to_vec(empty).unwrap();
        assert_eq!(wire.pop(), Some(0x80), "the empty list of members stands last");
        wire.extend([0x9b, 0x7f, 255, 255, 255, 255, 255, 255, 255]);
        assert!(minicbor::decode::<View>(&wire).is_err());
    }

    #[test]
    fn a_view_cut_anywhere_is_an_error() {
        let wire = minicbor::to_vec(view()).unwrap();
        for length in 0..wire.len() {
            assert!(minicbor::decode::<View>(&wire[..length]).is_err(), "{length} of {} bytes", wire.len());
        }
    }
}
