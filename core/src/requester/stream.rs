//! Award, body, tokens, end: the life of an attempt.

use alloc::{boxed::Box, string::String, vec::Vec};

use crate::{
    digest,
    event::{ChoiceReason, Event, Failure, Finished, Interrupted, Outcome, PassedOver, Quote, TakeOver, Violation},
    id::{JobId, PeerId, StreamId},
    machine::StreamFailure,
    peers::{
        book::{Ask, Permit},
        directory::serves,
    },
    retry::Pushback,
    spec::Failover,
    time::Millis,
    wire::{
        self, MAX_BODY_PIECE, Message,
        message::{Accepted, Award, Decline, DeclineReason, End, EndReason, Exactness},
    },
};

use super::{
    Requester,
    attempt::{Attempt, Stage},
    job::{Answer, Goal, Job, Phase, TalkState},
    run::{Prefix, Run},
};

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
    pub(super) fn keep(&mut self, text: &str, ids: Option<&[u8]>) {
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

/// The parts of a body: the prompt, then what was delivered, as text and as ids.
fn body<'a>(answer: &'a Answer, run: &'a Run, prefix: &Prefix) -> [&'a [u8]; 3] {
    let text = run.text().as_bytes().get(..prefix.text_bytes).unwrap_or_default();
    let ids = run.ids().get(..prefix.id_bytes).unwrap_or_default();
    [&answer.prompt, text, ids]
}

impl Requester {
    /// Awards the job: money is set aside first, then the header and as much of the body as may go unasked.
    pub(super) fn award_quote(&mut self, id: JobId, quote: Quote, reason: ChoiceReason) {
        let class = self.exactness(id, quote.peer);
        let Some(permit) = self.permit(id, &quote) else {
            self.pass_over(id, quote.peer, PassedOver::Excluded);
            return self.choose(id);
        };
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let (Goal::Answer(answer), Some(talk)) = (&job.goal, job.talks.get_mut(&quote.peer)) else { return };
        let reserved = quote.cost;
        // `quote` was acceptable: both have room.
        let has_room = job.account.reserve(reserved) && self.account.reserve(reserved);
        debug_assert!(has_room, "an acceptable quote fits the job's and the node's account");
        talk.state = TalkState::Awarded;
        job.attempts += 1;
        job.tries += 1;
        let exact = job.run.can_be_exact(class, answer.sampling.temperature_milli) && job.how != TakeOver::Restarted;
        let exact = exact && job.broken != Some(Interrupted::Differs);
        let left = job.max_tokens.saturating_sub(job.run.tokens());
        let prefix = job.run.prefix(exact);
        if prefix.tokens > 0 {
            job.how = if prefix.overlap > 0 { TakeOver::Exact } else { TakeOver::Spliced };
        }
        let number = job.attempts;
        let attempt = Attempt::new(
            self.now,
            &self.policy,
            number,
            talk.stream,
            (quote.clone(), class, permit),
            reserved,
            (prefix, &job.run, job.stale),
            left,
            &self.limits,
        );
        job.phase = Phase::Awarded(Box::new(attempt));
        self.send_award(id);
        self.tell(Event::Awarded { job: id, attempt: number, quote, reason });
    }

    /// Leave to ask a provider; `None` if it has failed too much since it was chosen.
    fn permit(&mut self, id: JobId, quote: &Quote) -> Option<Permit> {
        let job = self.jobs.get(&id)?;
        let ask = Ask {
            tokens: job.left(),
            patience: quote.eta.times(4).max(self.policy.first_token),
            jitter: self.rng.bits() as u32,
            retry: job.tries > 0,
            lift: job.lift,
        };
        self.peers.permit(self.now, quote.peer, &ask).ok()
    }

    /// The same award again, over another stream: the way to go on as long as no token was taken.
    pub(super) fn award_again(&mut self, id: JobId, stream: StreamId) {
        let until = self.now.after(self.policy.request_timeout);
        let Some(Job { phase: Phase::Awarded(attempt), .. }) = self.jobs.get_mut(&id) else { return };
        attempt.take_over(self.now, stream, Some(until));
        self.send_award(id);
    }

    /// What the provider's advert promises of equal bytes.
    fn exactness(&self, id: JobId, peer: PeerId) -> Exactness {
        let Some(job) = self.jobs.get(&id) else { return Exactness::default() };
        let advert = self.directory.advert(&peer);
        advert.and_then(|advert| serves(advert, &job.criteria.model)).map(|entry| entry.exactness).unwrap_or_default()
    }

    /// Bytes of the body that this provider would be sent: ids only where they are of use.
    pub(super) fn body_bytes_for(&self, id: JobId, peer: PeerId) -> u64 {
        let class = self.exactness(id, peer);
        let Some(job) = self.jobs.get(&id) else { return 0 };
        let Goal::Answer(answer) = &job.goal else { return job.body_bytes() };
        let prefix = job.run.prefix(job.run.can_be_exact(class, answer.sampling.temperature_milli));
        body(answer, &job.run, &prefix).iter().map(|part| part.len() as u64).sum()
    }

