//! Whoever does not know the secret learns nothing, holds nothing up and gets nowhere.

use std::io;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use whimbrel_core::base::Name;
use whimbrel_core::node::LinkLoss;
use whimbrel_core::wire::frame::{self, FrameKind};
use whimbrel_core::wire::hello::{
    CHALLENGE_BYTES, Claim, Greeting, Hello, Proof, Refusal, Role, UNPROVEN_BYTES_MAX, VERSION, VERSION_MIN,
    Welcome, proven,
};

use super::super::listener::UNPROVEN_PER_ADDRESS_MAX;
use super::super::{Transport, TransportError, TransportEvent};
use super::harness::{Node, PATIENCE, config, incarnation, pair};
use crate::admission::NodeRule;
use crate::secret::Secret;

fn hello(started_ms: u64) -> Hello {
    Hello {
        version_min: VERSION_MIN,
        version: VERSION,
        features: 0,
        incarnation: incarnation(started_ms),
        challenge: [9; CHALLENGE_BYTES],
    }
}

pub(super) fn framed(greetings: &[Greeting]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for greeting in greetings {
        greeting.put(&mut bytes);
    }
    bytes
}

/// A proof of somebody who thinks that these are the cluster and its secret.
pub(super) fn proof(
    role: Role,
    cluster: &str,
    secret: &[u8],
    dialler: &[u8],
    acceptor: &[u8],
    claim: Claim,
) -> Greeting {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(secret).unwrap();
    mac.update(&proven(role, cluster, dialler, acceptor, claim));
    Greeting::Proof(Proof { mac: mac.finalize().into_bytes().into(), claim })
}

/// A connection made by hand.
pub(super) struct Stranger {
    pub(super) stream: TcpStream,
    buffer: Vec<u8>,
    /// Every byte is sent by itself.
    pub(super) bytewise: bool,
}

impl Stranger {
    pub(super) fn on(stream: TcpStream) -> Stranger {
        // Bytes sent one by one shall not be gathered on the way.
        stream.set_nodelay(true).unwrap();
        Stranger { stream, buffer: Vec::new(), bytewise: false }
    }

    async fn dial(node: &Node) -> Stranger {
        Stranger::on(TcpStream::connect(&node.bound).await.unwrap())
    }

    pub(super) async fn say(&mut self, bytes: &[u8]) {
        let size = if self.bytewise { 1 } else { bytes.len().max(1) };
        for bytes in bytes.chunks(size) {
            // The node may have closed already: that is for `rest` to see.
            let _ = self.stream.write_all(bytes).await;
            tokio::task::yield_now().await;
        }
    }

