//! Whoever watches a name is told exactly once that it ended (I12, P8).
//!
//! Judged, whatever the faults: nobody is told of an end twice (but for a process that was on its way when its node was cut
//! off and goes on in two lines), after he has withdrawn, or though he was refused; a monitor
//! of one life that has ended, and whose watcher lives to the end, was told of it. In runs without a cut, a pause or a
//! change of lines, in which no slot lost all copies: an end of a life, or of a name, that came after the monitor was set,
//! was told; what was told is the end of a life that had ended, in the time in which it was watched, with the reason that
//! it gave or that its node was lost; a move is no end; that there is no process was told when there was none; and the
//! snapshot is the last one of that life, but for those of the last seconds, unless it ended with one.

use whimbrel_core::base::ExitReason;
use whimbrel_core::directory::{RestartPolicy, Until};

use super::{Facts, Violation, ms, violated};
use crate::history::{End, Life, Micros, Monitor, NEVER, OpKind, Outcome, SECOND, Told};

const NAME: &str = "monitors";
/// What ends so late in the run may not have been told of.
const SETTLE: Micros = 8 * SECOND;
/// A life that ended so long before may still have been taken for running: its node was silent.
const UNSEEN: Micros = 8 * SECOND;
/// A snapshot is with the owner after this.
const PUBLISHED: Micros = 3 * SECOND;

/// A life with its moves: one process, from where it ran first to where it ended.
struct Chain {
    from: Micros,
    until: Micros,
    /// The last of its lives.
    last: u32,
    /// A split in the middle of a move left two of it.
    forked: bool,
}

struct Watched<'a> {
    facts: &'a Facts<'a>,
    chains: Vec<Chain>,
    /// By life.
    chain_of: Vec<usize>,
    /// By name.
    chains_of: Vec<Vec<usize>>,
    /// When something was disturbed.
    windows: Vec<(Micros, Micros)>,
    /// Crashes alone, and no slot lost all copies.
    strict: bool,
}

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    if facts.history.monitors.is_empty() {
        return;
    }
    let watched = Watched::new(facts);
    for (at, monitor) in facts.history.monitors.iter().enumerate() {
        let failed = watched.told_wrongly(monitor).or_else(|| watched.not_told(monitor));
        if let Some(what) = failed {
            let name = facts.history.name(monitor.name);
            let (host, asked) = (monitor.host + 1, ms(monitor.asked));
            return violated(
                found,
                NAME,
                format!("monitor {at} of {name} on n{host}, asked for at {asked}: {what}"),
            );
        }
    }
}

impl<'a> Watched<'a> {
    fn new(facts: &'a Facts<'a>) -> Self {
        let lives = &facts.history.lives;
        let mut watched = Self {
            facts,
            chains: Vec::new(),
            chain_of: Vec::new(),
            chains_of: vec![Vec::new(); facts.history.names.len()],
            windows: facts.excused_windows(),
            strict: facts.crash_only && !facts.copies_lost,
        };
        for (at, life) in lives.iter().enumerate() {
            let ended = life.ended.map_or(NEVER, |(at, _)| at);
            let chain = match life.moved_from {
                Some(from) => watched.chain_of[from as usize],
                None => {
                    let from = life.running.unwrap_or(NEVER);
                    watched.chains.push(Chain { from, until: ended, last: at as u32, forked: false });
                    watched.chains_of[life.name as usize].push(watched.chains.len() - 1);
                    watched.chains.len() - 1
                }
            };
            watched.chain_of.push(chain);
            let chain = &mut watched.chains[chain];
            (chain.until, chain.last) = (ended, at as u32);
            chain.forked |= facts.is_forked(at as u32);
        }
        watched
    }

