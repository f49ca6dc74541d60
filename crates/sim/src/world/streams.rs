//! Streams: each node follows records from its start on, and is told of what happens to them.

use whimbrel_core::directory::{Filter, StreamEvent};
use whimbrel_core::node::Input;

use super::World;
use super::groups::{SCOPE, group_of};
use crate::history::{Follows, Stream};

impl World {
    /// A node that has just booted follows all records, those in groups, or those in one group.
    pub(super) fn begin_to_follow(&mut self, host: u16) {
        let groups = self.plan.bonds.groups;
        if !self.plan.bonds.streams || groups == 0 {
            return;
        }
        let at = self.history.streams.len() as u32;
        let (follows, filter) = match at % 3 {
            0 => (Follows::All, Filter::default()),
            1 => (Follows::Scope, Filter::default().scope(SCOPE)),
            _ => (Follows::Group(at % groups), Filter::default().group(group_of(at % groups))),
        };
        let began = self.now;
        let Some(shell) = self.shell(host) else { return };
        shell.next_request += 1;
        let number = shell.next_request;
        shell.streams.insert(number, at);
        self.history.streams.push(Stream { host, follows, began, events: Vec::new() });
        self.input(host, Input::Follow { number, filter });
    }

    /// A stream tells; its reader takes it at once.
    pub(super) fn on_followed(&mut self, host: u16, number: u64, events: Vec<StreamEvent>) {
        let now = self.now;
        let Some(at) = self.shell(host).and_then(|shell| shell.streams.get(&number).copied()) else { return };
        let count = events.len();
        self.stats.mark_n("streamed", count as u64);
        self.history.streams[at as usize].events.extend(events.into_iter().map(|event| (now, event)));
        self.input(host, Input::Read { number, events: count });
    }
}
