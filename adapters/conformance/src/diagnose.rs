//! Which rule a payload breaks that is no message.

use haggle_core::wire::DecodeError;

use crate::verdict::Broken;

/// Levels of lists and maps in a message, at most.
const MAX_DEPTH: usize = 8;

/// The bounds of each kind of message, by its number.
const BOUNDS: [&str; 18] =
    ["E3", "B1", "B2", "B3", "B3", "B4", "E3", "B5", "B6", "B6", "B7", "E3", "B9", "E3", "B8", "B8", "E3", "E3"];

/// Names the rule, as far as bytes alone tell it.
pub(crate) fn diagnose(payload: &[u8], error: DecodeError) -> Broken {
    let kind = payload.get(1).map_or(usize::MAX, |kind| usize::from(*kind));
    let rule = match error {
        DecodeError::TooLong => "F2",
        DecodeError::OutOfBounds => BOUNDS.get(kind).copied().unwrap_or("E3"),
        // A message of which no field is known wrong: something is there that this version does not know.
        DecodeError::Malformed | DecodeError::NotCanonical => Walk { rest: payload }.payload().err().unwrap_or("E3"),
    };
    let shown: String = payload.iter().take(24).map(|byte| format!("{byte:02x}")).collect();
    let more = if payload.len() > 24 { "…" } else { "" };
    Broken { rule, told: format!("{error}: {shown}{more}") }
}

/// Walks over CBOR as RFC 8949 has it, and stops at what this protocol does not.
struct Walk<'a> {
    rest: &'a [u8],
}

impl Walk<'_> {
    fn payload(mut self) -> Result<(), &'static str> {
        self.item(0)?;
        // [E4] Nothing follows the message.
        if self.rest.is_empty() { Ok(()) } else { Err("E4") }
    }

    fn item(&mut self, depth: usize) -> Result<(), &'static str> {
        let (major, argument) = self.head()?;
        match major {
            0 => Ok(()),
            2 => self.skip(argument).map(|_| ()),
            3 => self.skip(argument).and_then(|text| std::str::from_utf8(text).map(|_| ()).map_err(|_| "E1")),
            4 | 5 if depth >= MAX_DEPTH => Err("E4"),
            4 => (0..argument).try_for_each(|_| self.item(depth + 1)),
            5 => self.map(argument, depth),
            7 if matches!(argument, 20 | 21) => Ok(()),
            _ => Err("E1"),
        }
    }

    fn map(&mut self, entries: u64, depth: usize) -> Result<(), &'static str> {
        let mut last = None;
        for _ in 0..entries {
            let (0, key) = self.head()? else { return Err("E2") };
            if last.is_some_and(|last| last >= key) {
                return Err("E2");
            }
            last = Some(key);
            self.item(depth + 1)?;
        }
        Ok(())
    }

    /// The major type of an item, and its argument in the shortest form.
    fn head(&mut self) -> Result<(u8, u64), &'static str> {
        let head = self.skip(1)?[0];
        let (argument, least) = match head & 0x1f {
            small @ 0..=23 => (u64::from(small), 0),
            info @ 24..=27 => {
                let bytes = 1_u64 << (info - 24);
                let argument = self.skip(bytes)?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
                (argument, if bytes == 1 { 24 } else { 1 << (bytes * 4) })
            }
            _ => return Err("E1"),
        };
        if argument < least { Err("E1") } else { Ok((head >> 5, argument)) }
    }

    /// A payload that ends in mid-item is no message at all: each is exactly one.
    fn skip(&mut self, len: u64) -> Result<&[u8], &'static str> {
        let len = usize::try_from(len).map_err(|_| "F3")?;
        let (skipped, rest) = self.rest.split_at_checked(len).ok_or("F3")?;
        self.rest = rest;
        Ok(skipped)
    }
}

#[cfg(test)]
mod tests {
    use haggle_core::wire;

    use super::*;

    #[test]
    fn bytes_are_blamed_by_the_rule_that_they_break() {
        for (bytes, rule) in [
            (&b"\x82\x18\x0b\xa0"[..], "E1"),
            (b"\x82\x0d\xa2\x00\x18\x17\x01\xf4", "E1"),
            (b"\x9f\x0b\xa0\xff", "E1"),
            (b"\xc1\x82\x0b\xa0", "E1"),
            (b"\x82\x0d\xa2\x00\xf6\x01\xf4", "E1"),
            (b"\x82\x0d\xa2\x01\xf4\x00\x17", "E2"),
            (b"\x82\x0d\xa2\x00\x17\x00\x17", "E2"),
            (b"\x82\x0d\xa3\x00\x17\x01\xf4\x14\x00", "E3"),
            (b"\x82\x17\xa0", "E3"),
            (b"\x82\x0b\xa0\x00", "E4"),
            (b"\x82\x0b\xa1\x00\x81\x81\x81\x81\x81\x81\x81\x81\x00", "E4"),
            (b"\x82\x0b", "F3"),
            (b"\x82\x0a\xa3\x00\x00\x01\x00\x02\x61a", "B7"),
            (b"\x82\x0a\xa4\x00\x00\x01\x01\x02\x61a\x04\x04", "E3"),
            (&[&b"\x82\x0c\xa1\x00\xa5\x00\x00\x01\x00\x02\x01\x03\x58\x20"[..], &[0; 32], b"\x04\x02"].concat(), "B9"),
        ] {
            let error = wire::decode(bytes).expect_err("no message");
            assert_eq!(diagnose(bytes, error).rule, rule, "{bytes:02x?}");
        }
    }
}
