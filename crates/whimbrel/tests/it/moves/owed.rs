//! Answers that are owed when a process moves.

use std::pin::Pin;

use serde::{Deserialize, Serialize};
use whimbrel::{
    Call, CallError, Cluster, Context, Event, ExitReason, Handoff, Hindrance, KindOptions, Placement,
    Process, Rebalance, Reply, State, StaticList, handlers,
};

use super::hindrance;
use crate::kinds::*;
use crate::nodes::leave_all;

/// What it does on a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Way {
    Moves,
    /// It can not be made there.
    Fails,
    /// It leaves out whom it owes.
    Forgets,
}

/// Answers when it is told to.
#[derive(Serialize, Deserialize)]
pub(crate) struct Clerk {
    way: Way,
    owed: Vec<Reply<u64>>,
}

impl Process for Clerk {
    const KIND: &'static str = "clerk";
    type Args = Way;

    async fn init(way: Way, _cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        Ok(Self { way, owed: Vec::new() })
    }

    async fn handoff(&mut self, _cx: &mut Context<Self>) -> Handoff {
        match self.way {
            Way::Forgets => Handoff::Resume(State::of(&Self { way: self.way, owed: Vec::new() })),
            Way::Moves | Way::Fails => Handoff::Auto,
        }
    }

    async fn resume(state: State, _cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        let clerk: Self = state.into_process()?;
        match clerk.way {
            // What it read of callers goes with it, and tells them nothing.
            Way::Fails => Err(ExitReason::Error("told to fail".into())),
            Way::Moves | Way::Forgets => Ok(clerk),
        }
    }

    async fn terminate(&mut self, reason: &ExitReason, _cx: &mut Context<Self>) {
        if *reason == ExitReason::Moved {
            // They are answered elsewhere: nobody hears this.
            self.owed.drain(..).for_each(|reply| reply.send(666));
        }
    }
}

#[handlers]
impl Clerk {
    #[call]
    async fn ask(&mut self, cx: &mut Context<Self>) -> u64 {
        self.owed.push(cx.reply_later::<ClerkAsk>());
        0
    }

    #[call]
    async fn owes(&self) -> usize {
        self.owed.iter().filter(|reply| reply.is_wanted()).count()
    }

    /// Answers all but the last one, which it drops.
    #[call]
    async fn answer(&mut self, cx: &mut Context<Self>) -> String {
        let dropped = self.owed.pop();
        for (number, reply) in (1..).zip(self.owed.drain(..)) {
            reply.send(number);
        }
        drop(dropped);
        cx.cluster().node_name().to_owned()
    }
}

async fn clerks(count: usize) -> Vec<Cluster> {
    let mut nodes: Vec<Cluster> = Vec::new();
    for at in 0..count {
        let builder = Cluster::builder("test")
            .node_name(&format!("node-{at}"))
            .listen("127.0.0.1:0")
            .discovery(StaticList::new(nodes.first().map(|seed| seed.address().to_owned())))
            .kind::<Clerk>(KindOptions::default())
            .rebalance(Rebalance::Off);
        nodes.push(builder.join().await.unwrap());
    }
    for node in &nodes {
        node.wait_for_members(count, LONG).await.unwrap();
    }
    nodes
}

/// Asks from each node, and waits until all of it is owed.
async fn ask_all(nodes: &[Cluster], name: &str) -> Vec<Pin<Box<Call<ClerkAsk>>>> {
    let mut calls = Vec::new();
    for node in nodes {
        let clerk = node.process::<Clerk>(name).unwrap();
        calls.push(sent(clerk.ask().deadline(LONG)));
        while clerk.owes().await.unwrap() < calls.len() {}
    }
    calls
}

/// Each is answered, but for the last one.
async fn all_are_answered(calls: Vec<Pin<Box<Call<ClerkAsk>>>>) {
    let last = calls.len();
    for (number, call) in (1..).zip(calls) {
        match number == last {
            true => assert_eq!(call.await, Err(CallError::Crashed), "dropped without an answer"),
            false => assert_eq!(call.await, Ok(number as u64)),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn answers_that_are_owed_move_with_the_state() {
    let nodes = clerks(3).await;
    let clerk = nodes[0].start::<Clerk>("a", Way::Moves).placement(Placement::Local).await.unwrap().process;
    let calls = ask_all(&nodes, "a").await;
    for to in ["node-1", "node-2", "node-0", "node-1"] {
        nodes[0].move_to("a", to).await.unwrap();
        assert_eq!(clerk.owes().await, Ok(3));
    }
    assert_eq!(clerk.answer().await.as_deref(), Ok("node-1"));
    all_are_answered(calls).await;
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn answers_that_are_owed_outlive_the_node_that_took_the_calls() {
    let mut nodes = clerks(3).await;
    nodes[2].start::<Clerk>("a", Way::Moves).placement(Placement::Local).await.unwrap();
    let calls = ask_all(&nodes[..2], "a").await;
    nodes[0].move_to("a", "node-1").await.unwrap();
    let clerk = nodes[0].process::<Clerk>("a").unwrap();
    assert_eq!(clerk.owes().await, Ok(2));
    let mut events: Vec<_> = nodes[..2].iter().map(Cluster::events).collect();
    drop(nodes.pop());
    // Until both have seen that it is gone.
    for events in &mut events {
        while !matches!(events.next().await, Some(Event::MemberDown(..))) {}
    }
    assert_eq!(clerk.answer().await.as_deref(), Ok("node-1"));
    all_are_answered(calls).await;
    leave_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn answers_that_are_owed_are_given_at_the_source_when_the_move_is_off() {
    let nodes = clerks(2).await;
    for (way, why) in [(Way::Fails, Hindrance::Unreadable), (Way::Forgets, Hindrance::Stays)] {
        let name = format!("{way:?}");
        let clerk = nodes[0].start::<Clerk>(&name, way).placement(Placement::Local).await.unwrap().process;
        let calls = ask_all(&nodes, &name).await;
        assert_eq!(hindrance(&nodes[1], &name, "node-1").await, why);
        assert_eq!(clerk.answer().await.as_deref(), Ok("node-0"));
        all_are_answered(calls).await;
    }
    // It owes nothing any more, and may go.
    nodes[1].move_to("Forgets", "node-1").await.unwrap();
    leave_all(nodes).await;
}
