//! Tokens, the window, acknowledgements, and what does not belong.

use haggle_core::{
    Millis,
    wire::{
        Message,
        message::{Award, EndReason, GoneReason, Offer, Phase},
    },
};

use super::buyer::{Answer, Buyer, PROMPT, say_award};
use crate::{
    line::{Frame, Line, SETTLE, is_sign},
    stage::{Arrival, no_message},
    verdict::{Step, broken, demand, unplayed},
};

/// More than any window of a scenario holds.
const LONG: u64 = 64;

pub(super) async fn window_of_one(buyer: Buyer) -> Step {
    let mut answer = buyer.answer(LONG, 1).await?;
    for tokens in 1..4 {
        answer.until_full().await?;
        demand("W4", answer.run.tokens() == tokens, || format!("{} tokens at once", answer.run.tokens()))?;
        answer.ack(tokens);
    }
    Ok(())
}

pub(super) async fn window(buyer: Buyer) -> Step {
    let mut answer = buyer.answer(LONG, 4).await?;
    answer.until_full().await?;
    // A chunk counts until its last token is acknowledged.
    answer.ack(answer.run.next() - 1);
    answer.until(5).await?;
    answer.until_full().await?;
    answer.ack(answer.run.next());
    answer.until(9).await
}

pub(super) async fn max_tokens(buyer: Buyer) -> Step {
    let mut answer = buyer.answer(1, 1_024).await?;
    let end = answer.read_to_end().await?;
    answer.finish();
    let is_length = end.reason == EndReason::Length || answer.run.tokens() == 0;
    demand("W2", is_length || end.reason == EndReason::Stop, || format!("it ended for {:?}", end.reason))
}

pub(super) async fn ack_falls(buyer: Buyer) -> Step {
    let mut answer = buyer.answer(LONG, 4).await?;
    answer.until(2).await?;
    let next = answer.run.next();
    answer.ack(next);
    answer.line.say(&Message::Ack { next: next - 1, end: false, voucher: None });
    answer.line.over("W5", "an Ack that falls", written).await
}

pub(super) async fn ack_beyond(buyer: Buyer) -> Step {
    let mut answer = buyer.answer(LONG, 4).await?;
    answer.until_full().await?;
    answer.line.say(&Message::Ack { next: answer.run.next() + 1, end: false, voucher: None });
    answer.line.over("W5", "an Ack of what was not sent", |_| false).await
}

pub(super) async fn early_end(buyer: Buyer) -> Step {
    let mut answer = buyer.answer(LONG, 4).await?;
    answer.until_full().await?;
    answer.line.say(&Message::Ack { next: answer.run.next(), end: true, voucher: None });
    answer.line.over("X3", "Ack {end} before End", |_| false).await
}

pub(super) async fn flood(buyer: Buyer) -> Step {
    let mut answer = buyer.answer(LONG, 4).await?;
    answer.until_full().await?;
    let ack = Message::Ack { next: 0, end: false, voucher: None };
    (0..50).for_each(|_| answer.line.say(&ack));
    if let Some(arrival @ (Arrival::Over | Arrival::Wrong(_))) = answer.line.arrival(SETTLE).await {
        return Err(no_message("C2", "patience: fifty frames without progress are borne", Some(arrival)));
    }
    (0..1_000).for_each(|_| answer.line.say(&ack));
    answer.line.over("C2", "a thousand Acks that say nothing", written).await
}

pub(super) async fn out_of_place(buyer: Buyer) -> Step {
    let mut answer = buyer.answer(LONG, 4).await?;
    answer.until_full().await?;
    answer.line.say(&Message::Rfq(buyer.rfq(16)));
    answer.line.over("C1", "an Rfq while an attempt runs", |_| false).await?;
    let working = Message::Working { phase: Phase::Queued, done: None, of: None, eta: None };
    for message in [Message::Keepalive, working, Message::Resumed { next: 0 }, Message::Gone(GoneReason::Unknown)] {
        let line = buyer.line();
        line.say(&message);
        line.over("C1", "a message that only providers send", |_| false).await?;
    }
    let line = buyer.line();
    let tariff = buyer.award(PROMPT, 1).tariff;
    line.say(&Message::Offer(Offer { rfq: 1, offer: 1, tariff, eta: Millis(1), expires_in: Millis(1), methods: None }));
    line.over("C1", "an Offer from a requester", |_| false).await?;
    let line = buyer.line();
    line.say(&Message::Body { offset: 0, bytes: b"?" });
    line.over("C1", "a Body without an Award", |_| false).await
}

