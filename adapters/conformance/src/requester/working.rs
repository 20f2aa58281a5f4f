//! A job that is done, and mistakes on the way to which a requester has to be blind for nothing.

use haggle_core::{
    Millis,
    wire::{
        Message,
        message::{Accepted, DeclineReason, EndReason},
    },
};

use super::seller::{Bids, Deal, Seller};
use crate::{
    line::{SETTLE, frame, framed},
    stage::Arrival,
    verdict::{Step, demand, unplayed},
};

/// A job that is accepted, and whose body is here.
async fn accepted(seller: &mut Seller) -> Step<Deal> {
    let mut deal = seller.award().await?;
    deal.accept().await?;
    Ok(deal)
}

/// A job of which a token was written.
async fn begun(seller: &mut Seller) -> Step<Deal> {
    let mut deal = accepted(seller).await?;
    deal.write(1);
    deal.acked(deal.next()).await?;
    Ok(deal)
}

pub(super) async fn job(mut seller: Seller) -> Step {
    let mut deal = accepted(&mut seller).await?;
    deal.write(3);
    deal.acked(deal.next()).await?;
    deal.write(5);
    deal.finish().await
}

pub(super) async fn bytes_one_by_one(mut seller: Seller) -> Step {
    let mut deal = accepted(&mut seller).await?;
    let mut bytes = deal.chunk();
    bytes.extend(deal.chunk());
    bytes.extend(frame(&Message::Keepalive));
    bytes.extend(frame(&Message::End(deal.end(EndReason::Stop))));
    for byte in bytes {
        deal.line.send(&[byte]);
        seller.stage.pause(Millis(1)).await;
    }
    deal.received().await
}

pub(super) async fn all_in_one_packet(mut seller: Seller) -> Step {
    let mut deal = seller.award().await?;
    deal.whole_body().await?;
    let mut bytes = frame(&Message::Accepted(deal.accepted()));
    (0..8).for_each(|_| bytes.extend(deal.chunk()));
    bytes.extend(frame(&Message::End(deal.end(EndReason::Stop))));
    deal.line.send(&bytes);
    deal.received().await
}

pub(super) async fn empty_frame(mut seller: Seller) -> Step {
    let deal = begun(&mut seller).await?;
    deal.line.send(&[0, 0]);
    deal.abandoned("F2", "a frame of no bytes").await
}

/// A chunk's payload, changed.
async fn changed(mut seller: Seller, rule: &'static str, change: fn(&mut Vec<u8>)) -> Step {
    let mut deal = begun(&mut seller).await?;
    let mut payload = deal.chunk().split_off(2);
    change(&mut payload);
    deal.line.send(&framed(&payload));
    deal.abandoned(rule, "a Chunk that is none").await
}

pub(super) async fn long_number(seller: Seller) -> Step {
    // The kind in two bytes.
    changed(seller, "E1", |payload| drop(payload.splice(1..2, [0x18, 0x0a]))).await
}

pub(super) async fn reserved(seller: Seller) -> Step {
    changed(seller, "E3", |payload| {
        payload[2] += 1;
        payload.extend([0x14, 0x41, 0]);
    })
    .await
}

pub(super) async fn trailing(seller: Seller) -> Step {
    changed(seller, "E4", |payload| payload.push(0)).await
}

/// The text ends in mid-character.
pub(super) async fn half_a_character(seller: Seller) -> Step {
    changed(seller, "E1", |payload| *payload.last_mut().unwrap_or(&mut 0) = 0xc3).await
}

pub(super) async fn chunk_before_accepted(mut seller: Seller) -> Step {
    let mut deal = seller.award().await?;
    deal.whole_body().await?;
    deal.write(1);
    deal.abandoned("C1", "a Chunk before Accepted").await
}

pub(super) async fn out_of_place(mut seller: Seller) -> Step {
    let deal = begun(&mut seller).await?;
    deal.line.say(&Message::Offer(seller.offer(1, deal.award.tariff)));
    deal.abandoned("C1", "an Offer while an answer is written").await
}

