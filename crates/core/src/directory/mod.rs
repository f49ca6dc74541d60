//! Names, slots, records: who runs what, and who knows it.
//!
//! Decides: when a slot opens after a view change and with which copy; who gets a name, a token, a host; what
//! happens after a process or its node died. Promises: nothing is answered before every replica has it
//! (`slots`, `writes`); one name has one record, and every life of it a higher token (`names`); a host repeats what
//! became of its instances until the owner has written it down (`host`); every request ends by its deadline
//! (`asks`). Assumes: the view it is told to follow was installed by `membership`, whose chain it may read.
//!
//! On a crash of the owner, the next one takes over from one replica that opened the last view; on a split each
//! side goes on with what it has; a skipped view is walked over in the chain (`docs/protocol.md` sections 4, 5).

mod attached;
mod asks;
mod batch;
mod by_name;
mod by_slot;
mod content;
mod copy;
mod early;
mod filter;
mod followers;
mod host;
mod listing;
mod load;
mod message;
mod monitors;
mod moves;
mod names;
mod notice;
mod offers;
mod placing;
mod planner;
mod record;
mod repair;
mod reports;
mod request;
mod restart;
mod room;
mod slots;
mod stream_event;
mod streams;
mod suspects;
mod teller;
#[cfg(test)]
mod tests;
mod usage;
mod waiters;
mod watching;
mod warrant;
mod writes;

pub use crate::base::Membership;
pub use attached::{Attached, Attachment, Inspected, MetaRead};
pub use content::{Change, Digest, Fill, FillFor, SlotWrite};
pub use copy::Mark;
pub use filter::{Filter, Listed};
pub use host::Left;
pub use message::{FollowAsk, Life, Message, News, StreamNews};
pub use monitors::{Down, End, Farewell, LifeId, Monitor, Until, Watch, Watcher, Wish};
pub use moves::Rebalance;
pub use notice::{Notice, Order};
pub use placing::Placement;
pub use planner::RebalanceReport;
pub use record::{Located, Moving, Record, RecordState, RestartPolicy, Tombstone};
pub use request::{Answer, Ask, Launch};
pub use restart::RestartIntensity;
pub use stream_event::{StreamEnd, StreamEvent};
pub use suspects::Suspicion;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::base::limits::{Limits, MEMBERS_MAX};
use crate::base::{
    Decision, ErrorCode, ExitReason, Group, Hindrance, Incarnation, Kind, Mutant, Mutants, Name, RequestId,
    Rng, SlotId, Time, Token,
};
use crate::placement::{Policies, Replicas, slot_of};
use crate::view::{Chain, View, ViewId};
use asks::Asks;
use batch::Batch;
use by_slot::BySlot;
use copy::Copy;
use early::EarlyMessages;
use followers::Followers;
use host::Host;
use listing::Listings;
use load::Loads;
use moves::Moves;
use names::Answered;
use notice::Notices;
use planner::Planner;
use room::FullHosts;
use slots::Owned;
use streams::Streams;
use waiters::Waiting;
use watching::Watching;

/// Between two tries of what no answer came for.
const REPEAT: Duration = Duration::from_millis(500);

/// What the directory needs to know of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Slots of the cluster.
    pub slots: u16,
    /// R.
    pub replicas: usize,
    /// D.
    pub detection: Duration,
    /// How restarts are spaced and counted.
    pub restart: RestartIntensity,
    /// When processes move without being told to.
    pub rebalance: Rebalance,
    /// Placement by rules of the user's own.
    pub policies: Policies,
    /// How large its tables may become.
    pub limits: Limits,
    /// How many processes of these kinds this node hosts at most; of others as many as are placed on it.
    pub capacity: BTreeMap<Kind, usize>,
    /// The planted bug, if any.
    pub mutants: Mutants,
}

