//! The `whimbrel` binary: a demonstration of the library, its judge, a bench, and a node to run.

mod bench;
mod children;
mod cli;
mod control;
mod demo;
mod moves;
mod node;
mod node_config;
mod os;
mod output;
mod temp;
mod verify;

use std::future::Future;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::cli::{ChildArgs, Cli, Command, Role};
use crate::output::Failure;

/// Workers of a child's runtime: so many nodes on one machine shall not fight for its cores.
const CHILD_WORKERS: usize = 2;
/// Environment variable that chooses what is logged.
const LOG_VARIABLE: &str = "WHIMBREL_LOG";

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let json = command.wants_json();
    let done = match command {
        Command::Demo(args) => demo::run(args),
        Command::Soak(args) => demo::soak::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Node(args) => {
            log_to_standard_error("info");
            run_async(None, node::run(&args)).and_then(|done| done)
        }
        Command::Move(args) => {
            log_to_standard_error("warn");
            run_async(Some(CHILD_WORKERS), moves::run(&args)).and_then(|done| done)
        }
        Command::Child(args) => run_child(&args),
    };
    done.unwrap_or_else(|failure| failure.report(json))
}

fn run_child(args: &ChildArgs) -> Result<ExitCode, Failure> {
    log_to_standard_error("info");
    match args.role {
        Role::Demo => run_async(Some(CHILD_WORKERS), demo::run_node(args.parent)),
        Role::Bench => run_async(Some(CHILD_WORKERS), bench::run_child(args.parent)),
    }?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn run_async<T>(workers: Option<usize>, work: impl Future<Output = T>) -> Result<T, Failure> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(workers) = workers {
        builder.worker_threads(workers);
    }
    let runtime = builder.enable_all().build().map_err(|error| {
        Failure::environment("no threads can be started").detail(error).hint("look at `ulimit -u`")
    })?;
    Ok(runtime.block_on(work))
}

/// Logs go to standard error: standard output belongs to results and evidence.
fn log_to_standard_error(default: &str) {
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}
