//! What nodes say to each other about slots and names. The table of all messages stands in `wire::control`.

use std::sync::Arc;

use minicbor::{Decode, Encode};

use super::content::{Digest, Fill, SlotWrite};
use super::copy::Mark;
use super::filter::{Filter, Listed};
use super::monitors::{End, LifeId, Wish};
use super::notice::Notice;
use super::record::Record;
use super::request::{Answer, Ask};
use crate::base::limits::{NAME_BYTES_MAX, TEXT_BYTES_MAX};
use crate::base::{
    Bytes, Decision, ErrorCode, ExitReason, Incarnation, Name, Plea, RequestId, SlotId, Token,
};
use crate::view::ViewId;

/// A life at its host.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Life {
    /// The name.
    #[n(0)]
    pub name: Name,
    /// The life.
    #[n(1)]
    pub token: Token,
    /// How it stands there.
    #[n(2)]
    pub standing: Standing,
    /// What is attached to the record was changed so often, as far as the host has heard.
    #[n(3)]
    #[cbor(default)]
    pub revision: u32,
}

/// How a life stands at its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Standing {
    /// It runs.
    #[n(0)]
    Runs,
    /// It runs, and is judged as an offer.
    #[n(1)]
    Offered,
    /// It has ended; its mailbox waits for what follows.
    #[n(2)]
    Ended,
}

