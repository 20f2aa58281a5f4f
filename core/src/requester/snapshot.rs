//! What of a requester outlives its process: jobs with their answers so far, what is owed, and who is trusted.
//!
//! Streams are lost with the process, and prices that were talked about with them: a job that was not awarded searches
//! again. One that was awarded resumes at its provider.

use alloc::{boxed::Box, collections::BTreeMap, string::String, vec::Vec};

use minicbor::{Decode, Encode};

use crate::{
    event::{Bill, BillLine, Ending, Event, Failure, Finished, Interrupted, Outcome, TakeOver},
    id::{JobId, PeerId, StreamId},
    limits::{Limits, Policy},
    money::{Account, Amount, Tariff},
    peers::book::{KeptPeers, Lift, Peers},
    retry::RetryQuota,
    snapshot::{self, Kind, SnapshotError, Taken, require, wide},
    spec::{Choose, Criteria, Failover, Haggle},
    time::{Instant, Millis},
    wire::message::{BodyKind, EndReason, MAX_STOP_BYTES, MAX_STOPS, Sampling},
};

use super::{
    Requester,
    attempt::{self, Attempt},
    job::{Answer, Goal, Job, Phase, Talk, TalkState},
    run::Run,
    stream::Told,
};

/// No stream has this name: the one that it stands for was lost with its process.
const LOST: StreamId = StreamId(u64::MAX);

/// What the application itself has stored of a job's current run: every piece as [`Event::Tokens`] told it, from token 0.
/// After [`TakeOver::Restarted`] it begins anew.
#[derive(Clone, Debug)]
pub struct Stored<'a> {
    /// Which job.
    pub job: JobId,
    /// Its pieces, in order.
    pub pieces: Vec<Piece<'a>>,
}

/// Tokens that the application has stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece<'a> {
    /// Who wrote them.
    pub peer: PeerId,
    /// How many.
    pub n: u32,
    /// Their text.
    pub text: &'a str,
    /// Their ids, four little-endian bytes each, if they were told.
    pub ids: Option<&'a [u8]>,
}

#[derive(Encode, Decode)]
#[cbor(map, context_bound = "crate::snapshot::Clock")]
struct State {
    #[cbor(n(0), with = "wide")]
    owed: u128,
    #[n(1)]
    quota: u32,
    #[n(2)]
    peers: KeptPeers,
    #[n(3)]
    jobs: Vec<KeptJob>,
    #[n(4)]
    farewells: Vec<KeptFarewell>,
    #[n(5)]
    endings: Vec<KeptEnding>,
}

#[derive(Encode, Decode)]
#[cbor(map, context_bound = "crate::snapshot::Clock")]
struct KeptJob {
    #[n(0)]
    id: JobId,
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
    run: Run,
    #[n(17)]
    forgot_run: bool,
    #[n(18)]
    how: TakeOver,
    #[n(19)]
    broken: Option<Interrupted>,
    #[n(20)]
    rounds: u32,
    #[n(21)]
    lines: Vec<KeptLine>,
    /// Providers that are not asked again.
    #[n(22)]
    out: Vec<PeerId>,
    #[n(23)]
    explain: bool,
    /// The pause before it goes on.
    #[n(24)]
    pause: Option<Instant>,
    #[n(25)]
    attempt: Option<attempt::Kept>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct KeptLine {
    #[n(0)]
    attempt: u32,
    #[n(1)]
    peer: PeerId,
    #[n(2)]
    tariff: Tariff,
    #[n(3)]
    reread: u64,
    #[n(4)]
    tokens: u64,
    #[n(5)]
    text_bytes: u64,
}

#[derive(Encode, Decode)]
#[cbor(map, context_bound = "crate::snapshot::Clock")]
struct KeptFarewell {
    #[n(0)]
    job: JobId,
    #[n(1)]
    attempt: u32,
    #[n(2)]
    peer: PeerId,
    #[n(3)]
    until: Instant,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct KeptEnding {
    #[n(0)]
    id: JobId,
    #[n(1)]
    run: Run,
    #[n(2)]
    how: How,
    #[n(3)]
    lines: Vec<KeptLine>,
    #[n(4)]
    before: u32,
}

/// How an answer ended of which tokens were delivered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Encode, Decode)]
#[cbor(map)]
enum How {
    #[n(0)]
    Finished {
        #[n(0)]
        reason: EndReason,
        #[n(1)]
        prompt_tokens: u64,
    },
    #[n(1)]
    Interrupted(#[n(0)] Interrupted),
    #[n(2)]
    Cancelled,
    #[n(3)]
    Deadline,
    #[n(4)]
    Context,
    #[n(5)]
    BadRequest,
}

/// An answer that ended, until its application has stored that.
#[derive(Clone, Hash, Debug)]
pub(super) struct Concluded {
    run: Run,
    how: How,
    lines: Vec<BillLine>,
    before: u32,
}

impl Requester {
    /// Everything that is to outlive the process, as bytes. It holds prompts and answers.
    ///
    /// Take one, and have it stored, before anything that follows [`Event::Awarded`] leaves the node, and from time to time.
    /// What was told since the last one has to be stored by the application itself.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> Vec<u8> {
        let now = self.now.max(now);
        let state = State {
            owed: self.account.owed(),
            quota: self.quota.left(),
            peers: self.peers.keep(now),
            jobs: self.jobs.iter().filter_map(|(id, job)| KeptJob::of(*id, job)).collect(),
            farewells: self
                .farewells
                .iter()
                .map(|(name, farewell)| {
                    let (peer, until) = farewell.goal();
                    KeptFarewell { job: name.0, attempt: name.1, peer, until }
                })
                .collect(),
            endings: self.endings.iter().flatten().map(|(id, ending)| ending.keep(*id)).collect(),
        };
        snapshot::seal(Kind::Requester, now, &state)
    }

