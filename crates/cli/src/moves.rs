//! `whimbrel move NAME NODE --config FILE`: one process goes to another node.
//!
//! There is no way into a cluster but as a member, so the command is one for as long as it takes: it knows no kinds, so
//! nothing is placed on it, and has the smallest weight there is: about one slot in a hundred times the nodes is owned by it
//! meanwhile. It listens where the node of its configuration does, on a port that is free: the author of views may have to
//! dial it.

use std::process::ExitCode;
use std::time::Duration;

use whimbrel::{Cluster, Hindrance, JoinError, MoveError, RequestError};

use crate::cli::MoveArgs;
use crate::node::builder;
use crate::node_config::NodeConfig;
use crate::output::{Failure, print_line, result_object};

/// How long the command looks for the cluster.
const FIND_WITHIN: Duration = Duration::from_secs(10);
/// After this time alone a node founds a cluster of its own, which is not meant here.
const ALONE_AFTER: Duration = Duration::from_secs(8);

/// Moves the process.
pub(crate) async fn run(args: &MoveArgs) -> Result<ExitCode, Failure> {
    let config = NodeConfig::read(&args.config)?;
    let stop = tokio::signal::ctrl_c();
    let moved = async {
        let cluster = join(args, &config).await?;
        let moved = move_within(&cluster, args).await;
        cluster.leave().await;
        moved
    };
    let from = tokio::select! {
        biased;
        moved = moved => moved?,
        _ = stop => return Err(Failure::interrupted()),
    };
    let MoveArgs { name, node, json, .. } = args;
    match &from {
        Some(from) => eprintln!("{name:?} has moved from {from} to {node}"),
        None => eprintln!("{name:?} runs on {node} already"),
    }
    if *json {
        let mut result = result_object(None, "ok");
        result.insert("name".into(), name.as_str().into());
        result.insert("from".into(), from.unwrap_or_else(|| node.clone()).into());
        result.insert("to".into(), node.as_str().into());
        print_line(&serde_json::Value::Object(result).to_string());
    }
    Ok(ExitCode::SUCCESS)
}

async fn join(args: &MoveArgs, config: &NodeConfig) -> Result<Cluster, Failure> {
    let of = config.name.as_deref().unwrap_or("whimbrel");
    let name: String = of.chars().take(200).collect();
    let host = config.listen.rsplit_once(':').map_or("127.0.0.1", |(host, _)| host);
    let builder = builder(config, own_address(config))
        .listen(&format!("{host}:0"))
        .node_name(&format!("{name} move {}", std::process::id()))
        .weight(1)
        .found_alone_after(ALONE_AFTER)
        .join_within(FIND_WITHIN);
    let joined = builder.join().await;
    let nobody = || {
        Failure::environment(format!("no node of cluster {:?} was found", config.cluster))
            .hint("is the node of this configuration running? Otherwise name another one in `seeds`")
    };
    match joined {
        Ok(cluster) if cluster.view().is_none_or(|view| view.members.len() < 2) => {
            cluster.leave().await;
            Err(nobody())
        }
        Ok(cluster) => Ok(cluster),
        Err(JoinError::Deadline) => Err(nobody()),
        Err(error @ JoinError::BadSetting { .. }) => Err(Failure::usage("a setting is not usable")
            .detail(error)
            .hint("put it right in the configuration")
            .in_file(&args.config)),
        Err(error) => {
            Err(Failure::environment(format!("cluster {:?} can not be joined", config.cluster)).detail(error))
        }
    }
}

/// Where the node of the configuration itself is reached from this machine, if that is known.
fn own_address(config: &NodeConfig) -> Option<String> {
    let address = config.advertise.as_ref().unwrap_or(&config.listen);
    let (host, port) = address.rsplit_once(':')?;
    let host = match host {
        "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        host => host,
    };
    (port != "0").then(|| format!("{host}:{port}"))
}

/// Returns where it was, unless it is there already.
async fn move_within(cluster: &Cluster, args: &MoveArgs) -> Result<Option<String>, Failure> {
    let MoveArgs { name, node, .. } = args;
    let found = cluster.locate(name).await.map_err(|error| refused(cluster, args, &error.into()))?;
    let view = cluster.view();
    let from = view.as_ref().and_then(|view| view.member(found.host)).map(|member| member.name.to_string());
    cluster.move_to(name, node).await.map_err(|error| refused(cluster, args, &error))?;
    let from = from.unwrap_or_else(|| "a node that is gone".to_owned());
    Ok((from != *node).then_some(from))
}

fn refused(cluster: &Cluster, MoveArgs { name, node, .. }: &MoveArgs, error: &MoveError) -> Failure {
    let view = cluster.view();
    let members = view.iter().flat_map(|view| &view.members).map(|member| member.name.as_str());
    let members: Vec<&str> = members.filter(|member| *member != cluster.node_name()).collect();
    let what = format!("{name:?} was not moved to {node:?}");
    let is_member = members.contains(&node.as_str());
    match error {
        MoveError::Request(RequestError::NotFound) => Failure::usage(format!("nothing runs under {name:?}"))
            .hint("names are told by the programs that start them; they are exact, also in upper and lower case"),
        MoveError::Request(RequestError::BadName(_)) => Failure::usage(what).detail(error),
        MoveError::Request(RequestError::Quarantined) => Failure::environment(what)
            .detail(error)
            .hint("it failed too often and runs nowhere; mend it, then `release` it"),
        MoveError::Hindered { .. } if !is_member => Failure::usage(format!("{node:?} is no member"))
            .hint(format!("members are {}", members.join(", "))),
        MoveError::Hindered { why: Hindrance::UnknownKind } => {
            Failure::usage(what).detail(error).hint("choose a node whose program hosts processes of its kind")
        }
        MoveError::Hindered { why: Hindrance::Stays } => Failure::environment(what)
            .detail(error)
            .hint("it says so itself, owes an answer, or is of a kind that does not move"),
        MoveError::Hindered { why } if why.is_passing() => {
            Failure::environment(what).detail(error).hint("it runs on where it was; try again")
        }
        MoveError::Hindered { .. } => {
            Failure::environment(what).detail(error).hint("it runs on where it was; the logs of both nodes tell more")
        }
        MoveError::Request(_) => {
            Failure::environment(what).detail(error).hint("it runs, on one of the two nodes; try again")
        }
    }
}
