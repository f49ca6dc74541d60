//! The driver: the one task that owns the node's control.
//!
//! It feeds [`Node`] with what happens and carries out what that wants. It never waits for user code, for a process
//! or for a peer: everything it does is a short call. So it answers the failure detector itself, and a driver that
//! is stuck loses its node's membership, as it should.
//!
//! ```text
//!   transport events ─┐                        ┌─> transport: send, connect, end session
//!   commands ─────────┼─> Node::handle ─ effects ─> exchange: launch, terminate, locate, views
//!   questions, time ──┘                        └─> askers, events
//! ```
//!
//! It stops when the node's tasks are stopped. Whoever then still waits for an answer sees its sender gone.

mod effects;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot, watch};
use whimbrel_core::base::{Group, Name, Now};
use whimbrel_core::directory::{Answer, Ask, Filter, Listed, RebalanceReport, StreamEvent};
use whimbrel_core::groups::{GroupReading, GroupVersion, ScopeReading};
use whimbrel_core::node::{Drained, Event, Input, Node};
use whimbrel_core::view::View;

use crate::Cluster;
use crate::clock;
use crate::exchange::{Entry, Exchange};
use crate::transport::{LogLimit, Transport, TransportEvent};

/// Commands that wait for the driver; more make their senders wait.
pub(crate) const COMMANDS_MAX: usize = 1_024;
/// Transport events that wait for the driver; more make the readers of links wait. Each may be a frame of 1 MiB.
pub(crate) const TRANSPORT_EVENTS_MAX: usize = 256;
/// Inputs of one sort that are taken in before the others get their turn.
const TURN_MAX: usize = 256;
/// How long the owner of a name may take to say where it is, before it is asked again.
const LOCATE_MAX: Duration = Duration::from_secs(5);

/// What the rest of the node asks of the driver.
pub(crate) enum Command {
    /// Something happened.
    Input(Input),
    /// A question about a name.
    Ask { name: Name, ask: Ask, deadline: Duration, asker: oneshot::Sender<Answer> },
    /// Give a name to a process of this node.
    Register {
        name: Arc<Entry>,
        process: Arc<Entry>,
        ask: Ask,
        deadline: Duration,
        asker: oneshot::Sender<Answer>,
    },
    /// A page of a listing.
    List { filter: Filter, deadline: Duration, asker: oneshot::Sender<Page> },
    /// How many names there are; none if not every member answered.
    Count { filter: Filter, deadline: Duration, asker: oneshot::Sender<Option<usize>> },
    /// Follow names; the number of the stream.
    Follow { filter: Filter, events: mpsc::UnboundedSender<StreamEvent>, asker: oneshot::Sender<u64> },
    /// Nobody reads this stream any more.
    Unfollow { number: u64 },
    /// Who is in a group; if nothing has changed since a known version, only that.
    Group {
        group: Group,
        known: Option<GroupVersion>,
        deadline: Duration,
        asker: oneshot::Sender<GroupReading>,
    },
    /// The groups of a scope.
    Groups { scope: Name, deadline: Duration, asker: oneshot::Sender<ScopeReading> },
    /// Pause rebalancing in the whole cluster, or let it go on.
    Rebalance { paused: bool, done: oneshot::Sender<()> },
    /// What this node moves.
    ReportRebalance { asker: oneshot::Sender<RebalanceReport> },
    /// Move what can move to other nodes.
    Drain { within: Duration, done: oneshot::Sender<Drained> },
    /// Say good-bye to the cluster.
    Leave { done: oneshot::Sender<()> },
}

/// A page of a listing as it came.
pub(crate) struct Page {
    pub(crate) rows: Vec<Listed>,
    /// The name behind which the next one begins.
    pub(crate) next: Option<Name>,
    /// Every member answered.
    pub(crate) complete: bool,
}

/// Who waits for an answer about a name.
enum Waiting {
    /// The entry of that name: it has messages for it.
    Entry(Arc<Entry>),
    Asker(oneshot::Sender<Answer>),
    Registrar {
        name: Arc<Entry>,
        process: Arc<Entry>,
        asker: oneshot::Sender<Answer>,
    },
}

