//! Who buys in a scenario: it knows the provider's advert, and takes an answer token by token.

use haggle_core::{
    Instant, Limits, Millis,
    money::{self, Tariff},
    wire::{
        Message,
        message::{
            Accepted, Advert, Award, BodyKind, Decline, DeclineReason, End, EndReason, Features, ModelAdvert, Offer,
            Rfq, Sampling,
        },
    },
};
use sha2::{Digest, Sha256};

use crate::{
    line::{ANSWER, Frame, Line, SETTLE, is_sign},
    run::Run,
    scenario::Scene,
    stage::{Arrival, Stage, no_message},
    verdict::{Step, demand, unplayed},
};

/// The prompt of every scenario that needs none of its own.
pub(super) const PROMPT: &[u8] = b"Once upon a time, there was a little";
/// A model may have to be loaded, or somebody else's job to end.
const TOKEN: Millis = Millis::from_secs(60);
/// Body bytes that may go out before Accepted.
pub(super) const UNASKED: usize = 32 << 10;
/// Bytes in one Body.
const PIECE: usize = 12 << 10;

#[derive(Clone)]
pub(crate) struct Buyer {
    pub(super) stage: Stage,
    pub(super) model: ModelAdvert,
    /// Jobs that it computes at once.
    pub(super) slots: u32,
}

impl Buyer {
    /// Has the provider describe itself.
    pub(crate) async fn visit(scene: &Scene) -> Step<Self> {
        let line = Line::open(&scene.stage);
        line.say(&Message::Describe);
        let frame = line.frame("C4", "an Advert in answer to Describe").await?;
        let Message::Advert(Advert { models, slots, .. }) = frame.message() else {
            return Err(frame.instead_of("C4", "an Advert in answer to Describe"));
        };
        line.close();
        let wanted = scene.model.as_ref();
        let found = models.into_iter().find(|model| wanted.is_none_or(|wanted| model.model == *wanted));
        let model = found.ok_or_else(|| unplayed("it does not advertise the model that is to be asked for"))?;
        Ok(Self { stage: scene.stage.clone(), model, slots })
    }

    pub(super) fn line(&self) -> Line {
        Line::open(&self.stage)
    }

    /// A request for quote of the usual prompt.
    pub(super) fn rfq(&self, max_tokens: u64) -> Rfq {
        let body_bytes = money::quoted_size(PROMPT.len() as u64);
        Rfq { rfq: self.stage.bits(), model: self.model.model.clone(), body_bytes, max_tokens }
    }

    /// Asks for a price on a line.
    pub(super) async fn offer(&self, line: &Line, max_tokens: u64) -> Step<Offer> {
        let rfq = self.rfq(max_tokens);
        let id = rfq.rfq;
        line.say(&Message::Rfq(rfq));
        let offer = line.offer("N6").await?;
        demand("N4", offer.rfq == id, || format!("an Offer for Rfq {}, not {id}", offer.rfq))?;
        Ok(offer)
    }

    /// The posted price of a body is taken, for a new job.
    pub(super) fn award(&self, body: &[u8], max_tokens: u64) -> Award {
        let ModelAdvert { price_in, price_out, bytes_per_token, .. } = self.model;
        let limits = Limits::default();
        Award {
            job: self.stage.job(),
            attempt: 1,
            epoch: 1,
            model: self.model.model.clone(),
            offer: None,
            // [M2]
            tariff: Tariff {
                fee_in: money::fee_in(price_in, bytes_per_token, body.len() as u64).unwrap_or(u64::MAX),
                price_out,
            },
            max_tokens,
            kind: BodyKind::Raw,
            body_bytes: body.len() as u64,
            body_hash: Sha256::digest(body).into(),
            prefix_bytes: 0,
            prefix_tokens: 0,
            overlap: 0,
            sampling: Sampling { temperature_milli: 0, ..Sampling::default() },
            stop: Vec::new(),
            window_tokens: limits.window_tokens,
            window_bytes: limits.window_bytes,
            prefix_id_bytes: None,
            features: None,
            voucher: None,
            choice: None,
        }
    }

    /// The posted price of a request that uses these features.
    pub(super) fn request(&self, json: &[u8], features: Features, max_tokens: u64) -> Award {
        let features = Some(features);
        Award { kind: BodyKind::Request, features, ..self.award(json, max_tokens) }
    }

    /// The same with an offer.
    pub(super) fn take(&self, offer: &Offer, max_tokens: u64) -> Award {
        Award { offer: Some(offer.offer), tariff: offer.tariff, ..self.award(PROMPT, max_tokens) }
    }

