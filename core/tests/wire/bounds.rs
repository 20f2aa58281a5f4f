//! Every bound of a message, at its edge and one beyond.

use haggle_core::{
    Millis,
    wire::{DecodeError, MAX_BODY_PIECE, MAX_CHUNK_TEXT, Message, decode, message::*},
};

use crate::{
    encoded,
    samples::{JOB, award, model, model_advert, offer, paid, tab},
};

fn check(case: &str, message: &Message<'_>, expected: Result<(), DecodeError>) {
    assert_eq!(decode(&encoded(message)).map(|_| ()), expected, "{case}: {message:?}");
}

fn in_bounds(case: &str, message: &Message<'_>) {
    check(case, message, Ok(()));
}

fn out_of_bounds(case: &str, message: &Message<'_>) {
    assert!(!message.is_in_bounds(), "{case}");
    check(case, message, Err(DecodeError::OutOfBounds));
}

/// [B1]
#[test]
fn adverts() {
    let advert = |edit: &dyn Fn(&mut ModelAdvert), count| {
        let mut model = model_advert();
        edit(&mut model);
        Message::Advert(Advert { models: vec![model; count], ..Advert::default() })
    };
    in_bounds("16 models", &advert(&|_| (), MAX_MODELS));
    check("17 models", &advert(&|_| (), MAX_MODELS + 1), Err(DecodeError::Malformed));
    in_bounds("5 aliases", &advert(&|m| m.aliases = vec![model("a"); MAX_ALIASES], 1));
    let six = advert(&|m| m.aliases = vec![model("a"); MAX_ALIASES + 1], 1);
    check("6 aliases", &six, Err(DecodeError::Malformed));
    assert!(!six.is_in_bounds());
    out_of_bounds("no bytes per token", &advert(&|m| m.bytes_per_token = 0, 1));
    for (case, is_sound, methods) in ways() {
        let advert = Message::Advert(Advert { methods: Some(methods), ..Advert::default() });
        if is_sound { in_bounds(case, &advert) } else { out_of_bounds(case, &advert) }
    }
    let five = vec![tab(); MAX_METHODS + 1];
    let advert = Message::Advert(Advert { methods: Some(five), ..Advert::default() });
    check("5 methods", &advert, Err(DecodeError::Malformed));
}

/// Lists of methods, and whether they are in bounds.
fn ways() -> Vec<(&'static str, bool, Vec<Method>)> {
    let rail = |len: usize| Method { kind: MethodKind::Channel, rail: vec![0; len], upfront: false };
    let none = Method { kind: MethodKind::None, ..rail(0) };
    vec![
        ("one", true, vec![tab()]),
        ("as large as can be", true, vec![rail(MAX_RAIL), rail(95), rail(94), none.clone()]),
        ("an empty list", false, vec![]),
        ("a rail of 97 bytes", false, vec![rail(MAX_RAIL + 1)]),
        ("the same twice, but for when it is paid", false, vec![tab(), Method { upfront: true, ..tab() }]),
        ("one rail of two kinds", true, vec![none, rail(0)]),
    ]
}

/// [B2]
#[test]
fn requests_for_quote() {
    let rfq = Rfq { rfq: 1, model: model("m"), body_bytes: 0, max_tokens: 1 };
    in_bounds("least", &Message::Rfq(rfq.clone()));
    out_of_bounds("no id", &Message::Rfq(Rfq { rfq: 0, ..rfq.clone() }));
    out_of_bounds("exact size", &Message::Rfq(Rfq { body_bytes: 255, ..rfq.clone() }));
    out_of_bounds("no tokens", &Message::Rfq(Rfq { max_tokens: 0, ..rfq }));
}

/// [B3] [B4]
#[test]
fn offers_counters_declines() {
    out_of_bounds("no rfq", &Message::Offer(Offer { rfq: 0, ..offer() }));
    out_of_bounds("no id", &Message::Offer(Offer { offer: 0, ..offer() }));
    let counter = Counter { rfq: 1, offer: 1, tariff: offer().tariff };
    in_bounds("least", &Message::Counter(counter.clone()));
    out_of_bounds("no rfq", &Message::Counter(Counter { rfq: 0, ..counter.clone() }));
    out_of_bounds("no offer", &Message::Counter(Counter { offer: 0, ..counter }));
    let decline =
        |reason, offer| Message::Decline(Decline { reason, retry_after: Some(Millis(u64::MAX)), offer, shown: None });
    for (case, is_sound, methods) in ways() {
        let offer = Message::Offer(Offer { methods: Some(methods.clone()), ..offer() });
        if is_sound {
            in_bounds(case, &offer)
        } else {
            out_of_bounds(case, &offer)
        }
        let declined = decline(DeclineReason::TooCheap, Some(Offer { methods: Some(methods), ..self::offer() }));
        if is_sound { in_bounds(case, &declined) } else { out_of_bounds(case, &declined) }
    }
    let shown = Some(Shown { amount: 0, note: [0; 32], signature: [0; 64] });
    for (reason, is_sound) in [(DeclineReason::Settlement, true), (DeclineReason::Stale, false)] {
        let decline = Message::Decline(Decline { reason, retry_after: None, offer: None, shown });
        if is_sound { in_bounds("shown", &decline) } else { out_of_bounds("shown", &decline) }
    }
    in_bounds("stale, unasked", &decline(DeclineReason::Stale, Some(Offer { rfq: 0, ..offer() })));
    out_of_bounds("no id", &decline(DeclineReason::Stale, Some(Offer { offer: 0, ..offer() })));
    for reason in [DeclineReason::Busy, DeclineReason::Context, DeclineReason::BodyMismatch] {
        in_bounds("a refusal", &decline(reason, None));
        out_of_bounds("a refusal with an offer", &decline(reason, Some(offer())));
    }
}

