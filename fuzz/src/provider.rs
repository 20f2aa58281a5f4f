//! Any order of commands, facts and times on a provider, against requesters that may do anything.

mod settings;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use haggle_core::{
    AttemptId, Input, Instant, JobId, Limits, Machine, Millis, Model, Output, PeerId, Provider, ProviderEvent,
    StreamId,
    limits::CHUNK_COST,
    money::Tariff,
    provider::{Piece, Service},
    wire::{Message, message::*},
};
use sha2::{Digest, Sha256};

use self::settings::{limits, service, serving};
use crate::{
    cursor::Cursor,
    tap::{Tap, frame},
};

const PEERS: usize = 3;
const STEPS: usize = 400;
const VOUCHER: Voucher = Voucher { amount: 1, tokens: 0, signature: [0; 64] };

/// Runs the steps that `data` spells, checks the laws after each, and runs them again without draining in between.
pub fn provider(data: &[u8]) {
    let mut cursor = Cursor::new(data);
    let (service, limits) = (service(&mut cursor), limits(&mut cursor));
    let machine = || Provider::new(service.clone(), limits.clone(), [7; 32]).unwrap();
    let mut world = World::new(machine(), service.clone(), limits.clone());
    let mut steps = Vec::new();
    while !cursor.is_empty() && steps.len() < STEPS {
        let now = cursor.moment(world.now, world.machine.poll_timeout());
        let Some(act) = world.choose(&mut cursor) else { continue };
        world.step(now, &act);
        steps.push((now, act));
    }
    world.run_out(&mut steps);

    let mut again = World { is_rerun: true, ..World::new(machine(), service, limits) };
    steps.iter().for_each(|(now, act)| again.apply(*now, act));
    again.drain();
    assert_eq!(again.log, world.log, "drain timing changed what the application was told");
    assert_eq!(again.machine.digest(again.now), world.machine.digest(world.now), "drain timing changed the state");
}

/// What happens: everything that a provider can be given.
enum Act {
    Accept(PeerId),
    Received(StreamId, Vec<u8>),
    Closed(StreamId),
    Gone(PeerId),
    Timeout,
    Started(AttemptId, u64),
    Push(AttemptId, u32, usize, Option<usize>),
    Finish(AttemptId, EndReason),
    SetModels(u64),
    Drain(u64),
    ShutDown,
    Close,
}

/// A provider with the books that prove the laws.
struct World {
    machine: Provider,
    service: Service,
    limits: Limits,
    now: Instant,
    tap: Tap,
    talks: BTreeMap<StreamId, Talk>,
    started: BTreeSet<AttemptId>,
    running: BTreeSet<AttemptId>,
    /// Attempts that were accepted and not told of as served.
    accepted: BTreeSet<(PeerId, JobId, u32)>,
    log: Vec<String>,
    /// The second run: what was sent is not looked at again.
    is_rerun: bool,
}

/// What a requester knows of a stream.
struct Talk {
    peer: PeerId,
    limits: Limits,
    rfq: Rfq,
    offer: Option<Offer>,
    posted: Tariff,
    job: Option<Award>,
    body: Vec<u8>,
    sent: usize,
    accepted: Option<Accepted>,
    /// Ends and costs of chunks that were not acknowledged.
    chunks: VecDeque<(u64, u32)>,
    acked: u64,
    next: u64,
    ended: bool,
}

fn peer(index: usize) -> PeerId {
    PeerId::new(&[index as u8 + 1]).unwrap()
}

impl World {
    fn new(machine: Provider, service: Service, limits: Limits) -> Self {
        Self {
            machine,
            service,
            limits,
            now: Instant::ZERO,
            tap: Tap::default(),
            talks: BTreeMap::new(),
            started: BTreeSet::new(),
            running: BTreeSet::new(),
            accepted: BTreeSet::new(),
            log: Vec::new(),
            is_rerun: false,
        }
    }

