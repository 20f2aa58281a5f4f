//! Award and Body, as a provider takes them.

use haggle_core::{
    Limits, Millis,
    money::Tariff,
    wire::{
        self, MAX_BODY_PIECE, Message,
        message::{Award, BodyKind, Decline, DeclineReason, EndReason, Sampling},
    },
};

use super::{PRICE_OUT, PROMPT, award, seller::Seller, sha256};

/// The reason for which an award is declined; `None` if it is accepted.
fn declined(award: &Award) -> Option<DeclineReason> {
    let mut seller = Seller::new();
    let stream = seller.open();
    seller.award(stream, award);
    match seller.heard(stream).one() {
        Message::Accepted(_) => None,
        Message::Decline(Decline { reason, .. }) => Some(reason),
        other => panic!("{other:?}"),
    }
}

/// [A2] [M2] The posted tariff is taken as it is posted, to the unit; any other is stale, with the offer that would bind.
#[test]
fn the_posted_price_is_awarded_to_the_unit() {
    assert_eq!(declined(&award()), None);
    let posted = award().tariff;
    for tariff in [
        Tariff { fee_in: posted.fee_in - 1, ..posted },
        Tariff { fee_in: posted.fee_in + 1, ..posted },
        Tariff { price_out: posted.price_out - 1, ..posted },
        Tariff { price_out: posted.price_out + 1, ..posted },
    ] {
        let mut seller = Seller::new();
        let stream = seller.open();
        seller.award(stream, &Award { tariff, ..award() });
        let heard = seller.heard(stream);
        let Message::Decline(Decline { reason: DeclineReason::Stale, offer: Some(offer), .. }) = heard.one() else {
            panic!("{tariff:?}: {heard:?}");
        };
        assert_eq!((offer.tariff, offer.rfq), (posted, 0), "what would bind now");
    }
}

/// [A3] A name is taken once: with another content it is a conflict.
#[test]
fn the_same_name_with_another_content_is_a_conflict() {
    let mut seller = Seller::new();
    let (_, _) = seller.running(&award());
    for other in [Award { max_tokens: 29, ..award() }, Award { epoch: 2, body_hash: [0; 32], ..award() }] {
        let again = seller.open();
        seller.award(again, &other);
        let heard = seller.heard(again);
        assert!(matches!(heard.one(), Message::Decline(Decline { reason: DeclineReason::Conflict, .. })), "{heard:?}");
    }
    let elsewhere = seller.open();
    seller.award(elsewhere, &Award { attempt: 2, ..award() });
    assert!(matches!(seller.heard(elsewhere).one(), Message::Accepted(_)), "another attempt has another name");
}

/// [A4] Pieces come in order, without gap or overlap, and not beyond the size.
#[test]
fn a_body_comes_in_order_and_no_further_than_awarded() {
    let whole = PROMPT.len() as u64;
    let pieces: &[&[(u64, &[u8])]] = &[
        &[(1, &PROMPT[1..])],
        &[(0, &PROMPT[..4]), (5, &PROMPT[5..])],
        &[(0, &PROMPT[..4]), (3, &PROMPT[3..])],
        &[(0, &PROMPT[..4]), (0, &PROMPT[..4])],
        &[(0, b"Once upon a time, and more")],
        &[(u64::MAX, b"x")],
    ];
    for pieces in pieces {
        let mut seller = Seller::new();
        let stream = seller.open();
        seller.award(stream, &award());
        assert!(matches!(seller.heard(stream).one(), Message::Accepted(accepted) if accepted.body_credit == whole));
        for (offset, bytes) in *pieces {
            seller.say(stream, &Message::Body { offset: *offset, bytes });
        }
        assert!(seller.heard(stream).is_violation(), "{pieces:?}");
        assert_eq!((seller.provider.open_jobs(), seller.provider.held_bytes()), (0, 0), "nothing of it is kept");
    }
}

/// [A4] A whole body of another hash is declined and forgotten; one that is not of its kind ends as a bad request.
#[test]
fn a_body_is_the_awarded_one_and_of_its_kind() {
    let mut seller = Seller::new();
    let stream = seller.open();
    seller.award(stream, &award());
    seller.heard(stream);
    seller.body(stream, b"Once upon a crime");
    // One byte more than was awarded: a violation, not a mismatch.
    assert!(seller.heard(stream).is_violation());

    let stream = seller.open();
    seller.award(stream, &award());
    seller.heard(stream);
    seller.body(stream, b"Once upon a mime");
    let heard = seller.heard(stream);
    assert!(matches!(heard.one(), Message::Decline(Decline { reason: DeclineReason::BodyMismatch, .. })), "{heard:?}");
    assert!(heard.is_closed && seller.provider.open_jobs() == 0);

    let stream = seller.open();
    seller.award(stream, &Award { kind: BodyKind::Chat, ..award() });
    seller.heard(stream);
    seller.body(stream, PROMPT);
    let heard = seller.heard(stream);
    assert!(matches!(heard.one(), Message::End(end) if end.reason == EndReason::BadRequest), "{heard:?}");
}

