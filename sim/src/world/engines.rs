//! Engines: what providers have computed, piece by piece, and what goes wrong there.

use haggle_core::{
    AttemptId, PeerId, ProviderEvent, Refusal,
    provider::Piece,
    wire::message::{EndReason, Phase},
};

use super::{
    Happening, Lane, World,
    node::{Run, Step},
};
use crate::{
    dice::{self, Purpose, Stream},
    engine::Trouble,
    net::Role,
    oracle::Rule,
    writer::Written,
};

/// How soon an engine of one's own that had nothing to say is asked again, in ms.
const ASK_AGAIN: u64 = 5;

impl World {
    pub(super) fn provider_event(&mut self, node: u32, event: ProviderEvent) {
        self.judge.provider_event(crate::NodeId(node).peer(), &event);
        self.judge.cover_provider_event(&event);
        if let ProviderEvent::Served { peer, .. } = &event {
            let honest = self.is_core_requester(*peer);
            self.judge.served(&event, honest);
        }
        let now = self.now;
        let place = &mut self.nodes[node as usize];
        let life = place.life;
        match event {
            ProviderEvent::Start { attempt, work } => {
                let Some(config) = &place.provider_config else { return };
                let mut run = Run::new(&work, &config.engine);
                run.own = place.writer.as_mut().map(|writer| (writer.start(&work), None));
                let often = u64::from(config.engine.trouble_permille);
                if dice::below(self.seed, Stream::new(node, node, Purpose::Engine), attempt.0, 1000) >= often {
                    run.trouble = None;
                }
                let (phase, first) = if run.loads {
                    (Phase::Loading, config.engine.load)
                } else {
                    (Phase::Reading, config.engine.prefill)
                };
                let is_own = run.own.is_some();
                place.runs.insert(attempt, run);
                let at = now + first.max(1).saturating_mul(place.slow);
                if let Some(side) = place.provider.as_mut().filter(|_| config.engine.tells && !is_own) {
                    side.machine.working(place.clock.read(now), attempt, phase);
                }
                self.judge.started(node, &work, self.is_core_requester(work.peer));
                self.push(at, Lane::engine(node), Happening::Engine { node, life, attempt });
            }
            ProviderEvent::Room { attempt, .. } => {
                if let Some(run) = place.runs.get_mut(&attempt).filter(|run| run.blocked) {
                    run.blocked = false;
                    self.push(now + 1, Lane::engine(node), Happening::Engine { node, life, attempt });
                }
            }
            ProviderEvent::Stop { attempt } => self.engine_stops(node, attempt),
            ProviderEvent::Quoted { .. }
            | ProviderEvent::Declined { .. }
            | ProviderEvent::Accepted { .. }
            | ProviderEvent::Released { .. }
            | ProviderEvent::Served { .. } => {}
        }
    }

    fn is_core_requester(&self, peer: PeerId) -> bool {
        let node = crate::node::node_of(peer).and_then(|node| self.nodes.get(node as usize));
        node.is_some_and(|node| node.requester.is_some())
    }

    fn engine_stops(&mut self, node: u32, attempt: AttemptId) {
        if self.nodes[node as usize].runs.remove(&attempt).is_some() {
            self.judge.stopped(node);
        }
    }

