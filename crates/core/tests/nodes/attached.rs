//! Groups, metadata and snapshots of names: what restarts, moves and the loss of nodes leave of them.

use super::*;
use whimbrel_core::base::{Group, Metadata};
use whimbrel_core::directory::{Inspected, MetaRead};

fn three() -> Net {
    let mut net = Net::new();
    for name in ["a", "b", "c"] {
        net.boot(name, &["a", "b", "c"]);
    }
    net.run(3_000);
    net
}

fn group(name: &str) -> Group {
    Group::new("rooms", name).unwrap()
}

fn texts(key: &str, text: &str) -> Metadata {
    Metadata::new().with(key, text).unwrap()
}

fn inspect(net: &mut Net, at: &str, name: &str) -> Inspected {
    match net.ask(at, name, Ask::Inspect) {
        Answer::Inspected(inspected) => *inspected,
        other => panic!("{other:?}"),
    }
}

fn groups_of(net: &mut Net, name: &str) -> Vec<String> {
    inspect(net, "a", name).groups.into_iter().map(|membership| membership.group.to_string()).collect()
}

fn join(net: &mut Net, at: &str, name: &str, room: &str) {
    let ask = Ask::Join { group: group(room), meta: texts("seat", "4") };
    assert_eq!(net.ask(at, name, ask), Answer::Done);
}

#[test]
fn a_name_stays_in_its_groups_through_restart_move_and_the_loss_of_its_node() {
    let mut net = three();
    net.start("a", "basket:1");
    join(&mut net, "b", "basket:1", "blue");
    join(&mut net, "c", "basket:1", "red");
    join(&mut net, "c", "basket:1", "red");
    let both = ["rooms/blue", "rooms/red"];
    assert_eq!(groups_of(&mut net, "basket:1"), both);

    let at = inspect(&mut net, "a", "basket:1").located;
    let host = net.name_of(at.host).unwrap();
    let crash = ExitReason::Panic("x".into());
    let name = Name::new("basket:1").unwrap();
    net.queue.push_back((host.clone(), Input::Exited { name, token: at.token, reason: crash }));
    net.run(10);
    assert_ne!(inspect(&mut net, "a", "basket:1").located.token, at.token);
    assert_eq!(groups_of(&mut net, "basket:1"), both);

    let target = if host == "c" { "b" } else { "c" };
    assert_eq!(net.ask("a", "basket:1", Ask::Move { to: Some(Name::new(target).unwrap()) }), Answer::Done);
    assert_eq!(groups_of(&mut net, "basket:1"), both);
    net.kill(target);
    net.run(6_000);
    assert_eq!(groups_of(&mut net, "basket:1"), both);

    assert_eq!(net.ask("a", "basket:1", Ask::Leave { group: group("blue") }), Answer::Done);
    assert_eq!(net.ask("a", "basket:1", Ask::Leave { group: group("blue") }), Answer::Done);
    assert_eq!(groups_of(&mut net, "basket:1"), ["rooms/red"]);
    net.ask("a", "basket:1", Ask::Stop);
    net.start("a", "basket:1");
    assert!(groups_of(&mut net, "basket:1").is_empty(), "the name was free in between");
}

#[test]
fn a_host_knows_what_is_attached_and_brings_it_to_another_line() {
    let mut net = three();
    net.start("a", "basket:1");
    let at = inspect(&mut net, "a", "basket:1").located;
    let host = net.name_of(at.host).unwrap();
    join(&mut net, "a", "basket:1", "blue");
    let others: Vec<&str> = ["a", "b", "c"].into_iter().filter(|other| *other != host).collect();
    net.cut(&[&host]);
    net.run(8_000);
    // Where the name was started again in the larger line nothing is lost of it either.
    let survivors = net.ask(others[0], "basket:1", Ask::Inspect);
    assert!(matches!(survivors, Answer::Inspected(known) if known.groups.len() == 1));
    net.ask(others[0], "basket:1", Ask::Join { group: group("red"), meta: Metadata::new() });
    net.ask(&host, "basket:1", Ask::Join { group: group("green"), meta: Metadata::new() });
    net.far.clear();
    net.run(12_000);
    assert_eq!(groups_of(&mut net, "basket:1"), ["rooms/blue", "rooms/green", "rooms/red"]);
}

#[test]
fn no_name_is_in_more_groups_than_it_may_be_nor_says_more_of_itself() {
    let mut net = three();
    net.start("a", "basket:1");
    for room in 0..32 {
        join(&mut net, "a", "basket:1", &format!("{room}"));
    }
    let one_more = Ask::Join { group: group("one more"), meta: Metadata::new() };
    assert_eq!(net.ask("b", "basket:1", one_more.clone()), Answer::Overloaded);
    assert_eq!(net.ask("b", "basket:2", one_more), Answer::NotFound);
    assert_eq!(net.ask("b", "basket:1", Ask::Leave { group: group("7") }), Answer::Done);
    join(&mut net, "c", "basket:1", "one more");
}

#[test]
fn metadata_is_replaced_by_whoever_knows_its_version() {
    let mut net = three();
    net.start("a", "basket:1");
    let set = |text, expected| Ask::SetMeta { map: texts("city", text), expected };
    let rome = MetaRead { version: 1, map: texts("city", "Rome") };
    assert_eq!(net.ask("a", "basket:1", set("Rome", Some(0))), Answer::Meta(rome.clone()));
    assert_eq!(net.ask("b", "basket:1", set("Oslo", Some(0))), Answer::Conflict(rome));
    let oslo = MetaRead { version: 2, map: texts("city", "Oslo") };
    assert_eq!(net.ask("b", "basket:1", set("Oslo", Some(1))), Answer::Meta(oslo.clone()));
    assert_eq!(inspect(&mut net, "c", "basket:1").meta, oslo);
    let Answer::Meta(read) = net.ask("c", "basket:1", set("Bern", None)) else { panic!("unconditional") };
    assert_eq!(read.version, 3);
    assert_eq!(net.ask("c", "basket:2", set("Bern", None)), Answer::NotFound);
}

#[test]
fn the_last_state_that_a_process_published_is_known_when_it_has_crashed() {
    let mut net = three();
    net.start("a", "basket:1");
    let at = inspect(&mut net, "a", "basket:1").located;
    let host = net.name_of(at.host).unwrap();
    let name = Name::new("basket:1").unwrap();
    let publish = |text: &[u8], token| {
        let bytes = Bytes::from(text.to_vec());
        Input::Snapshot { name: name.clone(), token, bytes }
    };
    net.queue.push_back((host.clone(), publish(b"three apples", at.token)));
    net.run(10);
    let known = |net: &mut Net| inspect(net, "a", "basket:1").snapshot.map(|bytes| bytes.as_slice().to_vec());
    assert_eq!(known(&mut net).as_deref(), Some(&b"three apples"[..]));
    net.queue.push_back((host.clone(), publish(&[0; 5_000], at.token)));
    net.queue.push_back((host.clone(), publish(b"four", at.token)));
    let reason = ExitReason::Error("no room".into());
    net.queue.push_back((host, Input::Exited { name: name.clone(), token: at.token, reason }));
    net.run(10);
    assert_eq!(known(&mut net).as_deref(), Some(&b"four"[..]));
}
