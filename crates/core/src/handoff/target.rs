//! A process on its way in.
//!
//! ```text
//!   state        event                            next        does
//!   (none)       reserve                          Reserved    says so
//!   Reserved     part                             Receiving   -
//!   Receiving    the next part                    Receiving   says how far it is
//!   Receiving    the last part                    Resuming    makes the process, in its own task
//!   Resuming     made                             Held        tells the source
//!   Resuming     not made                         -           tells the source why
//!   Held         granted                          -           the directory runs it
//!   Reserved,
//!   Receiving    source lost, too late, asked     -           "not whole" is a promise
//!   all but Held the node leaves                  -           undoes what was made, tells the source
//!   Resuming     asked                            Resuming    the owner asks again
//!   Held         asked, repeat                    Held        "whole"
//!   any          dismissed                        -           undoes what was made; superseded, its mailbox ends Unknown
//! ```

use std::time::Duration;

use super::message::Message;
use super::source::sum_of;
use super::{INSTALL_MAX, Passage};
use crate::base::limits::{IMAGE_BYTES_MAX, IMAGE_CHUNK_BYTES};
use crate::base::{Bytes, Decision, Hindrance, Incarnation, Name, Token};

/// An image that arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Download {
    total: u32,
    sum: u64,
    image: Vec<u8>,
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// There is room for it.
    Reserved,
    /// A part of the image is here.
    Receiving(Download),
    /// The process is being made: user code runs.
    Resuming {
        /// Bytes of the image.
        total: u32,
    },
    /// It is here, at rest.
    Held {
        /// Bytes of the image.
        total: u32,
    },
}

/// What happens to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TargetEvent {
    Reserve,
    Chunk {
        total: u32,
        sum: u64,
        offset: u32,
        bytes: Bytes,
        /// Whether the node has room for an image of that size.
        fits: bool,
    },
    Made(Result<(), Hindrance>),
    SourceLost,
    AskHolds(Incarnation),
    Granted,
    Dismissed(Decision),
    TooLate,
    /// The node leaves.
    Leaving,
    Repeat,
}

/// What it wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TargetEffect {
    Send(Message),
    Install(Bytes),
    Uninstall(Decision),
    Held,
    NotHeld,
    Holds { to: Option<Incarnation>, whole: bool },
}

/// The name of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TargetKind {
    Reserved,
    Receiving,
    Resuming,
    Held,
}

impl TargetKind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            TargetKind::Reserved => "target reserved",
            TargetKind::Receiving => "target receiving",
            TargetKind::Resuming => "target resuming",
            TargetKind::Held => "target held",
        }
    }
}

type Step = (Option<Target>, Vec<TargetEffect>);

impl Target {
    pub(super) fn kind(&self) -> TargetKind {
        match self {
            Target::Reserved => TargetKind::Reserved,
            Target::Receiving(_) => TargetKind::Receiving,
            Target::Resuming { .. } => TargetKind::Resuming,
            Target::Held { .. } => TargetKind::Held,
        }
    }

    pub(super) fn patience(&self) -> Option<Duration> {
        match self {
            Target::Reserved | Target::Receiving(_) | Target::Resuming { .. } => Some(INSTALL_MAX),
            Target::Held { .. } => None,
        }
    }

    /// Bytes of its image that are held for it.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Target::Receiving(download) => download.total as usize,
            Target::Resuming { total } => *total as usize,
            Target::Reserved | Target::Held { .. } => 0,
        }
    }

    /// The next state, none when it is over, and what is to be done.
    pub(super) fn on(self, event: TargetEvent, passage: &Passage) -> Step {
        match self {
            Target::Reserved | Target::Receiving(_) => self.on_incomplete(event, passage),
            Target::Resuming { total } => on_resuming(total, &event, passage),
            Target::Held { total } => on_held(total, &event, passage),
        }
    }

    fn on_incomplete(self, event: TargetEvent, passage: &Passage) -> Step {
        match (self, event) {
            (Target::Reserved, TargetEvent::Reserve) => {
                let reserved = say(passage, |name, attempt| Message::Reserved { name, attempt });
                (Some(Target::Reserved), vec![reserved])
            }
            (Target::Reserved, TargetEvent::Chunk { total, sum, offset: 0, bytes, fits }) => {
                if total as usize > IMAGE_BYTES_MAX || !fits {
                    let why = if fits { Hindrance::TooLarge } else { Hindrance::Busy };
                    return (None, vec![refused(passage, why)]);
                }
                Download { total, sum, image: Vec::new() }.take(0, &bytes, passage)
            }
            (Target::Receiving(download), TargetEvent::Chunk { total, sum, offset, bytes, .. }) => {
                if (download.total, download.sum) != (total, sum) {
                    return (None, vec![refused(passage, Hindrance::Unreadable)]);
                }
                download.take(offset, &bytes, passage)
            }
            (_, TargetEvent::AskHolds(from)) => {
                (None, vec![TargetEffect::Holds { to: Some(from), whole: false }])
            }
            (_, TargetEvent::Leaving) => (None, vec![refused(passage, Hindrance::Leaving)]),
            (_, TargetEvent::SourceLost | TargetEvent::TooLate | TargetEvent::Dismissed(_)) => {
                (None, Vec::new())
            }
            (
                same,
                TargetEvent::Reserve
                | TargetEvent::Chunk { .. }
                | TargetEvent::Made(_)
                | TargetEvent::Granted
                | TargetEvent::Repeat,
            ) => (Some(same), Vec::new()),
        }
    }
}