    /// The usual job, whose window holds so many tokens, and how it begins.
    pub(super) async fn answer(&self, max_tokens: u64, window_tokens: u32) -> Step<Answer> {
        Answer::begin(self, Award { window_tokens, ..self.award(PROMPT, max_tokens) }, PROMPT).await
    }
}

/// Says an Award; it is remembered, so that nothing computes on when the scenario is over.
pub(super) fn say_award(line: &Line, award: &Award) {
    line.stage.with(|table| table.awarded.push((award.job, award.attempt)));
    line.say(&Message::Award(award.clone()));
}

/// Says what there is of a body between two places, in pieces.
pub(super) fn say_body(line: &Line, body: &[u8], from: usize, to: usize) {
    let mut offset = from as u64;
    for bytes in body[from..to].chunks(PIECE) {
        line.say(&Message::Body { offset, bytes });
        offset += bytes.len() as u64;
    }
}

/// An attempt that was accepted.
pub(super) struct Answer {
    pub(super) line: Line,
    pub(super) award: Award,
    pub(super) run: Run,
    epoch: u32,
    /// Since when it says Working, and how often it did.
    works: (Instant, u64),
}

impl Answer {
    /// Awards on a new line, sends the body, and takes Accepted.
    pub(super) async fn begin(buyer: &Buyer, award: Award, body: &[u8]) -> Step<Self> {
        let line = buyer.line();
        Self::begin_on(line, award, body).await
    }

    pub(super) async fn begin_on(line: Line, award: Award, body: &[u8]) -> Step<Self> {
        say_award(&line, &award);
        let unasked = body.len().min(UNASKED);
        say_body(&line, body, 0, unasked);
        let accepted = accepted(&line, &award, false).await?;
        say_body(&line, body, unasked, body.len());
        let ids = usize::try_from(award.prefix_id_bytes.unwrap_or(0)).unwrap_or(0);
        let text = &body[..body.len() - ids];
        let prefix = &text[text.len() - usize::try_from(award.prefix_bytes).unwrap_or(0)..];
        let window = (accepted.window_tokens, accepted.window_bytes);
        let run = Run::new(award.prefix_tokens, prefix, award.max_tokens, window);
        Ok(Self::resumed(line, award, run))
    }

    /// One that was accepted under another epoch before.
    pub(super) fn resumed(line: Line, award: Award, run: Run) -> Self {
        let works = (line.stage.with(|table| table.now), 0);
        Self { line, epoch: award.epoch, award, run, works }
    }

    /// The next tokens; `false` if they are over.
    pub(super) async fn more(&mut self) -> Step<bool> {
        let frame = self.line.frame_within("C6", "a Chunk or End", TOKEN).await?;
        self.hear(&frame)
    }

    /// Takes a message; says whether more will come.
    pub(super) fn hear(&mut self, frame: &Frame) -> Step<bool> {
        match frame.message() {
            Message::Chunk { seq, n, text, ids, channel } => {
                self.run.take(&frame.0, (seq, n), (text, ids), channel).map(|()| true)
            }
            Message::End(end) => self.run.finish(end).map(|()| false),
            Message::Working { .. } => self.works().map(|()| true),
            Message::Keepalive => Ok(true),
            _ => Err(frame.instead_of("C1", "a Chunk or End")),
        }
    }

    /// One word of work a second; networks bring some of them together.
    fn works(&mut self) -> Step {
        let (since, said) = &mut self.works;
        *said += 1;
        let seconds = self.line.stage.with(|table| table.now).since(*since).0 / 1_000;
        demand("C7", *said <= seconds + 3, || format!("Working {said} times in {seconds} s"))
    }

    pub(super) fn ack(&mut self, next: u64) {
        self.run.ack(next);
        self.line.say(&Message::Ack { next, end: false, voucher: None });
    }

    /// Takes tokens until at least so many are here.
    pub(super) async fn until(&mut self, tokens: u64) -> Step {
        while self.run.tokens() < tokens {
            if !self.more().await? {
                let came = self.run.tokens();
                let why = format!("its answer has {came} tokens; give it a model that writes at least {tokens}");
                return Err(unplayed(why));
            }
        }
        Ok(())
    }

    /// Takes tokens until no more fit into the window, and some time beyond.
    pub(super) async fn until_full(&mut self) -> Step {
        let window = self.run.room();
        self.until(window).await?;
        while let Some(arrival) = self.line.arrival(SETTLE).await {
            let Arrival::Frame(payload) = arrival else {
                return Err(no_message("W4", "silence: the window is full", Some(arrival)));
            };
            self.hear(&Frame(payload))?;
        }
        Ok(())
    }

