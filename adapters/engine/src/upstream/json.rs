//! JSON as servers write it: read for what is wanted. Nothing is looked into that nobody asks for, so that nothing there
//! can be wrong: numbers that are none, halves of characters, any depth. No recursion, and no copy but of what is taken.

use std::borrow::Cow;

/// A value that has not been looked into.
#[derive(Clone, Copy, Debug)]
pub(super) struct Json<'a>(&'a [u8]);

/// Follows the brackets of an object or a list through bytes that come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Nesting {
    depth: usize,
    in_text: bool,
    escaped: bool,
}

impl Nesting {
    pub(super) fn push(&mut self, byte: u8) {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.in_text => self.escaped = true,
            b'"' => self.in_text = !self.in_text,
            _ if self.in_text => {}
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }

    /// Whether everything that was opened is closed.
    pub(super) fn is_closed(&self) -> bool {
        self.depth == 0 && !self.in_text
    }
}

impl<'a> Json<'a> {
    /// An object or a list, from its first bracket to its last and nothing else.
    pub(super) fn whole(bytes: &'a [u8]) -> Option<Self> {
        Self::first(bytes).filter(|(_, rest)| rest.trim_ascii().is_empty()).map(|(value, _)| value)
    }

    /// The first object or list, and what follows it.
    pub(super) fn first(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let bytes = bytes.trim_ascii_start();
        let (value, rest) = bytes.split_at(matches!(bytes, [b'{' | b'[', ..]).then(|| nested(bytes)).flatten()?);
        Some((Self(value), rest))
    }

    /// As it was written.
    pub(super) fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// The value of a field of an object; of several with this name the last.
    pub(super) fn field(self, name: &str) -> Option<Self> {
        let is_named = |key: &Self| key.text().is_some_and(|key| *key == *name.as_bytes());
        self.fields().filter(|(key, _)| is_named(key)).last().map(|(_, value)| value)
    }

    /// The first of these fields that has a value.
    pub(super) fn any(self, names: &[&str]) -> Option<Self> {
        names.iter().filter_map(|name| self.field(name)).find(|value| !value.is_null())
    }

    /// The values of a list; none, of anything else.
    pub(super) fn items(self) -> impl Iterator<Item = Self> {
        let mut rest = self.0.strip_prefix(b"[").unwrap_or_default();
        std::iter::from_fn(move || next(&mut rest))
    }

    /// A text's bytes. Not necessarily UTF-8: what a server cuts into two texts may be halves of a character, and a half
    /// that is written as `\u` and four digits is encoded as if it were a character.
    pub(super) fn text(self) -> Option<Cow<'a, [u8]>> {
        let inside = self.0.strip_prefix(b"\"")?;
        let inside = inside.strip_suffix(b"\"").unwrap_or(inside);
        Some(if inside.contains(&b'\\') { unescape(inside).into() } else { inside.into() })
    }

    /// A text, with `�` for what is none.
    pub(super) fn lossy(self) -> Option<String> {
        self.text().map(|text| String::from_utf8_lossy(&text).into_owned())
    }

    /// A count: a number that is none below 0, also with a fraction or as a text.
    pub(super) fn count(self) -> Option<u64> {
        let text = self.0.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(self.0);
        let text = str::from_utf8(text.trim_ascii()).ok()?;
        let float = || text.parse::<f64>().ok().filter(|number| (0.0..9e15).contains(number));
        // In range: see above.
        text.parse().ok().or_else(|| float().map(|number| number as u64))
    }

    /// A number as it is written.
    pub(super) fn number(self) -> Option<&'a [u8]> {
        matches!(self.0, [b'0'..=b'9' | b'-', ..]).then_some(self.0)
    }

    pub(super) fn is_object(self) -> bool {
        self.0.starts_with(b"{")
    }

    pub(super) fn is_list(self) -> bool {
        self.0.starts_with(b"[")
    }

    /// An object or a list.
    pub(super) fn is_open(self) -> bool {
        self.is_object() || self.is_list()
    }

    pub(super) fn is_null(self) -> bool {
        self.0 == b"null"
    }

    /// Whether it says nothing: null, false, 0, an empty text, and an object or list with nothing else in it.
    pub(super) fn is_nothing(self) -> bool {
        let is_empty = |value: Self| {
            matches!(value.0, b"" | b"null" | b"false" | b"0" | b"\"\"")
                || matches!(value.0, [b'{' | b'[', inside @ .., _] if inside.trim_ascii().is_empty())
        };
        let members = self.fields().map(|(_, value)| value).chain(self.items());
        is_empty(self) || (self.is_object() || self.is_list()) && members.into_iter().all(is_empty)
    }

    pub(super) fn fields(self) -> impl Iterator<Item = (Self, Self)> {
        let mut rest = self.0.strip_prefix(b"{").unwrap_or_default();
        std::iter::from_fn(move || {
            loop {
                let key = next(&mut rest)?;
                if let Some(value) = rest.trim_ascii_start().strip_prefix(b":") {
                    rest = value.trim_ascii_start();
                    return Some((key, next(&mut rest)?));
                }
            }
        })
    }
}

