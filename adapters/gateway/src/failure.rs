//! Which status a job's failure has. One that invites a retry means that nothing is owed.

use std::time::Duration;

use haggle::{
    Error, Model,
    core::{
        Refusal,
        event::{Bill, Failure, PassedOver},
        machine::QueryOutcome,
        wire::message::DeclineReason,
    },
};
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::{bill, errors::Refused, units::units};

/// A provider may be free again, or found, after so long.
const COME_BACK: Duration = Duration::from_secs(2);

/// A request that the node did not take, or a job that failed.
pub(crate) fn refused(error: &Error, model: &Model) -> Refused {
    match error {
        Error::Job(error) => of_job(&error.failure, &error.bill, model),
        Error::Refused(refusal) => not_taken(refusal),
        Error::Stopped => stopping(),
        error => Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string()),
    }
}

pub(crate) fn of_job(failure: &Failure, bill: &Bill, model: &Model) -> Refused {
    if bill.owed > 0 || bill.tokens > 0 {
        return interrupted(&failure.to_string(), failure.code(), bill);
    }
    unowed(failure, model)
}

/// Its providers were there a while ago, and may be again.
pub(crate) fn gone(model: &Model) -> Refused {
    let text = format!("nobody who sells the model {:?} can be reached now", model.to_text());
    Refused::new(StatusCode::SERVICE_UNAVAILABLE, "no_provider", text).retry_after(COME_BACK)
}

pub(crate) fn stopping() -> Refused {
    Refused::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the gateway is being stopped").retry_after(COME_BACK)
}

/// Whether another model may be had, though this one may not.
pub(crate) fn is_of_the_model(refused: &Refused) -> bool {
    matches!(refused.code, "model_not_found" | "no_provider" | "context_length_exceeded" | "budget_exceeded")
}

/// Something is owed, and the answer is not complete. Whoever asks again buys again.
pub(crate) fn interrupted(why: &str, reason: &str, bill: &Bill) -> Refused {
    let text = format!(
        "{why}: {} tokens were delivered, {} units are owed. Asking again buys anew",
        bill.tokens,
        units(bill.owed)
    );
    let details = json!({"reason": reason, "tokens": bill.tokens, "bill": bill::json(bill)});
    Refused::new(StatusCode::FAILED_DEPENDENCY, "interrupted", text).details(details)
}

fn unowed(failure: &Failure, model: &Model) -> Refused {
    let nobody =
        |text: String| Refused::new(StatusCode::SERVICE_UNAVAILABLE, "no_provider", text).retry_after(COME_BACK);
    match failure {
        Failure::OverBudget { cheapest, budget } => over_budget(*cheapest, *budget),
        Failure::Context | Failure::Declined(PassedOver::Declined(DeclineReason::Context)) => {
            // Some clients know it by these words only.
            let text = "the request exceeds the available context size: shorten the prompt or lower max_tokens";
            Refused::new(StatusCode::BAD_REQUEST, "context_length_exceeded", text).param("messages")
        }
        Failure::BadRequest | Failure::Declined(PassedOver::Declined(DeclineReason::Unsupported)) => {
            Refused::new(StatusCode::BAD_REQUEST, "unsupported_request", failure.to_string())
        }
        Failure::Deadline => Refused::new(StatusCode::GATEWAY_TIMEOUT, "deadline", failure.to_string()),
        Failure::Cancelled => stopping(),
        Failure::NobodyFound { outcome: QueryOutcome::Complete, unfit: 0 } => {
            let text = format!("nobody sells the model {:?}; GET /v1/models lists what is sold", model.to_text());
            Refused::new(StatusCode::NOT_FOUND, "model_not_found", text).param("model")
        }
        failure => nobody(failure.to_string()),
    }
}

fn over_budget(cheapest: u128, budget: u128) -> Refused {
    let (needs, has) = (units(cheapest), units(budget));
    let text = match budget {
        0 => format!(
            "without a budget only free providers are taken, and the cheapest offer costs at most {needs} units: \
             allow it with the header x-haggle-budget: {needs}"
        ),
        _ => format!(
            "the cheapest offer costs at most {needs} units, and there are {has}: raise the budget or lower max_tokens"
        ),
    };
    Refused::new(StatusCode::PAYMENT_REQUIRED, "budget_exceeded", text).details(figures(cheapest, budget))
}

/// Today's budget, of the gateway or of a key, has no room for it.
pub(crate) fn day_is_spent(needed: u128, room: u128) -> Refused {
    let text = format!(
        "this answer costs at most {} units, and {} are left of today's budget: lower max_tokens, or come back tomorrow (UTC)",
        units(needed),
        units(room)
    );
    Refused::new(StatusCode::PAYMENT_REQUIRED, "budget_exceeded", text).details(figures(needed, room))
}

/// In units: what is needed, what there is, and what the cheapest offer costs.
fn figures(cheapest: u128, available: u128) -> Value {
    json!({"required": units(cheapest), "available": units(available), "cheapest": units(cheapest)})
}

fn not_taken(refusal: &Refusal) -> Refused {
    let text = refusal.to_string();
    match refusal {
        Refusal::TooManyJobs { .. } | Refusal::NodeFull | Refusal::TooManyStreams => {
            Refused::new(StatusCode::TOO_MANY_REQUESTS, "too_many_jobs", text).retry_after(COME_BACK)
        }
        Refusal::PromptTooLong { .. } => {
            Refused::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", text).param("messages")
        }
        Refusal::Prompt(_) => Refused::new(StatusCode::BAD_REQUEST, "invalid_value", text).param("messages"),
        _ => Refused::new(StatusCode::BAD_REQUEST, "invalid_value", text),
    }
}

#[cfg(test)]
mod tests {
    use haggle::core::{
        event::{BillLine, Interrupted},
        machine::StreamFailure,
        money::Tariff,
    };

    use super::*;

    fn bill(tokens: u64) -> Bill {
        let peer = haggle::core::PeerId::new(&[1]).expect("an id");
        let tariff = Tariff { fee_in: 2, price_out: 1_000_000 };
        let owed = tariff.owed(tokens);
        let line = BillLine { attempt: 1, peer, tariff, reread: 0, tokens, text_bytes: tokens, owed };
        Bill { lines: vec![line], owed, tokens, ..Bill::default() }
    }

    #[test]
    fn a_status_that_invites_a_retry_means_that_nothing_is_owed() {
        let model = Model::new(b"m").expect("a name");
        let failures = [
            Failure::Cancelled,
            Failure::Deadline,
            Failure::NobodyFound { outcome: QueryOutcome::Complete, unfit: 0 },
            Failure::NobodyFound { outcome: QueryOutcome::TimedOut, unfit: 0 },
            Failure::NobodyFound { outcome: QueryOutcome::Complete, unfit: 2 },
            Failure::Declined(PassedOver::Declined(DeclineReason::Busy)),
            Failure::Declined(PassedOver::Stream(StreamFailure::Unreachable)),
            Failure::OverBudget { cheapest: 2, budget: 1 },
            Failure::Context,
            Failure::BadRequest,
            Failure::Interrupted(Interrupted::Lost),
        ];
        let mut unowed = Vec::new();
        for failure in failures {
            let status = |bill: Bill| of_job(&failure, &bill, &model).status.as_u16();
            assert_eq!(status(bill(1)), 424, "{failure:?}");
            unowed.push(status(Bill::default()));
        }
        assert_eq!(unowed, [503, 504, 404, 503, 503, 503, 503, 402, 400, 400, 503]);
    }
}
