//! The one event heap: by time, then by the order of scheduling.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use whimbrel_core::base::{Incarnation, Token};

use crate::history::Micros;

/// A life of a machine: events of an earlier one find nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Home {
    pub(crate) host: u16,
    pub(crate) generation: u32,
}

/// Something that happens at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// A node's deadline.
    Node(Home),
    /// A port's deadline.
    Port(Home, u32),
    /// These sources of a node's discovery have answered.
    Found(Home, u8),
    /// The deadline of a pending call.
    Calls(Home),
    /// A link has told nothing of what it received for a while.
    Ack(Home, Incarnation),
    /// A broken session is dialled again.
    Redial(Home, Incarnation),
    /// A connection has room for more frames.
    Write(Home, Incarnation),
    /// `init` of a life returns.
    InitDone(Home, u32),
    /// A handler of a life returns.
    HandlerDone(Home, u32),
    /// A life that was told to end has ended.
    Terminated(Home, u32),
    /// A process on its way in was made.
    Made(Home, u32, Token),
    /// The next item of one direction of a connection arrives.
    Arrive { conn: u32, direction: u8 },
    /// One end gives up a connection on which nothing moves.
    GiveUp { conn: u32, end: u8 },
    /// A dial that got no answer.
    DialTimeout { conn: u32 },
    /// A machine starts a node.
    Boot { host: u16 },
    /// A frozen machine goes on.
    Thaw { host: u16 },
    /// A leaver's process ends.
    Gone(Home),
    /// A node that was drained leaves.
    LeaveDrained(Home),
    /// The turn of a node in a rolling restart.
    Drain { host: u16 },
    /// A cut ends.
    Mend { cut: u32 },
    /// The next client operation.
    Work,
    /// The next fault.
    Fault,
    /// The next step of a storm.
    Storm(u32),
    /// An owner dies just after it has answered.
    Ambush(Home),
    /// A fault befalls a node that takes part in a handoff.
    Trap { home: Home, peer: u16, name: u32 },
    /// The fault phase is over.
    Heal,
    /// Looks whether all nodes have one view.
    Watch,
    /// A probe of the liveness phase.
    Probe { name: u32, host: u16 },
    /// A node reads a group in the liveness phase, or behind the last one all of them.
    LastReading { host: u16, group: u32 },
    /// A record of the liveness phase is looked at.
    Inspect { name: u32, host: u16 },
    /// A line of a scenario.
    Script(u32),
}

/// The heap.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Reverse<(Micros, u64, Event)>>,
    scheduled: u64,
}

impl Queue {
    /// Schedules an event; those of one time happen in the order of scheduling.
    pub(crate) fn at(&mut self, time: Micros, event: Event) {
        self.scheduled += 1;
        self.heap.push(Reverse((time, self.scheduled, event)));
    }

    /// The next event.
    pub(crate) fn pop(&mut self) -> Option<(Micros, Event)> {
        self.heap.pop().map(|Reverse((time, _, event))| (time, event))
    }
}
