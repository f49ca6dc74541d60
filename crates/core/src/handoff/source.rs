//! A process on its way out.
//!
//! ```text
//!   state        event                            next         does
//!   Reserving    reserved                         Quiescing    brings the process to rest
//!   Reserving    refused, too late, target lost   -            tells owner and target
//!   Quiescing    captured                         Installing   sends the first parts
//!   Quiescing    stays                            -            tells owner and target
//!   Quiescing    too late, target lost            -            the process goes on; tells owner and target
//!   Installing   taken                            Installing   sends the next parts
//!   Installing   installed                        Deciding     asks the owner to commit
//!   Installing   refused, too late, target lost   Deciding     asks the owner to call it off
//!   Deciding     committed                        -            the process is gone
//!   any          aborted                          -            the process goes on; tells the target
//!   Installing.. superseded                       -            the process ends; its mailbox ends Unknown
//!   any          repeat                           same         says it again
//!   any          ended                            -            tells the target
//!   Installing,
//!   Deciding     line left                        Judged       waits for an owner of the new line
//!   others       line left                        -            the process goes on
//!   Judged       kept                             -            the process goes on; what it has not read ends Unknown
//! ```
//!
//! *Invariant:* from `Installing` on the process is sealed, and nothing but a decision of an owner unseals it.

use std::time::Duration;

use super::message::Message;
use super::{INSTALL_MAX, Order, QUIESCE_MAX, RESERVE_MAX, Rules};
use crate::base::hash::hash;
use crate::base::{Bytes, Decision, Hindrance, Mutant, Plea};

/// Parts under way without an answer.
const CHUNKS_UNANSWERED: u32 = 4;
/// Seed of the hash over an image.
const IMAGE_SEED: u64 = 0x494d_4147;

/// The hash over an image.
pub(super) fn sum_of(image: &[u8]) -> u64 {
    hash(IMAGE_SEED, image)
}

/// An image on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Upload {
    image: Bytes,
    sum: u64,
    /// Bytes of a part.
    chunk: u32,
    sent: u32,
    taken: u32,
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The target is asked whether it has room.
    Reserving,
    /// The process comes to rest.
    Quiescing,
    /// The image is on its way, or being made into a process.
    Installing(Upload),
    /// The owner is asked.
    Deciding(Plea),
    /// The line was left: an owner of the next one judges the offered life.
    Judged,
}

/// What happens to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SourceEvent {
    Reserved,
    Refused(Hindrance),
    Captured(Result<Bytes, Hindrance>),
    Taken(u32),
    Installed,
    TargetLost,
    Decided(Decision),
    Ended,
    LineLeft,
    Kept,
    TooLate,
    Repeat,
}

/// What it wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SourceEffect {
    Send(Message),
    Capture,
    Release(Decision),
    Depart,
    Abandon,
    Ask(Plea),
}

/// The name of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SourceKind {
    Reserving,
    Quiescing,
    Installing,
    Deciding,
    Judged,
}

impl SourceKind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            SourceKind::Reserving => "source reserving",
            SourceKind::Quiescing => "source quiescing",
            SourceKind::Installing => "source installing",
            SourceKind::Deciding => "source deciding",
            SourceKind::Judged => "source judged",
        }
    }
}

impl SourceEvent {
    /// Whether the patience of the state begins anew.
    pub(super) fn is_progress(&self) -> bool {
        matches!(self, SourceEvent::Taken(_))
    }
}

impl Upload {
    fn new(image: Bytes, chunk: usize) -> Self {
        let sum = sum_of(image.as_slice());
        let chunk = u32::try_from(chunk).unwrap_or(u32::MAX);
        Self { image, sum, chunk, sent: 0, taken: 0 }
    }

    fn total(&self) -> u32 {
        u32::try_from(self.image.len()).unwrap_or(u32::MAX)
    }

