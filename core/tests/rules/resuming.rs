//! After a cut, as a provider goes on.

use haggle_core::{
    AttemptId, Limits, Millis, Provider, StreamId,
    wire::{
        Message,
        message::{Award, Decline, DeclineReason, EndReason, GoneReason},
    },
};

use super::{JOB, PROMPT, award, peer, seller::Seller, service};

/// A job of three tokens, the first acknowledged, whose stream was cut.
fn cut() -> (Seller, AttemptId) {
    let mut seller = Seller::new();
    let (stream, attempt) = seller.running(&award());
    for text in [" and", " so", " on"] {
        seller.push(attempt, text).unwrap();
    }
    seller.say(stream, &Message::Ack { next: 1, end: false, voucher: None });
    seller.heard(stream);
    seller.cut(stream);
    (seller, attempt)
}

fn resume(seller: &mut Seller, epoch: u32, next: u64) -> StreamId {
    let stream = seller.open();
    seller.say(stream, &Message::Resume { job: JOB, attempt: 1, epoch, next });
    stream
}

/// [R1] [X2] A Resume goes on at its token: what was sent and not acknowledged comes again in the same chunks, then End.
#[test]
fn what_was_not_acknowledged_comes_again() {
    let (mut seller, attempt) = cut();
    seller.finish(attempt, EndReason::Stop);
    let stream = resume(&mut seller, 2, 2);
    let heard = seller.heard(stream);
    let messages = heard.messages();
    let [
        Message::Resumed { next: 2 },
        Message::Chunk { seq: 2, n: 1, text: " on", ids: None, channel: None },
        Message::End(_),
    ] = messages[..]
    else {
        panic!("{messages:?}")
    };
    seller.cut(stream);
    let stream = resume(&mut seller, 3, 3);
    assert!(matches!(seller.heard(stream).messages()[..], [Message::Resumed { next: 3 }, Message::End(_)]));
}

/// [R2] `next` is where a chunk began, or the end; what was acknowledged is gone.
#[test]
fn a_resume_from_where_no_chunk_began_is_gone() {
    let mut seller = Seller::new();
    let (stream, attempt) = seller.running(&award());
    let piece = haggle_core::provider::Piece { n: 2, text: " and so", ids: None, channel: None };
    seller.provider.push(seller.now, attempt, piece).unwrap();
    seller.cut(stream);
    for (next, gone) in [(1, true), (3, true), (u64::MAX, true), (0, false)] {
        let mut seller = seller_again(&mut seller);
        let stream = resume(&mut seller, 2, next);
        let heard = seller.heard(stream);
        assert_eq!(heard.messages()[0] == Message::Gone(GoneReason::Evicted), gone, "{next}: {heard:?}");
    }
    let (mut seller, _) = cut();
    let stream = resume(&mut seller, 2, 0);
    assert_eq!(seller.heard(stream).one(), Message::Gone(GoneReason::Evicted), "it was acknowledged");
}

/// [R3] [A3] Before the first token the same award comes again with a higher epoch; it is computed once.
#[test]
fn a_repeated_award_is_computed_once() {
    let mut seller = Seller::new();
    let (stream, attempt) = seller.running(&award());
    seller.push(attempt, " and").unwrap();
    seller.cut(stream);
    let again = seller.open();
    seller.award(again, &Award { epoch: 2, ..award() });
    let heard = seller.heard(again);
    let messages = heard.messages();
    let [Message::Accepted(accepted), Message::Chunk { seq: 0, text: " and", .. }] = &messages[..] else {
        panic!("{messages:?}")
    };
    assert_eq!(accepted.body_credit, 0, "the body is there");
    seller.body(again, PROMPT);
    assert!(!seller.heard(again).is_reset, "what comes of it unasked is dropped");
    assert_eq!(seller.started.len(), 1);
}

