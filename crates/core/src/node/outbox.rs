//! What is to be said about slots and names to other members, until the turn is over: to each in one control message.
//!
//! To one member everything goes in the order in which it was said, and in the view in which it was said: whoever
//! installs a view, or says something to a member about views, empties the outbox first. It can not grow with the turn:
//! what reaches the limits of a message goes at once.

use std::collections::BTreeMap;

use crate::base::Incarnation;
use crate::base::limits::{FILL_BYTES_MAX, TURN_MESSAGES_MAX};
use crate::directory::Message;
use crate::wire::{Body, Turn};

/// To one member.
#[derive(Debug, Default)]
struct Said {
    messages: Vec<Message>,
    bytes: usize,
}

impl Said {
    fn take(&mut self) -> Option<Body> {
        self.bytes = 0;
        let mut messages = std::mem::take(&mut self.messages);
        match messages.len() {
            0 | 1 => messages.pop().map(Body::Directory),
            _ => Some(Body::Turn(Turn::new(messages))),
        }
    }
}

/// To all members.
#[derive(Debug, Default)]
pub(super) struct Outbox(BTreeMap<Incarnation, Said>);

impl Outbox {
    /// Says something. What comes back is to be sent now, in this order.
    pub(super) fn push(&mut self, to: Incarnation, message: Message) -> [Option<Body>; 2] {
        let said = self.0.entry(to).or_default();
        let Some(bytes) = message.bytes_in_turn() else {
            return [said.take(), Some(Body::Directory(message))];
        };
        let is_full = said.bytes + bytes > FILL_BYTES_MAX || said.messages.len() == TURN_MESSAGES_MAX;
        let before = if is_full { said.take() } else { None };
        said.bytes += bytes;
        said.messages.push(message);
        [before, None]
    }

    /// What was said to this member.
    pub(super) fn take(&mut self, to: Incarnation) -> Option<Body> {
        self.0.remove(&to)?.take()
    }

    /// What was said to anybody.
    pub(super) fn pop(&mut self) -> Option<(Incarnation, Body)> {
        loop {
            let (to, mut said) = self.0.pop_first()?;
            if let Some(body) = said.take() {
                return Some((to, body));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::base::bytes::encoded_bytes;
    use crate::base::limits::{ARGS_BYTES_MAX, FRAME_BYTES_MAX};
    use crate::base::{Bytes, ExitReason, Name, RequestId, SlotId, Token};
    use crate::directory::{Ask, News, Placement, RestartPolicy};

    const TO: Incarnation = Incarnation { started_ms: 1, nonce: 2 };

    fn named(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn report(number: usize) -> Message {
        let news = News::Exited(ExitReason::Error("x".repeat(1_024)));
        Message::Report { name: named(&format!("{number:0>255}")), token: Token::from_u64(u64::MAX), news }
    }

    fn start(number: usize) -> Message {
        let ask = Ask::Start {
            kind: named(&"k".repeat(255)),
            args: Bytes::from(vec![7; ARGS_BYTES_MAX]),
            policy: RestartPolicy::default(),
            placement: Placement::Pinned(named(&"n".repeat(255))),
        };
        let request = RequestId { caller: TO, number: number as u64 };
        Message::Request { request, name: named(&format!("{number:0>255}")), ask }
    }

    fn messages(body: Body) -> Vec<Message> {
        match body {
            Body::Directory(message) => vec![message],
            Body::Turn(turn) => turn.into_messages(),
            Body::Membership(_) | Body::Handoff(_) | Body::Groups(_) => Vec::new(),
        }
    }

    #[test]
    fn everything_is_said_in_order_and_in_messages_that_fit_a_frame() {
        for (make, count) in [(report as fn(usize) -> Message, 1_000), (start, 40)] {
            let mut outbox = Outbox::default();
            let mut bodies: Vec<Body> =
                (0..count).flat_map(|number| outbox.push(TO, make(number))).flatten().collect();
            bodies.extend(outbox.take(TO));
            assert!(bodies.len() > 3 && bodies.len() < count / 2, "{}", bodies.len());
            assert!(bodies.iter().all(|body| encoded_bytes(body) < FRAME_BYTES_MAX / 2));
            let said: Vec<Message> = bodies.into_iter().flat_map(messages).collect();
            assert_eq!(said, (0..count).map(make).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_is_large_goes_alone_and_behind_what_was_said_before() {
        let mut outbox = Outbox::default();
        let large = Message::Load(vec![SlotId(1)]);
        assert_eq!(outbox.push(TO, report(1)), [None, None]);
        let sent = [Some(Body::Directory(report(1))), Some(Body::Directory(large.clone()))];
        assert_eq!(outbox.push(TO, large), sent);
        assert_eq!((outbox.take(TO), outbox.pop()), (None, None));
    }
}
