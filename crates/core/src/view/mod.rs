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

use crate::base::bytes::encoded_bytes;
use crate::base::limits::{KINDS_BYTES_MAX, MEMBERS_MAX, VIEW_BYTES_MAX};
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

/// The highest counter of a view. A token has 33 bits for it, which last until 2074; the last 2^24 are never given
/// out, so that every token can be exceeded.
pub const COUNTER_MAX: u64 = (1 << 33) - (1 << 24);
/// What clocks may say; beyond it counters rise in small steps, so that no forged view uses up what is left.
const COUNTER_CLOCK_MAX: u64 = (1 << 33) - (1 << 25);
/// Such a step, at most.
const COUNTER_STEP_MAX: u64 = 1_024;

/// The lowest counter that a view authored at this wall time may have: ticks of 200 ms since 2020.
///
/// With at most one view per tick the counter does not outrun the clock, so tokens rise over full restarts.
pub const fn counter_at(wall_ms: u64) -> u64 {
    let ticks = wall_ms.saturating_sub(TICKS_START_MS) / TICK_MS;
    if ticks < COUNTER_CLOCK_MAX { ticks } else { COUNTER_CLOCK_MAX }
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

    /// Whether a node may say this of itself.
    ///
    /// # Errors
    /// The rule it breaks.
    pub fn check(&self) -> Result<(), &'static str> {
        if !(1..=1_000).contains(&self.weight) {
            return Err("a weight is 1 to 1,000");
        }
        // Each kind takes up to three bytes beside its name.
        if self.kinds.iter().map(|kind| kind.as_str().len() + 3).sum::<usize>() > KINDS_BYTES_MAX {
            return Err("the names of a node's kinds have at most 16 KiB");
        }
        Ok(())
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

    /// Whether a node that follows the protocol could have authored it: what any peer claims is checked before it is
    /// installed, remembered or counted with.
    ///
    /// # Errors
    /// The rule it breaks.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.id.counter > COUNTER_MAX {
            return Err("a view's counter leaves room for those after it");
        }
        if self.parent.is_some_and(|parent| parent.counter >= self.id.counter) {
            return Err("a view's counter exceeds that of its parent");
        }
        if self.members.is_empty() || self.members.len() > MEMBERS_MAX {
            return Err("a view has 1 to 256 members");
        }
        let mut nonces: Vec<u64> = self.members.iter().map(|member| member.incarnation.nonce).collect();
        nonces.sort_unstable();
        if nonces.windows(2).any(|two| two[0] == two[1]) {
            return Err("the members of a view have different nonces");
        }
        self.members.iter().try_for_each(MemberInfo::check)
    }

    /// Whether it may follow on `current`: its counter is higher, and not by a leap that only a forger makes; whoever
    /// drains goes on draining.
    pub fn may_follow(&self, current: &View) -> bool {
        let step = self.id.counter.saturating_sub(current.id.counter);
        let drains = |incarnation| self.member(incarnation).is_none_or(|member| member.draining);
        self.parent == Some(current.id)
            && current
                .members
                .iter()
                .filter(|member| member.draining)
                .all(|member| drains(member.incarnation))
            && step > 0
            && (self.id.counter <= COUNTER_CLOCK_MAX || step <= COUNTER_STEP_MAX)
    }

    /// Whether one more member leaves it small enough for a frame.
    pub fn has_room_for(members: &[MemberInfo], one_more: &MemberInfo) -> bool {
        members.len() < MEMBERS_MAX
            && members.iter().chain([one_more]).map(encoded_bytes).sum::<usize>() <= VIEW_BYTES_MAX
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
    use crate::base::Token;

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
    fn what_no_honest_node_authors_breaks_a_rule() {
        let changed = |change: &dyn Fn(&mut View)| {
            let mut view = view();
            change(&mut view);
            view.check()
        };
        assert_eq!(changed(&|_| {}), Ok(()));
        assert_eq!(changed(&|v| v.id.counter = COUNTER_MAX), Ok(()));
        let many = |count: u64| (0..count).map(|nonce| member("m", nonce)).collect::<Vec<_>>();
        assert_eq!(changed(&|v| v.members = many(256)), Ok(()));
        let broken: [&dyn Fn(&mut View); 9] = [
            &|v| v.id.counter = u64::MAX,
            &|v| v.id.counter = COUNTER_MAX + 1,
            &|v| v.parent = Some(v.id),
            &|v| v.members.clear(),
            &|v| v.members = many(257),
            &|v| v.members[1].incarnation.nonce = v.members[0].incarnation.nonce,
            &|v| v.members[0].weight = 0,
            &|v| v.members[0].weight = u32::MAX,
            &|v| v.members[0].kinds = vec![Name::new(&"k".repeat(255)).unwrap(); 64],
        ];
        for (at, change) in broken.into_iter().enumerate() {
            assert!(changed(change).is_err(), "{at}");
        }
    }

    #[test]
    fn one_forged_view_does_not_use_up_the_counters() {
        let child_of = |parent: &View, counter| View {
            id: ViewId { counter, author: 7 },
            parent: Some(parent.id),
            members: parent.members.clone(),
        };
        let current = view();
        assert!(child_of(&current, 3).may_follow(&current));
        assert!(!child_of(&current, 2).may_follow(&current), "the same counter");
        assert!(!View { parent: None, ..child_of(&current, 3) }.may_follow(&current), "no child");
        assert!(!child_of(&current, COUNTER_MAX).may_follow(&current));
        // The furthest leap there is, and the clock of the one who forged it: others still author on top of it.
        let furthest = child_of(&current, counter_at(u64::MAX));
        assert!(furthest.may_follow(&current));
        let mut last = furthest;
        for _ in 0..10_000 {
            let next = child_of(&last, last.id.counter + COUNTER_STEP_MAX);
            assert!(next.may_follow(&last) && next.check().is_ok());
            assert!(!child_of(&last, last.id.counter + COUNTER_STEP_MAX + 1).may_follow(&last));
            last = next;
        }
        assert!(Token::new(COUNTER_MAX, Token::SEQUENCE_MAX).is_some());
    }

    #[test]
    fn a_view_of_the_most_and_longest_members_still_fits_a_frame() {
        let mut members = Vec::new();
        let longest = |nonce| MemberInfo {
            address: "a".repeat(crate::base::limits::ADDRESS_BYTES_MAX).into(),
            kinds: vec![Name::new(&"k".repeat(255)).unwrap(); 63],
            ..member(&"n".repeat(255), nonce)
        };
        for nonce in 0..256 {
            let one_more = longest(nonce);
            assert_eq!(one_more.check(), Ok(()));
            if View::has_room_for(&members, &one_more) {
                members.push(one_more);
            }
        }
        assert!(members.len() >= 40, "{}", members.len());
        let bytes = encoded_bytes(&View { members, ..view() });
        assert!(bytes < crate::base::limits::FRAME_BYTES_MAX - 1024, "{bytes}");
        let small: Vec<MemberInfo> = (0..255).map(|nonce| member("a", nonce)).collect();
        assert!(View::has_room_for(&small, &member("a", 255)));
    }

    #[test]
    fn an_address_that_is_none_is_not_decoded() {
        for address in ["a\nb:1".to_owned(), "a\u{1b}[2J:1".to_owned(), "a".repeat(321)] {
            let wire = minicbor::to_vec(MemberInfo { address: address.into(), ..member("a", 1) }).unwrap();
            assert!(minicbor::decode::<MemberInfo>(&wire).is_err());
        }
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
