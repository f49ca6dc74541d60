//! Scenario files: one interleaving each, in a small language of lines.
//!
//! ```text
//! # A comment.
//! seeds 10                     run it with so many seeds: other delays, other clocks
//! nodes 3                      machines n1, n2, n3; `joiners 1` adds one that boots only when told to
//! set replicas 2               also: slots, delay (upper bound), init, handler, mailbox, clients, capacity (processes of a
//!                              node), waiters (requests that wait for a slot), tombstones (of a slot), clock_ppm
//!                              (clocks differ by so much)
//! name a ranks n1 n3           a name whose slot's owner is n1, then n3, in the view of all machines
//! group g ranks n1 n3          a group whose index is at n1, then n3, in that view
//! twin n3 of n2                machine n3's node has the name of n2's
//! boot n1 at 300ms             founders that are not named boot at 0
//! at 3s start a from n2 as s1  also: call, cast, locate, stop, release, move; `local`, `pinned n2`, `transient`,
//!                              `temporary`, `deadline 1s`, for a move `to n2`, may follow;
//!                              inspect; join and part (leave), with `in g`
//! at 3s read g from n2 as r1   the members of a group
//! at 3s watch a from n2 as w1  a monitor; `by b` (a process of that node), `until freed`, `moves` may follow
//! at 3s publish a              it publishes a snapshot
//! at 4s kill n1                also: off n1, boot n1, pause n1 2s, reset n1 n2, half n1 n2, leave n1, forget n1,
//!                              drain n1 (and leave), drain n1 within 2s, drain n1 and stay,
//!                              cut n1 n2, cut n1 > n2, split n1 | n2 n3, mend, slow n1 > n2 500ms, crash a, fail a 2,
//!                              clock n1 back 10s (its wall clock, from the next boot on),
//!                              deadly a (its `init` ends the node, which boots again 1 s later),
//!                              lose a on n2 (its copy forgets the row, as by a bug),
//!                              boot n4 n5, flap n4 10 1s 1s (killed and booted ten times: up, down), deaf n1 (its port
//!                              refuses), hear n1, jump n1 back 1s, jump n1 ahead 1s (its wall clock), hang a (its `init`
//!                              and handlers do not return), flood a from n2 500 (so many casts),
//!                              init a joins g (before it returns)
//! at 5s expect s1 started      an outcome: started, already, located, ok, pending, or an error's code
//! at 5s expect a runs on n2    also: runs once, runs nowhere
//! at 5s expect a lives 2       so many lives were launched since the beginning
//! at 5s expect view n2 n3      these have one view that holds exactly them
//! at 5s expect s1 handled      the message was handled, once
//! at 5s expect n1 drained 2    its last drain is over, and so many processes were left
//! at 5s expect r1 has a b      the reading is complete, and these are the members
//! at 5s expect w1 told moved   what the monitor was told, in this order: no_process, shutdown, node_lost, moved, ...,
//!                              own (what the process gave itself as it crashed)
//! at 5s expect w1 told last snapshot
//! at 5s expect mark expelled   the world counted this
//! at 5s expect views 4         no node installed more views than this so far
//! ```
//!
//! After the last line all checkers judge the run as they judge any seed. A seed that failed in the large becomes
//! a file here.

mod expect;
mod parse;

use whimbrel_core::base::{Incarnation, Mutants, Name, SlotId};
use whimbrel_core::placement::{ranking, slot_of, slot_of_group};
use whimbrel_core::view::{MemberInfo, View, ViewId};

use crate::checker::judge;
use crate::history::{MILLI, Micros, OpKind, SECOND};
use crate::plan::{Plan, Profile};
use crate::run::delay_max;
use crate::world::{Want, Watched, World, group_of};
use parse::{Scenario, Step, Watch};

/// All files, in the order in which they run.
pub(crate) const FILES: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/scenarios.rs"));

/// Runs one scenario with all its seeds; the text says what failed first.
pub(crate) fn run(text: &str, mutants: Mutants, trace: bool) -> Option<String> {
    let scenario = match parse::parse(text) {
        Ok(scenario) => scenario,
        Err(error) => return Some(error),
    };
    let seeds = if trace { 1 } else { scenario.seeds };
    (1..=seeds).find_map(|seed| {
        run_seed(&scenario, seed, mutants, trace).map(|failed| format!("seed {seed}: {failed}"))
    })
}

