//! Groups: joined and read from anywhere, over restarts, moves and the loss of nodes.

mod asked;
mod member;
mod metadata;
mod published;

use std::collections::BTreeSet;

use whimbrel::limits::{GROUPS_PER_NAME_MAX, MEMBERSHIP_BYTES_MAX};
use whimbrel::{Cluster, GroupError, GroupMember, GroupRef, Metadata, RequestError, StartError};

use crate::kinds::LONG;
use crate::nodes::leave_all;
use member::*;

/// The members, also if the index is being rebuilt meanwhile.
async fn members(room: &GroupRef) -> Vec<GroupMember> {
    let until = tokio::time::Instant::now() + LONG;
    loop {
        match room.members().await {
            Ok(members) => return members,
            Err(GroupError::Partial { .. }) if tokio::time::Instant::now() < until => {}
            Err(error) => panic!("{error}"),
        }
    }
}

async fn names(room: &GroupRef) -> Vec<String> {
    members(room).await.into_iter().map(|member| member.name.to_string()).collect()
}

/// Waits until the group has exactly these members.
async fn becomes(room: &GroupRef, expected: &[&str]) {
    let until = tokio::time::Instant::now() + LONG;
    loop {
        let names = names(room).await;
        if names == expected {
            return;
        }
        assert!(tokio::time::Instant::now() < until, "{names:?}");
    }
}

