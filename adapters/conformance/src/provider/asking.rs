//! Prices: Rfq, Offer, Counter, Decline, Release.

use haggle_core::{
    Millis, Model,
    money::Tariff,
    wire::{
        Message,
        message::{Award, Counter, DeclineReason, Offer, ReleaseReason, Rfq},
    },
};

use super::buyer::{Answer, Buyer, PROMPT, accepted, say_award, say_body};
use crate::{
    line::{Frame, Line},
    verdict::{Step, broken, demand},
};

const TOKENS: u64 = 16;

pub(super) async fn bounds(buyer: Buyer) -> Step {
    let usual = buyer.rfq(TOKENS);
    let wrong =
        [Rfq { body_bytes: 255, ..usual.clone() }, Rfq { max_tokens: 0, ..usual.clone() }, Rfq { rfq: 0, ..usual }];
    for rfq in wrong {
        let line = buyer.line();
        line.say(&Message::Rfq(rfq));
        line.over("B2", "an Rfq out of bounds", |_| false).await?;
    }
    Ok(())
}

pub(super) async fn offer(buyer: Buyer) -> Step {
    let line = buyer.line();
    let offer = buyer.offer(&line, TOKENS).await?;
    demand("N2", offer.expires_in > Millis::ZERO, || "an Offer that binds for no time".into())?;
    let next = buyer.offer(&line, TOKENS).await?;
    demand("N4", next.offer != offer.offer, || "two Offers of one id".into())
}

pub(super) async fn unknown_model(buyer: Buyer) -> Step {
    let model = Model::new(b"no model is called so: \0conformance").unwrap_or(buyer.model.model.clone());
    let line = buyer.line();
    line.say(&Message::Rfq(Rfq { model, ..buyer.rfq(TOKENS) }));
    line.decline("N6", DeclineReason::UnknownModel).await?;
    line.lives("N6", "Decline").await
}

pub(super) async fn beyond_the_context(buyer: Buyer) -> Step {
    let line = buyer.line();
    line.say(&Message::Rfq(buyer.rfq(u64::from(buyer.model.context) + 1)));
    line.decline("N6", DeclineReason::Context).await.map(|_| ())
}

pub(super) async fn release(buyer: Buyer) -> Step {
    let line = buyer.line();
    buyer.offer(&line, TOKENS).await?;
    line.say(&Message::Release(ReleaseReason::Price));
    line.quiet("C5", "Release").await
}

pub(super) async fn counter(buyer: Buyer) -> Step {
    let line = buyer.line();
    let first = buyer.offer(&line, TOKENS).await?;
    // What was asked is bid: it is taken, at that price or below.
    let taken = match bid(&line, &first, first.tariff).await? {
        Bid::Offered(offer) => offer,
        Bid::Refused(_) => return Err(broken("N4", "a bid of what was asked is called too cheap")),
    };
    Answer::begin_on(line, buyer.take(&taken, TOKENS), PROMPT).await.map(|_| ())
}

pub(super) async fn third_counter(buyer: Buyer) -> Step {
    let line = buyer.line();
    let mut last = buyer.offer(&line, TOKENS).await?;
    for round in 0..3 {
        let answer = bid(&line, &last, Tariff { fee_in: 0, price_out: 0 }).await?;
        let is_refused = matches!(answer, Bid::Refused(_));
        let (Bid::Offered(offer) | Bid::Refused(offer)) = answer;
        let rose = offer.tariff.fee_in > last.tariff.fee_in || offer.tariff.price_out > last.tariff.price_out;
        demand("N4", !rose, || format!("{:?} was asked after {:?}", offer.tariff, last.tariff))?;
        if round == 2 {
            demand("N3", is_refused, || "a third Counter is answered with a new Offer".into())?;
            demand("N3", offer.tariff == last.tariff, || "another tariff than was asked last".into())?;
        }
        last = offer;
    }
    // The refusal's offer binds.
    say_award(&line, &buyer.take(&last, TOKENS));
    let award = line.stage.with(|table| table.awarded.last().copied());
    let frame = line.frame("N3", "Accepted: the offer in Decline {too cheap} binds").await?;
    let is_accepted = matches!(frame.message(), Message::Accepted(_)) && award.is_some();
    if is_accepted { Ok(()) } else { Err(frame.instead_of("N3", "Accepted: the offer in Decline {too cheap} binds")) }
}

