//! Monitors, at the node that set them: asked for until they stand at the owner, and told of once.
//!
//! ```text
//!   Monitor          Watched                 Down
//!  ────────> asked ──────────> set ────────────────────────> (told, acknowledged)
//!              ^                │ ^
//!              └────────────────┘ └── away: its process is on its way to another node, which asks for it again there
//!          another line; its slot was lost
//! ```
//!
//! A node knows every monitor of its own, so what the owners have can be lost: it is asked for again. An end that is told
//! of a monitor which nobody here knows was heard before: it is acknowledged and told to nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::message::Message;
use super::monitors::{Down, End, LifeId, Until, Wish};
use super::{Directory, Output, REPEAT};
use crate::base::limits::MONITORS_MAX;
use crate::base::{ErrorCode, ExitReason, Incarnation, Mutant, Name, SlotId, Time, Token};

/// How long a monitor is remembered whose process has gone to another node. By then that node has asked for it.
const AWAY_KEPT: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Mine {
    name: Name,
    of: Option<Token>,
    /// The life that it waits for the end of, once an owner has told which.
    life: Option<LifeId>,
    /// The token of the watching process when it asked here.
    rank: Token,
    until: Until,
    moves: bool,
    by: Option<Name>,
    /// It was told that the monitor stands.
    told: bool,
    /// Where its process is.
    process: Whereabouts,
    /// Until then who it watches may still be on the way into this line.
    again_until: Option<Time>,
}

/// Where the process is that watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whereabouts {
    /// Here, or the watcher is no process.
    Here,
    /// On its way to another node, and it may come back.
    Away,
    /// On another node, which has asked for its monitors.
    Gone,
}

/// The monitors of this node.
#[derive(Debug, Default)]
pub(super) struct Watching {
    mine: BTreeMap<u64, Mine>,
    /// Those of each process.
    by: BTreeMap<Name, BTreeSet<u64>>,
    /// Those that no owner has confirmed.
    asking: BTreeSet<u64>,
    again_at: Option<Time>,
    /// Processes that stand still to be moved.
    leaving: BTreeSet<Name>,
    /// Monitors of processes that have gone to another node, until they are forgotten.
    gone: BTreeSet<(Time, u64)>,
}

impl Watching {
    pub(super) fn len(&self) -> usize {
        self.mine.len()
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.again_at.into_iter().chain(self.gone.first().map(|(at, _)| *at)).min()
    }

    fn remove(&mut self, id: u64) -> Option<Mine> {
        let mine = self.mine.remove(&id)?;
        self.asking.remove(&id);
        if let Some(by) = &mine.by
            && let Some(ids) = self.by.get_mut(by)
        {
            ids.remove(&id);
            if ids.is_empty() {
                self.by.remove(by);
            }
        }
        Some(mine)
    }

    fn of_process(&self, by: &Name) -> Vec<u64> {
        self.by.get(by).into_iter().flatten().copied().collect()
    }
}

impl Directory {
    /// Somebody of this node watches a process, or has come here with its monitors.
    #[allow(clippy::too_many_arguments, reason = "one for each field of the input")]
    pub fn handle_monitor(
        &mut self,
        id: u64,
        name: Name,
        of: Option<Token>,
        until: Until,
        moves: bool,
        by: Option<Name>,
        now: Time,
    ) {
        if self.watching.mine.len() >= MONITORS_MAX && !self.watching.mine.contains_key(&id) {
            return self.tell(Output::Monitored { id, result: Err(ErrorCode::Overloaded) });
        }
        if self.watching.remove(id).is_some() {
            // It has come back.
            self.watching.gone.retain(|(_, gone)| *gone != id);
        }
        if let Some(by) = &by {
            self.watching.by.entry(by.clone()).or_default().insert(id);
        }
        let leaves = by.as_ref().is_some_and(|by| self.watching.leaving.contains(by));
        let process = if leaves { Whereabouts::Away } else { Whereabouts::Here };
        let rank = by.as_ref().and_then(|by| self.token_of_hosted(by)).unwrap_or_default();
        let mine =
            Mine { name, of, life: None, rank, until, moves, by, told: false, process, again_until: None };
        self.watching.mine.insert(id, mine);
        self.watching.asking.insert(id);
        self.ask_to_watch(id, now);
        self.finish(now);
    }

