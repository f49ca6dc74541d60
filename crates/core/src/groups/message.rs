//! What nodes say to each other about groups. The table of all messages stands in `wire::control`.

use minicbor::{Decode, Encode};

use crate::base::{Group, Kind, Metadata, Name};
use crate::view::ViewId;

/// Tells two states of a group apart: of one version there is one state, in the whole cluster and for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct GroupVersion {
    /// The view in which the index that was read was built.
    #[n(0)]
    pub view: ViewId,
    /// How often that index had changed when the group changed last; 0 of a group that nobody is in.
    #[n(1)]
    pub changes: u64,
}

/// A member of a group. Where it runs is no part of it: a move or a restart changes nothing here.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct GroupMember {
    /// Its name.
    #[n(0)]
    pub name: Name,
    /// What kind of process it is.
    #[n(1)]
    pub kind: Kind,
    /// What it joined with.
    #[n(2)]
    pub meta: Metadata,
}

/// A group that has members.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct GroupSize {
    /// Its name in the scope.
    #[n(0)]
    pub name: Name,
    /// How many members it has.
    #[n(1)]
    pub members: u64,
}

/// One row of an index: whether a name is in a group, and as what.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Row {
    /// The group.
    #[n(0)]
    pub group: Group,
    /// The name.
    #[n(1)]
    pub name: Name,
    /// What it is in the group; none: it is not in it.
    #[n(2)]
    pub entry: Option<Entry>,
}

/// What an index knows of a name in a group.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Entry {
    /// What kind of process it is.
    #[n(0)]
    pub kind: Kind,
    /// What it joined with.
    #[n(1)]
    pub meta: Metadata,
}

/// What is asked of an index.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Question {
    /// Who is in this group.
    #[n(0)]
    Members {
        /// The group.
        #[n(0)]
        group: Group,
        /// The version that the asker has.
        #[n(1)]
        known: Option<GroupVersion>,
    },
    /// Which groups of this scope have members.
    #[n(1)]
    Scope(#[n(0)] Name),
}

/// A part of what an index answers.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Rows {
    /// Members of the group, by name.
    #[n(0)]
    Members(#[n(0)] Vec<GroupMember>),
    /// They are as in the version that is known.
    #[n(1)]
    Known,
    /// Groups of the scope, by name.
    #[n(2)]
    Sizes(#[n(0)] Vec<GroupSize>),
}

/// One message about groups. All of them are about the view that they were sent in, and mean nothing in another one.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Message {
    /// Rows for the index of the receiver, of names that the sender owns.
    #[n(0)]
    Enrol {
        /// The number of this part: 1, 2, 3... from the sender to this receiver.
        #[n(0)]
        number: u64,
        /// The rows.
        #[n(1)]
        rows: Vec<Row>,
        /// With this part the receiver has heard everything that the sender's records said when its slots served.
        #[n(2)]
        whole: bool,
    },
    /// The parts up to this one are in the index, and every member of the view reads this index.
    #[n(1)]
    Enrolled(#[n(0)] u64),
    /// The sender is in this view.
    #[n(2)]
    Here,
    /// The sender is in this view, and could do nothing before with what the receiver has said or asked: say it again.
    #[n(3)]
    Again,
    /// What is in your index?
    #[n(4)]
    Ask {
        /// The asker's number of the question.
        #[n(0)]
        number: u64,
        /// What is asked.
        #[n(1)]
        question: Question,
        /// Rows up to this name are known.
        #[n(2)]
        after: Option<Name>,
    },
    /// This.
    #[n(5)]
    Page {
        /// The asker's number of the question.
        #[n(0)]
        number: u64,
        /// Behind which name it begins, as was asked.
        #[n(1)]
        after: Option<Name>,
        /// The rows.
        #[n(2)]
        rows: Rows,
        /// The version of the group; none of a scope.
        #[n(3)]
        version: Option<GroupVersion>,
        /// Others follow.
        #[n(4)]
        more: bool,
        /// The index has heard all owners of names.
        #[n(5)]
        complete: bool,
    },
}

impl Message {
    /// How many rows it carries, one if none: about how much room it takes.
    pub fn rows(&self) -> usize {
        match self {
            Message::Enrol { rows, .. } => rows.len().max(1),
            Message::Page { rows: Rows::Members(rows), .. } => rows.len().max(1),
            Message::Page { rows: Rows::Sizes(rows), .. } => rows.len().max(1),
            Message::Page { rows: Rows::Known, .. }
            | Message::Enrolled(_)
            | Message::Here
            | Message::Again
            | Message::Ask { .. } => 1,
        }
    }
}

/// What a row takes beside its texts, about.
const ROW_BYTES: usize = 24;

impl Row {
    /// About how many bytes it takes on the wire.
    pub(super) fn bytes(&self) -> usize {
        let entry = self.entry.as_ref().map_or(0, |entry| entry.kind.as_str().len() + entry.meta.bytes());
        let group = self.group.scope.as_str().len() + self.group.name.as_str().len();
        group + self.name.as_str().len() + entry + ROW_BYTES
    }
}

impl GroupMember {
    /// About how many bytes it takes on the wire.
    pub(super) fn bytes(&self) -> usize {
        self.name.as_str().len() + self.kind.as_str().len() + self.meta.bytes() + ROW_BYTES
    }
}

impl GroupSize {
    /// About how many bytes it takes on the wire.
    pub(super) fn bytes(&self) -> usize {
        self.name.as_str().len() + ROW_BYTES
    }
}

impl Rows {
    /// The names that they are about, in order.
    pub(super) fn names(&self) -> Vec<&Name> {
        match self {
            Rows::Members(rows) => rows.iter().map(|row| &row.name).collect(),
            Rows::Known => Vec::new(),
            Rows::Sizes(rows) => rows.iter().map(|row| &row.name).collect(),
        }
    }

    /// About how many bytes they take.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Rows::Members(rows) => rows.iter().map(GroupMember::bytes).sum(),
            Rows::Known => 0,
            Rows::Sizes(rows) => rows.iter().map(GroupSize::bytes).sum(),
        }
    }
}
