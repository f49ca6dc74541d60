//! Listings and counts: what the owners of all slots have, gathered by the member that asks.
//!
//! A page has the first names that are meant, in their order: each owner gives its own first ones, in messages of bounded
//! size, and is asked for more as long as there may be some among the first of all. Everything is asked and answered in one
//! view, in which each name has one owner: a listing that another view interrupts begins anew, so it misses no name and has
//! none twice. It is no picture of one moment: each row was so at some time between question and answer.
//!
//! An owner whose slots do not all serve yet answers when they do. What is lost is asked for again; by the deadline a listing
//! ends with what there is, and says that it is not complete.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::filter::{Filter, Listed};
use super::message::Message;
use super::record::Record;
use super::{Directory, Output, REPEAT};
use crate::base::limits::{FILL_BYTES_MAX, LIST_BYTES_MAX, LISTINGS_MAX};
use crate::base::{Incarnation, Name, Time};
use crate::view::View;

/// Rows that an owner puts in order for one message; most often fewer fit.
const PAGE_ROWS_MAX: usize = 4_096;
/// Questions of other members that wait at an owner until all its slots serve; they are asked again.
const HELD_MAX: usize = 4_096;

/// What one member has said.
#[derive(Debug)]
enum Heard {
    /// It is asked for what is behind this name.
    Asked { after: Option<Name>, at: Time },
    /// It has more behind this name, which is the last one that it told.
    More { after: Name },
    /// It has told all.
    Whole,
}

#[derive(Debug)]
enum Want {
    Rows { rows: BTreeMap<Name, Listed>, bytes: usize },
    Count { names: usize },
}

#[derive(Debug)]
struct Listing {
    filter: Filter,
    want: Want,
    due: Time,
    members: BTreeMap<Incarnation, Heard>,
}

impl Listing {
    /// Begins anew with these members.
    fn begin(&mut self, members: impl Iterator<Item = Incarnation>, now: Time) {
        match &mut self.want {
            Want::Rows { rows, bytes } => {
                rows.clear();
                *bytes = 0;
            }
            Want::Count { names } => *names = 0,
        }
        let asked = |member| (member, Heard::Asked { after: self.filter.after.clone(), at: now });
        self.members = members.map(asked).collect();
    }

    fn question(&self, number: u64, after: Option<&Name>) -> Message {
        let filter = Box::new(Filter { after: after.cloned(), ..self.filter.clone() });
        match self.want {
            Want::Rows { .. } => Message::ListAsk { number, filter },
            Want::Count { .. } => Message::CountAsk { number, filter },
        }
    }

    /// Whoever may have some of the first names and is to be asked again; nobody when all that were asked have answered
    /// and the page is there.
    fn lagging(&self) -> Vec<(Incarnation, Name)> {
        let Want::Rows { rows, bytes } = &self.want else { return Vec::new() };
        if *bytes >= LIST_BYTES_MAX {
            return Vec::new();
        }
        let last = rows.keys().nth(self.filter.page_names() - 1);
        let may_have = |after: &Name| last.is_none_or(|last| after < last);
        let more = self.members.iter().filter_map(|(member, heard)| match heard {
            Heard::More { after } if may_have(after) => Some((*member, after.clone())),
            Heard::More { .. } | Heard::Asked { .. } | Heard::Whole => None,
        });
        more.collect()
    }

    fn waits(&self) -> bool {
        self.members.values().any(|heard| matches!(heard, Heard::Asked { .. }))
    }

    /// What is told: rows up to the first name behind which a member may have another one; where the next page begins.
    fn into_output(self, number: u64) -> Output {
        let complete = !self.waits();
        let most = self.filter.page_names();
        let rows = match self.want {
            Want::Count { names } => return Output::Counted { number, names, complete },
            Want::Rows { rows, .. } => rows,
        };
        let bounds = self.members.values().filter_map(|heard| match heard {
            Heard::More { after } => Some(after.clone()),
            Heard::Asked { .. } | Heard::Whole => None,
        });
        let bound = bounds.min();
        let known = rows.len();
        let is_sure = |row: &Listed| bound.as_ref().is_none_or(|bound| row.name <= *bound);
        let rows: Vec<Listed> = rows.into_values().take_while(is_sure).take(most).collect();
        let is_cut = bound.is_some() || rows.len() < known;
        let next = rows.last().filter(|_| is_cut).map(|row| row.name.clone());
        Output::Listed { number, rows, next, complete }
    }
}

