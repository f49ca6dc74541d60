//! Weighted rendezvous hashing without floating point.
//!
//! The classic score is `-w / ln(u)` with `u` uniform in (0, 1): the highest wins, and a node wins a share
//! proportional to its weight. Here `-log2(u)` is computed in fixed point, so every platform agrees.

use super::REPLICAS_MAX;
use crate::base::SlotId;
use crate::base::hash::{hash, mix};
use crate::view::View;

/// Seed of node names for scores.
const NODE_SEED: u64 = 0x4e4f_4445_5345_4544;
/// Fraction bits of the logarithm.
const FRACTION_BITS: u32 = 24;

/// Indices into `view.members`, best first; behind all others those that drain, so that no slot moves when they leave.
/// Ties, practically impossible, go to the smaller name.
pub fn ranking(slot: SlotId, view: &View) -> Vec<usize> {
    let mut scored: Vec<((bool, u64), usize)> = view
        .members
        .iter()
        .enumerate()
        .map(|(at, member)| ((!member.draining, score(slot, member.name.as_str(), member.weight)), at))
        .collect();
    scored.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| view.members[a.1].name.cmp(&view.members[b.1].name)));
    scored.into_iter().map(|(_, at)| at).collect()
}

/// The score of a node for a slot; higher is better.
pub fn score(slot: SlotId, node: &str, weight: u32) -> u64 {
    score_of(mix(hash(NODE_SEED, node.as_bytes()) ^ mix(u64::from(slot.0) + 1)), weight)
}

fn score_of(draw: u64, weight: u32) -> u64 {
    let cost = minus_log2(draw).max(1);
    ((u128::from(weight.max(1)) << 64) / u128::from(cost)).min(u128::from(u64::MAX)) as u64
}

/// The members of one view, to be ranked for many slots: their names are hashed once, and since of equal weights the
/// higher draw has the higher score, scores are computed for the best few alone.
pub(super) struct Draws {
    /// Whether it stays, and its name.
    names: Vec<(bool, u64)>,
    /// The weight of every member, if they all have the same.
    weight: Option<u32>,
}

impl Draws {
    pub(super) fn new(view: &View) -> Self {
        let names = view
            .members
            .iter()
            .map(|member| (!member.draining, hash(NODE_SEED, member.name.as_str().as_bytes())));
        let first = view.members.first().map(|member| member.weight);
        let weight = first.filter(|first| view.members.iter().all(|member| member.weight == *first));
        Self { names: names.collect(), weight }
    }

    /// The first places of [`ranking`], the same to the bit.
    pub(super) fn best(&self, slot: SlotId, view: &View) -> [Option<usize>; REPLICAS_MAX] {
        let Some(weight) = self.weight else { return first_places(ranking(slot, view)) };
        // One more than is asked for: whether the last place is shared is seen at the first that has none.
        let mut top = [((false, 0u64), usize::MAX); REPLICAS_MAX + 1];
        let salt = mix(u64::from(slot.0) + 1);
        for (at, (stays, name)) in self.names.iter().enumerate() {
            let mut entry = ((*stays, mix(name ^ salt)), at);
            for place in &mut top {
                if place.1 == usize::MAX || entry.0 > place.0 {
                    std::mem::swap(place, &mut entry);
                }
            }
        }
        let top = &top[..self.names.len().min(REPLICAS_MAX + 1)];
        let place = |((stays, draw), _): ((bool, u64), usize)| (stays, score_of(draw, weight));
        let is_shared = |pair: &[((bool, u64), usize)]| place(pair[0]) == place(pair[1]);
        if top.windows(2).any(is_shared) {
            // These draws differ by less than the logarithm can tell: the names decide.
            return first_places(ranking(slot, view));
        }
        first_places(top.iter().map(|(_, member)| *member))
    }
}

fn first_places(ranked: impl IntoIterator<Item = usize>) -> [Option<usize>; REPLICAS_MAX] {
    let mut places = [None; REPLICAS_MAX];
    places.iter_mut().zip(ranked).for_each(|(place, member)| *place = Some(member));
    places
}

/// `-log2((draw + 1) / 2^64)` in fixed point with 24 fraction bits, by repeated squaring.
fn minus_log2(draw: u64) -> u64 {
    let value = u128::from(draw) + 1;
    let whole = 127 - value.leading_zeros();
    // Normalise to [1, 2) with 63 fraction bits, then square: each carry over 2 is one more bit.
    let mut x = if whole >= 63 { value >> (whole - 63) } else { value << (63 - whole) };
    let mut fraction = 0u64;
    for _ in 0..FRACTION_BITS {
        x = (x * x) >> 63;
        fraction <<= 1;
        if x >= 1 << 64 {
            x >>= 1;
            fraction |= 1;
        }
    }
    (64u64 << FRACTION_BITS) - ((u64::from(whole) << FRACTION_BITS) + fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    // The literals were computed once and agree with a second implementation. A change here moves slots between
    // nodes of two versions that must agree.
    #[test]
    fn scores_are_frozen() {
        let golden = [
            (0, "a", 100, 94_900_422_233_303_588),
            (0, "b", 100, 550_371_755_178_571),
            (0, "c", 100, 80_916_847_820_259),
            (1, "a", 100, 451_334_585_395_208),
            (4095, "a", 100, 391_716_818_250_166),
            (0, "node-1.example", 100, 182_641_283_598_903),
            (0, "a", 1, 949_004_222_333_035),
            (0, "a", 1_000, 949_004_222_333_035_889),
        ];
        for (slot, node, weight, want) in golden {
            assert_eq!(score(SlotId(slot), node, weight), want, "{slot} {node} {weight}");
        }
    }

    #[test]
    fn the_logarithm_is_that_of_floating_point_within_its_last_bit() {
        let mut rng = crate::base::Rng::new(1);
        let edges = [0, 1, u64::MAX, u64::MAX - 1, 1 << 63, (1 << 63) - 1, (1 << 63) - 2, 1 << 32];
        let draws = edges.into_iter().chain((0..10_000).map(|n| rng.next_u64() >> (n % 64)));
        for draw in draws {
            let exact = (64.0 - (draw as f64 + 1.0).log2()) * f64::from(1u32 << FRACTION_BITS);
            let difference = (minus_log2(draw) as f64 - exact).abs();
            assert!(difference <= 1.5, "{draw}: {} for {exact}", minus_log2(draw));
        }
    }

    #[test]
    fn weight_zero_counts_as_one() {
        assert_eq!(score(SlotId(3), "a", 0), score(SlotId(3), "a", 1));
    }

    #[test]
    fn the_greatest_score_does_not_overflow() {
        let greatest = (u128::from(u32::MAX) << 64).min(u128::from(u64::MAX)) as u64;
        let best = (0..u16::MAX).map(|slot| score(SlotId(slot), "a", u32::MAX)).max();
        assert!(best.is_some_and(|best| best <= greatest && best > 0));
    }
}
