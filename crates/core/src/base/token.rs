//! The fencing token: orders the lives of one name.

use std::fmt;

use minicbor::{Decode, Encode};

/// Bits of a token that count within one view and slot.
const SEQUENCE_BITS: u32 = 30;

/// A number that rises with every life of a name and is never reused for it.
///
/// The view counter stands in the high 33 bits, the slot's sequence in that view in the low 30, so a token fits
/// an SQL BIGINT. Zero is no life.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Token(#[n(0)] u64);

impl Token {
    /// No life: what clients outside processes carry.
    pub const NONE: Token = Token(0);

    /// Greatest sequence of one slot in one view.
    pub const SEQUENCE_MAX: u32 = (1 << SEQUENCE_BITS) - 1;

    /// The token `sequence` of a slot in the view with this counter; `None` when either is out of its bits.
    pub fn new(view_counter: u64, sequence: u32) -> Option<Self> {
        (view_counter < 1 << 33 && sequence <= Self::SEQUENCE_MAX)
            .then(|| Token(view_counter << SEQUENCE_BITS | u64::from(sequence)))
    }

    /// As a plain number, for stores and logs.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// From a plain number, as read back from a store or a log.
    pub const fn from_u64(value: u64) -> Self {
        Token(value)
    }

    /// The counter of the view in which it was given.
    pub const fn view_counter(self) -> u64 {
        self.0 >> SEQUENCE_BITS
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.view_counter(), self.0 & u64::from(Self::SEQUENCE_MAX))
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
