//! What of a requester outlives its process: jobs with their answers so far, what is owed, and who is trusted.
//!
//! Streams are lost with the process, and prices that were talked about with them: a job that was not awarded searches
//! again. One that was awarded resumes at its provider.

mod endings;
mod kept;
mod stored;

use alloc::{boxed::Box, collections::BTreeMap, vec::Vec};

use crate::{
    event::{Event, Interrupted},
    id::{JobId, PeerId, StreamId},
    limits::{Limits, Policy},
    peers::book::Peers,
    retry::RetryQuota,
    snapshot::{self, Kind, SnapshotError, Taken, require},
    time::{Instant, Millis},
};

use super::{
    Requester,
    attempt::{self, Attempt},
    job::{Job, Phase, Talk, TalkState},
    run::Run,
    stream::Told,
};

use self::{
    kept::{KeptFarewell, KeptJob, State},
    stored::Known,
};

pub(super) use endings::Concluded;
pub use stored::{Piece, Stored};

/// No stream has this name: the one that it stands for was lost with its process.
const LOST: StreamId = StreamId(u64::MAX);

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
    /// begin late: what was before its start is taken to have been at its start.
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

    /// The jobs that are open, and after a restore those whose ending is told again.
    pub fn jobs(&self) -> impl Iterator<Item = JobId> + '_ {
        self.jobs.keys().chain(self.endings.iter().flat_map(BTreeMap::keys)).copied()
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
            attempt.check(&job.run)?;
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
        // What is missing is not told again as tokens without text, and does not wait to be taken.
        job.run.set_consumed(if missing { job.run.tokens() } else { known.tokens });
        require(self.jobs.insert(id, job).is_none())?;
        if !missing {
            self.retell(id, told);
            self.catch_up(id, &known)?;
        }
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
        // Nobody will ask for the tokens that were lost: they do not wait to be taken.
        job.run.set_consumed(job.run.tokens());
        self.say_farewell((id, attempt.number), attempt.peer, None);
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