/// What the driver is made of.
pub(crate) struct Driver {
    pub(crate) node: Node,
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) transport: Option<Transport>,
    /// For the contexts of processes; does not keep the node alive.
    pub(crate) cluster: Cluster,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) transport_events: mpsc::Receiver<TransportEvent>,
    pub(crate) views: watch::Sender<Option<Arc<View>>>,
    pub(crate) events: broadcast::Sender<Event>,
}

/// The driver at work.
struct Running {
    parts: Driver,
    /// When the present turn began.
    now: Now,
    last_number: u64,
    waiting: HashMap<u64, Waiting>,
    listings: HashMap<u64, oneshot::Sender<Page>>,
    counts: HashMap<u64, oneshot::Sender<Option<usize>>>,
    /// Readers of streams. What waits for one of them is limited by the room that it has given to the node.
    streams: HashMap<u64, mpsc::UnboundedSender<StreamEvent>>,
    readings: HashMap<u64, oneshot::Sender<GroupReading>>,
    scope_readings: HashMap<u64, oneshot::Sender<ScopeReading>>,
    /// Who waits for all members to know the last order to pause rebalancing, or to go on.
    orderers: Vec<oneshot::Sender<()>>,
    /// Who waits for this node to be drained.
    drainers: Vec<oneshot::Sender<Drained>>,
    /// Who waits for this node to have left.
    leavers: Vec<oneshot::Sender<()>>,
    /// How often a refused message is told of.
    refusals: LogLimit,
}

impl Driver {
    /// Runs until it is dropped.
    pub(crate) async fn run(self) {
        let mut running = Running {
            parts: self,
            now: clock::now(),
            last_number: 0,
            waiting: HashMap::new(),
            listings: HashMap::new(),
            readings: HashMap::new(),
            scope_readings: HashMap::new(),
            counts: HashMap::new(),
            streams: HashMap::new(),
            orderers: Vec::new(),
            drainers: Vec::new(),
            leavers: Vec::new(),
            refusals: LogLimit::default(),
        };
        running.carry_out();
        loop {
            running.turn().await;
        }
    }
}

impl Running {
    /// Waits for something, takes in all that is there, and carries out what comes of it.
    async fn turn(&mut self) {
        let Driver { node, exchange, commands, transport_events, .. } = &mut self.parts;
        let due = node.next_deadline().map(|due| tokio::time::Instant::now() + due.since(clock::time()));
        let (mut event, mut command) = (None, None);
        tokio::select! {
            biased;
            Some(arrived) = transport_events.recv() => event = Some(arrived),
            Some(arrived) = commands.recv() => command = Some(arrived),
            () = exchange.asked() => {}
            () = sleep_until(due) => {}
        }
        // What woke this task is rarely alone, and the runtime runs a woken task next: whoever else is ready to ask or
        // to deliver does so first, and one turn serves them all.
        tokio::task::yield_now().await;
        self.now = clock::now();
        for _ in 0..TURN_MAX {
            let Some(arrived) = event.take().or_else(|| self.parts.transport_events.try_recv().ok()) else {
                break;
            };
            self.on_transport(arrived);
        }
        for _ in 0..TURN_MAX {
            let Some(arrived) = command.take().or_else(|| self.parts.commands.try_recv().ok()) else { break };
            // What a process has said before it says this.
            self.feed_inputs();
            self.on_command(arrived);
        }
        self.feed_inputs();
        for entry in self.parts.exchange.take_questions() {
            let number = self.wait_for(Waiting::Entry(entry.clone()));
            self.request(number, entry.name().clone(), Ask::Locate, LOCATE_MAX);
        }
        if self.parts.node.next_deadline().is_some_and(|due| due <= self.now.time) {
            self.feed(Input::Wake);
        }
        self.carry_out();
    }