/// Takes the next value, whatever stands before it. `None` at the closing bracket, or where nothing is left.
fn next<'a>(rest: &mut &'a [u8]) -> Option<Json<'a>> {
    let start = rest.iter().position(|byte| !byte.is_ascii_whitespace() && !matches!(byte, b',' | b':'))?;
    let from = &rest[start..];
    let end = match from {
        [b'}' | b']', ..] => return None,
        [b'{' | b'[' | b'"', ..] => nested(from).unwrap_or(from.len()),
        _ => from.iter().position(|byte| matches!(byte, b',' | b'}' | b']' | b':')).unwrap_or(from.len()),
    };
    let (value, after) = from.split_at(end);
    *rest = after;
    Some(Json(value.trim_ascii()))
}

/// Where the text, object or list ends that begins here.
fn nested(bytes: &[u8]) -> Option<usize> {
    let mut nesting = Nesting::default();
    let ends = |byte: &u8| {
        nesting.push(*byte);
        nesting.is_closed()
    };
    bytes.iter().position(ends).map(|at| at + 1)
}

fn unescape(mut text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    while let Some(at) = text.iter().position(|byte| *byte == b'\\') {
        plain.extend_from_slice(&text[..at]);
        let Some((escape, rest)) = text[at + 1..].split_first() else { return plain };
        text = rest;
        match escape {
            b'n' => plain.push(b'\n'),
            b't' => plain.push(b'\t'),
            b'r' => plain.push(b'\r'),
            b'b' => plain.push(8),
            b'f' => plain.push(12),
            b'u' => match unit(text) {
                Some(unit) => {
                    text = &text[4..];
                    push_unit(&mut plain, unit);
                }
                None => plain.push(b'u'),
            },
            other => plain.push(*other),
        }
    }
    plain.extend_from_slice(text);
    plain
}

/// Four hexadecimal digits.
fn unit(text: &[u8]) -> Option<u16> {
    let digits = text.get(..4).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    u16::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

/// Adds what a unit of UTF-16 stands for; a half of a character in three bytes, as if it were one.
fn push_unit(plain: &mut Vec<u8>, unit: u16) {
    match char::from_u32(unit.into()) {
        Some(c) => plain.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        None => plain.extend_from_slice(&[0xed, 0x80 | (unit >> 6) as u8 & 0x3f, 0x80 | unit as u8 & 0x3f]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Json<'_> {
        Json::whole(text.as_bytes()).expect(text)
    }

    #[test]
    fn what_is_wanted_is_found_whatever_stands_beside_it() {
        let odd =
            r#" {"a":NaN,"b":-Infinity, "c" : {"d":[1,{"e":"}]"}]},,"f":"\ud83d","x":1,"a\u0062c":"\"q\\","x": 2,} "#;
        let json = whole(odd);
        assert_eq!(json.field("x").and_then(Json::count), Some(2), "the last of two");
        assert_eq!(json.field("abc").and_then(Json::lossy).as_deref(), Some("\"q\\"));
        assert_eq!(json.field("c").and_then(|c| c.field("d")).map(|d| d.items().count()), Some(2));
        assert_eq!(json.field("f").and_then(Json::text).as_deref(), Some(&[0xed, 0xa0, 0xbd][..]));
        assert!(json.field("none").is_none() && json.field("a").is_some_and(|a| a.count().is_none()));
        let deep = format!("{{\"a\":{}{},\"x\":1}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(whole(&deep).field("x").and_then(Json::count), Some(1));
        for broken in ["", "1", "\"a\"", "{\"a\":1", "{}{}", "{\"a\":\"}", "]", "x{}"] {
            assert!(Json::whole(broken.as_bytes()).is_none(), "{broken}");
        }
    }

    #[test]
    fn counts_come_in_many_forms() {
        let json = whole(r#"[7, 7.0, "7", " 7 ", 7.9, -1, "-1", null, 1e99, "", {}, true, 18446744073709551615]"#);
        let counts: Vec<Option<u64>> = json.items().map(Json::count).collect();
        let seven = Some(7);
        let none = [None; 7];
        assert_eq!(counts, [&[seven; 5], &none[..], &[Some(u64::MAX)]].concat());
    }

    #[test]
    fn nothing_is_nothing() {
        for nothing in ["null", "\"\"", "false", "0", "{}", "[ ]", r#"{"message":null,"code":""}"#, "[null,{}]"] {
            assert!(whole(&format!("[{nothing}]")).items().all(Json::is_nothing), "{nothing}");
        }
        for something in ["true", "\"a\"", "1", r#"{"message":"m"}"#, r#"[{"a":1}]"#, "nul"] {
            assert!(!whole(&format!("[{something}]")).items().any(Json::is_nothing), "{something}");
        }
    }
}
