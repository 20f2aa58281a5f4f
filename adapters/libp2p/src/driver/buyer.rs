//! What handles ask of a requester, wherever that lives.

use haggle_core::{
    Criteria, Instant, JobId, JobSpec, Millis, PeerId, Refusal, Requester, money::Amount, peers::book::Reliability,
    spec::QuoteSpec,
};
use haggle_flight::Recorded;

/// A requester at this moment. The methods are the core's.
pub(crate) trait Buyer {
    fn submit(&mut self, spec: JobSpec) -> Result<JobId, Refusal>;
    fn quote(&mut self, spec: QuoteSpec) -> Result<JobId, Refusal>;
    fn discover(&mut self, criteria: Criteria, deadline: Option<Millis>) -> Result<JobId, Refusal>;
    fn award(&mut self, job: JobId, peer: PeerId) -> Result<(), Refusal>;
    /// A job that is over needs none.
    fn cancel(&mut self, job: JobId);
    fn consumed(&mut self, job: JobId, tokens: u64);
    fn concluded(&mut self, job: JobId);
    fn set_account_budget(&mut self, budget: Option<Amount>);
    fn reliability(&self, peer: &PeerId) -> Option<Reliability>;
    fn ban(&mut self, peer: PeerId) -> Result<(), Refusal>;
    fn allow(&mut self, peer: &PeerId);
}

/// The requester of a driver, and what its clock shows.
pub(super) struct Own<'a>(pub(super) &'a mut Recorded<Requester>, pub(super) Instant);

impl Buyer for Own<'_> {
    fn submit(&mut self, spec: JobSpec) -> Result<JobId, Refusal> {
        self.0.submit(self.1, spec)
    }

    fn quote(&mut self, spec: QuoteSpec) -> Result<JobId, Refusal> {
        self.0.quote(self.1, spec)
    }

    fn discover(&mut self, criteria: Criteria, deadline: Option<Millis>) -> Result<JobId, Refusal> {
        self.0.discover(self.1, criteria, deadline)
    }

    fn award(&mut self, job: JobId, peer: PeerId) -> Result<(), Refusal> {
        self.0.award(self.1, job, peer)
    }

    fn cancel(&mut self, job: JobId) {
        let _ = self.0.cancel(self.1, job);
    }

    fn consumed(&mut self, job: JobId, tokens: u64) {
        self.0.consumed(self.1, job, tokens);
    }

    fn concluded(&mut self, job: JobId) {
        self.0.concluded(job);
    }

    fn set_account_budget(&mut self, budget: Option<Amount>) {
        self.0.set_account_budget(budget);
    }

    fn reliability(&self, peer: &PeerId) -> Option<Reliability> {
        self.0.reliability(self.1, peer)
    }

    fn ban(&mut self, peer: PeerId) -> Result<(), Refusal> {
        self.0.ban(peer)
    }

    fn allow(&mut self, peer: &PeerId) {
        self.0.allow(peer);
    }
}
