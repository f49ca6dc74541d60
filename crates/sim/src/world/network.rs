//! The network: connections that keep their order, delays, cuts, and ends that close.
//!
//! Each direction of a [`Conn`] is a queue: items arrive in order, each with its own delay. Connections have no
//! order among each other. A cut does not lose what is under way: it *stalls* (as TCP would go on sending), until
//! the cut is mended, or one end gives up. What is in flight when an end closes is lost with the connection; the
//! link above sends it again.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use whimbrel_core::base::{Incarnation, Rng};
use whimbrel_core::view::MemberInfo;

use super::exchange::Frame;
use super::queue::{Event, Home, Queue};
use super::session::Known;
use crate::history::{MILLI, Micros, SECOND};
use crate::plan::Plan;

/// Frames are written ahead of the connection by at most this: what is in the socket can not be overtaken.
const WRITE_AHEAD: Micros = 5 * MILLI;

/// What travels on a connection.
#[derive(Debug)]
pub(crate) enum Item {
    /// The dialler's first word.
    Hello { info: Box<MemberInfo> },
    /// The answer.
    Accept { info: Box<MemberInfo>, known: Known },
    /// The dialler's last word before frames; `resets`: sessions with this peer that it has given up.
    Established { info: Box<MemberInfo>, resets: u32, received: u64 },
    /// Nobody listens.
    Refused,
    /// A better connection of the same pair exists.
    Busy,
    /// Frames that were written at once, with what the sender had received.
    Segment { ack: u64, frames: Vec<(u64, Rc<Frame>)> },
    /// The other end is closed.
    Closed,
}

/// One end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) home: Home,
    /// The incarnation under which it was opened.
    pub(crate) me: Option<Incarnation>,
    /// The session it carries, once the handshake is over.
    pub(crate) peer: Option<Incarnation>,
    pub(crate) open: bool,
    /// How many given-up sessions it told the other end of.
    pub(crate) told: u32,
}

#[derive(Debug, Default)]
struct Direction {
    items: VecDeque<Item>,
    /// Arrival time of the last item.
    last: Micros,
    /// Items that wait for a cut to end.
    stalled: u32,
    /// When all frames written so far are on their way.
    free: Micros,
}

/// A connection: end 0 dialled, end 1 accepted; direction 0 leads from end 0 to end 1.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) ends: [End; 2],
    directions: [Direction; 2],
    give_up_set: bool,
}

/// Delay of one path that a scenario has set, or items that it holds back.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Path {
    cuts: u32,
    /// Added to every delay.
    pub(crate) extra: Micros,
}

/// All connections and the state of all paths.
#[derive(Debug)]
pub(crate) struct Network {
    conns: BTreeMap<u32, Conn>,
    next: u32,
    paths: Vec<Path>,
    machines: usize,
    pub(crate) rng: Rng,
    delay: (Micros, Micros),
    tail_permille: u64,
    tail_max: Micros,
    /// What a connection needs to carry one frame; 0 for no time at all.
    pub(crate) frame_time: Micros,
}

impl Network {
    pub(crate) fn new(machines: usize, plan: &Plan, rng: Rng) -> Self {
        Self {
            conns: BTreeMap::new(),
            next: 0,
            paths: vec![Path::default(); machines * machines],
            machines,
            rng,
            delay: plan.delay,
            tail_permille: plan.tail_permille,
            tail_max: plan.tail_max,
            frame_time: plan.frame_time,
        }
    }

    pub(crate) fn path(&mut self, from: u16, to: u16) -> &mut Path {
        &mut self.paths[usize::from(from) * self.machines + usize::from(to)]
    }

    /// Whether nothing gets from one machine to the other.
    pub(crate) fn is_cut(&self, from: u16, to: u16) -> bool {
        self.paths[usize::from(from) * self.machines + usize::from(to)].cuts > 0
    }

    /// Cuts one direction once more.
    pub(crate) fn cut(&mut self, from: u16, to: u16) {
        self.path(from, to).cuts += 1;
    }

    /// Takes one cut of a direction away.
    pub(crate) fn uncut(&mut self, from: u16, to: u16) {
        let path = self.path(from, to);
        path.cuts = path.cuts.saturating_sub(1);
    }

    fn draw_delay(&mut self) -> Micros {
        let (low, high) = self.delay;
        if self.tail_permille > 0 && self.rng.below(1000) < self.tail_permille {
            return low + self.rng.below(self.tail_max.max(1));
        }
        low + self.rng.below(high - low + 1)
    }

    /// Opens a connection and puts the dialler's first word on it.
    pub(crate) fn open(&mut self, now: Micros, queue: &mut Queue, from: End, to: u16, hello: Item) -> u32 {
        self.next += 1;
        let id = self.next;
        let to = End { home: Home { host: to, generation: 0 }, me: None, peer: None, open: false, told: 0 };
        let directions = [Direction::default(), Direction::default()];
        self.conns.insert(id, Conn { ends: [from, to], directions, give_up_set: false });
        self.send(now, queue, id, 0, hello);
        id
    }