pub(super) async fn other_terms(seller: Seller) -> Step {
    granted(seller, "A8", |accepted| accepted.terms[0] ^= 1).await
}

pub(super) async fn wider_window(seller: Seller) -> Step {
    granted(seller, "A9", |accepted| accepted.window_tokens += 1).await
}

pub(super) async fn credit_too_small(seller: Seller) -> Step {
    granted(seller, "A5", |accepted| accepted.body_credit -= 1).await
}

async fn granted(mut seller: Seller, rule: &'static str, change: fn(&mut Accepted)) -> Step {
    let mut deal = seller.award().await?;
    deal.unasked_body().await?;
    let mut accepted = deal.accepted();
    change(&mut accepted);
    deal.line.say(&Message::Accepted(accepted));
    deal.abandoned(rule, "an Accepted of other terms").await
}

pub(super) async fn large_body(mut seller: Seller) -> Step {
    let mut deal = seller.award().await?;
    if deal.award.body_bytes <= 32 << 10 {
        return Err(unplayed("its prompt has no more than 32 KiB"));
    }
    deal.unasked_body().await?;
    deal.accept().await?;
    deal.write(1);
    deal.finish().await
}

pub(super) async fn gap(mut seller: Seller) -> Step {
    let mut deal = begun(&mut seller).await?;
    deal.chunk();
    deal.write(1);
    deal.abandoned("W1", "a Chunk that leaves a token out").await
}

pub(super) async fn twice(mut seller: Seller) -> Step {
    let mut deal = begun(&mut seller).await?;
    let chunk = deal.chunk();
    deal.line.send(&[&chunk[..], &chunk].concat());
    deal.abandoned("W1", "the same Chunk twice").await
}

pub(super) async fn too_many_tokens(mut seller: Seller) -> Step {
    let deal = begun(&mut seller).await?;
    let n = u32::try_from(deal.award.max_tokens).unwrap_or(u32::MAX);
    let text = "x".repeat(usize::try_from(n).unwrap_or(0).min(8 << 10));
    deal.line.say(&Message::Chunk { seq: deal.next(), n, text: &text, ids: None, channel: None });
    deal.abandoned("W2", "more tokens than were ordered").await
}

pub(super) async fn padded_count(mut seller: Seller) -> Step {
    let mut deal = accepted(&mut seller).await?;
    deal.line.say(&Message::Chunk { seq: 0, n: 8, text: "x", ids: None, channel: None });
    deal.chunk();
    deal.abandoned("W2", "eight tokens in a byte").await
}

pub(super) async fn beyond_the_window(mut seller: Seller) -> Step {
    let mut deal = seller.award().await?;
    deal.whole_body().await?;
    let accepted = Accepted { window_tokens: 1, ..deal.accepted() };
    let chunks = [deal.chunk(), deal.chunk()].concat();
    deal.line.send(&[frame(&Message::Accepted(accepted)), chunks].concat());
    deal.abandoned("W4", "two tokens in a window of one").await
}

pub(super) async fn wrong_count(mut seller: Seller) -> Step {
    let deal = begun(&mut seller).await?;
    let mut end = deal.end(EndReason::Stop);
    end.tokens += 1;
    deal.line.say(&Message::End(end));
    deal.abandoned("X1", "an End of another count").await
}

pub(super) async fn wrong_hash(mut seller: Seller) -> Step {
    let deal = begun(&mut seller).await?;
    let mut end = deal.end(EndReason::Stop);
    end.hash[0] ^= 1;
    deal.line.say(&Message::End(end));
    deal.abandoned("X1", "an End of another text").await
}

pub(super) async fn cancelled_by_nobody(mut seller: Seller) -> Step {
    let deal = begun(&mut seller).await?;
    deal.line.say(&Message::End(deal.end(EndReason::Cancelled)));
    deal.abandoned("K2", "End {Cancelled} without a Cancel").await
}

/// Every sign of life is answered by nothing; a flood of them ends it.
pub(super) async fn flood(mut seller: Seller) -> Step {
    let mut deal = begun(&mut seller).await?;
    (0..50).for_each(|_| deal.line.say(&Message::Keepalive));
    deal.write(1);
    deal.acked(deal.next()).await?;
    (0..1_000).for_each(|_| deal.line.say(&Message::Keepalive));
    deal.abandoned("C2", "a thousand Keepalives").await
}

