//! What source and target of a move say to each other. The table of all messages stands in `wire::control`.

use minicbor::{Decode, Encode};

use crate::base::{Bytes, Hindrance, Kind, Name, Token};

/// One message of a move.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Message {
    /// Will you take this process?
    #[n(0)]
    Reserve {
        /// The name.
        #[n(0)]
        name: Name,
        /// The attempt.
        #[n(1)]
        attempt: Token,
        /// What kind of process it is.
        #[n(2)]
        kind: Kind,
        /// Encoded arguments of `init`.
        #[n(3)]
        args: Bytes,
        /// The gate that comes with it.
        #[n(4)]
        gate: Token,
    },
    /// Yes.
    #[n(1)]
    Reserved {
        /// The name.
        #[n(0)]
        name: Name,
        /// The attempt.
        #[n(1)]
        attempt: Token,
    },
    /// No; or not any more.
    #[n(2)]
    Refused {
        /// The name.
        #[n(0)]
        name: Name,
        /// The attempt.
        #[n(1)]
        attempt: Token,
        /// Why.
        #[n(2)]
        why: Hindrance,
    },
    /// A part of the image.
    #[n(3)]
    Chunk {
        /// The name.
        #[n(0)]
        name: Name,
        /// The attempt.
        #[n(1)]
        attempt: Token,
        /// Bytes of the whole image.
        #[n(2)]
        total: u32,
        /// The hash of the whole image.
        #[n(3)]
        sum: u64,
        /// Where this part begins.
        #[n(4)]
        offset: u32,
        /// The part; at the end of the image, none: what has become of it?
        #[n(5)]
        bytes: Bytes,
    },
    /// Everything up to here has arrived.
    #[n(4)]
    Taken {
        /// The name.
        #[n(0)]
        name: Name,
        /// The attempt.
        #[n(1)]
        attempt: Token,
        /// Where the next part begins.
        #[n(2)]
        offset: u32,
    },
    /// The process is here, at rest.
    #[n(5)]
    Installed {
        /// The name.
        #[n(0)]
        name: Name,
        /// The attempt.
        #[n(1)]
        attempt: Token,
    },
    /// Nothing comes of it.
    #[n(6)]
    Cancel {
        /// The name.
        #[n(0)]
        name: Name,
        /// The attempt.
        #[n(1)]
        attempt: Token,
    },
}

impl Message {
    /// The name and the attempt that it is about.
    pub fn about(&self) -> (&Name, Token) {
        match self {
            Message::Reserve { name, attempt, .. }
            | Message::Reserved { name, attempt }
            | Message::Refused { name, attempt, .. }
            | Message::Chunk { name, attempt, .. }
            | Message::Taken { name, attempt, .. }
            | Message::Installed { name, attempt }
            | Message::Cancel { name, attempt } => (name, *attempt),
        }
    }

    /// Whether it carries a part of an image, which may wait for everything else.
    pub const fn is_bulk(&self) -> bool {
        matches!(self, Message::Chunk { .. })
    }
}
