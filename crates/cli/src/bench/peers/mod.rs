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

/// The process of a library that calls.
const HERE: &str = "here";
/// The process that is called, where it is another one.
const THERE: &str = "there";
/// Who is compared with. The last is tokio without any library: a task, its channel, a map.
const LIBRARIES: [&str; 3] = ["ractor", "kameo", "tokio"];

/// The binary of the peers.
pub(crate) struct Peers {
    binary: PathBuf,
    dir: PathBuf,
    sink: Arc<dyn Sink>,
}

/// The libraries beside one row.
pub(crate) struct Beside(Vec<Peer>);

/// One library, in processes of its own: that one of them ends says nothing about another library.
struct Peer {
    library: &'static str,
    children: Children,
    version: String,
    figures: Vec<f64>,
    /// Why it is not measured, or no further.
    excuse: Option<Excuse>,
}

/// Why a library is not measured: it has no such thing, or it failed. That is said in the row, and is no failure of
/// the bench.
type Excuse = String;

/// What a row says of one library.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Figure {
    /// Median over the rounds; not there when it was not measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<f64>,
    /// Packages and ranges, or why it was not measured.
    pub(crate) note: String,
}

impl Peers {
    /// Builds them if need be. Their logs are left in `dir`.
    pub(crate) fn new(dir: &Path, sink: Arc<dyn Sink>) -> Result<Self, Failure> {
        Ok(Self { binary: build::binary()?, dir: dir.to_owned(), sink })
    }

    /// Starts a process of each library, and with `processes` = 2 another one that it is connected to.
    pub(crate) fn beside(&self, processes: u32) -> Result<Beside, Failure> {
        LIBRARIES
            .into_iter()
            .map(|library| self.peer(library, processes))
            .collect::<Result<_, _>>()
            .map(Beside)
    }

    fn peer(&self, library: &'static str, processes: u32) -> Result<Peer, Failure> {
        let children = Children::new("peers", &self.dir, Arc::clone(&self.sink))?;
        let (version, figures) = (library.to_owned(), Vec::new());
        let mut peer = Peer { library, children, version, figures, excuse: None };
        self.spawn(&mut peer, HERE)?;
        match peer.ask(HERE, Command::Version)? {
            Ok(version) => peer.version = version.as_str().unwrap_or(library).to_owned(),
            Err(excuse) => peer.excuse = Some(excuse),
        }
        if processes == 2 && peer.excuse.is_none() {
            self.spawn(&mut peer, THERE)?;
            peer.excuse = peer.connect()?.err();
        }
        Ok(peer)
    }

    fn spawn(&self, peer: &mut Peer, name: &str) -> Result<(), Failure> {
        let mut program = process::Command::new(&self.binary);
        program.arg(peer.library);
        peer.children.spawn_program(name, program).map(drop)
    }
}

impl Beside {
    /// Measures each library once.
    pub(crate) fn round(&mut self, command: &Command) -> Result<(), Failure> {
        for peer in self.0.iter_mut().filter(|peer| peer.excuse.is_none()) {
            match peer.ask(HERE, command.clone())? {
                Ok(figure) => peer.figures.extend(figure.as_f64()),
                Err(excuse) => peer.excuse = Some(excuse),
            }
        }
        Ok(())
    }

    /// Goes on in fresh processes, with what was measured so far.
    pub(crate) fn afresh(&mut self, peers: &Peers) -> Result<(), Failure> {
        let mut next = peers.beside(1)?;
        for (peer, before) in next.0.iter_mut().zip(&mut self.0) {
            peer.figures.append(&mut before.figures);
            peer.excuse = before.excuse.take().or(peer.excuse.take());
        }
        *self = next;
        Ok(())
    }

    /// What the row says of them.
    pub(crate) fn figures(self) -> BTreeMap<&'static str, Figure> {
        let figure = |peer: Peer| (peer.library, figure(&peer.version, peer.figures, peer.excuse));
        self.0.into_iter().map(figure).collect()
    }
}

