//! Sessions come up, carry frames, and end for the right reason.

use std::time::{Duration, Instant};

use whimbrel_core::base::Rng;
use whimbrel_core::delivery::Lane;
use whimbrel_core::node::LinkLoss;
use whimbrel_core::view::ViewId;
use whimbrel_core::wire::{Body, Control};

use super::super::{OutFrame, SendError, TransportEvent};
use super::harness::{Node, Seen, config, incarnation, numbered, pair};
use super::relay::{Mood, Relay};

fn greet(counter: u64) -> Control {
    let view = Some(ViewId { counter, author: 1 });
    Control { view, body: Body::Membership(whimbrel_core::membership::Message::Greet(None)) }
}

#[tokio::test]
async fn frames_arrive_in_order_on_both_lanes_and_batches_end() {
    let (one, mut two) = pair(config()).await;
    for number in 0..200 {
        one.send(&two, number).unwrap();
        let control = OutFrame::control(&greet(number)).unwrap();
        one.transport.send(two.incarnation(), Lane::Control, control).unwrap();
    }
    for expected in 0..200 {
        assert_eq!(two.next_frame().await, (one.incarnation(), expected));
        match two.event().await {
            TransportEvent::Control { me, from, message } => {
                assert_eq!((me, from), (two.incarnation(), one.incarnation()));
                assert_eq!(message, greet(expected));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(two.saw().await, Seen::Heard));
}

#[tokio::test]
async fn a_frame_of_the_greatest_size_arrives() {
    let (one, mut two) = pair(config()).await;
    let frame = numbered(7, 1024 * 1024 - 64);
    one.transport.send(two.incarnation(), Lane::Messages, frame).unwrap();
    assert_eq!(two.next_number().await, 7);
}

#[tokio::test]
async fn without_a_session_nothing_is_sent() {
    let (one, two) = pair(config()).await;
    let stranger = Node::start("three", 3, config()).await;
    assert_eq!(one.send(&stranger, 1), Err(SendError::NoSession));
    assert_eq!(stranger.send(&two, 1), Err(SendError::NoSession));
}

#[tokio::test]
async fn a_second_connect_is_silent_under_every_spelling_of_the_address() {
    let (mut one, two) = pair(config()).await;
    let port = two.bound.rsplit(':').next().unwrap();
    one.connect(&two.address());
    one.connect(&format!("localhost:{port}"));
    while one.is_trying() {
        tokio::task::yield_now().await;
    }
    one.assert_no_event();
}

/// What an observation takes when nothing else uses the machine: the best of a few.
async fn best_of_five(observe: impl AsyncFn() -> Duration) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        best = best.min(observe().await);
    }
    best
}

#[tokio::test]
async fn a_closed_port_is_reported_within_100_ms() {
    let best = best_of_five(async || {
        let mut one = Node::start("one", 1, config()).await;
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let closed = port.local_addr().unwrap().to_string();
        drop(port);
        let start = Instant::now();
        one.connect(&closed);
        one.expect_connect_failed(&closed).await;
        start.elapsed()
    });
    let best = best.await;
    assert!(best < Duration::from_millis(100), "{best:?}");
}

#[tokio::test]
async fn a_dead_process_is_reported_refused_within_100_ms() {
    let best = best_of_five(async || {
        let (mut one, two) = pair(config()).await;
        let peer = two.incarnation();
        two.die().await;
        let start = Instant::now();
        one.expect_down(peer, LinkLoss::Refused).await;
        let elapsed = start.elapsed();
        assert_eq!(one.next_end().await, (peer, vec![]));
        elapsed
    });
    let best = best.await;
    assert!(best < Duration::from_millis(100), "{best:?}");
}

#[tokio::test]
async fn a_node_does_not_speak_to_itself() {
    let mut one = Node::start("one", 1, config()).await;
    let own = one.bound.clone();
    one.connect(&own);
    one.expect_connect_failed(&own).await;
}

#[tokio::test]
async fn three_nodes_that_all_dial_at_once_have_one_session_per_pair() {
    let mut rng = Rng::new(5);
    for round in 0..20 {
        let mut nodes = Vec::new();
        for (index, name) in ["one", "two", "three"].into_iter().enumerate() {
            nodes.push(Node::start(name, 10 * round + index as u64 + 1, config()).await);
        }
        let mut dials: Vec<(usize, usize)> = vec![(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)];
        while !dials.is_empty() {
            let (from, to) = dials.swap_remove(rng.below(dials.len() as u64) as usize);
            nodes[from].connect(&nodes[to].address());
        }
        for node in &mut nodes {
            for _ in 0..2 {
                assert!(matches!(node.event().await, TransportEvent::SessionUp { .. }));
            }
        }
        // Every pair can speak both ways, over sessions that did not end meanwhile.
        for from in 0..3 {
            for to in (0..3).filter(|to| *to != from) {
                nodes[from].send(&nodes[to], from as u64).unwrap();
            }
        }
        for node in &mut nodes {
            node.next_number().await;
            node.next_number().await;
            node.assert_no_event();
        }
    }
}

#[tokio::test]
async fn a_new_life_of_the_peer_replaces_the_old_one() {
    let (mut one, mut two) = pair(config()).await;
    let old = two.incarnation();
    two.me.incarnation = incarnation(20);
    two.transport.reincarnate(two.me.clone());
    two.expect_down(one.incarnation(), LinkLoss::Unreachable).await;
    // Nobody asks for it: the session's own redial finds the new life.
    one.expect_down(old, LinkLoss::Replaced).await;
    one.expect_up(&two).await;
    two.expect_up(&one).await;
}