/// What the directory wants done. In order.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum Output {
    /// Send this to that member.
    Send(Incarnation, Message),
    /// Run `init` of a new life.
    Launch { record: Arc<Record>, launch: Launch },
    /// End an instance.
    Terminate { name: Name, token: Token, reason: ExitReason },
    /// Forget what was kept for a restart in place.
    Discard { name: Name, token: Token, code: ErrorCode },
    /// An instance goes on under a higher token.
    Retoken { name: Name, old: Token, new: Token },
    /// The owner wants this process of this node moved.
    Move { record: Arc<Record> },
    /// The owner's decision on a move of a process of this node.
    Decided { name: Name, attempt: Token, decision: Decision },
    /// The life that was offered goes on here.
    Kept { name: Name },
    /// The owner asks whether a process on its way in is here as a whole.
    AskHolds { from: Incarnation, name: Name, gate: Token, attempt: Token },
    /// The owner says that nothing comes of a process on its way in.
    Dismiss { name: Name, attempt: Token, decision: Decision },
    /// The process that was held here runs.
    Granted { name: Name, attempt: Token },
    /// The answer to a request of this node.
    Answer { request: RequestId, name: Name, answer: Answer },
    /// The answer to a listing of this node: a page, and the name behind which the next one begins.
    Listed { number: u64, rows: Vec<Listed>, next: Option<Name>, complete: bool },
    /// The answer to a count of this node.
    Counted { number: u64, names: usize, complete: bool },
    /// What a stream of this node tells.
    Followed { number: u64, events: Vec<StreamEvent> },
    /// A monitor of this node is on every replica, or was not taken.
    Monitored { id: u64, result: Result<(), ErrorCode> },
    /// What a monitor of this node waited for.
    Down { id: u64, down: Box<Down> },
    /// What the record of a name says of its groups now, on every replica; which ones it has left; whose request is to be
    /// answered once their indexes know. No kind: the name is free.
    Enrol {
        name: Name,
        kind: Option<Kind>,
        now: Vec<Membership>,
        left: Vec<Group>,
        request: Option<RequestId>,
    },
    /// All slots of this node serve in this view: everything in them that is in groups.
    Roll(Vec<(Name, Kind, Vec<Membership>)>),
    /// Every member knows the last order to pause rebalancing, or to go on.
    OrderKnown,
    /// Something worth telling.
    Event(DirectoryEvent),
}

/// What the directory tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum DirectoryEvent {
    /// A backup holds up the writes of its slots.
    BackupUnresponsive(Incarnation),
    /// All copies of these slots were lost.
    Recovering { slots: usize },
    /// A name starts again.
    Restarted { name: Name, token: Token, reason: ExitReason },
    /// A name failed too often.
    Quarantined(Name),
    /// The hosts of a name died soon after its starts, too often: it is tried apart from others.
    Suspected(Name),
    /// Copies of this node differed from their owner's: they are filled again.
    CopyUnlike { slots: usize },
    /// A process runs on another node now.
    Moved { name: Name, from: Incarnation, to: Incarnation },
    /// A process was not moved.
    MoveCalledOff { name: Name, why: Hindrance },
    /// A name is to be placed by a policy that this node has not: it is placed by hash.
    PolicyUnknown { name: Name, policy: Name },
    /// Two instances of a name met.
    Conflict { name: Name, winner: Token, loser: Token },
    /// A member said what it has no right to say, or what can not be; nothing was done.
    Refused { peer: Incarnation, why: &'static str },
}

/// The line this node follows, as far as the directory needs it.
struct Line {
    chain: Chain,
    /// Replicas of every slot in the current view.
    table: Vec<Replicas>,
}

impl Line {
    fn view(&self) -> &Arc<View> {
        self.chain.current()
    }

    fn owner_of(&self, slot: SlotId) -> Option<Incarnation> {
        self.table.get(usize::from(slot.0))?.owner()
    }
}

/// The directory part of one node.
pub struct Directory {
    me: Incarnation,
    settings: Settings,
    rng: Rng,
    line: Option<Line>,
    copies: BySlot<Copy>,
    owned: BySlot<Owned>,
    /// What waits in all of them.
    waiting: Waiting,
    /// Owned slots that do not serve yet.
    unsettled: BTreeSet<SlotId>,
    /// Whether the indexes of groups were told what the owned slots of this view say.
    rolled: bool,
    retry_at: Option<Time>,
    /// When backups are held against the owned copies again.
    repair_at: Option<Time>,
    /// Names of owned slots whose host has yet to report, and when it was last told.
    driving: BTreeMap<Name, Time>,
    /// Members that have not said what they host of slots that this node has opened.
    census: BTreeMap<Incarnation, BTreeSet<SlotId>>,
    /// Lives that must end since another one has their name, and their hosts.
    losers: BTreeMap<(Name, Token), Incarnation>,
    /// Names that wait for their next restart.
    back_offs: BTreeSet<(Time, Name)>,
    /// Names of owned slots that are being tried on a node, and until when.
    trials: BTreeMap<Name, Time>,
    moves: Moves,
    planner: Planner,
    notices: Notices,
    loads: Loads,
    /// Hosts that had no room, as this owner was told.
    full: FullHosts,
    /// Since when this node has known each member as one.
    members_since: BTreeMap<Incarnation, Time>,
    /// Members that said goodbye; as many as a view can hold.
    leavers: BTreeSet<Incarnation>,
    host: Host,
    asks: Asks,
    /// Monitors that this node has set.
    watching: Watching,
    /// Names of owned slots whose ends somebody has yet to hear of, and when they were last told.
    telling: BTreeMap<Name, Time>,
    listings: Listings,
    /// What this node tells others of its names as they change.
    followers: Followers,
    /// What others tell this node of theirs.
    streams: Streams,
    answered: Answered,
    batch: Batch,
    /// Members that there is no link with.
    unlinked: BTreeSet<Incarnation>,
    loopback: VecDeque<Message>,
    early: EarlyMessages,
    out: VecDeque<Output>,
}

