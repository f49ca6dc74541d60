//! Whole nodes with instant links: the shortest run of birth, start, crash and take-over.
//!
//! Delays, cuts and races are the simulator's; here a failure points at the plain logic.

#![allow(clippy::unwrap_used)]

#[path = "nodes/drain.rs"]
mod drain;
#[path = "nodes/groups.rs"]
mod groups;
#[path = "nodes/hostile.rs"]
mod hostile;
#[path = "nodes/mutated.rs"]
mod mutated;
#[path = "nodes/placed.rs"]
mod placed;
#[path = "nodes/room.rs"]
mod room;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use whimbrel_core::base::{Bytes, ExitReason, Hindrance, Incarnation, Name, Now, Time};
use whimbrel_core::directory::{Answer, Ask, Filter, Launch, Message, Placement, RecordState, RestartPolicy};
use whimbrel_core::groups::{GroupReading, ScopeReading};
use whimbrel_core::node::{Config, Drained, Effect, Event, Input, LinkLoss, Node, Snapshot};
use whimbrel_core::wire::{Body, Control};

struct Net {
    now: Now,
    nodes: BTreeMap<String, Node>,
    sessions: Vec<(Incarnation, Incarnation)>,
    queue: VecDeque<(String, Input)>,
    answers: Vec<(String, u64, Answer)>,
    listed: Vec<(usize, bool)>,
    /// What questions about groups found.
    readings: BTreeMap<u64, GroupReading>,
    scopes: Vec<ScopeReading>,
    launched: Vec<(String, Name)>,
    numbers: u64,
    /// Nodes on the far side of a cut.
    far: Vec<String>,
    /// Rules that peers broke, as nodes told.
    refused: Vec<&'static str>,
    /// Every control message that was sent, as bytes.
    said: Vec<Vec<u8>>,
    /// How many processes the nodes that boot may host.
    capacity: Option<usize>,
    /// Whether nodes that boot have a label.
    zones: bool,
    /// What came of drains.
    drained: Vec<(String, Drained)>,
    /// Processes that do not come to rest when they are to move: why, or for ever.
    refuse_capture: BTreeMap<Name, Option<Hindrance>>,
}

impl Net {
    fn new() -> Self {
        Self {
            now: Now { time: Time::from_micros(1), wall_ms: 1_790_000_000_000 },
            nodes: BTreeMap::new(),
            sessions: Vec::new(),
            queue: VecDeque::new(),
            answers: Vec::new(),
            listed: Vec::new(),
            readings: BTreeMap::new(),
            scopes: Vec::new(),
            launched: Vec::new(),
            numbers: 0,
            far: Vec::new(),
            refused: Vec::new(),
            said: Vec::new(),
            capacity: None,
            zones: false,
            drained: Vec::new(),
            refuse_capture: BTreeMap::new(),
        }
    }

    fn boot(&mut self, name: &str, seeds: &[&str]) {
        self.boot_with(name, Some(Input::Discovered(addresses(seeds))));
    }

    /// Without discovery when nothing is discovered.
    fn boot_with(&mut self, name: &str, discovered: Option<Input>) {
        let mut config = Config::new(Name::new(name).unwrap(), Arc::from(name), self.numbers + 77);
        self.numbers += 1;
        config.slots = 64;
        config.discovery = discovered.is_some();
        config.kinds = vec![Name::new("counter").unwrap()];
        if self.zones {
            config.labels.insert(Name::new("zone").unwrap(), Name::new(placed::zone_of(name)).unwrap());
        }
        config.capacity = self.capacity.iter().map(|most| (config.kinds[0].clone(), *most)).collect();
        self.nodes.insert(name.into(), Node::new(config, self.now));
        if let Some(discovered) = discovered {
            self.queue.push_back((name.into(), discovered));
        }
        self.settle();
    }

    fn name_of(&self, incarnation: Incarnation) -> Option<String> {
        self.nodes.iter().find(|(_, n)| n.incarnation() == incarnation).map(|(name, _)| name.clone())
    }

    fn settle(&mut self) {
        self.settle_until(|_| false);
    }

