//! Limits of listings and streams, and what peers may say of them.

use super::super::followers::Followers;
use super::super::stream_event::{StreamEnd, StreamEvent};
use super::*;
use crate::base::Metadata;
use crate::base::limits::{FILL_BYTES_MAX, LIST_BYTES_MAX, STREAM_NAMES_MAX, STREAMS_MAX};

/// A directory in a view with another member, which answers nothing by itself.
fn with_another() -> Directory {
    let mut directory = directory(BTreeMap::new());
    let member = |incarnation: Incarnation, number: usize| MemberInfo {
        labels: Default::default(),
        name: name(number),
        incarnation,
        address: Arc::from("a:1"),
        weight: 100,
        kinds: vec![name(0)],
        draining: false,
    };
    let id = ViewId { counter: 1, author: ME.nonce };
    let view = Arc::new(View { id, parent: None, members: vec![member(ME, 1), member(OTHER, 2)] });
    directory.handle_view(&Chain::new(view), Time::ZERO);
    directory
}

fn row(number: usize) -> Listed {
    Listed::of(&record(number, &Bytes::default()))
}

/// Names whose slots this member owns.
fn names_of(directory: &Directory, owner: Incarnation, count: usize) -> Vec<Listed> {
    let rows = (0..).map(row).filter(|row| directory.owner_of(&row.name) == Some(owner));
    let mut rows: Vec<Listed> = rows.take(count).collect();
    rows.sort_by(|one, other| one.name.cmp(&other.name));
    rows
}

fn outputs(directory: &mut Directory) -> Vec<Output> {
    std::iter::from_fn(|| directory.poll_output()).collect()
}

fn events(directory: &mut Directory) -> Vec<StreamEvent> {
    let events = outputs(directory).into_iter().filter_map(|output| match output {
        Output::Followed { events, .. } => Some(events),
        _ => None,
    });
    events.flatten().collect()
}

fn refused(directory: &mut Directory) -> usize {
    let is_refused = |output: &Output| matches!(output, Output::Event(DirectoryEvent::Refused { .. }));
    outputs(directory).iter().filter(|output| is_refused(output)).count()
}

fn say(directory: &mut Directory, message: Message) {
    let view = directory.view().map(|view| view.id);
    directory.handle_message(OTHER, view, message, Time::ZERO);
}

/// The round in which the other member was asked.
fn round_asked(directory: &mut Directory) -> u64 {
    let asked = outputs(directory).into_iter().find_map(|output| match output {
        Output::Send(OTHER, Message::Follow { round, .. }) => Some(round),
        _ => None,
    });
    asked.unwrap()
}

fn followed(round: u64, number: u64, news: StreamNews) -> Message {
    Message::Followed { stream: 1, round, number, news: Box::new(news) }
}

#[test]
fn a_stream_follows_so_many_names_and_ends_when_there_are_more() {
    let mut directory = with_another();
    directory.handle_follow(1, Filter::all(), Time::ZERO);
    let round = round_asked(&mut directory);
    let rows = names_of(&directory, OTHER, STREAM_NAMES_MAX + 1);
    let mut after = None;
    for (number, rows) in (1..).zip(rows.chunks(STREAM_NAMES_MAX)) {
        assert!(events(&mut directory).is_empty());
        let news = StreamNews::Page { after, rows: rows.to_vec(), more: true, ends: Vec::new() };
        after = rows.last().map(|row| row.name.clone());
        say(&mut directory, followed(round, number, news));
    }
    let outputs = outputs(&mut directory);
    let end = StreamEvent::Ended(StreamEnd::TooManyNames);
    assert!(
        outputs
            .iter()
            .any(|o| matches!(o, Output::Followed { number: 1, events } if *events == [end.clone()]))
    );
    assert!(outputs.iter().any(|o| matches!(o, Output::Send(OTHER, Message::Unfollow { stream: 1 }))));
    assert_eq!(directory.streams.len(), 0);
}

