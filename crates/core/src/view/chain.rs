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

    /// Appends a view whose parent is the current one. Returns false, unchanged, when it is not.
    #[must_use]
    pub fn push(&mut self, view: Arc<View>) -> bool {
        let current = self.current().id;
        if view.parent != Some(current) || view.id.counter <= current.counter {
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

    /// All remembered views, newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &Arc<View>> {
        self.views.iter().rev()
    }
}
