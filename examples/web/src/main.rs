//! User sessions as processes of Whimbrel behind an axum server, and the proof that a deployment costs no user
//! anything: `whimbrel-web rolling`.
//!
//! To learn from: [`session`] and [`serve`], which are the service. The others judge it: [`balancer`] and [`load`] are
//! its users, [`figures`] what they saw, [`mod@rolling`] the deployment.

mod balancer;
mod figures;
mod load;
mod rolling;
mod serve;
mod session;

use std::io::Read;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use serde_json::{Map, Value};
use tracing_subscriber::EnvFilter;

use crate::load::{Load, LoadArgs};
use crate::rolling::{Deployed, RollingArgs};
use crate::serve::{ServeArgs, ServeError};

/// Environment variable that chooses what is logged.
const LOG_VARIABLE: &str = "WHIMBREL_LOG";

const EXIT_CODES: &str = "\
Exit codes:
  0    all is well
  1    a check failed: a user would have noticed
  2    wrong usage
  3    the environment can not: a port, a program
  130  interrupted";

/// A web service whose user sessions are processes of Whimbrel.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one node of the service until it is told to end
    Serve {
        #[command(flatten)]
        serve: ServeArgs,
        /// End at the end of standard input too: with the program that started it
        #[arg(long)]
        ends_with_input: bool,
    },
    /// Visit sessions on nodes that run, and check that each session's number rises by one
    Load(LoadAlone),
    /// Start three nodes and a load, restart each node in turn, and judge what users noticed
    Rolling(RollingArgs),
}

#[derive(Clone, Debug, Args)]
struct LoadAlone {
    #[command(flatten)]
    load: LoadArgs,
    /// Where a node serves HTTP, as host:port; given once for each
    #[arg(long = "node", value_name = "ADDRESS", required = true)]
    nodes: Vec<String>,
    /// For how long
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
}

/// Why there is no result.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: u8,
    what: String,
}

impl Failure {
    /// A node did not do what it should.
    pub(crate) fn check(what: impl Into<String>) -> Self {
        Self { exit: 1, what: what.into() }
    }

    /// The machine can not do it.
    pub(crate) fn environment(what: impl Into<String>) -> Self {
        Self { exit: 3, what: what.into() }
    }

    fn interrupted() -> Self {
        Self { exit: 130, what: "interrupted".to_owned() }
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        match error {
            ServeError::Interrupted => Failure::interrupted(),
            ServeError::Join(error) => Failure::environment(format!("the node joins no cluster: {error}")),
            ServeError::Io(error) => Failure::environment(format!("signals, or the port for HTTP: {error}")),
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let (done, seed, json) = match Cli::parse().command {
        Command::Serve { serve, ends_with_input } => {
            log_to_standard_error();
            if ends_with_input {
                std::thread::spawn(end_with_input);
            }
            (serve::run(&serve).await.map(|()| None).map_err(Failure::from), 0, false)
        }
        Command::Load(args) => (load_alone(&args).await.map(Some), args.load.seed, args.load.json),
        Command::Rolling(args) => (rolling(&args).await.map(Some), args.load.seed, args.load.json),
    };
    let failed = match done {
        Ok(None) => return ExitCode::SUCCESS,
        Ok(Some(result)) => {
            print(&result, json);
            return ExitCode::from(u8::from(result.get("verdict") != Some(&"ok".into())));
        }
        Err(failure) => failure,
    };
    eprintln!("whimbrel-web: {}", failed.what);
    if json {
        print(&figures::result_object(seed, &failed.what), json);
    }
    ExitCode::from(failed.exit)
}

async fn load_alone(args: &LoadAlone) -> Result<Map<String, Value>, Failure> {
    let load = Load::start(args.nodes.clone(), &args.load).await;
    // Ctrl-C ends the load, not its figures.
    let time = tokio::time::sleep(Duration::from_secs(u64::from(args.seconds)));
    tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => {}
        () = time => {}
    }
    let (figures, seconds) = load.stop().await;
    Ok(figures.result(args.load.seed, figures.verdict(args.load.rate, seconds), seconds))
}

async fn rolling(args: &RollingArgs) -> Result<Map<String, Value>, Failure> {
    let Deployed { figures, seconds, restarts, leave_max } = tokio::select! {
        biased;
        deployed = rolling::run(args) => deployed?,
        _ = tokio::signal::ctrl_c() => return Err(Failure::interrupted()),
    };
    let verdict = match figures.verdict(args.load.rate, seconds) {
        // Then nothing was shown: no session had to go along.
        "ok" if figures.moves_seen() == 0 => "moves_seen",
        verdict => verdict,
    };
    let mut result = figures.result(args.load.seed, verdict, seconds);
    result.insert("restarts".into(), restarts.into());
    result.insert("leave_max_ms".into(), (leave_max.as_millis() as u64).into());
    Ok(result)
}

/// An object for programs, a line for each figure for people.
fn print(result: &Map<String, Value>, json: bool) {
    if json {
        println!("{}", Value::Object(result.clone()));
        return;
    }
    for (key, value) in result.iter().filter(|(key, _)| *key != "schema" && *key != "version") {
        println!("{key:>15}  {value}");
    }
}

/// Ends this OS process when whoever started it is gone.
fn end_with_input() {
    let mut ignored = [0; 64];
    while std::io::stdin().read(&mut ignored).is_ok_and(|bytes| bytes > 0) {}
    std::process::exit(1);
}

fn log_to_standard_error() {
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}
