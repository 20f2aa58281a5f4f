//! Thoughts, refusals and calls of tools: what is no text of the answer, and counts all the same.

use haggle_core::{
    Millis,
    wire::{
        Message,
        message::{Award, BodyKind, Channel, End, EndReason, Features, Receipt},
    },
};
use sha2::{Digest, Sha256};

use super::seller::{Deal, Seller};
use crate::{
    line::framed,
    run::is_object,
    verdict::{Step, demand, unplayed},
};

const THOUGHT: Option<Channel> = Some(Channel::Thought);
/// Whoever goes on somewhere else has done so by then.
const ELSEWHERE: Millis = Millis::from_secs(3);
const CALL: &str = r#"{"index":0,"id":"call_1","name":"weather","arguments":""}"#;
const MORE_OF_IT: &str = r#"{"index":0,"arguments":"{\"city\":\"Paris\"}"}"#;

/// A job that is accepted, and of which a thought was written.
async fn thoughtful(seller: &mut Seller) -> Step<Deal> {
    let mut deal = seller.award().await?;
    deal.accept().await?;
    deal.tell(" hm", THOUGHT);
    Ok(deal)
}

pub(super) async fn thoughts(mut seller: Seller) -> Step {
    let mut deal = thoughtful(&mut seller).await?;
    deal.tell(" so", THOUGHT);
    deal.acked(deal.next()).await?;
    deal.write(2);
    deal.finish_with(End { thought: Some(2), cached: Some(7), prompt_tokens: 9, ..deal.end(EndReason::Stop) }).await
}

pub(super) async fn every(mut seller: Seller) -> Step {
    let mut deal = thoughtful(&mut seller).await?;
    deal.write(1);
    deal.tell("I can", Some(Channel::Refusal));
    deal.tell(" not", Some(Channel::Refusal));
    deal.tell(" but", THOUGHT);
    deal.write(1);
    deal.finish_with(deal.end(EndReason::Filtered)).await
}

pub(super) async fn hash_of_the_text(mut seller: Seller) -> Step {
    let mut deal = thoughtful(&mut seller).await?;
    deal.tell("Hi", None);
    deal.line.say(&Message::End(End { hash: Sha256::digest(b" hmHi").into(), ..deal.end(EndReason::Stop) }));
    deal.abandoned("X1", "an End whose hash passes over channels").await
}

pub(super) async fn hash_of_another_channel(mut seller: Seller) -> Step {
    let deal = thoughtful(&mut seller).await?;
    deal.line.say(&Message::End(End { hash: Sha256::digest(b"\xff\x02 hm").into(), ..deal.end(EndReason::Stop) }));
    deal.abandoned("X1", "an End whose hash is one of a refusal").await
}

pub(super) async fn unknown_channel(mut seller: Seller) -> Step {
    let mut deal = thoughtful(&mut seller).await?;
    let mut payload = deal.piece(" so", THOUGHT).split_off(2);
    // The channel is the last byte.
    *payload.last_mut().unwrap_or(&mut 0) = 4;
    deal.line.send(&framed(&payload));
    deal.abandoned("E3", "a Chunk of channel 4").await
}

pub(super) async fn too_many_thoughts(mut seller: Seller) -> Step {
    let mut deal = thoughtful(&mut seller).await?;
    let (left, most) = (deal.award.max_tokens, deal.award.window_tokens);
    if left > 4_096 || left >= u64::from(most) {
        return Err(unplayed("its job is too long for a window; give it one of 16 tokens"));
    }
    let more: Vec<u8> = (0..left).flat_map(|_| deal.piece(" so", THOUGHT)).collect();
    deal.line.send(&more);
    deal.abandoned("W2", "a thought more than tokens were ordered").await
}

pub(super) async fn more_thoughts_than_tokens(mut seller: Seller) -> Step {
    let deal = thoughtful(&mut seller).await?;
    deal.line.say(&Message::End(End { thought: Some(2), ..deal.end(EndReason::Stop) }));
    deal.abandoned("B9", "an End with more thought tokens than tokens").await
}

pub(super) async fn receipt(mut seller: Seller) -> Step {
    let mut deal = thoughtful(&mut seller).await?;
    deal.write(1);
    deal.line.say(&Message::End(End { receipt: Some(Receipt([7; 64])), ..deal.end(EndReason::Length) }));
    deal.received_by("S2").await
}

/// A decoder that takes it for a mark, and drops it, has another hash.
pub(super) async fn byte_order_mark(mut seller: Seller) -> Step {
    let mut deal = seller.award().await?;
    deal.accept().await?;
    for text in ["\u{feff}a", "\u{feff}", "b\r\n\u{0}", "e\u{301}\u{ffff}"] {
        deal.tell(text, None);
    }
    deal.line.say(&Message::End(deal.end(EndReason::Stop)));
    deal.received_by("E3").await
}