/// [A6] After ten seconds a body has come at 4,096 bytes a second at every moment, or it is too slow.
#[test]
fn a_body_that_comes_too_slowly_ends_at_its_moment() {
    let body = vec![b'x'; 3 * MAX_BODY_PIECE];
    let slow = Award { body_bytes: body.len() as u64, body_hash: sha256(&body), ..priced(body.len() as u64) };
    let mut seller = Seller::new();
    let stream = seller.open();
    seller.award(stream, &slow);
    seller.heard(stream);
    seller.body(stream, &body[..MAX_BODY_PIECE]);
    // 10 s, and 3 s for the piece that came.
    seller.wait(Millis(12_999));
    assert!(seller.heard(stream).messages().iter().all(|message| *message == Message::Keepalive));
    seller.wait(Millis(1));
    let heard = seller.heard(stream);
    assert!(matches!(heard.one(), Message::End(end) if end.reason == EndReason::TooSlow), "{heard:?}");
}

/// [A7] After Decline, what of the body was on its way is taken and dropped; more than could be is a violation.
#[test]
fn the_unasked_body_of_a_declined_award_is_dropped() {
    let size = 40_000_u64;
    let dear = Award { tariff: Tariff { fee_in: 1, price_out: 1 }, ..priced(size) };
    let piece = vec![b'x'; 8_192];
    let mut seller = Seller::new();
    let stream = seller.open();
    seller.award(stream, &dear);
    assert!(matches!(seller.heard(stream).one(), Message::Decline(_)));
    for n in 0..4 {
        seller.say(stream, &Message::Body { offset: n * 8_192, bytes: &piece });
    }
    assert_eq!(seller.heard(stream), super::seller::Heard::default(), "32,768 bytes cost nobody anything");
    seller.say(stream, &Message::Body { offset: 32_768, bytes: b"x" });
    assert!(seller.heard(stream).is_violation());
}

/// [A8] Accepted echoes the hash of the Award as it came over the wire.
#[test]
fn accepted_echoes_the_terms() {
    let mut seller = Seller::new();
    let stream = seller.open();
    seller.award(stream, &award());
    let mut payload = Vec::new();
    wire::encode(&Message::Award(award()), &mut payload);
    let heard = seller.heard(stream);
    assert!(matches!(heard.one(), Message::Accepted(accepted) if accepted.terms == sha256(&payload)));
}

/// [A9] The window that is granted is never wider than the one that was awarded.
#[test]
fn a_window_is_not_widened() {
    for (tokens, bytes) in [(1, 16_512), (8_192, 1 << 20), (1_024, 20_000)] {
        let mut seller = Seller::new();
        let stream = seller.open();
        seller.award(stream, &Award { window_tokens: tokens, window_bytes: bytes, ..award() });
        let heard = seller.heard(stream);
        let Message::Accepted(accepted) = heard.one() else { panic!("{heard:?}") };
        let own = Limits::default();
        let granted = (accepted.window_tokens, accepted.window_bytes);
        assert_eq!(granted, (tokens.min(own.window_tokens), bytes.min(own.window_bytes)));
    }
}

/// [A10] What no engine can sample by is declined.
#[test]
fn senseless_sampling_is_unsupported() {
    let sampled = |edit: &dyn Fn(&mut Sampling)| {
        let mut award = award();
        edit(&mut award.sampling);
        declined(&award)
    };
    assert_eq!(sampled(&|sampling| sampling.temperature_milli = 100_000), None);
    assert_eq!(sampled(&|sampling| sampling.top_p_milli = 1), None);
    let unsupported = Some(DeclineReason::Unsupported);
    assert_eq!(sampled(&|sampling| sampling.temperature_milli = 100_001), unsupported);
    assert_eq!(sampled(&|sampling| sampling.top_p_milli = 0), unsupported);
    assert_eq!(sampled(&|sampling| sampling.top_p_milli = 1_001), unsupported);
}

/// An award at the posted price of a body of another size.
pub(super) fn priced(body_bytes: u64) -> Award {
    let fee_in = haggle_core::money::fee_in(super::PRICE_IN, 4, body_bytes).unwrap();
    Award { body_bytes, tariff: Tariff { fee_in, price_out: PRICE_OUT }, ..award() }
}
