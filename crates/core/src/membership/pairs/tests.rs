#![allow(clippy::unwrap_used)]

use super::*;
use crate::base::Name;
use crate::view::{MemberInfo, ViewId};

fn life(nonce: u64) -> Incarnation {
    Incarnation { started_ms: 1, nonce }
}

/// Members 1 to `count`, oldest first.
fn view(count: u64) -> View {
    let member = |nonce| MemberInfo {
        name: Name::new(&format!("n{nonce}")).unwrap(),
        incarnation: life(nonce),
        address: "".into(),
        weight: 100,
        kinds: Vec::new(),
        draining: false,
    };
    View { id: ViewId { counter: 1, author: 1 }, parent: None, members: (1..=count).map(member).collect() }
}

fn out(count: u64, pairs: &[(u64, u64)]) -> Vec<u64> {
    let pairs = pairs.iter().map(|(a, b)| (life(*a), life(*b))).collect();
    fewest(&view(count), pairs).into_iter().map(|member| member.nonce).collect()
}

#[test]
fn of_one_pair_the_younger_goes_whoever_speaks() {
    assert_eq!(out(3, &[(1, 3)]), [3]);
    assert_eq!(out(3, &[(3, 1)]), [3]);
    assert_eq!(out(3, &[(3, 1), (1, 3)]), [3]);
}

#[test]
fn a_member_that_hears_nobody_goes_itself() {
    assert_eq!(out(5, &[(2, 3), (2, 4), (2, 5)]), [2], "those it names are younger, and stay");
    assert_eq!(out(5, &[(1, 3), (4, 1), (1, 5)]), [1]);
}

#[test]
fn no_pair_is_left_and_strangers_make_none() {
    assert_eq!(out(4, &[(1, 2), (3, 4)]), [2, 4]);
    assert_eq!(out(4, &[(1, 9), (9, 2), (3, 3)]), [0u64; 0]);
    assert_eq!(out(2, &[]), [0u64; 0]);
}
