//! The end of an attempt, and of a job: what is owed, what is free again, and what it says of the provider.

use crate::{
    event::{Ending, Event, Failure, Interrupted, NoRetry, Outcome},
    peers::{score::Severity, table::Record},
    time::Millis,
    wire::message::ReleaseReason,
};

use super::{
    attempt::Attempt,
    context::Context,
    job::{Goal, Job},
};

/// What an attempt's end says of its provider.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Assessment {
    /// The answer ended, with count and digest as received.
    Verified,
    /// It made no progress, or broke the protocol.
    Failed,
    /// It was reached, and let the job wait.
    LetWait,
    /// It has no room, for so long.
    Busy(Millis),
    /// Nothing: the end is not its doing.
    None,
}

impl Assessment {
    /// What a broken attempt says of its provider.
    pub(super) const fn of(why: Interrupted) -> Self {
        match why {
            // It accuses us, promised too much, or goes in order.
            Interrupted::Accused
            | Interrupted::TooSlow
            | Interrupted::Differs
            | Interrupted::Shutdown
            | Interrupted::Settlement
            // The request's, as it says; if it turns out not to be so, it costs score.
            | Interrupted::BadRequest
            | Interrupted::Context => Self::None,
            _ => Self::Failed,
        }
    }
}

impl Job {
    /// The one ending of a job: accounts are settled, conversations closed, the application told. Nothing follows.
    pub(super) fn end(mut self, cx: &mut Context, outcome: Outcome, no_retry: Option<NoRetry>) {
        let is_given_up = matches!(outcome, Outcome::Failed(Failure::Declined(_) | Failure::Interrupted(_)));
        debug_assert_eq!(no_retry.is_some(), is_given_up, "who gives up says why");
        if let Some(attempt) = self.take_attempt() {
            let assessment = match outcome {
                Outcome::Finished(_) => Assessment::Verified,
                // It promised a first token by then.
                Outcome::Failed(Failure::Deadline) if attempt.is_late(cx.now) => Assessment::LetWait,
                Outcome::Failed(_) => Assessment::None,
            };
            self.close_attempt(cx, attempt, assessment);
            if let (Assessment::Verified, Some((peer, Interrupted::BadRequest))) = (assessment, self.refused) {
                // Another one made sense of it.
                cx.peers.violation(cx.now, peer, Severity::Slight);
            }
        }
        self.release_negotiations(cx, ReleaseReason::NoJob);
        cx.unindex(self.id);
        if matches!(self.goal, Goal::Answer(_)) {
            cx.held = cx.held.saturating_sub(self.body_bytes());
        }
        let (job, ending) = (self.id, Ending { outcome, no_retry, bill: self.bill() });
        cx.keep_ending(self, &ending);
        cx.tell(Event::Ended { job, ending });
    }

    /// Fences an attempt for good: what is owed is owed, the rest of the reservation is free, the provider is told.
    pub(super) fn close_attempt(&mut self, cx: &mut Context, attempt: Attempt, assessment: Assessment) {
        self.lines.push(attempt.line());
        let (stream, ended, number, peer) = (attempt.stream(), attempt.ended, attempt.number, attempt.peer);
        self.settle_attempt(cx, attempt, assessment);
        match stream {
            Some(stream) if ended => cx.close_stream(stream),
            _ if ended => {}
            // [K1] [R8] Over for us; the provider has yet to hear of it.
            _ => cx.begin_cancel((self.id, number), peer, stream),
        }
    }

    /// Settles what an attempt had reserved, and what it says of its provider. Its stream stays.
    pub(super) fn settle_attempt(&mut self, cx: &mut Context, attempt: Attempt, assessment: Assessment) {
        self.account.settle(attempt.reserved, attempt.owed());
        cx.account.settle(attempt.reserved, attempt.owed());
        let (text_bytes, price, permit) = (attempt.line().text_bytes, attempt.quote.tariff.price_out, attempt.permit);
        match assessment {
            Assessment::Verified => {
                if self.tries == 1 {
                    cx.quota.first_try_succeeded();
                }
                cx.peers.verified_end(cx.now, permit, text_bytes);
            }
            Assessment::Failed => cx.peers.failed(cx.now, permit),
            Assessment::LetWait => {
                if cx.peers.record(cx.now, permit.peer()) != Record::Served {
                    self.was_let_wait = true;
                    cx.bait = Some((cx.now, price));
                }
                cx.peers.let_wait(cx.now, permit);
            }
            Assessment::Busy(after) => cx.peers.busy(cx.now, permit, after),
            Assessment::None => cx.peers.released(cx.now, permit),
        }
    }
}
