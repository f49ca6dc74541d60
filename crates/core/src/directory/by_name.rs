//! A table by name.

use crate::base::Name;

/// What knows its name.
pub(super) trait Named {
    /// The name.
    fn name(&self) -> &Name;
}

/// What a node has of the names of one slot, in their order.
///
/// A sorted list: a slot has few of the names of a cluster, and there may be very many slots' worth of them.
#[derive(Clone, Debug)]
pub(super) struct ByName<T>(Vec<T>);

impl<T> Default for ByName<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Named> ByName<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn get(&self, name: &Name) -> Option<&T> {
        self.find(name).ok().map(|at| &self.0[at])
    }

    pub(super) fn get_mut(&mut self, name: &Name) -> Option<&mut T> {
        self.find(name).ok().map(|at| &mut self.0[at])
    }

    /// Puts it under its name; what was there comes back.
    pub(super) fn insert(&mut self, it: T) -> Option<T> {
        match self.find(it.name()) {
            Ok(at) => Some(std::mem::replace(&mut self.0[at], it)),
            Err(at) => {
                if self.0.len() == self.0.capacity() {
                    // Less ahead than a vector takes by itself: there is one of these for every slot.
                    self.0.reserve_exact(self.0.len() / 4 + 2);
                }
                self.0.insert(at, it);
                None
            }
        }
    }

    pub(super) fn remove(&mut self, name: &Name) -> Option<T> {
        self.find(name).ok().map(|at| self.0.remove(at))
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn values(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }

    pub(super) fn values_mut(&mut self) -> std::slice::IterMut<'_, T> {
        self.0.iter_mut()
    }

    pub(super) fn into_values(self) -> std::vec::IntoIter<T> {
        self.0.into_iter()
    }

    fn find(&self, name: &Name) -> Result<usize, usize> {
        self.0.binary_search_by(|it| it.name().cmp(name))
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
    fn a_name_has_one_place_and_the_walk_is_in_their_order() {
        let name = |text| Name::new(text).unwrap();
        let mut table = ByName::default();
        for (at, text) in ["m", "z", "a", "m"].into_iter().enumerate() {
            let before = table.insert((name(text), at as u8));
            assert_eq!(before.map(|(_, at)| at), (at == 3).then_some(0));
        }
        assert_eq!(table.values().map(|(_, at)| *at).collect::<Vec<_>>(), [2, 3, 1]);
        assert_eq!((table.remove(&name("a")).map(|(_, at)| at), table.remove(&name("b"))), (Some(2), None));
        assert_eq!((table.get(&name("m")).map(|(_, at)| *at), table.get(&name("a"))), (Some(3), None));
    }
}