    /// The next greeting, with its body; none at the end of the stream.
    pub(super) async fn hear(&mut self) -> Option<(Greeting, Vec<u8>)> {
        loop {
            if let Some(raw) = frame::split(&self.buffer, 1 << 20).unwrap() {
                let (kind, body, taken) = (raw.kind, raw.body.to_vec(), raw.taken);
                self.buffer.drain(..taken);
                return Some((Greeting::from_body(kind, &body).unwrap(), body));
            }
            let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await;
            match read.expect("the node neither speaks nor closes") {
                Ok(1..) => {}
                Ok(0) => return None,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// All that the node says until it closes.
    async fn rest(&mut self) -> Vec<Greeting> {
        let mut heard = Vec::new();
        while let Some((greeting, _)) = self.hear().await {
            heard.push(greeting);
        }
        heard
    }

    /// The whole handshake of a dialler that thinks the cluster and secret are these.
    async fn prove(&mut self, cluster: &str, secret: &[u8]) -> Vec<Greeting> {
        let hello = hello(50);
        self.say(&framed(&[Greeting::Hello(hello.clone())])).await;
        let Some((Greeting::Hello(_), theirs)) = self.hear().await else { panic!("no hello") };
        let proof = proof(Role::Dialler, cluster, secret, &hello.to_body(), &theirs, Claim::default());
        self.say(&framed(&[proof])).await;
        self.rest().await
    }
}

pub(super) const SECRET: &[u8] = b"the secret of all tests";

#[tokio::test]
async fn wrong_secret_and_wrong_cluster_are_refused_with_the_same_bytes() {
    let node = Node::start("one", 1, config()).await;
    let wrong_secret = Stranger::dial(&node).await.prove("shop", b"another secret of 16").await;
    let wrong_cluster = Stranger::dial(&node).await.prove("shopping", SECRET).await;
    assert_eq!(wrong_secret, [Greeting::Refusal(Refusal::Unauthorised)]);
    assert_eq!(wrong_secret, wrong_cluster);
}

#[tokio::test]
async fn nodes_of_another_secret_or_cluster_get_no_session() {
    let mut node = Node::start("one", 1, config()).await;
    let mut other_secret = config();
    other_secret.secret = Some(Secret::new(b"another secret of 16").unwrap());
    let mut no_secret = config();
    no_secret.secret = None;
    let mut other_cluster = config();
    other_cluster.cluster = "shopping".to_owned();
    for (index, config) in [other_secret, no_secret, other_cluster].into_iter().enumerate() {
        let mut other = Node::start("two", 2 + index as u64, config).await;
        other.connect(&node.bound);
        other.expect_connect_failed(&node.bound).await;
        node.connect(&other.bound);
        node.expect_connect_failed(&other.bound).await;
    }
}

#[tokio::test]
async fn nodes_with_other_settings_are_refused() {
    let mut node = Node::start("one", 1, config()).await;
    let mut slots = config();
    slots.slots = 1024;
    let mut replicas = config();
    replicas.replicas = 3;
    for config in [slots, replicas] {
        let mut other = Node::start("two", 2, config).await;
        other.connect(&node.bound);
        other.expect_connect_failed(&node.bound).await;
        node.assert_no_event();
    }
}

#[tokio::test]
async fn a_node_that_is_not_admitted_gets_no_session_whoever_dials() {
    let mut picky = config();
    picky.admission.deny = vec![NodeRule::parse("zone=far")];
    let mut picky = Node::start("one", 1, picky).await;
    let mut far = Node::start("two", 2, config()).await;
    far.me.labels.insert(Name::new("zone").unwrap(), Name::new("far").unwrap());
    far.transport.reincarnate(far.me.clone());
    // The acceptor learns last who dials: the dialler may have announced the session before it is refused.
    far.connect(&picky.bound);
    match tokio::time::timeout(PATIENCE, far.events.recv()).await.unwrap().unwrap() {
        TransportEvent::SessionUp { .. } => {
            far.expect_down(picky.incarnation(), LinkLoss::Unreachable).await;
        }
        event => assert!(matches!(event, TransportEvent::ConnectFailed(_)), "{event:?}"),
    }
    picky.connect(&far.bound);
    picky.expect_connect_failed(&far.bound).await;
    picky.assert_no_event();
    let mut near = Node::start("three", 3, config()).await;
    near.connect(&picky.bound);
    near.expect_up(&picky).await;
}

#[tokio::test]
async fn a_node_that_does_not_prove_itself_is_not_believed_by_its_dialler() {
    // A listener that answers with a Hello and sends the dialler's own proof back.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let impostor = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stranger = Stranger::on(stream);
        stranger.hear().await.unwrap();
        stranger.say(&framed(&[Greeting::Hello(hello(60))])).await;
        let (proof, _) = stranger.hear().await.unwrap();
        stranger.say(&framed(&[proof])).await;
        stranger.rest().await
    });
    let mut node = Node::start("one", 1, config()).await;
    node.connect(&address);
    node.expect_connect_failed(&address).await;
    assert_eq!(impostor.await.unwrap(), [Greeting::Refusal(Refusal::Unauthorised)]);
}

#[tokio::test]
async fn a_node_without_a_common_version_is_told_so() {
    let node = Node::start("one", 1, config()).await;
    let mut stranger = Stranger::dial(&node).await;
    let future = Hello { version_min: VERSION + 1, version: VERSION + 3, ..hello(50) };
    stranger.say(&framed(&[Greeting::Hello(future)])).await;
    assert_eq!(stranger.rest().await, [Greeting::Refusal(Refusal::Version)]);
}

#[tokio::test]
async fn without_a_secret_only_loopback_is_listened_on_and_dialled() {
    let mut open = config();
    open.secret = None;
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        open.listen = Some(listen.to_owned());
        let tasks = crate::tasks::Tasks::new();
        let (events, _events) = tokio::sync::mpsc::channel(1);
        let refused = Transport::bind(open.clone(), &tasks, events, super::harness::deaf()).await;
        let Err(error) = refused else { panic!("{listen} is listened on") };
        assert!(matches!(error, TransportError::SecretNeeded { .. }), "{error}");
        assert!(error.to_string().contains("secret_file"), "{error}");
    }
    open.listen = Some("127.0.0.1:0".to_owned());
    let (mut one, _two) = pair(open).await;
    one.connect("192.0.2.1:4100");
    // At once, not after the time a connection may take.
    let soon = tokio::time::timeout(Duration::from_millis(500), one.expect_connect_failed("192.0.2.1:4100"));
    soon.await.unwrap();
}