    /// The parts that may be sent now. Of an image without bytes one part is sent too.
    fn parts(&mut self, order: &Order) -> Vec<SourceEffect> {
        let chunk = self.chunk;
        let mut parts = Vec::new();
        let end = self.total().min(self.taken.saturating_add(chunk.saturating_mul(CHUNKS_UNANSWERED)));
        while self.sent < end || (self.total() == 0 && parts.is_empty()) {
            let next = self.total().min(self.sent.saturating_add(chunk));
            parts.push(self.part(order, self.sent, next));
            self.sent = next;
        }
        parts
    }

    fn part(&self, order: &Order, from: u32, to: u32) -> SourceEffect {
        let bytes = self.image.as_slice().get(from as usize..to as usize).unwrap_or_default();
        SourceEffect::Send(Message::Chunk {
            name: order.name.clone(),
            attempt: order.attempt,
            total: self.total(),
            sum: self.sum,
            offset: from,
            bytes: bytes.into(),
        })
    }

    /// What no answer came for, once more; if all has arrived, a question.
    fn again(&mut self, order: &Order) -> Vec<SourceEffect> {
        self.sent = self.taken;
        let parts = self.parts(order);
        if parts.is_empty() { vec![self.part(order, self.total(), self.total())] } else { parts }
    }
}

type Step = (Option<Source>, Vec<SourceEffect>);

impl Source {
    pub(super) fn kind(&self) -> SourceKind {
        match self {
            Source::Reserving => SourceKind::Reserving,
            Source::Quiescing => SourceKind::Quiescing,
            Source::Installing(_) => SourceKind::Installing,
            Source::Deciding(_) => SourceKind::Deciding,
            Source::Judged => SourceKind::Judged,
        }
    }

    /// Whether only an owner can say what becomes of it.
    pub(super) fn is_sealed(&self) -> bool {
        matches!(self, Source::Installing(_) | Source::Deciding(_) | Source::Judged)
    }

    /// How long it may last; an owner's decision takes as long as it takes.
    pub(super) fn patience(&self) -> Option<Duration> {
        match self {
            Source::Reserving => Some(RESERVE_MAX),
            Source::Quiescing => Some(QUIESCE_MAX),
            Source::Installing(_) => Some(INSTALL_MAX),
            Source::Deciding(_) | Source::Judged => None,
        }
    }

    /// Bytes of its image.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Source::Installing(upload) => upload.image.len(),
            Source::Reserving | Source::Quiescing | Source::Deciding(_) | Source::Judged => 0,
        }
    }

    /// The next state, none when it is over, and what is to be done.
    pub(super) fn on(self, event: SourceEvent, order: &Order, rules: Rules) -> Step {
        match (self, event) {
            (state, SourceEvent::Decided(decision)) => state.on_decided(decision, order),
            (_, SourceEvent::Ended) => (None, vec![cancel(order)]),
            (Source::Judged, SourceEvent::Kept) => Source::Judged.on_decided(Decision::Aborted, order),
            // Said late, of an offer before.
            (state, SourceEvent::Kept) => (Some(state), Vec::new()),
            (Source::Reserving, event) => on_reserving(&event, order),
            (Source::Quiescing, event) => on_quiescing(event, order, rules),
            (Source::Installing(upload), event) => on_installing(upload, &event, order),
            (Source::Deciding(plea), SourceEvent::Repeat) => {
                (Some(Source::Deciding(plea)), vec![SourceEffect::Ask(plea)])
            }
            (Source::Deciding(_) | Source::Judged, SourceEvent::LineLeft) => {
                (Some(Source::Judged), Vec::new())
            }
            (state @ (Source::Deciding(_) | Source::Judged), _) => (Some(state), Vec::new()),
        }
    }

    fn on_decided(self, decision: Decision, order: &Order) -> Step {
        let effect = match (self, decision) {
            (_, Decision::Committed) => return (None, vec![SourceEffect::Depart]),
            (Source::Reserving, Decision::Aborted | Decision::Superseded) => None,
            // What another line made of the attempt its owner can not know.
            (Source::Judged, Decision::Aborted) => Some(SourceEffect::Release(Decision::Superseded)),
            (Source::Quiescing, Decision::Superseded) | (_, Decision::Aborted) => Some(RELEASE),
            (_, Decision::Superseded) => Some(SourceEffect::Abandon),
        };
        (None, effect.into_iter().chain([cancel(order)]).collect())
    }
}