    /// Carries out effects and inputs until there are none, or it is so.
    fn settle_until(&mut self, is_so: impl Fn(&Net) -> bool) {
        while !is_so(self) {
            let names: Vec<String> = self.nodes.keys().cloned().collect();
            for name in names {
                while let Some(effect) = self.nodes.get_mut(&name).unwrap().poll_effect() {
                    self.carry_out(&name, effect);
                }
            }
            let Some((to, input)) = self.queue.pop_front() else { return };
            if let Some(node) = self.nodes.get_mut(&to) {
                node.handle(self.now, input);
            }
        }
    }

    fn carry_out(&mut self, at: &str, effect: Effect) {
        let me = self.nodes[at].incarnation();
        match effect {
            Effect::Connect(address) => self.connect(at, &address),
            Effect::Send { to, message } => {
                let bytes = message.to_bytes();
                let message = whimbrel_core::wire::Control::from_bytes(&bytes).unwrap();
                self.said.push(bytes);
                let linked = self.sessions.contains(&(me, to)) || self.sessions.contains(&(to, me));
                if let Some(to) = self.name_of(to).filter(|_| linked) {
                    self.queue.push_back((to, Input::Message { from: me, message }));
                }
            }
            Effect::ProposeView(view) => self.queue.push_back((at.into(), Input::ViewDecided(view))),
            Effect::Drained(drained) => self.drained.push((at.into(), drained)),
            Effect::Capture { name, attempt, .. } => {
                let image = match self.refuse_capture.get(&name) {
                    Some(None) => return,
                    Some(Some(why)) => Err(*why),
                    None => Ok(Bytes::from(b"state".to_vec())),
                };
                self.queue.push_back((at.into(), Input::Captured { name, attempt, image }));
            }
            Effect::Install { passage, .. } => {
                let (name, attempt, result) = (passage.name, passage.attempt, Ok(()));
                self.queue.push_back((at.into(), Input::Installed { name, attempt, result }));
            }
            Effect::Launch { launch: Launch::Arrived, .. } => {}
            Effect::Launch { record, .. } => {
                self.launched.push((at.into(), record.name.clone()));
                let (name, token) = (record.name.clone(), record.token);
                self.queue.push_back((at.into(), Input::Launched { name, token, result: Ok(()) }));
            }
            Effect::Terminate { name, token, reason } => {
                self.queue.push_back((at.into(), Input::Exited { name, token, reason }));
            }
            Effect::Reincarnate(new) => {
                // Sessions of the incarnation before are closed; the node itself has forgotten them.
                let living: Vec<Incarnation> = self.nodes.values().map(Node::incarnation).collect();
                let (kept, lost): (Vec<_>, Vec<_>) = std::mem::take(&mut self.sessions)
                    .into_iter()
                    .partition(|(a, b)| living.contains(a) && living.contains(b) && *a != new && *b != new);
                self.sessions = kept;
                for (a, b) in lost {
                    for (at, peer) in [(a, b), (b, a)] {
                        if let Some(at) = self.name_of(at).filter(|_| !living.contains(&peer)) {
                            let loss = LinkLoss::Replaced;
                            self.queue.push_back((at, Input::SessionDown { peer, loss }));
                        }
                    }
                }
            }
            Effect::EndSession(peer) => {
                self.sessions.retain(|pair| *pair != (me, peer) && *pair != (peer, me));
                if let Some(at) = self.name_of(peer) {
                    let loss = LinkLoss::Unreachable;
                    self.queue.push_back((at, Input::SessionDown { peer: me, loss }));
                }
            }
            Effect::Answer { request, answer, .. } => {
                self.answers.push((at.into(), request.number, answer));
            }
            Effect::Group { number, reading } => {
                self.readings.insert(number, reading);
            }
            Effect::Groups { reading, .. } => self.scopes.push(reading),
            Effect::Listed { rows, complete, .. } => self.listed.push((rows.len(), complete)),
            Effect::Event(Event::Refused { why, .. }) => self.refused.push(why),
            _ => {}
        }
    }

