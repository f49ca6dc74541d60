//! Lines: following one's own, noticing others, and ending one of two that meet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::detector::Detector;
use super::pairs::Pairs;
use super::seek::{Fetching, Seeking};
use super::{LineInfo, Membership, MembershipEvent, Message, Output, REPEAT, Stage};
use crate::base::bytes::encoded_bytes;
use crate::base::limits::{STRANGERS_MAX, VIEW_BYTES_MAX};
use crate::base::{Incarnation, Now, Time};
use crate::view::{Chain, View, ViewId};

/// Expulsions within this count for the penalty.
const PENALTY_WINDOW: Duration = Duration::from_secs(60);

/// What a member knows of other lines.
#[derive(Debug, Default)]
pub(super) struct Meeting {
    /// Peers whose view does not descend from ours, and what they last said of it.
    strangers: BTreeMap<Incarnation, LineInfo>,
    /// When to ask the next of them whether we may come.
    ask_at: Option<Time>,
    /// We said "come" to somebody: we do not leave before this.
    stay_until: Option<Time>,
    /// Whom we asked whether we may come.
    asked: BTreeSet<Incarnation>,
    /// The last of them: the next question goes to the one after it, since one that has died does not answer.
    asked_last: Option<Incarnation>,
    /// Whom we said it to, and when first: one that asks for ever and does not come holds us no longer.
    invited: BTreeMap<Incarnation, Time>,
}

impl Meeting {
    pub(super) fn strangers(&self) -> usize {
        self.strangers.len()
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.ask_at
    }
}

