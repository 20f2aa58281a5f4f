//! Cancel: confirmed, wherever it was said.

use haggle_core::wire::{
    Message,
    message::{EndReason, GoneReason},
};

use super::buyer::{Buyer, PROMPT, accepted, say_award, say_body};
use crate::{
    line::{Line, is_sign},
    verdict::{Step, demand},
};

const LONG: u64 = 64;

pub(super) async fn own_stream(buyer: Buyer) -> Step {
    let mut answer = buyer.answer(LONG, 4).await?;
    answer.until(1).await?;
    let line = answer.line.clone();
    line.say(&answer.cancel_message());
    answer.cancelled(&line).await?;
    line.over("K2", "the confirmed Cancel", |_| false).await?;
    // Forgotten, and said again.
    let again = buyer.line();
    again.say(&answer.cancel_message());
    again.gone("K2", GoneReason::Unknown).await?;
    again.over("K2", "Gone", |_| false).await
}

pub(super) async fn other_stream(buyer: Buyer) -> Step {
    let mut answer = buyer.answer(LONG, 4).await?;
    answer.until(1).await?;
    let line = buyer.line();
    line.say(&answer.cancel_message());
    answer.cancelled(&line).await?;
    line.over("K2", "the confirmed Cancel", |_| false).await?;
    let written = |message: &Message<'_>| matches!(message, Message::Chunk { .. }) || is_sign(message);
    answer.line.over("K2", "Cancel on another stream", written).await
}

pub(super) async fn before_the_body(buyer: Buyer) -> Step {
    let (line, award) = (buyer.line(), buyer.award(PROMPT, LONG));
    say_award(&line, &award);
    say_body(&line, PROMPT, 0, 8);
    accepted(&line, &award, false).await?;
    line.say(&Message::Cancel { job: award.job, attempt: award.attempt, voucher: None });
    let frame = line.frame("K2", "End {Cancelled}").await?;
    let Message::End(end) = frame.message() else { return Err(frame.instead_of("K2", "End {Cancelled}")) };
    demand("K2", end.reason == EndReason::Cancelled, || format!("End {{{:?}}}", end.reason))?;
    demand("X1", end.tokens == 0, || format!("{} tokens before the body was whole", end.tokens))
}

pub(super) async fn of_nothing(buyer: Buyer) -> Step {
    let line = buyer.line();
    line.say(&Message::Cancel { job: buyer.stage.job(), attempt: 1, voucher: None });
    line.gone("K2", GoneReason::Unknown).await?;
    line.over("K2", "Gone", |_| false).await
}

pub(super) async fn by_a_stranger(buyer: Buyer) -> Step {
    let mut answer = buyer.answer(LONG, 2).await?;
    answer.until_full().await?;
    let stranger = Line::open_as_stranger(&buyer.stage);
    stranger.say(&answer.cancel_message());
    stranger.gone("R5", GoneReason::Unknown).await?;
    answer.ack(answer.run.next());
    answer.until(3).await
}
