//! Names and kinds.

use std::fmt;
use std::sync::Arc;

use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};
use thiserror::Error;

use super::limits::NAME_BYTES_MAX;

/// Why a text is not a name. Nothing was sent; retrying the same text fails again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadName {
    /// The text has no bytes.
    #[error("a name must not be empty")]
    Empty,
    /// The text is longer than 255 bytes of UTF-8.
    #[error("a name has at most 255 bytes, this one has {bytes}")]
    TooLong {
        /// Length of the refused text.
        bytes: usize,
    },
    /// The text holds a control character, which could forge a line of a log or a terminal sequence.
    #[error("a name has no control characters, this one has one at byte {at}")]
    ControlCharacter {
        /// Offset of the first one.
        at: usize,
    },
}

/// The cluster-wide name of a process: 1 to 255 bytes of UTF-8 without control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// The stable name of a process type on the wire; same rules as [`Name`].
pub type Kind = Name;

impl Name {
    /// Checks `text`.
    ///
    /// # Errors
    /// [`BadName`] says which rule it breaks.
    pub fn new(text: &str) -> Result<Self, BadName> {
        if text.is_empty() {
            return Err(BadName::Empty);
        }
        if text.len() > NAME_BYTES_MAX {
            return Err(BadName::TooLong { bytes: text.len() });
        }
        match text.char_indices().find(|(_, c)| c.is_control()) {
            Some((at, _)) => Err(BadName::ControlCharacter { at }),
            None => Ok(Self(Arc::from(text))),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl<C> Encode<C> for Name {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.str(&self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Name {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        Name::new(d.str()?).map_err(|_| decode::Error::message("not a valid name"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_outside_the_rules_are_refused() {
        assert_eq!(Name::new(""), Err(BadName::Empty));
        assert_eq!(Name::new(&"a".repeat(256)), Err(BadName::TooLong { bytes: 256 }));
        assert_eq!(Name::new("a\nb"), Err(BadName::ControlCharacter { at: 1 }));
        assert_eq!(Name::new("a\u{9b}b"), Err(BadName::ControlCharacter { at: 1 }));
        assert!(Name::new(&"é".repeat(127)).is_ok());
    }
}
