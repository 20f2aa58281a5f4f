//! What came with the second version: channels, requests with features, and how an attempt is paid.

use haggle_core::{
    Limits, Millis, Policy, Refusal,
    event::{Failure, Finished, Interrupted, Outcome, PassedOver, Violation},
    provider::Piece,
    spec::Failover,
    wire::{
        Message, Prompt,
        message::{
            Award, BodyKind, Channel, Choice, Decline, DeclineReason, End, EndReason, Features, MethodKind,
            ModelAdvert, Phase, Voucher,
        },
    },
};

use super::{JOB, advert, award, buyer::Buyer, seller::Seller, service, sha256};

const VOUCHER: Voucher = Voucher { amount: 1, tokens: 0, signature: [1; 64] };

fn piece(text: &str, channel: Option<Channel>) -> Piece<'_> {
    Piece { n: 1, text, ids: None, channel }
}

fn chunk(seq: u64, text: &str, channel: Option<Channel>) -> Message<'_> {
    Message::Chunk { seq, n: 1, text, ids: None, channel }
}

fn end(reason: EndReason, tokens: u64, hashed: &[u8]) -> Message<'static> {
    let hash = sha256(hashed);
    Message::End(End { reason, prompt_tokens: 4, tokens, hash, thought: None, cached: None, receipt: None })
}

/// [X1] [W2] A provider counts and hashes over all channels, and tells what of it was thought.
#[test]
fn what_is_written_is_counted_over_all_channels() {
    let mut seller = Seller::new();
    let (stream, attempt) = seller.running(&Award { max_tokens: 3, ..award() });
    let thought = Some(Channel::Thought);
    for (text, channel) in [(" hm", thought), ("Hi", None), (" so", thought)] {
        seller.provider.push(seller.now, attempt, piece(text, channel)).unwrap();
    }
    let more = seller.provider.push(seller.now, attempt, piece("!", None));
    assert_eq!(more, Err(Refusal::BadPiece), "three were ordered");
    seller.provider.started(attempt, 7, Some(5));
    seller.finish(attempt, EndReason::ToolCalls);
    let heard = seller.heard(stream);
    let messages = heard.messages();
    let [.., first, second, third, Message::End(end)] = &messages[..] else { panic!("{messages:?}") };
    assert_eq!([first, second, third], [&chunk(0, " hm", thought), &chunk(1, "Hi", None), &chunk(2, " so", thought)]);
    assert_eq!((end.tokens, end.thought, end.prompt_tokens, end.cached), (3, Some(2), 7, Some(5)));
    assert_eq!(end.hash, sha256(b"\xff\x01 hm\xff\x00Hi\xff\x01 so"));
}

/// [X1] [W2] A requester holds it to that: the same bytes in one channel are another answer.
#[test]
fn what_is_taken_is_counted_over_all_channels() {
    for (hashed, is_right) in [(&b"\xff\x01 hm\xff\x00Hi"[..], true), (b" hmHi", false), (b"\xff\x01 hmHi", false)] {
        let (mut buyer, stream, _) = Buyer::accepted(|spec| spec.failover = Failover::Never);
        buyer.hears(stream, &chunk(0, " hm", Some(Channel::Thought)));
        buyer.hears(stream, &chunk(1, "Hi", None));
        buyer.hears(stream, &end(EndReason::Stop, 2, hashed));
        assert_eq!(buyer.violation(), (!is_right).then_some(Violation::Digest), "{hashed:?}");
    }
    let (mut buyer, stream, _) = Buyer::accepted(|spec| spec.max_tokens = 1);
    buyer.hears(stream, &chunk(0, " hm", Some(Channel::Thought)));
    buyer.hears(stream, &chunk(1, "Hi", None));
    assert_eq!(buyer.violation(), Some(Violation::TooMany));
}

