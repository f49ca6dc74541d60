//! What goes into a [`Node`](super::Node) and what comes out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Drained;
use crate::base::limits::Limits;
use crate::base::{
    Address, Bytes, Decision, ErrorCode, ExitReason, Group, Hindrance, Incarnation, Mutants, Name, NodeName,
    RequestId, Token,
};
use crate::directory::{
    Answer, Ask, Down, Filter, Launch, Listed, Rebalance, Record, RestartIntensity, StreamEvent, Until,
};
use crate::groups::{GroupReading, GroupVersion, ScopeReading};
use crate::handoff::Passage;
use crate::view::{MemberInfo, View};
use crate::wire::Control;

/// How a node is set up. All timings have defaults that suit a data centre.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's stable name.
    pub name: NodeName,
    /// Where peers dial it.
    pub address: Address,
    /// Share of slots and names relative to others; 0 to 1,000, default 100.
    pub weight: u32,
    /// Kinds it can host.
    pub kinds: Vec<crate::base::Kind>,
    /// How many processes of these kinds it hosts at most; of others as many as are placed on it.
    pub capacity: BTreeMap<crate::base::Kind, usize>,
    /// What its operator says of it; at most 16.
    pub labels: crate::view::Labels,
    /// Slots of the cluster; default 4,096. All members must agree.
    pub slots: u16,
    /// Copies of each record, R: 1 to 3, default 2. All members must agree. With 1, a crash of the owner loses
    /// every record of a name whose host died with it.
    pub replicas: usize,
    /// Whether there is anybody to be found. Without discovery the node founds its line at once.
    pub discovery: bool,
    /// How long a node that finds no line waits before it founds one alone; default 2 s.
    pub found_alone_after: Duration,
    /// D: a silent member is out of the view by then; default 2 s.
    pub detection: Duration,
    /// How restarts are spaced and counted.
    pub restart: RestartIntensity,
    /// When processes move without being told to.
    pub rebalance: Rebalance,
    /// Placement by rules of the user's own: the same names on all nodes.
    pub policies: crate::placement::Policies,
    /// How large its tables may become.
    pub limits: Limits,
    /// Seed of the node's randomness: entropy in a real node, the run's seed in the simulator.
    pub seed: u64,
    /// The planted bug of this run, if any.
    pub mutants: Mutants,
}

impl Config {
    /// A node with the default settings. Without `discovery` it is a line of its own at once.
    pub fn new(name: NodeName, address: Address, seed: u64) -> Self {
        Self {
            name,
            address,
            weight: 100,
            kinds: Vec::new(),
            capacity: BTreeMap::new(),
            labels: crate::view::Labels::new(),
            slots: crate::placement::SLOTS,
            replicas: 2,
            discovery: true,
            found_alone_after: Duration::from_secs(2),
            detection: Duration::from_secs(2),
            restart: RestartIntensity::default(),
            rebalance: Rebalance::default(),
            policies: crate::placement::Policies::default(),
            limits: Limits::default(),
            seed,
            mutants: Mutants::default(),
        }
    }
}

/// How a session ended, as evidence about the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkLoss {
    /// The connection closed and the peer's port refused a new one: its process is gone.
    Refused,
    /// The peer came back under another incarnation: this one is over.
    Replaced,
    /// The connection is gone and a new one can not be had: no evidence either way.
    Unreachable,
}

