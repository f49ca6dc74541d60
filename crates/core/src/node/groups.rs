//! Groups, between the directory, which knows what the records say, and the indexes.

use super::{Effect, Event, Node};
use crate::base::Time;
use crate::groups::Output;
use crate::wire::Body;

impl Node {
    pub(super) fn on_groups(&mut self, output: Output) {
        match output {
            Output::Send(to, message) => self.send(to, Body::Groups(message)),
            Output::Enrolled { request, name } => {
                self.directory.handle_enrolled(request, name, self.last.time);
            }
            Output::Group { number, reading } => self.out.push_back(Effect::Group { number, reading }),
            Output::Scope { number, reading } => self.out.push_back(Effect::Groups { number, reading }),
            Output::Refused { peer, why } => self.out.push_back(Effect::Event(Event::Refused { peer, why })),
        }
    }

    /// Says what the turn has brought about names and groups. Of a join to an index that is here, both have more to say.
    pub(super) fn flush_parts(&mut self, now: Time) {
        loop {
            self.directory.flush_writes();
            self.groups.flush(now);
            let mut said = false;
            while let Some(output) = self.directory.poll_output() {
                said = true;
                self.on_directory(output);
            }
            while let Some(output) = self.groups.poll_output() {
                said = true;
                self.on_groups(output);
            }
            if !said {
                return;
            }
        }
    }
}