    /// The requester that a snapshot was taken of, `away` ago. Its jobs go on at once, and every ending is kept until
    /// [`Self::concluded`]. The account has no limit until it is set.
    ///
    /// Of every open job in `stored` nothing is told twice; of the others everything is told from token 0. Let the clock
    /// begin late enough (a day will do) that moments before the crash are still on it.
    ///
    /// # Errors
    /// [`SnapshotError`]: nothing was restored.
    pub fn restore(
        (now, away): (Instant, Millis),
        bytes: &[u8],
        stored: &[Stored<'_>],
        policy: Policy,
        limits: Limits,
        seed: [u8; 32],
    ) -> Result<Self, SnapshotError> {
        let state: State = snapshot::open(Kind::Requester, bytes, Taken::ago(now, away))?;
        let mut requester = Self::new(policy, limits, seed)?;
        requester.now = now;
        requester.endings = Some(BTreeMap::new());
        requester.quota = RetryQuota::with(state.quota).ok_or(SnapshotError::Impossible)?;
        requester.account.settle(state.owed, state.owed);
        let tables = (requester.limits.known_peers, requester.limits.bans);
        requester.peers = Peers::restore((now, away), tables, state.peers)?;
        if state.jobs.len() + state.endings.len() > requester.limits.jobs as usize {
            return Err(SnapshotError::TooLarge);
        }
        for kept in state.endings {
            requester.restore_ending(kept, stored)?;
        }
        for kept in state.jobs {
            requester.restore_job(kept, stored)?;
        }
        if requester.held > requester.limits.node_bytes
            || state.farewells.len() > requester.limits.pending_cancels as usize
        {
            return Err(SnapshotError::TooLarge);
        }
        for KeptFarewell { job, attempt, peer, until } in state.farewells {
            requester.repeat_farewell((job, attempt), peer, until);
        }
        Ok(requester)
    }

    /// For a node whose state is stored; call it before the first job. From now on the ending of an answer is part of snapshots
    /// until [`Self::concluded`], so that what was not stored before the process died is told again, and the text of every
    /// answer is kept, whatever its failover.
    pub fn keep_endings(&mut self) {
        self.endings.get_or_insert_default();
    }

    /// The application has stored how a job ended, or does not care to: it is forgotten.
    pub fn concluded(&mut self, job: JobId) {
        if let Some(ending) = self.endings.as_mut().and_then(|endings| endings.remove(&job)) {
            self.held = self.held.saturating_sub(ending.run.bytes());
        }
    }

    /// The jobs that are open, and after a restore those whose ending is told again.
    pub fn jobs(&self) -> impl Iterator<Item = JobId> + '_ {
        self.jobs.keys().chain(self.endings.iter().flat_map(BTreeMap::keys)).copied()
    }

