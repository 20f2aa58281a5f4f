//! What belongs on a stream, tokens, acknowledgements and ends, as a provider keeps them.

use haggle_core::{
    Limits, Millis, Refusal,
    wire::{
        self, Message,
        message::{Award, EndReason, GoneReason, Phase, Rfq},
    },
};

use super::{JOB, PROMPT, award, model, seller::Seller, sha256};

/// [F2] [F3] [E1] A frame of impossible length and bytes that are no message reset the stream; how bytes are cut means nothing.
#[test]
fn what_is_no_message_resets_the_stream() {
    let broken: &[&[u8]] = &[&[0, 0], &[0x40, 0x01], &[0, 3, 0x82, 0x0b, 0x80], &[0, 1, 0xff]];
    for bytes in broken {
        let mut seller = Seller::new();
        let stream = seller.open();
        seller.send(stream, bytes);
        assert!(seller.heard(stream).is_violation(), "{bytes:?}");
    }
    let mut seller = Seller::new();
    let stream = seller.open();
    let mut frame = Vec::new();
    wire::encode_frame(&Message::Describe, &mut frame);
    for byte in &frame {
        seller.send(stream, std::slice::from_ref(byte));
    }
    assert!(matches!(seller.heard(stream).one(), Message::Advert(_)));
}

/// [T4] A peer has its number of streams, the node has its own.
#[test]
fn streams_beyond_the_limit_are_refused() {
    let mut seller = Seller::with(super::service(), Limits { streams: 3, streams_per_peer: 2, ..Limits::default() });
    let first = seller.open();
    seller.open();
    assert_eq!(seller.provider.accept_stream(seller.now, seller.buyer), Err(Refusal::TooManyStreams));
    seller.buyer = super::peer("another");
    seller.open();
    seller.buyer = super::peer("a third");
    assert_eq!(seller.provider.accept_stream(seller.now, seller.buyer), Err(Refusal::TooManyStreams));
    seller.cut(first);
    seller.open();
}

/// [T5] Who says nothing for 10 s, or for 30 s after a message, is hung up on.
#[test]
fn a_silent_stream_is_closed_at_its_moment() {
    let mut seller = Seller::new();
    let silent = seller.open();
    seller.wait(Millis(9_999));
    assert!(!seller.heard(silent).is_closed);
    seller.wait(Millis(1));
    assert!(seller.heard(silent).is_closed);
    let heard = seller.open();
    seller.say(heard, &Message::Describe);
    seller.wait(Millis(29_999));
    assert!(!seller.heard(heard).is_closed);
    seller.wait(Millis(1));
    assert!(seller.heard(heard).is_closed);
}

/// [C7] What is done is told soon and again, once a second at most, until there is a token; what is quickly done is not.
#[test]
fn work_on_the_first_token_is_told() {
    let says = |phase| Message::Working { phase, done: None, of: None, eta: None };
    let mut seller = Seller::new();
    let (stream, attempt) = seller.running(&award());
    seller.heard(stream);
    for phase in [Phase::Queued, Phase::Loading] {
        seller.provider.working(seller.now, attempt, phase);
        seller.wait(Millis(999));
        assert!(seller.heard(stream).messages().is_empty(), "it may be done by then");
        seller.wait(Millis(1));
        assert_eq!(seller.heard(stream).one(), says(phase));
    }
    seller.provider.working(seller.now, attempt, Phase::Loading);
    seller.wait(Millis(9_999));
    assert!(seller.heard(stream).messages().is_empty(), "it was told");
    seller.wait(Millis(1));
    assert_eq!(seller.heard(stream).one(), says(Phase::Loading));
    seller.push(attempt, " a").unwrap();
    seller.provider.working(seller.now, attempt, Phase::Thinking);
    seller.heard(stream);
    seller.wait(Millis(10_000));
    assert_eq!(seller.heard(stream).one(), Message::Keepalive);
    // Who waits for a slot is told that by the provider itself.
    let waiting = seller.open();
    seller.award(waiting, &Award { attempt: 2, ..award() });
    seller.body(waiting, PROMPT);
    seller.heard(waiting);
    seller.wait(Millis(1_000));
    assert_eq!(seller.heard(waiting).one(), says(Phase::Queued));
}

