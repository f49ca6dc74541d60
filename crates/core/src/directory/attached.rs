//! What belongs to a name beside its process: the groups it is in, its metadata, the last snapshot of its state.
//!
//! It stands in the record, so it survives restarts, moves and the loss of nodes, and ends with the name. It is changed by
//! writes of its own, which name what changes: they neither drive the process nor disturb whoever does. The host is told
//! of each, since it offers the record when it comes to another line; of two records of one life the one with the greater
//! revision is later in what is attached to it.

use minicbor::{Decode, Encode};

use super::content::Change;
use super::message::Message;
use super::record::{Located, Record, RecordState};
use super::request::{Answer, Ask};
use super::writes::After;
use super::{Directory, Output};
use crate::base::limits::{GROUPS_PER_NAME_MAX, MEMBERSHIP_BYTES_MAX, SNAPSHOT_BYTES_MAX};
use crate::base::{Bytes, Few, Group, Membership, Metadata, Mutant, Name, RequestId, SlotId, Time, Token};

/// Changes of metadata whose retries are recognised.
const CHANGES_MAX: usize = 4;

/// Metadata of a name as it was at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct MetaRead {
    /// Rises with every change; 0 before the first.
    #[n(0)]
    pub version: u64,
    /// The texts.
    #[n(1)]
    pub map: Metadata,
}

/// What is attached to a record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Attached {
    /// Rises with every change of anything here.
    #[n(0)]
    pub revision: u32,
    /// By group.
    #[n(1)]
    pub groups: Vec<Membership>,
    /// Metadata.
    #[n(2)]
    pub meta: MetaRead,
    /// The requests that changed the metadata last, each with the version it made: a retry finds that it was carried out.
    #[n(3)]
    pub changed_by: Few<(RequestId, u64)>,
    /// The last state that the process has published.
    #[n(4)]
    pub snapshot: Option<Bytes>,
    /// The first token of the life that has published it.
    #[n(5)]
    pub snapshot_of: Token,
}

/// One change of what is attached to a record.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Attachment {
    /// It is in this group, so.
    #[n(0)]
    Joined(#[n(0)] Membership),
    /// It is not in this group.
    #[n(1)]
    Left(#[n(0)] Group),
    /// Its metadata is this.
    #[n(2)]
    Meta {
        /// The texts.
        #[n(0)]
        map: Metadata,
        /// By whose wish.
        #[n(1)]
        by: RequestId,
    },
    /// Its process has published this.
    #[n(3)]
    Snapshot(#[n(0)] Bytes),
}

/// All that the owner knows of a name.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Inspected {
    /// Where it is.
    #[n(0)]
    pub located: Located,
    /// What it is doing.
    #[n(1)]
    pub state: RecordState,
    /// The groups it is in.
    #[n(2)]
    pub groups: Vec<Membership>,
    /// Its metadata.
    #[n(3)]
    pub meta: MetaRead,
    /// The last state that it has published.
    #[n(4)]
    pub snapshot: Option<Bytes>,
}

impl Inspected {
    /// About how many bytes it takes on the wire.
    pub(super) fn bytes(&self) -> usize {
        let groups = self.groups.iter().map(membership_bytes);
        groups.sum::<usize>() + self.meta.map.bytes() + self.snapshot.as_ref().map_or(0, Bytes::len) + 64
    }
}

impl Attachment {
    /// About how many bytes it takes on the wire.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Attachment::Joined(membership) => membership_bytes(membership),
            Attachment::Left(group) => group_bytes(group),
            Attachment::Meta { map, .. } => map.bytes() + 32,
            Attachment::Snapshot(bytes) => bytes.len(),
        }
    }
}

fn group_bytes(group: &Group) -> usize {
    group.scope.as_str().len() + group.name.as_str().len() + 16
}

/// About how many bytes it takes on the wire.
pub(super) fn membership_bytes(membership: &Membership) -> usize {
    group_bytes(&membership.group) + membership.meta.bytes()
}

impl Attached {
    fn apply(&mut self, attachment: Attachment) {
        self.revision = self.revision.saturating_add(1);
        match attachment {
            Attachment::Joined(membership) => {
                match self.groups.binary_search_by(|known| known.group.cmp(&membership.group)) {
                    Ok(at) => self.groups[at] = membership,
                    Err(at) => self.groups.insert(at, membership),
                }
            }
            Attachment::Left(group) => self.groups.retain(|known| known.group != group),
            Attachment::Meta { map, by } => {
                self.meta = MetaRead { version: self.meta.version.saturating_add(1), map };
                self.changed_by.push((by, self.meta.version));
                if self.changed_by.len() > CHANGES_MAX {
                    let oldest = self.changed_by.first().copied();
                    self.changed_by.retain(|change| Some(*change) != oldest);
                }
            }
            Attachment::Snapshot(bytes) => self.snapshot = Some(bytes),
        }
    }

