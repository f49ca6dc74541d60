//! Moves that can not begin yet: as many as may be are under way.

use std::collections::VecDeque;

use super::{Message, Order, Passage};
use crate::base::limits::{MOVES_WAITING_MAX, Usage};
use crate::base::{Incarnation, Name, Token};
use crate::view::View;

/// What waits until a move under way has ended, first come first served.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Moves from this node.
    orders: VecDeque<Order>,
    /// Questions for room for a process; each with its source, which waits.
    questions: VecDeque<(Incarnation, Message)>,
}

impl Waiting {
    /// A move from this node, the latest of its name. What finds no room here the owner says again.
    pub(super) fn put_off(&mut self, order: Order) {
        if let Some(known) = self.orders.iter_mut().find(|known| known.name == order.name) {
            *known = order;
        } else if self.orders.len() < MOVES_WAITING_MAX {
            self.orders.push_back(order);
        }
    }

    pub(super) fn take_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// A question for room. False if too many wait already.
    pub(super) fn ask(&mut self, passage: Passage) -> bool {
        let Passage { name, attempt, kind, args, gate, from } = passage;
        let is_known =
            self.questions.iter().any(|(asker, known)| (*asker, known.about()) == (from, (&name, attempt)));
        if !is_known && self.questions.len() >= MOVES_WAITING_MAX {
            return false;
        }
        if !is_known {
            self.questions.push_back((from, Message::Reserve { name, attempt, kind, args, gate }));
        }
        true
    }

    pub(super) fn take_question(&mut self) -> Option<(Incarnation, Message)> {
        self.questions.pop_front()
    }

    /// The source has given it up.
    pub(super) fn cancel(&mut self, from: Incarnation, name: &Name, attempt: Token) {
        self.questions.retain(|(asker, known)| (*asker, known.about()) != (from, (name, attempt)));
    }

    /// A view was installed: its owners say their orders again, if they still mean them.
    pub(super) fn handle_view(&mut self, view: &View) {
        self.orders.clear();
        self.questions.retain(|(from, _)| view.contains(*from));
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn usage(&self) -> [Usage; 2] {
        [
            Usage::new("moves out waiting", self.orders.len(), MOVES_WAITING_MAX),
            Usage::new("moves in waiting", self.questions.len(), MOVES_WAITING_MAX),
        ]
    }
}
