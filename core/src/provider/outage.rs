//! A model whose engine cannot compute for a while. Its provider is busy, not broken: nobody is to blame.

use alloc::vec::Vec;

use crate::{
    id::Model,
    time::{Instant, Millis},
    wire::message::EndReason,
};

use super::{
    Provider, Serving,
    context::Context,
    job::{Job, JobState},
};

/// An outage is announced to last no longer than this: who is told to wait should look again.
const MAX_OUTAGE: Millis = Millis::from_secs(300);

impl Provider {
    /// The engine of a model can not compute now, and expects that to last so long (at most 5 minutes are told); or it can
    /// again: `None`. `model` is the served model's own name; others are ignored.
    ///
    /// As long as an outage lasts, and until it is taken back here, the model is left out of the advert, and whoever asks
    /// for it or awards it is declined as busy. Jobs that wait for a slot are ended in order, so that another provider
    /// goes on at once. Those that compute are their engine's affair.
    pub fn set_outage(&mut self, now: Instant, model: &Model, lasts: Option<Millis>) {
        self.cx.advance_clock(now);
        if !self.cx.service.models.iter().any(|serving| serving.advert.model == *model) {
            return;
        }
        let Some(lasts) = lasts else {
            self.cx.outages.remove(model);
            return;
        };
        self.cx.outages.insert(model.clone(), self.cx.now.after(lasts.min(MAX_OUTAGE)));
        let waits = |job: &Job| matches!(job.state, JobState::Queued) && self.cx.outage(&job.award.model).is_some();
        let waiting = self.jobs.values().filter(|job| waits(job)).map(|job| job.id);
        for attempt in waiting.collect::<Vec<_>>() {
            self.drive(attempt, |job, cx| job.end(cx, EndReason::Shutdown));
        }
    }

    /// The names under which it is to be found now: those of every model that it can compute, aliases too. None once it
    /// drains or is shut down.
    #[must_use]
    pub fn names(&self) -> Vec<Model> {
        let able = self.cx.able().filter(|_| !self.cx.is_closing()).map(|serving| &serving.advert);
        able.flat_map(|advert| [&advert.model].into_iter().chain(&advert.aliases)).cloned().collect()
    }
}

impl Context {
    /// How much longer the outage of a model is expected to last, if it has one; under any of its names.
    pub(super) fn outage(&self, model: &Model) -> Option<Millis> {
        let own_name = &self.service.find(model)?.advert.model;
        self.outages.get(own_name).map(|until| until.since(self.now))
    }

    /// The own name of a model, if it is served and can be computed now; under any of its names.
    pub(super) fn computable(&self, model: &Model) -> Option<Model> {
        let own_name = &self.service.find(model)?.advert.model;
        (!self.outages.contains_key(own_name)).then(|| own_name.clone())
    }

    /// What is served and can be computed now.
    pub(super) fn able(&self) -> impl Iterator<Item = &Serving> {
        self.service.models.iter().filter(|serving| !self.outages.contains_key(&serving.advert.model))
    }
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use super::*;
    use crate::{
        Input, Limits, Machine, Output, PeerId, ProviderEvent, StreamId, digest,
        money::Tariff,
        provider::Service,
        wire::{
            self, Deframer, Message,
            message::{Award, BodyKind, DeclineReason, ModelAdvert, Rfq, Sampling},
        },
    };

    const BODY: &[u8] = b"Once";

    fn model(name: &str) -> Model {
        Model::new(name.as_bytes()).unwrap()
    }

    fn provider() -> Provider {
        let advert = |name: &str| ModelAdvert {
            model: model(name),
            aliases: vec![model(&alloc::format!("{name}-alias"))],
            context: 4096,
            price_in: 0,
            bytes_per_token: 4,
            price_out: 0,
            eta: Millis(500),
            can_continue: true,
            exactness: Default::default(),
            features: None,
            longest: None,
            price_part: None,
        };
        let models = ["a", "b"].map(|name| Serving { advert: advert(name), floor_permille: 1000 }).to_vec();
        let service = Service { models, slots: 1, queue: 4, ..Service::default() };
        Provider::new(service, Limits::default(), [7; 32]).unwrap()
    }

