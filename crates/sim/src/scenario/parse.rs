//! From lines to steps.

use whimbrel_core::base::Name;
use whimbrel_core::directory::{Placement, RestartPolicy, Until};

use crate::history::{MILLI, Micros, OpKind, SECOND};
use crate::world::WITHIN;

/// A scenario as it was written.
#[derive(Debug, Default)]
pub(super) struct Scenario {
    pub(super) seeds: u64,
    pub(super) nodes: usize,
    pub(super) joiners: usize,
    pub(super) settings: Vec<(String, u64)>,
    /// Names, with the beginning of their slot's ranking.
    pub(super) names: Vec<(String, Vec<u16>)>,
    /// Groups, with the beginning of the ranking of their slot.
    pub(super) groups: Vec<(String, Vec<u16>)>,
    pub(super) boots: Vec<(u16, Micros)>,
    /// Machines that have the name of another.
    pub(super) twins: Vec<(u16, u16)>,
    pub(super) steps: Vec<(Micros, Step)>,
}

/// One line with a time.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Operate {
        kind: OpKind,
        name: u32,
        host: u16,
        label: String,
        placement: Placement,
        deadline: Micros,
    },
    Kill(u16),
    Off(u16),
    Boot(u16),
    Pause(u16, Micros),
    Leave(u16),
    Drain {
        host: u16,
        within: Micros,
        leaves: bool,
    },
    Forget(u16),
    Reset(u16, u16),
    Half(u16, u16),
    Cut(Vec<(u16, u16)>),
    Mend,
    Slow(u16, u16, Micros),
    Crash(u32),
    Fail(u32, u32),
    Lose(u32, u16),
    Deadly(u32),
    SetBack(u16, u64),
    /// Its port refuses, or no longer.
    Deaf(u16, bool),
    /// Its wall clock jumps by so many milliseconds.
    Jump(u16, i64),
    /// Its `init` and handlers do not return any more.
    Hang(u32),
    /// So many casts at once.
    Flood {
        name: u32,
        host: u16,
        count: u64,
    },
    /// Its `init` joins that group first.
    JoinInInit(u32, u32),
    Read {
        group: u32,
        host: u16,
        label: String,
    },
    Watch(Watch),
    Publish(u32),
    Expect(Expected),
}

/// A monitor to be set.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    pub(super) name: u32,
    pub(super) host: u16,
    /// The process that watches.
    pub(super) by: Option<u32>,
    pub(super) until: Until,
    pub(super) moves: bool,
    pub(super) label: String,
}

/// What must be true at a time.
#[derive(Clone, Debug)]
pub(super) enum Expected {
    Outcome {
        label: String,
        outcome: String,
    },
    Handled {
        label: String,
    },
    RunsOn {
        name: u32,
        host: u16,
    },
    RunsOnce {
        name: u32,
    },
    RunsNowhere {
        name: u32,
    },
    Lives {
        name: u32,
        count: usize,
    },
    View(Vec<u16>),
    Mark(String),
    ViewsMax(usize),
    Drained {
        host: u16,
        left: usize,
    },
    /// A reading of a group gave these.
    Members {
        label: String,
        names: Vec<u32>,
    },
    /// What a monitor was told: reasons, in their order.
    Told {
        label: String,
        reasons: Vec<String>,
    },
    /// A monitor was told of the last snapshot.
    LastSnapshot {
        label: String,
    },
}

/// Reads a whole file.
pub(super) fn parse(text: &str) -> Result<Scenario, String> {
    let mut scenario = Scenario { seeds: 5, nodes: 3, ..Scenario::default() };
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.is_empty() {
            continue;
        }
        scenario.line(&words).map_err(|error| format!("line {}: {error}", number + 1))?;
    }
    // Lines of one time stay in the order in which they were written.
    scenario.steps.sort_by_key(|(at, _)| *at);
    Ok(scenario)
}

