//! What arrives from the provider that is awarded: Accepted, tokens, their end; and what does not arrive in time.

use crate::{
    event::{Event, Finished, Interrupted, PassedOver, Quote, Violation},
    id::{PeerId, StreamId},
    machine::StreamFailure,
    time::Millis,
    wire::{
        Message,
        message::{self, Accepted, Channel, Decline, DeclineReason, End, EndReason},
    },
};

use super::{
    attempt::{Attempt, AttemptState},
    award::Body,
    context::Context,
    job::{Answer, Goal, Job, JobState, Next},
    settle::Assessment,
    transcript::Transcript,
};

/// Tokens that the application has not seen.
struct Fresh<'a> {
    /// They are the attempt's first.
    first: bool,
    attempt: u32,
    peer: PeerId,
    seq: u64,
    n: u32,
    text: &'a str,
    ids: Option<&'a [u8]>,
    channel: Option<Channel>,
}

impl Job {
    /// A message on one of the job's streams.
    pub(super) fn on_message(
        &mut self,
        cx: &mut Context,
        (stream, peer): (StreamId, PeerId),
        message: Message<'_>,
    ) -> Result<Next, Violation> {
        let (Goal::Answer(answer), JobState::Awarded(attempt)) = (&self.goal, &mut self.state) else {
            return self.on_negotiation_message(cx, peer, &message);
        };
        if attempt.stream() != Some(stream) {
            return self.on_negotiation_message(cx, peer, &message);
        }
        attempt.heard(cx.now);
        match message {
            Message::Accepted(accepted) => {
                let number = attempt.number;
                if let Some(quote) = attempt.on_accepted(cx, answer, &self.transcript, &accepted)? {
                    self.on_negotiated(cx, number, &quote);
                }
                Ok(Next::Stay)
            }
            Message::Decline(decline) if attempt.is_fresh() => self.on_award_declined(cx, &decline),
            Message::Chunk { seq, n, text, ids, channel } => {
                let fresh = attempt.on_chunk(cx, &mut self.transcript, (seq, n), text, ids, channel)?;
                if attempt.differs {
                    return Ok(Next::Broken(Interrupted::Differs));
                }
                if let Some(fresh) = fresh {
                    self.deliver(cx, &fresh);
                }
                Ok(Next::Stay)
            }
            // [C1]
            Message::Working { .. } if matches!(attempt.state, AttemptState::Sent { .. }) => Err(Violation::Unexpected),
            Message::Keepalive => cx.charge_idle_frame(stream).map(|()| Next::Stay),
            Message::Working { phase, eta, .. } => {
                cx.charge_idle_frame(stream)?;
                self.on_working(cx, phase, eta);
                Ok(Next::Stay)
            }
            Message::End(end) => attempt.on_end(cx, &end, self.transcript.tokens()),
            Message::Resumed { next } => attempt.on_resumed(cx, self.id, next),
            Message::Gone(_) => attempt.on_gone(),
            // [C1]
            _ => Err(Violation::Unexpected),
        }
    }

    /// The provider has taken the job: the others need not wait any more.
    fn on_negotiated(&mut self, cx: &mut Context, attempt: u32, quote: &Quote) {
        self.release_losers(cx, quote);
        cx.tell(Event::Negotiated { job: self.id, attempt, peer: quote.peer, tariff: quote.tariff });
    }

    /// The provider works, and has no token yet: who has nobody else to ask waits for it, and asks meanwhile whom it only heard of
    /// what they serve.
    fn on_working(&mut self, cx: &mut Context, phase: message::Phase, eta: Option<Millis>) {
        let alone = !self.knows_others(cx);
        if alone {
            self.describe_hints(cx);
        }
        let JobState::Awarded(attempt) = &mut self.state else { return };
        if attempt.on_working(cx.now, &cx.policy, (phase, eta), alone) {
            let (attempt, peer) = (attempt.number, attempt.peer);
            cx.tell(Event::Working { job: self.id, attempt, peer, phase });
        }
    }

    /// The provider does not take the job. Nothing was owed, and it does not count as an attempt.
    fn on_award_declined(&mut self, cx: &mut Context, decline: &Decline) -> Result<Next, Violation> {
        let attempt = self.take_attempt().ok_or(Violation::Unexpected)?;
        self.uncount_try();
        let (peer, reason) = (attempt.peer, decline.reason);
        let assessment = match reason {
            DeclineReason::Busy | DeclineReason::PeerLimit => Assessment::Busy(decline.retry_after.unwrap_or_default()),
            _ => Assessment::None,
        };
        self.settle_attempt(cx, attempt, assessment);
        match &decline.offer {
            Some(offer) if reason == DeclineReason::Stale => self.on_stale(cx, peer, offer),
            _ => {
                self.on_declined(cx, peer, decline);
                Ok(Next::Choose)
            }
        }
    }

