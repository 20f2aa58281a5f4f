//! Rfq, Offer and Counter, as a provider answers them.

use haggle_core::{
    Millis, StreamId,
    money::Tariff,
    wire::{
        Message,
        message::{Award, Counter, Decline, DeclineReason, Offer, Rfq},
    },
};

use super::{PROMPT, award, model, peer, seller::Seller};

fn rfq() -> Rfq {
    Rfq { rfq: 9, model: model(), body_bytes: 256, max_tokens: 30 }
}

fn offered(seller: &mut Seller, stream: StreamId) -> Offer {
    seller.say(stream, &Message::Rfq(rfq()));
    let heard = seller.heard(stream);
    let Message::Offer(offer) = heard.one() else { panic!("{heard:?}") };
    offer
}

/// The first offer is the posted price.
#[test]
fn what_is_asked_first_is_what_is_posted() {
    let mut seller = Seller::new();
    let stream = seller.open();
    let offer = offered(&mut seller, stream);
    assert_eq!((offer.tariff, offer.rfq), (award().tariff, 9));
}

/// [N2] [N5] An offer binds once, towards its peer, for its model, size, tokens and tariff, until it expires; else it is stale.
#[test]
fn an_offer_binds_as_it_was_made_and_no_further() {
    type Edit<'a> = (&'a str, &'a dyn Fn(&mut Award));
    let foreign: [Edit<'_>; 6] = [
        ("an unknown id", &|award| award.offer = award.offer.map(|id| id ^ 1)),
        ("a lower fee", &|award| award.tariff.fee_in -= 1),
        ("a lower price", &|award| award.tariff.price_out -= 1),
        ("a larger body", &|award| (award.body_bytes, award.body_hash) = (257, [0; 32])),
        ("more tokens", &|award| award.max_tokens = 31),
        ("more tokens beside the overlap", &|award| {
            (award.body_bytes, award.prefix_bytes, award.prefix_tokens) = (100, 50, 10);
            (award.overlap, award.max_tokens) = (4, 35);
        }),
    ];
    for (case, edit) in foreign {
        let mut seller = Seller::new();
        let stream = seller.open();
        let offer = offered(&mut seller, stream);
        let mut award = Award { offer: Some(offer.offer), tariff: offer.tariff, ..award() };
        edit(&mut award);
        is_stale(&mut seller, stream, &award, case);
    }

    let mut seller = Seller::new();
    let stream = seller.open();
    let offer = offered(&mut seller, stream);
    let taken = Award { offer: Some(offer.offer), tariff: offer.tariff, ..award() };
    seller.buyer = peer("another");
    let elsewhere = seller.open();
    is_stale(&mut seller, elsewhere, &taken, "another peer");

    seller.award(stream, &taken);
    assert!(matches!(seller.heard(stream).one(), Message::Accepted(_)), "its own peer may take it");
    seller.buyer = peer("buyer");
    let again = seller.open();
    is_stale(&mut seller, again, &Award { attempt: 2, ..taken }, "the second time");
}

/// [N2] [C3] An offer expires at its moment, not before.
#[test]
fn an_offer_expires_at_its_moment() {
    for (waited, binds) in [(59_999, true), (60_000, false)] {
        let mut seller = Seller::new();
        let stream = seller.open();
        let offer = offered(&mut seller, stream);
        assert_eq!(offer.expires_in, Millis(60_000));
        seller.wait(Millis(waited));
        let stream = seller.open();
        let award = Award { offer: Some(offer.offer), tariff: offer.tariff, ..award() };
        if binds {
            seller.award(stream, &award);
            assert!(matches!(seller.heard(stream).one(), Message::Accepted(_)));
        } else {
            is_stale(&mut seller, stream, &award, "expired");
        }
    }
}

/// [N2] A quote for a body with a prefix covers the overlap that is read again.
#[test]
fn an_overlap_is_not_counted_against_an_offer() {
    let mut seller = Seller::new();
    let stream = seller.open();
    let offer = offered(&mut seller, stream);
    let award = Award {
        offer: Some(offer.offer),
        tariff: offer.tariff,
        body_bytes: 100,
        prefix_bytes: 50,
        prefix_tokens: 10,
        overlap: 4,
        max_tokens: 34,
        ..award()
    };
    seller.award(stream, &award);
    assert!(matches!(seller.heard(stream).one(), Message::Accepted(_)));
}

/// [N3] The offer that a bid answers binds no longer; a bid on an unknown offer is stale.
#[test]
fn a_countered_offer_is_gone() {
    let mut seller = Seller::new();
    let stream = seller.open();
    let offer = offered(&mut seller, stream);
    let bid = Tariff { fee_in: 1, price_out: 1 };
    seller.say(stream, &Message::Counter(Counter { rfq: 9, offer: offer.offer, tariff: bid }));
    seller.heard(stream);
    let award = Award { offer: Some(offer.offer), tariff: offer.tariff, ..award() };
    is_stale(&mut seller, stream, &award, "countered");
    let offer = offered(&mut seller, stream);
    for (rfq, id, buyer) in [(8, offer.offer, "buyer"), (9, 1, "buyer"), (9, offer.offer, "another")] {
        seller.buyer = peer(buyer);
        let stream = seller.open();
        seller.say(stream, &Message::Counter(Counter { rfq, offer: id, tariff: bid }));
        let heard = seller.heard(stream);
        let is_stale = matches!(heard.one(), Message::Decline(Decline { reason: DeclineReason::Stale, .. }));
        assert!(is_stale, "{rfq} {id} {buyer}: {heard:?}");
    }
    seller.award(stream, &Award { offer: Some(offer.offer), ..award });
    assert!(matches!(seller.heard(stream).one(), Message::Accepted(_)), "its own peer may still take it");
}

