//! What a slot holds, as it goes from one copy to another: whole, change by change, and summed up.

use std::sync::Arc;

use minicbor::{Decode, Encode};

use super::attached::Attachment;
use super::copy::Mark;
use super::monitors::{End, Monitor, Watch};
use super::record::{Record, Tombstone};
use crate::base::{Name, SlotId, Token};

/// One change of a copy.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Change {
    /// The name's record is now this.
    #[n(0)]
    Put(
        #[n(0)]
        #[cbor(with = "crate::base::shared")]
        Arc<Record>,
    ),
    /// The name is free; its last life was this.
    #[n(1)]
    Remove(#[n(0)] Name, #[n(1)] Tombstone),
    /// `init` of this life, which the record has as starting or restarting, returned Ok: now it runs.
    #[n(2)]
    Runs(#[n(0)] Name, #[n(1)] Token),
    /// What is attached to the record changes so.
    #[n(3)]
    Attach(#[n(0)] Name, #[n(1)] Attachment),
    /// This monitor waits for an end of the name.
    #[n(4)]
    Watch(#[n(0)] Name, #[n(1)] u64, #[n(2)] Monitor),
    /// These monitors are gone.
    #[n(5)]
    Unwatch(#[n(0)] Name, #[n(1)] Vec<u64>),
    /// The name, or its life, ends: whoever waits for it is to be told.
    #[n(6)]
    End(#[n(0)] Name, #[n(1)] End),
}

impl Change {
    /// The name it is about.
    pub fn name(&self) -> &Name {
        match self {
            Change::Put(record) => &record.name,
            Change::Remove(name, _)
            | Change::Runs(name, _)
            | Change::Attach(name, _)
            | Change::Watch(name, ..)
            | Change::Unwatch(name, _)
            | Change::End(name, _) => name,
        }
    }

    /// The record as it is from now on, if it comes with it.
    pub(super) fn record(&self) -> Option<&Record> {
        match self {
            Change::Put(record) => Some(record),
            Change::Remove(..)
            | Change::Runs(..)
            | Change::Attach(..)
            | Change::Watch(..)
            | Change::Unwatch(..)
            | Change::End(..) => None,
        }
    }

    /// Whether it says what becomes of the process; others stand beside that.
    pub(super) const fn is_of_process(&self) -> bool {
        matches!(self, Change::Put(_) | Change::Remove(..) | Change::Runs(..))
    }
}

/// One write of one slot.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SlotWrite {
    /// The slot.
    #[n(0)]
    pub slot: SlotId,
    /// Its number in the view that opened the slot, from 1.
    #[n(1)]
    pub seq: u64,
    /// What changes.
    #[n(2)]
    pub change: Change,
}

impl SlotWrite {
    /// About how many bytes it takes on the wire.
    pub(super) fn bytes(&self) -> usize {
        match &self.change {
            Change::Put(record) => record.size(),
            Change::Remove(name, _) | Change::Runs(name, _) => name.as_str().len() + 64,
            Change::Attach(name, attachment) => name.as_str().len() + attachment.bytes() + 64,
            Change::Watch(name, ..) => name.as_str().len() + 96,
            Change::Unwatch(name, ids) => name.as_str().len() + 10 * ids.len() + 64,
            Change::End(name, end) => name.as_str().len() + end.bytes() + 64,
        }
    }
}

/// Why content of a slot is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum FillFor {
    /// To the owner that asked for it with `Load`.
    #[n(0)]
    Owner,
    /// To a backup that answered `Unlike`; it opens with it.
    #[n(1)]
    Backup,
}

/// A part of a slot's content.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Fill {
    /// The slot.
    #[n(0)]
    pub slot: SlotId,
    /// Why it is sent.
    #[n(1)]
    pub purpose: FillFor,
    /// The mark of the content.
    #[n(2)]
    pub mark: Mark,
    /// It starts anew with this part.
    #[n(3)]
    pub first: bool,
    /// It is whole with this part.
    #[n(4)]
    pub last: bool,
    /// Records.
    #[n(5)]
    pub records: Vec<Record>,
    /// Tombstones.
    #[n(6)]
    pub tombstones: Vec<(Name, Tombstone)>,
    /// The watermark.
    #[n(7)]
    pub watermark: Token,
    /// Monitors.
    #[n(8)]
    #[cbor(default)]
    pub watches: Vec<(Name, Watch)>,
}

/// What the rows of a slot sum up to at the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Digest {
    /// The slot.
    #[n(0)]
    pub slot: SlotId,
    /// After this write.
    #[n(1)]
    pub seq: u64,
    /// The sum.
    #[n(2)]
    pub sum: u64,
}
