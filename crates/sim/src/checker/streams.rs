//! A stream tells the way from each state to the next, and leads to what is there.
//!
//! Judged, whatever the faults: a reader that keeps a table by the events never finds one that does not fit it. Judged when
//! all has healed: the table of each stream of a living node has exactly the names that its filter means, in exactly the
//! groups that their records say, on the nodes where they run. Not of a name of which more was told after its record was
//! looked at.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_core::base::{ErrorCode, Name};
use whimbrel_core::directory::{Listed, StreamEvent};

use super::{Facts, Violation, ms, violated};
use crate::history::{Follows, Micros, Op, OpKind, Outcome, Stream};
use crate::world::{index_of, maker_of};

const NAME: &str = "streams";

type Table = BTreeMap<Name, Listed>;

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    let there = There::of(facts);
    for (at, stream) in facts.history.streams.iter().enumerate() {
        let host = stream.host + 1;
        let table = match replay(stream) {
            Ok(table) => table,
            Err(what) => return violated(found, NAME, format!("stream {at} on n{host}: {what}")),
        };
        let failed = facts.history.converged.filter(|_| lives(facts, stream));
        if let Some(what) = failed.and_then(|_| there.difference(facts, stream, &table)) {
            return violated(found, NAME, format!("stream {at} on n{host} of {:?}: {what}", stream.follows));
        }
    }
}

/// Whether its node was there to the end.
fn lives(facts: &Facts<'_>, stream: &Stream) -> bool {
    let history = facts.history;
    let is_up = history.finals.iter().any(|node| node.host == stream.host && node.incarnation.is_some());
    is_up && !history.boots.iter().any(|(host, at)| *host == stream.host && *at > stream.began)
}

/// What a reader has in its table in the end; or what did not fit it.
fn replay(stream: &Stream) -> Result<Table, String> {
    let mut table = Table::new();
    let mut synced = false;
    for (at, event) in &stream.events {
        let fits = match event {
            StreamEvent::Synced => !std::mem::replace(&mut synced, true),
            StreamEvent::Lagged { .. } => true,
            StreamEvent::Ended(_) => false,
            other => apply(&mut table, other),
        };
        if !fits {
            return Err(format!("at {} it tells what does not follow: {event:?}", ms(*at)));
        }
    }
    Ok(table)
}

/// Whether the event fits what was told before.
fn apply(table: &mut Table, event: &StreamEvent) -> bool {
    if let StreamEvent::Registered(listed) = event {
        return table.insert(listed.name.clone(), listed.clone()).is_none();
    }
    if let StreamEvent::Stopped { name, last, .. } = event {
        return table.remove(name).is_some_and(|row| is_same(&row, last));
    }
    name_of(event).and_then(|name| table.get_mut(name)).is_some_and(|row| change(row, event))
}

/// Whether two rows say the same of all that events tell.
fn is_same(one: &Listed, other: &Listed) -> bool {
    one.meta.map == other.meta.map
        && one.located.host == other.located.host
        && one.groups.len() == other.groups.len()
        && one.groups.iter().all(|known| other.groups.contains(known))
}

/// Brings the row of a name that goes on up to date; whether the event fits it.
fn change(row: &mut Listed, event: &StreamEvent) -> bool {
    match event {
        StreamEvent::Moved { from, to, .. } => {
            let before = std::mem::replace(&mut row.located, to.clone());
            before.host == *from && to.host != *from
        }
        StreamEvent::Restarted { located, .. } => {
            row.located = located.clone();
            true
        }
        StreamEvent::Left { membership, .. } => {
            let before = row.groups.len();
            row.groups.retain(|known| known != membership);
            row.groups.len() + 1 == before
        }
        StreamEvent::Joined { membership, .. } => {
            let is_new = row.groups.iter().all(|known| known.group != membership.group);
            row.groups.push(membership.clone());
            is_new
        }
        StreamEvent::Updated { before, now, .. } => {
            let known = std::mem::replace(&mut row.meta.map, now.clone());
            known == *before && before != now
        }
        StreamEvent::Quarantined { .. } => true,
        StreamEvent::Registered(_)
        | StreamEvent::Stopped { .. }
        | StreamEvent::Synced
        | StreamEvent::Lagged { .. }
        | StreamEvent::Ended(_) => false,
    }
}

