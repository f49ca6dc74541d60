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
        labels: Default::default(),
    };
    View { id: ViewId { counter: 1, author: 1 }, parent: None, members: (1..=count).map(member).collect() }
}

const LONG: Duration = Duration::from_secs(6);

/// Who goes of so many members: pairs, and for how many seconds each was silent.
fn out(count: u64, pairs: &[(u64, u64, u64)]) -> Vec<u64> {
    let cut = |(a, b, s): &(u64, u64, u64)| ((life(*a), life(*b)), Duration::from_secs(*s));
    let cuts = pairs.iter().map(cut).collect();
    fewest(&view(count), &cuts, LONG).into_iter().map(|member| member.nonce).collect()
}

#[test]
fn of_one_pair_the_younger_goes_and_not_before_its_time() {
    assert_eq!(out(3, &[(1, 3, 6)]), [3]);
    assert_eq!(out(3, &[(2, 3, 9)]), [3]);
    assert_eq!(out(3, &[(1, 3, 5)]), [0u64; 0]);
}

#[test]
fn a_member_that_hears_nobody_goes_itself() {
    assert_eq!(out(5, &[(2, 3, 6), (2, 4, 6), (2, 5, 6)]), [2], "those it names are younger, and stay");
    assert_eq!(out(5, &[(1, 3, 6), (1, 4, 5), (1, 5, 3)]), [1], "whichever of its links was missed first");
}

#[test]
fn no_long_pair_is_left_and_strangers_make_none() {
    assert_eq!(out(4, &[(1, 2, 6), (3, 4, 7)]), [2, 4]);
    assert_eq!(out(4, &[(1, 2, 6), (3, 4, 3)]), [2]);
    assert_eq!(out(4, &[(1, 9, 9), (2, 9, 9), (3, 3, 9)]), [0u64; 0]);
    assert_eq!(out(2, &[]), [0u64; 0]);
}
