//! How a process watches others, links itself to them, and shows them its state.

use whimbrel_core::base::{ExitReason, Name, Token};
use whimbrel_core::directory::{Down, Until};

use super::tiding::Tiding;
use super::watches::{MonitorId, Sort, Watches};
use super::{Context, Process};
use crate::error::{MonitorError, SnapshotTooLarge};
use crate::exchange::Watch;

/// A monitor that a process is about to set; [`Monitoring::set`] sets it.
#[must_use = "nothing is watched until it is set"]
#[derive(Debug)]
pub struct Monitoring<'a, P: Process> {
    cx: &'a mut Context<P>,
    name: &'a str,
    of: Option<Token>,
    until: Until,
    moves: bool,
}

impl<P: Process> Monitoring<'_, P> {
    /// Only this life of the name. If it has ended, the end is told at once.
    pub fn instance(mut self, life: Token) -> Self {
        self.of = Some(life);
        self
    }

    /// Waits until the name ends for good: it is free, or quarantined. Restarts are no end.
    pub fn until_name_ends(mut self) -> Self {
        self.until = Until::Name;
        self
    }

    /// Planned moves are told too, with the reason `Moved`: they are no end, and while the mailbox is full they are not
    /// told.
    pub fn with_moves(mut self) -> Self {
        self.moves = true;
        self
    }

    /// Sets it; returns at once. [`Process::down`] is told the end once, also if there is no such process (`NoProcess`).
    ///
    /// The cluster has so many monitors at most as [`limits`](crate::limits) say. One that finds no room is told at once
    /// too, with an error as the reason and the token zero: nothing is known of the process then.
    ///
    /// # Errors
    /// The text is not a name, or this process has 16,384 monitors: nothing is set.
    pub fn set(self) -> Result<MonitorId, MonitorError> {
        let Self { cx, name, of, until, moves } = self;
        let watch = Watch { name: Name::new(name)?, of, until, moves };
        cx.watches().add(watch, Sort::Monitor).ok_or(MonitorError::Overloaded)
    }
}

impl<P: Process> Context<P> {
    /// Watches the process of this name: [`Process::down`] is told, once, that it has ended, why, and what state it has
    /// shown last. A move of either is no end. One that does not run is waited for if it is about to start again.
    ///
    /// ```ignore
    /// let id = cx.monitor("worker:1").set()?;
    /// ```
    pub fn monitor<'a>(&'a mut self, name: &'a str) -> Monitoring<'a, P> {
        Monitoring { cx: self, name, of: None, until: Until::Life, moves: false }
    }

    /// Gives a monitor up: nothing more is told of it, even if that waits already.
    pub fn demonitor(&mut self, id: MonitorId) {
        if let Some(watches) = self.own.as_mut().and_then(|own| own.watches.as_mut()) {
            watches.remove(id);
        }
    }

    /// Ties this process to another: when one of them ends abnormally, so does the other, with an error that names the
    /// first; unless it has [`Process::TRAPS_EXITS`] and is told. A process that does not exist has ended abnormally.
    /// Moves are no end, and the new life of a restarted process is not linked.
    ///
    /// The other side is told by a cast, with what a cast promises. A process without a name can not be watched: it ends
    /// with the other one, and not the other way round. A second link to the same process is the first one.
    ///
    /// # Errors
    /// As of [`Monitoring::set`].
    pub fn link(&mut self, name: &str) -> Result<MonitorId, MonitorError> {
        let name = Name::new(name)?;
        if let Some(known) = self.watches().link_with(&name, None) {
            return Ok(known);
        }
        let id = self.watches().add(Watch::of(name.clone()), Sort::Link).ok_or(MonitorError::Overloaded)?;
        if let Some(from) = self.name().cloned() {
            let life = self.token();
            self.tell(&name, Tiding::Link { from, life });
        }
        Ok(id)
    }

    /// Undoes a link, from whichever side it was made.
    ///
    /// # Errors
    /// The text is not a name.
    pub fn unlink(&mut self, name: &str) -> Result<(), MonitorError> {
        let name = Name::new(name)?;
        self.forget_link(&name);
        if let Some(from) = self.name().cloned() {
            self.tell(&name, Tiding::Unlink { from });
        }
        Ok(())
    }

    fn tell(&self, name: &Name, tiding: Tiding) {
        // What is not accepted is not missed: the other one has ended, which the link itself will tell.
        if let Err(error) = self.entry.exchange().entry(name).cast(tiding.boxed()) {
            tracing::debug!(?name, %error, "a process is not told of a link");
        }
    }

    /// Another process has linked itself to this one.
    pub(super) fn linked_by(&mut self, from: Name, life: Token) {
        if self.watches().link_with(&from, Some(life)).is_none() {
            let watch = Watch { of: Some(life), ..Watch::of(from) };
            // Refused, it has said so; the other one still hears of this end.
            let _id = self.watches().add(watch, Sort::Link);
        }
    }

    pub(super) fn forget_link(&mut self, name: &Name) {
        while let Some(id) = self.watches().link_with(name, None) {
            self.watches().remove(id);
        }
    }

    /// A monitor says something: what the process is to be told of it, if anything.
    pub(super) fn hear(&mut self, id: u64, down: Down) -> Option<Down> {
        let watches = self.own.as_mut()?.watches.as_mut()?;
        let sort = match down.reason {
            ExitReason::Moved => watches.sort(id)?,
            _ => watches.remove(MonitorId(id))?,
        };
        if sort == Sort::Monitor || P::TRAPS_EXITS {
            return Some(down);
        }
        if !down.reason.is_normal() {
            self.stop(ExitReason::Error(format!("linked {} ended: {}", down.name, down.reason)));
        }
        None
    }

    pub(super) fn watches(&mut self) -> &mut Watches {
        let (entry, life) = (&self.entry, self.instance.id);
        let own = self.own.get_or_insert_default();
        own.watches.get_or_insert_with(|| Box::new(Watches::new(entry.clone(), life)))
    }

    /// Shows a state to whoever watches this process: monitors are told the last one with its end, and the record has
    /// it. At most 4,096 bytes. One a second is passed on at once; of those in between the last, when the second is over
    /// or the process ends before.
    ///
    /// A process without a name is watched by nobody.
    ///
    /// # Errors
    /// It has more bytes: the one before stays.
    pub fn publish_snapshot(&mut self, state: impl Into<Vec<u8>>) -> Result<(), SnapshotTooLarge> {
        self.entry.exchange().publish(&self.entry, &self.instance, SnapshotTooLarge::check(state.into())?);
        Ok(())
    }
}
