//! Slots and places in the queue: who holds them, and who gives them up.

use haggle_core::{
    Millis, StreamId,
    wire::{
        Message,
        message::{Accepted, Award, Decline, DeclineReason, EndReason},
    },
};

use super::{JOB, PROMPT, award, peer, seller::Seller};

/// The answer to an award of a peer, with its body if that is sent.
fn asks(seller: &mut Seller, name: &str, attempt: u32, body: bool) -> (StreamId, Result<Accepted, DeclineReason>) {
    seller.buyer = peer(name);
    let stream = seller.open();
    seller.award(stream, &Award { attempt, ..award() });
    let heard = seller.heard(stream);
    let answer = match heard.one() {
        Message::Accepted(accepted) => Ok(accepted),
        Message::Decline(decline) => Err(decline.reason),
        other => panic!("{other:?}"),
    };
    if body && answer.is_ok() {
        seller.body(stream, PROMPT);
    }
    (stream, answer)
}

fn is_displaced(seller: &mut Seller, stream: StreamId) -> bool {
    let heard = seller.heard(stream);
    heard.messages().iter().any(|message| {
        matches!(message, Message::Decline(Decline { reason: DeclineReason::PeerLimit | DeclineReason::Busy, .. }))
    })
}

/// [A3] Awards without their bodies hold no place: however many a peer makes, others are served.
#[test]
fn words_hold_no_place() {
    let mut seller = Seller::new();
    for n in 1..=5 {
        let (_, answer) = asks(&mut seller, "pest", n, false);
        assert_eq!(answer.is_ok(), n <= 2, "{n}: half of the places, at most");
    }
    for name in ["a", "b", "c", "d", "e"] {
        assert!(asks(&mut seller, name, 1, true).1.is_ok(), "{name}");
    }
    assert_eq!(asks(&mut seller, "f", 1, true).1, Err(DeclineReason::Busy), "five places are taken by five bodies");
    assert_eq!(seller.started.len(), 1);
}

/// What never had its body is kept for ten seconds after a cut, without a place, and then forgotten.
#[test]
fn an_award_without_a_body_goes_after_its_stream() {
    let mut seller = Seller::new();
    let (stream, _) = asks(&mut seller, "pest", 1, false);
    seller.cut(stream);
    let again = seller.open();
    seller.award(again, &Award { epoch: 2, ..award() });
    assert!(matches!(seller.heard(again).one(), Message::Accepted(accepted) if accepted.body_credit > 0));
    seller.cut(again);
    seller.wait(Millis(9_999));
    assert_eq!(seller.provider.open_jobs(), 1);
    seller.wait(Millis(1));
    assert_eq!((seller.provider.open_jobs(), seller.provider.held_bytes()), (0, 0));
}

/// A body that comes when every place is taken meanwhile is told so, and what is left of it is dropped.
#[test]
fn a_body_that_comes_too_late_finds_no_place() {
    let mut seller = Seller::new();
    let (late, answer) = asks(&mut seller, "late", 1, false);
    assert!(answer.is_ok());
    for name in ["a", "b", "c", "d", "e"] {
        assert!(asks(&mut seller, name, 1, true).1.is_ok());
    }
    seller.body(late, PROMPT);
    assert!(is_displaced(&mut seller, late));
    assert_eq!(seller.provider.unended_jobs(), 5);
}

/// One peer may fill all places while nobody else asks; then it makes room, and what runs is left alone.
#[test]
fn who_has_most_makes_room() {
    let mut seller = Seller::new();
    let streams: Vec<StreamId> = (1..=5).map(|n| asks(&mut seller, "greedy", n, true).0).collect();
    assert_eq!(asks(&mut seller, "greedy", 6, true).1, Err(DeclineReason::Busy), "for itself it displaces nothing");
    for (name, victim) in [("a", 4), ("b", 3), ("c", 2), ("d", 1)] {
        assert!(asks(&mut seller, name, 1, true).1.is_ok(), "{name}");
        assert!(is_displaced(&mut seller, streams[victim]), "the newest goes: {name}");
    }
    assert!(!is_displaced(&mut seller, streams[0]) && seller.stopped.is_empty(), "what runs is not displaced");
    assert_eq!(asks(&mut seller, "e", 1, true).1, Err(DeclineReason::Busy), "now nobody has clearly more");
}