/// [B5]
#[test]
fn awards() {
    let edited = |edit: &dyn Fn(&mut Award)| {
        let mut award = Award { body_bytes: 101, prefix_bytes: 100, prefix_tokens: 20, overlap: 8, ..award() };
        edit(&mut award);
        Message::Award(award)
    };
    type Edit<'a> = (&'a str, &'a dyn Fn(&mut Award));
    let good: [Edit<'_>; 9] = [
        ("a prefix", &|_| ()),
        ("a token for each byte", &|a| a.prefix_tokens = 100),
        ("no prefix", &|a| (a.prefix_bytes, a.prefix_tokens, a.overlap) = (0, 0, 0)),
        ("more again than was given", &|a| (a.prefix_tokens, a.overlap) = (3, 8)),
        ("ids", &|a| (a.body_bytes, a.prefix_id_bytes) = (181, Some(80))),
        ("4 stops", &|a| a.stop = vec!["x".repeat(64); 4]),
        ("smallest window", &|a| (a.window_tokens, a.window_bytes) = (1, 16_512)),
        ("largest window", &|a| (a.window_tokens, a.window_bytes) = (8192, 1 << 20)),
        ("any sampling", &|a| a.sampling.top_p_milli = u32::MAX),
    ];
    let bad: [Edit<'_>; 21] = [
        ("attempt 0", &|a| a.attempt = 0),
        ("epoch 0", &|a| a.epoch = 0),
        ("offer 0", &|a| a.offer = Some(0)),
        ("no tokens", &|a| a.max_tokens = 0),
        ("no body", &|a| (a.body_bytes, a.prefix_bytes, a.prefix_tokens, a.overlap) = (0, 0, 0, 0)),
        ("no prompt", &|a| a.body_bytes = 100),
        ("a prefix without tokens", &|a| (a.prefix_tokens, a.overlap) = (0, 0)),
        ("tokens without a prefix", &|a| a.prefix_bytes = 0),
        ("more tokens than bytes", &|a| a.prefix_tokens = 101),
        ("overlap 9", &|a| a.overlap = 9),
        ("overlap of all tokens", &|a| a.max_tokens = 8),
        ("overlap without a prefix", &|a| (a.prefix_bytes, a.prefix_tokens) = (0, 0)),
        ("ids of other tokens", &|a| (a.body_bytes, a.prefix_id_bytes) = (300, Some(84))),
        ("ids beyond the body", &|a| a.prefix_id_bytes = Some(80)),
        ("no ids", &|a| a.prefix_id_bytes = Some(0)),
        ("an empty stop", &|a| a.stop = vec![String::new()]),
        ("a long stop", &|a| a.stop = vec!["x".repeat(65)]),
        ("no window", &|a| a.window_tokens = 0),
        ("wide window", &|a| a.window_tokens = 8193),
        ("window of less than two chunks", &|a| a.window_bytes = 16_511),
        ("window beyond 1 MiB", &|a| a.window_bytes = (1 << 20) + 1),
    ];
    good.iter().for_each(|(case, edit)| in_bounds(case, &edited(edit)));
    bad.iter().for_each(|(case, edit)| out_of_bounds(case, &edited(edit)));
    check("5 stops", &edited(&|a| a.stop = vec!["x".into(); 5]), Err(DecodeError::Malformed));
}

/// [B6]
#[test]
fn accepted_windows() {
    let accepted = |window_tokens, window_bytes| {
        Message::Accepted(Accepted { terms: [0; 32], body_credit: 0, window_tokens, window_bytes, eta: None })
    };
    in_bounds("smallest", &accepted(1, 16_512));
    in_bounds("largest", &accepted(8192, 1 << 20));
    for (tokens, bytes) in [(0, 16_512), (8193, 16_512), (1, 16_511), (1, (1 << 20) + 1)] {
        out_of_bounds("window", &accepted(tokens, bytes));
    }
}

