//! Every node reads the same members of a group, and they are those that joined and did not leave (I9, P2).
//!
//! Judged when all has healed and the nodes have agreed: each node's reading of each group is complete and the same, its
//! members are those whose records say so, and the numbers of members agree with that. Judged of every complete reading
//! in runs without a cut, a pause or a change of lines, in which no slot lost all copies: it has whoever was acknowledged
//! before it began and has not left since, through restarts, moves and node losses, and nobody who never joined, or whose
//! leaving, or the stop of whose name, was acknowledged before it began. A join or leave without a certain outcome may be
//! either. Of the last readings the same is judged whatever the faults, of joins and leaves that were asked for and
//! acknowledged while nothing was disturbed. Versions of metadata rise with every change.
//! Loosened: an index hears of a name that is free after who stopped it: 8 s are given. And of a name that lived in two lines at once, only what all sides did before they parted.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_core::base::{ErrorCode, Executed};
use whimbrel_core::directory::RestartPolicy;

use super::{Facts, Violation, ms, outcomes, violated};
use crate::history::{End, Inspected, Life, Micros, NEVER, Op, OpKind, Outcome, Reading, Roll, SECOND};

const NAME: &str = "groups";
/// So long an index may take to hear that a name is free: nobody waits for that.
const HEARD: Micros = 8 * SECOND;

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    check_ends(facts, found);
    if facts.history.converged.is_some() {
        check_agreement(facts, found);
    }
    let mut changes = Changes::of(facts);
    let strict = facts.crash_only && !facts.copies_lost;
    if !strict {
        changes.keep_undisturbed(facts);
    }
    for (at, reading) in facts.history.readings.iter().enumerate() {
        let judged = strict || (reading.last && !facts.copies_lost && facts.history.converged.is_some());
        if judged && let Some((over, roll)) = reading.over.as_ref().filter(|(_, roll)| roll.complete) {
            check_members(facts, &changes, at, reading, (*over, roll), found);
        }
    }
    for inspected in &facts.history.inspected {
        let last = facts.history.ops[inspected.op as usize].invoked >= facts.history.healed;
        if strict || (last && !facts.copies_lost && facts.history.converged.is_some()) {
            check_record(facts, &changes, inspected, found);
        }
    }
    if strict {
        check_versions(facts, &changes, found);
    }
}

/// Every reading ends by its deadline.
fn check_ends(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    let history = facts.history;
    let readings =
        history.readings.iter().map(|r| (r.host, r.invoked, r.deadline, r.over.as_ref().map(|o| o.0)));
    let censuses =
        history.censuses.iter().map(|r| (r.host, r.invoked, r.deadline, r.over.as_ref().map(|o| o.0)));
    for (host, invoked, deadline, over) in readings.chain(censuses) {
        let due = outcomes::due(facts, host, invoked, deadline);
        let late = over.is_none_or(|over| over > due) && history.ended > due;
        if late && !history.killed_between(host, invoked, due) {
            let text = format!("a reading on n{} at {} has no end by {}", host + 1, ms(invoked), ms(due));
            return violated(found, NAME, text);
        }
    }
}

/// When nothing changes any more: all nodes, the records and the numbers say the same.
fn check_agreement(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    let history = facts.history;
    let mut first: BTreeMap<u32, (&Reading, &Roll)> = BTreeMap::new();
    for reading in history.readings.iter().filter(|reading| reading.last) {
        let Some((_, roll)) = &reading.over else { continue };
        let group = reading.group;
        if changes_late(facts, group) {
            continue;
        }
        if !roll.complete {
            let text = format!("n{} reads group g{group} in part alone, after healing", reading.host + 1);
            return violated(found, NAME, text);
        }
        let (other, known) = *first.entry(group).or_insert((reading, roll));
        if known != roll {
            let differ = difference(facts, known, roll);
            let (a, b) = (other.host + 1, reading.host + 1);
            return violated(found, NAME, format!("n{a} and n{b} read group g{group} differently: {differ}"));
        }
    }
    for (group, (_, roll)) in &first {
        if let Some(text) = unlike_records(facts, *group, roll) {
            return violated(found, NAME, text);
        }
    }
    for census in history.censuses.iter().filter(|census| census.last) {
        let Some((_, counts)) = &census.over else { continue };
        let members = |(group, (_, roll)): (&u32, &(&Reading, &Roll))| (*group, roll.members.len());
        let expected: Vec<_> = first.iter().map(members).filter(|(_, count)| *count > 0).collect();
        let late = |group: u32| changes_late(facts, group);
        let counted: Vec<_> = counts.counts.iter().copied().filter(|(group, _)| !late(*group)).collect();
        if counted != expected || !counts.complete {
            let text = format!("n{} counts {counts:?}; the groups have {expected:?}", census.host + 1);
            return violated(found, NAME, text);
        }
    }
}

