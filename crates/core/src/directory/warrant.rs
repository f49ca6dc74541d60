//! Warrants: which member may say what. Every message of another node passes here before it is looked at.
//!
//! A member is trusted with what the owner of a slot, the host of a name or whoever asks may do, and only where it is
//! that: it neither commands for the owner, nor asks or answers in another node's name, nor brings tokens that no view
//! of the line can have given, nor records that no copy could be sent with. What it says of its own - that a life of
//! its own ended, that it wants a name stopped - is believed, since every member may say that.
//!
//! Beside these rules the handlers compare with what they wait for: an answer with who was asked, an acknowledgement
//! with who was written to.

use super::attached::Attachment;
use super::content::{Change, Fill};
use super::filter::{Filter, Listed};
use super::message::{Message, News, StreamNews};
use super::monitors::End;
use super::record::{Record, StartOutcome, Tombstone};
use super::request::{Answer, Ask};
use super::{Directory, DirectoryEvent};
use crate::base::limits::{
    ARGS_BYTES_MAX, FAREWELLS_MAX, GROUPS_PER_NAME_MAX, MEMBERSHIP_BYTES_MAX, MONITORS_PER_NAME_MAX,
    SNAPSHOT_BYTES_MAX, TEXT_BYTES_MAX,
};
use crate::base::{Bytes, ExitReason, Incarnation, Name, SlotId, Token};
use crate::placement::Replicas;
use crate::view::{COUNTER_MAX, ViewId};

/// Requests and ages that a record or a tombstone may carry: far more than any honest one does.
const LIST_MAX: usize = 1_024;

const NOT_OWNER: &str = "it commands for a slot that it does not own";
const NOT_CALLER: &str = "it asks in another node's name";
const NOT_ASKED: &str = "it answers a question that it was not asked";
const TOKEN: &str = "a token is given in a view, and can be exceeded";
const SLOT: &str = "a name stands in its own slot";
const ORDER: &str = "an order is given in a view that was";
const ROW: &str = "what is said of a name is a row of that name";
const SIZE: &str = "arguments, texts and lists have a limit";

type Warrant = Result<(), &'static str>;

fn demand(holds: bool, rule: &'static str) -> Warrant {
    if holds { Ok(()) } else { Err(rule) }
}

impl Directory {
    /// Tells of a message that was not looked at.
    pub(super) fn refuse(&mut self, peer: Incarnation, why: &'static str) {
        self.event(DirectoryEvent::Refused { peer, why });
    }

    /// Whether this member may say that, in this view of the line.
    ///
    /// # Errors
    /// The rule it breaks.
    pub(super) fn check_warrant(&self, from: Incarnation, view: ViewId, message: &Message) -> Warrant {
        match message {
            Message::Gather(slots) => self.owns_all(from, slots.iter().map(|(slot, _)| *slot)),
            Message::Load(slots) | Message::Settled(slots) | Message::AskHosted(slots) => {
                self.owns_all(from, slots.iter().copied())
            }
            Message::Open(slots) => self.owns_all(from, slots.iter().map(|(slot, _)| *slot)),
            Message::Digests(digests) => self.owns_all(from, digests.iter().map(|digest| digest.slot)),
            Message::Write(writes) => {
                self.owns_all(from, writes.iter().map(|write| write.slot))?;
                writes.iter().try_for_each(|write| self.check_change(write.slot, &write.change))
            }
            Message::Fill(fill) => self.check_fill(fill),
            Message::Hosted { records, .. } => records.iter().try_for_each(check_offered),
            Message::Request { request, ask, .. } => {
                demand(request.caller == from, NOT_CALLER)?;
                check_ask(ask)
            }
            Message::Forget(requests) => {
                demand(requests.iter().all(|(_, request)| request.caller == from), NOT_CALLER)
            }
            Message::Answer { request, answer, .. } => {
                demand(self.asks.may_answer(*request, from), NOT_ASKED)?;
                check_answer(answer)
            }
            Message::Grant(record) | Message::Move(record) | Message::Attached(record) => {
                demand(self.owner_of(&record.name) == Some(from), NOT_OWNER)?;
                check_record(record)
            }
            Message::End { name, .. } | Message::AskOffer { name, .. } | Message::AskHolds { name, .. } => {
                demand(self.owner_of(name) == Some(from), NOT_OWNER)
            }
            // They follow from a write in the view they were sent in, and may be overtaken by the next one.
            Message::Discard { name, .. }
            | Message::Offered { name, .. }
            | Message::Decided { name, .. }
            | Message::Dismiss { name, .. } => demand(self.owner_in(view, name) == Some(from), NOT_OWNER),
            Message::Retoken { name, new, .. } => {
                demand(self.owner_in(view, name) == Some(from), NOT_OWNER)?;
                check_token(*new)
            }
            Message::Report { news, snapshot, .. } => check_report(news, snapshot.as_ref()),
            Message::Down { name, end, ids, .. } => {
                demand(self.owner_in(view, name) == Some(from), NOT_OWNER)?;
                check_down(end, ids)
            }
            Message::Plea { snapshot, .. } => check_snapshot(snapshot.as_ref()),
            Message::Unwatch { ids, .. } => demand(ids.len() <= MONITORS_PER_NAME_MAX, SIZE),
            Message::Offer { record, .. } => check_offered(record),
            // One that is later than all views could never be followed by another.
            Message::Notice(notice) => demand(notice.order.view <= view.counter, ORDER),
            Message::Gathered(_)
            | Message::Opened(_)
            | Message::Unlike(_)
            | Message::Written(_)
            | Message::Reported { .. }
            | Message::Hosting { .. }
            | Message::Holds { .. }
            | Message::Watch(_)
            | Message::Watched { .. }
            | Message::CountAnswer { .. }
            | Message::Unfollow { .. } => Ok(()),
            Message::ListAsk { filter, .. }
            | Message::CountAsk { filter, .. }
            | Message::Follow { filter, .. } => check_filter(filter),
            Message::ListAnswer { rows, .. } => self.check_rows(from, rows),
            Message::Followed { news, .. } => self.check_news(from, news),
        }
    }

