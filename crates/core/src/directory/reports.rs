//! What hosts report of their instances, and what the owner makes of it.

use super::attached::Attachment;
use super::content::Change;
use super::message::{Message, News};
use super::record::{Record, RecordState, StartOutcome, Tombstone, millis};
use super::request::Answer;
use super::restart::{AfterExit, EndedBy, after_exit};
use super::suspects::Suspicion;
use super::writes::After;
use super::{Directory, DirectoryEvent};
use crate::base::{Bytes, ErrorCode, ExitReason, Incarnation, Name, SlotId, Time, Token};

/// Stops of one life whose retries are recognised.
pub(super) const STOPS_MAX: usize = 4;

impl Directory {
    pub(super) fn on_report(
        &mut self,
        from: Incarnation,
        name: Name,
        token: Token,
        news: News,
        snapshot: Option<Bytes>,
        now: Time,
    ) {
        let slot = self.slot_of(&name);
        if !self.serves(slot) {
            // The host repeats it.
            return;
        }
        let ended = matches!(news, News::Exited(_) | News::Ended(_) | News::InitFailed(_));
        let is_meant = |record: &Record| {
            // A host runs one life of a name: if a lower one ended where this one runs, the word that it had got a higher
            // token was lost. One that is to stop may not have come to run there: it may be that of the life before.
            let was_this = match record.state {
                RecordState::Running => token < record.token,
                RecordState::Stopping => record.is_life_of(token),
                _ => false,
            };
            record.host == from && (record.token == token || (ended && was_this))
        };
        if news == News::Running {
            // As most often: nothing is changed but the state, so the record is not copied.
            return match self.shared_record(&name).filter(|record| is_meant(record)).cloned() {
                Some(record) => {
                    self.on_running(slot, &record, from, now);
                    self.note_snapshot(slot, &name, snapshot, now);
                }
                None => self.on_stale_report(from, name, token, &news, now),
            };
        }
        let Some(mut record) = self.record_now(&name, now).filter(is_meant) else {
            return self.on_stale_report(from, name, token, &news, now);
        };
        record.publish(snapshot);
        match news {
            News::Running => {}
            News::InitFailed(reason) if record.state == RecordState::Starting => {
                self.on_init_failed(slot, &record, &reason, now);
            }
            News::InitFailed(reason) | News::Exited(reason) => {
                self.on_exited(slot, record, reason, EndedBy::Itself, now);
            }
            News::Full if record.state != RecordState::Stopping => self.on_full(slot, record, now),
            // It was to be stopped, and there was nothing to stop.
            News::Full => self.on_exited(slot, record, ExitReason::Shutdown, EndedBy::Others, now),
            News::Gone(reason) | News::Ended(reason) => {
                self.on_exited(slot, record, reason, EndedBy::Others, now);
            }
        }
    }

