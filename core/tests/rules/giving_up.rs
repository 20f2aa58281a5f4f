//! Who gives a job up says why: one test for each cause.

use haggle_core::{
    Limits, Millis, Policy, StreamId,
    event::{Failure, Finished, Interrupted, NoRetry, Outcome, Violation},
    money::Tariff,
    spec::Failover,
    wire::{
        Message,
        message::{Decline, DeclineReason, End, EndReason, ModelAdvert},
    },
};

use super::{
    PRICE_OUT, advert,
    buyer::{Buyer, accepted},
    sha256,
};

pub(super) fn end(reason: EndReason, text: &str) -> Message<'static> {
    let tokens = text.split_terminator(' ').skip(1).count() as u64;
    Message::End(End {
        reason,
        prompt_tokens: 0,
        tokens,
        hash: sha256(text.as_bytes()),
        thought: None,
        cached: None,
        receipt: None,
    })
}

fn is_declined(buyer: &Buyer) -> bool {
    matches!(buyer.outcome, Some(Outcome::Failed(Failure::Declined(_))))
}

fn is_interrupted(buyer: &Buyer) -> bool {
    matches!(buyer.outcome, Some(Outcome::Failed(Failure::Interrupted(_))))
}

/// The newest award of this provider is accepted; its stream.
fn accept(buyer: &mut Buyer, name: &str) -> StreamId {
    let stream = buyer.newest(name);
    if matches!(buyer.said(stream)[..], [Message::Rfq(_)]) {
        buyer.quotes(stream, super::award().tariff);
    }
    let award = buyer.award(stream);
    buyer.hears(stream, &Message::Accepted(accepted(&award)));
    stream
}

#[test]
fn all_attempts_were_made() {
    let mut buyer = Buyer::with(Policy { max_retries: 0, ..Policy::default() }, Limits::default());
    buyer.knows("seller", advert());
    buyer.submit(&["seller"], |_| ());
    let stream = accept(&mut buyer, "seller");
    buyer.hears(stream, &end(EndReason::Engine, ""));
    assert!(is_declined(&buyer));
    assert_eq!(buyer.no_retry, Some(NoRetry::Attempts));
}

#[test]
fn who_is_busy_was_asked_often_enough() {
    let mut buyer = Buyer::with(Policy { max_retries: 1, ..Policy::default() }, Limits::default());
    buyer.knows("seller", advert());
    buyer.submit(&["seller"], |_| ());
    for round in 0..2 {
        assert_eq!(buyer.outcome, None, "round {round}");
        let busy = Decline { reason: DeclineReason::Busy, retry_after: Some(Millis(1)), offer: None, shown: None };
        buyer.hears(buyer.newest("seller"), &Message::Decline(busy));
        buyer.wait(Millis(5_000));
    }
    assert!(is_declined(&buyer));
    assert_eq!(buyer.no_retry, Some(NoRetry::Attempts));
}

#[test]
fn no_time_is_left() {
    let mut buyer = Buyer::new();
    buyer.knows("seller", advert());
    buyer.submit(&["seller"], |spec| spec.deadline = Some(Millis(200)));
    let stream = accept(&mut buyer, "seller");
    buyer.wait(Millis(150));
    buyer.hears(stream, &end(EndReason::Engine, ""));
    assert!(is_declined(&buyer), "{:?}", buyer.outcome);
    assert_eq!(buyer.no_retry, Some(NoRetry::Deadline));
}

#[test]
fn the_quota_of_the_node_is_used_up() {
    let mut buyer = Buyer::new();
    let names: Vec<String> = (0..12).map(|n| format!("seller {n}")).collect();
    let mut said = Vec::new();
    for name in &names {
        buyer.knows(name, advert());
        buyer.submit(&[name], |_| ());
        let stream = accept(&mut buyer, name);
        buyer.hears(stream, &end(EndReason::Engine, ""));
        buyer.wait(Millis(5_000));
        assert!(is_declined(&buyer), "{:?}", buyer.outcome);
        said.extend(buyer.no_retry);
    }
    let (first, last) = said.split_at(10);
    assert!(first.iter().all(|why| *why == NoRetry::Nobody), "{said:?}");
    assert_eq!(last, [NoRetry::Quota; 2]);
}

#[test]
fn nobody_else_may_go_on() {
    let (mut buyer, stream, _) = Buyer::accepted(|spec| spec.failover = Failover::Never);
    buyer.chunk(stream, 0, " a");
    buyer.hears(stream, &end(EndReason::Engine, " a"));
    assert!(is_interrupted(&buyer));
    assert_eq!(buyer.no_retry, Some(NoRetry::Failover));
}

#[test]
fn the_text_became_too_large_to_be_kept() {
    let limits = Limits { body_bytes: 20, node_bytes: 20, ..Limits::default() };
    let mut buyer = Buyer::with(Policy::default(), limits);
    buyer.knows("seller", advert());
    buyer.submit(&["seller"], |_| ());
    let stream = accept(&mut buyer, "seller");
    buyer.chunk(stream, 0, " abcdefgh");
    buyer.hears(stream, &end(EndReason::Engine, " abcdefgh"));
    assert!(is_interrupted(&buyer), "{:?}", buyer.outcome);
    assert_eq!(buyer.no_retry, Some(NoRetry::Forgotten));
}

