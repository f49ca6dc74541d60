//! Carrying out what the node wants.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::oneshot;
use whimbrel_core::base::{Incarnation, Name};
use whimbrel_core::delivery::Lane;
use whimbrel_core::directory::{Answer, Launch, StreamEvent};
use whimbrel_core::node::{Effect, Event, Input};
use whimbrel_core::view::View;
use whimbrel_core::wire::{Body, Control};

use super::{Page, Running, Waiting};
use crate::process::Move;
use crate::transport::OutFrame;

impl Running {
    /// Carries out all effects in order, and those that come of them.
    pub(super) fn carry_out(&mut self) {
        while let Some(effect) = self.parts.node.poll_effect() {
            self.apply(effect);
        }
    }

    pub(super) fn apply(&mut self, effect: Effect) {
        let exchange = &self.parts.exchange;
        match effect {
            Effect::Reincarnate(me) => self.reincarnate(me),
            Effect::Connect(address) => match &self.parts.transport {
                Some(transport) => transport.connect(address),
                None => self.feed(Input::ConnectFailed(address)),
            },
            Effect::Send { to, message } => self.send(to, &message),
            Effect::EndSession(peer) => {
                if let Some(transport) = &self.parts.transport {
                    transport.end_session(peer);
                }
            }
            Effect::Unlinked(peer) => exchange.on_unlinked(peer),
            // Available mode: every node is its own authority.
            Effect::ProposeView(view) => self.feed(Input::ViewDecided(view)),
            Effect::ViewInstalled(view) => self.install(&view),
            Effect::Launch { record, launch: Launch::Arrived } => {
                if let Some(input) = exchange.run_arrival(&record) {
                    self.feed(input);
                }
            }
            effect @ (Effect::Capture { .. }
            | Effect::Release { .. }
            | Effect::Abandon { .. }
            | Effect::Depart { .. }
            | Effect::Install { .. }
            | Effect::Uninstall { .. }) => {
                if let Some(input) = self.apply_move(effect) {
                    self.feed(input);
                }
            }
            Effect::Launch { record, launch } => {
                let cluster = self.parts.cluster.clone();
                if let Err(reason) = exchange.launch(&record, launch, cluster) {
                    let (name, token) = (record.name.clone(), record.token);
                    self.feed(Input::Launched { name, token, result: Err(reason) });
                }
            }
            Effect::Terminate { name, token, reason } => {
                if let Some(input) = exchange.terminate(name, token, reason) {
                    self.feed(input);
                }
            }
            Effect::Discard { name, token, code } => exchange.discard(&name, token, code),
            Effect::Retoken { name, old, new } => exchange.retoken(&name, old, new),
            Effect::Answer { request, name, answer } => self.answer(request.number, &name, answer),
            Effect::Listed { number, rows, next, complete } => {
                answer_one(&mut self.listings, number, Page { rows, next, complete });
            }
            Effect::Counted { number, names, complete } => {
                answer_one(&mut self.counts, number, complete.then_some(names));
            }
            Effect::Followed { number, events } => self.tell_reader(number, events),
            Effect::Monitored { id, result } => exchange.on_monitored(id, result),
            Effect::Down { id, down } => exchange.on_down(id, *down),
            Effect::Group { number, reading } => answer_one(&mut self.readings, number, reading),
            Effect::Groups { number, reading } => answer_one(&mut self.scope_readings, number, reading),
            Effect::OrderKnown => answer_all(&mut self.orderers, &()),
            Effect::Drained(drained) => answer_all(&mut self.drainers, &drained),
            Effect::Left => answer_all(&mut self.leavers, &()),
            Effect::Event(event) => self.tell(event),
        }
    }

    fn tell_reader(&mut self, number: u64, events: Vec<StreamEvent>) {
        let Some(reader) = self.streams.get(&number) else { return };
        let is_over = matches!(events.last(), Some(StreamEvent::Ended(_)));
        let is_gone = events.into_iter().any(|event| reader.send(event).is_err());
        if is_over || is_gone {
            self.unfollow(number);
        }
    }

