//! Room: which nodes may take a name, and where it goes when they are full of its kind.
//!
//! Decides: the order in which hosts are asked, and what becomes of a name that none of them takes. Promises: each host
//! is asked once, so the search ends; a start that found no room was carried out nowhere; a restart waits for as long
//! as it takes. Assumes: hosts keep their limits themselves (`host`), since no owner sees more than its own slots.
//!
//! What is known of full hosts is a hint and may be old: nothing but the order of questions follows from it. It dies
//! with the owner; the next one asks again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::content::Change;
use super::message::Message;
use super::placing::Placement;
use super::record::{Record, RecordState, StartOutcome, gate_of, millis};
use super::suspects::Suspicion;
use super::writes::After;
use super::{Directory, DirectoryEvent, ErrorCode};
use crate::base::{ExitReason, Incarnation, Kind, Mutant, Name, SlotId, Time};
use crate::placement::{Candidate, PlacementRequest, hosts_by_hash};
use crate::view::{MemberInfo, View};

/// How long a host that was full is passed over by restarts, and how soon a name that no host takes is looked at again;
/// up to once more as much, so that not all of them come back at once.
const FULL_FOR: Duration = Duration::from_secs(1);

/// Hosts that had no room for one more process of a kind, and until when that is believed. At most as many as members
/// host kinds.
#[derive(Debug, Default)]
pub(super) struct FullHosts(BTreeMap<(Incarnation, Kind), Time>);

impl FullHosts {
    fn insert(&mut self, host: Incarnation, kind: &Kind, now: Time) {
        self.0.insert((host, kind.clone()), now + FULL_FOR);
    }

    fn contains(&self, host: Incarnation, kind: &Kind, now: Time) -> bool {
        !self.0.is_empty() && self.0.get(&(host, kind.clone())).is_some_and(|until| *until > now)
    }

