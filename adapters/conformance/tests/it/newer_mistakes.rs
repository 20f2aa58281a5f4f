//! Mistakes with what came in the second version: requests and features, channels, Working, ways to pay.

use haggle_core::{
    StreamId,
    wire::{
        Message, encode,
        message::{BodyKind, Channel, EndReason, Phase},
    },
};
use sha2::{Digest, Sha256};

use crate::{
    mistake::{Mistake, Notes, edit, read},
    sellers_mistakes::{notes_award, own_terms},
};

type Payloads = Vec<Vec<u8>>;

/// A provider's.
pub(crate) const SELLERS: &[Mistake] = &[
    Mistake { name: "takes any features", rule: "A13", hears: no_features, says: own_terms, ..Mistake::NONE },
    Mistake { name: "takes requests, and says that it does not", rule: "A13", says: no_requests, ..Mistake::NONE },
    Mistake { name: "computes any request", rule: "A4", takes_any_request: true, ..Mistake::NONE },
    Mistake { name: "continues requests", rule: "B5", hears: no_prefix_of_a_request, ..Mistake::NONE },
    Mistake { name: "counts each channel for itself", rule: "W1", says: seq_of_the_channel, ..Mistake::NONE },
    Mistake { name: "sends two objects of a call at once", rule: "W2", says: two_objects, ..Mistake::NONE },
    Mistake { name: "hashes the text, and no channels", rule: "X1", says: hash_of_the_text, ..Mistake::NONE },
    Mistake { name: "does not count thoughts", rule: "X1", says: no_thoughts_in_end, ..Mistake::NONE },
    Mistake { name: "forgets the channel over a cut", rule: "R1", says: text_after_resumed, ..Mistake::NONE },
    Mistake { name: "says what it does before it accepts", rule: "C1", says: works_first, ..Mistake::NONE },
    Mistake { name: "tells every step of its work", rule: "C7", says: works_hard, ..Mistake::NONE },
    Mistake { name: "passes over ways to pay", rule: "S1", hears: no_choice, says: own_terms, ..Mistake::NONE },
    Mistake { name: "passes over vouchers", rule: "S2", hears: no_voucher, ..Mistake::NONE },
    Mistake { name: "forgets who waits for a slot", rule: "C6", says: nothing_after_waiting, ..Mistake::NONE },
];

/// A requester's.
pub(crate) const BUYERS: &[Mistake] = &[
    Mistake { name: "awards a request without its features", rule: "A13", says: awards_no_features, ..Mistake::NONE },
    Mistake { name: "knows no Working", rule: "C7", hears: no_working, ..Mistake::NONE },
    Mistake { name: "takes Working before Accepted", rule: "C1", hears: no_early_working, ..Mistake::NONE },
    Mistake { name: "resets when somebody works on", rule: "C1", hears: no_late_working, ..Mistake::NONE },
    Mistake { name: "bears any number of Workings", rule: "C2", hears: works_once, ..Mistake::NONE },
    Mistake { name: "takes every channel for text", rule: "X1", hears: text_only, ..Mistake::NONE },
    Mistake { name: "believes any hash of thoughts", rule: "X1", hears: own_hash, ..Mistake::NONE },
    Mistake { name: "takes unknown channels", rule: "E3", hears: a_thought_for_the_unknown, ..Mistake::NONE },
    Mistake { name: "drops byte order marks", rule: "E3", hears: no_byte_order_mark, ..Mistake::NONE },
    Mistake { name: "does not count thoughts", rule: "W2", hears: sixteen, ..Mistake::NONE },
    Mistake { name: "takes any figures of thoughts", rule: "B9", hears: fewer_thoughts, ..Mistake::NONE },
    Mistake { name: "knows no receipts", rule: "S2", hears: no_receipt, ..Mistake::NONE },
    Mistake { name: "asks again after what was filtered", rule: "X2", hears: failed_for_filtered, ..Mistake::NONE },
    Mistake { name: "orders all again of what it has continued", rule: "R9", says: orders_all, ..Mistake::NONE },
    Mistake { name: "has thoughts continued", rule: "R9", hears: text_that_ends, ..Mistake::NONE },
];