/// Says something to the source.
fn say(passage: &Passage, message: impl FnOnce(Name, Token) -> Message) -> TargetEffect {
    TargetEffect::Send(message(passage.name.clone(), passage.attempt))
}

fn refused(passage: &Passage, why: Hindrance) -> TargetEffect {
    say(passage, |name, attempt| Message::Refused { name, attempt, why })
}

fn installed(passage: &Passage) -> TargetEffect {
    say(passage, |name, attempt| Message::Installed { name, attempt })
}

fn on_resuming(total: u32, event: &TargetEvent, passage: &Passage) -> Step {
    let effects = match event {
        TargetEvent::Made(Ok(())) => {
            return (Some(Target::Held { total }), vec![TargetEffect::Held, installed(passage)]);
        }
        TargetEvent::Made(Err(why)) => return (None, vec![refused(passage, *why)]),
        TargetEvent::TooLate => {
            let undo = TargetEffect::Uninstall(Decision::Aborted);
            return (None, vec![undo, refused(passage, Hindrance::Slow)]);
        }
        TargetEvent::Leaving => {
            let undo = TargetEffect::Uninstall(Decision::Aborted);
            return (None, vec![undo, refused(passage, Hindrance::Leaving)]);
        }
        // What is not whole is not committed.
        TargetEvent::Dismissed(_) => return (None, vec![TargetEffect::Uninstall(Decision::Aborted)]),
        TargetEvent::Chunk { .. } => {
            vec![say(passage, |name, attempt| Message::Taken { name, attempt, offset: total })]
        }
        TargetEvent::Reserve
        | TargetEvent::SourceLost
        | TargetEvent::AskHolds(_)
        | TargetEvent::Granted
        | TargetEvent::Repeat => Vec::new(),
    };
    (Some(Target::Resuming { total }), effects)
}

fn on_held(total: u32, event: &TargetEvent, passage: &Passage) -> Step {
    let effects = match event {
        TargetEvent::Granted => return (None, Vec::new()),
        TargetEvent::Dismissed(decision) => {
            return (None, vec![TargetEffect::NotHeld, TargetEffect::Uninstall(*decision)]);
        }
        TargetEvent::Chunk { .. } => vec![installed(passage)],
        TargetEvent::AskHolds(from) => vec![TargetEffect::Holds { to: Some(*from), whole: true }],
        TargetEvent::Repeat => vec![TargetEffect::Holds { to: None, whole: true }],
        // The node leaves when its owner has decided.
        TargetEvent::Reserve
        | TargetEvent::Made(_)
        | TargetEvent::SourceLost
        | TargetEvent::TooLate
        | TargetEvent::Leaving => Vec::new(),
    };
    (Some(Target::Held { total }), effects)
}

impl Download {
    /// Takes a part if it is the next one.
    fn take(mut self, offset: u32, bytes: &Bytes, passage: &Passage) -> Step {
        let room = self.total as usize - self.image.len();
        if offset as usize == self.image.len() {
            if bytes.len() > room.min(IMAGE_CHUNK_BYTES) {
                return (None, vec![refused(passage, Hindrance::Unreadable)]);
            }
            self.image.extend_from_slice(bytes.as_slice());
        }
        if self.image.len() < self.total as usize {
            let offset = u32::try_from(self.image.len()).unwrap_or(u32::MAX);
            let taken = say(passage, |name, attempt| Message::Taken { name, attempt, offset });
            return (Some(Target::Receiving(self)), vec![taken]);
        }
        if sum_of(&self.image) != self.sum {
            return (None, vec![refused(passage, Hindrance::Unreadable)]);
        }
        let total = self.total;
        (Some(Target::Resuming { total }), vec![TargetEffect::Install(Bytes::from(self.image))])
    }
}
