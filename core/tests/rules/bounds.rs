//! What bounds both machines: places, bytes, patience, and who is blamed. Each is taken to its edge.

use haggle_core::{
    Limits, Millis, Policy,
    event::{Failure, Outcome, PassedOver},
    machine::StreamFailure,
    wire::{
        Message,
        message::{Accepted, Award, Decline, DeclineReason, End, EndReason},
    },
};

use super::{
    PROMPT, advert, award,
    award::priced,
    buyer::{Buyer, accepted},
    peer,
    seller::Seller,
    service, sha256,
};

fn refusal(seller: &mut Seller, award: &Award) -> Option<DeclineReason> {
    let stream = seller.open();
    seller.award(stream, award);
    match seller.heard(stream).one() {
        Message::Accepted(_) => None,
        Message::Decline(decline) => Some(decline.reason),
        other => panic!("{other:?}"),
    }
}

/// `node_bytes`: what all bodies hold together is bounded; what does not fit now is Busy, and fits when one is gone.
#[test]
fn bodies_hold_no_more_than_the_node_may() {
    let limits = Limits { body_bytes: 1_000, node_bytes: 1_500, ..Limits::default() };
    let mut seller = Seller::with(service(), limits);
    let (_, running) = seller.running(&award());
    assert_eq!(seller.started, [running]);
    let body = [b'x'; 1_000];
    let waiting = |attempt, size: usize| {
        let body_hash = sha256(&body[..size]);
        Award { attempt, body_hash, ..priced(size as u64) }
    };
    let first = seller.open();
    seller.award(first, &waiting(2, 1_000));
    seller.body(first, &body);
    assert_eq!(refusal(&mut seller, &waiting(3, 501)), Some(DeclineReason::Busy));
    assert_eq!(refusal(&mut seller, &waiting(4, 500)), None);
    seller.say(first, &Message::Cancel { job: super::JOB, attempt: 2, voucher: None });
    assert_eq!(refusal(&mut seller, &waiting(5, 1_000)), None);
    assert_eq!(refusal(&mut seller, &priced(1_001)), Some(DeclineReason::Conflict), "its name is known");
    assert_eq!(refusal(&mut seller, &Award { attempt: 6, ..priced(1_001) }), Some(DeclineReason::Unsupported));
}

/// `node_bytes`: what was announced and did not come reserves nothing that somebody else needs.
#[test]
fn a_body_that_was_announced_gives_way_to_one_that_comes() {
    let limits = Limits { body_bytes: 1_000, node_bytes: 1_500, ..Limits::default() };
    let mut seller = Seller::with(service(), limits);
    let words = seller.open();
    seller.award(words, &priced(1_000));
    seller.heard(words);
    seller.buyer = peer("another");
    let (_, _) = seller.running(&Award { attempt: 2, ..priced(16) });
    assert!(!seller.heard(words).is_reset, "there was room for both");
    assert_eq!(refusal(&mut seller, &Award { attempt: 3, ..priced(1_000) }), None);
    let heard = seller.heard(words);
    assert!(matches!(heard.one(), Message::Decline(Decline { reason: DeclineReason::Busy, .. })), "{heard:?}");
    // What of it was on its way is dropped.
    seller.body(words, &[b'x'; 1_000]);
    assert!(!seller.heard(words).is_reset);
}

/// `jobs_per_peer`: one peer has no more than its share, another still gets in.
#[test]
fn a_peer_has_no_more_jobs_than_its_share() {
    let service = haggle_core::provider::Service { slots: 8, ..service() };
    let mut seller = Seller::with(service, Limits { jobs_per_peer: 2, ..Limits::default() });
    for attempt in [1, 2] {
        assert_eq!(refusal(&mut seller, &Award { attempt, ..award() }), None);
    }
    assert_eq!(refusal(&mut seller, &Award { attempt: 3, ..award() }), Some(DeclineReason::PeerLimit));
    seller.buyer = peer("another");
    assert_eq!(refusal(&mut seller, &award()), None);
}

/// `stall`: a job whose requester takes nothing while the window is full gives its slot back, and its engine is stopped.
#[test]
fn a_requester_that_takes_nothing_loses_the_slot() {
    let mut seller = Seller::new();
    let (stream, attempt) = seller.running(&Award { window_tokens: 1, ..award() });
    seller.push(attempt, " and").unwrap();
    assert!(seller.push(attempt, " so").is_err());
    for _ in 0..59 {
        seller.wait(Millis(10_000));
        // A sign of life is no progress.
        seller.say(stream, &Message::Ack { next: 0, end: false, voucher: None });
    }
    assert_eq!((seller.stopped.len(), seller.provider.taken_slots()), (0, 1));
    seller.wait(Millis(10_000));
    assert_eq!((&seller.stopped[..], seller.provider.taken_slots()), (&[attempt][..], 0));
    let heard = seller.heard(stream);
    assert!(matches!(heard.messages().last(), Some(Message::End(end)) if end.reason == EndReason::TooSlow));
}

