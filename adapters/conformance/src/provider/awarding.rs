//! What an Award binds.

use haggle_core::{
    money::Tariff,
    wire::{
        Message,
        message::{Award, DeclineReason, EndReason, Sampling},
    },
};

use super::buyer::{Answer, Buyer, PROMPT, accepted, say_award, say_body};
use crate::verdict::{Step, broken, demand, unplayed};

const TOKENS: u64 = 16;

pub(super) async fn posted_price(buyer: Buyer) -> Step {
    let mut answer = buyer.answer(TOKENS, 1_024).await?;
    let end = answer.read_to_end().await?;
    let is_complete = matches!(end.reason, EndReason::Stop | EndReason::Length);
    if !is_complete {
        return Err(unplayed(format!("its engine ends with {:?}", end.reason)));
    }
    answer.line.quiet("X2", "End").await?;
    answer.finish();
    Ok(())
}

pub(super) async fn offered_price(buyer: Buyer) -> Step {
    let line = buyer.line();
    let offer = buyer.offer(&line, TOKENS).await?;
    let mut answer = Answer::begin_on(line, buyer.take(&offer, TOKENS), PROMPT).await?;
    answer.read_to_end().await?;
    answer.finish();
    Ok(())
}

/// Decline with the offer that would bind now; and it does.
pub(super) async fn another_tariff(buyer: Buyer) -> Step {
    let line = buyer.line();
    let posted = buyer.award(PROMPT, TOKENS);
    let more = |tariff: Tariff| Tariff { fee_in: tariff.fee_in.saturating_add(1), ..tariff };
    say_award(&line, &Award { tariff: more(posted.tariff), ..posted.clone() });
    let offer = line.decline("A2", DeclineReason::Stale).await?;
    let offer = offer.ok_or_else(|| broken("A2", "Decline {Stale} without the offer that would bind now"))?;
    let offered = buyer.offer(&line, TOKENS).await?;
    let wrong = buyer.take(&offered, TOKENS);
    say_award(&line, &Award { tariff: more(wrong.tariff), ..wrong });
    line.decline("A2", DeclineReason::Stale).await?;
    let award = buyer.take(&offer, TOKENS);
    say_award(&line, &award);
    say_body(&line, PROMPT, 0, PROMPT.len());
    accepted(&line, &award, false).await.map(|_| ())
}

pub(super) async fn any_epoch(buyer: Buyer) -> Step {
    let award = Award { attempt: 7, epoch: 5, ..buyer.award(PROMPT, TOKENS) };
    let mut answer = Answer::begin(&buyer, award, PROMPT).await?;
    answer.read_to_end().await?;
    answer.finish();
    Ok(())
}

pub(super) async fn senseless_sampling(buyer: Buyer) -> Step {
    let line = buyer.line();
    let usual = Sampling::default();
    let wrong = [Sampling { temperature_milli: 100_001, ..usual }, Sampling { top_p_milli: 0, ..usual }];
    for sampling in wrong.into_iter().chain([Sampling { top_p_milli: 1_001, ..usual }]) {
        say_award(&line, &Award { sampling, ..buyer.award(PROMPT, TOKENS) });
        let frame = line.frame("A10", "Decline {Unsupported}").await?;
        let is_declined = |message: &Message<'_>| matches!(message, Message::Decline(decline) if decline.reason == DeclineReason::Unsupported);
        demand("A10", is_declined(&frame.message()), || format!("{:?}, not Decline {{Unsupported}}", frame.message()))?;
    }
    Ok(())
}

/// The same name with another content, its body in the same packet, and a word after it.
pub(super) async fn conflict(buyer: Buyer) -> Step {
    let mut answer = buyer.answer(64, 4).await?;
    answer.until(1).await?;
    let other = &[PROMPT, b" girl"].concat();
    let award = Award { job: answer.award.job, epoch: 2, ..buyer.award(other, TOKENS) };
    let line = buyer.line();
    say_award(&line, &award);
    say_body(&line, other, 0, other.len());
    line.decline("A3", DeclineReason::Conflict).await?;
    line.lives("A7", "Decline {Conflict}, whose body came unasked").await
}

pub(super) async fn out_of_bounds(buyer: Buyer) -> Step {
    let usual = buyer.award(PROMPT, TOKENS);
    let wrong = [
        Award { prefix_bytes: usual.body_bytes, prefix_tokens: 1, ..usual.clone() },
        Award { prefix_tokens: 1, ..usual.clone() },
        Award { overlap: 1, ..usual.clone() },
        Award { stop: vec!["x".repeat(65)], ..usual.clone() },
        Award { window_bytes: 16_511, ..usual.clone() },
        Award { window_tokens: 0, ..usual.clone() },
        Award { epoch: 0, ..usual },
    ];
    for award in wrong {
        let line = buyer.line();
        line.say(&Message::Award(award));
        line.over("B5", "an Award out of bounds", |_| false).await?;
    }
    Ok(())
}
