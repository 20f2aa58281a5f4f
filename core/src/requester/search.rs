//! Who serves it: searches, adverts, and when enough are known to go on.

use alloc::vec::Vec;

use crate::{
    event::{Event, Failure, Finished, Outcome, PassedOver, Violation, explain::LeftOut},
    id::{JobId, PeerId, QueryId, StreamId},
    machine::{Cause, QueryOutcome, StreamFailure, Timeout},
    peers::{
        bans::Ban,
        book::{Excluded, Filtered, Lift},
        directory::{SearchState, Standing, serves},
    },
    spec::Criteria,
    wire::{Message, message::Advert},
};

use super::{
    Key, Requester, Role,
    job::{Goal, Job, Phase},
    selection::{self, Candidate},
};

/// What the directory knows for one job at this moment.
#[derive(Default)]
pub(super) struct Survey {
    /// Providers whose advert fits, not asked yet.
    pub(super) fit: Vec<Candidate>,
    adverts: Vec<(PeerId, Advert)>,
    /// Who does not come into question, and why.
    pub(super) left_out: Vec<(PeerId, LeftOut)>,
    /// Peers that have to describe themselves first.
    unknown: Vec<PeerId>,
    /// What the last peer that could not be asked failed of.
    failed: Option<StreamFailure>,
    /// The search for peers; `None` while it runs.
    outcome: Option<QueryOutcome>,
    /// What had to be overlooked so that enough are left.
    pub(super) lift: Lift,
}

impl Requester {
    /// Starts a job's search, or goes on at once with what is known. A fresh advert may be awarded without an Rfq.
    pub(super) fn begin_search(&mut self, id: JobId) {
        self.start_search(id);
        if !self.award_posted(id) {
            self.advance_search(id);
        }
    }

    /// Looks for providers of the job's model, unless that was done lately.
    pub(super) fn start_search(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let Criteria { only, model, .. } = &job.criteria;
        if only.is_empty() && self.directory.needs_search(self.now, &self.policy, model, job.not_before) {
            let (model, query) = (model.clone(), QueryId(self.next_query));
            self.next_query += 1;
            let until = self.now.after(self.policy.query_timeout);
            self.directory.start_search(&self.limits, model.clone(), query, until);
            self.outbox.start_query(query, model);
            self.deadlines.set(self.now, Key::Query(query), Some(Timeout { at: until, cause: Cause::Query }));
        }
    }

    /// Looks at what is known, and goes on with the job as far as that carries.
    pub(super) fn advance_search(&mut self, id: JobId) {
        let Some(survey) = self.survey(id) else { return };
        survey.unknown.iter().for_each(|peer| self.want_described(*peer));
        let pending = survey.outcome.is_none() || !survey.unknown.is_empty();
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.lift = survey.lift;
        let Phase::Searching { window } = &mut job.phase else { return };
        let limit = job.criteria.limit as usize;
        match job.goal {
            Goal::Discover => {
                if !pending || (limit > 0 && survey.fit.len() >= limit) {
                    self.end_discovery(id, survey, limit);
                }
            }
            Goal::Answer(_) | Goal::Quote { .. } => {
                let enough = survey.fit.len() >= self.policy.candidates as usize;
                if survey.fit.is_empty() {
                    *window = None;
                    if !pending {
                        self.fail_search(id, &survey);
                    }
                } else if !pending || enough || window.is_some_and(|at| at <= self.now) {
                    self.searching.remove(&id);
                    self.ask(id, survey);
                } else if window.is_none() {
                    // The first good ones do not wait for the last.
                    *window = Some(self.now.after(self.policy.search_window));
                }
            }
        }
        self.index(id);
    }

    /// Candidates whose adverts are known now, if nothing has to be waited for.
    pub(super) fn known_candidates(&self, id: JobId) -> Survey {
        let all_known = |survey: &Survey| survey.outcome.is_some() && survey.unknown.is_empty();
        self.survey(id).filter(all_known).unwrap_or_default()
    }

    /// Whether somebody else could take the job over: fresh or not, an advert or an offer was seen.
    pub(super) fn knows_others(&self, id: JobId) -> bool {
        let (Some(job), Some(survey)) = (self.jobs.get(&id), self.survey(id)) else { return false };
        let served =
            |peer: &PeerId| self.directory.advert(peer).is_some_and(|a| serves(a, &job.criteria.model).is_some());
        job.talks.values().any(|talk| talk.offered(self.now).is_some())
            || !survey.fit.is_empty()
            || survey.unknown.iter().any(served)
    }

