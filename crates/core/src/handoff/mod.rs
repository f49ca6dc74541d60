//! Handoff: one process goes from the node where it runs to another one, with its state and its unread mailbox.
//!
//! Decides: what source and target of a move do next. Promises: the source does not run the process from the first byte
//! that it sends of it until the owner of the name has decided; the target makes the process before the owner is asked,
//! and does not run it before the owner says so; either goes back when nothing comes of the move. Assumes: the owner
//! (`directory/moves.rs`) commits or aborts each attempt once, in the record, on every replica.
//!
//! ```text
//!   source                                       target
//!   Reserving ─ Reserve ───────────────────────> (none)
//!       │     <─ Reserved ──────────────────────── Reserved
//!       v  process is quiet, gate sealed            │
//!   Quiescing                                       │
//!       v  captured                                 v
//!   Installing ─ Chunk, Chunk... ──────────────> Receiving
//!       │      <─ Taken... ───────────────────────  v  whole
//!       │                                         Resuming  (user code, in the process's own task)
//!       v      <─ Installed ────────────────────── Held
//!   Deciding ── the owner is asked ──┐              │
//!       v                            v              v  the owner's grant
//!    gone (or goes on)         Commit, Decided     runs
//! ```
//!
//! On a crash of the source its owner asks the target, which answers *whole* or promises that it never will be. On a
//! crash of the target or a view without it, the source asks the owner to abort. On a crash of the owner the next one
//! finds the attempt in the record. On a split each side has a line of its own, and a record that names the attempt. A
//! skipped view is harmless: attempts are tokens, and those only rise. Every message is repeated until it is answered
//! (`docs/protocol.md` section 8).

mod message;
mod source;
#[cfg(test)]
mod tests;
mod target;
mod waiting;

pub use message::Message;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::base::limits::{IMAGE_CHUNK_BYTES, IMAGES_BYTES_MAX, MOVES_IN_MAX, MOVES_OUT_MAX, Usage};
use crate::base::{
    Bytes, Decision, ExitReason, Hindrance, Incarnation, Kind, Mutants, Name, Plea, Time, Token,
};
use crate::view::View;
use source::{Source, SourceEffect, SourceEvent, SourceKind};
use target::{Target, TargetEffect, TargetEvent};
use waiting::Waiting;

/// Between two tries of what no answer came for.
const REPEAT: Duration = Duration::from_millis(500);
/// How long a target may take to answer whether it has room.
const RESERVE_MAX: Duration = Duration::from_secs(5);
/// How long a process may take to become quiet.
const QUIESCE_MAX: Duration = Duration::from_secs(10);
/// How long an image may take without any progress; also how long a process may take to resume.
const INSTALL_MAX: Duration = Duration::from_secs(30);

/// What is to be moved: the owner's intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The name.
    pub name: Name,
    /// Its life at the source.
    pub token: Token,
    /// Its life at the target, if it is committed.
    pub attempt: Token,
    /// The target.
    pub to: Incarnation,
    /// What kind of process it is.
    pub kind: Kind,
    /// Encoded arguments of `init`, for a process that begins anew at the target.
    pub args: Bytes,
    /// The gate, which moves along.
    pub gate: Token,
}

/// A process on its way in: what is needed to make it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// The name.
    pub name: Name,
    /// Its life here, if the move is committed.
    pub attempt: Token,
    /// What kind of process it is.
    pub kind: Kind,
    /// Encoded arguments of `init`.
    pub args: Bytes,
    /// The gate.
    pub gate: Token,
    /// The source.
    pub from: Incarnation,
}

