//! One answer of the server, stepped.

use std::{sync::Arc, time::Instant};

use crate::{Failure, Generation, Outage, Phase, Step, Why};

use super::{
    answer::{Answer, Asked},
    dialect::{Post, Spared},
    error::ErrorBody,
    health::{Flight, Health},
    http::{Client, Connection, Received},
    notice::{Notice, Notices},
    refusal::{self, Refusal},
};

/// What an answer needs of its server.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) client: Arc<Client>,
    pub(super) health: Arc<Health>,
    pub(super) spared: Arc<Spared>,
    pub(super) notices: Arc<Notices>,
    /// The model that is asked for.
    pub(super) model: String,
}

/// An answer in the making: bytes come from a thread that reads them, and are turned into steps here. Dropping it closes
/// the connection.
#[derive(Debug)]
pub(super) struct Upstreaming {
    server: Server,
    asked: Asked,
    post: Post,
    /// `None` once the answer is over, and so the next.
    connection: Option<Connection>,
    flight: Option<Flight>,
    /// Once the server has taken the request.
    answer: Option<Answer>,
    begun: bool,
    /// The server may have to load its model first.
    cold: bool,
    since: Instant,
    /// Since when there is nothing to read.
    silent: Option<Instant>,
    ending: Option<Step>,
}

impl Upstreaming {
    /// Asks the server.
    ///
    /// # Errors
    /// [`Why::Unavailable`] if too many connections are open, or the system gives no thread.
    pub(super) fn start(server: Server, asked: Asked, post: Post) -> Result<Self, Failure> {
        let cold = server.health.is_cold();
        let (connection, flight) = (connect(&server.client, &post)?, server.health.begin());
        Ok(Self {
            server,
            asked,
            post,
            connection: Some(connection),
            flight: Some(flight),
            answer: None,
            begun: false,
            cold,
            since: Instant::now(),
            silent: None,
            ending: None,
        })
    }

    fn end(&mut self, step: Step) -> Step {
        // Whatever the server still computes, nobody reads it.
        self.connection = None;
        self.flight = None;
        self.answer = None;
        self.ending = Some(step.clone());
        step
    }

    fn refused(&mut self, Refusal { failure, outage }: Refusal) -> Step {
        let (health, now) = (self.server.health.clone(), Instant::now());
        let step = self.end(Step::Failed(failure.clone()));
        match outage {
            Some(outage) if failure.why == Why::Engine => health.mark_broken(outage, now),
            Some(outage) => health.mark_out(outage),
            None if matches!(failure.why, Why::ContextOverflow | Why::Unavailable) => {}
            None => health.count_failure(&failure, now),
        }
        step
    }

    /// A page that is not there is the wrong address, where no word of the server's says that it is something else. Some have
    /// none for texts, and write conversations all the same.
    fn doubted(&self, status: u16, refusal: Refusal) -> Refusal {
        let is_doubtful = matches!(status, 404 | 405) && refusal.outage.is_none() && refusal.failure.why == Why::Engine;
        if !is_doubtful || self.asked.is_text {
            return refusal;
        }
        let base = self.server.client.base();
        let url = format!("{base}{}", self.post.path);
        match self.server.health.doubts(&url, base, status) {
            Some(Outage { lasts, detail }) => Refusal::of_server(Why::Engine, lasts, detail),
            None => refusal,
        }
    }

    /// The server did not take the request: it is asked again without what it names, if nobody asked for that.
    fn not_taken(&mut self, refusal: Refusal, error: &ErrorBody) -> Step {
        let is_of_request =
            matches!(refusal.failure.why, Why::BadRequest | Why::Unavailable) && refusal.outage.is_none();
        self.server.notices.tell_words(&error.words);
        let Some(extra) = is_of_request.then(|| self.post.spare(error, &self.server.spared)).flatten() else {
            return self.refused(refusal);
        };
        self.server.notices.tell(&Notice::LeftOut(extra.field()));
        match connect(&self.server.client, &self.post) {
            Ok(connection) => self.connection = Some(connection),
            Err(failure) => return self.refused(Refusal { failure, outage: None }),
        }
        Step::Working
    }

    /// The connection failed before anything came: the server is looked at at once, and believed what that shows.
    fn dropped(&mut self, detail: &str) -> Step {
        let failure = Failure::new(Why::Unavailable, format!("the upstream server cannot be reached: {detail}"));
        let health = self.server.health.clone();
        let step = self.end(Step::Failed(failure.clone()));
        health.count_failure(&failure, Instant::now());
        step
    }