fn plan(scenario: &Scenario, seed: u64, mutants: Mutants) -> Plan {
    let mut plan = Plan::draw(Profile::Calm, seed, mutants);
    plan.nodes = scenario.nodes;
    plan.joiners = scenario.joiners;
    plan.replicas = 3;
    plan.slots = 512;
    plan.boot_spread = 0;
    plan.wall_skew_ms = 0;
    plan.delay = (100, 2 * MILLI);
    plan.tail_permille = 0;
    plan.names = 0;
    plan.faults.clear();
    plan.init_fail_permille = 0;
    plan.panic_permille = 0;
    plan.init_max = MILLI;
    plan.handler_max = MILLI;
    plan.mailbox_max = 16_384;
    plan.link_full_permille = 0;
    plan.pure_clients = 0;
    plan.unmovable_permille = 0;
    for (what, value) in &scenario.settings {
        match what.as_str() {
            "replicas" => plan.replicas = *value as usize,
            "slots" => plan.slots = *value as u16,
            "delay" => plan.delay = (plan.delay.0.min(*value), *value),
            "init" => plan.init_max = *value,
            "handler" => plan.handler_max = *value,
            "mailbox" => plan.mailbox_max = *value as usize,
            "clients" => plan.pure_clients = *value as usize,
            "capacity" => plan.capacity = Some(*value as usize),
            "waiters" => plan.limits.slot_waiters = *value as usize,
            "tombstones" => plan.limits.tombstones = *value as usize,
            "clock_ppm" => plan.clock_ppm_max = *value,
            _ => {}
        }
    }
    plan
}

/// The view of all machines.
fn whole_view(plan: &Plan) -> View {
    let total = plan.nodes + plan.joiners;
    let members = (0..total).map(|host| MemberInfo {
        name: Name::new(&format!("n{}", host + 1)).unwrap_or_else(|_| unreachable!("a letter and a number")),
        incarnation: Incarnation { started_ms: 0, nonce: host as u64 },
        address: "".into(),
        weight: 100,
        kinds: Vec::new(),
        draining: false,
        labels: Default::default(),
    });
    View { id: ViewId { counter: 0, author: 0 }, parent: None, members: members.collect() }
}

fn ranks_so(slot: SlotId, ranks: &[u16], view: &View) -> bool {
    let wanted: Vec<usize> = ranks.iter().map(|host| usize::from(*host)).collect();
    ranking(slot, view).starts_with(&wanted)
}

/// A name with this text, or this text and a number, whose slot ranks the machines so.
fn find_name(text: &str, ranks: &[u16], plan: &Plan) -> Result<Name, String> {
    let view = whole_view(plan);
    (0..2_000)
        .filter_map(|number| {
            Name::new(&if number == 0 { text.to_owned() } else { format!("{text}-{number}") }).ok()
        })
        .find(|name| ranks_so(slot_of(name, plan.slots), ranks, &view))
        .ok_or_else(|| format!("no slot ranks the machines as {text} needs; set more slots"))
}

/// A group, other than those of other places in the file, whose index the machines have so.
fn find_group(at: usize, ranks: &[u16], plan: &Plan) -> Result<u32, String> {
    let (view, at) = (whole_view(plan), at as u32);
    (0..2_000)
        .map(|number| at + number * 32)
        .find(|group| ranks_so(slot_of_group(&group_of(*group), plan.slots), ranks, &view))
        .ok_or_else(|| "no slot ranks the machines as a group needs; set more slots".to_owned())
}

/// A run of one scenario.
struct Run<'a> {
    world: World,
    scenario: &'a Scenario,
    /// Operations, readings and monitors by their label.
    ops: Vec<(String, u32)>,
    readings: Vec<(String, u32)>,
    monitors: Vec<(String, u32)>,
    /// Groups of the run, as the file numbers them.
    groups: Vec<u32>,
    cuts: Vec<u32>,
}

fn run_seed(scenario: &Scenario, seed: u64, mutants: Mutants, trace: bool) -> Option<String> {
    let plan = plan(scenario, seed, mutants);
    let (replicas, delay) = (plan.replicas, delay_max(&plan));
    let names: Result<Vec<Name>, String> =
        scenario.names.iter().map(|(text, ranks)| find_name(text, ranks, &plan)).collect();
    let names = match names {
        Ok(names) => names,
        Err(error) => return Some(error),
    };
    let groups: Result<Vec<u32>, String> =
        scenario.groups.iter().enumerate().map(|(at, (_, ranks))| find_group(at, ranks, &plan)).collect();
    let groups = match groups {
        Ok(groups) => groups,
        Err(error) => return Some(error),
    };
    let mut world = World::new(plan, trace);
    for name in &names {
        world.name_id(name);
    }
    for (host, other) in &scenario.twins {
        world.name_as(*host, *other);
    }
    for host in 0..scenario.nodes as u16 {
        let at = scenario.boots.iter().find(|(named, _)| *named == host).map_or(0, |(_, at)| *at);
        world.schedule_boot(at, host);
    }
    for (line, (at, _)) in scenario.steps.iter().enumerate() {
        world.schedule_script(*at, line as u32);
    }
    let mut run = Run {
        world,
        scenario,
        ops: Vec::new(),
        readings: Vec::new(),
        monitors: Vec::new(),
        groups,
        cuts: Vec::new(),
    };
    for _ in 0..scenario.steps.len() {
        let Some(line) = run.world.run_to_script() else { return Some("nothing is left to happen".into()) };
        if let Some(failed) = run.step(line as usize) {
            return Some(failed);
        }
    }
    run.world.finish();
    let violations = judge(&run.world.history, replicas, delay);
    violations.into_iter().next().map(|violation| format!("{}: {}", violation.checker, violation.what))
}

