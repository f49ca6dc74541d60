//! Every package comes from the one public registry: anybody can build what we built.

use crate::finding::Finding;

const REGISTRY: &str = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";

pub(crate) fn check(path: &str, lock: &str) -> Vec<Finding> {
    let foreign = |line: &str| line.starts_with("source = ") && line.trim_end() != REGISTRY;
    lock.lines()
        .enumerate()
        .filter(|(_, line)| foreign(line))
        .map(|(at, line)| Finding::new(path, at + 1, "lock", format!("not the public registry: {line}")))
        .collect()
}

/// The line of a package in the lock file; 1 when it is not there.
pub(crate) fn line_of(lock: &str, package: &str) -> usize {
    let wanted = format!("name = \"{package}\"");
    lock.lines().position(|line| line == wanted).map_or(1, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_source_is_found() {
        let lock =
            format!("name = \"a\"\n{REGISTRY}\nname = \"b\"\nsource = \"git+https://example.org/b\"\n");
        let lines: Vec<_> = check("Cargo.lock", &lock).iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [4]);
        assert_eq!(line_of(&lock, "b"), 3);
    }
}