    fn feed(&mut self, input: Input) {
        self.parts.node.handle(self.now, input);
    }

    fn feed_inputs(&mut self) {
        for input in self.parts.exchange.take_inputs() {
            self.feed(input);
        }
    }

    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn wait_for(&mut self, who: Waiting) -> u64 {
        let number = self.next_number();
        self.waiting.insert(number, who);
        number
    }

    fn request(&mut self, number: u64, name: Name, ask: Ask, deadline: Duration) {
        self.feed(Input::Request { number, name, ask, deadline });
    }

    fn on_transport(&mut self, event: TransportEvent) {
        if event.me().is_some_and(|me| me != self.parts.node.incarnation()) {
            // Of a session that ended with an earlier life of this node.
            return;
        }
        self.feed(match event {
            TransportEvent::SessionUp { peer, .. } => Input::SessionUp(peer),
            TransportEvent::SessionDown { peer, loss, .. } => Input::SessionDown { peer, loss },
            TransportEvent::ConnectFailed(address) => Input::ConnectFailed(address),
            TransportEvent::Control { from, message, .. } => Input::Message { from, message },
        });
        // At once: small questions may have large answers, and those of a whole turn are not to pile up.
        while let Some(effect) = self.parts.node.poll_effect_within_turn() {
            self.apply(effect);
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Input(input) => self.feed(input),
            Command::Ask { name, ask, deadline, asker } => {
                let number = self.wait_for(Waiting::Asker(asker));
                self.request(number, name, ask, deadline);
            }
            Command::Register { name, process, ask, deadline, asker } => {
                let text = name.name().clone();
                let number = self.wait_for(Waiting::Registrar { name, process, asker });
                self.request(number, text, ask, deadline);
            }
            Command::List { filter, deadline, asker } => {
                let number = self.next_number();
                self.listings.insert(number, asker);
                self.feed(Input::List { number, filter, deadline });
            }
            Command::Group { group, known, deadline, asker } => {
                let number = self.next_number();
                self.readings.insert(number, asker);
                self.feed(Input::Group { number, group, known, deadline });
            }
            Command::Groups { scope, deadline, asker } => {
                let number = self.next_number();
                self.scope_readings.insert(number, asker);
                self.feed(Input::Groups { number, scope, deadline });
            }
            Command::Count { filter, deadline, asker } => {
                let number = self.next_number();
                self.counts.insert(number, asker);
                self.feed(Input::Count { number, filter, deadline });
            }
            Command::Follow { filter, events, asker } => self.follow(filter, events, asker),
            Command::Unfollow { number } => self.unfollow(number),
            Command::Rebalance { paused, done } => {
                self.orderers.retain(|waiting| !waiting.is_closed());
                self.orderers.push(done);
                self.feed(Input::Rebalance { paused });
            }
            Command::ReportRebalance { asker } => {
                // Whoever asked may have given up.
                let _gone = asker.send(self.parts.node.rebalance_report());
            }
            Command::Drain { within, done } => {
                self.drainers.push(done);
                self.feed(Input::Drain { within });
            }
            Command::Leave { done } => {
                self.leavers.push(done);
                self.feed(Input::Leave);
            }
        }
    }
}

impl Running {
    fn follow(
        &mut self,
        filter: Filter,
        events: mpsc::UnboundedSender<StreamEvent>,
        asker: oneshot::Sender<u64>,
    ) {
        // Readers that went while the driver had no room for the word of it.
        let gone: Vec<u64> =
            self.streams.iter().filter(|(_, reader)| reader.is_closed()).map(|(number, _)| *number).collect();
        gone.into_iter().for_each(|number| self.unfollow(number));
        let number = self.next_number();
        if asker.send(number).is_ok() {
            self.streams.insert(number, events);
            self.feed(Input::Follow { number, filter });
        }
    }

    fn unfollow(&mut self, number: u64) {
        if self.streams.remove(&number).is_some() {
            self.feed(Input::Unfollow { number });
        }
    }
}

async fn sleep_until(due: Option<tokio::time::Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
