//! What was collected for other members: messages about many slots go to the same member as one, and the writes and
//! acknowledgements of a whole turn.

use std::collections::BTreeMap;

use super::Directory;
use super::content::{Digest, SlotWrite};
use super::copy::Mark;
use super::message::Message;
use super::repair::DIGESTS_PER_MESSAGE;
use super::writes::split_writes;
use crate::base::{Incarnation, SlotId};
use crate::view::ViewId;

/// Messages of many slots to the same member, sent as one.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) gather: BTreeMap<Incarnation, Vec<(SlotId, ViewId)>>,
    pub(super) load: BTreeMap<Incarnation, Vec<SlotId>>,
    pub(super) open: BTreeMap<Incarnation, Vec<(SlotId, Mark)>>,
    pub(super) opened: BTreeMap<Incarnation, Vec<SlotId>>,
    pub(super) settled: Vec<SlotId>,
    pub(super) write: BTreeMap<Incarnation, Vec<SlotWrite>>,
    /// Of all these.
    pub(super) write_bytes: usize,
    pub(super) written: BTreeMap<Incarnation, Vec<(SlotId, u64)>>,
    pub(super) digests: BTreeMap<Incarnation, Vec<Digest>>,
    pub(super) ask_hosted: Vec<SlotId>,
}

impl Batch {
    /// There is nothing in it but writes and their acknowledgements, as after most inputs.
    fn is_quiet(&self) -> bool {
        let Self { gather, load, open, opened, settled, digests, ask_hosted, .. } = self;
        let sent = gather.is_empty() && load.is_empty() && open.is_empty() && opened.is_empty();
        sent && settled.is_empty() && digests.is_empty() && ask_hosted.is_empty()
    }
}

impl Directory {
    /// Says what was collected, but for writes and their acknowledgements.
    pub(super) fn flush_batch(&mut self) {
        if self.batch.is_quiet() {
            return;
        }
        let batch = std::mem::take(&mut self.batch);
        (self.batch.write, self.batch.write_bytes) = (batch.write, batch.write_bytes);
        self.batch.written = batch.written;
        for (to, slots) in batch.gather {
            self.send(to, Message::Gather(slots));
        }
        for (to, slots) in batch.load {
            self.send(to, Message::Load(slots));
        }
        for (to, slots) in batch.open {
            self.send(to, Message::Open(slots));
        }
        for (to, slots) in batch.opened {
            self.send(to, Message::Opened(slots));
        }
        if !batch.digests.is_empty() {
            // They go behind the writes that they sum up.
            self.flush_writes();
        }
        for (to, digests) in batch.digests {
            for digests in digests.chunks(DIGESTS_PER_MESSAGE) {
                self.send(to, Message::Digests(digests.to_vec()));
            }
        }
        (self.batch.settled, self.batch.ask_hosted) = (batch.settled, batch.ask_hosted);
        if self.unsettled.is_empty() && !self.batch.settled.is_empty() {
            let settled = self.open_census();
            for member in self.members_me_last() {
                self.send(member, Message::Settled(settled.clone()));
            }
        }
        if !self.batch.ask_hosted.is_empty() && !self.gathers() {
            self.ask_hosted();
        }
    }

    /// Says the writes and acknowledgements of all inputs since the last time, in one message to each peer. Whatever
    /// follows from a write waits for its acknowledgement, so nothing overtakes it.
    pub fn flush_writes(&mut self) {
        self.batch.write_bytes = 0;
        for (to, writes) in std::mem::take(&mut self.batch.write) {
            for writes in split_writes(writes) {
                self.send(to, Message::Write(writes));
            }
        }
        for (to, acks) in std::mem::take(&mut self.batch.written) {
            self.send(to, Message::Written(acks));
        }
    }
}