/// What the handoff wants done. In order.
#[derive(Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Output {
    /// Send this to that member.
    Send(Incarnation, Message),
    /// Bring this process to rest, seal its gate, make an image of it. Ends in `handle_captured`.
    Capture { name: Name, token: Token, attempt: Token, to: Incarnation },
    /// The process goes on here; or ends, since it was told to meanwhile. Superseded, what is in its mailbox may be
    /// handled elsewhere; *copied*, so may what does not come to its turn here.
    Release {
        name: Name,
        token: Token,
        attempt: Token,
        decision: Decision,
        copied: bool,
        ends: Option<ExitReason>,
    },
    /// The process runs at the target: what is left of it here goes.
    Depart { name: Name, token: Token, attempt: Token, to: Incarnation },
    /// The process ends here. What is in its mailbox may be handled elsewhere.
    Abandon { name: Name, attempt: Token, reason: ExitReason },
    /// Make the process from its image, at rest. Ends in `handle_installed`.
    Install { passage: Passage, image: Bytes },
    /// Nothing comes of this one. Superseded, perhaps nobody else has its mailbox.
    Uninstall { name: Name, attempt: Token, decision: Decision },
    /// The process is here, at rest, and is run when the owner says so.
    Held { name: Name, attempt: Token },
    /// It is not any more.
    NotHeld { name: Name, attempt: Token },
    /// Ask the owner of the moment.
    Ask { name: Name, attempt: Token, plea: Plea },
    /// Tell the owner of the moment, or the one who asked, whether the whole process is held here.
    Holds { to: Option<Incarnation>, name: Name, gate: Token, attempt: Token, whole: bool },
}

/// A process on its way out.
#[derive(Debug)]
struct Outbound {
    order: Order,
    state: Source,
    times: Times,
    /// It is to end when the move has, unless it has moved.
    ends: Option<ExitReason>,
}

/// A process on its way in.
#[derive(Debug)]
struct Inbound {
    passage: Passage,
    state: Target,
    times: Times,
}

/// When something is due of a process on its way.
#[derive(Clone, Copy, Debug)]
struct Times {
    /// When its state is over, whatever happens.
    until: Option<Time>,
    repeat_at: Time,
}

impl Times {
    fn next(self) -> Time {
        self.until.map_or(self.repeat_at, |until| until.min(self.repeat_at))
    }

    /// After a step: a new state, or progress in this one, has all its patience before it.
    fn after(self, changed: bool, is_progress: bool, patience: Option<Duration>, now: Time) -> Self {
        let until = if changed || is_progress { patience.map(|patience| now + patience) } else { self.until };
        let repeat_at = if changed || self.repeat_at <= now { now + REPEAT } else { self.repeat_at };
        Self { until, repeat_at }
    }
}

/// All moves from and to one node.
#[derive(Debug)]
pub struct Handoff {
    outbound: BTreeMap<Name, Outbound>,
    inbound: BTreeMap<Name, Inbound>,
    waiting: Waiting,
    /// The node leaves, or is on its way out: nothing comes in.
    closed: bool,
    rules: Rules,
    out: VecDeque<Output>,
}

/// What the sources of a node go by.
#[derive(Clone, Copy, Debug)]
struct Rules {
    /// Bytes of a part of an image.
    chunk: usize,
    mutants: Mutants,
}

impl Handoff {
    /// Nothing moves. Images go in parts of so many bytes, at most [`IMAGE_CHUNK_BYTES`].
    pub fn new(chunk: usize, mutants: Mutants) -> Self {
        let (outbound, inbound) = (BTreeMap::new(), BTreeMap::new());
        let rules = Rules { chunk: chunk.clamp(1, IMAGE_CHUNK_BYTES), mutants };
        Self { outbound, inbound, waiting: Waiting::default(), closed: false, rules, out: VecDeque::new() }
    }

