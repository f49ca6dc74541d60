//! Seeded randomness, handed in from outside.

use std::convert::Infallible;

use rand::{TryRng, rand_core::utils};

/// A small generator (splitmix64): the same seed gives the same run. Not for secrets.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Starts from a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        super::hash::mix(self.0)
    }

    /// A number in `0 .. bound`; 0 when the bound is 0.
    pub const fn below(&mut self, bound: u64) -> u64 {
        ((self.next_u64() as u128 * bound as u128) >> 64) as u64
    }

    /// A generator of its own, so that one part's draws do not shift another's.
    pub const fn fork(&mut self) -> Self {
        Self(self.next_u64())
    }
}

impl TryRng for Rng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.next_u64() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.next_u64())
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        utils::fill_bytes_via_next_word(out, || Ok(self.next_u64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_published_sequence_of_splitmix64() {
        let mut rng = Rng::new(1_234_567);
        let published = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
        ];
        for want in published {
            assert_eq!(rng.next_u64(), want);
        }
    }

    #[test]
    fn a_bounded_draw_stays_below_its_bound_and_reaches_all() {
        let mut rng = Rng::new(5);
        let mut counts = [0u32; 7];
        for _ in 0..7_000 {
            counts[rng.below(7) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (850..1_150).contains(count)), "{counts:?}");
        assert_eq!((rng.below(0), rng.below(1)), (0, 0));
    }

    #[test]
    fn a_fork_is_not_shifted_by_what_its_parent_draws_later() {
        let mut parent = Rng::new(9);
        let mut fork = parent.fork();
        let mut again = Rng::new(9);
        let mut same_fork = again.fork();
        parent.next_u64();
        assert_eq!(fork.next_u64(), same_fork.next_u64());
    }

    #[test]
    fn bytes_are_the_words_in_little_endian_order() {
        let mut bytes = [0u8; 12];
        let Ok(()) = Rng::new(3).try_fill_bytes(&mut bytes);
        let mut words = Rng::new(3);
        let want = [words.next_u64().to_le_bytes(), words.next_u64().to_le_bytes()].concat();
        assert_eq!(bytes[..], want[..12]);
    }
}