    /// What a move wants. Returns what the node is to be told at once.
    fn apply_move(&self, effect: Effect) -> Option<Input> {
        let exchange = &self.parts.exchange;
        match effect {
            Effect::Capture { name, token, attempt, to } => {
                return exchange.capture(name, token, Move { attempt, to });
            }
            Effect::Abandon { name, attempt, reason } => return exchange.abandon(name, attempt, reason),
            Effect::Install { passage, image } => {
                return exchange.install(passage, image, self.parts.cluster.clone());
            }
            Effect::Release { name, attempt, decision, copied } => {
                exchange.release(&name, attempt, decision, copied);
            }
            Effect::Depart { name, attempt, to } => exchange.depart(&name, Move { attempt, to }),
            Effect::Uninstall { name, attempt, decision } => exchange.uninstall(&name, attempt, decision),
            _ => {}
        }
        None
    }

    fn reincarnate(&mut self, me: Incarnation) {
        self.parts.exchange.reincarnate(me);
        self.parts.views.send_replace(None);
        if let Some(transport) = &self.parts.transport {
            let mut info = self.parts.node.me().clone();
            info.incarnation = me;
            transport.reincarnate(info);
        }
    }

    fn send(&self, to: Incarnation, message: &Control) {
        let Some(transport) = &self.parts.transport else { return };
        let lane = match &message.body {
            Body::Handoff(message) if message.is_bulk() => Lane::Bulk,
            _ => Lane::Control,
        };
        match OutFrame::control(message) {
            Ok(frame) => {
                if let Err(error) = transport.send(to, lane, frame) {
                    // Every control message is repeated by whoever needs an answer to it.
                    tracing::trace!(%to, %error, "a control message was not sent");
                }
            }
            Err(error) => tracing::error!(%to, %error, "a control message does not fit a frame"),
        }
    }

    fn install(&self, view: &Arc<View>) {
        self.parts.exchange.install_view(view);
        self.parts.views.send_replace(Some(view.clone()));
        tracing::debug!(view = %view.id, members = view.members.len(), "view installed");
    }

    fn answer(&mut self, number: u64, name: &Name, answer: Answer) {
        let exchange = &self.parts.exchange;
        match self.waiting.remove(&number) {
            Some(Waiting::Entry(entry)) => match &answer {
                Answer::Located(at) if self.parts.node.is_unlinked(at.host) => exchange.on_no_way(&entry),
                answer => exchange.on_answer(&entry, answer),
            },
            Some(Waiting::Asker(asker)) => {
                if let Answer::Started { located, .. }
                | Answer::AlreadyRunning(located)
                | Answer::Located(located) = &answer
                {
                    exchange.on_located(&exchange.entry(name), located);
                }
                // Whoever asked may have given up.
                let _gone = asker.send(answer);
            }
            Some(Waiting::Registrar { name, process, asker }) => {
                if let Answer::Started { located, .. } = &answer
                    && !exchange.adopt(&name, &process, located)
                {
                    let reason = whimbrel_core::base::ExitReason::Normal;
                    let (name, token) = (name.name().clone(), located.token);
                    self.feed(Input::Exited { name, token, reason });
                }
                // Whoever asked may have given up; the name is given all the same.
                let _gone = asker.send(answer);
            }
            None => {}
        }
    }

    fn tell(&self, event: Event) {
        match &event {
            Event::Refused { peer, why } => {
                // A peer that lies may do so often: neither the log nor those who follow the events drown in it.
                let Some(kept_back) = self.refusals.admit() else { return };
                tracing::warn!(%peer, why, kept_back, "a message of a peer was refused");
            }
            Event::Expelled => tracing::warn!("a view excluded this node"),
            Event::Quarantined(name) => tracing::warn!(?name, "a process failed too often"),
            Event::NameTaken(_) => tracing::warn!("a living node of the cluster has this node's name"),
            Event::Unlinked(name, _) => tracing::warn!(?name, "no link with a member of the view"),
            other => tracing::info!(event = ?other, "cluster"),
        }
        // Without a receiver there is nobody to tell.
        let _nobody = self.parts.events.send(event);
    }
}

/// Answers the one that waits under this number.
fn answer_one<T>(waiting: &mut HashMap<u64, oneshot::Sender<T>>, number: u64, answer: T) {
    if let Some(asker) = waiting.remove(&number) {
        // Whoever asked may have given up.
        let _gone = asker.send(answer);
    }
}

/// Answers all that wait for the same.
fn answer_all<T: Clone>(waiting: &mut Vec<oneshot::Sender<T>>, answer: &T) {
    for asker in waiting.drain(..) {
        // Whoever asked may have given up.
        let _gone = asker.send(answer.clone());
    }
}
