//! What is published to a group: handled once by each member, and in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use whimbrel::{Cluster, ErrorCode, GroupError};

use super::member::*;
use crate::kinds::LONG;
use crate::nodes::leave_all;

async fn lobby(nodes: &[Cluster], members: usize) -> Vec<String> {
    let names: Vec<_> = (0..members).map(|at| format!("member:{at:03}")).collect();
    for (at, name) in names.iter().enumerate() {
        nodes[at % nodes.len()].start::<Member>(name, in_rooms(&["lobby"])).await.unwrap();
    }
    names
}

/// Each member has heard exactly these numbers, in order.
async fn heard(node: &Cluster, names: &[String], client: &str, last: u64) {
    for name in names {
        let process = node.process::<Member>(name).unwrap();
        let until = tokio::time::Instant::now() + LONG;
        loop {
            let heard = process.heard().deadline(LONG).await.unwrap();
            assert_eq!(heard.odd, [], "{name}: after which number came which");
            if heard.last.get(client) == Some(&last) {
                break;
            }
            assert!(
                tokio::time::Instant::now() < until,
                "{name} has not heard {last} of {client}: {heard:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_member_hears_what_is_published_on_any_node_once_and_in_order() {
    let nodes = rooms(3).await;
    let names = lobby(&nodes, 60).await;
    for node in &nodes {
        let lobby = room(node, "lobby");
        for seq in 1..=50 {
            assert_eq!(tell(&lobby, node.node_name(), seq).await, 60);
        }
        heard(node, &names, node.node_name(), 50).await;
    }
    assert_eq!(tell(&room(&nodes[0], "nobody is here"), "me", 1).await, 0);
    for node in &nodes {
        assert_eq!(node.dead_letters().total(), 0);
    }
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_member_hears_each_number_once_and_in_order_while_members_move() {
    let nodes = rooms(3).await;
    let names = lobby(&nodes, 12).await;
    let stop = Arc::new(AtomicBool::new(false));
    let publishers = nodes.iter().cloned().map(|node| {
        let stop = stop.clone();
        tokio::spawn(async move {
            let lobby = room(&node, "lobby");
            let mut seq = 0;
            while !stop.load(Ordering::Relaxed) {
                seq += 1;
                assert_eq!(tell(&lobby, node.node_name(), seq).await, 12);
                tokio::task::yield_now().await;
            }
            seq
        })
    });
    let publishers: Vec<_> = publishers.collect();
    for round in 1..=3 {
        for (at, name) in names.iter().enumerate() {
            nodes[at % 3].move_to(name, nodes[(at + round) % 3].node_name()).await.unwrap();
        }
    }
    stop.store(true, Ordering::Relaxed);
    for (node, publisher) in nodes.iter().zip(publishers) {
        let last = publisher.await.unwrap();
        assert!(last > 0);
        heard(node, &names, node.node_name(), last).await;
        assert_eq!(node.dead_letters().total(), 0);
    }
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_that_publishes_to_its_own_group_moves_and_goes_on() {
    let nodes = rooms(3).await;
    let mut names = lobby(&nodes, 6).await;
    names.push("singer".into());
    let singer = nodes[0].start::<Member>("singer", in_rooms(&["lobby"])).await.unwrap().process;
    for turn in 0..6 {
        singer.sing("lobby".into(), turn * 100, 100).deadline(LONG).await.unwrap();
        nodes[1].move_to("singer", nodes[turn as usize % 3].node_name()).await.unwrap();
    }
    heard(&nodes[2], &names, "singer", 600).await;
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_large_message_and_one_that_is_too_large() {
    let nodes = rooms(2).await;
    let names = lobby(&nodes, 20).await;
    let client = "x".repeat(200_000);
    assert_eq!(tell(&room(&nodes[0], "lobby"), &client, 1).await, 20);
    heard(&nodes[0], &names, &client, 1).await;
    let client = "x".repeat(2_000_000);
    let refused = room(&nodes[0], "lobby").publish::<Member, _>(MemberHear { client, seq: 1 }).await;
    assert!(matches!(refused, Err(GroupError::Publish(_))), "{refused:?}");
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_without_room_costs_the_others_nothing() {
    let nodes = rooms_with(1, 5).await;
    let names = lobby(&nodes, 3).await;
    let stuck = Origin { mood: Mood::IsStuck, ..in_rooms(&["lobby"]) };
    let stuck = nodes[0].start::<Member>("stuck", stuck).await.unwrap().process;
    let _asked = crate::kinds::sent(stuck.ask());
    let lobby = room(&nodes[0], "lobby");
    for seq in 1..=20 {
        let accepted = tell(&lobby, "me", seq).await;
        assert!(accepted == 3 || (accepted == 4 && seq <= 6), "{accepted} of {seq}");
        heard(&nodes[0], &names, "me", seq).await;
    }
    let letters = nodes[0].dead_letters().count(ErrorCode::Overloaded);
    assert!((14..=15).contains(&letters), "{letters}");
    drop(nodes); // one never comes to rest
}
