//! A connection that breaks between two live nodes loses and doubles nothing.

use std::time::Duration;

use whimbrel_core::base::Rng;
use whimbrel_core::delivery::Lane;

use super::harness::{Node, config, numbered};
use super::relay::{Mood, Relay};

const FRAMES: u64 = 10_000;

/// Two nodes that reach each other only through relays.
async fn relayed(mut config: super::super::TransportConfig) -> (Node, Node, Relay, Relay) {
    config.timings.handshake = Duration::from_secs(1);
    let mut one = Node::bind("one", 1, config.clone()).await;
    let mut two = Node::bind("two", 2, config).await;
    let (to_one, to_two) = (Relay::to(&one.bound).await, Relay::to(&two.bound).await);
    one.advertise(&to_one.address);
    two.advertise(&to_two.address);
    one.connect(&to_two.address);
    one.expect_up(&two).await;
    two.expect_up(&one).await;
    (one, two, to_one, to_two)
}

/// Sends and receives; cuts whenever one of the random points of the stream is reached.
async fn exchange_with_cuts(seed: u64) {
    let mut rng = Rng::new(seed);
    let (mut one, mut two, to_one, to_two) = relayed(config()).await;
    let mut cuts = 0;
    let (mut sent, mut at_one, mut at_two) = (0, 0, 0);
    let mut next_cut = 100 + rng.below(600);
    while at_one < FRAMES || at_two < FRAMES {
        let burst = (1 + rng.below(64)).min(FRAMES - sent);
        for _ in 0..burst {
            let bytes = rng.below(300) as usize;
            one.transport.send(two.incarnation(), Lane::Messages, numbered(sent, bytes)).unwrap();
            two.transport.send(one.incarnation(), Lane::Messages, numbered(sent, bytes)).unwrap();
            sent += 1;
        }
        if sent >= next_cut {
            to_one.cut(Mood::Forward);
            to_two.cut(Mood::Forward);
            cuts += 1;
            next_cut = sent + 100 + rng.below(600);
            if rng.below(3) == 0 {
                // Cut again somewhere in the handshake of the next connection.
                for _ in 0..rng.below(200) {
                    tokio::task::yield_now().await;
                }
                to_one.cut(Mood::Forward);
                to_two.cut(Mood::Forward);
            }
            if sent == FRAMES {
                next_cut = u64::MAX;
            }
        }
        // Not all of what was sent: the next cut shall meet frames on their way.
        let until = if sent == FRAMES { FRAMES } else { sent.saturating_sub(rng.below(200)) };
        while at_one < until {
            assert_eq!(one.next_number().await, at_one, "at one, after {cuts} cuts");
            at_one += 1;
        }
        while at_two < until {
            assert_eq!(two.next_number().await, at_two, "at two, after {cuts} cuts");
            at_two += 1;
        }
    }
    assert!(cuts >= 10, "{cuts} cuts are too few to show anything");
    one.assert_no_event();
    two.assert_no_event();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_frames_each_way_survive_random_cuts() {
    for seed in 1..=3 {
        exchange_with_cuts(seed).await;
    }
}

#[tokio::test]
async fn ten_thousand_frames_each_way_survive_random_cuts_on_one_thread() {
    exchange_with_cuts(4).await;
}

#[tokio::test]
async fn a_connection_that_stands_still_is_replaced_without_loss() {
    let mut config = config();
    config.timings.keep_alive = Duration::from_millis(50);
    config.timings.silence = Duration::from_millis(250);
    let (mut one, mut two, to_one, to_two) = relayed(config).await;
    to_one.hold();
    to_two.hold();
    for number in 0..100 {
        one.send(&two, number).unwrap();
        two.send(&one, number).unwrap();
    }
    // New connections go through; the old one stays open and silent until both sides give it up.
    to_one.forward_new();
    to_two.forward_new();
    for expected in 0..100 {
        assert_eq!(one.next_number().await, expected);
        assert_eq!(two.next_number().await, expected);
    }
    one.assert_no_event();
    two.assert_no_event();
}

#[tokio::test]
async fn an_idle_connection_is_kept_alive() {
    let mut config = config();
    config.timings.keep_alive = Duration::from_millis(20);
    config.timings.silence = Duration::from_millis(200);
    let (mut one, mut two, to_one, to_two) = relayed(config).await;
    // Not a wait for a state: several times the silence must pass without an event.
    tokio::time::sleep(Duration::from_millis(800)).await;
    one.send(&two, 1).unwrap();
    assert_eq!(two.next_number().await, 1);
    one.assert_no_event();
    two.assert_no_event();
    assert_eq!((to_one.opened(), to_two.opened()), (0, 1), "still the first connection");
}
