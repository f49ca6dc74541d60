//! The binary as a new user meets it: wrong flags, missing files, a taken port, Ctrl-C.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::machine::has_multicast;

fn whimbrel(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_whimbrel")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

pub(crate) fn says(output: &Output, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}

/// A place for files of one test.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

#[test]
fn a_wrong_flag_is_a_usage_error_with_the_right_one() {
    let output = whimbrel(&["demo", "--jsno"]);
    assert_eq!(output.status.code(), Some(2));
    says(&output, &["--jsno", "--json"]);
    assert_eq!(whimbrel(&["demo", "--nodes", "1"]).status.code(), Some(2));
    assert_eq!(whimbrel(&[]).status.code(), Some(2));
}

#[test]
fn verify_of_something_else_is_a_usage_error() {
    let dir = scratch("verify");
    let output = whimbrel(&["verify", dir.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    says(&output, &["is missing", "hint:"]);
}

#[test]
fn a_directory_that_is_in_use_is_not_written_to() {
    let dir = scratch("keep");
    std::fs::write(dir.join("something"), "x").unwrap();
    let output = whimbrel(&["demo", "--keep", dir.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    says(&output, &["not empty", "hint:"]);
}

#[test]
fn an_unknown_key_of_a_node_is_refused_with_the_nearest() {
    let file = scratch("config").join("node.toml");
    std::fs::write(&file, "cluster = \"shop\"\nlisten = \"127.0.0.1:0\"\nsed = []\n").unwrap();
    let output = whimbrel(&["node", "--config", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    says(&output, &["`sed`", "did you mean `seeds`", "node.toml"]);
}

/// What the binary says to this configuration, and its exit code.
fn node_with(name: &str, config: &str, secret_mode: u32) -> Output {
    use std::os::unix::fs::PermissionsExt;
    let dir = scratch(name);
    let secret = dir.join("cluster.key");
    std::fs::write(&secret, "a secret that nobody may see\n").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(secret_mode)).unwrap();
    let file = dir.join("node.toml");
    std::fs::write(&file, config).unwrap();
    whimbrel(&["node", "--config", file.to_str().unwrap()])
}

#[test]
fn a_setting_that_can_not_be_is_refused_with_its_key_and_the_rule() {
    const SMALL: &str = "listen = \"127.0.0.1:0\"\n";
    let long = format!("cluster = \"{}\"\n{SMALL}", "c".repeat(256));
    let cases: [(&str, String, u32, &[&str]); 8] = [
        (
            "exposed",
            format!("cluster = \"a\"\n{SMALL}secret_file = \"cluster.key\""),
            0o644,
            &["`secret_file`", "644", "chmod 600"],
        ),
        (
            "group",
            format!("cluster = \"a\"\n{SMALL}secret_file = \"cluster.key\""),
            0o640,
            &["`secret_file`", "640"],
        ),
        (
            "missing",
            format!("cluster = \"a\"\n{SMALL}secret_file = \"none.key\""),
            0o600,
            &["`secret_file`", "none.key"],
        ),
        ("open", "cluster = \"a\"\nlisten = \"0.0.0.0:0\"".into(), 0o600, &["`secret_file`", "127.0.0.1"]),
        ("empty", format!("cluster = \"\"\n{SMALL}"), 0o600, &["`cluster`", "empty"]),
        ("long", long, 0o600, &["`cluster`", "255"]),
        (
            "control",
            format!("cluster = \"a\"\n{SMALL}name = \"a\\u001b[2Jb\""),
            0o600,
            &["`node_name`", "control"],
        ),
        ("weight", format!("cluster = \"a\"\n{SMALL}weight = 1001"), 0o600, &["weight", "1000"]),
    ];
    for (name, config, mode, words) in cases {
        let output = node_with(&format!("setting-{name}"), &config, mode);
        assert_eq!(output.status.code(), Some(2), "{name}");
        says(&output, words);
        says(&output, &["node.toml", "hint:"]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!text.contains("nobody may see") && !text.contains('\u{1b}'), "{text}");
    }
}

#[test]
fn the_exit_codes_are_documented_where_users_look() {
    let output = whimbrel(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8_lossy(&output.stdout);
    let (_, codes) = help.split_once("Exit codes:").unwrap();
    let told: Vec<&str> = codes.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(told, ["0", "1", "2", "3", "130"]);
}

#[test]
fn a_node_whose_port_is_taken_says_so() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let file = scratch("port").join("node.toml");
    std::fs::write(&file, format!("cluster = \"shop\"\nlisten = \"{address}\"\n")).unwrap();
    let output = whimbrel(&["node", "--config", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3));
    says(&output, &[&address.port().to_string(), "hint:"]);
}

#[test]
fn a_node_runs_until_it_is_told_to_end() {
    let file = scratch("node").join("node.toml");
    std::fs::write(&file, "cluster = \"shop\"\nlisten = \"127.0.0.1:0\"\n").unwrap();
    let mut node = Started(
        Command::new(env!("CARGO_BIN_EXE_whimbrel"))
            .args(["node", "--config", file.to_str().unwrap()])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut log = BufReader::new(node.0.stderr.take().unwrap());
    read_until(&mut log, "is in cluster");
    signal(node.0.id(), "TERM");
    assert_eq!(node.0.wait().unwrap().code(), Some(0));
    let mut rest = String::new();
    log.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("has left"), "{rest}");
}

#[test]
fn nodes_that_are_told_to_search_the_network_find_each_other() {
    if !has_multicast("nodes_that_are_told_to_search_the_network_find_each_other", Ipv4Addr::LOCALHOST) {
        return;
    }
    let dir = scratch("multicast");
    // A port of this run's own; without a secret nothing leaves the machine.
    let port = 40_000 + std::process::id() % 5_000;
    let start = |name: &str| {
        let file = dir.join(format!("{name}.toml"));
        let config = format!(
            "cluster = \"multicast\"\nname = \"{name}\"\nlisten = \"127.0.0.1:0\"\nmulticast = {{ port = {port} }}\n"
        );
        std::fs::write(&file, config).unwrap();
        let mut node = Command::new(env!("CARGO_BIN_EXE_whimbrel"))
            .args(["node", "--config", file.to_str().unwrap()])
            .env("WHIMBREL_LOG", "whimbrel=debug")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(node.stderr.take().unwrap());
        (Started(node), log)
    };
    let mut nodes = ["a", "b", "c"].map(start);
    for (_, log) in &mut nodes {
        read_until(log, "members=3");
    }
}

#[test]
fn a_way_to_find_others_that_can_not_work_is_a_usage_error() {
    let file = scratch("discovery").join("node.toml");
    for (line, words) in [
        ("multicast = { group = \"10.0.0.7\" }", "no multicast address"),
        ("multicast = { interface = \"10.0.0.7\" }", "needs a secret"),
        ("srv = [\"nodes.internal:4100\"]", "not a name in DNS"),
    ] {
        std::fs::write(&file, format!("cluster = \"shop\"\nlisten = \"127.0.0.1:0\"\n{line}\n")).unwrap();
        let output = whimbrel(&["node", "--config", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2));
        says(&output, &["discovery", words, "hint:"]);
    }
}

#[test]
fn ctrl_c_ends_the_demo_and_leaves_nothing() {
    let temporary = scratch("interrupted");
    let (mut demo, mut log) = demo_with_nodes(&temporary);
    let nodes = children_of(demo.0.id());
    assert!(!nodes.is_empty());
    signal(demo.0.id(), "INT");
    let mut rest = String::new();
    log.read_to_string(&mut rest).unwrap();
    assert_eq!(demo.0.wait().unwrap().code(), Some(130), "{rest}");
    assert!(rest.contains("interrupted"), "{rest}");
    assert!(nodes.iter().all(|pid| !is_running(*pid)), "a node outlived the demo");
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0, "files were left behind");
}

#[test]
fn nodes_die_with_a_demo_that_is_killed() {
    let temporary = scratch("killed");
    let (demo, _log) = demo_with_nodes(&temporary);
    let nodes = children_of(demo.0.id());
    drop(demo);
    let until = Instant::now() + Duration::from_secs(10);
    while nodes.iter().any(|pid| is_running(*pid)) {
        assert!(Instant::now() < until, "a node outlived the demo");
        std::thread::yield_now();
    }
}

/// A process that does not outlive its test.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A demo whose nodes are up, and what it says.
fn demo_with_nodes(temporary: &Path) -> (Started, BufReader<ChildStderr>) {
    let demo = Command::new(env!("CARGO_BIN_EXE_whimbrel"))
        .args(["demo", "--seconds", "20", "--names", "20"])
        .env("TMPDIR", temporary)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut demo = Started(demo.unwrap());
    let mut log = BufReader::new(demo.0.stderr.take().unwrap());
    read_until(&mut log, "see each other");
    (demo, log)
}

fn read_until(log: &mut BufReader<ChildStderr>, words: &str) {
    let mut line = String::new();
    while !line.contains(words) {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "it ended before it said {words:?}");
    }
}

fn signal(pid: u32, signal: &str) {
    assert!(Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status().unwrap().success());
}

/// Children of a process, as /proc tells.
fn children_of(parent: u32) -> Vec<u32> {
    let all = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    all.filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    stat(pid)?.get(1)?.parse().ok()
}

/// Whether a process is there and not only waiting to be waited for.
fn is_running(pid: u32) -> bool {
    stat(pid).is_some_and(|fields| fields[0] != "Z")
}

/// The fields after the command's name: state, parent and so on.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}