const RELEASE: SourceEffect = SourceEffect::Release(Decision::Aborted);

fn cancel(order: &Order) -> SourceEffect {
    SourceEffect::Send(Message::Cancel { name: order.name.clone(), attempt: order.attempt })
}

fn call_off(why: Hindrance) -> SourceEffect {
    SourceEffect::Ask(Plea::CallOff(why))
}

fn on_reserving(event: &SourceEvent, order: &Order) -> Step {
    match event {
        SourceEvent::Reserved => (Some(Source::Quiescing), vec![SourceEffect::Capture]),
        SourceEvent::Refused(why) => (None, vec![call_off(*why)]),
        SourceEvent::TooLate | SourceEvent::TargetLost => {
            (None, vec![cancel(order), call_off(Hindrance::Lost)])
        }
        SourceEvent::LineLeft => (None, Vec::new()),
        SourceEvent::Repeat => {
            let Order { name, attempt, kind, args, gate, .. } = order.clone();
            let reserve = Message::Reserve { name, attempt, kind, args, gate };
            (Some(Source::Reserving), vec![SourceEffect::Send(reserve)])
        }
        SourceEvent::Captured(_)
        | SourceEvent::Taken(_)
        | SourceEvent::Installed
        | SourceEvent::Decided(_)
        | SourceEvent::Ended
        | SourceEvent::Kept => (Some(Source::Reserving), Vec::new()),
    }
}

fn on_quiescing(event: SourceEvent, order: &Order, rules: Rules) -> Step {
    let give_up = |why| (None, vec![RELEASE, cancel(order), call_off(why)]);
    match event {
        SourceEvent::Captured(Ok(image)) => {
            let mut upload = Upload::new(image, rules.chunk);
            let mut parts = upload.parts(order);
            if rules.mutants.has(Mutant::ResumedByItself) {
                parts.push(RELEASE);
            }
            if rules.mutants.has(Mutant::CommittedBeforeInstalled) {
                parts.push(SourceEffect::Ask(Plea::Commit));
            }
            (Some(Source::Installing(upload)), parts)
        }
        SourceEvent::Captured(Err(why)) => give_up(why),
        SourceEvent::TooLate => give_up(Hindrance::Slow),
        SourceEvent::TargetLost | SourceEvent::Refused(_) => give_up(Hindrance::Lost),
        SourceEvent::LineLeft => (None, vec![RELEASE]),
        SourceEvent::Reserved
        | SourceEvent::Taken(_)
        | SourceEvent::Installed
        | SourceEvent::Repeat
        | SourceEvent::Decided(_)
        | SourceEvent::Ended
        | SourceEvent::Kept => (Some(Source::Quiescing), Vec::new()),
    }
}

fn on_installing(mut upload: Upload, event: &SourceEvent, order: &Order) -> Step {
    let ask = |plea| (Some(Source::Deciding(plea)), vec![SourceEffect::Ask(plea)]);
    let effects = match event {
        SourceEvent::Installed => return ask(Plea::Commit),
        SourceEvent::Refused(why) => return ask(Plea::CallOff(*why)),
        SourceEvent::TargetLost | SourceEvent::TooLate => return ask(Plea::CallOff(Hindrance::Lost)),
        SourceEvent::LineLeft => return (Some(Source::Judged), Vec::new()),
        SourceEvent::Taken(offset) => {
            upload.taken = upload.taken.max((*offset).min(upload.total()));
            upload.sent = upload.sent.max(upload.taken);
            if upload.taken < upload.total() { upload.parts(order) } else { Vec::new() }
        }
        SourceEvent::Repeat => upload.again(order),
        SourceEvent::Reserved
        | SourceEvent::Captured(_)
        | SourceEvent::Decided(_)
        | SourceEvent::Ended
        | SourceEvent::Kept => Vec::new(),
    };
    (Some(Source::Installing(upload)), effects)
}
