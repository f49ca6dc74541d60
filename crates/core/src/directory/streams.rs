//! Streams: what user code of this node follows, and the mirror that makes events of it.
//!
//! Decides: whom to ask, when to begin anew, what is told. Promises: a stream leads its reader to every state that lasts;
//! what the mirror has is what the owners have, a message's way ago. Assumes: a link keeps the order of what an owner says.
//!
//! ```text
//!   view ──> ask every member ──> Paging ── its last page ──> Following ── every 10 s: its sum
//!                                   ^  a gap in its numbers, another sum  │
//!                                   └─────────────────────────────────────┘
//! ```
//!
//! The rows of the mirror stay while they are asked for again, and are held against what comes: so events are told of
//! differences alone, whatever was lost and whoever died. When the line is left the rows stay too, until the owners of the
//! next one have spoken (`docs/protocol.md` section 12).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::filter::{Filter, Listed};
use super::message::{FollowAsk, Message, StreamNews};
use super::stream_event::{StreamEnd, StreamEvent};
use super::teller::Teller;
use super::{Directory, Output, REPEAT};
use crate::base::limits::{STREAM_NAMES_MAX, STREAMS_MAX};
use crate::base::{ExitReason, Incarnation, Mutant, Name, Time};

/// Between two sums of one owner: what is lost unseen is found so late.
const SUM_EVERY: Duration = Duration::from_secs(10);

type Rows = BTreeMap<Name, Arc<Listed>>;

/// How far this node is with one owner.
#[derive(Debug)]
enum Phase {
    /// Its rows come page by page, behind this name; changes come in between.
    Paging { after: Option<Name>, found: Rows, ends: BTreeMap<Name, ExitReason> },
    /// It tells every change.
    Following,
}

impl Phase {
    fn begin() -> Self {
        Phase::Paging { after: None, found: Rows::new(), ends: BTreeMap::new() }
    }
}

/// One owner of rows.
#[derive(Debug)]
struct Source {
    /// Names what it was asked last: what it says to something else is late.
    round: u64,
    /// The last of its messages.
    heard: u64,
    phase: Phase,
    /// The part of the mirror that it answers for.
    rows: Rows,
    /// When it was asked, or told a page.
    at: Time,
}

impl Source {
    fn names(&self) -> usize {
        match &self.phase {
            Phase::Paging { found, .. } => self.rows.len().max(found.len()),
            Phase::Following => self.rows.len(),
        }
    }

    fn question(&self) -> FollowAsk {
        match &self.phase {
            Phase::Paging { after, .. } => FollowAsk::Page { after: after.clone() },
            Phase::Following => FollowAsk::Sum,
        }
    }

    fn due(&self) -> Time {
        self.at
            + match self.phase {
                Phase::Paging { .. } => REPEAT,
                Phase::Following => SUM_EVERY,
            }
    }

    /// Whether what it sums up to is what this node has of it.
    fn sums_up_to(&self, rows: u64, sum: u64) -> bool {
        let own = self.rows.values().fold(0_u64, |own, row| own.wrapping_add(row.digest()));
        (self.rows.len() as u64, own) == (rows, sum)
    }
}

#[derive(Debug)]
struct Stream {
    filter: Filter,
    sources: BTreeMap<Incarnation, Source>,
    /// The mirror while this node has no line.
    adrift: Rows,
    teller: Teller,
}

/// What is to be done after news.
enum Next {
    Nothing,
    /// Ask this source what it is asked now.
    Ask,
    /// Ask it for everything.
    Anew,
}

impl Stream {
    fn hear(&mut self, from: Incarnation, number: u64, news: StreamNews, now: Time) -> Next {
        let Some(source) = self.sources.get_mut(&from) else { return Next::Nothing };
        if number != source.heard + 1 {
            return Next::Anew;
        }
        source.heard = number;
        if matches!(source.phase, Phase::Paging { .. }) {
            source.at = now;
        }
        match news {
            StreamNews::Row { row, reason } => {
                self.put(from, row, reason);
                Next::Nothing
            }
            StreamNews::Gone { name, reason, now } => {
                self.take(from, name, reason, now);
                Next::Nothing
            }
            StreamNews::Page { after, rows, more, ends } => {
                self.turn_page(from, after.as_ref(), rows, more, ends)
            }
            StreamNews::Sum { rows, sum } => match source.phase {
                Phase::Following if !source.sums_up_to(rows, sum) => Next::Anew,
                Phase::Following | Phase::Paging { .. } => Next::Nothing,
            },
        }
    }