    /// Sends the header and as much of the body as may go unasked.
    fn send_award(&mut self, id: JobId) {
        let Some(Job { goal: Goal::Answer(answer), criteria, run, phase: Phase::Awarded(attempt), .. }) =
            self.jobs.get_mut(&id)
        else {
            return;
        };
        let Some(stream) = attempt.stream() else { return };
        let prefix = &attempt.prefix;
        let award = Message::Award(Award {
            job: id,
            attempt: attempt.number,
            epoch: attempt.epoch,
            model: criteria.model.clone(),
            offer: attempt.quote.offer,
            tariff: attempt.quote.tariff,
            max_tokens: attempt.max_tokens(),
            kind: answer.kind,
            body_bytes: body(answer, run, prefix).map(|part| part.len() as u64).iter().sum(),
            body_hash: digest::sha256_of(&body(answer, run, prefix)),
            prefix_bytes: prefix.text_bytes as u64,
            prefix_tokens: prefix.tokens,
            prefix_id_bytes: (prefix.id_bytes > 0).then_some(prefix.id_bytes as u64),
            overlap: prefix.overlap,
            sampling: answer.sampling,
            stop: answer.stop.clone(),
            window_tokens: attempt.asked.0,
            window_bytes: attempt.asked.1,
        });
        let mut payload = Vec::new();
        wire::encode(&award, &mut payload);
        attempt.terms = digest::sha256(&payload);
        self.outbox.send(stream, &award);
        self.send_body(id, self.limits.body_unasked);
    }

