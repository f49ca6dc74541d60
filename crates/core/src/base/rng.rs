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
