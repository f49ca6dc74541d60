//! From a dial to a session: the handshake, and what is done when it fails.
//!
//! ```text
//!   dialler                         acceptor
//!      | Hello ----------------------> |   refused when nobody listens; busy when a better connection exists
//!      | <-------------------- Accept  |   who it is, what it has received of the session
//!      | Established ----------------> |   both write
//! ```
//!
//! Of two connections of a pair the one dialled by the smaller incarnation stays, of two dialled by the same side
//! the younger. Either side may have moved on while a handshake was under way; its numbers are outdated then, and
//! it begins anew.

use whimbrel_core::base::{Address, Incarnation};
use whimbrel_core::delivery::Link;
use whimbrel_core::node::{Input, LinkLoss};
use whimbrel_core::view::MemberInfo;

use super::World;
use super::network::{End, Item};
use super::queue::Event;
use super::session::{Dial, Known, Session};
use crate::history::{MILLI, Micros, SECOND};

/// A dial without an answer ends after this.
const DIAL_TIMEOUT: Micros = 1_500 * MILLI;
/// A broken session is dialled for this long.
const UNREACHABLE_AFTER: Micros = 10 * SECOND;

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

    pub(super) fn on_hello(&mut self, conn: u32, host: u16, info: &MemberInfo) {
        let home = self.home(host);
        let Some(open) = self.network.conn(conn) else { return };
        open.ends[1].home = home;
        let caller = info.incarnation;
        let machine = &mut self.machines[usize::from(host)];
        let Some(shell) = machine.shell.as_deref_mut().filter(|_| machine.deaf.is_none()) else {
            return self.send_item(conn, 1, Item::Refused);
        };
        let me = shell.me();
        open.ends[1].me = Some(me);
        let session = shell.sessions.get(&caller);
        let younger = |known: &Session| known.info.name == info.name && known.info.incarnation > caller;
        let outdated = session.is_none() && shell.sessions.values().any(younger);
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

    pub(super) fn on_accept(&mut self, conn: u32, host: u16, info: Box<MemberInfo>, known: Known) {
        let Some(open) = self.network.conn(conn) else { return };
        let mine = open.ends[0].me;
        let Some(shell) = self.shell(host) else { return };
        let why = shell.dials.remove(&conn);
        if mine != Some(shell.me()) {
            return self.close_end(conn, 0);
        }
        if let Some(Dial::Again(lost)) = &why
            && *lost != info.incarnation
        {
            let lost = *lost;
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
        if !self.attach(conn, 0, host, info, id.1, received)
            && let Some(Dial::Asked(address)) = why
            && !self.is_linked(host, &address)
        {
            self.input(host, Input::ConnectFailed(address));
        }
    }

    fn is_linked(&mut self, host: u16, address: &Address) -> bool {
        self.shell(host)
            .is_some_and(|shell| shell.sessions.values().any(|session| session.info.address == *address))
    }

    /// The handshake is over at this end: the session has a connection.
    pub(super) fn attach(
        &mut self,
        conn: u32,
        end: usize,
        host: u16,
        info: Box<MemberInfo>,
        theirs: u32,
        received: u64,
    ) -> bool {
        let peer = info.incarnation;
        let Some(open) = self.network.conn(conn) else { return false };
        let (opened_as, told) = (open.ends[end].me, open.ends[end].told);
        let Some(shell) = self.shell(host) else { return false };
        if opened_as != Some(shell.me()) {
            self.close_end(conn, end);
            return false;
        }
        if !self.replace_older_lives(host, &info) {
            self.close_end(conn, end);
            return false;
        }
        let Some(shell) = self.shell(host) else { return false };
        let mine = shell.resets.get(&peer).copied().unwrap_or(0);
        let id = (mine, theirs);
        // Either side may have given up a session since this handshake began.
        let seen = shell.seen_resets.entry(peer).or_insert(0);
        *seen = theirs.max(*seen);
        if mine != told || theirs < *seen {
            self.close_end(conn, end);
            return false;
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
            self.handshake_outdated(conn, end, host, peer, received);
            return false;
        }
        let fresh = resumed.is_none();
        if self.forget_session_if(fresh, host, peer) {
            self.stats.mark("session_renewed");
        }
        if fresh {
            self.make_session(host, &info, id);
        }
        self.use_connection(conn, end, host, info, fresh, received)
    }

    fn make_session(&mut self, host: u16, info: &MemberInfo, id: (u32, u32)) {
        let (mutants, limits, now) = (self.plan.mutants, self.plan.link_limits, self.now);
        let Some(shell) = self.shell(host) else { return };
        let session = Session {
            link: Link::new(mutants).with_limits(limits),
            info: Box::new(info.clone()),
            id,
            conn: None,
            lost_at: None,
            tries: 0,
            outdated: 0,
            ack_set: false,
            write_set: false,
            heard: now,
        };
        shell.sessions.insert(info.incarnation, session);
    }

    fn use_connection(
        &mut self,
        conn: u32,
        end: usize,
        host: u16,
        info: Box<MemberInfo>,
        fresh: bool,
        received: u64,
    ) -> bool {
        let peer = info.incarnation;
        let Some(shell) = self.shell(host) else { return false };
        let Some(session) = shell.sessions.get_mut(&peer) else { return false };
        if fresh && session.link.on_connected(received).is_err() {
            self.history.oddities.push(format!("a new session with {peer} can not start at {received}"));
            return false;
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
        true
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
        let known = shell.sessions.contains_key(&info.incarnation);
        let younger = |session: &Session| session.info.incarnation > info.incarnation;
        if !known && shell.sessions.values().filter(other).any(younger) {
            return false;
        }
        // One whose connection stands may well live: membership tells.
        let old = |session: &Session| {
            other(&session) && session.info.incarnation != info.incarnation && session.conn.is_none()
        };
        let over: Vec<Incarnation> =
            shell.sessions.iter().filter(|(_, session)| old(session)).map(|(peer, _)| *peer).collect();
        for peer in over {
            self.session_over(host, peer, LinkLoss::Replaced);
        }
        true
    }

    pub(super) fn on_refused(&mut self, conn: u32, host: u16) {
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

    pub(super) fn on_dial_failed(&mut self, conn: u32, host: u16) {
        match self.shell(host).and_then(|shell| shell.dials.remove(&conn)) {
            Some(Dial::Asked(address)) if !self.is_linked(host, &address) => {
                self.input(host, Input::ConnectFailed(address));
            }
            Some(Dial::Again(peer)) => self.retry_later(host, peer),
            Some(Dial::Asked(_)) | None => {}
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
}
