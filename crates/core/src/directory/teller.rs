//! What is told of a stream to its reader, and what waits until the reader has read.
//!
//! The reader gives room for so many events. While there is room every change is told at once. Without it, of each name is
//! kept what was told of it last and what is so now: however slow the reader is, that is bounded by the names that there
//! are, and when it reads on it is led to what is so by then.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::filter::Listed;
use super::stream_event::{StreamEvent, events_between};
use crate::base::limits::STREAM_EVENTS_MAX;
use crate::base::{ExitReason, Name};

/// A name of which not all is told.
#[derive(Debug)]
struct Behind {
    told: Option<Arc<Listed>>,
    now: Option<Arc<Listed>>,
    /// It was gone in between.
    was_gone: bool,
    reason: Option<ExitReason>,
}

/// Whether the reader knows that it has been told everything that was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sync {
    Awaited,
    Due,
    Told,
}

/// What its reader is told of a stream.
#[derive(Debug)]
pub(super) struct Teller {
    room: usize,
    behind: BTreeMap<Name, Behind>,
    merged: u64,
    sync: Sync,
    out: Vec<StreamEvent>,
}

impl Default for Teller {
    fn default() -> Self {
        Self {
            room: STREAM_EVENTS_MAX,
            behind: BTreeMap::new(),
            merged: 0,
            sync: Sync::Awaited,
            out: Vec::new(),
        }
    }
}

impl Teller {
    /// A name that was so is so now.
    pub(super) fn change(
        &mut self,
        before: Option<Arc<Listed>>,
        now: Option<Arc<Listed>>,
        reason: Option<ExitReason>,
    ) {
        let Some(name) = before.as_ref().or(now.as_ref()).map(|row| row.name.clone()) else { return };
        if before == now {
            return;
        }
        if self.can_tell() {
            return self.tell(events_between(before.as_deref(), now.as_deref(), reason));
        }
        let Some(behind) = self.behind.get_mut(&name) else {
            self.behind.insert(name, Behind { told: before, now, was_gone: false, reason });
            return;
        };
        self.merged += 1;
        behind.was_gone |= now.is_none();
        behind.now = now;
        behind.reason = reason.or(behind.reason.take());
        if behind.told.is_none() && behind.now.is_none() {
            self.behind.remove(&name);
        }
    }

    /// A name lives, but is none of the stream any more; it is so now.
    pub(super) fn leave(&mut self, before: Arc<Listed>, now: &Listed, reason: Option<ExitReason>) {
        if self.can_tell() {
            let events = events_between(Some(&before), Some(now), reason);
            self.tell(events);
            self.tell(events_between(Some(now), None, None));
        } else {
            self.change(Some(before), None, None);
        }
    }

    /// Everything that was there when the stream began has been said.
    pub(super) fn synced(&mut self) {
        if self.sync == Sync::Awaited {
            self.sync = Sync::Due;
            self.flush();
        }
    }

    /// The reader has taken so many events.
    pub(super) fn read(&mut self, events: usize) {
        self.room = self.room.saturating_add(events).min(STREAM_EVENTS_MAX);
        self.flush();
    }

    /// It is over.
    pub(super) fn end(&mut self, event: StreamEvent) {
        self.out.push(event);
    }

    /// What is to be told now.
    pub(super) fn take(&mut self) -> Vec<StreamEvent> {
        std::mem::take(&mut self.out)
    }

    fn can_tell(&self) -> bool {
        self.room > 0 && self.behind.is_empty()
    }

    fn tell(&mut self, events: Vec<StreamEvent>) {
        self.room = self.room.saturating_sub(events.len());
        self.out.extend(events);
    }

    fn flush(&mut self) {
        if self.room > 0 && self.merged > 0 {
            let merged = std::mem::take(&mut self.merged);
            self.tell(vec![StreamEvent::Lagged { merged }]);
        }
        while self.room > 0
            && let Some((_, Behind { told, now, was_gone, reason })) = self.behind.pop_first()
        {
            if was_gone && told.is_some() && now.is_some() {
                self.tell(events_between(told.as_deref(), None, reason));
                self.tell(events_between(None, now.as_deref(), None));
            } else {
                self.tell(events_between(told.as_deref(), now.as_deref(), reason));
            }
        }
        if self.sync == Sync::Due && self.can_tell() {
            self.sync = Sync::Told;
            self.tell(vec![StreamEvent::Synced]);
        }
    }
}
