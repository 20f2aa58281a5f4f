//! Points that a set of runs should cover: what was never covered was never tested.
//!
//! Seen from outside: the core carries no hooks. A point is a group and a place; [`EXPECTED`] names what has to be covered.

use std::fmt::Debug;

use haggle_core::{
    event::{ChoiceReason, Failure, Interrupted, PassedOver, ServedReason, TakeOver, Violation},
    machine::{Cause, QueryOutcome, StreamFailure},
    wire::{
        Message,
        message::{DeclineReason, EndReason, GoneReason, ReleaseReason},
    },
};

use crate::adversary::{CHEATS, PESTS};

/// The names that `run --points required` demands, one in a line.
pub const EXPECTED: &str = include_str!("../points.txt");

/// Words of 64 points.
const WORDS: usize = 10;

/// Which points were covered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Points([u64; WORDS]);

/// What a point is about; each has so many places.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Group {
    /// What a requester tells, by phase of its job: phase and event.
    Event,
    PassedOver,
    Failure,
    Choice,
    TakeOver,
    Served,
    /// What a provider tells.
    ProviderEvent,
    /// Messages of the core, requesters' then providers'.
    Message,
    /// Messages of scripts.
    Scripted,
    Decline,
    End,
    Gone,
    Release,
    /// Due deadlines, requesters' then providers'.
    Deadline,
    /// Facts, requesters' then providers'.
    Input,
    /// Faults, by kind.
    Fault,
    /// Faults, by the phase of a job at that time.
    FaultDuring,
    Cheat,
    Pest,
    Answer,
    /// Crashes, by the phase of a job at that time; and what came back.
    Recovery,
}

/// Each group with its places, in order.
const GROUPS: [(Group, usize); 21] = [
    (Group::Event, PHASES.len() * EVENTS.len()),
    (Group::PassedOver, PASSED_OVER.len()),
    (Group::Failure, FAILURES.len()),
    (Group::Choice, CHOICES.len()),
    (Group::TakeOver, 3),
    (Group::Served, 2 * ENDS.len() + SERVED.len() + VIOLATIONS.len()),
    (Group::ProviderEvent, PROVIDER_EVENTS.len()),
    (Group::Message, MESSAGES.len()),
    (Group::Scripted, MESSAGES.len()),
    (Group::Decline, 11),
    (Group::End, ENDS.len()),
    (Group::Gone, 3),
    (Group::Release, 5),
    (Group::Deadline, 2 * CAUSES.len()),
    (Group::Input, 2 * INPUTS.len()),
    (Group::Fault, 32),
    (Group::FaultDuring, PHASES.len()),
    (Group::Cheat, CHEATS.len()),
    (Group::Pest, PESTS.len()),
    (Group::Answer, ANSWERS.len()),
    (Group::Recovery, PHASES.len() + RECOVERED.len()),
];

/// Where each group begins.
const STARTS: [usize; GROUPS.len()] = {
    let (mut starts, mut number, mut start) = ([0; GROUPS.len()], 0, 0);
    while number < GROUPS.len() {
        // The list is in the order of the groups.
        assert!(GROUPS[number].0 as usize == number);
        starts[number] = start;
        start += GROUPS[number].1;
        number += 1;
    }
    assert!(start <= 64 * WORDS);
    starts
};

