//! Mistakes that a provider in another language makes.

use haggle_core::{
    StreamId,
    wire::{
        Message, encode,
        message::{Award, DeclineReason, EndReason},
    },
};
use sha2::{Digest, Sha256};

use crate::mistake::{Mistake, Notes, edit, framed, read};

type Payloads = Vec<Vec<u8>>;

/// Each with the rule that it breaks.
pub(crate) const SELLERS: &[Mistake] = &[
    Mistake { name: "takes packets for frames", rule: "F3", takes: whole_frames, ..Mistake::NONE },
    Mistake { name: "takes numbers in any form", rule: "E1", hears: leniently, ..Mistake::NONE },
    Mistake { name: "passes over reserved fields", rule: "E3", hears: without_signature, ..Mistake::NONE },
    Mistake { name: "passes over what follows a message", rule: "E4", hears: without_rest, ..Mistake::NONE },
    Mistake {
        name: "answers an Rfq in mid-answer with silence",
        rule: "C1",
        hears: no_rfq_in_mid_answer,
        ..Mistake::NONE
    },
    Mistake { name: "bears any number of Acks", rule: "C2", hears: acks_once, ..Mistake::NONE },
    Mistake { name: "rounds the fee down", rule: "M2", hears: a_unit_dearer, ..Mistake::NONE },
    Mistake {
        name: "goes on haggling at the third bid",
        rule: "N3",
        says: offers_instead_of_refusing,
        ..Mistake::NONE
    },
    Mistake { name: "leaves an offer open that was bid on", rule: "N3", hears: rfq_for_counter, ..Mistake::NONE },
    Mistake { name: "asks more after a bid", rule: "N4", hears: notes_rfq, says: raises, ..Mistake::NONE },
    Mistake {
        name: "takes any offer's id for its posted price",
        rule: "N5",
        hears: no_offer,
        says: own_terms,
        ..Mistake::NONE
    },
    Mistake { name: "says stale and no more", rule: "A2", says: no_offer_in_decline, ..Mistake::NONE },
    Mistake { name: "counts pieces instead of reading their offset", rule: "A4", hears: own_offsets, ..Mistake::NONE },
    Mistake { name: "credits the rest of the body only", rule: "A5", says: credits_the_rest, ..Mistake::NONE },
    Mistake {
        name: "resets what brings a body after Decline",
        rule: "A7",
        hears: no_body_after_decline,
        says: notes_decline,
        ..Mistake::NONE
    },
    Mistake {
        name: "hashes the length of the frame, too",
        rule: "A8",
        hears: notes_award,
        says: terms_of_the_frame,
        ..Mistake::NONE
    },
    Mistake { name: "grants the window that it likes", rule: "A9", says: own_window, ..Mistake::NONE },
    Mistake { name: "counts from 0 after a prefix", rule: "W1", hears: notes_prefix, says: from_zero, ..Mistake::NONE },
    Mistake { name: "counts a token for each byte, and one more", rule: "W2", says: pads, ..Mistake::NONE },
    Mistake { name: "has no window", rule: "W4", hears: widest_window, says: own_terms, ..Mistake::NONE },
    Mistake { name: "takes any Ack", rule: "W5", hears: clamps_acks, says: notes_tokens, ..Mistake::NONE },
    Mistake { name: "says no Keepalive", rule: "W6", says: no_keepalive, ..Mistake::NONE },
    Mistake { name: "hashes the attempt without its prefix", rule: "X1", says: hash_of_the_attempt, ..Mistake::NONE },
    Mistake { name: "says a word after End", rule: "X2", says: keepalive_after_end, ..Mistake::NONE },
    Mistake { name: "takes Ack {end} before End for an Ack", rule: "X3", hears: end_is_false, ..Mistake::NONE },
    Mistake { name: "does not confirm a Cancel", rule: "K2", says: no_end_cancelled, ..Mistake::NONE },
    Mistake { name: "resumes from the beginning", rule: "R1", says: resumed_from_zero, ..Mistake::NONE },
    Mistake {
        name: "goes on where it is after what was acknowledged",
        rule: "R2",
        hears: resumes_later,
        says: notes_tokens,
        ..Mistake::NONE
    },
    Mistake {
        name: "asks for a body that it has",
        rule: "R3",
        hears: notes_award,
        says: credits_again,
        ..Mistake::NONE
    },
    Mistake { name: "takes any epoch", rule: "R4", hears: newest_epoch, ..Mistake::NONE },
    Mistake { name: "knows jobs by their names alone", rule: "R5", knows_no_peers: true, ..Mistake::NONE },
    Mistake { name: "leaves streams open that are over", rule: "C5", stays: true, ..Mistake::NONE },
];

