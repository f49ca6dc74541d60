//! What goes first when more is queued than a link takes.

use whimbrel_core::delivery::{Lane, Signal};
use whimbrel_core::view::ViewId;
use whimbrel_core::wire::frame::MessageFrame;
use whimbrel_core::wire::{Body, Control};

use super::super::{OutFrame, SendError};
use super::harness::{Node, PATIENCE, Seen, config, numbered, pair};
use super::relay::Relay;

/// Messages of a flood, each of about a megabyte: several times what the sockets between two nodes take.
const FLOOD: u64 = 60;
/// Of these, how many may be with the sockets already when control is queued.
const ON_THE_WAY: usize = 40;

fn control() -> OutFrame {
    let view = Some(ViewId { counter: 1, author: 1 });
    let body = Body::Membership(whimbrel_core::membership::Message::Greet(None));
    OutFrame::control(&Control { view, body }).unwrap()
}

fn signal() -> OutFrame {
    OutFrame::lane(&MessageFrame::Signal(Signal::Room { epoch: 1 })).unwrap()
}

#[tokio::test]
async fn control_overtakes_a_flood_of_messages() {
    let (one, mut two) = pair(config()).await;
    for number in 0..FLOOD {
        one.transport.send(two.incarnation(), Lane::Messages, numbered(number, 1_000_000)).unwrap();
    }
    assert_eq!(two.next_number().await, 0, "the flood is on its way");
    // One more than the receiver's driver takes: its reader stops there, and what it has delivered by then stands.
    let room = two.events.capacity();
    for _ in 0..=room {
        one.transport.send(two.incarnation(), Lane::Control, control()).unwrap();
    }
    let full = async {
        while two.events.len() < room {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, full).await.expect("control does not get through");
    let mut before = 0;
    while let Ok(seen) = two.seen.try_recv() {
        before += usize::from(matches!(seen, Seen::Frame(..)));
    }
    assert!(before <= ON_THE_WAY, "{before} messages went before control");
    for number in before as u64 + 1..FLOOD {
        two.events.try_recv().unwrap();
        assert_eq!(two.next_number().await, number, "and none of the flood is lost");
    }
}

#[tokio::test]
async fn a_link_full_of_messages_takes_signals_and_goes_on() {
    let mut one = Node::start("one", 1, config()).await;
    let mut two = Node::bind("two", 2, config()).await;
    let relay = Relay::to(&two.bound).await;
    two.advertise(&relay.address);
    one.connect(&relay.address);
    one.expect_up(&two).await;
    two.expect_up(&one).await;
    relay.hold();
    let send = |lane, frame| one.transport.send(two.incarnation(), lane, frame);
    while send(Lane::Messages, numbered(1, 1_000_000)).is_ok() {}
    while send(Lane::Messages, numbered(1, 100)).is_ok() {}
    for _ in 0..1_000 {
        assert_eq!(send(Lane::Control, signal()), Ok(()));
    }
    assert_eq!(send(Lane::Messages, numbered(1, 100)), Err(SendError::Full), "the session stands");
    one.assert_no_event();
}
