//! Groups: which names belong together, read anywhere.
//!
//! Decides: who is in a group, as one member of the view, the owner of the group's slot, is told by the owners of names.
//! Promises: a reading that is complete has everybody whose join was answered before it began, and nobody whose leave
//! was. Assumes: the directory tells what its records say, after that is on every replica; a view that was installed is
//! followed before anything else happens.
//!
//! ```text
//!   owner of names                 owner of an index                    reader
//!     │  join written                │                                    │
//!     ├── Enrol(n, rows) ───────────>│ taken in, in order                 │
//!     │                              │ every member shows that it is here │
//!     │<───────────────── Enrolled(n)┤                                    │
//!     │  join answered               │<────────────────── Ask(question) ──┤
//!     │                              ├── Page(rows, complete) ───────────>│ asks on, until there are no more
//! ```
//!
//! The index is nobody's property: a view makes it anew from the records. So on a crash of its owner, of an owner of
//! names, or of anybody nothing is lost; on a split each side reads what its records say; a skipped view is one that
//! nobody reads (`docs/protocol.md` section 9).

mod index;
mod message;
mod reading;
mod teller;
#[cfg(test)]
mod tests;
mod warrant;

pub use message::{Entry, GroupMember, GroupSize, GroupVersion, Message, Question, Row, Rows};
pub use reading::{GroupReading, ScopeReading};

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::base::limits::{ENROLLING_MAX, INDEX_PARTS_AHEAD, Limits, MEMBERS_MAX, READINGS_BYTES_MAX, Usage};
use crate::base::{Group, Incarnation, Kind, Membership, Name, RequestId, Time};
use crate::placement::{slot_of, slot_of_group};
use crate::view::{View, ViewId};
use index::Index;
use reading::{Found, Next, Page, Readings};
use teller::Teller;

/// Between two tries of what no answer came for.
const REPEAT: Duration = Duration::from_millis(500);
/// Members of views that are yet to come, of which something has come before.
const EARLY_MAX: usize = 2 * MEMBERS_MAX;

/// What the groups want done. In order.
#[derive(Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Output {
    /// Send this to that member.
    Send(Incarnation, Message),
    /// The indexes know what this name's record says of its groups: whoever asked for it is answered.
    Enrolled { request: RequestId, name: Name },
    /// Who is in a group.
    Group { number: u64, reading: GroupReading },
    /// Which groups of a scope have members.
    Scope { number: u64, reading: ScopeReading },
    /// A member said what it has no right to say, or what can not be; nothing was done.
    Refused { peer: Incarnation, why: &'static str },
}

/// The view that is followed.
#[derive(Debug)]
struct Line {
    view: Arc<View>,
    /// The owner of every slot, by slot.
    owners: Vec<Option<Incarnation>>,
}

impl Line {
    fn slots(&self) -> u16 {
        u16::try_from(self.owners.len()).unwrap_or(u16::MAX)
    }

    fn at(&self, slot: usize) -> Option<Incarnation> {
        self.owners.get(slot).copied().flatten()
    }

    /// Who owns a name.
    fn owner_of(&self, name: &Name) -> Option<Incarnation> {
        self.at(usize::from(slot_of(name, self.slots()).0))
    }

    /// Who has the index of a group.
    fn index_of(&self, group: &Group) -> Option<Incarnation> {
        self.at(usize::from(slot_of_group(group, self.slots()).0))
    }

    /// Who has the indexes that a question is about.
    fn asked(&self, question: &Question) -> Vec<Incarnation> {
        match question {
            Question::Members { group, .. } => self.index_of(group).into_iter().collect(),
            Question::Scope(_) => self.all_owners().into_iter().collect(),
        }
    }

    fn all_owners(&self) -> BTreeSet<Incarnation> {
        self.owners.iter().flatten().copied().collect()
    }
}

/// The groups of one node: what it tells, what it is told, what it asks.
#[derive(Debug)]
pub struct Groups {
    me: Incarnation,
    line: Option<Line>,
    teller: Teller,
    index: Index,
    readings: Readings,
    /// Who is in a view that this node has not installed yet, as messages showed that came before it.
    early: BTreeMap<Incarnation, ViewId>,
    loopback: VecDeque<Message>,
    out: VecDeque<Output>,
}