/// Everything that can happen to a node.
#[derive(Debug)]
pub enum Input {
    /// Time has passed; due when `next_deadline` is reached, harmless at any time.
    Wake,
    /// Addresses that discovery has found; the whole list each time. An error of discovery keeps the last one.
    Discovered(Vec<Address>),
    /// Addresses that some sources of discovery have found, while another has never answered: they are dialled, and
    /// no line is founded before [`Input::Discovered`]. The whole list each time.
    DiscoveredInPart(Vec<Address>),
    /// A session with this incarnation is authenticated and can carry control messages.
    SessionUp(Box<MemberInfo>),
    /// That session is over.
    SessionDown {
        /// The life at its other end.
        peer: Incarnation,
        /// What is known about it.
        loss: LinkLoss,
    },
    /// An address asked for by [`Effect::Connect`] was tried and gave no session.
    ConnectFailed(Address),
    /// A control message arrived from an authenticated peer.
    Message {
        /// The life at the other end of the session it came by.
        from: Incarnation,
        /// The message.
        message: Control,
    },
    /// Other traffic arrived from this peer: it is alive. The shell may report it as rarely as every 100 ms.
    Heard(Incarnation),
    /// The authority's decision on a proposed view.
    ViewDecided(Arc<View>),
    /// User code on this node asks something about a name. `id.caller` is this node's incarnation; the answer
    /// comes as [`Effect::Answer`], by the deadline.
    Request {
        /// Not used before by this incarnation.
        number: u64,
        /// The name it is about.
        name: Name,
        /// What is asked.
        ask: Ask,
        /// How long it may take.
        deadline: Duration,
    },
    /// User code asks for the records of all members; answered by [`Effect::Listed`].
    List {
        /// Not used before by this incarnation.
        number: u64,
        /// Which records.
        filter: Filter,
        /// How long it may take.
        deadline: Duration,
    },
    /// User code asks who is in a group; answered by [`Effect::Group`], by the deadline.
    Group {
        /// Not used before by this incarnation, not for [`Input::Groups`] either.
        number: u64,
        /// The group.
        group: Group,
        /// The version of an earlier reading that the asker still has: if nothing has changed, no members are told.
        known: Option<GroupVersion>,
        /// How long it may take.
        deadline: Duration,
    },
    /// User code asks which groups of a scope have members; answered by [`Effect::Groups`], by the deadline.
    Groups {
        /// Not used before by this incarnation, not for [`Input::Group`] either.
        number: u64,
        /// The scope.
        scope: Name,
        /// How long it may take.
        deadline: Duration,
    },
    /// User code asks how many records there are; answered by [`Effect::Counted`].
    Count {
        /// Not used before by this incarnation.
        number: u64,
        /// Which records.
        filter: Filter,
        /// How long it may take.
        deadline: Duration,
    },
    /// User code follows records; told by [`Effect::Followed`], until [`Input::Unfollow`].
    Follow {
        /// Not used before by this incarnation.
        number: u64,
        /// Which records.
        filter: Filter,
    },
    /// The reader of a stream has taken so many of its events: it has room for as many more. At first it has for
    /// [`STREAM_EVENTS_MAX`](crate::base::limits::STREAM_EVENTS_MAX).
    Read {
        /// The stream.
        number: u64,
        /// Events.
        events: usize,
    },
    /// Nobody reads this stream any more.
    Unfollow {
        /// The stream.
        number: u64,
    },
    /// `init` of a launched instance returned.
    Launched {
        /// The name.
        name: Name,
        /// The life that was launched.
        token: Token,
        /// Its end when `init` did not succeed.
        result: Result<(), ExitReason>,
    },
    /// A process is at rest, its gate sealed, and this is its image; or why it is not.
    Captured {
        /// The name.
        name: Name,
        /// The attempt to move it.
        attempt: Token,
        /// What another node makes it from.
        image: Result<Bytes, Hindrance>,
    },
    /// A process was made from its image, at rest; or why it was not.
    Installed {
        /// The name.
        name: Name,
        /// The attempt to move it.
        attempt: Token,
        /// Whether it is here.
        result: Result<(), Hindrance>,
    },
    /// An instance ended, for whatever reason, also after [`Effect::Terminate`].
    Exited {
        /// The name.
        name: Name,
        /// The life that ended.
        token: Token,
        /// Why.
        reason: ExitReason,
    },
    /// A process of this node has published a state of itself, or it is taken because it fails. Ends with its life.
    Snapshot {
        /// Its name.
        name: Name,
        /// Its life.
        token: Token,
        /// The state; at most [`SNAPSHOT_BYTES_MAX`](crate::base::limits::SNAPSHOT_BYTES_MAX).
        bytes: Bytes,
    },
    /// Tell this node when a process ends. Again with the same number, in another node: its watcher has moved there.
    Monitor {
        /// Random, never used for another.
        id: u64,
        /// Who is watched.
        name: Name,
        /// Only this life of it; none: the one that runs now.
        of: Option<Token>,
        /// Which end.
        until: Until,
        /// Planned moves are told too.
        moves: bool,
        /// The process of this node that watches; none: code outside of processes.
        by: Option<Name>,
    },
    /// Nobody waits for these any more.
    Demonitor {
        /// The monitors.
        ids: Vec<u64>,
    },
    /// Rebalancing is to pause in the whole cluster, or to go on; drains and moves by hand do in any case. Ends in
    /// [`Effect::OrderKnown`].
    Rebalance {
        /// It is to pause.
        paused: bool,
    },
    /// The node takes nothing new from now on, and what it has moves to others: until nothing can move any more, or for
    /// so long. Ends in [`Effect::Drained`]. Said again, the time begins anew.
    Drain {
        /// How long it may take.
        within: Duration,
    },
    /// The node leaves: it ends what it hosts, then says goodbye to all, so that they need not wait to notice.
    /// Ends in [`Effect::Left`].
    Leave,
}

