//! A member that lies, and peers that send rubbish, against real nodes: each gets its error or is hung up on; nobody
//! else notices, and no memory is lost to them. The rows that need no socket are tested in the crate `whimbrel-core`,
//! those of the handshake beside the transport.

mod peer;

use std::future::Future;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use whimbrel::{
    Bytes, CallError, Cluster, Context, ErrorCode, Event, Executed, ExitReason, KindOptions, Name, Placement,
    Process, StaticList, Token, ViewId, handlers,
};
use whimbrel_core::base::RequestId;
use whimbrel_core::delivery::Errand;
use whimbrel_core::directory::{self, Ask, RestartPolicy};
use whimbrel_core::membership;
use whimbrel_core::placement::{Replicas, SLOTS, slot_of};
use whimbrel_core::wire::Body;
use whimbrel_core::wire::frame::{FrameKind, MessageFrame, Outcome, Reply};
use whimbrel_core::wire::message::{Message, MessageHead};

use crate::kinds::*;
use peer::{CLUSTER, Peer, SECRET};

/// Never answers.
#[derive(serde::Serialize, serde::Deserialize)]
struct Silent;

impl Process for Silent {
    const KIND: &'static str = "silent";
    type Args = ();

    async fn init(_args: (), _cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        Ok(Silent)
    }
}

#[handlers]
impl Silent {
    #[call]
    async fn ask(&mut self) -> u64 {
        std::future::pending().await
    }
}

async fn join(name: &str, seeds: &[&Cluster]) -> Cluster {
    Cluster::builder(CLUSTER)
        .node_name(name)
        .secret(SECRET)
        .listen("127.0.0.1:0")
        .discovery(StaticList::new(seeds.iter().map(|seed| seed.address().to_owned())))
        .weight(1_000)
        // A peer made by hand answers no probe; it is not to be left out for that.
        .detection(Duration::from_secs(60))
        // Nor does it take processes.
        .drain_within(Duration::from_secs(1))
        .kind::<Counter>(KindOptions::default())
        .kind::<Silent>(KindOptions::default())
        .join()
        .await
        .unwrap()
}

async fn two() -> (Cluster, Cluster) {
    let one = join("one", &[]).await;
    let two = join("two", &[&one]).await;
    for node in [&one, &two] {
        node.wait_for_members(2, LONG).await.unwrap();
    }
    (one, two)
}

/// Every node serves every other, and the members are who they were.
async fn assert_served(nodes: &[&Cluster], members: usize, mark: &str) {
    for (at, node) in nodes.iter().enumerate() {
        assert_eq!(node.view().unwrap().members.len(), members, "{mark}");
        let name = format!("{mark}:{at}");
        node.start::<Counter>(&name, 0).await.unwrap();
        for (before, other) in nodes.iter().enumerate() {
            let sum = other.process::<Counter>(&name).unwrap().add(1).await;
            assert_eq!(sum, Ok(1 + before as u64), "{mark}");
        }
    }
}

/// A counter on `node`, which is also the owner of its name.
async fn own_counter(node: &Cluster, mark: &str) -> Name {
    let view = node.view().unwrap();
    let mut names = (0..10_000).map(|number| Name::new(&format!("{mark}:{number}")).unwrap());
    let is_own =
        |name: &Name| Replicas::of(slot_of(name, SLOTS), &view, 2).owner() == Some(node.incarnation());
    let name = names.find(is_own).unwrap();
    node.start::<Counter>(name.as_str(), 0).placement(Placement::Local).await.unwrap();
    name
}

/// Memory of this process in bytes; none where the system does not tell.
fn resident_bytes() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    text.split_whitespace().nth(1)?.parse::<usize>().ok().map(|pages| pages * 4096)
}

