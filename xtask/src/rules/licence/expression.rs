//! Licence expressions: identifiers, `AND`, `OR` (older: `/`), `WITH`, brackets.

/// Whether the expression can be satisfied by allowed licences; none when it can not be read.
pub(super) fn holds(text: &str, allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
    let spaced = text.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut reader = Reader { words: &words, allowed };
    let value = reader.any()?;
    reader.words.is_empty().then_some(value)
}

struct Reader<'w> {
    words: &'w [&'w str],
    allowed: &'w dyn Fn(&str) -> bool,
}

impl<'w> Reader<'w> {
    fn any(&mut self) -> Option<bool> {
        let mut value = self.all()?;
        while self.take("OR") {
            value |= self.all()?;
        }
        Some(value)
    }

    fn all(&mut self) -> Option<bool> {
        let mut value = self.one()?;
        while self.take("AND") {
            value &= self.one()?;
        }
        Some(value)
    }

    fn one(&mut self) -> Option<bool> {
        if self.take("(") {
            let value = self.any()?;
            return self.take(")").then_some(value);
        }
        let value = (self.allowed)(self.identifier()?);
        // An exception only gives more rights.
        if self.take("WITH") {
            self.identifier()?;
        }
        Some(value)
    }

    fn identifier(&mut self) -> Option<&'w str> {
        let (word, rest) = self.words.split_first()?;
        let word = (!["OR", "AND", "WITH", "(", ")"].contains(word)).then_some(*word)?;
        self.words = rest;
        Some(word)
    }

    fn take(&mut self, word: &str) -> bool {
        let taken = self.words.first() == Some(&word);
        self.words = &self.words[usize::from(taken)..];
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_read_as_they_are_meant() {
        for (text, want) in [
            ("A", Some(true)),
            ("X", Some(false)),
            ("X OR A", Some(true)),
            ("X/A", Some(true)),
            ("A AND X", Some(false)),
            ("A OR X AND X", Some(true)),
            ("(A OR X) AND A", Some(true)),
            ("A WITH Some-exception OR X", Some(true)),
            ("(A", None),
            ("A A", None),
            ("", None),
        ] {
            assert_eq!(holds(text, &|id| id == "A"), want, "{text}");
        }
    }
}
