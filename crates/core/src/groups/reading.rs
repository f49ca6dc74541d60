//! Readings: questions of this node about groups, until the owners of their indexes have answered.
//!
//! Every reading asks the owner of the index, so it sees each join that was answered before it began; what the asker
//! still has from an earlier one costs a few bytes. Answers come in pages, one at a time. What can not be answered as a
//! whole - a rebuild, an owner that is silent - is asked again until the deadline, and then given as incomplete.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::REPEAT;
use super::message::{GroupMember, GroupSize, GroupVersion, Message, Question, Rows};
use crate::base::limits::{READING_ROWS_MAX, READINGS_BYTES_MAX};
use crate::base::{Incarnation, Name, Time};

/// Who is in a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupReading {
    /// What to ask with the next time; none when no index has answered as a whole.
    pub version: Option<GroupVersion>,
    /// The members, by name; none: as in the version that was known.
    pub members: Option<Vec<GroupMember>>,
    /// Every member is there whose join was answered before the question came in, and nobody who had left. Not so when
    /// the index was being rebuilt, or did not answer, until the deadline: then it is what is known.
    pub complete: bool,
}

/// Which groups of a scope have members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScopeReading {
    /// The groups and how many members each has, by name.
    pub names: Vec<(Name, usize)>,
    /// As in [`GroupReading`].
    pub complete: bool,
}

/// What a question has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Group(GroupReading),
    Scope(ScopeReading),
}

/// What is to be done next for a reading.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// This member is asked that.
    Ask(Incarnation, Message),
    /// It is over.
    Answer(u64, Found),
}

/// A page that came in.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) after: Option<Name>,
    pub(super) rows: Rows,
    pub(super) version: Option<GroupVersion>,
    pub(super) more: bool,
    pub(super) complete: bool,
}

/// How far one index has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It has more to say.
    Asked,
    /// It has said all that it has, and that this is not everything: it is asked from the beginning once more.
    Incomplete,
    /// It has said everything.
    Done,
    /// It has said more than there is room for.
    Cut,
}

/// What one index has answered.
#[derive(Debug)]
struct Part {
    step: Step,
    rows: Rows,
    bytes: usize,
    version: Option<GroupVersion>,
    /// Every page so far said that the index is complete.
    complete: bool,
    /// Where the next page begins.
    after: Option<Name>,
}

impl Part {
    fn new(question: &Question) -> Self {
        let rows = match question {
            Question::Members { .. } => Rows::Members(Vec::new()),
            Question::Scope(_) => Rows::Sizes(Vec::new()),
        };
        Self { step: Step::Asked, rows, bytes: 0, version: None, complete: true, after: None }
    }

    fn is_over(&self) -> bool {
        matches!(self.step, Step::Done | Step::Cut)
    }

    /// Adds what a page brings. Of a group that changes between two pages the first version counts: whoever has it reads
    /// the group again as a whole.
    ///
    /// # Errors
    /// It is no answer to the question.
    fn take_in(&mut self, page: Page, question: &Question) -> Result<(), &'static str> {
        if page.after.is_none() {
            *self = Self { version: page.version, ..Self::new(question) };
        }
        let bytes = page.rows.bytes();
        let last = page.rows.names().last().map(|name| (*name).clone());
        let count = match (&mut self.rows, page.rows, question) {
            (Rows::Members(known), Rows::Members(rows), _) => {
                known.extend(rows);
                known.len()
            }
            (Rows::Sizes(known), Rows::Sizes(rows), _) => {
                known.extend(rows);
                known.len()
            }
            (known, Rows::Known, Question::Members { known: Some(_), .. }) if self.after.is_none() => {
                *known = Rows::Known;
                0
            }
            _ => return Err("what it answers is not what it was asked"),
        };
        self.bytes += bytes;
        self.complete &= page.complete;
        self.after = last.filter(|_| page.more);
        self.step = match page.more {
            true if count >= READING_ROWS_MAX => Step::Cut,
            true => Step::Asked,
            false if self.complete => Step::Done,
            // It became so between two pages: from the beginning, at once.
            false if page.complete => Step::Asked,
            false => Step::Incomplete,
        };
        Ok(())
    }
}

#[derive(Debug)]
struct Reading {
    question: Question,
    until: Time,
    repeat_at: Time,
    /// By owner of an index.
    parts: BTreeMap<Incarnation, Part>,
}

impl Reading {
    fn due(&self) -> Time {
        self.until.min(self.repeat_at)
    }

    fn bytes(&self) -> usize {
        self.parts.values().map(|part| part.bytes).sum()
    }

    fn is_over(&self) -> bool {
        !self.parts.is_empty() && self.parts.values().all(Part::is_over)
    }

    /// What to ask this member now, if it has more to say.
    fn ask(&mut self, number: u64, of: Incarnation) -> Option<Next> {
        let part = self.parts.get_mut(&of).filter(|part| !part.is_over())?;
        let message = Message::Ask { number, question: self.question.clone(), after: part.after.clone() };
        Some(Next::Ask(of, message))
    }

    fn ask_all(&mut self, number: u64) -> Vec<Next> {
        let members: Vec<Incarnation> = self.parts.keys().copied().collect();
        members.into_iter().filter_map(|member| self.ask(number, member)).collect()
    }

