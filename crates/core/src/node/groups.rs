//! Groups, between the directory, which knows the records, and the indexes.

use std::time::Duration;

use super::{Effect, Node};
use crate::base::{Group, Name};
use crate::groups::{GroupReading, GroupVersion, ScopeReading};

impl Node {
    /// User code asks who is in a group.
    pub(super) fn read_group(&mut self, number: u64, _: Group, _: Option<GroupVersion>, _: Duration) {
        let reading = GroupReading { members: Some(Vec::new()), ..GroupReading::default() };
        self.out.push_back(Effect::Group { number, reading });
    }

    /// User code asks which groups of a scope have members.
    pub(super) fn read_scope(&mut self, number: u64, _: Name, _: Duration) {
        self.out.push_back(Effect::Groups { number, reading: ScopeReading::default() });
    }
}
