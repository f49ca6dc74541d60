//! Requests that wait at the owner: for their slot to open, or for their name to settle.
//!
//! Of one slot at most [`Limits::slot_waiters`](crate::base::limits::Limits::slot_waiters) wait, of all slots together
//! [`Limits::waiters`](crate::base::limits::Limits::waiters) with 64 MiB of arguments; one more is refused with
//! `Overloaded`, No, and so nothing may have been done for it. They are looked at again when the slot serves or
//! the name was written, and are gone with the view: their askers ask again.

use super::Directory;
use super::request::{Answer, Ask};
use crate::base::limits::WAITERS_BYTES_MAX;
use crate::base::{Mutant, Name, RequestId, SlotId, Time};

/// A request that waits for its slot to open or its name to settle.
#[derive(Clone, Debug)]
pub(super) struct Waiter {
    request: RequestId,
    ask: Ask,
}

impl Waiter {
    pub(super) fn is(&self, request: RequestId) -> bool {
        self.request == request
    }
}

/// What waits at this owner in all its slots.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    requests: usize,
    /// Bytes of arguments.
    bytes: usize,
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.requests
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn come(&mut self, ask: &Ask) {
        self.requests += 1;
        self.bytes += ask.bytes();
    }

    fn go<'a>(&mut self, gone: impl IntoIterator<Item = &'a Waiter>) {
        for waiter in gone {
            self.requests -= 1;
            self.bytes -= waiter.ask.bytes();
        }
    }
}

impl Directory {
    /// Those who asked to stop this name and are still waiting.
    pub(super) fn take_stoppers(&mut self, slot: SlotId, name: &Name) -> Vec<RequestId> {
        let Some(owned) = self.owned.get_mut(&slot) else { return Vec::new() };
        let Some(waiters) = owned.waiters.get_mut(name) else { return Vec::new() };
        let stoppers: Vec<Waiter> = waiters.extract_if(.., |waiter| waiter.ask == Ask::Stop).collect();
        if waiters.is_empty() {
            owned.waiters.remove(name);
        }
        owned.waiting -= stoppers.len();
        self.waiting.go(&stoppers);
        stoppers.iter().map(|waiter| waiter.request).collect()
    }

    /// Those who asked to move this name and are still waiting, and where to.
    pub(super) fn take_movers(&mut self, slot: SlotId, name: &Name) -> Vec<(RequestId, Ask)> {
        let is_mover = |waiter: &Waiter| matches!(waiter.ask, Ask::Move { .. });
        let Some(owned) = self.owned.get_mut(&slot) else { return Vec::new() };
        let Some(waiters) = owned.waiters.get_mut(name) else { return Vec::new() };
        let movers: Vec<_> =
            waiters.iter().filter(|w| is_mover(w)).map(|w| (w.request, w.ask.clone())).collect();
        waiters.retain(|waiter| !is_mover(waiter));
        if waiters.is_empty() {
            owned.waiters.remove(name);
        }
        owned.waiting -= movers.len();
        movers
    }

    pub(super) fn wait(&mut self, slot: SlotId, request: RequestId, name: Name, ask: Ask) {
        let waiters = self.owned.get(&slot).and_then(|owned| owned.waiters.get(&name));
        if waiters.is_some_and(|waiters| waiters.iter().any(|waiter| waiter.is(request))) {
            return;
        }
        if !self.has_room_to_wait(slot, &name, &ask) {
            return self.refuse_to_wait(slot, request, name);
        }
        let Some(owned) = self.owned.get_mut(&slot) else { return };
        owned.waiting += 1;
        self.waiting.come(&ask);
        // Most often it is the starter alone.
        owned.waiters.entry(name).or_insert_with(|| Vec::with_capacity(1)).push(Waiter { request, ask });
    }

    /// Whether this one may wait for this name. Asked before anything is written for a request that will have to
    /// wait: who is told that there is no room must not be carried out. One name takes at most half of the room, or
    /// an `init` that never returns would keep the other names of its slot from starting.
    pub(super) fn has_room_to_wait(&self, slot: SlotId, name: &Name, ask: &Ask) -> bool {
        let Some(owned) = self.owned.get(&slot) else { return false };
        let limit = self.settings.limits.slot_waiters;
        let here = self.waiting.requests < self.settings.limits.waiters
            && self.waiting.bytes + ask.bytes() <= WAITERS_BYTES_MAX;
        let of_name = owned.waiters.get(name).map_or(0, Vec::len);
        (here && owned.waiting < limit && of_name < limit.div_ceil(2))
            || self.settings.mutants.has(Mutant::WaitersUnbounded)
    }

    /// No room. A copy of a request that the record knows is not refused, since the request goes on: its asker asks
    /// again, until there is room or its deadline.
    pub(super) fn refuse_to_wait(&mut self, slot: SlotId, request: RequestId, name: Name) {
        let record =
            self.copies.get(&slot).and_then(|copy| copy.entries.get(&name)).map(|entry| &entry.record);
        if !record.is_some_and(|r| r.request == request || r.stopping_by.contains(&request)) {
            self.answer(request, name, Answer::Overloaded);
        }
    }

    /// These requests were answered: copies of them that wait are dropped.
    pub(super) fn on_forget(&mut self, requests: &[(Name, RequestId)]) {
        for (name, request) in requests {
            let slot = self.slot_of(name);
            self.forget_waiter(slot, name, *request);
        }
    }

    /// Looks again at those who wait for this name.
    pub(super) fn wake(&mut self, slot: SlotId, name: &Name, now: Time) {
        let Some(owned) = self.owned.get_mut(&slot) else { return };
        let Some(waiters) = owned.waiters.remove(name) else { return };
        owned.waiting -= waiters.len();
        self.waiting.go(&waiters);
        for Waiter { request, ask } in waiters {
            self.on_request(request, name.clone(), ask, now);
        }
    }

    pub(super) fn wake_all(&mut self, slot: SlotId, now: Time) {
        let Some(owned) = self.owned.get(&slot) else { return };
        for name in owned.waiters.keys().cloned().collect::<Vec<_>>() {
            self.wake(slot, &name, now);
        }
    }

    /// Takes a request from those who wait. Returns whether it was among them.
    pub(super) fn forget_waiter(&mut self, slot: SlotId, name: &Name, request: RequestId) -> bool {
        let Some(owned) = self.owned.get_mut(&slot) else { return false };
        let Some(waiters) = owned.waiters.get_mut(name) else { return false };
        let forgotten: Vec<Waiter> = waiters.extract_if(.., |waiter| waiter.is(request)).collect();
        if waiters.is_empty() {
            owned.waiters.remove(name);
        }
        owned.waiting -= forgotten.len();
        self.waiting.go(&forgotten);
        !forgotten.is_empty()
    }
}