/// How far a job is, as its events tell.
pub(crate) const PHASES: [&str; 7] = ["new", "asked", "offered", "awarded", "accepted", "streaming", "cut"];
pub(crate) const EVENTS: [&str; 14] = [
    "discovered",
    "weighed",
    "asked",
    "offered",
    "passed over",
    "choice due",
    "awarded",
    "negotiated",
    "cut",
    "resumed",
    "taken over",
    "tokens",
    "ended",
    "working",
];
const PROVIDER_EVENTS: [&str; 10] = [
    "quoted",
    "refused",
    "released",
    "start",
    "start with a prefix",
    "start with ids",
    "room",
    "stop",
    "declined",
    "accepted",
];
const ANSWERS: [&str; 6] = ["stop", "length", "of two providers", "of three", "after a resume", "free"];
const RECOVERED: [&str; 3] = ["a requester returns", "a provider returns", "an ending is told again"];
/// Places of [`Group::Recovery`] behind the phases.
pub(crate) const REQUESTER: usize = PHASES.len();
pub(crate) const PROVIDER: usize = PHASES.len() + 1;
pub(crate) const TOLD_AGAIN: usize = PHASES.len() + 2;
const MESSAGES: [&str; 19] = [
    "describe",
    "advert",
    "rfq",
    "offer",
    "counter",
    "decline",
    "release",
    "award",
    "body",
    "accepted",
    "chunk",
    "keepalive",
    "end",
    "ack",
    "cancel",
    "resume",
    "resumed",
    "gone",
    "working",
];
const INPUTS: [&str; 9] =
    ["timeout", "opened", "failed", "received", "closed", "found", "query done", "connected", "gone"];

const DIALS: [StreamFailure; 5] = [
    StreamFailure::Unreachable,
    StreamFailure::TimedOut,
    StreamFailure::WrongPeer,
    StreamFailure::Unsupported,
    StreamFailure::Refused,
];
const VIOLATIONS: [Violation; 12] = [
    Violation::Frame,
    Violation::Decode,
    Violation::Unexpected,
    Violation::Seq,
    Violation::Window,
    Violation::TooMany,
    Violation::Count,
    Violation::Digest,
    Violation::Terms,
    Violation::Flood,
    Violation::Body,
    Violation::Voucher,
];
const INTERRUPTED: [Interrupted; 13] = [
    Interrupted::Lost,
    Interrupted::Gone,
    Interrupted::Request,
    Interrupted::FirstToken,
    Interrupted::TokenGap,
    Interrupted::Differs,
    Interrupted::Engine,
    Interrupted::Shutdown,
    Interrupted::TooSlow,
    Interrupted::Accused,
    Interrupted::Settlement,
    Interrupted::BadRequest,
    Interrupted::Context,
];
const PASSED_OVER: [&str; 47] = [
    "unreachable",
    "dial timed out",
    "wrong peer",
    "unsupported",
    "stream refused",
    "lost",
    "busy",
    "stale",
    "unknown model",
    "context",
    "too cheap",
    "peer limit",
    "draining",
    "conflict",
    "cannot",
    "body mismatch",
    "settlement",
    "late",
    "frame",
    "decode",
    "unexpected",
    "seq",
    "window",
    "too many",
    "count",
    "digest",
    "terms",
    "flood",
    "body",
    "voucher",
    "broke off: lost",
    "broke off: gone",
    "broke off: request",
    "broke off: first token",
    "broke off: token gap",
    "broke off: differs",
    "broke off: engine",
    "broke off: shutdown",
    "broke off: too slow",
    "broke off: accused",
    "broke off: settlement",
    "broke off: bad request",
    "broke off: context",
    "broke off: violation",
    "over budget",
    "too slow",
    "excluded",
];
const FAILURES: [&str; 19] = [
    "cancelled",
    "deadline",
    "nobody",
    "nobody in time",
    "no source",
    "declined",
    "over budget",
    "context",
    "bad request",
    "lost",
    "gone",
    "request",
    "first token",
    "token gap",
    "differs",
    "engine",
    "shutdown",
    "too slow",
    "violation or accused",
];
const CHOICES: [ChoiceReason; 7] = [
    ChoiceReason::Only,
    ChoiceReason::Cheapest,
    ChoiceReason::Fastest,
    ChoiceReason::Lot,
    ChoiceReason::Posted,
    ChoiceReason::Application,
    ChoiceReason::Proven,
];
const ENDS: [&str; 12] = [
    "stop",
    "length",
    "context",
    "bad request",
    "engine",
    "shutdown",
    "cancelled by an end",
    "violation",
    "too slow",
    "tool calls",
    "filtered",
    "settlement",
];
/// Places of [`Group::Served`] behind the ends, heard and unheard.
const SERVED: [&str; 3] = ["cancelled", "lost", "displaced"];
const CAUSES: [Cause; 20] = [
    Cause::Query,
    Cause::Describe,
    Cause::SearchWindow,
    Cause::OfferWindow,
    Cause::OfferExpiry,
    Cause::Request,
    Cause::FirstToken,
    Cause::Idle,
    Cause::TokenGap,
    Cause::Ack,
    Cause::Keepalive,
    Cause::JobDeadline,
    Cause::BodyRate,
    Cause::Handshake,
    Cause::Linger,
    Cause::Cut,
    Cause::Resume,
    Cause::Retry,
    Cause::PendingCancel,
    Cause::Bootstrap,
];

