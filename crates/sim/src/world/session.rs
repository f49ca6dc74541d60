//! Sessions: what arrives on their connections, how they break and end, writing and acknowledging frames.
//!
//! A session belongs to a pair of incarnations and outlives its connections. It is named by how many sessions
//! with the other each side has given up: when one side gave one up, the other sees another number and ends its
//! own. How it comes about stands in `handshake`.

use std::rc::Rc;

use whimbrel_core::base::{Address, Incarnation};
use whimbrel_core::delivery::{Link, Receipt};
use whimbrel_core::node::{Input, LinkLoss};
use whimbrel_core::view::MemberInfo;

use super::World;
use super::exchange::Frame;
use super::network::Item;
use super::queue::{Event, Home};
use crate::history::{MILLI, Micros};

/// What was received is told at the latest after this.
const ACK_DELAY: Micros = 20 * MILLI;
/// `Heard` is told at most so often.
const HEARD_EVERY: Micros = 100 * MILLI;

/// Why a node dials.
#[derive(Clone, Debug)]
pub(super) enum Dial {
    /// Its core asked for it.
    Asked(Address),
    /// A session lost its connection.
    Again(Incarnation),
}

/// Which side ended a session first: only that one counts it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum GivenUp {
    Here,
    There,
}

/// What an acceptor knows of its session with the dialler.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// Sessions with the dialler that it has given up.
    pub(super) resets: u32,
    /// The session it has.
    pub(super) session: Option<(u32, u32)>,
    /// The last frame of it that it has received.
    pub(super) received: u64,
}

/// A session with one incarnation.
pub(super) struct Session {
    pub(super) link: Link<Rc<Frame>>,
    pub(super) info: Box<MemberInfo>,
    /// Sessions given up by (this side, the other side) when it began.
    pub(super) id: (u32, u32),
    pub(super) conn: Option<(u32, usize)>,
    pub(super) lost_at: Option<Micros>,
    pub(super) tries: u32,
    /// Handshakes in a row whose numbers were outdated when they ended.
    pub(super) outdated: u32,
    pub(super) ack_set: bool,
    /// More is written once the connection has room.
    pub(super) write_set: bool,
    pub(super) heard: Micros,
}

impl World {
    pub(super) fn send_item(&mut self, conn: u32, end: usize, item: Item) {
        self.network.send(self.now, &mut self.queue, conn, end, item);
    }

    /// Closes one end; the other hears of it.
    pub(super) fn close_end(&mut self, conn: u32, end: usize) {
        let Some(open) = self.network.conn(conn) else { return };
        open.ends[end].open = false;
        if open.ends[1 - end].open {
            self.send_item(conn, end, Item::Closed);
        } else {
            self.network.remove(conn);
        }
    }

    /// The next item of a direction arrives.
    pub(super) fn on_arrive(&mut self, conn: u32, direction: usize) {
        let Some(open) = self.network.conn(conn) else { return };
        let (from, to) = (open.ends[direction].home.host, open.ends[1 - direction].home);
        if self.network.is_cut(from, to.host) {
            return self.network.hold(self.now, &mut self.queue, conn, direction);
        }
        let end = 1 - direction;
        if self.machines[usize::from(to.host)].frozen_until.is_some() {
            let event = Event::Arrive { conn, direction: direction as u8 };
            return self.machines[usize::from(to.host)].parked.push(event);
        }
        let Some(item) = self.network.take(conn, direction) else { return };
        if let Item::Hello { info } = item {
            return self.on_hello(conn, to.host, &info);
        }
        let Some(open) = self.network.conn(conn) else { return };
        if !open.ends[end].open {
            if !matches!(item, Item::Closed) {
                self.send_item(conn, end, Item::Closed);
            }
            return;
        }
        let host = to.host;
        match item {
            Item::Hello { .. } => {}
            Item::Accept { info, known } => self.on_accept(conn, host, info, known),
            Item::Established { info, resets, received } => {
                self.attach(conn, end, host, info, resets, received);
            }
            Item::Segment { ack, frames } => self.on_segment(conn, host, end, ack, frames),
            Item::Refused => self.on_refused(conn, host),
            Item::Busy => self.on_dial_failed(conn, host),
            Item::Closed => self.on_closed(conn, end, host),
        }
    }

    /// One end has waited too long for a connection on which nothing moves.
    pub(super) fn on_give_up(&mut self, conn: u32, end: usize) {
        let Some(open) = self.network.conn(conn) else { return };
        let at = open.ends[end];
        if !at.open || at.peer.is_none() || !self.network.still_stalled(conn) {
            return;
        }
        self.stats.mark("connection_given_up");
        self.close_end(conn, end);
        self.connection_lost(at.home.host, conn, at.peer);
    }