    fn connect(&mut self, from: &str, to: &str) {
        let me = self.nodes[from].me().clone();
        let reachable = self.far.iter().any(|n| n == from) == self.far.iter().any(|n| n == to);
        let Some(peer) = self.nodes.get(to).filter(|_| reachable).map(|n| n.me().clone()) else {
            return self.queue.push_back((from.into(), Input::ConnectFailed(Arc::from(to))));
        };
        let pair = (me.incarnation, peer.incarnation);
        if self.sessions.contains(&pair) || self.sessions.contains(&(pair.1, pair.0)) {
            return;
        }
        self.sessions.push(pair);
        self.queue.push_back((to.into(), Input::SessionUp(Box::new(me))));
        self.queue.push_back((from.into(), Input::SessionUp(Box::new(peer))));
    }

    /// Everything between `far` and the rest is lost; connections give up after a while.
    fn cut(&mut self, far: &[&str]) {
        self.far = far.iter().map(|n| String::from(*n)).collect();
        let side = |net: &Net, i: Incarnation| net.name_of(i).map(|n| net.far.contains(&n));
        let sessions = std::mem::take(&mut self.sessions);
        for (a, b) in sessions {
            if side(self, a) == side(self, b) {
                self.sessions.push((a, b));
                continue;
            }
            for (at, peer) in [(a, b), (b, a)] {
                if let Some(at) = self.name_of(at) {
                    let loss = LinkLoss::Unreachable;
                    self.queue.push_back((at, Input::SessionDown { peer, loss }));
                }
            }
        }
        self.settle();
    }

    fn kill(&mut self, name: &str) {
        let dead = self.nodes.remove(name).unwrap().incarnation();
        let others: Vec<Incarnation> = self
            .sessions
            .iter()
            .filter_map(|(a, b)| {
                if *a == dead {
                    Some(*b)
                } else if *b == dead {
                    Some(*a)
                } else {
                    None
                }
            })
            .collect();
        self.sessions.retain(|(a, b)| *a != dead && *b != dead);
        for other in others {
            if let Some(other) = self.name_of(other) {
                let input = Input::SessionDown { peer: dead, loss: LinkLoss::Refused };
                self.queue.push_back((other, input));
            }
        }
        self.settle();
    }

    fn run(&mut self, millis: u64) {
        for _ in 0..millis {
            self.tick();
            self.settle();
        }
    }

    fn tick(&mut self) {
        self.now.time = self.now.time + Duration::from_millis(1);
        self.now.wall_ms += 1;
        for node in self.nodes.values_mut() {
            if node.next_deadline().is_some_and(|due| due <= self.now.time) {
                node.handle(self.now, Input::Wake);
            }
        }
    }

    fn ask(&mut self, at: &str, name: &str, ask: Ask) -> Answer {
        self.numbers += 1;
        let number = self.numbers;
        let name = Name::new(name).unwrap();
        let deadline = Duration::from_secs(5);
        self.queue.push_back((at.into(), Input::Request { number, name, ask, deadline }));
        self.settle();
        for _ in 0..6_000 {
            if let Some(at) = self.answers.iter().position(|(_, n, _)| *n == number) {
                return self.answers.remove(at).2;
            }
            self.run(1);
        }
        panic!("no answer");
    }

    fn start(&mut self, at: &str, name: &str) -> Answer {
        self.ask(at, name, start())
    }

    fn snapshot(&self, name: &str) -> Snapshot {
        self.nodes[name].snapshot()
    }
}

fn addresses(seeds: &[&str]) -> Vec<Arc<str>> {
    seeds.iter().map(|seed| Arc::from(*seed)).collect()
}

fn start() -> Ask {
    Ask::Start {
        kind: Name::new("counter").unwrap(),
        args: Bytes::default(),
        policy: RestartPolicy::Permanent,
        placement: Placement::Hash,
    }
}

fn three() -> Net {
    let mut net = Net::new();
    for name in ["a", "b", "c"] {
        net.boot(name, &["a", "b", "c"]);
    }
    net.run(3_000);
    net
}