    fn life(&self, life: u32) -> &'a Life {
        &self.facts.history.lives[life as usize]
    }

    fn chains_of(&self, name: u32) -> impl Iterator<Item = &Chain> {
        self.chains_of[name as usize].iter().map(|chain| &self.chains[*chain])
    }

    fn chain(&self, life: u32) -> &Chain {
        &self.chains[self.chain_of[life as usize]]
    }

    /// Whether the watcher was there until the end of the run.
    fn watcher_lives(&self, monitor: &Monitor) -> bool {
        let history = self.facts.history;
        let leaves = history.leaves.iter().any(|(host, at)| *host == monitor.host && *at >= monitor.asked);
        match monitor.by {
            Some(by) => self.is_there(by, monitor.asked),
            None => !leaves && !history.killed_between(monitor.host, monitor.asked, history.ended),
        }
    }

    /// Whether this life, or what became elsewhere of what it was at this time, was there until the end of the run.
    fn is_there(&self, life: u32, at: Micros) -> bool {
        let goes_on = |to: &u32| self.life(*to).launched >= at && self.is_there(*to, at);
        self.life(life).ended.is_none() || self.facts.went_to[life as usize].iter().any(goes_on)
    }

    /// What must not have been told.
    fn told_wrongly(&self, monitor: &Monitor) -> Option<String> {
        let downs: Vec<&Told> = monitor.downs().collect();
        // A watcher that was on its way may go on in two lines: there each of its lives is told.
        let may_be_two = monitor.by.is_some() && !self.facts.crash_only;
        let same = |first: &&Told, second: &&Told| !may_be_two || first.host == second.host;
        let again = downs.iter().enumerate().find_map(|(at, told)| {
            let second = downs[at + 1..].iter().find(|second| same(told, second))?;
            Some((*told, *second))
        });
        if let Some((first, second)) = again {
            let (first, second) = (tell(first), tell(second));
            return Some(format!("it is told twice, of {first} and of {second}"));
        }
        if let Some(told) =
            monitor.told.iter().find(|told| !may_be_two && monitor.withdrawn.is_some_and(|at| told.at > at))
        {
            return Some(format!("withdrawn, it is told of {}", tell(told)));
        }
        let refused = matches!(monitor.set, Some((_, Err(_))));
        if let Some(told) = monitor.told.iter().find(|_| refused) {
            return Some(format!("refused, it is told of {}", tell(told)));
        }
        if let Some(told) =
            monitor.told.iter().find(|told| told.reason == ExitReason::Moved && !monitor.moves)
        {
            return Some(format!("it did not ask for moves and is told of {}", tell(told)));
        }
        let told = downs.first().filter(|_| self.strict)?;
        self.untrue(monitor, told)
    }

    /// What is not so about an end that was told.
    fn untrue(&self, monitor: &Monitor, told: &Told) -> Option<String> {
        let lived = |chain: &Chain| chain.from <= monitor.asked && chain.until >= told.at;
        if told.reason == ExitReason::NoProcess {
            // One that stood still on its way when another life took its name runs no more, though it ends later.
            let superseded = |chain: &Chain| {
                let lost = self.life(chain.last).reason == Some(ExitReason::ConflictLost);
                lost && chain.until < told.at + UNSEEN
            };
            let lives = match monitor.of {
                Some(of) => self.chain(of).until >= told.at && !superseded(self.chain(of)),
                None => self.chains_of(monitor.name).any(|chain| lived(chain) && !superseded(chain)),
            };
            return lives.then(|| format!("told at {} that there is no process, and there is", ms(told.at)));
        }
        let lives = self.facts.lives[monitor.name as usize].iter();
        let mut lives = lives.filter(|life| self.life(**life).had(told.token));
        let Some(life) = lives.next_back() else { return self.untrue_of_nobody(monitor, told) };
        let chain = self.chain(*life);
        if chain.until > told.at {
            return Some(format!("it is told of {}, which lives", tell(told)));
        }
        // A name that waits for its next life is quarantined under the token of the last.
        let waits = told.reason == ExitReason::Quarantined;
        // A name that does not run just then is stopped as any other.
        let stopped = told.reason == ExitReason::Shutdown
            && self.facts.stop_between(monitor.name as usize, chain.until, told.at);
        if chain.until + UNSEEN < monitor.asked && monitor.of.is_none() && !waits && !stopped {
            return Some(format!("it is told of {}, which had ended at {}", tell(told), ms(chain.until)));
        }
        let another = |of: u32| self.chain_of[of as usize] != self.chain_of[*life as usize];
        if monitor.until == Until::Life && monitor.of.is_some_and(another) {
            return Some(format!("it is told of {}, which it does not watch", tell(told)));
        }
        if monitor.until == Until::Name && !self.name_may_have_ended(monitor, told) {
            return Some(format!("it is told of {}, and the name goes on", tell(told)));
        }
        if !self.is_reason_true(chain, told) && !stopped {
            let (ended, reason) = (ms(chain.until), &self.life(chain.last).reason);
            return Some(format!("it is told of {}; at {ended} it gave {reason:?}", tell(told)));
        }
        self.false_snapshot(monitor, chain, told)
    }

    /// A life that was granted and never launched: its host died first.
    fn untrue_of_nobody(&self, monitor: &Monitor, told: &Told) -> Option<String> {
        let from = monitor.asked.saturating_sub(UNSEEN);
        let host_died = self.facts.nodes_change_between(from, told.at);
        (!host_died).then(|| format!("it is told of {}, which never was", tell(told)))
    }

    fn name_may_have_ended(&self, monitor: &Monitor, told: &Told) -> bool {
        let (name, from) = (monitor.name as usize, monitor.asked.saturating_sub(UNSEEN));
        let quarantined = self.facts.history.quarantined.iter();
        let quarantined = quarantined.into_iter().any(|(other, at)| *other == monitor.name && *at <= told.at);
        let ended = self.chains_of(monitor.name).any(|chain| {
            let life = self.life(chain.last);
            let end = life.ended.map(|(_, end)| end);
            let frees = match life.policy {
                RestartPolicy::Temporary => end.is_some(),
                RestartPolicy::Transient => end == Some(End::Normal),
                RestartPolicy::Permanent => false,
            };
            (frees || end == Some(End::InitFailed)) && chain.until >= from && chain.until <= told.at
        });
        ended || quarantined || self.facts.stop_between(name, from, told.at)
    }

    fn is_reason_true(&self, chain: &Chain, told: &Told) -> bool {
        let life = self.life(chain.last);
        let history = self.facts.history;
        let gone = history.killed_between(life.host, chain.until, told.at)
            || history.leaves.iter().any(|(host, at)| *host == life.host && *at <= told.at);
        let quarantined = history.quarantined.iter().any(|(name, at)| *name == life.name && *at <= told.at);
        match told.reason {
            ExitReason::NodeLost if gone => true,
            ExitReason::Quarantined if quarantined => true,
            _ => life.reason.as_ref() == Some(&told.reason),
        }
    }

    fn false_snapshot(&self, monitor: &Monitor, chain: &Chain, told: &Told) -> Option<String> {
        let snapshots = &self.facts.history.snapshots;
        // The last state of a name may be that of a life before.
        let may_be = |life: u32| match monitor.until {
            Until::Life => std::ptr::eq(self.chain(life), chain),
            Until::Name => self.life(life).name == monitor.name,
        };
        let of_chain = |life: u32| std::ptr::eq(self.chain(life), chain);
        let numbered = snapshots.iter().enumerate().filter(|(_, snapshot)| of_chain(snapshot.life));
        let numbered: Vec<_> = numbered.map(|(at, snapshot)| (at as u32, snapshot)).collect();
        let is_known = |number: u32| {
            let snapshot = snapshots.get(number as usize);
            snapshot.is_some_and(|snapshot| may_be(snapshot.life) && snapshot.at <= told.at)
        };
        if let Some(number) = told.snapshot.filter(|number| !is_known(*number)) {
            return Some(format!("it is told of {}, which did not publish snapshot {number}", tell(told)));
        }
        let own = self.life(chain.last).reason.as_ref() == Some(&told.reason);
        let known = |snapshot: &crate::history::Snapshot| match snapshot.last {
            true => own && self.life(chain.last).ended.is_some_and(|(_, end)| end == End::Crashed),
            false => snapshot.at + PUBLISHED < chain.until,
        };
        let due = numbered.iter().rfind(|(_, snapshot)| known(snapshot)).map(|(at, _)| *at);
        (told.snapshot < due).then(|| format!("it is told of {}; the last snapshot is {due:?}", tell(told)))
    }

    /// What should have been told.
    fn not_told(&self, monitor: &Monitor) -> Option<String> {
        let history = self.facts.history;
        let told = monitor.downs().next().is_some();
        if told || monitor.withdrawn.is_some() || !self.watcher_lives(monitor) {
            return None;
        }
        let settled = history.ended.saturating_sub(SETTLE);
        let set = match monitor.set {
            Some((at, Ok(()))) => at,
            Some((_, Err(_))) => return None,
            None if monitor.asked > settled || history.converged.is_none() => return None,
            None => return Some("it is never set".into()),
        };
        let ended = match (monitor.of, monitor.until) {
            // Of one that never ran two lines may each have had another under its token.
            (Some(of), Until::Life) if self.life(of).running.is_none() => None,
            (Some(of), Until::Life) => {
                let known = |chain: &&Chain| chain.until <= settled && !chain.forked && !self.has_twin(of);
                Some(self.chain(of)).filter(known).map(|chain| chain.until)
            }
            (None, Until::Life) => self.end_of_a_life(monitor, set, settled),
            (_, Until::Name) => self.end_of_the_name(monitor, set, settled),
        };
        ended.map(|at| format!("set at {}, it is not told of the end at {}", ms(set), ms(at)))
    }

    /// Whether another life of the name has the token of this one: two lines may give the same.
    fn has_twin(&self, of: u32) -> bool {
        let (own, life) = (self.chain_of[of as usize], self.life(of));
        let others = self.facts.lives[life.name as usize]
            .iter()
            .filter(|other| self.chain_of[**other as usize] != own);
        others.map(|other| self.life(*other)).any(|other| other.had(life.token))
    }

    fn end_of_a_life(&self, monitor: &Monitor, set: Micros, settled: Micros) -> Option<Micros> {
        if self.facts.copies_lost || self.is_disturbed(monitor.asked, set) {
            return None;
        }
        let counts = |chain: &&Chain| {
            let (from, until) = (chain.from, chain.until);
            let alone = |other: &Chain| other.from == from || other.from > until || other.until < from;
            from < set
                && until > set
                && until <= settled
                && !chain.forked
                // Of two that ran at once the owner knew one; what it took for lost ends when it is heard of.
                && self.chains_of(monitor.name).all(alone)
                && self.life(chain.last).reason != Some(ExitReason::ConflictLost)
                && (self.strict || !self.is_disturbed(until, until))
        };
        self.chains_of(monitor.name).find(counts).map(|chain| chain.until)
    }

    fn is_disturbed(&self, from: Micros, until: Micros) -> bool {
        self.windows.iter().any(|(begin, end)| *begin <= until && from <= *end)
    }

    fn end_of_the_name(&self, monitor: &Monitor, set: Micros, settled: Micros) -> Option<Micros> {
        if !self.strict {
            return None;
        }
        let ops =
            self.facts.ops[monitor.name as usize].iter().map(|op| &self.facts.history.ops[*op as usize]);
        let stopped = ops.filter(|op| op.kind == OpKind::Stop && op.invoked > set);
        let mut stopped = stopped.filter_map(|op| match op.completed {
            Some((at, Outcome::Ok)) if at <= settled => Some(at),
            _ => None,
        });
        let temporary = |chain: &&Chain| {
            let of_it = self.life(chain.last).policy == RestartPolicy::Temporary;
            of_it && chain.from < set && chain.until > set && chain.until <= settled
        };
        stopped.next().or_else(|| self.chains_of(monitor.name).find(temporary).map(|chain| chain.until))
    }
}

fn tell(told: &Told) -> String {
    format!("{:?}, {}, at {}", told.token, told.reason, ms(told.at))
}