    /// Sends the body up to `credit` bytes in all.
    fn send_body(&mut self, id: JobId, credit: u64) {
        let Some(Job { goal: Goal::Answer(answer), run, phase: Phase::Awarded(attempt), .. }) = self.jobs.get_mut(&id)
        else {
            return;
        };
        let Some(stream) = attempt.stream() else { return };
        let mut part_at = 0;
        for part in body(answer, run, &attempt.prefix) {
            let part_end = part_at + part.len() as u64;
            while attempt.body_sent < part_end.min(credit) {
                let offset = attempt.body_sent;
                let rest = part.get((offset - part_at) as usize..).unwrap_or_default();
                let take = rest.len().min(MAX_BODY_PIECE).min((credit - offset) as usize);
                let bytes = rest.get(..take).unwrap_or_default();
                self.outbox.send(stream, &Message::Body { offset, bytes });
                attempt.body_sent += take as u64;
            }
            part_at = part_end;
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
        let Some(Job { goal: Goal::Answer(answer), run, phase: Phase::Awarded(attempt), .. }) = self.jobs.get_mut(&id)
        else {
            return Ok(());
        };
        let whole: u64 = body(answer, run, &attempt.prefix).map(|part| part.len() as u64).iter().sum();
        // After a cut, none says that the body is there already.
        let is_there = accepted.body_credit == 0 && attempt.epoch > 1;
        if accepted.body_credit < whole && !is_there {
            return Err(Violation::Terms);
        }
        let first = attempt.epoch == 1 || !attempt.was_accepted;
        attempt.accept(self.now, &self.policy, accepted)?;
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
        if !attempt.is_fresh() {
            return Err(Violation::Unexpected);
        }
        *tries -= 1;
        let (peer, reason) = (attempt.peer, decline.reason);
        let verdict = match reason {
            DeclineReason::Busy | DeclineReason::PeerLimit => Verdict::Busy(decline.retry_after.unwrap_or_default()),
            _ => Verdict::None,
        };
        self.settle_attempt(id, verdict);
        match &decline.offer {
            Some(offer) if reason == DeclineReason::Stale => self.on_stale(id, peer, offer),
            _ => {
                self.on_declined(id, peer, decline);
                self.choose(id);
                Ok(())
            }
        }
    }

    fn on_chunk(&mut self, id: JobId, seq: u64, n: u32, text: &str, ids: Option<&[u8]>) -> Result<(), Violation> {
        let Some(Job { phase: Phase::Awarded(attempt), .. }) = self.jobs.get_mut(&id) else { return Ok(()) };
        let (new, bytes) = attempt.take(self.now, seq, n, text, ids)?;
        let (peer, number, seq) = (attempt.peer, attempt.number, attempt.next() - u64::from(new));
        if attempt.differs {
            self.on_broken(id, Interrupted::Differs);
            return Ok(());
        }
        if new == 0 {
            self.consumed_so_far(id);
            return Ok(());
        }
        let first = attempt.tokens() == u64::from(new);
        let text = text.get(text.len() - bytes..).unwrap_or_default();
        let ids = ids.and_then(|ids| ids.get(ids.len().saturating_sub(4 * new as usize)..));
        if first
            && number > 1
            && let Some(how) = self.jobs.get(&id).and_then(Job::taken_over)
        {
            self.tell(Event::TakenOver { job: id, attempt: number, peer, seq, how });
        }
        if first {
            self.on_first_token(id);
        }
        self.keep_run(id, new, text, ids);
        self.words.keep(text, ids);
        let (text, ids) = (text.len(), ids.map(<[u8]>::len));
        self.outbox.event(Told::Tokens { job: id, peer, seq, n: new, text, ids });
        Ok(())
    }

    /// The provider has shown that it lives; and the run's class follows from everybody who wrote a token of it.
    pub(super) fn on_first_token(&mut self, id: JobId) {
        if let Some(Job { run, phase: Phase::Awarded(attempt), .. }) = self.jobs.get_mut(&id) {
            self.peers.first_token(self.now, &mut attempt.permit);
            run.is_written_by(attempt.class);
        }
    }

    /// Evidence that the application had before is taken at once.
    fn consumed_so_far(&mut self, id: JobId) {
        if let Some(Job { run, phase: Phase::Awarded(attempt), .. }) = self.jobs.get_mut(&id) {
            attempt.consume(self.now, run.consumed());
        }
    }

    /// Keeps what was delivered for whoever may have to go on, as long as the node may hold so much.
    pub(super) fn keep_run(&mut self, id: JobId, n: u32, text: &str, ids: Option<&[u8]>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let before = job.run.bytes();
        job.run.push(n, text, ids);
        // Only who continues it, or a process that comes back, reads it again.
        let is_read = matches!(&job.goal, Goal::Answer(answer) if answer.failover == Failover::Continue);
        if !is_read && self.endings.is_none() {
            job.forgot_run = true;
        }
        let full = self.held.saturating_add(job.run.bytes()) > self.limits.node_bytes.saturating_add(before);
        if full || job.body_bytes() > self.limits.body_bytes {
            job.forgot_run = true;
        }
        if job.forgot_run {
            job.run.forget_text();
        }
        self.held = self.held.saturating_sub(before).saturating_add(job.run.bytes());
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
        if let Some(stream) = attempt.stream() {
            self.outbox.send(stream, &Message::Ack { next: attempt.next(), end: true });
        }
        match end.reason {
            // It broke off within the evidence: it promised equal bytes, and there were more.
            EndReason::Stop | EndReason::Length if attempt.lacks_evidence() => self.on_broken(id, Interrupted::Differs),
            EndReason::Stop | EndReason::Length => {
                let tokens = self.jobs.get(&id).map_or(0, |job| job.run.tokens());
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
                let in_vain = self.waited_in_vain(id);
                self.settle_attempt(id, Verdict::Failed);
                self.pass_over(id, peer, why);
                if failure == StreamFailure::TimedOut {
                    self.pause(id, in_vain);
                } else {
                    self.choose(id);
                }
            }
            PassedOver::Stream(StreamFailure::Unreachable | StreamFailure::TimedOut) => self.on_resume_not_sent(id),
            PassedOver::Stream(_) => self.on_broken(id, Interrupted::Lost),
            _ => self.on_cut(id),
        }
    }

    /// Whether the stream that the award was to go out on never opened.
    fn was_never_sent(&self, id: JobId) -> bool {
        let Some(Job { phase: Phase::Awarded(attempt), .. }) = self.jobs.get(&id) else { return false };
        attempt.epoch == 1 && attempt.cuts == 0 && !attempt.was_accepted
    }

    fn is_attempt_of(&self, id: JobId, peer: PeerId) -> bool {
        matches!(self.jobs.get(&id), Some(Job { phase: Phase::Awarded(attempt), .. }) if attempt.peer == peer)
    }

    /// Fences the attempt for good: what is owed is owed, the rest of the reservation is free, the provider is told.
    pub(super) fn close_attempt(&mut self, id: JobId, verdict: Verdict) {
        let Some(Job { phase: Phase::Awarded(attempt), lines, .. }) = self.jobs.get_mut(&id) else { return };
        lines.push(attempt.line());
        let (stream, ended, number, peer) = (attempt.stream(), attempt.ended, attempt.number, attempt.peer);
        self.settle_attempt(id, verdict);
        match stream {
            Some(stream) if ended => self.close_stream(stream),
            _ if ended => {}
            _ => self.say_farewell((id, number), peer, stream),
        }
    }

    /// Settles what the attempt had reserved, and what it says of its provider. Its stream stays.
    fn settle_attempt(&mut self, id: JobId, verdict: Verdict) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Phase::Awarded(attempt) = &job.phase else { return };
        job.account.settle(attempt.reserved, attempt.owed());
        self.account.settle(attempt.reserved, attempt.owed());
        let permit = attempt.permit.clone();
        match verdict {
            Verdict::Verified => {
                if job.tries == 1 {
                    self.quota.first_try_succeeded();
                }
                self.peers.verified_end(self.now, permit, attempt.line().text_bytes);
            }
            Verdict::Failed => self.peers.failed(self.now, permit),
            Verdict::Busy(after) => self.peers.busy(self.now, permit, Pushback::After(after)),
            Verdict::None => self.peers.released(self.now, permit),
        }
        job.phase = Phase::Asking { until: self.now.after(self.policy.offer_timeout), window: None };
    }
}

/// What an attempt's end says of its provider.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// The answer ended, with count and digest as received.
    Verified,
    /// It made no progress, or broke the protocol.
    Failed,
    /// It has no room, for so long.
    Busy(Millis),
    /// Nothing: the end is not its doing.
    None,
}
