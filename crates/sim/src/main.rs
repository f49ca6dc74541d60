//! `whimbrel-sim`: runs the real protocol in a simulated world.
//!
//! Progress goes to standard error; with `--json` the last line of standard output is one object. Exit codes: 0 all
//! green, 1 a check failed, 2 wrong usage, 3 the environment can not.

mod checker;
mod history;
mod mutants;
mod plan;
mod report;
mod run;
mod scenario;
mod tale;
mod world;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use whimbrel_core::base::Mutants;

use plan::Profile;
use run::{Batch, Look};

#[derive(Parser)]
#[command(name = "whimbrel-sim", version, about = "Runs the real protocol in a simulated world")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs many seeds and judges each.
    Run {
        /// full, lite, birth, calm, crash, split, pause, room, storm, handoff, groups or monitors.
        #[arg(long, default_value = "full")]
        profile: Profile,
        #[arg(long, default_value_t = 1000)]
        seeds: u64,
        #[arg(long, default_value_t = 1)]
        first_seed: u64,
        /// Threads.
        #[arg(long, default_value_t = 2)]
        jobs: usize,
        /// A planted bug, for trying it out.
        #[arg(long)]
        mutant: Option<String>,
        #[arg(long)]
        json: bool,
    },
    /// Runs one seed again.
    Replay {
        seed: u64,
        #[arg(long, default_value = "full")]
        profile: Profile,
        /// Prints every event on standard output.
        #[arg(long)]
        trace: bool,
        /// Tells the lives and the monitors of this name; may be given again.
        #[arg(long, value_name = "NAME")]
        tale: Vec<String>,
        /// A planted bug, for trying it out.
        #[arg(long)]
        mutant: Option<String>,
        #[arg(long)]
        json: bool,
    },
    /// Runs the scenario files.
    Scenarios {
        /// Only those whose name contains this.
        filter: Option<String>,
        /// Prints every event on standard output.
        #[arg(long)]
        trace: bool,
        #[arg(long)]
        json: bool,
    },
    /// Runs every seed that ever failed.
    Regressions {
        #[arg(long)]
        json: bool,
    },
    /// Plants every known bug and looks whether a checker finds it.
    Mutants {
        /// Only bugs whose name contains this.
        filter: Option<String>,
        /// Seeds tried per bug and profile.
        #[arg(long, default_value_t = mutants::SEEDS_MAX)]
        seeds: u64,
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    // A panic of the core is a violation of its seed, told with the seed; the default message would only be noise.
    std::panic::set_hook(Box::new(|info| eprintln!("{info}")));
    match Cli::parse().command {
        Command::Run { profile, seeds, first_seed, jobs, mutant, json } => {
            let Ok(planted) = planted(mutant.as_deref()) else { return ExitCode::from(2) };
            report::run(Batch { profile, first_seed, seeds, jobs }, planted, json)
        }
        Command::Replay { seed, profile, trace, tale, mutant, json } => {
            let Ok(planted) = planted(mutant.as_deref()) else { return ExitCode::from(2) };
            report::replay(profile, seed, planted, Look { trace, tale: &tale }, json)
        }
        Command::Scenarios { filter, trace, json } => report::scenarios(filter.as_deref(), trace, json),
        Command::Regressions { json } => report::regressions(json),
        Command::Mutants { filter, seeds, json } => report::mutants(filter.as_deref(), seeds, json),
    }
}

/// The planted bug that was asked for. An unknown name is told on standard error.
fn planted(name: Option<&str>) -> Result<Mutants, ()> {
    let Some(name) = name else { return Ok(Mutants::default()) };
    checker::mutant_of(name)
        .ok_or_else(|| eprintln!("unknown planted bug {name:?}; see `whimbrel-sim mutants`"))
}