    pub(crate) fn conn(&mut self, id: u32) -> Option<&mut Conn> {
        self.conns.get_mut(&id)
    }

    pub(crate) fn remove(&mut self, id: u32) {
        self.conns.remove(&id);
    }

    /// Connections with an open end on this machine: (connection, end).
    pub(crate) fn of_machine(&self, host: u16) -> Vec<(u32, usize)> {
        let ends = self.conns.iter().flat_map(|(id, conn)| [(*id, 0, conn.ends[0]), (*id, 1, conn.ends[1])]);
        ends.filter(|(_, _, end)| end.open && end.home.host == host).map(|(id, end, _)| (id, end)).collect()
    }

    /// Connections between two machines on which frames may flow.
    pub(crate) fn between(&self, a: u16, b: u16) -> Vec<u32> {
        let joins = |conn: &Conn| {
            let (x, y) = (conn.ends[0].home.host, conn.ends[1].home.host);
            (x, y) == (a, b) || (x, y) == (b, a)
        };
        self.conns.iter().filter(|(_, conn)| joins(conn)).map(|(id, _)| *id).collect()
    }

    /// Puts an item on one direction.
    pub(crate) fn send(&mut self, now: Micros, queue: &mut Queue, id: u32, direction: usize, item: Item) {
        let Some(conn) = self.conns.get(&id) else { return };
        let (from, to) = (conn.ends[direction].home.host, conn.ends[1 - direction].home.host);
        let blocked = self.is_cut(from, to);
        let extra = self.path(from, to).extra;
        let delay = self.draw_delay() + extra;
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let way = &mut conn.directions[direction];
        let frames = if let Item::Segment { frames, .. } = &item { frames.len() } else { 0 };
        way.free = way.free.max(now) + frames as Micros * self.frame_time;
        let now = if frames > 0 { way.free } else { now };
        way.items.push_back(item);
        if blocked || way.stalled > 0 {
            way.stalled += 1;
            self.stall(now, queue, id);
        } else {
            way.last = way.last.max(now + delay);
            queue.at(way.last, Event::Arrive { conn: id, direction: direction as u8 });
        }
    }

    /// How many frames may be written now: all, unless frames take time; then what is sent within a moment.
    pub(crate) fn room(&self, now: Micros, id: u32, direction: usize) -> usize {
        if self.frame_time == 0 {
            return usize::MAX;
        }
        let ahead =
            (now + WRITE_AHEAD.max(self.frame_time)).saturating_sub(self.free_at(id, direction).max(now));
        (ahead / self.frame_time) as usize
    }

    /// When all frames written so far are on their way.
    pub(crate) fn free_at(&self, id: u32, direction: usize) -> Micros {
        self.conns.get(&id).map_or(0, |conn| conn.directions[direction].free)
    }

    /// Notes that the next item can not arrive now.
    pub(crate) fn hold(&mut self, now: Micros, queue: &mut Queue, id: u32, direction: usize) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.directions[direction].stalled += 1;
            self.stall(now, queue, id);
        }
    }

    /// Both ends will give up some time, each on its own.
    fn stall(&mut self, now: Micros, queue: &mut Queue, id: u32) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if !conn.give_up_set {
            conn.give_up_set = true;
            for end in 0..2 {
                let patience = SECOND + self.rng.below(5 * SECOND);
                queue.at(now + patience, Event::GiveUp { conn: id, end });
            }
        }
    }

    /// Whether an end that lost patience still has reason to.
    pub(crate) fn still_stalled(&mut self, id: u32) -> bool {
        self.conns.get_mut(&id).is_some_and(|conn| {
            let stalled = conn.directions.iter().any(|way| way.stalled > 0);
            conn.give_up_set &= stalled;
            stalled
        })
    }

    /// Takes the next item of a direction: `None` when the connection is gone.
    pub(crate) fn take(&mut self, id: u32, direction: usize) -> Option<Item> {
        self.conns.get_mut(&id)?.directions[direction].items.pop_front()
    }

    /// Lets everything go on that waited on a path that is open again.
    pub(crate) fn flow_again(&mut self, now: Micros, queue: &mut Queue, from: u16, to: u16) {
        if self.is_cut(from, to) {
            return;
        }
        let delay = self.rng.below(500 * MILLI);
        for (id, conn) in &mut self.conns {
            for direction in 0..2 {
                let hosts = (conn.ends[direction].home.host, conn.ends[1 - direction].home.host);
                let way = &mut conn.directions[direction];
                if hosts == (from, to) && way.stalled > 0 {
                    for _ in 0..std::mem::take(&mut way.stalled) {
                        way.last = way.last.max(now + delay);
                        queue.at(way.last, Event::Arrive { conn: *id, direction: direction as u8 });
                    }
                }
            }
        }
    }

    /// Loses everything that is under way on a connection.
    pub(crate) fn lose_in_flight(&mut self, id: u32) {
        if let Some(conn) = self.conns.get_mut(&id) {
            for way in &mut conn.directions {
                way.items.clear();
                way.stalled = 0;
            }
        }
    }
}