#[test]
fn what_was_asked_twice_or_is_late_changes_nothing_and_a_gap_begins_anew() {
    let mut directory = with_another();
    directory.handle_follow(1, Filter::all(), Time::ZERO);
    let round = round_asked(&mut directory);
    let rows = names_of(&directory, OTHER, 3);
    let page = |rows: &[Listed], after: Option<&Listed>, more| StreamNews::Page {
        after: after.map(|row| row.name.clone()),
        rows: rows.to_vec(),
        more,
        ends: Vec::new(),
    };
    say(&mut directory, followed(round, 1, page(&rows[..1], None, true)));
    // A change of what the next page has as well, and one of what is on the page before.
    say(&mut directory, followed(round, 2, StreamNews::Row { row: rows[1].clone(), reason: None }));
    let gone = StreamNews::Gone { name: rows[0].name.clone(), reason: None, now: None };
    say(&mut directory, followed(round, 3, gone));
    say(&mut directory, followed(round, 4, page(&rows[..1], None, true)));
    say(&mut directory, followed(round, 5, page(&rows[1..], Some(&rows[0]), false)));
    let registered = |row: &Listed| StreamEvent::Registered(row.clone());
    assert_eq!(events(&mut directory), [registered(&rows[1]), registered(&rows[2])]);
    // Of another round; then one that was lost.
    say(&mut directory, followed(round + 9, 6, StreamNews::Sum { rows: 0, sum: 0 }));
    assert!(outputs(&mut directory).is_empty());
    say(&mut directory, followed(round, 7, StreamNews::Row { row: rows[0].clone(), reason: None }));
    let again = round_asked(&mut directory);
    assert!(again > round);
    say(&mut directory, followed(again, 1, page(&rows[..2], None, false)));
    let told = events(&mut directory);
    assert_eq!(told[0], registered(&rows[0]));
    assert!(matches!(&told[1], StreamEvent::Stopped { last, .. } if *last == rows[2]));
    assert_eq!(told.len(), 2, "what is as it was is not told again");
    // A sum that is not the mirror's.
    let sum = rows[..2].iter().fold(0_u64, |sum, row| sum.wrapping_add(row.digest()));
    say(&mut directory, followed(again, 2, StreamNews::Sum { rows: 2, sum }));
    assert!(outputs(&mut directory).is_empty());
    say(&mut directory, followed(again, 3, StreamNews::Sum { rows: 2, sum: sum ^ 1 }));
    assert!(round_asked(&mut directory) > again);
}

#[test]
fn an_owner_tells_so_many_streams_of_one_member() {
    let mut directory = alone();
    let view = Arc::clone(directory.view().unwrap());
    assert!(view.contains(ME));
    for stream in 0..STREAMS_MAX as u64 + 5 {
        directory.on_follow(OTHER, stream, 1, Box::default(), FollowAsk::Page { after: None });
    }
    assert_eq!(directory.followers.len(), STREAMS_MAX);
    outputs(&mut directory);
    // The one that had to go is told so when it asks.
    directory.on_follow(OTHER, 0, 1, Box::default(), FollowAsk::Sum);
    let told = outputs(&mut directory);
    assert!(matches!(told[..], [Output::Send(OTHER, Message::Followed { stream: 0, number: 0, .. })]));
}

#[test]
fn the_oldest_reasons_of_ends_are_forgotten() {
    let mut directory = alone();
    for number in 0..10_000 {
        directory.note_end(&name(number), &ExitReason::Killed);
        directory.note_end(&name(number / 2), &ExitReason::Normal);
    }
    assert_eq!(directory.followers.ends(), 4_096);
    directory.forget_followers();
    assert_eq!(Followers::default().ends(), directory.followers.ends());
}