/// [B5]
#[test]
fn awards_of_requests_and_for_money() {
    let request = Award { kind: BodyKind::Request, body_bytes: 2, ..award() };
    in_bounds("two bytes", &Message::Award(request.clone()));
    out_of_bounds("one byte", &Message::Award(Award { body_bytes: 1, ..request.clone() }));
    let continued = Award { body_bytes: 100, prefix_bytes: 10, prefix_tokens: 2, ..request };
    out_of_bounds("a request is continued", &Message::Award(continued));

    in_bounds("paid", &Message::Award(paid()));
    out_of_bounds("a choice without a voucher", &Message::Award(Award { voucher: None, ..paid() }));
    out_of_bounds("a voucher without a choice", &Message::Award(Award { choice: None, ..paid() }));
    let chosen = |kind, rail: usize, key: usize| {
        let choice = Choice { kind, rail: vec![0; rail], upfront: false, key: vec![0; key] };
        Message::Award(Award { choice: Some(choice), ..paid() })
    };
    in_bounds("least", &chosen(MethodKind::Tab, 0, 0));
    in_bounds("largest", &chosen(MethodKind::Channel, MAX_RAIL, MAX_KEY));
    out_of_bounds("none is chosen", &chosen(MethodKind::None, 0, 0));
    out_of_bounds("rail", &chosen(MethodKind::Tab, MAX_RAIL + 1, 0));
    out_of_bounds("key", &chosen(MethodKind::Tab, 0, MAX_KEY + 1));
}

/// [B9]
#[test]
fn thoughts_are_a_part_of_what_was_written() {
    let end = |tokens, thought| {
        let (reason, hash) = (EndReason::Stop, [0; 32]);
        Message::End(End { reason, prompt_tokens: 0, tokens, hash, thought, cached: Some(u64::MAX), receipt: None })
    };
    in_bounds("none told", &end(0, None));
    in_bounds("all", &end(3, Some(3)));
    out_of_bounds("more", &end(3, Some(4)));
}

/// [B6] [B7]
#[test]
fn pieces_of_bodies_and_answers() {
    let bytes = vec![0; MAX_BODY_PIECE + 1];
    let body = |len| Message::Body { offset: 0, bytes: &bytes[..len] };
    in_bounds("one byte", &body(1));
    in_bounds("12 KiB", &body(MAX_BODY_PIECE));
    out_of_bounds("nothing", &body(0));
    out_of_bounds("12 KiB and a byte", &body(MAX_BODY_PIECE + 1));

    let text = "x".repeat(MAX_CHUNK_TEXT + 1);
    let chunk = |n, text: usize, ids: Option<usize>| {
        Message::Chunk {
            seq: 0,
            n,
            text: &"x".repeat(MAX_CHUNK_TEXT + 1)[..text],
            ids: ids.map(|ids| &bytes[..ids]),
            channel: None,
        }
        .is_in_bounds()
    };
    assert!(chunk(1, 1, None) && chunk(2, 8192, Some(8)) && chunk(1024, 8192, Some(4096)));
    assert!(!chunk(0, 1, None) && !chunk(0, 1, Some(0)) && !chunk(1, 0, None) && !chunk(1, 8193, None));
    assert!(!chunk(2, 1, Some(4)) && !chunk(1, 1, Some(3)) && !chunk(1, 1, Some(5)) && !chunk(1, 1, Some(0)));
    assert!(chunk(1024, 1, Some(4096)) && !chunk(1025, 1, Some(4100)) && chunk(1025, 1, None));
    out_of_bounds("long", &Message::Chunk { seq: 0, n: 1, text: &text, ids: None, channel: None });
    out_of_bounds("no tokens", &Message::Chunk { seq: 0, n: 0, text: "x", ids: None, channel: None });
    out_of_bounds("ids", &Message::Chunk { seq: 0, n: 1, text: "x", ids: Some(b"12345678"), channel: None });
}

/// [B8]
#[test]
fn attempts_and_epochs_count_from_one() {
    in_bounds("cancel", &Message::Cancel { job: JOB, attempt: 1, voucher: None });
    out_of_bounds("cancel", &Message::Cancel { job: JOB, attempt: 0, voucher: None });
    in_bounds("resume", &Message::Resume { job: JOB, attempt: 1, epoch: 1, next: 0 });
    out_of_bounds("resume", &Message::Resume { job: JOB, attempt: 0, epoch: 1, next: 0 });
    out_of_bounds("resume", &Message::Resume { job: JOB, attempt: 1, epoch: 0, next: 0 });
}
