//! A list that is almost always empty, where there are very many of them.

use std::ops::{Deref, DerefMut};

use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};

/// A list that takes one word while it has never held anything. On the wire it is a list like any other.
#[derive(Clone, PartialEq, Eq)]
#[allow(clippy::box_collection, reason = "that is what makes it one word")]
pub struct Few<T>(Option<Box<Vec<T>>>);

impl<T> Few<T> {
    /// Adds one at the end.
    pub fn push(&mut self, item: T) {
        self.0.get_or_insert_default().push(item);
    }

    /// Puts one at this place; those from there on move up.
    pub fn insert(&mut self, index: usize, item: T) {
        self.0.get_or_insert_default().insert(index, item);
    }

    /// Drops those that are not to be kept.
    pub fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.retain_mut(|item| keep(item));
    }

    /// Drops those that are not to be kept.
    pub fn retain_mut(&mut self, keep: impl FnMut(&mut T) -> bool) {
        if let Some(items) = &mut self.0 {
            items.retain_mut(keep);
        }
        self.shrink();
    }

    /// Takes out all.
    pub fn take(&mut self) -> Vec<T> {
        self.0.take().map(|items| *items).unwrap_or_default()
    }

    /// Takes out one, and puts the last one in its place.
    pub fn swap_remove(&mut self, index: usize) -> Option<T> {
        let items = self.0.as_mut().filter(|items| index < items.len())?;
        let taken = items.swap_remove(index);
        self.shrink();
        Some(taken)
    }

    // An empty one is always the same: two of them are equal.
    fn shrink(&mut self) {
        if self.is_empty() {
            self.0 = None;
        }
    }
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> From<Vec<T>> for Few<T> {
    fn from(items: Vec<T>) -> Self {
        Self((!items.is_empty()).then(|| Box::new(items)))
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.0.as_ref().map_or(&[], |items| items.as_slice())
    }
}

impl<T> DerefMut for Few<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.0.as_mut().map_or(&mut [], |items| items.as_mut_slice())
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for Few<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<C, T: Encode<C>> Encode<C> for Few<T> {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, c: &mut C) -> Result<(), encode::Error<W::Error>> {
        (**self).encode(e, c)
    }
}

impl<'b, C, T: Decode<'b, C>> Decode<'b, C> for Few<T> {
    fn decode(d: &mut Decoder<'b>, c: &mut C) -> Result<Self, decode::Error> {
        Ok(Self::from(Vec::<T>::decode(d, c)?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_empty_one_is_one_word_and_equal_to_every_other() {
        assert_eq!(size_of::<Few<[u64; 9]>>(), size_of::<usize>());
        let mut few = Few::default();
        few.push(1);
        few.push(2);
        assert_eq!(*few, [1, 2]);
        assert_eq!((few.swap_remove(0), few.swap_remove(7)), (Some(1), None));
        few.retain(|item| *item != 2);
        assert_eq!(few, Few::from(Vec::new()));
        few.push(3);
        assert_eq!((few.take(), few), (vec![3], Few::default()));
    }

    #[test]
    fn on_the_wire_it_is_a_list() {
        for items in [vec![], vec![7u32], vec![1, 2, 3]] {
            let bytes = minicbor::to_vec(Few::from(items.clone())).unwrap();
            assert_eq!(bytes, minicbor::to_vec(&items).unwrap());
            assert_eq!(minicbor::decode::<Few<u32>>(&bytes).unwrap(), Few::from(items));
        }
    }
}