/// [X2] Tool calls and filtered are complete answers, and owed; settlement is none, and nobody is blamed for it.
#[test]
fn there_are_four_complete_answers() {
    for reason in [EndReason::Stop, EndReason::Length, EndReason::ToolCalls, EndReason::Filtered] {
        let (mut buyer, stream, _) = Buyer::accepted(|_| ());
        buyer.chunk(stream, 0, " a");
        let Message::End(last) = end(reason, 1, b" a") else { unreachable!() };
        buyer.hears(stream, &Message::End(End { thought: Some(1), cached: Some(3), ..last }));
        let finished = Finished::Answer { reason, prompt_tokens: 4, tokens: 1, thought: Some(1), cached: Some(3) };
        assert_eq!(buyer.outcome, Some(Outcome::Finished(finished)));
        assert!(buyer.owed > 0);
    }
    let (mut buyer, stream, _) = Buyer::accepted(|spec| spec.failover = Failover::Never);
    buyer.chunk(stream, 0, " a");
    buyer.hears(stream, &end(EndReason::Settlement, 1, b" a"));
    let unpaid = Failure::Interrupted(Interrupted::Settlement);
    assert_eq!(buyer.outcome, Some(Outcome::Failed(unpaid)));
    assert_eq!(buyer.violation(), None);
}

/// [R9] What was thought nobody continues, though the same answer without it would be.
#[test]
fn a_run_with_thoughts_is_not_continued() {
    for (channel, goes_on) in [(None, true), (Some(Channel::Thought), false)] {
        let mut buyer = Buyer::new();
        buyer.knows("seller", advert());
        buyer.knows("other", ModelAdvert { price_out: 2 * advert().price_out, ..advert() });
        buyer.submit(&["seller", "other"], |_| ());
        let stream = buyer.newest("seller");
        let award = buyer.award(stream);
        buyer.hears(stream, &Message::Accepted(super::buyer::accepted(&award)));
        buyer.hears(stream, &chunk(0, " a", channel));
        let hashed: &[u8] = if goes_on { b" a" } else { b"\xff\x01 a" };
        buyer.hears(stream, &end(EndReason::Engine, 1, hashed));
        buyer.wait(Millis(2_000));
        assert_eq!(buyer.outcome.is_none(), goes_on, "{channel:?}: {:?}", buyer.outcome);
    }
}

/// [C1] Working belongs behind Accepted. [C2] It is charged like Keepalive.
#[test]
fn working_has_its_place() {
    let working = Message::Working { phase: Phase::Loading, done: None, of: None, eta: None };
    let (mut buyer, stream, _) = Buyer::awarded(|_| ());
    buyer.hears(stream, &working);
    assert_eq!(buyer.violation(), Some(Violation::Unexpected));
    let (mut buyer, stream, _) = Buyer::accepted(|_| ());
    for _ in 0..100 {
        buyer.hears(stream, &working);
    }
    assert_eq!(buyer.violation(), None);
    buyer.hears(stream, &working);
    assert_eq!(buyer.violation(), Some(Violation::Flood));
    let mut seller = Seller::new();
    let (stream, _) = seller.running(&award());
    seller.heard(stream);
    seller.say(stream, &working);
    assert!(seller.heard(stream).is_violation());
}

/// [C7] [C3] Who says that it works is waited for, and not for ever, however long it says that it takes; but not where somebody
/// else is known. What it does is told once.
#[test]
fn who_works_is_waited_for_while_nobody_else_is_known() {
    let working = |eta| Message::Working { phase: Phase::Loading, done: None, of: None, eta };
    for eta in [None, Some(Millis(1)), Some(Millis(u64::MAX))] {
        for (alone, waits) in [(true, 200_000), (false, 60_000)] {
            let policy = Policy { max_retries: 0, first_token: Millis::from_secs(200), ..Policy::default() };
            let mut buyer = Buyer::with(policy, Limits::default());
            buyer.knows("seller", advert());
            if !alone {
                buyer.knows("other", ModelAdvert { price_out: 2 * advert().price_out, ..advert() });
            }
            buyer.submit(if alone { &["seller"] } else { &["seller", "other"] }, |_| ());
            let (begin, stream) = (buyer.now, buyer.newest("seller"));
            let award = buyer.award(stream);
            buyer.hears(stream, &Message::Accepted(super::buyer::accepted(&award)));
            while buyer.outcome.is_none() && buyer.now.since(begin) < Millis::from_secs(300) {
                buyer.hears(stream, &working(eta));
                buyer.wait(Millis(10_000));
            }
            let why = PassedOver::Interrupted(Interrupted::FirstToken);
            assert_eq!(buyer.outcome, Some(Outcome::Failed(Failure::Declined(why))), "{eta:?}");
            assert_eq!(buyer.now.since(begin), Millis(waits), "{eta:?}, alone: {alone}");
            assert_eq!((buyer.works, buyer.owed), (vec![Phase::Loading], 0));
        }
    }
}

