//! Groups as clients and nodes saw them.

use super::Micros;

/// What a reading gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Roll {
    /// Names, in their order, and the join that the membership's metadata names.
    pub(crate) members: Vec<(u32, Option<u32>)>,
    pub(crate) complete: bool,
}

/// One reading of a group.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) group: u32,
    pub(crate) host: u16,
    pub(crate) invoked: Micros,
    pub(crate) deadline: Micros,
    pub(crate) over: Option<(Micros, Roll)>,
    /// Of the liveness phase, when nothing changes any more.
    pub(crate) last: bool,
}

/// One reading of the names of all groups, with the number of their members.
#[derive(Clone, Debug)]
pub(crate) struct Census {
    pub(crate) host: u16,
    pub(crate) invoked: Micros,
    pub(crate) deadline: Micros,
    pub(crate) over: Option<(Micros, Counts)>,
    pub(crate) last: bool,
}

/// What it gave: groups with their numbers of members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) counts: Vec<(u32, usize)>,
    pub(crate) complete: bool,
}

/// What a record was read to say of its name's groups.
#[derive(Clone, Debug)]
pub(crate) struct Inspected {
    pub(crate) op: u32,
    /// With the join that made each.
    pub(crate) groups: Vec<(u32, Option<u32>)>,
}