    fn choose(&mut self, cursor: &mut Cursor<'_>) -> Option<Act> {
        let streams = self.tap.streams();
        let stream = |cursor: &mut Cursor<'_>| match streams.get(cursor.below(streams.len() + 1)) {
            Some(stream) => *stream,
            None => streams.last().copied().unwrap_or(StreamId(99)),
        };
        let running: Vec<AttemptId> = self.running.iter().copied().collect();
        let attempt =
            |cursor: &mut Cursor<'_>| running.get(cursor.below(running.len())).copied().unwrap_or(AttemptId(99));
        Some(match cursor.byte() {
            0..=24 => Act::Accept(peer(cursor.below(PEERS))),
            25..=27 => Act::Closed(stream(cursor)),
            28..=29 => Act::Gone(peer(cursor.below(PEERS))),
            30..=49 => Act::Timeout,
            50..=52 => Act::Started(attempt(cursor), cursor.number()),
            53..=94 => {
                let n = if cursor.byte() > 10 { 1 + cursor.below(3) as u32 } else { cursor.number() as u32 };
                let text = if cursor.byte() > 10 { cursor.below(16) } else { 8000 + cursor.below(200) };
                let ids = cursor.bit().then(|| if cursor.byte() > 10 { 4 * (n as usize).min(3000) } else { 3 });
                Act::Push(attempt(cursor), n, text, ids)
            }
            95..=104 => {
                use EndReason::*;
                let reasons = [Stop, Length, Context, BadRequest, Engine];
                Act::Finish(attempt(cursor), reasons[cursor.below(5)])
            }
            105..=106 => Act::SetModels(cursor.number()),
            107 => Act::Drain(cursor.number()),
            108 => {
                if cursor.bit() {
                    Act::Close
                } else {
                    Act::ShutDown
                }
            }
            _ => {
                let stream = stream(cursor);
                let mut bytes = Vec::new();
                for _ in 0..=cursor.below(4) {
                    bytes.extend(self.talks.get_mut(&stream)?.say(cursor));
                }
                if cursor.byte() > 240 {
                    bytes.truncate(cursor.below(bytes.len()));
                }
                Act::Received(stream, bytes)
            }
        })
    }

    fn step(&mut self, now: Instant, act: &Act) {
        self.apply(now, act);
        match act {
            Act::Closed(stream) => self.tap.close(*stream),
            Act::Gone(peer) => {
                let gone: Vec<StreamId> = self.tap.streams();
                let gone = gone.into_iter().filter(|stream| self.talks[stream].peer == *peer);
                gone.for_each(|stream| self.tap.close(stream));
            }
            _ => {}
        }
        self.drain();
        assert_eq!(self.machine.open_streams(), self.tap.streams().len(), "a stream was leaked or lost");
        assert_eq!(self.machine.taken_slots() as usize, self.running.len(), "a slot was leaked or lost");
        assert!(self.machine.taken_slots() <= self.service.slots);
        assert!(self.machine.open_streams() <= self.limits.streams as usize);
        assert!(self.machine.open_jobs() <= PEERS * self.limits.jobs_per_peer as usize);
        assert!(self.machine.open_offers() <= self.limits.offers as usize);
        assert_eq!(self.machine.open_jobs(), self.accepted.len(), "a job was accepted or forgotten without a word");
        assert!(self.machine.held_bytes() <= self.limits.node_bytes);
        let advert = self.machine.advert();
        assert!(advert.free <= advert.slots && advert.queued <= self.service.queue);
    }

    /// Hands one act to the machine, and checks what holds drained or not.
    fn apply(&mut self, now: Instant, act: &Act) {
        self.now = self.now.max(now);
        let machine = &mut self.machine;
        match act {
            Act::Accept(peer) => {
                if let Ok(stream) = machine.accept_stream(now, *peer) {
                    self.tap.open(stream);
                    let posted = self.service.models[0].advert.price_out;
                    self.talks.insert(stream, Talk::new(*peer, &self.limits, posted));
                }
            }
            Act::Received(stream, bytes) => machine.handle_input(now, Input::Received(*stream, bytes)),
            Act::Closed(stream) => machine.handle_input(now, Input::StreamClosed(*stream)),
            Act::Gone(peer) => machine.handle_input(now, Input::PeerGone(*peer)),
            Act::Timeout => {
                machine.handle_input(now, Input::Timeout);
                let due = machine.poll_timeout();
                let later = due.is_none_or(|due| due.at > now);
                assert!(later || now == Instant::MAX, "{due:?} was handled at {now:?}");
            }
            Act::Started(attempt, tokens) => machine.started(*attempt, *tokens, None),
            Act::Push(attempt, n, text, ids) => {
                let (text, ids) = ("x".repeat(*text), ids.map(|ids| vec![1; ids]));
                let piece = Piece { n: *n, text: &text, ids: ids.as_deref(), channel: None };
                let _refused = machine.push(now, *attempt, piece);
            }
            Act::Finish(attempt, reason) => {
                if machine.finish(now, *attempt, *reason).is_ok() {
                    self.running.remove(attempt);
                }
            }
            Act::SetModels(price) => {
                machine.set_models(vec![serving(*price, 500)]).unwrap();
                self.service.models = vec![serving(*price, 500)];
            }
            Act::Drain(patience) => machine.drain(now, Millis(*patience)),
            Act::ShutDown => machine.shut_down(now),
            Act::Close => machine.close(now),
        }
    }

    fn drain(&mut self) {
        let Self { machine, tap, talks, started, running, accepted, log, is_rerun, .. } = self;
        while let Some(output) = machine.poll_output() {
            match output {
                Output::Transmit { .. } if *is_rerun => {}
                Output::Transmit { stream, bytes } => {
                    tap.transmit(stream, bytes, |_, message| talks.get_mut(&stream).unwrap().hear(message));
                }
                Output::Close(stream) | Output::Reset(stream) => tap.close(stream),
                Output::Event(event) => {
                    log.push(format!("{event:?}"));
                    match event {
                        ProviderEvent::Start { attempt, .. } => {
                            assert!(started.insert(attempt) && running.insert(attempt), "started twice");
                        }
                        ProviderEvent::Stop { attempt } => assert!(running.remove(&attempt), "stopped twice"),
                        ProviderEvent::Room { attempt, tokens } => {
                            assert!(tokens > 0 && started.contains(&attempt));
                        }
                        ProviderEvent::Accepted { peer, job, attempt, .. } => {
                            assert!(accepted.insert((peer, job, attempt)), "accepted twice");
                        }
                        ProviderEvent::Served { peer, job, attempt, tariff, tokens, acked, owed, .. } => {
                            assert!(accepted.remove(&(peer, job, attempt)), "served twice, or never accepted");
                            assert!(acked <= tokens && owed == tariff.owed(acked));
                        }
                        ProviderEvent::Quoted { .. }
                        | ProviderEvent::Declined { .. }
                        | ProviderEvent::Released { .. } => {}
                    }
                }
                other => panic!("a provider orders {other:?}"),
            }
        }
    }

    /// The network is cut and time passes: nothing is left.
    fn run_out(&mut self, steps: &mut Vec<(Instant, Act)>) {
        for index in 0..PEERS {
            let act = Act::Gone(peer(index));
            self.step(self.now, &act);
            steps.push((self.now, act));
        }
        for _ in 0..2000 {
            let Some(due) = self.machine.poll_timeout().filter(|due| due.at < Instant::MAX) else { break };
            let now = due.at.max(self.now);
            self.step(now, &Act::Timeout);
            steps.push((now, Act::Timeout));
        }
        let machine = &self.machine;
        // At the end of time nothing can become due any more.
        if let Some(due) = machine.poll_timeout() {
            return assert_eq!(due.at, Instant::MAX, "{due:?} is never over");
        }
        assert_eq!((machine.open_jobs(), machine.open_streams(), machine.taken_slots()), (0, 0, 0));
        assert_eq!((machine.held_bytes(), machine.open_offers()), (0, 0), "something is held for nobody");
    }
}

