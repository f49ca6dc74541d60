//! Requests of this node: asked of the owner of the moment, again after every view, until answered or due.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::message::Message;
use super::placing::Placement;
use super::record::{Located, Record, RecordState, RestartPolicy};
use super::request::{Answer, Ask};
use super::{Directory, Output, REPEAT};
use crate::base::limits::REQUESTS_BYTES_MAX;
use crate::base::{Executed, Few, Incarnation, Mutant, Mutants, Name, RequestId, Time};
use crate::placement::slot_of;
use crate::view::ViewId;

#[derive(Debug)]
struct Asked {
    name: Name,
    ask: Ask,
    due: Time,
    /// The view in which it was first sent.
    asked_in: Option<ViewId>,
    /// The owners it was sent to: any of them may still have it.
    sent_to: Few<Incarnation>,
    /// How often it was sent.
    copies: u32,
    /// None until it is looked at for the first time.
    again_at: Option<Time>,
}

/// The requests of this node that have no answer yet.
#[derive(Debug)]
pub(super) struct Asks {
    open: BTreeMap<RequestId, Asked>,
    deadlines: BTreeSet<(Time, RequestId)>,
    repeats: BTreeSet<(Time, RequestId)>,
    /// Bytes of arguments.
    bytes: usize,
    mutants: Mutants,
}

impl Asks {
    pub(super) fn new(mutants: Mutants) -> Self {
        Self {
            open: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            repeats: BTreeSet::new(),
            bytes: 0,
            mutants,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        let due = self.deadlines.first().filter(|_| !self.mutants.has(Mutant::DeadlineLost));
        [due, self.repeats.first()].into_iter().flatten().map(|(at, _)| *at).min()
    }

    /// Whether this owner may answer: it was asked, or nobody waits for the answer any more.
    pub(super) fn may_answer(&self, request: RequestId, owner: Incarnation) -> bool {
        self.open.get(&request).is_none_or(|asked| asked.sent_to.contains(&owner))
    }

    fn take(&mut self, request: RequestId) -> Option<Asked> {
        let asked = self.open.remove(&request)?;
        self.bytes -= asked.ask.bytes();
        self.deadlines.remove(&(asked.due, request));
        if let Some(again_at) = asked.again_at {
            self.repeats.remove(&(again_at, request));
        }
        Some(asked)
    }
}

impl Directory {
    /// User code on this node asks something about a name.
    pub fn handle_request(&mut self, number: u64, name: Name, ask: Ask, deadline: Duration, now: Time) {
        let request = RequestId { caller: self.me, number };
        if let Ask::Start { kind, placement, .. } = &ask
            && !placement.is_sound()
        {
            // No node has so many labels.
            let answer = Answer::NoHost(kind.clone());
            return self.tell(Output::Answer { request, name, answer });
        }
        let bytes = self.asks.bytes + ask.bytes();
        if self.asks.open.len() >= self.settings.limits.requests || bytes > REQUESTS_BYTES_MAX {
            self.tell(Output::Answer { request, name, answer: Answer::Overloaded });
            return;
        }
        let due = now + deadline;
        let asked =
            Asked { name, ask, due, asked_in: None, sent_to: Few::default(), copies: 0, again_at: None };
        self.asks.bytes = bytes;
        self.asks.open.insert(request, asked);
        self.asks.deadlines.insert((due, request));
        self.ask(request, now);
        self.finish(now);
    }

    fn ask(&mut self, request: RequestId, now: Time) {
        let Asks { open, repeats, .. } = &mut self.asks;
        let Some(asked) = open.get_mut(&request) else { return };
        // A request of an earlier life of this node could not be answered, so nobody may carry it out.
        let line = self.line.as_ref().filter(|_| request.caller == self.me);
        let owner = line.and_then(|line| line.owner_of(slot_of(&asked.name, self.settings.slots)));
        let view = line.map(|line| line.view().id);
        let unlinked = owner.is_some_and(|owner| self.unlinked.contains(&owner));
        if unlinked && !asked.ask.changes() {
            // What waits for the answer ends rather than to wait for a new view.
            let Some(Asked { name, .. }) = self.asks.take(request) else { return };
            return self.tell(Output::Answer { request, name, answer: Answer::Unlinked });
        }
        if let Some(before) = asked.again_at.replace(now + REPEAT) {
            repeats.remove(&(before, request));
        }
        repeats.insert((now + REPEAT, request));
        if let Some(owner) = owner {
            if !asked.sent_to.contains(&owner) {
                asked.sent_to.push(owner);
            }
            asked.copies += 1;
            asked.asked_in = asked.asked_in.or(view);
            let (name, ask) = (asked.name.clone(), asked.ask.clone());
            self.send(owner, Message::Request { request, name, ask });
        }
    }

    /// A view was installed: every open request goes to the owner in it.
    pub(super) fn ask_again(&mut self, now: Time) {
        for request in self.asks.open.keys().copied().collect::<Vec<_>>() {
            self.ask(request, now);
        }
    }

    pub(super) fn expire_asks(&mut self, now: Time) {
        while let Some((due, request)) = self.asks.deadlines.first().copied() {
            if due > now || self.settings.mutants.has(Mutant::DeadlineLost) {
                break;
            }
            let Some(asked) = self.asks.take(request) else { break };
            // Where it waits it takes room, and nobody waits for its answer any more.
            for owner in asked.sent_to.iter() {
                self.send(*owner, Message::Forget(vec![(asked.name.clone(), request)]));
            }
            let executed = match asked.sent_to.is_empty() {
                true => Executed::No,
                false => Executed::Unknown,
            };
            self.tell(Output::Answer { request, name: asked.name, answer: Answer::Deadline(executed) });
        }
        while let Some((at, request)) = self.asks.repeats.first().copied() {
            if at > now {
                break;
            }
            self.ask(request, now);
        }
    }

    pub(super) fn on_answer(&mut self, from: Incarnation, request: RequestId, name: Name, answer: Answer) {
        let Some(asked) = self.asks.take(request) else { return };
        if asked.copies > 1 && asked.ask.changes() {
            // On the same link, and so behind the copy that it is about.
            for owner in asked.sent_to.iter() {
                self.send(*owner, Message::Forget(vec![(name.clone(), request)]));
            }
        }
        let elsewhere = asked.sent_to.iter().any(|owner| *owner != from);
        let may_be_done = match answer {
            Answer::NoHost(_) | Answer::Overloaded | Answer::Quarantined => elsewhere,
            // There was a record of it, on every replica: one that a view has left out since may have it still.
            Answer::AtCapacity => asked.asked_in != self.view().map(|view| view.id),
            // An earlier copy may have found the name, which is free by now.
            Answer::NotFound => {
                let attaches =
                    matches!(asked.ask, Ask::Join { .. } | Ask::Leave { .. } | Ask::SetMeta { .. });
                attaches && asked.copies > 1
            }
            _ => false,
        };
        if may_be_done && asked.ask.changes() {
            // It may still be carried out, by another owner in its own line: this is no certain No.
            let answer = Answer::Deadline(Executed::Unknown);
            self.tell(Output::Answer { request, name, answer });
            return;
        }
        if let (Ask::Register { .. }, Answer::Started { located, .. }) = (&asked.ask, &answer) {
            let (host, Located { kind, token, gate, .. }) = (self.me, located.clone());
            let record = Record {
                policy: RestartPolicy::Temporary,
                placement: Placement::Local,
                gate,
                state: RecordState::Registered,
                has_run: true,
                ..Record::first(name.clone(), kind, host, token, request)
            };
            self.host_registered(record);
        }
        self.tell(Output::Answer { request, name, answer });
    }
}
