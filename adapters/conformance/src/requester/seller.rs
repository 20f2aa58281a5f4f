//! Who sells in a scenario: it quotes what it is asked for, and writes an answer of numbered words.

use std::collections::{BTreeMap, BTreeSet};

use haggle_core::{
    Millis, Model, StreamId,
    money::{self, Tariff},
    wire::{
        Message,
        message::{
            Accepted, Advert, Award, Channel, Counter, Decline, DeclineReason, End, EndReason, Exactness, Features,
            GoneReason, ModelAdvert, Offer, Rfq,
        },
    },
};
use sha2::{Digest, Sha256};

use crate::{
    line::{ANSWER, Frame, Line, SETTLE, frame},
    run::{NO_UTF8, TEXT, number},
    scenario::Scene,
    stage::{Arrival, Stage, no_message},
    verdict::{Fault, Step, broken, demand, unplayed},
};

/// A requester has a search to do first.
const JOB: Millis = Millis::from_secs(120);
/// Body bytes that may come before Accepted.
const UNASKED: u64 = 32 << 10;

/// How bids are answered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Bids {
    /// Each with a price that is a little lower.
    Lower,
    /// With a price that is higher.
    Raise,
}

pub(super) struct Seller {
    pub(super) stage: Stage,
    model: Model,
    /// Micro-units for a million tokens, read or written; 0 is free.
    price: u64,
    bids: Bids,
    /// What its engine can do, if it takes requests.
    features: Option<Features>,
    offers: BTreeMap<StreamId, (Offer, u32)>,
    /// Streams on which an Award was declined: its body may be on its way.
    declined: BTreeSet<StreamId>,
    /// Bids that were made.
    pub(super) counters: u32,
    /// The name of the job, when it is known, with the last attempt.
    pub(super) named: Option<(haggle_core::JobId, u32)>,
}

impl Seller {
    pub(super) fn new(scene: Scene) -> Step<Self> {
        let model = scene.model.ok_or_else(|| unplayed("no model was named to be sold"))?;
        let (offers, stage) = (BTreeMap::new(), scene.stage);
        let declined = BTreeSet::new();
        Ok(Self {
            stage,
            model,
            price: 0,
            bids: Bids::Lower,
            features: None,
            offers,
            declined,
            counters: 0,
            named: None,
        })
    }

    /// It is not free, and answers bids.
    pub(super) fn haggling(self, bids: Bids) -> Self {
        Self { price: 1_000_000, bids, ..self }
    }

    /// It takes requests, and tells more of itself than this version knows.
    pub(super) fn able(self, features: Features) -> Self {
        Self { features: Some(features), ..self }
    }

