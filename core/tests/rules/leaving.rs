//! Providers that take a job and let it wait: when they are left, and how long that is remembered.

use haggle_core::{
    Instant, JobSpec, Limits, Millis, Policy, StreamId,
    event::{Failure, Outcome},
    wire::{
        Message,
        message::{End, EndReason, GoneReason, ModelAdvert, Phase},
    },
};

use super::{
    advert,
    buyer::{Buyer, accepted},
    peer, sha256,
};

/// At so many micro-units a token.
fn priced(price: u64) -> ModelAdvert {
    ModelAdvert { price_out: price * 1_000_000, ..advert() }
}

/// A job for some that are known; the cheapest has it, and accepts.
fn taken(policy: Policy, sellers: &[(&str, u64)], edit: impl FnOnce(&mut JobSpec)) -> (Buyer, StreamId) {
    let mut buyer = Buyer::with(policy, Limits::default());
    sellers.iter().for_each(|(name, price)| buyer.knows(name, priced(*price)));
    let names: Vec<&str> = sellers.iter().map(|(name, _)| *name).collect();
    let stream = submit(&mut buyer, &names, sellers[0].0, edit);
    (buyer, stream)
}

fn submit(buyer: &mut Buyer, names: &[&str], takes: &str, edit: impl FnOnce(&mut JobSpec)) -> StreamId {
    buyer.submit(names, edit);
    let stream = buyer.newest(takes);
    let award = buyer.award(stream);
    buyer.hears(stream, &Message::Accepted(accepted(&award)));
    stream
}

/// Signs of life, and a token every so often: what a provider says that wants to be neither silent nor done.
fn drips(buyer: &mut Buyer, stream: StreamId, every: u64, until: u64) {
    let mut sent = 0;
    for second in 1..=until {
        if buyer.said(stream).iter().any(|message| matches!(message, Message::Cancel { .. })) {
            return;
        }
        if second % every == 0 {
            buyer.chunk(stream, sent, "a ");
            sent += 1;
        } else if second % 5 == 0 {
            buyer.hears(stream, &Message::Keepalive);
        }
        buyer.wait(Millis::from_secs(1));
    }
}

fn turned_to(buyer: &Buyer, name: &str) -> bool {
    let said = buyer.said(buyer.newest(name));
    said.iter().any(|message| matches!(message, Message::Rfq(_) | Message::Award(_)))
}

fn is_left(buyer: &Buyer, stream: StreamId) -> bool {
    buyer.said(stream).iter().any(|message| matches!(message, Message::Cancel { .. }))
}

fn deadline(seconds: u64) -> impl FnOnce(&mut JobSpec) {
    move |spec| spec.deadline = Some(Millis::from_secs(seconds))
}

/// A provider that writes a token every 20 s cannot write thirty in 150 s: as soon as that is seen, another one goes on.
#[test]
fn who_cannot_be_done_in_time_is_left_for_another() {
    let (mut buyer, stream) = taken(Policy::default(), &[("drip", 1), ("seller", 2)], deadline(150));
    assert!(!turned_to(&buyer, "seller"));
    drips(&mut buyer, stream, 20, 52);
    assert!(is_left(&buyer, stream), "thirty seconds after the first token");
    assert_eq!((&buyer.text[..], buyer.outcome.is_none()), ("a a ", true));
    buyer.wait(Millis::from_secs(5));
    assert!(turned_to(&buyer, "seller"), "who goes on is asked");
}

/// A slow answer is more than none: without another provider nobody is left for its pace, and nobody who can be done in time.
#[test]
fn who_is_slow_is_kept_where_that_is_better() {
    let (mut buyer, stream) = taken(Policy::default(), &[("drip", 1)], deadline(150));
    drips(&mut buyer, stream, 20, 120);
    assert!(!is_left(&buyer, stream), "nobody else is known");
    for (seconds, every) in [(599, 15), (150, 2)] {
        let (mut buyer, stream) = taken(Policy::default(), &[("drip", 1), ("seller", 2)], deadline(seconds));
        drips(&mut buyer, stream, every, 58);
        assert!(!is_left(&buyer, stream), "a token every {every} s will do for {seconds} s");
    }
    let never = Policy { pace_tokens: 0, ..Policy::default() };
    let (mut buyer, stream) = taken(never, &[("drip", 1), ("seller", 2)], deadline(150));
    drips(&mut buyer, stream, 20, 120);
    assert!(!is_left(&buyer, stream), "it was not asked for");
}

/// Who took a job and brought nothing by the deadline has failed, though it never stopped to say that it lives; the next job goes
/// to another one, whatever it costs. After ten minutes that is forgotten.
#[test]
fn a_deadline_without_a_token_is_remembered() {
    let (mut buyer, stream) = taken(Policy::default(), &[("bait", 1), ("seller", 100)], deadline(20));
    drips(&mut buyer, stream, 99, 25);
    assert_eq!(buyer.outcome, Some(Outcome::Failed(Failure::Deadline)));
    let known = buyer.requester.reliability(buyer.now, &peer("bait")).unwrap();
    assert_eq!((known.counts.attempts, known.counts.failures), (1, 1));
    buyer.outcome = None;
    submit(&mut buyer, &["bait", "seller"], "seller", |_| ());
    let mut later = buyer.clone();
    later.now = Instant::from_millis(700_000);
    ["bait", "seller"].iter().zip([1, 100]).for_each(|(name, price)| later.knows(name, priced(price)));
    submit(&mut later, &["bait", "seller"], "bait", |_| ());
}