/// Kind, message, codec, payload; the code of the error, none if it is handled.
type Case<'a> = (&'a str, &'a str, u8, &'a [u8], Option<ErrorCode>);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_process_does_not_understand_is_answered_to_its_sender_and_the_connection_lives() {
    let (one, two) = two().await;
    let mut peer = Peer::joins(&one, "peer").await;
    let name = own_counter(&one, "understood").await;
    let located = peer.locates(&name).await;
    let mut deep = vec![0x91; 1_000_000];
    deep.push(0xc0);
    let add_one: &[u8] = &[0x81, 0xa1, b'n', 0x01];
    let cases: [Case<'_>; 9] = [
        ("counter", "no-such-message", 1, add_one, Some(ErrorCode::UnknownMessage)),
        ("no-such-kind", "add", 1, add_one, Some(ErrorCode::WrongKind)),
        ("counter", "add", 99, add_one, Some(ErrorCode::Codec)),
        ("counter", "add", 1, &deep, Some(ErrorCode::Codec)),
        // Four billion items of no size, and of none that are there.
        ("counter", "add", 1, &[0xdd, 0xff, 0xff, 0xff, 0xff], Some(ErrorCode::Codec)),
        ("counter", "add", 1, &[0x81, 0xa1, b'n', 0x01, 0x00], Some(ErrorCode::Codec)),
        ("counter", "add", 1, &[0x81, 0xa1, b'n', 0xc1], Some(ErrorCode::Codec)),
        ("counter", "add", 1, &[], Some(ErrorCode::Codec)),
        ("counter", "add", 1, add_one, None),
    ];
    for (seq, (kind, message, codec, payload, expected)) in (1u64..).zip(cases) {
        let message = Message {
            name: name.clone(),
            kind: Name::new(kind).unwrap(),
            message: Name::new(message).unwrap(),
            head: MessageHead {
                gate: located.gate,
                epoch: 1,
                seq,
                call: Some(seq),
                remaining_ms: Some(u64::MAX),
                sender: Token::from_u64(u64::MAX),
                view: u64::MAX,
                codec,
                errand: Errand::Deliver,
            },
            payload: payload.into(),
        };
        peer.say(&MessageFrame::Message(message)).await;
        match (peer.outcome(seq).await, expected) {
            (Outcome::Failed { code, executed, .. }, Some(expected)) => {
                assert_eq!((code, executed), (expected, Executed::No), "{seq}");
            }
            (Outcome::Done { .. }, None) => {}
            (outcome, _) => panic!("{seq}: {outcome:?}"),
        }
    }
    assert_eq!(two.process::<Counter>(name.as_str()).unwrap().add(0).await, Ok(1), "one of them was right");
    assert_served(&[&one, &two], 3, "after").await;
    one.leave().await;
    two.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reply_from_elsewhere_ends_no_call_and_numbers_out_of_order_admit_nothing() {
    let (one, two) = two().await;
    let mut peer = Peer::joins(&one, "peer").await;
    two.start::<Silent>("silent", ()).placement(Placement::Local).await.unwrap();
    let silent = one.process::<Silent>("silent").unwrap();
    let mut call = sent(silent.ask().deadline(Duration::from_secs(2)));
    for index in 0..16u64 {
        for shard in 0..16u64 {
            for generation in 0..4u64 {
                let outcome = Outcome::Done { codec: 1, payload: vec![7].into() };
                let reply = Reply { call: shard << 56 | generation << 24 | index, outcome };
                peer.say(&MessageFrame::Reply(reply)).await;
            }
        }
    }
    // Sequences far ahead, and gates that never were: held for a while or turned away, never handled.
    let name = own_counter(&one, "gap").await;
    let located = peer.locates(&name).await;
    for (gate, seq) in
        [(located.gate, u64::MAX), (located.gate, 2), (Token::from_u64(u64::MAX), 1), (Token::NONE, 0)]
    {
        let (kind, message) = (Name::new("counter").unwrap(), Name::new("add").unwrap());
        let (epoch, view, sender, codec, errand) = (u64::MAX, 0, Token::NONE, 1, Errand::Deliver);
        let (call, remaining_ms, name) = (None, None, name.clone());
        let head = MessageHead { gate, epoch, seq, call, remaining_ms, sender, view, codec, errand };
        let payload = vec![0x81, 0xa1, b'n', 0x01].into();
        let frame = Message { name, kind, message, head, payload };
        peer.say(&MessageFrame::Message(frame)).await;
    }
    // Answered behind all of the above.
    peer.locates(&name).await;
    assert_eq!(one.process::<Counter>(name.as_str()).unwrap().add(0).await, Ok(0));
    assert!(matches!((&mut call).await, Err(CallError::Deadline { .. })), "nobody but its host ends a call");
    assert_served(&[&one, &two], 3, "after").await;
    one.leave().await;
    two.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn commands_without_a_warrant_end_nothing_and_are_told_of_once_a_second() {
    let (one, two) = two().await;
    let mut peer = Peer::joins(&one, "peer").await;
    let name = own_counter(&one, "commanded").await;
    let located = peer.locates(&name).await;
    let mut events = one.events();
    let began = std::time::Instant::now();
    for _ in 0..200 {
        let (token, kind, host) = (located.token, located.kind.clone(), one.incarnation());
        let request = RequestId { caller: peer.me.incarnation, number: 1 };
        for message in [
            directory::Message::End { name: name.clone(), token, reason: ExitReason::Killed },
            directory::Message::Retoken { name: name.clone(), old: token, new: Token::from_u64(u64::MAX) },
            directory::Message::Grant(
                directory::Record {
                    gate: located.gate,
                    ..directory::Record::first(name.clone(), kind, host, Token::from_u64(u64::MAX), request)
                }
                .into(),
            ),
        ] {
            peer.say_control(Body::Directory(message)).await;
        }
    }
    // Answered behind all of them.
    assert_eq!(peer.locates(&name).await, located);
    let seconds = began.elapsed().as_secs();
    let mut refused = 0;
    // What was told by now; more is not waited for.
    let mut task = std::task::Context::from_waker(std::task::Waker::noop());
    while let std::task::Poll::Ready(Some(event)) = std::pin::pin!(events.next()).poll(&mut task) {
        if let Event::Refused { peer: liar, .. } = event {
            assert_eq!(liar, peer.me.incarnation);
            refused += 1;
        }
    }
    assert!((1..=1 + seconds).contains(&refused), "{refused} in {seconds} s");
    one.leave().await;
    two.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn floods_of_every_sort_leave_memory_and_service_as_they_were() {
    let (one, two) = two().await;
    let mut peer = Peer::joins(&one, "peer").await;
    let before = resident_bytes();
    for round in 0..3u64 {
        // Large messages of a view that never comes, which would be kept for it: a few hundred megabytes.
        let args = Bytes::from(vec![0; 900_000]);
        for number in 0..150 {
            let request = RequestId { caller: peer.me.incarnation, number };
            let (policy, placement) = (RestartPolicy::Permanent, Placement::Hash);
            let ask =
                Ask::Start { kind: Name::new("counter").unwrap(), args: args.clone(), policy, placement };
            let message = directory::Message::Request { request, name: Name::new("early").unwrap(), ask };
            let view = ViewId { counter: u64::MAX - round, author: number };
            peer.say_control_in(Some(view), Body::Directory(message)).await;
        }
        // Joiners that are nowhere, with the longest addresses there may be.
        for number in 0..2_000u64 {
            let mut member = peer.me.clone();
            member.incarnation.nonce = round * 10_000 + number;
            member.name = Name::new(&format!("{number}:{}", "n".repeat(200))).unwrap();
            member.address = format!("{number}.{round}.{}.invalid:1", "a".repeat(200)).into();
            let join = membership::Message::Join { member, counter_floor: 0 };
            peer.say_control(Body::Membership(join)).await;
        }
        // Signals and replies about nothing.
        for number in 0..5_000 {
            let outcome = Outcome::Done { codec: 1, payload: vec![].into() };
            peer.say(&MessageFrame::Reply(Reply { call: number, outcome })).await;
        }
        // Strangers, one after the other: frames too long, too short, unknown, early, and no frame at all.
        for bytes in
            [&[0, 0, 0, 0][..], &[255; 64], &[0, 0, 16, 1], &[0, 0, 0, 9, 17], b"GET / HTTP/1.1\r\n\r\n"]
        {
            for _ in 0..40 {
                let mut stranger = TcpStream::connect(one.address()).await.unwrap();
                let _gone = stranger.write_all(bytes).await;
                let _gone = stranger.read_to_end(&mut Vec::new()).await;
            }
        }
        assert_served(&[&one, &two], 3, &format!("round-{round}")).await;
    }
    if let (Some(before), Some(after)) = (before, resident_bytes()) {
        let grown = after.saturating_sub(before) / (1024 * 1024);
        // The peer has sent over 400 MiB; the other tests of this process run meanwhile.
        assert!(grown < 250, "{grown} MiB more than before");
    }
    one.leave().await;
    two.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn frames_that_can_not_be_read_end_their_connection_alone() {
    let (one, two) = two().await;
    // A message whose first field, the name, is each of these.
    let with_name = |name: &[u8]| [&[0x8c][..], name, &[0x60; 11]].concat();
    let long = [&[0x79, 0x01, 0x00][..], &[b'a'; 256]].concat();
    let names: [&[u8]; 6] =
        [&[0x60], &[0x63, b'a', b'\n', b'b'], &[0x62, 0xff, 0xfe], &[0x61, 0x7f], &long, &[0x7b, 0xff]];
    let bodies = names.iter().map(|name| with_name(name)).chain([vec![], vec![0x9b; 9], vec![0x81; 100_000]]);
    for (at, body) in bodies.enumerate() {
        for kind in
            [FrameKind::Message, FrameKind::Publish, FrameKind::Control, FrameKind::Signal, FrameKind::Reply]
        {
            let mut peer = Peer::meets(&one, &format!("peer-{at}")).await;
            peer.say_body(kind, &body).await;
            peer.hears_the_end().await;
        }
    }
    for bytes in
        [&[0, 0, 0, 0][..], &u32::MAX.to_be_bytes(), &[0, 16, 0, 1], &[0, 0, 0, 5, 17], &[0, 0, 0, 1, 99]]
    {
        let mut peer = Peer::meets(&one, "rubbish").await;
        peer.say_bytes(bytes).await;
        peer.hears_the_end().await;
    }
    assert_served(&[&one, &two], 2, "after").await;
    one.leave().await;
    two.leave().await;
}