impl Points {
    pub(crate) fn hit(&mut self, group: Group, place: usize) {
        let number = group as usize;
        let bit = STARTS[number] + place.min(GROUPS[number].1 - 1);
        self.0[bit / 64] |= 1 << (bit % 64);
    }

    /// Adds what another run covered.
    pub fn add(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(own, other)| *own |= other);
    }

    /// The names of those that were covered.
    #[must_use]
    pub fn covered(&self) -> Vec<String> {
        let mut bit = 0;
        let mut names = Vec::new();
        for (group, places) in GROUPS {
            for place in 0..places {
                if self.0[bit / 64] >> (bit % 64) & 1 == 1 {
                    names.push(name(group, place));
                }
                bit += 1;
            }
        }
        names
    }

    /// Those of [`EXPECTED`] that were not covered.
    #[must_use]
    pub fn missed(&self) -> Vec<&'static str> {
        let covered = self.covered();
        EXPECTED.lines().filter(|name| !name.is_empty() && !covered.iter().any(|other| other == name)).collect()
    }
}

fn name(group: Group, place: usize) -> String {
    fn of<T: Debug>(list: &[T], place: usize) -> String {
        list.get(place).map_or_else(|| place.to_string(), |item| format!("{item:?}").replace('"', ""))
    }
    let side = |count: usize| if place < count { "requester" } else { "provider" };
    let what = match group {
        Group::Event => format!("{} then {}", PHASES[place / EVENTS.len()], EVENTS[place % EVENTS.len()]),
        Group::PassedOver => of(&PASSED_OVER, place),
        Group::Failure => of(&FAILURES, place),
        Group::Choice => of(&CHOICES, place),
        Group::TakeOver => of(&[TakeOver::Exact, TakeOver::Spliced, TakeOver::Restarted], place),
        Group::Served => served_as(place),
        Group::ProviderEvent => of(&PROVIDER_EVENTS, place),
        Group::Message | Group::Scripted => of(&MESSAGES, place),
        Group::Deadline => format!("{} {:?}", side(CAUSES.len()), CAUSES[place % CAUSES.len()]),
        Group::Input => format!("{} {}", side(INPUTS.len()), INPUTS[place % INPUTS.len()]),
        Group::FaultDuring => of(&PHASES, place),
        Group::Recovery if place < PHASES.len() => format!("a crash when {}", PHASES[place]),
        Group::Recovery => of(&RECOVERED, place - PHASES.len()),
        Group::Cheat => of(&CHEATS, place),
        Group::Pest => of(&PESTS, place),
        Group::Answer => of(&ANSWERS, place),
        Group::Fault => crate::schedule::NAMES.get(place).map_or_else(|| place.to_string(), |name| (*name).into()),
        Group::Decline | Group::End | Group::Gone | Group::Release => reason(group, place),
    };
    format!("{group:?}: {what}")
}

fn reason(group: Group, place: usize) -> String {
    // As in the wire's own order.
    let names: &[&str] = match group {
        Group::Decline => &PASSED_OVER[6..17],
        Group::End => &ENDS,
        Group::Gone => &["unknown", "evicted", "stale"],
        _ => &["price", "time", "late", "no job", "unaffordable"],
    };
    names.get(place).map_or_else(|| place.to_string(), |name| (*name).into())
}

