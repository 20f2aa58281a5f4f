//! How jobs are written down.

use alloc::{string::String, vec::Vec};

use minicbor::{Decode, Encode};

use crate::{
    event::{Interrupted, TakeOver},
    id::{JobId, PeerId},
    limits::Policy,
    money::Amount,
    snapshot::{SnapshotError, require},
    spec::{Choose, Criteria, Failover, Haggle},
    time::Instant,
    wire::message::{BodyKind, MAX_STOP_BYTES, MAX_STOPS, Sampling},
};

use super::{
    super::{
        attempt,
        job::{Answer, Goal, Job, JobState, Negotiation, NegotiationState},
        transcript::Transcript,
    },
    LOST,
    lines::{MAX_LINES, SavedLine, kept_lines},
};

#[derive(Encode, Decode)]
#[cbor(map, context_bound = "crate::snapshot::Clock")]
pub(super) struct SavedJob {
    #[n(0)]
    pub(super) id: JobId,
    #[n(1)]
    criteria: Criteria,
    #[n(2)]
    max_tokens: u64,
    #[n(3)]
    haggle: Haggle,
    #[n(4)]
    until: Instant,
    #[n(5)]
    kind: BodyKind,
    #[cbor(n(6), with = "minicbor::bytes")]
    prompt: Vec<u8>,
    #[n(7)]
    sampling: Sampling,
    #[n(8)]
    stop: Vec<String>,
    #[n(9)]
    budget: Amount,
    #[n(10)]
    time_value: Amount,
    #[n(11)]
    choose: Choose,
    #[n(12)]
    failover: Failover,
    #[n(13)]
    attempts: u32,
    #[n(14)]
    tries: u32,
    #[n(15)]
    before: u32,
    #[n(16)]
    transcript: Transcript,
    #[n(17)]
    forgot_run: bool,
    #[n(18)]
    how: TakeOver,
    #[n(19)]
    broken: Option<Interrupted>,
    #[n(20)]
    rounds: u32,
    #[n(21)]
    lines: Vec<SavedLine>,
    /// Providers that are not asked again.
    #[n(22)]
    out: Vec<PeerId>,
    #[n(23)]
    explain: bool,
    /// The pause before it goes on.
    #[n(24)]
    pause: Option<Instant>,
    #[n(25)]
    attempt: Option<attempt::Saved>,
    #[n(26)]
    refused: Option<(PeerId, Interrupted)>,
}

impl SavedJob {
    /// Questions for prices and providers are not kept: they end with the process that asked.
    pub(super) fn of(job: &Job) -> Option<Self> {
        let Goal::Answer(answer) = &job.goal else { return None };
        let (pause, attempt) = match &job.state {
            JobState::Waiting { until } => (Some(*until), None),
            JobState::Awarded(attempt) => (None, Some(attempt.keep())),
            JobState::Searching { .. } | JobState::Asking { .. } | JobState::Choosing | JobState::Deciding => {
                (None, None)
            }
        };
        Some(Self {
            id: job.id,
            criteria: job.criteria.clone(),
            max_tokens: job.max_tokens,
            haggle: job.haggle,
            until: job.until,
            kind: answer.kind,
            prompt: answer.prompt.clone(),
            sampling: answer.sampling,
            stop: answer.stop.clone(),
            budget: answer.budget,
            time_value: answer.time_value,
            choose: answer.choose,
            failover: answer.failover,
            attempts: job.attempts,
            tries: job.tries,
            before: job.before,
            transcript: job.transcript.clone(),
            forgot_run: job.forgot_run,
            how: job.take_over,
            broken: job.broken,
            rounds: job.rounds,
            lines: job.lines.iter().map(SavedLine::of).collect(),
            out: job.negotiations.iter().filter(|(_, negotiation)| negotiation.failed).map(|(peer, _)| *peer).collect(),
            explain: job.explain,
            pause,
            attempt,
            refused: job.refused,
        })
    }

    /// The job, and its attempt, which is still to be taken up.
    pub(super) fn job(self, now: Instant, policy: &Policy) -> Result<(Job, Option<attempt::Saved>), SnapshotError> {
        let stops_fit = self.stop.iter().all(|stop| (1..=MAX_STOP_BYTES).contains(&stop.len()));
        require(self.stop.len() <= MAX_STOPS && stops_fit && !self.prompt.is_empty())?;
        require(self.max_tokens > 0 && self.transcript.is_possible() && self.transcript.tokens() <= self.max_tokens)?;
        require(!matches!(self.haggle, Haggle::Bid(permille) if !(1..1000).contains(&permille)))?;
        require(self.tries <= self.attempts && self.before <= self.attempts && self.attempts < MAX_ATTEMPTS)?;
        require(self.rounds < 1 << 30 && self.lines.len() <= self.attempts as usize)?;
        let current = self.attempt.as_ref();
        require(current.is_none_or(|attempt| attempt.number <= self.attempts && self.tries > 0))?;
        require(current.is_none() || self.pause.is_none())?;
        require(self.lines.len() + usize::from(current.is_some()) <= MAX_LINES)?;
        let lines = kept_lines(self.lines)?;
        let goal = Goal::Answer(Answer {
            kind: self.kind,
            prompt: self.prompt,
            sampling: self.sampling,
            stop: self.stop,
            budget: self.budget,
            time_value: self.time_value,
            choose: self.choose,
            failover: self.failover,
        });
        let until = self.until.min(now.after(policy.job_deadline));
        let out = Negotiation { state: NegotiationState::Out, failed: true, ..Negotiation::new(LOST, 0) };
        let mut job = Job {
            state: self.pause.map_or(JobState::Searching { closes: None }, |until| JobState::Waiting { until }),
            negotiations: self.out.into_iter().map(|peer| (peer, out.clone())).collect(),
            attempts: (self.attempts + SKIPPED).min(MAX_ATTEMPTS - 1),
            tries: self.tries,
            before: self.before,
            transcript: self.transcript,
            forgot_run: self.forgot_run,
            take_over: self.how,
            rounds: self.rounds,
            broken: self.broken,
            refused: self.refused,
            lines,
            explain: self.explain,
            ..Job::new(self.id, goal, self.criteria, self.max_tokens, self.haggle, now, until)
        };
        job.lines.iter().for_each(|line| job.account.settle(line.owed, line.owed));
        Ok((job, self.attempt))
    }
}

/// Numbers of attempts that one restore skips: some may have been awarded since the snapshot, and a provider that knows one
/// would refuse another under its name.
const SKIPPED: u32 = 16;
/// More attempts no job has.
const MAX_ATTEMPTS: u32 = 1 << 30;