/// The listings of this node that are not complete yet, and questions of others that wait for its slots.
#[derive(Debug, Default)]
pub(super) struct Listings {
    open: BTreeMap<u64, Listing>,
    /// When somebody is to be asked again.
    retry_at: Option<Time>,
    held: Vec<(Incarnation, Message)>,
}

impl Listings {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.open.values().map(|listing| listing.due).chain(self.retry_at).min()
    }
}

impl Directory {
    /// User code on this node asks for rows of all members.
    pub fn handle_list(&mut self, number: u64, filter: Filter, deadline: Duration, now: Time) {
        let want = Want::Rows { rows: BTreeMap::new(), bytes: 0 };
        self.begin_listing(
            number,
            Listing { filter, want, due: now + deadline, members: BTreeMap::new() },
            now,
        );
    }

    /// User code on this node asks how many names there are in all.
    pub fn handle_count(&mut self, number: u64, filter: Filter, deadline: Duration, now: Time) {
        let (filter, want) = (filter.unpaged(), Want::Count { names: 0 });
        self.begin_listing(
            number,
            Listing { filter, want, due: now + deadline, members: BTreeMap::new() },
            now,
        );
    }

    fn begin_listing(&mut self, number: u64, mut listing: Listing, now: Time) {
        let members: BTreeSet<Incarnation> =
            self.view().map(|view| view.incarnations().collect()).unwrap_or_default();
        if members.is_empty() || self.listings.open.len() >= LISTINGS_MAX {
            // So that it says that it is not complete.
            listing.begin([self.me].into_iter(), now);
            return self.tell(listing.into_output(number));
        }
        if !listing.filter.is_sound() {
            return self.tell(listing.into_output(number));
        }
        listing.begin(members.into_iter(), now);
        self.listings.open.insert(number, listing);
        self.ask_listing(number, now, Duration::ZERO);
        self.finish(now);
    }

    /// Listings, counts and streams.
    pub(super) fn dispatch_listing(&mut self, from: Incarnation, message: Message, now: Time) {
        match message {
            Message::ListAsk { number, filter } => self.on_list_ask(from, number, filter),
            Message::ListAnswer { number, after, rows, more } => {
                self.on_list_answer(from, number, after.as_ref(), rows, more, now);
            }
            Message::CountAsk { number, filter } => self.on_count_ask(from, number, filter),
            Message::CountAnswer { number, names } => self.on_count_answer(from, number, names),
            Message::Follow { stream, round, filter, ask } => {
                self.on_follow(from, stream, round, filter, ask);
            }
            Message::Followed { stream, round, number, news } => {
                self.on_followed(from, stream, round, number, *news, now);
            }
            Message::Unfollow { stream } => self.on_unfollow(from, stream),
            _ => {}
        }
    }

    /// Asks those who were asked so long ago.
    fn ask_listing(&mut self, number: u64, now: Time, since: Duration) {
        let Some(listing) = self.listings.open.get_mut(&number) else { return };
        let mut due = Vec::new();
        for (member, heard) in &mut listing.members {
            if let Heard::Asked { after, at } = heard
                && now.since(*at) >= since
            {
                *at = now;
                due.push((*member, after.clone()));
            }
        }
        let questions: Vec<_> = due
            .into_iter()
            .map(|(member, after)| (member, listing.question(number, after.as_ref())))
            .collect();
        for (member, question) in questions {
            self.send(member, question);
        }
        self.listings.retry_at.get_or_insert(now + REPEAT);
    }

    pub(super) fn on_list_ask(&mut self, from: Incarnation, number: u64, filter: Box<Filter>) {
        if !self.unsettled.is_empty() {
            return self.hold_question(from, Message::ListAsk { number, filter });
        }
        let (rows, more) = match self.view() {
            Some(view) => page(self.owned_records(), &filter, view),
            None => return,
        };
        self.send(from, Message::ListAnswer { number, after: filter.after, rows, more });
    }

    pub(super) fn on_count_ask(&mut self, from: Incarnation, number: u64, filter: Box<Filter>) {
        if !self.unsettled.is_empty() {
            return self.hold_question(from, Message::CountAsk { number, filter });
        }
        let Some(view) = self.view() else { return };
        let names = self.owned_records().filter(|record| filter.matches(record, view)).count() as u64;
        self.send(from, Message::CountAnswer { number, names });
    }

