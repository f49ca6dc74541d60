//! The index: who is in the groups of the slots that this node owns, as the owners of names have told it in this view.
//!
//! It is derived: with a view it begins empty, and is *complete* when every owner of names has told all that its records
//! say. What is told is acknowledged only when every member has shown that it is in this view: until then one could still
//! read an index of the view before, which hears nothing of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::REPEAT;
use super::message::{Entry, GroupMember, GroupSize, GroupVersion, Question, Row, Rows};
use crate::base::limits::{INDEX_PAGE_BYTES, INDEX_PAGE_ROWS};
use crate::base::{Group, Incarnation, Name, Time};
use crate::view::{View, ViewId};

/// One group.
#[derive(Debug, Default)]
struct Members {
    /// How often the index had changed when this group did.
    changes: u64,
    rows: BTreeMap<Name, Entry>,
}

/// What an owner of names has told.
#[derive(Debug, Default)]
struct Source {
    /// The last part that is in the index.
    heard: u64,
    /// It has told everything.
    whole: bool,
    /// It has yet to hear what is in the index.
    unacknowledged: bool,
}

/// A part of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) rows: Rows,
    pub(super) version: Option<GroupVersion>,
    pub(super) more: bool,
}

/// The index of one node in one view.
#[derive(Debug)]
pub(super) struct Index {
    view: Option<ViewId>,
    /// By scope and name.
    groups: BTreeMap<Name, BTreeMap<Name, Members>>,
    /// Rows of all groups, and how many there may be.
    rows: usize,
    rows_max: usize,
    /// A row had no room: this index is never complete.
    overflowed: bool,
    changes: u64,
    sources: BTreeMap<Incarnation, Source>,
    /// Members that have not shown that they are in this view, and when they are asked.
    absent: BTreeSet<Incarnation>,
    call_at: Time,
    /// Who has asked before it was complete.
    early_askers: BTreeSet<Incarnation>,
}

impl Index {
    /// An empty index outside of every view, that takes so many rows.
    pub(super) fn new(rows_max: usize) -> Self {
        Self {
            view: None,
            groups: BTreeMap::new(),
            rows: 0,
            rows_max,
            overflowed: false,
            changes: 0,
            sources: BTreeMap::new(),
            absent: BTreeSet::new(),
            call_at: Time::default(),
            early_askers: BTreeSet::new(),
        }
    }

    /// A view was installed, in which these members own names.
    pub(super) fn follow_view(
        &mut self,
        view: &View,
        owners: &BTreeSet<Incarnation>,
        me: Incarnation,
        now: Time,
    ) {
        let sources = owners.iter().map(|owner| (*owner, Source::default())).collect();
        let absent = view.incarnations().filter(|member| *member != me).collect();
        *self =
            Self { view: Some(view.id), sources, absent, call_at: now + REPEAT, ..Self::new(self.rows_max) };
    }