/// [A7] A sign of life that crosses the Decline of a displaced job is no violation; where nothing was accepted it is one.
#[test]
fn an_ack_may_cross_the_decline_of_a_displaced_job() {
    let mut seller = Seller::new();
    let streams: Vec<StreamId> = (1..=5).map(|n| asks(&mut seller, "greedy", n, true).0).collect();
    assert!(asks(&mut seller, "a", 1, true).1.is_ok());
    assert!(is_displaced(&mut seller, streams[4]));
    seller.say(streams[4], &Message::Ack { next: 0, end: false, voucher: None });
    assert!(!seller.heard(streams[4]).is_reset);
    seller.buyer = peer("greedy");
    let fresh = seller.open();
    seller.say(fresh, &Message::Ack { next: 0, end: false, voucher: None });
    assert!(seller.heard(fresh).is_violation());
}

/// A requester that is gone keeps its slot for five seconds while somebody waits, and what it was written for longer.
#[test]
fn who_is_gone_yields_the_slot_to_who_waits() {
    let mut seller = Seller::new();
    let (gone, attempt) = seller.running(&award());
    seller.push(attempt, " and").unwrap();
    let (_, answer) = asks(&mut seller, "waiting", 1, true);
    assert!(answer.is_ok());
    seller.cut(gone);
    seller.wait(Millis(4_999));
    assert_eq!((seller.started.len(), seller.stopped.len()), (1, 0));
    seller.wait(Millis(1));
    assert_eq!((seller.started.len(), &seller.stopped[..]), (2, &[attempt][..]));
    // It comes back: its token is there, and an end without blame.
    seller.buyer = peer("buyer");
    let again = seller.open();
    seller.say(again, &Message::Resume { job: JOB, attempt: 1, epoch: 2, next: 0 });
    let heard = seller.heard(again);
    let [Message::Resumed { next: 0 }, Message::Chunk { seq: 0, .. }, Message::End(end)] = &heard.messages()[..] else {
        panic!("{heard:?}")
    };
    assert_eq!(end.reason, EndReason::Shutdown);
}

/// Where nobody waits it computes on, and yields to the first who comes.
#[test]
fn a_slot_that_nobody_wants_is_kept() {
    let mut seller = Seller::new();
    let (gone, attempt) = seller.running(&award());
    seller.cut(gone);
    seller.wait(Millis(30_000));
    seller.push(attempt, " and").unwrap();
    assert_eq!(seller.stopped.len(), 0);
    assert!(asks(&mut seller, "waiting", 1, true).1.is_ok());
    assert_eq!((seller.started.len(), &seller.stopped[..]), (2, &[attempt][..]));
}

/// A requester that is back within five seconds keeps its slot, whoever waits.
#[test]
fn who_comes_back_in_time_keeps_the_slot() {
    let mut seller = Seller::new();
    let (gone, attempt) = seller.running(&award());
    assert!(asks(&mut seller, "waiting", 1, true).1.is_ok());
    seller.cut(gone);
    seller.wait(Millis(4_999));
    seller.buyer = peer("buyer");
    let again = seller.open();
    seller.award(again, &Award { epoch: 2, ..award() });
    seller.wait(Millis(20_000));
    seller.push(attempt, " and").unwrap();
    assert_eq!(seller.stopped.len(), 0);
}

/// Who left answers behind again and again has one place, waits behind all others, and makes room for them.
#[test]
fn who_leaves_answers_behind_loses_standing() {
    let mut seller = Seller::new();
    for attempt in 1..=3 {
        let (stream, answer) = asks(&mut seller, "pest", attempt, true);
        assert!(answer.is_ok(), "{attempt}");
        seller.cut(stream);
        seller.wait(Millis(120_000));
    }
    assert_eq!(seller.provider.open_jobs(), 0);
    let (_, answer) = asks(&mut seller, "busy", 1, true);
    assert!(answer.is_ok());
    let (pest, answer) = asks(&mut seller, "pest", 4, true);
    assert!(answer.is_ok());
    assert_eq!(asks(&mut seller, "pest", 5, true).1, Err(DeclineReason::PeerLimit), "one at a time");
    let honest = *seller.started.last().unwrap();
    assert!(asks(&mut seller, "honest", 1, true).1.is_ok());
    // The slot is free: the honest one goes first, though it came later.
    seller.finish(honest, EndReason::Stop);
    let heard = seller.heard(pest);
    assert_eq!(heard.messages().len(), 0, "it waits: {heard:?}");
    for name in ["a", "b", "c"] {
        assert!(asks(&mut seller, name, 1, true).1.is_ok(), "{name}");
    }
    assert!(!is_displaced(&mut seller, pest));
    assert!(asks(&mut seller, "d", 1, true).1.is_ok());
    assert!(is_displaced(&mut seller, pest), "it has no more than others, and goes first all the same");
    // What is known of it fades: six of ten minutes halve three to nothing.
    seller.wait(Millis::from_secs(3_600));
    assert!(asks(&mut seller, "pest", 6, false).1.is_ok());
    assert!(asks(&mut seller, "pest", 7, false).1.is_ok());
}
