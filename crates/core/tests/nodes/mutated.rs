//! Real control messages with something changed in them, as many as it takes: none may make a node panic, whoever it
//! comes from and whatever came before; and when the liar is gone, the others serve.

use whimbrel_core::base::Rng;
use whimbrel_core::membership;
use whimbrel_core::view::{View, ViewId};
use whimbrel_core::wire::{Body, Control};

use super::*;

/// Numbers at which something could overflow.
const EXTREMES: [u64; 10] =
    [0, 1, 255, 65_535, (1 << 32) - 1, (1 << 33) - 1, i64::MAX as u64, 1 << 63, u64::MAX - 1, u64::MAX];

/// The head of a CBOR item: its major type, where its argument ends, and where the item that follows begins.
fn head(bytes: &[u8], at: usize) -> Option<(u8, usize, usize)> {
    let first = *bytes.get(at)?;
    let width = match first & 0x1f {
        0..=23 => 0,
        24 => 1,
        25 => 2,
        26 => 4,
        27 => 8,
        _ => return None,
    };
    let end = at + 1 + width;
    let argument = match width {
        0 => u64::from(first & 0x1f),
        _ => bytes.get(at + 1..end)?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
    };
    let content = if matches!(first >> 5, 2 | 3) { usize::try_from(argument).ok()? } else { 0 };
    Some((first >> 5, end, end.checked_add(content)?))
}

/// Places of all unsigned numbers of a message: from, to.
fn numbers(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some((major, end, next)) = head(bytes, at) {
        if major == 0 {
            found.push((at, end));
        }
        at = next;
    }
    found
}

/// The message with one number or a few bytes changed.
fn mutate(bytes: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let below = |rng: &mut Rng, bound: usize| rng.below(bound as u64) as usize;
    for _ in 0..=rng.below(2) {
        let numbers = numbers(&bytes);
        if numbers.is_empty() || rng.below(4) == 0 {
            let at = below(rng, bytes.len());
            bytes[at] = rng.next_u64() as u8;
            continue;
        }
        let (from, to) = numbers[below(rng, numbers.len())];
        let extreme = EXTREMES[below(rng, EXTREMES.len())];
        let near = extreme.wrapping_add(rng.below(3)).wrapping_sub(1);
        let mut number = vec![0x1b];
        number.extend(near.to_be_bytes());
        bytes.splice(from..to, number);
    }
    bytes
}

/// What `c` could say next about views, as bytes: what was said before is mostly too old to be followed.
fn next_about_views(net: &Net, rng: &mut Rng) -> Vec<u8> {
    let Some(current) = net.snapshot("a").view else { return Vec::new() };
    let author = net.nodes["c"].incarnation().nonce;
    let id = ViewId { counter: current.id.counter + 1, author };
    let next = View { id, parent: Some(current.id), members: current.members.clone() };
    let joiner = net.nodes["c"].me().clone();
    let message = match rng.below(4) {
        0 => membership::Message::Install(next),
        1 => membership::Message::Chain { connected: true, views: vec![next], more: false },
        2 => membership::Message::Chain { connected: false, views: vec![next], more: false },
        _ => membership::Message::Join { member: joiner, counter_floor: current.id.counter },
    };
    Control { view: Some(current.id), body: Body::Membership(message) }.to_bytes()
}

#[test]
fn no_changed_message_of_a_member_makes_a_node_panic() {
    for seed in 0..8 {
        let mut rng = Rng::new(seed);
        let mut net = three();
        for number in 0..20 {
            net.start("a", &format!("name:{number}"));
            net.ask("c", &format!("name:{number}"), groups::join(&groups::room(number)));
            net.ask("b", &format!("name:{}", number / 2), Ask::Stop);
        }
        let samples = std::mem::take(&mut net.said);
        let liar = net.nodes["c"].incarnation();
        let mut heard = 0;
        for round in 0..4_000 {
            let next = next_about_views(&net, &mut rng);
            let sample = match rng.below(8) {
                0 if !next.is_empty() => &next,
                _ => &samples[rng.below(samples.len() as u64) as usize],
            };
            let Ok(message) = Control::from_bytes(&mutate(sample, &mut rng)) else { continue };
            heard += 1;
            net.queue.push_back(("a".into(), Input::Message { from: liar, message }));
            net.settle();
            if round % 40 == 0 {
                net.run(5);
            }
            net.said.clear();
        }
        assert!(heard > 1_000, "{heard} of 4,000 can be read");
        if net.name_of(liar).is_some() {
            net.kill("c");
        }
        // Whatever it has brought about - it may have had a view installed - the two others find together.
        for _ in 0..60 {
            net.run(1_000);
            let (a, b) = (net.snapshot("a").view, net.snapshot("b").view);
            if a.is_some() && a == b && a.is_some_and(|view| view.members.len() == 2) {
                break;
            }
        }
        let name = format!("after:{seed}");
        assert!(matches!(net.start("a", &name), Answer::Started { copies: 2, .. }), "seed {seed}");
        assert!(matches!(net.ask("b", &name, Ask::Locate), Answer::Located(_)), "seed {seed}");
    }
}
