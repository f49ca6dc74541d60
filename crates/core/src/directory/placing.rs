//! Placement: what a record says about the nodes that its process may run on.
//!
//! Decides: whether a member may be asked at all. In which order those are asked that may be, and what becomes of a name
//! that none of them takes, is `room`'s. Promises: a process that names a node or its labels runs nowhere else, but where
//! somebody moves a pinned one by hand. Assumes: what a view says of a member does not change while it is one.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};

use crate::base::limits::LABELS_MAX;
use crate::base::{BadName, Name, NodeName};
use crate::view::{Labels, MemberInfo};

/// Which node a process is placed on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum Placement {
    /// The first node in the slot's rendezvous order that hosts the kind.
    #[default]
    #[n(0)]
    Hash,
    /// The node that asks for the start; when that node dies or drains as [`Placement::Hash`].
    #[n(1)]
    Local,
    /// The node of this name and no other: while it is away a start ends with `NoHost`, and a process that ran there
    /// waits for it. Only by hand is it moved elsewhere, and rebalancing brings it back with the next view.
    #[n(2)]
    Pinned(#[n(0)] NodeName),
    /// A node that has all these labels, with these values, and no other: of several the first in the slot's order.
    /// While there is none a start ends with `NoHost`, and a process that ran waits for one. At most
    /// [`LABELS_MAX`]: no node has more, so with more nothing is started.
    #[n(3)]
    Labels(
        #[n(0)]
        #[cbor(with = "few_labels")]
        Box<Labels>,
    ),
    /// The node that has the fewest processes for its weight, of those that host the kind, as far as the owner of the name
    /// knows: when it starts, and when it has to leave its node or lost it. While it runs it moves for load only when its
    /// node has far too much: more than five quarters of its share and 8, and at most once in a view.
    #[n(4)]
    LeastLoaded,
    /// The node that the policy of this name chooses: when the process starts, and when it has to leave its node or lost
    /// it. Every node has its own [`PlacementPolicy`](crate::placement::PlacementPolicy) under the name; an owner that has
    /// none places by hash, and tells.
    #[n(5)]
    Custom(#[n(0)] Name),
}

impl Placement {
    /// On a node with these labels, as `zone` = `eu-1`.
    ///
    /// # Errors
    /// One of the texts is none that a label may have.
    pub fn labels<'t>(wanted: impl IntoIterator<Item = (&'t str, &'t str)>) -> Result<Self, BadName> {
        let named = |(key, value)| Ok((Name::new(key)?, Name::new(value)?));
        let labels: Result<BTreeMap<_, _>, BadName> = wanted.into_iter().map(named).collect();
        Ok(Placement::Labels(Box::new(labels?)))
    }

    /// Whether a process that is placed so may run on this member, as far as its name and its labels tell.
    pub(super) fn allows(&self, member: &MemberInfo) -> bool {
        match self {
            Placement::Hash | Placement::Local | Placement::LeastLoaded | Placement::Custom(_) => true,
            Placement::Pinned(node) => member.name == *node,
            Placement::Labels(wanted) => {
                wanted.iter().all(|(key, value)| member.labels.get(key) == Some(value))
            }
        }
    }

    /// Whether the owner chooses a node, and the process stays there until it has to leave.
    pub(super) const fn is_chosen(&self) -> bool {
        matches!(self, Placement::LeastLoaded | Placement::Custom(_))
    }

    /// Whether a process may be moved there by hand.
    pub(super) fn allows_by_hand(&self, member: &MemberInfo) -> bool {
        matches!(self, Placement::Pinned(_)) || self.allows(member)
    }

    /// Whether a record may say so.
    pub(super) fn is_sound(&self) -> bool {
        !matches!(self, Placement::Labels(wanted) if wanted.len() > LABELS_MAX)
    }

    /// About how many bytes it takes on the wire.
    pub(super) fn size(&self) -> usize {
        match self {
            Placement::Hash | Placement::Local | Placement::LeastLoaded => 0,
            Placement::Pinned(name) | Placement::Custom(name) => name.as_str().len(),
            Placement::Labels(wanted) => {
                wanted.iter().map(|(key, value)| key.as_str().len() + value.as_str().len() + 4).sum()
            }
        }
    }
}

/// Labels on the wire: of few bytes a map could be made that takes many, so one of too many entries is not made.
mod few_labels {
    use minicbor::encode::Write;
    use minicbor::{Decoder, Encode, Encoder};

    use super::{LABELS_MAX, Labels};

    #[allow(clippy::borrowed_box)]
    pub(super) fn encode<C, W: Write>(
        labels: &Box<Labels>,
        e: &mut Encoder<W>,
        c: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        (**labels).encode(e, c)
    }

    pub(super) fn decode<C>(d: &mut Decoder<'_>, c: &mut C) -> Result<Box<Labels>, minicbor::decode::Error> {
        let mut labels = Labels::new();
        for entry in d.map_iter_with(c)? {
            if labels.len() == LABELS_MAX {
                return Err(minicbor::decode::Error::message("too many labels"));
            }
            let (key, value) = entry?;
            labels.insert(key, value);
        }
        Ok(Box::new(labels))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::base::Incarnation;

    fn member(labels: &[(&str, &str)]) -> MemberInfo {
        let named = |(key, value): &(&str, &str)| (Name::new(key).unwrap(), Name::new(value).unwrap());
        MemberInfo {
            name: Name::new("a").unwrap(),
            incarnation: Incarnation { started_ms: 1, nonce: 1 },
            address: "a:1".into(),
            weight: 100,
            kinds: Vec::new(),
            draining: false,
            labels: labels.iter().map(named).collect(),
        }
    }

    #[test]
    fn a_node_fits_that_has_every_label_with_its_value() {
        let wanted = Placement::labels([("zone", "eu-1"), ("disk", "ssd")]).unwrap();
        let cases: [(&[(&str, &str)], bool); 5] = [
            (&[("zone", "eu-1"), ("disk", "ssd")], true),
            (&[("zone", "eu-1"), ("disk", "ssd"), ("rack", "7")], true),
            (&[("zone", "eu-1")], false),
            (&[("zone", "eu-2"), ("disk", "ssd")], false),
            (&[], false),
        ];
        for (labels, fits) in cases {
            assert_eq!(wanted.allows(&member(labels)), fits, "{labels:?}");
        }
        assert!(Placement::labels([]).unwrap().allows(&member(&[])), "nothing is wanted");
        assert!(Placement::labels([("zone\n", "x")]).is_err() && Placement::labels([("zone", "")]).is_err());
    }

    #[test]
    fn labels_survive_the_wire_and_too_many_are_not_even_made() {
        let placed = |count: usize| {
            let texts: Vec<String> = (0..count).map(|at| format!("key-{at}")).collect();
            Placement::labels(texts.iter().map(|text| (text.as_str(), "x"))).unwrap()
        };
        for count in [0, 1, LABELS_MAX] {
            let wire = minicbor::to_vec(placed(count)).unwrap();
            assert!(placed(count).is_sound() && wire.len() <= placed(count).size() + 8);
            assert_eq!(minicbor::decode::<Placement>(&wire).unwrap(), placed(count));
        }
        let wire = minicbor::to_vec(placed(LABELS_MAX + 1)).unwrap();
        assert!(!placed(LABELS_MAX + 1).is_sound() && minicbor::decode::<Placement>(&wire).is_err());
    }

    #[test]
    fn a_placement_takes_little_room_in_each_of_very_many_records() {
        assert!(size_of::<Placement>() <= 3 * size_of::<usize>());
    }
}
