//! The monitors that one life of a process has set and that have not ended.
//!
//! Promises: what is not in here is not told, whatever still waits in the mailbox; a monitor ends once. What is in here
//! when the life ends is given up, unless the process goes on at another node, where it is asked for again.

use std::collections::BTreeMap;
use std::sync::Arc;

use whimbrel_core::base::{Name, Token};
use whimbrel_core::wire::image::WatchImage;

use super::current::InstanceId;
use crate::exchange::{Entry, Told, Watch};

/// Monitors that one process may have at a time.
const WATCHES_MAX: usize = 16_384;

/// Names a monitor of a process, also after it has moved: keep it in the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct MonitorId(pub(super) u64);

/// What a monitor of a process is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Monitor,
    /// One half of a link.
    Link,
}

struct Row {
    watch: Watch,
    sort: Sort,
    /// The node knows of it.
    asked: bool,
}

impl Row {
    fn ask(&mut self, id: u64, entry: &Arc<Entry>, life: InstanceId) {
        self.asked = true;
        entry.exchange().set_monitor(id, &self.watch, Told::Process(entry.clone(), life));
    }
}

/// All of one life.
pub(super) struct Watches {
    entry: Arc<Entry>,
    life: InstanceId,
    rows: BTreeMap<u64, Row>,
}

impl Watches {
    pub(super) fn new(entry: Arc<Entry>, life: InstanceId) -> Self {
        Self { entry, life, rows: BTreeMap::new() }
    }

    /// Adds one; none when there are too many. The node is asked when this life is what the name stands for on this node.
    pub(super) fn add(&mut self, watch: Watch, sort: Sort) -> Option<MonitorId> {
        if self.rows.len() >= WATCHES_MAX {
            tracing::warn!(name = ?self.entry.name(), "a process has {WATCHES_MAX} monitors; one more was refused");
            return None;
        }
        let id = self.entry.exchange().new_monitor();
        let mut row = Row { watch, sort, asked: false };
        if self.entry.is_at_home(self.life) {
            row.ask(id, &self.entry, self.life);
        }
        self.rows.insert(id, row);
        Some(MonitorId(id))
    }

    /// Asks the node for all that it does not know of.
    pub(super) fn ask(&mut self) {
        for (id, row) in self.rows.iter_mut().filter(|(_, row)| !row.asked) {
            row.ask(*id, &self.entry, self.life);
        }
    }

    /// What it is for; it stays.
    pub(super) fn sort(&self, id: u64) -> Option<Sort> {
        self.rows.get(&id).map(|row| row.sort)
    }

    /// It ends: what it was for.
    pub(super) fn remove(&mut self, MonitorId(id): MonitorId) -> Option<Sort> {
        let row = self.rows.remove(&id)?;
        self.give_up([id].into_iter());
        Some(row.sort)
    }

    /// The link with this name, and if it is one with this life.
    pub(super) fn link_with(&self, name: &Name, life: Option<Token>) -> Option<MonitorId> {
        let is_it = |row: &Row| {
            row.sort == Sort::Link
                && row.watch.name == *name
                && (life.is_none() || row.watch.of == life || row.watch.of.is_none())
        };
        self.rows.iter().find(|(_, row)| is_it(row)).map(|(id, _)| MonitorId(*id))
    }

    fn give_up(&self, ids: impl Iterator<Item = u64>) {
        self.entry.exchange().drop_monitors_of(self.life, ids, false);
    }

    /// The process runs on another node, which has asked for them.
    pub(super) fn leave(&mut self) {
        let ids = std::mem::take(&mut self.rows).into_keys();
        self.entry.exchange().drop_monitors_of(self.life, ids, true);
    }

    /// As they stand in an image.
    pub(super) fn image(&self) -> Vec<WatchImage> {
        let row = |(id, row): (&u64, &Row)| {
            let Watch { name, of, until, moves } = row.watch.clone();
            WatchImage { id: *id, name, of, until, moves, is_link: row.sort == Sort::Link }
        };
        self.rows.iter().map(row).collect()
    }

    /// Takes in one that another node brought; more than a process may have are none of its making.
    pub(super) fn restore(&mut self, image: WatchImage) -> Result<(), &'static str> {
        if self.rows.len() >= WATCHES_MAX {
            return Err("more monitors than a process may have");
        }
        let WatchImage { id, name, of, until, moves, is_link } = image;
        let sort = if is_link { Sort::Link } else { Sort::Monitor };
        self.rows.insert(id, Row { watch: Watch { name, of, until, moves }, sort, asked: false });
        Ok(())
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        let ids = std::mem::take(&mut self.rows).into_keys();
        self.give_up(ids);
    }
}
