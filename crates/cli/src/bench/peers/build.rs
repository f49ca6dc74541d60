//! Finding the package of the peers in the source tree, and building it.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::output::Failure;

/// From the root of the source tree.
const PACKAGE: &str = "benches/peers";
/// From the package.
const BINARY: &str = "target/release/whimbrel-peers";

/// The binary that measures other libraries, built from the source tree around the working directory or around this
/// binary.
pub(crate) fn binary() -> Result<PathBuf, Failure> {
    let starts = [std::env::current_dir(), std::env::current_exe()];
    let package = package_around(starts.into_iter().flatten())?;
    // Cargo tells those whom it runs where it is.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    build(&package, &cargo)
}

fn package_around(starts: impl Iterator<Item = PathBuf>) -> Result<PathBuf, Failure> {
    let package_in = |folder: &Path| Some(folder.join(PACKAGE)).filter(|it| it.join("Cargo.toml").is_file());
    let found = starts.into_iter().find_map(|start| start.ancestors().find_map(package_in));
    found.ok_or_else(|| {
        Failure::environment(format!("the libraries to compare with are not here: no {PACKAGE}"))
            .detail("neither the working directory nor this binary is in a source tree of Whimbrel")
            .hint("run it in a clone of the repository: `cargo run --release -- bench --peers`")
    })
}

/// Has cargo build it, which is quick when it is built. Where there is no cargo, one that was built before will do.
fn build(package: &Path, cargo: &OsStr) -> Result<PathBuf, Failure> {
    let binary = package.join(BINARY);
    if !binary.is_file() {
        eprintln!("bench: building the libraries to compare with, which takes minutes the first time");
    }
    let built = Command::new(cargo)
        .args(["build", "--release", "--locked", "--manifest-path"])
        .arg(package.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(package.join("target"))
        .stdin(Stdio::null())
        // Standard output is for the result alone.
        .stdout(Stdio::null())
        .status();
    match built {
        Ok(status) if status.success() => Ok(binary),
        Ok(status) => Err(Failure::environment(format!("{PACKAGE} can not be built"))
            .detail(format!("cargo ended with {status}"))
            .hint("what cargo says stands above; leave --peers out to measure Whimbrel alone")),
        Err(error) if error.kind() == ErrorKind::NotFound && binary.is_file() => Ok(binary),
        Err(error) => Err(Failure::environment(format!("{PACKAGE} can not be built: no cargo to do it"))
            .detail(format!("{}: {error}", cargo.display()))
            .hint("install Rust, or leave --peers out to measure Whimbrel alone")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::output::Cause;
    use crate::temp::WorkDir;

    #[test]
    fn the_package_is_found_around_where_tests_run() {
        let here = std::env::current_dir().unwrap();
        let package = package_around([here.join("src/bench")].into_iter()).unwrap();
        assert!(package.join("src/main.rs").is_file());
    }

    #[test]
    fn without_a_source_tree_the_command_says_so() {
        let dir = WorkDir::temporary("peers").unwrap();
        let failure = package_around([dir.path().join("a")].into_iter()).unwrap_err();
        assert_eq!(failure.cause(), Cause::Environment);
        assert!(failure.to_string().contains("hint:   run it in a clone"));
    }

    #[test]
    fn without_cargo_what_was_built_before_is_used() {
        let dir = WorkDir::temporary("peers").unwrap();
        let cargo = dir.path().join("no-cargo");
        let failure = build(dir.path(), cargo.as_os_str()).unwrap_err();
        assert_eq!(failure.cause(), Cause::Environment);
        assert!(failure.to_string().contains("no cargo to do it"));

        let built = dir.path().join(BINARY);
        std::fs::create_dir_all(built.parent().unwrap()).unwrap();
        std::fs::write(&built, "").unwrap();
        assert_eq!(build(dir.path(), cargo.as_os_str()).unwrap(), built);
    }

    #[test]
    fn a_build_that_fails_is_told() {
        let dir = WorkDir::temporary("peers").unwrap();
        let failure = build(dir.path(), OsStr::new("false")).unwrap_err();
        assert!(failure.to_string().contains("cargo ended with exit status: 1"), "{failure}");
    }
}