#[test]
fn three_nodes_share_one_view_and_serve_every_slot() {
    let net = three();
    let views: Vec<_> = ["a", "b", "c"].map(|n| net.snapshot(n).view.unwrap()).to_vec();
    assert_eq!(views[0].members.len(), 3);
    assert!(views.iter().all(|view| *view == views[0]));
    let serving: usize = ["a", "b", "c"].map(|n| net.snapshot(n).slots_serving).iter().sum();
    assert_eq!(serving, 64);
}

#[test]
fn a_node_whose_discovery_is_not_complete_joins_a_line_and_founds_none() {
    let mut net = Net::new();
    net.boot_with("a", Some(Input::DiscoveredInPart(addresses(&["a", "b"]))));
    net.run(10_000);
    assert_eq!(net.snapshot("a").view, None, "the source that has not answered may know a line");
    net.queue.push_back(("a".into(), Input::Discovered(addresses(&["a"]))));
    net.run(10_000);
    assert_eq!(net.snapshot("a").view.unwrap().members.len(), 1);
    net.boot_with("c", Some(Input::DiscoveredInPart(addresses(&["a"]))));
    net.run(3_000);
    assert_eq!(net.snapshot("c").view, net.snapshot("a").view);
    assert_eq!(net.snapshot("c").view.unwrap().members.len(), 2);
}

#[test]
fn a_name_is_started_once_and_found_from_everywhere() {
    let mut net = three();
    let Answer::Started { located, copies } = net.start("a", "basket:1") else { panic!("not started") };
    assert_eq!(copies, 2);
    assert_eq!(net.start("b", "basket:1"), Answer::AlreadyRunning(located.clone()));
    for at in ["a", "b", "c"] {
        assert_eq!(net.ask(at, "basket:1", Ask::Locate), Answer::Located(located.clone()));
    }
    assert_eq!(net.ask("c", "basket:2", Ask::Locate), Answer::NotFound);
    assert_eq!(net.ask("c", "basket:1", Ask::Stop), Answer::Done);
    assert_eq!(net.ask("a", "basket:1", Ask::Locate), Answer::NotFound);
    let Answer::Started { located: again, .. } = net.start("a", "basket:1") else { panic!("not started") };
    assert!(again.token > located.token);
}

#[test]
fn what_one_turn_has_to_say_to_a_member_goes_in_one_message() {
    let mut net = three();
    let (now, deadline) = (net.now, Duration::from_secs(5));
    let node = net.nodes.get_mut("a").unwrap();
    for number in 1_000..1_064 {
        let name = Name::new(&format!("basket:{number}")).unwrap();
        node.handle(now, Input::Request { number, name, ask: start(), deadline });
    }
    let effects: Vec<Effect> = std::iter::from_fn(|| node.poll_effect()).collect();
    // Asks to owners, and the writes of the slots that are its own.
    let mut said: BTreeMap<Incarnation, Vec<(usize, Vec<usize>)>> = BTreeMap::new();
    for effect in &effects {
        if let Effect::Send { to, message: Control { body: Body::Turn(turn), .. } } = effect {
            let (mut asks, mut writes) = (0, Vec::new());
            for message in turn.clone().into_messages() {
                match message {
                    Message::Request { .. } => asks += 1,
                    Message::Write(all) => writes.push(all.len()),
                    other => panic!("{other:?}"),
                }
            }
            said.entry(*to).or_default().push((asks, writes));
        }
    }
    assert_eq!((effects.len(), said.len()), (2, 2), "{said:?}");
    let together = |(asks, writes): &(usize, Vec<usize>)| *asks > 1 && writes.len() == 1 && writes[0] > 1;
    assert!(said.values().flatten().all(together), "{said:?}");
    for effect in effects {
        net.carry_out("a", effect);
    }
    net.settle();
    let started = net.answers.iter().filter(|(_, _, answer)| matches!(answer, Answer::Started { .. }));
    assert_eq!(started.count(), 64);
}