    pub(super) fn on_closed(&mut self, conn: u32, end: usize, host: u16) {
        let Some(open) = self.network.conn(conn) else { return };
        open.ends[end].open = false;
        let peer = open.ends[end].peer;
        let over = !open.ends[1 - end].open;
        if over {
            self.network.remove(conn);
        }
        if peer.is_none() && end == 0 {
            return self.on_dial_failed(conn, host);
        }
        self.connection_lost(host, conn, peer);
    }

    fn connection_lost(&mut self, host: u16, conn: u32, peer: Option<Incarnation>) {
        let now = self.now;
        let Some(peer) = peer else { return };
        let Some(session) = self.shell(host).and_then(|shell| shell.sessions.get_mut(&peer)) else { return };
        if session.conn.is_none_or(|(current, _)| current != conn) {
            return;
        }
        session.conn = None;
        session.lost_at = Some(now);
        session.link.on_disconnected();
        if self.is_succeeded(host, peer) {
            return self.session_over(host, peer, LinkLoss::Replaced);
        }
        // Both sides dial; mostly one is a little earlier, seldom they meet.
        let wait = if self.rng.below(4) == 0 { 0 } else { self.rng.below(20 * MILLI) };
        let home = self.home(host);
        self.queue.at(now + wait, Event::Redial(home, peer));
    }

    /// Whether a younger life of this peer's node is connected: without a connection of its own this one is over.
    fn is_succeeded(&mut self, host: u16, peer: Incarnation) -> bool {
        let Some(shell) = self.shell(host) else { return false };
        let Some(name) = shell.sessions.get(&peer).map(|session| session.info.name.clone()) else {
            return false;
        };
        let younger = |other: &Session| {
            other.info.name == name && other.info.incarnation > peer && other.conn.is_some()
        };
        shell.sessions.values().any(younger)
    }

    /// The core ends a session.
    pub(super) fn end_session(&mut self, host: u16, peer: Incarnation) {
        self.forget_session(host, peer, LinkLoss::Unreachable, GivenUp::Here);
    }

    pub(super) fn forget_session_if(&mut self, condition: bool, host: u16, peer: Incarnation) -> bool {
        condition && self.forget_session(host, peer, LinkLoss::Unreachable, GivenUp::There)
    }

    pub(super) fn session_over(&mut self, host: u16, peer: Incarnation, loss: LinkLoss) {
        if self.forget_session(host, peer, loss, GivenUp::Here) {
            self.stats.mark(match loss {
                LinkLoss::Refused => "session_refused",
                LinkLoss::Replaced => "session_replaced",
                LinkLoss::Unreachable => "session_unreachable",
            });
        }
    }

    /// Drops a session, tells the core, and gives back what was never written.
    fn forget_session(&mut self, host: u16, peer: Incarnation, loss: LinkLoss, given_up: GivenUp) -> bool {
        let Some(shell) = self.shell(host) else { return false };
        let Some(session) = shell.sessions.remove(&peer) else { return false };
        if given_up == GivenUp::Here {
            *shell.resets.entry(peer).or_insert(0) += 1;
        }
        if let Some((conn, end)) = session.conn {
            self.close_end(conn, end);
        }
        self.give_back(host, peer, session);
        self.input(host, Input::SessionDown { peer, loss });
        true
    }

    fn give_back(&mut self, host: u16, peer: Incarnation, session: Session) {
        for (_, frame) in session.link.into_unsent() {
            if let Frame::Message { name, packet } = &*frame {
                let (epoch, seq) = (packet.epoch, packet.seq);
                self.stats.mark("frame_never_written");
                self.with_port(host, *name, |port, here, out| port.on_unsent(here, peer, epoch, seq, out));
            }
        }
        self.peer_lost(host, peer);
    }

    /// The node goes on under another incarnation: nothing of the old one stays.
    pub(super) fn drop_all_sessions(&mut self, host: u16) {
        let Some(shell) = self.shell(host) else { return };
        shell.dials.clear();
        shell.dirty.clear();
        shell.resets.clear();
        shell.seen_resets.clear();
        let sessions = std::mem::take(&mut shell.sessions);
        for (conn, end) in self.network.of_machine(host) {
            self.close_end(conn, end);
        }
        for (peer, session) in sessions {
            self.give_back(host, peer, session);
        }
    }

