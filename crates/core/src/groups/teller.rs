//! What the owner of names tells the owners of indexes: to each a row of numbered parts, until it has acknowledged them.
//!
//! Only the latest state of a name in a group is kept until it is said, so what waits here is never more than what the
//! records of this node say, and a few parts under way. With a view all begins anew.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::REPEAT;
use super::message::{Entry, Message, Row};
use crate::base::limits::{ENROLLING_MAX, INDEX_PART_BYTES, INDEX_PART_ROWS, INDEX_PARTS_AHEAD};
use crate::base::{Group, Incarnation, Name, RequestId, Time};

/// A name in a group.
type Key = (Group, Name);

#[derive(Clone, Debug)]
struct Part {
    number: u64,
    rows: Vec<Row>,
    whole: bool,
}

impl Part {
    fn message(&self) -> Message {
        Message::Enrol { number: self.number, rows: self.rows.clone(), whole: self.whole }
    }
}

/// What one owner of indexes is told.
#[derive(Debug, Default)]
struct Stream {
    /// What has yet to be said, in the order in which it came up.
    order: VecDeque<Key>,
    /// The latest of each of these.
    latest: BTreeMap<Key, Option<Entry>>,
    /// So many of these belong to the roll: behind them it is whole.
    roll: Option<usize>,
    /// Said and not acknowledged.
    under_way: VecDeque<Part>,
    /// The number of the last part.
    last: u64,
    repeat_at: Time,
}

impl Stream {
    /// Returns whether nothing of this name in this group was waiting to be said.
    fn put(&mut self, key: Key, entry: Option<Entry>) -> bool {
        if self.latest.insert(key.clone(), entry).is_some() {
            return false;
        }
        self.order.push_back(key);
        true
    }

    /// The next part, if there is anything to say and room to say it.
    fn next_part(&mut self, now: Time) -> Option<Message> {
        let has_news = !self.order.is_empty() || self.roll == Some(0);
        if !has_news || self.under_way.len() >= INDEX_PARTS_AHEAD {
            return None;
        }
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while rows.len() < INDEX_PART_ROWS && bytes < INDEX_PART_BYTES {
            let Some((group, name)) = self.order.pop_front() else { break };
            let Some(((group, name), entry)) = self.latest.remove_entry(&(group, name)) else { continue };
            let row = Row { group, name, entry };
            bytes += row.bytes();
            rows.push(row);
            self.roll = self.roll.map(|left| left.saturating_sub(1));
        }
        let whole = self.roll == Some(0);
        if whole {
            self.roll = None;
        }
        self.last += 1;
        if self.under_way.is_empty() {
            self.repeat_at = now + REPEAT;
        }
        let part = Part { number: self.last, rows, whole };
        let message = part.message();
        self.under_way.push_back(part);
        Some(message)
    }
}

/// A name of which some index has yet to hear something.
#[derive(Debug, Default)]
struct Unheard {
    /// Rows that no index has acknowledged.
    rows: usize,
    /// Who is to be answered when all have.
    requests: Vec<RequestId>,
}

/// All that this node tells.
#[derive(Debug, Default)]
pub(super) struct Teller {
    streams: BTreeMap<Incarnation, Stream>,
    unheard: BTreeMap<Name, Unheard>,
    /// Requests in all of these.
    requests: usize,
}

impl Teller {
    /// A view was installed, in which these members have indexes. Whoever waits is asked again by its asker, and told
    /// anew.
    pub(super) fn follow_view(&mut self, owners: &BTreeSet<Incarnation>) {
        *self = Self::default();
        self.streams = owners.iter().map(|owner| (*owner, Stream::default())).collect();
    }

    /// This name is, or is not, in this group.
    pub(super) fn put(&mut self, to: Incarnation, group: Group, name: &Name, entry: Option<Entry>) {
        let Some(stream) = self.streams.get_mut(&to) else { return };
        if stream.put((group, name.clone()), entry) {
            self.unheard.entry(name.clone()).or_default().rows += 1;
        }
    }

    /// What was put so far is all that the records of this node say.
    pub(super) fn end_roll(&mut self) {
        for stream in self.streams.values_mut() {
            stream.roll = Some(stream.order.len());
        }
    }

    /// Somebody is to be answered when all that was put about this name is in the indexes. Gives it back if it is.
    pub(super) fn when_heard(&mut self, name: Name, request: RequestId) -> Option<(RequestId, Name)> {
        let Some(unheard) = self.unheard.get_mut(&name) else { return Some((request, name)) };
        // With too many of them it is dropped: it is asked again.
        if !unheard.requests.contains(&request) && self.requests < ENROLLING_MAX {
            unheard.requests.push(request);
            self.requests += 1;
        }
        None
    }

    /// What is to be said now.
    pub(super) fn take_parts(&mut self, now: Time) -> Vec<(Incarnation, Message)> {
        let mut parts = Vec::new();
        for (to, stream) in &mut self.streams {
            parts.extend(std::iter::from_fn(|| stream.next_part(now)).map(|part| (*to, part)));
        }
        parts
    }

    /// An index has the parts up to this one. Returns whose requests are done.
    ///
    /// # Errors
    /// There is no such part.
    pub(super) fn handle_enrolled(
        &mut self,
        from: Incarnation,
        number: u64,
        now: Time,
    ) -> Result<Vec<(RequestId, Name)>, &'static str> {
        const UNSAID: &str = "it acknowledges rows of groups that it was not told";
        let Some(stream) = self.streams.get_mut(&from).filter(|stream| number <= stream.last) else {
            return Err(UNSAID);
        };
        let mut done = Vec::new();
        while stream.under_way.front().is_some_and(|part| part.number <= number) {
            let Some(part) = stream.under_way.pop_front() else { break };
            stream.repeat_at = now + REPEAT;
            for row in part.rows {
                let Some(unheard) = self.unheard.get_mut(&row.name) else { continue };
                unheard.rows = unheard.rows.saturating_sub(1);
                if unheard.rows == 0
                    && let Some(unheard) = self.unheard.remove(&row.name)
                {
                    self.requests -= unheard.requests.len();
                    done.extend(unheard.requests.into_iter().map(|request| (request, row.name.clone())));
                }
            }
        }
        Ok(done)
    }

    /// What this one was told and has not acknowledged.
    pub(super) fn say_again(&mut self, to: Incarnation, now: Time) -> Vec<Message> {
        let Some(stream) = self.streams.get_mut(&to) else { return Vec::new() };
        stream.repeat_at = now + REPEAT;
        stream.under_way.iter().map(Part::message).collect()
    }

    /// Who has not acknowledged what it was told a while ago.
    pub(super) fn late(&self, now: Time) -> Vec<Incarnation> {
        let is_late = |stream: &Stream| !stream.under_way.is_empty() && stream.repeat_at <= now;
        self.streams.iter().filter(|(_, stream)| is_late(stream)).map(|(to, _)| *to).collect()
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        let waiting = self.streams.values().filter(|stream| !stream.under_way.is_empty());
        waiting.map(|stream| stream.repeat_at).min()
    }

    /// Requests that wait, and parts under way to the one that has most.
    pub(super) fn fullness(&self) -> (usize, usize) {
        let parts = self.streams.values().map(|stream| stream.under_way.len()).max().unwrap_or(0);
        (self.requests, parts)
    }
}