impl Directory {
    /// The directory of a node that has just started.
    pub fn new(me: Incarnation, mut settings: Settings, rng: Rng) -> Self {
        let capacity = std::mem::take(&mut settings.capacity);
        Self {
            me,
            asks: Asks::new(settings.mutants),
            settings,
            rng,
            line: None,
            copies: BySlot::default(),
            owned: BySlot::default(),
            waiting: Waiting::default(),
            unsettled: BTreeSet::new(),
            rolled: false,
            retry_at: None,
            repair_at: None,
            driving: BTreeMap::new(),
            census: BTreeMap::new(),
            losers: BTreeMap::new(),
            back_offs: BTreeSet::new(),
            trials: BTreeMap::new(),
            moves: Moves::default(),
            planner: Planner::default(),
            notices: Notices::default(),
            loads: Loads::default(),
            full: FullHosts::default(),
            members_since: BTreeMap::new(),
            leavers: BTreeSet::new(),
            host: Host::new(capacity),
            watching: Watching::default(),
            telling: BTreeMap::new(),
            listings: Listings::default(),
            followers: Followers::default(),
            streams: Streams::default(),
            answered: Answered::default(),
            batch: Batch::default(),
            unlinked: BTreeSet::new(),
            loopback: VecDeque::new(),
            early: EarlyMessages::default(),
            out: VecDeque::new(),
        }
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// The line is left: every copy is dropped, after its records were kept as offers for the next line. The
    /// instances go on.
    pub fn handle_line_left(&mut self) {
        self.keep_orphans();
        self.line = None;
        self.copies.clear();
        self.owned.clear();
        self.waiting = Waiting::default();
        self.unsettled.clear();
        self.driving.clear();
        self.telling.clear();
        self.census.clear();
        self.batch = Batch::default();
        self.losers.clear();
        self.back_offs.clear();
        self.trials.clear();
        self.moves.clear();
        self.planner.clear();
        self.forget_notices();
        self.loads = Loads::default();
        self.full.clear();
        self.members_since.clear();
        self.early.clear();
        self.unlinked.clear();
        self.forget_held();
        self.forget_followers();
        self.set_streams_adrift();
        self.retry_at = None;
        self.repair_at = None;
    }

    /// The node goes on under this incarnation, without a line.
    pub fn handle_reincarnated(&mut self, me: Incarnation) {
        self.me = me;
    }

    /// A view was installed.
    pub fn handle_view(&mut self, chain: &Chain, now: Time) {
        let new_line = self.line.is_none();
        let view = Arc::clone(chain.current());
        let mut table = Replicas::table(&view, self.settings.slots, self.settings.replicas);
        self.unlinked.retain(|member| view.contains(*member));
        self.full.follow_view(&view);
        self.planner.clear();
        self.loads.follow_view(|member| view.contains(member));
        self.members_since.retain(|member, _| view.contains(*member));
        for member in view.incarnations() {
            self.members_since.entry(member).or_insert(now);
        }
        if self.settings.mutants.has(Mutant::SlotsDealtAnew) && !table.is_empty() {
            let by = view.members.len() % table.len();
            table.rotate_left(by);
        }
        self.line = Some(Line { chain: chain.clone(), table });
        self.forget_held();
        self.forget_followers();
        self.take_over(now);
        self.host_follows_view(new_line, now);
        self.watching_follows_view(new_line, now);
        self.ask_again(now);
        self.listings_follow_view(&view, now);
        self.streams_follow_view(now);
        self.notices_follow_view(now);
        self.deliver_early(now);
        self.finish(now);
    }

    /// This member said goodbye: its names are not to be suspected of its end.
    pub fn handle_bye(&mut self, member: Incarnation) {
        self.leavers.insert(member);
        if self.leavers.len() > MEMBERS_MAX {
            self.leavers.pop_first();
        }
    }

    /// There is no link with this member any more: questions that only it can answer end.
    pub fn handle_unlinked(&mut self, member: Incarnation, now: Time) {
        self.unlinked.insert(member);
        self.ask_again(now);
        self.finish(now);
    }

    /// There is a link with this member again.
    pub fn handle_linked(&mut self, member: Incarnation) {
        self.unlinked.remove(&member);
    }

    /// A message of a member, sent in this view.
    pub fn handle_message(&mut self, from: Incarnation, view: Option<ViewId>, message: Message, now: Time) {
        self.sort_in(from, view, message, now);
        self.finish(now);
    }

    /// As [`Directory::handle_message`], of several that came together: each is judged and handled by itself.
    pub fn handle_turn(&mut self, from: Incarnation, view: Option<ViewId>, turn: Vec<Message>, now: Time) {
        for message in turn {
            self.sort_in(from, view, message, now);
        }
        self.finish(now);
    }

    /// Time has passed.
    pub fn handle_wake(&mut self, now: Time) {
        self.expire_asks(now);
        self.expire_listings(now);
        self.ask_sources_again(now);
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry(now);
        }
        self.run_back_offs(now);
        self.end_trials(now);
        self.repair(now);
        self.level(now);
        self.watch_again(now);
        self.report_again(now);
        self.finish(now);
    }

