//! A Rust file, seen through a lexer that is just good enough: comments become blanks, literals become quotes.
//!
//! Rules search [`Source::code`], which has the same offsets as the text, so no comment or string can trip them.
//! This is not a parser: it finds words, brackets and the ends of items. Macros that build items are not expanded.

mod blank;

use std::ops::Range;

/// One Rust file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Path from the root of the repository.
    pub(crate) path: String,
    /// The text as it is.
    pub(crate) text: String,
    /// The text without comments and literals; ASCII, same offsets.
    pub(crate) code: String,
    tests: Vec<Range<usize>>,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = blank::blank(text);
        let tests = test_items(&code);
        Self { path: path.to_owned(), text: text.to_owned(), code, tests }
    }

    /// Whether the whole file is tests: a `tests.rs`, or anything below a folder `tests`.
    pub(crate) fn is_test_file(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.split('/').any(|part| part == "tests")
    }

    /// Whether this offset lies in an item that only exists in tests.
    pub(crate) fn in_tests(&self, at: usize) -> bool {
        self.is_test_file() || self.tests.iter().any(|range| range.contains(&at))
    }

    /// The line of an offset, counted from 1.
    pub(crate) fn line_of(&self, at: usize) -> usize {
        self.code.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1
    }

    /// Lines with code on them, outside tests.
    pub(crate) fn code_lines(&self) -> usize {
        let mut at = 0;
        let mut count = 0;
        for line in self.code.split_inclusive('\n') {
            count += usize::from(!line.trim().is_empty() && !self.in_tests(at));
            at += line.len();
        }
        count
    }

    /// Offsets at which `word` stands as a whole word.
    pub(crate) fn words<'s>(&'s self, word: &'s str) -> impl Iterator<Item = usize> + 's {
        self.code.match_indices(word).map(|(at, _)| at).filter(move |at| {
            let bytes = self.code.as_bytes();
            let before = at.checked_sub(1).map_or(b' ', |before| bytes[before]);
            let after = bytes.get(at + word.len()).copied().unwrap_or(b' ');
            !is_word(before) && before != b'\'' && !is_word(after)
        })
    }

    /// Where the item or block that begins at `from` ends: after its `}` or `;`.
    pub(crate) fn item_end(&self, from: usize) -> usize {
        item_end(&self.code, from)
    }

    /// The identifier at this offset, after blanks; empty when there is none.
    pub(crate) fn word_at(&self, at: usize) -> &str {
        let rest = self.code[at..].trim_start();
        &rest[..rest.bytes().take_while(|byte| is_word(*byte)).count()]
    }
}

pub(crate) const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn test_items(code: &str) -> Vec<Range<usize>> {
    let attributes = ["#[cfg(test)]", "#[cfg(all(test", "#[test]", "#[tokio::test"];
    let starts = attributes.iter().flat_map(|attribute| code.match_indices(attribute));
    starts.map(|(at, _)| at..item_end(code, skip_attributes(code, at))).collect()
}

fn skip_attributes(code: &str, mut at: usize) -> usize {
    loop {
        at += code[at..].len() - code[at..].trim_start().len();
        if !code[at..].starts_with("#[") {
            return at;
        }
        at = closing(code, at + 1);
    }
}

fn item_end(code: &str, from: usize) -> usize {
    let mut at = from;
    while let Some(byte) = code.as_bytes().get(at) {
        match byte {
            b';' => return at + 1,
            b'{' => return closing(code, at),
            b'(' | b'[' => at = closing(code, at),
            _ => at += 1,
        }
    }
    code.len()
}

/// The offset after the bracket that closes the one at `open`.
fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_tests_and_comments_are_not_code() {
        let source = Source::new(
            "a.rs",
            "//! doc\n\nfn a() {\n    // why\n}\n\n#[cfg(test)]\n#[allow(x)]\nmod tests {\n    fn b() {}\n}\nconst C: u8 = 1;\n",
        );
        assert_eq!(source.code_lines(), 3);
    }

    #[test]
    fn a_word_is_found_whole_and_outside_literals_only() {
        let source = Source::new("a.rs", "static A: &'static str = \"static\"; // static\nstatics");
        assert_eq!(source.words("static").collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn an_item_ends_at_its_own_bracket() {
        let source = Source::new("a.rs", "fn a(x: [u8; 3]) -> u8 { { } } fn b();");
        assert_eq!(source.item_end(0), 30);
        assert_eq!(source.item_end(30), source.code.len());
    }

    #[test]
    fn a_line_is_counted_from_one() {
        let source = Source::new("a.rs", "a\nb\nc");
        assert_eq!((source.line_of(0), source.line_of(4)), (1, 3));
    }
}
