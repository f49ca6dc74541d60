//! The demo from end to end, and its judge afterwards: the same verdict from the files alone.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn whimbrel(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_whimbrel")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// The object on the last line of standard output.
fn result(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

#[test]
fn a_short_demo_is_ok_and_verify_says_the_same() {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("demo");
    let _ = std::fs::remove_dir_all(&dir);
    let dir = dir.to_str().unwrap();
    let arguments = ["demo", "--seconds", "10", "--names", "60", "--rate", "500", "--seed", "7", "--json"];
    let demo = whimbrel(&[&arguments[..], &["--keep", dir]].concat());
    let told = result(&demo);
    assert_eq!(told["verdict"], "ok", "{told}\n{}", String::from_utf8_lossy(&demo.stderr));
    assert_eq!(
        (demo.status.code(), told["schema"].as_u64(), told["seed"].as_u64()),
        (Some(0), Some(1), Some(7))
    );
    for zero in ["double_starts", "names_lost"] {
        assert_eq!(told[zero], 0, "{zero}");
    }
    for zero in ["overlapping_runs", "overlapping_lives", "fresh_rows_deleted", "outdated_rows_left"] {
        assert_eq!(told["cleaner"][zero], 0, "{zero}");
    }
    for zero in ["lost", "doubled", "reordered"] {
        assert_eq!(told["counters"][zero], 0, "{zero}");
    }
    let steps: Vec<&str> =
        told["steps"].as_array().unwrap().iter().filter_map(|row| row["step"].as_str()).collect();
    assert_eq!(
        steps,
        ["start", "cleaner_panic", "node_kill", "node_join", "double_start", "drain", "rolling_restart"]
    );
    for row in told["steps"].as_array().unwrap().iter().skip(3).filter(|row| row["step"] != "double_start") {
        assert!(row["moved"].as_u64() > Some(0) && row["pause_ms"]["max"].is_number(), "{row}");
    }

    let verified = whimbrel(&["verify", dir, "--json"]);
    assert_eq!((verified.status.code(), result(&verified)), (Some(0), told));

    // The judge believes the files, not the demo: a cast that vanished from them is lost.
    let handled = std::fs::read_to_string(format!("{dir}/handled.jsonl")).unwrap();
    let without_first: Vec<&str> = handled.lines().skip(1).collect();
    std::fs::write(format!("{dir}/handled.jsonl"), without_first.join("\n")).unwrap();
    let spoiled = whimbrel(&["verify", dir, "--json"]);
    assert_eq!((spoiled.status.code(), result(&spoiled)["verdict"].as_str()), (Some(1), Some("lost")));
}