    fn advert(&self) -> Message<'static> {
        let model = ModelAdvert {
            model: self.model.clone(),
            aliases: Vec::new(),
            context: 1 << 20,
            price_in: self.price,
            bytes_per_token: 4,
            price_out: self.price,
            eta: Millis(100),
            can_continue: true,
            exactness: Exactness::default(),
            features: self.features,
            longest: self.features.map(|_| 1 << 16),
            price_part: self.features.map(|_| 0),
        };
        Message::Advert(Advert { models: vec![model], slots: 1, free: 1, queued: 0, methods: None })
    }

    fn posted(&self, body_bytes: u64) -> Tariff {
        let fee_in = money::fee_in(self.price, 4, body_bytes).unwrap_or(u64::MAX);
        Tariff { fee_in, price_out: self.price }
    }

    /// An offer with an id of its own.
    pub(super) fn offer(&self, rfq: u64, tariff: Tariff) -> Offer {
        Offer {
            rfq,
            offer: self.stage.bits(),
            tariff,
            eta: Millis(100),
            expires_in: Millis::from_secs(60),
            methods: None,
        }
    }

    /// Describes itself and quotes until an Award comes.
    pub(super) async fn award(&mut self) -> Step<Deal> {
        self.award_within(JOB).await?.ok_or_else(|| unplayed("no job came"))
    }

    /// The same, if one comes in time.
    pub(super) async fn award_within(&mut self, patience: Millis) -> Step<Option<Deal>> {
        while let Some((stream, arrival)) = self.stage.arrival(None, patience).await {
            let line = Line { stage: self.stage.clone(), stream };
            let payload = match arrival {
                Arrival::Frame(payload) => payload,
                Arrival::Wrong(wrong) => return Err(Fault::Broken(wrong)),
                Arrival::Over => continue,
            };
            let frame = Frame(payload);
            match frame.message() {
                Message::Describe => line.say(&self.advert()),
                Message::Rfq(rfq) => self.on_rfq(&line, &rfq)?,
                Message::Counter(counter) => self.on_counter(&line, &counter)?,
                Message::Release(_) => drop(self.offers.remove(&stream)),
                Message::Award(award) => return self.on_award(line, award, &frame.0).map(Some),
                Message::Cancel { .. } => line.say(&Message::Gone(GoneReason::Unknown)),
                Message::Body { .. } if self.declined.contains(&stream) => {}
                Message::Body { .. } => return Err(broken("A1", "a Body without an Award")),
                _ => return Err(frame.instead_of("C1", "a message that asks, bids or awards")),
            }
        }
        Ok(None)
    }

    fn on_rfq(&mut self, line: &Line, rfq: &Rfq) -> Step {
        demand("N1", rfq.model == self.model, || format!("an Rfq for {:?}", rfq.model))?;
        let offer = self.offer(rfq.rfq, self.posted(rfq.body_bytes));
        line.say(&Message::Offer(offer.clone()));
        self.offers.insert(line.stream, (offer, 0));
        Ok(())
    }

    fn on_counter(&mut self, line: &Line, counter: &Counter) -> Step {
        let Some((last, made)) = self.offers.get(&line.stream).cloned() else {
            return Err(broken("N3", "a Counter where nothing was offered"));
        };
        demand("N3", counter.offer == last.offer && counter.rfq == last.rfq, || {
            format!("a Counter to offer {}, not to the last one, {}", counter.offer, last.offer)
        })?;
        demand("N3", made < 2, || "a third Counter".into())?;
        self.counters += 1;
        let Tariff { fee_in, price_out } = last.tariff;
        let tariff = match self.bids {
            Bids::Lower => Tariff { fee_in, price_out: price_out - price_out / 100 },
            Bids::Raise => Tariff { fee_in, price_out: price_out + 1 },
        };
        let offer = self.offer(last.rfq, tariff);
        line.say(&Message::Offer(offer.clone()));
        self.offers.insert(line.stream, (offer, made + 1));
        Ok(())
    }

    fn on_award(&mut self, line: Line, award: Award, payload: &[u8]) -> Step<Deal> {
        demand("A2", award.model == self.model, || format!("an Award for {:?}", award.model))?;
        let wanted = match award.offer {
            None => Some(self.posted(award.body_bytes)),
            // Whoever was declined may come with that offer on another stream.
            Some(id) => self.offers.values().find(|(offer, _)| offer.offer == id).map(|(offer, _)| offer.tariff),
        };
        demand("A2", wanted == Some(award.tariff), || match (award.offer, wanted) {
            (Some(id), None) => format!("offer {id} is awarded, which nobody made or which was bid on"),
            _ => format!("{:?} is awarded, and {wanted:?} was offered", award.tariff),
        })?;
        let named = (award.job, award.attempt);
        let again = self.named == Some(named);
        demand("A3", again || award.epoch == 1, || format!("the first Award has epoch {}", award.epoch))?;
        if let Some((job, attempt)) = self.named {
            demand("A3", award.job != job || award.attempt >= attempt, || format!("attempt {}", award.attempt))?;
        }
        self.named = Some(named);
        Ok(Deal::new(line, award, payload))
    }

    /// Declines an Award, with an offer that binds if there is one.
    pub(super) fn decline(&mut self, deal: &Deal, reason: DeclineReason, offer: Option<Offer>) {
        let stream = deal.line.stream;
        self.declined.insert(stream);
        if let Some(offer) = &offer {
            self.offers.insert(stream, (offer.clone(), 2));
        }
        deal.line.say(&decline(reason, offer));
    }

    /// The next message that begins one of these on any stream, while Describe is answered as ever.
    pub(super) async fn first(&self, rule: &'static str, wanted: &str, patience: Millis) -> Step<(Line, Frame)> {
        loop {
            let arrival = self.stage.arrival(None, patience).await;
            let Some((stream, Arrival::Frame(payload))) = arrival else {
                match arrival {
                    Some((_, Arrival::Over)) => continue,
                    other => return Err(no_message(rule, wanted, other.map(|(_, arrival)| arrival))),
                }
            };
            let line = Line { stage: self.stage.clone(), stream };
            let frame = Frame(payload);
            match frame.message() {
                Message::Describe => line.say(&self.advert()),
                _ => return Ok((line, frame)),
            }
        }
    }
}