/// The first provider breaks off after a token, and the other one, if there is one, is as dear as that.
fn broken_off(others: &[u64]) -> Buyer {
    let mut buyer = Buyer::new();
    buyer.knows("seller", advert());
    let mut names = vec!["seller"];
    if let Some(price_out) = others.first() {
        buyer.knows("other", ModelAdvert { price_out: *price_out, ..advert() });
        names.push("other");
    }
    buyer.submit(&names, |spec| spec.budget = Some(1_000));
    let stream = accept(&mut buyer, "seller");
    buyer.chunk(stream, 0, " a");
    buyer.hears(stream, &end(EndReason::Engine, " a"));
    buyer.wait(Millis(5_000));
    if let Some(price_out) = others.first() {
        buyer.quotes(buyer.newest("other"), Tariff { fee_in: 256, price_out: *price_out });
        buyer.wait(Millis(5_000));
    }
    buyer
}

#[test]
fn who_could_go_on_is_too_dear() {
    let buyer = broken_off(&[1_000_000_000]);
    assert!(is_interrupted(&buyer), "{:?}", buyer.outcome);
    assert_eq!(buyer.no_retry, Some(NoRetry::Budget));
}

#[test]
fn nobody_else_is_there() {
    let buyer = broken_off(&[]);
    assert!(is_interrupted(&buyer), "{:?}", buyer.outcome);
    assert_eq!(buyer.no_retry, Some(NoRetry::Nobody));
}

#[test]
fn all_tokens_are_there_but_not_as_they_were_written() {
    let (mut buyer, stream, _) = Buyer::accepted(|spec| spec.max_tokens = 1);
    buyer.chunk(stream, 0, " a");
    buyer.hears(stream, &end(EndReason::Length, " b"));
    let digest = Failure::Interrupted(Interrupted::Violation(Violation::Digest));
    assert_eq!(buyer.outcome, Some(Outcome::Failed(digest)));
    assert_eq!(buyer.no_retry, Some(NoRetry::Complete));
}

/// What says itself why it is the last has nothing to add.
#[test]
fn an_ending_that_is_final_needs_no_reason() {
    let (mut buyer, stream, _) = Buyer::accepted(|_| ());
    buyer.hears(stream, &end(EndReason::Context, ""));
    assert_eq!((&buyer.outcome, buyer.no_retry), (&Some(Outcome::Failed(Failure::Context)), None));
    let mut buyer = Buyer::new();
    buyer.knows("seller", advert());
    buyer.submit(&["seller"], |spec| spec.budget = Some(1));
    buyer.quotes(buyer.newest("seller"), super::award().tariff);
    buyer.wait(Millis(5_000));
    assert!(matches!(buyer.outcome, Some(Outcome::Failed(Failure::OverBudget { .. }))), "{:?}", buyer.outcome);
    assert_eq!(buyer.no_retry, None);
}

/// What was written until the context was full is an answer, if nobody has more room; text that is senseless is none.
#[test]
fn an_answer_that_fills_the_context_is_one() {
    for others in [false, true] {
        let mut buyer = Buyer::new();
        buyer.knows("seller", advert());
        let names = if others { &["seller", "another"][..] } else { &["seller"] };
        names.iter().skip(1).for_each(|name| buyer.knows(name, ModelAdvert { price_out: PRICE_OUT * 2, ..advert() }));
        buyer.submit(names, |_| ());
        let stream = accept(&mut buyer, "seller");
        buyer.chunk(stream, 0, " a");
        buyer.hears(stream, &end(EndReason::Context, " a"));
        if others {
            assert_eq!(buyer.outcome, None, "another one may have more room");
            buyer.wait(Millis(1_000));
            let stream = accept(&mut buyer, "another");
            buyer.hears(stream, &end(EndReason::Context, ""));
        }
        let Some(Outcome::Finished(Finished::Answer { reason, tokens, .. })) = &buyer.outcome else {
            panic!("{:?}", buyer.outcome);
        };
        assert_eq!((*reason, *tokens, buyer.owed > 0), (EndReason::Context, 1, true));
    }
    let (mut buyer, stream, _) = Buyer::accepted(|_| ());
    buyer.chunk(stream, 0, " a");
    buyer.hears(stream, &end(EndReason::BadRequest, " a"));
    assert_eq!(buyer.outcome, Some(Outcome::Failed(Failure::BadRequest)));
}

/// Who refuses the request is contradicted or confirmed by another one, at once, and not out of the quota of retries.
#[test]
fn a_refused_request_is_shown_to_one_more_provider() {
    let mut buyer = Buyer::new();
    for round in 0..12 {
        let names = [format!("first {round}"), format!("second {round}"), format!("third {round}")];
        names.iter().for_each(|name| buyer.knows(name, advert()));
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        buyer.submit(&names, |_| ());
        let mut refused = Vec::new();
        while buyer.outcome.is_none() {
            let rest: Vec<&str> = names.iter().copied().filter(|name| !refused.contains(name)).collect();
            for name in rest.iter().filter(|name| buyer.is_asked(name)).collect::<Vec<_>>() {
                buyer.quotes(buyer.newest(name), super::award().tariff);
            }
            buyer.wait(Millis(500));
            let name = *rest.iter().find(|name| buyer.is_awarded(name)).expect("one more is awarded");
            let stream = accept(&mut buyer, name);
            let reason = if refused.is_empty() { EndReason::BadRequest } else { EndReason::Context };
            refused.push(name);
            buyer.hears(stream, &end(reason, ""));
            buyer.wait(Millis(200));
        }
        assert_eq!((refused.len(), &buyer.outcome), (2, &Some(Outcome::Failed(Failure::Context))), "{round}");
    }
}
