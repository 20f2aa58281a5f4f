//! Who serves it: searches, adverts, and when enough are known to go on.

use alloc::vec::Vec;

use crate::{
    event::{Event, Failure, Finished, NoRetry, PassedOver, Violation, explain::LeftOut},
    id::{JobId, Model, PeerId, QueryId, StreamId},
    machine::{Cause, QueryOutcome, StreamFailure, Timeout},
    peers::{
        bans::Ban,
        directory::{Description, SearchState, serves},
        table::{Excluded, Filtered, Lift},
    },
    spec::Criteria,
    wire::{Message, message::Advert},
};

use super::{
    Requester,
    context::{Context, DeadlineKey, Role},
    job::{Goal, Job, JobState, Next},
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

impl Job {
    /// Starts a job's search, or goes on at once with what is known. A fresh advert may be awarded without an Rfq.
    pub(super) fn begin_search(&mut self, cx: &mut Context) -> Next {
        self.start_search(cx);
        self.award_posted(cx).unwrap_or(Next::Search)
    }

    /// Looks for providers of the job's model, unless that was done lately.
    pub(super) fn start_search(&self, cx: &mut Context) {
        let Criteria { only, model, .. } = &self.criteria;
        if only.is_empty() && cx.directory.needs_search(cx.now, &cx.policy, model, self.not_before) {
            cx.start_query(model);
        }
    }

    /// Looks at what is known, and goes on with the job as far as that carries.
    pub(super) fn advance_search(&mut self, cx: &mut Context) -> Next {
        let survey = self.survey(cx);
        survey.unknown.iter().for_each(|peer| cx.want_described(*peer));
        let pending = survey.outcome.is_none() || !survey.unknown.is_empty();
        self.lift = survey.lift;
        let JobState::Searching { closes } = self.state else {
            debug_assert!(false, "only who searches looks");
            return Next::Stay;
        };
        if matches!(self.goal, Goal::Discover) {
            let limit = self.criteria.limit as usize;
            let enough = limit > 0 && survey.fit.len() >= limit;
            return if !pending || enough { self.end_discovery(cx, survey) } else { Next::Stay };
        }
        if survey.fit.is_empty() {
            self.state = JobState::Searching { closes: None };
            return if pending { Next::Stay } else { self.fail_search(cx, &survey) };
        }
        // Who is in doubt may be the first to answer.
        let sure = survey.fit.iter().filter(|candidate| candidate.doubt == 0).count();
        let enough = sure >= cx.policy.candidates as usize;
        if !pending || enough || closes.is_some_and(|at| at <= cx.now) {
            self.ask(cx, survey);
        } else {
            // The first good ones do not wait for the last.
            let closes = closes.unwrap_or_else(|| cx.now.after(cx.policy.search_window));
            self.state = JobState::Searching { closes: Some(closes) };
        }
        Next::Stay
    }

    /// Candidates whose adverts are known now, if nothing has to be waited for.
    pub(super) fn known_candidates(&self, cx: &Context) -> Survey {
        let survey = self.survey(cx);
        if survey.outcome.is_some() && survey.unknown.is_empty() { survey } else { Survey::default() }
    }

    /// Whether somebody else could take the job over: fresh or not, an advert or an offer was seen.
    pub(super) fn knows_others(&self, cx: &Context) -> bool {
        let survey = self.survey(cx);
        let served =
            |peer: &PeerId| cx.directory.advert(peer).is_some_and(|a| serves(a, &self.criteria.model).is_some());
        self.negotiations.values().any(|negotiation| negotiation.offered(cx.now).is_some())
            || !survey.fit.is_empty()
            || survey.unknown.iter().any(served)
    }

    /// Asks those who were heard of, and never described themselves, for their adverts.
    pub(super) fn describe_hints(&self, cx: &mut Context) {
        let survey = self.survey(cx);
        survey.unknown.iter().for_each(|peer| cx.want_described(*peer));
    }

    /// The job's time is over.
    pub(super) fn on_deadline(&mut self, cx: &mut Context) -> Next {
        match (&self.state, &self.goal) {
            (JobState::Searching { .. }, Goal::Discover) => {
                let survey = self.survey(cx);
                self.end_discovery(cx, survey)
            }
            (JobState::Searching { .. }, _) if self.negotiations.is_empty() && !self.has_delivered() => {
                let survey = self.survey(cx);
                let outcome = survey.outcome.unwrap_or(QueryOutcome::TimedOut);
                self.explain_nobody(cx, &survey.left_out);
                Next::fail(Failure::NobodyFound { outcome, unfit: survey.unfit() })
            }
            _ => Next::fail(Failure::Deadline),
        }
    }

    /// Applies the job's filters to what the directory knows: always anew, never cached.
    fn survey(&self, cx: &Context) -> Survey {
        let Criteria { only, model, exclude, .. } = &self.criteria;
        let (peers, outcome) = if only.is_empty() {
            let outcome = match cx.directory.search(model) {
                Some(SearchState::Done { outcome, .. }) => Some(outcome),
                Some(SearchState::Running { .. }) => None,
                None => Some(QueryOutcome::Complete),
            };
            (cx.directory.hints(model), outcome)
        } else {
            (only.as_slice(), Some(QueryOutcome::Complete))
        };
        let mut survey = Survey { outcome, ..Survey::default() };
        for peer in peers.iter().filter(|peer| !exclude.contains(peer) && !self.negotiations.contains_key(peer)) {
            match cx.directory.standing(cx.now, &cx.policy, peer, self.not_before, self.since) {
                Description::Unknown
                    if matches!(cx.peers.bans().check(cx.now, peer), Some(Ban::Manual | Ban::Fatal(_))) =>
                {
                    let left = cx.peers.bans().end(cx.now, peer).map(|until| until.since(cx.now));
                    survey.left_out.push((*peer, LeftOut::Banned(left)));
                }
                // [D2] A hint is no provider before it has described itself.
                Description::Unknown => survey.unknown.push(*peer),
                Description::Failed(failure) => {
                    survey.failed = Some(failure);
                    survey.left_out.push((*peer, LeftOut::Unreachable(failure)));
                }
                Description::Advert(advert) => match serves(advert, model) {
                    None => {}
                    Some(entry) if self.transcript.tokens() > 0 && !entry.can_continue => {
                        survey.left_out.push((*peer, LeftOut::Capability));
                    }
                    Some(entry) => {
                        if let Some(why) = selection::misfit(&self.criteria, entry) {
                            survey.left_out.push((*peer, why));
                            continue;
                        }
                        let candidate = Candidate::new(*peer, &self.criteria, advert, entry, self.body_bytes());
                        let wait = cx.peers.expected_time(cx.now, peer, entry.eta, candidate.ahead);
                        let doubt = self.doubts(cx).of(cx.peers.record(cx.now, peer), entry.price_out);
                        survey.fit.push(Candidate { wait, doubt, ..candidate });
                        if matches!(self.goal, Goal::Discover) {
                            survey.adverts.push((*peer, advert.clone()));
                        }
                    }
                },
            }
        }
        self.leave_out(cx, &mut survey);
        survey
    }

    /// Leaves out who failed too much: after every cache, too.
    fn leave_out(&self, cx: &Context, survey: &mut Survey) {
        let peers: Vec<PeerId> = survey.fit.iter().map(|candidate| candidate.peer).collect();
        let Filtered { allowed, lift } = cx.peers.filter(cx.now, &peers, self.left());
        let Survey { fit, left_out, .. } = survey;
        fit.retain(|Candidate { peer, .. }| {
            let stays = allowed.contains(peer);
            if !stays {
                let why = cx.peers.excluded(cx.now, peer, self.left()).unwrap_or(Excluded::Avoided);
                left_out.push((*peer, LeftOut::excluded(cx.now, why)));
            }
            stays
        });
        survey.adverts.retain(|(peer, _)| allowed.contains(peer));
        survey.lift = lift;
    }

    fn end_discovery(&mut self, cx: &mut Context, mut survey: Survey) -> Next {
        let outcome = survey.outcome.unwrap_or(QueryOutcome::TimedOut);
        if survey.adverts.is_empty() {
            return self.fail_search(cx, &survey);
        }
        let Criteria { model, prefer, limit, .. } = &self.criteria;
        survey.adverts.sort_by_key(|(peer, advert)| {
            let entry = serves(advert, model);
            (!prefer.contains(peer), entry.map(|entry| (entry.price_out, entry.price_in)), *peer)
        });
        if *limit > 0 {
            survey.adverts.truncate(*limit as usize);
        }
        Next::finish(Finished::Providers { found: survey.adverts, outcome })
    }

    /// Nobody is left who could be asked: says truthfully what the reason was.
    fn fail_search(&mut self, cx: &mut Context, survey: &Survey) -> Next {
        let Err(why) = self.wait_for_busy(cx) else { return Next::Stay };
        self.explain_nobody(cx, &survey.left_out);
        if self.may_begin_anew() && self.begin_anew(cx) {
            self.unaffordable = None;
            self.state = JobState::Searching { closes: Some(cx.now) };
            return Next::Search;
        }
        if self.has_delivered() || self.is_refused() {
            let why = self.unaffordable.map_or(why, |_| NoRetry::Budget);
            return self.give_up(why);
        }
        let outcome = survey.outcome.unwrap_or(QueryOutcome::TimedOut);
        match (self.unaffordable, self.last_out, survey.failed) {
            (Some(cheapest), _, _) => {
                let job = self.account.remaining().unwrap_or(u128::MAX);
                let budget = cx.account.remaining().map_or(job, |node| node.min(job));
                Next::fail(Failure::OverBudget { cheapest, budget })
            }
            (None, Some(out), _) => Next::give_up(Failure::Declined(out), why),
            (None, None, Some(failed)) if !self.criteria.only.is_empty() => {
                Next::give_up(Failure::Declined(PassedOver::Stream(failed)), why)
            }
            _ => Next::fail(Failure::NobodyFound { outcome, unfit: survey.unfit() }),
        }
    }
}

impl Requester {
    pub(super) fn on_peers_found(&mut self, query: QueryId, peers: &[PeerId]) {
        if self.cx.directory.hint(query, peers).is_some() {
            self.advance_searching();
        }
    }

    pub(super) fn on_query_done(&mut self, query: QueryId, outcome: QueryOutcome) {
        if self.cx.directory.end_search(self.cx.now, query, outcome).is_some() {
            self.cx.deadlines.set(self.cx.now, DeadlineKey::Query(query), None);
            self.advance_searching();
        }
    }

    pub(super) fn on_query_timeout(&mut self, query: QueryId) {
        if self.cx.directory.running_until(query).is_some_and(|until| until <= self.cx.now) {
            self.cx.outbox.cancel_query(query);
            self.on_query_done(query, QueryOutcome::TimedOut);
        }
    }

    pub(super) fn on_describe_timeout(&mut self, peer: PeerId) {
        let due = self.cx.describing.get(&peer).filter(|(_, until)| *until <= self.cx.now);
        if let Some((stream, _)) = due.copied() {
            self.cx.reset_stream(stream);
            self.settle_describe(peer, StreamFailure::TimedOut);
        }
    }

    pub(super) fn on_describe_message(
        &mut self,
        (stream, peer): (StreamId, PeerId),
        message: Message<'_>,
    ) -> Result<(), Violation> {
        let Message::Advert(advert) = message else { return Err(Violation::Unexpected) };
        self.cx.close_stream(stream);
        self.cx.directory.describe(self.cx.now, &self.cx.limits, peer, advert.clone());
        self.cx.tell(Event::Discovered { peer, advert });
        self.end_describe(peer);
        Ok(())
    }

    /// A peer did not describe itself.
    pub(super) fn settle_describe(&mut self, peer: PeerId, failure: StreamFailure) {
        self.cx.directory.fail(self.cx.now, &self.cx.limits, peer, failure);
        self.end_describe(peer);
    }

    fn end_describe(&mut self, peer: PeerId) {
        self.cx.end_describe(peer);
        self.advance_searching();
    }

    fn advance_searching(&mut self) {
        let waiting: Vec<JobId> = self.cx.searching.iter().copied().collect();
        waiting.into_iter().for_each(|id| self.drive(id, Job::advance_search));
    }
}

impl Context {
    fn start_query(&mut self, model: &Model) {
        let query = QueryId(self.next_query);
        self.next_query += 1;
        let until = self.now.after(self.policy.query_timeout);
        self.directory.start_search(&self.limits, model.clone(), query, until);
        self.outbox.start_query(query, model.clone());
        self.deadlines.set(self.now, DeadlineKey::Query(query), Some(Timeout { at: until, cause: Cause::Query }));
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
            let Some(peer) = self.to_describe.pop_front() else { break };
            let stream = self.open_stream(peer, Role::Describe);
            self.outbox.send(stream, &Message::Describe);
            let until = self.now.after(self.policy.describe_timeout);
            self.describing.insert(peer, (stream, until));
            self.deadlines.set(
                self.now,
                DeadlineKey::Describe(peer),
                Some(Timeout { at: until, cause: Cause::Describe }),
            );
        }
    }

    fn end_describe(&mut self, peer: PeerId) {
        self.describing.remove(&peer);
        self.deadlines.set(self.now, DeadlineKey::Describe(peer), None);
        self.start_describes();
    }
}

impl Survey {
    /// Providers of the model that do not fit the criteria, or are left out for a while.
    fn unfit(&self) -> u32 {
        self.left_out.iter().filter(|(_, why)| why.is_unfit()).count() as u32
    }
}
