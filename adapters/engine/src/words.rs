//! How text falls into words before byte pairs are merged, and how a vocabulary file spells bytes. The trainer uses
//! this very file.

/// How text falls into words, by the names that model files use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// `gpt-2`.
    Gpt2,
    /// `smollm`: every digit is a word of its own; what is between digits falls apart as in `gpt-2`.
    SmolLm,
}

impl Rule {
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "gpt-2" => Some(Self::Gpt2),
            "smollm" => Some(Self::SmolLm),
            _ => None,
        }
    }

    /// The words of a text, in order; together they are the text.
    pub(crate) fn words(self, text: &str) -> impl Iterator<Item = &str> {
        let mut rest = text;
        std::iter::from_fn(move || {
            let first = rest.chars().next()?;
            let end = match self {
                Self::Gpt2 => rest.len(),
                Self::SmolLm if first.is_numeric() => first.len_utf8(),
                Self::SmolLm => rest.find(char::is_numeric).unwrap_or(rest.len()),
            };
            let (part, after) = rest.split_at(end);
            rest = after;
            Some(part)
        })
        .flat_map(words)
    }
}

/// The words of a text, in order; together they are the text. Spaces go with the word that follows.
pub(crate) fn words(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let (word, rest) = text.split_at_checked(word_len(text)?)?;
        text = rest;
        Some(word)
    })
}

#[derive(PartialEq, Clone, Copy)]
enum Class {
    Letter,
    Number,
    Space,
    Other,
}

fn class(c: char) -> Class {
    if c.is_whitespace() {
        Class::Space
    } else if c.is_alphabetic() {
        Class::Letter
    } else if c.is_numeric() {
        Class::Number
    } else {
        Class::Other
    }
}

/// Bytes of the first word; `None` for no text.
fn word_len(text: &str) -> Option<usize> {
    let suffix = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"].into_iter().find(|s| text.starts_with(s));
    if let Some(suffix) = suffix {
        return Some(suffix.len());
    }
    let body = text.strip_prefix(' ').unwrap_or(text);
    if let Some(first) = body.chars().next().map(class)
        && first != Class::Space
    {
        let end = body.find(|c| class(c) != first).unwrap_or(body.len());
        return Some(text.len() - body.len() + end);
    }
    let end = text.find(|c| class(c) != Class::Space).unwrap_or(text.len());
    match text[..end].char_indices().next_back()? {
        // The last space belongs to the word after it.
        (last, _) if last > 0 && end < text.len() => Some(last),
        _ => Some(end),
    }
}

/// The character that stands for a byte in a vocabulary file.
pub(crate) fn byte_to_char(byte: u8) -> char {
    let code = match byte {
        0..=32 => 256 + u32::from(byte),
        127..=160 => 289 + u32::from(byte - 127),
        173 => 323,
        _ => u32::from(byte),
    };
    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use super::{Rule, byte_to_char, words};

    #[test]
    fn words_fall_apart_as_in_the_rule() {
        let cases: [(&str, &[&str]); 6] = [
            ("Hello world", &["Hello", " world"]),
            ("it's we'll", &["it", "'s", " we", "'ll"]),
            ("a  b \n c ", &["a", " ", " b", " \n", " c", " "]),
            ("x=42, y", &["x", "=", "42", ",", " y"]),
            ("\n\nOnce", &["\n", "\n", "Once"]),
            ("\u{fc}ber \u{1f600}!", &["\u{fc}ber", " \u{1f600}!"]),
        ];
        for (text, expected) in cases {
            assert_eq!(words(text).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn digits_stand_alone_where_the_rule_says_so() {
        let cases: [(&str, &[&str]); 3] = [
            ("in 2024, it's 7 up", &["in", " ", "2", "0", "2", "4", ",", " it", "'s", " ", "7", " up"]),
            ("a  5  b", &["a", "  ", "5", " ", " b"]),
            ("x\u{b2}\u{2163}", &["x", "\u{b2}", "\u{2163}"]),
        ];
        for (text, expected) in cases {
            assert_eq!(Rule::SmolLm.words(text).collect::<Vec<_>>(), expected);
        }
        assert!(Rule::Gpt2.words("a 12").eq(words("a 12")));
    }

    #[test]
    fn every_byte_has_a_character_of_its_own() {
        let mut all: Vec<char> = (0..=255).map(byte_to_char).collect();
        assert!(all.iter().all(|c| !c.is_whitespace() && !c.is_control()));
        assert_eq!(
            (all[usize::from(b' ')], all[usize::from(b'\n')], all[usize::from(b'a')]),
            ('\u{120}', '\u{10a}', 'a')
        );
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 256);
    }
}