    /// The job's time is over.
    pub(super) fn on_job_deadline(&mut self, id: JobId) {
        let Some(survey) = self.survey(id) else { return };
        let Some(job) = self.jobs.get(&id) else { return };
        let limit = job.criteria.limit as usize;
        match (&job.phase, &job.goal) {
            (Phase::Searching { .. }, Goal::Discover) => self.end_discovery(id, survey, limit),
            (Phase::Searching { .. }, _) if job.talks.is_empty() && !job.has_delivered() => {
                let outcome = survey.outcome.unwrap_or(QueryOutcome::TimedOut);
                self.explain_nobody(id, &survey.left_out);
                self.fail_job(id, Failure::NobodyFound { outcome, unfit: survey.unfit() });
            }
            _ => self.fail_job(id, Failure::Deadline),
        }
    }

    pub(super) fn on_peers_found(&mut self, query: QueryId, peers: &[PeerId]) {
        if self.directory.hint(query, peers).is_some() {
            self.advance_searching();
        }
    }

    pub(super) fn on_query_done(&mut self, query: QueryId, outcome: QueryOutcome) {
        if self.directory.end_search(self.now, query, outcome).is_some() {
            self.deadlines.set(self.now, Key::Query(query), None);
            self.advance_searching();
        }
    }

    pub(super) fn on_query_timeout(&mut self, query: QueryId) {
        if self.directory.running_until(query).is_some_and(|until| until <= self.now) {
            self.outbox.cancel_query(query);
            self.on_query_done(query, QueryOutcome::TimedOut);
        }
    }

    pub(super) fn on_describe_timeout(&mut self, peer: PeerId) {
        let Some((stream, until)) = self.describing.get(&peer).copied() else { return };
        if until <= self.now {
            self.reset_stream(stream);
            self.settle_describe(peer, Some(StreamFailure::TimedOut));
        }
    }

    pub(super) fn on_describe_message(&mut self, stream: StreamId, message: Message<'_>) -> Result<(), Violation> {
        let Message::Advert(advert) = message else { return Err(Violation::Unexpected) };
        let Some(peer) = self.streams.get(&stream).map(|stream| stream.peer) else { return Ok(()) };
        self.close_stream(stream);
        self.directory.describe(self.now, &self.limits, peer, advert.clone());
        self.tell(Event::Discovered { peer, advert });
        self.end_describe(peer);
        Ok(())
    }

    /// A peer did not describe itself; without a failure of the stream, it broke the protocol.
    pub(super) fn settle_describe(&mut self, peer: PeerId, failure: Option<StreamFailure>) {
        let failure = failure.unwrap_or(StreamFailure::Unsupported);
        self.directory.fail(self.now, &self.limits, peer, failure);
        self.end_describe(peer);
    }

    fn end_describe(&mut self, peer: PeerId) {
        self.describing.remove(&peer);
        self.deadlines.set(self.now, Key::Describe(peer), None);
        self.start_describes();
        self.advance_searching();
    }

    fn want_described(&mut self, peer: PeerId) {
        if self.describing.contains_key(&peer) || self.to_describe.contains(&peer) {
            return;
        }
        if self.to_describe.len() < self.limits.known_peers as usize {
            self.to_describe.push_back(peer);
            self.start_describes();
        }
    }

    fn start_describes(&mut self) {
        while self.describing.len() < self.policy.describes as usize {
            let Some(peer) = self.to_describe.pop_front() else { return };
            let stream = self.open_stream(peer, Role::Describe);
            self.outbox.send(stream, &Message::Describe);
            let until = self.now.after(self.policy.describe_timeout);
            self.describing.insert(peer, (stream, until));
            self.deadlines.set(self.now, Key::Describe(peer), Some(Timeout { at: until, cause: Cause::Describe }));
        }
    }

    fn advance_searching(&mut self) {
        let waiting: Vec<JobId> = self.searching.iter().copied().collect();
        waiting.into_iter().for_each(|id| self.advance_search(id));
    }

