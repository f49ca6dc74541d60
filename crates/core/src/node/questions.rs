//! What user code asks of all members, and what it follows: listings, counts, streams, groups.

use super::{Input, Node};
use crate::base::Now;

impl Node {
    pub(super) fn on_question(&mut self, input: Input, now: Now) {
        match input {
            Input::List { number, filter, deadline } => {
                self.directory.handle_list(number, filter, deadline, now.time);
            }
            Input::Group { number, group, known, deadline } => {
                self.groups.handle_group(number, group, known, deadline, now.time);
            }
            Input::Groups { number, scope, deadline } => {
                self.groups.handle_scope(number, scope, deadline, now.time);
            }
            Input::Count { number, filter, deadline } => {
                self.directory.handle_count(number, filter, deadline, now.time);
            }
            Input::Follow { number, filter } => self.directory.handle_follow(number, filter, now.time),
            Input::Read { number, events } => self.directory.handle_read(number, events),
            Input::Unfollow { number } => self.directory.handle_unfollow(number, now.time),
            _ => {}
        }
    }
}
