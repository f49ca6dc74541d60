//! How the parent talks to its child processes: JSON lines, commands into standard input, answers among the tagged
//! lines of standard output.
//!
//! A child serves each command in a task of its own, so that a long one (answer when this name is back) does not
//! hold up others. When its standard input ends, or its parent dies, the child ends at once: nothing of a demo
//! outlives it.

use std::future::Future;
use std::io::{BufRead, BufReader, Read};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::demo::evidence::{Channel, write_line};
use crate::os;

/// Commands that wait in a child before its standard input is read on.
const COMMANDS_MAX: usize = 64;

/// A command on its way to a child.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request<C> {
    /// Chosen by the parent; the answer carries it.
    pub(crate) id: u64,
    /// What to do.
    pub(crate) command: C,
}

/// The child's answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// The command it answers.
    pub(crate) id: u64,
    /// What came of it.
    pub(crate) result: Result<Value, Trouble>,
}

/// Why a child could not do what it was told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Trouble {
    /// What happened.
    pub(crate) what: String,
    /// The error below.
    pub(crate) detail: String,
    /// Whether the machine is at fault, not the software.
    pub(crate) environment: bool,
}

impl Trouble {
    /// The software did not do what it should.
    pub(crate) fn new(what: impl Into<String>, detail: impl std::fmt::Display) -> Self {
        Self { what: what.into(), detail: detail.to_string(), environment: false }
    }

    /// The machine can not do it.
    pub(crate) fn environment(what: impl Into<String>, detail: impl std::fmt::Display) -> Self {
        Self { what: what.into(), detail: detail.to_string(), environment: true }
    }
}

/// Answers every command on standard input with what `handle` says, until standard input ends.
pub(crate) async fn serve<C, F, Fut>(parent: u32, handle: F)
where
    C: DeserializeOwned + Send + 'static,
    F: Fn(C) -> Fut,
    Fut: Future<Output = Result<Value, Trouble>> + Send + 'static,
{
    if !os::die_with_parent(parent) {
        return;
    }
    let (commands, mut queue) = mpsc::channel(COMMANDS_MAX);
    // A plain thread: reading a pipe that is standard input blocks, and must not hold up the runtime's shutdown.
    std::thread::spawn(move || read_commands(std::io::stdin(), &commands));
    while let Some(request) = queue.recv().await {
        let Request { id, command } = request;
        let answer = handle(command);
        tokio::spawn(async move {
            let result = answer.await;
            write_line(Channel::Answer, &Answer { id, result });
        });
    }
}

fn read_commands<C: DeserializeOwned>(input: impl Read, commands: &mpsc::Sender<Request<C>>) {
    for line in BufReader::new(input).lines() {
        let Ok(line) = line else { return };
        match serde_json::from_str(&line) {
            Ok(request) => {
                if commands.blocking_send(request).is_err() {
                    return;
                }
            }
            Err(error) => {
                let result = Err(Trouble::new("not a command", error));
                write_line(Channel::Answer, &Answer { id: 0, result });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_answer_survives_its_line() {
        let answer = Answer { id: 3, result: Err(Trouble::environment("no port", "in use")) };
        let line = serde_json::to_string(&answer).unwrap();
        let back: Answer = serde_json::from_str(&line).unwrap();
        assert!(back.result.unwrap_err().environment);
        assert!(!line.contains('\n'));
    }

    #[test]
    fn commands_are_read_in_order_until_the_input_ends() {
        let (sender, mut receiver) = mpsc::channel::<Request<String>>(8);
        read_commands("{\"id\":1,\"command\":\"a\"}\n{\"id\":2,\"command\":\"b\"}\n".as_bytes(), &sender);
        drop(sender);
        let mut seen = Vec::new();
        while let Some(request) = receiver.blocking_recv() {
            seen.push((request.id, request.command));
        }
        assert_eq!(seen, [(1, "a".to_owned()), (2, "b".to_owned())]);
    }
}