    /// The next step of what has come so far.
    fn ready(&mut self) -> Option<Step> {
        let answer = self.answer.as_mut()?;
        let step = answer.step()?;
        Some(match step {
            Step::Failed(failure) => {
                let outage = answer.outage().cloned();
                if let Some(words) = answer.words() {
                    self.server.notices.tell_words(words);
                }
                self.refused(Refusal { failure, outage })
            }
            Step::Done(_) => self.end(step),
            Step::Piece(_) if !self.begun => {
                self.begun = true;
                if let Some(model) = answer.model() {
                    self.server.notices.tell_of_model(&self.server.model, model);
                }
                self.server.health.count_answer(self.since.elapsed());
                step
            }
            step => step,
        })
    }

    /// Nothing has come: how long yet?
    fn wait(&mut self) -> Step {
        let finished = self.answer.as_ref().is_some_and(Answer::is_finished);
        let patience = self.server.client.patience();
        let patience = match (finished, self.begun) {
            (true, _) => patience.usage,
            (false, true) => patience.gap,
            (false, false) => patience.first_token,
        };
        if self.silent.get_or_insert_with(Instant::now).elapsed() < patience {
            return Step::Waiting;
        }
        match self.answer.as_mut().filter(|_| finished) {
            Some(answer) => answer.end(Some("it is silent")),
            None => {
                let detail = format!("the upstream server was silent for {} s", patience.as_secs());
                return self.fail(Failure::new(Why::Engine, detail));
            }
        }
        Step::Working
    }

    /// What was held back is delivered before the failure.
    fn fail(&mut self, failure: Failure) -> Step {
        match &mut self.answer {
            Some(answer) => {
                answer.fail(failure);
                Step::Working
            }
            None => self.refused(Refusal { failure, outage: None }),
        }
    }
}

impl Generation for Upstreaming {
    /// Waits for nothing. The budget is the server's affair.
    fn step(&mut self, _budget: u32) -> Step {
        if let Some(ending) = &self.ending {
            return ending.clone();
        }
        if let Some(step) = self.ready() {
            return step;
        }
        let Some(received) = self.connection.as_ref().and_then(Connection::receive) else { return self.wait() };
        self.silent = None;
        match received {
            Received::Head => self.answer = Some(Answer::new(self.asked.clone())),
            Received::Bytes(bytes) => {
                self.server.health.note_bytes();
                self.answer.iter_mut().for_each(|answer| answer.feed(&bytes));
            }
            Received::End(broken) => self.answer.iter_mut().for_each(|answer| answer.end(broken.as_deref())),
            Received::Refused { status, retry_after, body } => {
                let error = ErrorBody::read(&body).about(&self.post.bytes());
                let refusal = refusal::of_status(status, retry_after, &error);
                return self.not_taken(self.doubted(status, refusal), &error);
            }
            Received::Packed(how) => {
                let detail = format!("the upstream server packs its answer in a way that is not known here: {how}");
                return self.fail(Failure::new(Why::Engine, detail));
            }
            Received::Failed { detail, .. } if self.answer.is_some() => {
                return self.fail(Failure::new(Why::Engine, format!("the upstream server's answer is lost: {detail}")));
            }
            Received::Failed { silent: true, .. } => {
                let seconds = self.server.client.patience().first_token.as_secs();
                let detail = format!("the upstream server said nothing for {seconds} s");
                return self.fail(Failure::new(Why::Engine, detail));
            }
            Received::Failed { detail, .. } => return self.dropped(&detail),
        }
        self.ready().unwrap_or(Step::Working)
    }

    fn phase(&self) -> Phase {
        match &self.answer {
            Some(answer) if answer.is_thinking() => Phase::Thinking,
            _ if self.begun => Phase::Writing,
            None if self.cold => Phase::Loading,
            None => Phase::Queued,
            Some(_) => Phase::Reading,
        }
    }
}

fn connect(client: &Client, post: &Post) -> Result<Connection, Failure> {
    let none = |detail: String| Failure::new(Why::Unavailable, detail);
    let connection = client.post(post).map_err(|error| none(format!("the system gives no thread: {error}")))?;
    connection.ok_or_else(|| none("too many connections to the upstream server are open".into()))
}
