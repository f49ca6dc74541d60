//! The arguments of the binary.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

const EXIT_CODES: &str = "\
Exit codes:
  0    all is well
  1    a check failed: the software did not do what it promises
  2    wrong usage: an argument, a file or a setting; nothing was done
  3    the environment can not: a port, a disk, the machine
  130  interrupted";

/// Named processes across a cluster: a demonstration, its judge, measurements, and a node.
#[derive(Debug, Parser)]
#[command(name = "whimbrel", version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a cluster of real processes through crashes and kills, and judge it
    Demo(DemoArgs),
    /// Keep a cluster of real processes under load while nodes come, go, drain and restart, and judge it
    Soak(SoakArgs),
    /// Judge a demo or a soak again, from the evidence it left
    Verify(VerifyArgs),
    /// Measure, next to the floor of this machine
    Bench(BenchArgs),
    /// Run a node until it is told to end
    Node(NodeArgs),
    /// Move a process to another node, with its state; joins the cluster for as long as that takes
    Move(MoveArgs),
    /// A process of the demo or the bench; started by them alone
    #[command(hide = true)]
    Child(ChildArgs),
}

impl Command {
    /// Whether the last line of standard output must be an object.
    pub(crate) const fn wants_json(&self) -> bool {
        match self {
            Command::Demo(args) => args.json,
            Command::Soak(args) => args.json,
            Command::Verify(args) => args.json,
            Command::Move(args) => args.json,
            Command::Bench(args) => match &args.alone {
                None => args.json,
                Some(BenchAlone::Overload(args)) => args.json,
                Some(BenchAlone::Storm(args)) => args.json,
            },
            Command::Node(_) | Command::Child(_) => false,
        }
    }
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DemoArgs {
    /// Nodes at the start, each a process of its own
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..=9))]
    pub(crate) nodes: u32,
    /// Counters spread over the nodes
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) names: u32,
    /// Messages per second in all
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rate: u32,
    /// Seconds that the story takes
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(10..=600))]
    pub(crate) seconds: u32,
    /// Milliseconds between two runs of the cleaner
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub(crate) cleaner_period_ms: u64,
    /// Seed of the load; chosen and told when not given
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Print one JSON object as the last line of standard output
    #[arg(long)]
    pub(crate) json: bool,
    /// Leave the evidence in this directory, which must be empty or not exist
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct SoakArgs {
    /// How long
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_440))]
    pub(crate) minutes: u32,
    /// How long, where a minute is too long
    #[arg(long, conflicts_with = "minutes", value_parser = clap::value_parser!(u32).range(10..=86_400))]
    pub(crate) seconds: Option<u32>,
    /// Nodes at the start, each a process of its own
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(2..=9))]
    pub(crate) nodes: u32,
    /// Counters spread over the nodes
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) names: u32,
    /// Messages per second in all; each takes its handler 0 to 20 ms
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rate: u32,
    /// Seed of the load; chosen and told when not given
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Print one JSON object as the last line of standard output
    #[arg(long)]
    pub(crate) json: bool,
    /// Leave the evidence in this directory, which must be empty or not exist
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The directory that `--keep DIR` left
    pub(crate) dir: PathBuf,
    /// Print one JSON object as the last line of standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct BenchArgs {
    /// What is run instead of the rows
    #[command(subcommand)]
    pub(crate) alone: Option<BenchAlone>,
    /// Print one JSON object as the last line of standard output
    #[arg(long)]
    pub(crate) json: bool,
    /// Only rows whose name contains this
    #[arg(long, value_name = "TEXT")]
    pub(crate) only: Option<String>,
    /// Measure other libraries in the same run; builds them first, from the source tree
    #[arg(long)]
    pub(crate) peers: bool,
    /// Rounds of each measurement; the values are medians
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub(crate) rounds: u32,
    /// Seed, for the record; the measurements have no randomness of their own
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

/// What is no row of a table.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum BenchAlone {
    /// Flood one slow process from another node, and see that memory stays within its limits
    Overload(OverloadArgs),
    /// Start many nodes at the same moment, again and again
    Storm(StormArgs),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct OverloadArgs {
    /// Seconds of overload
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(2..=86_400))]
    pub(crate) seconds: u32,
    /// Senders; every second one calls, the others cast
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) senders: u32,
    /// Bytes of each message
    #[arg(long, default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) payload: u32,
    /// Print one JSON object as the last line of standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct StormArgs {
    /// Nodes, all in this process
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(2..=100))]
    pub(crate) nodes: u32,
    /// How often
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) rounds: u32,
    /// Print one JSON object as the last line of standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct NodeArgs {
    /// Its configuration, a TOML file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = "\
The command is a member without kinds for a moment: no process is placed on it, and less than a hundredth of the names
is looked up there meanwhile. That a process stays, and why, is told with exit code 3. Where nodes balance (the default of
`rebalance`) the owner of the name brings it back to its place at once.")]
pub(crate) struct MoveArgs {
    /// The process
    pub(crate) name: String,
    /// The node, by its name
    pub(crate) node: String,
    /// The configuration of a node of the cluster, a TOML file: how to find it, and its secret
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Print one JSON object as the last line of standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ChildArgs {
    /// Whose child
    pub(crate) role: Role,
    /// Name of the node
    #[arg(long)]
    pub(crate) name: String,
    /// Process that started it
    #[arg(long)]
    pub(crate) parent: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    Demo,
    Bench,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_sound() {
        Cli::command().debug_assert();
    }

    /// Whoever can list the processes of a machine reads their arguments.
    #[test]
    fn no_argument_takes_a_secret() {
        fn names(command: &clap::Command) -> Vec<String> {
            let own = command.get_arguments().map(|argument| argument.get_id().to_string());
            own.chain(command.get_subcommands().flat_map(names)).collect()
        }
        let names = names(&Cli::command());
        assert!(names.contains(&"config".to_owned()) && names.len() > 10, "{names:?}");
        for word in ["secret", "password", "token", "key", "cookie"] {
            assert!(!names.iter().any(|name| name.contains(word)), "{word}: {names:?}");
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_contract() {
        let Command::Demo(demo) = Cli::parse_from(["whimbrel", "demo"]).command else {
            panic!("not the demo")
        };
        let found = (demo.nodes, demo.names, demo.rate, demo.seconds, demo.cleaner_period_ms);
        assert_eq!(found, (3, 300, 2_000, 30, 500));
    }

    #[test]
    fn a_soak_is_five_minutes_unless_told_otherwise() {
        let Command::Soak(soak) = Cli::parse_from(["whimbrel", "soak"]).command else {
            panic!("not the soak")
        };
        assert_eq!((soak.minutes, soak.nodes, soak.names, soak.rate), (5, 5, 1_000, 5_000));
        let both = ["whimbrel", "soak", "--minutes", "1", "--seconds", "20"];
        assert_eq!(Cli::try_parse_from(both).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn values_out_of_range_and_unknown_flags_are_usage_errors() {
        for wrong in
            [&["--nodes", "1"][..], &["--nodes", "10"], &["--seconds", "9"], &["--names", "0"], &["--jsn"]]
        {
            let arguments = ["whimbrel", "demo"].iter().chain(wrong);
            assert_eq!(Cli::try_parse_from(arguments).unwrap_err().exit_code(), 2, "{wrong:?}");
        }
    }
}