impl Membership {
    pub(super) fn on_greet(&mut self, from: Incarnation, line: Option<LineInfo>, now: Now) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        peer.line = Some(line);
        let Stage::Member(own) = &mut self.stage else { return };
        match line {
            None => {
                own.meeting.strangers.remove(&from);
                own.authoring.heard_of_view(from);
            }
            Some(line) if own.chain.contains(line.view) => {
                own.meeting.strangers.remove(&from);
                own.authoring.heard_of_view(from);
            }
            Some(_) => {
                let current = own.chain.current().id;
                self.send(from, Message::ChainAsk(Some(current)));
            }
        }
        self.step_meeting_clock(now);
    }

    pub(super) fn on_install(&mut self, from: Incarnation, view: View, now: Now) {
        if let Err(why) = view.check() {
            return self.refuse(from, why);
        }
        let contains_me = view.contains(self.me.incarnation);
        let line = match &self.stage {
            Stage::Member(line) => line,
            Stage::Seeking(_) if !contains_me => return,
            Stage::Seeking(_) if view.parent.is_none() => return self.install(&Arc::new(view), now),
            Stage::Seeking(seeking) => {
                let comes = |part: &Fetching| part.from == from && now.time.since(part.at) < REPEAT;
                if !seeking.fetching.as_ref().is_some_and(comes) {
                    // The owner of a slot must know the views before this one.
                    self.send(from, Message::ChainAsk(None));
                }
                return;
            }
        };
        let current = line.chain.current();
        if current.id == view.id {
            self.acknowledge(view.id);
        } else if line.chain.contains(view.id) {
            // An older one, told late.
        } else if view.may_follow(current) {
            if contains_me {
                self.install(&Arc::new(view), now);
            } else {
                self.expelled(now);
            }
        } else {
            let current = current.id;
            self.send(from, Message::ChainAsk(Some(current)));
        }
    }

    pub(super) fn on_chain_ask(&mut self, from: Incarnation, after: Option<ViewId>) {
        let Stage::Member(line) = &self.stage else { return };
        let after_known = after.and_then(|id| line.chain.after(id));
        let connected = after_known.is_some();
        let views = match (after, after_known) {
            (_, Some(views)) => views,
            (Some(_), None) => vec![Arc::clone(line.chain.current())],
            (None, None) => line.chain.oldest_first().cloned().collect(),
        };
        let (views, more) = oldest_that_fit(&views);
        self.send(from, Message::Chain { connected, views, more });
    }

    pub(super) fn on_chain(
        &mut self,
        from: Incarnation,
        connected: bool,
        views: Vec<View>,
        more: bool,
        now: Now,
    ) {
        if let Some(why) = views.iter().find_map(|view| view.check().err()) {
            return self.refuse(from, why);
        }
        match &self.stage {
            Stage::Seeking(_) => self.enter_by_chain(from, connected, views, more, now),
            Stage::Member(_) if connected => self.follow(from, views, more, now),
            Stage::Member(_) => self.met(from, &views, now),
        }
    }

    /// A joiner takes over the whole chain that leads to the view it is in, in parts if it is long.
    fn enter_by_chain(&mut self, from: Incarnation, connected: bool, views: Vec<View>, more: bool, now: Now) {
        let Stage::Seeking(seeking) = &mut self.stage else { return };
        let fetched = seeking.fetching.take().filter(|fetching| fetching.from == from);
        let mut views = views.into_iter().map(Arc::new);
        let Some(first) = views.next() else { return };
        let mut chain = match fetched {
            Some(mut fetched) if connected => {
                if !fetched.chain.push(first) {
                    return;
                }
                fetched.chain
            }
            // What came so far is forgotten there. The view that this node is in will be said again.
            Some(_) if views.len() == 0 && first.parent.is_some() => return,
            _ => Chain::new(first),
        };
        for view in views {
            if !chain.push(view) {
                return;
            }
        }
        if more {
            let last = chain.current().id;
            seeking.fetching = Some(Fetching { from, chain, at: now.time });
            return self.send(from, Message::ChainAsk(Some(last)));
        }
        if !chain.current().contains(self.me.incarnation) {
            return;
        }
        let current = Arc::clone(chain.current());
        self.enter(chain, now);
        self.after_install(&current, None, now);
    }

    /// Installs what a member has beyond ours, and asks on while that leads further.
    fn follow(&mut self, from: Incarnation, views: Vec<View>, more: bool, now: Now) {
        let before = self.view().map(|view| view.id);
        for view in views {
            let Stage::Member(line) = &mut self.stage else { return };
            if line.chain.contains(view.id) {
                continue;
            }
            if !view.may_follow(line.chain.current()) {
                return;
            }
            if !view.contains(self.me.incarnation) {
                self.expelled(now);
                return;
            }
            self.install(&Arc::new(view), now);
        }
        if let Stage::Member(line) = &mut self.stage {
            line.meeting.strangers.remove(&from);
            line.authoring.heard_of_view(from);
            let current = line.chain.current().id;
            if more && before != Some(current) {
                self.send(from, Message::ChainAsk(Some(current)));
            }
        }
    }

    /// The peer does not know our view: we are ahead of it, or it is in another line.
    fn met(&mut self, from: Incarnation, views: &[View], now: Now) {
        let Some(theirs) = views.last() else { return };
        let Some(greeted) = self.peers.get(&from).and_then(|peer| peer.line.flatten()) else { return };
        let Stage::Member(line) = &mut self.stage else { return };
        line.authoring.heard_of_view(from);
        if line.chain.contains(theirs.id) {
            line.meeting.strangers.remove(&from);
            return;
        }
        let current = line.chain.current();
        if current.contains(from) && current.id.author == self.me.incarnation.nonce {
            // It is in our view, but on another branch: the next view is without it.
            line.authoring.out.insert(from);
        }
        let author = theirs.incarnations().find(|member| member.nonce == theirs.id.author);
        if let Some(author) = author.filter(|_| theirs.contains(self.me.incarnation)) {
            self.send(author, Message::Diverged(theirs.id));
        }
        self.remember_stranger(from, theirs, greeted, now);
    }

    fn remember_stranger(&mut self, from: Incarnation, theirs: &View, greeted: LineInfo, now: Now) {
        let Stage::Member(line) = &mut self.stage else { return };
        if line.meeting.strangers.len() < STRANGERS_MAX {
            let members = u32::try_from(theirs.members.len()).unwrap_or(u32::MAX);
            let info = LineInfo { view: theirs.id, members, has_records: greeted.has_records };
            line.meeting.strangers.insert(from, info);
        }
        self.step_meeting_clock(now);
    }

    fn step_meeting_clock(&mut self, now: Now) {
        if let Stage::Member(line) = &mut self.stage {
            if line.meeting.strangers.is_empty() {
                line.meeting.ask_at = None;
            } else {
                line.meeting.ask_at.get_or_insert(now.time);
            }
        }
    }

    /// Asks a line that stays before ours whether we may come; greets one that should come to us.
    pub(super) fn meet(&mut self, now: Now) {
        let Some(mine) = self.line_info() else { return };
        let jitter = Duration::from_millis(self.rng_below(100));
        let Stage::Member(line) = &mut self.stage else { return };
        let peers = &self.peers;
        line.meeting.strangers.retain(|stranger, _| peers.contains_key(stranger));
        if line.meeting.strangers.is_empty() {
            line.meeting.ask_at = None;
            return;
        }
        if line.meeting.ask_at.is_none_or(|at| now.time < at) {
            return;
        }
        line.meeting.ask_at = Some(now.time + REPEAT + jitter);
        let may_leave = line.meeting.stay_until.is_none_or(|until| now.time >= until);
        let view = Arc::clone(line.chain.current());
        let strangers: Vec<(Incarnation, LineInfo)> =
            line.meeting.strangers.iter().map(|(peer, info)| (*peer, *info)).collect();
        line.meeting.asked.retain(|stranger| peers.contains_key(stranger));
        let would_go =
            |at: &&(Incarnation, LineInfo)| may_leave && !view.contains(at.0) && at.1.stays_before(&mine);
        let after_last = |at: &&(Incarnation, LineInfo)| Some(at.0) > line.meeting.asked_last;
        let mut hosts = strangers.iter().filter(would_go);
        let host = hosts.clone().find(after_last).or_else(|| hosts.next()).map(|(host, _)| *host);
        if let Some(host) = host {
            line.meeting.asked.insert(host);
            line.meeting.asked_last = Some(host);
        }
        for (stranger, _) in strangers {
            let message =
                if host == Some(stranger) { Message::MergeAsk { mine } } else { Message::Greet(Some(mine)) };
            self.send(stranger, message);
        }
    }

    pub(super) fn on_merge_ask(&mut self, from: Incarnation, theirs: LineInfo, now: Now) {
        let detection = self.settings.detection;
        let Some(mine) = self.line_info() else { return };
        let Stage::Member(line) = &mut self.stage else { return };
        let come = !line.chain.contains(theirs.view) && mine.stays_before(&theirs);
        if come {
            // Two lines never leave for each other: we stay while they are on their way.
            let peers = &self.peers;
            line.meeting.invited.retain(|guest, _| peers.contains_key(guest));
            let first = *line.meeting.invited.entry(from).or_insert(now.time);
            if now.time.since(first) < detection * 4 {
                line.meeting.stay_until = Some(now.time + detection);
            }
        }
        self.send(from, Message::MergeAnswer { come });
    }

    pub(super) fn on_merge_answer(&mut self, from: Incarnation, come: bool, now: Now) {
        let Stage::Member(line) = &self.stage else { return };
        let promised = line.meeting.stay_until.is_some_and(|until| now.time < until);
        let was_asked = line.meeting.asked.contains(&from);
        if come && !was_asked {
            return self.refuse(from, "it answers a question that it was not asked");
        }
        if come && !promised && line.meeting.strangers.contains_key(&from) {
            self.out.push_back(Output::Event(MembershipEvent::LineChanged));
            self.change_lines(Duration::ZERO, now);
        }
    }

    /// A view of this node's own line leaves it out though it lives.
    pub(super) fn expelled(&mut self, now: Now) {
        self.out.push_back(Output::Event(MembershipEvent::Expelled));
        while self.expelled_at.front().is_some_and(|at| now.time.since(*at) > PENALTY_WINDOW) {
            self.expelled_at.pop_front();
        }
        // The first time is free: one long pause is no thrashing.
        let times = u32::try_from(self.expelled_at.len()).unwrap_or(u32::MAX).min(5);
        let penalty = if times == 0 { Duration::ZERO } else { Duration::from_secs(1 << times) };
        self.expelled_at.push_back(now.time);
        self.change_lines(penalty, now);
    }

    /// A view named this seeker, but it never got it, and was left out again.
    pub(super) fn on_left_out(&mut self, from: Incarnation, now: Now) {
        // Only a node that has a line can have asked it in.
        let has_line = self.peers.get(&from).is_some_and(|peer| peer.line.flatten().is_some());
        if matches!(self.stage, Stage::Seeking(_)) && has_line {
            self.change_lines(Duration::ZERO, now);
        }
    }

    /// Wedges everything, drops the view and seeks again under a new incarnation, without a copy.
    pub(super) fn change_lines(&mut self, penalty: Duration, now: Now) {
        self.out.push_back(Output::LineLeft);
        let former = self.view().into_iter().flat_map(|view| &view.members).map(|member| &member.address);
        // One that nobody told of others was found by them: where it goes to is known from their sessions alone.
        let hosts =
            self.peers.values().filter(|peer| peer.line.flatten().is_some()).map(|peer| &peer.info.address);
        let addresses: Vec<_> = former.chain(hosts).cloned().collect();
        for address in addresses {
            self.dial.want(&address, now.time);
        }
        self.me.incarnation = Incarnation::after(Some(self.me.incarnation), now, &mut self.rng);
        self.peers.clear();
        self.dial.restart(now.time);
        self.detector = Detector::new(self.me.incarnation, self.settings.detection, self.rng.fork());
        self.pairs = Pairs::default();
        // There was a line to go to, or one that is younger than what this node knew: it is looked for, however soon a
        // node that has just started may found.
        let founds_after = self.settings.found_alone_after.max(self.settings.detection);
        self.stage = Stage::Seeking(Seeking::new(now.time, founds_after, penalty));
        self.out.push_back(Output::Reincarnate(self.me.incarnation));
    }

    fn rng_below(&mut self, bound: u64) -> u64 {
        self.rng.below(bound)
    }
}

/// The first of these views that fit one message, and whether there are more: with many members not all of them do.
pub(super) fn oldest_that_fit(views: &[Arc<View>]) -> (Vec<View>, bool) {
    let mut bytes = 0;
    let fits = |view: &&Arc<View>| {
        bytes += encoded_bytes(&***view);
        bytes <= VIEW_BYTES_MAX
    };
    // One always does: no view is larger than that.
    let first = views.iter().take_while(fits).count().max(1);
    let more = views.len() > first;
    (views.iter().take(first).map(|view| (**view).clone()).collect(), more)
}

#[cfg(test)]
mod tests;
