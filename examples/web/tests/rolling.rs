//! The example judged from outside: the built binary, short.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Stdio};

use serde_json::Value;

/// Runs it with few sessions, and returns its exit code and the last line that it printed.
fn rolling(options: &[&str]) -> (Option<i32>, Value) {
    let done = Command::new(env!("CARGO_BIN_EXE_whimbrel-web"))
        .args(["rolling", "--json", "--sessions", "40", "--rate", "100", "--rounds", "1"])
        .args(["--pause-ms", "500", "--detection-ms", "10000"])
        .args(options)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let printed = String::from_utf8(done.stdout).unwrap();
    let last = printed.lines().last().unwrap_or_default();
    eprintln!("{}{last}", String::from_utf8_lossy(&done.stderr));
    (done.status.code(), serde_json::from_str(last).unwrap())
}

/// One after the other, since each has the machine's processors busy. With `--kill` the figures are bad, as they must be
/// able to be: nodes that die without a word take their sessions along, and the load tells.
#[test]
fn a_rolling_restart_costs_no_user_anything_and_kills_do() {
    let (code, result) = rolling(&[]);
    assert_eq!((code, result["verdict"].as_str()), (Some(0), Some("ok")), "{result}");
    assert_eq!((&result["non_2xx"], &result["sessions_lost"]), (&0.into(), &0.into()));
    assert!(result["p99_ms"].is_f64() && result["requests"].as_u64() > Some(100));

    let (code, result) = rolling(&["--kill"]);
    assert_eq!(code, Some(1), "{result}");
    assert_ne!(result["verdict"], "ok");
    assert!(result["sessions_lost"].as_u64() > Some(0), "{result}");
}
