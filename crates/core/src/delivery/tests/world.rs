//! A small world: three nodes, one name, links that break, and everything that can happen to a host.
//!
//! Every message is numbered by its sender. At the end of a run, when the faults are over and all is quiet, each
//! message was handled once, or ended with an error that is true, or went with a node or a life that was killed.

mod fate;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Note, incarnation, note, token};
use crate::base::{ErrorCode, Executed, Incarnation, Mutants, Rng, Time};
use crate::delivery::link::{Lane, Link, LinkLimits, Receipt};
use crate::delivery::{
    Epochs, Here, Inbox, InboxCounts, MailboxLimits, Packet, Port, PortOutput, Room, Sent, Signal,
    Whereabouts,
};

const NODES: usize = 3;

#[derive(Debug)]
enum Frame {
    Packet(Packet<Note>),
    Signal(Signal),
}

#[derive(Debug)]
enum Wire {
    Frame(u64, Frame),
    Ack(u64),
}

/// What may happen in a run besides broken connections.
#[derive(Clone, Copy, Debug)]
struct Faults {
    sessions_end: bool,
    moves: bool,
    crashes: bool,
    kills: bool,
    stops: bool,
    mailbox: usize,
    lane: usize,
}

struct Node {
    me: Incarnation,
    /// Stays when it changes lines: whose messages it sends.
    life: u64,
    port: Port<Note>,
    epochs: Epochs,
    links: BTreeMap<Incarnation, Link<Frame>>,
    /// The counter of the view it has installed.
    view: u64,
}

enum Process {
    Running,
    Crashed,
    Moving(usize),
    Stopped,
}

/// What the owner of the name knows.
struct Truth {
    host: usize,
    at: Whereabouts,
    process: Process,
    earlier: Vec<Whereabouts>,
}

struct World {
    rng: Rng,
    faults: Faults,
    mutants: Mutants,
    now: Time,
    nodes: Vec<Node>,
    /// What is on its way, by (from, to); a connection is a pair of them.
    wires: BTreeMap<(Incarnation, Incarnation), VecDeque<Wire>>,
    truth: Truth,
    questions: Vec<(usize, Incarnation)>,
    views: u64,
    lives: u64,
    tokens: u64,
    sent: u64,
    /// By message id: sender, and its outcomes.
    senders: BTreeMap<u64, u64>,
    handled: Vec<u64>,
    ended: BTreeMap<u64, (ErrorCode, Executed)>,
    /// Gone with a killed node, or in hand at a crash.
    excused: BTreeSet<u64>,
}

type Check = Result<(), String>;

/// What a frame needs on the wire: frames are kept by the link and written as copies.
fn copy(frame: &Frame) -> Frame {
    match frame {
        Frame::Packet(packet) => Frame::Packet(packet.clone()),
        Frame::Signal(signal) => Frame::Signal(*signal),
    }
}

