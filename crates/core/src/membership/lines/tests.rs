//! Chains that do not fit one message.
#![allow(clippy::unwrap_used)]
use super::*;
use crate::base::limits::{CHAIN_VIEWS_MAX, FRAME_BYTES_MAX};
use crate::base::{Mutants, Name, Rng};
use crate::membership::Settings;
use crate::view::MemberInfo;

const MEMBERS: u64 = 200;
const NOW: Now = Now { time: Time::ZERO, wall_ms: 1_790_000_000_000 };

fn info(number: u64) -> MemberInfo {
    MemberInfo {
        name: Name::new(&format!("a node with a name of its own, {number}")).unwrap(),
        incarnation: Incarnation { started_ms: NOW.wall_ms + number, nonce: u64::MAX / 2 + number },
        address: Arc::from(format!("host-{number}.example.org:4100")),
        weight: 100,
        kinds: vec![Name::new("counter").unwrap()],
        draining: false,
        labels: Default::default(),
    }
}

/// A node that has just started, and knows this one.
fn node(me: &MemberInfo, peer: &MemberInfo) -> Membership {
    let settings = Settings {
        discovery: true,
        found_alone_after: Duration::from_secs(2),
        detection: Duration::from_secs(2),
        mutants: Mutants::default(),
    };
    let mut node = Membership::new(me.clone(), settings, Rng::new(1), NOW);
    node.me.incarnation = me.incarnation;
    node.handle_session_up(peer.clone(), NOW);
    node
}

fn views() -> Vec<Arc<View>> {
    let members: Vec<MemberInfo> = (0..MEMBERS).map(info).collect();
    let id = |counter| ViewId { counter, author: info(0).incarnation.nonce };
    let view = |counter: u64| {
        let parent = (counter > 1).then(|| id(counter - 1));
        Arc::new(View { id: id(counter), parent, members: members.clone() })
    };
    (1..=CHAIN_VIEWS_MAX as u64).map(view).collect()
}

fn chain(views: &[Arc<View>]) -> Chain {
    let mut chain = Chain::new(Arc::clone(&views[0]));
    assert!(views[1..].iter().all(|view| chain.push(Arc::clone(view))));
    chain
}

/// Lets two nodes talk until nothing is left to say; how many parts of a chain were told, each in a frame.
fn talk(one: &mut Membership, two: &mut Membership) -> usize {
    let mut parts = 0;
    loop {
        let mut said = Vec::new();
        for node in [&mut *one, &mut *two] {
            let me = node.me.incarnation;
            while let Some(output) = node.poll_output() {
                let Output::Send(_, message) = output else { continue };
                if matches!(message, Message::Chain { .. } | Message::ChainAsk(_)) {
                    said.push((me, message));
                }
            }
        }
        if said.is_empty() {
            return parts;
        }
        for (from, message) in said {
            parts += usize::from(matches!(message, Message::Chain { .. }));
            assert!(encoded_bytes(&message) < FRAME_BYTES_MAX - 1024);
            let to = if from == one.me.incarnation { &mut *two } else { &mut *one };
            to.handle_message(from, message, NOW);
        }
    }
}

fn remembered(node: &Membership) -> usize {
    let Stage::Member(line) = &node.stage else { return 0 };
    line.chain.newest_first().count()
}

#[test]
fn a_joiner_of_many_members_gets_the_whole_chain_in_parts() {
    let views = views();
    let mut member = node(&info(0), &info(1));
    member.enter(chain(&views), NOW);
    let mut joiner = node(&info(1), &info(0));
    joiner.handle_message(info(0).incarnation, Message::Install((**views.last().unwrap()).clone()), NOW);
    assert!(talk(&mut member, &mut joiner) > 1);
    assert_eq!(remembered(&joiner), CHAIN_VIEWS_MAX);
    assert_eq!(joiner.view(), member.view());
}

#[test]
fn a_member_that_was_away_gets_all_it_lacks_in_parts() {
    let views = views();
    let mut member = node(&info(0), &info(1));
    member.enter(chain(&views), NOW);
    let mut late = node(&info(1), &info(0));
    late.enter(chain(&views[..1]), NOW);
    late.handle_message(info(0).incarnation, Message::Install((**views.last().unwrap()).clone()), NOW);
    assert!(talk(&mut member, &mut late) > 1);
    assert_eq!(remembered(&late), CHAIN_VIEWS_MAX);
    assert_eq!(late.view(), member.view());
}

