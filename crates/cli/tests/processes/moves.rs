//! `whimbrel move`, from outside of a cluster of OS processes.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::command_line::{says, scratch};
use crate::nodes::Node;

fn move_to(name: &str, node: &str, config: &Path) -> Output {
    let arguments = ["move", name, node, "--json", "--config", config.to_str().unwrap()];
    Command::new(env!("CARGO_BIN_EXE_whimbrel")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn result(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

/// The configuration that a node of the demo would have, beside the secret, which it has none.
fn config_of(node: &Node, dir: &Path) -> std::path::PathBuf {
    let file = dir.join("node.toml");
    std::fs::write(&file, format!("cluster = \"whimbrel-demo\"\nlisten = \"{}\"\n", node.address)).unwrap();
    file
}

#[test]
fn a_process_is_moved_from_outside_there_and_back() {
    let mut one = Node::start("n1", &[]);
    let mut two = Node::start("n2", &[one.address.clone()]);
    for node in [&mut one, &mut two] {
        node.ask(&json!({ "do": "wait_members", "count": 2 }));
    }
    let config = config_of(&two, &scratch("move"));
    let started = one.ask(&json!({ "do": "start_one", "name": "traveller" }));
    let home = started["host"].as_str().unwrap().to_owned();
    let away = if home == "n1" { "n2" } else { "n1" };
    // Moved away, and home again: perhaps it went by itself, since its nodes balance.
    for (from, to) in [(Some(&*home), away), (None, &*home)] {
        let output = move_to("traveller", to, &config);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let result = result(&output);
        assert!(from.is_none_or(|from| result["from"] == json!(from)), "{result}");
        let keys = ["schema", "version", "seed", "verdict", "name", "to"].map(|key| result[key].clone());
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(keys, [json!(1), json!(version), json!(null), json!("ok"), json!("traveller"), json!(to)]);
    }
    // The command was no member for longer than it took, and the process answers.
    one.ask(&json!({ "do": "wait_members", "count": 2 }));
    let touch = json!({ "do": "touch", "counters": [], "names": ["traveller"], "within_ms": 10_000 });
    assert_eq!(two.ask(&touch)["silent"], json!([]));
    let unknown = move_to("nobody", "n1", &config);
    assert_eq!(unknown.status.code(), Some(2), "{unknown:?}");
    says(&unknown, &["nothing runs under \"nobody\"", "hint:"]);
    assert_ne!(result(&unknown)["verdict"], json!("ok"));
    let nowhere = move_to("traveller", "n9", &config);
    assert_eq!(nowhere.status.code(), Some(2), "{nowhere:?}");
    says(&nowhere, &["\"n9\" is no member", "n1", "n2"]);
}

#[test]
fn a_cluster_that_is_not_there_is_told_and_none_is_founded() {
    let dir = scratch("move-nowhere");
    let file = dir.join("node.toml");
    std::fs::write(&file, "cluster = \"whimbrel-demo\"\nlisten = \"127.0.0.1:1\"\n").unwrap();
    let output = move_to("traveller", "n1", &file);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    says(&output, &["no node of cluster \"whimbrel-demo\" was found", "hint:"]);
    assert_eq!(move_to("traveller", "n1", &dir.join("none.toml")).status.code(), Some(2));
}