#[tokio::test]
async fn garbage_before_authentication_closes_and_harms_nobody() {
    let (mut one, mut two) = pair(config()).await;
    let mut out_of_place = Vec::new();
    frame::put(&mut out_of_place, FrameKind::Message, 1, b"x");
    let mut early_ack = Vec::new();
    frame::put(&mut early_ack, FrameKind::Ack, 0, &[0; 8]);
    let too_long = 4097u32.to_be_bytes().to_vec();
    let proof = Greeting::Proof(Proof { mac: [0; 32], claim: Claim::default() });
    let welcome =
        Welcome { mode: Default::default(), slots: 4096, replicas: 2, member: two.me.clone(), received: 0 };
    let cases = [
        vec![0, 0, 0, 0],
        vec![255; 64],
        u32::MAX.to_be_bytes().to_vec(),
        too_long,
        vec![0, 0, 0, 1, 77],
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        out_of_place,
        early_ack,
        framed(&[proof]),
        framed(&[Greeting::Welcome(Box::new(welcome))]),
        // A Hello whose body is cut, in a frame of the right length.
        {
            let mut bytes = Vec::new();
            frame::put(&mut bytes, FrameKind::Hello, 0, &hello(50).to_body()[..20]);
            bytes
        },
    ];
    for bytes in cases {
        let mut stranger = Stranger::dial(&one).await;
        stranger.say(&bytes).await;
        assert_eq!(stranger.rest().await, [], "{bytes:?}");
    }
    two.send(&one, 1).unwrap();
    assert_eq!(one.next_number().await, 1);
    one.assert_no_event();
    two.assert_no_event();
}

#[tokio::test]
async fn a_hello_split_at_every_byte_is_understood() {
    let node = Node::start("one", 1, config()).await;
    let bytes = framed(&[Greeting::Hello(hello(50))]);
    for cut in 1..bytes.len() {
        let mut stranger = Stranger::dial(&node).await;
        stranger.say(&bytes[..cut]).await;
        stranger.say(&bytes[cut..]).await;
        assert!(matches!(stranger.hear().await, Some((Greeting::Hello(_), _))), "cut at {cut}");
    }
}

#[tokio::test]
async fn a_stranger_who_says_nothing_is_closed_at_the_deadline() {
    let mut config = config();
    config.timings.handshake = Duration::from_millis(100);
    let node = Node::start("one", 1, config).await;
    let mut silent = Stranger::dial(&node).await;
    let mut halfway = Stranger::dial(&node).await;
    halfway.say(&framed(&[Greeting::Hello(hello(50))])).await;
    assert_eq!(silent.rest().await, []);
    assert!(matches!(&halfway.rest().await[..], [Greeting::Hello(_)]));
}