/// Who is killed, before its first token or after it, and is back soon is as welcome as before, however long it was waited for. Who
/// was reached all the time and sent nothing of use, or nothing at all, or came back again and again with nothing, is not.
#[test]
fn who_was_away_is_forgiven_and_who_let_a_job_wait_is_not() {
    type Conduct = fn(&mut Buyer, StreamId);
    let cases: [(&str, Conduct, bool); 6] = [
        ("killed before its first token", |buyer, stream| buyer.cut(stream), true),
        (
            "killed in mid-answer",
            |buyer, stream| {
                buyer.chunk(stream, 0, "a ");
                buyer.cut(stream);
            },
            true,
        ),
        (
            "killed, and has nothing to resume",
            |buyer, stream| {
                buyer.chunk(stream, 0, "a ");
                buyer.cut(stream);
                buyer.hears(buyer.newest("first"), &Message::Gone(GoneReason::Unknown));
            },
            true,
        ),
        ("signs of life only", |buyer, stream| drips(buyer, stream, 999, 300), false),
        ("silence on an open stream", |_, _| (), false),
        (
            "away and back without a token",
            |buyer, _| {
                for times in 0..4 {
                    let stream = buyer.newest("first");
                    if times > 0 {
                        let award = buyer.award(stream);
                        buyer.hears(stream, &Message::Accepted(accepted(&award)));
                    }
                    buyer.cut(stream);
                    while buyer.newest("first") == stream {
                        buyer.wait(Millis(100));
                    }
                }
            },
            false,
        ),
    ];
    let sellers = [("first", 1), ("seller", 100)];
    for (case, conduct, is_forgiven) in cases {
        let mut buyer = Buyer::new();
        sellers.iter().for_each(|(name, price)| buyer.knows(name, priced(*price)));
        let job = buyer.submit(&["first", "seller"], |_| ());
        let stream = buyer.newest("first");
        let award = buyer.award(stream);
        buyer.hears(stream, &Message::Accepted(accepted(&award)));
        let (begin, met) = (buyer.now, buyer.newest("seller"));
        conduct(&mut buyer, stream);
        while buyer.newest("seller") == met {
            assert!(buyer.now.since(begin) < Millis::from_secs(400), "{case}: nobody goes on");
            buyer.wait(Millis::from_secs(1));
        }
        buyer.cancel(job);
        buyer.wait(Millis::from_secs(300));
        sellers.iter().for_each(|(name, price)| buyer.knows(name, priced(*price)));
        submit(&mut buyer, &["first", "seller"], if is_forgiven { "first" } else { "seller" }, |_| ());
    }
}

/// After an unknown provider kept silent, the same job goes to one that has served, though another unknown one is cheaper; and
/// of the unknown to one at another price.
#[test]
fn after_silence_words_count_less() {
    for (served, next) in [(true, "known"), (false, "other")] {
        let hasty = Policy { first_token: Millis::from_secs(5), ..Policy::default() };
        let mut buyer = Buyer::with(hasty, Limits::default());
        let sellers = [("bait", 1), ("twin", 1), ("other", 5), ("known", 9)];
        sellers.iter().for_each(|(name, price)| buyer.knows(name, priced(*price)));
        if served {
            let stream = submit(&mut buyer, &["known"], "known", |_| ());
            buyer.chunk(stream, 0, "a");
            let end = End {
                reason: EndReason::Stop,
                prompt_tokens: 1,
                tokens: 1,
                hash: sha256(b"a"),
                thought: None,
                cached: None,
                receipt: None,
            };
            buyer.hears(stream, &Message::End(end));
            buyer.outcome = None;
        }
        buyer.submit(&sellers.map(|(name, _)| name), |_| ());
        let bait = if turned_to(&buyer, "bait") { "bait" } else { "twin" };
        let stream = buyer.newest(bait);
        let award = buyer.award(stream);
        buyer.hears(stream, &Message::Accepted(accepted(&award)));
        buyer.wait(Millis::from_secs(12));
        assert!(is_left(&buyer, stream));
        buyer.award(buyer.newest(next));
    }
}

/// Who waits for a provider that works, and knows nobody else, asks meanwhile whom it has only heard of: that one goes on after a
/// minute, as if it had been known.
#[test]
fn who_waits_alone_asks_whom_it_has_heard_of() {
    let mut buyer = Buyer::new();
    buyer.knows("loads", priced(1));
    buyer.submit(&[], |_| ());
    buyer.finds(["loads"]);
    buyer.wait(Millis(500));
    if buyer.is_asked("loads") {
        buyer.quotes(buyer.newest("loads"), super::award().tariff);
        buyer.wait(Millis(500));
    }
    let stream = buyer.newest("loads");
    let award = buyer.award(stream);
    buyer.hears(stream, &Message::Accepted(accepted(&award)));
    buyer.hints(["another"]);
    assert!(!buyer.has_met("another"));
    let working = Message::Working { phase: Phase::Loading, done: None, of: None, eta: None };
    buyer.hears(stream, &working);
    let asked = buyer.newest("another");
    assert_eq!(buyer.said(asked), [Message::Describe]);
    buyer.describes(asked, priced(2));
    for _ in 0..7 {
        buyer.hears(stream, &working);
        buyer.wait(Millis::from_secs(10));
    }
    assert!(is_left(&buyer, stream));
    buyer.wait(Millis::from_secs(60));
    assert_ne!(buyer.newest("another"), asked, "it is turned to");
}