impl Scenario {
    fn line(&mut self, words: &[&str]) -> Result<(), String> {
        match words {
            ["seeds", count] => self.seeds = number(count)?,
            ["nodes", count] => self.nodes = number(count)? as usize,
            ["joiners", count] => self.joiners = number(count)? as usize,
            ["set", what, value] => {
                let value = time(value).or_else(|_| number(value))?;
                self.settings.push(((*what).to_owned(), value));
            }
            ["name", name] => self.names.push(((*name).to_owned(), Vec::new())),
            ["name", name, "ranks", hosts @ ..] => {
                let hosts = self.hosts(hosts)?;
                self.names.push(((*name).to_owned(), hosts));
            }
            ["group", group, "ranks", hosts @ ..] => {
                let hosts = self.hosts(hosts)?;
                self.groups.push(((*group).to_owned(), hosts));
            }
            ["boot", host, "at", at] => {
                let boot = (self.host(host)?, time(at)?);
                self.boots.push(boot);
            }
            ["twin", host, "of", other] => {
                let twin = (self.host(host)?, self.host(other)?);
                self.twins.push(twin);
            }
            ["at", at, "boot", hosts @ ..] => {
                let at = time(at)?;
                let boots = self.hosts(hosts)?.into_iter().map(|host| (at, Step::Boot(host)));
                self.steps.extend(boots);
            }
            ["at", at, "flap", host, rounds, up, down] => {
                let (host, mut at) = (self.host(host)?, time(at)?);
                let (up, down) = (time(up)?, time(down)?);
                for _ in 0..number(rounds)? {
                    self.steps.push((at, Step::Kill(host)));
                    self.steps.push((at + down, Step::Boot(host)));
                    at += down + up;
                }
            }
            ["at", at, rest @ ..] => {
                let at = time(at)?;
                let step = self.step(rest)?;
                self.steps.push((at, step));
            }
            _ => return Err("unknown line".into()),
        }
        Ok(())
    }

    fn step(&mut self, words: &[&str]) -> Result<Step, String> {
        Ok(match words {
            ["expect", rest @ ..] => Step::Expect(self.expected(rest)?),
            ["kill", host] => Step::Kill(self.host(host)?),
            ["off", host] => Step::Off(self.host(host)?),
            ["deaf", host] => Step::Deaf(self.host(host)?, true),
            ["hear", host] => Step::Deaf(self.host(host)?, false),
            ["jump", host, "ahead", by] => Step::Jump(self.host(host)?, milliseconds(by)?),
            ["jump", host, "back", by] => Step::Jump(self.host(host)?, -milliseconds(by)?),
            ["hang", name] => Step::Hang(self.name(name)),
            ["flood", name, "from", host, count] => {
                Step::Flood { name: self.name(name), host: self.host(host)?, count: number(count)? }
            }
            ["drain", host] => Step::Drain { host: self.host(host)?, within: WITHIN, leaves: true },
            ["drain", host, "within", within] => {
                Step::Drain { host: self.host(host)?, within: time(within)?, leaves: true }
            }
            ["drain", host, "and", "stay"] => {
                Step::Drain { host: self.host(host)?, within: WITHIN, leaves: false }
            }
            ["leave", host] => Step::Leave(self.host(host)?),
            ["forget", host] => Step::Forget(self.host(host)?),
            ["pause", host, duration] => Step::Pause(self.host(host)?, time(duration)?),
            ["reset", a, b] => Step::Reset(self.host(a)?, self.host(b)?),
            ["half", a, b] => Step::Half(self.host(a)?, self.host(b)?),
            ["cut", a, ">", b] => Step::Cut(vec![(self.host(a)?, self.host(b)?)]),
            ["cut", a, b] => {
                let (a, b) = (self.host(a)?, self.host(b)?);
                Step::Cut(vec![(a, b), (b, a)])
            }
            ["split", hosts @ ..] => Step::Cut(self.split(hosts)?),
            ["mend"] => Step::Mend,
            ["slow", from, ">", to, extra] => Step::Slow(self.host(from)?, self.host(to)?, time(extra)?),
            ["crash", name] => Step::Crash(self.name(name)),
            ["fail", name, times] => Step::Fail(self.name(name), number(times)? as u32),
            ["clock", host, "back", by] => Step::SetBack(self.host(host)?, time(by)? / MILLI),
            ["deadly", name] => Step::Deadly(self.name(name)),
            ["lose", name, "on", host] => Step::Lose(self.name(name), self.host(host)?),
            ["init", name, "joins", group] => Step::JoinInInit(self.name(name), self.group(group)),
            ["publish", name] => Step::Publish(self.name(name)),
            ["read", group, "from", host, "as", label] => {
                let label = (*label).to_owned();
                Step::Read { group: self.group(group), host: self.host(host)?, label }
            }
            ["watch", name, "from", host, rest @ ..] => Step::Watch(self.watch(name, host, rest)?),
            [verb, name, "from", host, rest @ ..] => self.operation(verb, name, host, rest)?,
            _ => return Err("unknown step".into()),
        })
    }

