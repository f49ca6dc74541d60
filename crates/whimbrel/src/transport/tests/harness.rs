//! A node without a core: a transport, its events, and what arrived on the message lane.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use whimbrel_core::base::{Address, Incarnation, Mutants, Name};
use whimbrel_core::delivery::{Lane, Signal};
use whimbrel_core::node::LinkLoss;
use whimbrel_core::view::MemberInfo;
use whimbrel_core::wire::Names;
use whimbrel_core::wire::frame::{MessageFrame, Outcome, Reply};
use whimbrel_core::wire::hello::Mode;

use super::super::{Inbound, OutFrame, SendError, Timings, Transport, TransportConfig, TransportEvent};
use crate::secret::Secret;
use crate::tasks::Tasks;

/// Longer than anything here may take; reaching it is a failure.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// What a collector has seen.
#[derive(Debug)]
pub(super) enum Seen {
    Frame(Incarnation, u64),
    Signal(Signal),
    Heard,
    End(Incarnation, Vec<u64>),
}

struct Collector(mpsc::UnboundedSender<Seen>);

impl Inbound for Collector {
    fn on_frames(&self, from: Incarnation, frames: &mut Vec<MessageFrame>) {
        for frame in frames.drain(..) {
            let seen = match frame {
                MessageFrame::Signal(signal) => Seen::Signal(signal),
                frame => Seen::Frame(from, number_of(&frame)),
            };
            let _ = self.0.send(seen);
        }
    }

    fn on_heard(&self, _: Incarnation) {
        let _ = self.0.send(Seen::Heard);
    }

    fn on_session_end(&self, peer: Incarnation, unsent: Vec<OutFrame>) {
        let numbers = unsent.iter().map(|frame| match frame {
            OutFrame::Other { kind, body } => {
                number_of(&MessageFrame::from_body(*kind, body.as_slice(), &mut Names::default()).unwrap())
            }
            OutFrame::Message(_) | OutFrame::Publish { .. } => {
                panic!("only replies are sent in these tests: {frame:?}")
            }
        });
        let _ = self.0.send(Seen::End(peer, numbers.collect()));
    }
}

/// Takes frames and tells nobody.
pub(super) fn deaf() -> Arc<dyn Inbound> {
    Arc::new(Collector(mpsc::unbounded_channel().0))
}

fn number_of(frame: &MessageFrame) -> u64 {
    match frame {
        MessageFrame::Reply(reply) => reply.call,
        other => panic!("only replies are sent in these tests: {other:?}"),
    }
}

/// A frame of the message lane that carries a number and a payload of some size.
pub(super) fn numbered(number: u64, bytes: usize) -> OutFrame {
    let outcome = Outcome::Done { codec: 0, payload: vec![0x5a; bytes].into() };
    OutFrame::lane(&MessageFrame::Reply(Reply { call: number, outcome })).unwrap()
}

pub(super) fn config() -> TransportConfig {
    TransportConfig {
        cluster: "shop".to_owned(),
        secret: Some(Secret::new(b"the secret of all tests").unwrap()),
        listen: Some("127.0.0.1:0".to_owned()),
        mode: Mode::Available,
        slots: 4096,
        replicas: 2,
        sessions_max: whimbrel_core::base::limits::SESSIONS_MAX,
        features: 0,
        admission: Default::default(),
        mutants: Mutants::default(),
        timings: Timings::default(),
    }
}

pub(super) fn incarnation(started_ms: u64) -> Incarnation {
    // The nonce makes lives of one start time distinct across nodes; tests pass distinct times.
    Incarnation { started_ms, nonce: started_ms.wrapping_mul(0x9e37_79b9_7f4a_7c15) }
}

pub(super) struct Node {
    pub(super) transport: Transport,
    pub(super) events: mpsc::Receiver<TransportEvent>,
    pub(super) seen: mpsc::UnboundedReceiver<Seen>,
    pub(super) me: MemberInfo,
    pub(super) bound: String,
    tasks: Tasks,
}

impl Node {
    /// Bound, not born.
    pub(super) async fn bind(name: &str, started_ms: u64, config: TransportConfig) -> Node {
        let tasks = Tasks::new();
        let (events_in, events) = mpsc::channel(1024);
        let (seen_in, seen) = mpsc::unbounded_channel();
        let inbound = Arc::new(Collector(seen_in));
        let (transport, bound) = Transport::bind(config, &tasks, events_in, inbound).await.unwrap();
        let bound = bound.map_or_else(|| "127.0.0.1:1".to_owned(), |bound| bound.to_string());
        let me = MemberInfo {
            name: Name::new(name).unwrap(),
            incarnation: incarnation(started_ms),
            address: bound.as_str().into(),
            weight: 100,
            kinds: Vec::new(),
            draining: false,
            labels: Default::default(),
        };
        Node { transport, events, seen, me, bound, tasks }
    }

