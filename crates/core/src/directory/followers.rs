//! Followers: members that keep a mirror of rows of this owner's slots, for streams of their users.
//!
//! Decides: what is said to whom after a change. Promises: a follower is told of a change after it is on every replica, in
//! the order of the writes of a name, and of every change of what it follows, though several may come as one; a page says
//! what the rows were for it, so that page and changes fit together. Assumes nothing of a follower: it asks page after page,
//! and compares numbers. On a crash of the owner, and with every view, followers ask the owners of then anew; what was said
//! in the view before counts no more.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::filter::{Filter, Listed};
use super::listing::page;
use super::message::{FollowAsk, Message, StreamNews};
use super::record::{Record, RecordState};
use super::{Directory, DirectoryEvent};
use crate::base::limits::STREAMS_MAX;
use crate::base::{ExitReason, Incarnation, Name, SlotId};
use crate::view::View;

/// Ends that are remembered, so that those who hear of a name later hear why.
const ENDS_MAX: usize = 4_096;

/// Those that are told with a page of rows: with names and texts at their longest the page stays under the frame limit.
const ENDS_IN_PAGE_MAX: usize = 256;

/// One stream of one member.
#[derive(Debug)]
struct Follower {
    round: u64,
    filter: Filter,
    /// Messages that were sent to it in this round.
    said: u64,
}

/// All streams that follow rows of this owner in this view.
#[derive(Debug, Default)]
pub(super) struct Followers {
    all: BTreeMap<(Incarnation, u64), Follower>,
    /// Names with a write that is not on every replica yet, and their rows as the followers know them.
    unwritten: BTreeMap<Name, Option<Arc<Record>>>,
    /// Why the last lives of names ended.
    ends: BTreeMap<Name, ExitReason>,
    ends_order: VecDeque<Name>,
}

impl Followers {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    #[cfg(test)]
    pub(super) fn ends(&self) -> usize {
        assert_eq!(self.ends.len(), self.ends_order.len());
        self.ends.len()
    }

    fn next_number(&mut self, key: (Incarnation, u64)) -> Option<(u64, u64)> {
        let follower = self.all.get_mut(&key)?;
        follower.said += 1;
        Some((follower.round, follower.said))
    }
}

/// Whether streams of this filter show this record. What has never run is no news: its start may yet fail.
fn is_shown(record: &Record, filter: &Filter, view: &View) -> bool {
    record.has_run && filter.matches(record, view)
}

impl Directory {
    /// A view was installed, or the line is left: whoever follows asks again.
    pub(super) fn forget_followers(&mut self) {
        self.followers = Followers::default();
    }

    pub(super) fn on_follow(
        &mut self,
        from: Incarnation,
        stream: u64,
        round: u64,
        filter: Box<Filter>,
        ask: FollowAsk,
    ) {
        if !self.unsettled.is_empty() {
            return self.hold_question(from, Message::Follow { stream, round, filter, ask });
        }
        let key = (from, stream);
        let is_known = self.followers.all.get(&key).is_some_and(|known| known.round == round);
        match ask {
            FollowAsk::Page { after: None } if !is_known => self.add_follower(key, round, *filter),
            FollowAsk::Page { .. } | FollowAsk::Sum => {}
        }
        let Some(filter) = self.followers.all.get(&key).filter(|known| known.round == round) else {
            // It is to begin anew: no message of a round has this number.
            let news = StreamNews::Sum { rows: 0, sum: 0 };
            return self.send(from, Message::Followed { stream, round, number: 0, news: Box::new(news) });
        };
        let Some(news) = self.news_for(&filter.filter, ask) else { return };
        self.say_to(key, news);
    }

    fn add_follower(&mut self, key: (Incarnation, u64), round: u64, filter: Filter) {
        let (first, last) = ((key.0, u64::MIN), (key.0, u64::MAX));
        let own = self.followers.all.range(first..=last);
        if own.clone().count() >= STREAMS_MAX && !self.followers.all.contains_key(&key) {
            // It has left off following one of them, and the word of that was lost.
            let oldest = own.map(|(key, _)| *key).next();
            oldest.and_then(|key| self.followers.all.remove(&key));
        }
        self.followers.all.insert(key, Follower { round, filter: filter.unpaged(), said: 0 });
    }

    pub(super) fn on_unfollow(&mut self, from: Incarnation, stream: u64) {
        self.followers.all.remove(&(from, stream));
        if self.followers.all.is_empty() {
            self.followers.unwritten.clear();
        }
    }

