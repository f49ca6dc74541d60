//! A node played by hand: it knows the secret and says what no real node would say, or when none would.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use whimbrel_core::base::{Incarnation, Name};
use whimbrel_core::delivery::{Lane, Signal};
use whimbrel_core::node::LinkLoss;
use whimbrel_core::view::MemberInfo;
use whimbrel_core::wire::frame::{self, FrameKind, MessageFrame};
use whimbrel_core::wire::hello::{Claim, Greeting, Hello, Refusal, Role, VERSION, VERSION_MIN, Welcome};

use super::super::TransportEvent;
use super::harness::{Node, Seen, config, incarnation, numbered, pair};
use super::strangers::{SECRET, Stranger, framed, proof};

/// The acceptor's side of a port that a puppet answers at.
struct Puppet {
    listener: TcpListener,
    me: MemberInfo,
    /// It sends every byte by itself.
    bytewise: bool,
    /// What it sends instead of its name, of the same length.
    raw_name: Option<[u8; 6]>,
}

/// A connection of a puppet after its handshake.
struct Strings {
    stranger: Stranger,
    /// The session as the node sees it.
    session: u64,
    /// The connection's id.
    connection: u64,
}

impl Puppet {
    /// One that says that it is this node.
    async fn posing_as(me: &MemberInfo) -> Puppet {
        Puppet { me: me.clone(), ..Puppet::new(1).await }
    }

    async fn new(started_ms: u64) -> Puppet {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let me = MemberInfo {
            name: Name::new("puppet").unwrap(),
            incarnation: incarnation(started_ms),
            address: listener.local_addr().unwrap().to_string().into(),
            weight: 100,
            kinds: Vec::new(),
            draining: false,
            labels: Default::default(),
        };
        Puppet { listener, me, bytewise: false, raw_name: None }
    }

    fn hello(&self, mark: u8) -> Hello {
        let incarnation = self.me.incarnation;
        Hello { version_min: VERSION_MIN, version: VERSION, features: 0, incarnation, challenge: [mark; 32] }
    }

    fn welcome(&self, received: u64) -> Greeting {
        let member = self.me.clone();
        Greeting::Welcome(Box::new(Welcome {
            mode: config().mode,
            slots: 4096,
            replicas: 2,
            member,
            received,
        }))
    }

    async fn accepts(&self) -> Strings {
        let (stream, _) = self.listener.accept().await.unwrap();
        let mut stranger = Stranger::on(stream);
        let Some((Greeting::Hello(theirs), their_body)) = stranger.hear().await else { panic!("no hello") };
        let hello = self.hello(1);
        let body = hello.to_body();
        stranger.say(&framed(&[Greeting::Hello(hello)])).await;
        let Some((Greeting::Proof(_), _)) = stranger.hear().await else { panic!("no proof") };
        let connection = u64::from_be_bytes(theirs.challenge[..8].try_into().unwrap());
        let claim = Claim { session: connection, lost: 0 };
        let proof = proof(Role::Acceptor, "shop", SECRET, &their_body, &body, claim);
        stranger.say(&framed(&[proof, self.welcome(0)])).await;
        let Some((Greeting::Welcome(_), _)) = stranger.hear().await else { panic!("no welcome") };
        Strings { stranger, session: connection, connection }
    }

    async fn dials(&self, node: &Node, mark: u8, claim: Claim) -> Result<Strings, Refusal> {
        let mut stranger = Stranger::on(TcpStream::connect(&node.bound).await.unwrap());
        stranger.bytewise = self.bytewise;
        let hello = self.hello(mark);
        let body = hello.to_body();
        stranger.say(&framed(&[Greeting::Hello(hello)])).await;
        let Some((Greeting::Hello(_), their_body)) = stranger.hear().await else { panic!("no hello") };
        let proof = proof(Role::Dialler, "shop", SECRET, &body, &their_body, claim);
        stranger.say(&framed(&[proof])).await;
        let session = match stranger.hear().await {
            Some((Greeting::Proof(proof), _)) => proof.claim.session,
            Some((Greeting::Refusal(refusal), _)) => return Err(refusal),
            other => panic!("{other:?}"),
        };
        let Some((Greeting::Welcome(_), _)) = stranger.hear().await else { panic!("no welcome") };
        let mut welcome = framed(&[self.welcome(0)]);
        if let Some(raw) = self.raw_name {
            let at = welcome.windows(raw.len()).position(|bytes| bytes == b"puppet").unwrap();
            welcome[at..at + raw.len()].copy_from_slice(&raw);
        }
        stranger.say(&welcome).await;
        Ok(Strings { stranger, session, connection: u64::from_be_bytes([mark; 8]) })
    }
}