    /// When `handle_wake` is due.
    pub fn next_deadline(&self) -> Option<Time> {
        let back_off = self.back_offs.first().map(|(at, _)| *at);
        let parts = [
            self.asks.next_deadline(),
            self.listings.next_deadline(),
            self.streams.next_deadline(),
            self.retry_at,
            self.repair_at,
            back_off,
            self.trials_deadline(),
            self.moves.next_deadline(),
            self.notices.next_deadline(),
            self.loads.next_deadline(),
            self.host.next_deadline(),
            self.watching.next_deadline(),
        ];
        parts.into_iter().flatten().min()
    }

    /// Whether this node knows of any record or runs any process.
    pub fn has_records(&self) -> bool {
        !self.host.is_empty() || self.copies.values().any(|copy| !copy.entries.is_empty())
    }

    /// Owned slots: how many serve, and how many do not yet.
    pub fn slots_owned(&self) -> (usize, usize) {
        (self.owned.len() - self.unsettled.len(), self.unsettled.len())
    }

    /// Records of the slots that this node owns and serves, by slot and name.
    pub fn owned_records(&self) -> impl Iterator<Item = &Record> {
        self.owned
            .iter()
            .filter(|(_, owned)| owned.serves())
            .filter_map(|(slot, _)| self.copies.get(slot))
            .flat_map(|copy| copy.entries.values().map(|entry| &*entry.record))
    }

    /// Names this node hosts: their lives, and whether `init` has returned and they have not ended.
    pub fn hosted(&self) -> impl Iterator<Item = (&Name, Token, bool)> {
        self.host.names()
    }

    /// C: within it all is equal again after a split has healed.
    fn convergence(&self) -> Duration {
        self.settings.detection * 2 + Duration::from_secs(2)
    }

    fn slot_of(&self, name: &Name) -> SlotId {
        slot_of(name, self.settings.slots)
    }

    fn view(&self) -> Option<&Arc<View>> {
        self.line.as_ref().map(Line::view)
    }

    fn is_member(&self, incarnation: Incarnation) -> bool {
        self.view().is_some_and(|view| view.contains(incarnation))
    }

    fn owner_of(&self, name: &Name) -> Option<Incarnation> {
        self.line.as_ref()?.owner_of(self.slot_of(name))
    }

    fn send(&mut self, to: Incarnation, message: Message) {
        if to == self.me {
            self.loopback.push_back(message);
        } else {
            self.out.push_back(Output::Send(to, message));
        }
    }

    fn event(&mut self, event: DirectoryEvent) {
        self.planner.note(&event);
        self.note_ends_of(&event);
        self.out.push_back(Output::Event(event));
    }

    /// Handles what this node said to itself, then sends what was collected for others.
    fn finish(&mut self, now: Time) {
        self.notify(now);
        self.roll_if_settled();
        loop {
            self.answer_held(now);
            self.balance(now);
            self.flush_batch();
            let Some(message) = self.loopback.pop_front() else { break };
            self.dispatch(self.me, message, now);
        }
    }

