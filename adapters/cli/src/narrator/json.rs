//! Jobs told to programs.

use haggle::{
    JobError, JobEvent, Offer, Receipt,
    core::{
        event::{Bill, Failure, Interrupted, PassedOver},
        machine::QueryOutcome,
    },
    id,
};
use serde_json::{Value, json};

use super::end;
use crate::{explain, money::decimal};

/// An offer for programs. Money is in decimal units, prices are per 1,000,000 tokens.
pub(crate) fn offer_json(offer: &Offer) -> Value {
    json!({
        "peer": offer.peer.to_string(),
        "posted": offer.posted,
        "fee_in": decimal(offer.tariff.fee_in),
        "price_out": decimal(offer.tariff.price_out),
        "cost": decimal(offer.cost),
        "eta_ms": offer.eta.0,
    })
}

/// An event of a job.
pub(super) fn to_json(event: &JobEvent) -> Value {
    match event {
        JobEvent::Weighed(weighing) => explain::to_json(weighing),
        JobEvent::Asked { peer } => json!({"event": "job:asked", "peer": peer.to_string()}),
        JobEvent::Offered(offer) => json!({"event": "job:offered", "offer": offer_json(offer)}),
        JobEvent::PassedOver { peer, why } => json!({
            "event": "job:passed-over", "peer": peer.to_string(), "reason": passed_over(*why), "text": why.to_string(),
        }),
        JobEvent::Awarded { attempt, offer, reason } => json!({
            "event": "job:awarded", "attempt": attempt, "offer": offer_json(offer), "reason": reason,
        }),
        JobEvent::Negotiated { attempt, peer, tariff } => json!({
            "event": "job:negotiated", "attempt": attempt, "peer": peer.to_string(),
            "fee_in": decimal(tariff.fee_in), "price_out": decimal(tariff.price_out),
        }),
        JobEvent::Working { attempt, peer, phase } => json!({
            "event": "job:working", "attempt": attempt, "peer": peer.to_string(), "phase": phase,
        }),
        JobEvent::Cut { attempt, peer, patience } => json!({
            "event": "job:cut", "attempt": attempt, "peer": peer.to_string(), "patience_ms": patience.0,
        }),
        JobEvent::Resumed { attempt, peer, seq } => json!({
            "event": "job:resumed", "attempt": attempt, "peer": peer.to_string(), "seq": seq,
        }),
        JobEvent::TakenOver { attempt, peer, seq, how } => json!({
            "event": "job:taken-over", "attempt": attempt, "peer": peer.to_string(), "seq": seq, "how": how,
        }),
        JobEvent::Tokens { peer, seq, n, text, channel: None, .. } => json!({
            "event": "stream:token", "peer": peer.to_string(), "seq": seq, "n": n, "text": text,
        }),
        JobEvent::Tokens { peer, seq, n, text, channel, .. } => json!({
            "event": "stream:token", "peer": peer.to_string(), "seq": seq, "n": n, "text": text, "channel": channel,
        }),
        _ => json!({"event": "job:other"}),
    }
}

fn passed_over(why: PassedOver) -> &'static str {
    match why {
        PassedOver::Stream(_) => "unreachable",
        PassedOver::Lost => "lost",
        PassedOver::Declined(_) => "declined",
        PassedOver::Late => "late",
        PassedOver::Violation(_) => "violation",
        PassedOver::Interrupted(_) => "interrupted",
        PassedOver::OverBudget => "over_budget",
        PassedOver::TooSlow => "too_slow",
        PassedOver::Excluded => "excluded",
    }
}

/// The end of a job.
pub(super) fn ended_json(ending: Result<&Receipt, &JobError>) -> Value {
    match ending {
        Ok(receipt) => json!({
            "event": "job:ended", "outcome": "finished", "reason": receipt.reason, "text": end(receipt.reason),
            // 0 is what a provider says that does not know.
            "prompt_tokens": (receipt.prompt_tokens > 0).then_some(receipt.prompt_tokens),
            "thought_tokens": receipt.thought, "cached_tokens": receipt.cached,
            "bill": bill_json(&receipt.bill),
        }),
        Err(error) => json!({
            "event": "job:ended", "outcome": error.code(), "reason": reason(&error.failure),
            "text": error.failure.to_string(), "bill": bill_json(&error.bill),
            "no_retry": error.no_retry.map(|why| why.code()),
            "no_retry_text": error.no_retry.map(|why| why.to_string()),
        }),
    }
}

/// What a failure is due to, by a stable name; its own where there is nothing more to say.
fn reason(failure: &Failure) -> &'static str {
    match failure {
        Failure::NobodyFound { unfit: 1.., .. } => "unfit",
        Failure::NobodyFound { outcome: QueryOutcome::Complete, .. } => "empty",
        Failure::NobodyFound { outcome: QueryOutcome::TimedOut, .. } => "timed_out",
        Failure::NobodyFound { outcome: QueryOutcome::NoSource, .. } => "no_source",
        Failure::Declined(why) => passed_over(*why),
        Failure::Interrupted(why) => interrupted(*why),
        failure => failure.code(),
    }
}

fn interrupted(why: Interrupted) -> &'static str {
    match why {
        Interrupted::Lost => "lost",
        Interrupted::Gone => "gone",
        Interrupted::Request => "not_accepted",
        Interrupted::FirstToken => "no_first_token",
        Interrupted::TokenGap => "stalled",
        Interrupted::Differs => "differs",
        Interrupted::Engine => "engine",
        Interrupted::Shutdown => "shutdown",
        Interrupted::TooSlow => "too_slow",
        Interrupted::Violation(_) => "violation",
        Interrupted::Accused => "accused",
        Interrupted::Settlement => "settlement",
        Interrupted::BadRequest => "bad_request",
        Interrupted::Context => "context",
    }
}

fn bill_json(bill: &Bill) -> Value {
    let lines: Vec<Value> = bill
        .lines
        .iter()
        .map(|line| {
            json!({
                "attempt": line.attempt,
                "peer": id::to_libp2p(&line.peer).map(|peer| peer.to_string()),
                "fee_in": decimal(line.tariff.fee_in),
                "price_out": decimal(line.tariff.price_out),
                "reread": line.reread,
                "tokens": line.tokens,
                "owed": decimal(line.owed),
            })
        })
        .collect();
    json!({"lines": lines, "tokens": bill.tokens, "owed": decimal(bill.owed), "asset": "units", "settlement": "none"})
}
