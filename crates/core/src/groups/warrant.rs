//! Warrants: which member may say what about groups. Every message of another node passes here before it is looked at.
//!
//! A member tells of the names that it owns, to the owner of their group's index, and says of an index only what is in
//! its own. Beside these rules the parts compare with what they wait for: an acknowledgement with what was said, a page
//! with what was asked.

use super::Line;
use super::message::{GroupMember, Message, Question, Row, Rows};
use crate::base::limits::{INDEX_PAGE_ROWS, INDEX_PART_ROWS, MEMBERSHIP_BYTES_MAX};
use crate::base::{Group, Incarnation};

const NOT_OWNER: &str = "it tells of names in groups that it does not own";
const NOT_INDEX: &str = "it takes this node for the index of a group that another one has";
const NOT_ITS_INDEX: &str = "it answers for an index that another one has";
const SIZE: &str = "rows of an index have a limit";
const ORDER: &str = "rows of an answer come in order, behind what was asked";

type Warrant = Result<(), &'static str>;

fn demand(holds: bool, rule: &'static str) -> Warrant {
    if holds { Ok(()) } else { Err(rule) }
}

impl Line {
    /// Whether this member may say that to this one.
    ///
    /// # Errors
    /// The rule it breaks.
    pub(super) fn check_warrant(&self, from: Incarnation, me: Incarnation, message: &Message) -> Warrant {
        match message {
            Message::Enrol { rows, .. } => {
                demand(rows.len() <= INDEX_PART_ROWS, SIZE)?;
                rows.iter().try_for_each(|row| self.check_row(from, me, row))
            }
            Message::Ask { question: Question::Members { group, .. }, .. } => {
                demand(self.index_of(group) == Some(me), NOT_INDEX)
            }
            Message::Page { after, rows, more, .. } => {
                let names = rows.names();
                demand(names.len() <= INDEX_PAGE_ROWS, SIZE)?;
                // Each page brings something, so there is an end of them.
                demand(!names.is_empty() || !more, ORDER)?;
                demand(names.is_sorted_by(|one, next| one < next), ORDER)?;
                demand(names.first().is_none_or(|first| after.as_ref() < Some(*first)), ORDER)?;
                match rows {
                    Rows::Members(rows) => demand(rows.iter().all(is_small), SIZE),
                    Rows::Known | Rows::Sizes(_) => Ok(()),
                }
            }
            Message::Ask { question: Question::Scope(_), .. }
            | Message::Enrolled(_)
            | Message::Here
            | Message::Again => Ok(()),
        }
    }

    fn check_row(&self, from: Incarnation, me: Incarnation, row: &Row) -> Warrant {
        demand(self.owner_of(&row.name) == Some(from), NOT_OWNER)?;
        demand(self.index_of(&row.group) == Some(me), NOT_INDEX)?;
        let bytes = row.entry.as_ref().map_or(0, |entry| entry.meta.bytes());
        demand(bytes <= MEMBERSHIP_BYTES_MAX, SIZE)
    }

    /// Whether this member has the indexes of all these groups of a scope.
    ///
    /// # Errors
    /// It has not.
    pub(super) fn check_sizes(&self, from: Incarnation, question: &Question, rows: &Rows) -> Warrant {
        let (Question::Scope(scope), Rows::Sizes(sizes)) = (question, rows) else { return Ok(()) };
        let has = |name| self.index_of(&Group { scope: scope.clone(), name }) == Some(from);
        demand(sizes.iter().all(|size| has(size.name.clone())), NOT_ITS_INDEX)
    }
}

fn is_small(member: &GroupMember) -> bool {
    member.meta.bytes() <= MEMBERSHIP_BYTES_MAX
}
