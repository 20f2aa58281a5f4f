//! Who buys.

use crate::{
    event::{Bill, Event},
    id::{JobId, PeerId},
    limits::{ConfigError, Limits, Policy},
    machine::{Input, Machine, Output, Timeout},
    money::Amount,
    rand::Rng,
    refusal::Refusal,
    spec::{Criteria, JobSpec, QuoteSpec},
    time::{Instant, Millis},
};

/// Finds providers, agrees a price with one, takes its tokens. See [`Machine`] for how to run it.
#[derive(Clone, Debug)]
pub struct Requester {
    rng: Rng,
}

impl Requester {
    /// A requester without jobs. `seed` is fresh from the operating system at every start, fixed only in tests:
    /// a reused seed would mint the same job ids.
    ///
    /// # Errors
    /// The first setting that can not work.
    pub fn new(policy: Policy, limits: Limits, seed: [u8; 32]) -> Result<Self, ConfigError> {
        policy.validate()?;
        limits.validate()?;
        Ok(Self { rng: Rng::new(seed) })
    }

    /// Starts a job.
    ///
    /// # Errors
    /// Why it was refused; nothing was started.
    pub fn submit(&mut self, now: Instant, spec: JobSpec) -> Result<JobId, Refusal> {
        let _ = (now, spec);
        Ok(JobId(self.rng.bytes()))
    }

    /// Asks for prices, awards nothing. Ends with [`crate::event::Finished::Quotes`].
    ///
    /// # Errors
    /// Why it was refused; nothing was started.
    pub fn quote(&mut self, now: Instant, spec: QuoteSpec) -> Result<JobId, Refusal> {
        let _ = (now, spec);
        Ok(JobId(self.rng.bytes()))
    }

    /// Asks who serves a model. Ends with [`crate::event::Finished::Providers`].
    ///
    /// # Errors
    /// Why it was refused; nothing was started.
    pub fn discover(&mut self, now: Instant, criteria: Criteria, deadline: Option<Millis>) -> Result<JobId, Refusal> {
        let _ = (now, criteria, deadline);
        Ok(JobId(self.rng.bytes()))
    }

    /// Chooses an offer for a job with [`crate::spec::Choose::Application`], after [`Event::ChoiceDue`].
    ///
    /// # Errors
    /// The job does not wait for a choice, or the peer made no acceptable offer.
    pub fn award(&mut self, now: Instant, job: JobId, peer: PeerId) -> Result<(), Refusal> {
        let _ = (now, job, peer);
        Ok(())
    }

    /// Ends a job for the application at once.
    ///
    /// # Errors
    /// The job is not known, or over.
    pub fn cancel(&mut self, now: Instant, job: JobId) -> Result<(), Refusal> {
        let _ = (now, job);
        Ok(())
    }

    /// The application has taken `tokens` further tokens of a job: the window moves. Ignored when the job is over.
    pub fn consumed(&mut self, now: Instant, job: JobId, tokens: u64) {
        let _ = (now, job, tokens);
    }

    /// Bounds what all jobs together may come to owe; `None` leaves it to each job's budget.
    pub fn set_account_budget(&mut self, budget: Option<Amount>) {
        let _ = budget;
    }

    /// What a job costs so far; `None` once it is over.
    #[must_use]
    pub fn bill(&self, job: JobId) -> Option<Bill> {
        let _ = job;
        None
    }

    /// Jobs that are open.
    #[must_use]
    pub fn open_jobs(&self) -> usize {
        0
    }

    /// A digest of the whole state, times relative to `now`: equal states digest equally on every target.
    #[must_use]
    pub fn digest(&self, now: Instant) -> [u8; 32] {
        let _ = now;
        [0; 32]
    }
}

impl Machine for Requester {
    type Event<'a> = Event<'a>;

    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        let _ = (now, input);
    }

    fn poll_output(&mut self) -> Option<Output<'_, Event<'_>>> {
        None
    }

    fn poll_timeout(&self) -> Option<Timeout> {
        None
    }
}