/// Whoever still asks when all is said is told so, and nothing computes or waits for long.
pub(super) async fn farewell(stage: Stage) {
    loop {
        let Some((stream, Arrival::Frame(payload))) = stage.arrival(None, JOB).await else { continue };
        let line = Line { stage: stage.clone(), stream };
        match Frame(payload).message() {
            Message::Cancel { .. } | Message::Resume { .. } => line.say(&Message::Gone(GoneReason::Unknown)),
            Message::Award(_) | Message::Rfq(_) => line.say(&decline(DeclineReason::Draining, None)),
            _ => continue,
        }
        line.close();
    }
}

fn decline(reason: DeclineReason, offer: Option<Offer>) -> Message<'static> {
    Message::Decline(Decline { reason, retry_after: None, offer, shown: None })
}

/// A job that was awarded.
pub(super) struct Deal {
    pub(super) line: Line,
    pub(super) award: Award,
    terms: [u8; 32],
    pub(super) body: Vec<u8>,
    /// What is hashed of the run.
    text: Vec<u8>,
    channel: u8,
    next: u64,
    acked: u64,
}

impl Deal {
    fn new(line: Line, award: Award, payload: &[u8]) -> Self {
        let (next, terms) = (award.prefix_tokens, Sha256::digest(payload).into());
        Self { line, award, terms, body: Vec::new(), text: Vec::new(), channel: TEXT, next, acked: next }
    }

    pub(super) fn accepted(&self) -> Accepted {
        let Award { body_bytes, window_tokens, window_bytes, .. } = self.award;
        Accepted { terms: self.terms, body_credit: body_bytes, window_tokens, window_bytes, eta: None }
    }

    /// Accepts, and takes the whole body.
    pub(super) async fn accept(&mut self) -> Step {
        self.line.say(&Message::Accepted(self.accepted()));
        self.whole_body().await
    }

    pub(super) async fn whole_body(&mut self) -> Step {
        while (self.body.len() as u64) < self.award.body_bytes {
            let frame = self.line.frame("A4", "the rest of the body").await?;
            self.take_body(&frame)?;
        }
        let hash: [u8; 32] = Sha256::digest(&self.body).into();
        demand("A4", hash == self.award.body_hash, || "body_hash is not the body's SHA-256".into())
    }

    fn take_body(&mut self, frame: &Frame) -> Step {
        let Message::Body { offset, bytes } = frame.message() else {
            return Err(frame.instead_of("C1", "a piece of the body"));
        };
        let here = self.body.len() as u64;
        demand("A4", offset == here, || format!("a piece of the body at {offset}, not at {here}"))?;
        self.body.extend_from_slice(bytes);
        let here = self.body.len() as u64;
        demand("A4", here <= self.award.body_bytes, || format!("{here} bytes of a body of {}", self.award.body_bytes))
    }

    /// Takes what comes of the body before Accepted, and some time beyond.
    pub(super) async fn unasked_body(&mut self) -> Step {
        while let Some(arrival) = self.line.arrival(SETTLE).await {
            let Arrival::Frame(payload) = arrival else { return Err(no_message("A5", "silence", Some(arrival))) };
            self.take_body(&Frame(payload))?;
            let here = self.body.len() as u64;
            demand("A5", here <= UNASKED, || format!("{here} bytes of the body before Accepted"))?;
        }
        Ok(())
    }

    /// The next chunk, of one token.
    pub(super) fn chunk(&mut self) -> Vec<u8> {
        let text = format!(" w{}", self.next);
        self.piece(&text, None)
    }

    /// The next chunk, of one token in a channel.
    pub(super) fn piece(&mut self, text: &str, channel: Option<Channel>) -> Vec<u8> {
        let chunk = frame(&Message::Chunk { seq: self.next, n: 1, text, ids: None, channel });
        self.next += 1;
        if number(channel) != self.channel {
            self.channel = number(channel);
            self.text.extend([NO_UTF8, self.channel]);
        }
        self.text.extend_from_slice(text.as_bytes());
        chunk
    }

    /// Writes a token in a channel.
    pub(super) fn tell(&mut self, text: &str, channel: Option<Channel>) {
        let chunk = self.piece(text, channel);
        self.line.send(&chunk);
    }