    fn put(&mut self, from: Incarnation, row: Listed, reason: Option<ExitReason>) {
        let Some(source) = self.sources.get_mut(&from) else { return };
        let (name, row) = (row.name.clone(), Arc::new(row));
        match &mut source.phase {
            Phase::Paging { found, ends, .. } => {
                ends.extend(reason.map(|reason| (name.clone(), reason)));
                found.insert(name, row);
            }
            Phase::Following => {
                let before = source.rows.insert(name, Arc::clone(&row));
                self.teller.change(before, Some(row), reason);
            }
        }
    }

    fn take(&mut self, from: Incarnation, name: Name, reason: Option<ExitReason>, now: Option<Listed>) {
        let Some(source) = self.sources.get_mut(&from) else { return };
        match &mut source.phase {
            Phase::Paging { found, ends, .. } => {
                found.remove(&name);
                ends.extend(reason.map(|reason| (name, reason)));
            }
            Phase::Following => match (source.rows.remove(&name), now) {
                (Some(before), Some(now)) => self.teller.leave(before, &now, reason),
                (before, _) => self.teller.change(before, None, reason),
            },
        }
    }

    fn turn_page(
        &mut self,
        from: Incarnation,
        page_after: Option<&Name>,
        rows: Vec<Listed>,
        more: bool,
        page_ends: Vec<(Name, ExitReason)>,
    ) -> Next {
        let Some(source) = self.sources.get_mut(&from) else { return Next::Nothing };
        let Phase::Paging { after, found, ends } = &mut source.phase else { return Next::Nothing };
        if after.as_ref() != page_after {
            // It was asked twice for it.
            return Next::Nothing;
        }
        let last = rows.last().filter(|_| more).map(|row| row.name.clone());
        ends.extend(page_ends);
        found.extend(rows.into_iter().map(|row| (row.name.clone(), Arc::new(row))));
        if last.is_some() {
            *after = last;
            return Next::Ask;
        }
        let Phase::Paging { found, mut ends, .. } = std::mem::replace(&mut source.phase, Phase::Following)
        else {
            return Next::Nothing;
        };
        let mut before = std::mem::take(&mut source.rows);
        for (name, row) in &found {
            self.teller.change(before.remove(name), Some(Arc::clone(row)), ends.remove(name));
        }
        for (name, gone) in before {
            self.teller.change(Some(gone), None, ends.remove(&name));
        }
        source.rows = found;
        Next::Nothing
    }

    fn names(&self) -> usize {
        self.sources.values().map(Source::names).sum()
    }

    fn is_whole(&self) -> bool {
        let follows = |source: &Source| matches!(source.phase, Phase::Following);
        !self.sources.is_empty() && self.sources.values().all(follows)
    }

    /// The whole mirror, to be dealt out to other owners.
    fn take_rows(&mut self) -> Rows {
        let mut rows = std::mem::take(&mut self.adrift);
        for mut source in std::mem::take(&mut self.sources).into_values() {
            rows.append(&mut source.rows);
        }
        rows
    }
}

/// The streams of this node.
#[derive(Debug, Default)]
pub(super) struct Streams {
    all: BTreeMap<u64, Stream>,
    last_round: u64,
    /// When somebody is to be asked again.
    due: Option<Time>,
}

impl Streams {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Names in the fullest mirror.
    pub(super) fn names(&self) -> usize {
        self.all.values().map(Stream::names).max().unwrap_or(0)
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.due
    }

    fn due_by(&mut self, at: Time) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }
}

impl Directory {
    /// User code on this node follows all names that the filter means: [`Output::Followed`] tells, until
    /// [`Directory::handle_unfollow`] or [`StreamEvent::Ended`].
    pub fn handle_follow(&mut self, number: u64, filter: Filter, now: Time) {
        if self.streams.all.len() >= STREAMS_MAX {
            let events = vec![StreamEvent::Ended(StreamEnd::TooManyStreams)];
            return self.tell(Output::Followed { number, events });
        }
        let mut stream = Stream {
            filter: filter.unpaged(),
            sources: BTreeMap::new(),
            adrift: Rows::new(),
            teller: Teller::default(),
        };
        if !stream.filter.is_sound() {
            // No name can ever be meant.
            stream.teller.synced();
            return self.tell(Output::Followed { number, events: stream.teller.take() });
        }
        self.streams.all.insert(number, stream);
        self.ask_sources(number, now);
        self.finish(now);
    }

    /// Nobody reads this stream any more.
    pub fn handle_unfollow(&mut self, number: u64, now: Time) {
        self.drop_stream(number);
        self.finish(now);
    }

    fn drop_stream(&mut self, number: u64) {
        let Some(stream) = self.streams.all.remove(&number) else { return };
        for member in stream.sources.into_keys() {
            self.send(member, Message::Unfollow { stream: number });
        }
    }

