//! What the tests of delivery share, and the runs of whole worlds.
#![allow(clippy::unwrap_used)]

mod links;
mod world;

use std::sync::Arc;

use super::packet::{Ended, Epochs, Errand, Expires, Here, PortOutput, Room};
use crate::base::{ErrorCode, Executed, Incarnation, Name, Time, Token};
use crate::view::{MemberInfo, View, ViewId};

/// A message of the tests: who sent it, which one it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) id: u64,
    pub(crate) deadline: Option<Time>,
    pub(crate) bytes: usize,
    pub(crate) errand: Errand,
}

impl Expires for Note {
    fn deadline(&self) -> Option<Time> {
        self.deadline
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn errand(&self) -> Errand {
        self.errand
    }

    fn void(&self) -> Self {
        Self { bytes: 0, errand: Errand::Void, ..self.clone() }
    }
}

pub(crate) fn note(id: u64) -> Note {
    Note { id, deadline: None, bytes: 1, errand: Errand::Deliver }
}

pub(crate) fn incarnation(nonce: u64) -> Incarnation {
    Incarnation { started_ms: nonce, nonce: nonce << 32 }
}

pub(crate) fn token(number: u64) -> Token {
    Token::from_u64(number)
}

pub(crate) fn view(counter: u64, members: &[u64]) -> View {
    let member = |nonce: &u64| MemberInfo {
        name: Name::new(format!("n{nonce}").as_str()).unwrap(),
        incarnation: incarnation(*nonce),
        address: Arc::from("h:1"),
        weight: 100,
        kinds: Vec::new(),
        draining: false,
        labels: Default::default(),
    };
    View { id: ViewId { counter, author: 1 }, parent: None, members: members.iter().map(member).collect() }
}

pub(crate) fn at_ms(ms: u64) -> Time {
    Time::from_micros(ms * 1000)
}

/// Node 1 at a time in milliseconds.
pub(crate) fn here(epochs: &Epochs, ms: u64) -> Here<'_> {
    Here { me: incarnation(1), now: at_ms(ms), epochs, room: Room::Some }
}

/// An output as short text, which is then cleared.
pub(crate) fn told(out: &mut PortOutput<Note>) -> String {
    let mut words = Vec::new();
    for (to, packet) in &out.transmit {
        words
            .push(format!("send {} {}.{} to {}", packet.message.id, packet.epoch, packet.seq, to.started_ms));
    }
    for Ended { message, code, executed } in &out.ended {
        words.push(format!(
            "end {} {code} {}",
            message.id,
            if *executed == Executed::No { "no" } else { "unknown" }
        ));
    }
    for (to, signal) in &out.signals {
        words.push(format!("{signal:?} to {}", to.started_ms));
    }
    words.extend(out.locate.then(|| "locate".to_owned()));
    words.extend(out.wake.then(|| "wake".to_owned()));
    out.clear();
    words.join("; ")
}

pub(crate) const STOPPED: ErrorCode = ErrorCode::Stopped;
