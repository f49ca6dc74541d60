//! Other libraries beside ours, in the same run.
//!
//! They live in `benches/peers`, a package that is not of this workspace, so that they are in nobody's tree. For each
//! row every library gets a fresh process, two where a message is to leave its process. They are measured in turn with
//! ours and the floor, by the same loops and with the same numbers, and end before the next row.

mod build;
pub(crate) mod command;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

pub(crate) use command::Command;

use super::plan::WITHIN;
use super::row::{median, range, rounded};
use crate::children::{Children, Sink};
use crate::output::Failure;

/// Who is compared with. The last is tokio without any library: a task, its channel, a map.
const LIBRARIES: [&str; 3] = ["ractor", "kameo", "tokio"];

/// The binary of the peers.
pub(crate) struct Peers {
    binary: PathBuf,
    dir: PathBuf,
    sink: Arc<dyn Sink>,
}

/// The processes that are measured for one row.
pub(crate) struct Beside {
    children: Children,
    peers: Vec<Peer>,
}

struct Peer {
    library: &'static str,
    version: String,
    figures: Vec<f64>,
    /// What the library lacks for this row.
    lacks: Option<String>,
}

/// What a row says of one library.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Figure {
    /// Median over the rounds; not there when the library can not do it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<f64>,
    /// Packages and ranges, or what the library lacks.
    pub(crate) note: String,
}

impl Peers {
    /// Builds them if need be. Their logs are left in `dir`.
    pub(crate) fn new(dir: &Path, sink: Arc<dyn Sink>) -> Result<Self, Failure> {
        Ok(Self { binary: build::binary()?, dir: dir.to_owned(), sink })
    }

    /// Starts a process of each library, and with `processes` = 2 another one that it is connected to.
    pub(crate) fn beside(&self, processes: u32) -> Result<Beside, Failure> {
        let children = Children::new("peers", &self.dir, Arc::clone(&self.sink))?;
        let mut beside = Beside { children, peers: Vec::new() };
        for library in LIBRARIES {
            self.spawn(&mut beside.children, library, library)?;
            let version = beside.ask(library, Command::Version)?;
            let version = version.as_str().unwrap_or_default().to_owned();
            let mut peer = Peer { library, version, figures: Vec::new(), lacks: None };
            if processes == 2 {
                let there = format!("{library}-there");
                self.spawn(&mut beside.children, library, &there)?;
                peer.lacks = beside.connect(library, &there)?;
            }
            beside.peers.push(peer);
        }
        Ok(beside)
    }

    fn spawn(&self, children: &mut Children, library: &str, name: &str) -> Result<(), Failure> {
        let mut program = process::Command::new(&self.binary);
        program.arg(library);
        children.spawn_program(name, program).map(drop)
    }
}

impl Beside {
    fn ask(&mut self, child: &str, command: Command) -> Result<Value, Failure> {
        self.children.ask(child, command, WITHIN, &mut || {})
    }

    /// Connects two processes; what the library lacks for it.
    fn connect(&mut self, library: &str, there: &str) -> Result<Option<String>, Failure> {
        let answer = self.ask(there, Command::Listen)?;
        let Some(port) = answer.as_u64().and_then(|port| u16::try_from(port).ok()) else {
            return Ok(Some(answer.as_str().unwrap_or("no port").to_owned()));
        };
        self.ask(library, Command::Connect { port }).map(|_| None)
    }

    /// Measures each library once.
    pub(crate) fn round(&mut self, command: &Command) -> Result<(), Failure> {
        for at in 0..self.peers.len() {
            if self.peers[at].lacks.is_some() {
                continue;
            }
            let answer = self.ask(self.peers[at].library, command.clone())?;
            match answer.as_str() {
                Some(lacks) => self.peers[at].lacks = Some(lacks.to_owned()),
                None => self.peers[at].figures.extend(answer.as_f64()),
            }
        }
        Ok(())
    }

    /// Goes on in fresh processes, with what was measured so far.
    pub(crate) fn afresh(&mut self, peers: &Peers) -> Result<(), Failure> {
        let mut next = peers.beside(1)?;
        for (peer, before) in next.peers.iter_mut().zip(&mut self.peers) {
            peer.figures.append(&mut before.figures);
        }
        *self = next;
        Ok(())
    }

    /// What the row says of them.
    pub(crate) fn figures(self) -> BTreeMap<&'static str, Figure> {
        self.peers.into_iter().map(|peer| (peer.library, peer.figure())).collect()
    }
}

impl Peer {
    fn figure(mut self) -> Figure {
        if let Some(lacks) = self.lacks {
            return Figure { value: None, note: format!("{}: not measured: {lacks}", self.version) };
        }
        self.figures.sort_by(f64::total_cmp);
        Figure {
            value: median(&self.figures).map(rounded),
            note: format!("{}: {} rounds, {}", self.version, self.figures.len(), range(&self.figures)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn peer(figures: &[f64], lacks: Option<&str>) -> Peer {
        let (version, lacks) = ("b 1.2".to_owned(), lacks.map(str::to_owned));
        Peer { library: "b", version, figures: figures.to_vec(), lacks }
    }

    #[test]
    fn a_figure_is_the_median_and_says_of_what() {
        let figure = peer(&[3.0, 1.0, 2.0], None).figure();
        assert_eq!(figure.value, Some(2.0));
        assert_eq!(figure.note, "b 1.2: 3 rounds, 1 to 3");
    }

    #[test]
    fn what_a_library_lacks_has_a_note_and_no_value() {
        let figure = serde_json::to_value(peer(&[], Some("no sockets")).figure()).unwrap();
        assert_eq!(figure.get("value"), None);
        assert_eq!(figure["note"], "b 1.2: not measured: no sockets");
    }
}
