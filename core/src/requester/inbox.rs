//! What comes in: time, bytes and losses; whose they are, and what follows from them.

use core::convert::Infallible;

use alloc::vec::Vec;

use crate::{
    event::{Event, PassedOver, Violation},
    id::{JobId, PeerId, StreamId},
    inbound::Inbound,
    machine::{Input, Machine, Output, StreamFailure, Timeout},
    wire::{Deframer, Message},
};

use super::{
    Requester,
    context::{Context, DeadlineKey, Role, Stream},
    job::{Job, JobState, Next},
};

impl Requester {
    /// Takes a job a step further, if it is open.
    pub(super) fn drive(&mut self, id: JobId, step: impl FnOnce(&mut Job, &mut Context) -> Next) {
        let Ok(()) = self.try_drive(id, |job, cx| Ok::<_, Infallible>(step(job, cx)));
    }

    /// Takes a job a step further, if it is open: the one place where a job is looked up, where what follows from the step is
    /// done, and where the indexes are kept, whether the step went well or not.
    pub(super) fn try_drive<E>(
        &mut self,
        id: JobId,
        step: impl FnOnce(&mut Job, &mut Context) -> Result<Next, E>,
    ) -> Result<(), E> {
        let Self { jobs, cx } = self;
        let Some(job) = jobs.get_mut(&id) else { return Ok(()) };
        let (mut next, result) = match step(job, cx) {
            Ok(next) => (next, Ok(())),
            Err(error) => (Next::Stay, Err(error)),
        };
        loop {
            next = match next {
                Next::Stay => break,
                Next::Choose => job.choose(cx),
                Next::Search => job.advance_search(cx),
                Next::Broken(why) => job.on_broken(cx, why),
                Next::End(outcome, no_retry) => {
                    if let Some(job) = jobs.remove(&id) {
                        job.end(cx, outcome, no_retry);
                    }
                    return result;
                }
            };
        }
        debug_assert!(!matches!(job.state, JobState::Deciding), "what follows an attempt is decided in its last step");
        cx.index(job);
        result
    }

    fn on_timeout(&mut self) {
        for key in self.cx.deadlines.take_due(self.cx.now) {
            match key {
                DeadlineKey::Job(id) => self.drive(id, Job::on_timeout),
                DeadlineKey::Query(query) => self.on_query_timeout(query),
                DeadlineKey::Describe(peer) => self.on_describe_timeout(peer),
                DeadlineKey::PendingCancel(job, attempt) => self.cx.on_cancel_timeout((job, attempt)),
            }
        }
    }

    fn on_received(&mut self, stream: StreamId, bytes: &[u8]) {
        if let Err(violation) = self.receive(stream, bytes) {
            self.on_violation(stream, violation);
        }
    }

    fn on_violation(&mut self, stream: StreamId, violation: Violation) {
        let Some((peer, role)) = self.cx.streams.get(&stream).map(|stream| (stream.peer, stream.role)) else { return };
        self.cx.reset_stream(stream);
        self.cx.peers.violation(self.cx.now, peer, violation.severity());
        match role {
            Role::Describe => self.settle_describe(peer, StreamFailure::Unsupported),
            Role::Job(id) => self.drive(id, |job, cx| job.on_violation(cx, peer, violation)),
            Role::PendingCancel(job, attempt) => self.cx.end_cancel((job, attempt)),
        }
    }

    /// A stream is over without a word.
    // [T3] Closed or cut: a job is over by an End alone.
    fn on_stream_lost(&mut self, stream: StreamId, why: PassedOver) {
        self.cx.outbox.forget(stream);
        let Some(Stream { peer, role, .. }) = self.cx.streams.remove(&stream) else { return };
        match (role, why) {
            (Role::Describe, PassedOver::Stream(failure)) => self.settle_describe(peer, failure),
            (Role::Describe, _) => self.settle_describe(peer, StreamFailure::Unreachable),
            (Role::Job(id), _) => self.drive(id, |job, cx| job.on_stream_lost(cx, peer, why)),
            (Role::PendingCancel(job, attempt), _) => self.cx.on_cancel_lost((job, attempt)),
        }
    }

