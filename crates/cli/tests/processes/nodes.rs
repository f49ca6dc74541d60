//! Nodes of the demo as child processes of a test.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

/// How long an answer may take before the test gives up.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// One node.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) address: String,
    process: Child,
    input: ChildStdin,
    answers: Receiver<Value>,
    next_id: u64,
}

impl Node {
    /// Starts a node and has it join those at `seeds`.
    pub(crate) fn start(name: &str, seeds: &[String]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_whimbrel"))
            .args(["child", "demo", "--name", name, "--parent"])
            .arg(std::process::id().to_string())
            .env("WHIMBREL_DEMO_NODE", name)
            .env("WHIMBREL_LOG", "error")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, answers) = channel();
        let output = process.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { return };
                // The other lines are evidence, which this test does not need; but they must be read.
                if let Some(answer) = line.strip_prefix('a') {
                    let _ = sender.send(serde_json::from_str(answer).unwrap());
                }
            }
        });
        let input = process.stdin.take().unwrap();
        let (name, address) = (name.to_owned(), String::new());
        let mut node = Node { name, address, process, input, answers, next_id: 1 };
        let joined = node.ask(&json!({ "do": "join", "seeds": seeds }));
        joined["address"].as_str().unwrap().clone_into(&mut node.address);
        node
    }

    /// Sends a command.
    pub(crate) fn send(&mut self, command: &Value) {
        let request = json!({ "id": self.next_id, "command": command });
        self.next_id += 1;
        writeln!(self.input, "{request}").unwrap();
    }

    /// Waits for the answer to the one command that is open.
    pub(crate) fn answer(&mut self) -> Value {
        let answer = self.answers.recv_timeout(ANSWER_WITHIN);
        let answer = answer.unwrap_or_else(|error| panic!("no answer from {}: {error}", self.name));
        match answer["result"].get("Ok") {
            Some(value) => value.clone(),
            None => panic!("{}: {}", self.name, answer["result"]["Err"]),
        }
    }

    /// Sends a command and waits for its answer.
    pub(crate) fn ask(&mut self, command: &Value) -> Value {
        self.send(command);
        self.answer()
    }

    /// kill -9; returns when kill(2) has, with wait(2) still to come.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
    }

    /// Waits, and says by which signal it ended.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.process.wait().unwrap().signal()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
