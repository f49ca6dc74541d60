//! Control messages of a member, one after the other, into a real node: it never panics and goes on working.
//!
//! The bytes are cut into messages by a length of two bytes each; what can not be read is left out.

#![no_main]

use std::sync::Arc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use whimbrel_core::base::{Incarnation, Name, Now, Time};
use whimbrel_core::membership;
use whimbrel_core::node::{Config, Effect, Input, Node};
use whimbrel_core::view::MemberInfo;
use whimbrel_core::wire::{Body, Control};

fuzz_target!(|bytes: &[u8]| {
    let mut now = Now { time: Time::from_micros(1), wall_ms: 1_790_000_000_000 };
    let (mut node, peer) = with_a_member(&mut now);
    let mut rest = bytes;
    while let Some((length, more)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(more.len());
        let (message, more) = more.split_at(length);
        rest = more;
        now.time = now.time + Duration::from_millis(20);
        if let Ok(mut message) = Control::from_bytes(message) {
            // Rarely met by chance: most is said in the view of both.
            if message.view.is_none() {
                message.view = node.view().map(|view| view.id);
            }
            node.handle(now, Input::Message { from: peer, message });
        }
        settle(&mut node, now);
        if node.next_deadline().is_some_and(|due| due <= now.time) {
            node.handle(now, Input::Wake);
            settle(&mut node, now);
        }
    }
});

/// A node that founded a cluster, and a peer that is its second member.
fn with_a_member(now: &mut Now) -> (Node, Incarnation) {
    let name = |text| Name::new(text).expect("a short word is a name");
    let mut config = Config::new(name("a"), Arc::from("a:1"), 7);
    config.discovery = false;
    config.slots = 16;
    config.kinds = vec![name("counter")];
    let mut node = Node::new(config, *now);
    settle(&mut node, *now);
    let member = MemberInfo {
        name: name("b"),
        incarnation: Incarnation { started_ms: 1_790_000_000_000, nonce: 2 },
        address: Arc::from("b:1"),
        weight: 100,
        kinds: vec![name("counter")],
        draining: false,
    };
    let peer = member.incarnation;
    node.handle(*now, Input::SessionUp(Box::new(member.clone())));
    let body = Body::Membership(membership::Message::Join { member, counter_floor: 0 });
    node.handle(*now, Input::Message { from: peer, message: Control { view: None, body } });
    for _ in 0..100 {
        now.time = now.time + Duration::from_millis(20);
        node.handle(*now, Input::Wake);
        settle(&mut node, *now);
    }
    (node, peer)
}

/// Carries out what the node wants, as a shell does whose processes do as they are told.
fn settle(node: &mut Node, now: Now) {
    while let Some(effect) = node.poll_effect() {
        let input = match effect {
            Effect::ProposeView(view) => Input::ViewDecided(view),
            Effect::Connect(address) => Input::ConnectFailed(address),
            Effect::Launch { record, .. } => {
                Input::Launched { name: record.name.clone(), token: record.token, result: Ok(()) }
            }
            Effect::Terminate { name, token, reason } => Input::Exited { name, token, reason },
            _ => continue,
        };
        node.handle(now, input);
    }
}