#[test]
fn every_name_of_a_killed_node_runs_again_under_a_higher_token() {
    let mut net = three();
    let mut before = BTreeMap::new();
    for number in 0..100 {
        let name = format!("n{number}");
        let Answer::Started { located, .. } = net.start("a", &name) else { panic!("not started") };
        before.insert(name, located);
    }
    let dead = net.nodes["b"].incarnation();
    net.kill("b");
    net.run(50);
    for (name, old) in before {
        let Answer::Located(new) = net.ask("a", &name, Ask::Locate) else { panic!("{name} is gone") };
        if old.host == dead {
            assert!(new.token > old.token);
            assert_ne!(new.gate, old.gate);
        } else {
            assert_eq!(new, old);
        }
    }
    // A node of the same name comes back and takes its slots over; nothing is lost.
    net.boot("b", &["a"]);
    net.run(1_000);
    assert_eq!(net.snapshot("b").view.unwrap().members.len(), 3);
    net.queue.push_back((
        "b".into(),
        Input::List { number: 1, filter: Filter::default(), deadline: Duration::from_secs(1) },
    ));
    net.settle();
    assert_eq!(net.listed, [(100, true)]);
}

#[test]
fn a_crashing_process_is_quarantined_after_five_restarts_and_can_be_released() {
    let mut net = three();
    let Answer::Started { located, .. } = net.start("a", "x") else { panic!("not started") };
    let host = net.name_of(located.host).unwrap();
    let name = Name::new("x").unwrap();
    for crash in 0..6 {
        let record = net.snapshot(&host).hosted.into_iter().find(|(n, ..)| *n == name);
        let token = record.unwrap().1;
        let reason = ExitReason::Panic("boom".into());
        net.queue.push_back((host.clone(), Input::Exited { name: name.clone(), token, reason }));
        net.settle();
        net.run(if crash == 0 { 1 } else { 120 << crash });
    }
    assert_eq!(net.launched.len(), 6, "one start and five restarts");
    assert_eq!(net.ask("c", "x", Ask::Locate), Answer::Quarantined);
    assert_eq!(net.ask("c", "x", Ask::Release), Answer::Done);
    let Answer::Located(again) = net.ask("c", "x", Ask::Locate) else { panic!("not back") };
    assert!(again.token > located.token);
    let states: Vec<RecordState> =
        ["a", "b", "c"].iter().flat_map(|n| net.snapshot(n).records).map(|r| r.state).collect();
    assert_eq!(states, [RecordState::Running]);
}

#[test]
fn a_split_heals_into_one_view_and_one_instance_of_every_name() {
    let mut net = three();
    let mut names = Vec::new();
    for number in 0..60 {
        let name = format!("n{number}");
        assert!(matches!(net.start("a", &name), Answer::Started { .. }));
        names.push(name);
    }
    net.cut(&["c"]);
    net.run(6_000);
    assert_eq!(net.snapshot("a").view.unwrap().members.len(), 2);
    assert_eq!(net.snapshot("c").view.unwrap().members.len(), 1);
    // Both sides have restarted what they could not see, and go on working.
    for (at, name) in [("a", "only:a"), ("c", "only:c"), ("a", "both"), ("c", "both")] {
        assert!(matches!(net.start(at, name), Answer::Started { .. }), "{name} on {at}");
    }
    names.extend(["only:a", "only:c", "both"].map(String::from));
    net.far.clear();
    net.run(6_000);
    let snapshots = ["a", "b", "c"].map(|n| net.snapshot(n));
    assert_eq!(snapshots[0].view.as_ref().unwrap().members.len(), 3);
    assert!(snapshots.iter().all(|s| s.view == snapshots[0].view));
    for name in &names {
        let name = Name::new(name).unwrap();
        let lives: Vec<_> = snapshots
            .iter()
            .flat_map(|s| s.hosted.iter().map(|h| (s.incarnation, h.clone())))
            .filter(|(_, (n, ..))| *n == name)
            .collect();
        assert_eq!(lives.len(), 1, "{name}: {lives:?}");
        let record = snapshots.iter().flat_map(|s| &s.records).find(|r| r.name == name).unwrap();
        assert_eq!((record.host, record.token), (lives[0].0, lives[0].1.1), "{name}");
    }
    assert_eq!(snapshots.iter().map(|s| s.records.len()).sum::<usize>(), names.len());
}

