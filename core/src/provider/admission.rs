//! May it come in: what an award must fit.

use crate::{
    digest,
    event::ProviderEvent,
    id::{AttemptId, PeerId, StreamId},
    wire::{
        Message,
        message::{Accepted, Award, BodyKind, DeclineReason, Offer},
    },
};

use super::{Provider, context::Context, job::Job};

/// Beyond this, a temperature is a mistake.
const MAX_TEMPERATURE_MILLI: u32 = 100_000;

impl Provider {
    pub(super) fn on_award(&mut self, stream: StreamId, peer: PeerId, payload: &[u8], award: Award) {
        // [A3]
        if let Some(&known) = self.cx.by_name.get(&(peer, award.job, award.attempt)) {
            return self.drive(known, |job, cx| job.on_repeated_award(cx, stream, payload, &award));
        }
        match self.admit(peer, &award) {
            Ok(()) => self.begin(stream, peer, payload, award),
            Err((reason, offer)) => {
                self.cx.drop_unasked_body(stream, award.body_bytes);
                self.cx.outbox.event(ProviderEvent::Declined { peer, reason });
                self.decline_for(&award.model, stream, reason, offer);
            }
        }
    }

    /// Everything that an award must fit, cheapest check first.
    fn admit(&mut self, peer: PeerId, award: &Award) -> Result<(), (DeclineReason, Option<Offer>)> {
        let no = |reason| Err((reason, None));
        if self.cx.was_lost(&(peer, award.job, award.attempt)) {
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
            || award.body_bytes > self.cx.limits.body_bytes;
        let continues = award.prefix_bytes > 0;
        let can_continue = self.cx.service.find(&award.model).is_none_or(|serving| serving.advert.can_continue);
        if senseless || (continues && !can_continue) || self.lacks_features(award) {
            return no(DeclineReason::Unsupported);
        }
        if award.choice.is_some() {
            // [S1] No method is listed yet.
            return no(DeclineReason::Settlement);
        }
        if self.is_over_share(&peer) {
            return no(DeclineReason::PeerLimit);
        }
        let crowded = self.cx.outage(&award.model).is_some() || self.jobs.len() >= self.cx.limits.jobs as usize;
        if !self.cx.is_closing() && (crowded || self.is_full_for(peer)) {
            return no(DeclineReason::Busy);
        }
        self.check_terms(peer, award)?;
        // Nobody is displaced for an award that would be refused.
        if self.make_room(peer, award) { Ok(()) } else { no(DeclineReason::Busy) }
    }

    /// Whether its engine can not do what the job needs.
    // [A13]
    fn lacks_features(&self, award: &Award) -> bool {
        let Some(serving) = self.cx.service.find(&award.model) else { return false };
        let (has, needs) = (serving.advert.features, award.features.unwrap_or_default());
        (award.kind == BodyKind::Request && has.is_none()) || !has.unwrap_or_default().contain(needs)
    }

    /// Takes an award: its body may come.
    fn begin(&mut self, stream: StreamId, peer: PeerId, payload: &[u8], award: Award) {
        let cx = &self.cx;
        let accepted = Accepted {
            // [A8] As it came over the wire.
            terms: digest::sha256(payload),
            body_credit: award.body_bytes,
            // [A9] Never wider than awarded.
            window_tokens: award.window_tokens.min(cx.limits.window_tokens),
            window_bytes: award.window_bytes.min(cx.limits.window_bytes),
            eta: (self.holding() as u64 >= u64::from(cx.service.slots)).then(|| self.eta(&award.model)),
        };
        let job = Job::new(cx.now, AttemptId(cx.next_attempt), (peer, stream), award, &accepted);
        self.cx.enter(stream, &job);
        self.cx.outbox.send(stream, &Message::Accepted(accepted));
        self.jobs.insert(job.id, job);
    }
}

impl Context {
    /// A job begins: it is known by its name, counted, due, and on its stream, and its body's bytes are set aside.
    fn enter(&mut self, stream: StreamId, job: &Job) {
        self.next_attempt += 1;
        self.held += job.award.body_bytes;
        self.by_name.insert(job.name(), job.id);
        self.peers.entry(job.peer).or_default().jobs += 1;
        self.index(job);
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.job = Some(job.id);
            stream.stray_body = 0;
            stream.is_displaced = false;
        }
        let Award { job: name, attempt, tariff, .. } = job.award;
        let (peer, model) = (job.peer, job.award.model.clone());
        self.outbox.event(ProviderEvent::Accepted { peer, model, job: name, attempt, tariff });
    }
}