#[test]
fn questions_wait_until_all_slots_serve_and_only_so_many() {
    let mut directory = alone();
    directory.unsettled.insert(SlotId(3));
    outputs(&mut directory);
    for number in 0..5_000 {
        directory.on_count_ask(OTHER, number, Box::default());
        directory.on_count_ask(OTHER, number % 10, Box::default());
    }
    assert!(outputs(&mut directory).is_empty());
    directory.unsettled.clear();
    directory.finish(Time::ZERO);
    let answers = outputs(&mut directory);
    let is_answer = |o: &Output| matches!(o, Output::Send(OTHER, Message::CountAnswer { names: 0, .. }));
    assert_eq!(answers.iter().filter(|output| is_answer(output)).count(), 4_096, "each once");
}

#[test]
fn a_page_has_so_many_bytes() {
    let mut directory = with_another();
    // Its own part is empty.
    directory.unsettled.clear();
    directory.handle_list(1, Filter::all(), Duration::from_secs(5), Time::ZERO);
    let map = Metadata::new().with("k", &"x".repeat(4_000)).unwrap();
    let rows: Vec<Listed> = names_of(&directory, OTHER, LIST_BYTES_MAX / 4_000 + 200)
        .into_iter()
        .map(|row| Listed { meta: MetaRead { version: 1, map: map.clone() }, ..row })
        .collect();
    let mut after = None;
    for part in rows.chunks(FILL_BYTES_MAX / 4_200) {
        let rows = part.to_vec();
        say(&mut directory, Message::ListAnswer { number: 1, rows, after, more: true });
        after = part.last().map(|row| row.name.clone());
    }
    let told = outputs(&mut directory).into_iter().find_map(|output| match output {
        Output::Listed { rows, next, complete, .. } => Some((rows, next, complete)),
        _ => None,
    });
    let (told, next, complete) = told.unwrap();
    assert!(complete && told.len() < rows.len() && told.len() * 4_000 > LIST_BYTES_MAX / 2);
    assert_eq!(next, told.last().map(|row| row.name.clone()));
}

#[test]
fn rows_of_others_and_filters_beyond_all_names_are_refused() {
    let mut directory = with_another();
    let mine = names_of(&directory, ME, 1).remove(0);
    let theirs = names_of(&directory, OTHER, 2);
    let long = Box::new(Filter::all().prefix(&"x".repeat(256)));
    let news = |news| followed(1, 1, news);
    let bad_token = Listed { born: Token::from_u64(u64::MAX), ..theirs[0].clone() };
    let text = Some(ExitReason::Error("x".repeat(5_000)));
    let lies = [
        Message::ListAsk { number: 1, filter: long.clone() },
        Message::CountAsk { number: 1, filter: long.clone() },
        Message::Follow { stream: 1, round: 1, filter: long, ask: FollowAsk::Sum },
        Message::ListAnswer { number: 1, rows: vec![mine.clone()], after: None, more: false },
        Message::ListAnswer { number: 1, rows: vec![bad_token], after: None, more: false },
        news(StreamNews::Row { row: mine.clone(), reason: None }),
        news(StreamNews::Row { row: theirs[0].clone(), reason: text }),
        news(StreamNews::Gone { name: mine.name.clone(), reason: None, now: None }),
        news(StreamNews::Gone { name: theirs[0].name.clone(), reason: None, now: Some(theirs[1].clone()) }),
        news(StreamNews::Page { after: None, rows: vec![mine.clone()], more: false, ends: Vec::new() }),
        news(StreamNews::Page {
            after: None,
            rows: Vec::new(),
            more: false,
            ends: vec![(mine.name, ExitReason::Killed)],
        }),
    ];
    for lie in lies {
        say(&mut directory, lie.clone());
        assert_eq!(refused(&mut directory), 1, "{lie:?}");
    }
    say(&mut directory, news(StreamNews::Row { row: theirs[0].clone(), reason: None }));
    assert_eq!(refused(&mut directory), 0);
}