/// Whom an event is about.
pub(crate) fn name_of(event: &StreamEvent) -> Option<&Name> {
    match event {
        StreamEvent::Registered(listed) => Some(&listed.name),
        StreamEvent::Moved { name, .. }
        | StreamEvent::Restarted { name, .. }
        | StreamEvent::Left { name, .. }
        | StreamEvent::Joined { name, .. }
        | StreamEvent::Updated { name, .. }
        | StreamEvent::Quarantined { name, .. }
        | StreamEvent::Stopped { name, .. } => Some(name),
        StreamEvent::Synced | StreamEvent::Lagged { .. } | StreamEvent::Ended(_) => None,
    }
}

type Groups = BTreeSet<(u32, Option<u32>)>;

/// What there is in the end, by the records.
struct There {
    /// Names that have a record, and their groups; when it was looked at.
    names: BTreeMap<u32, (Micros, Groups)>,
    /// Names that have none, the same.
    free: BTreeMap<u32, Micros>,
}

impl There {
    fn of(facts: &Facts<'_>) -> Self {
        let history = facts.history;
        let is_last = |op: &Op| op.invoked >= history.healed;
        let inspected = history.inspected.iter().map(|row| (&history.ops[row.op as usize], &row.groups));
        let names = inspected
            .filter(|(op, _)| is_last(op) && matches!(op.completed, Some((_, Outcome::Ok))))
            .map(|(op, groups)| (op.name, (op.invoked, groups.iter().copied().collect())))
            .collect();
        let not_found = |op: &&Op| op.failed().is_some_and(|(code, _)| code == ErrorCode::NotFound);
        let asked = facts.ops.iter().flatten().map(|op| &history.ops[*op as usize]);
        let asked = asked.filter(|op| op.kind == OpKind::Inspect && is_last(op));
        Self { names, free: asked.filter(not_found).map(|op| (op.name, op.invoked)).collect() }
    }

    /// What the table has otherwise than the records.
    fn difference(&self, facts: &Facts<'_>, stream: &Stream, table: &Table) -> Option<String> {
        let history = facts.history;
        let told: BTreeMap<&Name, Micros> =
            stream.events.iter().filter_map(|(at, event)| Some((name_of(event)?, *at))).collect();
        let is_later = |text: &Name, looked: Micros| told.get(text).is_some_and(|at| *at >= looked);
        for (name, looked) in &self.free {
            let text = &history.names[*name as usize];
            if is_later(text, *looked) {
                continue;
            }
            if table.contains_key(text) {
                return Some(format!("it has {text:?}, which is free"));
            }
        }
        for (name, (looked, groups)) in &self.names {
            let text = &history.names[*name as usize];
            if is_later(text, *looked) {
                continue;
            }
            let is_meant = match stream.follows {
                Follows::All => true,
                Follows::Scope => !groups.is_empty(),
                Follows::Group(group) => groups.iter().any(|(other, _)| *other == group),
            };
            let lives = facts.lives[*name as usize].iter().map(|life| &history.lives[*life as usize]);
            let mut living = lives.filter(|life| life.ended.is_none() && life.running.is_some());
            let host = living.next().filter(|_| living.next().is_none()).map(|life| life.host);
            let Some(row) = table.get(text) else {
                // A record is shown when its process has begun to run.
                if is_meant && host.is_some() {
                    return Some(format!("it lacks {text:?}"));
                }
                continue;
            };
            if !is_meant {
                return Some(format!("it has {text:?}, which its filter does not mean"));
            }
            let in_groups = row.groups.iter();
            let told: Groups =
                in_groups.filter_map(|m| Some((index_of(&m.group.name)?, maker_of(&m.meta)))).collect();
            if told != *groups {
                return Some(format!("it has {text:?} in {told:?}, and its record in {groups:?}"));
            }
            let host = history.finals.iter().find(|node| Some(node.host) == host).and_then(|n| n.incarnation);
            if host.is_some_and(|host| host != row.located.host) {
                return Some(format!("it has {text:?} on {:?}, and it runs on {host:?}", row.located.host));
            }
        }
        None
    }
}
