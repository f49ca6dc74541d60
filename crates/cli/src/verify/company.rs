//! Groups and monitors: who was read to be in a group and is not, which ends somebody should have heard of.

use std::collections::{BTreeMap, BTreeSet};

use super::evidence::Evidence;
use super::kills::Kill;
use super::report::{GroupFigures, MonitorFigures};
use crate::demo::evidence::{CLEANER, MonitorAt, MonitorLine, Op, counter_name, group_name};

/// One monitor: the OS process that set it, whom it watches, its number there.
type Id<'a> = (u32, &'a str, u64);

/// What became of one.
#[derive(Debug, Default)]
struct Watched<'a> {
    set_us: Option<u64>,
    downs: Vec<&'a MonitorLine>,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Company {
    pub(crate) groups: GroupFigures,
    pub(crate) monitors: MonitorFigures,
    /// Ends that somebody was told of and that were none.
    pub(crate) downs_unexplained: Vec<String>,
    /// Steps after which not every group was read.
    pub(crate) steps_unread: Vec<String>,
}

/// Steps after which every group is read.
const READ_AFTER: [&str; 3] = ["start", "node_kill", "rolling_restart"];

impl Company {
    pub(crate) fn judge(evidence: &Evidence, kills: &[Kill]) -> Self {
        let monitors = by_id(&evidence.monitors);
        let ends = ends(evidence, kills);
        let end_us = evidence.steps.last().map_or(0, |step| step.t1_us);
        let (mut missing, mut twice, mut explained) = (0, 0, BTreeSet::new());
        for (id, watched) in &monitors {
            twice += (watched.downs.len() as u64).saturating_sub(1);
            let Some(set_us) = watched.set_us else { continue };
            let due = ends.get(id.1).into_iter().flatten().find(|end| set_us <= end.at_us);
            let Some(due) = due.filter(|end| lives_on(evidence, id.0, end.at_us)) else { continue };
            match watched.downs.iter().find(|down| down.t_us >= due.at_us && due.is_told_by(down)) {
                Some(_) => drop(explained.insert(*id)),
                None => missing += 1,
            }
        }
        let unexplained = evidence.monitors.iter().filter(|line| {
            let early = line.t_us <= end_us;
            line.at == MonitorAt::Down && early && !explained.contains(&id_of(line))
        });
        let downs_unexplained =
            unexplained.map(|line| format!("{} at {}: {:?}", line.name, line.node, line.reason)).collect();
        let count = |at: MonitorAt| evidence.monitors.iter().filter(|line| line.at == at).count() as u64;
        let (set, downs) = (count(MonitorAt::Set), count(MonitorAt::Down));
        Self {
            groups: groups(evidence),
            monitors: MonitorFigures { set, downs, missing, twice },
            downs_unexplained,
            steps_unread: steps_unread(evidence),
        }
    }
}

fn id_of(line: &MonitorLine) -> Id<'_> {
    (line.pid, &line.name, line.number)
}

fn by_id(lines: &[MonitorLine]) -> BTreeMap<Id<'_>, Watched<'_>> {
    let mut monitors: BTreeMap<Id<'_>, Watched<'_>> = BTreeMap::new();
    for line in lines {
        let watched = monitors.entry(id_of(line)).or_default();
        match line.at {
            MonitorAt::Set => watched.set_us = Some(line.t_us),
            MonitorAt::Down => watched.downs.push(line),
        }
    }
    monitors
}

/// The end of one life, as others than the watchers wrote it down.
struct End {
    at_us: u64,
    reason: &'static str,
}

impl End {
    fn is_told_by(&self, line: &MonitorLine) -> bool {
        line.reason.as_ref().is_some_and(|reason| reason.starts_with(self.reason))
    }
}

/// Ends by name, in order: those that a kill of a node made, and the panic of the cleaner.
fn ends<'a>(evidence: &'a Evidence, kills: &'a [Kill]) -> BTreeMap<&'a str, Vec<End>> {
    let mut ends: BTreeMap<&str, Vec<End>> = BTreeMap::new();
    for kill in kills {
        for name in kill.names.keys() {
            ends.entry(name).or_default().push(End { at_us: kill.at_us, reason: "node lost" });
        }
    }
    let told: BTreeSet<&str> =
        evidence.history.iter().filter(|line| line.op == Op::Panic).map(|line| line.id.as_str()).collect();
    for line in evidence.handled.iter().filter(|line| told.contains(line.id.as_str())) {
        ends.entry(CLEANER).or_default().push(End { at_us: line.t_us, reason: "panic" });
    }
    for all in ends.values_mut() {
        all.sort_by_key(|end| end.at_us);
    }
    ends
}

/// Whether an OS process was there to the end of the step of this moment.
fn lives_on(evidence: &Evidence, pid: u32, at_us: u64) -> bool {
    let step = evidence.steps.iter().find(|step| step.t0_us <= at_us && at_us < step.t1_us);
    step.is_some_and(|step| step.exits.iter().all(|exit| exit.pid != pid))
}

/// The members that a group of so many counters has.
fn members_of(counters: u32) -> BTreeMap<String, BTreeSet<String>> {
    let mut groups: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for counter in 0..counters {
        groups.entry(group_name(counter)).or_default().insert(counter_name(counter));
    }
    groups
}

fn groups(evidence: &Evidence) -> GroupFigures {
    let expected = members_of(evidence.run.names);
    let mut wrong = 0;
    for line in &evidence.groups {
        let read: BTreeSet<String> = line.members.iter().cloned().collect();
        let nobody = BTreeSet::new();
        let is = expected.get(&line.group).unwrap_or(&nobody);
        wrong += read.symmetric_difference(is).count() as u64;
        // A name that is told twice is wrong too.
        wrong += (line.members.len() - read.len()) as u64;
    }
    let is_read = !evidence.groups.is_empty();
    GroupFigures { count: expected.len() as u64, members_wrong: is_read.then_some(wrong) }
}

fn steps_unread(evidence: &Evidence) -> Vec<String> {
    let groups = members_of(evidence.run.names);
    let planned = |step: &&&str| evidence.run.planned.iter().any(|planned| planned == **step);
    let unread = READ_AFTER.iter().filter(planned).filter(|step| {
        let lines = evidence.groups.iter().filter(|line| line.step == **step);
        lines.map(|line| &line.group).collect::<BTreeSet<_>>().len() < groups.len()
    });
    unread.map(|step| (*step).to_owned()).collect()
}
