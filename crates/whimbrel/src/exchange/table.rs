//! The table of names: every entry of a node, found by its text.
//!
//! It is read by every send that starts from a name and by `whereis`, and written when a name is first used. So it
//! is cut into shards, each under its own lock for a short look; a text is hashed once, for shard and place both,
//! under random keys, so nobody can choose names that collide. An entry knows its name: the table holds nothing else.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hashbrown::HashTable;
use whimbrel_core::base::Name;

use super::Entry;

/// Shards of the table; a power of two.
const SHARDS: usize = 64;

type Shard = HashTable<Arc<Entry>>;

/// All entries of one node by name.
pub(super) struct Table {
    hasher: RandomState,
    shards: Vec<RwLock<Shard>>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            shards: std::iter::repeat_with(RwLock::default).take(SHARDS).collect(),
        }
    }
}

impl Table {
    /// The entry of this name, if there is one.
    pub(super) fn get(&self, name: &str) -> Option<Arc<Entry>> {
        let hash = self.hasher.hash_one(name);
        read(self.shard(hash)).find(hash, |entry| entry.name().as_str() == name).cloned()
    }

    /// The entry of this name, made if there is none.
    pub(super) fn get_or_insert_with(&self, name: &Name, make: impl FnOnce() -> Arc<Entry>) -> Arc<Entry> {
        let text = name.as_str();
        let hash = self.hasher.hash_one(text);
        let mut shard = write(self.shard(hash));
        let found = shard.entry(
            hash,
            |entry| entry.name().as_str() == text,
            |entry| self.hasher.hash_one(entry.name().as_str()),
        );
        found.or_insert_with(make).get().clone()
    }

    /// All entries, as they are now.
    pub(super) fn all(&self) -> Vec<Arc<Entry>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            all.extend(read(shard).iter().cloned());
        }
        all
    }

    /// Takes out all entries.
    pub(super) fn take_all(&self) -> Vec<Arc<Entry>> {
        self.shards.iter().flat_map(|shard| std::mem::take(&mut *write(shard))).collect()
    }

    /// Forgets the entries that are not to be kept. While it looks at one, nobody can get a reference to it from here.
    pub(super) fn retain(&self, mut keep: impl FnMut(&Arc<Entry>) -> bool) {
        for shard in &self.shards {
            write(shard).retain(|entry| keep(entry));
        }
    }

    // Bits that neither choose the place within a table nor tell its elements apart there.
    fn shard(&self, hash: u64) -> &RwLock<Shard> {
        &self.shards[(hash >> 32) as usize % SHARDS]
    }
}

fn read(shard: &RwLock<Shard>) -> RwLockReadGuard<'_, Shard> {
    shard.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(shard: &RwLock<Shard>) -> RwLockWriteGuard<'_, Shard> {
    shard.write().unwrap_or_else(PoisonError::into_inner)
}
