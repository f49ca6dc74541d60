//! Nodes that drain: what they say, who believes it, what moves, and when it is over.

use whimbrel_core::membership;
use whimbrel_core::view::{View, ViewId};

use super::*;

const WITHIN: Duration = Duration::from_secs(30);

impl Net {
    fn drain(&mut self, node: &str, within: Duration) {
        self.queue.push_back((node.into(), Input::Drain { within }));
        self.settle();
    }

    fn drained(&self, node: &str) -> Option<&Drained> {
        self.drained.iter().rev().find(|(name, _)| name == node).map(|(_, drained)| drained)
    }

    /// Lets time pass until the drain is over, and tells what came of it.
    fn after_drain(&mut self, node: &str) -> Drained {
        for _ in 0..40_000 {
            if let Some(drained) = self.drained(node).cloned() {
                return drained;
            }
            self.run(1);
        }
        panic!("{node} drains for ever")
    }

    fn hosted(&self, node: &str) -> usize {
        self.snapshot(node).hosted.len()
    }

    fn draining(&self, at: &str) -> Vec<String> {
        let view = self.snapshot(at).view.unwrap();
        view.members.iter().filter(|m| m.draining).map(|m| m.name.as_str().to_owned()).collect()
    }

    fn start_many(&mut self, names: usize) {
        for number in 0..names {
            let started = self.start("a", &format!("n{number}"));
            assert!(matches!(started, Answer::Started { .. }), "{started:?}");
        }
    }

    fn leave(&mut self, node: &str) {
        self.queue.push_back((node.into(), Input::Leave));
        self.settle();
        self.kill(node);
        self.run(1_000);
    }
}

#[test]
fn all_processes_of_a_node_that_drains_go_elsewhere_and_its_leaving_moves_no_slot() {
    for node in ["a", "b", "c"] {
        let mut net = three();
        net.start_many(100);
        let here = net.hosted(node);
        assert!(here > 10, "{here}");
        let launched = net.launched.len();
        net.drain(node, WITHIN);
        let drained = net.after_drain(node);
        assert_eq!((drained.moved, drained.stayed_count, drained.stayed.len()), (here, 0, 0));
        assert_eq!(net.hosted(node), 0);
        assert!(net.snapshot(node).slots_serving == 0, "{node} owns nothing any more");
        assert_eq!(net.launched.len(), launched, "they moved: nothing began anew");
        let others: Vec<&str> = ["a", "b", "c"].into_iter().filter(|other| *other != node).collect();
        assert_eq!(net.draining(others[0]), [node]);
        let owners: Vec<_> = net.nodes[others[0]].owners().collect();
        net.leave(node);
        assert_eq!(net.nodes[others[0]].owners().collect::<Vec<_>>(), owners, "no slot moves");
        assert_eq!(net.snapshot(others[0]).view.unwrap().members.len(), 2);
        assert_eq!(net.hosted(others[0]) + net.hosted(others[1]), 100);
        assert_eq!(net.launched.len(), launched);
    }
}

#[test]
fn a_node_that_drains_is_given_nothing_and_comes_back_under_its_next_life() {
    let mut net = three();
    net.drain("b", WITHIN);
    net.after_drain("b");
    net.start_many(60);
    assert_eq!(net.hosted("b"), 0);
    net.leave("b");
    net.boot("b", &["a", "c"]);
    net.run(3_000);
    assert_eq!(net.draining("a"), [""; 0]);
    assert!(net.hosted("b") > 5, "its names come back");
}

#[test]
fn two_nodes_drain_at_once_and_the_third_has_all() {
    let mut net = three();
    net.start_many(90);
    net.drain("a", WITHIN);
    net.drain("c", WITHIN);
    assert_eq!(net.after_drain("a").stayed_count, 0);
    assert_eq!(net.after_drain("c").stayed_count, 0);
    assert_eq!(net.hosted("b"), 90);
}

#[test]
fn what_has_nowhere_to_go_does_not_hold_a_drain_up() {
    let mut net = three();
    net.start_many(30);
    for node in ["a", "b"] {
        net.drain(node, WITHIN);
        net.after_drain(node);
    }
    let began = net.now.time;
    net.drain("c", WITHIN);
    let drained = net.after_drain("c");
    assert!(net.now.time.since(began) < Duration::from_secs(2));
    assert_eq!((drained.stayed_count, drained.stayed.len()), (30, 30));
    assert!(drained.stayed.iter().all(|stayed| stayed.why == Hindrance::NoHost));
    // It goes on serving.
    assert!(matches!(net.ask("b", "n7", Ask::Locate), Answer::Located(_)));
    assert_eq!(net.ask("a", "n7", Ask::Stop), Answer::Done);
}

#[test]
fn a_pinned_process_stays_and_is_named() {
    let mut net = three();
    let pin = |node| Placement::Pinned(Name::new(node).unwrap());
    let (kind, policy) = (Name::new("counter").unwrap(), RestartPolicy::Permanent);
    let start = Ask::Start { kind, args: Bytes::default(), policy, placement: pin("b") };
    assert!(matches!(net.ask("a", "pinned", start), Answer::Started { .. }));
    net.drain("b", WITHIN);
    let drained = net.after_drain("b");
    let stayed: Vec<_> = drained.stayed.iter().map(|stayed| (stayed.name.as_str(), stayed.why)).collect();
    assert_eq!(stayed, [("pinned", Hindrance::NoHost)]);
}