/// Everything a node can ask its shell to do. In order: an effect may rest on those before it.
#[derive(Debug)]
pub enum Effect {
    /// The node goes on under this incarnation: first of all at its birth, later when it changes lines. All
    /// sessions of the one before are to be closed and dialled anew.
    Reincarnate(Incarnation),
    /// Try this address once; ends in `SessionUp` or `ConnectFailed`.
    Connect(Address),
    /// Send on the control lane of the session with this peer; dropped when there is none.
    Send {
        /// The life it is meant for.
        to: Incarnation,
        /// The message.
        message: Control,
    },
    /// End the session with this peer: a view excludes it.
    EndSession(Incarnation),
    /// There has been no link with this member for longer than D: calls to it end, routes to it ask the owner again.
    Unlinked(Incarnation),
    /// Ask the authority for this view. In available mode the shell answers at once with
    /// [`Input::ViewDecided`].
    ProposeView(Arc<View>),
    /// This view is installed: routes, gates and caches follow it.
    ViewInstalled(Arc<View>),
    /// Run `init` of a new life. Ends in [`Input::Launched`]; later once in [`Input::Exited`] if that was Ok.
    Launch {
        /// Its record.
        record: Arc<Record>,
        /// What it takes over from the life before.
        launch: Launch,
    },
    /// End this instance: its mailbox is answered, then [`Input::Exited`].
    Terminate {
        /// The name.
        name: Name,
        /// The life to end.
        token: Token,
        /// What it is told.
        reason: ExitReason,
    },
    /// Let this process finish what it has in hand, seal its gate and make an image of it. Ends in
    /// [`Input::Captured`], once, unless the process ends before or [`Effect::Release`] comes.
    Capture {
        /// The name.
        name: Name,
        /// Its life here.
        token: Token,
        /// The attempt to move it.
        attempt: Token,
        /// Where it is to go: callers in its mailbox are told.
        to: Incarnation,
    },
    /// The move is off: whatever [`Effect::Capture`] has done is undone.
    Release {
        /// The name.
        name: Name,
        /// The attempt to move it.
        attempt: Token,
        /// What became of the attempt. Superseded, the captured messages may be handled elsewhere: they end with
        /// `NodeLost`, Unknown.
        decision: Decision,
        /// Copies of them have left this node: those that do not come to their turn here end Unknown.
        copied: bool,
    },
    /// The process runs there now: what is left of it here ends with the reason `Moved`, unreported; its mailbox has gone
    /// with it.
    Depart {
        /// The name.
        name: Name,
        /// The attempt to move it.
        attempt: Token,
        /// Where it runs.
        to: Incarnation,
    },
    /// The process, which was captured, ends here: its mailbox ends Unknown, since it may be handled
    /// elsewhere. Then [`Input::Exited`].
    Abandon {
        /// The name.
        name: Name,
        /// The attempt to move it.
        attempt: Token,
        /// What it is told.
        reason: ExitReason,
    },
    /// Make a process from its image, at rest. Ends in [`Input::Installed`]; it runs with [`Launch::Arrived`].
    Install {
        /// What it is.
        passage: Passage,
        /// Its image.
        image: Bytes,
    },
    /// Nothing comes of a process on its way in: it ends without a word.
    Uninstall {
        /// The name.
        name: Name,
        /// The attempt to move it.
        attempt: Token,
        /// What became of it. Aborted, its mailbox is the source's; superseded, perhaps nobody's, and it ends with
        /// `NodeLost`, Unknown.
        decision: Decision,
    },
    /// Forget the mailbox and gate that were kept for a restart in place: there will be none here.
    Discard {
        /// The name.
        name: Name,
        /// The life whose leftovers they are.
        token: Token,
        /// What queued callers are told.
        code: ErrorCode,
    },
    /// The life goes on under a higher token: it won a conflict.
    Retoken {
        /// The name.
        name: Name,
        /// Its token so far.
        old: Token,
        /// Its token from now on.
        new: Token,
    },
    /// The answer to a request of this node.
    Answer {
        /// The request.
        request: RequestId,
        /// The name it was about.
        name: Name,
        /// The owner's answer, or `Deadline`.
        answer: Answer,
    },
    /// The answer to a listing: what arrived by the deadline.
    Listed {
        /// The listing's number.
        number: u64,
        /// Rows of all members that answered, by name.
        rows: Vec<Listed>,
        /// The name behind which the next page begins; none if this is the last.
        next: Option<Name>,
        /// Whether every member has answered.
        complete: bool,
    },
    /// Who is in a group: everybody whose join was answered before the question came in, if it is complete.
    Group {
        /// The question's number.
        number: u64,
        /// The members.
        reading: GroupReading,
    },
    /// Which groups of a scope have members.
    Groups {
        /// The question's number.
        number: u64,
        /// The groups.
        reading: ScopeReading,
    },
    /// The answer to a count: what arrived by the deadline.
    Counted {
        /// The count's number.
        number: u64,
        /// Names of all members that answered.
        names: usize,
        /// Whether every member has answered.
        complete: bool,
    },
    /// What a stream tells. [`StreamEvent::Ended`] is the last of it.
    Followed {
        /// The stream.
        number: u64,
        /// In order.
        events: Vec<StreamEvent>,
    },
    /// A monitor is on every replica, or was not taken: then nothing more is said of it.
    Monitored {
        /// Which one.
        id: u64,
        /// Why not.
        result: Result<(), ErrorCode>,
    },
    /// What a monitor waited for; the last word of it, unless it is a move.
    Down {
        /// Which one.
        id: u64,
        /// What is told.
        down: Box<Down>,
    },
    /// Every member knows whether rebalancing is paused.
    OrderKnown,
    /// A drain is over: nothing is left that could move, or its time is up, or the node leaves. What is left goes on, and
    /// still moves if it can.
    Drained(Drained),
    /// Every instance has ended and goodbye was said: the shell may close its links. Nothing follows.
    Left,
    /// Something worth telling: logs, the event stream, metrics.
    Event(Event),
}