    fn owns_all(&self, from: Incarnation, slots: impl Iterator<Item = SlotId>) -> Warrant {
        let Some(line) = &self.line else { return Err(NOT_OWNER) };
        let owner = |slot: SlotId| line.table.get(usize::from(slot.0)).and_then(Replicas::owner);
        demand(slots.map(owner).all(|owner| owner == Some(from)), NOT_OWNER)
    }

    /// The owner of a name in a view of the line that may be an earlier one.
    fn owner_in(&self, view: ViewId, name: &Name) -> Option<Incarnation> {
        let line = self.line.as_ref()?;
        if line.view().id == view {
            return self.owner_of(name);
        }
        Replicas::of(self.slot_of(name), line.chain.get(view)?, self.settings.replicas).owner()
    }

    fn check_change(&self, slot: SlotId, change: &Change) -> Warrant {
        demand(self.slot_of(change.name()) == slot, SLOT)?;
        match change {
            Change::Put(record) => check_record(record),
            Change::Remove(_, tombstone) => check_tombstone(tombstone),
            Change::Runs(_, token) => check_token(*token),
            Change::Attach(_, attachment) => check_attachment(attachment),
            Change::Watch(..) => Ok(()),
            Change::Unwatch(_, ids) => demand(ids.len() <= MONITORS_PER_NAME_MAX, SIZE),
            Change::End(_, end) => check_end(end),
        }
    }

    /// Rows of its own slots alone.
    fn check_rows(&self, from: Incarnation, rows: &[Listed]) -> Warrant {
        self.owns_all(from, rows.iter().map(|row| self.slot_of(&row.name)))?;
        rows.iter().try_for_each(check_row)
    }

    fn check_news(&self, from: Incarnation, news: &StreamNews) -> Warrant {
        match news {
            StreamNews::Page { rows, ends, .. } => {
                self.check_rows(from, rows)?;
                self.owns_all(from, ends.iter().map(|(name, _)| self.slot_of(name)))?;
                ends.iter().try_for_each(|(_, reason)| check_reason(reason))
            }
            StreamNews::Row { row, reason } => {
                self.check_rows(from, std::slice::from_ref(row))?;
                reason.iter().try_for_each(check_reason)
            }
            StreamNews::Gone { name, reason, now } => {
                demand(self.owner_of(name) == Some(from), NOT_OWNER)?;
                demand(now.as_ref().is_none_or(|now| now.name == *name), ROW)?;
                now.iter().try_for_each(check_row)?;
                reason.iter().try_for_each(check_reason)
            }
            StreamNews::Sum { .. } => Ok(()),
        }
    }

    fn check_fill(&self, fill: &Fill) -> Warrant {
        check_token(fill.watermark)?;
        for record in &fill.records {
            demand(self.slot_of(&record.name) == fill.slot, SLOT)?;
            check_record(record)?;
        }
        for (name, tombstone) in &fill.tombstones {
            demand(self.slot_of(name) == fill.slot, SLOT)?;
            check_tombstone(tombstone)?;
        }
        for (name, watch) in &fill.watches {
            demand(self.slot_of(name) == fill.slot, SLOT)?;
            demand(watch.len() <= MONITORS_PER_NAME_MAX && watch.farewells.len() <= FAREWELLS_MAX + 2, SIZE)?;
            watch.farewells.iter().try_for_each(|farewell| check_end(&farewell.end))?;
        }
        Ok(())
    }
}

fn check_down(end: &End, ids: &[u64]) -> Warrant {
    demand(ids.len() <= MONITORS_PER_NAME_MAX, SIZE)?;
    check_end(end)
}

fn check_report(news: &News, snapshot: Option<&Bytes>) -> Warrant {
    check_snapshot(snapshot)?;
    match news {
        News::Running | News::Full => Ok(()),
        News::InitFailed(reason) | News::Exited(reason) | News::Gone(reason) | News::Ended(reason) => {
            check_reason(reason)
        }
    }
}

