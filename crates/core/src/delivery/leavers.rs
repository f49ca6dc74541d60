//! Hosts that went in order: what was on its way to them is not given up with them.
//!
//! What a host was sent and has not decided when its session ends may have been admitted there, so a call ends Unknown: its
//! process is most likely gone, and waiting for a better word would take long. A host that drained before it went has
//! given its processes away, gates and all. There the route finds the process again, sends the same numbers, and knows
//! what became of them; so the call is the route's, until it is handed to the next link.

use std::collections::BTreeSet;

use crate::base::Incarnation;
use crate::base::limits::MEMBERS_MAX;
use crate::view::View;

/// Members that drain, or did when they were members; as many as a view can hold.
#[derive(Debug, Default)]
pub struct Leavers(BTreeSet<Incarnation>);

impl Leavers {
    /// A view was installed.
    pub fn on_view(&mut self, view: &View) {
        let draining = view.members.iter().filter(|member| member.draining);
        self.0.extend(draining.map(|member| member.incarnation));
        while self.0.len() > MEMBERS_MAX {
            self.0.pop_first();
        }
    }

    /// Whether this host goes, or has gone, in order.
    pub fn contains(&self, host: Incarnation) -> bool {
        self.0.contains(&host)
    }
}
