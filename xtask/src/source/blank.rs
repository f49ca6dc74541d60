//! The lexer: same length, same lines, no comments, no content of literals.

/// Comments become blanks, literals become quotation marks, other text that is not ASCII becomes `x`.
pub(super) fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let (end, fill) = match piece(bytes, at) {
            Piece::Comment(end) => (end, Some(' ')),
            Piece::Literal(end) => (end, Some('"')),
            Piece::Code(end) => (end, None),
        };
        for byte in &bytes[at..end] {
            out.push(match (byte, fill) {
                (b'\n', _) => '\n',
                (_, Some(fill)) => fill,
                (byte, None) if byte.is_ascii() => char::from(*byte),
                (_, None) => 'x',
            });
        }
        at = end;
    }
    out
}

/// What begins at an offset, with the offset after it.
enum Piece {
    Comment(usize),
    Literal(usize),
    Code(usize),
}

fn piece(bytes: &[u8], at: usize) -> Piece {
    match &bytes[at..] {
        [b'/', b'/', ..] => Piece::Comment(line_end(bytes, at)),
        [b'/', b'*', ..] => Piece::Comment(block_comment_end(bytes, at)),
        [b'"', ..] => Piece::Literal(quoted_end(bytes, at + 1, b'"')),
        [b'\'', rest @ ..] => match rest {
            [b'\\', ..] => Piece::Literal(quoted_end(bytes, at + 1, b'\'')),
            // One character and a closing quote; anything else is a lifetime.
            _ if rest.get(char_len(rest)) == Some(&b'\'') => Piece::Literal(at + 2 + char_len(rest)),
            _ => Piece::Code(at + 1),
        },
        [byte, ..] if super::is_word(*byte) => word(bytes, at),
        _ => Piece::Code(at + 1),
    }
}

/// A whole word; a raw string when the word is its prefix.
fn word(bytes: &[u8], at: usize) -> Piece {
    let end = at + bytes[at..].iter().take_while(|byte| super::is_word(**byte)).count();
    let hashes = bytes[end..].iter().take_while(|byte| **byte == b'#').count();
    let raw = matches!(&bytes[at..end], b"r" | b"br" | b"cr") && bytes.get(end + hashes) == Some(&b'"');
    if raw { Piece::Literal(raw_end(bytes, end + hashes + 1, hashes)) } else { Piece::Code(end) }
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |n| at + n)
}

fn block_comment_end(bytes: &[u8], at: usize) -> usize {
    let mut depth = 0;
    let mut at = at;
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] if depth == 1 => return at + 2,
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    bytes.len()
}

fn quoted_end(bytes: &[u8], mut at: usize, quote: u8) -> usize {
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn raw_end(bytes: &[u8], at: usize, hashes: usize) -> usize {
    let end: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let found = bytes[at..].windows(end.len()).position(|window| window == end);
    found.map_or(bytes.len(), |n| at + n + end.len())
}

fn char_len(rest: &[u8]) -> usize {
    match rest.first() {
        Some(0xf0..) => 4,
        Some(0xe0..) => 3,
        Some(0xc0..) => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_keep_their_length() {
        let cases = [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"f("a\"b", 'x', '\'', b"y")"#, r#"f("""""", """, """", b""")"#),
            ("r#\"a\"b\"# c", "\"\"\"\"\"\"\"\" c"),
            ("&'a str 'é'", "&'a str \"\"\"\""),
            ("r#type é", "r#type xx"),
        ];
        for (text, code) in cases {
            assert_eq!(blank(text), code, "{text}");
        }
    }

    #[test]
    fn what_never_ends_ends_with_the_file() {
        for text in ["\"abc", "/* abc", "r#\"abc\"", "'\\", "\"\\"] {
            assert_eq!(blank(text).len(), text.len(), "{text}");
        }
    }
}