impl World {
    fn new(seed: u64, faults: Faults, mutants: Mutants) -> Self {
        let node = |nonce| Node {
            me: incarnation(nonce),
            life: nonce,
            port: Port::new(mutants),
            epochs: Epochs::new(),
            links: BTreeMap::new(),
            view: 0,
        };
        let nodes: Vec<_> = (1..=NODES as u64).map(node).collect();
        let at = Whereabouts { host: nodes[0].me, token: token(1), gate: token(1) };
        let mut world = Self {
            rng: Rng::new(seed),
            faults,
            mutants,
            now: Time::from_micros(1),
            nodes,
            wires: BTreeMap::new(),
            truth: Truth { host: 0, at, process: Process::Running, earlier: vec![at] },
            questions: Vec::new(),
            views: 0,
            lives: NODES as u64,
            tokens: 1,
            sent: 0,
            senders: BTreeMap::new(),
            handled: Vec::new(),
            ended: BTreeMap::new(),
            excused: BTreeSet::new(),
        };
        let inbox = Inbox::new(token(1), MailboxLimits::of_messages(faults.mailbox), mutants);
        world.input(0, |port, here, out| port.install(here, inbox, out));
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            world.new_session(a, b);
        }
        world
    }

    fn run(mut self) -> Result<InboxCounts, String> {
        let steps = 1500;
        for _ in 0..steps {
            self.step(true)?;
        }
        for _ in 0..400 {
            for _ in 0..200 {
                self.step(false)?;
            }
            if self.is_quiet() {
                self.verdict()?;
                return Ok(self.nodes[self.truth.host]
                    .port
                    .inbox()
                    .map_or(InboxCounts::default(), Inbox::counts));
            }
        }
        Err("never quiet".to_owned())
    }

    fn step(&mut self, faulty: bool) -> Check {
        self.now =
            Time::from_micros(self.now.as_micros() + self.rng.below(if faulty { 4_000 } else { 60_000 }));
        let node = self.rng.below(NODES as u64) as usize;
        match self.rng.below(100) {
            0..25 if faulty => self.send(node),
            0..45 => self.write(node),
            45..70 => self.read(node)?,
            70..82 => self.handle(faulty)?,
            82..90 => self.answer()?,
            90..94 => self.poll(node),
            94..97 => self.connect(faulty),
            _ if faulty || !matches!(self.truth.process, Process::Running) => self.fate(faulty),
            _ => self.install_view(node),
        }
        Ok(())
    }

    /// One input to the port of a node, and all that follows from it at once.
    fn input(&mut self, node: usize, with: impl FnOnce(&mut Port<Note>, &Here<'_>, &mut PortOutput<Note>)) {
        let mut out = PortOutput::default();
        let Node { port, epochs, me, .. } = &mut self.nodes[node];
        with(port, &Here { me: *me, now: self.now, epochs, room: Room::Some }, &mut out);
        self.carry_out(node, out);
    }

    fn carry_out(&mut self, node: usize, out: PortOutput<Note>) {
        for ended in out.ended {
            // The host may say No of what it had admitted, and the sender Unknown, which has not heard of it.
            match self.ended.get(&ended.message.id) {
                Some((_, Executed::No)) => assert_eq!(ended.executed, Executed::Unknown, "two holders"),
                Some((_, Executed::Unknown)) | None => {
                    self.ended.insert(ended.message.id, (ended.code, ended.executed));
                }
            }
        }
        if out.locate {
            self.questions.push((node, self.nodes[node].me));
        }
        for (to, packet) in out.transmit {
            let (epoch, seq) = (packet.epoch, packet.seq);
            if self.push(node, to, Frame::Packet(packet)).is_err() {
                self.input(node, |port, here, out| port.on_unsent(here, to, epoch, seq, out));
            }
        }
        for (to, signal) in out.signals {
            if self.push(node, to, Frame::Signal(signal)).is_err() && self.nodes[node].links.contains_key(&to)
            {
                self.end_session(self.nodes[node].me, to);
            }
        }
    }

    fn push(&mut self, node: usize, to: Incarnation, frame: Frame) -> Result<(), Frame> {
        match self.nodes[node].links.get_mut(&to) {
            Some(link) => link.push(Lane::Messages, frame).map_err(|full| full.0),
            None => Err(frame),
        }
    }

    fn send(&mut self, node: usize) {
        for _ in 0..=self.rng.below(6) {
            self.sent += 1;
            let id = self.sent;
            let deadline =
                (self.rng.below(20) == 0).then(|| self.now + std::time::Duration::from_millis(300));
            self.senders.insert(id, self.nodes[node].life);
            match self.nodes[node].port.send(Note { deadline, ..note(id) }, self.now) {
                Sent::Queued | Sent::Held { locate: false } => {}
                Sent::Held { locate: true } => self.questions.push((node, self.nodes[node].me)),
                Sent::Refused { message, code } => {
                    self.ended.insert(message.id, (code, Executed::No));
                }
                Sent::Transmit { to, packet } => {
                    let (epoch, seq) = (packet.epoch, packet.seq);
                    let linked = self.nodes[node].links.contains_key(&to);
                    if self.push(node, to, Frame::Packet(packet)).is_err() {
                        match linked.then(|| self.nodes[node].port.take_back(epoch, seq)).flatten() {
                            Some(message) => {
                                self.ended.insert(message.id, (ErrorCode::Overloaded, Executed::No));
                            }
                            None => {
                                self.input(node, |port, here, out| port.on_unsent(here, to, epoch, seq, out));
                            }
                        }
                    }
                }
            }
        }
    }

    fn write(&mut self, node: usize) {
        let Node { me, links, .. } = &mut self.nodes[node];
        for (peer, link) in links {
            for _ in 0..self.rng.below(8) {
                let Some((seq, frame)) = link.next() else { break };
                self.wires.entry((*me, *peer)).or_default().push_back(Wire::Frame(seq, copy(frame)));
            }
            let ack = if self.rng.below(8) == 0 { link.ack_now() } else { link.ack_due() };
            self.wires.entry((*me, *peer)).or_default().extend(ack.map(Wire::Ack));
        }
    }

    fn read(&mut self, node: usize) -> Check {
        let me = self.nodes[node].me;
        let peers: Vec<_> = self.nodes[node].links.keys().copied().collect();
        for from in peers {
            for _ in 0..self.rng.below(6) {
                let Some(wire) = self.wires.get_mut(&(from, me)).and_then(VecDeque::pop_front) else { break };
                let Some(link) = self.nodes[node].links.get_mut(&from) else { break };
                let frame = match wire {
                    Wire::Ack(seq) => {
                        link.on_ack(seq);
                        continue;
                    }
                    Wire::Frame(seq, frame) => match link.on_frame(seq) {
                        Receipt::Fresh => frame,
                        Receipt::Duplicate => continue,
                        Receipt::Gap => return Err(format!("the link lost a frame before {seq}")),
                    },
                };
                self.input(node, |port, here, out| match frame {
                    Frame::Packet(packet) => port.on_packet(here, from, packet, out),
                    Frame::Signal(signal) => port.on_signal(here, from, signal, out),
                });
            }
        }
        Ok(())
    }

    fn handle(&mut self, faulty: bool) -> Check {
        for _ in 0..self.rng.below(8) {
            let host = self.truth.host;
            let mut popped = None;
            self.input(host, |port, here, out| {
                popped = port.pop(|| here.now);
                port.refill(out);
            });
            let Some(note) = popped else { return Ok(()) };
            if faulty && self.faults.crashes && self.rng.below(60) == 0 {
                // In hand at the crash: it may have been executed.
                self.excused.insert(note.id);
                self.nodes[host].port.inbox_mut().unwrap().suspend();
                self.truth.process = Process::Crashed;
            }
            self.check_order(note.id)?;
            self.handled.push(note.id);
        }
        Ok(())
    }

    fn check_order(&self, id: u64) -> Check {
        let sender = self.senders[&id];
        if self.handled.contains(&id) {
            return Err(format!("{id} is handled twice"));
        }
        let later = self.handled.iter().rev().find(|earlier| self.senders[earlier] == sender);
        if let Some(later) = later.filter(|later| **later > id) {
            return Err(format!("{id} is handled after {later}"));
        }
        match self.ended.get(&id) {
            Some((code, Executed::No)) => Err(format!("{id} is handled after {code}, No")),
            _ => Ok(()),
        }
    }

    /// The owner answers one question, sometimes with what was true before.
    fn answer(&mut self) -> Check {
        if self.questions.is_empty() {
            return Ok(());
        }
        let (node, asker) = self.questions.swap_remove(self.rng.below(self.questions.len() as u64) as usize);
        if self.nodes[node].me != asker {
            return Ok(());
        }
        match self.rng.below(10) {
            0 => self.input(node, |port, here, out| port.on_locate_failed(here, out)),
            1 => {
                let earlier = self.truth.earlier[self.rng.below(self.truth.earlier.len() as u64) as usize];
                self.input(node, |port, here, out| port.on_located(here, earlier, out));
            }
            _ => match self.truth.process {
                Process::Moving(_) => self.questions.push((node, asker)),
                Process::Stopped => {
                    self.input(node, |port, here, out| port.on_negative(here, ErrorCode::NotFound, out));
                }
                Process::Running | Process::Crashed => {
                    self.install_view(node);
                    let at = self.truth.at;
                    self.input(node, |port, here, out| port.on_located(here, at, out));
                }
            },
        }
        Ok(())
    }

    fn poll(&mut self, node: usize) {
        if self.nodes[node].port.next_deadline().is_some_and(|at| at <= self.now) {
            self.input(node, |port, here, out| port.poll(here, out));
            let next = self.nodes[node].port.next_deadline();
            assert!(next.is_none_or(|at| at > self.now), "a deadline in the past is polled for ever");
        }
    }

    /// Breaks or makes a connection, or ends a session.
    fn connect(&mut self, faulty: bool) {
        let a = self.rng.below(NODES as u64) as usize;
        let b = (a + 1 + self.rng.below(NODES as u64 - 1) as usize) % NODES;
        let (x, y) = (self.nodes[a].me, self.nodes[b].me);
        let Some(link) = self.nodes[a].links.get(&y) else { return self.new_session(a, b) };
        let connected = link.is_connected();
        if faulty && self.faults.sessions_end && self.rng.below(3) == 0 {
            self.end_session(x, y);
        } else if faulty && connected {
            for (node, peer) in [(a, y), (b, x)] {
                self.nodes[node].links.get_mut(&peer).unwrap().on_disconnected();
            }
            self.wires.retain(|pair, _| *pair != (x, y) && *pair != (y, x));
        } else if !connected {
            let received = [self.nodes[a].links[&y].received(), self.nodes[b].links[&x].received()];
            self.nodes[a].links.get_mut(&y).unwrap().on_connected(received[1]).unwrap();
            self.nodes[b].links.get_mut(&x).unwrap().on_connected(received[0]).unwrap();
        }
    }

    fn new_session(&mut self, a: usize, b: usize) {
        let limits = LinkLimits { lane_frames: self.faults.lane, unacknowledged: 200 };
        for (node, peer) in [(a, self.nodes[b].me), (b, self.nodes[a].me)] {
            let mut link = Link::new(self.mutants).with_limits(limits);
            link.on_connected(0).unwrap();
            self.nodes[node].links.insert(peer, link);
        }
    }

    /// Both ends learn of it, each with the packets that were never written.
    fn end_session(&mut self, x: Incarnation, y: Incarnation) {
        self.wires.retain(|pair, _| *pair != (x, y) && *pair != (y, x));
        for (me, peer) in [(x, y), (y, x)] {
            let Some(node) = self.nodes.iter().position(|node| node.me == me) else { continue };
            let Some(link) = self.nodes[node].links.remove(&peer) else { continue };
            for (_, frame) in link.into_unsent() {
                if let Frame::Packet(Packet { epoch, seq, .. }) = frame {
                    self.input(node, |port, here, out| port.on_unsent(here, peer, epoch, seq, out));
                }
            }
            self.input(node, |port, here, out| port.on_host_lost(here, peer, out));
        }
    }

    fn is_quiet(&self) -> bool {
        self.nodes.iter().all(|node| match node.port.inbox() {
            Some(inbox) => inbox.is_empty() && node.port.route().is_none_or(|route| route.is_empty()),
            None => node.port.is_idle(),
        })
    }

    fn verdict(&self) -> Check {
        for id in 1..=self.sent {
            let handled = self.handled.iter().filter(|handled| **handled == id).count();
            match (handled, self.ended.get(&id)) {
                (0, None) if !self.excused.contains(&id) => return Err(format!("{id} is lost")),
                (1, Some((code, Executed::No))) => {
                    return Err(format!("{id} was handled and ended {code}, No"));
                }
                (0 | 1, _) => {}
                _ => return Err(format!("{id} was handled {handled} times")),
            }
        }
        let planned = !(self.faults.kills || self.faults.stops);
        for (id, (code, executed)) in &self.ended {
            let excused = match code {
                ErrorCode::Deadline => *executed == Executed::No,
                ErrorCode::Overloaded => {
                    *executed == Executed::No && (self.faults.mailbox < 1000 || self.faults.lane < 1000)
                }
                _ => !planned,
            };
            if !excused {
                return Err(format!("{id} ended {code} {executed:?}"));
            }
        }
        Ok(())
    }
}

