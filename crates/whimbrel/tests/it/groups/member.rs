//! The process that the tests put into groups: it counts what is published to it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use whimbrel::{
    Cluster, Context, ExitReason, GroupError, GroupRef, KindOptions, Process, Rebalance, StaticList, handlers,
};

use crate::kinds::LONG;

/// What it does when it is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Mood {
    #[default]
    Answers,
    IsStuck,
    Panics,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// Rooms that it joins in `init`.
    pub(crate) rooms: Vec<String>,
    pub(crate) mood: Mood,
    /// `init` fails after it has joined.
    pub(crate) fails: bool,
}

/// What it has heard. Public, as the messages are that `handlers` makes.
#[allow(unreachable_pub)]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// The last number of each client.
    pub(crate) last: BTreeMap<String, u64>,
    /// Numbers that did not follow the one before.
    pub(crate) odd: Vec<(String, u64, u64)>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Member {
    mood: Mood,
    heard: Heard,
}

pub(crate) fn room(cluster: &Cluster, name: &str) -> GroupRef {
    cluster.group("rooms", name).unwrap()
}

pub(crate) fn in_rooms(rooms: &[&str]) -> Origin {
    Origin { rooms: rooms.iter().map(|room| (*room).to_owned()).collect(), ..Origin::default() }
}

/// Publishes a number, again while the index of the room is being rebuilt: nothing was sent then.
pub(crate) async fn tell(room: &GroupRef, client: &str, seq: u64) -> usize {
    let until = tokio::time::Instant::now() + LONG;
    loop {
        match room.publish::<Member, _>(MemberHear { client: client.to_owned(), seq }).await {
            Ok(members) => return members,
            Err(GroupError::Partial { .. }) if tokio::time::Instant::now() < until => {}
            Err(error) => panic!("{error}"),
        }
    }
}

impl Process for Member {
    const KIND: &'static str = "member";
    type Args = Origin;

    async fn init(origin: Origin, cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        for room in &origin.rooms {
            cx.join("rooms", room).await.map_err(|error| ExitReason::Error(error.to_string()))?;
        }
        match origin.fails {
            false => Ok(Self { mood: origin.mood, heard: Heard::default() }),
            true => Err(ExitReason::Error("told to fail".into())),
        }
    }
}

#[handlers]
impl Member {
    #[cast]
    async fn hear(&mut self, client: String, seq: u64) {
        let last = self.heard.last.entry(client.clone()).or_default();
        if seq != *last + 1 {
            self.heard.odd.push((client, *last, seq));
        }
        *last = seq;
    }

    #[call]
    async fn heard(&self) -> Heard {
        self.heard.clone()
    }

    #[call]
    async fn ask(&mut self, cx: &mut Context<Self>) -> String {
        match self.mood {
            Mood::Answers => cx.name().unwrap().to_string(),
            Mood::IsStuck => std::future::pending().await,
            Mood::Panics => panic!("told to panic"),
        }
    }

    #[call]
    async fn rooms(&self, cx: &mut Context<Self>) -> Vec<String> {
        let memberships = cx.groups().await.unwrap();
        memberships.into_iter().map(|membership| membership.group.name.to_string()).collect()
    }

    #[call]
    async fn go(&mut self, cx: &mut Context<Self>, from: String, to: String) {
        cx.join("rooms", &to).await.unwrap();
        cx.leave("rooms", &from).await.unwrap();
    }

    /// Publishes so many numbers after this one, as itself.
    #[call]
    async fn sing(&mut self, cx: &mut Context<Self>, into: String, after: u64, count: u64) {
        let room = room(cx.cluster(), &into);
        for seq in after + 1..=after + count {
            tell(&room, "singer", seq).await;
        }
    }

    #[call]
    async fn home(&self, cx: &mut Context<Self>) -> String {
        cx.cluster().node_name().to_owned()
    }

    #[cast]
    async fn fail(&mut self) {
        panic!("told to fail");
    }
}

async fn join(node: &str, seeds: &[&Cluster], mailbox_max: usize) -> Cluster {
    Cluster::builder("test")
        .node_name(node)
        .listen("127.0.0.1:0")
        .discovery(StaticList::new(seeds.iter().map(|seed| seed.address().to_owned())))
        .rebalance(Rebalance::Off)
        .kind::<Member>(KindOptions::default().mailbox_max(mailbox_max))
        .join()
        .await
        .unwrap()
}

/// So many nodes, whose processes move only when they are told to.
pub(crate) async fn rooms_with(count: usize, mailbox_max: usize) -> Vec<Cluster> {
    let mut nodes: Vec<Cluster> = Vec::new();
    for at in 0..count {
        let seeds: Vec<&Cluster> = nodes.iter().take(1).collect();
        nodes.push(join(&format!("node-{at}"), &seeds, mailbox_max).await);
    }
    for node in &nodes {
        node.wait_for_members(count, LONG).await.unwrap();
    }
    nodes
}

pub(crate) async fn rooms(count: usize) -> Vec<Cluster> {
    rooms_with(count, 10_000).await
}
