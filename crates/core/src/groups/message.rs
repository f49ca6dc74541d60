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