fn profile(seed: u64) -> Faults {
    let bit = |n: u64| seed >> n & 1 == 1;
    Faults {
        sessions_end: bit(0),
        moves: bit(1),
        crashes: bit(2),
        kills: bit(3),
        stops: bit(4),
        mailbox: if bit(5) { 12 } else { 100_000 },
        lane: if seed.is_multiple_of(7) { 24 } else { 100_000 },
    }
}

#[test]
fn nothing_is_lost_doubled_or_reordered_between_live_nodes() {
    let seeds = std::env::var_os("DELIVERY_SEEDS").and_then(|n| n.to_str()?.parse().ok()).unwrap_or(640);
    let mut total = InboxCounts::default();
    for seed in 0..seeds {
        let faults = profile(seed);
        let run = World::new(seed, faults, Mutants::default()).run();
        let counts = run.unwrap_or_else(|error| panic!("seed {seed} {faults:?}: {error}"));
        total.admitted += counts.admitted;
        total.refused += counts.refused;
        total.duplicates += counts.duplicates;
        total.stale += counts.stale;
        total.gaps += counts.gaps;
    }
    let InboxCounts { admitted, refused, duplicates, stale, gaps } = total;
    let rare = [refused, duplicates, stale, gaps].into_iter().min().unwrap_or(0);
    assert!(
        u64::from(admitted) > 100 * seeds && rare > 0,
        "the runs do not reach what they are for: {total:?}"
    );
}

#[cfg(feature = "mutants")]
#[test]
fn every_planted_bug_of_delivery_is_found() {
    use crate::base::Mutant;
    for mutant in [
        Mutant::ResendNotDeduplicated,
        Mutant::NoAfterDispatch,
        Mutant::MailboxDroppedAtRestart,
        Mutant::GapIgnored,
    ] {
        let found =
            (0..640).find(|seed| World::new(*seed, profile(*seed), Mutants::planted(mutant)).run().is_err());
        assert!(found.is_some(), "{mutant:?} is not found");
    }
}
