//! What may be said on a stream, in which order, and who ends it.

use haggle_core::{
    Model,
    wire::{
        Message,
        message::{Award, BodyKind, DeclineReason, EndReason, GoneReason, ReleaseReason, Rfq},
    },
};

use super::{JOB, PROMPT, award, award::priced, model, seller::Seller};

fn rfq() -> Rfq {
    Rfq { rfq: 5, model: model(), body_bytes: 256, max_tokens: 30 }
}

/// [C4] [C6]
#[test]
fn a_stream_without_an_attempt_takes_everything_in_any_order() {
    let mut seller = Seller::new();
    let stream = seller.open();
    for _ in 0..3 {
        seller.say(stream, &Message::Describe);
        assert!(matches!(seller.heard(stream).one(), Message::Advert(_)));
        seller.say(stream, &Message::Rfq(rfq()));
        assert!(matches!(seller.heard(stream).one(), Message::Offer(_)));
    }
    let (running, attempt) = seller.running(&award());
    seller.push(attempt, "a").unwrap();
    seller.cut(running);
    // A Resume where prices were asked for.
    seller.say(stream, &Message::Resume { job: JOB, attempt: 1, epoch: 2, next: 0 });
    let heard = seller.heard(stream);
    assert!(matches!(heard.messages()[..], [Message::Resumed { next: 0 }, Message::Chunk { seq: 0, .. }]));
    seller.finish(attempt, EndReason::Stop);
    assert!(matches!(seller.heard(stream).one(), Message::End(_)));
}

/// [C5]
#[test]
fn who_ends_a_stream() {
    let mut seller = Seller::new();
    let stream = seller.open();
    seller.say(stream, &Message::Rfq(rfq()));
    assert!(matches!(seller.heard(stream).one(), Message::Offer(_)));
    seller.say(stream, &Message::Release(ReleaseReason::Price));
    let heard = seller.heard(stream);
    assert!(heard.messages().is_empty() && !heard.is_closed && !heard.is_reset, "its requester closes it");
    let ends = |message: Message<'_>| {
        let mut seller = Seller::new();
        let stream = seller.open();
        seller.say(stream, &message);
        seller.body(stream, PROMPT);
        let heard = seller.heard(stream);
        assert!(!heard.is_reset, "{message:?}");
        heard.is_closed
    };
    assert!(ends(Message::Cancel { job: JOB, attempt: 1, voucher: None }), "Gone");
    assert!(ends(Message::Resume { job: JOB, attempt: 1, epoch: 1, next: 0 }), "Gone");
    assert!(ends(Message::Award(Award { body_hash: [0; 32], ..award() })), "body mismatch");
    assert!(!ends(Message::Award(Award { offer: Some(9), ..award() })), "any other Decline");
    let (stream, attempt) = seller.running(&award());
    seller.finish(attempt, EndReason::Stop);
    seller.say(stream, &Message::Ack { next: 0, end: true, voucher: None });
    assert!(seller.heard(stream).is_closed, "Ack {{end}}");
    let (stream, _) = seller.running(&Award { attempt: 2, ..award() });
    seller.say(stream, &Message::Cancel { job: JOB, attempt: 2, voucher: None });
    assert!(seller.heard(stream).is_closed, "a confirmed Cancel");
    let stream = seller.open();
    seller.say(stream, &Message::Cancel { job: JOB, attempt: 2, voucher: None });
    assert_eq!(seller.heard(stream).one(), Message::Gone(GoneReason::Unknown));
}

/// [N6]
#[test]
fn why_there_is_no_price() {
    let refused = |rfq: Rfq| {
        let mut seller = Seller::new();
        let stream = seller.open();
        seller.say(stream, &Message::Rfq(rfq));
        match seller.heard(stream).one() {
            Message::Decline(decline) => decline.reason,
            other => panic!("{other:?}"),
        }
    };
    let another = Model::new(b"another").unwrap();
    assert_eq!(refused(Rfq { model: another, ..rfq() }), DeclineReason::UnknownModel);
    assert_eq!(refused(Rfq { max_tokens: 1_024, ..rfq() }), DeclineReason::Context);
    assert_eq!(refused(Rfq { body_bytes: (2 << 20) + 256, ..rfq() }), DeclineReason::Unsupported);
    assert_eq!(refused(Rfq { body_bytes: 0, ..rfq() }), DeclineReason::Unsupported);
    assert_eq!(refused(Rfq { body_bytes: 1 << 20, ..rfq() }), DeclineReason::Context);
}

/// [N6] A prompt that cannot fit, however it is read, is refused before its body is sent; one that may fit is not.
#[test]
fn what_cannot_fit_the_context_is_refused_early() {
    let answer = |message: &Message<'_>| {
        let mut seller = Seller::new();
        let stream = seller.open();
        seller.say(stream, message);
        match seller.heard(stream).one() {
            Message::Decline(decline) => Some(decline.reason),
            _ => None,
        }
    };
    // 1,024 tokens, one of them for the answer.
    let most = 1_023 * 256;
    assert_eq!(answer(&Message::Rfq(Rfq { body_bytes: most, ..rfq() })), None);
    assert_eq!(answer(&Message::Rfq(Rfq { body_bytes: most + 256, ..rfq() })), Some(DeclineReason::Context));
    assert_eq!(answer(&Message::Award(priced(most))), None);
    assert_eq!(answer(&Message::Award(priced(most + 1))), Some(DeclineReason::Context));
    let ids = |tokens: u64| Message::Award(Award { kind: BodyKind::Tokens, ..priced(4 * tokens) });
    assert_eq!(answer(&ids(1_023)), None);
    assert_eq!(answer(&ids(1_024)), Some(DeclineReason::Context));
}

/// [A3] [R4] What went before an Award that a provider sees first, it cannot know: any numbers are taken, and count from there.
#[test]
fn the_first_award_that_is_seen_may_have_any_number() {
    for (attempt, epoch) in [(1, 5), (7, 1), (7, 1_025), (u32::MAX, u32::MAX - 1)] {
        let mut seller = Seller::new();
        let first = Award { attempt, epoch, ..award() };
        let (running, _) = seller.running(&first);
        assert!(matches!(seller.heard(running).one(), Message::Accepted(_)), "{attempt}, {epoch}");
        seller.cut(running);
        let again = seller.open();
        seller.award(again, &first);
        let heard = seller.heard(again);
        assert!(matches!(heard.one(), Message::Decline(decline) if decline.reason == DeclineReason::Conflict));
        seller.award(again, &Award { epoch: epoch + 1, ..first });
        assert!(matches!(seller.heard(again).one(), Message::Accepted(_)));
        assert_eq!(seller.started.len(), 1);
    }
}

/// [R3] Once a token was acknowledged, the Award is no way back to the beginning.
#[test]
fn an_award_is_not_repeated_after_an_acknowledged_token() {
    let mut seller = Seller::new();
    let (stream, attempt) = seller.running(&award());
    seller.push(attempt, "a").unwrap();
    seller.say(stream, &Message::Ack { next: 1, end: false, voucher: None });
    seller.cut(stream);
    let again = seller.open();
    seller.award(again, &Award { epoch: 2, ..award() });
    let heard = seller.heard(again);
    assert!(matches!(heard.one(), Message::Decline(decline) if decline.reason == DeclineReason::Conflict));
}
