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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const COUNTER_MAX: u64 = (1 << 33) - 1;

    #[test]
    fn a_token_is_view_counter_then_sequence() {
        let golden = [
            (0, 0, 0),
            (0, 1, 1),
            (1, 0, 1 << 30),
            (1_000_000_000, 7, 1_073_741_824_000_000_007),
            (COUNTER_MAX, Token::SEQUENCE_MAX, i64::MAX as u64),
        ];
        for (counter, sequence, number) in golden {
            let token = Token::new(counter, sequence).unwrap();
            assert_eq!((token.as_u64(), token.view_counter()), (number, counter));
            assert_eq!(Token::from_u64(number), token);
        }
    }

    #[test]
    fn a_part_out_of_its_bits_makes_no_token() {
        assert_eq!(Token::new(COUNTER_MAX + 1, 0), None);
        assert_eq!(Token::new(0, Token::SEQUENCE_MAX + 1), None);
    }

    #[test]
    fn a_later_view_outranks_every_sequence_of_an_earlier_one() {
        assert!(Token::new(8, 0) > Token::new(7, Token::SEQUENCE_MAX));
        assert!(Token::new(7, 2) > Token::new(7, 1));
        assert!(Token::new(0, 1).unwrap() > Token::NONE);
    }

    #[test]
    fn tokens_of_the_next_decades_fit() {
        // 2074 in ticks of 200 ms since 2020, the end that the design names.
        let until_2074 = 54 * 365 * 24 * 3_600 * 5;
        assert!(Token::new(until_2074, 1).is_some());
    }

    #[test]
    fn a_token_is_a_bare_number_on_the_wire_and_for_stores() {
        let token = Token::new(3, 4).unwrap();
        assert_eq!(minicbor::to_vec(token).unwrap(), minicbor::to_vec(token.as_u64()).unwrap());
        assert_eq!((token.to_string().as_str(), format!("{token:?}").as_str()), ("3221225476", "3.4"));
    }
}