    fn found(self) -> Found {
        let complete =
            !self.parts.is_empty() && self.parts.values().all(|part| matches!(part.step, Step::Done));
        match &self.question {
            Question::Members { .. } => {
                let part = self.parts.into_values().next();
                let part = part.unwrap_or_else(|| Part::new(&self.question));
                let is_whole = matches!(part.step, Step::Done | Step::Incomplete);
                let version = part.version.filter(|_| is_whole);
                let members = match part.rows {
                    Rows::Members(members) => Some(members),
                    Rows::Known | Rows::Sizes(_) => None,
                };
                Found::Group(GroupReading { version, members, complete })
            }
            Question::Scope(_) => {
                let mut names = Vec::new();
                for part in self.parts.into_values() {
                    let Rows::Sizes(sizes) = part.rows else { continue };
                    let size =
                        |size: GroupSize| (size.name, usize::try_from(size.members).unwrap_or(usize::MAX));
                    names.extend(sizes.into_iter().map(size));
                }
                names.sort_unstable();
                Found::Scope(ScopeReading { names, complete })
            }
        }
    }
}

/// All readings of one node.
#[derive(Debug)]
pub(super) struct Readings {
    open: BTreeMap<u64, Reading>,
    max: usize,
    /// When something is due of each.
    timers: BTreeSet<(Time, u64)>,
    /// Bytes of what all of them have found.
    bytes: usize,
}

impl Readings {
    /// None; so many at a time.
    pub(super) fn new(max: usize) -> Self {
        Self { open: BTreeMap::new(), max, timers: BTreeSet::new(), bytes: 0 }
    }

    /// User code asks: these members, those who have the indexes.
    pub(super) fn begin(
        &mut self,
        number: u64,
        question: Question,
        owners: Vec<Incarnation>,
        within: Duration,
        now: Time,
    ) -> Vec<Next> {
        let parts = owners.into_iter().map(|owner| (owner, Part::new(&question))).collect();
        let mut reading = Reading { question, until: now + within, repeat_at: now + REPEAT, parts };
        if self.open.len() >= self.max {
            return vec![Next::Answer(number, reading.found())];
        }
        let next = reading.ask_all(number);
        self.keep(number, reading);
        next
    }

    /// A view was installed: what is read begins anew, with those who have the indexes in it.
    pub(super) fn follow_view(
        &mut self,
        owners: impl Fn(&Question) -> Vec<Incarnation>,
        now: Time,
    ) -> Vec<Next> {
        let mut next = Vec::new();
        for number in self.open.keys().copied().collect::<Vec<_>>() {
            let Some(mut reading) = self.take(number) else { continue };
            let owners = owners(&reading.question).into_iter();
            reading.parts = owners.map(|owner| (owner, Part::new(&reading.question))).collect();
            reading.repeat_at = now + REPEAT;
            next.extend(reading.ask_all(number));
            self.keep(number, reading);
        }
        next
    }

    /// A page came in.
    ///
    /// # Errors
    /// The rule that its sender breaks.
    pub(super) fn handle_page(
        &mut self,
        from: Incarnation,
        number: u64,
        page: Page,
        now: Time,
    ) -> Result<Option<Next>, &'static str> {
        let has_room = self.bytes + page.rows.bytes() <= READINGS_BYTES_MAX;
        // It may be over, by its deadline or since the answer was said twice.
        let Some(reading) = self.open.get_mut(&number) else { return Ok(None) };
        let Some(part) = reading.parts.get_mut(&from) else { return Err("it answers what it was not asked") };
        if part.is_over() || page.after != part.after {
            return Ok(None);
        }
        let before = part.bytes;
        let taken_in = if has_room {
            part.take_in(page, &reading.question)
        } else {
            part.step = Step::Cut;
            Ok(())
        };
        self.bytes = self.bytes - before + part.bytes;
        taken_in?;
        let next = if part.step == Step::Asked { reading.ask(number, from) } else { None };
        if reading.is_over() {
            return Ok(self.take(number).map(|reading| Next::Answer(number, reading.found())));
        }
        if next.is_some() {
            self.timers.remove(&(reading.due(), number));
            reading.repeat_at = now + REPEAT;
            self.timers.insert((reading.due(), number));
        }
        Ok(next)
    }

    /// This member is ready now to answer what it could not before.
    pub(super) fn ask_again(&mut self, of: Incarnation) -> Vec<Next> {
        self.open.iter_mut().filter_map(|(number, reading)| reading.ask(*number, of)).collect()
    }

    /// Time has passed.
    pub(super) fn handle_wake(&mut self, now: Time) -> Vec<Next> {
        let mut next = Vec::new();
        while let Some((due, number)) = self.timers.first().copied().filter(|(due, _)| *due <= now) {
            self.timers.remove(&(due, number));
            let Some(mut reading) = self.take(number) else { continue };
            if reading.until <= now {
                next.push(Next::Answer(number, reading.found()));
                continue;
            }
            reading.repeat_at = now + REPEAT;
            next.extend(reading.ask_all(number));
            self.keep(number, reading);
        }
        next
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Readings, how many there may be, and the bytes of what they have found.
    pub(super) fn fullness(&self) -> (usize, usize, usize) {
        (self.open.len(), self.max, self.bytes)
    }

    /// The question of a reading.
    pub(super) fn question(&self, number: u64) -> Option<&Question> {
        self.open.get(&number).map(|reading| &reading.question)
    }

    fn keep(&mut self, number: u64, reading: Reading) {
        self.bytes += reading.bytes();
        self.timers.insert((reading.due(), number));
        self.open.insert(number, reading);
    }

    fn take(&mut self, number: u64) -> Option<Reading> {
        let reading = self.open.remove(&number)?;
        self.bytes -= reading.bytes();
        self.timers.remove(&(reading.due(), number));
        Some(reading)
    }
}