    /// Hands new tokens to the application.
    fn deliver(&mut self, cx: &mut Context, fresh: &Fresh<'_>) {
        let &Fresh { first, attempt, peer, seq, n, text, ids, channel } = fresh;
        if first
            && attempt > 1
            && let Some(how) = self.taken_over()
        {
            cx.tell(Event::TakenOver { job: self.id, attempt, peer, seq, how });
        }
        self.keep_run(cx, n, text, ids, channel);
        cx.tell_tokens((self.id, peer), seq, n, text, ids, channel);
    }

    /// Keeps what was delivered for whoever may have to go on, as long as the node may hold so much.
    pub(super) fn keep_run(
        &mut self,
        cx: &mut Context,
        n: u32,
        text: &str,
        ids: Option<&[u8]>,
        channel: Option<Channel>,
    ) {
        let before = self.transcript.bytes();
        self.transcript.push(n, text, ids);
        // Only who continues it, or a process that comes back, reads it again.
        let is_read = matches!(&self.goal, Goal::Answer(answer) if answer.failover.may_continue());
        // A prefix is text: what was thought, or called for, nobody can continue.
        if (!is_read && cx.endings.is_none()) || channel.is_some() {
            self.forgot_run = true;
        }
        let full = cx.held.saturating_add(self.transcript.bytes()) > cx.limits.node_bytes.saturating_add(before);
        if full || self.body_bytes() > cx.limits.body_bytes {
            self.forgot_run = true;
        }
        if self.forgot_run {
            self.transcript.forget_text();
        }
        cx.held = cx.held.saturating_sub(before).saturating_add(self.transcript.bytes());
    }

    /// The application has taken tokens. Says whether anything may be due earlier now.
    pub(super) fn consume(&mut self, cx: &mut Context, tokens: u64) -> bool {
        let leftover = self.leftover.min(tokens);
        self.leftover -= leftover;
        self.transcript.consume(tokens - leftover);
        let JobState::Awarded(attempt) = &mut self.state else { return false };
        attempt.consume(cx.now, self.transcript.consumed());
        attempt.acknowledge(cx);
        true
    }

    pub(super) fn on_attempt_timeout(&mut self, cx: &mut Context) -> Next {
        debug_assert!(self.attempt().is_some(), "only an attempt waits for a provider");
        let now = cx.now;
        let JobState::Awarded(attempt) = &mut self.state else { return Next::Stay };
        match attempt.state {
            _ if attempt.is_resume_over(now) => Next::Broken(Interrupted::Lost),
            AttemptState::Sent { until } if until <= now => Next::Broken(Interrupted::Request),
            AttemptState::Accepted { until } if until <= now => Next::Broken(Interrupted::FirstToken),
            _ if attempt.is_resume_due(now) => self.resume(cx),
            _ if attempt.is_idle(now) => self.on_silence(cx),
            _ if attempt.has_token_gap(now) => Next::Broken(Interrupted::TokenGap),
            _ if attempt.is_pace_due(now) => self.on_pace_due(cx),
            _ => {
                attempt.acknowledge(cx);
                Next::Stay
            }
        }
    }

    /// Tokens were counted for a while. Who is known for none better is not left: a slow answer is more than none.
    fn on_pace_due(&mut self, cx: &mut Context) -> Next {
        let (now, left, time) = (cx.now, self.left(), self.until.since(cx.now));
        let lags = self.attempt().is_some_and(|attempt| attempt.lags(now, cx.policy.pace_tokens, left, time));
        if lags && self.may_go_elsewhere(cx) {
            return Next::Broken(Interrupted::TokenGap);
        }
        debug_assert!(self.attempt().is_some(), "only an attempt has a pace");
        if let JobState::Awarded(attempt) = &mut self.state {
            attempt.count_pace(now);
            attempt.acknowledge(cx);
        }
        Next::Stay
    }

    /// A provider broke the protocol on one of the job's streams.
    pub(super) fn on_violation(&mut self, cx: &mut Context, peer: PeerId, violation: Violation) -> Next {
        if self.attempt().is_some_and(|attempt| attempt.peer == peer) {
            return Next::Broken(Interrupted::Violation(violation));
        }
        self.on_negotiation_lost(cx, peer, PassedOver::Violation(violation))
    }

    /// One of the job's streams is over without a word.
    pub(super) fn on_stream_lost(&mut self, cx: &mut Context, peer: PeerId, why: PassedOver) -> Next {
        let Some(attempt) = self.attempt_mut().filter(|attempt| attempt.peer == peer) else {
            return self.on_negotiation_lost(cx, peer, why);
        };
        match why {
            PassedOver::Stream(failure) if attempt.was_never_sent() => self.on_award_not_sent(cx, failure),
            PassedOver::Stream(failure @ (StreamFailure::Unreachable | StreamFailure::TimedOut)) => {
                self.on_resume_not_sent(cx, failure)
            }
            PassedOver::Stream(_) => Next::Broken(Interrupted::Lost),
            _ => self.on_cut(cx),
        }
    }