pub(super) async fn countered_offer(buyer: Buyer) -> Step {
    let line = buyer.line();
    let first = buyer.offer(&line, TOKENS).await?;
    bid(&line, &first, Tariff { fee_in: 0, price_out: 0 }).await?;
    say_award(&line, &buyer.take(&first, TOKENS));
    line.decline("N3", DeclineReason::Stale).await.map(|_| ())
}

pub(super) async fn unknown_offer(buyer: Buyer) -> Step {
    let line = buyer.line();
    let (rfq, offer) = (buyer.stage.bits(), buyer.stage.bits());
    line.say(&Message::Counter(Counter { rfq, offer, tariff: Tariff { fee_in: 0, price_out: 0 } }));
    line.decline("N5", DeclineReason::Stale).await?;
    say_award(&line, &Award { offer: Some(offer), ..buyer.award(PROMPT, TOKENS) });
    line.decline("N5", DeclineReason::Stale).await.map(|_| ())
}

pub(super) async fn strangers_offer(buyer: Buyer) -> Step {
    let offer = buyer.offer(&buyer.line(), TOKENS).await?;
    let stranger = Line::open_as_stranger(&buyer.stage);
    stranger.say(&Message::Award(buyer.take(&offer, TOKENS)));
    stranger.decline("N5", DeclineReason::Stale).await.map(|_| ())
}

pub(super) async fn taken_twice(buyer: Buyer) -> Step {
    let line = buyer.line();
    let offer = buyer.offer(&line, TOKENS).await?;
    let mut answer = Answer::begin_on(line, buyer.take(&offer, TOKENS), PROMPT).await?;
    answer.read_to_end().await?;
    answer.finish();
    let again = buyer.line();
    say_award(&again, &buyer.take(&offer, TOKENS));
    again.decline("N2", DeclineReason::Stale).await.map(|_| ())
}

pub(super) async fn more_than_offered(buyer: Buyer) -> Step {
    let line = buyer.line();
    let offer = buyer.offer(&line, TOKENS).await?;
    say_award(&line, &buyer.take(&offer, TOKENS + 1));
    line.decline("N2", DeclineReason::Stale).await?;
    let long = [PROMPT; 20].concat();
    let award = Award { offer: Some(offer.offer), tariff: offer.tariff, ..buyer.award(&long, TOKENS) };
    say_award(&line, &award);
    line.decline("N2", DeclineReason::Stale).await?;
    // What was asked is still offered.
    let award = buyer.take(&offer, TOKENS);
    say_award(&line, &award);
    say_body(&line, PROMPT, 0, PROMPT.len());
    accepted(&line, &award, false).await.map(|_| ())
}

/// What a bid gets.
enum Bid {
    Offered(Offer),
    Refused(Offer),
}

async fn bid(line: &Line, on: &Offer, tariff: Tariff) -> Step<Bid> {
    const WANTED: &str = "an Offer, or Decline {TooCheap} with what was asked last";
    line.say(&Message::Counter(Counter { rfq: on.rfq, offer: on.offer, tariff }));
    let frame: Frame = line.frame("N4", WANTED).await?;
    let answer = match frame.message() {
        Message::Offer(offer) => Bid::Offered(offer),
        Message::Decline(decline) if decline.reason == DeclineReason::TooCheap => match decline.offer {
            Some(offer) => Bid::Refused(offer),
            None => return Err(broken("N4", "Decline {TooCheap} without the offer that binds")),
        },
        _ => return Err(frame.instead_of("N4", WANTED)),
    };
    let (Bid::Offered(offer) | Bid::Refused(offer)) = &answer;
    demand("N4", offer.rfq == on.rfq, || format!("an answer for Rfq {}, not {}", offer.rfq, on.rfq))?;
    demand("N4", offer.offer != on.offer, || "the answer has the id of the offer that was bid on".into())?;
    let rose = offer.tariff.fee_in > on.tariff.fee_in || offer.tariff.price_out > on.tariff.price_out;
    demand("N4", !rose, || format!("{:?} is asked after {:?}", offer.tariff, on.tariff))?;
    Ok(answer)
}
