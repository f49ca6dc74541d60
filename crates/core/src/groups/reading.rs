//! Readings: questions of this node about groups, until the owners of their indexes have answered.

use super::message::{GroupMember, GroupVersion};
use crate::base::Name;

/// Who is in a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupReading {
    /// What to ask with the next time; none when no index has answered as a whole.
    pub version: Option<GroupVersion>,
    /// The members, by name; none: as in the version that was known.
    pub members: Option<Vec<GroupMember>>,
    /// Every member is there whose join was answered before the question came in, and nobody who had left. Not so when
    /// the index was being rebuilt, or did not answer, until the deadline: then it is what is known.
    pub complete: bool,
}

/// Which groups of a scope have members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScopeReading {
    /// The groups and how many members each has, by name.
    pub names: Vec<(Name, usize)>,
    /// As in [`GroupReading`].
    pub complete: bool,
}
