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
//!   Resuming     asked                            Resuming    the owner asks again
//!   Held         asked, repeat                    Held        "whole"
//!   any          dismissed                        -           undoes what was made
//! ```

use std::time::Duration;

use super::message::Message;
use super::source::sum_of;
use super::{INSTALL_MAX, Passage};
use crate::base::limits::{IMAGE_BYTES_MAX, IMAGE_CHUNK_BYTES};
use crate::base::{Bytes, Hindrance, Incarnation};

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
    Dismissed,
    TooLate,
    Repeat,
}

/// What it wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TargetEffect {
    Send(Message),
    Install(Bytes),
    Uninstall,
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
        use TargetEffect::{Holds, Uninstall};
        let (name, attempt) = (&passage.name, passage.attempt);
        let reserved = || TargetEffect::Send(Message::Reserved { name: name.clone(), attempt });
        let installed = || TargetEffect::Send(Message::Installed { name: name.clone(), attempt });
        let taken = |offset| TargetEffect::Send(Message::Taken { name: name.clone(), attempt, offset });
        let refused = |why| TargetEffect::Send(Message::Refused { name: name.clone(), attempt, why });
        match (self, event) {
            (Target::Reserved, TargetEvent::Reserve) => (Some(Target::Reserved), vec![reserved()]),
            (Target::Reserved, TargetEvent::Chunk { total, sum, offset: 0, bytes, fits }) => {
                if total as usize > IMAGE_BYTES_MAX {
                    return (None, vec![refused(Hindrance::TooLarge)]);
                }
                if !fits {
                    return (None, vec![refused(Hindrance::Busy)]);
                }
                Download { total, sum, image: Vec::new() }.take(0, &bytes, passage)
            }
            (Target::Receiving(download), TargetEvent::Chunk { total, sum, offset, bytes, .. }) => {
                if (download.total, download.sum) != (total, sum) {
                    return (None, vec![refused(Hindrance::Unreadable)]);
                }
                download.take(offset, &bytes, passage)
            }
            (Target::Resuming { total }, TargetEvent::Chunk { .. }) => {
                (Some(Target::Resuming { total }), vec![taken(total)])
            }
            (Target::Resuming { total }, TargetEvent::Made(Ok(()))) => {
                (Some(Target::Held { total }), vec![TargetEffect::Held, installed()])
            }
            (Target::Resuming { .. }, TargetEvent::Made(Err(why))) => (None, vec![refused(why)]),
            (Target::Held { total }, TargetEvent::Chunk { .. }) => {
                (Some(Target::Held { total }), vec![installed()])
            }
            (Target::Held { .. }, TargetEvent::Granted) => (None, Vec::new()),
            (Target::Held { total }, TargetEvent::AskHolds(from)) => {
                (Some(Target::Held { total }), vec![Holds { to: Some(from), whole: true }])
            }
            (Target::Held { total }, TargetEvent::Repeat) => {
                (Some(Target::Held { total }), vec![Holds { to: None, whole: true }])
            }

            (Target::Reserved | Target::Receiving(_), TargetEvent::AskHolds(from)) => {
                (None, vec![Holds { to: Some(from), whole: false }])
            }
            (
                Target::Reserved | Target::Receiving(_),
                TargetEvent::SourceLost | TargetEvent::TooLate | TargetEvent::Dismissed,
            ) => (None, Vec::new()),
            (Target::Resuming { .. }, TargetEvent::TooLate) => {
                (None, vec![Uninstall, refused(Hindrance::Slow)])
            }
            (Target::Resuming { .. }, TargetEvent::Dismissed) => (None, vec![Uninstall]),
            (Target::Held { .. }, TargetEvent::Dismissed) => (None, vec![TargetEffect::NotHeld, Uninstall]),

            (
                same @ Target::Reserved,
                TargetEvent::Chunk { .. } | TargetEvent::Made(_) | TargetEvent::Granted | TargetEvent::Repeat,
            )
            | (
                same @ Target::Receiving(_),
                TargetEvent::Reserve | TargetEvent::Made(_) | TargetEvent::Granted | TargetEvent::Repeat,
            )
            | (
                same @ Target::Resuming { .. },
                TargetEvent::Reserve
                | TargetEvent::SourceLost
                | TargetEvent::AskHolds(_)
                | TargetEvent::Granted
                | TargetEvent::Repeat,
            )
            | (
                same @ Target::Held { .. },
                TargetEvent::Reserve | TargetEvent::Made(_) | TargetEvent::SourceLost | TargetEvent::TooLate,
            ) => (Some(same), Vec::new()),
        }
    }
}

impl Download {
    /// Takes a part if it is the next one.
    fn take(mut self, offset: u32, bytes: &Bytes, passage: &Passage) -> Step {
        let (name, attempt) = (passage.name.clone(), passage.attempt);
        let refused = |why| {
            let (name, attempt) = (passage.name.clone(), passage.attempt);
            (None, vec![TargetEffect::Send(Message::Refused { name, attempt, why })])
        };
        let room = self.total as usize - self.image.len();
        if offset as usize == self.image.len() {
            if bytes.len() > room.min(IMAGE_CHUNK_BYTES) {
                return refused(Hindrance::Unreadable);
            }
            self.image.extend_from_slice(bytes.as_slice());
        }
        if self.image.len() < self.total as usize {
            let offset = u32::try_from(self.image.len()).unwrap_or(u32::MAX);
            let taken = TargetEffect::Send(Message::Taken { name, attempt, offset });
            return (Some(Target::Receiving(self)), vec![taken]);
        }
        if sum_of(&self.image) != self.sum {
            return refused(Hindrance::Unreadable);
        }
        let total = self.total;
        (Some(Target::Resuming { total }), vec![TargetEffect::Install(Bytes::from(self.image))])
    }
}