/// [R4] An epoch that is not higher is stale, or a conflict; the newest has the job, and the older stream is reset.
#[test]
fn the_newest_epoch_has_the_job() {
    let (mut seller, _) = cut();
    let second = resume(&mut seller, 2, 1);
    seller.heard(second);
    for epoch in [1, 2] {
        let late = resume(&mut seller, epoch, 1);
        assert_eq!(seller.heard(late).one(), Message::Gone(GoneReason::Stale), "{epoch}");
        assert!(!seller.heard(second).is_reset);
    }
    let third = resume(&mut seller, 3, 1);
    assert!(matches!(seller.heard(third).messages()[0], Message::Resumed { next: 1 }));
    assert!(seller.heard(second).is_reset);

    let mut seller = Seller::new();
    seller.running(&award());
    let again = seller.open();
    seller.award(again, &award());
    assert!(matches!(seller.heard(again).one(), Message::Decline(Decline { reason: DeclineReason::Conflict, .. })));
}

/// [R5] A job belongs to the peer that awarded it.
#[test]
fn another_peers_job_is_unknown() {
    let (mut seller, _) = cut();
    let unknown = seller.open();
    seller.say(unknown, &Message::Resume { job: haggle_core::JobId([8; 16]), attempt: 1, epoch: 2, next: 1 });
    assert_eq!(seller.heard(unknown).one(), Message::Gone(GoneReason::Unknown));
    seller.buyer = peer("another");
    let foreign = resume(&mut seller, 2, 1);
    assert_eq!(seller.heard(foreign).one(), Message::Gone(GoneReason::Unknown));
    seller.buyer = peer("buyer");
    let own = resume(&mut seller, 2, 1);
    assert!(matches!(seller.heard(own).messages()[0], Message::Resumed { .. }), "the foreigner moved nothing");
}

/// [R6] Five resumes without progress, and one more each second; progress gives them back.
#[test]
fn resumes_without_progress_are_counted() {
    let (mut seller, _) = cut();
    for epoch in 2..=6 {
        let stream = resume(&mut seller, epoch, 1);
        assert!(!seller.heard(stream).is_reset, "{epoch}");
    }
    let sixth = resume(&mut seller, 7, 1);
    assert!(seller.heard(sixth).is_violation());
    seller.wait(Millis(1_000));
    let stream = resume(&mut seller, 8, 1);
    assert!(matches!(seller.heard(stream).messages()[0], Message::Resumed { .. }));
    seller.say(stream, &Message::Ack { next: 2, end: false, voucher: None });
    for epoch in 9..=13 {
        let stream = resume(&mut seller, epoch, 2);
        assert!(!seller.heard(stream).is_reset, "{epoch}");
    }
}

/// [X4] A job without a stream is kept for 120 s, computing on as far as its window goes.
#[test]
fn a_job_without_a_stream_is_kept_for_two_minutes() {
    let (mut seller, attempt) = cut();
    seller.push(attempt, " on").unwrap();
    seller.wait(Millis(119_999));
    let stream = resume(&mut seller, 2, 1);
    assert!(matches!(seller.heard(stream).messages()[0], Message::Resumed { .. }));
    seller.cut(stream);
    seller.wait(Millis(120_000));
    let stream = resume(&mut seller, 3, 1);
    assert_eq!(seller.heard(stream).one(), Message::Gone(GoneReason::Unknown));
    assert_eq!(seller.stopped, [attempt]);
}

/// [R2] An attempt that went down with an earlier process is gone, and not computed again while it may be asked for.
#[test]
fn what_an_earlier_process_computed_is_not_computed_again() {
    for (waited, remembers) in [(119_999, true), (120_000, false)] {
        let mut seller = Seller::new();
        seller.running(&award());
        let snapshot = seller.provider.snapshot(seller.now);
        let mut seller = Seller::new();
        seller.provider =
            Provider::restore((seller.now, Millis(0)), &snapshot, service(), Limits::default(), [1; 32]).unwrap();
        seller.wait(Millis(waited));
        let stream = resume(&mut seller, 2, 0);
        let reason = if remembers { GoneReason::Evicted } else { GoneReason::Unknown };
        assert_eq!(seller.heard(stream).one(), Message::Gone(reason));
        let stream = seller.open();
        seller.award(stream, &award());
        let heard = seller.heard(stream);
        let refused = matches!(heard.one(), Message::Decline(Decline { reason: DeclineReason::Conflict, .. }));
        assert_eq!(refused, remembers, "{heard:?}");
    }
}

fn seller_again(seller: &mut Seller) -> Seller {
    let mut again = Seller::new();
    again.provider = seller.provider.clone();
    again.now = seller.now;
    again
}