#[test]
fn a_node_without_discovery_joins_the_line_that_stays_after_a_split() {
    let mut net = Net::new();
    net.boot_with("a", None);
    for name in ["b", "c"] {
        net.boot(name, &["a"]);
    }
    net.run(3_000);
    assert_eq!(net.snapshot("a").view.unwrap().members.len(), 3);
    net.cut(&["a"]);
    net.run(6_000);
    assert_eq!(net.snapshot("a").view.unwrap().members.len(), 1);
    assert_eq!(net.snapshot("b").view.unwrap().members.len(), 2);
    net.far.clear();
    net.run(6_000);
    let views = ["a", "b", "c"].map(|name| net.snapshot(name).view.unwrap());
    assert_eq!(views[0].members.len(), 3);
    assert!(views.iter().all(|view| *view == views[0]));
}

#[test]
fn a_node_whose_discovery_is_complete_late_leaves_founding_to_the_smaller_one_for_a_while() {
    for smaller_is_complete in [true, false] {
        let mut net = Net::new();
        for name in ["a", "b"] {
            net.boot_with(name, Some(Input::DiscoveredInPart(addresses(&["a", "b"]))));
        }
        net.run(3_000);
        net.queue.push_back(("b".into(), Input::Discovered(addresses(&["a", "b"]))));
        net.run(1_900);
        assert_eq!(net.snapshot("b").view, None, "both may found by now, and must not found one each");
        if smaller_is_complete {
            net.queue.push_back(("a".into(), Input::Discovered(addresses(&["a", "b"]))));
        }
        net.run(200);
        let founder = if smaller_is_complete { "a" } else { "b" };
        let view = net.snapshot("b").view.unwrap();
        assert_eq!((view.id.author, view.members.len()), (net.nodes[founder].incarnation().nonce, 2));
        assert_eq!(net.snapshot("a").view.unwrap(), view);
    }
}

#[test]
fn an_address_whose_node_is_linked_before_it_is_found_need_not_be_tried() {
    let mut net = Net::new();
    net.boot_with("a", Some(Input::DiscoveredInPart(Vec::new())));
    net.boot_with("b", Some(Input::DiscoveredInPart(addresses(&["a", "b"]))));
    net.run(3_000);
    net.queue.push_back(("a".into(), Input::Discovered(addresses(&["a", "b"]))));
    net.run(100);
    assert_eq!(net.snapshot("a").view.unwrap().members.len(), 2);
}

#[test]
fn a_node_without_discovery_goes_to_the_line_that_finds_it() {
    let mut net = Net::new();
    for name in ["b", "c"] {
        net.boot(name, &["a", "b", "c"]);
    }
    net.run(3_000);
    // It knows of nobody: a line of its own, which it leaves once, for good.
    net.boot_with("a", None);
    let alone = net.nodes["a"].incarnation();
    net.run(6_000);
    let views = ["a", "b", "c"].map(|name| net.snapshot(name).view.unwrap());
    assert_eq!(views[0].members.len(), 3);
    assert!(views.iter().all(|view| *view == views[0]));
    assert_ne!(net.nodes["a"].incarnation(), alone);
}

#[test]
fn a_node_without_discovery_whose_line_is_gone_founds_another() {
    let mut net = Net::new();
    net.boot_with("a", None);
    for name in ["b", "c"] {
        net.boot(name, &["a"]);
    }
    net.run(3_000);
    net.cut(&["a"]);
    net.run(6_000);
    net.far.clear();
    // On its way to the line of the others, which ends meanwhile.
    let is_on_its_way = |net: &Net| net.snapshot("a").view.is_none();
    for _ in 0..6_000 {
        net.tick();
        net.settle_until(is_on_its_way);
        if is_on_its_way(&net) {
            break;
        }
    }
    assert!(is_on_its_way(&net));
    net.kill("b");
    net.kill("c");
    net.run(5_000);
    assert_eq!(net.snapshot("a").view.unwrap().members.len(), 1);
}