    fn on_segment(&mut self, conn: u32, host: u16, end: usize, ack: u64, frames: Vec<(u64, Rc<Frame>)>) {
        let (now, full) = (self.now, self.plan.link_limits.unacknowledged);
        let Some(peer) = self.network.conn(conn).and_then(|open| open.ends[end].peer) else { return };
        let Some(shell) = self.shell(host) else { return };
        let Some(session) = shell.sessions.get_mut(&peer) else { return };
        let was_full = session.link.unacknowledged() >= full;
        let has_room = session.link.on_ack(ack) > 0;
        let tell_heard = now >= session.heard + HEARD_EVERY;
        if tell_heard {
            session.heard = now;
        }
        // What waited for an acknowledgement is written now.
        if was_full && has_room && !shell.dirty.contains(&peer) {
            shell.dirty.push(peer);
        }
        for (seq, frame) in frames {
            // A frame before this one may have ended the session.
            let current = |shell: &mut super::shell::Shell| {
                let session = shell.sessions.get_mut(&peer)?;
                (session.conn == Some((conn, end))).then(|| session.link.on_frame(seq))
            };
            match self.shell(host).and_then(current) {
                Some(Receipt::Fresh) => {
                    let frame = Rc::try_unwrap(frame).unwrap_or_else(|kept| (*kept).clone());
                    self.on_frame(host, peer, frame);
                }
                Some(Receipt::Duplicate) => self.stats.mark("frame_duplicate"),
                Some(Receipt::Gap) => {
                    self.history.oddities.push(format!("frame {seq} of {peer} leaves a gap on its link"));
                    return;
                }
                None => return,
            }
        }
        if tell_heard {
            self.input(host, Input::Heard(peer));
        }
        self.owe_ack(host, peer);
    }

    fn owe_ack(&mut self, host: u16, peer: Incarnation) {
        let home = self.home(host);
        let now = self.now;
        let Some(shell) = self.shell(host) else { return };
        let Some(session) = shell.sessions.get_mut(&peer) else { return };
        if let Some(received) = session.link.ack_due()
            && let Some((conn, end)) = session.conn
        {
            return self.send_item(conn, end, Item::Segment { ack: received, frames: Vec::new() });
        }
        if !session.ack_set {
            session.ack_set = true;
            self.queue.at(now + ACK_DELAY, Event::Ack(home, peer));
        }
    }

    /// What was received and not told yet is told now.
    pub(super) fn on_ack_timer(&mut self, host: u16, peer: Incarnation) {
        let Some(session) = self.shell(host).and_then(|shell| shell.sessions.get_mut(&peer)) else { return };
        session.ack_set = false;
        let Some((conn, end)) = session.conn else { return };
        if let Some(received) = session.link.ack_now() {
            self.send_item(conn, end, Item::Segment { ack: received, frames: Vec::new() });
        }
    }

    /// Writes everything that was queued on the links of a node since the last time.
    pub(super) fn flush(&mut self, host: u16) {
        let Some(shell) = self.shell(host) else { return };
        if shell.dirty.is_empty() {
            return;
        }
        for peer in std::mem::take(&mut shell.dirty) {
            let Some(session) = self.shell(host).and_then(|shell| shell.sessions.get_mut(&peer)) else {
                continue;
            };
            let Some((conn, end)) = session.conn else { continue };
            self.write(host, peer, conn, end);
        }
    }

    /// Writes as much as the connection has room for.
    fn write(&mut self, host: u16, peer: Incarnation, conn: u32, end: usize) {
        let (now, home) = (self.now, self.home(host));
        let room = self.network.room(now, conn, end);
        let Some(session) = self.shell(host).and_then(|shell| shell.sessions.get_mut(&peer)) else { return };
        let mut frames = Vec::new();
        while frames.len() < room
            && let Some((seq, frame)) = session.link.next()
        {
            frames.push((seq, Rc::clone(frame)));
        }
        let again = frames.len() == room && !std::mem::replace(&mut session.write_set, true);
        if !frames.is_empty() {
            let ack = session.link.ack_now().unwrap_or_else(|| session.link.received());
            let count = session.link.unacknowledged();
            self.send_item(conn, end, Item::Segment { ack, frames });
            self.gauge_written(host, count);
        }
        if again {
            let free = self.network.free_at(conn, end).max(now) + 1;
            self.queue.at(free, Event::Write(home, peer));
        }
    }

    /// A connection has room again.
    pub(super) fn on_write_again(&mut self, host: u16, peer: Incarnation) {
        let Some(shell) = self.shell(host) else { return };
        let Some(session) = shell.sessions.get_mut(&peer) else { return };
        session.write_set = false;
        if !shell.dirty.contains(&peer) {
            shell.dirty.push(peer);
        }
    }

    /// The process of a machine is gone: its ends close, unless the machine itself is silent.
    pub(super) fn close_all(&mut self, home: Home, silent: bool) {
        for (conn, end) in self.network.of_machine(home.host) {
            if silent {
                if let Some(open) = self.network.conn(conn) {
                    open.ends[end].open = false;
                }
            } else {
                self.close_end(conn, end);
            }
        }
    }
}
