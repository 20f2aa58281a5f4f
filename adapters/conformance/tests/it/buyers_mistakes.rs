//! Mistakes that a requester in another language makes.

use haggle_core::{
    StreamId,
    wire::{
        Message, encode,
        message::{Accepted, Counter},
    },
};
use sha2::{Digest, Sha256};

use crate::mistake::{Mistake, Notes, edit, read};

type Payloads = Vec<Vec<u8>>;

/// Each with the rule that it breaks.
pub(crate) const BUYERS: &[Mistake] = &[
    Mistake { name: "passes over reserved fields", rule: "E3", hears: without_signature, ..Mistake::NONE },
    Mistake {
        name: "passes over what comes before Accepted",
        rule: "C1",
        hears: nothing_before_accepted,
        ..Mistake::NONE
    },
    Mistake { name: "bears any number of Keepalives", rule: "C2", hears: no_keepalive, ..Mistake::NONE },
    Mistake {
        name: "says twice what it would bid once",
        rule: "N3",
        hears: notes_offer,
        says: one_bid_more,
        ..Mistake::NONE
    },
    Mistake {
        name: "takes a price that rose after its bid",
        rule: "N4",
        hears: lowers,
        says: awards_what_is_asked,
        ..Mistake::NONE
    },
    Mistake { name: "awards at a price of its own", rule: "A2", says: a_unit_more, ..Mistake::NONE },
    Mistake { name: "names every attempt alike", rule: "A3", says: first_attempt, ..Mistake::NONE },
    Mistake { name: "counts the body's offsets from 1", rule: "A4", says: offset_by_one, ..Mistake::NONE },
    Mistake {
        name: "sends the body without waiting",
        rule: "A5",
        limits: |limits| limits.body_unasked = 1 << 20,
        ..Mistake::NONE
    },
    Mistake { name: "does not compare the terms", rule: "A8", hears: own_terms, says: notes_award, ..Mistake::NONE },
    Mistake { name: "takes any window", rule: "A9", hears: own_window, says: notes_award, ..Mistake::NONE },
    Mistake { name: "does not look at seq", rule: "W1", hears: own_seq, ..Mistake::NONE },
    Mistake { name: "does not count tokens", rule: "W2", hears: honest_count, ..Mistake::NONE },
    Mistake {
        name: "does not count what it did not acknowledge",
        rule: "W4",
        hears: widest_window,
        says: notes_award,
        ..Mistake::NONE
    },
    Mistake { name: "acknowledges the last token's successor", rule: "W5", says: ack_too_far, ..Mistake::NONE },
    Mistake { name: "acknowledges at the end only", rule: "W6", says: no_ack, ..Mistake::NONE },
    Mistake { name: "does not hash the text", rule: "X1", hears: own_hash, ..Mistake::NONE },
    Mistake { name: "does not acknowledge the End", rule: "X3", says: no_last_ack, ..Mistake::NONE },
    Mistake { name: "says Cancel once", rule: "K3", says: cancel_once, ..Mistake::NONE },
    Mistake { name: "resumes at the last token it has", rule: "R1", says: resume_too_early, ..Mistake::NONE },
    Mistake { name: "changes an Award that it repeats", rule: "R3", says: another_award, ..Mistake::NONE },
    Mistake { name: "keeps its epoch", rule: "R4", says: same_epoch, ..Mistake::NONE },
];

/// What is noted beside the streams.
const NOTE: StreamId = StreamId(u64::MAX);

fn same(payload: &[u8]) -> Payloads {
    vec![payload.to_vec()]
}

fn without_signature(_: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    let Some(signed) = payload.strip_suffix(b"\x14\x41\x00") else { return same(payload) };
    let mut unsigned = signed.to_vec();
    unsigned[2] -= 1;
    vec![unsigned]
}

fn nothing_before_accepted(notes: &mut Notes, stream: StreamId, payload: &[u8]) -> Payloads {
    match read(payload) {
        Message::Accepted(_) => drop(notes.kept.insert(stream, Vec::new())),
        Message::Chunk { .. } if !notes.kept.contains_key(&stream) => return Vec::new(),
        _ => {}
    }
    same(payload)
}

fn no_keepalive(_: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    let is_it = payload == b"\x82\x0b\xa0";
    if is_it { Vec::new() } else { same(payload) }
}

fn notes_offer(notes: &mut Notes, stream: StreamId, payload: &[u8]) -> Payloads {
    if matches!(read(payload), Message::Offer(_)) {
        notes.kept.insert(stream, payload.to_vec());
    }
    same(payload)
}