    /// Applies the job's filters to what the directory knows: always anew, never cached.
    fn survey(&self, id: JobId) -> Option<Survey> {
        let job = self.jobs.get(&id)?;
        let Criteria { only, model, exclude, .. } = &job.criteria;
        let (peers, outcome) = if only.is_empty() {
            let outcome = match self.directory.search(model) {
                Some(SearchState::Done { outcome, .. }) => Some(outcome),
                Some(SearchState::Running { .. }) => None,
                None => Some(QueryOutcome::Complete),
            };
            (self.directory.hints(model), outcome)
        } else {
            (only.as_slice(), Some(QueryOutcome::Complete))
        };
        let mut survey = Survey { outcome, ..Survey::default() };
        for peer in peers.iter().filter(|peer| !exclude.contains(peer) && !job.talks.contains_key(peer)) {
            match self.directory.standing(self.now, &self.policy, peer, job.not_before, job.since) {
                Standing::Unknown
                    if matches!(self.peers.bans().check(self.now, peer), Some(Ban::Manual | Ban::Fatal(_))) =>
                {
                    let left = self.peers.bans().end(self.now, peer).map(|until| until.since(self.now));
                    survey.left_out.push((*peer, LeftOut::Banned(left)));
                }
                Standing::Unknown => survey.unknown.push(*peer),
                Standing::Failed(failure) => {
                    survey.failed = Some(failure);
                    survey.left_out.push((*peer, LeftOut::Unreachable(failure)));
                }
                Standing::Advert(advert) => match serves(advert, model) {
                    None => {}
                    Some(entry) if job.run.tokens() > 0 && !entry.can_continue => {
                        survey.left_out.push((*peer, LeftOut::Capability));
                    }
                    Some(entry) => {
                        if let Some(why) = selection::misfit(&job.criteria, entry) {
                            survey.left_out.push((*peer, why));
                            continue;
                        }
                        let candidate = Candidate::new(*peer, &job.criteria, advert, entry, job.body_bytes());
                        let wait = self.peers.expected_time(self.now, peer, entry.eta, candidate.ahead);
                        survey.fit.push(Candidate { wait, ..candidate });
                        if matches!(job.goal, Goal::Discover) {
                            survey.adverts.push((*peer, advert.clone()));
                        }
                    }
                },
            }
        }
        self.leave_out(job, &mut survey);
        Some(survey)
    }

    /// Leaves out who failed too much: after every cache, too.
    fn leave_out(&self, job: &Job, survey: &mut Survey) {
        let peers: Vec<PeerId> = survey.fit.iter().map(|candidate| candidate.peer).collect();
        let Filtered { allowed, lift } = self.peers.filter(self.now, &peers, job.left());
        let Survey { fit, left_out, .. } = survey;
        fit.retain(|Candidate { peer, .. }| {
            let stays = allowed.contains(peer);
            if !stays {
                let why = self.peers.excluded(self.now, peer, job.left()).unwrap_or(Excluded::Avoided);
                left_out.push((*peer, LeftOut::excluded(self.now, why)));
            }
            stays
        });
        survey.adverts.retain(|(peer, _)| allowed.contains(peer));
        survey.lift = lift;
    }

    fn end_discovery(&mut self, id: JobId, mut survey: Survey, limit: usize) {
        let outcome = survey.outcome.unwrap_or(QueryOutcome::TimedOut);
        if survey.adverts.is_empty() {
            return self.fail_search(id, &survey);
        }
        let Some(job) = self.jobs.get(&id) else { return };
        let model = &job.criteria.model;
        survey.adverts.sort_by_key(|(peer, advert)| {
            let entry = serves(advert, model);
            (!job.criteria.prefer.contains(peer), entry.map(|entry| (entry.price_out, entry.price_in)), *peer)
        });
        if limit > 0 {
            survey.adverts.truncate(limit);
        }
        self.end_job(id, Outcome::Finished(Finished::Providers { found: survey.adverts, outcome }));
    }

    /// Nobody is left who could be asked: says truthfully what the reason was.
    fn fail_search(&mut self, id: JobId, survey: &Survey) {
        if self.wait_for_busy(id) {
            return;
        }
        self.explain_nobody(id, &survey.left_out);
        let Some(job) = self.jobs.get(&id) else { return };
        if job.has_delivered() {
            let failure = job.broken_off();
            return self.fail_job(id, failure);
        }
        let Job { unaffordable, last_out, account, criteria, .. } = job;
        let outcome = survey.outcome.unwrap_or(QueryOutcome::TimedOut);
        let failure = match (*unaffordable, *last_out, survey.failed) {
            (Some(cheapest), _, _) => {
                let job = account.remaining().unwrap_or(u128::MAX);
                let budget = self.account.remaining().map_or(job, |node| node.min(job));
                Failure::OverBudget { cheapest, budget }
            }
            (None, Some(out), _) => Failure::Declined(out),
            (None, None, Some(failed)) if !criteria.only.is_empty() => Failure::Declined(PassedOver::Stream(failed)),
            _ => Failure::NobodyFound { outcome, unfit: survey.unfit() },
        };
        self.fail_job(id, failure);
    }
}

impl Survey {
    /// Providers of the model that do not fit the criteria, or are left out for a while.
    fn unfit(&self) -> u32 {
        self.left_out.iter().filter(|(_, why)| why.is_unfit()).count() as u32
    }
}
