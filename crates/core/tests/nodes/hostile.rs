//! Members and visitors that lie. `c` is one of three real nodes, so it has every right that a member has; what it says
//! beside that is put into the ear of `a` here. Nothing of it may panic, change anything, or keep `a` from serving.

use whimbrel_core::base::{ErrorCode, RequestId, SlotId, Token};
use whimbrel_core::directory::{
    Change, Fill, FillFor, Located, Mark, Message, News, Record, RecordState, SlotWrite,
};
use whimbrel_core::membership;
use whimbrel_core::placement::{Replicas, slot_of};
use whimbrel_core::view::{MemberInfo, View, ViewId};
use whimbrel_core::wire::{Body, Control, Turn};

use super::*;

const SLOTS: u16 = 64;

impl Net {
    fn life(&self, node: &str) -> Incarnation {
        self.nodes[node].incarnation()
    }

    fn view(&self) -> Arc<View> {
        self.snapshot("a").view.unwrap()
    }

    fn members(&self) -> Vec<Incarnation> {
        self.view().incarnations().collect()
    }

    fn hear(&mut self, from: Incarnation, view: Option<ViewId>, body: Body) {
        let message = Control { view, body };
        let read = Control::from_bytes(&message.to_bytes()).unwrap();
        assert_eq!(read, message, "it passes the wire");
        self.queue.push_back(("a".into(), Input::Message { from, message }));
        self.settle();
    }

    /// `c` says this to `a`, in the view that both have installed.
    fn lie(&mut self, message: Message) {
        let (from, view) = (self.life("c"), self.view().id);
        self.hear(from, Some(view), Body::Directory(message));
    }

    fn lie_about_views(&mut self, message: membership::Message) {
        let (from, view) = (self.life("c"), self.view().id);
        self.hear(from, Some(view), Body::Membership(message));
    }

    /// How many lies were refused since this was asked last.
    fn refusals(&mut self) -> usize {
        std::mem::take(&mut self.refused).len()
    }

    fn replicas(&self, name: &str) -> Replicas {
        Replicas::of(slot(name), &self.view(), 2)
    }

    /// A name whose slot has these replicas, the owner first.
    fn name_at(&self, owner: &str, backup: &str) -> String {
        let (owner, backup) = (self.life(owner), self.life(backup));
        let mut names = (0..10_000).map(|number| format!("name:{number}"));
        names
            .find(|name| {
                let replicas = self.replicas(name);
                replicas.owner() == Some(owner) && replicas.backups().eq([backup])
            })
            .unwrap()
    }

    /// A name that runs on `a` and has this owner.
    fn started_on_a(&mut self, owner: &str) -> (String, Located) {
        let life = self.life(owner);
        let mut names = (0..10_000).map(|number| format!("{owner}:{number}"));
        let name = names.find(|name| self.replicas(name).owner() == Some(life)).unwrap();
        let Answer::Started { located, .. } = self.ask("a", &name, start(Bytes::default())) else {
            panic!("not started")
        };
        assert_eq!(located.host, self.life("a"));
        (name, located)
    }

    fn record(&self, name: &str, token: Token) -> Record {
        let caller = self.life("c");
        let request = RequestId { caller, number: 1 };
        Record {
            gate: Token::from_u64(7),
            state: RecordState::Running,
            has_run: true,
            ..Record::first(named(name), named("counter"), caller, token, request)
        }
    }

    /// The cluster is as it was, and everybody is served.
    fn assert_unharmed(&mut self, members: &[Incarnation]) {
        self.run(3_000);
        assert_eq!(self.members(), members);
        self.numbers += 1;
        let name = format!("after:{}", self.numbers);
        assert!(matches!(self.start("a", &name), Answer::Started { copies: 2, .. }));
        assert!(matches!(self.ask("b", &name, Ask::Locate), Answer::Located(_)));
        assert_eq!(self.ask("b", &name, Ask::Stop), Answer::Done);
    }
}

