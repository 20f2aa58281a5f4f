//! Award, body, tokens, end: the life of an attempt.

use alloc::{boxed::Box, string::String, vec::Vec};

use crate::{
    digest,
    event::{ChoiceReason, Event, Failure, Finished, Interrupted, Outcome, PassedOver, Quote, Violation},
    id::{JobId, PeerId, StreamId},
    limits::Limits,
    machine::StreamFailure,
    spec::Criteria,
    wire::{
        self, MAX_BODY_PIECE, Message,
        message::{Accepted, Award, Decline, DeclineReason, End, EndReason},
    },
};

use super::{
    Requester,
    attempt::{Attempt, Stage},
    job::{Answer, Goal, Job, Phase, TalkState},
};

/// The header of a job, under an attempt's number and epoch.
fn award(
    id: JobId,
    criteria: &Criteria,
    answer: &Answer,
    quote: &Quote,
    max_tokens: u64,
    (attempt, epoch): (u32, u32),
    limits: &Limits,
) -> Message<'static> {
    Message::Award(Award {
        job: id,
        attempt,
        epoch,
        model: criteria.model.clone(),
        offer: quote.offer,
        tariff: quote.tariff,
        max_tokens,
        kind: answer.kind,
        body_bytes: answer.body.len() as u64,
        body_hash: answer.body_hash,
        prefix_bytes: 0,
        prefix_tokens: 0,
        overlap: 0,
        sampling: answer.sampling,
        stop: answer.stop.clone(),
        window_tokens: limits.window_tokens,
        window_bytes: limits.window_bytes,
    })
}

/// What Accepted has to echo.
fn terms(award: &Message<'_>) -> [u8; 32] {
    let mut payload = Vec::new();
    wire::encode(award, &mut payload);
    digest::sha256(&payload)
}

/// An event as it waits in the queue: token text waits in [`Words`], so that a token costs no allocation.
#[derive(Clone, Debug)]
pub(super) enum Told {
    Event(Event<'static>),
    Tokens { job: JobId, peer: PeerId, seq: u64, n: u32, text: usize, ids: Option<usize> },
}

/// Text and ids of tokens that wait to be drained. The window of every job bounds it.
#[derive(Clone, Debug, Default)]
pub(super) struct Words {
    text: String,
    text_at: usize,
    ids: Vec<u8>,
    ids_at: usize,
}

impl Words {
    fn keep(&mut self, text: &str, ids: Option<&[u8]>) {
        if self.text_at == self.text.len() {
            self.text.clear();
            self.ids.clear();
            (self.text_at, self.ids_at) = (0, 0);
        }
        self.text.push_str(text);
        self.ids.extend_from_slice(ids.unwrap_or_default());
    }

    /// Makes the application's event of a queued one.
    pub(super) fn speak(&mut self, told: Told) -> Event<'_> {
        match told {
            Told::Event(event) => event,
            Told::Tokens { job, peer, seq, n, text, ids } => {
                let (text_at, ids_at) = (self.text_at, self.ids_at);
                self.text_at += text;
                self.ids_at += ids.unwrap_or(0);
                let text = self.text.get(text_at..self.text_at).unwrap_or_default();
                let ids = ids.and_then(|_| self.ids.get(ids_at..self.ids_at));
                Event::Tokens { job, peer, seq, n, text, ids }
            }
        }
    }
}

impl Requester {
    /// Awards the job: money is set aside first, then the header and as much of the body as may go unasked.
    pub(super) fn award_quote(&mut self, id: JobId, quote: Quote, reason: ChoiceReason) {
        if self.is_out_of_tries(id) {
            return;
        }
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let (Goal::Answer(answer), Some(talk)) = (&job.goal, job.talks.get_mut(&quote.peer)) else { return };
        // `quote` was acceptable: both reservations have room.
        let reserved = quote.cost;
        if !job.account.reserve(reserved) {
            return;
        }
        if !self.account.reserve(reserved) {
            job.account.settle(reserved, 0);
            return;
        }
        talk.state = TalkState::Awarded;
        job.attempts += 1;
        job.tries += 1;
        let number = job.attempts;
        let award = award(id, &job.criteria, answer, &quote, job.max_tokens, (number, 1), &self.limits);
        let terms = terms(&award);
        let attempt = Attempt::new(
            self.now,
            &self.policy,
            number,
            talk.stream,
            quote.clone(),
            reserved,
            terms,
            job.max_tokens,
            &self.limits,
        );
        self.outbox.send(talk.stream, &award);
        job.phase = Phase::Awarded(Box::new(attempt));
        self.send_body(id, self.limits.body_unasked);
        self.tell(Event::Awarded { job: id, attempt: number, quote, reason });
    }

