//! The views that a member remembers.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{View, ViewId};
use crate::base::limits::CHAIN_VIEWS_MAX;

/// The last views of a member's line, newest last; never empty, at most 64.
#[derive(Clone, Debug)]
pub struct Chain {
    views: VecDeque<Arc<View>>,
}

impl Chain {
    /// A line that is joined or founded with this view.
    pub fn new(first: Arc<View>) -> Self {
        Self { views: VecDeque::from([first]) }
    }

    /// The installed view.
    pub fn current(&self) -> &Arc<View> {
        self.views.back().expect("a chain is never empty: `new` puts one in, `push` keeps at least one")
    }

    /// The view with this id, if it is still remembered.
    pub fn get(&self, id: ViewId) -> Option<&Arc<View>> {
        self.views.iter().rev().find(|view| view.id == id)
    }

    /// The parent of the view with this id, if it is still remembered.
    pub fn parent_of(&self, id: ViewId) -> Option<&Arc<View>> {
        self.get(id)?.parent.and_then(|parent| self.get(parent))
    }

    /// Whether the view stands in this line, as far as it is remembered.
    pub fn contains(&self, id: ViewId) -> bool {
        self.get(id).is_some()
    }

    /// Appends a view that may follow on the current one. Returns false, unchanged, when it may not.
    #[must_use]
    pub fn push(&mut self, view: Arc<View>) -> bool {
        if !view.may_follow(self.current()) {
            return false;
        }
        if self.views.len() == CHAIN_VIEWS_MAX {
            self.views.pop_front();
        }
        self.views.push_back(view);
        true
    }

    /// Views after `id`, oldest first; `None` when `id` is not remembered.
    pub fn after(&self, id: ViewId) -> Option<Vec<Arc<View>>> {
        let at = self.views.iter().position(|view| view.id == id)?;
        Some(self.views.iter().skip(at + 1).cloned().collect())
    }

    /// All remembered views, oldest first.
    pub fn oldest_first(&self) -> impl Iterator<Item = &Arc<View>> {
        self.views.iter()
    }

    /// All remembered views, newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &Arc<View>> {
        self.views.iter().rev()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn id(counter: u64) -> ViewId {
        ViewId { counter, author: 1 }
    }

    fn view(counter: u64, parent: Option<ViewId>) -> Arc<View> {
        Arc::new(View { id: id(counter), parent, members: Vec::new() })
    }

    /// Views 1 to `last`, each on top of the one before.
    fn chain(last: u64) -> Chain {
        let mut chain = Chain::new(view(1, None));
        for counter in 2..=last {
            assert!(chain.push(view(counter, Some(id(counter - 1)))));
        }
        chain
    }

    fn counters<'v>(views: impl IntoIterator<Item = &'v Arc<View>>) -> Vec<u64> {
        views.into_iter().map(|view| view.id.counter).collect()
    }

    #[test]
    fn only_a_child_of_the_current_view_with_a_higher_counter_is_appended() {
        let refused = [
            ("no parent", view(9, None)),
            ("the parent's parent", view(9, Some(id(2)))),
            ("another author's parent", view(9, Some(ViewId { counter: 3, author: 2 }))),
            ("the same counter", view(3, Some(id(3)))),
            ("a lower counter", view(2, Some(id(3)))),
        ];
        for (why, view) in refused {
            let mut chain = chain(3);
            assert!(!chain.push(view), "{why}");
            assert_eq!(counters(chain.newest_first()), [3, 2, 1], "{why}");
        }
        let mut chain = chain(3);
        assert!(chain.push(view(9, Some(id(3)))), "counters may skip");
        assert_eq!(chain.current().id, id(9));
    }

    #[test]
    fn sixty_four_views_are_remembered() {
        let limit = CHAIN_VIEWS_MAX as u64;
        let chain = chain(limit + 2);
        assert_eq!(chain.newest_first().count(), CHAIN_VIEWS_MAX);
        assert!(!chain.contains(id(2)) && chain.contains(id(3)));
        assert_eq!(chain.current().id, id(limit + 2));
    }

    #[test]
    fn parents_are_known_as_far_as_they_are_remembered() {
        let chain = chain(CHAIN_VIEWS_MAX as u64 + 1);
        assert_eq!(chain.parent_of(id(3)).map(|view| view.id), Some(id(2)));
        assert_eq!(chain.parent_of(id(2)).map(|view| view.id), None, "view 1 is forgotten");
        assert_eq!(chain.parent_of(id(1)).map(|view| view.id), None);
        assert_eq!(chain.get(id(2)).map(|view| view.id), Some(id(2)));
    }

    #[test]
    fn what_follows_a_view_comes_oldest_first() {
        let chain = chain(5);
        assert_eq!(chain.after(id(2)).map(|views| counters(&views)), Some(vec![3, 4, 5]));
        assert_eq!(chain.after(id(5)).map(|views| counters(&views)), Some(vec![]));
        assert_eq!(chain.after(id(6)).map(|views| counters(&views)), None);
        assert_eq!(chain.after(ViewId { counter: 2, author: 9 }).map(|views| counters(&views)), None);
    }
}
