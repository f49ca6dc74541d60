//! A table by name.

use crate::base::Name;
use crate::base::hash::hash;

/// What knows its name.
pub(super) trait Named {
    /// The name.
    fn name(&self) -> &Name;
}

/// What a node has of the names of one slot, in an order that is the same on every machine.
///
/// A list that is sorted by hashes of the names, then by the names: a slot has few of the names of a cluster, and there
/// may be very many slots' worth of them. The hashes stand by themselves, so that a search looks at one name and not at
/// one at each step, each somewhere else in memory.
#[derive(Clone, Debug)]
pub(super) struct ByName<T> {
    hashes: Vec<u16>,
    items: Vec<T>,
}

/// Another one than that which tells the slot.
const SEED: u64 = 0x4259_4e41_4d45_3332;

fn hash_of(name: &Name) -> u16 {
    (hash(SEED, name.as_str().as_bytes()) >> 48) as u16
}

impl<T> Default for ByName<T> {
    fn default() -> Self {
        Self { hashes: Vec::new(), items: Vec::new() }
    }
}

impl<T: Named> ByName<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn get(&self, name: &Name) -> Option<&T> {
        self.find(hash_of(name), name).ok().map(|at| &self.items[at])
    }

    pub(super) fn get_mut(&mut self, name: &Name) -> Option<&mut T> {
        self.find(hash_of(name), name).ok().map(|at| &mut self.items[at])
    }

    /// Puts it under its name; what was there comes back.
    pub(super) fn insert(&mut self, it: T) -> Option<T> {
        let hash = hash_of(it.name());
        match self.find(hash, it.name()) {
            Ok(at) => Some(std::mem::replace(&mut self.items[at], it)),
            Err(at) => {
                if self.items.len() == self.items.capacity() {
                    // Less ahead than a vector takes by itself: there is one of these for every slot.
                    self.items.reserve_exact(self.items.len() / 4 + 2);
                    self.hashes.reserve_exact(self.items.len() / 4 + 2);
                }
                self.hashes.insert(at, hash);
                self.items.insert(at, it);
                None
            }
        }
    }

    pub(super) fn remove(&mut self, name: &Name) -> Option<T> {
        let at = self.find(hash_of(name), name).ok()?;
        self.hashes.remove(at);
        Some(self.items.remove(at))
    }

    pub(super) fn clear(&mut self) {
        self.hashes.clear();
        self.items.clear();
    }

    pub(super) fn values(&self) -> std::slice::Iter<'_, T> {
        self.items.iter()
    }

    pub(super) fn values_mut(&mut self) -> std::slice::IterMut<'_, T> {
        self.items.iter_mut()
    }

    pub(super) fn into_values(self) -> std::vec::IntoIter<T> {
        self.items.into_iter()
    }

    fn find(&self, hash: u16, name: &Name) -> Result<usize, usize> {
        let from = self.hashes.partition_point(|other| *other < hash);
        // Whoever makes names of one hash on purpose finds them searched as any sorted list.
        let alike = self.hashes[from..].partition_point(|other| *other == hash);
        let found = self.items[from..from + alike].binary_search_by(|it| it.name().cmp(name));
        found.map(|at| from + at).map_err(|at| from + at)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    impl Named for (Name, u8) {
        fn name(&self) -> &Name {
            &self.0
        }
    }

    #[test]
    fn a_name_has_one_place_whatever_was_put_before() {
        let name = |text| Name::new(text).unwrap();
        let mut table = ByName::default();
        for (at, text) in ["m", "z", "a", "m"].into_iter().enumerate() {
            let before = table.insert((name(text), at as u8));
            assert_eq!(before.map(|(_, at)| at), (at == 3).then_some(0));
        }
        let mut all: Vec<u8> = table.values().map(|(_, at)| *at).collect();
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3]);
        assert_eq!((table.remove(&name("a")).map(|(_, at)| at), table.remove(&name("b"))), (Some(2), None));
        assert_eq!((table.get(&name("m")).map(|(_, at)| *at), table.get(&name("a"))), (Some(3), None));
    }
}
