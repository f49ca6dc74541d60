//! Pairs of members without a link: noticed, told, and in the end taken apart.
//!
//! Decides: whom this member has no link with, and whom the author leaves out for it. A link is there as long as
//! anything is heard over it, so a connection that breaks and comes back is none of this, and a cut in one direction is.
//! Promises: a pair that stays without a link for 3 D is not in one view any more, so nothing waits for it for ever: an
//! owner and its backup can not open a slot without a link. Assumes: every link carries something every 3/4 D, since this
//! member asks where it has heard nothing. An author that misses most links itself steps down.
//!
//! ```text
//!            silent for D                      silent for 3 D, as either says
//!   Linked ───────────────> Unlinked: told ───────────────────────────────────> the author leaves one of the two out
//!      ^                        │
//!      └──── anything heard ────┘
//! ```
//!
//! A word of a member is good for D, so a pair that is linked again is forgotten. A member that dies is found by the
//! detector first. A view that was skipped changes nothing here: silence is counted from what was heard.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use minicbor::{Decode, Encode};

use super::{Membership, MembershipEvent, Message, Output, Stage};
use crate::base::limits::MEMBERS_MAX;
use crate::base::{Incarnation, Now, Time};
use crate::view::View;

/// A member that the sender has not heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Silent {
    /// The member.
    #[n(0)]
    pub member: Incarnation,
    /// For how long, in milliseconds.
    #[n(1)]
    pub for_ms: u32,
}

impl Silent {
    fn silence(&self) -> Duration {
        Duration::from_millis(u64::from(self.for_ms))
    }
}

/// What one member said of those it does not hear, and when.
#[derive(Debug)]
struct Word {
    at: Time,
    silent: Vec<Silent>,
}

/// What a member knows of missing links.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    /// Members that this one has no link with.
    unlinked: BTreeSet<Incarnation>,
    look_at: Option<Time>,
    /// What the others said, kept by whoever may be the author.
    words: BTreeMap<Incarnation, Word>,
}

impl Pairs {
    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.look_at
    }

    pub(super) fn unlinked(&self) -> impl Iterator<Item = Incarnation> + '_ {
        self.unlinked.iter().copied()
    }

    pub(super) fn is_unlinked(&self, member: Incarnation) -> bool {
        self.unlinked.contains(&member)
    }

    /// Whoever is not a member has no pairs.
    pub(super) fn view_changed(&mut self, view: &View) {
        self.unlinked.retain(|member| view.contains(*member));
        self.words.retain(|member, _| view.contains(*member));
    }
}

impl Membership {
    /// Members of the view that this one has had no link with for longer than D.
    pub fn unlinked(&self) -> impl Iterator<Item = Incarnation> + '_ {
        self.pairs.unlinked()
    }

    /// Whether this member of the view has had no link with this node for longer than D.
    pub fn is_unlinked(&self, member: Incarnation) -> bool {
        self.pairs.is_unlinked(member)
    }

    /// Looks four times in D who has been silent, asks those, and tells the author of the others.
    pub(super) fn look_at_pairs(&mut self, now: Now) {
        if self.pairs.look_at.is_some_and(|at| now.time < at) {
            return;
        }
        let detection = self.settings.detection;
        self.pairs.look_at = Some(now.time + detection / 4);
        self.pairs.words.retain(|_, word| now.time.since(word.at) < detection);
        let silent: Vec<(Incarnation, Duration)> =
            self.detector.silent(detection * 3 / 4, now.time).collect();
        for (member, _) in &silent {
            // Whatever is answered was heard.
            self.send(*member, Message::ViewAsk);
        }
        let unlinked: Vec<(Incarnation, Duration)> =
            silent.into_iter().filter(|(_, silence)| *silence >= detection).collect();
        self.tell_pairs(unlinked.iter().map(|(member, _)| *member).collect());
        let author = self.present_author().filter(|author| *author != self.me.incarnation);
        if let Some(author) = author.filter(|_| !unlinked.is_empty()) {
            let for_ms = |silence: Duration| u32::try_from(silence.as_millis()).unwrap_or(u32::MAX);
            let silent = unlinked
                .into_iter()
                .map(|(member, silence)| Silent { member, for_ms: for_ms(silence) })
                .collect();
            self.send(author, Message::Unlinked(silent));
        }
    }

    fn tell_pairs(&mut self, unlinked: BTreeSet<Incarnation>) {
        let before = std::mem::replace(&mut self.pairs.unlinked, unlinked);
        let lost = self.pairs.unlinked.difference(&before).map(|member| MembershipEvent::Unlinked(*member));
        let found = before.difference(&self.pairs.unlinked).map(|member| MembershipEvent::Linked(*member));
        self.out.extend(lost.chain(found).map(Output::Event));
    }

    /// A member speaks of its own links.
    pub(super) fn on_unlinked(&mut self, from: Incarnation, silent: Vec<Silent>, now: Now) {
        let Some(view) = self.view() else { return };
        let silent = silent.into_iter().filter(|silent| view.contains(silent.member)).take(MEMBERS_MAX);
        let word = Word { at: now.time, silent: silent.collect() };
        self.pairs.words.insert(from, word);
    }

    /// Members to be left out so that no pair is left that has had no link for 3 D. This author may be among them.
    pub(super) fn parted(&self, now: Now) -> BTreeSet<Incarnation> {
        let Stage::Member(line) = &self.stage else { return BTreeSet::new() };
        let detection = self.settings.detection;
        let me = self.me.incarnation;
        let mine = self.detector.silent(detection, now.time).map(|(member, silence)| ((me, member), silence));
        let valid = |(_, word): &(&Incarnation, &Word)| now.time.since(word.at) < detection;
        let told = self.pairs.words.iter().filter(valid).flat_map(|(from, word)| {
            let since = now.time.since(word.at);
            word.silent.iter().map(move |silent| ((*from, silent.member), silent.silence() + since))
        });
        let mut cuts = BTreeMap::new();
        for ((a, b), silence) in mine.chain(told) {
            if !self.detector.is_dead(a) && !self.detector.is_dead(b) {
                let known: &mut Duration = cuts.entry((a.min(b), a.max(b))).or_default();
                *known = silence.max(*known);
            }
        }
        fewest(line.chain.current(), &cuts, detection * 3)
    }
}

/// The fewest members, nearly, without whom no pair is left that was silent for so long. A member that hears nobody is
/// itself the one with the broken link, so the one of most pairs, long or short, goes first; of two with as many, the
/// younger.
fn fewest(
    view: &View,
    cuts: &BTreeMap<(Incarnation, Incarnation), Duration>,
    long: Duration,
) -> BTreeSet<Incarnation> {
    let age: BTreeMap<Incarnation, usize> = view.incarnations().zip(0..).collect();
    let known = |(a, b): &(Incarnation, Incarnation)| a != b && age.contains_key(a) && age.contains_key(b);
    let mut cuts: BTreeMap<_, _> = cuts.iter().filter(|(pair, _)| known(pair)).collect();
    let mut out = BTreeSet::new();
    loop {
        let due = cuts.iter().filter(|(_, silence)| ***silence >= long);
        let due: BTreeSet<Incarnation> = due.flat_map(|((a, b), _)| [*a, *b]).collect();
        let missing = |member: &Incarnation| cuts.keys().filter(|(a, b)| a == member || b == member).count();
        let most = due.into_iter().max_by_key(|member| (missing(member), age.get(member).copied()));
        let Some(member) = most else { return out };
        cuts.retain(|(a, b), _| *a != member && *b != member);
        out.insert(member);
    }
}

#[cfg(test)]
mod tests;