/// [C1] On a stream with a running attempt only Body, Ack and Cancel belong; before it, none of them but Cancel.
#[test]
fn a_message_that_does_not_belong_is_a_violation() {
    let rfq = Rfq { rfq: 1, model: model(), body_bytes: 256, max_tokens: 1 };
    let during = [Message::Describe, Message::Rfq(rfq), Message::Award(award()), Message::Keepalive];
    for message in during {
        let mut seller = Seller::new();
        let (stream, _) = seller.running(&award());
        seller.heard(stream);
        seller.say(stream, &message);
        assert!(seller.heard(stream).is_violation(), "{message:?}");
        assert_eq!(seller.stopped.len(), 1, "what ran on it is over");
    }
    let before = [
        Message::Keepalive,
        Message::Ack { next: 0, end: false, voucher: None },
        Message::Body { offset: 0, bytes: PROMPT },
        Message::Resumed { next: 0 },
        Message::Gone(GoneReason::Unknown),
    ];
    for message in before {
        let mut seller = Seller::new();
        let stream = seller.open();
        seller.say(stream, &message);
        assert!(seller.heard(stream).is_violation(), "{message:?}");
    }
}

/// [C2] Frames that bring nothing forward come out of a bucket of 100 that refills with 10 a second.
#[test]
fn what_brings_nothing_forward_is_charged() {
    let mut seller = Seller::new();
    let stream = seller.open();
    for _ in 0..100 {
        seller.say(stream, &Message::Describe);
    }
    assert!(!seller.heard(stream).is_reset);
    seller.wait(Millis(1_000));
    for _ in 0..10 {
        seller.say(stream, &Message::Describe);
    }
    assert!(!seller.heard(stream).is_reset);
    seller.say(stream, &Message::Describe);
    assert!(seller.heard(stream).is_violation());

    // The Award was charged, too.
    let (stream, _) = seller.running(&award());
    for _ in 0..99 {
        seller.say(stream, &Message::Ack { next: 0, end: false, voucher: None });
    }
    assert!(!seller.heard(stream).is_reset);
    seller.say(stream, &Message::Ack { next: 0, end: false, voucher: None });
    assert!(seller.heard(stream).is_violation());
}

/// [W1] [W2] Chunks are dense from the prefix on; an engine that writes more than was ordered, or more tokens than text, is refused.
#[test]
fn tokens_are_dense_and_no_more_than_ordered() {
    let mut seller = Seller::new();
    let prefixed = Award { max_tokens: 3, ..prefixed() };
    let attempt = start(&mut seller, &prefixed);
    let stream = attempt.0;
    for text in [" and", " so", " on"] {
        seller.push(attempt.1, text).unwrap();
    }
    let heard = seller.heard(stream);
    let seqs: Vec<u64> = heard
        .messages()
        .iter()
        .filter_map(|message| match message {
            Message::Chunk { seq, .. } => Some(*seq),
            _ => None,
        })
        .collect();
    assert_eq!(seqs, [4, 5, 6]);
    assert_eq!(seller.push(attempt.1, " more"), Err(Refusal::BadPiece), "one beyond max_tokens");
}

/// [W3] [W4] A provider sends no more than the window, in tokens and in cost; Ack.next frees what it covers, and no more.
#[test]
fn a_window_bounds_what_is_sent() {
    let mut seller = Seller::new();
    let (stream, attempt) = seller.running(&Award { window_tokens: 4, ..award() });
    for _ in 0..4 {
        seller.push(attempt, " and").unwrap();
    }
    assert_eq!(seller.push(attempt, " and"), Err(Refusal::NoRoom));
    seller.say(stream, &Message::Ack { next: 2, end: false, voucher: None });
    seller.push(attempt, " and").unwrap();
    seller.push(attempt, " and").unwrap();
    assert_eq!(seller.push(attempt, " and"), Err(Refusal::NoRoom));

    // 16,512 bytes hold two chunks of 8,192 that cost 64 more each.
    let mut seller = Seller::new();
    let (_, attempt) = seller.running(&Award { window_bytes: 16_512, ..award() });
    let text = "x".repeat(8_192);
    seller.push(attempt, &text).unwrap();
    seller.push(attempt, &text).unwrap();
    assert_eq!(seller.push(attempt, "x"), Err(Refusal::NoRoom));
}

