//! Accepted, tokens, ends and cuts, as a requester takes them.

use haggle_core::{
    JobSpec, Millis, StreamId,
    event::{Failure, Finished, Interrupted, Outcome, Violation},
    spec::Failover,
    wire::{
        Message,
        message::{Accepted, Award, End, EndReason, Exactness, ExactnessKind, GoneReason, ModelAdvert},
    },
};

use super::{
    JOB, advert,
    buyer::{Buyer, accepted},
    sha256,
};

/// [A8] [A9] [A5] Accepted echoes the terms, widens no window, and gives credit for the whole body; or it is a violation.
#[test]
fn accepted_is_what_was_awarded() {
    type Edit<'a> = (&'a str, &'a dyn Fn(&mut Accepted));
    let wrong: [Edit<'_>; 5] = [
        ("other terms", &|accepted| accepted.terms[31] ^= 1),
        ("a wider window of tokens", &|accepted| accepted.window_tokens += 1),
        ("a wider window of bytes", &|accepted| accepted.window_bytes += 1),
        ("less credit", &|accepted| accepted.body_credit -= 1),
        ("no credit", &|accepted| accepted.body_credit = 0),
    ];
    for (case, edit) in wrong {
        let (mut buyer, stream, award) = Buyer::awarded(|_| ());
        let mut accepted = accepted(&award);
        edit(&mut accepted);
        buyer.hears(stream, &Message::Accepted(accepted));
        assert_eq!(buyer.violation(), Some(Violation::Terms), "{case}");
        assert_eq!(buyer.owed, 0, "{case}");
    }
}

/// [W1] [W2] A token is taken once and in order, and no more of them than were ordered or the text can hold.
#[test]
fn tokens_are_taken_once_and_in_order() {
    type Case<'a> = (&'a [(u64, u32, &'a str)], Violation, &'a str);
    let cases: &[Case<'_>] = &[
        (&[(0, 1, " a"), (0, 1, " a")], Violation::Seq, " a"),
        (&[(0, 1, " a"), (2, 1, " b")], Violation::Seq, " a"),
        (&[(1, 1, " a")], Violation::Seq, ""),
        (&[(0, 31, "thirty-one tokens, thirty ordered")], Violation::TooMany, ""),
        (&[(0, 3, "ab")], Violation::Count, ""),
        (&[(0, 2, "ab"), (2, 3, "cd")], Violation::Count, "ab"),
    ];
    for (chunks, violation, text) in cases {
        let (mut buyer, stream, _) = Buyer::accepted(|spec| spec.failover = Failover::Never);
        for (seq, n, text) in *chunks {
            buyer.hears(stream, &Message::Chunk { seq: *seq, n: *n, text, ids: None, channel: None });
        }
        assert_eq!((buyer.violation(), &buyer.text[..]), (Some(*violation), *text), "{chunks:?}");
    }
}

/// [W4] [W3] Beyond the granted window, in tokens or in cost, is a violation.
#[test]
fn tokens_beyond_the_window_are_a_violation() {
    for (granted, cost) in [((2, 16_512), " a"), ((1_024, 16_512), &"x".repeat(8_192)[..])] {
        let (mut buyer, stream, award) = Buyer::awarded(|spec| spec.failover = Failover::Never);
        let (window_tokens, window_bytes) = granted;
        buyer.hears(stream, &Message::Accepted(Accepted { window_tokens, window_bytes, ..accepted(&award) }));
        buyer.chunk(stream, 0, cost);
        buyer.chunk(stream, 1, cost);
        assert_eq!(buyer.violation(), None);
        buyer.chunk(stream, 2, "x");
        assert_eq!(buyer.violation(), Some(Violation::Window));
    }
}

/// [W5] [W6] An Ack says what the application consumed, 250 ms after the first of it; and every 10 s as a sign of life.
#[test]
fn an_ack_is_of_what_was_consumed() {
    let (mut buyer, stream, _) = Buyer::accepted(|_| ());
    let acks = |buyer: &Buyer| -> Vec<u64> {
        let next = |message: &Message<'_>| match message {
            Message::Ack { next, .. } => Some(*next),
            _ => None,
        };
        buyer.said(stream).iter().filter_map(next).collect()
    };
    let job = buyer_job(&buyer, stream);
    buyer.chunk(stream, 0, " a");
    buyer.chunk(stream, 1, " b");
    buyer.wait(Millis(1_000));
    assert_eq!(acks(&buyer), [] as [u64; 0], "it arrived, and nobody took it");
    buyer.requester.consumed(buyer.now, job, 1);
    buyer.wait(Millis(249));
    assert_eq!(acks(&buyer), [] as [u64; 0]);
    buyer.wait(Millis(1));
    assert_eq!(acks(&buyer), [1]);
    buyer.wait(Millis(10_000));
    assert_eq!(acks(&buyer), [1, 1]);
}

