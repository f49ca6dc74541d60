//! What hosts report of their instances, and what the owner makes of it.

use std::sync::Arc;

use super::message::{Change, Message, News};
use super::record::{Record, RecordState, StartOutcome, Tombstone};
use super::request::Answer;
use super::restart::{AfterExit, after_exit};
use super::suspects::Suspicion;
use super::writes::After;
use super::{Directory, DirectoryEvent};
use crate::base::{ErrorCode, ExitReason, Incarnation, Name, SlotId, Time, Token};

/// Stops of one life whose retries are recognised.
pub(super) const STOPS_MAX: usize = 4;

impl Directory {
    pub(super) fn on_report(&mut self, from: Incarnation, name: Name, token: Token, news: News, now: Time) {
        let slot = self.slot_of(&name);
        if !self.serves(slot) {
            // The host repeats it.
            return;
        }
        let ended = matches!(news, News::Exited(_));
        let is_meant = |record: &&Arc<Record>| {
            // A host runs one life of a name: if a lower one ended where this one should run, the word that it
            // had got a higher token was lost.
            let runs = matches!(record.state, RecordState::Running | RecordState::Stopping);
            record.host == from && (record.token == token || (ended && runs && token < record.token))
        };
        let Some(record) = self.shared_record(&name).filter(is_meant).cloned() else {
            return self.on_stale_report(from, name, token, &news, now);
        };
        match news {
            News::Running => self.on_running(slot, &record, from, now),
            News::InitFailed(reason) if record.state == RecordState::Starting => {
                self.on_init_failed(slot, &record, reason, now);
            }
            News::Full if record.state != RecordState::Stopping => self.on_full(slot, Arc::unwrap_or_clone(record), now),
            // It was to be stopped, and there was nothing to stop.
            News::Full => self.on_exited(slot, Arc::unwrap_or_clone(record), ExitReason::Shutdown, now),
            News::InitFailed(reason) | News::Exited(reason) | News::Gone(reason) => {
                self.on_exited(slot, Arc::unwrap_or_clone(record), reason, now);
            }
        }
    }

    /// The owner knows better: this life is over, or another one took the name.
    fn on_stale_report(&mut self, from: Incarnation, name: Name, token: Token, news: &News, now: Time) {
        match news {
            News::Running => self.end_loser(from, name.clone(), token, now),
            News::InitFailed(_) | News::Exited(_) | News::Gone(_) | News::Full => {
                if self.losers.get(&(name.clone(), token)) == Some(&from) {
                    self.losers.remove(&(name.clone(), token));
                }
                // A next life at the same host may be about to take over what this one left.
                if self.record(&name).is_none_or(|record| record.host != from) {
                    let code = ErrorCode::Stopped;
                    self.send(from, Message::Discard { name: name.clone(), token, code });
                }
            }
        }
        self.send(from, Message::Reported { name, token });
    }

    fn on_running(&mut self, slot: SlotId, record: &Record, from: Incarnation, now: Time) {
        let (name, token) = (record.name.clone(), record.token);
        if !matches!(record.state, RecordState::Starting | RecordState::Restarting) {
            return self.send(from, Message::Reported { name, token });
        }
        self.suspect_runs(&name, now);
        let after = vec![After::Reported(from, name.clone(), token), After::Wake(name.clone())];
        self.write(slot, Change::Runs(name, token), after, now);
    }

    /// The first start of a name failed: no record is left, its caller gets the reason.
    fn on_init_failed(&mut self, slot: SlotId, record: &Record, reason: ExitReason, now: Time) {
        let (name, token, host) = (record.name.clone(), record.token, record.host);
        let after = vec![
            After::Reported(host, name.clone(), token),
            After::Discard(host, name, token, ErrorCode::Stopped),
        ];
        self.remove(slot, record, reason, after, now);
    }