    pub(super) fn engine_step(&mut self, node: u32, attempt: AttemptId) {
        let place = &mut self.nodes[node as usize];
        let (now, slow) = (place.clock.read(self.now), place.slow);
        let (Some(run), Some(side), Some(config)) =
            (place.runs.get_mut(&attempt), &mut place.provider, &place.provider_config)
        else {
            return;
        };
        if run.own.is_some() {
            return self.own_step(node, attempt);
        }
        let (life, engine) = (place.life, &config.engine);
        if std::mem::take(&mut run.loads) {
            if engine.tells {
                side.machine.working(now, attempt, Phase::Reading);
            }
            let at = self.now + engine.prefill.max(1).saturating_mul(slow);
            self.push(at, Lane::engine(node), Happening::Engine { node, life, attempt });
            return self.after(node, Role::Provider);
        }
        if !run.started {
            run.started = true;
            side.machine.started(attempt, run.prompt_tokens, run.answer.cached(run.prompt_tokens));
        }
        let n = match run.next_step() {
            Step::Write(n) => n,
            Step::End(reason) => return self.engine_ends(node, attempt, reason),
            Step::Hang => return,
            Step::Pause(ms) => {
                return self.push(self.now + ms, Lane::engine(node), Happening::Engine { node, life, attempt });
            }
        };
        let (text, ids) = run.write(n);
        let channel = run.answer.channel(run.next);
        let piece = Piece { n: n as u32, text: &text, ids: engine.ids.then_some(&ids), channel };
        match side.machine.push(now, attempt, piece) {
            Ok(room) => {
                run.next += n;
                self.counts.computed += n;
                let (over, reason) = (run.next == run.end, run.reason);
                run.blocked = room == 0 && !over;
                let (pause, blocked) = ((engine.token * n).max(1).saturating_mul(slow), run.blocked);
                if over {
                    return self.engine_ends(node, attempt, reason);
                }
                if !blocked {
                    let again = Happening::Engine { node, life, attempt };
                    self.push(self.now + pause, Lane::engine(node), again);
                }
            }
            Err(Refusal::NoRoom) => run.blocked = true,
            Err(Refusal::UnknownAttempt) => self.engine_stops(node, attempt),
            Err(other) => self.judge.fail(Rule::Work, format_args!("a piece of {n} tokens was refused: {other}")),
        }
        self.after(node, Role::Provider);
    }

    /// A step of an engine of one's own.
    fn own_step(&mut self, node: u32, attempt: AttemptId) {
        let place = &mut self.nodes[node as usize];
        let (now, slow, life) = (place.clock.read(self.now), place.slow, place.life);
        let (Some(run), Some(side), Some(config)) =
            (place.runs.get_mut(&attempt), &mut place.provider, &place.provider_config)
        else {
            return;
        };
        let Some((writing, held)) = &mut run.own else { return };
        let token = config.engine.token;
        let due = run.trouble.filter(|(at, _)| run.next >= *at).map(|(_, trouble)| trouble);
        let written = match due {
            Some(Trouble::Panic) => Written::End(EndReason::Engine),
            Some(Trouble::Fail(reason)) => Written::End(reason),
            Some(Trouble::Hang) => return,
            Some(Trouble::Pause(_)) => Written::Nothing,
            // It has no promise that could be broken.
            Some(Trouble::Misspell) | None => held.take().map_or_else(|| writing.write(), Written::Words),
        };
        let pause = match written {
            Written::Nothing => match run.trouble.take_if(|(_, trouble)| matches!(trouble, Trouble::Pause(_))) {
                Some((_, Trouble::Pause(ms))) => ms.max(1),
                _ => ASK_AGAIN,
            },
            Written::Started(tokens) => {
                side.machine.started(attempt, tokens, None);
                0
            }
            Written::End(reason) => return self.engine_ends(node, attempt, reason),
            Written::Words(words) => {
                let piece = Piece { n: words.n, text: &words.text, ids: words.ids.as_deref(), channel: words.channel };
                match side.machine.push(now, attempt, piece) {
                    Ok(_) => {
                        run.next += u64::from(words.n);
                        self.counts.computed += u64::from(words.n);
                    }
                    Err(Refusal::NoRoom) => {
                        *held = Some(words);
                        run.blocked = true;
                        return self.after(node, Role::Provider);
                    }
                    Err(Refusal::UnknownAttempt) => self.engine_stops(node, attempt),
                    // No fault of the core: it makes pieces that nobody may send.
                    Err(_) => return self.engine_ends(node, attempt, EndReason::Engine),
                }
                token.saturating_mul(u64::from(words.n)).max(1).saturating_mul(slow)
            }
        };
        self.push(self.now.saturating_add(pause), Lane::engine(node), Happening::Engine { node, life, attempt });
        self.after(node, Role::Provider);
    }

    fn engine_ends(&mut self, node: u32, attempt: AttemptId, reason: EndReason) {
        self.engine_stops(node, attempt);
        let place = &mut self.nodes[node as usize];
        if let Some(side) = &mut place.provider {
            // Refused only if it was stopped before.
            let _stopped = side.machine.finish(place.clock.read(self.now), attempt, reason);
        }
        self.after(node, Role::Provider);
    }
}
