//! The body: in order, under credit, whole, and what it says it is.

use haggle_core::{
    Millis,
    wire::{
        ChatMessage, Message, Prompt,
        message::{Award, BodyKind, DeclineReason, EndReason},
    },
};
use sha2::{Digest, Sha256};

use super::buyer::{Answer, Buyer, PROMPT, UNASKED, accepted, say_award, say_body};
use crate::{
    line::{Line, is_sign},
    verdict::{Step, broken, demand, unplayed},
};

const TOKENS: u64 = 16;

pub(super) async fn in_pieces(buyer: Buyer) -> Step {
    let (line, award) = (buyer.line(), buyer.award(PROMPT, TOKENS));
    say_award(&line, &award);
    for at in 0..PROMPT.len() {
        say_body(&line, PROMPT, at, at + 1);
    }
    accepted(&line, &award, false).await?;
    let frame = line.frame_within("A4", "a Chunk: the body is whole", Millis::from_secs(60)).await?;
    match frame.message() {
        Message::Chunk { .. } | Message::Keepalive | Message::Working { .. } => Ok(()),
        _ => Err(frame.instead_of("A4", "a Chunk: the body is whole")),
    }
}

/// Larger than what may come unasked. Whether it fits the context is another matter.
pub(super) async fn large(buyer: Buyer) -> Step {
    let body = PROMPT.iter().copied().cycle().take(UNASKED + (16 << 10)).collect::<Vec<_>>();
    let (line, award) = (buyer.line(), buyer.award(&body, TOKENS));
    say_award(&line, &award);
    say_body(&line, &body, 0, UNASKED);
    let frame = line.frame("A5", "Accepted").await?;
    match frame.message() {
        Message::Accepted(granted) => {
            let credit = granted.body_credit;
            demand("A5", credit >= award.body_bytes, || format!("a credit of {credit} for {} bytes", body.len()))?;
        }
        // It was told the size, and knows its context.
        Message::Decline(decline) if matches!(decline.reason, DeclineReason::Context | DeclineReason::Unsupported) => {
            return line.lives("A7", "Decline, whose unasked body came").await;
        }
        _ => return Err(frame.instead_of("A5", "Accepted")),
    }
    say_body(&line, &body, UNASKED, body.len());
    let frame = line.frame_within("A5", "a Chunk, or End: the body is whole", Millis::from_secs(60)).await?;
    match frame.message() {
        Message::Chunk { .. } | Message::Keepalive | Message::Working { .. } | Message::End(_) => Ok(()),
        _ => Err(frame.instead_of("A5", "a Chunk, or End: the body is whole")),
    }
}

pub(super) async fn gap(buyer: Buyer) -> Step {
    for from in [9, 7] {
        let line = buyer.line();
        let award = buyer.award(PROMPT, TOKENS);
        say_award(&line, &award);
        say_body(&line, PROMPT, 0, 8);
        accepted(&line, &award, false).await?;
        say_body(&line, PROMPT, from, PROMPT.len());
        line.over("A4", "a piece of the body out of order", |_| false).await?;
    }
    Ok(())
}

pub(super) async fn too_long(buyer: Buyer) -> Step {
    let (line, award) = (buyer.line(), buyer.award(PROMPT, TOKENS));
    say_award(&line, &award);
    accepted(&line, &award, false).await?;
    line.say(&Message::Body { offset: 0, bytes: &[PROMPT, b"!"].concat() });
    line.over("A4", "a body beyond body_bytes", |_| false).await
}

pub(super) async fn mismatch(buyer: Buyer) -> Step {
    let (line, award) = (buyer.line(), Award { body_hash: [7; 32], ..buyer.award(PROMPT, TOKENS) });
    say_award(&line, &award);
    say_body(&line, PROMPT, 0, PROMPT.len());
    accepted(&line, &award, false).await?;
    line.decline("A4", DeclineReason::BodyMismatch).await?;
    // It is forgotten.
    let again = buyer.line();
    again.say(&Message::Cancel { job: award.job, attempt: 1, voucher: None });
    again.gone("A4", haggle_core::wire::message::GoneReason::Unknown).await
}

pub(super) async fn of_another_kind(buyer: Buyer) -> Step {
    let award = Award { kind: BodyKind::Chat, ..buyer.award(PROMPT, TOKENS) };
    bad_request(buyer.line(), &award, PROMPT).await?;
    let no_text: &[u8] = b"\xff\xfe";
    bad_request(buyer.line(), &buyer.award(no_text, TOKENS), no_text).await
}

pub(super) async fn bad_request(line: Line, award: &Award, body: &[u8]) -> Step {
    const WANTED: &str = "End {BadRequest}: the body is not of its kind";
    say_award(&line, award);
    say_body(&line, body, 0, body.len());
    accepted(&line, award, false).await?;
    loop {
        let frame = line.frame_within("A4", WANTED, Millis::from_secs(60)).await?;
        match frame.message() {
            Message::End(end) if end.reason == EndReason::BadRequest => return Ok(()),
            message if is_sign(&message) => {}
            _ => return Err(frame.instead_of("A4", WANTED)),
        }
    }
}

/// All 32 KiB come at once with an award that is declined, and later.
pub(super) async fn after_decline(buyer: Buyer) -> Step {
    let body = PROMPT.iter().copied().cycle().take(UNASKED).collect::<Vec<_>>();
    let award = Award { offer: Some(buyer.stage.bits()), ..buyer.award(&body, TOKENS) };
    for is_late in [false, true] {
        let line = buyer.line();
        say_award(&line, &award);
        if !is_late {
            say_body(&line, &body, 0, body.len());
        }
        let frame = line.frame("A7", "Decline").await?;
        demand("A7", matches!(frame.message(), Message::Decline(_)), || format!("{:?}", frame.message()))?;
        if is_late {
            say_body(&line, &body, 0, body.len());
        }
        line.lives("A7", "Decline, whose unasked body came").await?;
    }
    Ok(())
}

pub(super) async fn chat(buyer: Buyer) -> Step {
    let said = |role: &str, content: &str| ChatMessage { role: role.into(), content: content.into() };
    let prompt = Prompt::Chat(vec![said("system", "Be brief."), said("user", "Hi"), said("assistant", "")]);
    let body = prompt.encode();
    let hash = Sha256::digest(&body).into();
    let award = Award { kind: BodyKind::Chat, body_hash: hash, ..buyer.award(&body, TOKENS) };
    let mut answer = Answer::begin(&buyer, award, &body).await?;
    let end = answer.read_to_end().await?;
    answer.finish();
    match end.reason {
        // Nobody has to have a form for conversations.
        EndReason::BadRequest => Err(unplayed("its model has no form for conversations")),
        _ => Ok(()),
    }
}

/// Half of the body, and nothing for as long as the other half may take.
pub(super) async fn slow(buyer: Buyer) -> Step {
    let (line, award) = (buyer.line(), buyer.award(PROMPT, TOKENS));
    say_award(&line, &award);
    say_body(&line, PROMPT, 0, 8);
    accepted(&line, &award, false).await?;
    let mut waited = 0;
    loop {
        let frame = line.frame_within("A6", "End {TooSlow}", Millis::from_secs(25)).await?;
        match frame.message() {
            Message::End(end) if end.reason == EndReason::TooSlow => return Ok(()),
            Message::Keepalive if waited < 3 => waited += 1,
            Message::Keepalive => return Err(broken("A6", "it waits on for a body that does not come")),
            _ => return Err(frame.instead_of("A6", "End {TooSlow}")),
        }
    }
}