impl Talk {
    fn new(peer: PeerId, limits: &Limits, price: u64) -> Self {
        let fee_in = haggle_core::money::fee_in(price, 4, 64).unwrap_or(0);
        Self {
            peer,
            limits: limits.clone(),
            rfq: Rfq { rfq: 1, model: Model::new(b"m").unwrap(), body_bytes: 256, max_tokens: 8 },
            offer: None,
            posted: Tariff { fee_in, price_out: price },
            job: None,
            body: vec![],
            sent: 0,
            accepted: None,
            chunks: VecDeque::new(),
            acked: 0,
            next: 0,
            ended: false,
        }
    }

    /// Takes note of what the provider wrote: dense chunks within the window, and nothing after the end.
    fn hear(&mut self, message: Message<'_>) {
        match message {
            Message::Offer(offer) => self.offer = Some(offer),
            Message::Decline(decline) => self.offer = decline.offer,
            Message::Accepted(accepted) => {
                assert!(self.job.is_some(), "accepted without an award");
                assert!(accepted.window_tokens <= self.limits.window_tokens);
                assert!(accepted.window_bytes <= self.limits.window_bytes);
                self.accepted = Some(accepted);
                let first = self.job.as_ref().map_or(0, |job| job.prefix_tokens);
                (self.next, self.acked, self.ended) = (first, first, false);
                self.chunks.clear();
            }
            // The stream resumes a job that an earlier one left: its books start here.
            Message::Resumed { next } => {
                assert!(self.accepted.is_none() && !self.ended);
                let (window_tokens, window_bytes) = (self.limits.window_tokens, self.limits.window_bytes);
                self.accepted =
                    Some(Accepted { terms: [0; 32], body_credit: 0, window_tokens, window_bytes, eta: None });
                (self.next, self.acked) = (next, next);
            }
            Message::Chunk { seq, n, text, ids, .. } => {
                let accepted = self.accepted.as_ref().expect("tokens without an award");
                assert!(seq == self.next && !self.ended);
                self.next += u64::from(n);
                let cost = text.len() + ids.map_or(0, <[u8]>::len);
                self.chunks.push_back((self.next, cost as u32 + CHUNK_COST));
                assert!(self.next - self.acked <= u64::from(accepted.window_tokens), "beyond the window");
                let cost: u32 = self.chunks.iter().map(|(_, cost)| cost).sum();
                assert!(cost <= accepted.window_bytes, "beyond the window's bytes");
                let ordered = self.job.as_ref().map_or(u64::MAX, |job| job.max_tokens);
                let first = self.job.as_ref().map_or(0, |job| job.prefix_tokens);
                assert!(self.next - first <= ordered, "more than was ordered");
            }
            // The confirmation of a Cancel, on whichever stream it came.
            Message::End(End { reason: EndReason::Cancelled, .. }) => self.ended = true,
            Message::End(end) => {
                assert!(self.accepted.is_some() && !self.ended, "{end:?} after an end, or without a job");
                match &self.job {
                    Some(job) => assert_eq!(end.tokens, self.next - job.prefix_tokens),
                    // A resumed stream: what was awarded was said on another one.
                    None => assert!(end.tokens <= self.next),
                }
                self.ended = true;
            }
            Message::Advert(_) | Message::Keepalive | Message::Gone(_) => {}
            other => panic!("a provider sent {other:?}"),
        }
    }