#[tokio::test]
async fn the_ninth_unauthenticated_connection_is_refused_and_a_freed_place_is_given_again() {
    let node = Node::start("one", 1, config()).await;
    let mut waiting = Vec::new();
    for _ in 0..UNPROVEN_PER_ADDRESS_MAX {
        let mut stranger = Stranger::dial(&node).await;
        stranger.say(&framed(&[Greeting::Hello(hello(50))])).await;
        assert!(matches!(stranger.hear().await, Some((Greeting::Hello(_), _))));
        waiting.push(stranger);
    }
    let mut ninth = Stranger::dial(&node).await;
    assert_eq!(ninth.rest().await, [Greeting::Refusal(Refusal::Busy)]);
    // Garbage ends the handshake, and what is heard last is that the place is free.
    waiting[0].say(&[255; 8]).await;
    assert_eq!(waiting[0].rest().await, []);
    let next = async {
        loop {
            let mut stranger = Stranger::dial(&node).await;
            stranger.say(&framed(&[Greeting::Hello(hello(50))])).await;
            match stranger.hear().await {
                Some((Greeting::Hello(_), _)) => return,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, next).await.unwrap();
}

#[tokio::test]
async fn sessions_take_no_place_of_strangers() {
    let mut node = Node::start("hub", 1, config()).await;
    let mut others = Vec::new();
    for index in 0..=UNPROVEN_PER_ADDRESS_MAX as u64 {
        let mut other = Node::start(&format!("other {index}"), 2 + index, config()).await;
        other.connect(&node.bound);
        other.expect_up(&node).await;
        node.expect_up(&other).await;
        others.push(other);
    }
}

/// Counts what is logged and keeps it.
#[derive(Clone, Default)]
struct Log(std::sync::Arc<std::sync::Mutex<Vec<String>>>);

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Line(String);
        impl tracing::field::Visit for Line {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                use std::fmt::Write as _;
                write!(self.0, "{field}={value:?} ").unwrap();
            }
        }
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn a_stranger_learns_no_name_and_no_address_and_fills_no_log() {
    let log = Log::default();
    let _here = tracing::subscriber::set_default(log.clone());
    let began = std::time::Instant::now();
    let node = Node::start("a-name-of-a-node", 1, config()).await;
    for _ in 0..40 {
        let mut stranger = Stranger::dial(&node).await;
        stranger.say(&framed(&[Greeting::Hello(hello(50))])).await;
        let Some((_, theirs)) = stranger.hear().await else { panic!("no hello") };
        let wrong = proof(Role::Dialler, "shop", b"another secret of 16", &[], &theirs, Claim::default());
        stranger.say(&framed(&[wrong])).await;
        let mut heard = theirs;
        heard.append(&mut stranger.buffer);
        stranger.stream.read_to_end(&mut heard).await.unwrap_or(0);
        for secret in ["a-name-of-a-node", "127.0.0.1", "shop", "the secret"] {
            let leaks = heard.windows(secret.len()).any(|bytes| bytes == secret.as_bytes());
            assert!(!leaks, "{secret} is told to strangers");
        }
    }
    let lines = log.0.lock().unwrap().clone();
    assert!(!lines.is_empty() && lines.len() as u64 <= 1 + began.elapsed().as_secs(), "{lines:?}");
    for line in lines {
        assert!(line.contains("not authorised") && !line.contains("secret of"), "{line}");
        assert!(!line.chars().any(char::is_control), "{line}");
    }
}

#[tokio::test]
async fn a_frame_that_is_no_greeting_is_not_waited_for() {
    let node = Node::start("one", 1, config()).await;
    for kind in (0..=u8::MAX).filter(|kind| !Greeting::may_begin_with(*kind)) {
        let mut stranger = Stranger::dial(&node).await;
        // Its body never comes.
        let mut head = 4_000u32.to_be_bytes().to_vec();
        head.push(kind);
        stranger.say(&head).await;
        assert_eq!(stranger.rest().await, [], "kind {kind}");
    }
}

#[tokio::test]
async fn a_handshake_that_is_cut_at_any_byte_ends_and_gives_its_place_back() {
    let mut node = Node::start("one", 1, config()).await;
    let hello = framed(&[Greeting::Hello(hello(50))]);
    let proof = framed(&[Greeting::Proof(Proof { mac: [7; 32], claim: Claim::default() })]);
    for cut in 0..hello.len() + proof.len() {
        let mut stranger = Stranger::dial(&node).await;
        let (first, second) = (cut.min(hello.len()), cut.saturating_sub(hello.len()));
        stranger.say(&hello[..first]).await;
        stranger.say(&proof[..second]).await;
        stranger.stream.shutdown().await.unwrap();
        let heard = stranger.rest().await;
        assert!(heard.len() <= 1 && !matches!(heard.first(), Some(Greeting::Refusal(_))), "{cut}: {heard:?}");
    }
    let shared = node.transport.shared.clone();
    while !shared.unproven.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    node.assert_no_event();
}

#[tokio::test]
async fn a_stranger_that_sends_a_byte_now_and_then_is_closed_at_the_deadline() {
    let mut config = config();
    assert_eq!((config.timings.handshake, UNPROVEN_BYTES_MAX), (Duration::from_secs(5), 4096), "by default");
    config.timings.handshake = Duration::from_millis(200);
    let node = Node::start("one", 1, config).await;
    let mut slow = Stranger::dial(&node).await;
    let mut sent = 0;
    let bytes = framed(&[Greeting::Hello(hello(50))]);
    // Each pause is ended early by the node's hanging up, which is what is waited for.
    let closed = loop {
        slow.say(&bytes[sent..=sent]).await;
        sent += 1;
        match tokio::time::timeout(Duration::from_millis(20), slow.hear()).await {
            Ok(heard) => break heard.is_none(),
            Err(_) if sent < bytes.len() => {}
            Err(_) => break false,
        }
    };
    assert!(closed, "{sent} of {} bytes", bytes.len());
}