/// What no stream may carry.
const NONSENSE: &[u8] = b"\xff";
/// What is noted beside the streams.
const NOTE: StreamId = StreamId(u64::MAX);

fn same(payload: &[u8]) -> Payloads {
    vec![payload.to_vec()]
}

fn payload(message: &Message<'_>) -> Vec<u8> {
    let mut payload = Vec::new();
    encode(message, &mut payload);
    payload
}

const fn works(phase: Phase) -> Message<'static> {
    Message::Working { phase, done: None, of: None, eta: None }
}

fn no_features(notes: &mut Notes, stream: StreamId, payload: &[u8]) -> Payloads {
    notes_award(notes, stream, payload);
    edit(payload, |message| {
        if let Message::Award(award) = message {
            award.features = None;
        }
    })
}

fn no_requests(_: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| {
        if let Message::Advert(advert) = message {
            advert.models.iter_mut().for_each(|model| model.features = None);
        }
    })
}

fn no_prefix_of_a_request(_: &mut Notes, _: StreamId, bytes: &[u8]) -> Payloads {
    match minicbor::decode::<Message<'_>>(bytes) {
        Ok(Message::Award(mut award)) if award.kind == BodyKind::Request => {
            (award.prefix_bytes, award.prefix_tokens) = (0, 0);
            vec![payload(&Message::Award(award))]
        }
        _ => same(bytes),
    }
}

/// As if every channel had a count of its own.
fn seq_of_the_channel(notes: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| match message {
        Message::Accepted(_) => notes.count = 0,
        Message::Chunk { channel: Some(Channel::Thought), n, .. } => notes.count += u64::from(*n),
        Message::Chunk { seq, channel: Some(Channel::ToolCall), .. } => *seq = seq.saturating_sub(notes.count),
        _ => {}
    })
}

fn two_objects(_: &mut Notes, _: StreamId, bytes: &[u8]) -> Payloads {
    match read(bytes) {
        Message::Chunk { seq, n, text, ids, channel: channel @ Some(Channel::ToolCall) } => {
            vec![payload(&Message::Chunk { seq, n, text: &text.repeat(2), ids, channel })]
        }
        _ => same(bytes),
    }
}

fn hash_of_the_text(notes: &mut Notes, stream: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| match message {
        Message::Accepted(_) => drop(notes.kept.insert(stream, Vec::new())),
        Message::Chunk { text, .. } => notes.kept.entry(stream).or_default().extend_from_slice(text.as_bytes()),
        Message::End(end) if end.thought.is_some() => {
            end.hash = Sha256::digest(notes.kept.entry(stream).or_default()).into()
        }
        _ => {}
    })
}

fn no_thoughts_in_end(_: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| {
        if let Message::End(end) = message {
            end.tokens -= end.thought.take().unwrap_or(0);
        }
    })
}

fn text_after_resumed(notes: &mut Notes, stream: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| match message {
        Message::Resumed { .. } => drop(notes.kept.insert(stream, Vec::new())),
        Message::Chunk { channel, .. } if notes.kept.contains_key(&stream) => *channel = None,
        _ => {}
    })
}

fn works_first(_: &mut Notes, _: StreamId, bytes: &[u8]) -> Payloads {
    match read(bytes) {
        Message::Accepted(_) => vec![payload(&works(Phase::Queued)), bytes.to_vec()],
        _ => same(bytes),
    }
}

fn works_hard(_: &mut Notes, _: StreamId, bytes: &[u8]) -> Payloads {
    let mut said = same(bytes);
    if matches!(read(bytes), Message::Accepted(_)) {
        said.extend((0..20).map(|_| payload(&works(Phase::Reading))));
    }
    said
}

fn no_choice(notes: &mut Notes, stream: StreamId, payload: &[u8]) -> Payloads {
    notes_award(notes, stream, payload);
    edit(payload, |message| {
        if let Message::Award(award) = message {
            (award.choice, award.voucher) = (None, None);
        }
    })
}

fn no_voucher(_: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| {
        if let Message::Ack { voucher, .. } | Message::Cancel { voucher, .. } = message {
            *voucher = None;
        }
    })
}