    /// Some bytes of a requester: often what fits, sometimes anything.
    fn say(&mut self, cursor: &mut Cursor<'_>) -> Vec<u8> {
        let right = cursor.byte() > 15;
        frame(&match cursor.byte() {
            0..=4 => Message::Describe,
            5..=39 => {
                let body_bytes = 256 * (1 + cursor.below(3) as u64);
                self.rfq = Rfq {
                    rfq: 1 + u64::from(cursor.byte()),
                    body_bytes,
                    max_tokens: cursor.number(),
                    ..self.rfq.clone()
                };
                Message::Rfq(self.rfq.clone())
            }
            40..=59 => {
                let offer = self.offer.as_ref().map_or(1, |offer| offer.offer);
                let tariff = Tariff { fee_in: cursor.number(), price_out: cursor.number() };
                Message::Counter(Counter { rfq: self.rfq.rfq, offer, tariff })
            }
            60..=114 => self.award(cursor, right),
            115..=174 => {
                let offset = if right { self.sent as u64 } else { cursor.number() };
                let rest = self.body.get(self.sent..).unwrap_or_default();
                let piece = rest[..rest.len().min(1 + cursor.below(64))].to_vec();
                self.sent += piece.len();
                return frame(&Message::Body { offset, bytes: &piece });
            }
            175..=214 => self.ack(cursor, right),
            215..=219 => Message::Cancel { job: JobId([cursor.byte() % 4; 16]), attempt: 1, voucher: None },
            220..=229 => Message::Resume {
                job: JobId([cursor.byte() % 4; 16]),
                attempt: 1,
                epoch: 1 + u32::from(cursor.byte()),
                next: u64::from(cursor.byte() % 16),
            },
            230..=234 => Message::Release(ReleaseReason::Price),
            235..=237 => Message::Keepalive,
            238..=240 => Message::Ack { next: self.acked, end: false, voucher: Some(VOUCHER) },
            241..=248 => {
                let len = 1 + cursor.below(40);
                let mut bytes = vec![0, len as u8];
                bytes.extend_from_slice(cursor.bytes(len));
                return bytes;
            }
            _ => {
                let len = cursor.below(20);
                return cursor.bytes(len).to_vec();
            }
        })
    }