/// Who shuts down starts nothing that waited, and ends everything, typed.
#[test]
fn nothing_moves_up_while_a_provider_shuts_down() {
    let mut seller = Seller::new();
    let (_, running) = seller.running(&award());
    let waiting = seller.open();
    seller.award(waiting, &Award { attempt: 2, ..award() });
    seller.body(waiting, PROMPT);
    seller.heard(waiting);
    seller.provider.shut_down(seller.now);
    seller.wait(Millis(0));
    seller.say(waiting, &Message::Ack { next: 0, end: false, voucher: None });
    assert_eq!((&seller.started[..], &seller.stopped[..]), (&[running][..], &[running][..]));
    let heard = seller.heard(waiting);
    assert!(matches!(heard.messages()[0], Message::End(End { reason: EndReason::Shutdown, .. })), "{heard:?}");
}

/// [C3] The `eta` of an Accepted is believed up to an hour: four of them later the provider is given up.
#[test]
fn patience_after_accepted_is_clamped() {
    let day = Millis::from_secs(24 * 3600);
    let mut buyer = Buyer::with(Policy { job_deadline: day, first_token: day, ..Policy::default() }, Limits::default());
    buyer.knows("seller", advert());
    buyer.submit(&["seller"], |_| ());
    let stream = buyer.newest("seller");
    let award = buyer.award(stream);
    buyer.hears(stream, &Message::Accepted(Accepted { eta: Some(Millis(u64::MAX)), ..accepted(&award) }));
    for _ in 0..4 * 360 {
        assert_eq!(buyer.outcome, None);
        buyer.wait(Millis(9_999));
        buyer.hears(stream, &Message::Keepalive);
        buyer.wait(Millis(1));
    }
    assert!(
        buyer.said(stream).iter().any(|message| matches!(message, Message::Cancel { .. })),
        "four hours are enough"
    );
}

/// [A2] A declined award is no attempt: the one retry is there for the provider that breaks off afterwards.
#[test]
fn a_declined_award_is_no_attempt() {
    let mut buyer = Buyer::with(Policy { max_retries: 1, ..Policy::default() }, Limits::default());
    buyer.knows("seller", advert());
    buyer.submit(&["seller"], |_| ());
    let stream = buyer.newest("seller");
    buyer.award(stream);
    let busy = Decline { reason: DeclineReason::Busy, retry_after: Some(Millis(1)), offer: None, shown: None };
    buyer.hears(stream, &Message::Decline(busy));
    buyer.wait(Millis(3_000));
    let stream = buyer.newest("seller");
    if matches!(buyer.said(stream)[..], [Message::Rfq(_)]) {
        buyer.quotes(stream, award().tariff);
    }
    let award = buyer.award(stream);
    assert_eq!(award.attempt, 2, "it has another name all the same");
    buyer.hears(stream, &Message::Accepted(accepted(&award)));
    let broken = End {
        reason: EndReason::Engine,
        prompt_tokens: 0,
        tokens: 0,
        hash: [0; 32],
        thought: None,
        cached: None,
        receipt: None,
    };
    buyer.hears(stream, &Message::End(broken));
    assert_eq!(buyer.outcome, None, "one retry is left");
}

/// [R7] Three resumes in a row that opened and brought no token; after the fourth cut the provider is given up.
#[test]
fn three_resumes_in_vain_are_enough() {
    let (mut buyer, mut stream, _) = Buyer::accepted(|spec| spec.failover = haggle_core::spec::Failover::Never);
    buyer.chunk(stream, 0, " a");
    for resumes in 1..=3 {
        buyer.cut(stream);
        buyer.wait(Millis(5_000));
        let next = buyer.newest("seller");
        assert_ne!(next, stream, "resume {resumes}");
        assert_eq!(buyer.outcome, None);
        buyer.hears(next, &Message::Resumed { next: 1 });
        stream = next;
    }
    buyer.cut(stream);
    buyer.wait(Millis(0));
    assert!(matches!(buyer.outcome, Some(Outcome::Failed(Failure::Interrupted(_)))), "{:?}", buyer.outcome);
}