async fn start(node: &Cluster, name: &str, origin: Origin) -> whimbrel::ProcessRef<Member> {
    node.start::<Member>(name, origin).await.unwrap().process
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_join_on_any_node_is_read_on_every_node_at_once() {
    let nodes = rooms(3).await;
    for (at, node) in nodes.iter().enumerate() {
        let name = format!("member:{at}");
        let process = start(&nodes[(at + 1) % 3], &name, Origin::default()).await;
        let seat = Metadata::new().with("seat", &at.to_string()).unwrap();
        room(node, "lobby").join_with(&node.process::<Member>(&name).unwrap(), seat).await.unwrap();
        room(node, &name).join(&process).await.unwrap();
        for reader in &nodes {
            let lobby = room(reader, "lobby");
            let read = lobby.members().await.unwrap();
            let seats: Vec<_> = read.iter().map(|member| member.meta.get("seat").unwrap()).collect();
            assert_eq!(seats, ["0", "1", "2"][..=at]);
            assert!(read.iter().all(|member| member.kind.as_str() == "member"));
            assert_eq!((lobby.count().await, lobby.contains(&name).await), (Ok(at + 1), Ok(true)));
            // Read again, from what is known.
            assert_eq!(lobby.members().await.unwrap(), read);
        }
    }
    let groups = nodes[2].groups("rooms").await.unwrap();
    let groups: Vec<_> = groups.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    assert_eq!(groups, [("lobby", 3), ("member:0", 1), ("member:1", 1), ("member:2", 1)]);
    assert_eq!(nodes[0].groups("other").await, Ok(vec![]));
    let mut here = 0;
    for node in &nodes {
        for member in room(node, "lobby").local_members().await.unwrap() {
            let home = node.process::<Member>(member.name.as_str()).unwrap().home().await.unwrap();
            assert_eq!(home, node.node_name());
            here += 1;
        }
    }
    assert_eq!(here, 3);

    let gone = nodes[0].process::<Member>("member:1").unwrap();
    room(&nodes[2], "lobby").leave(&gone).await.unwrap();
    room(&nodes[2], "lobby").leave(&gone).await.unwrap();
    for reader in &nodes {
        assert_eq!(names(&room(reader, "lobby")).await, ["member:0", "member:2"]);
    }
    nodes[1].stop("member:2").await.unwrap();
    becomes(&room(&nodes[0], "lobby"), &["member:0"]).await;
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_can_not_join_is_told_why() {
    let nodes = rooms(1).await;
    let lobby = room(&nodes[0], "lobby");
    let nobody = nodes[0].process::<Member>("nobody").unwrap();
    assert_eq!(lobby.join(&nobody).await, Err(RequestError::NotFound.into()));
    let member = start(&nodes[0], "member", Origin::default()).await;
    let large = Metadata::new().with("text", &"x".repeat(MEMBERSHIP_BYTES_MAX)).unwrap();
    let refused = lobby.join_with(&member, large).await.unwrap_err();
    assert!(matches!(refused, GroupError::BadMetadata(_)) && !refused.is_passing(), "{refused}");
    for at in 0..GROUPS_PER_NAME_MAX {
        room(&nodes[0], &format!("room:{at}")).join(&member).await.unwrap();
    }
    assert_eq!(lobby.join(&member).await, Err(RequestError::Overloaded.into()));
    assert_eq!(room(&nodes[0], "room:0").join(&member).await, Ok(()), "it is in it");
    assert!(nodes[0].group("", "room").is_err() && nodes[0].group("rooms", "").is_err());
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_process_joins_in_its_init_and_leaves_by_itself() {
    let nodes = rooms(2).await;
    for at in 0..10 {
        let name = format!("member:{at}");
        let process = start(&nodes[at % 2], &name, in_rooms(&["lobby", "hall"])).await;
        let room_of = room(&nodes[1], &name);
        assert_eq!(names(&room(&nodes[(at + 1) % 2], "lobby")).await.len(), at + 1);
        assert_eq!(process.rooms().await.unwrap(), ["hall", "lobby"]);
        process.go("lobby".into(), name.clone()).await.unwrap();
        process.go("hall".into(), "lobby".into()).await.unwrap();
        assert_eq!(names(&room_of).await, [name]);
    }
    assert_eq!(room(&nodes[0], "hall").count().await, Ok(0));
    let failed = nodes[0].start::<Member>("failed", Origin { fails: true, ..in_rooms(&["hall"]) }).await;
    assert!(matches!(failed, Err(StartError::InitFailed { .. })), "{failed:?}");
    becomes(&room(&nodes[1], "hall"), &[]).await;
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_process_without_a_name_joins_and_leaves_by_ending() {
    let nodes = rooms(2).await;
    let spawned = nodes[0].spawn::<Member>(in_rooms(&["lobby"])).await.unwrap();
    room(&nodes[0], "hall").join(&spawned).await.unwrap();
    let read = names(&room(&nodes[1], "lobby")).await;
    assert!(read.len() == 1 && read[0].starts_with('~'), "{read:?}");
    assert_eq!(names(&room(&nodes[1], "hall")).await, read, "under one name");
    assert_eq!(spawned.rooms().await.unwrap(), ["hall", "lobby"]);
    assert_eq!(tell(&room(&nodes[1], "hall"), "client", 1).await, 1);
    let by_name = nodes[1].process::<Member>(&read[0]).unwrap();
    assert_eq!(by_name.heard().await.unwrap().last["client"], 1);
    room(&nodes[0], "hall").leave(&spawned).await.unwrap();
    assert_eq!(room(&nodes[1], "hall").count().await, Ok(0));
    spawned.fail().unwrap();
    becomes(&room(&nodes[1], "lobby"), &[]).await;
    assert_eq!(room(&nodes[0], "hall").join(&spawned).await, Err(GroupError::NotLocal));

    let failed = nodes[0].spawn::<Member>(Origin { fails: true, ..in_rooms(&["hall"]) }).await;
    assert!(matches!(failed, Err(StartError::InitFailed { .. })), "{failed:?}");
    becomes(&room(&nodes[1], "hall"), &[]).await;
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn membership_survives_restarts_moves_and_the_loss_of_a_node() {
    let mut nodes = rooms(3).await;
    let mut expected = BTreeSet::new();
    for at in 0..12 {
        let name = format!("member:{at:02}");
        let process = start(&nodes[at % 3], &name, Origin::default()).await;
        room(&nodes[at % 3], "lobby").join(&process).await.unwrap();
        expected.insert(name);
    }
    let expected: Vec<_> = expected.iter().map(String::as_str).collect();
    for (at, name) in expected.iter().enumerate() {
        let process = nodes[0].process::<Member>(name).unwrap();
        process.fail().unwrap();
        assert_eq!(process.heard().await.unwrap(), Heard::default(), "another life");
        nodes[at % 3].move_to(name, nodes[(at + 1) % 3].node_name()).await.unwrap();
        for node in &nodes {
            assert_eq!(names(&room(node, "lobby")).await, expected, "after {name}");
        }
    }
    drop(nodes.remove(0)); // without `leave`: to the others this is a crash
    for node in &nodes {
        node.wait_for_members_exactly(2).await;
        becomes(&room(node, "lobby"), &expected).await;
        for name in &expected {
            let process = node.process::<Member>(name).unwrap();
            assert_eq!(process.rooms().await.unwrap(), ["lobby"], "{name}");
        }
    }
    leave_all(nodes).await;
}

/// What the tests wait for beside.
trait Wait {
    async fn wait_for_members_exactly(&self, members: usize);
}

impl Wait for Cluster {
    async fn wait_for_members_exactly(&self, members: usize) {
        let mut events = self.events();
        while self.view().is_none_or(|view| view.members.len() != members) {
            tokio::time::timeout(LONG, events.next()).await.unwrap();
        }
    }
}