    /// A question that is answered when all owned slots serve.
    pub(super) fn hold_question(&mut self, from: Incarnation, question: Message) {
        let held = &mut self.listings.held;
        let question = (from, question);
        if held.len() < HELD_MAX && !held.contains(&question) {
            held.push(question);
        }
    }

    pub(super) fn answer_held(&mut self, now: Time) {
        if self.unsettled.is_empty() && !self.listings.held.is_empty() {
            for (from, question) in std::mem::take(&mut self.listings.held) {
                self.dispatch(from, question, now);
            }
        }
    }

    pub(super) fn on_list_answer(
        &mut self,
        from: Incarnation,
        number: u64,
        after: Option<&Name>,
        told: Vec<Listed>,
        more: bool,
        now: Time,
    ) {
        let Some(listing) = self.listings.open.get_mut(&number) else { return };
        let Want::Rows { rows, bytes } = &mut listing.want else { return };
        let Some(heard) = listing.members.get_mut(&from) else { return };
        if !matches!(heard, Heard::Asked { after: asked, .. } if asked.as_ref() == after) {
            // An answer to a question that was asked twice.
            return;
        }
        *heard = match told.last() {
            Some(row) if more => Heard::More { after: row.name.clone() },
            Some(_) | None => Heard::Whole,
        };
        *bytes += told.iter().map(Listed::bytes).sum::<usize>();
        rows.extend(told.into_iter().map(|row| (row.name.clone(), row)));
        if !listing.waits() {
            for (member, after) in listing.lagging() {
                listing.members.insert(member, Heard::Asked { after: Some(after), at: now });
            }
            self.ask_listing(number, now, Duration::ZERO);
        }
        self.answer_listing(number);
    }

    pub(super) fn on_count_answer(&mut self, from: Incarnation, number: u64, counted: u64) {
        let Some(listing) = self.listings.open.get_mut(&number) else { return };
        let Want::Count { names } = &mut listing.want else { return };
        let Some(heard @ Heard::Asked { .. }) = listing.members.get_mut(&from) else { return };
        *heard = Heard::Whole;
        *names = names.saturating_add(usize::try_from(counted).unwrap_or(usize::MAX));
        self.answer_listing(number);
    }

    fn answer_listing(&mut self, number: u64) {
        if self.listings.open.get(&number).is_some_and(|listing| !listing.waits())
            && let Some(listing) = self.listings.open.remove(&number)
        {
            self.tell(listing.into_output(number));
        }
    }

    /// Names have other owners now: every listing begins anew.
    pub(super) fn listings_follow_view(&mut self, view: &View, now: Time) {
        for number in self.listings.open.keys().copied().collect::<Vec<_>>() {
            if let Some(listing) = self.listings.open.get_mut(&number) {
                listing.begin(view.incarnations(), now);
            }
            self.ask_listing(number, now, Duration::ZERO);
        }
    }

    /// What was asked in the last view was asked of others.
    pub(super) fn forget_held(&mut self) {
        self.listings.held.clear();
    }

    pub(super) fn expire_listings(&mut self, now: Time) {
        let due: Vec<u64> =
            self.listings.open.iter().filter(|(_, l)| l.due <= now).map(|(number, _)| *number).collect();
        for number in due {
            if let Some(listing) = self.listings.open.remove(&number) {
                self.tell(listing.into_output(number));
            }
        }
        if self.listings.retry_at.is_some_and(|at| at <= now) {
            self.listings.retry_at = None;
            for number in self.listings.open.keys().copied().collect::<Vec<_>>() {
                self.ask_listing(number, now, REPEAT);
            }
        }
    }
}

/// The first rows that a filter means, in order, as many as go in one message; whether there are more.
pub(super) fn page<'r>(
    records: impl Iterator<Item = &'r Record>,
    filter: &Filter,
    view: &View,
) -> (Vec<Listed>, bool) {
    let most = filter.page_names().min(PAGE_ROWS_MAX);
    let mut meant: Vec<&Record> = records.filter(|record| filter.matches(record, view)).collect();
    let mut more = meant.len() > most;
    if more {
        meant.select_nth_unstable_by(most, |one, other| one.name.cmp(&other.name));
        meant.truncate(most);
    }
    meant.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    let mut bytes = 0;
    let mut rows = Vec::new();
    for record in meant {
        let row = Listed::of(record);
        bytes += row.bytes();
        if bytes > FILL_BYTES_MAX && !rows.is_empty() {
            more = true;
            break;
        }
        rows.push(row);
    }
    (rows, more)
}