/// [X1] [X2] An End whose count or hash differs is a violation; an End ends, and what follows is not heard.
#[test]
fn an_end_agrees_with_what_was_received() {
    let end = |tokens, text: &str| {
        Message::End(End {
            reason: EndReason::Stop,
            prompt_tokens: 4,
            tokens,
            hash: sha256(text.as_bytes()),
            thought: None,
            cached: None,
            receipt: None,
        })
    };
    for (tokens, text) in [(1, " a b"), (3, " a b"), (2, " a c")] {
        let (mut buyer, stream, _) = Buyer::accepted(|spec| spec.failover = Failover::Never);
        buyer.chunk(stream, 0, " a");
        buyer.chunk(stream, 1, " b");
        buyer.hears(stream, &end(tokens, text));
        assert_eq!(buyer.violation(), Some(Violation::Digest), "{tokens} {text}");
    }
    let (mut buyer, stream, _) = Buyer::accepted(|_| ());
    buyer.chunk(stream, 0, " a");
    buyer.hears(stream, &end(1, " a"));
    assert!(matches!(buyer.outcome, Some(Outcome::Finished(Finished::Answer { tokens: 1, .. }))));
    assert_eq!(buyer.said(stream).last(), Some(&Message::Ack { next: 1, end: true, voucher: None }), "[X3]");
    buyer.chunk(stream, 1, " b");
    assert_eq!(buyer.text, " a");
}

/// [C1] [K2] Before Accepted no token belongs, nor an End; End {cancelled} never without a Cancel.
#[test]
fn what_does_not_belong_is_a_violation() {
    let end = |reason| {
        Message::End(End {
            reason,
            prompt_tokens: 0,
            tokens: 0,
            hash: [0; 32],
            thought: None,
            cached: None,
            receipt: None,
        })
    };
    let chunk = Message::Chunk { seq: 0, n: 1, text: "x", ids: None, channel: None };
    for message in [chunk, end(EndReason::Stop), Message::Resumed { next: 0 }, Message::Describe] {
        let (mut buyer, stream, _) = Buyer::awarded(|_| ());
        buyer.hears(stream, &message);
        assert_eq!(buyer.violation(), Some(Violation::Unexpected), "{message:?}");
    }
    let (mut buyer, stream, _) = Buyer::accepted(|_| ());
    buyer.hears(stream, &end(EndReason::Cancelled));
    assert_eq!(buyer.violation(), Some(Violation::Unexpected));
}

/// [C2] Keepalives come out of a bucket of 100.
#[test]
fn keepalives_are_charged() {
    let (mut buyer, stream, _) = Buyer::accepted(|_| ());
    for _ in 0..100 {
        buyer.hears(stream, &Message::Keepalive);
    }
    assert_eq!(buyer.violation(), None);
    buyer.hears(stream, &Message::Keepalive);
    assert_eq!(buyer.violation(), Some(Violation::Flood));
}

/// [M3] Nothing is owed before the first token, then the fee and each token; what comes after a Cancel is not.
#[test]
fn what_is_owed_is_what_was_accepted() {
    let (mut buyer, stream, _) = Buyer::accepted(|_| ());
    let job = buyer_job(&buyer, stream);
    buyer.cancel(job);
    buyer.hears(stream, &Message::Keepalive);
    assert_eq!(buyer.owed, 0);

    let (mut buyer, stream, _) = Buyer::accepted(|_| ());
    let job = buyer_job(&buyer, stream);
    buyer.chunk(stream, 0, " a");
    buyer.chunk(stream, 1, " b");
    buyer.cancel(job);
    buyer.chunk(stream, 2, " c");
    assert_eq!((buyer.owed, &buyer.text[..]), (256 + 2, " a b"));
}

/// [K3] [R8] A Cancel is said again over new streams until it is confirmed.
#[test]
fn a_cancel_is_said_until_it_is_confirmed() {
    let (mut buyer, stream, _) = Buyer::accepted(|_| ());
    let job = buyer_job(&buyer, stream);
    buyer.cancel(job);
    assert_eq!(buyer.said(stream).last(), Some(&Message::Cancel { job, attempt: 1, voucher: None }));
    buyer.cut(stream);
    buyer.wait(Millis(30_000));
    let again = buyer.newest("seller");
    assert_ne!(again, stream);
    assert_eq!(buyer.said(again), [Message::Cancel { job, attempt: 1, voucher: None }]);
    buyer.hears(again, &Message::Gone(GoneReason::Unknown));
    buyer.wait(Millis(120_000));
    assert_eq!(buyer.newest("seller"), again, "it was confirmed");
}

/// [R1] [R4] [R7] After a cut the same attempt is resumed at once, at the first token not taken, with a higher epoch.
#[test]
fn a_cut_is_resumed_at_the_first_token_not_taken() {
    let (mut buyer, stream, award) = Buyer::accepted(|_| ());
    buyer.chunk(stream, 0, " a");
    let mut last = stream;
    for epoch in 2..=4 {
        buyer.cut(last);
        buyer.wait(Millis(5_000));
        let next = buyer.newest("seller");
        assert_ne!(next, last, "epoch {epoch}");
        let said = buyer.said(next);
        assert_eq!(said, [Message::Resume { job: award.job, attempt: 1, epoch, next: 1 }]);
        last = next;
    }
    buyer.hears(last, &Message::Resumed { next: 2 });
    assert_eq!(buyer.violation(), Some(Violation::Seq), "another next");
}