impl Groups {
    /// The groups of a node that has just started.
    pub fn new(me: Incarnation, limits: Limits) -> Self {
        Self {
            me,
            line: None,
            teller: Teller::default(),
            index: Index::new(limits.index_rows),
            readings: Readings::new(limits.readings),
            early: BTreeMap::new(),
            loopback: VecDeque::new(),
            out: VecDeque::new(),
        }
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// How full its tables are.
    pub fn usage(&self) -> Vec<Usage> {
        let (requests, parts) = self.teller.fullness();
        let (rows, rows_max) = self.index.fullness();
        let (readings, readings_max, bytes) = self.readings.fullness();
        vec![
            Usage::new("index rows", rows, rows_max),
            Usage::new("index parts ahead", parts, INDEX_PARTS_AHEAD),
            Usage::new("joins", requests, ENROLLING_MAX),
            Usage::new("readings", readings, readings_max),
            Usage::new("readings' bytes", bytes, READINGS_BYTES_MAX),
        ]
    }

    /// The node goes on under this incarnation, without a line.
    pub fn handle_reincarnated(&mut self, me: Incarnation) {
        self.me = me;
    }

    /// The line is left: the index is gone, questions wait for the next one.
    pub fn handle_line_left(&mut self, now: Time) {
        self.line = None;
        self.teller.follow_view(&BTreeSet::new());
        self.index.clear();
        self.early.clear();
        self.loopback.clear();
        self.readings.follow_view(|_| Vec::new(), now);
    }

    /// A view was installed, in which slots have these owners.
    pub fn handle_view(&mut self, view: &Arc<View>, owners: Vec<Option<Incarnation>>, now: Time) {
        let line = Line { view: Arc::clone(view), owners };
        let owners = line.all_owners();
        self.loopback.clear();
        self.teller.follow_view(&owners);
        self.index.follow_view(view, &owners, self.me, now);
        let next = self.readings.follow_view(|question| line.asked(question), now);
        self.line = Some(line);
        for member in view.incarnations().filter(|member| *member != self.me) {
            let is_here = self.early.get(&member) == Some(&view.id);
            if is_here {
                self.index.note_present(member);
            }
            let message = if is_here { Message::Again } else { Message::Here };
            self.out.push_back(Output::Send(member, message));
        }
        self.early.retain(|_, later| later.counter > view.id.counter);
        self.carry_on(next);
        self.finish(now);
    }

    /// What the record of a name says of its groups, on every replica; which of them it has left. No kind: the name is
    /// free. A request is answered when the indexes know.
    pub fn handle_enrol(
        &mut self,
        name: Name,
        kind: Option<&Kind>,
        memberships: Vec<Membership>,
        left: Vec<Group>,
        request: Option<RequestId>,
    ) {
        let Some(line) = &self.line else { return };
        for group in left {
            if let Some(to) = line.index_of(&group) {
                self.teller.put(to, group, &name, None);
            }
        }
        for Membership { group, meta } in memberships {
            let entry = kind.cloned().map(|kind| Entry { kind, meta });
            if let Some(to) = line.index_of(&group) {
                self.teller.put(to, group, &name, entry);
            }
        }
        let done = request.and_then(|request| self.teller.when_heard(name, request));
        self.out.extend(done.map(|(request, name)| Output::Enrolled { request, name }));
    }

    /// All slots of this node serve in this view: everything in them that is in groups.
    pub fn handle_roll(&mut self, roll: Vec<(Name, Kind, Vec<Membership>)>) {
        for (name, kind, memberships) in roll {
            self.handle_enrol(name, Some(&kind), memberships, Vec::new(), None);
        }
        // Whoever owns no names has nothing to tell, and no index waits for it.
        if self.line.as_ref().is_some_and(|line| line.owners.contains(&Some(self.me))) {
            self.teller.end_roll();
        }
    }

    /// User code on this node asks who is in a group.
    pub fn handle_group(
        &mut self,
        number: u64,
        group: Group,
        known: Option<GroupVersion>,
        within: Duration,
        now: Time,
    ) {
        self.begin(number, Question::Members { group, known }, within, now);
    }

    /// User code on this node asks which groups of a scope have members.
    pub fn handle_scope(&mut self, number: u64, scope: Name, within: Duration, now: Time) {
        self.begin(number, Question::Scope(scope), within, now);
    }

    fn begin(&mut self, number: u64, question: Question, within: Duration, now: Time) {
        let owners = self.line.as_ref().map(|line| line.asked(&question)).unwrap_or_default();
        let next = self.readings.begin(number, question, owners, within, now);
        self.carry_on(next);
        self.finish(now);
    }

    /// A message of another node, sent in this view.
    pub fn handle_message(&mut self, from: Incarnation, view: Option<ViewId>, message: Message, now: Time) {
        let Some(view) = view else { return };
        let current = self.line.as_ref().map(|line| &line.view);
        if current.is_none_or(|current| current.id.counter < view.counter) {
            // Of a view that is yet to come, if its sender tells the truth.
            if self.early.len() < EARLY_MAX || self.early.contains_key(&from) {
                self.early.insert(from, view);
            }
            return;
        }
        // Of a view before this one, or of another branch.
        if !current.is_some_and(|current| current.id == view && current.contains(from)) {
            return;
        }
        self.index.note_present(from);
        self.dispatch(from, message, now);
        self.finish(now);
    }

    /// Time has passed.
    pub fn handle_wake(&mut self, now: Time) {
        for to in self.teller.late(now) {
            for message in self.teller.say_again(to, now) {
                self.send(to, message);
            }
        }
        for member in self.index.take_absent(now) {
            self.send(member, Message::Again);
        }
        let next = self.readings.handle_wake(now);
        self.carry_on(next);
        self.finish(now);
    }

    /// When `handle_wake` is due.
    pub fn next_deadline(&self) -> Option<Time> {
        let parts = [self.teller.next_deadline(), self.index.next_deadline(), self.readings.next_deadline()];
        parts.into_iter().flatten().min()
    }

    /// Says what has come up in a turn: few messages, however much it is.
    pub fn flush(&mut self, now: Time) {
        loop {
            for (to, part) in self.teller.take_parts(now) {
                self.send(to, part);
            }
            for (to, number) in self.index.take_acknowledgements() {
                self.send(to, Message::Enrolled(number));
            }
            if self.loopback.is_empty() {
                return;
            }
            self.finish(now);
        }
    }

    fn send(&mut self, to: Incarnation, message: Message) {
        if to == self.me {
            self.loopback.push_back(message);
        } else {
            self.out.push_back(Output::Send(to, message));
        }
    }

    fn carry_on(&mut self, next: impl IntoIterator<Item = Next>) {
        for next in next {
            match next {
                Next::Ask(of, message) => self.send(of, message),
                Next::Answer(number, Found::Group(reading)) => {
                    self.out.push_back(Output::Group { number, reading });
                }
                Next::Answer(number, Found::Scope(reading)) => {
                    self.out.push_back(Output::Scope { number, reading });
                }
            }
        }
    }

    /// Handles what this node said to itself.
    fn finish(&mut self, now: Time) {
        while let Some(message) = self.loopback.pop_front() {
            self.dispatch(self.me, message, now);
        }
    }

    fn dispatch(&mut self, from: Incarnation, message: Message, now: Time) {
        let Some(line) = &self.line else { return };
        let handled = match line.check_warrant(from, self.me, &message) {
            Ok(()) => self.on_message(from, message, now),
            Err(why) => Err(why),
        };
        if let Err(why) = handled {
            self.out.push_back(Output::Refused { peer: from, why });
        }
    }

    fn on_message(&mut self, from: Incarnation, message: Message, now: Time) -> Result<(), &'static str> {
        match message {
            Message::Enrol { number, rows, whole } => {
                if self.index.handle_enrol(from, number, rows, whole)? {
                    for asker in self.index.take_early_askers() {
                        self.send(asker, Message::Again);
                    }
                }
            }
            Message::Enrolled(number) => {
                let done = self.teller.handle_enrolled(from, number, now)?;
                self.out.extend(done.into_iter().map(|(request, name)| Output::Enrolled { request, name }));
            }
            // That it came is all that it says.
            Message::Here => {}
            Message::Again => self.on_again(from, now),
            Message::Ask { number, question, after } => {
                self.index.note_asker(from);
                let complete = self.index.is_complete();
                let index::Page { rows, version, more } = self.index.page(&question, after.as_ref());
                self.send(from, Message::Page { number, after, rows, version, more, complete });
            }
            Message::Page { number, after, rows, version, more, complete } => {
                if let (Some(line), Some(question)) = (&self.line, self.readings.question(number)) {
                    line.check_sizes(from, question, &rows)?;
                }
                let page = Page { after, rows, version, more, complete };
                let next = self.readings.handle_page(from, number, page, now)?;
                self.carry_on(next);
            }
        }
        Ok(())
    }

    fn on_again(&mut self, from: Incarnation, now: Time) {
        let mut said = false;
        for message in self.teller.say_again(from, now) {
            said = true;
            self.send(from, message);
        }
        let next = self.readings.ask_again(from);
        if !said && next.is_empty() && from != self.me {
            self.send(from, Message::Here);
        }
        self.carry_on(next);
    }
}