/// Nothing is written for longer than a sign of life may take.
pub(super) async fn sign_of_life(mut seller: Seller) -> Step {
    let mut deal = begun(&mut seller).await?;
    seller.stage.pause(Millis::from_secs(5)).await;
    deal.line.say(&Message::Keepalive);
    deal.sign().await?;
    deal.finish().await
}

/// Busy: whoever comes again comes under another name.
pub(super) async fn busy(mut seller: Seller) -> Step {
    let deal = seller.award().await?;
    seller.decline(&deal, DeclineReason::Busy, None);
    let Some(again) = seller.award_within(Millis::from_secs(10)).await? else { return Ok(()) };
    let is_new = again.award.job != deal.award.job || again.award.attempt > deal.award.attempt;
    demand("A3", is_new, || "an attempt that was declined is awarded again under the same name".into())
}

/// The price has changed: the offer in the refusal is taken, or nothing.
pub(super) async fn stale(mut seller: Seller) -> Step {
    let deal = seller.award().await?;
    let offer = seller.offer(0, deal.award.tariff);
    seller.decline(&deal, DeclineReason::Stale, Some(offer.clone()));
    let Some(mut again) = seller.award_within(Millis::from_secs(10)).await? else {
        return Err(unplayed("it takes no offer that comes inside of a Decline"));
    };
    demand("A2", again.award.offer == Some(offer.offer), || format!("{:?} is awarded", again.award.offer))?;
    demand("A3", again.award.attempt > deal.award.attempt, || "the same attempt is awarded twice".into())?;
    again.accept().await?;
    again.write(1);
    again.finish().await
}

pub(super) async fn bids(seller: Seller) -> Step {
    let mut seller = seller.haggling(Bids::Lower);
    let mut deal = seller.award().await?;
    if seller.counters == 0 {
        return Err(unplayed("it does not bid"));
    }
    deal.accept().await?;
    deal.write(1);
    deal.finish().await
}

pub(super) async fn raised_price(seller: Seller) -> Step {
    let mut seller = seller.haggling(Bids::Raise);
    let awarded = seller.award_within(Millis::from_secs(10)).await?;
    if seller.counters == 0 {
        return Err(unplayed("it does not bid"));
    }
    demand("N4", awarded.is_none(), || "an offer that rose after a bid is taken".into())
}

/// Given up by its own requester: said, and said again until it is confirmed.
pub(super) async fn cancel(mut seller: Seller) -> Step {
    let deal = begun(&mut seller).await?;
    let patience = Millis::from_secs(60);
    let named = Message::Cancel { job: deal.award.job, attempt: deal.award.attempt, voucher: None };
    loop {
        match deal.line.arrival(patience).await {
            Some(Arrival::Frame(payload)) if crate::line::Frame(payload.clone()).message() == named => break,
            Some(Arrival::Frame(_)) => deal.line.say(&Message::Keepalive),
            Some(Arrival::Over) => break,
            other => return Err(crate::stage::no_message("K1", "Cancel", other)),
        }
    }
    // It was not heard.
    deal.cut();
    let again = seller.first("K3", "Cancel over another stream", patience).await;
    if again.is_err() && seller.stage.with(|table| table.is_gone) {
        return Err(unplayed("its process ended when it had given up; one that lives on says Cancel again"));
    }
    let (line, frame) = again?;
    demand("K3", frame.message() == named, || format!("{:?}, not Cancel", frame.message()))?;
    line.say(&Message::End(deal.end(EndReason::Cancelled)));
    line.close();
    let again = seller.stage.arrival(None, Millis(2_000 + SETTLE.0)).await;
    let said = |arrival: &Arrival| matches!(arrival, Arrival::Frame(payload) if crate::line::Frame(payload.clone()).message() == named);
    demand("K3", !again.is_some_and(|(_, arrival)| said(&arrival)), || "a confirmed Cancel is said again".into())
}