/// Whether somebody joins or leaves while the last readings go on: a process may begin anew so late, and join in its `init`.
fn changes_late(facts: &Facts<'_>, group: u32) -> bool {
    let last = facts.history.readings.iter().filter(|reading| reading.last).map(|reading| reading.invoked);
    let from = last.min().unwrap_or(NEVER);
    facts.history.ops.iter().any(|op| {
        let of_group = op.kind == OpKind::Join { group } || op.kind == OpKind::Leave { group };
        of_group && op.completed.as_ref().is_none_or(|(at, _)| *at >= from) && op.deadline >= from
    })
}

fn difference(facts: &Facts<'_>, one: &Roll, other: &Roll) -> String {
    let (one, other): (BTreeSet<_>, BTreeSet<_>) =
        (one.members.iter().collect(), other.members.iter().collect());
    let names =
        one.symmetric_difference(&other).map(|(name, by)| format!("{} by {by:?}", facts.history.name(*name)));
    names.collect::<Vec<_>>().join(", ")
}

/// Where the index of a group and the records of names do not agree.
fn unlike_records(facts: &Facts<'_>, group: u32, roll: &Roll) -> Option<String> {
    let history = facts.history;
    let members: BTreeSet<u32> = roll.members.iter().map(|(name, _)| *name).collect();
    for op in history.ops.iter().filter(|op| op.kind == OpKind::Inspect && op.invoked >= history.healed) {
        let text = history.name(op.name);
        let not_found = op.failed().is_some_and(|(code, _)| code == ErrorCode::NotFound);
        if not_found && members.contains(&op.name) {
            return Some(format!("{text} is a member of g{group} and not there"));
        }
    }
    for inspected in &history.inspected {
        let op = &history.ops[inspected.op as usize];
        let says = inspected.groups.iter().any(|(other, _)| *other == group);
        if op.invoked >= history.healed && says != members.contains(&op.name) {
            let (text, not) = (history.name(op.name), if says { "not " } else { "" });
            return Some(format!("{text} is {not}read as a member of g{group}, against its record"));
        }
    }
    None
}

/// Something that changes who is a member: it takes effect between two times, if it is certain that it does.
#[derive(Clone, Copy, Debug)]
struct Change {
    from: Micros,
    until: Micros,
    certain: bool,
    /// The operation, if it is one.
    op: Option<u32>,
    /// It was answered when the index knew of it.
    awaited: bool,
}

/// What made names members of groups, and what ended that.
struct Changes {
    joins: BTreeMap<(u32, u32), Vec<Change>>,
    leaves: BTreeMap<(u32, u32), Vec<Change>>,
    /// Ends of the whole name, with all it was a member of.
    ends: BTreeMap<u32, Vec<Change>>,
}

