//! Every file of a crate begins by saying what it is: `//!`.

use crate::finding::Finding;
use crate::source::Source;

pub(crate) fn check(source: &Source) -> Option<Finding> {
    let needed = source.path.contains("/src/") || source.path.starts_with("examples/");
    (needed && !source.is_test_file() && !source.text.starts_with("//!")).then(|| {
        Finding::new(&source.path, 1, "essay", "a file begins with `//!`: what it decides and promises")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_an_essay_is_found() {
        assert!(check(&Source::new("crates/core/src/a.rs", "use x;\n")).is_some());
        assert!(check(&Source::new("crates/core/src/a.rs", "//! Names.\n")).is_none());
        assert!(check(&Source::new("crates/core/src/a/tests.rs", "use x;\n")).is_none());
    }
}