    /// About how many bytes it takes on the wire.
    pub(super) fn bytes(&self) -> usize {
        let groups = self.groups.iter().map(membership_bytes);
        groups.sum::<usize>() + self.meta.map.bytes() + self.snapshot.as_ref().map_or(0, Bytes::len) + 64
    }

    /// Whether its parts keep to their limits.
    pub(super) fn is_sound(&self) -> bool {
        let groups = self.groups.iter().all(|membership| membership.meta.bytes() <= MEMBERSHIP_BYTES_MAX);
        let sorted = self.groups.is_sorted_by(|one, next| one.group < next.group);
        let snapshot = self.snapshot.as_ref().map_or(0, Bytes::len);
        groups
            && sorted
            && self.groups.len() <= GROUPS_PER_NAME_MAX
            && self.changed_by.len() <= CHANGES_MAX
            && snapshot <= SNAPSHOT_BYTES_MAX
    }
}

impl Record {
    /// The groups that it is in, in order.
    pub fn groups(&self) -> &[Membership] {
        self.attached.as_ref().map_or(&[], |attached| &attached.groups)
    }

    /// Its metadata.
    pub fn meta(&self) -> MetaRead {
        self.attached.as_ref().map(|attached| attached.meta.clone()).unwrap_or_default()
    }

    /// The text of its metadata at a key.
    pub(super) fn metadata(&self, key: &str) -> Option<&str> {
        self.attached.as_ref()?.meta.map.get(key)
    }

    /// The last state that its process has published, perhaps in a life before.
    pub fn snapshot(&self) -> Option<&Bytes> {
        self.attached.as_ref()?.snapshot.as_ref()
    }

    /// The last state that its present life has published.
    pub(super) fn snapshot_of_life(&self) -> Option<&Bytes> {
        let attached = self.attached.as_ref()?;
        attached.snapshot.as_ref().filter(|_| attached.snapshot_of == self.born)
    }

    /// Its present life has published this, if anything.
    pub(super) fn publish(&mut self, snapshot: Option<Bytes>) {
        if let Some(bytes) = snapshot.filter(|bytes| self.snapshot_of_life() != Some(bytes)) {
            self.attach(Attachment::Snapshot(bytes));
        }
    }

    /// How often what is attached to it has changed.
    pub(super) fn revision(&self) -> u32 {
        self.attached.as_ref().map_or(0, |attached| attached.revision)
    }

    pub(super) fn attach(&mut self, attachment: Attachment) {
        let attached = self.attached.get_or_insert_default();
        if matches!(attachment, Attachment::Snapshot(_)) {
            attached.snapshot_of = self.born;
        }
        attached.apply(attachment);
    }

    /// Takes what is attached to another record of this name, if that is later.
    pub(super) fn take_attached(&mut self, other: &Record) {
        if other.revision() > self.revision() {
            self.attached.clone_from(&other.attached);
        }
    }

    /// Another record of this name ends in this one. Of one life the later is right; two lives become one, which is in the
    /// groups of both: each of them was told that it is.
    pub(super) fn merge_attached(&mut self, other: &Record) {
        if self.gate == other.gate {
            return self.take_attached(other);
        }
        for membership in other.groups() {
            let known = self.groups().iter().any(|own| own.group == membership.group);
            if !known && self.groups().len() < GROUPS_PER_NAME_MAX {
                self.attach(Attachment::Joined(membership.clone()));
            }
        }
    }

    fn inspected(&self) -> Inspected {
        let (groups, meta) = (self.groups().to_vec(), self.meta());
        Inspected {
            located: self.located(),
            state: self.state,
            groups,
            meta,
            snapshot: self.snapshot().cloned(),
        }
    }
}

impl Directory {
    pub(super) fn on_attach(&mut self, slot: SlotId, request: RequestId, name: Name, ask: Ask, now: Time) {
        let Some(record) = self.record(&name) else { return self.answer(request, name, Answer::NotFound) };
        match ask {
            Ask::Join { group, meta } => {
                let known = record.groups().iter().find(|known| known.group == group);
                if known.is_none() && record.groups().len() >= GROUPS_PER_NAME_MAX {
                    return self.answer(request, name, Answer::Overloaded);
                }
                let membership = Membership { group, meta };
                let change = (known != Some(&membership)).then_some(Attachment::Joined(membership));
                self.attach_then_enrol(slot, request, name, change, now);
            }
            Ask::Leave { group } => {
                let known = record.groups().iter().any(|known| known.group == group);
                let change = known.then_some(Attachment::Left(group));
                self.attach_then_enrol(slot, request, name, change, now);
            }
            Ask::SetMeta { map, expected } => self.on_set_meta(slot, request, name, map, expected, now),
            Ask::Inspect => {
                let inspected = Box::new(record.inspected());
                self.answer(request, name, Answer::Inspected(inspected));
            }
            _ => {}
        }
    }