    /// The same award again, over another stream: the way to go on as long as no token was taken.
    pub(super) fn award_again(&mut self, id: JobId, stream: StreamId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let (Goal::Answer(answer), Phase::Awarded(attempt)) = (&job.goal, &mut job.phase) else { return };
        let epoch = attempt.epoch.saturating_add(1);
        let names = (attempt.number, epoch);
        let award = award(id, &job.criteria, answer, &attempt.quote, job.max_tokens, names, &self.limits);
        let until = self.now.after(self.policy.request_timeout);
        attempt.take_over(self.now, stream, Some((terms(&award), until)));
        self.outbox.send(stream, &award);
        self.send_body(id, self.limits.body_unasked);
    }

    /// Sends the body up to `credit` bytes in all.
    fn send_body(&mut self, id: JobId, credit: u64) {
        let Some(Job { goal: Goal::Answer(answer), phase: Phase::Awarded(attempt), .. }) = self.jobs.get_mut(&id)
        else {
            return;
        };
        let end = credit.min(answer.body.len() as u64);
        let Some(stream) = attempt.stream() else { return };
        let rest = answer.body.get(attempt.body_sent as usize..end as usize).unwrap_or_default();
        for bytes in rest.chunks(MAX_BODY_PIECE) {
            self.outbox.send(stream, &Message::Body { offset: attempt.body_sent, bytes });
            attempt.body_sent += bytes.len() as u64;
        }
    }

    pub(super) fn on_job_message(
        &mut self,
        id: JobId,
        stream: StreamId,
        message: Message<'_>,
    ) -> Result<(), Violation> {
        let Some(peer) = self.streams.get(&stream).map(|stream| stream.peer) else { return Ok(()) };
        let Some(job) = self.jobs.get_mut(&id) else { return Ok(()) };
        let attempt = match &mut job.phase {
            Phase::Awarded(attempt) if attempt.stream() == Some(stream) => attempt,
            _ => {
                return match message {
                    Message::Offer(offer) => self.on_offer(id, peer, &offer, false),
                    Message::Decline(decline) => self.on_decline(id, peer, &decline),
                    _ => Err(Violation::Unexpected),
                };
            }
        };
        attempt.heard(self.now);
        match message {
            Message::Accepted(accepted) => self.on_accepted(id, &accepted),
            Message::Decline(decline) => self.on_award_declined(id, &decline),
            Message::Chunk { seq, n, text, ids } => self.on_chunk(id, seq, n, text, ids),
            Message::Keepalive => self.on_keepalive(stream),
            Message::End(end) => self.on_end(id, &end),
            Message::Resumed { next } => self.on_resumed(id, next),
            Message::Gone(_) => self.on_gone(id),
            _ => Err(Violation::Unexpected),
        }
    }

    fn on_accepted(&mut self, id: JobId, accepted: &Accepted) -> Result<(), Violation> {
        let Some(Job { goal: Goal::Answer(answer), phase: Phase::Awarded(attempt), .. }) = self.jobs.get_mut(&id)
        else {
            return Ok(());
        };
        // After a cut, none says that the body is there already.
        let is_there = accepted.body_credit == 0 && attempt.epoch > 1;
        if accepted.body_credit < answer.body.len() as u64 && !is_there {
            return Err(Violation::Terms);
        }
        let first = attempt.epoch == 1 || !attempt.was_accepted;
        attempt.accept(self.now, &self.policy, &self.limits, accepted)?;
        let (attempt, quote) = (attempt.number, attempt.quote.clone());
        self.send_body(id, accepted.body_credit);
        if !first {
            return Ok(());
        }
        self.release_losers(id, &quote);
        self.tell(Event::Negotiated { job: id, attempt, peer: quote.peer, tariff: quote.tariff });
        Ok(())
    }

