//! Text out of bytes whose characters may have been cut.

/// Puts halves of characters together: bytes of UTF-8, and units of UTF-16 in three bytes each, that came in two texts.
#[derive(Clone, Debug, Default)]
pub(super) struct Halves(Vec<u8>);

impl Halves {
    /// Takes bytes and returns the text that is whole. What is no text becomes `�`; at most five bytes wait.
    pub(super) fn push(&mut self, bytes: &[u8]) -> String {
        self.0.extend_from_slice(bytes);
        let (mut text, mut rest) = (String::new(), &self.0[..]);
        while !rest.is_empty() {
            let (valid, after) = rest.split_at(valid(rest));
            text.push_str(str::from_utf8(valid).unwrap_or_default());
            rest = after;
            match character(rest) {
                Some((c, n)) => {
                    text.push(c);
                    rest = &rest[n..];
                }
                None => break,
            }
        }
        self.0 = rest.to_vec();
        text
    }
}

/// How many bytes at the beginning are text.
fn valid(bytes: &[u8]) -> usize {
    str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), str::len)
}

/// What stands where text does not go on, and in how many bytes. `None`: more has to come.
fn character(bytes: &[u8]) -> Option<(char, usize)> {
    const NONE: char = char::REPLACEMENT_CHARACTER;
    match bytes {
        [] => None,
        [0xed, a @ 0xa0..=0xaf, b @ 0x80..=0xbf, rest @ ..] => match rest {
            [0xed, c @ 0xb0..=0xbf, d @ 0x80..=0xbf, ..] => {
                let unit = |high: &u8, low: &u8| u32::from(high & 0x0f) << 6 | u32::from(low & 0x3f);
                Some((char::from_u32(0x1_0000 + (unit(a, b) << 10 | unit(c, d))).unwrap_or(NONE), 6))
            }
            [] | [0xed] | [0xed, 0xb0..=0xbf] => None,
            _ => Some((NONE, 3)),
        },
        [0xed, 0xb0..=0xbf, 0x80..=0xbf, ..] => Some((NONE, 3)),
        [0xed, 0xa0..=0xbf] => None,
        _ => str::from_utf8(bytes).err()?.error_len().map(|n| (NONE, n)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(parts: &[&[u8]]) -> String {
        let mut halves = Halves::default();
        parts.iter().map(|part| halves.push(part)).collect()
    }

    #[test]
    fn halves_become_characters_and_what_is_none_a_mark() {
        let (high, low): (&[u8], &[u8]) = (b"\xed\xa0\xbd", b"\xed\xb8\x80");
        assert_eq!(joined(&[b"Hi ", high, low, b" there"]), "Hi 😀 there");
        assert_eq!(joined(&[&[high, low].concat()]), "😀");
        assert_eq!(joined(&[high, b" b"]), "� b");
        assert_eq!(joined(&[low, b"b"]), "�b");
        assert_eq!(joined(&[high, high, low]), "�😀");
        assert_eq!(joined(&[b"a\xff\xfeb"]), "a��b");
        assert_eq!(joined(&[b"a", high]), "a", "there was nothing to see yet");
        for c in "aß€😀\u{10ffff}\u{e000}".chars() {
            let mut buffer = [0; 4];
            let bytes: Vec<&[u8]> = c.encode_utf8(&mut buffer).as_bytes().chunks(1).collect();
            assert_eq!(joined(&bytes), c.to_string(), "byte by byte");
        }
    }
}