/// Text alone, and an engine that fails: who goes on elsewhere has it continued there.
pub(super) async fn continued(mut seller: Seller) -> Step {
    let mut deal = seller.award().await?;
    deal.accept().await?;
    deal.write(2);
    deal.acked(deal.next()).await?;
    deal.finish_with(deal.end(EndReason::Engine)).await?;
    let Some(mut again) = seller.award_within(ELSEWHERE).await? else {
        return Err(unplayed("it goes nowhere else; give it two providers, and have it continue"));
    };
    let (before, now) = (&deal.award, &again.award);
    demand("R9", now.attempt > before.attempt, || format!("attempt {} after {}", now.attempt, before.attempt))?;
    if now.prefix_bytes > 0 {
        let left = before.max_tokens - 2 + u64::from(now.overlap);
        demand("R9", (now.prefix_tokens, now.prefix_bytes) == (2, 6), || {
            format!("a prefix of {} tokens in {} bytes, where 2 in 6 were taken", now.prefix_tokens, now.prefix_bytes)
        })?;
        demand("R9", now.max_tokens == left, || format!("{} tokens wanted where {left} are left", now.max_tokens))?;
    }
    again.accept().await?;
    if again.award.prefix_bytes > 0 {
        demand("R9", again.body.ends_with(b" w0 w1"), || "the prefix is not the text so far".into())?;
    }
    again.write(1);
    again.finish().await
}

/// Begun anew it may be, or given up: but nobody is shown what was thought.
pub(super) async fn not_continued(mut seller: Seller) -> Step {
    let mut deal = thoughtful(&mut seller).await?;
    deal.write(1);
    deal.acked(deal.next()).await?;
    deal.finish_with(deal.end(EndReason::Engine)).await?;
    anew(seller, "a run with thoughts").await
}

pub(super) async fn request_not_continued(seller: Seller) -> Step {
    let (seller, mut deal) = requested(seller).await?;
    deal.write(2);
    deal.acked(deal.next()).await?;
    deal.finish_with(deal.end(EndReason::Engine)).await?;
    anew(seller, "the answer to a request").await
}

/// Whoever comes again begins anew.
async fn anew(mut seller: Seller, what: &str) -> Step {
    let Some(mut again) = seller.award_within(ELSEWHERE).await? else { return Ok(()) };
    let Award { prefix_bytes, .. } = again.award;
    demand("R9", prefix_bytes == 0, || format!("{prefix_bytes} bytes of {what} are to be continued"))?;
    again.accept().await?;
    again.write(1);
    again.finish().await
}

pub(super) async fn filtered(mut seller: Seller) -> Step {
    let mut deal = seller.award().await?;
    deal.accept().await?;
    deal.write(2);
    deal.acked(deal.next()).await?;
    deal.finish_with(deal.end(EndReason::Filtered)).await?;
    whole(&mut seller, "filtered").await
}

pub(super) async fn request(seller: Seller) -> Step {
    let (mut seller, mut deal) = requested(seller).await?;
    deal.tell(" hm", THOUGHT);
    deal.tell(CALL, Some(Channel::ToolCall));
    deal.tell(MORE_OF_IT, Some(Channel::ToolCall));
    deal.line.say(&Message::Keepalive);
    deal.finish_with(End { thought: Some(1), ..deal.end(EndReason::ToolCalls) }).await?;
    whole(&mut seller, "tool calls").await
}

/// A request with tools, accepted.
async fn requested(seller: Seller) -> Step<(Seller, Deal)> {
    // A bit that means nothing yet is kept, and hinders nobody.
    let can = Features(1 << 31).with(Features::TOOLS).with(Features::PARALLEL_TOOLS);
    let mut seller = seller.able(can);
    let mut deal = seller.award().await?;
    if deal.award.kind != BodyKind::Request {
        return Err(unplayed("its job is no request; give it one with tools"));
    }
    let needs = deal.award.features.unwrap_or_default();
    demand("A13", can.contain(needs), || format!("features {:#x} are used where there are {:#x}", needs.0, can.0))?;
    demand("A13", needs.contain(Features::TOOLS), || "a request with tools is awarded without that feature".into())?;
    deal.accept().await?;
    let is_one = str::from_utf8(&deal.body).is_ok_and(is_object);
    demand("A4", is_one, || "the body of a request is not one JSON object".into())?;
    Ok((seller, deal))
}

/// The answer was complete: nobody is asked for the rest of it.
async fn whole(seller: &mut Seller, reason: &str) -> Step {
    let again = seller.award_within(ELSEWHERE).await?;
    demand("X2", again.is_none(), || format!("an Award after End {{{reason}}}, which is a complete answer"))
}