#[test]
fn a_listing_has_so_many_names_and_says_that_there_are_more() {
    use whimbrel_core::base::limits::LIST_NAMES_MAX;
    let mut net = three();
    let list = |net: &mut Net, number| {
        let (filter, deadline) = (Filter::default(), Duration::from_secs(1));
        net.queue.push_back(("b".into(), Input::List { number, filter, deadline }));
        net.settle();
        net.listed.pop()
    };
    for number in 0..LIST_NAMES_MAX {
        assert!(matches!(net.start("a", &format!("n{number}")), Answer::Started { .. }));
    }
    assert_eq!(list(&mut net, 1), Some((LIST_NAMES_MAX, true)));
    // Each node owns a third of them: it is their sum that is too much.
    assert!(matches!(net.start("a", "one more"), Answer::Started { .. }));
    assert_eq!(list(&mut net, 2), Some((LIST_NAMES_MAX, false)));
}

/// Requests of one node to which nobody answers: it has found no cluster yet.
fn lonely(asks: impl Iterator<Item = Ask>) -> (usize, usize) {
    let mut net = Net::new();
    net.boot("a", &["nobody"]);
    let mut given = 0;
    for ask in asks {
        given += 1;
        net.numbers += 1;
        let (number, name, deadline) = (net.numbers, Name::new("x").unwrap(), Duration::from_secs(5));
        net.queue.push_back(("a".into(), Input::Request { number, name, ask, deadline }));
    }
    net.settle();
    assert!(net.answers.iter().all(|(_, _, answer)| *answer == Answer::Overloaded));
    (given - net.answers.len(), net.answers.len())
}

#[test]
fn a_node_waits_for_so_many_answers_and_no_more_bytes_of_arguments() {
    use whimbrel_core::base::limits::{ARGS_BYTES_MAX, REQUESTS_BYTES_MAX, REQUESTS_MAX};
    let locates = std::iter::repeat_n(Ask::Locate, REQUESTS_MAX + 3);
    assert_eq!(lonely(locates), (REQUESTS_MAX, 3));
    let start = Ask::Start {
        kind: Name::new("counter").unwrap(),
        args: Bytes::from(vec![0; ARGS_BYTES_MAX]),
        policy: RestartPolicy::Permanent,
        placement: Placement::Hash,
    };
    let fit = REQUESTS_BYTES_MAX / ARGS_BYTES_MAX;
    let (waiting, refused) = lonely(std::iter::repeat_n(start, fit + 2));
    assert_eq!((waiting, refused), (fit, 2));
}

#[test]
fn so_many_requests_wait_for_one_name() {
    use whimbrel_core::base::limits::SLOT_WAITERS_MAX;
    let mut net = three();
    // A write that a backup does not acknowledge holds up whoever asks about its name.
    net.sessions.clear();
    for number in 0..200 {
        net.numbers += 1;
        let name = Name::new(&format!("n{number}")).unwrap();
        let before = net.answers.len();
        for _ in 0..=SLOT_WAITERS_MAX + 1 {
            net.numbers += 1;
            let (number, deadline) = (net.numbers, Duration::from_secs(5));
            let ask = Ask::Register { kind: Name::new("counter").unwrap() };
            net.queue.push_back(("a".into(), Input::Request { number, name: name.clone(), ask, deadline }));
        }
        net.settle();
        let answered = &net.answers[before..];
        if !answered.is_empty() {
            // It is owned here: the first writes, half of what may wait for the slot does, the others are too many.
            assert!(answered.iter().all(|(_, _, answer)| *answer == Answer::Overloaded));
            assert_eq!(answered.len(), SLOT_WAITERS_MAX / 2 + 1);
            return;
        }
    }
    panic!("no name of these is owned by this node");
}

#[test]
fn a_node_has_so_many_listings_at_a_time() {
    const LISTINGS_MAX: u64 = 256;
    let mut net = three();
    // Nobody answers any more.
    net.sessions.clear();
    for number in 0..=LISTINGS_MAX {
        let (filter, deadline) = (Filter::default(), Duration::from_secs(1));
        net.queue.push_back(("a".into(), Input::List { number, filter, deadline }));
    }
    net.settle();
    assert_eq!(net.listed, [(0, false)], "the last one, at once");
}
