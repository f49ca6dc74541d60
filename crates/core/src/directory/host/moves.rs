//! What a host says and hears of moves: of its own processes that are to go, and of those that were brought here.

use std::sync::Arc;

use super::{Host, Hosted, Phase, seconds};
use crate::base::{ExitReason, Hindrance, Incarnation, Kind, Mutant, Name, Plea, Time, Token};
use crate::directory::message::{Message, News};
use crate::directory::record::{Record, RecordState};
use crate::directory::request::Launch;
use crate::directory::{Directory, Output};

impl Host {
    /// Whether this life was brought here as a whole, and is at rest.
    pub(super) fn has_come(&self, record: &Record) -> bool {
        self.arrivals.get(&record.name) == Some(&record.token)
    }
}

impl Directory {
    /// The process that another node brought here runs from now on.
    pub(super) fn run_arrival(&mut self, mut record: Arc<Record>, now: Time) {
        let (name, attempt) = (record.name.clone(), record.token);
        self.host.arrivals.remove(&name);
        Arc::make_mut(&mut record).state = RecordState::Running;
        self.host.insert(self.slot_of(&name), Hosted::new(Arc::clone(&record), Phase::Running, now));
        self.tell(Output::Granted { name: name.clone(), attempt });
        let token = record.token;
        self.tell(Output::Launch { record, launch: Launch::Arrived });
        self.report(&name, now);
        if self.host.leaving {
            self.tell(Output::Terminate { name, token, reason: ExitReason::Shutdown });
        }
    }

    /// Whether one more process of this kind may come, beside so many that are on their way.
    pub fn has_room_for(&self, kind: &Kind, arriving: usize) -> bool {
        let places = self.host.places.get(kind);
        places.is_none_or(|places| places.taken + arriving < places.most)
            || self.settings.mutants.has(Mutant::PlacesUnbounded)
    }

    /// A process of another node is here, at rest.
    pub fn handle_held(&mut self, name: Name, attempt: Token) {
        self.host.arrivals.insert(name, attempt);
    }

    /// It is not any more.
    pub fn handle_not_held(&mut self, name: &Name, attempt: Token) {
        if self.host.arrivals.get(name) == Some(&attempt) {
            self.host.arrivals.remove(name);
        }
    }

    /// Whether a process of this name runs here, or begins to.
    pub fn hosts(&self, name: &Name) -> bool {
        self.host.get(self.slot_of(name), name).is_some_and(|hosted| hosted.phase != Phase::Ended)
    }

    /// The owner wants a process of this node moved.
    pub(in crate::directory) fn on_move(&mut self, from: Incarnation, record: Arc<Record>, now: Time) {
        if self.host.leaving || record.host != self.me {
            return;
        }
        let Some(attempt) = record.moving.as_ref().map(|moving| moving.attempt) else { return };
        let (name, token) = (record.name.clone(), record.token);
        let runs = |hosted: &&mut Hosted| {
            hosted.phase == Phase::Running
                && !hosted.offered
                && hosted.record.state != RecordState::Registered
        };
        let Some(hosted) = self.hosted_life(&name, token).filter(runs) else {
            let (gate, plea) = (record.gate, Plea::CallOff(Hindrance::Ended));
            self.send(from, Message::Plea { name: name.clone(), gate, attempt, plea, snapshot: None });
            if self.hosted_as(&name).is_none() {
                // The record is older than its end.
                let news = News::Gone(ExitReason::NodeLost);
                self.send(from, Message::Report { name, token, news, snapshot: None });
            }
            return;
        };
        hosted.record = Arc::clone(&record);
        hosted.since_s = seconds(now);
        if let Some(rare) = &mut hosted.rare {
            rare.hindrance = None;
        }
        self.tell(Output::Move { record });
    }

    /// Something is to be asked of the owner of the moment about a process on its way out.
    pub fn handle_plea(&mut self, name: Name, attempt: Token, plea: Plea, now: Time) {
        let Some(hosted) = self.hosted_as(&name) else { return };
        if let Plea::CallOff(why) = plea {
            hosted.rare.get_or_insert_default().hindrance = Some(why);
        }
        let (gate, snapshot) = (hosted.record.gate, hosted.snapshot());
        let Some(owner) = self.owner_of(&name) else { return };
        self.send(owner, Message::Plea { name, gate, attempt, plea, snapshot });
        self.finish(now);
    }

    /// The owner who asked, or the one of the moment, is told whether a process is here as a whole.
    pub fn handle_holds(
        &mut self,
        to: Option<Incarnation>,
        name: Name,
        gate: Token,
        attempt: Token,
        whole: bool,
        now: Time,
    ) {
        if let Some(owner) = to.or_else(|| self.owner_of(&name)) {
            self.send(owner, Message::Holds { name, gate, attempt, whole });
            self.finish(now);
        }
    }

    /// A process of this node runs elsewhere now.
    pub fn handle_departed(&mut self, name: &Name, token: Token) {
        if self.hosted_life(name, token).is_some() {
            self.host.remove(self.slot_of(name), name);
        }
    }
}