    /// Early ones wait for their view, commands of an earlier view are refused, the rest is handled.
    fn sort_in(&mut self, from: Incarnation, view: Option<ViewId>, message: Message, now: Time) {
        let Some(view) = view else { return };
        let known = self.line.as_ref().map(|line| (line.view().id == view, line.chain.contains(view)));
        match known {
            Some((true, _)) => {}
            Some((false, true)) if message.is_for_any_view() => {}
            Some((false, true)) => return,
            // Of a branch that this node is not on, or of a view long forgotten: it never becomes known.
            Some((false, false)) if view.counter <= self.view().map_or(0, |view| view.id.counter) => return,
            Some((false, false)) | None => return self.early.push(from, view, message),
        }
        if !self.is_member(from) {
            return;
        }
        match self.check_warrant(from, view, &message) {
            Ok(()) => self.dispatch(from, message, now),
            Err(why) => self.refuse(from, why),
        }
    }

    fn deliver_early(&mut self, now: Time) {
        for early in self.early.take() {
            self.sort_in(early.from, Some(early.view), early.message, now);
        }
    }

    fn dispatch(&mut self, from: Incarnation, message: Message, now: Time) {
        match message {
            Message::Gather(slots) => self.on_gather(from, &slots),
            Message::Gathered(answers) => self.on_gathered(from, answers, now),
            Message::Load(slots) => self.on_load(from, &slots, now),
            Message::Fill(fill) => self.on_fill(from, fill, now),
            Message::Open(slots) => self.on_open(from, &slots),
            Message::Opened(slots) => self.on_opened(from, &slots, now),
            Message::Unlike(slots) => self.on_unlike(from, &slots, now),
            Message::Settled(slots) => self.on_settled(from, &slots, now),
            Message::Write(writes) => self.on_write(from, writes, now),
            Message::Digests(digests) => self.on_digests(from, &digests),
            Message::Written(acks) => self.on_written(from, &acks, now),
            Message::AskHosted(slots) => self.on_ask_hosted(from, slots, now),
            Message::Hosted { slots, records, last } => self.on_hosted(from, &slots, records, last, now),
            Message::Request { request, name, ask } => self.on_request(request, name, ask, now),
            Message::Forget(requests) => self.on_forget(&requests),
            Message::Answer { request, name, answer } => self.on_answer(from, request, name, answer),
            Message::Grant(record) => self.on_grant(from, record, now),
            Message::End { name, token, reason } => self.on_end(from, name, token, reason, now),
            Message::Discard { name, token, code } => self.on_discard(name, token, code),
            Message::Retoken { name, old, new } => self.on_retoken(name, old, new, now),
            Message::Report { name, token, news, snapshot } => {
                self.on_report(from, name, token, news, snapshot, now);
            }
            Message::Reported { name, token, ended } => self.on_reported(from, &name, token, ended),
            Message::Offer { record, running } => {
                self.on_offer(from, Arc::unwrap_or_clone(record), running, now);
            }
            Message::Hosting { slots, lives } => self.on_hosting(from, &slots, lives, now),
            Message::AskOffer { name, token } => self.on_ask_offer(&name, token, now),
            Message::Offered { name, token } => self.on_offered(from, &name, token),
            Message::Move(record) => self.on_move(from, record, now),
            Message::Plea { name, gate, attempt, plea, snapshot } => {
                self.on_plea(from, name, gate, attempt, plea, snapshot, now);
            }
            Message::Decided { name, attempt, decision } => {
                self.tell(Output::Decided { name, attempt, decision });
            }
            Message::AskHolds { name, gate, attempt } => {
                self.tell(Output::AskHolds { from, name, gate, attempt });
            }
            Message::Holds { name, gate, attempt, whole } => {
                self.on_holds(from, name, gate, attempt, whole, now);
            }
            Message::Dismiss { name, attempt, decision } => {
                self.tell(Output::Dismiss { name, attempt, decision });
            }
            Message::Attached(record) => self.on_attached(from, &record),
            Message::Watch(wish) => self.on_watch(from, &wish, now),
            Message::Watched { name, id, result } => self.on_watched(from, &name, id, result),
            Message::Unwatch { name, ids } => self.on_unwatch(from, name, &ids, now),
            Message::Down { name, end, ids, to } => self.on_down(from, name, end, ids, to),
            Message::Notice(notice) => self.on_notice(from, notice, now),
            Message::ListAsk { .. }
            | Message::ListAnswer { .. }
            | Message::CountAsk { .. }
            | Message::CountAnswer { .. }
            | Message::Follow { .. }
            | Message::Followed { .. }
            | Message::Unfollow { .. } => self.dispatch_listing(from, message, now),
        }
    }
}