    /// Endings that wait to be concluded.
    pub(super) fn kept_endings(&self) -> usize {
        self.endings.as_ref().map_or(0, BTreeMap::len)
    }

    /// Keeps how an answer ended.
    pub(super) fn keep_ending(&mut self, id: JobId, job: Job, ending: &Ending) {
        let (Some(endings), Goal::Answer(_), Some(how)) = (&mut self.endings, &job.goal, How::of(&ending.outcome))
        else {
            return;
        };
        self.held = self.held.saturating_add(job.run.bytes());
        endings.insert(id, Concluded { run: job.run, how, lines: ending.bill.lines.clone(), before: job.before });
    }

    fn restore_ending(&mut self, kept: KeptEnding, stored: &[Stored<'_>]) -> Result<(), SnapshotError> {
        let KeptEnding { id, mut run, how, lines, before } = kept;
        require(run.is_possible())?;
        let lines = self::lines(lines)?;
        let known = Known::of(id, stored, &lines, None, before)?;
        let missing = known.is_missing(&run);
        let (true, true) = (known.agrees(&run), known.tokens <= run.tokens()) else {
            return Err(SnapshotError::Disagrees { job: id });
        };
        run.set_consumed(known.tokens);
        let writer = lines.iter().rfind(|line| line.tokens > 0).map(|line| line.peer);
        if let Some(peer) = writer {
            self.tell_again(id, peer, &run, (known.tokens, known.text.len()), (run.tokens(), run.text().len()));
        }
        let outcome = match how {
            // What is missing nobody has any more.
            _ if missing => Outcome::Failed(Failure::Interrupted(Interrupted::Lost)),
            how => how.outcome(run.tokens()),
        };
        let ending = Ending { outcome, bill: Bill::of(lines.clone()) };
        self.tell(Event::Ended { job: id, ending });
        self.held = self.held.saturating_add(run.bytes());
        self.endings.get_or_insert_default().insert(id, Concluded { run, how, lines, before });
        Ok(())
    }

    fn restore_job(&mut self, kept: KeptJob, stored: &[Stored<'_>]) -> Result<(), SnapshotError> {
        let id = kept.id;
        let (mut job, attempt) = kept.job(self.now, &self.policy)?;
        let current = attempt.as_ref().map(|attempt| attempt.peer);
        let known = Known::of(id, stored, &job.lines, current, job.before)?;
        if !known.agrees(&job.run) {
            return Err(SnapshotError::Disagrees { job: id });
        }
        let missing = known.is_missing(&job.run);
        let told = (known.tokens.min(job.run.tokens()), known.text.len().min(job.run.text().len()));
        if let Some(attempt) = attempt {
            let reserved = attempt.cost;
            require(job.account.reserve(reserved) && self.account.reserve(reserved))?;
            self.peers.readmit(&attempt.permit)?;
            let text = if job.run.is_forgotten() { known.before(job.run.tokens()) } else { Some(job.run.text()) };
            let Some(text) = text.filter(|_| !missing) else { return self.give_up(id, job, attempt) };
            let attempt = Attempt::restore(self.now, &self.policy, attempt, &job.run, text)?;
            let talk = Talk { state: TalkState::Awarded, ..Talk::new(LOST, 0) };
            job.talks.insert(attempt.peer, talk);
            job.phase = Phase::Awarded(Box::new(attempt));
        } else if known.tokens > job.run.tokens() {
            return Err(SnapshotError::Disagrees { job: id });
        }
        self.held = self.held.saturating_add(job.body_bytes());
        job.run.set_consumed(known.tokens);
        require(self.jobs.insert(id, job).is_none())?;
        self.retell(id, told);
        self.catch_up(id, &known)?;
        self.go_on(id);
        Ok(())
    }

    /// Tells what the application has not stored.
    fn retell(&mut self, id: JobId, told: (u64, usize)) {
        let Some(job) = self.jobs.get(&id) else { return };
        let run = job.run.clone();
        let end = (run.tokens(), run.text().len());
        let writer = job.lines.iter().rfind(|line| line.tokens > 0).map(|line| line.peer);
        let (before, over) = match &job.phase {
            Phase::Awarded(attempt) if attempt.tokens() > 0 => {
                let line = attempt.line();
                let from = (
                    run.tokens().saturating_sub(line.tokens),
                    run.text().len().saturating_sub(line.text_bytes as usize),
                );
                let over = job.taken_over().map(|how| (attempt.number, how));
                (from, Some((attempt.peer, over)))
            }
            _ => (end, None),
        };
        if let Some(peer) = writer.filter(|_| told.0 < before.0) {
            self.tell_again(id, peer, &run, told, before);
        }
        let Some((peer, over)) = over else { return };
        if let Some((attempt, how)) = over.filter(|_| told.0 <= before.0) {
            self.tell(Event::TakenOver { job: id, attempt, peer, seq: before.0, how });
        }
        self.tell_again(id, peer, &run, (told.0.max(before.0), told.1.max(before.1)), end);
    }

    /// Tells tokens that were told before the process died, from one place in the run to another.
    fn tell_again(&mut self, job: JobId, peer: PeerId, run: &Run, from: (u64, usize), to: (u64, usize)) {
        let Some(n) = to.0.checked_sub(from.0).filter(|n| *n > 0) else { return };
        let (text, ids) = run.rest(from.0, from.1);
        let text = text.get(..to.1.saturating_sub(from.1)).unwrap_or_default();
        let ids = ids.and_then(|ids| ids.get(..4 * n as usize));
        self.words.keep(text, ids);
        let (text, ids) = (text.len(), ids.map(<[u8]>::len));
        self.outbox.event(Told::Tokens { job, peer, seq: from.0, n: n as u32, text, ids });
    }

    /// Takes what the application has stored beyond the snapshot: it was accepted, and is owed.
    fn catch_up(&mut self, id: JobId, known: &Known<'_>) -> Result<(), SnapshotError> {
        let Some(run) = self.jobs.get(&id).map(|job| &job.run) else { return Ok(()) };
        let at = run.tokens();
        let text_at = if run.is_forgotten() { known.before(at).map_or(0, str::len) } else { run.text().len() };
        for piece in known.after(at, text_at) {
            let Some(Job { phase: Phase::Awarded(attempt), .. }) = self.jobs.get_mut(&id) else { return Ok(()) };
            let first = attempt.tokens() == 0;
            if piece.peer != attempt.peer || !attempt.catch_up(self.now, piece.n, piece.text) {
                return Err(SnapshotError::Disagrees { job: id });
            }
            if first {
                self.on_first_token(id);
            }
            self.keep_run(id, piece.n, piece.text, piece.ids);
        }
        if let Some(job) = self.jobs.get_mut(&id) {
            job.run.set_consumed(known.tokens);
        }
        Ok(())
    }

    /// Sends a job on its way again.
    fn go_on(&mut self, id: JobId) {
        let now = self.now;
        let Some(job) = self.jobs.get(&id) else { return };
        match job.phase {
            _ if job.until <= now => {}
            Phase::Awarded(_) => {
                // Where the provider is, the search tells too.
                self.start_search(id);
                self.resume(id);
            }
            Phase::Searching { .. } => return self.begin(id),
            _ => {}
        }
        self.index(id);
    }

    /// Nobody can check the answer's digest any more: what was accepted is owed, and another one goes on if it may.
    fn give_up(&mut self, id: JobId, mut job: Job, attempt: attempt::Kept) -> Result<(), SnapshotError> {
        let line = attempt.line();
        job.account.settle(attempt.cost, line.owed);
        self.account.settle(attempt.cost, line.owed);
        job.lines.push(line);
        job.broken = Some(Interrupted::Lost);
        job.phase = Phase::Waiting { until: self.now };
        self.peers.released(self.now, attempt.permit);
        let failure = (!job.can_be_taken_over()).then(|| job.broken_off());
        self.held = self.held.saturating_add(job.body_bytes());
        require(self.jobs.insert(id, job).is_none())?;
        match failure {
            Some(failure) => self.fail_job(id, failure),
            None => self.index(id),
        }
        Ok(())
    }
}

impl KeptJob {
    /// Questions for prices and providers are not kept: they end with the process that asked.
    fn of(id: JobId, job: &Job) -> Option<Self> {
        let Goal::Answer(answer) = &job.goal else { return None };
        let (pause, attempt) = match &job.phase {
            Phase::Waiting { until } => (Some(*until), None),
            Phase::Awarded(attempt) => (None, Some(attempt.keep())),
            Phase::Searching { .. } | Phase::Asking { .. } | Phase::Choosing => (None, None),
        };
        Some(Self {
            id,
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
            run: job.run.clone(),
            forgot_run: job.forgot_run,
            how: job.how,
            broken: job.broken,
            rounds: job.rounds,
            lines: job.lines.iter().map(KeptLine::of).collect(),
            out: job.talks.iter().filter(|(_, talk)| talk.failed).map(|(peer, _)| *peer).collect(),
            explain: job.explain,
            pause,
            attempt,
        })
    }

    /// The job, and its attempt, which is still to be taken up.
    fn job(self, now: Instant, policy: &Policy) -> Result<(Job, Option<attempt::Kept>), SnapshotError> {
        let stops_fit = self.stop.iter().all(|stop| (1..=MAX_STOP_BYTES).contains(&stop.len()));
        require(self.stop.len() <= MAX_STOPS && stops_fit && !self.prompt.is_empty())?;
        require(self.max_tokens > 0 && self.run.is_possible() && self.run.tokens() <= self.max_tokens)?;
        require(!matches!(self.haggle, Haggle::Bid(permille) if !(1..1000).contains(&permille)))?;
        require(self.tries <= self.attempts && self.before <= self.attempts && self.attempts < 1 << 30)?;
        require(self.rounds < 1 << 30 && self.lines.len() <= self.attempts as usize && self.lines.len() <= MAX_LINES)?;
        let current = self.attempt.as_ref();
        require(current.is_none_or(|attempt| attempt.number <= self.attempts && self.tries > 0))?;
        require(current.is_none() || self.pause.is_none())?;
        let lines = lines(self.lines)?;
        let mut account = Account::new(Some(self.budget));
        lines.iter().for_each(|line| account.settle(line.owed, line.owed));
        let out = Talk { state: TalkState::Out, failed: true, ..Talk::new(LOST, 0) };
        let mut criteria = self.criteria;
        criteria.only.sort_unstable();
        criteria.only.dedup();
        let job = Job {
            goal: Goal::Answer(Answer {
                kind: self.kind,
                prompt: self.prompt,
                sampling: self.sampling,
                stop: self.stop,
                budget: self.budget,
                time_value: self.time_value,
                choose: self.choose,
                failover: self.failover,
            }),
            not_before: if criteria.refresh { now } else { Instant::ZERO },
            criteria,
            max_tokens: self.max_tokens,
            haggle: self.haggle,
            since: now,
            until: self.until.min(now.after(policy.job_deadline)),
            phase: self.pause.map_or(Phase::Searching { window: None }, |until| Phase::Waiting { until }),
            talks: self.out.into_iter().map(|peer| (peer, out.clone())).collect(),
            unaffordable: None,
            last_out: None,
            account,
            attempts: self.attempts + SKIPPED,
            tries: self.tries,
            before: self.before,
            run: self.run,
            forgot_run: self.forgot_run,
            stale: 0,
            how: self.how,
            lift: Lift::Nothing,
            busy: None,
            rounds: self.rounds,
            broken: self.broken,
            lines,
            explain: self.explain,
        };
        Ok((job, self.attempt))
    }
}

/// Numbers of attempts that one restore skips: some may have been awarded since the snapshot, and a provider that knows one
/// would refuse another under its name.
const SKIPPED: u32 = 16;
/// More lines no bill has: attempts are bounded.
const MAX_LINES: usize = 4096;

impl KeptLine {
    const fn of(line: &BillLine) -> Self {
        let BillLine { attempt, peer, tariff, reread, tokens, text_bytes, owed: _ } = *line;
        Self { attempt, peer, tariff, reread, tokens, text_bytes }
    }

    const fn line(self) -> BillLine {
        let Self { attempt, peer, tariff, reread, tokens, text_bytes } = self;
        BillLine { attempt, peer, tariff, reread, tokens, text_bytes, owed: tariff.owed(tokens) }
    }
}

fn lines(kept: Vec<KeptLine>) -> Result<Vec<BillLine>, SnapshotError> {
    require(kept.len() <= MAX_LINES && kept.iter().all(|line| line.tokens < 1 << 50))?;
    Ok(kept.into_iter().map(KeptLine::line).collect())
}

impl How {
    /// `None` for what ended before anybody was awarded: nothing of it is lost.
    const fn of(outcome: &Outcome) -> Option<Self> {
        Some(match outcome {
            Outcome::Finished(Finished::Answer { reason, prompt_tokens, .. }) => {
                Self::Finished { reason: *reason, prompt_tokens: *prompt_tokens }
            }
            Outcome::Failed(Failure::Interrupted(why)) => Self::Interrupted(*why),
            Outcome::Failed(Failure::Cancelled) => Self::Cancelled,
            Outcome::Failed(Failure::Deadline) => Self::Deadline,
            Outcome::Failed(Failure::Context) => Self::Context,
            Outcome::Failed(Failure::BadRequest) => Self::BadRequest,
            _ => return None,
        })
    }

    const fn outcome(self, tokens: u64) -> Outcome {
        Outcome::Failed(match self {
            Self::Finished { reason, prompt_tokens } => {
                return Outcome::Finished(Finished::Answer { reason, prompt_tokens, tokens });
            }
            Self::Interrupted(why) => Failure::Interrupted(why),
            Self::Cancelled => Failure::Cancelled,
            Self::Deadline => Failure::Deadline,
            Self::Context => Failure::Context,
            Self::BadRequest => Failure::BadRequest,
        })
    }
}

impl Concluded {
    fn keep(&self, id: JobId) -> KeptEnding {
        let lines = self.lines.iter().map(KeptLine::of).collect();
        KeptEnding { id, run: self.run.clone(), how: self.how, lines, before: self.before }
    }
}

/// What the application holds of a job's current run.
struct Known<'a> {
    pieces: Vec<Piece<'a>>,
    tokens: u64,
    text: String,
}

impl<'a> Known<'a> {
    /// What is stored belongs to the run that goes on, to an older one, or to nothing that the snapshot knows of.
    fn of(
        id: JobId,
        stored: &[Stored<'a>],
        lines: &[BillLine],
        current: Option<PeerId>,
        before: u32,
    ) -> Result<Self, SnapshotError> {
        let pieces = stored.iter().find(|stored| stored.job == id).map(|stored| stored.pieces.clone());
        let mut pieces = pieces.unwrap_or_default();
        let wrote = |piece: &Piece<'_>, old: bool| {
            let line = |line: &BillLine| line.peer == piece.peer && (line.attempt <= before) == old;
            lines.iter().any(line) || (!old && current == Some(piece.peer))
        };
        if !pieces.iter().all(|piece| wrote(piece, false)) {
            if !pieces.iter().all(|piece| wrote(piece, true)) {
                return Err(SnapshotError::Disagrees { job: id });
            }
            pieces.clear();
        }
        let tokens = pieces.iter().fold(0, |sum: u64, piece| sum.saturating_add(u64::from(piece.n)));
        let text = pieces.iter().map(|piece| piece.text).collect();
        Ok(Self { pieces, tokens, text })
    }

