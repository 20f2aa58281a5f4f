//! The provider's side: streams that peers open, and engines that compute for them.

use haggle_core::{
    AttemptId, Instant, Machine, Model, Output, ProviderEvent, Refusal,
    event::ServedReason,
    provider::{Command, Piece, Reply},
    wire::message::EndReason,
};
use haggle_engine::Outage;
use libp2p::PeerId;

use super::{Driver, Order, engines::FromEngine, pieces, streams::Key};
use crate::{NodeEvent, config::millis, id, sessions, shared::Shared};

impl Driver {
    pub(super) fn on_provider(&mut self, now: Instant, event: ProviderEvent) {
        if let Some(persistence) = &mut self.persistence {
            persistence.served(&event);
        }
        match event {
            ProviderEvent::Start { attempt, work } => {
                if !self.engines.compute(attempt, work)
                    && let Some(provider) = &mut self.provider
                {
                    let _ = provider.command(now, Command::Finish { attempt, reason: EndReason::Engine });
                }
            }
            ProviderEvent::Room { attempt, .. } => self.place(attempt),
            ProviderEvent::Stop { attempt } => self.engines.stop(attempt),
            event => tell_of_provider(&self.shared, event),
        }
    }

    /// Nothing more will be heard of anybody: tells of the jobs whose end was not acknowledged.
    pub(super) fn close_books(&mut self) {
        let now = self.now();
        let Some(provider) = &mut self.provider else { return };
        let _ = provider.command(now, Command::Close);
        while let Some(output) = self.provider.as_mut().and_then(Machine::poll_output) {
            if let Output::Event(event) = output {
                tell_of_provider(&self.shared, event);
            }
        }
    }

    pub(super) fn on_engine(&mut self, from: FromEngine) {
        match from {
            FromEngine::Started { attempt, prompt_tokens, cached } => {
                let now = self.now();
                if let Some(provider) = &mut self.provider {
                    let _ = provider.command(now, Command::Started { attempt, prompt_tokens, cached });
                }
            }
            FromEngine::Working(attempt, phase) => {
                let now = self.now();
                if let Some(provider) = &mut self.provider {
                    let _ = provider.command(now, Command::Working { attempt, phase });
                }
            }
            FromEngine::Piece(attempt, piece) => {
                // Nearly always none waits before it, and there is room.
                if self.engines.waits(attempt) || !self.push(attempt, &piece) {
                    self.engines.hold(attempt, piece);
                }
            }
            FromEngine::Ended(attempt, reason) => {
                self.engines.hold_end(attempt, reason);
                self.place(attempt);
            }
            FromEngine::Outage(sold, _) if sold.is_over() => {}
            FromEngine::Outage(sold, outage) => self.on_outage(&sold.models, outage.as_ref()),
        }
    }

    /// An engine cannot compute its models now, or can again.
    fn on_outage(&mut self, models: &[Model], outage: Option<&Outage>) {
        let now = self.now();
        let Some(provider) = &mut self.provider else { return };
        for model in models {
            let lasts = outage.map(|outage| millis(outage.lasts));
            let _ = provider.command(now, Command::SetOutage { model: model.clone(), lasts });
            let name = model.to_text();
            match outage {
                Some(outage) => tracing::warn!(model = name, detail = outage.detail, "a model cannot be computed now"),
                None => tracing::info!(model = name, "a model can be computed again"),
            }
            let detail = outage.map(|outage| outage.detail.clone());
            self.shared.tell(NodeEvent::Outage { model: model.clone(), detail });
        }
        self.orders.push_back(Order::Announce(provider.names()));
    }

    /// Pushes the pieces of an attempt that wait, as far as there is room, then its end.
    fn place(&mut self, attempt: AttemptId) {
        while let Some(piece) = self.engines.next(attempt) {
            if !self.push(attempt, &piece) {
                return self.engines.put_back(attempt, piece);
            }
        }
        let now = self.now();
        if let Some(provider) = &mut self.provider
            && let Some(reason) = self.engines.due_end(attempt)
        {
            let _ = provider.command(now, Command::Finish { attempt, reason });
        }
    }

