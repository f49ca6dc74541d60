//! What happens to the process, its host and the views.

use std::collections::BTreeMap;

use super::{NODES, Node, Process, World};
use crate::base::{ErrorCode, Token};
use crate::delivery::tests::{incarnation, token, view};
use crate::delivery::{Epochs, Here, Inbox, MailboxLimits, Port, PortOutput, Room, Whereabouts};

impl World {
    /// The newest view reaches a node: sessions with the excluded end, then the port hears of it.
    pub(super) fn install_view(&mut self, node: usize) {
        if self.nodes[node].view == self.views {
            return;
        }
        self.nodes[node].view = self.views;
        let members: Vec<u64> = self.nodes.iter().map(|node| node.me.started_ms).collect();
        let me = self.nodes[node].me;
        let peers: Vec<_> = self.nodes[node].links.keys().copied().collect();
        for gone in peers.into_iter().filter(|peer| !members.contains(&peer.started_ms)) {
            self.end_session(me, gone);
        }
        let view = view(self.views, &members);
        self.input(node, |port, here, out| port.on_view(here, &view, out));
    }

    /// Something happens to the process or its host; or goes on happening.
    pub(super) fn fate(&mut self, faulty: bool) {
        let host = self.truth.host;
        match self.truth.process {
            Process::Crashed => {
                let at = Whereabouts { token: self.new_token(), ..self.truth.at };
                self.nodes[host].port.inbox_mut().unwrap().restart(at.token);
                self.is_at(host, at);
            }
            Process::Moving(_) if faulty && self.rng.below(4) == 0 => {
                self.input(host, |port, _, out| port.unseal(out));
                self.truth.process = Process::Running;
            }
            Process::Moving(to) => {
                let mut inbox = None;
                self.input(host, |port, here, out| inbox = port.uninstall(here, out));
                let at = Whereabouts { host: self.nodes[to].me, token: self.new_token(), ..self.truth.at };
                let mut inbox = inbox.unwrap();
                inbox.restart(at.token);
                self.input(to, |port, here, out| port.install(here, inbox, out));
                self.is_at(to, at);
            }
            Process::Stopped => self.start_anywhere(),
            Process::Running => match self.rng.below(7) {
                0..3 if self.faults.moves => {
                    self.nodes[host].port.seal();
                    let to = (host + 1 + self.rng.below(NODES as u64 - 1) as usize) % NODES;
                    self.truth.process = Process::Moving(to);
                }
                3 if self.faults.stops => {
                    self.input(host, |port, _, out| port.close(ErrorCode::Stopped, out));
                    let mut inbox = None;
                    self.input(host, |port, here, out| inbox = port.uninstall(here, out));
                    assert!(inbox.unwrap().is_empty());
                    self.truth.process = Process::Stopped;
                }
                4 if self.faults.kills => self.kill(host),
                5 if self.faults.kills && self.rng.below(4) == 0 => {
                    let node = self.rng.below(NODES as u64) as usize;
                    self.kill(node);
                }
                6 if self.faults.kills => {
                    let node = self.rng.below(NODES as u64) as usize;
                    self.change_lines(node);
                }
                _ => {}
            },
        }
    }

    fn new_token(&mut self) -> Token {
        self.tokens += 1;
        token(self.tokens)
    }

    fn is_at(&mut self, host: usize, at: Whereabouts) {
        self.truth.host = host;
        self.truth.at = at;
        self.truth.earlier.push(at);
        self.truth.process = Process::Running;
    }

    fn start_anywhere(&mut self) {
        let host = self.rng.below(NODES as u64) as usize;
        let life = self.new_token();
        let inbox = Inbox::new(life, MailboxLimits::of_messages(self.faults.mailbox), self.mutants);
        self.input(host, |port, here, out| port.install(here, inbox, out));
        self.is_at(host, Whereabouts { host: self.nodes[host].me, token: life, gate: life });
    }

    /// A node dies with all that it holds; a new life of it joins at once. What it has written may still arrive.
    fn kill(&mut self, node: usize) {
        self.lives += 1;
        let fresh = Node {
            me: incarnation(self.lives),
            life: self.lives,
            port: Port::new(self.mutants),
            epochs: Epochs::new(),
            links: BTreeMap::new(),
            view: 0,
        };
        let dead = std::mem::replace(&mut self.nodes[node], fresh);
        // What it sent is excused, what it had admitted and not handled is lost with it.
        self.excused
            .extend(self.senders.iter().filter(|(_, sender)| **sender == dead.life).map(|(id, _)| *id));
        let mut port = dead.port;
        let mut out = PortOutput::default();
        let here = Here { me: dead.me, now: self.now, epochs: &dead.epochs, room: Room::Some };
        let left = port.uninstall(&here, &mut out).map_or(Vec::new(), Inbox::into_messages);
        self.excused.extend(left.into_iter().map(|(note, _)| note.id));
        self.wires.retain(|(_, to), _| *to != dead.me);
        for peer in &mut self.nodes {
            if let Some(link) = peer.links.get_mut(&dead.me) {
                link.on_disconnected();
            }
        }
        self.views += 1;
        for peer in (0..NODES).filter(|peer| *peer != node) {
            self.new_session(node, peer);
        }
        self.install_view(node);
        if self.truth.host == node {
            self.start_anywhere();
        }
    }

    /// A node goes on under a new incarnation; its process, if it hosts it, goes on too.
    fn change_lines(&mut self, node: usize) {
        let old = self.nodes[node].me;
        for peer in self.nodes[node].links.keys().copied().collect::<Vec<_>>() {
            self.end_session(old, peer);
        }
        self.lives += 1;
        self.nodes[node].me = incarnation(self.lives);
        self.views += 1;
        for peer in (0..NODES).filter(|peer| *peer != node) {
            self.new_session(node, peer);
        }
        self.input(node, |port, here, out| port.on_reincarnated(here, out));
        self.install_view(node);
        if self.truth.host == node {
            let at = Whereabouts { host: self.nodes[node].me, token: self.new_token(), ..self.truth.at };
            self.nodes[node].port.inbox_mut().unwrap().retoken(at.token);
            self.is_at(node, at);
        }
    }
}
