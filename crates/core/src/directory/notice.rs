//! Notices: what a member says of itself to all others: how many processes it has, and whether rebalancing is paused.
//!
//! Decides: when the others are told. Promises: every member of a view comes to know the last order to pause or to go on,
//! whoever gave it and whoever dies meanwhile, and one that joins learns it from all; what is told of load lags a second
//! behind, and is told only when it has changed by enough. Assumes nothing of what others say but that orders stem from
//! views that were.
//!
//! An order is the latest that was heard, by the view in which it was given: whoever hears a later one takes it over and
//! shows it to all. Whoever has not shown it is told again. On a split each side has its own last order, and the line that
//! is left forgets its own. It outlives every node but not all of them.
//!
//! Load is a hint: owners place names by it that want the node with the least (`load`), and nothing else follows.

use std::collections::BTreeMap;
use std::time::Duration;

use minicbor::{Decode, Encode};

use super::message::Message;
use super::{Directory, Output, REPEAT};
use crate::base::{Incarnation, Time};

/// Between two words on load.
const LOAD_EVERY: Duration = Duration::from_secs(1);
/// Load has changed by enough when it is off by one part in this many, or by one process.
const LOAD_PARTS: u32 = 16;

/// Whether the cluster is to rebalance. Of two the greater one is later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Order {
    /// Counter of the view in which it was given.
    #[n(0)]
    pub view: u64,
    /// How many were given in that view before.
    #[n(1)]
    pub number: u32,
    /// Nonce of the life of the node that gave it.
    #[n(2)]
    pub by: u64,
    /// Nothing is moved to balance.
    #[n(3)]
    pub paused: bool,
}

/// What a member says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Notice {
    /// Processes that it has.
    #[n(0)]
    pub load: u32,
    /// The last order that it has heard of.
    #[n(1)]
    pub order: Order,
}

/// What was said, and what was heard.
#[derive(Debug, Default)]
pub(super) struct Notices {
    order: Order,
    /// To each member, and when.
    said: BTreeMap<Incarnation, (Notice, Time)>,
    heard: BTreeMap<Incarnation, Order>,
    /// When somebody is to be told something.
    due: Option<Time>,
    /// What this node had when it last looked whether to tell.
    load_seen: u32,
    looked_at: Time,
    /// Somebody waits until all know the order.
    is_awaited: bool,
}

impl Notices {
    pub(super) fn is_paused(&self) -> bool {
        self.order.paused
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.due
    }

    fn due_by(&mut self, at: Time) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// What is to be said to a member now, or when it is to be looked at again.
    fn next_for(&self, member: Incarnation, load: u32, now: Time) -> Result<Notice, Option<Time>> {
        let notice = Notice { load, order: self.order };
        let shown = self.heard.get(&member).copied().unwrap_or_default();
        let (said, at) = self.said.get(&member).copied().unwrap_or_default();
        let never = !self.said.contains_key(&member);
        let order_at =
            (shown < self.order).then_some(if said.order < self.order { now } else { at + REPEAT });
        let changed = load.abs_diff(said.load);
        let is_enough = changed > 0 && changed.saturating_mul(LOAD_PARTS) >= said.load;
        let load_at = is_enough.then_some(if never { now } else { at + LOAD_EVERY });
        match [order_at, load_at].into_iter().flatten().min() {
            Some(at) if at <= now => Ok(notice),
            later => Err(later),
        }
    }
}

impl Directory {
    /// Rebalancing is to pause in the whole cluster, or to go on. [`Output::OrderKnown`] comes when every member knows.
    pub fn handle_order(&mut self, paused: bool, now: Time) {
        let last = self.notices.order;
        if last.paused != paused {
            let view = self.view().map_or(0, |view| view.id.counter);
            let number = if last.view >= view { last.number.saturating_add(1) } else { 0 };
            let order = Order { view: view.max(last.view), number, by: self.me.nonce, paused };
            self.follow_order(order, now);
        }
        self.notices.is_awaited = true;
        self.tell_if_known();
        self.finish(now);
    }

    pub(super) fn on_notice(&mut self, from: Incarnation, notice: Notice, now: Time) {
        self.loads.hear(from, notice.load);
        self.notices.heard.insert(from, notice.order);
        if notice.order > self.notices.order {
            self.follow_order(notice.order, now);
        } else if notice.order < self.notices.order {
            self.notices.due_by(now);
        }
        self.tell_if_known();
    }

    fn follow_order(&mut self, order: Order, now: Time) {
        self.notices.order = order;
        self.notices.due_by(now);
        if !order.paused {
            self.queue_held();
        }
    }

    fn tell_if_known(&mut self) {
        let order = self.notices.order;
        if !self.notices.is_awaited {
            return;
        }
        let knows = |member: Incarnation| {
            member == self.me || order == Order::default() || self.notices.heard.get(&member) >= Some(&order)
        };
        if self.view().is_some_and(|view| view.incarnations().all(knows)) {
            self.notices.is_awaited = false;
            self.tell(Output::OrderKnown);
        }
    }

    /// A view was installed: whoever is new in it knows nothing of this node.
    pub(super) fn notices_follow_view(&mut self, now: Time) {
        let Some(view) = self.view().cloned() else { return };
        self.notices.said.retain(|member, _| view.contains(*member));
        self.notices.heard.retain(|member, _| view.contains(*member));
        self.notices.due_by(now);
        self.tell_if_known();
    }

    /// The line is left: the order of the other one counts, and what was awaited here is not known there.
    pub(super) fn forget_notices(&mut self) {
        self.notices = Notices::default();
    }

    /// Tells the others what they are to know.
    pub(super) fn notify(&mut self, now: Time) {
        let load = u32::try_from(self.host.taken()).unwrap_or(u32::MAX);
        if load != self.notices.load_seen {
            self.notices.load_seen = load;
            let soon = self.notices.looked_at + LOAD_EVERY;
            self.notices.due_by(soon.max(now));
        }
        if self.notices.due.is_none_or(|due| due > now) {
            return;
        }
        self.notices.looked_at = now;
        self.notices.due = None;
        self.loads.hear(self.me, load);
        let Some(view) = self.view().cloned() else { return };
        let me = self.me;
        for member in view.incarnations().filter(|member| *member != me) {
            match self.notices.next_for(member, load, now) {
                Ok(notice) => {
                    self.notices.said.insert(member, (notice, now));
                    self.send(member, Message::Notice(notice));
                    if self.notices.heard.get(&member).copied().unwrap_or_default() < notice.order {
                        self.notices.due_by(now + REPEAT);
                    }
                }
                Err(Some(later)) => self.notices.due_by(later),
                Err(None) => {}
            }
        }
    }
}
