//! Judges what moved: how long each process paused, and whether its state came along whole.
//!
//! **State.** A counter says its value with every reply. That must be the number of messages which it and the lives
//! before it have handled, back to the last life that began anew. A life begins anew when its process was restarted, and
//! only the kill of its node is a reason for that.

use std::collections::{BTreeMap, HashMap};

use super::evidence::Evidence;
use super::kills::{Kill, ms};
use crate::demo::evidence::{CLEANER, HandledLine, MoveAt, MoveLine, Op};

/// One process that moved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moved {
    /// When it ran at its target.
    pub(crate) at_us: u64,
    /// From the end of its last handler at the source, when it began to come to rest there, until then. None when nobody
    /// saw it come to rest.
    pub(crate) pause_ms: Option<f64>,
}

/// What became of the processes that moved.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    /// Those that arrived, by time.
    pub(crate) arrived: Vec<Moved>,
    /// When names were restarted on another node than before.
    pub(crate) restarted_elsewhere: Vec<u64>,
    /// Moves that were called off: when.
    pub(crate) called_off: Vec<u64>,
    /// Replies with another value than what had been handled: when the call was sent.
    pub(crate) state_wrong: Vec<u64>,
    /// Lives that began anew without reason: when they first handled something.
    pub(crate) state_gone: Vec<u64>,
}

impl Moves {
    /// Judges them all.
    pub(crate) fn judge(
        evidence: &Evidence,
        names: &BTreeMap<&str, Vec<&HandledLine>>,
        kills: &[Kill],
    ) -> Self {
        let mut moves = Moves::default();
        let mut steps: BTreeMap<&str, Vec<&MoveLine>> = BTreeMap::new();
        let mut rests: HashMap<(&str, u64), &MoveLine> = HashMap::new();
        for line in &evidence.moves {
            match line.stage {
                MoveAt::Rests => _ = rests.insert((&line.name, line.token), line),
                MoveAt::Runs => steps.entry(&line.name).or_default().push(line),
                MoveAt::GoesOn => moves.called_off.push(line.t_us),
            }
        }
        for line in evidence.moves.iter().filter(|line| line.stage == MoveAt::Runs) {
            let rested = rests.get(&(line.name.as_str(), line.token));
            let pause_ms = rested.map(|rested| ms(line.t_us, rested.t_us));
            moves.arrived.push(Moved { at_us: line.t_us, pause_ms });
        }
        let mut counted: HashMap<&str, u64> = HashMap::new();
        for (name, lines) in names {
            let arrivals = steps.get(name).map_or(&[][..], Vec::as_slice);
            moves.follow(name, lines, arrivals, &rests, kills, &mut counted);
        }
        moves.judge_replies(evidence, &counted);
        moves
    }

    /// Follows one name through its lives, and notes what its counter must say to each message.
    fn follow<'a>(
        &mut self,
        name: &str,
        handled: &[&'a HandledLine],
        arrivals: &[&MoveLine],
        rests: &HashMap<(&str, u64), &MoveLine>,
        kills: &[Kill],
        counted: &mut HashMap<&'a str, u64>,
    ) {
        let mut arrivals = arrivals.iter().peekable();
        let mut last: Option<Life<'_>> = None;
        let mut count = 0;
        for line in handled {
            while let Some(arrival) = arrivals.next_if(|arrival| arrival.t_us <= line.t_us) {
                let rested = rests.get(&(name, arrival.token)).map(|rested| rested.node.as_str());
                // It came from elsewhere than it was seen: there was a life in between, which handled nothing.
                if let Some(before) = last.as_ref().filter(|life| Some(life.node) != rested) {
                    count = 0;
                    self.begins_anew(name, before, arrival.t_us, kills);
                }
                last = Some(Life { token: arrival.token, node: &arrival.node });
            }
            if let Some(before) = &last
                && before.token != line.token
            {
                count = 0;
                if before.node != line.node {
                    self.restarted_elsewhere.push(line.t_us);
                }
                self.begins_anew(name, before, line.t_us, kills);
            }
            last = Some(Life { token: line.token, node: &line.node });
            count += 1;
            counted.insert(&line.id, count);
        }
    }

    /// A life began without the state of the one before: the cleaner has none, and of others only a kill is a reason.
    fn begins_anew(&mut self, name: &str, before: &Life<'_>, at_us: u64, kills: &[Kill]) {
        let excused = kills.iter().any(|kill| kill.node == before.node && kill.at_us <= at_us);
        if name != CLEANER && !excused {
            self.state_gone.push(at_us);
        }
    }

    fn judge_replies(&mut self, evidence: &Evidence, counted: &HashMap<&str, u64>) {
        let replies = evidence.history.iter().filter(|line| line.op == Op::Call && line.outcome == "ok");
        let wrong =
            replies.filter(|line| line.value.is_none() || line.value != counted.get(&*line.id).copied());
        self.state_wrong = wrong.map(|line| line.t0_us).collect();
    }

    /// How long the processes that arrived within this time paused, sorted.
    pub(crate) fn pauses_ms(&self, within: impl Fn(u64) -> bool) -> Vec<f64> {
        let arrived = self.arrived.iter().filter(|moved| within(moved.at_us));
        let mut pauses: Vec<f64> = arrived.filter_map(|moved| moved.pause_ms).collect();
        pauses.sort_by(f64::total_cmp);
        pauses
    }

    /// When names came to another node, moved or restarted.
    pub(crate) fn moments(&self) -> impl Iterator<Item = u64> {
        let arrived = self.arrived.iter().map(|moved| moved.at_us);
        arrived.chain(self.restarted_elsewhere.iter().copied())
    }

    /// Arrivals of which nobody saw the process come to rest.
    pub(crate) fn unmeasured(&self) -> u64 {
        self.arrived.iter().filter(|moved| moved.pause_ms.is_none()).count() as u64
    }
}

/// One life of a name, as far as it was seen.
struct Life<'a> {
    token: u64,
    node: &'a str,
}
