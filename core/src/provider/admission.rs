//! Is there room for it: slots, the queue, and what one peer may have.

use crate::{
    digest,
    event::{ProviderEvent, ServedReason, Violation, Work},
    id::{AttemptId, PeerId, StreamId},
    wire::{
        Message, Prompt,
        message::{Accepted, Award, DeclineReason, EndReason, Offer},
    },
};

use super::{
    Provider,
    job::{Job, JobState},
};

/// Beyond this, a temperature is a mistake.
const MAX_TEMPERATURE_MILLI: u32 = 100_000;

impl Provider {
    pub(super) fn on_award(&mut self, stream: StreamId, peer: PeerId, payload: &[u8], award: Award) {
        // [A3]
        if let Some(known) = self.by_name.get(&(peer, award.job, award.attempt)).copied() {
            return self.on_repeated_award(stream, known, payload, &award);
        }
        if let Err((reason, offer)) = self.admit(peer, &award) {
            return self.decline_award(stream, peer, &award, reason, offer);
        }
        let id = AttemptId(self.next_attempt);
        self.next_attempt += 1;
        let accepted = Accepted {
            // [A8] As it came over the wire.
            terms: digest::sha256(payload),
            body_credit: award.body_bytes,
            // [A9] Never wider than awarded.
            window_tokens: award.window_tokens.min(self.limits.window_tokens),
            window_bytes: award.window_bytes.min(self.limits.window_bytes),
            eta: (self.holding() as u64 >= u64::from(self.service.slots)).then(|| self.eta(&award.model)),
        };
        self.held += award.body_bytes;
        self.by_name.insert((peer, award.job, award.attempt), id);
        self.peers.entry(peer).or_default().jobs += 1;
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.job = Some(id);
            stream.stray_body = 0;
            stream.is_displaced = false;
        }
        self.outbox.event(ProviderEvent::Accepted {
            peer,
            model: award.model.clone(),
            job: award.job,
            attempt: award.attempt,
            tariff: award.tariff,
        });
        self.jobs.insert(id, Job::new(self.now, peer, stream, award, &accepted));
        self.outbox.send(stream, &Message::Accepted(accepted));
        self.on_body_complete(id);
        self.index_job(id);
    }

    /// Declines an award, whose body may be on its way: the refusal reaches its reader all the same.
    pub(super) fn decline_award(
        &mut self,
        stream: StreamId,
        peer: PeerId,
        award: &Award,
        reason: DeclineReason,
        offer: Option<Offer>,
    ) {
        if let Some(stream) = self.streams.get_mut(&stream) {
            // [A7]
            stream.stray_body = award.body_bytes.min(self.limits.body_unasked);
        }
        self.outbox.event(ProviderEvent::Declined { peer, reason });
        self.decline_for(&award.model, stream, reason, offer);
    }

    /// Everything that an award must fit, cheapest check first.
    fn admit(&mut self, peer: PeerId, award: &Award) -> Result<(), (DeclineReason, Option<Offer>)> {
        let no = |reason| Err((reason, None));
        if self.was_lost(&(peer, award.job, award.attempt)) {
            // An earlier process may have computed it: once is enough.
            return no(DeclineReason::Conflict);
        }
        let sampling = &award.sampling;
        // [A10] What no engine samples by.
        let senseless = sampling.temperature_milli > MAX_TEMPERATURE_MILLI
            || !(1..=1000).contains(&sampling.top_p_milli)
            || award.window_tokens == 0
            || award.window_bytes == 0
            || award.body_bytes == 0
            || award.body_bytes > self.limits.body_bytes;
        let continues = award.prefix_bytes > 0;
        let can_continue = self.service.find(&award.model).is_none_or(|serving| serving.advert.can_continue);
        if senseless || (continues && !can_continue) {
            return no(DeclineReason::Unsupported);
        }
        if self.is_over_share(&peer) {
            return no(DeclineReason::PeerLimit);
        }
        let crowded = self.outage(&award.model).is_some() || self.jobs.len() >= self.limits.jobs as usize;
        if !self.is_closing() && (crowded || self.is_full_for(peer)) {
            return no(DeclineReason::Busy);
        }
        self.check_terms(peer, award)?;
        // Nobody is displaced for an award that would be refused.
        if self.make_room(peer, award) { Ok(()) } else { no(DeclineReason::Busy) }
    }

    /// Jobs that are not over.
    pub(super) fn unended(&self) -> usize {
        self.jobs.values().filter(|job| !job.is_ended()).count()
    }

    /// Queues a job whose body is complete, or ends it if the body is not what was awarded.
    pub(super) fn on_body_complete(&mut self, id: AttemptId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if !job.is_body_complete() {
            return;
        }
        // [A4]
        if digest::sha256(&job.body) != job.award.body_hash {
            let stream = job.stream();
            self.drop_job(id, ServedReason::Violation(Violation::Body));
            if let Some(stream) = stream {
                self.decline(stream, DeclineReason::BodyMismatch, None);
                self.close_stream(stream);
            }
            return;
        }
        job.state = JobState::Queued;
        self.queue.push_back(id);
        self.start_queued();
    }

    /// Fills free slots from the queue.
    pub(super) fn start_queued(&mut self) {
        self.yield_slots();
        while self.running < self.service.slots {
            let Some(id) = self.next_queued() else { return };
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            let body = core::mem::take(&mut job.body);
            self.held -= job.award.body_bytes;
            job.state = JobState::Running;
            job.started = self.now;
            self.running += 1;
            let own_name = self.service.find(&job.award.model).map(|serving| serving.advert.model.clone());
            let is_served = own_name.as_ref().is_some_and(|model| !self.outages.contains_key(model));
            let own_name = own_name.filter(|_| is_served);
            match work(job, &body, own_name) {
                None if !is_served => self.end_attempt(id, EndReason::Shutdown),
                Some(work) => self.outbox.event(ProviderEvent::Start { attempt: id, work }),
                // [A4] Not of its kind.
                None => self.end_attempt(id, EndReason::BadRequest),
            }
            self.index_job(id);
        }
    }
}

/// Makes work of a job's body; `None` if the body is not what its kind says.
fn work(job: &mut Job, body: &[u8], model: Option<crate::id::Model>) -> Option<Work> {
    let award = &job.award;
    let id_bytes = usize::try_from(award.prefix_id_bytes.unwrap_or(0)).ok()?;
    let (body, ids) = body.split_at_checked(body.len().checked_sub(id_bytes)?)?;
    let prompt_bytes = body.len().checked_sub(usize::try_from(award.prefix_bytes).ok()?)?;
    let (prompt, prefix) = body.split_at_checked(prompt_bytes)?;
    let prefix = alloc::string::String::from_utf8(prefix.to_vec()).ok()?;
    job.text_hash.update(prefix.as_bytes());
    Some(Work {
        peer: job.peer,
        model: model?,
        prompt: Prompt::decode(award.kind, prompt).ok()?,
        prefix,
        prefix_tokens: award.prefix_tokens,
        prefix_ids: award.prefix_id_bytes.map(|_| {
            let id = |bytes: &[u8]| bytes.iter().rev().fold(0, |id: u32, byte| id << 8 | u32::from(*byte));
            ids.chunks_exact(4).map(id).collect()
        }),
        max_tokens: award.max_tokens,
        sampling: award.sampling,
        stop: award.stop.clone(),
        window_tokens: job.window.max_tokens(),
    })
}