    /// The step of each process on its way.
    pub fn steps(&self) -> impl Iterator<Item = &'static str> + '_ {
        let outbound = self.outbound.values().map(|outbound| outbound.state.kind().as_str());
        outbound.chain(self.inbound.values().map(|inbound| inbound.state.kind().as_str()))
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When `handle_wake` is due.
    pub fn next_deadline(&self) -> Option<Time> {
        let outbound = self.outbound.values().map(|outbound| outbound.times.next());
        outbound.chain(self.inbound.values().map(|inbound| inbound.times.next())).min()
    }

    /// Whether this life is on its way out: nothing but the end of the move may end it.
    pub fn is_leaving(&self, name: &Name, token: Token) -> bool {
        self.outbound.get(name).is_some_and(|outbound| outbound.order.token == token)
    }

    /// Processes of this kind that are on their way here.
    pub fn arriving(&self, kind: &Kind) -> usize {
        self.inbound.values().filter(|inbound| inbound.passage.kind == *kind).count()
    }

    /// Whether nothing is on its way here.
    pub fn is_empty_in(&self) -> bool {
        self.inbound.is_empty()
    }

    /// How full its tables are.
    pub fn usage(&self) -> Vec<Usage> {
        let mut rows = vec![
            Usage::new("moves out", self.outbound.len(), MOVES_OUT_MAX),
            Usage::new("moves in", self.inbound.len(), MOVES_IN_MAX),
            Usage::new("image bytes in", self.bytes_in(), IMAGES_BYTES_MAX),
        ];
        rows.extend(self.waiting.usage());
        rows
    }

    /// The node leaves: from now on nothing comes in, and what is whole here already waits for its decision.
    pub fn close(&mut self, now: Time) {
        self.closed = true;
        for passage in self.inbound.values().map(|i| i.passage.clone()).collect::<Vec<_>>() {
            self.target_event(&passage.name, passage.attempt, TargetEvent::Leaving, now);
        }
    }

    /// The owner wants a process of this node moved. It says so until that is done or called off.
    pub fn handle_order(&mut self, order: Order, now: Time) {
        if let Some(known) = self.outbound.get(&order.name) {
            if known.order.attempt == order.attempt && matches!(known.state, Source::Deciding(_)) {
                // There is a new owner, and what the one before was asked may be lost: a process at rest does not wait
                // for the next repetition.
                return self.source_event(&order.name, SourceEvent::Repeat, now);
            }
            if known.order.attempt >= order.attempt {
                return;
            }
            // The earlier attempt is over, and the word of it was lost.
            let name = order.name.clone();
            self.source_event(&name, SourceEvent::Decided(Decision::Aborted), now);
        }
        if self.outbound.len() >= MOVES_OUT_MAX {
            return self.waiting.put_off(order);
        }
        self.begin(order, now);
    }

    fn begin(&mut self, order: Order, now: Time) {
        let name = order.name.clone();
        let outbound = Outbound {
            order,
            state: Source::Reserving,
            times: Times { until: Some(now + RESERVE_MAX), repeat_at: now },
            ends: None,
        };
        self.outbound.insert(name.clone(), outbound);
        self.source_event(&name, SourceEvent::Repeat, now);
    }

    /// The process is at rest and this is its image; or why there is none.
    pub fn handle_captured(
        &mut self,
        name: &Name,
        attempt: Token,
        image: Result<Bytes, Hindrance>,
        now: Time,
    ) {
        let image = image.and_then(|image| match image.len() + self.bytes_out() {
            bytes if bytes > IMAGES_BYTES_MAX => Err(Hindrance::TooLarge),
            _ => Ok(image),
        });
        if self.outbound.get(name).is_some_and(|outbound| outbound.order.attempt == attempt) {
            self.source_event(name, SourceEvent::Captured(image), now);
        }
    }

    /// The process was made from its image; or why not.
    pub fn handle_installed(
        &mut self,
        name: &Name,
        attempt: Token,
        result: Result<(), Hindrance>,
        now: Time,
    ) {
        self.target_event(name, attempt, TargetEvent::Made(result), now);
    }

    /// The owner's decision.
    pub fn handle_decided(&mut self, name: &Name, attempt: Token, decision: Decision, now: Time) {
        if self.outbound.get(name).is_some_and(|outbound| outbound.order.attempt == attempt) {
            self.source_event(name, SourceEvent::Decided(decision), now);
        }
    }

    /// Whatever moved out under this name goes on here: an owner of a new line has judged it.
    pub fn handle_kept(&mut self, name: &Name, now: Time) {
        self.source_event(name, SourceEvent::Kept, now);
    }

    /// The process ended here by itself.
    pub fn handle_ended(&mut self, name: &Name, token: Token, now: Time) {
        if self.is_leaving(name, token) {
            self.source_event(name, SourceEvent::Ended, now);
        }
    }

    /// The life goes on under a higher token.
    pub fn handle_retoken(&mut self, name: &Name, old: Token, new: Token) {
        if let Some(outbound) = self.outbound.get_mut(name).filter(|o| o.order.token == old) {
            outbound.order.token = new;
        }
    }

    /// The process is to end. True if it ends with the move, since a part of it has left.
    pub fn handle_terminate(&mut self, name: &Name, token: Token, reason: &ExitReason, now: Time) -> bool {
        let Some(outbound) = self.outbound.get_mut(name).filter(|o| o.order.token == token) else {
            return false;
        };
        if outbound.state == Source::Judged {
            outbound.ends = Some(reason.clone());
            self.source_event(name, SourceEvent::Decided(Decision::Superseded), now);
            return true;
        }
        if outbound.state.is_sealed() {
            outbound.ends.get_or_insert(reason.clone());
            return true;
        }
        self.source_event(name, SourceEvent::Ended, now);
        false
    }

    /// The owner wants to know whether the whole process is here. *No* is a promise.
    pub fn handle_ask_holds(
        &mut self,
        from: Incarnation,
        name: &Name,
        gate: Token,
        attempt: Token,
        now: Time,
    ) {
        if self.inbound.get(name).is_some_and(|inbound| inbound.passage.attempt == attempt) {
            self.target_event(name, attempt, TargetEvent::AskHolds(from), now);
        } else {
            let (to, name) = (Some(from), name.clone());
            self.tell(Output::Holds { to, name, gate, attempt, whole: false });
        }
    }

    /// The owner says that nothing comes of it.
    pub fn handle_dismissed(&mut self, name: &Name, attempt: Token, decision: Decision, now: Time) {
        self.target_event(name, attempt, TargetEvent::Dismissed(decision), now);
    }

    /// The owner granted the process that is held here.
    pub fn handle_granted(&mut self, name: &Name, attempt: Token, now: Time) {
        self.target_event(name, attempt, TargetEvent::Granted, now);
    }

    /// The next question for room, once there is some.
    pub fn take_question(&mut self) -> Option<(Incarnation, Message)> {
        if self.inbound.len() < MOVES_IN_MAX { self.waiting.take_question() } else { None }
    }

    /// A view was installed.
    pub fn handle_view(&mut self, view: &View, now: Time) {
        self.waiting.handle_view(view);
        let lost = |node: Incarnation| !view.contains(node);
        let out = self.outbound.values().filter(|o| lost(o.order.to)).map(|o| o.order.name.clone());
        for name in out.collect::<Vec<_>>() {
            self.source_event(&name, SourceEvent::TargetLost, now);
        }
        let inbound = self.inbound.values().filter(|i| lost(i.passage.from)).map(|i| i.passage.clone());
        for Passage { name, attempt, .. } in inbound.collect::<Vec<_>>() {
            self.target_event(&name, attempt, TargetEvent::SourceLost, now);
        }
    }

    /// The line is left. What has not left goes on; what has waits to be judged; what came in is over, since its owner
    /// is in the other line, and whether it has committed it nobody can say here.
    pub fn handle_line_left(&mut self, now: Time) {
        self.waiting.clear();
        for name in self.outbound.keys().cloned().collect::<Vec<_>>() {
            self.source_event(&name, SourceEvent::LineLeft, now);
        }
        for passage in self.inbound.values().map(|i| i.passage.clone()).collect::<Vec<_>>() {
            let over = TargetEvent::Dismissed(Decision::Superseded);
            self.target_event(&passage.name, passage.attempt, over, now);
        }
    }

    /// A message of another member, or of this node to itself.
    pub fn handle_message(&mut self, from: Incarnation, message: Message, now: Time) {
        let (name, attempt) = message.about();
        let name = name.clone();
        let is_target = self
            .outbound
            .get(&name)
            .is_some_and(|outbound| outbound.order.attempt == attempt && outbound.order.to == from);
        let is_source = self
            .inbound
            .get(&name)
            .is_some_and(|inbound| inbound.passage.attempt == attempt && inbound.passage.from == from);
        let event = match message {
            Message::Reserve { kind, args, gate, .. } => {
                let passage = Passage { name, attempt, kind, args, gate, from };
                return self.on_reserve(passage, is_source, now);
            }
            Message::Chunk { total, sum, offset, bytes, .. } if is_source => {
                let fits = self.bytes_in() + total as usize <= IMAGES_BYTES_MAX;
                TargetEvent::Chunk { total, sum, offset, bytes, fits }
            }
            Message::Chunk { .. } => {
                // It was given up here.
                return self.send(from, Message::Refused { name, attempt, why: Hindrance::Lost });
            }
            Message::Cancel { .. } if is_source => TargetEvent::Dismissed(Decision::Aborted),
            Message::Cancel { .. } => return self.waiting.cancel(from, &name, attempt),
            Message::Reserved { .. } if is_target => {
                return self.source_event(&name, SourceEvent::Reserved, now);
            }
            Message::Refused { why, .. } if is_target => {
                return self.source_event(&name, SourceEvent::Refused(why), now);
            }
            Message::Taken { offset, .. } if is_target => {
                return self.source_event(&name, SourceEvent::Taken(offset), now);
            }
            Message::Installed { .. } if is_target => {
                return self.source_event(&name, SourceEvent::Installed, now);
            }
            Message::Reserved { .. } => {
                // It was given up here while it waited there.
                return self.send(from, Message::Cancel { name, attempt });
            }
            Message::Refused { .. } | Message::Taken { .. } | Message::Installed { .. } => return,
        };
        self.target_event(&name, attempt, event, now);
    }

    /// A process that this node can not take.
    pub fn refuse(&mut self, to: Incarnation, name: Name, attempt: Token, why: Hindrance) {
        self.send(to, Message::Refused { name, attempt, why });
    }

    /// Time has passed.
    pub fn handle_wake(&mut self, now: Time) {
        let out = self.outbound.values().map(|o| (o.order.name.clone(), o.times));
        for (name, Times { until, repeat_at }) in out.collect::<Vec<_>>() {
            if until.is_some_and(|until| until <= now) {
                self.source_event(&name, SourceEvent::TooLate, now);
            } else if repeat_at <= now {
                self.source_event(&name, SourceEvent::Repeat, now);
            }
        }
        let inbound = self.inbound.values().map(|i| (i.passage.clone(), i.times));
        for (passage, Times { until, repeat_at }) in inbound.collect::<Vec<_>>() {
            if until.is_some_and(|until| until <= now) {
                self.target_event(&passage.name, passage.attempt, TargetEvent::TooLate, now);
            } else if repeat_at <= now {
                self.target_event(&passage.name, passage.attempt, TargetEvent::Repeat, now);
            }
        }
    }

    fn on_reserve(&mut self, passage: Passage, is_known: bool, now: Time) {
        let (name, attempt, from) = (passage.name.clone(), passage.attempt, passage.from);
        if is_known {
            return self.target_event(&name, attempt, TargetEvent::Reserve, now);
        }
        if let Some(known) = self.inbound.get(&name) {
            if known.passage.attempt >= attempt {
                return self.refuse(from, name, attempt, Hindrance::Busy);
            }
            let earlier = known.passage.attempt;
            let is_same = known.passage.gate == passage.gate;
            let decision = if is_same { Decision::Aborted } else { Decision::Superseded };
            self.target_event(&name, earlier, TargetEvent::Dismissed(decision), now);
        }
        if self.closed {
            return self.refuse(from, name, attempt, Hindrance::Leaving);
        }
        if self.inbound.len() >= MOVES_IN_MAX {
            if !self.waiting.ask(passage) {
                self.refuse(from, name, attempt, Hindrance::Busy);
            }
            return;
        }
        let times = Times { until: Some(now + INSTALL_MAX), repeat_at: now + REPEAT };
        self.inbound.insert(name.clone(), Inbound { passage, state: Target::Reserved, times });
        self.target_event(&name, attempt, TargetEvent::Reserve, now);
    }

    fn bytes_out(&self) -> usize {
        self.outbound.values().map(|outbound| outbound.state.bytes()).sum()
    }

    fn bytes_in(&self) -> usize {
        self.inbound.values().map(|inbound| inbound.state.bytes()).sum()
    }

    fn tell(&mut self, output: Output) {
        self.out.push_back(output);
    }

    fn send(&mut self, to: Incarnation, message: Message) {
        self.tell(Output::Send(to, message));
    }

    /// Drives one process on its way out.
    fn source_event(&mut self, name: &Name, event: SourceEvent, now: Time) {
        let Some(Outbound { order, state, times, ends }) = self.outbound.remove(name) else {
            return;
        };
        let before = state.kind();
        let is_progress = event.is_progress();
        let (next, effects) = state.on(event, &order, self.rules);
        for effect in effects {
            self.source_effect(&order, before, &ends, effect);
        }
        let Some(state) = next else { return self.begin_next(now) };
        let times = times.after(before != state.kind(), is_progress, state.patience(), now);
        self.outbound.insert(name.clone(), Outbound { order, state, times, ends });
    }

    /// One process less is on its way out.
    fn begin_next(&mut self, now: Time) {
        while self.outbound.len() < MOVES_OUT_MAX {
            let Some(order) = self.waiting.take_order() else { return };
            self.handle_order(order, now);
        }
    }

    fn source_effect(
        &mut self,
        order: &Order,
        from: SourceKind,
        ends: &Option<ExitReason>,
        effect: SourceEffect,
    ) {
        let Order { name, token, attempt, to, .. } = order.clone();
        match effect {
            SourceEffect::Send(message) => self.send(to, message),
            SourceEffect::Capture => self.tell(Output::Capture { name, token, attempt, to }),
            SourceEffect::Release(decision) => {
                let copied = from != SourceKind::Quiescing;
                let ends = ends.clone();
                self.tell(Output::Release { name, token, attempt, decision, copied, ends });
            }
            SourceEffect::Abandon => {
                let reason = ends.clone().unwrap_or(ExitReason::ConflictLost);
                self.tell(Output::Abandon { name, attempt, reason });
            }
            SourceEffect::Depart => self.tell(Output::Depart { name, token, attempt, to }),
            SourceEffect::Ask(plea) => self.tell(Output::Ask { name, attempt, plea }),
        }
    }

    /// Drives one process on its way in.
    fn target_event(&mut self, name: &Name, attempt: Token, event: TargetEvent, now: Time) {
        if self.inbound.get(name).is_none_or(|inbound| inbound.passage.attempt != attempt) {
            return;
        }
        let Some(Inbound { passage, state, times }) = self.inbound.remove(name) else { return };
        let before = state.kind();
        let is_progress = matches!(event, TargetEvent::Chunk { .. });
        let (next, effects) = state.on(event, &passage);
        for effect in effects {
            self.target_effect(&passage, effect);
        }
        let Some(state) = next else { return };
        let times = times.after(before != state.kind(), is_progress, state.patience(), now);
        self.inbound.insert(name.clone(), Inbound { passage, state, times });
    }

    fn target_effect(&mut self, passage: &Passage, effect: TargetEffect) {
        let (name, attempt) = (passage.name.clone(), passage.attempt);
        match effect {
            TargetEffect::Send(message) => self.send(passage.from, message),
            TargetEffect::Install(image) => self.tell(Output::Install { passage: passage.clone(), image }),
            TargetEffect::Uninstall(decision) => self.tell(Output::Uninstall { name, attempt, decision }),
            TargetEffect::Held => self.tell(Output::Held { name, attempt }),
            TargetEffect::NotHeld => self.tell(Output::NotHeld { name, attempt }),
            TargetEffect::Holds { to, whole } => {
                let gate = passage.gate;
                self.tell(Output::Holds { to, name, gate, attempt, whole });
            }
        }
    }
}