fn served_as(place: usize) -> String {
    match place.checked_sub(2 * ENDS.len()) {
        None if place < ENDS.len() => ENDS[place].into(),
        None => format!("{}, unheard", ENDS[place - ENDS.len()]),
        // Violations are called as where a provider is passed over for one.
        Some(rest) => SERVED.iter().chain(&PASSED_OVER[18..]).nth(rest).map_or_else(String::new, |name| (*name).into()),
    }
}

fn at<T: PartialEq>(list: &[T], item: &T) -> usize {
    list.iter().position(|other| other == item).unwrap_or(list.len())
}

pub(crate) fn passed_over(why: PassedOver) -> usize {
    match why {
        PassedOver::Stream(failure) => at(&DIALS, &failure),
        PassedOver::Lost => 5,
        PassedOver::Declined(reason) => 6 + decline(reason),
        PassedOver::Late => 17,
        PassedOver::Violation(violation) => 18 + at(&VIOLATIONS, &violation),
        PassedOver::Interrupted(why) => 30 + at(&INTERRUPTED, &why),
        PassedOver::OverBudget => 44,
        PassedOver::TooSlow => 45,
        PassedOver::Excluded => 46,
    }
}

pub(crate) fn failure(why: Failure) -> usize {
    match why {
        Failure::Cancelled => 0,
        Failure::Deadline => 1,
        Failure::NobodyFound { outcome: QueryOutcome::Complete, .. } => 2,
        Failure::NobodyFound { outcome: QueryOutcome::TimedOut, .. } => 3,
        Failure::NobodyFound { outcome: QueryOutcome::NoSource, .. } => 4,
        Failure::Declined(_) => 5,
        Failure::OverBudget { .. } => 6,
        Failure::Context => 7,
        Failure::BadRequest => 8,
        Failure::Interrupted(why) => 9 + at(&INTERRUPTED, &why).min(9),
        _ => 18,
    }
}

pub(crate) fn choice(reason: ChoiceReason) -> usize {
    at(&CHOICES, &reason)
}

pub(crate) fn served(reason: ServedReason) -> usize {
    match reason {
        ServedReason::Acknowledged(end) => end as usize,
        ServedReason::Unacknowledged(end) => ENDS.len() + end as usize,
        ServedReason::Cancelled => 2 * ENDS.len(),
        ServedReason::Lost => 2 * ENDS.len() + 1,
        ServedReason::Displaced => 2 * ENDS.len() + 2,
        ServedReason::Violation(violation) => 2 * ENDS.len() + 3 + at(&VIOLATIONS, &violation),
    }
}

pub(crate) const fn decline(reason: DeclineReason) -> usize {
    reason as usize
}

pub(crate) const fn end(reason: EndReason) -> usize {
    reason as usize
}

pub(crate) const fn gone(reason: GoneReason) -> usize {
    reason as usize
}

pub(crate) const fn release(reason: ReleaseReason) -> usize {
    reason as usize
}

pub(crate) fn cause(cause: Cause) -> usize {
    at(&CAUSES, &cause)
}

pub(crate) const fn inputs() -> usize {
    INPUTS.len()
}

pub(crate) const fn causes() -> usize {
    CAUSES.len()
}

pub(crate) const fn message(message: &Message<'_>) -> usize {
    match message {
        Message::Describe => 0,
        Message::Advert(_) => 1,
        Message::Rfq(_) => 2,
        Message::Offer(_) => 3,
        Message::Counter(_) => 4,
        Message::Decline(_) => 5,
        Message::Release(_) => 6,
        Message::Award(_) => 7,
        Message::Body { .. } => 8,
        Message::Accepted(_) => 9,
        Message::Chunk { .. } => 10,
        Message::Keepalive => 11,
        Message::End(_) => 12,
        Message::Ack { .. } => 13,
        Message::Cancel { .. } => 14,
        Message::Resume { .. } => 15,
        Message::Resumed { .. } => 16,
        Message::Gone(_) => 17,
        Message::Working { .. } => 18,
    }
}
