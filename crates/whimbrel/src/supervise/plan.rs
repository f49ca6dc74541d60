//! Decides what a supervisor does: which child starts, which one stops, who comes back, and when it is too much.
//!
//! Pure: what happened goes in, with the time; what is to be done comes out of [`Plan::poll`]. It runs nothing itself.
//!
//! ```text
//!                 due, and its turn            up                 ends, and is to be started again
//!   (new) ─> Waits ────────────────> NotYet ───────> Up ─────────────────────────────────────────> Waits
//!                                       │            │ told to stop            ends
//!                                       └────────────┴─────────────> Stops ─────────> Waits, Stopped or gone
//! ```
//!
//! Order: with `OneForAll` and `RestForOne`, and for every strategy while the whole tree starts, a child starts when all
//! before it that are wanted are up, and none is being stopped. With `OneForOne` later restarts are each for itself:
//! a child that is slow to come back holds up nobody. A group stops from its last child to its first, one at a time.

use std::collections::VecDeque;
use std::sync::Arc;

use whimbrel_core::base::{ExitReason, Rng, Time};
use whimbrel_core::directory::{RestartIntensity, RestartPolicy};

use super::{CHILDREN_MAX, ChildState, Strategy};

/// One child, among all that its supervisor ever had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(u64);

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Start(Key),
    Stop(Key),
    /// For those who wait for something of this child.
    Tell(Key, Told),
}

/// What came of a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Up,
    Down,
    /// A start that somebody asked for failed.
    Failed(ExitReason),
}

/// Why something that was asked for is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Full,
    Ends,
    Taken,
    Unknown,
}

/// What came of the first start of all children.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FirstStart {
    /// It is under way, or was broken off.
    NotYet,
    Done,
    /// This child did not start.
    Failed(Arc<str>, ExitReason),
}

#[derive(Debug)]
enum Phase {
    /// The first start: the end of a child that was not up yet ends it all.
    Starts,
    Runs,
    /// Everything was stopped and waits for [`Plan::resume`].
    Rests,
    /// After a rest: in order again.
    Resumes,
    Ends(ExitReason),
}

/// What follows when a child that is to stop has ended.
#[derive(Clone, Copy, Debug)]
enum Then {
    Waits(Time),
    Stays,
    Goes,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Waits { due: Time },
    Runs { life: Life, doomed: Option<Then> },
    Stops { then: Then },
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    NotYet,
    Up,
}

#[derive(Debug)]
struct Child {
    key: Key,
    id: Arc<str>,
    policy: RestartPolicy,
    state: State,
    starts: u64,
    /// Somebody asked for the start that it is in: if that fails this follows, and not a restart.
    asked: Option<Then>,
}

impl Child {
    /// What it is after it was stopped for good.
    fn at_rest(&self) -> Then {
        if self.policy == RestartPolicy::Temporary { Then::Goes } else { Then::Stays }
    }

    /// What it is after it was stopped because others are started again.
    fn after_group(&self, due: Time) -> Then {
        if self.policy == RestartPolicy::Temporary { Then::Goes } else { Then::Waits(due) }
    }

    fn doom(&mut self, fate: Then) {
        if let State::Runs { doomed: doomed @ None, .. } = &mut self.state {
            *doomed = Some(fate);
        }
    }
}

/// What is shown of a child.
pub(super) struct Seen {
    pub(super) key: Key,
    pub(super) id: Arc<str>,
    pub(super) policy: RestartPolicy,
    pub(super) state: ChildState,
    pub(super) restarts: u64,
}

/// The state of one supervisor and its children.
#[derive(Debug)]
pub(super) struct Plan {
    strategy: Strategy,
    intensity: RestartIntensity,
    rng: Rng,
    phase: Phase,
    /// In the order of their starts.
    children: Vec<Child>,
    last_key: u64,
    /// When there was a restart, within the window: at most as many as the intensity allows.
    restarts: VecDeque<Time>,
    actions: VecDeque<Action>,
    first: FirstStart,
}

