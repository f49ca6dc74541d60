//! The entry of a name, as the models use it: a port under the lock, and the process that waits for it.
//!
//! What `exchange/entry.rs` and `process/run.rs` of the library do with links, calls and clocks is left out; what
//! they do with the lock is the same.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use loom::sync::atomic::{AtomicU64, Ordering};
use whimbrel_core::base::{ErrorCode, Incarnation, Mutants, Time, Token};
use whimbrel_core::delivery::{
    Epochs, Expires, Here, Inbox, MailboxLimits, Packet, Port, PortOutput, Room, Sent,
};

use crate::locked::Locked;

pub(crate) const GATE: Token = Token::from_u64(1);
/// The node that this is.
pub(crate) const HERE: Incarnation = Incarnation { started_ms: 1, nonce: 1 };
/// Another node.
pub(crate) const THERE: Incarnation = Incarnation { started_ms: 2, nonce: 2 };

/// A message: the `number`th of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) sender: u64,
    pub(crate) number: u64,
}

impl Expires for Note {
    fn bytes(&self) -> usize {
        size_of::<Self>()
    }

    fn deadline(&self) -> Option<Time> {
        None
    }

    fn void(&self) -> Self {
        *self
    }
}

/// What the process finds to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Message(Note),
    Stop,
}

/// A bug to plant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Planted {
    No,
    /// The waker is left under another hold of the lock than the one that found nothing.
    WakerLeftLate,
    /// Orders are looked for before the mailbox only.
    OrderLookedForOnce,
    /// A change is made, and nobody woken.
    Silent,
}

/// The entry of one name, whose process runs here.
pub(crate) struct Entry {
    state: Locked<Port<Note>>,
    /// Rises with every order, as the version of an instance does.
    version: AtomicU64,
    epochs: Epochs,
    planted: Planted,
}

impl Entry {
    /// A process that runs here, with room for so many messages.
    pub(crate) fn with_room_for(limit: usize, planted: Planted) -> Arc<Self> {
        let entry = Self {
            state: Locked::new(Port::new(Mutants::default())),
            version: AtomicU64::new(0),
            epochs: Epochs::new(),
            planted,
        };
        let ended = entry.input(|port, here, out| {
            port.install(here, Inbox::new(GATE, MailboxLimits::of_messages(limit), Mutants::default()), out);
        });
        assert!(ended.is_empty());
        Arc::new(entry)
    }

    /// As `Entry::send` of the library.
    pub(crate) fn send(&self, note: Note) -> Result<(), ErrorCode> {
        let mut state = self.state.lock();
        match state.send(note, Time::ZERO) {
            Sent::Queued if self.planted == Planted::Silent => Ok(()),
            Sent::Queued => {
                state.wake();
                Ok(())
            }
            Sent::Held { .. } => Ok(()),
            Sent::Refused { code, .. } => Err(code),
            Sent::Transmit { .. } => panic!("nobody has told of another host"),
        }
    }

    /// A packet of a link, from its reader.
    pub(crate) fn receive(&self, note: Note) {
        let packet = Packet { gate: GATE, epoch: 1, seq: note.number, message: note };
        self.input(|port, here, out| port.on_packet(here, THERE, packet, out));
    }

    /// As `Entry::with_port` of the library; returns what ended.
    pub(crate) fn input(
        &self,
        input: impl FnOnce(&mut Port<Note>, &Here<'_>, &mut PortOutput<Note>),
    ) -> Vec<Note> {
        let mut out = PortOutput::default();
        let here = Here { me: HERE, now: Time::ZERO, epochs: &self.epochs, room: Room::Some };
        let mut state = self.state.lock();
        input(&mut state, &here, &mut out);
        let waker = if out.wake { state.take_waker() } else { None };
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        out.ended.into_iter().map(|ended| ended.message).collect()
    }

    /// As `Entry::pop` of the library.
    fn pop(&self, waker: &Waker) -> Option<Note> {
        let mut out = PortOutput::default();
        let mut state = self.state.lock();
        let note = if self.planted == Planted::WakerLeftLate {
            let note = state.pop(|| Time::ZERO);
            drop(state);
            state = self.state.lock();
            state.find_or_wait(waker, |_| note)
        } else {
            state.find_or_wait(waker, |port| port.pop(|| Time::ZERO))
        };
        state.refill(&mut out);
        if out.wake {
            state.wake();
        }
        note
    }

    /// The process has crashed: as `forget_instance` of the library.
    pub(crate) fn crash(&self) {
        let mut state = self.state.lock();
        let _nobody_waits = state.take_waker();
        state.inbox_mut().unwrap().suspend();
    }

    /// It runs again in the same place.
    pub(crate) fn restart(&self) {
        self.input(|port, _, _| port.inbox_mut().unwrap().restart(Token::from_u64(2)));
    }

    /// Tells the process to stop.
    pub(crate) fn order_stop(&self) {
        self.version.fetch_add(1, Ordering::Release);
        self.state.wake();
    }

    /// As `poll_next` of `process/run.rs`.
    fn poll_next(&self, task: &mut Context<'_>) -> Poll<Next> {
        loop {
            let version = self.version.load(Ordering::Acquire);
            if version != 0 {
                return Poll::Ready(Next::Stop);
            }
            if let Some(note) = self.pop(task.waker()) {
                return Poll::Ready(Next::Message(note));
            }
            if self.planted == Planted::OrderLookedForOnce || self.version.load(Ordering::Acquire) == version
            {
                return Poll::Pending;
            }
        }
    }

    /// A process of two names, as `Sources` of `process/run.rs`: handles this many messages.
    pub(crate) async fn handle_both(names: [&Self; 2], most: usize) -> Vec<Note> {
        let (mut handled, mut next) = (Vec::new(), 0);
        while handled.len() < most {
            let found = poll_fn(|task| {
                for _ in 0..names.len() {
                    let at = next % names.len();
                    next = at + 1;
                    if let Some(note) = names[at].pop(task.waker()) {
                        return Poll::Ready(note);
                    }
                }
                Poll::Pending
            });
            handled.push(found.await);
        }
        handled
    }

    /// The process: handles this many messages, or all that come until it is told to stop.
    pub(crate) async fn handle(&self, most: usize) -> Vec<Note> {
        let mut handled = Vec::new();
        while handled.len() < most {
            match poll_fn(|task| self.poll_next(task)).await {
                Next::Message(note) => handled.push(note),
                Next::Stop => break,
            }
        }
        handled
    }
}