/// [R7] Where nobody listens any more, two dials are enough if somebody else is known. Silence is waited for.
#[test]
fn who_is_gone_is_replaced_at_once_and_who_is_silent_after_a_while() {
    for (why, others, after) in [
        (StreamFailure::Unreachable, true, 200..=350),
        (StreamFailure::TimedOut, true, 5_100..=6_000),
        (StreamFailure::Unreachable, false, 120_100..=121_000),
    ] {
        let mut buyer = Buyer::new();
        buyer.knows("seller", advert());
        let names = if others { &["seller", "another"][..] } else { &["seller"] };
        names[1..].iter().for_each(|name| buyer.knows(name, advert()));
        buyer.submit(names, |spec| spec.criteria.prefer = vec![peer("seller")]);
        let stream = buyer.newest("seller");
        let award = buyer.award(stream);
        buyer.hears(stream, &Message::Accepted(accepted(&award)));
        buyer.chunk(stream, 0, " a");
        let (lost, asked) = (buyer.now, |buyer: &Buyer| buyer.is_asked("another") || buyer.is_awarded("another"));
        buyer.gone = Some((peer("seller"), why));
        buyer.cut(stream);
        while !asked(&buyer) && buyer.outcome.is_none() {
            buyer.wait(Millis(1));
        }
        assert!(after.contains(&buyer.now.since(lost).0), "{why:?}: {:?}", buyer.now.since(lost));
    }
}

/// `pending_cancels`: the oldest Cancel is given up for a newer one.
#[test]
fn of_too_many_cancels_the_oldest_is_given_up() {
    let names = ["first", "second", "third"];
    let mut buyer = Buyer::with(Policy::default(), Limits { pending_cancels: 2, ..Limits::default() });
    for name in names {
        buyer.knows(name, advert());
        let job = buyer.submit(&[name], |_| ());
        let stream = buyer.newest(name);
        let award = buyer.award(stream);
        buyer.hears(stream, &Message::Accepted(accepted(&award)));
        buyer.cancel(job);
        buyer.wait(Millis(10));
    }
    let streams = names.map(|name| buyer.newest(name));
    streams.into_iter().for_each(|stream| buyer.cut(stream));
    buyer.wait(Millis(60_000));
    let is_said_again = |n: usize| buyer.newest(names[n]) != streams[n];
    assert_eq!([0, 1, 2].map(is_said_again), [false, true, true]);
}

/// What sources name is bounded: of any number of hints 256 are asked.
#[test]
fn hints_of_a_search_are_bounded() {
    let mut buyer = Buyer::new();
    buyer.submit(&[], |_| ());
    let names: Vec<String> = (0..5_000).map(|n| format!("peer {n}")).collect();
    buyer.hints(names.iter().map(String::as_str));
    // Nobody answers: eight at once, five seconds each.
    buyer.wait(Millis::from_secs(590));
    let asked = names.iter().filter(|name| buyer.has_met(name)).count();
    assert!(asked <= 256 && asked > 8, "{asked}");
}

/// Who says that this side is too slow has done nothing wrong; who breaks off has.
#[test]
fn blame_falls_on_who_broke_off() {
    for (reason, is_blamed) in [(EndReason::TooSlow, false), (EndReason::Shutdown, false), (EndReason::Engine, true)] {
        let (mut buyer, stream, _) = Buyer::accepted(|spec| spec.failover = haggle_core::spec::Failover::Never);
        buyer.chunk(stream, 0, " a");
        buyer.hears(
            stream,
            &Message::End(End {
                reason,
                prompt_tokens: 0,
                tokens: 1,
                hash: sha256(b" a"),
                thought: None,
                cached: None,
                receipt: None,
            }),
        );
        let known = buyer.requester.reliability(buyer.now, &peer("seller")).unwrap();
        assert_eq!(known.counts.failures > 0, is_blamed, "{reason:?}: {known:?}");
    }
}

/// A refusal as busy is no failure, and gives the permit back: as many as there are may be busy in turn.
#[test]
fn busy_is_no_failure() {
    let mut buyer = Buyer::new();
    buyer.knows("seller", advert());
    for _ in 0..6 {
        buyer.submit(&["seller"], |spec| spec.deadline = Some(Millis(900)));
        let stream = buyer.newest("seller");
        if buyer.said(stream).iter().any(|message| matches!(message, Message::Award(_))) {
            let busy = Decline { reason: DeclineReason::Busy, retry_after: None, offer: None, shown: None };
            buyer.hears(stream, &Message::Decline(busy));
        }
        buyer.wait(Millis(1_000));
        assert!(
            matches!(
                buyer.outcome,
                Some(Outcome::Failed(Failure::Declined(PassedOver::Declined(_)) | Failure::Deadline))
            ),
            "{:?}",
            buyer.outcome
        );
    }
    let known = buyer.requester.reliability(buyer.now, &peer("seller")).unwrap();
    assert_eq!((known.counts.failures, known.load), (0, 0));
}