/// What became of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum News {
    /// `init` returned Ok.
    #[n(0)]
    Running,
    /// `init` did not.
    #[n(1)]
    InitFailed(#[n(0)] ExitReason),
    /// It ended.
    #[n(2)]
    Exited(#[n(0)] ExitReason),
    /// The host was told to end it, or to let another follow it, and has no such life.
    #[n(3)]
    Gone(#[n(0)] ExitReason),
    /// It was told to end, and has; with whatever last words. No failure of its own, which [`News::InitFailed`] and
    /// [`News::Exited`] are: a reason alone does not tell, since processes choose theirs.
    #[n(4)]
    Ended(#[n(0)] ExitReason),
    /// It never began: the host has as many processes of its kind as it may.
    #[n(5)]
    Full,
}

/// What a follower asks of an owner.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum FollowAsk {
    /// The rows behind this name. The first page of a round begins it.
    #[n(0)]
    Page {
        /// The last name of the page before.
        #[n(0)]
        after: Option<Name>,
    },
    /// What all rows sum up to.
    #[n(1)]
    Sum,
}

/// What an owner tells a follower.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum StreamNews {
    /// Rows, in order.
    #[n(0)]
    Page {
        /// The name behind which they begin, as it was asked.
        #[n(0)]
        after: Option<Name>,
        /// The rows.
        #[n(1)]
        rows: Vec<Listed>,
        /// There are others behind the last of them.
        #[n(2)]
        more: bool,
        /// Why lives of names between these ended, as far as that is remembered.
        #[n(3)]
        ends: Vec<(Name, ExitReason)>,
    },
    /// A row is so now.
    #[n(1)]
    Row {
        /// The row.
        #[n(0)]
        row: Listed,
        /// Why the life before ended, if this is another one.
        #[n(1)]
        reason: Option<ExitReason>,
    },
    /// A name is none of the stream any more.
    #[n(2)]
    Gone {
        /// The name.
        #[n(0)]
        name: Name,
        /// Why it ended, if it has.
        #[n(1)]
        reason: Option<ExitReason>,
        /// What it is now, if it lives and no longer meets the filter.
        #[n(2)]
        now: Option<Listed>,
    },
    /// What all rows sum up to.
    #[n(3)]
    Sum {
        /// How many there are.
        #[n(0)]
        rows: u64,
        /// The wrapping sum of their digests.
        #[n(1)]
        sum: u64,
    },
}

impl StreamNews {
    /// About how many bytes it takes on the wire; none of a page, which goes alone.
    fn bytes_in_turn(&self) -> Option<usize> {
        let row = |row: &Listed| row.bytes() + FIXED_BYTES + TEXT_BYTES_MAX;
        match self {
            StreamNews::Page { .. } => None,
            StreamNews::Row { row: told, .. } => Some(row(told)),
            StreamNews::Gone { name, now, .. } => {
                Some(name.as_str().len() + FIXED_BYTES + TEXT_BYTES_MAX + now.as_ref().map_or(0, row))
            }
            StreamNews::Sum { .. } => Some(FIXED_BYTES),
        }
    }
}

/// One message of the directory. Commands for a slot are valid only in the view of their envelope.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Message {
    /// Were these slots opened in those views by you?
    #[n(0)]
    Gather(#[n(0)] Vec<(SlotId, ViewId)>),
    /// The answers.
    #[n(1)]
    Gathered(#[n(0)] Vec<(SlotId, ViewId, bool)>),
    /// Send the content of these slots.
    #[n(2)]
    Load(#[n(0)] Vec<SlotId>),
    /// Content of a slot.
    #[n(3)]
    Fill(#[n(0)] Fill),
    /// These slots open with the content of these marks.
    #[n(4)]
    Open(#[n(0)] Vec<(SlotId, Mark)>),
    /// The sender's copies have that content and are open.
    #[n(5)]
    Opened(#[n(0)] Vec<SlotId>),
    /// The sender's copies have other content: fill them.
    #[n(6)]
    Unlike(#[n(0)] Vec<SlotId>),
    /// These slots serve; whoever is no replica of them may drop its copy.
    #[n(7)]
    Settled(#[n(0)] Vec<SlotId>),
    /// Changes.
    #[n(8)]
    Write(#[n(0)] Vec<SlotWrite>),
    /// Applied up to these numbers.
    #[n(9)]
    Written(#[n(0)] Vec<(SlotId, u64)>),
    /// All copies of these slots are lost: what do you host?
    #[n(10)]
    AskHosted(#[n(0)] Vec<SlotId>),
    /// The records of all hosted names in these slots; `last` with the final part.
    #[n(11)]
    Hosted {
        /// The slots that were asked about.
        #[n(0)]
        slots: Vec<SlotId>,
        /// Records.
        #[n(1)]
        records: Vec<Record>,
        /// Nothing follows.
        #[n(2)]
        last: bool,
    },
    /// A request about a name.
    #[n(12)]
    Request {
        /// Whose, and which.
        #[n(0)]
        request: RequestId,
        /// The name.
        #[n(1)]
        name: Name,
        /// What is asked.
        #[n(2)]
        ask: Ask,
    },
    /// The owner's answer.
    #[n(13)]
    Answer {
        /// To this request.
        #[n(0)]
        request: RequestId,
        /// The name.
        #[n(1)]
        name: Name,
        /// The answer.
        #[n(2)]
        answer: Answer,
    },
    /// Run this life.
    #[n(14)]
    Grant(
        #[n(0)]
        #[cbor(with = "crate::base::shared")]
        Arc<Record>,
    ),
    /// End this life.
    #[n(15)]
    End {
        /// The name.
        #[n(0)]
        name: Name,
        /// The life.
        #[n(1)]
        token: Token,
        /// What it is told.
        #[n(2)]
        reason: ExitReason,
    },
    /// Forget this ended life: there will be no restart in its place.
    #[n(16)]
    Discard {
        /// The name.
        #[n(0)]
        name: Name,
        /// The life.
        #[n(1)]
        token: Token,
        /// What queued callers are told.
        #[n(2)]
        code: ErrorCode,
    },
    /// The life goes on under a higher token.
    #[n(17)]
    Retoken {
        /// The name.
        #[n(0)]
        name: Name,
        /// So far.
        #[n(1)]
        old: Token,
        /// From now on.
        #[n(2)]
        new: Token,
    },
    /// What became of a life.
    #[n(18)]
    Report {
        /// The name.
        #[n(0)]
        name: Name,
        /// The life.
        #[n(1)]
        token: Token,
        /// What became of it.
        #[n(2)]
        news: News,
        /// The last state that it published, if its owner may not have heard of it.
        #[n(3)]
        snapshot: Option<Bytes>,
    },
    /// The owner has written the report down.
    #[n(19)]
    Reported {
        /// The name.
        #[n(0)]
        name: Name,
        /// The life.
        #[n(1)]
        token: Token,
        /// That it has ended; otherwise only that it runs.
        #[n(2)]
        #[cbor(default)]
        ended: bool,
    },
    /// A record from another line.
    #[n(20)]
    Offer {
        /// The record.
        #[n(0)]
        #[cbor(with = "crate::base::shared")]
        record: Arc<Record>,
        /// Whether the sender runs its instance.
        #[n(1)]
        running: bool,
    },
    /// The offer is settled.
    #[n(21)]
    Offered {
        /// The name.
        #[n(0)]
        name: Name,
        /// The life that was offered.
        #[n(1)]
        token: Token,
    },
    /// Send the first rows of the slots you own.
    #[n(22)]
    ListAsk {
        /// The listing.
        #[n(0)]
        number: u64,
        /// Which records.
        #[n(1)]
        filter: Box<Filter>,
    },
    /// Rows, in order.
    #[n(23)]
    ListAnswer {
        /// The listing.
        #[n(0)]
        number: u64,
        /// The rows.
        #[n(1)]
        rows: Vec<Listed>,
        /// The name behind which they begin, as it was asked.
        #[n(4)]
        after: Option<Name>,
        /// There are others behind the last of them.
        #[n(5)]
        more: bool,
    },
    /// How many names of the slots you own are meant?
    #[n(50)]
    CountAsk {
        /// The count.
        #[n(0)]
        number: u64,
        /// Which records.
        #[n(1)]
        filter: Box<Filter>,
    },
    /// So many.
    #[n(51)]
    CountAnswer {
        /// The count.
        #[n(0)]
        number: u64,
        /// Names.
        #[n(1)]
        names: u64,
    },
    /// A stream of the sender follows rows of the slots you own.
    #[n(52)]
    Follow {
        /// The stream, by a number that its node gave it.
        #[n(0)]
        stream: u64,
        /// Numbers the tries to follow: what is said to one before counts no more.
        #[n(1)]
        round: u64,
        /// Which records.
        #[n(2)]
        filter: Box<Filter>,
        /// What is asked of them now.
        #[n(3)]
        ask: FollowAsk,
    },
    /// What an owner has to say to a stream.
    #[n(53)]
    Followed {
        /// The stream.
        #[n(0)]
        stream: u64,
        /// The try to follow.
        #[n(1)]
        round: u64,
        /// Numbers all that is said in it, from 1. 0: no such round is known, follow anew.
        #[n(2)]
        number: u64,
        /// What is said.
        #[n(3)]
        news: Box<StreamNews>,
    },
    /// There is no such stream any more.
    #[n(54)]
    Unfollow {
        /// The stream.
        #[n(0)]
        stream: u64,
    },
    /// All lives that the sender hosts in slots that the receiver has just opened.
    #[n(25)]
    Hosting {
        /// The slots.
        #[n(0)]
        slots: Vec<SlotId>,
        /// The lives.
        #[n(1)]
        lives: Vec<Life>,
    },
    /// No record and no tombstone knows this life: offer it.
    #[n(26)]
    AskOffer {
        /// The name.
        #[n(0)]
        name: Name,
        /// The life.
        #[n(1)]
        token: Token,
    },
    /// These requests are answered: copies of them that wait are not to be carried out.
    #[n(27)]
    Forget(#[n(0)] Vec<(Name, RequestId)>),
    /// What the rows of these slots sum up to: a backup whose rows do not asks for them (`Unlike`).
    #[n(28)]
    Digests(#[n(0)] Vec<Digest>),
    /// Move this life, as its record says.
    #[n(29)]
    Move(#[cbor(n(0), with = "crate::base::shared")] Arc<Record>),
    /// Everything of this attempt is at the target, or nothing will come of it: decide.
    #[n(30)]
    Plea {
        /// The name.
        #[n(0)]
        name: Name,
        /// Its gate.
        #[n(1)]
        gate: Token,
        /// The attempt.
        #[n(2)]
        attempt: Token,
        /// What is asked.
        #[n(3)]
        plea: Plea,
        /// The last state that the process published, if its owner may not have heard of it.
        #[n(4)]
        snapshot: Option<Bytes>,
    },
    /// What became of an attempt; a fact.
    #[n(31)]
    Decided {
        /// The name.
        #[n(0)]
        name: Name,
        /// The attempt.
        #[n(1)]
        attempt: Token,
        /// What became of it.
        #[n(2)]
        decision: Decision,
    },
    /// The source is gone: is the whole process with you?
    #[n(32)]
    AskHolds {
        /// The name.
        #[n(0)]
        name: Name,
        /// Its gate.
        #[n(1)]
        gate: Token,
        /// The attempt.
        #[n(2)]
        attempt: Token,
    },
    /// Whether it is. *No* is a promise: it never will be.
    #[n(33)]
    Holds {
        /// The name.
        #[n(0)]
        name: Name,
        /// Its gate, which tells this process from another one of the name.
        #[n(1)]
        gate: Token,
        /// The attempt.
        #[n(2)]
        attempt: Token,
        /// It is.
        #[n(3)]
        whole: bool,
    },
    /// Nothing comes of this attempt: forget what you hold of it.
    #[n(34)]
    Dismiss {
        /// The name.
        #[n(0)]
        name: Name,
        /// The attempt.
        #[n(1)]
        attempt: Token,
        /// What became of it.
        #[n(2)]
        decision: Decision,
    },
    /// What is attached to this record has changed.
    #[n(35)]
    Attached(#[cbor(n(0), with = "crate::base::shared")] Arc<Record>),
    /// Tell the sender when a process ends.
    #[n(37)]
    Watch(#[n(0)] Wish),
    /// The monitor stands, and this life runs; or it was not taken.
    #[n(38)]
    Watched {
        /// The name.
        #[n(0)]
        name: Name,
        /// The monitor.
        #[n(1)]
        id: u64,
        /// The life, unless the monitor has heard of its end by now; or why not.
        #[n(2)]
        result: Result<Option<LifeId>, ErrorCode>,
    },
    /// These monitors have heard, or are not wanted any more.
    #[n(39)]
    Unwatch {
        /// The name.
        #[n(0)]
        name: Name,
        /// The monitors.
        #[n(1)]
        ids: Vec<u64>,
    },
    /// What monitors of the receiver waited for; or, with the reason *moved*, what they are told meanwhile.
    #[n(40)]
    Down {
        /// The name.
        #[n(0)]
        name: Name,
        /// Its end.
        #[n(1)]
        end: End,
        /// The monitors.
        #[n(2)]
        ids: Vec<u64>,
        /// Where it runs now.
        #[n(3)]
        to: Option<Incarnation>,
    },
    /// What the sender says of itself.
    #[n(36)]
    Notice(#[n(0)] Notice),
}

/// About how many bytes a message of which no part has a length of its own takes on the wire, beside names and texts.
const FIXED_BYTES: usize = 128;

impl Message {
    /// Whether it is no command for a slot: it is checked against what the receiver knows, in any view; what it
    /// follows from was on every replica before it was sent.
    pub(super) const fn is_for_any_view(&self) -> bool {
        matches!(
            self,
            Message::Request { .. }
                | Message::Answer { .. }
                | Message::Report { .. }
                | Message::Reported { .. }
                | Message::Offer { .. }
                | Message::Offered { .. }
                | Message::Forget(_)
                | Message::Discard { .. }
                | Message::Retoken { .. }
                | Message::Plea { .. }
                | Message::Decided { .. }
                | Message::Holds { .. }
                | Message::Dismiss { .. }
                | Message::Notice(_)
                | Message::Watch(_)
                | Message::Unwatch { .. }
                | Message::Down { .. }
        )
    }

    /// About how many bytes it takes on the wire, and no fewer than that by far; none if it is to go alone: it may be
    /// large, and there are few of its sort.
    pub(crate) fn bytes_in_turn(&self) -> Option<usize> {
        let with = |name: &Name| name.as_str().len() + FIXED_BYTES;
        Some(match self {
            Message::Write(writes) => writes.iter().map(SlotWrite::bytes).sum(),
            Message::Notice(_) => FIXED_BYTES,
            Message::Written(acks) => acks.len() * FIXED_BYTES / 8,
            Message::Request { name, ask, .. } => with(name) + ask.bytes() + 2 * NAME_BYTES_MAX,
            Message::Answer { answer: Answer::Inspected(inspected), name, .. } => {
                with(name) + inspected.bytes() + 2 * NAME_BYTES_MAX
            }
            Message::Report { name, snapshot: Some(bytes), .. } => with(name) + TEXT_BYTES_MAX + bytes.len(),
            Message::Plea { name, snapshot, .. } => with(name) + snapshot.as_ref().map_or(0, Bytes::len),
            Message::Answer { name, .. } | Message::Report { name, .. } | Message::End { name, .. } => {
                with(name) + TEXT_BYTES_MAX
            }
            Message::Watch(wish) => with(&wish.name),
            Message::Watched { name, .. } => with(name),
            Message::Unwatch { name, ids } => with(name) + 10 * ids.len(),
            Message::Down { name, end, ids, .. } => with(name) + end.bytes() + 10 * ids.len(),
            Message::Discard { name, .. }
            | Message::Retoken { name, .. }
            | Message::Reported { name, .. }
            | Message::Offered { name, .. }
            | Message::AskOffer { name, .. }
            | Message::Decided { name, .. }
            | Message::AskHolds { name, .. }
            | Message::Holds { name, .. }
            | Message::Dismiss { name, .. } => with(name),
            Message::Grant(record)
            | Message::Move(record)
            | Message::Attached(record)
            | Message::Offer { record, .. } => record.size() + NAME_BYTES_MAX,
            Message::Forget(requests) => requests.iter().map(|(name, _)| with(name)).sum(),
            Message::CountAnswer { .. } | Message::Unfollow { .. } => FIXED_BYTES,
            Message::Followed { news, .. } => return news.bytes_in_turn(),
            Message::Gather(_)
            | Message::Gathered(_)
            | Message::Load(_)
            | Message::Fill(_)
            | Message::Open(_)
            | Message::Opened(_)
            | Message::Unlike(_)
            | Message::Settled(_)
            | Message::AskHosted(_)
            | Message::Hosted { .. }
            | Message::ListAsk { .. }
            | Message::ListAnswer { .. }
            | Message::CountAsk { .. }
            | Message::Follow { .. }
            | Message::Hosting { .. }
            | Message::Digests(_) => return None,
        })
    }
}
