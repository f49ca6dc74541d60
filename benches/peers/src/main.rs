//! `whimbrel-peers LIBRARY`: one process in which one library is measured, for `whimbrel bench --peers`.
//!
//! The bench sends commands as JSON lines to standard input, one at a time, and reads answers from standard output;
//! when standard input ends, so does the process. The loops that measure, the floor and the commands are the bench's
//! own files, compiled here a second time, so that every library is measured by the code that measures Whimbrel.

#[path = "../../../crates/cli/src/bench/peers/command.rs"]
mod command;
#[path = "../../../crates/cli/src/bench/floor.rs"]
#[allow(dead_code)] // The bench also waits for its end.
mod floor;
mod library;
#[path = "../../../crates/cli/src/bench/local.rs"]
#[allow(dead_code)] // No library here offers what the bench calls a lookup.
mod local;
#[path = "../../../crates/cli/src/bench/meter.rs"]
mod meter;
mod with_kameo;
mod with_ractor;
mod with_tokio;

use std::io::{BufRead, Write};
use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use command::Command;
use library::{Library, Listening, Measured};
use with_kameo::Kameo;
use with_ractor::Ractor;
use with_tokio::Tokio;

/// Workers of the runtime: as many as a process of the bench has.
const WORKERS: usize = 2;
/// In front of an answer.
const ANSWER: u8 = b'a';

#[derive(Deserialize)]
struct Request {
    id: u64,
    command: Command,
}

#[derive(Serialize)]
struct Answer {
    id: u64,
    result: Result<Value, Trouble>,
}

/// Why there is no answer, as the bench shows it.
#[derive(Serialize)]
struct Trouble {
    what: String,
    detail: String,
    environment: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["kameo"] => serve::<Kameo>(),
        ["ractor"] => serve::<Ractor>(),
        ["tokio"] => serve::<Tokio>(),
        _ => {
            eprintln!("usage: whimbrel-peers kameo | ractor | tokio, as `whimbrel bench --peers` does");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("whimbrel-peers: {error}");
            ExitCode::from(3)
        }
    }
}

/// Answers commands until there are no more. The measuring itself runs on a worker, where users' code runs.
fn serve<L: Library>() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
    let mut measured = Measured::<L>::default();
    for line in std::io::stdin().lock().lines() {
        let Request { id, command } = serde_json::from_str(&line?)?;
        let detail = format!("{command:?}");
        let working = runtime.spawn(async move { (measured.answer(command).await, measured) });
        let (answer, after) = runtime.block_on(working)?;
        measured = after;
        let result = answer.map_err(|what| Trouble { what, detail, environment: false });
        write_answer(&Answer { id, result })?;
    }
    runtime.shutdown_background();
    Ok(())
}

fn write_answer(answer: &Answer) -> std::io::Result<()> {
    let mut line = vec![ANSWER];
    serde_json::to_writer(&mut line, answer)?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}

impl<L: Library> Measured<L> {
    async fn answer(&mut self, command: Command) -> Result<Value, String> {
        Ok(match command {
            Command::Version => json!(library::versions(L::PACKAGES)),
            Command::CallHere { calls } => json!(self.call_here(calls).await?),
            Command::CallHereMany { tasks, millis } => json!(self.call_here_many(tasks, millis).await?),
            Command::CastHere { casts } => json!(self.cast_here(casts).await?),
            Command::StartsHere { prefix, tasks, count } => {
                json!(self.starts_here(&prefix, tasks, count).await?)
            }
            Command::Idle { count } => json!(self.idle(count).await?),
            Command::Listen => match self.listen().await? {
                Listening::At(port) => json!(port),
                Listening::Lacks(what) => json!({ command::LACKS: what }),
            },
            Command::Connect { port } => json!(self.connect(port).await?),
            Command::CallThere { calls } => json!(self.call_there(calls).await?),
            Command::CallThereMany { tasks, millis } => json!(self.call_there_many(tasks, millis).await?),
            Command::CastThere { bursts } => json!(self.cast_there(bursts).await?),
        })
    }
}
