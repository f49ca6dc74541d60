//! A member that lies about groups. Nothing of it has an effect.

use super::*;

const LIAR: u64 = 2;

fn page(rows: Rows, after: Option<&str>, more: bool) -> Message {
    Message::Page { number: 7, after: after.map(named), rows, version: None, more, complete: true }
}

fn members(names: &[&str]) -> Rows {
    let member = |name: &&str| GroupMember { name: named(name), kind: kind(), meta: Metadata::new() };
    Rows::Members(names.iter().map(member).collect())
}

/// Three nodes, of which the third has the index that the first one is reading; and a name of each that is in it.
fn nodes() -> (Nodes, Group, Vec<Name>) {
    let mut nodes = Nodes::new(3, Limits::default());
    let line = nodes.line();
    let of = |member: u64| names(90).find(|name| line.owner_of(name) == Some(life(member))).unwrap();
    let all: Vec<Name> = (1..=3).map(of).collect();
    let read = group_at(&line, 3);
    nodes.roll(&read, all.clone().into_iter());
    (nodes, read, all)
}

#[test]
fn a_member_tells_of_its_own_names_to_the_owner_of_their_index_alone() {
    let (mut nodes, read, all) = nodes();
    let own = group_at(&nodes.line(), 1);
    let entry = || Some(Entry { kind: kind(), meta: Metadata::new() });
    let row = |group: &Group, name: &Name, entry| Row { group: group.clone(), name: name.clone(), entry };
    let large =
        (0..2).fold(Metadata::new(), |meta, key| meta.with(&key.to_string(), &"x".repeat(300)).unwrap());
    let lies = [
        vec![row(&own, &all[0], entry())],
        vec![row(&own, &all[2], None)],
        vec![row(&read, &all[1], entry())],
        vec![row(&own, &all[1], Some(Entry { kind: kind(), meta: large }))],
        vec![row(&own, &all[1], entry()); INDEX_PART_ROWS + 1],
    ];
    for rows in lies {
        nodes.hears(Message::Enrol { number: 2, rows, whole: true });
    }
    assert_eq!(nodes.read(1, &own, None).members, Some(Vec::new()));
    let (view, now) = (nodes.view.id, nodes.now);
    let truth = Message::Enrol { number: 2, rows: vec![row(&own, &all[1], entry())], whole: false };
    nodes.nodes.remove(&life(LIAR));
    nodes.node(1).handle_message(life(LIAR), Some(view), truth, now);
    assert_eq!(nodes.read(1, &own, None).members.map(|members| members.len()), Some(1));
}

#[test]
fn nothing_is_acknowledged_that_was_not_told_and_nothing_answered_that_was_not_asked() {
    let (mut nodes, read, all) = nodes();
    let own = group_at(&nodes.line(), LIAR);
    nodes.hears(Message::Enrolled(u64::MAX));
    // Of a question about an index that is elsewhere.
    nodes.hears(Message::Ask {
        number: 1,
        question: Question::Members { group: own, known: None },
        after: None,
    });
    // The first one reads, and the liar was not asked.
    let now = nodes.now;
    nodes.node(1).handle_group(7, read, None, PATIENCE, now);
    nodes.hears(page(members(&["evil"]), None, false));
    nodes.carry();
    let Some(Output::Group { reading, .. }) = nodes.told.pop() else { panic!("no answer") };
    assert!(reading.members.unwrap().iter().map(|member| &member.name).eq(&{
        let mut all = all;
        all.sort();
        all
    }));
}

#[test]
fn pages_come_in_order_bring_something_and_are_of_the_question() {
    let (mut nodes, ..) = nodes();
    let of_liar = group_at(&nodes.line(), LIAR);
    let now = nodes.now;
    nodes.node(1).handle_group(7, of_liar, None, PATIENCE, now);
    let large =
        (0..2).fold(Metadata::new(), |meta, key| meta.with(&key.to_string(), &"x".repeat(300)).unwrap());
    let lies = [
        page(members(&["b", "a"]), None, false),
        page(members(&["a", "a"]), None, false),
        page(members(&[]), None, true),
        page(members(&["a"]), Some("b"), false),
        page(Rows::Members(vec![GroupMember { name: named("a"), kind: kind(), meta: large }]), None, false),
        page(Rows::Sizes(vec![GroupSize { name: named("a"), members: 1 }]), None, false),
        page(Rows::Known, None, false),
    ];
    for lie in lies {
        nodes.hears(lie);
        assert_eq!(nodes.node(1).readings.fullness().0, 1, "it is still open");
    }
    let mut nodes = Nodes::new(3, Limits::default());
    nodes.node(1).handle_scope(7, named("rooms"), PATIENCE, now);
    let line = nodes.line();
    let rooms = (0..).map(|number| Group::new("rooms", &format!("room:{number}")).unwrap());
    let elsewhere = rooms.into_iter().find(|group| line.index_of(group) == Some(life(3))).unwrap().name;
    nodes.hears(page(Rows::Sizes(vec![GroupSize { name: elsewhere, members: u64::MAX }]), None, false));
}

impl Nodes {
    /// The first node hears this of the liar, and refuses it.
    fn hears(&mut self, message: Message) {
        let (view, now) = (self.view.id, self.now);
        let what = format!("{message:?}").chars().take(200).collect::<String>();
        self.node(1).handle_message(life(LIAR), Some(view), message, now);
        let mut outputs = std::iter::from_fn(|| self.node(1).poll_output()).collect::<Vec<_>>();
        let refused = outputs
            .iter()
            .position(|output| matches!(output, Output::Refused { peer, .. } if *peer == life(LIAR)));
        let Some(at) = refused else { panic!("not refused: {what}") };
        outputs.remove(at);
        for output in outputs {
            let Output::Send(to, message) = output else { panic!("{output:?}") };
            if let Some(groups) = self.nodes.get_mut(&to).filter(|_| to != life(LIAR)) {
                groups.handle_message(life(1), Some(view), message, now);
            }
        }
    }
}
