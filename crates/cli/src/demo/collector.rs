//! Takes the evidence of all nodes into files, and watches it pass for the live view.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::evidence::{
    Channel, DEADLETTERS, GROUPS, HANDLED, HISTORY, HandledLine, MONITORS, MOVES, MoveAt, MoveLine, STEPS,
    StepLine,
};
use crate::children::Sink;
use crate::output::Failure;

/// The files, and what was seen on the way.
#[derive(Debug)]
pub(crate) struct Collector {
    history: Out,
    handled: Out,
    dead: Out,
    moves: Out,
    groups: Out,
    monitors: Out,
    steps: Out,
    /// Written by every reader for each handled line, read by the view: contended for a moment each.
    watched: Mutex<Watched>,
}

/// One file. Contended by the readers of all nodes, for one write each.
type Out = Mutex<BufWriter<File>>;

/// Who was last seen where, and how much went by.
#[derive(Debug, Default)]
struct Watched {
    hosts: HashMap<String, Host>,
    handled: BTreeMap<String, u64>,
}

/// Where a name was last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    /// The node.
    pub(crate) node: String,
    /// The life.
    pub(crate) token: u64,
}

impl Collector {
    /// Makes the files in `dir`.
    pub(crate) fn create(dir: &Path) -> Result<Self, Failure> {
        let make = |file: &str| {
            File::create(dir.join(file)).map(BufWriter::new).map(Mutex::new).map_err(|error| {
                Failure::environment(format!("can not write {}", dir.join(file).display())).detail(error)
            })
        };
        Ok(Self {
            history: make(HISTORY)?,
            handled: make(HANDLED)?,
            dead: make(DEADLETTERS)?,
            moves: make(MOVES)?,
            groups: make(GROUPS)?,
            monitors: make(MONITORS)?,
            steps: make(STEPS)?,
            watched: Mutex::default(),
        })
    }

    /// Writes down a step.
    pub(crate) fn step(&self, step: &StepLine) -> Result<(), Failure> {
        let failed =
            |error: &dyn std::fmt::Display| Failure::environment("can not write a step").detail(error);
        let mut line = serde_json::to_vec(step).map_err(|error| failed(&error))?;
        line.push(b'\n');
        lock(&self.steps).write_all(&line).map_err(|error| failed(&error))
    }

    /// Brings everything to the files.
    pub(crate) fn flush(&self) -> Result<(), Failure> {
        for out in self.files() {
            lock(out).flush().map_err(|error| {
                Failure::environment("the evidence can not be written")
                    .detail(error)
                    .hint("is the disk full?")
            })?;
        }
        Ok(())
    }

    fn files(&self) -> [&Out; 7] {
        let Self { history, handled, dead, moves, groups, monitors, steps, .. } = self;
        [history, handled, dead, moves, groups, monitors, steps]
    }

    /// Where a name was last seen.
    pub(crate) fn host(&self, name: &str) -> Option<Host> {
        lock(&self.watched).hosts.get(name).cloned()
    }

    /// The names last seen on a node.
    pub(crate) fn names_on(&self, node: &str) -> Vec<String> {
        let watched = lock(&self.watched);
        let mut names: Vec<String> = watched
            .hosts
            .iter()
            .filter(|(_, host)| host.node == node)
            .map(|(name, _)| name.clone())
            .collect();
        names.sort();
        names
    }

    /// Per node: names last seen there, messages handled there so far.
    pub(crate) fn per_node(&self) -> BTreeMap<String, (u64, u64)> {
        let watched = lock(&self.watched);
        let mut nodes: BTreeMap<String, (u64, u64)> =
            watched.handled.iter().map(|(node, handled)| (node.clone(), (0, *handled))).collect();
        for host in watched.hosts.values() {
            nodes.entry(host.node.clone()).or_default().0 += 1;
        }
        nodes
    }
}

impl Sink for Collector {
    fn line(&self, _child: &str, channel: Channel, line: &[u8]) {
        let out = match channel {
            Channel::History => &self.history,
            Channel::Handled => &self.handled,
            Channel::DeadLetters => &self.dead,
            Channel::Moves => &self.moves,
            Channel::Groups => &self.groups,
            Channel::Monitors => &self.monitors,
            Channel::Answer => return,
        };
        // A full disk shows at the flush, which every verdict needs.
        let _ = lock(out).write_all(line);
        match channel {
            Channel::Handled => {
                if let Ok(line) = serde_json::from_slice::<HandledLine>(line) {
                    lock(&self.watched).see(line);
                }
            }
            Channel::Moves => {
                if let Ok(line) = serde_json::from_slice::<MoveLine>(line) {
                    lock(&self.watched).see_move(line);
                }
            }
            Channel::History
            | Channel::DeadLetters
            | Channel::Groups
            | Channel::Monitors
            | Channel::Answer => {}
        }
    }
}

impl Watched {
    fn see(&mut self, line: HandledLine) {
        match self.handled.get_mut(&line.node) {
            Some(count) => *count += 1,
            None => {
                self.handled.insert(line.node.clone(), 1);
            }
        }
        self.see_at(line.name, line.node, line.token);
    }

    fn see_move(&mut self, line: MoveLine) {
        if line.stage == MoveAt::Runs {
            self.see_at(line.name, line.node, line.token);
        }
    }

    fn see_at(&mut self, name: String, node: String, token: u64) {
        match self.hosts.get_mut(&name) {
            // Lines of two nodes may arrive in another order than they were written.
            Some(host) if host.token > token => {}
            Some(host) if host.token == token && host.node == node => {}
            _ => {
                self.hosts.insert(name, Host { node, token });
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::temp::WorkDir;

    fn line(name: &str, node: &str, token: u64) -> Vec<u8> {
        let line = HandledLine {
            id: "a.0/b/1".into(),
            name: name.into(),
            token,
            node: node.into(),
            pid: 1,
            t_us: 1,
        };
        let mut bytes = serde_json::to_vec(&line).unwrap();
        bytes.push(b'\n');
        bytes
    }

    #[test]
    fn the_last_life_of_a_name_is_where_it_is() {
        let dir = WorkDir::temporary("collector-test").unwrap();
        let collector = Collector::create(dir.path()).unwrap();
        collector.line("n1", Channel::Handled, &line("a", "n1", 1));
        collector.line("n2", Channel::Handled, &line("a", "n2", 2));
        collector.line("n1", Channel::Handled, &line("a", "n1", 1));
        assert_eq!(collector.host("a"), Some(Host { node: "n2".into(), token: 2 }));
        assert_eq!(collector.names_on("n2"), ["a"]);
        assert_eq!(collector.per_node()["n1"], (0, 2));
        collector.flush().unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join(HANDLED)).unwrap().lines().count(), 3);
    }
}