    /// The provider does not take the job. Nothing was owed, and it does not count as an attempt.
    fn on_award_declined(&mut self, id: JobId, decline: &Decline) -> Result<(), Violation> {
        let Some(Job { phase: Phase::Awarded(attempt), tries, .. }) = self.jobs.get_mut(&id) else { return Ok(()) };
        if attempt.tokens() > 0 {
            return Err(Violation::Unexpected);
        }
        *tries -= 1;
        let (peer, reason) = (attempt.peer, decline.reason);
        self.settle_attempt(id);
        match &decline.offer {
            Some(offer) if reason == DeclineReason::Stale => self.on_stale(id, peer, offer),
            _ => {
                self.pass_over(id, peer, PassedOver::Declined(reason));
                self.choose(id);
                Ok(())
            }
        }
    }

    fn on_chunk(&mut self, id: JobId, seq: u64, n: u32, text: &str, ids: Option<&[u8]>) -> Result<(), Violation> {
        let Some(Job { phase: Phase::Awarded(attempt), .. }) = self.jobs.get_mut(&id) else { return Ok(()) };
        attempt.take(self.now, seq, n, text, ids)?;
        self.words.keep(text, ids);
        let (peer, text, ids) = (attempt.peer, text.len(), ids.map(<[u8]>::len));
        self.outbox.event(Told::Tokens { job: id, peer, seq, n, text, ids });
        Ok(())
    }

    fn on_keepalive(&mut self, stream: StreamId) -> Result<(), Violation> {
        let now = self.now;
        let paid = self.streams.get_mut(&stream).is_none_or(|stream| stream.idle_frames.charge(now));
        if paid { Ok(()) } else { Err(Violation::Flood) }
    }

    fn on_end(&mut self, id: JobId, end: &End) -> Result<(), Violation> {
        let Some(Job { phase: Phase::Awarded(attempt), .. }) = self.jobs.get_mut(&id) else { return Ok(()) };
        if matches!(attempt.stage, Stage::Sent { .. }) {
            return Err(Violation::Unexpected);
        }
        attempt.check_end(end)?;
        attempt.ended = true;
        let tokens = attempt.tokens();
        if let Some(stream) = attempt.stream() {
            self.outbox.send(stream, &Message::Ack { next: tokens, end: true });
        }
        match end.reason {
            EndReason::Stop | EndReason::Length => {
                let answer = Finished::Answer { reason: end.reason, prompt_tokens: end.prompt_tokens, tokens };
                self.end_job(id, Outcome::Finished(answer));
            }
            EndReason::Context => self.fail_job(id, Failure::Context),
            EndReason::BadRequest => self.fail_job(id, Failure::BadRequest),
            EndReason::Engine => self.on_broken(id, Interrupted::Engine),
            EndReason::Shutdown => self.on_broken(id, Interrupted::Shutdown),
            EndReason::TooSlow => self.on_broken(id, Interrupted::TooSlow),
            EndReason::Violation => self.on_broken(id, Interrupted::Accused),
            // It is the answer to a Cancel, after which nothing is read any more.
            EndReason::Cancelled => return Err(Violation::Unexpected),
        }
        Ok(())
    }

    /// The attempt ended without an answer. Before its first token somebody else may take the job; after it, what was
    /// delivered stands and the job ends.
    pub(super) fn on_broken(&mut self, id: JobId, why: Interrupted) {
        let Some(Job { phase: Phase::Awarded(attempt), .. }) = self.jobs.get(&id) else { return };
        let (peer, tokens) = (attempt.peer, attempt.tokens());
        if tokens > 0 {
            return self.fail_job(id, Failure::Interrupted(why));
        }
        self.close_attempt(id);
        self.pass_over(id, peer, PassedOver::Interrupted(why));
        self.choose(id);
    }