    /// Writes some tokens.
    pub(super) fn write(&mut self, tokens: u64) {
        for _ in 0..tokens {
            let chunk = self.chunk();
            self.line.send(&chunk);
        }
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The End that is due.
    pub(super) fn end(&self, reason: EndReason) -> End {
        let text = self.award.prefix_bytes + self.award.prefix_id_bytes.unwrap_or(0);
        let from = self.body.len().saturating_sub(usize::try_from(text).unwrap_or(usize::MAX));
        let to = from + usize::try_from(self.award.prefix_bytes).unwrap_or(0);
        let prefix = self.body.get(from..to).unwrap_or_default();
        let hash = Sha256::new().chain_update(prefix).chain_update(&self.text).finalize().into();
        End {
            reason,
            prompt_tokens: 0,
            tokens: self.next - self.award.prefix_tokens,
            hash,
            thought: None,
            cached: None,
            receipt: None,
        }
    }

    /// Writes End, and hears that it was received.
    pub(super) async fn finish(&mut self) -> Step {
        self.line.say(&Message::End(self.end(EndReason::Stop)));
        self.received().await
    }

    /// Writes an End, and hears that it was received.
    pub(super) async fn finish_with(&mut self, end: End) -> Step {
        self.line.say(&Message::End(end));
        self.received_by("X1").await
    }

    /// The requester has seen nothing wrong: for a moment the stream is still there.
    pub(super) async fn lives(&mut self, rule: &'static str, after: &str) -> Step {
        match self.line.arrival(SETTLE).await {
            None => Ok(()),
            Some(Arrival::Frame(payload))
                if matches!(Frame(payload.clone()).message(), Message::Ack { end: false, .. }) =>
            {
                Ok(())
            }
            other => Err(no_message(rule, &format!("its patience after {after}"), other)),
        }
    }

    pub(super) async fn received(&mut self) -> Step {
        self.received_by("X3").await
    }

    /// The same, where it is by another rule that an End may be taken for a wrong one.
    pub(super) async fn received_by(&mut self, rule: &'static str) -> Step {
        loop {
            if self.ack(rule, "Ack {end}").await? {
                let next = self.acked;
                demand("X3", next == self.next, || format!("Ack {{end}} with next {next}, not {}", self.next))?;
                self.line.close();
                return Ok(());
            }
        }
    }

    /// The next Ack; says whether it is the last.
    async fn ack(&mut self, rule: &'static str, wanted: &str) -> Step<bool> {
        let frame = self.line.frame_within(rule, wanted, Millis::from_secs(15)).await?;
        let Message::Ack { next, end, .. } = frame.message() else { return Err(frame.instead_of(rule, wanted)) };
        demand("W5", (self.acked..=self.next).contains(&next), || {
            format!("an Ack of {next} after {}, where {} tokens were sent", self.acked, self.next)
        })?;
        self.acked = next;
        Ok(end)
    }

    /// Hears Acks until so many tokens are acknowledged.
    pub(super) async fn acked(&mut self, next: u64) -> Step {
        while self.acked < next {
            let end = self.ack("W6", "an Ack of what was consumed").await?;
            demand("X3", !end, || "Ack {end} before End".into())?;
        }
        Ok(())
    }

    /// One Ack at least, whatever it says.
    pub(super) async fn sign(&mut self) -> Step {
        self.ack("W6", "an Ack as a sign of life").await.map(|_| ())
    }

    /// The requester has seen a violation: it ends the stream, or says Cancel; what was on its way may come before.
    pub(super) async fn abandoned(&self, rule: &'static str, after: &str) -> Step {
        loop {
            match self.line.arrival(ANSWER).await {
                Some(Arrival::Over) => return Ok(()),
                Some(Arrival::Frame(payload)) => {
                    let frame = Frame(payload);
                    match frame.message() {
                        Message::Ack { end: false, .. } | Message::Body { .. } => {}
                        Message::Cancel { .. } => return Ok(()),
                        message => return Err(broken(rule, format!("{message:?} after {after}"))),
                    }
                }
                other => return Err(no_message(rule, &format!("the stream's end after {after}"), other)),
            }
        }
    }

    /// The job's stream is cut, as by a network.
    pub(super) fn cut(&self) {
        self.line.cut();
    }

    /// Goes on, on the stream of a Resume, where it says.
    pub(super) fn moved(&mut self, line: Line) {
        self.line = line;
    }
}