    fn news_for(&self, filter: &Filter, ask: FollowAsk) -> Option<StreamNews> {
        let view = self.view()?;
        match ask {
            FollowAsk::Page { after } => {
                let filter = Filter { after: after.clone(), ..filter.clone() };
                let shown = self.written_records().filter(|record| record.has_run);
                let (rows, more) = page(shown, &filter, view);
                // Lives that ended in this view, before the follower had asked.
                let name = |row: &Listed| row.name.clone();
                let to = rows.last().filter(|_| more).map(name);
                let in_page = |name: &Name| {
                    after.as_ref().is_none_or(|after| name > after) && to.as_ref().is_none_or(|to| name <= to)
                };
                let ends =
                    self.followers.ends.iter().filter(|(name, _)| in_page(name)).take(ENDS_IN_PAGE_MAX);
                let ends = ends.map(|(name, reason)| (name.clone(), reason.clone())).collect();
                Some(StreamNews::Page { after, rows, more, ends })
            }
            FollowAsk::Sum => {
                let shown = self.written_records().filter(|record| is_shown(record, filter, view));
                let (rows, sum) = shown.fold((0_u64, 0_u64), |(rows, sum), record| {
                    (rows + 1, sum.wrapping_add(Listed::of(record).digest()))
                });
                Some(StreamNews::Sum { rows, sum })
            }
        }
    }

    /// The owned records as they were told to followers.
    fn written_records(&self) -> impl Iterator<Item = &Record> {
        let unwritten = &self.followers.unwritten;
        let written = self.owned_records().filter(|record| !unwritten.contains_key(&record.name));
        written.chain(unwritten.values().filter_map(Option::as_deref))
    }

    fn say_to(&mut self, key: (Incarnation, u64), news: StreamNews) {
        if let Some((round, number)) = self.followers.next_number(key) {
            let (to, stream) = key;
            self.send(to, Message::Followed { stream, round, number, news: Box::new(news) });
        }
    }

    /// A change of a name is about to be written.
    pub(super) fn note_write(&mut self, slot: SlotId, name: &Name) {
        if self.followers.all.is_empty() || self.followers.unwritten.contains_key(name) {
            return;
        }
        let entry = self.copies.get(&slot).and_then(|copy| copy.entries.get(name));
        let record = entry.map(|entry| Arc::clone(&entry.record));
        self.followers.unwritten.insert(name.clone(), record);
    }

    /// The last life of a name has ended.
    pub(super) fn note_end(&mut self, name: &Name, reason: &ExitReason) {
        let followers = &mut self.followers;
        if followers.ends.insert(name.clone(), reason.clone()).is_none() {
            followers.ends_order.push_back(name.clone());
        }
        if followers.ends_order.len() > ENDS_MAX
            && let Some(oldest) = followers.ends_order.pop_front()
        {
            followers.ends.remove(&oldest);
        }
    }

    pub(super) fn note_ends_of(&mut self, event: &DirectoryEvent) {
        if let DirectoryEvent::Restarted { name, reason, .. } = event {
            self.note_end(name, reason);
        }
    }

    /// A write of this name is on every replica: those who follow it are told, once its last one is.
    pub(super) fn tell_followers(&mut self, slot: SlotId, name: &Name) {
        if self.followers.all.is_empty() || self.is_unwritten(slot, name) {
            return;
        }
        let before = self.followers.unwritten.remove(name).flatten();
        let now = self.shared_record(name).cloned();
        let rows = |record: &Option<Arc<Record>>| {
            record.as_ref().filter(|record| record.has_run).map(|record| Listed::of(record))
        };
        let (row_before, row) = (rows(&before), rows(&now));
        if row_before == row {
            return;
        }
        let Some(view) = self.view().cloned() else { return };
        let has_ended = match (&row_before, &row) {
            (Some(before), Some(now)) => before.born != now.born || now.state == RecordState::Quarantined,
            (Some(_), None) => true,
            (None, _) => false,
        };
        let reason = self.followers.ends.get(name).filter(|_| has_ended).cloned();
        let shows = |record: &Option<Arc<Record>>, filter: &Filter| {
            record.as_ref().is_some_and(|record| is_shown(record, filter, &view))
        };
        let mut told = Vec::new();
        for (key, follower) in &self.followers.all {
            let news = match &row {
                Some(row) if shows(&now, &follower.filter) => {
                    StreamNews::Row { row: row.clone(), reason: reason.clone() }
                }
                row if shows(&before, &follower.filter) => {
                    StreamNews::Gone { name: name.clone(), reason: reason.clone(), now: row.clone() }
                }
                _ => continue,
            };
            told.push((*key, news));
        }
        for (key, news) in told {
            self.say_to(key, news);
        }
    }
}