impl Peer {
    fn ask(&mut self, child: &str, command: Command) -> Result<Result<Value, Excuse>, Failure> {
        match self.children.ask(child, command, WITHIN, &mut || {}) {
            Ok(answer) => Ok(match answer.get(command::LACKS).and_then(Value::as_str) {
                Some(lacks) => Err(lacks.to_owned()),
                None => Ok(answer),
            }),
            Err(failure) if failure.is_check() => Ok(Err(failure.what().to_owned())),
            Err(failure) => Err(failure),
        }
    }

    /// Connects the two processes.
    fn connect(&mut self) -> Result<Result<Value, Excuse>, Failure> {
        let port = match self.ask(THERE, Command::Listen)? {
            Ok(port) => port.as_u64().and_then(|port| u16::try_from(port).ok()),
            Err(excuse) => return Ok(Err(excuse)),
        };
        match port {
            Some(port) => self.ask(HERE, Command::Connect { port }),
            None => Ok(Err("it told no port".to_owned())),
        }
    }
}

fn figure(version: &str, mut figures: Vec<f64>, excuse: Option<Excuse>) -> Figure {
    if let Some(excuse) = excuse {
        return Figure { value: None, note: format!("{version}: not measured: {excuse}") };
    }
    figures.sort_by(f64::total_cmp);
    Figure {
        value: median(&figures).map(rounded),
        note: format!("{version}: {} rounds, {}", figures.len(), range(&figures)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::bench::NoEvidence;
    use crate::temp::WorkDir;

    #[test]
    fn a_figure_is_the_median_and_says_of_what() {
        let figure = figure("b 1.2", vec![3.0, 1.0, 2.0], None);
        assert_eq!(figure.value, Some(2.0));
        assert_eq!(figure.note, "b 1.2: 3 rounds, 1 to 3");
    }

    #[test]
    fn what_was_not_measured_has_a_note_and_no_value() {
        let figure = figure("b 1.2", vec![1.0], Some("no sockets".to_owned()));
        let figure = serde_json::to_value(figure).unwrap();
        assert_eq!(figure.get("value"), None);
        assert_eq!(figure["note"], "b 1.2: not measured: no sockets");
    }

    /// One library ends at once, one has nothing to listen with, one answers 2 to everything.
    const PROGRAM: &str = r#"#!/bin/sh
[ "$1" != ractor ] || exit 1
while read -r line; do
    id=${line#*:}
    answer=2
    case "$1 $line" in kameo*listen*) answer='{"lacks":"sockets"}' ;; esac
    printf 'a{"id":%s,"result":{"Ok":%s}}\n' "${id%%,*}" "$answer"
done
"#;

    #[test]
    fn a_library_that_fails_or_lacks_something_keeps_no_other_from_being_measured() {
        let dir = WorkDir::temporary("peers").unwrap();
        let binary = dir.path().join("program");
        // By another process: a file that this one has open for writing while another test forks could not be run.
        let mut shell = process::Command::new("sh");
        shell.args(["-c", r#"printf %s "$1" >"$0" && chmod 700 "$0""#]).arg(&binary).arg(PROGRAM);
        assert!(shell.status().unwrap().success());
        let peers = Peers { binary, dir: dir.path().to_owned(), sink: Arc::new(NoEvidence) };

        let mut beside = peers.beside(2).unwrap();
        beside.round(&Command::CallThere { calls: 1 }).unwrap();
        let figures = beside.figures();
        assert_eq!(figures["ractor"].note, "ractor: not measured: the process of here ended by itself");
        assert_eq!(figures["kameo"].note, "kameo: not measured: sockets");
        assert_eq!(figures["tokio"].value, Some(2.0));

        let mut beside = peers.beside(1).unwrap();
        beside.round(&Command::Idle { count: 1 }).unwrap();
        beside.afresh(&peers).unwrap();
        beside.round(&Command::Idle { count: 1 }).unwrap();
        let figures = beside.figures();
        assert_eq!(figures["kameo"].note, "kameo: 2 rounds, 2 to 2");
    }
}