    /// A peer is connected: whatever waits for it is tried at once.
    fn on_reachable(&mut self, peer: PeerId) {
        self.cx.directory.revive(&peer);
        let waiting: Vec<JobId> = self.jobs.values().filter(|job| job.waits_for(peer)).map(|job| job.id).collect();
        waiting.into_iter().for_each(|id| self.drive(id, Job::resume));
        self.cx.retry_cancels(peer);
    }

    /// The last connection to a peer is gone, and all streams that were open on it.
    fn on_peer_gone(&mut self, peer: PeerId) {
        let is_lost = |stream: &Stream| stream.peer == peer && stream.opened;
        let streams = self.cx.streams.iter().filter(|(_, stream)| is_lost(stream));
        let lost: Vec<StreamId> = streams.map(|(id, _)| *id).collect();
        lost.into_iter().for_each(|stream| self.on_stream_lost(stream, PassedOver::Lost));
    }
}

impl Job {
    /// Something of it may be due.
    fn on_timeout(&mut self, cx: &mut Context) -> Next {
        match &self.state {
            // It was moved since it entered the index.
            _ if self.timeout().at > cx.now => Next::Stay,
            // First: whatever else is due at the same moment comes too late.
            _ if self.until <= cx.now => self.on_deadline(cx),
            JobState::Searching { .. } => Next::Search,
            JobState::Asking { .. } => self.on_offer_window(cx),
            JobState::Choosing | JobState::Deciding => Next::Choose,
            JobState::Waiting { .. } => self.retry(cx),
            JobState::Awarded(_) => self.on_attempt_timeout(cx),
        }
    }
}

impl Inbound for Requester {
    fn deframer(&mut self, stream: StreamId) -> Option<&mut Deframer> {
        self.cx.streams.get_mut(&stream).map(|stream| &mut stream.deframer)
    }

    fn on_frame(&mut self, stream: StreamId, _: &[u8], message: Message<'_>) -> Result<(), Violation> {
        let state = self.cx.streams.get(&stream).ok_or(Violation::Unexpected)?;
        let (peer, role) = (state.peer, state.role);
        match role {
            Role::Describe => self.on_describe_message((stream, peer), message),
            Role::Job(id) => {
                debug_assert!(self.jobs.contains_key(&id), "a job closes its streams when it ends");
                self.try_drive(id, |job, cx| job.on_message(cx, (stream, peer), message))
            }
            Role::PendingCancel(job, attempt) => self.cx.on_cancel_message((job, attempt), stream, &message),
        }
    }
}

impl Machine for Requester {
    type Event<'a> = Event<'a>;

    fn handle_input(&mut self, now: crate::Instant, input: Input<'_>) {
        self.cx.advance_clock(now);
        match input {
            Input::Timeout => self.on_timeout(),
            Input::StreamOpened(stream) => {
                if let Some(stream) = self.cx.streams.get_mut(&stream) {
                    stream.opened = true;
                }
            }
            Input::StreamFailed(stream, failure) => self.on_stream_lost(stream, PassedOver::Stream(failure)),
            Input::StreamClosed(stream) => self.on_stream_lost(stream, PassedOver::Lost),
            Input::Received(stream, bytes) => self.on_received(stream, bytes),
            Input::PeersFound(query, peers) => self.on_peers_found(query, peers),
            Input::QueryDone(query, outcome) => self.on_query_done(query, outcome),
            Input::PeerConnected(peer) => self.on_reachable(peer),
            Input::PeerGone(peer) => self.on_peer_gone(peer),
        }
    }

    fn poll_output(&mut self) -> Option<Output<'_, Event<'_>>> {
        let token_buffer = &mut self.cx.token_buffer;
        self.cx.outbox.poll(move |told| token_buffer.event(told))
    }

    fn poll_timeout(&self) -> Option<Timeout> {
        self.cx.deadlines.next()
    }
}