    fn watch(&mut self, name: &str, host: &str, mut rest: &[&str]) -> Result<Watch, String> {
        let (name, host) = (self.name(name), self.host(host)?);
        let mut watch =
            Watch { name, host, by: None, until: Until::Life, moves: false, label: String::new() };
        while !rest.is_empty() {
            rest = match rest {
                ["by", name, rest @ ..] => {
                    watch.by = Some(self.name(name));
                    rest
                }
                ["until", "freed", rest @ ..] => {
                    watch.until = Until::Name;
                    rest
                }
                ["moves", rest @ ..] => {
                    watch.moves = true;
                    rest
                }
                ["as", label, rest @ ..] => {
                    watch.label = (*label).to_owned();
                    rest
                }
                _ => return Err(format!("unknown word {:?}", rest[0])),
            };
        }
        Ok(watch)
    }

    fn operation(&mut self, verb: &str, name: &str, host: &str, rest: &[&str]) -> Result<Step, String> {
        let (name, host) = (self.name(name), self.host(host)?);
        let (mut policy, mut to, mut group) = (RestartPolicy::Permanent, None, None);
        let (mut label, mut placement, mut deadline) = (String::new(), Placement::Hash, 5 * SECOND);
        let mut rest = rest;
        while !rest.is_empty() {
            rest = match rest {
                ["as", text, rest @ ..] => {
                    label = (*text).to_owned();
                    rest
                }
                ["deadline", text, rest @ ..] => {
                    deadline = time(text)?;
                    rest
                }
                ["to", node, rest @ ..] => {
                    to = Some(self.host(node)?);
                    rest
                }
                ["in", text, rest @ ..] => {
                    group = Some(self.group(text));
                    rest
                }
                ["local", rest @ ..] => {
                    placement = Placement::Local;
                    rest
                }
                ["pinned", node, rest @ ..] => {
                    let node = Name::new(node).map_err(|error| error.to_string())?;
                    placement = Placement::Pinned(node);
                    rest
                }
                ["transient", rest @ ..] => {
                    policy = RestartPolicy::Transient;
                    rest
                }
                ["temporary", rest @ ..] => {
                    policy = RestartPolicy::Temporary;
                    rest
                }
                _ => return Err(format!("unknown word {:?}", rest[0])),
            };
        }
        let kind = match verb {
            "start" => OpKind::Start(policy),
            "call" => OpKind::Call,
            "cast" => OpKind::Cast,
            "locate" => OpKind::Locate,
            "stop" => OpKind::Stop,
            "release" => OpKind::Release,
            "move" => OpKind::Move { to: to.ok_or("a move goes to a node")? },
            "join" => OpKind::Join { group: group.ok_or("a join is in a group")? },
            "part" => OpKind::Leave { group: group.ok_or("whoever parts was in a group")? },
            "inspect" => OpKind::Inspect,
            _ => return Err(format!("unknown operation {verb:?}")),
        };
        Ok(Step::Operate { kind, name, host, label, placement, deadline })
    }