/// What a node tells about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A member entered the view.
    MemberUp(NodeName, Incarnation),
    /// A member left the view.
    MemberDown(NodeName, Incarnation),
    /// This node founded a line.
    Founded,
    /// This node left its line for another.
    LineChanged,
    /// A view excluded this node though it lives.
    Expelled,
    /// Another node, which lives, bears this node's name in the cluster that it wants to join. It stays outside, and asks
    /// again after 1 s, 2 s, ... 32 s.
    NameTaken(Incarnation),
    /// There has been no link with this member of the view for longer than D: calls to it fail. If there is none for
    /// 3 D, one of the two is left out of the view.
    Unlinked(NodeName, Incarnation),
    /// There is a link with it again.
    Linked(NodeName, Incarnation),
    /// A backup holds up the starts of its slots.
    BackupUnresponsive(Incarnation),
    /// This node's copies of so many slots differed from their owners': a bug, repaired.
    CopyUnlike {
        /// How many slots.
        slots: usize,
    },
    /// All copies of these slots were lost; their records come from the hosts.
    Recovering {
        /// How many slots.
        slots: usize,
    },
    /// A name was restarted after a crash or the loss of its node.
    Restarted {
        /// The name.
        name: Name,
        /// Its new life.
        token: Token,
        /// Why the one before ended.
        reason: ExitReason,
    },
    /// A name failed too often, or killed its node when it was tried alone.
    Quarantined(Name),
    /// Four times within a minute a host of this name died within 10 s of its start: it is started again apart from
    /// others, so that it is known who kills the nodes.
    Suspected(Name),
    /// A process runs on another node now.
    Moved {
        /// The name.
        name: Name,
        /// Where it ran.
        from: Incarnation,
        /// Where it runs.
        to: Incarnation,
    },
    /// A process was not moved; it runs on where it was.
    MoveCalledOff {
        /// The name.
        name: Name,
        /// Why.
        why: Hindrance,
    },
    /// A name is to be placed by a policy that this node, its owner, has not: it is placed by hash.
    PolicyUnknown {
        /// The name.
        name: Name,
        /// The policy.
        policy: Name,
    },
    /// This node drains, every second; nothing when the drain takes less.
    Draining {
        /// Processes that went to other nodes.
        moved: usize,
        /// Processes that are still here.
        left: usize,
        /// One that is waited for, and what is in its way. None while others have yet to take over what this node knew of
        /// slots.
        waits_for: Option<(Name, Hindrance)>,
    },
    /// Two instances of a name met; the other one ends.
    Conflict {
        /// The name.
        name: Name,
        /// The life that stays.
        winner: Token,
        /// The life that ends.
        loser: Token,
    },
    /// A message of a peer was refused.
    Refused {
        /// The peer.
        peer: Incarnation,
        /// Which rule it broke.
        why: &'static str,
    },
}
