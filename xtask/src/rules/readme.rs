//! The example of the README is one that is built and run, to the letter.

use crate::finding::Finding;

/// The program that the README shows, without its first line of documentation.
pub(crate) const EXAMPLE: &str = "examples/examples/counter.rs";

pub(crate) fn check(readme: &str, example: &str) -> Option<Finding> {
    let (_, program) = example.split_once("\n\n")?;
    let shown = format!("```rust\n{program}```\n");
    (!readme.contains(&shown))
        .then(|| Finding::new("README.md", 1, "readme", format!("its example is not {EXAMPLE}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_that_has_drifted_is_found() {
        let example = "//! Doc.\n\nfn main() {}\n";
        assert!(check("text\n```rust\nfn main() {}\n```\nmore", example).is_none());
        assert!(check("text\n```rust\nfn main() { }\n```\nmore", example).is_some());
    }
}