fn nothing_after_waiting(notes: &mut Notes, stream: StreamId, payload: &[u8]) -> Payloads {
    match read(payload) {
        Message::Working { phase: Phase::Queued, .. } => drop(notes.kept.insert(stream, Vec::new())),
        Message::Chunk { .. } | Message::End(_) if notes.kept.contains_key(&stream) => return Vec::new(),
        _ => {}
    }
    same(payload)
}

fn awards_no_features(_: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| {
        if let Message::Award(award) = message {
            award.features = None;
        }
    })
}

fn orders_all(_: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| {
        if let Message::Award(award) = message {
            award.max_tokens = award.max_tokens.max(16);
        }
    })
}

fn no_working(_: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    if matches!(read(payload), Message::Working { .. }) { same(NONSENSE) } else { same(payload) }
}

fn no_early_working(notes: &mut Notes, stream: StreamId, payload: &[u8]) -> Payloads {
    match read(payload) {
        Message::Accepted(_) => drop(notes.kept.insert(stream, Vec::new())),
        Message::Working { .. } if !notes.kept.contains_key(&stream) => return Vec::new(),
        _ => {}
    }
    same(payload)
}

fn no_late_working(notes: &mut Notes, stream: StreamId, payload: &[u8]) -> Payloads {
    match read(payload) {
        Message::Chunk { .. } => drop(notes.kept.insert(stream, Vec::new())),
        Message::Working { .. } if notes.kept.contains_key(&stream) => return same(NONSENSE),
        _ => {}
    }
    same(payload)
}

fn works_once(notes: &mut Notes, stream: StreamId, payload: &[u8]) -> Payloads {
    let is_again = matches!(read(payload), Message::Working { .. }) && notes.kept.insert(stream, Vec::new()).is_some();
    if is_again { Vec::new() } else { same(payload) }
}

fn text_only(_: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| {
        if let Message::Chunk { channel, .. } = message {
            *channel = None;
        }
    })
}

/// The hash as it should be, whatever is said.
fn own_hash(notes: &mut Notes, stream: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| match message {
        Message::Chunk { text, channel: Some(Channel::Thought), .. } => {
            let thoughts = notes.kept.entry(stream).or_insert_with(|| vec![0xff, 1]);
            thoughts.extend_from_slice(text.as_bytes());
        }
        Message::End(end) if notes.kept.contains_key(&stream) => {
            end.hash = Sha256::digest(&notes.kept[&stream]).into();
        }
        _ => {}
    })
}

fn a_thought_for_the_unknown(_: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    let mut known = payload.to_vec();
    if let [_, 0x0a, .., 4, channel @ 4] = &mut known[..] {
        *channel = 1;
    }
    vec![known]
}

fn no_byte_order_mark(_: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| {
        if let Message::Chunk { text, .. } = message {
            *text = text.strip_prefix('\u{feff}').filter(|text| !text.is_empty()).unwrap_or(text);
        }
    })
}

/// More than were ordered are passed over.
fn sixteen(_: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    if matches!(read(payload), Message::Chunk { seq: 16.., .. }) { Vec::new() } else { same(payload) }
}

fn fewer_thoughts(_: &mut Notes, _: StreamId, bytes: &[u8]) -> Payloads {
    match minicbor::decode::<Message<'_>>(bytes) {
        Ok(Message::End(mut end)) => {
            end.thought = end.thought.map(|thought| thought.min(end.tokens));
            vec![payload(&Message::End(end))]
        }
        _ => same(bytes),
    }
}

fn no_receipt(_: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    match read(payload) {
        Message::End(end) if end.receipt.is_some() => same(NONSENSE),
        _ => same(payload),
    }
}

fn failed_for_filtered(_: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| {
        if let Message::End(end) = message
            && end.reason == EndReason::Filtered
        {
            end.reason = EndReason::Shutdown;
        }
    })
}

/// Every channel is text, and was hashed as text.
fn text_that_ends(notes: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| match message {
        Message::Chunk { text, channel, .. } => {
            *channel = None;
            notes.kept.entry(NOTE).or_default().extend_from_slice(text.as_bytes());
        }
        Message::End(end) => end.hash = Sha256::digest(notes.kept.entry(NOTE).or_default()).into(),
        _ => {}
    })
}
