//! What of a requester outlives its process: jobs with their answers so far, what is owed, and who is trusted.
//!
//! Streams are lost with the process, and prices that were talked about with them: a job that was not awarded searches
//! again. One that was awarded resumes at its provider.

mod endings;
mod lines;
mod saved;
mod stored;

use alloc::{boxed::Box, collections::BTreeMap, vec, vec::Vec};

use minicbor::{Decode, Encode};

use crate::{
    event::{Event, Interrupted},
    id::{JobId, PeerId, StreamId},
    limits::{Limits, Policy},
    peers::table::{Peers, SavedPeers},
    retry::RetryQuota,
    snapshot::{self, Kind, SnapshotError, Taken, require, wide},
    time::{Instant, Millis},
};

use super::{
    Requester,
    attempt::{self, Attempt},
    context::Context,
    job::{Job, JobState, Negotiation, NegotiationState, Next},
    transcript::Transcript,
};

use self::{endings::SavedEnding, saved::SavedJob, stored::Holding};

pub use stored::{Piece, Stored};

/// No stream has this name: the one that it stands for was lost with its process.
const LOST: StreamId = StreamId(u64::MAX);

#[derive(Encode, Decode)]
#[cbor(map, context_bound = "crate::snapshot::Clock")]
struct State {
    #[cbor(n(0), with = "wide")]
    owed: u128,
    #[n(1)]
    quota: u32,
    #[n(2)]
    peers: SavedPeers,
    #[n(3)]
    jobs: Vec<SavedJob>,
    #[n(4)]
    pending_cancels: Vec<SavedCancel>,
    #[n(5)]
    endings: Vec<SavedEnding>,
}

#[derive(Encode, Decode)]
#[cbor(map, context_bound = "crate::snapshot::Clock")]
struct SavedCancel {
    #[n(0)]
    job: JobId,
    #[n(1)]
    attempt: u32,
    #[n(2)]
    peer: PeerId,
    #[n(3)]
    until: Instant,
}

impl Requester {
    /// Everything that is to outlive the process, as bytes. It holds prompts and answers.
    ///
    /// Take one, and have it stored, before anything that follows [`Event::Awarded`] leaves the node, and from time to time.
    /// What was told since the last one has to be stored by the application itself.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> Vec<u8> {
        let now = self.cx.now.max(now);
        let Context { account, quota, peers, pending_cancels, endings, .. } = &self.cx;
        let pending_cancels = pending_cancels.iter().map(|((job, attempt), pending_cancel)| {
            let (peer, until) = (pending_cancel.peer, pending_cancel.until);
            SavedCancel { job: *job, attempt: *attempt, peer, until }
        });
        let state = State {
            owed: account.owed(),
            quota: quota.left(),
            peers: peers.keep(now),
            jobs: self.jobs.values().filter_map(SavedJob::of).collect(),
            pending_cancels: pending_cancels.collect(),
            endings: endings.iter().flatten().map(|(id, ending)| ending.keep(*id)).collect(),
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
        let cx = &mut requester.cx;
        cx.now = now;
        cx.endings = Some(BTreeMap::new());
        cx.quota = RetryQuota::with(state.quota).ok_or(SnapshotError::Impossible)?;
        cx.account.settle(state.owed, state.owed);
        cx.peers = Peers::restore((now, away), (cx.limits.known_peers, cx.limits.bans), state.peers)?;
        if state.jobs.len() + state.endings.len() > cx.limits.jobs as usize {
            return Err(SnapshotError::TooLarge);
        }
        for kept in state.endings {
            cx.restore_ending(kept, stored)?;
        }
        for kept in state.jobs {
            requester.restore_job(kept, stored)?;
        }
        let cx = &mut requester.cx;
        if cx.held > cx.limits.node_bytes || state.pending_cancels.len() > cx.limits.pending_cancels as usize {
            return Err(SnapshotError::TooLarge);
        }
        for SavedCancel { job, attempt, peer, until } in state.pending_cancels {
            cx.repeat_cancel((job, attempt), peer, until);
        }
        Ok(requester)
    }

    /// The jobs that are open, and after a restore those whose ending is told again.
    pub fn jobs(&self) -> impl Iterator<Item = JobId> + '_ {
        self.jobs.keys().chain(self.cx.endings.iter().flat_map(BTreeMap::keys)).copied()
    }

    fn restore_job(&mut self, kept: SavedJob, stored: &[Stored<'_>]) -> Result<(), SnapshotError> {
        let cx = &mut self.cx;
        let (mut job, attempt) = kept.job(cx.now, &cx.policy)?;
        let id = job.id;
        let next = job.restore(cx, attempt, stored)?;
        let is_over = job.until <= cx.now;
        require(self.jobs.insert(id, job).is_none())?;
        // A job whose time is over does nothing any more but end, as soon as somebody looks at the clock.
        self.drive(id, |job, cx| match next {
            Some(next) => next,
            None if is_over => Next::Stay,
            None => job.go_on(cx),
        });
        Ok(())
    }
}