#[tokio::test]
async fn a_restarted_process_replaces_its_session_though_the_old_connection_stands() {
    let mut config = config();
    config.timings.keep_alive = Duration::from_millis(50);
    let mut one = Node::start("one", 1, config.clone()).await;
    let mut two = Node::bind("two", 2, config.clone()).await;
    let relay = Relay::to(&two.bound).await;
    two.advertise(&relay.address);
    one.connect(&relay.address);
    one.expect_up(&two).await;
    two.expect_up(&one).await;
    one.hear_until_alive(&two).await;
    relay.hold();
    let (old, acceptor) = (two.incarnation(), one.incarnation());
    two.die().await;
    let mut again = Node::start("two", 3, config).await;
    // The dead one is believed to live until it has been silent for two keep-alives.
    loop {
        again.connect(&one.address());
        match again.event().await {
            // The acceptor learns last who dials, so the dialler may hear of its refusal only now.
            TransportEvent::SessionUp { .. } => tokio::select! {
                biased;
                event = one.event() => {
                    let TransportEvent::SessionDown { peer, loss, .. } = event else { panic!("{event:?}") };
                    break assert_eq!((peer, loss), (old, LinkLoss::Replaced));
                }
                () = again.expect_down(acceptor, LinkLoss::Unreachable) => {}
            },
            TransportEvent::ConnectFailed(_) => {}
            other => panic!("{other:?}"),
        }
    }
    one.expect_up(&again).await;
}

#[tokio::test]
async fn an_older_life_does_not_replace_a_younger_one() {
    let (mut one, two) = pair(config()).await;
    let mut older = Node::start("two", 1, config()).await;
    older.me.incarnation.nonce = 99;
    older.transport.reincarnate(older.me.clone());
    older.connect(&one.address());
    older.expect_up(&one).await;
    // The acceptor learns last who has dialled, and says so then.
    older.expect_down(one.incarnation(), LinkLoss::Unreachable).await;
    one.send(&two, 1).unwrap();
    one.assert_no_event();
}

#[tokio::test]
async fn an_ended_session_can_be_opened_again_by_the_peer() {
    let (mut one, mut two) = pair(config()).await;
    one.transport.end_session(two.incarnation());
    one.expect_down(two.incarnation(), LinkLoss::Unreachable).await;
    // Its redial meets a node that knows nothing of the session any more.
    two.expect_down(one.incarnation(), LinkLoss::Unreachable).await;
    one.expect_up(&two).await;
    two.expect_up(&one).await;
    two.send(&one, 5).unwrap();
    let (ended, _) = one.next_end().await;
    assert_eq!(ended, two.incarnation());
    assert_eq!(one.next_number().await, 5);
}

#[tokio::test]
async fn what_is_sent_before_a_shutdown_arrives_and_then_the_port_refuses() {
    let (mut one, mut two) = pair(config()).await;
    for number in 0..1000 {
        two.send(&one, number).unwrap();
    }
    two.transport.shutdown().await;
    for expected in 0..1000 {
        assert_eq!(one.next_number().await, expected);
    }
    one.expect_down(two.incarnation(), LinkLoss::Refused).await;
    two.expect_down(one.incarnation(), LinkLoss::Unreachable).await;
}

#[tokio::test]
async fn an_unreachable_peer_is_given_up_and_unsent_frames_come_back() {
    let mut config = config();
    config.timings.unreachable_after = Duration::from_millis(300);
    let mut one = Node::bind("one", 1, config.clone()).await;
    let mut two = Node::bind("two", 2, config).await;
    let (to_one, to_two) = (Relay::to(&one.bound).await, Relay::to(&two.bound).await);
    one.advertise(&to_one.address);
    two.advertise(&to_two.address);
    one.connect(&to_two.address);
    one.expect_up(&two).await;
    two.expect_up(&one).await;

    to_one.cut(Mood::Close);
    to_two.cut(Mood::Close);
    // Frames written before the break is noticed may have arrived; those after it wait for a connection.
    while to_two.opened() < 2 {
        tokio::task::yield_now().await;
    }
    for number in 1..=3 {
        one.send(&two, number).unwrap();
    }
    one.expect_down(two.incarnation(), LinkLoss::Unreachable).await;
    two.expect_down(one.incarnation(), LinkLoss::Unreachable).await;
    assert_eq!(one.next_end().await, (two.incarnation(), vec![1, 2, 3]));
    assert_eq!(one.send(&two, 4), Err(SendError::NoSession));
}

#[tokio::test]
async fn a_lane_that_is_full_refuses_messages_and_a_full_control_lane_ends_the_session() {
    let mut one = Node::start("one", 1, config()).await;
    let two = Node::bind("two", 2, config()).await;
    let relay = Relay::to(&two.bound).await;
    let mut two = two;
    two.advertise(&relay.address);
    one.connect(&relay.address);
    one.expect_up(&two).await;
    two.expect_up(&one).await;
    relay.hold();
    let large = || numbered(1, 1_000_000);
    let sent = (0..).take_while(|_| one.transport.send(two.incarnation(), Lane::Messages, large()).is_ok());
    assert!((60..=68).contains(&sent.count()), "about 64 MiB are kept");
    assert_eq!(one.transport.send(two.incarnation(), Lane::Messages, large()), Err(SendError::Full));
    let control = || OutFrame::control(&greet(1)).unwrap();
    one.transport.send(two.incarnation(), Lane::Control, control()).unwrap();
    while one.transport.send(two.incarnation(), Lane::Control, control()) != Err(SendError::Full) {}
    one.expect_down(two.incarnation(), LinkLoss::Unreachable).await;
}
