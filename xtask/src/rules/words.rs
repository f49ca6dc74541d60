//! What no committed file may bear: a path of somebody's machine; in the library, a word of the demo.

use crate::finding::Finding;

/// In two halves, so that this file does not trip over itself.
const MACHINE_PATHS: [(&str, &str); 5] =
    [("/ro", "ot"), ("/tm", "p/"), ("/wo", "rk/"), ("/ho", "me/"), ("/Us", "ers/")];

const LIBRARY: [&str; 3] = ["crates/core/", "crates/whimbrel/", "crates/macros/"];

pub(crate) fn check(path: &str, text: &str) -> Vec<Finding> {
    let library = LIBRARY.iter().any(|folder| path.starts_with(folder));
    let mut findings = Vec::new();
    for (at, line) in text.lines().enumerate() {
        for (a, b) in MACHINE_PATHS {
            if has_path(line, &format!("{a}{b}")) {
                findings.push(Finding::new(
                    path,
                    at + 1,
                    "machine-path",
                    format!("{a}{b} is a path of one machine"),
                ));
            }
        }
        if library && ["demo", "database-cleaner"].into_iter().any(|word| has_word(line, word)) {
            findings.push(Finding::new(
                path,
                at + 1,
                "library-words",
                "the library knows nothing of the demo",
            ));
        }
    }
    findings
}

/// The path at its start: not the middle of a longer relative path or of an address.
fn has_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + path.len()..].chars().next();
        let starts =
            before.is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '.' | '_' | '-' | '}' | '*' | ')'));
        starts && (path.ends_with('/') || after.is_none_or(|c| !c.is_alphanumeric() && c != '_'))
    })
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        before.is_none_or(|c| !c.is_alphanumeric()) && after.is_none_or(|c| !c.is_alphanumeric())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<&'static str> {
        check(path, text).iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn a_path_of_a_machine_is_found() {
        for (a, b) in MACHINE_PATHS {
            assert_eq!(rules("README.md", &format!("see {a}{b}, there")), ["machine-path"], "{a}{b}");
        }
        assert_eq!(rules("README.md", &format!("{}{}x", "/tm", "p/")), ["machine-path"]);
    }

    #[test]
    fn a_path_that_only_looks_so_is_not() {
        for text in ["https://example.org/work/a", "src/root", "/rooted", "target/tmp/x", "the root"] {
            assert!(rules("README.md", text).is_empty(), "{text}");
        }
    }

    #[test]
    fn the_library_does_not_know_the_demo() {
        assert_eq!(rules("crates/whimbrel/src/a.rs", "/// As the demo does."), ["library-words"]);
        assert!(rules("crates/whimbrel/src/a.rs", "/// This demonstrates.").is_empty());
        assert!(rules("crates/cli/src/a.rs", "//! The demo.").is_empty());
    }
}