/// The text of two tokens is given as already written.
pub(super) async fn prefix(buyer: Buyer) -> Step {
    if !buyer.model.can_continue {
        return Err(unplayed("its model does not continue what others began"));
    }
    let prefix = " girl named";
    let body = [PROMPT, prefix.as_bytes()].concat();
    let award =
        Award { prefix_bytes: prefix.len() as u64, prefix_tokens: 2, window_tokens: 8, ..buyer.award(&body, 16) };
    let mut answer = Answer::begin(&buyer, award, &body).await?;
    answer.read_to_end().await?;
    answer.finish();
    Ok(())
}

pub(super) async fn acknowledged(buyer: Buyer) -> Step {
    let mut answer = buyer.answer(8, 1_024).await?;
    answer.read_to_end().await?;
    answer.finish();
    answer.line.over("C5", "Ack {end}", |_| false).await?;
    let line = buyer.line();
    line.say(&answer.resume_message(0));
    line.gone("X4", GoneReason::Unknown).await
}

/// As many as it computes at once wait for an Ack, and one more waits for them.
pub(super) async fn waits(buyer: Buyer) -> Step {
    if buyer.slots > 4 {
        return Err(unplayed("it computes more than 4 jobs at once; play with one of fewer slots"));
    }
    let mut running = Vec::new();
    for _ in 0..buyer.slots.max(1) {
        let mut answer = buyer.answer(LONG, 1).await?;
        answer.until_full().await?;
        running.push(answer);
    }
    let mut waiting = buyer.answer(4, 1_024).await?;
    while let Some(arrival) = waiting.line.arrival(Millis(3_500)).await {
        let Arrival::Frame(payload) = arrival else { return Err(no_message("C6", "patience", Some(arrival))) };
        waiting.hear(&Frame(payload))?;
    }
    for answer in &mut running {
        let line = answer.line.clone();
        line.say(&answer.cancel_message());
        answer.cancelled(&line).await?;
    }
    waiting.read_to_end().await?;
    waiting.finish();
    Ok(())
}

/// So many that most are reset: what runs, and a stream that was there, go on.
pub(super) async fn forty_streams(buyer: Buyer) -> Step {
    let mut answer = buyer.answer(LONG, 2).await?;
    answer.until_full().await?;
    let many: Vec<Line> = (0..40).map(|_| buyer.line()).collect();
    many.iter().for_each(|line| line.say(&Message::Describe));
    let mut served = 0;
    for line in &many {
        served += u32::from(matches!(line.arrival(Millis::from_secs(10)).await, Some(Arrival::Frame(_))));
    }
    many.iter().for_each(Line::close);
    demand("T4", served > 0, || "none of forty streams was served".into())?;
    answer.ack(answer.run.next());
    answer.until(3).await
}

/// Nothing is acknowledged for as long as a sign of life may take, and some seconds.
pub(super) async fn sign_of_life(buyer: Buyer) -> Step {
    let line = buyer.line();
    let award = Award { window_tokens: 2, ..buyer.award(PROMPT, LONG) };
    say_award(&line, &award);
    super::buyer::say_body(&line, PROMPT, 0, PROMPT.len());
    super::buyer::accepted(&line, &award, false).await?;
    while let Some(arrival) = line.arrival(Millis::from_secs(13)).await {
        let Arrival::Frame(payload) = arrival else { return Err(no_message("W6", "Keepalive", Some(arrival))) };
        match Frame(payload).message() {
            Message::Chunk { .. } => {}
            Message::End(_) => return Err(unplayed("its answer is too short for a full window")),
            _ => return Ok(()),
        }
    }
    Err(broken("W6", "13 s of silence: a sign of life was due after 10"))
}

/// What was written before the peer could know better.
fn written(message: &Message<'_>) -> bool {
    matches!(message, Message::Chunk { .. } | Message::End(_)) || is_sign(message)
}