    /// The reader of a stream has taken so many events.
    pub fn handle_read(&mut self, number: u64, events: usize) {
        if let Some(stream) = self.streams.all.get_mut(&number) {
            stream.teller.read(events);
        }
        self.tell_events(number);
    }

    /// A view was installed: every stream asks the owners of now.
    pub(super) fn streams_follow_view(&mut self, now: Time) {
        for number in self.streams.all.keys().copied().collect::<Vec<_>>() {
            self.ask_sources(number, now);
        }
    }

    /// The line is left: nobody answers for the rows until the next one is found.
    pub(super) fn set_streams_adrift(&mut self) {
        for stream in self.streams.all.values_mut() {
            stream.adrift = stream.take_rows();
        }
    }

    /// Deals the mirror out to the members of the view, and asks all of them.
    fn ask_sources(&mut self, number: u64, now: Time) {
        let (Some(view), Some(stream)) = (self.view().cloned(), self.streams.all.get_mut(&number)) else {
            return;
        };
        let rows = stream.take_rows();
        for member in view.incarnations() {
            self.streams.last_round += 1;
            let round = self.streams.last_round;
            let source = Source { round, heard: 0, phase: Phase::begin(), rows: Rows::new(), at: now };
            stream.sources.insert(member, source);
        }
        let owners: Vec<(Option<Incarnation>, Name, Arc<Listed>)> =
            rows.into_iter().map(|(name, row)| (self.owner_of(&name), name, row)).collect();
        if let Some(stream) = self.streams.all.get_mut(&number) {
            for (owner, name, row) in owners {
                if let Some(source) = owner.and_then(|owner| stream.sources.get_mut(&owner)) {
                    source.rows.insert(name, row);
                }
            }
        }
        for member in view.incarnations() {
            self.ask_source(number, member, now);
        }
    }

    fn ask_source(&mut self, number: u64, member: Incarnation, now: Time) {
        let Some(stream) = self.streams.all.get_mut(&number) else { return };
        let Some(source) = stream.sources.get_mut(&member) else { return };
        source.at = now;
        let (round, filter, ask) = (source.round, Box::new(stream.filter.clone()), source.question());
        let due = source.due();
        self.streams.due_by(due);
        self.send(member, Message::Follow { stream: number, round, filter, ask });
    }

    fn ask_anew(&mut self, number: u64, member: Incarnation, now: Time) {
        self.streams.last_round += 1;
        let round = self.streams.last_round;
        let stream = self.streams.all.get_mut(&number);
        if let Some(source) = stream.and_then(|stream| stream.sources.get_mut(&member)) {
            (source.round, source.heard, source.phase) = (round, 0, Phase::begin());
            self.ask_source(number, member, now);
        }
    }

    pub(super) fn on_followed(
        &mut self,
        from: Incarnation,
        number: u64,
        round: u64,
        said: u64,
        news: StreamNews,
        now: Time,
    ) {
        let Some(stream) = self.streams.all.get_mut(&number) else {
            return self.send(from, Message::Unfollow { stream: number });
        };
        if stream.sources.get(&from).is_none_or(|source| source.round != round) {
            return;
        }
        let next = stream.hear(from, said, news, now);
        if stream.names() > STREAM_NAMES_MAX {
            stream.teller.end(StreamEvent::Ended(StreamEnd::TooManyNames));
            self.tell_events(number);
            return self.drop_stream(number);
        }
        if stream.is_whole() {
            stream.teller.synced();
        }
        self.tell_events(number);
        match next {
            Next::Nothing => self.streams.due_by(now + SUM_EVERY),
            Next::Ask => self.ask_source(number, from, now),
            Next::Anew => self.ask_anew(number, from, now),
        }
    }

    fn tell_events(&mut self, number: u64) {
        let Some(stream) = self.streams.all.get_mut(&number) else { return };
        let mut events = stream.teller.take();
        if self.settings.mutants.has(Mutant::EndUntold) {
            events.retain(|event| !matches!(event, StreamEvent::Stopped { .. }));
        }
        if !events.is_empty() {
            self.tell(Output::Followed { number, events });
        }
    }

    /// Asks those again who have said nothing for long.
    pub(super) fn ask_sources_again(&mut self, now: Time) {
        if self.streams.due.is_none_or(|due| due > now) {
            return;
        }
        self.streams.due = None;
        let mut late = Vec::new();
        for (number, stream) in &self.streams.all {
            for (member, source) in &stream.sources {
                if source.due() <= now {
                    late.push((*number, *member));
                }
            }
        }
        let rest = self.streams.all.values().flat_map(|stream| stream.sources.values());
        let next = rest.map(Source::due).filter(|due| *due > now).min();
        self.streams.due = next;
        for (number, member) in late {
            self.ask_source(number, member, now);
        }
    }
}
