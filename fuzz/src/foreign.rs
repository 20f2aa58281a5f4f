//! What servers put beside what is understood: a field outside of `content`, `finish_reason` and `error` may be anything
//! and changes nothing.

use haggle_engine::{
    Step, Stop,
    upstream::answer::{Answer, Asked},
};

use crate::cursor::Cursor;

/// Fields of an event, of its choice and of its delta that nobody needs.
const FIELDS: [&str; 18] = [
    "id",
    "object",
    "created",
    "model",
    "system_fingerprint",
    "service_tier",
    "x_groq",
    "provider",
    "annotations",
    "prompt_filter_results",
    "index",
    "logprobs",
    "native_finish_reason",
    "stop_reason",
    "token_ids",
    "role",
    "audio",
    "Content",
];
/// Those that may change the count, and neither the text nor the ending.
const COUNTS: [&str; 2] = ["usage", "timings"];
const REASONS: [&str; 8] =
    ["null", "\"\"", "\"stop\"", "\"length\"", "\"STOP\"", "\"else\"", "\"abort\"", "\"content_filter\""];

/// The same answer twice: as it is, and with anything beside it. Text and ending are equal; so is every step, if nothing
/// was said of tokens.
pub fn foreign(data: &[u8]) {
    let mut cursor = Cursor::new(data);
    let counts = cursor.bit();
    let (mut plain, mut odd) = (Vec::new(), Vec::new());
    for _ in 0..=cursor.below(8) {
        let event = Event {
            content: cursor.bit().then(|| text(&mut cursor)),
            reason: cursor.bit().then(|| REASONS[cursor.below(REASONS.len())]),
            is_error: cursor.byte() > 250,
        };
        event.write(&mut plain, Vec::new);
        event.write(&mut odd, || beside(&mut cursor, counts));
    }
    if cursor.bit() {
        plain.extend_from_slice(b"data: [DONE]\n\n");
        odd.extend_from_slice(b"data: [DONE]\n\n");
    }
    let (plain, odd) = (steps(&plain), steps(&odd));
    assert_eq!(told(&plain), told(&odd));
    if !counts {
        assert_eq!(plain, odd);
    }
}

struct Event {
    content: Option<Vec<u8>>,
    reason: Option<&'static str>,
    is_error: bool,
}

impl Event {
    /// Writes it, with more fields wherever there can be.
    fn write(&self, stream: &mut Vec<u8>, mut beside: impl FnMut() -> Vec<u8>) {
        let mut put = |bytes: &[u8]| stream.extend_from_slice(bytes);
        put(b"data: {");
        put(&beside());
        if self.is_error {
            put(br#""error":{"code":500,"message":"boom"},"#);
        }
        put(br#""choices":[{"#);
        put(&beside());
        put(br#""delta":{"#);
        put(&beside());
        if let Some(content) = &self.content {
            put(br#""content":"#);
            put(content);
            put(b",");
        }
        put(&beside());
        put(br#""_":0},"#);
        if let Some(reason) = self.reason {
            put(br#""finish_reason":"#);
            put(reason.as_bytes());
            put(b",");
        }
        put(&beside());
        put(br#""_":0}],"#);
        put(&beside());
        put(b"\"_\":0}\n\n");
    }
}

/// Some fields, each with a comma behind it.
fn beside(cursor: &mut Cursor<'_>, counts: bool) -> Vec<u8> {
    let mut fields = Vec::new();
    for _ in 0..cursor.below(3) {
        let names = if counts && cursor.bit() { &COUNTS[..] } else { &FIELDS[..] };
        fields.extend_from_slice(format!("\"{}\":", names[cursor.below(names.len())]).as_bytes());
        if names.len() == COUNTS.len() && cursor.bit() {
            fields.extend_from_slice(br#"{"prompt_tokens":"#);
            fields.extend(value(cursor, 0));
            fields.extend_from_slice(br#","completion_tokens":"#);
            fields.extend(value(cursor, 0));
            fields.push(b'}');
        } else {
            fields.extend(value(cursor, 0));
        }
        fields.push(b',');
    }
    fields
}

/// Any value that servers are known to write, and some that none has written yet.
fn value(cursor: &mut Cursor<'_>, depth: u32) -> Vec<u8> {
    let plain = ["null", "true", "false", "-1", "0", "1.5", "NaN", "-Infinity", "1e999", "\"7\"", "\"\""];
    match cursor.below(plain.len() + 4) {
        at if at < plain.len() => plain[at].into(),
        11 => text(cursor),
        12 if depth < 3 => {
            let values: Vec<Vec<u8>> = (0..cursor.below(4)).map(|_| value(cursor, depth + 1)).collect();
            [&b"["[..], &values.join(&b','), b"]"].concat()
        }
        13 if depth < 3 => {
            let value = value(cursor, depth + 1);
            [b"{", &*text(cursor), b":", &value, b"}"].concat()
        }
        _ => cursor.number().to_string().into(),
    }
}

/// A text of any bytes, and of halves of characters.
fn text(cursor: &mut Cursor<'_>) -> Vec<u8> {
    let mut text = vec![b'"'];
    for _ in 0..=cursor.below(6) {
        match cursor.byte() {
            byte @ (b'"' | b'\\') => text.extend([b'\\', byte]),
            byte @ 0..0x20 => text.extend_from_slice(format!("\\u{:04x}", 0xd7f8 + u32::from(byte)).as_bytes()),
            byte => text.push(byte),
        }
    }
    text.push(b'"');
    text
}

fn steps(stream: &[u8]) -> Vec<Step> {
    let mut answer = Answer::new(Asked { max_tokens: 1000, context: u32::MAX, is_text: false, prefix: None });
    answer.feed(stream);
    answer.end(None);
    std::iter::from_fn(|| answer.step()).collect()
}

/// The text and how it ended.
fn told(steps: &[Step]) -> (String, String) {
    let text = steps.iter().filter_map(|step| if let Step::Piece(piece) = step { Some(&*piece.text) } else { None });
    let end = match steps.last().unwrap() {
        Step::Done(done) if done.stop == Stop::Context => format!("{:?}", Stop::MaxTokens),
        Step::Done(done) => format!("{:?}", done.stop),
        other => format!("{other:?}"),
    };
    (text.collect(), end)
}
