//! Monitors: who watches whom, and what watchers are told.

use std::collections::BTreeMap;

use whimbrel_core::base::{Bytes, ErrorCode, ExitReason};
use whimbrel_core::directory::{Down, Until};
use whimbrel_core::node::Input;

use super::World;
use super::instance::Instance;
use crate::history::{Monitor, SECOND, Snapshot, Told};

/// What a monitor is to wait for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watched {
    /// The life, if it is to be one.
    pub(crate) of: Option<u32>,
    pub(crate) until: Until,
    pub(crate) moves: bool,
}

impl World {
    /// One operation about monitors.
    pub(super) fn monitor_work(&mut self, host: u16, name: u32) {
        if self.bonds_rng.below(8) == 0 {
            return self.withdraw_one(host);
        }
        let by = (self.bonds_rng.below(2) == 0).then(|| self.draw_watcher(host)).flatten();
        let of = (self.bonds_rng.below(4) == 0).then(|| self.present_life(name)).flatten();
        let until = if self.bonds_rng.below(4) == 0 { Until::Name } else { Until::Life };
        let moves = self.bonds_rng.below(3) == 0;
        self.watch(host, by, name, Watched { of, until, moves });
    }

    /// A process of this node that could watch.
    fn draw_watcher(&mut self, host: u16) -> Option<u32> {
        let lives = self.lives_on(host);
        let runs = |life: &u32| {
            let life = &self.history.lives[*life as usize];
            life.running.is_some() && life.sealed.is_none() && life.ended.is_none()
        };
        let lives: Vec<u32> = lives.into_iter().filter(runs).collect();
        let at = self.bonds_rng.below(lives.len().max(1) as u64) as usize;
        lives.get(at).copied()
    }

    /// The last life of a name, whether it has ended or not.
    fn present_life(&mut self, name: u32) -> Option<u32> {
        self.history.lives.iter().rposition(|life| life.name == name).map(|at| at as u32)
    }

    /// Sets a monitor, for a life of this node or for code outside of processes.
    pub(crate) fn watch(&mut self, host: u16, by: Option<u32>, name: u32, watched: Watched) -> Option<u32> {
        let at = self.history.monitors.len() as u32;
        let id = self.bonds_rng.next_u64();
        let asked = self.now;
        self.shell(host)?.monitors.insert(id, at);
        if let Some(instance) = by.and_then(|life| self.instance(host, life)) {
            instance.monitors.insert(id, at);
        }
        let Watched { of, until, moves } = watched;
        self.history.monitors.push(Monitor {
            host,
            by,
            name,
            of,
            until,
            moves,
            asked,
            set: None,
            withdrawn: None,
            told: Vec::new(),
        });
        self.stats.mark("monitor_asked");
        self.ask_to_watch(host, id, at);
        self.flush(host);
        Some(at)
    }

    fn ask_to_watch(&mut self, host: u16, id: u64, at: u32) {
        let Monitor { by, name, of, until, moves, .. } = self.history.monitors[at as usize];
        let text = |name: u32| self.history.names.get(name as usize).cloned();
        let Some(name) = text(name) else { return };
        let by = by.and_then(|life| text(self.history.lives[life as usize].name));
        let of = of.map(|life| self.history.lives[life as usize].token);
        self.input(host, Input::Monitor { id, name, of, until, moves, by });
    }

    /// Withdraws one of the monitors of a node; a process that is on its way does nothing.
    fn withdraw_one(&mut self, host: u16) {
        let draw = self.bonds_rng.next_u64();
        let now = self.now;
        let Some(shell) = self.shell(host) else { return };
        let Some((id, at)) = shell.monitors.range(draw..).next().map(|(id, at)| (*id, *at)) else { return };
        let mut watchers = shell.entries.values_mut().filter_map(|entry| entry.instance.as_mut());
        let watcher = watchers.find(|instance| instance.monitors.contains_key(&id));
        if watcher.as_ref().is_some_and(|instance| instance.moves.is_some()) {
            return;
        }
        if let Some(watcher) = watcher {
            watcher.monitors.remove(&id);
        }
        // It stays known, so that a word that comes all the same is seen.
        self.history.monitors[at as usize].withdrawn.get_or_insert(now);
        self.stats.mark("monitor_withdrawn");
        self.input(host, Input::Demonitor { ids: vec![id] });
        self.flush(host);
    }

