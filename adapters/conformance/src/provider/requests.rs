//! Requests with all that they may hold, the channels that answer them, and ways to pay.

use haggle_core::wire::{
    Message,
    message::{Award, Choice, DeclineReason, EndReason, Features, MethodKind, Voucher},
};

use super::{
    body::bad_request,
    buyer::{Answer, Buyer, PROMPT, say_award},
};
use crate::{
    line::is_sign,
    run::is_complete,
    verdict::{Step, demand, unplayed},
};

const TOKENS: u64 = 64;
const NO_FEATURES: Features = Features(0);
const PLAIN: &str = r#"{"messages":[{"role":"user","content":"Say hello."}]}"#;
const WITH_TOOLS: &str = r#"{"messages":[{"role":"user","content":"What is the weather in Paris?"}],"tools":[{"type":"function","function":{"name":"weather","parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}}],"tool_choice":"required"}"#;
const VOUCHER: Voucher = Voucher { amount: 1, tokens: 0, signature: [7; 64] };

pub(super) async fn request(buyer: Buyer) -> Step {
    let award = buyer.request(PLAIN.as_bytes(), NO_FEATURES, TOKENS);
    if buyer.model.features.is_none() {
        let line = buyer.line();
        say_award(&line, &award);
        return line.decline("A13", DeclineReason::Unsupported).await.map(|_| ());
    }
    let mut answer = Answer::begin(&buyer, award, PLAIN.as_bytes()).await?;
    let end = answer.read_to_end().await?;
    answer.finish();
    demand("A4", end.reason != EndReason::BadRequest, || format!("a plain request is a bad one: {PLAIN}"))
}

/// One feature that it does not have, of those that this version knows and of the others; for a request, and for a prompt.
pub(super) async fn lacking(buyer: Buyer) -> Step {
    let has = buyer.model.features.unwrap_or_default();
    let lacks = (0..32).map(|bit| Features(1 << bit)).filter(|feature| !has.contain(*feature));
    let (known, unknown): (Vec<_>, Vec<_>) = lacks.partition(|feature| feature.names().next().is_some());
    let line = buyer.line();
    for feature in known.first().into_iter().chain(&unknown) {
        let prompt = Award { features: Some(has.with(*feature)), ..buyer.award(PROMPT, TOKENS) };
        for award in [buyer.request(PLAIN.as_bytes(), *feature, TOKENS), prompt] {
            say_award(&line, &award);
            line.decline("A13", DeclineReason::Unsupported).await?;
        }
    }
    if known.is_empty() && unknown.is_empty() { Err(unplayed("it advertises every feature")) } else { Ok(()) }
}

/// Each is told as the request's fault, and nobody is asked for what it costs.
pub(super) async fn wrong(buyer: Buyer) -> Step {
    takes_requests(&buyer)?;
    let deep = format!(r#"{{"messages":[],"metadata_of_mine":{}0{}}}"#, "[".repeat(40), "]".repeat(40));
    let named = |field: &str| format!(r#"{{"messages":[{{"role":"user","content":"Hi"}}],{field}}}"#);
    let twice = named(r#""tools":[],"tools":[]"#);
    let mut bodies = vec!["[]".to_owned(), r#"{"messages":"#.to_owned(), format!("{PLAIN}{PLAIN}"), twice, deep];
    bodies.extend([r#""model":"other""#, r#""stream":true"#, r#""max_tokens":9"#, r#""seed":1"#].map(named));
    for json in bodies {
        let award = buyer.request(json.as_bytes(), NO_FEATURES, TOKENS);
        bad_request(buyer.line(), &award, json.as_bytes()).await?;
    }
    let no_text: &[u8] = b"{\"\xff\":0}";
    bad_request(buyer.line(), &buyer.request(no_text, NO_FEATURES, TOKENS), no_text).await
}

pub(super) async fn out_of_bounds(buyer: Buyer) -> Step {
    let usual = buyer.request(PLAIN.as_bytes(), NO_FEATURES, TOKENS);
    let wrong = [
        Award { body_bytes: 1, ..usual.clone() },
        Award { prefix_bytes: 4, prefix_tokens: 1, ..usual.clone() },
        Award { voucher: Some(VOUCHER), ..usual },
    ];
    for award in wrong {
        let line = buyer.line();
        line.say(&Message::Award(award));
        line.over("B5", "an Award out of bounds", |_| false).await?;
    }
    Ok(())
}

pub(super) async fn tools(buyer: Buyer) -> Step {
    let mut answer = calling(&buyer, 1_024).await?;
    let end = answer.read_to_end().await?;
    answer.line.quiet("X2", "End").await?;
    answer.finish();
    called(end.reason)
}

/// Wherever a chunk began it goes on: in the same channel, and to the same hash.
pub(super) async fn resumed(buyer: Buyer) -> Step {
    let mut answer = calling(&buyer, 4).await?;
    answer.until_full().await?;
    for chunk in 0..answer.run.chunks.len() {
        let next = answer.run.chunks[chunk].seq;
        answer.resume(&buyer, next).await?;
        answer.until_full().await?;
        answer.ack(next + answer.run.chunks[chunk].n);
    }
    let end = answer.read_to_end().await?;
    answer.finish();
    called(end.reason)
}

pub(super) async fn another_way_to_pay(buyer: Buyer) -> Step {
    let line = buyer.line();
    let choice = Choice { kind: MethodKind::Tab, rail: b"conformance".to_vec(), upfront: false, key: Vec::new() };
    say_award(&line, &Award { choice: Some(choice), voucher: Some(VOUCHER), ..buyer.award(PROMPT, TOKENS) });
    line.decline("S1", DeclineReason::Settlement).await?;
    line.lives("C5", "Decline {Settlement}").await
}

pub(super) async fn voucher(buyer: Buyer) -> Step {
    for is_cancel in [false, true] {
        let mut answer = buyer.answer(TOKENS, 2).await?;
        answer.until_full().await?;
        let Award { job, attempt, .. } = answer.award;
        let next = answer.run.next();
        let (ack, cancel) = (
            Message::Ack { next, end: false, voucher: Some(VOUCHER) },
            Message::Cancel { job, attempt, voucher: Some(VOUCHER) },
        );
        answer.line.say(if is_cancel { &cancel } else { &ack });
        answer.line.over("S2", "a voucher on an attempt that is not paid", is_sign).await?;
    }
    Ok(())
}

fn takes_requests(buyer: &Buyer) -> Step {
    match buyer.model.features {
        Some(_) => Ok(()),
        None => Err(unplayed("its model takes no requests")),
    }
}

/// A request that is to be answered by a call, accepted.
async fn calling(buyer: &Buyer, window_tokens: u32) -> Step<Answer> {
    takes_requests(buyer)?;
    if !buyer.model.features.unwrap_or_default().contain(Features::TOOLS) {
        return Err(unplayed("its model calls no tools"));
    }
    let award = Award { window_tokens, ..buyer.request(WITH_TOOLS.as_bytes(), Features::TOOLS, TOKENS) };
    Answer::begin(buyer, award, WITH_TOOLS.as_bytes()).await
}

fn called(reason: EndReason) -> Step {
    if is_complete(reason) { Ok(()) } else { Err(unplayed(format!("its engine ends with {reason:?}"))) }
}