    fn ack(&mut self, cursor: &mut Cursor<'_>, right: bool) -> Message<'static> {
        let next = if right {
            self.next - cursor.below(4).min((self.next - self.acked) as usize) as u64
        } else {
            cursor.number()
        };
        if (self.acked..=self.next).contains(&next) {
            self.acked = next;
            while self.chunks.front().is_some_and(|(end, _)| *end <= next) {
                self.chunks.pop_front();
            }
        }
        Message::Ack { next, end: self.ended && cursor.bit(), voucher: None }
    }

    fn award(&mut self, cursor: &mut Cursor<'_>, right: bool) -> Message<'static> {
        let body = vec![b'x'; 1 + cursor.below(60)];
        let offer = self.offer.clone().filter(|_| cursor.bit());
        let award = Award {
            job: JobId([cursor.byte() % 4; 16]),
            attempt: 1,
            epoch: 1 + u32::from(cursor.byte() % 8),
            model: self.rfq.model.clone(),
            offer: offer.as_ref().map(|offer| offer.offer),
            tariff: offer.map_or(self.posted, |offer| offer.tariff),
            max_tokens: if right { self.rfq.max_tokens.clamp(1, 999) } else { cursor.number() },
            kind: [BodyKind::Raw, BodyKind::Raw, BodyKind::Chat, BodyKind::Tokens][cursor.below(4)],
            body_bytes: body.len() as u64,
            body_hash: if right { Sha256::digest(&body).into() } else { [0; 32] },
            prefix_bytes: u64::from(!right),
            prefix_tokens: u64::from(!right),
            overlap: 0,
            sampling: Sampling::default(),
            stop: vec![],
            window_tokens: 8,
            window_bytes: 16_512,
            prefix_id_bytes: None,
            features: None,
            voucher: None,
            choice: None,
        };
        (self.body, self.sent) = (body, 0);
        // What is on the way for an earlier award still counts for it.
        let is_open = self.accepted.is_some();
        let job = self.job.get_or_insert_with(|| award.clone());
        job.max_tokens = award.max_tokens.max(999);
        if !is_open {
            job.prefix_tokens = award.prefix_tokens;
        }
        Message::Award(award)
    }
}