    /// The owner knows better: this life is over, or another one took the name.
    fn on_stale_report(&mut self, from: Incarnation, name: Name, token: Token, news: &News, now: Time) {
        match news {
            News::Running => self.end_loser(from, name.clone(), token, now),
            News::InitFailed(_) | News::Exited(_) | News::Gone(_) | News::Ended(_) | News::Full => {
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
        let ended = *news != News::Running;
        self.send(from, Message::Reported { name, token, ended });
    }

    /// A process that runs has published a state.
    fn note_snapshot(&mut self, slot: SlotId, name: &Name, snapshot: Option<Bytes>, now: Time) {
        let Some(bytes) = snapshot else { return };
        if self.record(name).is_some_and(|record| record.snapshot_of_life() != Some(&bytes)) {
            self.write(slot, Change::Attach(name.clone(), Attachment::Snapshot(bytes)), Vec::new(), now);
        }
    }

    fn on_running(&mut self, slot: SlotId, record: &Record, from: Incarnation, now: Time) {
        let (name, token) = (record.name.clone(), record.token);
        if !matches!(record.state, RecordState::Starting | RecordState::Restarting) {
            return self.send(from, Message::Reported { name, token, ended: false });
        }
        self.suspect_runs(&name, now);
        self.loads.forget_tried(&name);
        let after = vec![After::Reported(from, name.clone(), token, false), After::Wake(name.clone())];
        self.queue_move(slot, record, now);
        self.write(slot, Change::Runs(name, token), after, now);
    }

    /// The first start of a name failed: no record is left, its caller gets the reason.
    fn on_init_failed(&mut self, slot: SlotId, record: &Record, reason: &ExitReason, now: Time) {
        let (name, token, host) = (record.name.clone(), record.token, record.host);
        let after = vec![
            After::Reported(host, name.clone(), token, true),
            After::Discard(host, name, token, ErrorCode::Stopped),
        ];
        self.remove(slot, record, reason, after, now);
    }

    fn on_exited(&mut self, slot: SlotId, mut record: Record, reason: ExitReason, by: EndedBy, now: Time) {
        let (name, token, host) = (record.name.clone(), record.token, record.host);
        self.note_end(&name, &reason);
        if record.moving.take().is_some() {
            self.move_failed(slot, &name);
        }
        let reported = After::Reported(host, name.clone(), token, true);
        if !matches!(record.state, RecordState::BackingOff | RecordState::Quarantined) {
            self.end_monitors(slot, &record, &reason, false, now);
        }
        match record.state {
            RecordState::BackingOff => {
                return self.send(host, Message::Reported { name, token, ended: true });
            }
            RecordState::Quarantined => {
                let code = ErrorCode::Quarantined;
                self.send(host, Message::Discard { name: name.clone(), token, code });
                return self.send(host, Message::Reported { name, token, ended: true });
            }
            RecordState::Stopping | RecordState::Registered => {
                let discard = After::Discard(host, name, token, ErrorCode::Stopped);
                return self.remove(slot, &record, &reason, vec![reported, discard], now);
            }
            RecordState::Starting | RecordState::Running | RecordState::Restarting => {}
        }
        if record.suspicion != Suspicion::None {
            // Its node lives though the process ended: whatever it does, it does not kill nodes.
            self.clear_suspect(&mut record);
        }
        let intensity = self.settings.restart;
        let window = millis(intensity.window);
        record.restart_ages_ms.retain(|age| *age <= window);
        let recent = record.restart_ages_ms.len();
        match after_exit(record.policy, &reason, by, recent, &intensity, &mut self.rng) {
            AfterExit::Remove => {
                let discard = After::Discard(host, name, token, ErrorCode::Stopped);
                self.remove(slot, &record, &reason, vec![reported, discard], now);
            }
            AfterExit::Quarantine => {
                record.state = RecordState::Quarantined;
                self.end_monitors(slot, &record, &ExitReason::Quarantined, true, now);
                self.event(DirectoryEvent::Quarantined(name.clone()));
                let discard = After::Discard(host, name.clone(), token, ErrorCode::Quarantined);
                let after = vec![reported, discard, After::Wake(name)];
                self.write(slot, Change::Put(record.into()), after, now);
            }
            AfterExit::Anew => {
                // What it left, if anything, is discarded before a next life comes to the same host.
                let discard = After::Discard(host, name, token, ErrorCode::Stopped);
                self.restart_fresh(slot, record, &reason, vec![reported, discard], now);
            }
            AfterExit::InPlace(delay) => {
                record.restart_ages_ms.push(0);
                self.event(DirectoryEvent::Restarted { name, token, reason });
                if delay.is_zero() {
                    self.restart_in_place(slot, record, vec![reported], now);
                } else {
                    self.back_off(slot, record, millis(delay), vec![reported], now);
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
        reason: &ExitReason,
        after: Vec<After>,
        now: Time,
    ) {
        self.note_end(&record.name, reason);
        self.remove_as(slot, record, StartOutcome::Failed(reason.clone()), reason, after, now);
    }

    /// As [`Self::remove`], with what the start of a process that never ran came to.
    pub(super) fn remove_as(
        &mut self,
        slot: SlotId,
        record: &Record,
        unless_ran: StartOutcome,
        reason: &ExitReason,
        mut after: Vec<After>,
        now: Time,
    ) {
        let name = record.name.clone();
        self.end_monitors(slot, record, reason, true, now);
        let mut stopped_by = self.take_stoppers(slot, &name);
        let stops = stopped_by.iter().map(|stop| After::Answer(*stop, name.clone(), Answer::Done));
        after.extend(stops);
        let known = record.stopping_by.iter().filter(|stop| !stopped_by.contains(stop)).copied();
        // A stop whose answer was lost is asked again, perhaps only when the next life has ended too.
        let before = record.requests_before.iter().copied();
        stopped_by = known.chain(stopped_by.iter().copied()).chain(before).take(STOPS_MAX).collect();
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
}
