//! Rfq, offers and awards, as a requester makes and takes them.

use haggle_core::{
    JobSpec, Millis,
    event::{Failure, Outcome, Violation},
    money::Tariff,
    spec::{Choose, Haggle},
    wire::{
        Message, Prompt,
        message::{Counter, Decline, DeclineReason, EndReason, Offer, ReleaseReason, Rfq},
    },
};

use super::{
    PRICE_OUT, advert, award,
    buyer::{Buyer, accepted},
    giving_up::end,
    peer,
};

/// A job that haggles, and was answered nothing yet.
fn asking() -> (Buyer, haggle_core::StreamId, Rfq) {
    let mut buyer = Buyer::new();
    buyer.knows("seller", advert());
    buyer.submit(&["seller"], |spec| spec.haggle = Haggle::Bid(700));
    let stream = buyer.newest("seller");
    let said = buyer.said(stream);
    let [Message::Rfq(rfq)] = &said[..] else { panic!("{said:?}") };
    let rfq = rfq.clone();
    (buyer, stream, rfq)
}

fn offer(rfq: &Rfq, id: u64, tariff: Tariff) -> Offer {
    Offer { rfq: rfq.rfq, offer: id, tariff, eta: Millis(100), expires_in: Millis(60_000), methods: None }
}

/// [N1] [A1] An Rfq tells sizes only, and rounded ones; the prompt goes out after the Award and not before.
#[test]
fn a_request_for_quote_tells_no_more_than_sizes() {
    let (buyer, stream, rfq) = asking();
    assert_eq!((rfq.body_bytes, rfq.max_tokens), (256, 30));
    assert!(!buyer.said(stream).iter().any(|message| matches!(message, Message::Body { .. } | Message::Award(_))));
    let (buyer, stream, _) = Buyer::awarded(|_| ());
    let said = buyer.said(stream);
    assert!(matches!(said[..], [Message::Award(_), Message::Body { offset: 0, .. }]), "{said:?}");
}

/// [N3] [N4] Two bids at most, each on the last offer; an ask that rises is a violation.
#[test]
fn two_bids_are_made_and_an_ask_that_rises_is_none() {
    let posted = award().tariff;
    let (mut buyer, stream, rfq) = asking();
    buyer.hears(stream, &Message::Offer(offer(&rfq, 1, posted)));
    for id in [2, 3] {
        let said = buyer.said(stream);
        let Some(Message::Counter(Counter { offer: on, tariff, .. })) = said.last() else { panic!("{said:?}") };
        assert_eq!(*on, id - 1);
        assert!(tariff.price_out < PRICE_OUT);
        let lower = Tariff { fee_in: posted.fee_in, price_out: PRICE_OUT - id };
        buyer.hears(stream, &Message::Offer(offer(&rfq, id, lower)));
    }
    assert_eq!(buyer.award(stream).offer, Some(3), "after two bids it is taken as it is");

    for dearer in [Tariff { price_out: posted.price_out + 1, ..posted }, Tariff { fee_in: posted.fee_in + 1, ..posted }]
    {
        let (mut buyer, stream, rfq) = asking();
        buyer.hears(stream, &Message::Offer(offer(&rfq, 1, posted)));
        buyer.hears(stream, &Message::Offer(offer(&rfq, 2, dearer)));
        assert_eq!(buyer.violation(), Some(Violation::Terms));
    }
}

/// [N2] An offer that expired is not awarded, whoever chooses it; one that binds still is.
#[test]
fn an_offer_is_awarded_while_it_binds() {
    for (waited, binds) in [(59_999, true), (60_000, false)] {
        let mut buyer = Buyer::new();
        buyer.knows("seller", advert());
        let job = buyer
            .submit(&["seller"], |spec| (spec.choose, spec.deadline) = (Choose::Application, Some(Millis(600_000))));
        let stream = buyer.newest("seller");
        buyer.quotes(stream, award().tariff);
        buyer.wait(Millis(waited));
        let chosen = buyer.requester.award(buyer.now, job, peer("seller"));
        assert_eq!(chosen.is_ok(), binds, "{waited}: {chosen:?}");
    }
}

/// [C3] What an offer promises of time is clamped: it binds no longer than 300 s, and nobody's `eta` is beyond an hour.
#[test]
fn remote_durations_are_clamped() {
    let (mut buyer, stream, rfq) = asking();
    let posted = award().tariff;
    let ever = Offer { expires_in: Millis(u64::MAX), eta: Millis(u64::MAX), ..offer(&rfq, 1, posted) };
    buyer.hears(stream, &Message::Offer(ever.clone()));
    buyer.hears(
        stream,
        &Message::Decline(Decline {
            reason: DeclineReason::TooCheap,
            retry_after: Some(Millis(u64::MAX)),
            offer: Some(Offer { offer: 2, ..ever }),
            shown: None,
        }),
    );
    // An hour is beyond the job's ten minutes: it is not awarded, and nothing overflowed on the way.
    buyer.wait(Millis(600_000));
    assert!(buyer.outcome.is_some());
    assert!(!buyer.said(stream).iter().any(|message| matches!(message, Message::Award(_))));
}