fn same(payload: &[u8]) -> Payloads {
    vec![payload.to_vec()]
}

fn whole_frames(_: &mut Notes, _: StreamId, bytes: &[u8]) -> Vec<u8> {
    let mut at = 0;
    while let Some([high, low]) = bytes.get(at..at + 2) {
        let end = at + 2 + usize::from(u16::from_be_bytes([*high, *low]));
        if end > bytes.len() {
            break;
        }
        at = end;
    }
    // An impossible length is told all the same.
    if bytes.len() == 2 { bytes.to_vec() } else { bytes[..at].to_vec() }
}

fn leniently(_: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    let Ok(message) = minicbor::decode::<Message<'_>>(payload) else { return same(payload) };
    let mut mended = Vec::new();
    encode(&message, &mut mended);
    vec![mended]
}

fn without_signature(_: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    let Some(signed) = payload.strip_suffix(b"\x14\x41\x00") else { return same(payload) };
    let mut unsigned = signed.to_vec();
    unsigned[4] -= 1;
    vec![unsigned]
}

fn without_rest(_: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    let describe = b"\x82\x00\xa0";
    if payload.starts_with(describe) { same(describe) } else { same(payload) }
}

fn no_rfq_in_mid_answer(notes: &mut Notes, stream: StreamId, payload: &[u8]) -> Payloads {
    match read(payload) {
        Message::Award(_) => drop(notes.kept.insert(stream, Vec::new())),
        Message::Rfq(_) if notes.kept.contains_key(&stream) => return Vec::new(),
        _ => {}
    }
    same(payload)
}

fn acks_once(notes: &mut Notes, stream: StreamId, payload: &[u8]) -> Payloads {
    let is_ack = matches!(read(payload), Message::Ack { end: false, .. });
    if is_ack && notes.kept.insert(stream, payload.to_vec()).is_some_and(|last| last == payload) {
        return Vec::new();
    }
    same(payload)
}

fn a_unit_dearer(_: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| {
        if let Message::Award(award @ Award { offer: None, .. }) = message {
            award.tariff.fee_in += 1;
        }
    })
}

fn offers_instead_of_refusing(_: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| {
        if let Message::Decline(decline) = message
            && decline.reason == DeclineReason::TooCheap
            && let Some(offer) = decline.offer.take()
        {
            *message = Message::Offer(offer);
        }
    })
}

fn rfq_for_counter(notes: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    match read(payload) {
        Message::Rfq(_) => drop(notes.kept.insert(StreamId(u64::MAX), payload.to_vec())),
        Message::Counter(_) if notes.kept.contains_key(&StreamId(u64::MAX)) => {
            return vec![notes.kept[&StreamId(u64::MAX)].clone()];
        }
        _ => {}
    }
    same(payload)
}

fn notes_rfq(notes: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    match read(payload) {
        Message::Rfq(_) => notes.count = 0,
        Message::Counter(_) => notes.count += 1,
        _ => {}
    }
    same(payload)
}

fn raises(notes: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    let bids = notes.count;
    edit(payload, |message| {
        if let Message::Offer(offer) = message
            && bids > 0
        {
            offer.tariff.price_out += 1_000_000 * bids;
        }
    })
}

/// The posted price, whatever was offered.
fn no_offer(notes: &mut Notes, stream: StreamId, payload: &[u8]) -> Payloads {
    notes_award(notes, stream, payload);
    edit(payload, |message| {
        if let Message::Award(award) = message {
            award.offer = None;
        }
    })
}

/// The terms of the Award as it came, not as it was understood.
pub(crate) fn own_terms(notes: &mut Notes, stream: StreamId, payload: &[u8]) -> Payloads {
    let award = notes.kept.get(&stream).cloned().unwrap_or_default();
    edit(payload, |message| {
        if let (Message::Accepted(accepted), Message::Award(asked)) = (message, read(&award)) {
            accepted.terms = Sha256::digest(&award).into();
            accepted.window_tokens = asked.window_tokens;
        }
    })
}

fn no_offer_in_decline(_: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| {
        if let Message::Decline(decline) = message
            && decline.reason == DeclineReason::Stale
        {
            decline.offer = None;
        }
    })
}

fn own_offsets(notes: &mut Notes, stream: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| match message {
        Message::Award(_) => drop(notes.kept.insert(stream, Vec::new())),
        Message::Body { offset, bytes } => {
            let here = notes.kept.entry(stream).or_default();
            *offset = here.len() as u64;
            here.extend_from_slice(bytes);
        }
        _ => {}
    })
}

fn credits_the_rest(_: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| {
        if let Message::Accepted(accepted) = message {
            accepted.body_credit = accepted.body_credit.saturating_sub(32 << 10);
        }
    })
}