/// [W5] Ack.next neither falls nor exceeds what was sent.
#[test]
fn an_ack_is_of_what_was_sent_and_does_not_fall() {
    for acks in [&[3_u64][..], &[2, 1], &[u64::MAX]] {
        let mut seller = Seller::new();
        let (stream, attempt) = seller.running(&award());
        seller.push(attempt, " and").unwrap();
        seller.push(attempt, " so").unwrap();
        seller.heard(stream);
        for next in acks {
            seller.say(stream, &Message::Ack { next: *next, end: false, voucher: None });
        }
        assert!(seller.heard(stream).is_violation(), "{acks:?}");
    }
}

/// [X1] End tells the tokens of this attempt and the hash of the run's text, the prefix included.
#[test]
fn an_end_counts_this_attempt_and_hashes_the_run() {
    let mut seller = Seller::new();
    let (stream, attempt) = start(&mut seller, &prefixed());
    seller.push(attempt, " and").unwrap();
    seller.finish(attempt, EndReason::Stop);
    let heard = seller.heard(stream);
    let messages = heard.messages();
    let Some(Message::End(end)) = messages.last() else { panic!("{messages:?}") };
    assert_eq!((end.reason, end.tokens), (EndReason::Stop, 1));
    assert_eq!(end.hash, sha256(b"there was, and"));
}

/// [X3] [X4] An Ack with `end` before End is a violation; after it the job is forgotten, and without it after 120 s.
#[test]
fn an_end_is_acknowledged_once() {
    let mut seller = Seller::new();
    let (stream, attempt) = seller.running(&award());
    seller.push(attempt, " and").unwrap();
    seller.heard(stream);
    seller.say(stream, &Message::Ack { next: 1, end: true, voucher: None });
    assert!(seller.heard(stream).is_violation());

    let (stream, attempt) = seller.running(&Award { attempt: 2, ..award() });
    seller.push(attempt, " and").unwrap();
    seller.finish(attempt, EndReason::Stop);
    seller.heard(stream);
    seller.say(stream, &Message::Ack { next: 1, end: true, voucher: None });
    assert!(seller.heard(stream).is_closed && seller.provider.open_jobs() == 0);

    let (_, attempt) = seller.running(&Award { attempt: 3, ..award() });
    seller.finish(attempt, EndReason::Stop);
    seller.wait(Millis(119_999));
    assert_eq!(seller.provider.open_jobs(), 1);
    seller.wait(Millis(1));
    assert_eq!(seller.provider.open_jobs(), 0);
}

/// [K1] [K2] A Cancel stops the engine, on the job's stream or on another, and is confirmed; an unknown one is Gone.
#[test]
fn a_cancel_is_confirmed_wherever_it_comes() {
    let cancel = Message::Cancel { job: JOB, attempt: 1, voucher: None };
    for on_its_own in [true, false] {
        let mut seller = Seller::new();
        let (stream, attempt) = seller.running(&award());
        let told = if on_its_own { stream } else { seller.open() };
        seller.heard(stream);
        seller.say(told, &cancel);
        let heard = seller.heard(told);
        assert!(matches!(heard.one(), Message::End(end) if end.reason == EndReason::Cancelled), "{heard:?}");
        assert!(heard.is_closed && seller.stopped == [attempt] && seller.provider.taken_slots() == 0);
        assert!(on_its_own || seller.heard(stream).is_closed, "its own stream too");
    }
    let mut seller = Seller::new();
    let stream = seller.open();
    seller.say(stream, &cancel);
    assert_eq!(seller.heard(stream).one(), Message::Gone(GoneReason::Unknown));
    let (_, _) = seller.running(&award());
    seller.buyer = super::peer("another");
    let stream = seller.open();
    seller.say(stream, &cancel);
    assert_eq!(seller.heard(stream).one(), Message::Gone(GoneReason::Unknown), "a job is its own peer's");
    assert_eq!(seller.stopped.len(), 0);
}

const PREFIX: &str = "there was,";

/// An award that goes on after `there was,`.
fn prefixed() -> Award {
    let body = [PROMPT, PREFIX.as_bytes()].concat();
    Award {
        body_bytes: body.len() as u64,
        body_hash: sha256(&body),
        prefix_bytes: PREFIX.len() as u64,
        prefix_tokens: 4,
        ..award()
    }
}

fn start(seller: &mut Seller, award: &Award) -> (haggle_core::StreamId, haggle_core::AttemptId) {
    let stream = seller.open();
    seller.award(stream, award);
    seller.body(stream, &[PROMPT, PREFIX.as_bytes()].concat());
    (stream, *seller.started.last().expect("the job started"))
}
