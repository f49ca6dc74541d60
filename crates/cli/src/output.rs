//! What commands say: progress on standard error, results on standard output, failures with a reason and a hint.
//!
//! Exit codes: 0 all is well, 1 a check failed, 2 wrong usage, 3 the environment can not, 130 interrupted.

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

use serde_json::{Map, Value};

/// Version of the JSON that commands print; raised when a key changes its meaning or goes.
const SCHEMA: u32 = 1;

/// Why a command ended without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A check failed: the software did not do what it promises.
    Check,
    /// The command was called wrongly.
    Usage,
    /// The machine can not do what is asked.
    Environment,
    /// The user interrupted it.
    Interrupted,
}

impl Cause {
    const fn code(self) -> u8 {
        match self {
            Cause::Check => 1,
            Cause::Usage => 2,
            Cause::Environment => 3,
            Cause::Interrupted => 130,
        }
    }
}

/// A failure in the words a user needs: what happened, the detail, what to do about it.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    cause: Cause,
    what: String,
    detail: Option<String>,
    hint: Option<String>,
}

impl Failure {
    /// Something in the software did not hold.
    pub(crate) fn check(what: impl Into<String>) -> Self {
        Self::new(Cause::Check, what)
    }

    /// The command was called wrongly.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self::new(Cause::Usage, what)
    }

    /// The machine can not do what is asked.
    pub(crate) fn environment(what: impl Into<String>) -> Self {
        Self::new(Cause::Environment, what)
    }

    /// The user interrupted the command.
    pub(crate) fn interrupted() -> Self {
        Self::new(Cause::Interrupted, "interrupted")
    }

    fn new(cause: Cause, what: impl Into<String>) -> Self {
        Self { cause, what: what.into(), detail: None, hint: None }
    }

    /// Adds the detail: usually the error of the layer below.
    pub(crate) fn detail(mut self, detail: impl fmt::Display) -> Self {
        self.detail = Some(detail.to_string());
        self
    }

    /// Adds what the user can do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What happened, in one line.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// Whether the software, not its caller or the machine, is at fault.
    pub(crate) fn is_check(&self) -> bool {
        self.cause == Cause::Check
    }

    /// Adds what the user can do, unless that was said already.
    pub(crate) fn or_hint(mut self, hint: &str) -> Self {
        self.hint.get_or_insert_with(|| hint.to_owned());
        self
    }

    /// Adds the detail, unless there is one already.
    pub(crate) fn or_detail(mut self, detail: &str) -> Self {
        self.detail.get_or_insert_with(|| detail.to_owned());
        self
    }

    /// Says which file it is about.
    pub(crate) fn in_file(mut self, path: &std::path::Path) -> Self {
        self.what = format!("{}: {}", path.display(), self.what);
        self
    }

    /// Why the command ended.
    #[cfg(test)]
    pub(crate) const fn cause(&self) -> Cause {
        self.cause
    }

    /// Prints it to standard error, with `json` also as a result without figures, and says how the process ends.
    pub(crate) fn report(&self, json: bool) -> ExitCode {
        eprintln!("{self}");
        if json {
            print_line(&Value::Object(result_object(None, &self.what)).to_string());
        }
        ExitCode::from(self.cause.code())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "whimbrel: {}", self.what)?;
        if let Some(detail) = &self.detail {
            write!(f, "\n  detail: {}", detail.trim_end().replace('\n', "\n          "))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint:   {hint}")?;
        }
        Ok(())
    }
}

/// The keys that every result carries, in front of a command's own.
pub(crate) fn result_object(seed: Option<u64>, verdict: &str) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("schema".into(), SCHEMA.into());
    object.insert("version".into(), env!("CARGO_PKG_VERSION").into());
    object.insert("seed".into(), seed.into());
    object.insert("verdict".into(), verdict.into());
    object
}

/// Prints one line to standard output. A reader that went away is not an error worth a panic.
pub(crate) fn print_line(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// How a command that has a verdict ends.
pub(crate) fn exit_for(ok: bool) -> ExitCode {
    if ok { ExitCode::SUCCESS } else { ExitCode::from(Cause::Check.code()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_happened_the_detail_and_a_hint() {
        let failure =
            Failure::environment("no loopback").detail("refused\nby the kernel").hint("ip link set lo up");
        let text = failure.to_string();
        assert_eq!(text.lines().count(), 4);
        assert!(text.starts_with("whimbrel: no loopback"));
        assert!(text.ends_with("hint:   ip link set lo up"));
    }

    #[test]
    fn every_result_carries_the_common_keys() {
        let object = result_object(Some(7), "ok");
        let keys: Vec<&str> = object.keys().map(String::as_str).collect();
        for key in ["schema", "version", "seed", "verdict"] {
            assert!(keys.contains(&key), "{key} is missing");
        }
    }
}
