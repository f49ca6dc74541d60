//! How long files and functions may be. Tests do not count.

use crate::source::{Source, is_word};

/// Which limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Limit {
    /// Lines with code of one file.
    Files,
    /// Lines of one function, from `fn` to its closing brace.
    Functions,
}

impl Limit {
    pub(crate) const fn lines_max(self) -> usize {
        match self {
            Limit::Files => 500,
            Limit::Functions => 70,
        }
    }

    pub(crate) const fn rule(self) -> &'static str {
        match self {
            Limit::Files => "file-size",
            Limit::Functions => "function-size",
        }
    }

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Limit::Files => "files",
            Limit::Functions => "functions",
        }
    }

    pub(crate) fn from_word(word: &str) -> Option<Self> {
        [Limit::Files, Limit::Functions].into_iter().find(|limit| limit.word() == word)
    }

    pub(crate) fn complaint(self, measure: &Measure, allowed: Option<usize>) -> String {
        let (what, lines) = (&measure.what, measure.lines);
        match allowed {
            Some(allowed) => {
                format!("{what} has grown to {lines} lines, its entry in the ratchet says {allowed}")
            }
            None => format!("{what} has {lines} lines, {} are the limit: split it", self.lines_max()),
        }
    }
}

/// The length of one thing.
#[derive(Clone, Debug)]
pub(crate) struct Measure {
    pub(crate) limit: Limit,
    pub(crate) file: String,
    pub(crate) line: usize,
    /// The path of the file, or path and name of the function.
    pub(crate) what: String,
    pub(crate) lines: usize,
}

/// Lengths of all files and functions that are not tests.
pub(crate) fn measure(sources: &[Source]) -> Vec<Measure> {
    let mut measures = Vec::new();
    for source in sources.iter().filter(|source| !source.is_test_file()) {
        let file = source.path.clone();
        measures.push(Measure {
            limit: Limit::Files,
            what: file.clone(),
            file,
            line: 1,
            lines: source.code_lines(),
        });
        measures.extend(functions(source));
    }
    measures
}

fn functions(source: &Source) -> impl Iterator<Item = Measure> + '_ {
    source.words("fn").filter(|at| !source.in_tests(*at)).filter_map(|at| {
        let name = source.word_at(at + 2);
        // `fn(u8)` is a type and has no name; a function without a body has no length.
        let end = source.item_end(at);
        let has_body = source.code[..end].ends_with('}');
        (has_body && name.bytes().next().is_some_and(is_word)).then(|| {
            let line = source.line_of(at);
            Measure {
                limit: Limit::Functions,
                file: source.path.clone(),
                line,
                what: format!("{}::{name}", source.path),
                lines: source.line_of(end - 1) + 1 - line,
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_measured_from_fn_to_brace() {
        let text =
            "fn a() {\n    x();\n}\nfn b(f: fn(u8)) {}\ntrait T { fn c(); }\n#[test]\nfn d() {\n\n\n}\n";
        let measures = measure(&[Source::new("x.rs", text)]);
        let lengths: Vec<_> = measures.iter().map(|m| (m.what.as_str(), m.lines)).collect();
        assert_eq!(lengths, [("x.rs", 5), ("x.rs::a", 3), ("x.rs::b", 1)]);
    }

    #[test]
    fn test_files_are_not_measured() {
        assert!(
            measure(&[Source::new("a/tests/b.rs", "fn a() {}"), Source::new("a/tests.rs", "fn a() {}")])
                .is_empty()
        );
    }
}
