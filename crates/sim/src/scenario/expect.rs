//! What a scenario expects, held against the history.

use std::collections::BTreeSet;

use whimbrel_core::base::{ErrorCode, ExitReason};

use super::Run;
use super::parse::Expected;
use crate::history::{Life, Monitor, Outcome, Told};

impl Run<'_> {
    /// What is not as expected.
    pub(super) fn expect(&self, expected: &Expected) -> Option<String> {
        match expected {
            Expected::Outcome { label, outcome } => self.expect_outcome(label, outcome),
            Expected::Handled { label } => self.expect_handled(label),
            Expected::RunsOn { name, host } => {
                let hosts = self.running(*name);
                (hosts != [*host]).then(|| self.runs_elsewhere(*name, &hosts))
            }
            Expected::RunsOnce { name } => {
                let hosts = self.running(*name);
                (hosts.len() != 1).then(|| self.runs_elsewhere(*name, &hosts))
            }
            Expected::RunsNowhere { name } => {
                let hosts = self.running(*name);
                (!hosts.is_empty()).then(|| self.runs_elsewhere(*name, &hosts))
            }
            Expected::Lives { name, count } => {
                let lives = self.world.history.lives.iter().filter(|life| life.name == *name).count();
                (lives != *count).then(|| format!("{} had {lives} lives, not {count}", self.name(*name)))
            }
            Expected::View(hosts) => self.expect_view(hosts),
            Expected::Mark(mark) => {
                let seen = self.world.stats.marks.keys().any(|seen| seen == mark);
                (!seen).then(|| format!("the world did not see {mark}"))
            }
            Expected::Members { label, names } => self.expect_members(label, names),
            Expected::Told { label, reasons } => self.expect_told(label, reasons),
            Expected::LastSnapshot { label } => self.expect_last_snapshot(label),
            Expected::ViewsMax(most) => self.expect_views(*most),
            Expected::Drained { host, left } => {
                let drain = self.world.history.drains.iter().rev().find(|drain| drain.host == *host);
                let over = drain.filter(|drain| drain.over.is_some()).map(|drain| drain.stayed.len());
                (over != Some(*left)).then(|| format!("n{} has {over:?} left of its drain", host + 1))
            }
        }
    }

    fn name(&self, name: u32) -> &str {
        self.world.history.name(name)
    }

    fn running(&self, name: u32) -> Vec<u16> {
        let runs = |life: &&Life| life.name == name && life.running.is_some() && life.ended.is_none();
        self.world.history.lives.iter().filter(runs).map(|life| life.host).collect()
    }

    fn runs_elsewhere(&self, name: u32, hosts: &[u16]) -> String {
        let hosts: Vec<String> = hosts.iter().map(|host| format!("n{}", host + 1)).collect();
        format!("{} runs on [{}]", self.name(name), hosts.join(", "))
    }

    fn op(&self, label: &str) -> Option<u32> {
        self.ops.iter().find(|(known, _)| known == label).map(|(_, op)| *op)
    }

    fn expect_outcome(&self, label: &str, expected: &str) -> Option<String> {
        let Some(op) = self.op(label) else { return Some(format!("{label} was not done")) };
        let op = &self.world.history.ops[op as usize];
        let actual = match (&op.completed, &op.dead_letter) {
            (_, Some((_, code, _))) => code.as_str(),
            (None, _) => "pending",
            (Some((_, Outcome::Ok)), _) => "ok",
            (Some((_, Outcome::Started { .. })), _) => "started",
            (Some((_, Outcome::Already { .. })), _) => ErrorCode::AlreadyRunning.as_str(),
            (Some((_, Outcome::Located { .. })), _) => "located",
            (Some((_, Outcome::Changed { .. })), _) => "changed",
            (Some((_, Outcome::Conflict { .. })), _) => ErrorCode::WrongVersion.as_str(),
            (Some((_, Outcome::Failed { code, .. })), _) => code.as_str(),
        };
        let expected = if expected == "already" { ErrorCode::AlreadyRunning.as_str() } else { expected };
        (actual != expected).then(|| format!("{label} ended {actual}, not {expected}"))
    }

    fn expect_handled(&self, label: &str) -> Option<String> {
        let Some(op) = self.op(label) else { return Some(format!("{label} was not done")) };
        let times = self.world.history.handled.iter().filter(|handled| handled.op == op).count();
        (times != 1).then(|| format!("{label} was handled {times} times"))
    }

    fn expect_members(&self, label: &str, names: &[u32]) -> Option<String> {
        let at = self.readings.iter().find(|(known, _)| known == label).map(|(_, at)| *at as usize);
        let reading = at.and_then(|at| self.world.history.readings.get(at));
        let Some((_, roll)) = reading.and_then(|reading| reading.over.as_ref()) else {
            return Some(format!("{label} is not over, or never began"));
        };
        let members: Vec<&str> = roll.members.iter().map(|(name, _)| self.name(*name)).collect();
        let expected: BTreeSet<&str> = names.iter().map(|name| self.name(*name)).collect();
        let fits = roll.complete && expected == members.iter().copied().collect();
        (!fits).then(|| format!("{label} has [{}], complete: {}", members.join(", "), roll.complete))
    }

    fn monitor(&self, label: &str) -> Option<&Monitor> {
        let at = self.monitors.iter().find(|(known, _)| known == label)?.1;
        self.world.history.monitors.get(at as usize)
    }

    fn expect_told(&self, label: &str, reasons: &[String]) -> Option<String> {
        let Some(monitor) = self.monitor(label) else { return Some(format!("{label} was not set")) };
        let lives = &self.world.history.lives;
        let own = |told: &Told| {
            let life = lives.iter().find(|life| life.name == monitor.name && life.token == told.token);
            life.is_some_and(|life| life.reason.as_ref() == Some(&told.reason))
        };
        let word = |(at, told): (usize, &Told)| match reasons.get(at).is_some_and(|word| word == "own") {
            true if own(told) => "own",
            _ => word_of(&told.reason),
        };
        let told: Vec<&str> = monitor.told.iter().enumerate().map(word).collect();
        (told != *reasons).then(|| format!("{label} was told [{}]", told.join(", ")))
    }

    fn expect_last_snapshot(&self, label: &str) -> Option<String> {
        let Some(monitor) = self.monitor(label) else { return Some(format!("{label} was not set")) };
        let lives = &self.world.history.lives;
        let mut snapshots = self.world.history.snapshots.iter();
        let last = snapshots.rposition(|it| lives[it.life as usize].name == monitor.name).map(|at| at as u32);
        let told = monitor.told.last().and_then(|told| told.snapshot);
        (told.is_none() || told != last).then(|| format!("{label} was told of {told:?}, not {last:?}"))
    }

    fn expect_view(&self, hosts: &[u16]) -> Option<String> {
        let views: Vec<_> = hosts.iter().map(|host| self.world.view_of(*host)).collect();
        let named: Vec<String> = hosts.iter().map(|host| format!("n{}", host + 1)).collect();
        let fits = |view: &whimbrel_core::view::View| {
            view.members.len() == hosts.len()
                && named.iter().all(|name| view.members.iter().any(|member| member.name.as_str() == name))
        };
        let first = views.first().cloned().flatten();
        let one = first.as_ref().is_some_and(|first| {
            fits(first) && views.iter().all(|view| view.as_ref().is_some_and(|view| view.id == first.id))
        });
        (!one).then(|| {
            let told: Vec<String> =
                hosts.iter().zip(&views).map(|(host, view)| tell(*host, view.as_deref())).collect();
            format!("no common view: {}", told.join("; "))
        })
    }

    fn expect_views(&self, most: usize) -> Option<String> {
        let history = &self.world.history;
        let hosts = history.installed.iter().map(|installed| installed.host).max().map_or(0, |host| host + 1);
        let count = |host: u16| history.installed.iter().filter(|installed| installed.host == host).count();
        let worst = (0..hosts).max_by_key(|host| count(*host))?;
        (count(worst) > most).then(|| format!("n{} installed {} views", worst + 1, count(worst)))
    }
}

/// A reason in one word.
fn word_of(reason: &ExitReason) -> &'static str {
    match reason {
        ExitReason::Normal => "normal",
        ExitReason::Shutdown => "shutdown",
        ExitReason::Error(_) => "error",
        ExitReason::Panic(_) => "panic",
        ExitReason::Killed => "killed",
        ExitReason::NodeLost => "node_lost",
        ExitReason::ConflictLost => "conflict_lost",
        ExitReason::Quarantined => "quarantined",
        ExitReason::Moved => "moved",
        ExitReason::NoProcess => "no_process",
    }
}

fn tell(host: u16, view: Option<&whimbrel_core::view::View>) -> String {
    let Some(view) = view else { return format!("n{}: none", host + 1) };
    let members: Vec<&str> = view.members.iter().map(|member| member.name.as_str()).collect();
    format!("n{}: {:?} {}", host + 1, view.id, members.join(" "))
}