    pub(super) fn on_attempt_timeout(&mut self, id: JobId) {
        let now = self.now;
        let Some(Job { phase: Phase::Awarded(attempt), .. }) = self.jobs.get(&id) else { return };
        let broken = match attempt.stage {
            _ if attempt.is_resume_over(now) => Some(Interrupted::Lost),
            Stage::Sent { until } if until <= now => Some(Interrupted::Request),
            Stage::Accepted { until } if until <= now => Some(Interrupted::FirstToken),
            _ if attempt.is_resume_due(now) => return self.resume(id),
            _ if attempt.is_idle(now) => return self.on_silence(id),
            _ if attempt.has_token_gap(now) => Some(Interrupted::TokenGap),
            _ => None,
        };
        match broken {
            Some(why) => self.on_broken(id, why),
            None => self.acknowledge(id),
        }
    }

    /// Sends the Ack that is due: what was consumed, or a sign of life.
    pub(super) fn acknowledge(&mut self, id: JobId) {
        let Some(Job { phase: Phase::Awarded(attempt), .. }) = self.jobs.get_mut(&id) else { return };
        if let Some(next) = attempt.take_ack(self.now)
            && let Some(stream) = attempt.stream()
        {
            self.outbox.send(stream, &Message::Ack { next, end: false });
        }
    }

    pub(super) fn on_job_violation(&mut self, id: JobId, peer: PeerId, violation: Violation) {
        if self.is_attempt_of(id, peer) {
            self.on_broken(id, Interrupted::Violation(violation));
        } else {
            self.on_talk_lost(id, peer, PassedOver::Violation(violation));
        }
    }

    pub(super) fn on_job_stream_lost(&mut self, id: JobId, peer: PeerId, why: PassedOver) {
        if !self.is_attempt_of(id, peer) {
            return self.on_talk_lost(id, peer, why);
        }
        match why {
            PassedOver::Stream(failure) if self.was_never_sent(id) => {
                self.directory.fail(self.now, &self.limits, peer, failure);
                // Nothing happened, and it does not count.
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.tries -= 1;
                }
                self.settle_attempt(id);
                self.pass_over(id, peer, why);
                self.choose(id);
            }
            PassedOver::Stream(StreamFailure::Refused | StreamFailure::Unsupported | StreamFailure::WrongPeer) => {
                self.on_broken(id, Interrupted::Lost);
            }
            _ => self.on_cut(id),
        }
    }

    /// Whether the stream that the award was to go out on never opened.
    fn was_never_sent(&self, id: JobId) -> bool {
        let Some(Job { phase: Phase::Awarded(attempt), .. }) = self.jobs.get(&id) else { return false };
        attempt.epoch == 1 && attempt.cuts == 0
    }

    fn is_attempt_of(&self, id: JobId, peer: PeerId) -> bool {
        matches!(self.jobs.get(&id), Some(Job { phase: Phase::Awarded(attempt), .. }) if attempt.peer == peer)
    }

    /// Fences the attempt for good: what is owed is owed, the rest of the reservation is free, the provider is told.
    pub(super) fn close_attempt(&mut self, id: JobId) {
        let Some(Job { phase: Phase::Awarded(attempt), lines, .. }) = self.jobs.get_mut(&id) else { return };
        lines.push(attempt.line());
        let (stream, ended, number, peer) = (attempt.stream(), attempt.ended, attempt.number, attempt.peer);
        self.settle_attempt(id);
        match stream {
            Some(stream) if ended => self.close_stream(stream),
            _ if ended => {}
            _ => self.say_farewell((id, number), peer, stream),
        }
    }

    /// Settles what the attempt had reserved. Its stream stays.
    fn settle_attempt(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Phase::Awarded(attempt) = &job.phase else { return };
        job.account.settle(attempt.reserved, attempt.owed());
        self.account.settle(attempt.reserved, attempt.owed());
        job.phase = Phase::Asking { until: self.now.after(self.policy.offer_timeout), window: None };
    }
}
