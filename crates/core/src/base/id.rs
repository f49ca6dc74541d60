//! Identities of nodes, slots and requests.

use std::fmt;
use std::sync::Arc;

use minicbor::{Decode, Encode};

use super::rng::Rng;
use super::time::Now;

/// The name of a node: stable over its restarts, chosen by the operator.
pub type NodeName = super::name::Name;

/// Where a node listens, as `host:port`. Resolved by the shell; the core never looks inside.
pub type Address = Arc<str>;

/// One life of a node in one line. Everything that must not outlive a crash is compared by it.
///
/// `started_ms` orders restarts of one node name; it is never used for age or safety. `nonce` makes two lives
/// distinct whatever the clock says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Incarnation {
    /// Wall clock at the start of this life, in milliseconds, made to exceed every earlier one known.
    #[n(0)]
    pub started_ms: u64,
    /// 64 random bits.
    #[n(1)]
    pub nonce: u64,
}

impl Incarnation {
    /// A new life that follows `earlier`, or the first one.
    pub fn after(earlier: Option<Incarnation>, now: Now, rng: &mut Rng) -> Self {
        let floor = earlier.map_or(0, |e| e.started_ms.saturating_add(1));
        Self { started_ms: now.wall_ms.max(floor), nonce: rng.next_u64() }
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{:08x}", (self.nonce >> 32) as u32)
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A part of the name space: `0 .. slots` of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct SlotId(#[n(0)] pub u16);

/// Names one request of one node life, so that a retry gets the answer of the first try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct RequestId {
    /// The life that asks.
    #[n(0)]
    pub caller: Incarnation,
    /// Its counter; never reused within that life.
    #[n(1)]
    pub number: u64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(wall_ms: u64) -> Now {
        Now { wall_ms, ..Now::default() }
    }

    #[test]
    fn a_new_life_exceeds_the_one_before_whatever_the_clock_says() {
        let mut rng = Rng::new(1);
        let first = Incarnation::after(None, at(1_000), &mut rng);
        assert_eq!(first.started_ms, 1_000);
        for (wall_ms, started_ms) in [(5_000, 5_000), (1_001, 1_001), (1_000, 1_001), (0, 1_001)] {
            let next = Incarnation::after(Some(first), at(wall_ms), &mut rng);
            assert_eq!(next.started_ms, started_ms, "at {wall_ms}");
            assert!(next > first);
        }
    }

    #[test]
    fn two_lives_of_one_millisecond_differ() {
        let mut rng = Rng::new(1);
        let lives: Vec<Incarnation> = (0..100).map(|_| Incarnation::after(None, at(7), &mut rng)).collect();
        let mut distinct = lives.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), lives.len());
    }

    #[test]
    fn identities_survive_the_wire() {
        let caller = Incarnation { started_ms: 1_700_000_000_000, nonce: u64::MAX };
        let request = RequestId { caller, number: 9 };
        assert_eq!(minicbor::decode::<RequestId>(&minicbor::to_vec(request).unwrap()).unwrap(), request);
        // A slot is a bare number on the wire.
        assert_eq!(minicbor::to_vec(SlotId(4095)).unwrap(), minicbor::to_vec(4095u16).unwrap());
    }
}