    fn award(name: &str, job: u8) -> Message<'static> {
        Message::Award(Award {
            job: crate::JobId([job; 16]),
            attempt: 1,
            epoch: 1,
            offer: None,
            model: model(name),
            tariff: Tariff::default(),
            max_tokens: 10,
            kind: BodyKind::Raw,
            body_bytes: BODY.len() as u64,
            body_hash: digest::sha256(BODY),
            prefix_bytes: 0,
            prefix_tokens: 0,
            prefix_id_bytes: None,
            overlap: 0,
            sampling: Sampling::default(),
            stop: Vec::new(),
            window_tokens: 1024,
            window_bytes: 128 << 10,
            features: None,
            voucher: None,
            choice: None,
        })
    }

    /// Says something on a stream of its own, and drains what comes of it.
    fn say(provider: &mut Provider, messages: &[Message<'_>]) -> StreamId {
        let stream = provider.accept_stream(Instant::ZERO, PeerId::new(b"p").unwrap()).unwrap();
        let mut bytes = Vec::new();
        messages.iter().for_each(|message| wire::encode_frame(message, &mut bytes));
        provider.handle_input(Instant::ZERO, Input::Received(stream, &bytes));
        stream
    }

    /// All that was said on streams, and the attempts that were started.
    fn drain(provider: &mut Provider) -> (Vec<(StreamId, Vec<u8>)>, usize) {
        let (mut said, mut starts) = (Vec::new(), 0);
        while let Some(output) = provider.poll_output() {
            match output {
                Output::Transmit { stream, mut bytes } => {
                    let mut deframer = Deframer::default();
                    while let Ok(Some(payload)) = deframer.next(&mut bytes) {
                        said.push((stream, payload.to_vec()));
                    }
                }
                Output::Event(ProviderEvent::Start { .. }) => starts += 1,
                _ => {}
            }
        }
        (said, starts)
    }

    fn declined(said: &[(StreamId, Vec<u8>)]) -> Option<(DeclineReason, Option<Millis>)> {
        said.iter().find_map(|(_, payload)| match wire::decode(payload).unwrap() {
            Message::Decline(decline) => Some((decline.reason, decline.retry_after)),
            _ => None,
        })
    }

    #[test]
    fn a_model_in_an_outage_is_not_advertised_and_its_provider_is_busy_not_broken() {
        let mut provider = provider();
        let calm = provider.digest(Instant::ZERO);
        provider.set_outage(Instant::ZERO, &model("a"), Some(Millis::from_secs(20)));
        assert_ne!(provider.digest(Instant::ZERO), calm);
        let advertised: Vec<Model> = provider.advert().models.into_iter().map(|advert| advert.model).collect();
        assert_eq!(advertised, [model("b")]);
        let rfq = |name| Message::Rfq(Rfq { rfq: 1, model: model(name), body_bytes: 256, max_tokens: 10 });
        for asked in [rfq("a"), rfq("a-alias"), award("a", 1), award("a-alias", 2)] {
            say(&mut provider, &[asked]);
            let (said, starts) = drain(&mut provider);
            assert_eq!(declined(&said), Some((DeclineReason::Busy, Some(Millis::from_secs(20)))));
            assert_eq!(starts, 0);
        }
        say(&mut provider, &[award("b", 3), Message::Body { offset: 0, bytes: BODY }]);
        assert_eq!(drain(&mut provider).1, 1, "the other model goes on");

        provider.set_outage(Instant::ZERO, &model("a"), None);
        assert_eq!(provider.advert().models.len(), 2);
        say(&mut provider, &[rfq("a")]);
        let (said, _) = drain(&mut provider);
        assert_eq!(declined(&said), None);
        provider.set_outage(Instant::ZERO, &model("unknown"), Some(Millis(1)));
        assert_eq!(provider.advert().models.len(), 2);
        assert!(provider.cx.outages.is_empty());
    }

    #[test]
    fn who_is_on_the_way_out_is_found_under_no_name_whatever_its_engines_do() {
        let outage = |provider: &mut Provider, lasts| provider.set_outage(Instant::ZERO, &model("a"), lasts);
        let mut provider = provider();
        assert_eq!(provider.names(), ["a", "a-alias", "b", "b-alias"].map(model));
        outage(&mut provider, Some(Millis::from_secs(20)));
        assert_eq!(provider.names(), ["b", "b-alias"].map(model));
        provider.drain(Instant::ZERO, Millis::from_secs(60));
        outage(&mut provider, None);
        assert_eq!(provider.names(), []);
        provider.shut_down(Instant::ZERO);
        outage(&mut provider, Some(Millis::from_secs(20)));
        assert_eq!(provider.names(), []);
    }

    #[test]
    fn who_waits_for_a_model_in_an_outage_is_sent_on_and_who_runs_is_left_alone() {
        let mut provider = provider();
        let body = Message::Body { offset: 0, bytes: BODY };
        let running = say(&mut provider, &[award("a", 1), body]);
        let body = Message::Body { offset: 0, bytes: BODY };
        let queued = say(&mut provider, &[award("a-alias", 2), body]);
        let receiving = say(&mut provider, &[award("a", 3)]);
        assert_eq!(drain(&mut provider).1, 1);
        provider.set_outage(Instant::ZERO, &model("a"), Some(Millis(u64::MAX)));
        assert_eq!(provider.cx.outage(&model("a")), Some(MAX_OUTAGE));
        let ended = |said: &[(StreamId, Vec<u8>)]| -> Vec<(StreamId, EndReason)> {
            let end = |payload: &[u8]| match wire::decode(payload).unwrap() {
                Message::End(end) => Some(end.reason),
                _ => None,
            };
            said.iter().filter_map(|(stream, payload)| Some((*stream, end(payload)?))).collect()
        };
        assert_eq!(ended(&drain(&mut provider).0), [(queued, EndReason::Shutdown)]);
        let mut bytes = Vec::new();
        wire::encode_frame(&Message::Body { offset: 0, bytes: BODY }, &mut bytes);
        provider.handle_input(Instant::ZERO, Input::Received(receiving, &bytes));
        assert_eq!(drain(&mut provider).1, 0, "the slot is taken");
        let first = *provider.jobs.keys().next().unwrap();
        provider.finish(Instant::ZERO, first, EndReason::Engine).unwrap();
        let (said, starts) = drain(&mut provider);
        assert_eq!(starts, 0);
        assert_eq!(ended(&said), [(running, EndReason::Engine), (receiving, EndReason::Shutdown)]);
        assert_eq!(provider.taken_slots(), 0);
    }
}