    fn on_exited(&mut self, slot: SlotId, mut record: Record, reason: ExitReason, now: Time) {
        let (name, token, host) = (record.name.clone(), record.token, record.host);
        let reported = After::Reported(host, name.clone(), token);
        match record.state {
            RecordState::BackingOff => return self.send(host, Message::Reported { name, token }),
            RecordState::Quarantined => {
                let code = ErrorCode::Quarantined;
                self.send(host, Message::Discard { name: name.clone(), token, code });
                return self.send(host, Message::Reported { name, token });
            }
            RecordState::Stopping | RecordState::Registered => {
                let discard = After::Discard(host, name, token, ErrorCode::Stopped);
                return self.remove(slot, &record, reason, vec![reported, discard], now);
            }
            RecordState::Starting | RecordState::Running | RecordState::Restarting => {}
        }
        if record.suspicion != Suspicion::None {
            // Its node lives though the process ended: whatever it does, it does not kill nodes.
            self.clear_suspect(&mut record);
        }
        if matches!(reason, ExitReason::NodeLost | ExitReason::ConflictLost) {
            // The host has nothing left of the life that it was to follow; or the life was ended for another one's
            // sake that is none any more. Neither is a failure of the process.
            return self.node_lost(slot, record, now);
        }
        let ages = self.recent_restarts(slot, &record, now);
        let intensity = self.settings.restart;
        let decision = after_exit(record.policy, &reason, ages.len(), &intensity, &mut self.rng);
        record.restart_ages_ms = ages.into();
        match decision {
            AfterExit::Remove => {
                let discard = After::Discard(host, name, token, ErrorCode::Stopped);
                self.remove(slot, &record, reason, vec![reported, discard], now);
            }
            AfterExit::Quarantine => {
                record.state = RecordState::Quarantined;
                self.event(DirectoryEvent::Quarantined(name.clone()));
                let discard = After::Discard(host, name.clone(), token, ErrorCode::Quarantined);
                let after = vec![reported, discard, After::Wake(name)];
                self.write(slot, Change::Put(record.into()), after, now);
            }
            AfterExit::Restart(delay) => {
                record.restart_ages_ms.push(0);
                if reason == ExitReason::Shutdown {
                    // It was told to end, and answered its mailbox: there is nothing to take over.
                    self.restart_fresh(slot, record, &reason, now);
                    return self.send(host, Message::Reported { name, token });
                }
                self.event(DirectoryEvent::Restarted { name, token, reason });
                if delay.is_zero() {
                    self.restart_in_place(slot, record, vec![reported], now);
                } else {
                    let delay_ms = u32::try_from(delay.as_millis()).unwrap_or(u32::MAX);
                    self.back_off(slot, record, delay_ms, vec![reported], now);
                }
            }
        }
    }

    /// The name is free: those who asked for its stop are answered, and its starter too if it never ran; those who
    /// wait for the name are looked at again.
    pub(super) fn remove(
        &mut self,
        slot: SlotId,
        record: &Record,
        reason: ExitReason,
        after: Vec<After>,
        now: Time,
    ) {
        self.remove_as(slot, record, StartOutcome::Failed(reason), after, now);
    }

    /// As [`Self::remove`], with what the start of a process that never ran came to.
    pub(super) fn remove_as(
        &mut self,
        slot: SlotId,
        record: &Record,
        unless_ran: StartOutcome,
        mut after: Vec<After>,
        now: Time,
    ) {
        let name = record.name.clone();
        let mut stopped_by = self.take_stoppers(slot, &name);
        let stops = stopped_by.iter().map(|stop| After::Answer(*stop, name.clone(), Answer::Done));
        after.extend(stops);
        let known = record.stopping_by.iter().filter(|stop| !stopped_by.contains(stop)).copied();
        stopped_by = known.chain(stopped_by.iter().copied()).take(STOPS_MAX).collect();
        let started_by = record.request;
        let outcome = if record.has_run { StartOutcome::Ran(record.located()) } else { unless_ran };
        // A starter that still waits must not start the name again when it is woken.
        if self.forget_waiter(slot, &name, started_by) || !record.has_run {
            let told = outcome.answer(self.copies_demanded());
            after.push(After::Answer(started_by, name.clone(), told));
        }
        after.push(After::Wake(name.clone()));
        let tombstone = Tombstone { token: record.token, stopped_by, started_by, outcome };
        self.write(slot, Change::Remove(name, tombstone), after, now);
    }

    /// Ages of the restarts within the window, as of now.
    fn recent_restarts(&self, slot: SlotId, record: &Record, now: Time) -> Vec<u32> {
        let since = self.since_written(slot, &record.name, now);
        let window = u32::try_from(self.settings.restart.window.as_millis()).unwrap_or(u32::MAX);
        let ages = record.restart_ages_ms.iter().map(|age| age.saturating_add(since));
        ages.filter(|age| *age <= window).collect()
    }
}