/// [N4] What is asked never rises, and never falls below the floor; after two bids the last offer stands, and binds.
#[test]
fn asks_only_fall_and_the_last_one_binds() {
    let floor = Tariff { fee_in: 128, price_out: 500_000 };
    let mut seller = Seller::new();
    let stream = seller.open();
    let mut last = offered(&mut seller, stream);
    let bid = Tariff { fee_in: 1, price_out: 1 };
    for round in 1..=2 {
        seller.say(stream, &Message::Counter(Counter { rfq: 9, offer: last.offer, tariff: bid }));
        let heard = seller.heard(stream);
        let next = match heard.one() {
            Message::Offer(offer) if round == 1 => offer,
            Message::Decline(Decline { reason: DeclineReason::TooCheap, offer: Some(offer), .. }) if round == 2 => {
                offer
            }
            other => panic!("round {round}: {other:?}"),
        };
        assert!(next.tariff.fee_in <= last.tariff.fee_in && next.tariff.price_out <= last.tariff.price_out);
        assert!(next.tariff.fee_in >= floor.fee_in && next.tariff.price_out >= floor.price_out);
        assert!(next.rfq == 9 && next.offer != last.offer, "each answer is a new offer of the same request");
        last = next;
    }
    seller.award(stream, &Award { offer: Some(last.offer), tariff: last.tariff, ..award() });
    assert!(matches!(seller.heard(stream).one(), Message::Accepted(_)));
    seller.body(stream, PROMPT);
    assert_eq!(seller.started.len(), 1);
}

fn is_stale(seller: &mut Seller, stream: StreamId, award: &Award, case: &str) {
    seller.award(stream, award);
    let heard = seller.heard(stream);
    assert!(matches!(heard.one(), Message::Decline(Decline { reason: DeclineReason::Stale, .. })), "{case}: {heard:?}");
    assert_eq!(seller.started.len(), 0, "{case}");
}

/// [N3] [N4] The third bid for a request has one answer: what was asked last stands, and binds.
#[test]
fn a_third_bid_moves_nothing() {
    let mut seller = Seller::new();
    let stream = seller.open();
    let mut last = offered(&mut seller, stream);
    let mut asked = Vec::new();
    for _ in 1..=4 {
        let bid = Tariff { fee_in: 160, price_out: 600_000 };
        seller.say(stream, &Message::Counter(Counter { rfq: 9, offer: last.offer, tariff: bid }));
        let heard = seller.heard(stream);
        last = match heard.one() {
            Message::Offer(offer) | Message::Decline(Decline { offer: Some(offer), .. }) => offer,
            other => panic!("{other:?}"),
        };
        asked.push(last.tariff);
    }
    assert!(asked[0] != award().tariff, "a bid near the reserve moves something");
    assert_eq!(asked[1..], [asked[0]; 3]);
    seller.award(stream, &Award { offer: Some(last.offer), tariff: last.tariff, ..award() });
    assert!(matches!(seller.heard(stream).one(), Message::Accepted(_)));
}

/// A thousand bids in as many conversations get nobody below three quarters of the way to the floor, and a peer that only
/// bids is soon answered with the posted price.
#[test]
fn nobody_milks_a_provider() {
    let bids = [(128, 500_000), (160, 600_000), (192, 750_000), (191, 749_999), (160, 625_000), (255, 999_999)];
    let mut seller = Seller::new();
    let mut lowest = award().tariff;
    let mut moved = 0;
    for n in 0..500 {
        let stream = seller.open();
        let mut last = offered(&mut seller, stream);
        for round in 0..2 {
            let (fee_in, price_out) = bids[(n + round) % bids.len()];
            let bid = Tariff { fee_in, price_out };
            seller.say(stream, &Message::Counter(Counter { rfq: 9, offer: last.offer, tariff: bid }));
            let heard = seller.heard(stream);
            let (Message::Offer(next) | Message::Decline(Decline { offer: Some(next), .. })) = heard.one() else {
                panic!("{heard:?}")
            };
            moved += usize::from(next.tariff != last.tariff);
            lowest = Tariff {
                fee_in: lowest.fee_in.min(next.tariff.fee_in),
                price_out: lowest.price_out.min(next.tariff.price_out),
            };
            last = next;
        }
        seller.cut(stream);
    }
    assert!(lowest.fee_in >= 256 - 96 && lowest.price_out >= 1_000_000 - 375_000, "{lowest:?}");
    assert!(moved <= 8, "{moved} of a thousand bids moved something");
}