    /// The stream that the award was to go out on never opened: nothing happened, and it does not count.
    fn on_award_not_sent(&mut self, cx: &mut Context, failure: StreamFailure) -> Next {
        debug_assert!(self.attempt().is_some(), "only an award can be not sent");
        let Some(attempt) = self.take_attempt() else { return Next::Stay };
        let (peer, in_vain) = (attempt.peer, self.waited_in_vain(cx.now, &attempt));
        cx.directory.fail(cx.now, &cx.limits, peer, failure);
        self.uncount_try();
        self.settle_attempt(cx, attempt, Assessment::Failed);
        self.pass_over(cx, peer, PassedOver::Stream(failure));
        if failure == StreamFailure::TimedOut { self.pause(cx, in_vain) } else { Next::Choose }
    }
}

impl Attempt {
    /// The provider takes the job, and lets the body come. Says by which quote, the first time.
    fn on_accepted(
        &mut self,
        cx: &mut Context,
        answer: &Answer,
        transcript: &Transcript,
        accepted: &Accepted,
    ) -> Result<Option<Quote>, Violation> {
        let body = Body::of(answer, transcript, &self.prefix);
        // After a cut, none says that the body is there already.
        let is_there = accepted.body_credit == 0 && self.epoch > 1;
        // [A5] The whole body is credited, or it is there already.
        if accepted.body_credit < body.len() && !is_there {
            return Err(Violation::Terms);
        }
        let first = self.epoch == 1 || !self.was_accepted;
        self.accept(cx.now, &cx.policy, accepted)?;
        self.send_body(cx, &body, accepted.body_credit);
        Ok(first.then(|| self.quote.clone()))
    }

    /// Tokens: those that are new are handed back. Evidence that the application had before is taken at once.
    fn on_chunk<'a>(
        &mut self,
        cx: &mut Context,
        transcript: &mut Transcript,
        (seq, n): (u64, u32),
        text: &'a str,
        ids: Option<&'a [u8]>,
        channel: Option<Channel>,
    ) -> Result<Option<Fresh<'a>>, Violation> {
        let (new, bytes) = self.take(cx.now, seq, n, text, ids, channel)?;
        if self.differs {
            return Ok(None);
        }
        if new == 0 {
            self.consume(cx.now, transcript.consumed());
            return Ok(None);
        }
        let first = self.tokens() == u64::from(new);
        if first {
            self.on_first_token(cx, transcript);
        }
        let text = text.get(text.len() - bytes..).unwrap_or_default();
        let ids = ids.and_then(|ids| ids.get(ids.len().saturating_sub(4 * new as usize)..));
        let (attempt, peer, seq) = (self.number, self.peer, self.next() - u64::from(new));
        Ok(Some(Fresh { first, attempt, peer, seq, n: new, text, ids, channel }))
    }

    /// The provider has shown that it lives; and the run's class follows from everybody who wrote a token of it.
    pub(super) fn on_first_token(&mut self, cx: &mut Context, transcript: &mut Transcript) {
        cx.peers.first_token(cx.now, &mut self.permit);
        transcript.is_written_by(self.class);
    }

    /// The provider says that it is done; `tokens` were delivered by all attempts.
    fn on_end(&mut self, cx: &mut Context, end: &End, tokens: u64) -> Result<Next, Violation> {
        if matches!(self.state, AttemptState::Sent { .. }) {
            return Err(Violation::Unexpected);
        }
        self.check_end(end)?;
        self.ended = true;
        // [X3]
        self.send(cx, &Message::Ack { next: self.next(), end: true, voucher: None });
        // [X2]
        Ok(match end.reason {
            // It broke off within the evidence: it promised equal bytes, and there were more.
            reason if reason.is_complete() && self.lacks_evidence() => Next::Broken(Interrupted::Differs),
            EndReason::Stop | EndReason::Length | EndReason::ToolCalls | EndReason::Filtered => {
                let &End { reason, prompt_tokens, thought, cached, .. } = end;
                Next::finish(Finished::Answer { reason, prompt_tokens, tokens, thought, cached })
            }
            EndReason::Context => Next::Broken(Interrupted::Context),
            EndReason::BadRequest => Next::Broken(Interrupted::BadRequest),
            EndReason::Engine => Next::Broken(Interrupted::Engine),
            EndReason::Shutdown => Next::Broken(Interrupted::Shutdown),
            EndReason::TooSlow => Next::Broken(Interrupted::TooSlow),
            EndReason::Violation => Next::Broken(Interrupted::Accused),
            EndReason::Settlement => Next::Broken(Interrupted::Settlement),
            // It is the answer to a Cancel, after which nothing is read any more.
            // [K2]
            EndReason::Cancelled => return Err(Violation::Unexpected),
        })
    }

    /// Sends the Ack that is due: what was consumed, or a sign of life.
    pub(super) fn acknowledge(&mut self, cx: &mut Context) {
        if let Some(next) = self.take_ack(cx.now) {
            self.send(cx, &Message::Ack { next, end: false, voucher: None });
        }
    }

    /// Whether the stream that the award was to go out on never opened.
    const fn was_never_sent(&self) -> bool {
        self.epoch == 1 && self.cuts == 0 && !self.was_accepted
    }
}