#[test]
fn a_process_that_refuses_stays_and_one_that_hangs_is_waited_for_until_the_deadline() {
    let mut net = three();
    net.start_many(60);
    let on_b: Vec<Name> = net.snapshot("b").hosted.into_iter().map(|(name, ..)| name).collect();
    net.refuse_capture.insert(on_b[0].clone(), Some(Hindrance::Stays));
    net.refuse_capture.insert(on_b[1].clone(), None);
    let began = net.now.time;
    net.drain("b", Duration::from_secs(5));
    let drained = net.after_drain("b");
    let took = net.now.time.since(began);
    assert!((Duration::from_secs(5)..Duration::from_secs(6)).contains(&took), "{took:?}");
    assert_eq!(drained.moved, on_b.len() - 2);
    let why: BTreeMap<Name, Hindrance> = drained.stayed.into_iter().map(|s| (s.name, s.why)).collect();
    assert_eq!(
        why,
        BTreeMap::from([(on_b[0].clone(), Hindrance::Stays), (on_b[1].clone(), Hindrance::Busy)])
    );
}

#[test]
fn the_last_word_of_a_drain_that_is_cut_short_comes_before_the_goodbye() {
    let mut net = three();
    net.start_many(60);
    let hangs = net.snapshot("b").hosted[0].0.clone();
    net.refuse_capture.insert(hangs.clone(), None);
    net.drain("b", WITHIN);
    net.run(2_000);
    assert_eq!(net.drained("b"), None);
    net.queue.push_back(("b".into(), Input::Leave));
    net.settle();
    let stayed = &net.drained("b").unwrap().stayed;
    assert_eq!(stayed.iter().map(|stayed| &stayed.name).collect::<Vec<_>>(), [&hangs]);
    net.kill("b");
    net.run(1_000);
    assert!(matches!(net.ask("a", hangs.as_str(), Ask::Locate), Answer::Located(_)), "it started elsewhere");
}

#[test]
fn a_full_node_sends_what_comes_to_the_next_one() {
    let mut net = Net { capacity: Some(20), ..Net::new() };
    for name in ["a", "b", "c"] {
        net.boot(name, &["a", "b", "c"]);
    }
    net.run(3_000);
    net.start_many(40);
    net.drain("b", WITHIN);
    let drained = net.after_drain("b");
    assert_eq!((drained.stayed_count, net.hosted("a"), net.hosted("c")), (0, 20, 20));
}

#[test]
fn a_node_that_is_left_out_while_it_drains_comes_back_only_with_what_it_has() {
    for names in [0, 40] {
        let mut net = three();
        net.start_many(names);
        for (name, ..) in net.snapshot("b").hosted {
            net.refuse_capture.insert(name, None);
        }
        net.drain("b", Duration::from_secs(60));
        net.run(1_000);
        net.cut(&["b"]);
        net.run(5_000);
        net.cut(&[]);
        net.refuse_capture.clear();
        net.run(40_000);
        let others = net.snapshot("a").view.unwrap();
        // Alone in its line it had nowhere to send them, so the drain was over; what can move moves all the same.
        net.after_drain("b");
        assert_eq!(net.hosted("b"), 0, "{names}");
        if names == 0 {
            assert_eq!(others.members.len(), 2, "nothing calls it in");
        } else {
            assert_eq!(net.draining("a"), ["b"], "it came in to bring what it had");
        }
        assert_eq!(net.hosted("a") + net.hosted("c"), names);
    }
}

#[test]
fn nobody_else_makes_a_node_drain_and_no_view_makes_it_stop() {
    let mut net = three();
    let members: Vec<Incarnation> = net.snapshot("a").view.unwrap().incarnations().collect();
    let life = |net: &Net, node: &str| net.nodes[node].incarnation();
    // A visitor is not heard.
    let mut visitor = net.nodes["c"].me().clone();
    visitor.name = Name::new("x").unwrap();
    visitor.incarnation = Incarnation { started_ms: 5, nonce: 99 };
    let from = visitor.incarnation;
    net.queue.push_back(("a".into(), Input::SessionUp(Box::new(visitor))));
    let say = |net: &mut Net, from, message| {
        let message = Control { view: None, body: Body::Membership(message) };
        net.queue.push_back(("a".into(), Input::Message { from, message }));
        net.run(1_000);
    };
    say(&mut net, from, membership::Message::Drain);
    assert_eq!(net.draining("a"), [""; 0]);
    // A member speaks for itself alone, and twice is once.
    let c = life(&net, "c");
    say(&mut net, c, membership::Message::Drain);
    say(&mut net, c, membership::Message::Drain);
    assert_eq!(net.draining("b"), ["c"]);
    let current = net.snapshot("a").view.unwrap();
    assert_eq!(current.incarnations().collect::<Vec<_>>(), members);
    // A view in which it does not drain any more follows on none in which it does.
    let mut next = View {
        id: ViewId { counter: current.id.counter + 1, author: life(&net, "b").nonce },
        parent: Some(current.id),
        members: current.members.clone(),
    };
    assert!(next.may_follow(&current));
    next.members.iter_mut().for_each(|member| member.draining = false);
    assert!(!next.may_follow(&current));
    let b = life(&net, "b");
    say(&mut net, b, membership::Message::Install(next));
    assert_eq!(net.snapshot("a").view.unwrap(), current);
}