    /// Bound, and born under the address it is bound to.
    pub(super) async fn start(name: &str, started_ms: u64, config: TransportConfig) -> Node {
        let node = Node::bind(name, started_ms, config).await;
        node.transport.reincarnate(node.me.clone());
        node
    }

    /// Says that it is reached somewhere else: at a relay.
    pub(super) fn advertise(&mut self, address: &str) {
        self.me.address = address.into();
        self.transport.reincarnate(self.me.clone());
    }

    pub(super) fn incarnation(&self) -> Incarnation {
        self.me.incarnation
    }

    pub(super) fn address(&self) -> Address {
        self.me.address.clone()
    }

    pub(super) fn connect(&self, address: &str) {
        self.transport.connect(address.into());
    }

    /// Whether a `connect` has not ended yet.
    pub(super) fn is_trying(&self) -> bool {
        !self.transport.shared.trying.lock().unwrap().is_empty()
    }

    pub(super) fn send(&self, to: &Node, number: u64) -> Result<(), SendError> {
        self.transport.send(to.incarnation(), Lane::Messages, numbered(number, 16))
    }

    /// Hears the peer until it counts as one that lives.
    pub(super) async fn hear_until_alive(&mut self, peer: &Node) {
        let shared = self.transport.shared.clone();
        let lives = || {
            let session = shared.session(peer.incarnation());
            session.is_some_and(|session| session.is_living(shared.lives_within()))
        };
        while !lives() {
            peer.send(self, 0).unwrap();
            self.next_number().await;
        }
    }

    pub(super) async fn event(&mut self) -> TransportEvent {
        let name = self.me.name.clone();
        let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
        event.unwrap_or_else(|_| panic!("{name} waits for an event")).unwrap()
    }

    pub(super) async fn expect_up(&mut self, peer: &Node) {
        match self.event().await {
            TransportEvent::SessionUp { me, peer: up } => {
                assert_eq!((me, &*up), (self.me.incarnation, &peer.me));
            }
            other => panic!("{} waits for a session with {}: {other:?}", self.me.name, peer.me.name),
        }
    }

    pub(super) async fn expect_down(&mut self, peer: Incarnation, expected: LinkLoss) {
        match self.event().await {
            TransportEvent::SessionDown { peer: down, loss, .. } => {
                assert_eq!((down, loss), (peer, expected));
            }
            other => panic!("{} waits for the end of {peer}: {other:?}", self.me.name),
        }
    }

    pub(super) async fn expect_connect_failed(&mut self, expected: &str) {
        match self.event().await {
            TransportEvent::ConnectFailed(address) => assert_eq!(&*address, expected),
            other => panic!("{} waits for a failed try of {expected}: {other:?}", self.me.name),
        }
    }

    pub(super) async fn saw(&mut self) -> Seen {
        let seen = tokio::time::timeout(PATIENCE, self.seen.recv()).await;
        seen.unwrap_or_else(|_| panic!("{} waits for a frame", self.me.name)).unwrap()
    }

    /// The number of the next frame of the message lane.
    pub(super) async fn next_number(&mut self) -> u64 {
        self.next_frame().await.1
    }

    /// The next frame of the message lane: whose it is, and its number.
    pub(super) async fn next_frame(&mut self) -> (Incarnation, u64) {
        loop {
            match self.saw().await {
                Seen::Frame(from, number) => return (from, number),
                Seen::Heard | Seen::Signal(..) => {}
                Seen::End(peer, _) => panic!("{} lost {peer}", self.me.name),
            }
        }
    }

    /// The numbers of frames that were never written, when a session ends.
    pub(super) async fn next_end(&mut self) -> (Incarnation, Vec<u64>) {
        loop {
            if let Seen::End(peer, unsent) = self.saw().await {
                return (peer, unsent);
            }
        }
    }

    pub(super) fn assert_no_event(&mut self) {
        assert!(self.events.try_recv().is_err(), "{} has an event left", self.me.name);
    }

    /// Everything is gone at once, as when the process dies.
    pub(super) async fn die(self) {
        self.tasks.stop();
        self.tasks.ended().await;
    }
}

/// Two nodes with a session, `one` the smaller incarnation.
pub(super) async fn pair(config: TransportConfig) -> (Node, Node) {
    let mut one = Node::start("one", 1, config.clone()).await;
    let mut two = Node::start("two", 2, config).await;
    one.connect(&two.address());
    one.expect_up(&two).await;
    two.expect_up(&one).await;
    (one, two)
}