    fn expected(&mut self, words: &[&str]) -> Result<Expected, String> {
        let text = |text: &&str| (*text).to_owned();
        Ok(match words {
            ["view", hosts @ ..] => Expected::View(self.hosts(hosts)?),
            ["mark", mark] => Expected::Mark(text(mark)),
            [host, "drained", left] => {
                Expected::Drained { host: self.host(host)?, left: number(left)? as usize }
            }
            ["views", count] => Expected::ViewsMax(number(count)? as usize),
            [name, "runs", "on", host] => Expected::RunsOn { name: self.name(name), host: self.host(host)? },
            [name, "runs", "once"] => Expected::RunsOnce { name: self.name(name) },
            [name, "runs", "nowhere"] => Expected::RunsNowhere { name: self.name(name) },
            [name, "lives", count] => {
                Expected::Lives { name: self.name(name), count: number(count)? as usize }
            }
            [label, "has", names @ ..] => {
                let names = names.iter().map(|name| self.name(name)).collect();
                Expected::Members { label: text(label), names }
            }
            [label, "told", "last", "snapshot"] => Expected::LastSnapshot { label: text(label) },
            [label, "told", reasons @ ..] => {
                Expected::Told { label: text(label), reasons: reasons.iter().map(text).collect() }
            }
            [label, "handled"] => Expected::Handled { label: text(label) },
            [label, outcome] if self.is_label(label) => {
                Expected::Outcome { label: text(label), outcome: text(outcome) }
            }
            _ => return Err("unknown expectation, or a label that no operation has".into()),
        })
    }

    fn is_label(&self, text: &str) -> bool {
        self.steps.iter().any(|(_, step)| matches!(step, Step::Operate { label, .. } if label == text))
    }

    fn split(&self, words: &[&str]) -> Result<Vec<(u16, u16)>, String> {
        let sides: Result<Vec<Vec<u16>>, String> =
            words.split(|word| *word == "|").map(|side| self.hosts(side)).collect();
        let sides = sides?;
        let mut paths = Vec::new();
        for (at, side) in sides.iter().enumerate() {
            for other in &sides[at + 1..] {
                for a in side {
                    paths.extend(other.iter().flat_map(|b| [(*a, *b), (*b, *a)]));
                }
            }
        }
        Ok(paths)
    }

    fn hosts(&self, words: &[&str]) -> Result<Vec<u16>, String> {
        words.iter().map(|word| self.host(word)).collect()
    }

    fn host(&self, word: &str) -> Result<u16, String> {
        let number: usize = word
            .strip_prefix('n')
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| format!("{word:?} is no machine"))?;
        if number == 0 || number > self.nodes + self.joiners {
            return Err(format!("there is no machine {word}"));
        }
        Ok(number as u16 - 1)
    }

    /// The index of a group, which is added when it is new.
    fn group(&mut self, word: &str) -> u32 {
        let at = self.groups.iter().position(|(group, _)| group == word);
        let at = at.unwrap_or_else(|| {
            self.groups.push((word.to_owned(), Vec::new()));
            self.groups.len() - 1
        });
        at as u32
    }

    /// The index of a name, which is added when it is new.
    fn name(&mut self, word: &str) -> u32 {
        let at = self.names.iter().position(|(name, _)| name == word);
        let at = at.unwrap_or_else(|| {
            self.names.push((word.to_owned(), Vec::new()));
            self.names.len() - 1
        });
        at as u32
    }
}

fn number(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| format!("{word:?} is no number"))
}

fn milliseconds(word: &str) -> Result<i64, String> {
    i64::try_from(time(word)? / MILLI).map_err(|_| format!("{word:?} is too long"))
}

fn time(word: &str) -> Result<Micros, String> {
    let (digits, unit) = if let Some(digits) = word.strip_suffix("us") {
        (digits, 1)
    } else if let Some(digits) = word.strip_suffix("ms") {
        (digits, MILLI)
    } else if let Some(digits) = word.strip_suffix('s') {
        (digits, SECOND)
    } else {
        return Err(format!("{word:?} is no time"));
    };
    let value: f64 = digits.parse().map_err(|_| format!("{word:?} is no time"))?;
    Ok((value * unit as f64) as Micros)
}