impl Strings {
    async fn send(&mut self, number: u64, epoch: u64) {
        let signal = MessageFrame::Signal(Signal::Room { epoch });
        let mut bytes = Vec::new();
        frame::put(&mut bytes, signal.kind(), number, signal.to_body().as_slice());
        self.stranger.say(&bytes).await;
    }

    /// What the node sends next: kind and number.
    async fn next_frame(&mut self) -> (FrameKind, u64) {
        let mut length = [0; 4];
        self.stranger.stream.read_exact(&mut length).await.unwrap();
        let mut bytes = length.to_vec();
        bytes.resize(4 + u32::from_be_bytes(length) as usize, 0);
        self.stranger.stream.read_exact(&mut bytes[4..]).await.unwrap();
        let frame = frame::split(&bytes, 1 << 20).unwrap().unwrap();
        (frame.kind, frame.number)
    }

    /// Waits until the node closes the connection.
    async fn closes(&mut self) {
        let mut sink = Vec::new();
        // A reset is an end too.
        let _ = self.stranger.stream.read_to_end(&mut sink).await;
    }
}

async fn up(node: &mut Node, peer: Incarnation) {
    match node.event().await {
        TransportEvent::SessionUp { peer: up, .. } => assert_eq!(up.incarnation, peer),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_smaller_nodes_connection_stays_until_the_greater_one_says_that_it_gave_it_up() {
    let mut node = Node::start("one", 1, config()).await;
    let puppet = Puppet::new(2).await;
    node.connect(&puppet.me.address);
    let first = puppet.accepts().await;
    up(&mut node, puppet.me.incarnation).await;

    let late = puppet.dials(&node, 7, Claim::default()).await;
    assert_eq!(late.err(), Some(Refusal::Duplicate), "its own dial, begun before it knew of the other");
    let claim = Claim { session: first.session, lost: first.connection };
    let second = puppet.dials(&node, 8, claim).await.unwrap();
    assert_eq!(second.session, first.session, "the session goes on");

    // What the greater node dialled, it may replace as it likes.
    let claim = Claim { session: first.session, lost: 0 };
    let mut third = puppet.dials(&node, 9, claim).await.unwrap();
    third.send(1, 40).await;
    assert!(matches!(node.saw().await, Seen::Signal(Signal::Room { epoch: 40 })));
    node.assert_no_event();
}

#[tokio::test]
async fn a_smaller_node_is_believed_to_have_no_connection_when_it_dials() {
    let mut node = Node::start("one", 5, config()).await;
    let puppet = Puppet::new(2).await;
    node.connect(&puppet.me.address);
    let first = puppet.accepts().await;
    up(&mut node, puppet.me.incarnation).await;
    let again = puppet.dials(&node, 7, Claim { session: first.session, lost: 0 }).await.unwrap();
    assert_eq!(again.session, first.session);
    node.assert_no_event();
}

#[tokio::test]
async fn a_peer_that_forgot_the_session_gets_a_new_one() {
    let mut node = Node::start("one", 1, config()).await;
    let puppet = Puppet::new(2).await;
    let first = puppet.dials(&node, 7, Claim::default()).await.unwrap();
    up(&mut node, puppet.me.incarnation).await;
    let second = puppet.dials(&node, 8, Claim::default()).await.unwrap();
    node.expect_down(puppet.me.incarnation, LinkLoss::Unreachable).await;
    up(&mut node, puppet.me.incarnation).await;
    assert_ne!(first.session, second.session);
}

#[tokio::test]
async fn a_repeated_number_is_dropped_and_a_gap_closes_the_connection() {
    let mut node = Node::start("one", 1, config()).await;
    let puppet = Puppet::new(2).await;
    let mut strings = puppet.dials(&node, 7, Claim::default()).await.unwrap();
    up(&mut node, puppet.me.incarnation).await;
    for (number, epoch) in [(1, 10), (1, 10), (2, 20), (1, 10), (2, 20), (3, 30), (5, 50)] {
        strings.send(number, epoch).await;
    }
    strings.closes().await;
    let mut epochs = Vec::new();
    while let Ok(seen) = node.seen.try_recv() {
        if let Seen::Signal(Signal::Room { epoch }) = seen {
            epochs.push(epoch);
        }
    }
    assert_eq!(epochs, [10, 20, 30]);
    node.assert_no_event();
}

#[tokio::test]
async fn what_can_not_be_read_closes_the_connection_of_an_authenticated_peer() {
    let body: &[u8] = b"no signal";
    let mut unreadable = Vec::new();
    frame::put(&mut unreadable, FrameKind::Signal, 1, body);
    let mut out_of_place = Vec::new();
    frame::put(&mut out_of_place, FrameKind::Hello, 0, body);
    for bytes in [unreadable, out_of_place, vec![0, 0, 0, 0], vec![255; 8]] {
        let mut node = Node::start("one", 1, config()).await;
        let puppet = Puppet::new(2).await;
        let mut strings = puppet.dials(&node, 7, Claim::default()).await.unwrap();
        up(&mut node, puppet.me.incarnation).await;
        strings.stranger.stream.write_all(&bytes).await.unwrap();
        strings.closes().await;
        // The session itself goes on, and the node dials to resume it.
        let resumed = puppet.listener.accept().await;
        assert!(resumed.is_ok());
        node.assert_no_event();
    }
}

#[tokio::test]
async fn a_peer_that_takes_the_name_of_a_living_node_does_not_end_its_session() {
    let mut config = config();
    config.timings.keep_alive = std::time::Duration::from_millis(50);
    let (mut one, mut two) = pair(config).await;
    one.hear_until_alive(&two).await;
    let mut other = two.me.clone();
    other.incarnation = Incarnation { started_ms: u64::MAX, nonce: 7 };
    let puppet = Puppet::posing_as(&other).await;
    let _strings = puppet.dials(&one, 7, Claim::default()).await.unwrap();
    up(&mut one, puppet.me.incarnation).await;
    two.send(&one, 9).unwrap();
    while one.next_number().await != 9 {}
    one.assert_no_event();
    two.assert_no_event();
    // Without its connection it is succeeded at once, not after the time for which a session is kept.
    two.transport.shutdown().await;
    one.expect_down(two.me.incarnation, LinkLoss::Replaced).await;
}

#[tokio::test]
async fn a_peer_that_says_it_is_a_living_node_does_not_get_its_session() {
    let mut config = config();
    config.timings.keep_alive = std::time::Duration::from_millis(50);
    let (mut one, mut two) = pair(config).await;
    one.hear_until_alive(&two).await;
    let puppet = Puppet::posing_as(&two.me).await;
    for claim in [Claim::default(), Claim { session: 12_345, lost: 0 }, Claim { session: 0, lost: u64::MAX }]
    {
        assert_eq!(puppet.dials(&one, 7, claim).await.err(), Some(Refusal::Duplicate));
    }
    two.send(&one, 9).unwrap();
    while one.next_number().await != 9 {}
    one.assert_no_event();
    two.assert_no_event();
}

#[tokio::test]
async fn a_peer_that_can_be_no_member_gets_no_session() {
    let mut node = Node::start("one", 1, config()).await;
    let kinds = vec![Name::new(&"k".repeat(255)).unwrap(); 65];
    let mut bad: Vec<MemberInfo> = Vec::new();
    for weight in [1_001, u32::MAX] {
        bad.push(MemberInfo { weight, ..Puppet::new(2).await.me });
    }
    bad.push(MemberInfo { kinds, ..Puppet::new(2).await.me });
    bad.push(MemberInfo { address: "a\u{1b}[2Jb:1".into(), ..Puppet::new(2).await.me });
    bad.push(MemberInfo { address: "a".repeat(100_000).into(), ..Puppet::new(2).await.me });
    for me in bad {
        let puppet = Puppet::posing_as(&me).await;
        let mut strings = puppet.dials(&node, 7, Claim::default()).await.unwrap();
        strings.closes().await;
        node.assert_no_event();
    }
}

#[tokio::test]
async fn a_bad_name_on_the_wire_closes_the_connection() {
    let mut node = Node::start("one", 1, config()).await;
    let names: [&[u8]; 4] = [b"pup\npt", b"pu\x1b[2J", b"\xff\xfe\xfd\xfc\xfb\xfa", b"a\xc2\x9bbcd"];
    for name in names {
        let mut puppet = Puppet::new(2).await;
        puppet.raw_name = Some(name.try_into().unwrap());
        let mut strings = puppet.dials(&node, 7, Claim::default()).await.unwrap();
        strings.closes().await;
        node.assert_no_event();
    }
}

#[tokio::test]
async fn an_acknowledgement_of_what_was_never_sent_frees_nothing() {
    let mut node = Node::start("one", 1, config()).await;
    let puppet = Puppet::new(2).await;
    let mut first = puppet.dials(&node, 7, Claim::default()).await.unwrap();
    up(&mut node, puppet.me.incarnation).await;
    for number in 0..3 {
        node.transport.send(puppet.me.incarnation, Lane::Messages, numbered(number, 8)).unwrap();
    }
    for number in [u64::MAX, 4, 1 << 63] {
        let mut ack = Vec::new();
        frame::put(&mut ack, FrameKind::Ack, 0, &u64::to_be_bytes(number));
        first.stranger.say(&ack).await;
    }
    // Heard behind the acknowledgements, so they were looked at.
    first.send(1, 40).await;
    assert!(matches!(node.saw().await, Seen::Signal(Signal::Room { epoch: 40 })));
    let claim = Claim { session: first.session, lost: first.connection };
    let mut second = puppet.dials(&node, 8, claim).await.unwrap();
    for number in 1..=3 {
        assert_eq!(second.next_frame().await, (FrameKind::Reply, number));
    }
    node.assert_no_event();
}

#[tokio::test]
async fn a_peer_that_says_nothing_after_its_handshake_is_hung_up_on_and_others_are_served() {
    let mut config = config();
    config.timings.silence = std::time::Duration::from_millis(200);
    config.timings.keep_alive = std::time::Duration::from_millis(20);
    let (mut one, two) = pair(config).await;
    let puppet = Puppet::new(3).await;
    let mut strings = puppet.dials(&one, 7, Claim::default()).await.unwrap();
    up(&mut one, puppet.me.incarnation).await;
    strings.closes().await;
    two.send(&one, 5).unwrap();
    assert_eq!(one.next_number().await, 5);
    one.assert_no_event();
}

#[tokio::test]
async fn one_that_shows_itself_under_ever_more_lives_takes_the_room_there_is_and_no_more() {
    let mut config = config();
    config.sessions_max = 3;
    let (mut one, two) = pair(config).await;
    let mut strings = Vec::new();
    for life in 10..12 {
        let mut puppet = Puppet::new(life).await;
        puppet.me.name = Name::new(&format!("puppet {life}")).unwrap();
        strings.push((puppet.dials(&one, 7, Claim::default()).await.unwrap(), puppet));
        up(&mut one, strings.last().unwrap().1.me.incarnation).await;
    }
    let mut fourth = Puppet::new(12).await.dials(&one, 7, Claim::default()).await.unwrap();
    let refusal = fourth.stranger.hear().await.map(|(greeting, _)| greeting);
    assert_eq!(refusal, Some(Greeting::Refusal(Refusal::Busy)));
    // Who has a session may go on with it on another connection.
    let (first, puppet) = &strings[0];
    let claim = Claim { session: first.session, lost: first.connection };
    assert!(puppet.dials(&one, 8, claim).await.is_ok());
    two.send(&one, 5).unwrap();
    assert_eq!(one.next_number().await, 5);
    one.assert_no_event();
}

#[tokio::test]
async fn a_handshake_and_frames_that_come_byte_by_byte_are_understood() {
    let mut node = Node::start("one", 1, config()).await;
    let mut puppet = Puppet::new(2).await;
    puppet.bytewise = true;
    let mut strings = puppet.dials(&node, 7, Claim::default()).await.unwrap();
    up(&mut node, puppet.me.incarnation).await;
    for number in 1..=3 {
        strings.send(number, 10 * number).await;
        let epoch = loop {
            match node.saw().await {
                Seen::Signal(Signal::Room { epoch }) => break epoch,
                Seen::Heard => {}
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(epoch, 10 * number);
    }
    node.assert_no_event();
}