    /// False: there is no room for the piece yet. An attempt that can take none, ever, is stopped.
    fn push(&mut self, attempt: AttemptId, piece: &haggle_engine::Piece) -> bool {
        let now = self.now();
        let Some(provider) = &mut self.provider else { return true };
        let ids: Option<Vec<u8>> = piece.ids.as_ref().map(|ids| ids.iter().flat_map(|id| id.to_le_bytes()).collect());
        let channel = pieces::channel(piece);
        let pushed = Piece { n: piece.n, text: &piece.text, ids: ids.as_deref(), channel };
        match provider.command(now, Command::push(attempt, pushed)) {
            Ok(_) => {
                self.shared.metrics.count("haggle_tokens_served_total", "", piece.n.into());
                self.engines.placed(attempt);
            }
            Err(Refusal::NoRoom) => return false,
            Err(Refusal::UnknownAttempt) => self.engines.stop(attempt),
            Err(refusal) => {
                tracing::error!(%refusal, "the engine made a piece that cannot be sent");
                self.engines.stop(attempt);
                let _ = provider.command(now, Command::Finish { attempt, reason: EndReason::Engine });
            }
        }
        true
    }

    pub(super) fn accept(&mut self, now: Instant, peer: PeerId, stream: sessions::SessionStream) {
        let Some(provider) = self.provider.as_mut().filter(|_| self.stop.until.is_none()) else {
            return self.refused(peer, "not_serving");
        };
        let Some(core_peer) = id::to_core(&peer) else { return };
        match provider.command(now, Command::AcceptStream(core_peer)) {
            Ok(Reply::Stream(id)) => self.streams.accept(Key::Provider(id), stream),
            Ok(reply) => debug_assert!(false, "{reply:?} for a stream"),
            Err(refusal) => self.refused(peer, refusal.code()),
        }
    }

    pub(super) fn refused(&self, peer: PeerId, reason: &'static str) {
        self.shared.metrics.count("haggle_streams_refused_total", reason, 1);
        tracing::debug!(%peer, reason, "refused a stream");
    }
}

/// Tells those who listen, and counts.
pub(crate) fn tell_of_provider(shared: &Shared, event: ProviderEvent) {
    let told = match event {
        ProviderEvent::Start { .. } | ProviderEvent::Room { .. } | ProviderEvent::Stop { .. } => None,
        ProviderEvent::Quoted { peer, model, answer } => {
            id::to_libp2p(&peer).map(|peer| NodeEvent::Quoted { peer, model, answer })
        }
        ProviderEvent::Declined { peer, reason } => {
            id::to_libp2p(&peer).map(|peer| NodeEvent::Declined { peer, reason })
        }
        ProviderEvent::Accepted { peer, model, job, attempt, tariff } => {
            id::to_libp2p(&peer).map(|peer| NodeEvent::Accepted { peer, model, job, attempt, tariff })
        }
        ProviderEvent::Released { peer, reason } => {
            id::to_libp2p(&peer).map(|peer| NodeEvent::Released { peer, reason })
        }
        ProviderEvent::Served { peer, model, job, attempt, tariff, reason, tokens, acked, owed } => {
            shared.metrics.count("haggle_served_total", served(reason), 1);
            tracing::info!(%job, ?model, ?reason, tokens, "served");
            let served = |peer| NodeEvent::Served { peer, model, job, attempt, tariff, reason, tokens, acked, owed };
            id::to_libp2p(&peer).map(served)
        }
    };
    if let Some(event) = told {
        shared.tell(event);
    }
}

fn served(reason: ServedReason) -> &'static str {
    match reason {
        ServedReason::Acknowledged(_) => "acknowledged",
        ServedReason::Unacknowledged(_) => "unacknowledged",
        ServedReason::Cancelled => "cancelled",
        ServedReason::Lost => "lost",
        ServedReason::Violation(_) => "violation",
        ServedReason::Displaced => "displaced",
    }
}
