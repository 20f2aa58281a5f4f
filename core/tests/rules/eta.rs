//! What an offer says of its first token: learned from the jobs that were served.

use haggle_core::{
    JobId, Millis,
    wire::{
        Message,
        message::{Award, EndReason, Rfq},
    },
};
use proptest::prelude::*;

use super::{award, model, seller::Seller};

fn offered(seller: &mut Seller) -> u64 {
    let stream = seller.open();
    seller.say(stream, &Message::Rfq(Rfq { rfq: 5, model: model(), body_bytes: 256, max_tokens: 30 }));
    let heard = seller.heard(stream);
    let Message::Offer(offer) = heard.one() else { panic!("{heard:?}") };
    seller.cut(stream);
    offer.eta.0
}

fn advertised(seller: &Seller) -> u64 {
    seller.provider.advert().models[0].eta.0
}

/// A job whose first token comes after `first` and whose end comes `rest` later.
fn serves(seller: &mut Seller, number: u8, (first, rest): (u64, u64)) {
    let (stream, attempt) = seller.running(&Award { job: JobId([number; 16]), ..award() });
    seller.wait(Millis(first));
    seller.push(attempt, " and").unwrap();
    seller.wait(Millis(rest));
    seller.finish(attempt, EndReason::Stop);
    seller.say(stream, &Message::Ack { next: 1, end: true, voucher: None });
}

proptest! {
    /// The settings' word is a guess until the first job was served. From then on a steady server's time is offered, and a server
    /// that changes is followed: after some jobs what is said is within a factor of two.
    #[test]
    fn it_is_learned_from_what_was_served(before in 1_u64..20_000, after in 1_u64..20_000, rest in 0_u64..5_000) {
        let mut seller = Seller::new();
        prop_assert_eq!((offered(&mut seller), advertised(&seller)), (100, 100), "as it is set");
        serves(&mut seller, 1, (before, rest));
        prop_assert_eq!((offered(&mut seller), advertised(&seller)), (before, before));
        for number in 2..40 {
            serves(&mut seller, number, (after, rest));
        }
        let now = offered(&mut seller);
        prop_assert!((after / 2..=after * 2).contains(&now), "{before}, then {after}: {now}");
        prop_assert_eq!(advertised(&seller), now);
    }
}

/// Who comes while the slot is taken waits for it first; a slot whose requester is gone is free after five seconds.
#[test]
fn a_queue_counts_and_who_is_gone_counts_for_what_is_left() {
    let mut seller = Seller::new();
    serves(&mut seller, 1, (1_000, 29_000));
    let (stream, attempt) = seller.running(&Award { job: JobId([2; 16]), ..award() });
    assert_eq!(offered(&mut seller), 30_000 + 1_000);
    seller.push(attempt, " and").unwrap();
    seller.cut(stream);
    assert_eq!(offered(&mut seller), 5_000 + 750);
    seller.wait(Millis(2_000));
    assert_eq!(offered(&mut seller), 3_000 + 750);
}

/// Who once was slow, and says so, gets no job any more that could show that it is not: after ten minutes that is forgotten.
#[test]
fn what_was_learned_long_ago_says_nothing() {
    let mut seller = Seller::new();
    serves(&mut seller, 1, (20_000, 0));
    seller.wait(Millis::from_secs(579));
    assert_eq!(offered(&mut seller), 20_000);
    seller.wait(Millis::from_secs(21));
    assert_eq!((offered(&mut seller), advertised(&seller)), (100, 100));
    serves(&mut seller, 2, (300, 0));
    assert_eq!(offered(&mut seller), 300);
}
