//! The few files and functions over their limit. An entry may shrink and go, never grow.
//!
//! Each line is `files <path> <lines>` or `functions <path>::<name> <lines>`. The number must be exactly what is
//! measured: a part that has shrunk must have its entry lowered (`cargo xtask ratchet` does it), so the room it has
//! given up can not be taken back.

use std::collections::BTreeMap;
use std::fmt;

use crate::finding::Finding;
use crate::rules::size::{Limit, Measure};

/// Where the entries stand.
pub(crate) const PATH: &str = "xtask/ratchet.txt";

const HEAD: &str = "# What is over its limit. Entries may shrink and go; see xtask/src/ratchet.rs.\n";

/// All entries: limit and what it is about -> lines allowed, and the line of the entry.
#[derive(Debug, Default)]
pub(crate) struct Ratchet {
    entries: BTreeMap<(Limit, String), (usize, usize)>,
}

impl Ratchet {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut entries = BTreeMap::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let fault = || format!("{PATH}:{}: expected `files|functions <what> <lines>`", at + 1);
            let [limit, what, lines] = line.split_whitespace().collect::<Vec<_>>()[..] else {
                return Err(fault());
            };
            let limit = Limit::from_word(limit).ok_or_else(fault)?;
            let lines = lines.parse().map_err(|_| fault())?;
            entries.insert((limit, what.to_owned()), (lines, at + 1));
        }
        Ok(Self { entries })
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// What is over its limit and has no entry, or an entry that is not exact.
    pub(crate) fn check(&self, measures: &[Measure]) -> Vec<Finding> {
        let over = measures.iter().filter(|m| m.lines > m.limit.lines_max());
        let mut findings: Vec<Finding> = over
            .filter(|m| self.allowed(m).is_none_or(|allowed| m.lines > allowed))
            .map(|m| Finding::new(&m.file, m.line, m.limit.rule(), m.limit.complaint(m, self.allowed(m))))
            .collect();
        for ((limit, what), (allowed, line)) in &self.entries {
            let lines = lines_of(measures, *limit, what);
            if lines <= limit.lines_max() {
                findings.push(Finding::new(
                    PATH,
                    *line,
                    "ratchet",
                    format!("{what} is within its limit: drop the entry"),
                ));
            } else if lines < *allowed {
                findings.push(Finding::new(
                    PATH,
                    *line,
                    "ratchet",
                    format!("{what} has shrunk: lower the entry to {lines}"),
                ));
            }
        }
        findings
    }

    /// Follows what has shrunk. What has grown keeps its entry, and fails the check.
    pub(crate) fn lower(&mut self, measures: &[Measure]) {
        self.entries.retain(|(limit, what), (allowed, _)| {
            let lines = lines_of(measures, *limit, what);
            *allowed = lines.min(*allowed);
            lines > limit.lines_max()
        });
    }

    fn allowed(&self, measure: &Measure) -> Option<usize> {
        self.entries.get(&(measure.limit, measure.what.clone())).map(|(allowed, _)| *allowed)
    }
}

impl fmt::Display for Ratchet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEAD)?;
        for ((limit, what), (allowed, _)) in &self.entries {
            writeln!(f, "{} {what} {allowed}", limit.word())?;
        }
        Ok(())
    }
}

/// Two functions of one file may share a name: the longest counts.
fn lines_of(measures: &[Measure], limit: Limit, what: &str) -> usize {
    measures.iter().filter(|m| m.limit == limit && m.what == what).map(|m| m.lines).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn file(lines: usize) -> Vec<Measure> {
        vec![Measure { limit: Limit::Files, file: "a.rs".into(), line: 1, what: "a.rs".into(), lines }]
    }

    fn findings(ratchet: &str, lines: usize) -> Vec<String> {
        Ratchet::parse(ratchet).unwrap().check(&file(lines)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_entry_must_be_exact() {
        let max = Limit::Files.lines_max();
        assert!(findings("", max).is_empty());
        assert!(findings("files a.rs 600", 600).is_empty());
        for (ratchet, lines, want) in [
            ("", max + 1, "a.rs:1: [file-size]"),
            ("files a.rs 600", 601, "a.rs:1: [file-size]"),
            ("files a.rs 600", 599, "lower the entry to 599"),
            ("files a.rs 600", max, "drop the entry"),
            ("files gone.rs 600", 3, "drop the entry"),
        ] {
            let found = findings(ratchet, lines);
            assert!(found.len() == 1 && found[0].contains(want), "{ratchet} at {lines}: {found:?}");
        }
    }

    #[test]
    fn lowering_follows_what_shrank_and_nothing_else() {
        for (before, lines, after) in [(600, 550, Some(550)), (600, 700, Some(600)), (600, 10, None)] {
            let mut ratchet = Ratchet::parse(&format!("files a.rs {before}\n")).unwrap();
            ratchet.lower(&file(lines));
            let want = after.map_or(HEAD.to_owned(), |n| format!("{HEAD}files a.rs {n}\n"));
            assert_eq!(ratchet.to_string(), want);
        }
    }

    #[test]
    fn a_broken_entry_is_told_with_its_line() {
        assert!(Ratchet::parse("# head\nfiles a.rs many\n").unwrap_err().contains("ratchet.txt:2"));
    }
}