    /// A monitor is set, or refused.
    pub(super) fn on_monitored(&mut self, host: u16, id: u64, result: Result<(), ErrorCode>) {
        let now = self.now;
        let Some(at) = self.shell(host).and_then(|shell| shell.monitors.get(&id).copied()) else { return };
        self.stats.mark(if result.is_ok() { "monitor_set" } else { "monitor_refused" });
        let set = result.is_ok();
        let name = self.history.monitors[at as usize].name;
        // Set again after a move: the first time counts.
        self.history.monitors[at as usize].set.get_or_insert((now, result));
        if set {
            self.maybe_ambush_owner(host, name);
        }
    }

    /// A watcher is told.
    pub(super) fn on_down(&mut self, host: u16, id: u64, down: &Down) {
        let Some(at) = self.shell(host).and_then(|shell| shell.monitors.get(&id).copied()) else {
            return self.stats.mark("down_of_nobody");
        };
        self.stats.mark(if down.reason == ExitReason::Moved { "moved_told" } else { "down" });
        if down.reason == ExitReason::NoProcess {
            self.stats.mark("down_no_process");
        }
        let snapshot = down.snapshot.as_ref().and_then(number_of);
        if snapshot.is_some() {
            self.stats.mark("down_with_snapshot");
        }
        let told = Told { host, at: self.now, token: down.token, reason: down.reason.clone(), snapshot };
        self.history.monitors[at as usize].told.push(told);
    }

    /// What a process watches and was not told of yet: it goes with it.
    pub(super) fn monitors_of(&mut self, host: u16, life: u32) -> BTreeMap<u64, u32> {
        let Some(instance) = self.instance(host, life) else { return BTreeMap::new() };
        let mut monitors = instance.monitors.clone();
        monitors.retain(|_, at| self.history.monitors[*at as usize].downs().next().is_none());
        monitors
    }

    /// A process is not here any more.
    pub(super) fn forget_monitors(&mut self, host: u16, instance: &Instance) {
        let Some(shell) = self.shell(host) else { return };
        shell.monitors.retain(|id, _| !instance.monitors.contains_key(id));
    }

    /// A process that watches has come here.
    pub(super) fn watch_again(&mut self, host: u16, life: u32, monitors: BTreeMap<u64, u32>) {
        let Some(shell) = self.shell(host) else { return };
        shell.monitors.extend(&monitors);
        if let Some(instance) = self.instance(host, life) {
            instance.monitors.clone_from(&monitors);
        }
        for (id, at) in monitors {
            self.history.monitors[at as usize].host = host;
            self.stats.mark("monitor_moved");
            self.ask_to_watch(host, id, at);
        }
    }

    /// A process publishes its state: now and then, and at most once a second.
    pub(super) fn maybe_publish(&mut self, host: u16, life: u32) {
        let permille = self.plan.bonds.snapshot_permille;
        if permille == 0 || self.bonds_rng.below(1000) >= permille {
            return;
        }
        let now = self.now;
        let Some(instance) = self.instance(host, life) else { return };
        if instance.published.is_none_or(|at| at + SECOND <= now) {
            instance.published = Some(now);
            self.publish(host, life, false);
        }
    }

    /// A process fails: often a last snapshot of it is taken.
    pub(super) fn publish_last(&mut self, host: u16, life: u32) {
        if self.plan.bonds.snapshot_permille > 0 && self.bonds_rng.below(2) == 0 {
            self.publish(host, life, true);
        }
    }

    /// The life of a name that runs on a machine.
    pub(crate) fn running_on(&mut self, host: u16, name: u32) -> Option<u32> {
        Some(self.shell(host)?.entries.get(&name)?.instance.as_ref()?.life)
    }

    /// A process publishes its state now.
    pub(crate) fn publish_now(&mut self, name: u32) {
        for host in self.up_hosts() {
            if let Some(life) = self.running_on(host, name) {
                self.publish(host, life, false);
                self.flush(host);
            }
        }
    }

    fn publish(&mut self, host: u16, life: u32, last: bool) {
        let Some(instance) = self.instance(host, life) else { return };
        let token = instance.token;
        let number = self.history.snapshots.len() as u32;
        let name = self.history.lives[life as usize].name;
        let Some(name) = self.history.names.get(name as usize).cloned() else { return };
        self.history.snapshots.push(Snapshot { life, at: self.now, last });
        self.stats.mark("snapshot");
        let bytes = Bytes::from(number.to_be_bytes().to_vec());
        self.input(host, Input::Snapshot { name, token, bytes });
    }
}

fn number_of(bytes: &Bytes) -> Option<u32> {
    let bytes: [u8; 4] = bytes.as_slice().try_into().ok()?;
    Some(u32::from_be_bytes(bytes))
}