    /// The change is written, then the index of the group is told; then the request is answered.
    fn attach_then_enrol(
        &mut self,
        slot: SlotId,
        request: RequestId,
        name: Name,
        change: Option<Attachment>,
        now: Time,
    ) {
        match change {
            Some(change) => {
                let change = Change::Attach(name.clone(), change);
                let left = self.groups_left(slot, &change).unwrap_or_default();
                self.write(slot, change, vec![After::Enrol(name, left, Some(request))], now);
            }
            // As the record has it, which may be news to the index.
            None => self.enrol(&name, Vec::new(), Some(request)),
        }
    }

    fn on_set_meta(
        &mut self,
        slot: SlotId,
        request: RequestId,
        name: Name,
        map: Metadata,
        expected: Option<u64>,
        now: Time,
    ) {
        let Some(record) = self.record(&name) else { return };
        let read = record.meta();
        let changed_by = record.attached.as_ref().map(|attached| &*attached.changed_by).unwrap_or_default();
        if let Some((_, version)) = changed_by.iter().find(|(by, _)| *by == request) {
            let answer = Answer::Meta(MetaRead { version: *version, map });
            return self.answer(request, name, answer);
        }
        if expected.is_some_and(|expected| expected != read.version) {
            return self.answer(request, name, Answer::Conflict(read));
        }
        let answer = Answer::Meta(MetaRead { version: read.version.saturating_add(1), map: map.clone() });
        let after = vec![After::Answer(request, name.clone(), answer)];
        self.write(slot, Change::Attach(name, Attachment::Meta { map, by: request }), after, now);
    }

    /// What a write changes in the groups of its name: those it is no longer in, if anything changes.
    fn groups_left(&self, slot: SlotId, change: &Change) -> Option<Vec<Group>> {
        let (now, kind) = match change {
            Change::Attach(_, Attachment::Left(group)) => return Some(vec![group.clone()]),
            Change::Attach(_, Attachment::Joined(_)) => return Some(Vec::new()),
            Change::Put(record) => (record.groups(), Some(&record.kind)),
            Change::Remove(..) => (&[][..], None),
            // As most often: nothing is looked up for them.
            Change::Attach(..)
            | Change::Runs(..)
            | Change::Watch(..)
            | Change::Unwatch(..)
            | Change::End(..) => return None,
        };
        let record = self.copies.get(&slot)?.entries.get(change.name()).map(|entry| &*entry.record);
        let before = record.map_or(&[][..], Record::groups);
        if now == before && record.zip(kind).is_none_or(|(record, kind)| record.kind == *kind) {
            return None;
        }
        let goes = |known: &&Membership| now.iter().all(|now| now.group != known.group);
        Some(before.iter().filter(goes).map(|known| known.group.clone()).collect())
    }

    /// Whoever is to know of a change of what is attached hears of it when it is written.
    pub(super) fn follow_attached(&mut self, slot: SlotId, change: &Change, after: &mut Vec<After>) {
        let name = change.name();
        if matches!(change, Change::Attach(..)) {
            after.push(After::Attached(name.clone()));
        }
        let is_told = after.iter().any(|after| matches!(after, After::Enrol(..)));
        if let Some(gone) = self.groups_left(slot, change)
            && !is_told
        {
            after.push(After::Enrol(name.clone(), gone, None));
        }
    }

    /// Tells the groups what the record of a name says now; and whose request is to be answered when they know.
    pub(super) fn enrol(&mut self, name: &Name, mut left: Vec<Group>, request: Option<RequestId>) {
        let record = self.record(name);
        let (kind, now) = record.map_or((None, Vec::new()), |r| (Some(r.kind.clone()), r.groups().to_vec()));
        left.retain(|group| now.iter().all(|membership| membership.group != *group));
        if self.settings.mutants.has(Mutant::StaleIndexEntry) && kind.is_none() {
            left.clear();
        }
        self.tell(Output::Enrol { name: name.clone(), kind, now, left, request });
    }

    /// The indexes of all groups that were told know it.
    pub fn handle_enrolled(&mut self, request: RequestId, name: Name, now: Time) {
        if self.serves(self.slot_of(&name)) {
            self.answer(request, name, Answer::Done);
            self.finish(now);
        }
    }

    /// All owned slots serve: the indexes of groups are told everything anew.
    pub(super) fn roll_if_settled(&mut self) {
        if self.rolled || !self.unsettled.is_empty() || self.line.is_none() {
            return;
        }
        self.rolled = true;
        let in_groups = self.owned_records().filter(|record| !record.groups().is_empty());
        let rows = in_groups.map(|r| (r.name.clone(), r.kind.clone(), r.groups().to_vec())).collect();
        self.tell(Output::Roll(rows));
    }

    /// Tells the host of a name what is attached to it.
    pub(super) fn tell_attached(&mut self, name: &Name) {
        let Some(record) = self.shared_record(name).cloned() else { return };
        if self.is_member(record.host) {
            self.send(record.host, Message::Attached(record));
        }
    }
}