    /// Nobody waits for these any more.
    pub fn handle_demonitor(&mut self, ids: &[u64], now: Time) {
        let mut names: BTreeMap<Name, Vec<u64>> = BTreeMap::new();
        for id in ids {
            if let Some(mine) = self.watching.remove(*id) {
                names.entry(mine.name).or_default().push(*id);
            }
        }
        for (name, ids) in names {
            self.unwatch(name, ids);
        }
        self.finish(now);
    }

    /// A process of this node has ended: what it watched it watches no more.
    pub fn handle_watcher_ended(&mut self, by: &Name, now: Time) {
        self.watching.leaving.remove(by);
        let ids = self.watching.of_process(by);
        if !ids.is_empty() {
            self.handle_demonitor(&ids, now);
        }
    }

    /// A process of this node stands still to be moved, or goes on here: what it watches is not told meanwhile. Owners may
    /// have changed by then, so all of it is asked for again.
    pub fn handle_watcher_away(&mut self, by: &Name, away: bool, now: Time) {
        match away {
            true => self.watching.leaving.insert(by.clone()),
            false => self.watching.leaving.remove(by),
        };
        let process = if away { Whereabouts::Away } else { Whereabouts::Here };
        self.watch_all_again(by, now, |mine| mine.process = process);
    }

    /// A process of this node goes on under a higher token, above that of its other half if it has one.
    pub(super) fn watcher_outranks(&mut self, by: &Name, rank: Token, now: Time) {
        self.watch_all_again(by, now, |mine| mine.rank = rank);
    }

    /// Asks again for all that a process watches, of which something has changed here.
    fn watch_all_again(&mut self, by: &Name, now: Time, change: impl Fn(&mut Mine)) {
        for id in self.watching.of_process(by) {
            self.watching.mine.get_mut(&id).into_iter().for_each(&change);
            self.watching.asking.insert(id);
            self.ask_to_watch(id, now);
        }
    }

    /// A process of this node runs on another one now, which asks for its monitors there.
    pub fn handle_watcher_gone(&mut self, by: &Name, now: Time) {
        for id in self.watching.of_process(by) {
            self.watching.asking.remove(&id);
            if let Some(mine) = self.watching.mine.get_mut(&id) {
                mine.process = Whereabouts::Gone;
            }
            self.watching.gone.insert((now + AWAY_KEPT, id));
        }
        self.watching.leaving.remove(by);
        // A life of this name that comes here later has nothing to do with them.
        self.watching.by.remove(by);
    }

    fn unwatch(&mut self, name: Name, ids: Vec<u64>) {
        if let Some(owner) = self.owner_of(&name) {
            self.send(owner, Message::Unwatch { name, ids });
        }
    }

    fn ask_to_watch(&mut self, id: u64, now: Time) {
        self.watching.again_at.get_or_insert(now + REPEAT);
        let Some(mine) = self.watching.mine.get(&id).filter(|mine| mine.process == Whereabouts::Here) else {
            return;
        };
        let again = mine.again_until.is_some_and(|until| now < until);
        let Mine { name, of, life, rank, until, moves, .. } = mine;
        let Some(owner) = self.owner_of(name) else { return };
        let (of, life, rank, until, moves) = (*of, *life, *rank, *until, *moves);
        let wish = Wish { name: name.clone(), id, of, until, moves, again, life, rank };
        self.send(owner, Message::Watch(wish));
    }

    /// What no owner has confirmed is asked for again.
    pub(super) fn watch_again(&mut self, now: Time) {
        while let Some((at, id)) = self.watching.gone.first().copied() {
            if at > now {
                break;
            }
            self.watching.gone.pop_first();
            if self.watching.mine.get(&id).is_some_and(|mine| mine.process == Whereabouts::Gone) {
                self.watching.remove(id);
            }
        }
        if self.watching.again_at.is_some_and(|at| at <= now) {
            self.watching.again_at = None;
            self.ask_for_all(now);
        }
    }

