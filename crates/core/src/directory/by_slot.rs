//! A table by slot.

use crate::base::SlotId;

/// What a node has of some of the slots: found by an index, since every message looks several times, and walked
/// through in the order of the slots.
///
/// It is as long as its highest slot; who inserts has checked that the cluster has that slot.
#[derive(Debug)]
pub(super) struct BySlot<T> {
    places: Vec<Option<(SlotId, Box<T>)>>,
    len: usize,
}

impl<T> Default for BySlot<T> {
    fn default() -> Self {
        Self { places: Vec::new(), len: 0 }
    }
}

impl<T> BySlot<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn get(&self, slot: &SlotId) -> Option<&T> {
        self.places.get(usize::from(slot.0))?.as_ref().map(|(_, it)| &**it)
    }

    pub(super) fn get_mut(&mut self, slot: &SlotId) -> Option<&mut T> {
        self.places.get_mut(usize::from(slot.0))?.as_mut().map(|(_, it)| &mut **it)
    }

    pub(super) fn insert(&mut self, slot: SlotId, it: T) -> Option<T> {
        let before = self.place(slot).replace((slot, Box::new(it)));
        self.len += usize::from(before.is_none());
        before.map(|(_, it)| *it)
    }

    pub(super) fn remove(&mut self, slot: &SlotId) -> Option<T> {
        let (_, it) = self.places.get_mut(usize::from(slot.0))?.take()?;
        self.len -= 1;
        Some(*it)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&SlotId, &T)> {
        self.places.iter().flatten().map(|(slot, it)| (slot, &**it))
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.places.iter().flatten().map(|(_, it)| &**it)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.places.iter_mut().flatten().map(|(_, it)| &mut **it)
    }

    pub(super) fn into_iter(self) -> impl Iterator<Item = (SlotId, T)> {
        self.places.into_iter().flatten().map(|(slot, it)| (slot, *it))
    }

    fn place(&mut self, slot: SlotId) -> &mut Option<(SlotId, Box<T>)> {
        let at = usize::from(slot.0);
        if self.places.len() <= at {
            self.places.resize_with(at + 1, || None);
        }
        &mut self.places[at]
    }
}

impl<T: Default> BySlot<T> {
    /// What is there, made if there is nothing.
    pub(super) fn or_default(&mut self, slot: SlotId) -> &mut T {
        if self.get(&slot).is_none() {
            self.insert(slot, T::default());
        }
        let (_, it) = self.place(slot).get_or_insert_with(|| (slot, Box::default()));
        it
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_has_one_place_and_the_walk_is_in_their_order() {
        let mut table = BySlot::default();
        for slot in [7, 2, 4_095, 2] {
            *table.or_default(SlotId(slot)) += u32::from(slot);
        }
        assert_eq!(table.insert(SlotId(7), 70), Some(7));
        assert_eq!(
            table.iter().map(|(slot, it)| (slot.0, *it)).collect::<Vec<_>>(),
            [(2, 4), (7, 70), (4_095, 4_095)]
        );
        assert_eq!(
            (table.remove(&SlotId(2)), table.remove(&SlotId(2)), table.remove(&SlotId(9_999))),
            (Some(4), None, None)
        );
        assert_eq!((table.len(), table.get(&SlotId(2)).copied()), (2, None));
        assert_eq!(table.get_mut(&SlotId(7)), Some(&mut 70));
        assert_eq!(table.into_iter().map(|(slot, _)| slot.0).collect::<Vec<_>>(), [7, 4_095]);
    }
}