fn check_ask(ask: &Ask) -> Warrant {
    match ask {
        Ask::Start { args, placement, .. } => {
            demand(args.len() <= ARGS_BYTES_MAX && placement.is_sound(), SIZE)
        }
        Ask::Join { meta, .. } => demand(meta.bytes() <= MEMBERSHIP_BYTES_MAX, SIZE),
        Ask::Register { .. }
        | Ask::Unregister
        | Ask::Locate
        | Ask::Stop
        | Ask::Release
        | Ask::Leave { .. }
        | Ask::SetMeta { .. }
        | Ask::Inspect
        | Ask::Move { .. } => Ok(()),
    }
}

fn check_end(end: &End) -> Warrant {
    check_reason(&end.reason)?;
    check_snapshot(end.snapshot.as_ref())
}

fn check_snapshot(snapshot: Option<&Bytes>) -> Warrant {
    demand(snapshot.map_or(0, Bytes::len) <= SNAPSHOT_BYTES_MAX, SIZE)
}

fn check_attachment(attachment: &Attachment) -> Warrant {
    match attachment {
        Attachment::Joined(membership) => demand(membership.meta.bytes() <= MEMBERSHIP_BYTES_MAX, SIZE),
        Attachment::Snapshot(bytes) => demand(bytes.len() <= SNAPSHOT_BYTES_MAX, SIZE),
        Attachment::Left(_) | Attachment::Meta { .. } => Ok(()),
    }
}

/// What the owner of a slot may give.
fn check_token(token: Token) -> Warrant {
    demand(token.view_counter() < 1 << 33, TOKEN)
}

/// What a host may say that it was given, perhaps in another line, whose clocks were others: every view has left room
/// above it. So the owner can exceed it, and its backups take that.
fn check_claim(token: Token) -> Warrant {
    demand(token.view_counter() <= COUNTER_MAX, TOKEN)
}

fn check_offered(record: &Record) -> Warrant {
    check_claim(record.token)?;
    check_record(record)
}

fn check_record(record: &Record) -> Warrant {
    check_token(record.token)?;
    record.moving.iter().try_for_each(|moving| check_token(moving.attempt))?;
    let lists = [
        record.restart_ages_ms.len(),
        record.node_deaths_ms.len(),
        record.requests_before.len(),
        record.stopping_by.len(),
        record.tokens_before.len(),
    ];
    check_token(record.born)?;
    record.tokens_before.iter().try_for_each(|token| check_token(*token))?;
    demand(record.attached.as_ref().is_none_or(|attached| attached.is_sound()), SIZE)?;
    demand(record.placement.is_sound(), SIZE)?;
    demand(record.args.len() <= ARGS_BYTES_MAX && lists.iter().all(|length| *length <= LIST_MAX), SIZE)
}

fn check_tombstone(tombstone: &Tombstone) -> Warrant {
    check_token(tombstone.token)?;
    demand(tombstone.stopped_by.len() <= LIST_MAX, SIZE)?;
    match &tombstone.outcome {
        StartOutcome::Ran(located) => check_token(located.token),
        StartOutcome::Failed(reason) => check_reason(reason),
        StartOutcome::AtCapacity => Ok(()),
    }
}

fn check_answer(answer: &Answer) -> Warrant {
    match answer {
        Answer::Started { located, .. } | Answer::AlreadyRunning(located) | Answer::Located(located) => {
            check_token(located.token)
        }
        Answer::InitFailed(reason) => check_reason(reason),
        Answer::Inspected(inspected) => {
            let snapshot = inspected.snapshot.as_ref().map_or(0, Bytes::len);
            check_token(inspected.located.token)?;
            demand(snapshot <= SNAPSHOT_BYTES_MAX && inspected.groups.len() <= GROUPS_PER_NAME_MAX, SIZE)
        }
        Answer::NoHost(_)
        | Answer::NotFound
        | Answer::Done
        | Answer::Quarantined
        | Answer::Deadline(_)
        | Answer::Unlinked
        | Answer::Hindered(_)
        | Answer::Meta(_)
        | Answer::Conflict(_)
        | Answer::AtCapacity
        | Answer::Overloaded => Ok(()),
    }
}

fn check_filter(filter: &Filter) -> Warrant {
    demand(filter.is_sound(), SIZE)
}

fn check_row(row: &Listed) -> Warrant {
    check_token(row.located.token)?;
    check_token(row.born)?;
    let groups = row.groups.iter().all(|membership| membership.meta.bytes() <= MEMBERSHIP_BYTES_MAX);
    demand(groups && row.groups.len() <= GROUPS_PER_NAME_MAX, SIZE)
}

fn check_reason(reason: &ExitReason) -> Warrant {
    match reason {
        ExitReason::Error(text) | ExitReason::Panic(text) => demand(text.len() <= TEXT_BYTES_MAX, SIZE),
        ExitReason::Normal
        | ExitReason::Shutdown
        | ExitReason::Killed
        | ExitReason::NodeLost
        | ExitReason::ConflictLost
        | ExitReason::Quarantined
        | ExitReason::Moved
        | ExitReason::NoProcess => Ok(()),
    }
}
