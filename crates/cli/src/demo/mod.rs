//! `whimbrel demo`: real processes, a real database, real kills, and a verdict that rests on evidence alone.
//!
//! The parent starts this same binary several times as nodes, tells them what to do, and kills one of them. Nodes
//! write down what their clients did and what their processes handled; [`evidence`] has the form, [`collector`]
//! brings it into files. When the story is over, [`crate::verify`] judges those files, as `whimbrel verify` does.

mod changes;
mod clients;
mod collector;
mod command;
mod company;
pub(crate) mod database;
pub(crate) mod evidence;
mod kinds;
mod node;
pub(crate) mod soak;
mod stage;
mod story;
mod view;

use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

pub(crate) use kinds::{NODE_VARIABLE, node_name};
pub(crate) use node::run as run_node;

use crate::cli::DemoArgs;
use crate::output::{self, Failure};
use crate::temp::WorkDir;
use crate::{os, verify};
use evidence::Purpose;
use stage::{Play, Stage};

/// How long a connection to this machine itself may take.
const LOOPBACK_WITHIN: Duration = Duration::from_secs(2);

/// Runs the demo.
pub(crate) fn run(args: DemoArgs) -> Result<ExitCode, Failure> {
    let planned = story::STORY.map(String::from).to_vec();
    perform(args, Play { purpose: Purpose::Demo, planned, work_us_max: 0 }, story::tell)
}

/// Plays something with real processes, and judges it by what they left.
fn perform(
    args: DemoArgs,
    play: Play,
    tell: impl FnOnce(&mut Stage) -> Result<(), Failure>,
) -> Result<ExitCode, Failure> {
    check_loopback()?;
    let dir = match &args.keep {
        Some(path) => WorkDir::kept(path)?,
        None => WorkDir::temporary("demo")?,
    };
    // Small enough to be read back as a number by everything that reads JSON.
    let seed = args.seed.unwrap_or_else(|| os::monotonic_us() & 0xffff_ffff);
    let json = args.json;
    eprintln!(
        "whimbrel {}: {} nodes, {} counters, {} messages/s, {} s, seed {seed}",
        play.purpose.as_str(),
        args.nodes,
        args.names,
        args.rate,
        args.seconds
    );
    let mut stage = Stage::set(args, play, seed, &dir)?;
    let told = tell(&mut stage);
    let closed = stage.close();
    let report = match told.and(closed) {
        Ok(()) => verify::verify(dir.path())?,
        Err(failure) if failure.is_check() => {
            let failure = failure.or_hint("each process has a log of its own: `--keep DIR` leaves them");
            eprintln!("{failure}");
            // What was written down until then is judged all the same.
            verify::verify(dir.path())?.cut_short(failure.what())
        }
        Err(failure) => return Err(failure),
    };
    verify::publish(&report, json);
    Ok(output::exit_for(report.is_ok()))
}

/// Nodes talk over 127.0.0.1; without it nothing below makes sense. A port can be taken even while the interface is
/// down, so the check connects too.
pub(crate) fn check_loopback() -> Result<(), Failure> {
    let connected = TcpListener::bind("127.0.0.1:0").and_then(|listener| {
        let address = listener.local_addr()?;
        TcpStream::connect_timeout(&address, LOOPBACK_WITHIN)
    });
    connected.map(drop).map_err(|error| {
        Failure::environment("127.0.0.1 can not be used")
            .detail(error)
            .hint("bring the loopback interface up (`ip link set lo up`) and allow local sockets")
    })
}