    fn ask_for_all(&mut self, now: Time) {
        for id in self.watching.asking.iter().copied().collect::<Vec<_>>() {
            self.ask_to_watch(id, now);
        }
    }

    /// A view was installed: owners may be others. In another line no owner knows of this node's monitors.
    pub(super) fn watching_follows_view(&mut self, new_line: bool, now: Time) {
        if new_line {
            let convergence = self.convergence();
            for (id, mine) in
                self.watching.mine.iter_mut().filter(|(_, mine)| mine.process != Whereabouts::Gone)
            {
                mine.again_until = Some(now + convergence);
                self.watching.asking.insert(*id);
            }
        }
        self.ask_for_all(now);
    }

    /// All copies of these slots were lost, and with them what stood there of monitors.
    pub(super) fn watch_anew(&mut self, slots: &[SlotId], now: Time) {
        if self.watching.mine.is_empty() {
            return;
        }
        let slots: BTreeSet<SlotId> = slots.iter().copied().collect();
        let lost =
            |mine: &Mine| mine.process != Whereabouts::Gone && slots.contains(&self.slot_of(&mine.name));
        let ids: Vec<u64> =
            self.watching.mine.iter().filter(|(_, mine)| lost(mine)).map(|(id, _)| *id).collect();
        self.watching.asking.extend(ids);
        self.watching.again_at.get_or_insert(now + REPEAT);
    }

    /// Slots serve: what waited for that need not wait for the next repetition.
    pub(super) fn watch_settled(&mut self, slots: &[SlotId], now: Time) {
        if self.watching.asking.is_empty() {
            return;
        }
        let slots: BTreeSet<SlotId> = slots.iter().copied().collect();
        for id in self.watching.asking.iter().copied().collect::<Vec<_>>() {
            let name = self.watching.mine.get(&id).map(|mine| &mine.name);
            if name.is_some_and(|name| slots.contains(&self.slot_of(name))) {
                self.ask_to_watch(id, now);
            }
        }
    }

    pub(super) fn on_watched(
        &mut self,
        from: Incarnation,
        name: &Name,
        id: u64,
        result: Result<Option<LifeId>, ErrorCode>,
    ) {
        if self.owner_of(name) != Some(from) {
            return;
        }
        let Some(mine) = self.watching.mine.get_mut(&id).filter(|mine| mine.name == *name) else { return };
        match result {
            Ok(life) => {
                self.watching.asking.remove(&id);
                if mine.until == Until::Life && mine.life.is_none() {
                    // In another line it is this life that was watched.
                    mine.life = life;
                }
                if !std::mem::replace(&mut mine.told, true) {
                    self.tell(Output::Monitored { id, result: Ok(()) });
                }
            }
            // It stood before, so its end is owed: it is asked for until there is room.
            Err(_) if mine.told => {}
            Err(code) => {
                self.watching.remove(id);
                self.tell(Output::Monitored { id, result: Err(code) });
            }
        }
    }

    pub(super) fn on_down(
        &mut self,
        from: Incarnation,
        name: Name,
        end: End,
        ids: Vec<u64>,
        to: Option<Incarnation>,
    ) {
        let End { token, reason, snapshot, .. } = end;
        let down = Box::new(Down { name: name.clone(), token, reason, snapshot, to });
        let moved = down.reason == ExitReason::Moved;
        let mut heard = Vec::new();
        for id in ids {
            match self.watching.mine.get(&id) {
                Some(mine) if mine.process != Whereabouts::Here || mine.name != name => continue,
                Some(_) if moved => {}
                Some(_) => {
                    self.watching.remove(id);
                }
                None if self.settings.mutants.has(Mutant::DownTwice) && !moved => {}
                None => {
                    heard.push(id);
                    continue;
                }
            }
            if !moved && !self.settings.mutants.has(Mutant::DownTwice) {
                heard.push(id);
            }
            self.tell(Output::Down { id, down: down.clone() });
        }
        if !heard.is_empty() {
            self.send(from, Message::Unwatch { name, ids: heard });
        }
    }
}
