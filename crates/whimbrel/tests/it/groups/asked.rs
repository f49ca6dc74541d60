//! Calls to all members of a group, and to any of them.

use std::collections::BTreeMap;
use std::time::Duration;

use whimbrel::{CallError, GroupError, Placement};

use super::member::*;
use crate::kinds::LONG;

fn moody(mood: Mood) -> Origin {
    Origin { mood, ..in_rooms(&["lobby"]) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_stuck_and_one_dead_member_spoil_no_call_to_all() {
    let nodes = rooms(3).await;
    for (at, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        nodes[at % 3].start::<Member>(name, moody(Mood::Answers)).await.unwrap();
    }
    nodes[1].start::<Member>("panics", moody(Mood::Panics)).await.unwrap();
    nodes[2].start::<Member>("stuck", moody(Mood::IsStuck)).await.unwrap();
    for node in &nodes {
        let all =
            room(node, "lobby").call_all::<Member, _>(MemberAsk {}, Duration::from_secs(2)).await.unwrap();
        let replies: Vec<_> =
            all.replies.iter().map(|(name, reply)| (name.as_str(), reply.as_str())).collect();
        assert_eq!(replies, [("a", "a"), ("b", "b"), ("c", "c"), ("d", "d")]);
        let [(panics, crashed), (stuck, late)] = &all.failures[..] else { panic!("{:?}", all.failures) };
        assert_eq!((panics.as_str(), stuck.as_str()), ("panics", "stuck"));
        // Behind an earlier one it may not have been looked at.
        assert!(matches!(crashed, CallError::Crashed), "{crashed}");
        assert!(matches!(late, CallError::Deadline { .. }), "{late}");
    }
    let nobody = room(&nodes[0], "nobody").call_all::<Member, _>(MemberAsk {}, LONG).await.unwrap();
    assert!(nobody.replies.is_empty() && nobody.failures.is_empty());
    drop(nodes); // one never comes to rest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_call_to_any_goes_to_one_after_the_other_and_past_those_that_say_no() {
    let nodes = rooms_with(2, 2).await;
    let lobby = room(&nodes[0], "lobby");
    let nobody = lobby.call_any::<Member, _>(MemberAsk {}).await;
    assert_eq!(nobody, Err(GroupError::NoMember));
    for (at, name) in ["a", "b", "c"].into_iter().enumerate() {
        nodes[at % 2].start::<Member>(name, moody(Mood::Answers)).await.unwrap();
    }
    let mut asked = BTreeMap::<String, u64>::new();
    for _ in 0..9 {
        *asked.entry(lobby.clone().call_any::<Member, _>(MemberAsk {}).await.unwrap()).or_default() += 1;
    }
    assert!(asked.len() == 3 && asked.values().all(|times| *times == 3), "{asked:?}");

    // Its mailbox takes two: when two wait beside the question, that is in hand.
    let full = nodes[0].start::<Member>("full", moody(Mood::IsStuck)).placement(Placement::Local);
    let full = full.await.unwrap().process;
    let _in_hand = crate::kinds::sent(full.ask().deadline(LONG));
    let mut waiting = 0;
    while waiting < 2 {
        waiting += usize::from(full.hear("me".into(), 1).is_ok());
        tokio::task::yield_now().await;
    }
    for _ in 0..8 {
        let answered = lobby.call_any::<Member, _>(MemberAsk {}).await.unwrap();
        assert_ne!(answered, "full");
    }
    nodes[1].start::<Member>("panics", moody(Mood::Panics)).await.unwrap();
    let mut outcomes = Vec::new();
    for _ in 0..5 {
        outcomes.push(lobby.call_any::<Member, _>(MemberAsk {}).await);
    }
    let crashed = outcomes.iter().filter(|outcome| **outcome == Err(GroupError::Call(CallError::Crashed)));
    // Its own turn, and that of the full one before it.
    assert_eq!(crashed.count(), 2, "{outcomes:?}");
    drop(nodes); // one never comes to rest
}