#[test]
fn a_peer_that_always_has_more_is_not_asked_for_ever() {
    let views = views();
    let mut late = node(&info(1), &info(0));
    late.enter(chain(&views[..2]), NOW);
    while late.poll_output().is_some() {}
    for views in [vec![(*views[1]).clone()], Vec::new()] {
        let nothing_new = Message::Chain { connected: true, views, more: true };
        late.handle_message(info(0).incarnation, nothing_new, NOW);
        assert!(late.poll_output().is_none());
    }
}

#[test]
fn so_many_peers_of_other_lines_are_remembered() {
    let views = views();
    let mut member = node(&info(0), &info(1));
    member.enter(chain(&views[..1]), NOW);
    let strangers = STRANGERS_MAX as u64 + 10;
    for number in 1_000..1_000 + strangers {
        let stranger = info(number);
        let (from, id) = (stranger.incarnation, ViewId { counter: 5, author: stranger.incarnation.nonce });
        let theirs = View { id, parent: None, members: vec![stranger.clone()] };
        member.handle_session_up(stranger, NOW);
        let line = LineInfo { view: id, members: 1, has_records: false };
        member.handle_message(from, Message::Greet(Some(line)), NOW);
        let chain = Message::Chain { connected: false, views: vec![theirs], more: false };
        member.handle_message(from, chain, NOW);
    }
    let Stage::Member(line) = &member.stage else { panic!("it has left its line") };
    assert_eq!(line.meeting.strangers(), STRANGERS_MAX);
}

fn after(millis: u64) -> Now {
    Now { time: NOW.time + Duration::from_millis(millis), wall_ms: NOW.wall_ms + millis }
}

/// A line that this peer says it is in.
fn line_of(peer: &MemberInfo, counter: u64, members: u32) -> LineInfo {
    let view = ViewId { counter, author: peer.incarnation.nonce };
    LineInfo { view, members, has_records: true }
}

/// Whom the node asks to take it in within so many milliseconds from then on.
fn asked(node: &mut Membership, millis: std::ops::Range<u64>) -> BTreeSet<Incarnation> {
    let mut asked = BTreeSet::new();
    for millis in millis.step_by(50) {
        node.handle_wake(after(millis));
        while let Some(output) = node.poll_output() {
            if let Output::Send(to, Message::Join { .. } | Message::MergeAsk { .. }) = output {
                asked.insert(to);
            }
        }
    }
    asked
}

#[test]
fn a_host_of_the_other_line_that_is_silent_is_not_asked_alone() {
    let mut member = node(&info(0), &info(1));
    let alone = View { id: line_of(&info(0), 1, 1).view, parent: None, members: vec![info(0)] };
    member.enter(Chain::new(Arc::new(alone)), NOW);
    let id = line_of(&info(1), 5, 3).view;
    let theirs = View { id, parent: None, members: (1..4).map(info).collect() };
    for number in 1..4 {
        let from = info(number).incarnation;
        member.handle_session_up(info(number), NOW);
        let greet = LineInfo { view: id, members: 3, has_records: true };
        member.handle_message(from, Message::Greet(Some(greet)), NOW);
        let chain = Message::Chain { connected: false, views: vec![theirs.clone()], more: false };
        member.handle_message(from, chain, NOW);
    }
    let hosts: BTreeSet<Incarnation> = (1..4).map(|number| info(number).incarnation).collect();
    assert_eq!(asked(&mut member, 0..2_000), hosts);
}

#[test]
fn a_seeker_asks_the_lesser_line_too_once_the_better_one_is_silent() {
    let (big, small) = (info(1), info(2));
    let mut seeker = node(&info(0), &big);
    seeker.handle_session_up(small.clone(), NOW);
    for (peer, members) in [(&big, 4), (&small, 3)] {
        let line = line_of(peer, 5, members);
        seeker.handle_message(peer.incarnation, Message::Greet(Some(line)), NOW);
    }
    assert_eq!(asked(&mut seeker, 0..1_000), BTreeSet::from([big.incarnation]));
    let both = BTreeSet::from([big.incarnation, small.incarnation]);
    assert_eq!(asked(&mut seeker, 1_000..4_000), both);
}