fn notes_decline(notes: &mut Notes, stream: StreamId, payload: &[u8]) -> Payloads {
    if matches!(read(payload), Message::Decline(_)) {
        notes.kept.insert(stream, Vec::new());
    }
    same(payload)
}

fn no_body_after_decline(notes: &mut Notes, stream: StreamId, payload: &[u8]) -> Payloads {
    let is_stray = matches!(read(payload), Message::Body { .. }) && notes.kept.contains_key(&stream);
    // What no stream may carry.
    if is_stray { vec![b"\xff".to_vec()] } else { same(payload) }
}

pub(crate) fn notes_award(notes: &mut Notes, stream: StreamId, payload: &[u8]) -> Payloads {
    if matches!(read(payload), Message::Award(_)) {
        notes.kept.insert(stream, payload.to_vec());
    }
    same(payload)
}

fn terms_of_the_frame(notes: &mut Notes, stream: StreamId, payload: &[u8]) -> Payloads {
    let award = notes.kept.get(&stream).cloned().unwrap_or_default();
    edit(payload, |message| {
        if let Message::Accepted(accepted) = message {
            accepted.terms = Sha256::digest(framed(&award)).into();
        }
    })
}

fn own_window(_: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| {
        if let Message::Accepted(accepted) = message {
            accepted.window_tokens = 1_024;
        }
    })
}

fn notes_prefix(notes: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    if let Message::Award(award) = read(payload) {
        notes.count = award.prefix_tokens;
    }
    same(payload)
}

fn from_zero(notes: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| {
        if let Message::Chunk { seq, .. } = message {
            *seq -= notes.count;
        }
    })
}

fn pads(_: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| {
        if let Message::Chunk { n, text, .. } = message {
            *n = text.len() as u32 + 1;
        }
    })
}

fn widest_window(notes: &mut Notes, stream: StreamId, payload: &[u8]) -> Payloads {
    notes_award(notes, stream, payload);
    edit(payload, |message| {
        if let Message::Award(award) = message {
            award.window_tokens = 1_024;
        }
    })
}

/// Remembers how many tokens went out on any stream.
fn notes_tokens(notes: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    if let Message::Chunk { seq, n, .. } = read(payload) {
        notes.count = seq + u64::from(n);
    }
    same(payload)
}

fn clamps_acks(notes: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| {
        if let Message::Ack { next, .. } = message {
            let last = notes.kept.entry(StreamId(u64::MAX)).or_default();
            *next = (*next).clamp(last.len() as u64, notes.count.max(last.len() as u64));
            last.resize(*next as usize, 0);
        }
    })
}

fn no_keepalive(_: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    if matches!(read(payload), Message::Keepalive) { Vec::new() } else { same(payload) }
}

fn hash_of_the_attempt(notes: &mut Notes, stream: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| match message {
        Message::Chunk { text, .. } => notes.kept.entry(stream).or_default().extend_from_slice(text.as_bytes()),
        Message::End(end) => end.hash = Sha256::digest(notes.kept.entry(stream).or_default()).into(),
        _ => {}
    })
}

fn keepalive_after_end(_: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    match read(payload) {
        Message::End(_) => vec![payload.to_vec(), b"\x82\x0b\xa0".to_vec()],
        _ => same(payload),
    }
}

fn end_is_false(_: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| {
        if let Message::Ack { end, .. } = message {
            *end = false;
        }
    })
}

fn no_end_cancelled(_: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    match read(payload) {
        Message::End(end) if end.reason == EndReason::Cancelled => Vec::new(),
        _ => same(payload),
    }
}

fn resumed_from_zero(_: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| {
        if let Message::Resumed { next } = message {
            *next = 0;
        }
    })
}

fn resumes_later(notes: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| match message {
        Message::Ack { next, .. } => drop(notes.kept.insert(StreamId(u64::MAX), vec![0; *next as usize])),
        Message::Resume { next, .. } => {
            let acked = notes.kept.get(&StreamId(u64::MAX)).map_or(0, Vec::len) as u64;
            *next = (*next).max(acked);
        }
        _ => {}
    })
}

fn credits_again(notes: &mut Notes, stream: StreamId, payload: &[u8]) -> Payloads {
    let award = notes.kept.get(&stream).cloned().unwrap_or_default();
    edit(payload, |message| {
        if let (Message::Accepted(accepted), Message::Award(asked)) = (message, read(&award)) {
            accepted.body_credit = asked.body_bytes;
        }
    })
}

fn newest_epoch(notes: &mut Notes, _: StreamId, payload: &[u8]) -> Payloads {
    edit(payload, |message| {
        if let Message::Resume { epoch, .. } = message {
            notes.count += 1;
            *epoch = 1_000 + notes.count as u32;
        }
    })
}
