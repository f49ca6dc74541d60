//! Moves, between the directory, which knows names and owners, and the handoff, which knows source and target.

use std::sync::Arc;

use super::{Effect, Node};
use crate::base::limits::ARGS_BYTES_MAX;
use crate::base::{ExitReason, Hindrance, Incarnation, Name, Token};
use crate::directory::Record;
use crate::handoff::{Message, Order, Output};
use crate::wire::Body;

impl Node {
    /// The owner wants a process of this node moved.
    pub(super) fn order_move(&mut self, record: &Arc<Record>) {
        let Some(moving) = record.moving.as_deref() else { return };
        let order = Order {
            name: record.name.clone(),
            token: record.token,
            attempt: moving.attempt,
            to: moving.target,
            kind: record.kind.clone(),
            args: record.args.clone(),
            gate: record.gate,
        };
        self.handoff.handle_order(order, self.last.time);
    }

    /// A process is to end. One that has left in part ends when its move has: nobody could say otherwise what became of
    /// its mailbox.
    pub(super) fn terminate(&mut self, name: Name, token: Token, reason: ExitReason) {
        // What was decided of a move before goes before.
        while let Some(output) = self.handoff.poll_output() {
            self.on_handoff(output);
        }
        if !self.handoff.handle_terminate(&name, token, &reason, self.last.time) {
            self.out.push_back(Effect::Terminate { name, token, reason });
        }
    }

    /// A message of a move. From members alone, and of what this node can host.
    pub(super) fn on_handoff_message(&mut self, from: Incarnation, message: Message) {
        if !self.view.as_ref().is_some_and(|view| view.contains(from)) {
            return;
        }
        if let Message::Reserve { name, attempt, kind, args, .. } = &message {
            let me = self.membership.me();
            let why = match () {
                () if args.len() > ARGS_BYTES_MAX => Some(Hindrance::TooLarge),
                () if !me.kinds.contains(kind) => Some(Hindrance::UnknownKind),
                () if me.draining || self.left => Some(Hindrance::Leaving),
                () if self.directory.hosts(name) => Some(Hindrance::Busy),
                () if !self.directory.has_room_for(kind, self.handoff.arriving(kind)) => {
                    Some(Hindrance::AtCapacity)
                }
                () => None,
            };
            if let Some(why) = why {
                return self.handoff.refuse(from, name.clone(), *attempt, why);
            }
        }
        self.handoff.handle_message(from, message, self.last.time);
    }

    pub(super) fn on_handoff(&mut self, output: Output) {
        match output {
            Output::Send(to, message) => self.send(to, Body::Handoff(message)),
            Output::Capture { name, token, attempt, to } => {
                self.directory.handle_watcher_away(&name, true, self.last.time);
                self.out.push_back(Effect::Capture { name, token, attempt, to });
            }
            Output::Release { name, token, attempt, decision, copied, ends } => {
                self.directory.handle_watcher_away(&name, false, self.last.time);
                self.out.push_back(Effect::Release { name: name.clone(), attempt, decision, copied });
                if let Some(reason) = ends {
                    self.out.push_back(Effect::Terminate { name, token, reason });
                }
            }
            Output::Depart { name, token, attempt, to } => {
                self.directory.handle_departed(&name, token);
                self.directory.handle_watcher_gone(&name, self.last.time);
                self.drain.note_moved();
                self.out.push_back(Effect::Depart { name, attempt, to });
            }
            Output::Abandon { name, attempt, reason } => {
                self.directory.handle_watcher_ended(&name, self.last.time);
                self.out.push_back(Effect::Abandon { name, attempt, reason });
            }
            Output::Install { passage, image } => self.out.push_back(Effect::Install { passage, image }),
            Output::Uninstall { name, attempt, decision } => {
                self.out.push_back(Effect::Uninstall { name, attempt, decision });
            }
            Output::Held { name, attempt } => self.directory.handle_held(name, attempt),
            Output::NotHeld { name, attempt } => self.directory.handle_not_held(&name, attempt),
            Output::Ask { name, attempt, plea } => {
                self.directory.handle_plea(name, attempt, plea, self.last.time);
            }
            Output::Holds { to, name, gate, attempt, whole } => {
                self.directory.handle_holds(to, name, gate, attempt, whole, self.last.time);
            }
        }
    }
}
