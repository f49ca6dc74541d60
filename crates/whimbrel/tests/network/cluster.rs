//! The three nodes as the test sees them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use crate::node::ROLE;
use crate::wires::{NODES, Wires, address};

/// How long anything may take; reaching it is a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Nodes that have said nothing for so long are asked for their views.
const QUIET: Duration = Duration::from_millis(200);
const PORT: u16 = 4_100;

/// All nodes; they end with it.
pub(crate) struct Nodes {
    nodes: Vec<Node>,
    said: Receiver<(usize, String)>,
    /// Lives that have begun and not ended, by name.
    alive: BTreeMap<String, BTreeSet<String>>,
}

struct Node {
    process: Child,
    commands: Option<ChildStdin>,
    view: Vec<String>,
    done: Option<String>,
}

impl Nodes {
    pub(crate) fn start(wires: &Wires) -> Self {
        let (sender, said) = channel();
        let nodes = (0..NODES).map(|at| Node::start(wires, at, sender.clone())).collect();
        Self { nodes, said, alive: BTreeMap::new() }
    }

    /// Waits until this is so.
    pub(crate) fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < until, "not so: {what}; {}", self.state());
            match self.said.recv_timeout(QUIET) {
                Ok((node, line)) => self.hear(node, &line),
                Err(RecvTimeoutError::Timeout) => (0..NODES).for_each(|node| self.tell(node, "view")),
                Err(RecvTimeoutError::Disconnected) => panic!("all nodes have ended"),
            }
        }
    }

    fn hear(&mut self, node: usize, line: &str) {
        let mut words = line.split(' ');
        match words.next() {
            Some("view") => self.nodes[node].view = words.map(str::to_owned).collect(),
            Some("done") => self.nodes[node].done = Some(words.collect::<Vec<_>>().join(" ")),
            Some(event @ ("born" | "gone")) => {
                let name = words.next().unwrap().to_owned();
                let life = words.next().unwrap().to_owned();
                let lives = self.alive.entry(name).or_default();
                let changed = if event == "born" { lives.insert(life) } else { lives.remove(&life) };
                assert!(changed, "n{}: {line}", node + 1);
            }
            _ => panic!("n{} says {line:?}", node + 1),
        }
    }

    fn tell(&mut self, node: usize, command: &str) {
        writeln!(self.nodes[node].commands.as_mut().unwrap(), "{command}").unwrap();
    }

    fn ask(&mut self, node: usize, command: &str) -> String {
        self.tell(node, command);
        self.until(command, |nodes| nodes.nodes[node].done.is_some());
        self.nodes[node].done.take().unwrap()
    }

    /// Starts a name at a node.
    pub(crate) fn start_name(&mut self, node: usize, name: &str) {
        assert_eq!(self.ask(node, &format!("start {name}")), "ok", "{name} at n{}", node + 1);
    }

    /// The life of a name that answers a node.
    pub(crate) fn call(&mut self, node: usize, name: &str) -> String {
        self.ask(node, &format!("call {name}"))
    }

    /// How many processes of this name there are, on all nodes.
    pub(crate) fn alive(&self, name: &str) -> usize {
        self.alive.get(name).map_or(0, BTreeSet::len)
    }

    /// How many members the view of a node has.
    pub(crate) fn views(&self, node: usize) -> usize {
        self.nodes[node].view.len()
    }

    pub(crate) fn all_see(&self, members: &[&str]) -> bool {
        self.nodes.iter().all(|node| node.view == members)
    }

    /// All end in order.
    pub(crate) fn leave(mut self) {
        for node in &mut self.nodes {
            node.commands = None;
        }
        for node in &mut self.nodes {
            assert!(node.process.wait().unwrap().success());
        }
    }

    fn state(&self) -> String {
        let views: Vec<&Vec<String>> = self.nodes.iter().map(|node| &node.view).collect();
        let odd: Vec<_> = self.alive.iter().filter(|(_, lives)| lives.len() != 1).collect();
        format!("views {views:?}, names that do not run once {odd:?}")
    }
}

impl Node {
    fn start(wires: &Wires, at: usize, said: Sender<(usize, String)>) -> Self {
        let mut process = Command::new("ip")
            .args(["netns", "exec", &wires.space(at)])
            .arg(std::env::current_exe().unwrap())
            .args([ROLE, &format!("n{}", at + 1)])
            .args([format!("{}:{PORT}", address(at)), format!("{}:{PORT}", address(0))])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = process.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { return };
                if said.send((at, line)).is_err() {
                    return;
                }
            }
        });
        let commands = process.stdin.take();
        Node { process, commands, view: Vec::new(), done: None }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