fn one_bid_more(notes: &mut Notes, stream: StreamId, payload: &[u8]) -> Payloads {
    let last = notes.kept.get(&stream).cloned().unwrap_or_default();
    match (read(payload), read(&last)) {
        (Message::Award(_), Message::Offer(offer)) => {
            let counter = Counter { rfq: offer.rfq, offer: offer.offer, tariff: offer.tariff };
            let mut bid = Vec::new();
            encode(&Message::Counter(counter), &mut bid);
            vec![bid, payload.to_vec()]
        }
        _ => same(payload),
    }
}

/// Every offer looks as cheap as the first one.
fn lowers(notes: &mut Notes, stream: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| {
        if let Message::Offer(offer) = message {
            let first = notes.kept.entry(stream).or_insert_with(|| payload.to_vec());
            let asked = offer.tariff;
            if let Message::Offer(first) = read(first) {
                offer.tariff = first.tariff;
            }
            notes.count = asked.price_out;
        }
    })
}

fn awards_what_is_asked(notes: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| {
        if let Message::Award(award) = message
            && notes.count > 0
        {
            award.tariff.price_out = notes.count;
        }
    })
}

fn a_unit_more(_: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| {
        if let Message::Award(award) = message {
            award.tariff.fee_in += 1;
        }
    })
}

fn first_attempt(_: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| {
        if let Message::Award(award) = message {
            award.attempt = 1;
        }
    })
}

fn offset_by_one(_: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| {
        if let Message::Body { offset, .. } = message {
            *offset += 1;
        }
    })
}

fn notes_award(notes: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    if matches!(read(payload), Message::Award(_)) {
        notes.kept.insert(NOTE, payload.to_vec());
    }
    same(payload)
}

/// Accepted as it should have come for the Award that was sent.
fn accepted(notes: &Notes, payload: &[u8], change: fn(&mut Accepted, &Accepted)) -> Payloads {
    let award = notes.kept.get(&NOTE).cloned().unwrap_or_default();
    edit(payload, |message| {
        if let (Message::Accepted(accepted), Message::Award(asked)) = (message, read(&award)) {
            let (window_tokens, window_bytes) = (asked.window_tokens, asked.window_bytes);
            let terms = Sha256::digest(&award).into();
            let wanted = Accepted { terms, body_credit: asked.body_bytes, window_tokens, window_bytes, eta: None };
            change(accepted, &wanted);
        }
    })
}

fn own_terms(notes: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    accepted(notes, payload, |accepted, wanted| accepted.terms = wanted.terms)
}

fn own_window(notes: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    accepted(notes, payload, |accepted, wanted| {
        accepted.window_tokens = accepted.window_tokens.min(wanted.window_tokens);
    })
}

fn widest_window(notes: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    accepted(notes, payload, |accepted, wanted| {
        accepted.window_tokens = wanted.window_tokens;
    })
}

fn own_seq(notes: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| {
        if let Message::Chunk { seq, n, .. } = message {
            *seq = notes.count;
            notes.count += u64::from(*n);
        }
    })
}

fn honest_count(_: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| {
        if let Message::Chunk { n, .. } = message {
            *n = 1;
        }
    })
}

fn ack_too_far(_: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| {
        if let Message::Ack { next, end: false, .. } = message {
            *next += 1;
        }
    })
}

fn no_ack(_: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    if matches!(read(payload), Message::Ack { end: false, .. }) { Vec::new() } else { same(payload) }
}

fn own_hash(notes: &mut Notes, stream: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| match message {
        Message::Chunk { text, .. } => notes.kept.entry(stream).or_default().extend_from_slice(text.as_bytes()),
        Message::End(end) => end.hash = Sha256::digest(notes.kept.entry(stream).or_default()).into(),
        _ => {}
    })
}

fn no_last_ack(_: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    if matches!(read(payload), Message::Ack { end: true, .. }) { Vec::new() } else { same(payload) }
}

fn cancel_once(notes: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    if matches!(read(payload), Message::Cancel { .. }) {
        notes.count += 1;
        if notes.count > 1 {
            return Vec::new();
        }
    }
    same(payload)
}

fn resume_too_early(_: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| {
        if let Message::Resume { next, .. } = message {
            *next = next.saturating_sub(1);
        }
    })
}

fn another_award(_: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| {
        if let Message::Award(award) = message
            && award.epoch > 1
        {
            award.max_tokens += 1;
        }
    })
}

fn same_epoch(_: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| match message {
        Message::Award(award) => award.epoch = 1,
        Message::Resume { epoch, .. } => *epoch = 1,
        _ => {}
    })
}