fn named(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// A start on the node that asks for it.
fn start(args: Bytes) -> Ask {
    let (policy, placement) = (RestartPolicy::Permanent, Placement::Local);
    Ask::Start { kind: named("counter"), args, policy, placement }
}

fn slot(name: &str) -> SlotId {
    slot_of(&named(name), SLOTS)
}

#[test]
fn nobody_asks_in_another_nodes_name() {
    let mut net = three();
    let members = net.members();
    let (name, located) = net.started_on_a("a");
    let request = RequestId { caller: net.life("b"), number: 9_999 };
    net.lie(Message::Request { request, name: named(&name), ask: Ask::Stop });
    net.lie(Message::Forget(vec![(named(&name), request)]));
    assert_eq!(net.refusals(), 2);
    assert_eq!(net.ask("a", &name, Ask::Locate), Answer::Located(located));
    net.assert_unharmed(&members);
}

#[test]
fn nobody_answers_for_the_owner_that_was_asked() {
    let mut net = three();
    let (name, located) = net.started_on_a("b");
    let forged = Located { host: net.life("c"), ..located.clone() };
    let (now, from, view) = (net.now, net.life("c"), net.view().id);
    let node = net.nodes.get_mut("a").unwrap();
    let deadline = Duration::from_secs(5);
    node.handle(now, Input::Request { number: 77_777, name: named(&name), ask: Ask::Locate, deadline });
    let request = RequestId { caller: node.incarnation(), number: 77_777 };
    let answer = Message::Answer { request, name: named(&name), answer: Answer::Located(forged) };
    let message = Control { view: Some(view), body: Body::Directory(answer) };
    node.handle(now, Input::Message { from, message });
    net.settle();
    assert_eq!(net.refusals(), 1);
    assert_eq!(net.answers.pop(), Some(("a".into(), 77_777, Answer::Located(located))));
}

#[test]
fn nobody_commands_for_the_owner_of_a_slot() {
    let mut net = three();
    let members = net.members();
    let (text, located) = net.started_on_a("b");
    let (name, token, slot) = (named(&text), located.token, slot(&text));
    let higher = Token::from_u64(token.as_u64() + 1);
    let before = net.snapshot("a").hosted;
    let mark = Mark { opened: Some(net.view().id), seq: 0 };
    let record = Record { host: net.life("a"), token: higher, ..net.record(&text, token) };
    let write = SlotWrite { slot, seq: 1, change: Change::Put(record.clone().into()) };
    let reason = ExitReason::ConflictLost;
    let lies = [
        Message::End { name: name.clone(), token, reason: reason.clone() },
        Message::End { name: name.clone(), token: Token::from_u64(u64::MAX), reason },
        Message::Discard { name: name.clone(), token, code: ErrorCode::Stopped },
        Message::Retoken { name: name.clone(), old: token, new: higher },
        Message::AskOffer { name: name.clone(), token },
        Message::Offered { name: name.clone(), token },
        Message::Grant(record.into()),
        Message::Gather(vec![(slot, net.view().id)]),
        Message::Load(vec![slot; 1_000]),
        Message::Open(vec![(slot, mark)]),
        Message::Settled(vec![slot; 1_000]),
        Message::AskHosted(vec![slot; 1_000]),
        Message::Write(vec![write]),
    ];
    for lie in lies {
        net.lie(lie.clone());
        assert_eq!(net.refusals(), 1, "{lie:?}");
    }
    // An acknowledgement of a report is believed from the owner alone; it needs no refusal, since it may be late.
    net.lie(Message::Reported { name, token, ended: true });
    assert_eq!(net.snapshot("a").hosted, before);
    assert_eq!(net.ask("c", &text, Ask::Locate), Answer::Located(located));
    net.assert_unharmed(&members);
}

#[test]
fn what_comes_together_is_judged_one_by_one() {
    let mut net = three();
    let members = net.members();
    let (name, located) = net.started_on_a("b");
    let (caller, view) = (net.life("c"), net.view().id);
    let mine = net.name_at("a", "c");
    let ask = |caller, number, name: &str, ask| Message::Request {
        request: RequestId { caller, number },
        name: named(name),
        ask,
    };
    let end = Message::End { name: named(&name), token: located.token, reason: ExitReason::ConflictLost };
    let turn = Turn::new(vec![
        end.clone(),
        ask(net.life("b"), 9_001, &name, Ask::Stop),
        ask(caller, 9_002, &mine, start(Bytes::default())),
        end,
    ]);
    net.hear(caller, Some(view), Body::Turn(turn));
    assert_eq!(net.refusals(), 3, "all but what it may ask");
    assert_eq!(net.ask("b", &name, Ask::Locate), Answer::Located(located));
    assert!(matches!(net.ask("b", &mine, Ask::Locate), Answer::Located(_)), "it was started");
    net.assert_unharmed(&members);
}

#[test]
fn only_the_owner_says_that_a_life_runs_and_only_of_the_life_that_was_written() {
    let mut net = three();
    let members = net.members();
    // Of another's slot; with a token that no view gives; of a life and of a name that the copy does not have.
    let (theirs, of_c) = (net.name_at("b", "a"), net.name_at("c", "a"));
    assert!(matches!(net.start("b", &theirs), Answer::Started { .. }));
    let Answer::Started { located, .. } = net.start("b", &of_c) else { panic!("not started") };
    let runs = |name: &str, seq, token| {
        Message::Write(vec![SlotWrite { slot: slot(name), seq, change: Change::Runs(named(name), token) }])
    };
    net.lie(runs(&theirs, 3, Token::from_u64(9)));
    net.lie(runs(&of_c, 3, Token::from_u64(u64::MAX)));
    assert_eq!(net.refusals(), 2);
    net.lie(runs(&of_c, 3, Token::from_u64(located.token.as_u64() + 1)));
    let nobody =
        SlotWrite { slot: slot(&of_c), seq: 4, change: Change::Runs(named("nobody"), located.token) };
    net.lie(Message::Write(vec![nobody]));
    assert_eq!(net.refusals(), 1, "a name stands in its own slot");
    assert_eq!(net.ask("a", &of_c, Ask::Locate), Answer::Located(located));
    net.assert_unharmed(&members);
}

#[test]
fn a_question_that_names_a_slot_often_is_answered_once() {
    let mut net = three();
    let name = net.name_at("c", "a");
    assert!(matches!(net.start("b", &name), Answer::Started { .. }));
    for question in [Message::Load, Message::AskHosted, Message::Settled, Message::Unlike] {
        let before = net.said.len();
        net.lie(question(vec![slot(&name); 200_000]));
        let bytes: usize = net.said[before..].iter().map(Vec::len).sum();
        assert!(bytes < 1_300_000, "{bytes} bytes for one question");
    }
}

#[test]
fn tokens_that_nothing_could_exceed_are_refused_and_the_highest_one_harms_its_own_name_alone() {
    let mut net = three();
    let members = net.members();
    let (of_a, of_c) = (net.name_at("a", "c"), net.name_at("c", "a"));
    let slot_of_c = slot(&of_c);
    let opened = Some(net.view().id);
    let mark = |seq| Mark { opened, seq };
    let fill = |watermark, seq, records| {
        let (purpose, tombstones) = (FillFor::Backup, Vec::new());
        let (first, last) = (true, true);
        Fill {
            slot: slot_of_c,
            purpose,
            mark: mark(seq),
            first,
            last,
            records,
            tombstones,
            watermark,
            watches: Vec::new(),
        }
    };
    for token in [u64::MAX, 1 << 63, i64::MAX as u64].map(Token::from_u64) {
        net.lie(Message::Offer { record: net.record(&of_a, token).into(), running: true });
        net.lie(Message::Offer { record: net.record(&of_a, token).into(), running: false });
        assert_eq!(net.refusals(), 2, "{token}");
    }
    let too_high = Token::from_u64(1 << 63);
    let write = |seq, name: &str, token| {
        Message::Write(vec![SlotWrite {
            slot: slot_of_c,
            seq,
            change: Change::Put(net.record(name, token).into()),
        }])
    };
    let lies = [
        write(1, &of_c, too_high),
        write(1, &of_a, Token::from_u64(9)),
        Message::Fill(fill(too_high, 1, Vec::new())),
        Message::Fill(fill(Token::NONE, 1, vec![net.record(&of_c, too_high)])),
        Message::Fill(fill(Token::NONE, 1, vec![net.record(&of_a, Token::from_u64(9))])),
        Message::Grant(net.record(&of_c, too_high).into()),
    ];
    for lie in lies {
        net.lie(lie.clone());
        assert_eq!(net.refusals(), 1, "{lie:?}");
    }
    // Numbers of writes at the end of what there is.
    let last = fill(Token::NONE, u64::MAX, Vec::new());
    net.lie(Message::Fill(last));
    for seq in [0, 1, u64::MAX] {
        let write =
            SlotWrite { slot: slot_of_c, seq, change: Change::Put(net.record(&of_c, Token::NONE).into()) };
        net.lie(Message::Write(vec![write]));
    }
    // The highest token that can be offered is that of a name of its own, which goes on above it.
    let highest = Token::new(whimbrel_core::view::COUNTER_MAX, Token::SEQUENCE_MAX).unwrap();
    net.lie(Message::Offer { record: net.record(&of_a, highest).into(), running: true });
    assert_eq!(net.ask("a", &of_a, Ask::Stop), Answer::Done);
    let Answer::Started { located, .. } = net.start("b", &of_a) else { panic!("not started") };
    assert!(located.token > highest && located.token.as_u64() < i64::MAX as u64);
    net.assert_unharmed(&members);
}

#[test]
fn an_acknowledgement_of_what_was_never_written_is_none() {
    let mut net = three();
    let name = net.name_at("a", "c");
    net.lie(Message::Written(vec![(slot(&name), u64::MAX), (SlotId(u16::MAX), u64::MAX)]));
    let now = net.now;
    let ask = start(Bytes::default());
    let node = net.nodes.get_mut("a").unwrap();
    let deadline = Duration::from_secs(5);
    node.handle(now, Input::Request { number: 88_888, name: named(&name), ask, deadline });
    while let Some(effect) = node.poll_effect() {
        assert!(!matches!(effect, Effect::Launch { .. }), "its backup has not acknowledged the record");
    }
}

#[test]
fn arguments_texts_and_lists_that_no_copy_could_carry_are_refused() {
    let mut net = three();
    let members = net.members();
    let name = net.name_at("a", "c");
    let args = Bytes::from(vec![0; 64 * 1024 + 1]);
    let request = RequestId { caller: net.life("c"), number: 1 };
    let ask = start(args.clone());
    let record = net.record(&name, Token::from_u64(9));
    let long = ExitReason::Error("x".repeat(1_025));
    let lies = [
        Message::Request { request, name: named(&name), ask },
        Message::Offer { record: Record { args, ..record.clone() }.into(), running: true },
        Message::Offer {
            record: Record { restart_ages_ms: vec![0; 100_000].into(), ..record.clone() }.into(),
            running: true,
        },
        Message::Offer {
            record: Record { requests_before: vec![request; 9_000].into(), ..record }.into(),
            running: false,
        },
        Message::Report {
            name: named(&name),
            token: Token::from_u64(9),
            news: News::Exited(long),
            snapshot: None,
        },
    ];
    for lie in lies {
        net.lie(lie);
        assert_eq!(net.refusals(), 1);
    }
    assert_eq!(net.ask("a", &name, Ask::Locate), Answer::NotFound);
    net.assert_unharmed(&members);
}

#[test]
fn views_that_no_honest_node_authors_are_not_installed() {
    let mut net = three();
    let members = net.members();
    let current = net.view();
    let author = net.life("c").nonce;
    let child = |counter, members| View { id: ViewId { counter, author }, parent: Some(current.id), members };
    let stranger = |nonce| MemberInfo {
        incarnation: Incarnation { started_ms: 1, nonce },
        ..current.members[0].clone()
    };
    let next = current.id.counter + 1;
    let everybody = || current.members.clone();
    let twice = current.members.iter().chain(&current.members[..1]).cloned().collect();
    let crowd = everybody().into_iter().chain((0..254).map(stranger)).collect();
    let heavy = everybody().into_iter().map(|member| MemberInfo { weight: u32::MAX, ..member }).collect();
    let lies = [
        child(u64::MAX, everybody()),
        child(1 << 33, everybody()),
        child(current.id.counter, everybody()),
        child(next, Vec::new()),
        child(next, twice),
        child(next, crowd),
        child(next, heavy),
    ];
    for (at, lie) in lies.into_iter().enumerate() {
        net.lie_about_views(membership::Message::Install(lie.clone()));
        net.lie_about_views(membership::Message::Chain {
            connected: true,
            views: vec![lie.clone()],
            more: false,
        });
        net.lie_about_views(membership::Message::Chain { connected: false, views: vec![lie], more: false });
        assert_eq!(net.refusals(), 3, "{at}");
    }
    // Not refused, since late views look like it, and not installed.
    let leap = child(whimbrel_core::view::COUNTER_MAX, everybody());
    net.lie_about_views(membership::Message::Install(leap));
    assert_eq!(net.view(), current);
    net.assert_unharmed(&members);
    net.boot("d", &["a", "b", "c"]);
    net.run(3_000);
    assert_eq!(net.members().len(), 4, "the line goes on");
}

#[test]
fn nobody_joins_from_the_end_of_time_or_as_somebody_else() {
    let mut net = three();
    let members = net.members();
    let visitor = MemberInfo {
        labels: Default::default(),
        name: named("x"),
        incarnation: Incarnation { started_ms: u64::MAX, nonce: 99 },
        address: "x".into(),
        weight: 100,
        kinds: Vec::new(),
        draining: false,
    };
    let from = visitor.incarnation;
    net.queue.push_back(("a".into(), Input::SessionUp(Box::new(visitor.clone()))));
    net.settle();
    let as_b = MemberInfo { name: named("b"), ..visitor.clone() };
    let for_another = MemberInfo { incarnation: Incarnation { started_ms: 2, nonce: 98 }, ..visitor.clone() };
    // The last may be an honest member that this node's view does not have any more: that is ignored.
    for (member, counter_floor, refusals) in
        [(visitor.clone(), u64::MAX, 1), (visitor.clone(), 1 << 33, 1), (as_b, 0, 1), (for_another, 0, 0)]
    {
        let message = membership::Message::Join { member, counter_floor };
        net.hear(from, None, Body::Membership(message));
        assert_eq!(net.refusals(), refusals);
    }
    // A member may announce whom it likes; who has no session here does not become one.
    for nonce in 1_000..2_000 {
        let member = MemberInfo {
            incarnation: Incarnation { started_ms: 1, nonce },
            address: format!("host-{nonce}:1").into(),
            ..visitor.clone()
        };
        net.lie_about_views(membership::Message::Join { member, counter_floor: 0 });
    }
    net.assert_unharmed(&members);
    net.boot("d", &["a", "b", "c"]);
    net.run(3_000);
    assert_eq!(net.members().len(), 4, "those who were only announced take no room");
}

#[test]
fn a_node_that_takes_the_name_or_the_nonce_of_a_living_one_does_not_end_it() {
    let mut net = three();
    let members = net.members();
    let b = net.nodes["b"].me().clone();
    let with_name = Incarnation { started_ms: u64::MAX, nonce: 99 };
    let with_nonce = Incarnation { started_ms: u64::MAX, nonce: b.incarnation.nonce };
    for incarnation in [with_name, with_nonce] {
        let info = MemberInfo { incarnation, ..b.clone() };
        net.queue.push_back(("a".into(), Input::SessionUp(Box::new(info.clone()))));
        net.settle();
        let join = membership::Message::Join { member: info, counter_floor: 0 };
        net.hear(incarnation, None, Body::Membership(join));
        net.run(3_000);
        assert_eq!(net.members(), members, "it waits, or is refused");
        let down = Input::SessionDown { peer: incarnation, loss: LinkLoss::Refused };
        net.queue.push_back(("a".into(), down));
        net.settle();
    }
    net.assert_unharmed(&members);
}

#[test]
fn a_visitor_commands_nothing_and_nobody_calls_a_node_out_of_its_line_unasked() {
    let mut net = three();
    let members = net.members();
    let (name, located) = net.started_on_a("a");
    let visitor = MemberInfo {
        labels: Default::default(),
        name: named("x"),
        incarnation: Incarnation { started_ms: 5, nonce: 99 },
        address: "x".into(),
        weight: 100,
        kinds: Vec::new(),
        draining: false,
    };
    let from = visitor.incarnation;
    net.queue.push_back(("a".into(), Input::SessionUp(Box::new(visitor.clone()))));
    net.settle();
    let view = net.view().id;
    let request = RequestId { caller: from, number: 1 };
    for view in [Some(view), Some(ViewId { counter: u64::MAX, author: 1 }), None] {
        let stop = Message::Request { request, name: named(&name), ask: Ask::Stop };
        net.hear(from, view, Body::Directory(stop));
        let end = Message::End { name: named(&name), token: located.token, reason: ExitReason::Killed };
        net.hear(from, view, Body::Directory(end));
    }
    // A smaller line, so `a` does not ask; its "come" is no answer to anything.
    let id = ViewId { counter: view.counter + 9, author: 99 };
    let theirs = View { id, parent: None, members: vec![visitor] };
    let line = membership::LineInfo { view: id, members: 1, has_records: false };
    for message in [
        membership::Message::Greet(Some(line)),
        membership::Message::Chain { connected: false, views: vec![theirs], more: false },
        membership::Message::MergeAnswer { come: true },
        membership::Message::LeftOut,
        membership::Message::Probe(vec![0; 1_000_000]),
        membership::Message::Bye,
    ] {
        net.hear(from, Some(id), Body::Membership(message));
    }
    assert_eq!(net.refused, ["it answers a question that it was not asked"]);
    assert_eq!(net.members(), members);
    assert_eq!(net.ask("a", &name, Ask::Locate), Answer::Located(located));
    net.assert_unharmed(&members);
}
