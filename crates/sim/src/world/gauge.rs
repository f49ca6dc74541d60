//! How full the tables of the nodes get, for the checker of bounds.
//!
//! Tables of a `Node` are looked at after every so many inputs; mailboxes, routes and links, which messages fill,
//! after every input that may have filled them.

use whimbrel_core::base::limits::{ROUTE_MESSAGES_MAX, Usage};
use whimbrel_core::delivery::Lane;
use whimbrel_core::directory::Rebalance;

use super::World;
use super::exchange::Entry;
use crate::history::Fullest;

/// Inputs of nodes between two looks.
const LOOK_EVERY: u64 = 32;
/// Pending calls of one node.
pub(super) const CALLS_MAX: usize = 65_536;

impl World {
    /// After an input of a node: now and then all its tables.
    pub(super) fn gauge_node(&mut self, host: u16) {
        self.inputs += 1;
        if !self.inputs.is_multiple_of(LOOK_EVERY) {
            return;
        }
        let Some(shell) = self.shell(host) else { return };
        let mut rows = shell.node.usage();
        rows.push(Usage::new("calls", shell.calls.len(), CALLS_MAX));
        for row in rows {
            self.gauge(host, row);
        }
    }

    pub(super) fn gauge_port(&mut self, host: u16, name: u32) {
        // What a process brings along when it moves is exempt from the limit.
        let moves = self.plan.rebalance != Rebalance::Off
            || self.plan.move_permille > 0
            || !self.history.drains.is_empty();
        let Some(Entry { port, .. }) = self.shell(host).and_then(|shell| shell.entries.get(&name)) else {
            return;
        };
        let mailbox = port
            .inbox()
            .filter(|_| !moves)
            .map(|inbox| Usage::new("mailbox", inbox.len(), inbox.limits().messages));
        let route = port.route().map(|route| Usage::new("route", route.len(), ROUTE_MESSAGES_MAX));
        for row in mailbox.into_iter().chain(route) {
            self.gauge(host, row);
        }
    }

    pub(super) fn gauge_link(&mut self, host: u16, lane: Lane, queued: usize) {
        let limit = self.plan.link_limits.lane_frames;
        let table = match lane {
            Lane::Control => "control lane",
            Lane::Messages => "messages lane",
            Lane::Bulk => "bulk lane",
        };
        self.gauge(host, Usage::new(table, queued, limit));
    }

    pub(super) fn gauge_written(&mut self, host: u16, unacknowledged: usize) {
        let limit = self.plan.link_limits.unacknowledged;
        self.gauge(host, Usage::new("unacknowledged", unacknowledged, limit));
    }

    fn gauge(&mut self, host: u16, row: Usage) {
        let at = self.now;
        match self.history.fullest.get_mut(row.table) {
            Some(fullest) if fullest.usage.used >= row.used => {}
            Some(fullest) => *fullest = Fullest { usage: row, host, at },
            None => {
                self.history.fullest.insert(row.table, Fullest { usage: row, host, at });
            }
        }
    }
}
