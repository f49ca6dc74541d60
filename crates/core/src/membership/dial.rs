//! Which addresses to dial, and when.
//!
//! Discovered addresses are tried for ever: that is how splits heal without help. Members and joiners without a
//! session are dialled too, and for an hour those that a view left out.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::limits::ADDRESSES_MAX;
use crate::base::{Address, Time};

/// Between two tries of an address that answers with nothing.
const RETRY: Duration = Duration::from_secs(1);
/// A try that is neither refused nor leads to a session within this is counted as tried.
const TRY_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two tries of an address whose peer we probably have a session with, under another spelling.
const RETRY_SILENT: Duration = Duration::from_secs(10);
/// How long an address is dialled that only a former view names.
const FORMER_KEPT: Duration = Duration::from_secs(3600);

#[derive(Debug)]
struct Target {
    discovered: bool,
    wanted_until: Option<Time>,
    dialled: Option<Time>,
    next_try: Time,
    tried: bool,
    connected: bool,
}

/// The table of addresses.
#[derive(Debug, Default)]
pub(super) struct Dial {
    targets: BTreeMap<Address, Target>,
    /// When every source of discovery had answered once.
    answered: Option<Time>,
}

impl Dial {
    /// Every source of discovery has answered: a line may be founded once all addresses were tried.
    pub(super) fn discovery_answered(&mut self, now: Time) {
        self.answered.get_or_insert(now);
    }

    /// How many addresses are dialled.
    pub(super) fn len(&self) -> usize {
        self.targets.len()
    }

    /// The whole list that discovery has found.
    pub(super) fn discovered(&mut self, addresses: Vec<Address>, now: Time) {
        for target in self.targets.values_mut() {
            target.discovered = false;
        }
        for address in addresses {
            self.make_room_for(&address);
            if let Some(target) = self.target(address, now) {
                target.discovered = true;
            }
        }
        self.targets.retain(|_, t| t.discovered || t.wanted_until.is_some());
    }

    /// A member, joiner or former member is to be reached at this address.
    pub(super) fn want(&mut self, address: &Address, now: Time) {
        if let Some(target) = self.target(address.clone(), now) {
            target.wanted_until = Some(now + FORMER_KEPT);
        }
    }

    /// What discovery finds goes before what peers have told: they could fill the table with anything.
    fn make_room_for(&mut self, address: &Address) {
        if self.targets.len() < ADDRESSES_MAX || self.targets.contains_key(address) {
            return;
        }
        let told = self.targets.iter().find(|(_, target)| !target.discovered && !target.connected);
        if let Some(told) = told.map(|(address, _)| address.clone()) {
            self.targets.remove(&told);
        }
    }

    fn target(&mut self, address: Address, now: Time) -> Option<&mut Target> {
        if self.targets.len() >= ADDRESSES_MAX && !self.targets.contains_key(&address) {
            return None;
        }
        Some(self.targets.entry(address).or_insert(Target {
            discovered: false,
            wanted_until: None,
            dialled: None,
            next_try: now,
            tried: false,
            connected: false,
        }))
    }

    /// A session with the node at this address is up or down.
    pub(super) fn connected(&mut self, address: &Address, connected: bool, now: Time) {
        if let Some(target) = self.targets.get_mut(address) {
            target.connected = connected;
            target.tried |= connected;
            if !connected {
                target.next_try = now;
            }
        }
    }

    /// A try of this address gave no session.
    pub(super) fn failed(&mut self, address: &Address, now: Time) {
        if let Some(target) = self.targets.get_mut(address) {
            target.tried = true;
            target.dialled = None;
            target.next_try = now + RETRY;
        }
    }

    /// All sessions are gone and the search begins again.
    pub(super) fn restart(&mut self, now: Time) {
        for target in self.targets.values_mut() {
            target.connected = false;
            target.tried = false;
            target.dialled = None;
            target.next_try = now;
        }
    }

    /// Whether there is no address to dial.
    pub(super) fn is_empty(&self, own: &Address) -> bool {
        self.targets.keys().all(|address| address == own)
    }

    /// If every discovered address but `own` was tried since the search began: since when all of discovery has answered.
    pub(super) fn all_tried(&self, own: &Address, now: Time) -> Option<Time> {
        let tried = self.targets.iter().all(|(address, target)| {
            !target.discovered
                || address == own
                || target.tried
                || target.dialled.is_some_and(|at| now.since(at) >= TRY_TIMEOUT)
        });
        self.answered.filter(|_| tried)
    }

    /// Addresses to dial now.
    pub(super) fn due(&mut self, own: &Address, now: Time) -> Vec<Address> {
        let mut due = Vec::new();
        self.targets.retain(|_, t| t.discovered || t.wanted_until.is_some_and(|until| until > now));
        for (address, target) in &mut self.targets {
            if !target.connected && target.next_try <= now && address != own {
                target.dialled.get_or_insert(now);
                target.next_try = now + RETRY_SILENT;
                due.push(address.clone());
            }
        }
        due
    }

    pub(super) fn next_deadline(&self, own: &Address) -> Option<Time> {
        self.targets.iter().filter(|(a, t)| !t.connected && *a != own).map(|(_, t)| t.next_try).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_addresses_are_remembered() {
        let mut dial = Dial::default();
        let address = |number: usize| Address::from(format!("host-{number}:1").as_str());
        dial.discovered((0..ADDRESSES_MAX + 5).map(address).collect(), Time::ZERO);
        dial.want(&address(ADDRESSES_MAX + 9), Time::ZERO);
        assert_eq!(dial.due(&address(0), Time::ZERO).len(), ADDRESSES_MAX - 1, "all but its own");
        // What is not discovered any more makes room.
        dial.discovered(vec![address(1)], Time::ZERO);
        dial.want(&address(ADDRESSES_MAX + 9), Time::ZERO);
        assert_eq!(dial.targets.len(), 2);
    }
}