/// [M4] [M2] An Award is made only with room for all that it can come to cost; a unit less, and there is none.
#[test]
fn an_award_has_room_for_all_that_it_can_cost() {
    let all = 256 + 30;
    for (budget, is_awarded) in [(all, true), (all - 1, false)] {
        let mut buyer = Buyer::new();
        buyer.knows("seller", advert());
        buyer.submit(&["seller"], |spec: &mut JobSpec| spec.budget = Some(budget));
        let stream = buyer.newest("seller");
        if matches!(buyer.said(stream)[..], [Message::Rfq(_)]) {
            buyer.quotes(stream, award().tariff);
        }
        let awarded = buyer.said(stream).iter().any(|message| matches!(message, Message::Award(_)));
        assert_eq!(awarded, is_awarded, "{budget}");
        assert!(is_awarded || matches!(buyer.outcome, Some(Outcome::Failed(Failure::OverBudget { .. }))));
    }
}

/// [M1] Sums are computed in more than 64 bits: what does not fit is no price, and nothing wraps.
#[test]
fn prices_at_the_edge_of_64_bits_do_not_wrap() {
    let mut buyer = Buyer::new();
    buyer.knows("seller", haggle_core::wire::message::ModelAdvert { price_out: u64::MAX, ..advert() });
    buyer.submit(&["seller"], |spec| spec.budget = Some(u64::MAX));
    let stream = buyer.newest("seller");
    // 30 tokens at 2^64 - 1 a million cost more than 2^49, and are affordable: counted, not wrapped.
    assert_eq!(buyer.award(stream).tariff.cost(30), 256 + (30 * u128::from(u64::MAX)).div_ceil(1_000_000));
    let tariff = Tariff { fee_in: u64::MAX, price_out: u64::MAX };
    assert_eq!(tariff.cost(1_000_000), 2 * u128::from(u64::MAX));
    assert_eq!(haggle_core::money::fee_in(u64::MAX, 1, 1 << 40), None);
}

/// [A5] No more than 32,768 bytes of a body are sent before Accepted, and none beyond the credit after it.
#[test]
fn a_body_goes_out_under_credit() {
    let prompt = "x".repeat(100_000);
    let mut buyer = Buyer::new();
    buyer.knows("seller", advert());
    buyer.submit(&["seller"], |spec| spec.prompt = Prompt::Raw(prompt));
    let stream = buyer.newest("seller");
    let sent = |buyer: &Buyer| {
        buyer.said(stream).iter().fold(0, |sum, message| match message {
            Message::Body { offset, bytes } => {
                assert_eq!(*offset, sum, "in order, without a gap");
                sum + bytes.len() as u64
            }
            _ => sum,
        })
    };
    assert_eq!(sent(&buyer), 32_768);
    let accepted = accepted(&buyer.award(stream));
    buyer.hears(stream, &Message::Accepted(accepted));
    assert_eq!(sent(&buyer), 100_000);
}

/// [D2] A hint names a peer and nothing else: it is asked to describe itself, and what it says counts.
#[test]
fn a_hint_is_asked_and_not_believed() {
    let mut buyer = Buyer::new();
    buyer.submit(&[], |_| ());
    buyer.hints(["stranger"]);
    let stream = buyer.newest("stranger");
    assert_eq!(buyer.said(stream), [Message::Describe]);
    let advert =
        haggle_core::wire::message::Advert { models: vec![advert()], slots: 1, free: 1, queued: 0, methods: None };
    buyer.hears(stream, &Message::Advert(advert));
    let next = buyer.newest("stranger");
    assert!(matches!(buyer.said(next)[..], [Message::Award(_), ..] | [Message::Rfq(_)]));
}

/// Who is late with an offer because another one was quick is out of this choice, not of the job: it goes on if that one fails.
#[test]
fn who_is_late_may_go_on_when_the_quick_one_fails() {
    let mut buyer = Buyer::new();
    ["quick", "slow"].iter().for_each(|name| buyer.knows(name, advert()));
    buyer.submit(&["quick", "slow"], |spec| spec.haggle = Haggle::Offers);
    let stream = buyer.newest("quick");
    buyer.quotes(stream, award().tariff);
    assert!(!buyer.is_awarded("quick"), "the other one has half a second");
    buyer.wait(Millis(500));
    let award = buyer.award(stream);
    let said = buyer.said(buyer.newest("slow"));
    assert!(matches!(said[..], [Message::Rfq(_), Message::Release(ReleaseReason::Late)]), "{said:?}");
    buyer.hears(stream, &Message::Accepted(accepted(&award)));
    buyer.hears(stream, &end(EndReason::Engine, ""));
    buyer.wait(Millis::from_secs(5));
    assert!(buyer.is_asked("slow"));
}
