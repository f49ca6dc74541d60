//! Sessions: dialling, the handshake, resuming after a broken connection, writing and acknowledging frames.
//!
//! A session belongs to a pair of incarnations and outlives its connections. It is named by how many sessions
//! with the other each side has given up: when one side gave one up, the other sees another number and ends its
//! own. Of two connections of a pair the one dialled by the smaller incarnation stays, of two dialled by the same
//! side the younger.

use std::rc::Rc;

use whimbrel_core::base::{Address, Incarnation};
use whimbrel_core::delivery::{Link, Receipt};
use whimbrel_core::node::{Input, LinkLoss};
use whimbrel_core::view::MemberInfo;

use super::World;
use super::exchange::Frame;
use super::network::{End, Item};
use super::queue::{Event, Home};
use crate::history::{MILLI, Micros, SECOND};

/// A dial without an answer ends after this.
const DIAL_TIMEOUT: Micros = 1_500 * MILLI;
/// A broken session is dialled for this long.
const UNREACHABLE_AFTER: Micros = 10 * SECOND;
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
    resets: u32,
    /// The session it has.
    session: Option<(u32, u32)>,
    /// The last frame of it that it has received.
    received: u64,
}

/// A session with one incarnation.
pub(super) struct Session {
    pub(super) link: Link<Rc<Frame>>,
    info: Box<MemberInfo>,
    /// Sessions given up by (this side, the other side) when it began.
    id: (u32, u32),
    conn: Option<(u32, usize)>,
    lost_at: Option<Micros>,
    tries: u32,
    /// Handshakes in a row whose numbers were outdated when they ended.
    outdated: u32,
    ack_set: bool,
    heard: Micros,
}

impl World {
    /// The core wants an address tried.
    pub(super) fn connect(&mut self, host: u16, address: &Address) {
        let Some(to) = self.machine_at(address) else { return };
        let Some(shell) = self.shell(host) else { return };
        if shell.sessions.values().any(|session| session.info.address == *address && session.conn.is_some()) {
            return;
        }
        let waiting = |dial: &Dial| matches!(dial, Dial::Asked(asked) if asked == address);
        if !shell.dials.values().any(waiting) {
            self.dial(host, to, Dial::Asked(address.clone()));
        }
    }

    fn dial(&mut self, host: u16, to: u16, why: Dial) {
        let home = self.home(host);
        let now = self.now;
        let Some(shell) = self.shell(host) else { return };
        let from = End { home, me: Some(shell.me()), peer: None, open: true, told: 0 };
        let hello = Item::Hello { info: Box::new(shell.info.clone()) };
        let conn = self.network.open(now, &mut self.queue, from, to, hello);
        if let Some(shell) = self.shell(host) {
            shell.dials.insert(conn, why);
        }
        self.queue.at(now + DIAL_TIMEOUT, Event::DialTimeout { conn });
    }

