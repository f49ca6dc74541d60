//! What a node may ask of the owner of a name, and the answers.

use minicbor::{Decode, Encode};

use super::attached::{Inspected, MetaRead};
use super::placing::Placement;
use super::record::{Located, Record, RestartPolicy};
use crate::base::{Bytes, Executed, ExitReason, Group, Hindrance, Kind, Metadata, Name, NodeName, Token};

/// One request about one name.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Ask {
    /// Start a process under a name.
    #[n(0)]
    Start {
        /// Its kind.
        #[n(0)]
        kind: Kind,
        /// Encoded arguments of `init`.
        #[n(1)]
        args: Bytes,
        /// When it is restarted.
        #[n(2)]
        policy: RestartPolicy,
        /// Where it is placed.
        #[n(3)]
        placement: Placement,
    },
    /// Give the name to a process that already runs on the asking node.
    #[n(1)]
    Register {
        /// Its kind.
        #[n(0)]
        kind: Kind,
    },
    /// Take the name from a registered process without stopping it.
    #[n(2)]
    Unregister,
    /// Where does it run? Waits while it is starting or its slot is not open.
    #[n(3)]
    Locate,
    /// Stop it; answered when it has ended and the name is free.
    #[n(4)]
    Stop,
    /// End its quarantine and start it again.
    #[n(5)]
    Release,
    /// Move it to the member of this name; answered when it runs there.
    #[n(6)]
    Move {
        /// The member; none: where the view places it.
        #[n(0)]
        to: Option<NodeName>,
    },
    /// Put the name into a group; answered when its record and the index of the group have it.
    #[n(7)]
    Join {
        /// The group.
        #[n(0)]
        group: Group,
        /// What is known of the name in it.
        #[n(1)]
        meta: Metadata,
    },
    /// Take the name out of a group; answered as a join is, also if it is not in it.
    #[n(8)]
    Leave {
        /// The group.
        #[n(0)]
        group: Group,
    },
    /// Replace its metadata.
    #[n(9)]
    SetMeta {
        /// The texts.
        #[n(0)]
        map: Metadata,
        /// Only if this is the version that it has.
        #[n(1)]
        expected: Option<u64>,
    },
    /// What is known of it?
    #[n(10)]
    Inspect,
}

impl Ask {
    /// Whether carrying it out changes anything.
    pub const fn changes(&self) -> bool {
        !matches!(self, Ask::Locate | Ask::Inspect)
    }

    /// Bytes that it carries, beside its name and its kind.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Ask::Start { args, placement, .. } => args.len() + placement.size(),
            Ask::Join { meta, .. } => meta.bytes(),
            Ask::SetMeta { map, .. } => map.bytes(),
            Ask::Register { .. }
            | Ask::Unregister
            | Ask::Locate
            | Ask::Stop
            | Ask::Release
            | Ask::Leave { .. }
            | Ask::Inspect
            | Ask::Move { .. } => 0,
        }
    }
}

/// The owner's answer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Answer {
    /// Start or Register: this request made the process. It runs, and its record is on `copies` nodes.
    #[n(0)]
    Started {
        /// Where it is.
        #[n(0)]
        located: Located,
        /// Nodes that hold the record: min(R, members).
        #[n(1)]
        copies: u8,
    },
    /// Start or Register: another request made it before.
    #[n(1)]
    AlreadyRunning(#[n(0)] Located),
    /// Start: `init` did not return Ok; no record is left.
    #[n(2)]
    InitFailed(#[n(0)] ExitReason),
    /// Start: no member hosts this kind.
    #[n(3)]
    NoHost(#[n(0)] Kind),
    /// Locate: here it is.
    #[n(4)]
    Located(#[n(0)] Located),
    /// The name is not taken.
    #[n(5)]
    NotFound,
    /// Stop: it has ended. Join, Leave: record and index have it. Unregister: the name is free. Release: it is starting. Move: it runs there.
    #[n(6)]
    Done,
    /// The name failed too often and waits for `release`.
    #[n(7)]
    Quarantined,
    /// No answer by the deadline.
    #[n(8)]
    Deadline(#[n(0)] Executed),
    /// Too many requests wait; this one was not executed.
    #[n(9)]
    Overloaded,
    /// Locate: there is no link with the owner, who alone knows. Never sent.
    #[n(10)]
    Unlinked,
    /// Start: no node that may host it has room for one more of its kind; this one was not executed.
    #[n(11)]
    AtCapacity,
    /// Move: it runs on where it was.
    #[n(12)]
    Hindered(#[n(0)] Hindrance),
    /// SetMeta: it is this now.
    #[n(13)]
    Meta(#[n(0)] MetaRead),
    /// SetMeta: it is another version, this one; nothing was changed.
    #[n(14)]
    Conflict(#[n(0)] MetaRead),
    /// Inspect: all that is known.
    #[n(15)]
    Inspected(#[n(0)] Box<Inspected>),
}

/// Which records a listing is about. All given conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Filter {
    /// Names that begin so.
    #[n(0)]
    pub prefix: Option<String>,
    /// Processes of this kind.
    #[n(1)]
    pub kind: Option<Kind>,
}

impl Filter {
    /// Whether a record is meant.
    pub fn matches(&self, record: &Record) -> bool {
        self.prefix.as_ref().is_none_or(|prefix| record.name.as_str().starts_with(prefix.as_str()))
            && self.kind.as_ref().is_none_or(|kind| record.kind == *kind)
    }
}

/// One row of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Listed {
    /// The name.
    #[n(0)]
    pub name: Name,
    /// Where it is.
    #[n(1)]
    pub located: Located,
    /// What it is doing.
    #[n(2)]
    pub state: super::record::RecordState,
}

/// How a new life of a process begins at its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launch {
    /// With an empty mailbox and a new gate.
    Fresh,
    /// In the place of the life that ended here: gate, admitted sequences and unread mailbox stay.
    InPlace {
        /// The life that ended.
        previous: Token,
    },
    /// It came from another node with its gate and its mailbox, and was made there before; from now on it may run.
    Arrived,
}
