//! What becomes of an attempt to move a process, and why nothing came of it.

use minicbor::{Decode, Encode};

/// What became of an attempt to move a process, as its owner tells the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum Decision {
    /// It runs at the target.
    #[n(0)]
    Committed,
    /// It goes on at the source.
    #[n(1)]
    Aborted,
    /// The name is another life's by now; nobody knows any more which of both it was.
    #[n(2)]
    Superseded,
}

/// Whose the unread messages of a process are that was captured and goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unread {
    /// Its own: the move was aborted.
    Here,
    /// Perhaps also another one's: the move may have been committed in another line, and they be handled there.
    Elsewhere,
}

/// Why a process was not moved. It runs on where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Hindrance {
    /// As many moves as are allowed are under way at the target, or the name is still there.
    #[n(0)]
    Busy,
    /// The target drains or leaves.
    #[n(1)]
    Leaving,
    /// The target does not host the kind.
    #[n(2)]
    UnknownKind,
    /// The target holds as many processes of the kind as it may.
    #[n(3)]
    AtCapacity,
    /// State and mailbox are over the limit of an image.
    #[n(4)]
    TooLarge,
    /// The process wants to stay, or can not move.
    #[n(5)]
    Stays,
    /// It did not come to rest, or did not resume, in time.
    #[n(6)]
    Slow,
    /// Its state or a message in its mailbox can not be encoded.
    #[n(7)]
    Unencodable,
    /// The target can not read the state: another version, or it did not arrive as it was sent.
    #[n(8)]
    Unreadable,
    /// The target, or what it had received, is gone.
    #[n(9)]
    Lost,
    /// The process ended, or never ran at the source.
    #[n(10)]
    Ended,
    /// There is no other node for it: none hosts its kind, all that do drain, or it is pinned to this one.
    #[n(11)]
    NoHost,
}

impl Hindrance {
    /// Whether another try at the same target may go better.
    pub const fn is_passing(self) -> bool {
        matches!(self, Hindrance::Busy | Hindrance::AtCapacity | Hindrance::Slow | Hindrance::Lost)
    }

    /// Whether it stays so wherever the process is to go and however often it is tried: a node that drains does not wait
    /// for it.
    pub const fn is_for_good(self) -> bool {
        match self {
            Hindrance::UnknownKind
            | Hindrance::TooLarge
            | Hindrance::Stays
            | Hindrance::Unencodable
            | Hindrance::Unreadable
            | Hindrance::NoHost => true,
            Hindrance::Busy
            | Hindrance::AtCapacity
            | Hindrance::Slow
            | Hindrance::Lost
            // The next view names another target.
            | Hindrance::Leaving
            // Another life of it follows.
            | Hindrance::Ended => false,
        }
    }
}