impl Run<'_> {
    fn step(&mut self, line: usize) -> Option<String> {
        let (at, step) = &self.scenario.steps[line];
        match step {
            Step::Operate { kind, name, host, label, placement, deadline } => {
                let kind = match *kind {
                    OpKind::Join { group } => OpKind::Join { group: self.groups[group as usize] },
                    OpKind::Leave { group } => OpKind::Leave { group: self.groups[group as usize] },
                    other => other,
                };
                let want =
                    Want { placement: placement.clone(), deadline: *deadline, ..Want::new(kind, *name) };
                let Some(op) = self.world.operate(*host, 0, want) else {
                    return Some(format!("at {}: n{} is down", seconds(*at), host + 1));
                };
                self.ops.push((label.clone(), op));
            }
            Step::Read { group, host, label } => {
                let reading = self.world.read_group(*host, self.groups[*group as usize], 2 * SECOND, false);
                self.readings.extend(reading.map(|reading| (label.clone(), reading)));
            }
            Step::Watch(watch) => return self.watch(*at, watch),
            Step::Expect(expected) => {
                let failed = self.expect(expected)?;
                return Some(format!("at {}: {failed}", seconds(*at)));
            }
            fault => self.fault(fault),
        }
        None
    }

    fn watch(&mut self, at: Micros, watch: &Watch) -> Option<String> {
        let Watch { name, host, by, until, moves, label } = watch;
        let by = by.map(|watcher| self.world.running_on(*host, watcher));
        if by == Some(None) {
            return Some(format!("at {}: its watcher does not run on n{}", seconds(at), host + 1));
        }
        let watched = Watched { of: None, until: *until, moves: *moves };
        let monitor = self.world.watch(*host, by.flatten(), *name, watched);
        self.monitors.extend(monitor.map(|monitor| (label.clone(), monitor)));
        None
    }

    fn fault(&mut self, step: &Step) {
        let world = &mut self.world;
        match step {
            Step::Kill(host) => world.kill(*host, false),
            Step::Off(host) => world.kill(*host, true),
            Step::Boot(host) => world.schedule_boot(world.now, *host),
            Step::Pause(host, time) => {
                world.pause(*host, *time);
            }
            Step::Leave(host) => world.leave(*host),
            Step::Drain { host, within, leaves } => {
                world.begin_drain(*host, *within, *leaves);
            }
            Step::Forget(host) => world.forget_idle_entries(*host),
            Step::Reset(a, b) => {
                world.reset(*a, *b, true);
            }
            Step::Half(a, b) => {
                world.reset(*a, *b, false);
            }
            Step::Cut(paths) => {
                let cut = world.cut(paths.clone());
                self.cuts.push(cut);
            }
            Step::Mend => {
                for cut in self.cuts.drain(..) {
                    world.mend(cut);
                }
            }
            Step::Slow(from, to, extra) => world.slow(*from, *to, *extra),
            Step::Crash(name) => world.crash_name(*name),
            Step::Fail(name, times) => {
                world.init_failures.insert(*name, *times);
            }
            Step::SetBack(host, by_ms) => world.set_back(*host, *by_ms),
            Step::Deadly(name) => {
                world.deadly.insert(*name);
            }
            Step::Lose(name, host) => world.lose_row(*host, *name),
            Step::Deaf(host, deaf) => world.set_deaf(*host, *deaf),
            Step::Jump(host, by) => world.jump_wall_clock(*host, *by),
            Step::Hang(name) => {
                world.hanging.insert(*name);
            }
            Step::Flood { name, host, count } => {
                for _ in 0..*count {
                    world.operate(*host, 0, Want::new(OpKind::Cast, *name));
                }
            }
            Step::JoinInInit(name, group) => {
                world.joins_of_init.insert(*name, self.groups[*group as usize]);
            }
            Step::Publish(name) => world.publish_now(*name),
            Step::Operate { .. } | Step::Expect(_) | Step::Read { .. } | Step::Watch(_) => {}
        }
    }
}

fn seconds(at: Micros) -> String {
    format!("{}.{:03} s", at / SECOND, at % SECOND / MILLI)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_is_green() {
        let failed: Vec<String> = FILES
            .iter()
            .filter_map(|(name, text)| Some(format!("{name}: {}", run(text, Mutants::default(), false)?)))
            .collect();
        assert!(failed.is_empty(), "{}", failed.join("\n"));
    }

    #[test]
    fn lines_that_make_no_sense_are_refused() {
        for text in [
            "nodes",
            "at soon kill n1",
            "nodes 2\nat 1s kill n9",
            "at 1s expect x what",
            "nodes 1\nat 1s fly n1",
        ] {
            assert!(parse::parse(text).is_err(), "{text}");
        }
    }
}