/// [A13] An award is declined by an engine that can not do what it takes.
#[test]
fn an_award_fits_what_the_engine_can_do() {
    let (tools, images) = (Features::TOOLS, Features::IMAGES);
    let request = Award { kind: BodyKind::Request, ..award() };
    let cases = [
        (None, Award { features: Some(tools), ..award() }, false),
        (None, request.clone(), false),
        (Some(Features(0)), request.clone(), true),
        (Some(tools), Award { features: Some(tools), ..request.clone() }, true),
        (Some(tools), Award { features: Some(tools.with(images)), ..request.clone() }, false),
        (Some(tools.with(images)), Award { features: Some(images), ..award() }, true),
    ];
    for (has, award, is_taken) in cases {
        let mut service = service();
        service.models[0].advert.features = has;
        let mut seller = Seller::with(service, Limits::default());
        let stream = seller.open();
        seller.award(stream, &award);
        let heard = seller.heard(stream);
        match heard.one() {
            Message::Accepted(_) => assert!(is_taken, "{has:?} {award:?}"),
            Message::Decline(decline) => {
                assert_eq!((decline.reason, is_taken), (DeclineReason::Unsupported, false), "{has:?} {award:?}");
            }
            other => panic!("{other:?}"),
        }
    }
}

/// [A13] Who cannot do what the job needs is not awarded it; who can is told what it is.
#[test]
fn a_request_goes_to_who_takes_it() {
    let json = r#"{"messages":[{"role":"user","content":"Hi"}],"tools":[]}"#;
    for (has, goes) in [(None, false), (Some(Features(0)), false), (Some(Features::TOOLS), true)] {
        let mut buyer = Buyer::new();
        buyer.knows("seller", ModelAdvert { features: has, ..advert() });
        buyer.submit(&["seller"], |spec| {
            spec.prompt = Prompt::Request(json.into());
            spec.criteria.require = Some(Features::TOOLS);
        });
        if !goes {
            assert!(matches!(buyer.outcome, Some(Outcome::Failed(Failure::NobodyFound { unfit: 1, .. }))), "{has:?}");
            continue;
        }
        let award = buyer.award(buyer.newest("seller"));
        assert_eq!((award.kind, award.features), (BodyKind::Request, Some(Features::TOOLS)));
        assert_eq!((award.body_bytes, award.body_hash), (json.len() as u64, sha256(json.as_bytes())));
    }
    let mut buyer = Buyer::new();
    buyer.knows("seller", advert());
    buyer.submit(&["seller"], |spec| spec.prompt = Prompt::Request(json.into()));
    assert!(matches!(buyer.outcome, Some(Outcome::Failed(Failure::NobodyFound { unfit: 1, .. }))), "no requests there");
}

/// [S1] Nobody is paid in a way that was not listed; who is told so looks for somebody else.
#[test]
fn no_other_method_is_taken_than_one_that_is_listed() {
    let mut seller = Seller::new();
    let stream = seller.open();
    let choice = Choice { kind: MethodKind::Tab, rail: b"EUR".to_vec(), upfront: false, key: Vec::new() };
    seller.award(stream, &Award { choice: Some(choice), voucher: Some(VOUCHER), ..award() });
    let heard = seller.heard(stream);
    assert!(matches!(heard.one(), Message::Decline(Decline { reason: DeclineReason::Settlement, .. })), "{heard:?}");

    let (mut buyer, stream, _) = Buyer::awarded(|_| ());
    let (retry_after, offer, shown) = (None, None, None);
    buyer.hears(stream, &Message::Decline(Decline { reason: DeclineReason::Settlement, retry_after, offer, shown }));
    let declined = PassedOver::Declined(DeclineReason::Settlement);
    assert_eq!(buyer.outcome, Some(Outcome::Failed(Failure::Declined(declined))));
}

/// [S2] On an attempt that is not paid, a voucher is a violation.
#[test]
fn a_voucher_needs_an_attempt_that_is_paid() {
    let (voucher, attempt) = (Some(VOUCHER), 1);
    let wrong = [Message::Ack { next: 0, end: false, voucher }, Message::Cancel { job: JOB, attempt, voucher }];
    for message in wrong {
        let mut seller = Seller::new();
        let (stream, _) = seller.running(&award());
        seller.heard(stream);
        seller.say(stream, &message);
        assert!(seller.heard(stream).is_violation(), "{message:?}");
    }
}