impl Plan {
    /// Without children; nothing happens before [`Plan::poll`].
    pub(super) fn new(strategy: Strategy, intensity: RestartIntensity, rng: Rng) -> Self {
        Self {
            strategy,
            intensity,
            rng,
            phase: Phase::Starts,
            children: Vec::new(),
            last_key: 0,
            restarts: VecDeque::new(),
            actions: VecDeque::new(),
            first: FirstStart::NotYet,
        }
    }

    pub(super) fn children(&self) -> impl Iterator<Item = Seen> + '_ {
        self.children.iter().map(|child| Seen {
            key: child.key,
            id: child.id.clone(),
            policy: child.policy,
            state: match child.state {
                State::Waits { .. } => ChildState::Waiting,
                State::Runs { life: Life::NotYet, .. } => ChildState::Starting,
                State::Runs { life: Life::Up, .. } => ChildState::Up,
                State::Stops { .. } => ChildState::Stopping,
                State::Stopped => ChildState::Stopped,
            },
            restarts: child.starts.saturating_sub(1),
        })
    }

    /// What came of the first start, whatever came after it.
    pub(super) fn first_start(&self) -> &FirstStart {
        &self.first
    }

    /// Whether it rests and nothing runs.
    pub(super) fn is_at_rest(&self) -> bool {
        matches!(self.phase, Phase::Rests) && self.none_runs()
    }

    /// Why it has ended; none while it goes on.
    pub(super) fn over(&self) -> Option<ExitReason> {
        match &self.phase {
            Phase::Ends(reason) if self.none_runs() => Some(reason.clone()),
            _ => None,
        }
    }

    fn none_runs(&self) -> bool {
        self.children.iter().all(|child| matches!(child.state, State::Waits { .. } | State::Stopped))
    }

    /// When [`Plan::poll`] has something to do though nothing happened.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.candidates().into_iter().map(|(_, due)| due).min()
    }

    // Inputs.

    /// A new child, at the end of the order. One of the first ones has nobody who asked for it.
    pub(super) fn add(&mut self, id: Arc<str>, policy: RestartPolicy, now: Time) -> Result<Key, Refusal> {
        if matches!(self.phase, Phase::Ends(_)) {
            return Err(Refusal::Ends);
        }
        if let Some(at) = self.find(&id) {
            if !matches!(self.children[at].state, State::Stopped) {
                return Err(Refusal::Taken);
            }
            self.children.remove(at);
        }
        if self.children.len() >= CHILDREN_MAX {
            return Err(Refusal::Full);
        }
        self.last_key += 1;
        let key = Key(self.last_key);
        let asked = (!matches!(self.phase, Phase::Starts)).then_some(Then::Goes);
        self.children.push(Child { key, id, policy, state: State::Waits { due: now }, starts: 0, asked });
        Ok(key)
    }

    /// Stops a child if it runs, and starts it again; this is no restart that counts.
    pub(super) fn restart(&mut self, id: &str, now: Time) -> Result<Key, Refusal> {
        let at = self.asked_for(id)?;
        let child = &mut self.children[at];
        child.asked = Some(child.at_rest());
        match child.state {
            State::Waits { .. } | State::Stopped => child.state = State::Waits { due: now },
            State::Runs { .. } => self.stop_now(at, Then::Waits(now)),
            State::Stops { .. } => child.state = State::Stops { then: Then::Waits(now) },
        }
        Ok(self.children[at].key)
    }

    /// Stops a child; a temporary one is forgotten then.
    pub(super) fn stop(&mut self, id: &str) -> Result<Key, Refusal> {
        let at = self.asked_for(id)?;
        let then = self.children[at].at_rest();
        Ok(self.end_child(at, then))
    }

    /// Stops a child and forgets it.
    pub(super) fn remove(&mut self, id: &str) -> Result<Key, Refusal> {
        let at = self.asked_for(id)?;
        Ok(self.end_child(at, Then::Goes))
    }

    /// A child that was started is up.
    pub(super) fn up(&mut self, key: Key) {
        let Some(child) = self.children.iter_mut().find(|child| child.key == key) else { return };
        if let State::Runs { life: life @ Life::NotYet, doomed } = &mut child.state {
            *life = Life::Up;
            if doomed.is_none() {
                child.asked = None;
                self.actions.push_back(Action::Tell(key, Told::Up));
            }
        }
    }

    /// A child that was started has ended, with everything of it.
    pub(super) fn ended(&mut self, key: Key, reason: &ExitReason, now: Time) {
        let Some(at) = self.children.iter().position(|child| child.key == key) else { return };
        match self.children[at].state {
            State::Stops { then } | State::Runs { doomed: Some(then), .. } => self.follow(at, then),
            State::Runs { life: Life::NotYet, .. } => self.not_started(at, reason, now),
            State::Runs { life: Life::Up, .. } => self.left(at, reason, now),
            State::Waits { .. } | State::Stopped => {}
        }
    }

    /// Stops everything, for good. The first reason stays.
    pub(super) fn end(&mut self, reason: ExitReason) {
        if matches!(self.phase, Phase::Ends(_)) {
            return;
        }
        self.phase = Phase::Ends(reason);
        for child in &mut self.children {
            child.state = match child.state {
                State::Waits { .. } | State::Stopped => State::Stopped,
                State::Runs { life, .. } => State::Runs { life, doomed: Some(Then::Stays) },
                State::Stops { .. } => State::Stops { then: Then::Stays },
            };
        }
    }

    /// Stops everything until [`Plan::resume`]. Before all of it has started once nobody can ask for this.
    pub(super) fn rest(&mut self, now: Time) {
        if !matches!(self.phase, Phase::Runs | Phase::Resumes) {
            return;
        }
        self.phase = Phase::Rests;
        for child in &mut self.children {
            child.doom(child.after_group(now));
        }
    }

    /// Goes on after a rest, from the first child to the last.
    pub(super) fn resume(&mut self) {
        if matches!(self.phase, Phase::Rests) {
            self.phase = Phase::Resumes;
        }
    }

    // Outputs.

    /// What is to be done next.
    pub(super) fn poll(&mut self, now: Time) -> Option<Action> {
        if self.actions.is_empty() {
            self.stop_next();
            self.start_due(now);
            self.leave_order();
        }
        self.actions.pop_front()
    }

    /// Of a group, the last one that still runs is told, when the one after it has ended.
    fn stop_next(&mut self) {
        let last = self.children.iter().rposition(|child| {
            matches!(child.state, State::Stops { .. } | State::Runs { doomed: Some(_), .. })
        });
        if let Some(at) = last
            && let State::Runs { doomed: Some(then), .. } = self.children[at].state
        {
            self.stop_now(at, then);
        }
    }

    fn start_due(&mut self, now: Time) {
        for (at, due) in self.candidates() {
            if due <= now {
                let child = &mut self.children[at];
                child.state = State::Runs { life: Life::NotYet, doomed: None };
                child.starts += 1;
                self.actions.push_back(Action::Start(child.key));
            }
        }
    }

    /// When all are up that are to be, the order of a whole start is over.
    fn leave_order(&mut self) {
        let up = |child: &Child| {
            matches!(child.state, State::Stopped | State::Runs { life: Life::Up, doomed: None })
        };
        if matches!(self.phase, Phase::Starts | Phase::Resumes) && self.children.iter().all(up) {
            self.phase = Phase::Runs;
            self.first = FirstStart::Done;
        }
    }

    /// Children whose turn it is, and their time.
    fn candidates(&self) -> Vec<(usize, Time)> {
        let ordered = match self.phase {
            Phase::Rests | Phase::Ends(_) => return Vec::new(),
            Phase::Starts | Phase::Resumes => true,
            Phase::Runs => self.strategy != Strategy::OneForOne,
        };
        let mut candidates = Vec::new();
        for (at, child) in self.children.iter().enumerate() {
            match child.state {
                State::Waits { due } => candidates.push((at, due)),
                State::Stops { .. } | State::Runs { doomed: Some(_), .. } if ordered => return Vec::new(),
                State::Runs { life: Life::NotYet, .. } if ordered && candidates.is_empty() => {
                    return Vec::new();
                }
                State::Stops { .. } | State::Runs { .. } | State::Stopped => {}
            }
        }
        if ordered {
            candidates.truncate(1);
        }
        candidates
    }

    fn find(&self, id: &str) -> Option<usize> {
        self.children.iter().position(|child| &*child.id == id)
    }

    fn asked_for(&self, id: &str) -> Result<usize, Refusal> {
        if matches!(self.phase, Phase::Ends(_)) {
            return Err(Refusal::Ends);
        }
        self.find(id).ok_or(Refusal::Unknown)
    }

    fn end_child(&mut self, at: usize, then: Then) -> Key {
        let key = self.children[at].key;
        match self.children[at].state {
            State::Waits { .. } | State::Stopped => self.follow(at, then),
            State::Runs { .. } => self.stop_now(at, then),
            State::Stops { .. } => self.children[at].state = State::Stops { then },
        }
        key
    }

    fn stop_now(&mut self, at: usize, then: Then) {
        let child = &mut self.children[at];
        child.state = State::Stops { then };
        self.actions.push_back(Action::Stop(child.key));
    }

    /// Nothing of the child runs any more.
    fn follow(&mut self, at: usize, then: Then) {
        let key = self.children[at].key;
        match then {
            Then::Waits(due) => self.children[at].state = State::Waits { due },
            Then::Stays => self.children[at].state = State::Stopped,
            Then::Goes => drop(self.children.remove(at)),
        }
        if !matches!(then, Then::Waits(_)) {
            self.actions.push_back(Action::Tell(key, Told::Down));
        }
    }

    fn not_started(&mut self, at: usize, reason: &ExitReason, now: Time) {
        if matches!(self.phase, Phase::Starts) {
            let id = self.children[at].id.clone();
            self.children[at].state = State::Stopped;
            self.end(ExitReason::Error(format!("child {id} did not start: {reason}")).capped());
            self.first = FirstStart::Failed(id, reason.clone());
        } else if let Some(then) = self.children[at].asked.take() {
            self.actions.push_back(Action::Tell(self.children[at].key, Told::Failed(reason.clone())));
            self.follow(at, then);
        } else {
            self.left(at, reason, now);
        }
    }

    /// A child that nobody told to stop has ended.
    fn left(&mut self, at: usize, reason: &ExitReason, now: Time) {
        if !self.children[at].policy.restarts_after(reason) {
            let then = self.children[at].at_rest();
            return self.follow(at, then);
        }
        let RestartIntensity { restarts_max, window, .. } = self.intensity;
        while self.restarts.front().is_some_and(|then| now.since(*then) >= window) {
            self.restarts.pop_front();
        }
        if self.restarts.len() >= restarts_max as usize {
            self.children[at].state = State::Stopped;
            let id = &self.children[at].id;
            let failures = u64::from(restarts_max) + 1;
            let text =
                format!("{failures} failures of children within {window:?}, at last of {id}: {reason}");
            return self.end(ExitReason::Error(text).capped());
        }
        let due = now + self.intensity.delay(self.restarts.len(), &mut self.rng);
        self.restarts.push_back(now);
        self.children[at].state = State::Waits { due };
        let group = match self.strategy {
            Strategy::OneForOne => 0..0,
            Strategy::OneForAll => 0..self.children.len(),
            Strategy::RestForOne => at + 1..self.children.len(),
        };
        for child in &mut self.children[group] {
            child.doom(child.after_group(due));
        }
    }
}

#[cfg(test)]
mod tests;