    /// A view was installed.
    pub(super) fn follow_view(&mut self, view: &View) {
        self.0.retain(|(host, kind), _| view.member(*host).is_some_and(|member| member.hosts(kind)));
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Directory {
    /// The members that may host it, in the order in which they are asked: none when nobody can, or nobody of those that
    /// it names.
    fn hosts_for(
        &self,
        name: &Name,
        kind: &Kind,
        placement: &Placement,
        asker: Option<Incarnation>,
    ) -> Vec<Incarnation> {
        let Some(view) = self.view() else { return Vec::new() };
        let slot = self.slot_of(name);
        let hosting = |member: &&MemberInfo| member.hosts(kind);
        let named = match placement {
            Placement::Hash => None,
            Placement::Local => asker.and_then(|asker| view.member(asker)).filter(hosting),
            Placement::Pinned(node) => {
                let pinned = view.members.iter().filter(|member| member.name == *node).find(hosting);
                return pinned.map(|member| member.incarnation).into_iter().collect();
            }
            Placement::LeastLoaded => {
                let mut members: Vec<&MemberInfo> = hosts_by_hash(slot, kind, view).collect();
                self.loads.sort(&mut members);
                return members.into_iter().map(|member| member.incarnation).collect();
            }
            Placement::Custom(policy) => {
                let mut members: Vec<&MemberInfo> = hosts_by_hash(slot, kind, view).collect();
                if let Some(at) = self.choose(policy, name, kind, &members) {
                    members[..=at].rotate_right(1);
                }
                return members.into_iter().map(|member| member.incarnation).collect();
            }
            Placement::Labels(_) => {
                let fitting = hosts_by_hash(slot, kind, view).filter(|member| placement.allows(member));
                return fitting.map(|member| member.incarnation).collect();
            }
        };
        match named {
            Some(member) => vec![member.incarnation],
            None => hosts_by_hash(slot, kind, view).map(|member| member.incarnation).collect(),
        }
    }

    /// Which of these members the user's policy chooses.
    fn choose(&self, policy: &Name, name: &Name, kind: &Kind, members: &[&MemberInfo]) -> Option<usize> {
        let policy = self.settings.policies.get(policy).filter(|_| !members.is_empty())?;
        let candidates = members.iter().map(|member| Candidate {
            name: &member.name,
            labels: &member.labels,
            weight: member.weight,
            load: self.loads.of(member.incarnation),
            kinds: &member.kinds,
        });
        let candidates = candidates.collect();
        let chosen = policy.choose(&PlacementRequest { name, kind, candidates })?;
        members.iter().position(|member| member.name == chosen)
    }

    /// Tells when this node has not the policy by which a name is placed.
    pub(super) fn tell_unknown_policy(&mut self, name: &Name, placement: &Placement) {
        if let Placement::Custom(policy) = placement
            && self.settings.policies.get(policy).is_none()
        {
            let (name, policy) = (name.clone(), policy.clone());
            self.event(DirectoryEvent::PolicyUnknown { name, policy });
        }
    }

    /// The member that a process is started on: the first that is not known as full, or just the first.
    pub(super) fn place_start(
        &self,
        name: &Name,
        kind: &Kind,
        placement: &Placement,
        asker: Incarnation,
        now: Time,
    ) -> Option<Incarnation> {
        if self.settings.mutants.has(Mutant::PlacedOnDraining)
            && let Some(member) = self.view()?.members.iter().find(|m| m.draining && m.kinds.contains(kind))
        {
            return Some(member.incarnation);
        }
        if let Some(owner) = self.owner_as_host(self.slot_of(name), kind, placement, now) {
            return Some(owner);
        }
        let hosts = self.hosts_for(name, kind, placement, Some(asker));
        let with_room = hosts.iter().find(|host| !self.full.contains(**host, kind, now));
        with_room.or(hosts.first()).copied()
    }

    /// The slot's owner, if it comes first in the order of hosts and has room, as most often.
    fn owner_as_host(
        &self,
        slot: SlotId,
        kind: &Kind,
        placement: &Placement,
        now: Time,
    ) -> Option<Incarnation> {
        let owner = self.line.as_ref().filter(|_| *placement == Placement::Hash)?.owner_of(slot)?;
        let takes = self.view()?.member(owner)?.takes(kind);
        (takes && !self.full.contains(owner, kind, now)).then_some(owner)
    }

    /// The member that a process is started again on: none while all are known as full.
    pub(super) fn place_again(
        &self,
        record: &Record,
        asker: Option<Incarnation>,
        now: Time,
    ) -> Option<Incarnation> {
        let hosts = self.hosts_for(&record.name, &record.kind, &record.placement, asker);
        hosts.into_iter().find(|host| !self.full.contains(*host, &record.kind, now))
    }

    /// Whether any other node may take it, with room or without: a node that drains waits for no other.
    pub(super) fn has_other_host(&self, kind: &Kind, placement: &Placement) -> bool {
        let by_name = matches!(placement, Placement::Pinned(_));
        let is_place = |member: &MemberInfo| placement.allows(member) && (by_name || member.weight > 0);
        let others = self.view().into_iter().flat_map(|view| &view.members);
        let mut others = others.filter(|member| member.incarnation != self.me);
        others.any(|member| is_place(member) && member.hosts(kind))
    }

    /// This host has no room for one more of this kind.
    pub(super) fn note_full(&mut self, host: Incarnation, kind: &Kind, now: Time) {
        self.full.insert(host, kind, now);
    }

    /// The member that a process which runs belongs to.
    pub(super) fn belongs_to(&self, slot: SlotId, record: &Record) -> Option<Incarnation> {
        if record.placement == Placement::Hash
            && let Some(owner) = self.line.as_ref().and_then(|line| line.owner_of(slot))
            && self.view()?.member(owner)?.takes(&record.kind)
        {
            // The first in the slot's ranking, as most often: all names of a slot are looked at when it opens.
            return Some(owner);
        }
        let stays = |view: &Arc<View>| view.member(record.host).is_some_and(|host| host.hosts(&record.kind));
        if record.placement.is_chosen() && self.view().is_some_and(stays) {
            return Some(record.host);
        }
        let any = Placement::Hash;
        let ignored = self.settings.mutants.has(Mutant::LabelsIgnored);
        let placement = if ignored { &any } else { &record.placement };
        self.hosts_for(&record.name, &record.kind, placement, Some(record.host)).first().copied()
    }

    /// The host had no room for this life.
    pub(super) fn on_full(&mut self, slot: SlotId, record: Record, now: Time) {
        self.full.insert(record.host, &record.kind, now);
        if record.placement.is_chosen() {
            self.loads.note_tried(&record.name, record.host);
        }
        match record.state {
            RecordState::Starting => self.start_elsewhere(slot, record, now),
            RecordState::Restarting => self.restart_beyond(slot, record, now),
            // It waits for a host, and this one has not heard that it may forget the life.
            RecordState::BackingOff => {
                let (name, token, code) = (record.name, record.token, ErrorCode::Stopped);
                self.send(record.host, Message::Discard { name, token, code });
            }
            RecordState::Running
            | RecordState::Quarantined
            | RecordState::Registered
            | RecordState::Stopping => {}
        }
    }

    /// The next host that may have room, behind the one that had none.
    fn next_host(&self, record: &Record, now: Time) -> Option<Incarnation> {
        let asker = Some(record.request.caller);
        let hosts = self.hosts_for(&record.name, &record.kind, &record.placement, asker);
        if record.placement.is_chosen() {
            // Their order changes meanwhile.
            let asked = |host: &Incarnation| self.loads.was_tried(&record.name, *host);
            return hosts
                .into_iter()
                .find(|host| !asked(host) && !self.full.contains(*host, &record.kind, now));
        }
        // One that drains by now is not among them.
        let behind = hosts.iter().position(|host| *host == record.host).map_or(0, |at| at + 1);
        hosts.into_iter().skip(behind).find(|host| !self.full.contains(*host, &record.kind, now))
    }

    fn start_elsewhere(&mut self, slot: SlotId, mut record: Record, now: Time) {
        let (last, name, token) = (record.host, record.name.clone(), record.token);
        let discard = After::Discard(last, name, token, ErrorCode::Stopped);
        let Some(host) = self.next_host(&record, now) else {
            self.loads.forget_tried(&record.name);
            return self.remove_as(
                slot,
                &record,
                StartOutcome::AtCapacity,
                &ExitReason::NoProcess,
                vec![discard],
                now,
            );
        };
        self.count_placed(&record.placement, host, now);
        record.host = host;
        let next = self.next_token(slot, token);
        record.begin_life(next);
        record.gate = gate_of(record.token, host);
        let record = Arc::new(record);
        let grant = After::Grant(Arc::clone(&record));
        self.write(slot, Change::Put(record), vec![discard, grant], now);
    }

    fn restart_beyond(&mut self, slot: SlotId, mut record: Record, now: Time) {
        if let Suspicion::Trying { group } = record.suspicion {
            // It was not tried.
            self.trials.remove(&record.name);
            record.suspicion = Suspicion::Waiting { group_max: group };
            return self.wait_for_host(slot, record, Vec::new(), now);
        }
        match self.next_host(&record, now) {
            Some(host) => self.restart_on(slot, record, host, now),
            None => {
                self.loads.forget_tried(&record.name);
                self.wait_for_host(slot, record, Vec::new(), now);
            }
        }
    }

    /// No node can take it now: it is looked at again.
    pub(super) fn wait_for_host(
        &mut self,
        slot: SlotId,
        mut record: Record,
        mut after: Vec<After>,
        now: Time,
    ) {
        let spread = u64::try_from(FULL_FOR.as_micros()).unwrap_or(u64::MAX);
        let delay = FULL_FOR + Duration::from_micros(self.rng.below(spread));
        if record.state == RecordState::BackingOff && record.waits_for_host && after.is_empty() {
            // Still nobody: that needs no write.
            self.back_offs.insert((now + delay, record.name));
            return;
        }
        let (host, name, token) = (record.host, record.name.clone(), record.token);
        if self.is_member(host) {
            after.push(After::Discard(host, name, token, ErrorCode::Stopped));
        }
        record.waits_for_host = true;
        self.back_off(slot, record, millis(delay), after, now);
    }
}