    /// There is no view any more.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.rows_max);
    }

    /// Whether every owner of names has told everything, and there was room for it.
    pub(super) fn is_complete(&self) -> bool {
        !self.overflowed && self.sources.values().all(|source| source.whole)
    }

    /// This member is in the view.
    pub(super) fn note_present(&mut self, member: Incarnation) {
        self.absent.remove(&member);
    }

    /// Takes in a part, if it is the next one. Returns whether the index is complete with it, and was not before.
    ///
    /// # Errors
    /// The sender owns no names.
    pub(super) fn handle_enrol(
        &mut self,
        from: Incarnation,
        number: u64,
        rows: Vec<Row>,
        whole: bool,
    ) -> Result<bool, &'static str> {
        let was_complete = self.is_complete();
        let Some(source) = self.sources.get_mut(&from) else {
            return Err("it tells of names, and owns none");
        };
        source.unacknowledged = true;
        if source.heard.checked_add(1) != Some(number) {
            return Ok(false);
        }
        source.heard = number;
        source.whole |= whole;
        for row in rows {
            self.apply(row);
        }
        Ok(!was_complete && self.is_complete())
    }

    fn group(&self, group: &Group) -> Option<&Members> {
        self.groups.get(&group.scope)?.get(&group.name)
    }

    fn apply(&mut self, Row { group, name, entry }: Row) {
        match entry {
            Some(entry) => {
                let known = self.group(&group).and_then(|members| members.rows.get(&name));
                if known == Some(&entry) {
                    return;
                }
                if known.is_none() {
                    if self.rows >= self.rows_max {
                        self.overflowed = true;
                        return;
                    }
                    self.rows += 1;
                }
                self.changes += 1;
                let members = self.groups.entry(group.scope).or_default().entry(group.name).or_default();
                members.changes = self.changes;
                members.rows.insert(name, entry);
            }
            None => {
                let Some(scope) = self.groups.get_mut(&group.scope) else { return };
                let Some(members) = scope.get_mut(&group.name) else { return };
                if members.rows.remove(&name).is_none() {
                    return;
                }
                self.rows -= 1;
                self.changes += 1;
                members.changes = self.changes;
                if members.rows.is_empty() {
                    scope.remove(&group.name);
                }
                if scope.is_empty() {
                    self.groups.remove(&group.scope);
                }
            }
        }
    }

    /// Who is to hear how far its parts are in the index: nobody, while a member may still read another one.
    pub(super) fn take_acknowledgements(&mut self) -> Vec<(Incarnation, u64)> {
        if !self.absent.is_empty() {
            return Vec::new();
        }
        let due = self.sources.iter_mut().filter(|(_, source)| source.unacknowledged);
        due.map(|(to, source)| {
            source.unacknowledged = false;
            (*to, source.heard)
        })
        .collect()
    }

    /// This member has asked something. It hears when the index is complete.
    pub(super) fn note_asker(&mut self, from: Incarnation) {
        if !self.is_complete() {
            self.early_askers.insert(from);
        }
    }

    /// Who is to ask again.
    pub(super) fn take_early_askers(&mut self) -> BTreeSet<Incarnation> {
        std::mem::take(&mut self.early_askers)
    }

    /// Who has to show that it is in the view, so that what was told can be acknowledged.
    pub(super) fn take_absent(&mut self, now: Time) -> Vec<Incarnation> {
        if self.call_at > now || self.absent.is_empty() {
            return Vec::new();
        }
        self.call_at = now + REPEAT;
        self.absent.iter().copied().collect()
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        (!self.absent.is_empty()).then_some(self.call_at)
    }

    /// Rows, and how many there may be.
    pub(super) fn fullness(&self) -> (usize, usize) {
        (self.rows, self.rows_max)
    }

    /// What it says to this question, behind this name.
    pub(super) fn page(&self, question: &Question, after: Option<&Name>) -> Page {
        match question {
            Question::Members { group, known } => self.members(group, *known, after),
            Question::Scope(scope) => self.sizes(scope, after),
        }
    }

    fn members(&self, group: &Group, known: Option<GroupVersion>, after: Option<&Name>) -> Page {
        let members = self.group(group);
        let changes = members.map_or(0, |members| members.changes);
        let version = self.view.map(|view| GroupVersion { view, changes });
        if after.is_none() && known.is_some() && known == version {
            return Page { rows: Rows::Known, version, more: false };
        }
        let behind = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = members.into_iter().flat_map(|m| m.rows.range::<Name, _>((behind, Bound::Unbounded)));
        let member = |(name, entry): (&Name, &Entry)| GroupMember {
            name: name.clone(),
            kind: entry.kind.clone(),
            meta: entry.meta.clone(),
        };
        let (rows, more) = take_page(rows.map(member), GroupMember::bytes);
        Page { rows: Rows::Members(rows), version, more }
    }

    fn sizes(&self, scope: &Name, after: Option<&Name>) -> Page {
        let behind = after.map_or(Bound::Unbounded, Bound::Excluded);
        let groups = self.groups.get(scope).into_iter();
        let groups = groups.flat_map(|groups| groups.range::<Name, _>((behind, Bound::Unbounded)));
        let size = |(name, members): (&Name, &Members)| GroupSize {
            name: name.clone(),
            members: members.rows.len() as u64,
        };
        let (rows, more) = take_page(groups.map(size), GroupSize::bytes);
        Page { rows: Rows::Sizes(rows), version: None, more }
    }
}

/// As many rows as go in one message, and whether there are more.
fn take_page<T>(mut rows: impl Iterator<Item = T>, bytes_of: impl Fn(&T) -> usize) -> (Vec<T>, bool) {
    let (mut page, mut bytes) = (Vec::new(), 0);
    while page.len() < INDEX_PAGE_ROWS && bytes < INDEX_PAGE_BYTES {
        let Some(row) = rows.next() else { return (page, false) };
        bytes += bytes_of(&row);
        page.push(row);
    }
    (page, rows.next().is_some())
}