    /// Whether one is the beginning of the other.
    fn agrees(&self, run: &Run) -> bool {
        match self.tokens >= run.tokens() {
            _ if run.is_forgotten() => true,
            true => self.text.starts_with(run.text()),
            false => run.text().starts_with(&self.text),
        }
    }

    /// Whether there are tokens that nobody holds any more.
    fn is_missing(&self, run: &Run) -> bool {
        run.is_forgotten() && self.tokens < run.tokens()
    }

    /// The text of the first tokens, if a piece ends there.
    fn before(&self, tokens: u64) -> Option<&str> {
        let (mut at, mut text_at) = (0, 0);
        let mut pieces = self.pieces.iter();
        while at < tokens {
            let piece = pieces.next()?;
            at += u64::from(piece.n);
            text_at += piece.text.len();
        }
        self.text.get(..text_at).filter(|_| at == tokens)
    }

    /// The pieces after a place in the run. Where one lies across, its rest.
    fn after(&self, tokens: u64, text: usize) -> Vec<Piece<'_>> {
        let (mut at, mut text_at) = (0_u64, 0_usize);
        let mut rest = Vec::new();
        for piece in &self.pieces {
            let (end, text_end) = (at.saturating_add(u64::from(piece.n)), text_at + piece.text.len());
            if at >= tokens {
                rest.push(*piece);
            } else if end > tokens {
                let n = (end - tokens) as u32;
                let ids = piece.ids.and_then(|ids| ids.get(ids.len().saturating_sub(4 * n as usize)..));
                let text = self.text.get(text..text_end).unwrap_or_default();
                rest.push(Piece { n, text, ids, ..*piece });
            }
            (at, text_at) = (end, text_end);
        }
        rest
    }
}
