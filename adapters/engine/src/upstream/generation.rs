//! One answer of the server, stepped.

use std::{sync::Arc, time::Instant};

use crate::{Failure, Generation, Step, Why};

use super::{
    Patience,
    answer::{Answer, Asked},
    health::Health,
    http::{Connection, Received},
    refusal::{self, Refusal},
};

/// An answer in the making: bytes come from a thread that reads them, and are turned into steps here. Dropping it closes
/// the connection.
#[derive(Debug)]
pub(super) struct Upstreaming {
    health: Arc<Health>,
    patience: Patience,
    asked: Asked,
    /// `None` once the answer is over.
    connection: Option<Connection>,
    /// Once the server has taken the request.
    answer: Option<Answer>,
    begun: bool,
    /// Since when there is nothing to read.
    silent: Option<Instant>,
    ending: Option<Step>,
}

impl Upstreaming {
    pub(super) fn new(health: Arc<Health>, patience: Patience, asked: Asked, connection: Connection) -> Self {
        let connection = Some(connection);
        Self { health, patience, asked, connection, answer: None, begun: false, silent: None, ending: None }
    }

    fn end(&mut self, step: Step) -> Step {
        // Whatever the server still computes, nobody reads it.
        self.connection = None;
        self.answer = None;
        self.ending = Some(step.clone());
        step
    }

    fn refused(&mut self, refusal: Refusal) -> Step {
        match refusal.outage {
            Some(outage) if refusal.failure.why == Why::Engine => self.health.is_broken(outage, Instant::now()),
            Some(outage) => self.health.is_out(outage),
            None if refusal.failure.why.another_may_help() => self.health.suspect(),
            None => {}
        }
        self.end(Step::Failed(refusal.failure))
    }

    /// The next step of what has come so far.
    fn ready(&mut self) -> Option<Step> {
        let step = self.answer.as_mut()?.step()?;
        Some(match step {
            Step::Failed(failure) => self.refused(Refusal { failure, outage: None }),
            Step::Done(_) => self.end(step),
            step => {
                self.begun |= matches!(step, Step::Piece(_));
                step
            }
        })
    }

    /// Nothing has come: how long yet?
    fn wait(&mut self) -> Step {
        let finished = self.answer.as_ref().is_some_and(Answer::is_finished);
        let patience = match (finished, self.begun) {
            (true, _) => self.patience.usage,
            (false, true) => self.patience.gap,
            (false, false) => self.patience.first_token,
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
            Received::Head { whole } => {
                self.health.takes_jobs();
                self.answer = Some(Answer::new(self.asked.clone(), whole));
            }
            Received::Bytes(bytes) => self.answer.iter_mut().for_each(|answer| answer.feed(&bytes)),
            Received::End(broken) => self.answer.iter_mut().for_each(|answer| answer.end(broken.as_deref())),
            Received::Refused { status, retry_after, body } => {
                return self.refused(refusal::of_status(status, retry_after, &body));
            }
            Received::Failed { detail, .. } if self.answer.is_some() => {
                return self.fail(Failure::new(Why::Engine, format!("the upstream server's answer is lost: {detail}")));
            }
            Received::Failed { silent: true, .. } => {
                let seconds = self.patience.first_token.as_secs();
                let detail = format!("the upstream server said nothing for {seconds} s");
                return self.fail(Failure::new(Why::Engine, detail));
            }
            Received::Failed { detail, .. } => {
                let detail = format!("the upstream server cannot be reached: {detail}");
                return self.refused(Refusal::of_server(Why::Unavailable, self.patience.probe_every, detail));
            }
        }
        self.ready().unwrap_or(Step::Working)
    }
}
