//! Listings: rows of the slots that each member owns, gathered by the member that asks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::message::Message;
use super::request::{Filter, Listed};
use super::{Directory, Output};
use crate::base::limits::{LIST_NAMES_MAX, LISTINGS_MAX};
use crate::base::{Incarnation, Name, Time};
use crate::view::View;

/// Rows in one message: with names of 255 bytes it stays under the frame limit.
const ROWS_PER_MESSAGE: usize = 1_000;

#[derive(Debug)]
struct Listing {
    due: Time,
    waiting: BTreeSet<Incarnation>,
    rows: BTreeMap<Name, Listed>,
    complete: bool,
}

/// The listings of this node that are not complete yet.
#[derive(Debug, Default)]
pub(super) struct Listings {
    open: BTreeMap<u64, Listing>,
}

impl Listings {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.open.values().map(|listing| listing.due).min()
    }
}

impl Directory {
    /// User code on this node asks for rows of all members.
    pub fn handle_list(&mut self, number: u64, filter: &Filter, deadline: Duration, now: Time) {
        let members: BTreeSet<Incarnation> =
            self.view().map(|view| view.incarnations().collect()).unwrap_or_default();
        if members.is_empty() || self.listings.open.len() >= LISTINGS_MAX {
            self.tell(Output::Listed { number, rows: Vec::new(), complete: false });
            return;
        }
        let listing =
            Listing { due: now + deadline, waiting: members.clone(), rows: BTreeMap::new(), complete: true };
        self.listings.open.insert(number, listing);
        for member in members {
            self.send(member, Message::ListAsk { number, filter: filter.clone() });
        }
        self.finish(now);
    }

    pub(super) fn on_list_ask(&mut self, from: Incarnation, number: u64, filter: &Filter) {
        let all_serve = self.unsettled.is_empty();
        let mut rows: Vec<Listed> = self
            .owned_records()
            .filter(|record| filter.matches(record))
            .take(LIST_NAMES_MAX + 1)
            .map(|r| Listed { name: r.name.clone(), located: r.located(), state: r.state })
            .collect();
        let cut = rows.len() > LIST_NAMES_MAX;
        rows.truncate(LIST_NAMES_MAX);
        // Every message but the last says that more follows by carrying no final word.
        let mut parts: Vec<Vec<Listed>> = rows.chunks(ROWS_PER_MESSAGE).map(<[Listed]>::to_vec).collect();
        let last = parts.pop().unwrap_or_default();
        for rows in parts {
            self.send(from, Message::ListAnswer { number, rows, last: false, complete: true });
        }
        self.send(from, Message::ListAnswer { number, rows: last, last: true, complete: all_serve && !cut });
    }

    pub(super) fn on_list_answer(
        &mut self,
        from: Incarnation,
        number: u64,
        rows: Vec<Listed>,
        last: bool,
        complete: bool,
    ) {
        let Some(listing) = self.listings.open.get_mut(&number) else { return };
        if !listing.waiting.contains(&from) {
            return;
        }
        let room = LIST_NAMES_MAX.saturating_sub(listing.rows.len());
        listing.complete &= complete && rows.len() <= room;
        listing.rows.extend(rows.into_iter().take(room).map(|row| (row.name.clone(), row)));
        if last {
            listing.waiting.remove(&from);
            self.answer_listing(number);
        }
    }

    fn answer_listing(&mut self, number: u64) {
        if self.listings.open.get(&number).is_some_and(|listing| listing.waiting.is_empty())
            && let Some(listing) = self.listings.open.remove(&number)
        {
            let rows = listing.rows.into_values().collect();
            self.tell(Output::Listed { number, rows, complete: listing.complete });
        }
    }

    /// Members that left will not answer.
    pub(super) fn listings_follow_view(&mut self, view: &View) {
        for number in self.listings.open.keys().copied().collect::<Vec<_>>() {
            if let Some(listing) = self.listings.open.get_mut(&number) {
                let before = listing.waiting.len();
                listing.waiting.retain(|member| view.contains(*member));
                listing.complete &= listing.waiting.len() == before;
            }
            self.answer_listing(number);
        }
    }

    pub(super) fn expire_listings(&mut self, now: Time) {
        let due: Vec<u64> =
            self.listings.open.iter().filter(|(_, l)| l.due <= now).map(|(number, _)| *number).collect();
        for number in due {
            if let Some(listing) = self.listings.open.get_mut(&number) {
                listing.complete = false;
                listing.waiting.clear();
            }
            self.answer_listing(number);
        }
    }
}
