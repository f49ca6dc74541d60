//! A node on its way out: it says so until a view does.
//!
//! Decides: when the author is told, and whether a node without a line looks for one. Promises: the flag is set by the
//! word of the member itself alone, and never goes off for an incarnation; a node that drains and has nothing left stays
//! outside once it is there. Assumes: the node is told whether anything is left (`Membership::set_idle`).
//!
//! On a crash of the author the next one is told. On a split each side learns it from its own members; a node that comes
//! from another line says it in its handshake. A view that was skipped is followed by one that has the flag as well.

use super::{Membership, Message, REPEAT, Stage};
use crate::base::{Incarnation, Now};

impl Membership {
    /// From now on this node takes nothing new.
    pub fn handle_drain(&mut self, now: Now) {
        self.me.draining = true;
        self.step(now);
    }

    /// Tells whether nothing runs here and nothing is kept to be offered.
    pub fn set_idle(&mut self, idle: bool) {
        self.idle = idle;
    }

    /// Whether it has no reason to come in (again).
    pub(super) fn stays_out(&self) -> bool {
        self.me.draining && self.idle
    }

    /// Tells the author, again and again, until a view says it. An author needs no telling: it authors that view.
    pub(super) fn say_drain(&mut self, now: Now) {
        let me = self.me.incarnation;
        let is_news = |member: Option<&crate::view::MemberInfo>| member.is_some_and(|me| !me.draining);
        if !self.me.draining || !is_news(self.view().and_then(|view| view.member(me))) {
            self.drain_at = None;
            return;
        }
        if self.drain_at.is_some_and(|at| now.time < at) {
            return;
        }
        self.drain_at = Some(now.time + REPEAT);
        if let Some(author) = self.present_author().filter(|author| *author != me) {
            self.send(author, Message::Drain);
        }
    }

    /// A member says that it drains; of no other than itself.
    pub(super) fn on_drain(&mut self, from: Incarnation) {
        let Stage::Member(line) = &mut self.stage else { return };
        if line.chain.current().member(from).is_some_and(|member| !member.draining) {
            line.authoring.draining.insert(from);
        }
    }
}