    /// Takes all that still comes, acknowledging it, and says how it ended.
    pub(super) async fn read_to_end(&mut self) -> Step<End> {
        loop {
            if let Some(end) = &self.run.end {
                return Ok(end.clone());
            }
            if self.run.room() <= 1 {
                self.ack(self.run.next());
            }
            self.more().await?;
        }
    }

    /// Acknowledges the End.
    pub(super) fn finish(&self) {
        self.line.say(&Message::Ack { next: self.run.next(), end: true, voucher: None });
    }

    /// Loses the stream, and goes on at `next` over another one.
    pub(super) async fn resume(&mut self, buyer: &Buyer, next: u64) -> Step {
        self.line.cut();
        self.reattach(buyer, next).await
    }

    /// Goes on at `next` over another stream; the one before is still there.
    pub(super) async fn reattach(&mut self, buyer: &Buyer, next: u64) -> Step {
        let resume = self.resume_message(next);
        self.line = buyer.line();
        self.line.say(&resume);
        let frame = self.line.frame("R1", "Resumed").await?;
        let Message::Resumed { next: from } = frame.message() else { return Err(frame.instead_of("R1", "Resumed")) };
        demand("R1", from == next, || format!("Resumed at {from} in answer to Resume at {next}"))?;
        self.run.rewind(next);
        Ok(())
    }

    /// A Resume with an epoch that was not there yet.
    pub(super) fn resume_message(&mut self, next: u64) -> Message<'static> {
        self.epoch += 1;
        Message::Resume { job: self.award.job, attempt: self.award.attempt, epoch: self.epoch, next }
    }

    pub(super) fn cancel_message(&self) -> Message<'static> {
        Message::Cancel { job: self.award.job, attempt: self.award.attempt, voucher: None }
    }

    /// The End that confirms a Cancel, on a line; what was written meanwhile may come before it.
    pub(super) async fn cancelled(&mut self, on: &Line) -> Step {
        loop {
            let frame = on.frame("K2", "End {Cancelled}").await?;
            match frame.message() {
                Message::End(end) => {
                    demand("K2", end.reason == EndReason::Cancelled, || {
                        format!("End {{{:?}}} in answer to Cancel", end.reason)
                    })?;
                    return Ok(());
                }
                Message::Chunk { .. } | Message::Keepalive | Message::Working { .. }
                    if on.stream == self.line.stream =>
                {
                    self.hear(&frame)?;
                }
                _ => return Err(frame.instead_of("K2", "End {Cancelled}")),
            }
        }
    }
}

/// Hears Accepted, and checks it against the Award.
pub(super) async fn accepted(line: &Line, award: &Award, is_repeated: bool) -> Step<Accepted> {
    let frame = line.frame_within("A3", "Accepted", ANSWER).await?;
    let accepted = match frame.message() {
        Message::Accepted(accepted) => accepted,
        Message::Decline(Decline { reason: DeclineReason::Stale, .. }) if award.offer.is_none() => {
            return Err(
                frame.instead_of("M2", "Accepted: the posted tariff is the advert's for the body's quoted size")
            );
        }
        message if is_sign(&message) => return Err(frame.instead_of("C1", "Accepted before any sign of life")),
        _ => return Err(frame.instead_of("A3", "Accepted")),
    };
    let mut payload = Vec::new();
    haggle_core::wire::encode(&Message::Award(award.clone()), &mut payload);
    let terms: [u8; 32] = Sha256::digest(&payload).into();
    demand("A8", accepted.terms == terms, || "terms is not the SHA-256 of the Award's payload".into())?;
    let (tokens, bytes) = (accepted.window_tokens, accepted.window_bytes);
    demand("A9", tokens <= award.window_tokens && bytes <= award.window_bytes, || {
        format!("a window of {tokens} tokens and {bytes} bytes: wider than was awarded")
    })?;
    let credit = accepted.body_credit;
    let is_there = is_repeated && credit == 0;
    demand("A5", is_there || credit >= award.body_bytes, || {
        format!("a credit of {credit} for a body of {} bytes", award.body_bytes)
    })?;
    Ok(accepted)
}

/// Cancels what a scenario awarded, so that the provider is free for the next one.
pub(super) async fn cancel_all(stage: &Stage) {
    for (job, attempt) in stage.with(|table| std::mem::take(&mut table.awarded)) {
        let line = Line::open(stage);
        line.say(&Message::Cancel { job, attempt, voucher: None });
        let _ = line.frame("K2", "End or Gone").await;
        line.close();
    }
}