impl Job {
    /// Takes its attempt up, and tells what the application has not stored. Says what follows; `None`: it goes on.
    fn restore(
        &mut self,
        cx: &mut Context,
        attempt: Option<attempt::Saved>,
        stored: &[Stored<'_>],
    ) -> Result<Option<Next>, SnapshotError> {
        let current = attempt.as_ref().map(|attempt| attempt.peer);
        let known = Holding::of(self.id, stored, &self.lines, current, self.before)?;
        if !known.agrees(&self.transcript) || (attempt.is_none() && known.tokens > self.transcript.tokens()) {
            return Err(SnapshotError::Disagrees { job: self.id });
        }
        let missing = known.is_missing(&self.transcript);
        let told = (known.tokens.min(self.transcript.tokens()), known.text.len().min(self.transcript.text().len()));
        cx.held = cx.held.saturating_add(self.body_bytes());
        if let Some(attempt) = attempt {
            attempt.check(&self.transcript)?;
            require(self.account.reserve(attempt.cost) && cx.account.reserve(attempt.cost))?;
            cx.peers.readmit(&attempt.permit)?;
            let transcript = &self.transcript;
            let forgotten = transcript.is_forgotten();
            let text = if forgotten { known.before(transcript.tokens()) } else { Some(transcript.text()) };
            let Some(text) = text.filter(|_| !missing) else { return Ok(Some(self.abandon(cx, attempt))) };
            // A run that is held is all text.
            let spans = if forgotten { known.spans() } else { vec![(None, text)] };
            let attempt = Attempt::restore(cx.now, &cx.policy, attempt, transcript, text, &spans)?;
            let negotiation = Negotiation { state: NegotiationState::Awarded, ..Negotiation::new(LOST, 0) };
            self.negotiations.insert(attempt.peer, negotiation);
            self.state = JobState::Awarded(Box::new(attempt));
        }
        // What is missing is not told again as tokens without text, and does not wait to be taken.
        self.transcript.set_consumed(if missing { self.transcript.tokens() } else { known.tokens });
        if !missing {
            self.retell(cx, told);
            self.catch_up(cx, &known)?;
        }
        Ok(None)
    }

    /// Tells what the application has not stored.
    fn retell(&self, cx: &mut Context, told: (u64, usize)) {
        let transcript = &self.transcript;
        let end = (transcript.tokens(), transcript.text().len());
        let writer = self.lines.iter().rfind(|line| line.tokens > 0).map(|line| line.peer);
        let current = self.attempt().filter(|attempt| attempt.tokens() > 0);
        let before = current.map_or(end, |attempt| {
            let line = attempt.line();
            (end.0.saturating_sub(line.tokens), end.1.saturating_sub(line.text_bytes as usize))
        });
        if let Some(peer) = writer.filter(|_| told.0 < before.0) {
            cx.tell_again((self.id, peer), transcript, told, before);
        }
        if let Some(attempt) = current {
            if let Some(how) = self.taken_over().filter(|_| told.0 <= before.0) {
                let (attempt, peer) = (attempt.number, attempt.peer);
                cx.tell(Event::TakenOver { job: self.id, attempt, peer, seq: before.0, how });
            }
            cx.tell_again((self.id, attempt.peer), transcript, (told.0.max(before.0), told.1.max(before.1)), end);
        }
    }

    /// Takes what the application has stored beyond the snapshot: it was accepted, and is owed.
    fn catch_up(&mut self, cx: &mut Context, known: &Holding<'_>) -> Result<(), SnapshotError> {
        let at = self.transcript.tokens();
        let text_at = if self.transcript.is_forgotten() {
            known.before(at).map_or(0, str::len)
        } else {
            self.transcript.text().len()
        };
        for piece in known.after(at, text_at) {
            // Without an attempt there is nothing beyond: that was checked.
            let JobState::Awarded(attempt) = &mut self.state else { break };
            let first = attempt.tokens() == 0;
            if piece.peer != attempt.peer || !attempt.catch_up(cx.now, piece.n, piece.text, piece.channel) {
                return Err(SnapshotError::Disagrees { job: self.id });
            }
            if first {
                attempt.on_first_token(cx, &mut self.transcript);
            }
            self.keep_run(cx, piece.n, piece.text, piece.ids, piece.channel);
        }
        self.transcript.set_consumed(known.tokens);
        Ok(())
    }

    /// Goes on its way again.
    fn go_on(&mut self, cx: &mut Context) -> Next {
        match self.state {
            JobState::Awarded(_) => {
                // Where the provider is, the search tells too.
                self.start_search(cx);
                self.resume(cx)
            }
            JobState::Searching { .. } => self.begin_search(cx),
            _ => Next::Stay,
        }
    }

    /// Nobody can check the answer's digest any more: what was accepted is owed, and another one goes on if it may.
    fn abandon(&mut self, cx: &mut Context, attempt: attempt::Saved) -> Next {
        let line = attempt.line();
        self.account.settle(attempt.cost, line.owed);
        cx.account.settle(attempt.cost, line.owed);
        self.lines.push(line);
        self.broken = Some(Interrupted::Lost);
        self.state = JobState::Waiting { until: cx.now };
        // Nobody will ask for the tokens that were lost: they do not wait to be taken.
        self.transcript.set_consumed(self.transcript.tokens());
        cx.begin_cancel((self.id, attempt.number), attempt.peer, None);
        cx.peers.released(cx.now, attempt.permit);
        match self.may_be_taken_over() {
            Ok(()) => Next::Stay,
            Err(why) => self.give_up(why),
        }
    }
}

impl Context {
    /// Tells tokens that were told before the process died, from one place in the run to another.
    fn tell_again(
        &mut self,
        (job, peer): (JobId, PeerId),
        transcript: &Transcript,
        from: (u64, usize),
        to: (u64, usize),
    ) {
        if let Some(n) = to.0.checked_sub(from.0).filter(|n| *n > 0) {
            let (text, ids) = transcript.rest(from.0, from.1);
            let text = text.get(..to.1.saturating_sub(from.1)).unwrap_or_default();
            let ids = ids.and_then(|ids| ids.get(..4 * n as usize));
            self.tell_tokens((job, peer), from.0, n as u32, text, ids, None);
        }
    }
}