impl Changes {
    fn of(facts: &Facts<'_>) -> Self {
        let mut changes = Self { joins: BTreeMap::new(), leaves: BTreeMap::new(), ends: BTreeMap::new() };
        for (at, op) in facts.history.ops.iter().enumerate() {
            let Some(change) = change(at, op) else { continue };
            match op.kind {
                OpKind::Join { group } => changes.joins.entry((op.name, group)).or_default().push(change),
                OpKind::Leave { group } => changes.leaves.entry((op.name, group)).or_default().push(change),
                OpKind::Stop => changes.ends.entry(op.name).or_default().push(change),
                _ => {}
            }
        }
        for life in facts.history.lives.iter().filter(|life| frees(facts, life)) {
            changes.ends.entry(life.name).or_default().push(end_of(facts, life));
        }
        changes
    }

    /// What happened while something was disturbed may have happened in one line and not in the other.
    fn keep_undisturbed(&mut self, facts: &Facts<'_>) {
        let windows = facts.excused_windows();
        for change in
            self.joins.values_mut().chain(self.leaves.values_mut()).chain(self.ends.values_mut()).flatten()
        {
            let disturbed =
                windows.iter().any(|(from, until)| *from <= change.until && change.from <= *until);
            if disturbed || change.op.is_none() {
                (change.until, change.certain) = (NEVER, false);
            }
        }
    }

    fn groups(&self) -> BTreeSet<u32> {
        self.joins.keys().map(|(_, group)| *group).collect()
    }

    fn ends_of(&self, name: u32, group: u32) -> impl Iterator<Item = &Change> {
        self.leaves.get(&(name, group)).into_iter().chain(self.ends.get(&name)).flatten()
    }

    /// A join that was acknowledged before a time, and nothing that may have undone it until another.
    fn must_be_member(&self, name: u32, group: u32, before: Micros, until: Micros) -> Option<Change> {
        let joins = self.joins.get(&(name, group)).into_iter().flatten();
        joins.copied().find(|join| {
            let undone = |end: &Change| end.until >= join.from && end.from <= until;
            join.certain && join.until < before && !self.ends_of(name, group).any(undone)
        })
    }

    /// Whether some join may still hold.
    fn may_be_member(&self, name: u32, group: u32, before: Micros, until: Micros) -> bool {
        self.joins.get(&(name, group)).into_iter().flatten().any(|join| {
            let heard = |end: &Change| end.until.saturating_add(if end.awaited { 0 } else { HEARD });
            let undone = |end: &Change| end.certain && end.from > join.until && heard(end) < before;
            join.from <= until && !self.ends_of(name, group).any(undone)
        })
    }
}

fn change(at: usize, op: &Op) -> Option<Change> {
    let (until, certain) = match &op.completed {
        Some((over, Outcome::Ok)) => (*over, true),
        Some((_, Outcome::Failed { executed: Executed::No, .. })) => return None,
        _ => (NEVER, false),
    };
    let awaited = op.kind != OpKind::Stop;
    Some(Change { from: op.invoked, until, certain, op: Some(at as u32), awaited })
}

/// Whether the end of this life ends its name.
fn frees(facts: &Facts<'_>, life: &Life) -> bool {
    let Some((_, end)) = life.ended else { return false };
    match (life.policy, end) {
        // A temporary one whose target was gone when it came to run there is not started again.
        (RestartPolicy::Temporary, End::Moved) => {
            let lives =
                facts.lives[life.name as usize].iter().map(|life| &facts.history.lives[*life as usize]);
            !lives.into_iter().any(|next| {
                next.gate == life.gate && next.launched >= life.launched && next.token > life.token
            })
        }
        (_, End::Moved) => false,
        (_, End::InitFailed) => {
            let lives =
                facts.lives[life.name as usize].iter().map(|life| &facts.history.lives[*life as usize]);
            life.policy == RestartPolicy::Temporary
                || !lives.into_iter().any(|other| other.request == life.request && other.running.is_some())
        }
        (RestartPolicy::Temporary, _) | (_, End::Terminated) => true,
        // A node that leaves ends what it has, as a stop would.
        (RestartPolicy::Transient, End::Normal | End::Stopped) => true,
        (RestartPolicy::Transient | RestartPolicy::Permanent, _) => false,
    }
}