    fn send_item(&mut self, conn: u32, end: usize, item: Item) {
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

    fn on_hello(&mut self, conn: u32, host: u16, info: &MemberInfo) {
        let home = self.home(host);
        let Some(open) = self.network.conn(conn) else { return };
        open.ends[1].home = home;
        let caller = info.incarnation;
        let Some(shell) = self.machines[usize::from(host)].shell.as_deref_mut() else {
            return self.send_item(conn, 1, Item::Refused);
        };
        let me = shell.me();
        open.ends[1].me = Some(me);
        let session = shell.sessions.get(&caller);
        let younger = |known: &Session| known.info.name == info.name && known.info.incarnation > caller;
        let outdated = shell.sessions.values().any(younger);
        // An open connection dialled by the smaller side stays, if that is this one.
        let keeps = session.and_then(|session| session.conn).is_some_and(|(_, end)| end == 0 && me < caller);
        if me == caller || keeps || outdated || shell.lives.contains(&caller) {
            return self.send_item(conn, 1, Item::Busy);
        }
        open.ends[1].open = true;
        open.ends[1].told = shell.resets.get(&caller).copied().unwrap_or(0);
        let known = Known {
            resets: shell.resets.get(&caller).copied().unwrap_or(0),
            session: session.map(|session| session.id),
            received: session.map_or(0, |session| session.link.received()),
        };
        let accept = Item::Accept { info: Box::new(shell.info.clone()), known };
        self.send_item(conn, 1, accept);
    }

    fn on_accept(&mut self, conn: u32, host: u16, info: Box<MemberInfo>, known: Known) {
        let Some(open) = self.network.conn(conn) else { return };
        let mine = open.ends[0].me;
        let Some(shell) = self.shell(host) else { return };
        let why = shell.dials.remove(&conn);
        if mine != Some(shell.me()) {
            return self.close_end(conn, 0);
        }
        if let Some(Dial::Again(lost)) = why
            && lost != info.incarnation
        {
            self.session_over(host, lost, LinkLoss::Replaced);
        }
        let peer = info.incarnation;
        let Some(shell) = self.shell(host) else { return };
        // The other side may have accepted although this side's older connection stays.
        let kept = shell.sessions.get(&peer).and_then(|session| session.conn);
        if kept.is_some_and(|(_, end)| end == 1 && peer < shell.me()) {
            return self.close_end(conn, 0);
        }
        let mine = shell.resets.get(&peer).copied().unwrap_or(0);
        let id = (mine, known.resets);
        let have = shell.sessions.get(&peer).filter(|session| session.id == id);
        let have = have.map_or(0, |session| session.link.received());
        let me = Box::new(shell.info.clone());
        if let Some(open) = self.network.conn(conn) {
            open.ends[0].told = mine;
        }
        // What the other side has received counts only if it means the same session.
        let received = if known.session == Some((id.1, id.0)) { known.received } else { 0 };
        self.send_item(conn, 0, Item::Established { info: me, resets: mine, received: have });
        self.attach(conn, 0, host, info, id.1, received);
    }

    /// The handshake is over at this end: the session has a connection.
    fn attach(
        &mut self,
        conn: u32,
        end: usize,
        host: u16,
        info: Box<MemberInfo>,
        theirs: u32,
        received: u64,
    ) {
        let peer = info.incarnation;
        let Some(open) = self.network.conn(conn) else { return };
        let (opened_as, told) = (open.ends[end].me, open.ends[end].told);
        let Some(shell) = self.shell(host) else { return };
        if opened_as != Some(shell.me()) {
            return self.close_end(conn, end);
        }
        if !self.replace_older_lives(host, &info) {
            return self.close_end(conn, end);
        }
        let Some(shell) = self.shell(host) else { return };
        let mine = shell.resets.get(&peer).copied().unwrap_or(0);
        let id = (mine, theirs);
        // This side may have given up a session since it told the other how many.
        if mine != told {
            return self.close_end(conn, end);
        }
        let mut replaced = None;
        let resumed = shell.sessions.get_mut(&peer).filter(|session| session.id == id).map(|session| {
            replaced = session.conn.take();
            session.link.on_disconnected();
            session.link.on_connected(received).is_ok()
        });
        if let Some((old, old_end)) = replaced {
            self.close_end(old, old_end);
        }
        if resumed == Some(false) {
            return self.handshake_outdated(conn, end, host, peer, received);
        }
        let fresh = resumed.is_none();
        if self.forget_session_if(fresh, host, peer) {
            self.stats.mark("session_renewed");
        }
        let mutants = self.plan.mutants;
        let now = self.now;
        let Some(shell) = self.shell(host) else { return };
        if fresh {
            let session = Session {
                link: Link::new(mutants),
                info: info.clone(),
                id,
                conn: None,
                lost_at: None,
                tries: 0,
                outdated: 0,
                ack_set: false,
                heard: now,
            };
            shell.sessions.insert(peer, session);
        }
        let Some(session) = shell.sessions.get_mut(&peer) else { return };
        if fresh && session.link.on_connected(received).is_err() {
            self.history.oddities.push(format!("a new session with {peer} can not start at {received}"));
            return;
        }
        session.conn = Some((conn, end));
        session.lost_at = None;
        session.tries = 0;
        session.outdated = 0;
        if !shell.dirty.contains(&peer) {
            shell.dirty.push(peer);
        }
        if let Some(open) = self.network.conn(conn) {
            open.ends[end].peer = Some(peer);
        }
        if fresh {
            self.input(host, Input::SessionUp(info));
        } else {
            self.stats.mark("session_resumed");
        }
    }

    /// Another connection of the session went on while this one's handshake was under way: it is dialled anew.
    fn handshake_outdated(&mut self, conn: u32, end: usize, host: u16, peer: Incarnation, received: u64) {
        let now = self.now;
        self.close_end(conn, end);
        self.stats.mark("handshake_outdated");
        let Some(session) = self.shell(host).and_then(|shell| shell.sessions.get_mut(&peer)) else { return };
        session.lost_at.get_or_insert(now);
        session.outdated += 1;
        if session.outdated > 5 {
            self.history.oddities.push(format!("the session with {peer} can not go on at {received}"));
        }
        self.retry_later(host, peer);
    }

    /// A node that shows a new incarnation ends the session with its old one.
    /// False when a younger life of it is connected.
    fn replace_older_lives(&mut self, host: u16, info: &MemberInfo) -> bool {
        let Some(shell) = self.shell(host) else { return false };
        let other = |session: &&Session| session.info.name == info.name;
        if shell.sessions.values().filter(other).any(|session| session.info.incarnation > info.incarnation) {
            return false;
        }
        let old = |session: &Session| other(&session) && session.info.incarnation != info.incarnation;
        let over: Vec<Incarnation> =
            shell.sessions.iter().filter(|(_, session)| old(session)).map(|(peer, _)| *peer).collect();
        for peer in over {
            self.session_over(host, peer, LinkLoss::Replaced);
        }
        true
    }

    fn on_refused(&mut self, conn: u32, host: u16) {
        self.network.remove(conn);
        match self.shell(host).and_then(|shell| shell.dials.remove(&conn)) {
            Some(Dial::Asked(address)) => self.input(host, Input::ConnectFailed(address)),
            Some(Dial::Again(peer)) => {
                let broken =
                    self.shell(host).and_then(|s| s.sessions.get(&peer)).is_some_and(|s| s.conn.is_none());
                if broken {
                    self.session_over(host, peer, LinkLoss::Refused);
                }
            }
            None => {}
        }
    }

    fn on_dial_failed(&mut self, conn: u32, host: u16) {
        match self.shell(host).and_then(|shell| shell.dials.remove(&conn)) {
            Some(Dial::Asked(address)) => {
                let linked = |shell: &mut super::shell::Shell| {
                    shell.sessions.values().any(|session| session.info.address == address)
                };
                if !self.shell(host).is_some_and(linked) {
                    self.input(host, Input::ConnectFailed(address));
                }
            }
            Some(Dial::Again(peer)) => self.retry_later(host, peer),
            None => {}
        }
    }

    fn retry_later(&mut self, host: u16, peer: Incarnation) {
        let home = self.home(host);
        let now = self.now;
        let jitter = self.rng.below(20 * MILLI);
        let Some(session) = self.shell(host).and_then(|shell| shell.sessions.get_mut(&peer)) else { return };
        let Some(lost_at) = session.lost_at else { return };
        if now >= lost_at + UNREACHABLE_AFTER {
            return self.session_over(host, peer, LinkLoss::Unreachable);
        }
        let wait = ((50 * MILLI) << session.tries.min(5)).min(SECOND) + jitter;
        session.tries += 1;
        self.queue.at(now + wait, Event::Redial(home, peer));
    }

    /// A broken session is dialled again.
    pub(super) fn on_redial(&mut self, host: u16, peer: Incarnation) {
        let Some(shell) = self.shell(host) else { return };
        let Some(session) = shell.sessions.get(&peer) else { return };
        if session.conn.is_some() {
            return;
        }
        let address = session.info.address.clone();
        if let Some(to) = self.machine_at(&address) {
            self.dial(host, to, Dial::Again(peer));
        }
    }

    /// A dial got no answer in time.
    pub(super) fn on_dial_timeout(&mut self, conn: u32) {
        let Some(open) = self.network.conn(conn) else { return };
        let end = open.ends[0];
        if end.peer.is_some() || !end.open || self.home(end.home.host) != end.home {
            return;
        }
        self.close_end(conn, 0);
        self.on_dial_failed(conn, end.home.host);
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
        self.on_redial(host, peer);
    }

    /// The core ends a session.
    pub(super) fn end_session(&mut self, host: u16, peer: Incarnation) {
        self.forget_session(host, peer, LinkLoss::Unreachable, GivenUp::Here);
    }

    fn forget_session_if(&mut self, condition: bool, host: u16, peer: Incarnation) -> bool {
        condition && self.forget_session(host, peer, LinkLoss::Unreachable, GivenUp::There)
    }

    fn session_over(&mut self, host: u16, peer: Incarnation, loss: LinkLoss) {
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
        let sessions = std::mem::take(&mut shell.sessions);
        for (conn, end) in self.network.of_machine(host) {
            self.close_end(conn, end);
        }
        for (peer, session) in sessions {
            self.give_back(host, peer, session);
        }
    }

    fn on_segment(&mut self, conn: u32, host: u16, end: usize, ack: u64, frames: Vec<(u64, Rc<Frame>)>) {
        let now = self.now;
        let Some(peer) = self.network.conn(conn).and_then(|open| open.ends[end].peer) else { return };
        let Some(session) = self.shell(host).and_then(|shell| shell.sessions.get_mut(&peer)) else { return };
        session.link.on_ack(ack);
        let tell_heard = now >= session.heard + HEARD_EVERY;
        if tell_heard {
            session.heard = now;
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
            let mut frames = Vec::new();
            while let Some((seq, frame)) = session.link.next() {
                frames.push((seq, Rc::clone(frame)));
            }
            if !frames.is_empty() {
                let ack = session.link.ack_now().unwrap_or_else(|| session.link.received());
                self.send_item(conn, end, Item::Segment { ack, frames });
            }
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