/// [R3] Before the first token the same Award is said again, with a higher epoch.
#[test]
fn before_the_first_token_the_award_is_repeated() {
    let (mut buyer, stream, award) = Buyer::accepted(|_| ());
    buyer.cut(stream);
    buyer.wait(Millis(5_000));
    let again = buyer.newest("seller");
    assert_eq!(buyer.award(again), Award { epoch: 2, ..award.clone() });
    let there = Accepted { body_credit: 0, ..accepted(&buyer.award(again)) };
    buyer.hears(again, &Message::Accepted(there));
    assert_eq!((buyer.violation(), buyer.outcome.is_none()), (None, true), "no credit says that the body is there");
}

/// [R9] Another provider of the same class goes on: the next attempt, the answer as prefix, and evidence that has to match.
#[test]
fn another_provider_goes_on_with_evidence() {
    let exact = || ModelAdvert { exactness: Exactness { kind: ExactnessKind::Seeded, class: [9; 32] }, ..advert() };
    for (told, is_exact) in [(" c", true), (" x", false)] {
        let mut buyer = Buyer::new();
        buyer.knows("seller", exact());
        buyer.knows("another", exact());
        let seller = |spec: &mut JobSpec| spec.criteria.prefer = vec![super::peer("seller")];
        buyer.submit(&["seller", "another"], seller);
        let stream = buyer.newest("seller");
        let award = buyer.award(stream);
        buyer.hears(stream, &Message::Accepted(accepted(&award)));
        for (seq, text) in [" a", " b", " c"].into_iter().enumerate() {
            let ids = Some(&[seq as u8, 0, 0, 0][..]);
            buyer.hears(stream, &Message::Chunk { seq: seq as u64, n: 1, text, ids, channel: None });
        }
        buyer.hears(stream, &broken(3, " a b c"));
        let (second, next) = taken_over(&mut buyer);
        assert_eq!((next.job, next.attempt, next.epoch), (award.job, 2, 1));
        assert_eq!(next.prefix_tokens + u64::from(next.overlap), 3, "the evidence is the end of what was delivered");
        assert_eq!(next.max_tokens, 27 + u64::from(next.overlap), "what is left, and the evidence");
        assert!(next.overlap > 0 && next.prefix_id_bytes == Some(4 * next.prefix_tokens));
        buyer.hears(second, &Message::Accepted(accepted(&next)));
        for (seq, text) in (next.prefix_tokens..).zip([" b", told, " d"]) {
            buyer.chunk(second, seq, text);
        }
        let expected = if is_exact { " a b c d" } else { " a b c" };
        assert_eq!(buyer.text, expected, "what differs is not delivered");
        let cancelled = buyer.said(second).iter().any(|message| matches!(message, Message::Cancel { .. }));
        assert_eq!(cancelled, !is_exact);
    }
}

/// [T3] A clean end of a stream says no more than a cut: the job is resumed, not over.
#[test]
fn the_end_of_a_stream_ends_no_job() {
    let (mut buyer, stream, _) = Buyer::accepted(|_| ());
    buyer.chunk(stream, 0, " a");
    buyer.cut(stream);
    assert_eq!(buyer.outcome, None);
}

/// [M5] A provider that breaks off is owed what was taken of it, by this side's count.
#[test]
fn the_bill_is_the_requesters_count() {
    let (mut buyer, stream, _) = Buyer::accepted(|spec| spec.failover = Failover::Never);
    buyer.chunk(stream, 0, " a");
    buyer.hears(stream, &broken(1, " a"));
    assert_eq!(buyer.outcome, Some(Outcome::Failed(Failure::Interrupted(Interrupted::Engine))));
    assert_eq!(buyer.owed, 257);
}

fn buyer_job(buyer: &Buyer, stream: StreamId) -> haggle_core::JobId {
    let job = buyer.award(stream).job;
    assert_ne!(job, JOB);
    job
}

/// The provider's engine broke after so many tokens.
fn broken(tokens: u64, text: &str) -> Message<'static> {
    Message::End(End {
        reason: EndReason::Engine,
        prompt_tokens: 0,
        tokens,
        hash: sha256(text.as_bytes()),
        thought: None,
        cached: None,
        receipt: None,
    })
}

/// Plays the second provider's side up to its Award.
fn taken_over(buyer: &mut Buyer) -> (StreamId, Award) {
    buyer.wait(Millis(2_000));
    let stream = buyer.newest("another");
    if matches!(buyer.said(stream)[..], [Message::Rfq(_)]) {
        buyer.quotes(stream, super::award().tariff);
    }
    (stream, buyer.award(stream))
}