/// It is over when the name was started again.
fn end_of(facts: &Facts<'_>, life: &Life) -> Change {
    let ops = facts.ops[life.name as usize].iter().map(|op| &facts.history.ops[*op as usize]);
    let again = ops.filter_map(|op| match &op.completed {
        Some((at, Outcome::Started { .. })) if *at > life.end() => Some(*at),
        _ => None,
    });
    let again = again.min();
    Change {
        from: life.end(),
        until: again.unwrap_or(NEVER),
        certain: again.is_some(),
        op: None,
        awaited: false,
    }
}

/// What is wrong about a name that is said to be in a group, or not.
fn false_membership(
    facts: &Facts<'_>,
    changes: &Changes,
    (name, group): (u32, u32),
    said: Option<Option<u32>>,
    (from, until): (Micros, Micros),
) -> Option<String> {
    let history = facts.history;
    let text = format!("{} in g{group}", history.name(name));
    let Some(by) = said else {
        let join = changes.must_be_member(name, group, from, until)?;
        return Some(format!(
            "misses {text}, whose join {:?} was acknowledged at {}",
            join.op,
            ms(join.until)
        ));
    };
    if !changes.may_be_member(name, group, from, until) {
        return Some(format!("has {text}, which never joined, or has left"));
    }
    let is_join = |op: u32| {
        let join = history.ops.get(op as usize);
        join.is_some_and(|join| join.name == name && join.kind == OpKind::Join { group })
    };
    (!by.is_some_and(is_join)).then(|| format!("has {text} with the metadata of no join of it: {by:?}"))
}

fn check_members(
    facts: &Facts<'_>,
    changes: &Changes,
    at: usize,
    reading: &Reading,
    (over, roll): (Micros, &Roll),
    found: &mut Vec<Violation>,
) {
    let Reading { group, host, invoked, .. } = *reading;
    for name in 0..facts.history.names.len() as u32 {
        let said = roll.members.iter().find(|(member, _)| *member == name).map(|(_, by)| *by);
        let failed = false_membership(facts, changes, (name, group), said, (invoked, over));
        if let Some(failed) = failed {
            let text =
                format!("reading {at} on n{}, from {} to {}, {failed}", host + 1, ms(invoked), ms(over));
            return violated(found, NAME, text);
        }
    }
}

/// The same of what a record says.
fn check_record(facts: &Facts<'_>, changes: &Changes, inspected: &Inspected, found: &mut Vec<Violation>) {
    let op = &facts.history.ops[inspected.op as usize];
    let over = op.completed.as_ref().map_or(NEVER, |(at, _)| *at);
    for group in changes.groups() {
        let said = inspected.groups.iter().find(|(other, _)| *other == group).map(|(_, by)| *by);
        let failed = false_membership(facts, changes, (op.name, group), said, (op.invoked, over));
        if let Some(failed) = failed {
            let text = format!("record {} on n{}, at {}, {failed}", inspected.op, op.host + 1, ms(over));
            return violated(found, NAME, text);
        }
    }
}

/// Of two changes of a name's metadata one after the other the later one has the higher version.
fn check_versions(facts: &Facts<'_>, changes: &Changes, found: &mut Vec<Violation>) {
    for (name, ops) in facts.ops.iter().enumerate() {
        let mut last: Option<(Micros, Micros, u64, u32)> = None;
        for at in ops {
            let op = &facts.history.ops[*at as usize];
            let Some((over, Outcome::Changed { version })) = &op.completed else { continue };
            if let Some((begun, ended, before, other)) = last {
                let freed = changes.ends.get(&(name as u32)).into_iter().flatten();
                let freed = freed.into_iter().any(|end| end.until >= begun && end.from <= *over);
                let in_order = op.invoked > ended;
                if !freed && (*version == before || (in_order && *version < before)) {
                    let text = facts.history.name(name as u32);
                    let text = format!(
                        "metadata of {text}: {other} made version {before}, then {at} made {version}"
                    );
                    return violated(found, NAME, text);
                }
            }
            last = Some((op.invoked, *over, *version, *at));
        }
    }
}
