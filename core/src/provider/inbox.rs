//! What comes in: time, bytes and losses; whose they are, and what follows from them.

use core::convert::Infallible;

use alloc::vec::Vec;

use crate::{
    event::{ProviderEvent, ServedReason, Violation},
    id::{AttemptId, PeerId, StreamId},
    inbound::Inbound,
    machine::{Input, Machine, Output, Timeout},
    time::Instant,
    wire::{
        Deframer, Message,
        message::{DeclineReason, GoneReason},
    },
};

use super::{
    Provider,
    context::{Context, DeadlineKey, Name},
    job::{Farewell, Job, Next},
};

impl Provider {
    /// Takes a job a step further, if it is still known.
    pub(super) fn drive(&mut self, id: AttemptId, step: impl FnOnce(&mut Job, &mut Context) -> Next) {
        let Ok(()) = self.try_drive(id, |job, cx| Ok::<_, Infallible>(step(job, cx)));
    }

    /// Takes a job a step further, if it is still known: the one place where a job is looked up, where what follows from the
    /// step is done, and where the index is kept, whether the step went well or not.
    pub(super) fn try_drive<E>(
        &mut self,
        id: AttemptId,
        step: impl FnOnce(&mut Job, &mut Context) -> Result<Next, E>,
    ) -> Result<(), E> {
        let Self { jobs, cx } = self;
        let Some(job) = jobs.get_mut(&id) else { return Ok(()) };
        let (next, result) = match step(job, cx) {
            Ok(next) => (next, Ok(())),
            Err(error) => (Next::Stay, Err(error)),
        };
        cx.index(job);
        let peer = job.peer;
        match next {
            Next::Stay => {}
            Next::Fill => self.fill_slots(),
            Next::Place if self.has_place_for(peer) => self.drive(id, Job::on_place),
            // It was told that it may come, and there is no place for it any more.
            Next::Place => self.displace(id, DeclineReason::Busy),
            Next::Forget(reason, farewell) => self.forget(id, reason, farewell),
        }
        result
    }

    /// Forgets a job; what it held is the next one's. Then its requester is told.
    fn forget(&mut self, id: AttemptId, reason: ServedReason, farewell: Farewell) {
        let Some(job) = self.jobs.remove(&id) else {
            debug_assert!(false, "a job is forgotten in its own step");
            return;
        };
        let stream = job.stream();
        job.settle(&mut self.cx, reason);
        self.fill_slots();
        match (farewell, stream) {
            (Farewell::Cancelled(asked, end), own) => {
                self.cx.outbox.send(asked, &Message::End(end));
                self.cx.close_stream(asked);
                own.into_iter().for_each(|own| self.cx.close_stream(own));
            }
            (_, None) => {}
            (Farewell::Close, Some(stream)) => self.cx.close_stream(stream),
            (Farewell::Reset, Some(stream)) => self.cx.reset_stream(stream),
            (Farewell::Decline(reason), Some(stream)) => {
                self.decline(stream, reason, None);
                self.cx.close_stream(stream);
            }
            (Farewell::Displace(reason, to_come), Some(stream)) => {
                self.cx.keep_displaced(stream, to_come);
                self.decline(stream, reason, None);
                self.cx.index_stream(stream);
            }
        }
    }

    fn on_timeout(&mut self) {
        for key in self.cx.deadlines.take_due(self.cx.now) {
            match key {
                DeadlineKey::Offers => self.cx.expire_offers(),
                DeadlineKey::Drain => self.on_drain_due(),
                DeadlineKey::Stream(id) => self.cx.on_stream_timeout(id),
                DeadlineKey::Job(id) => self.drive(id, Job::on_timeout),
            }
        }
    }

    fn on_received(&mut self, stream: StreamId, bytes: &[u8]) {
        match self.receive(stream, bytes) {
            Ok(()) => self.cx.index_stream(stream),
            Err(violation) => self.on_violation(stream, violation),
        }
    }

    /// A message on a stream that no job is on.
    fn on_message(
        &mut self,
        (id, peer): (StreamId, PeerId),
        payload: &[u8],
        message: Message<'_>,
    ) -> Result<(), Violation> {
        // [C6] In any order.
        match message {
            // [C4]
            Message::Describe => {
                let advert = self.advert();
                self.cx.outbox.send(id, &Message::Advert(advert));
            }
            Message::Rfq(rfq) => self.on_rfq(id, peer, rfq),
            Message::Counter(counter) => self.on_counter(id, peer, &counter),
            Message::Release(reason) => self.cx.outbox.event(ProviderEvent::Released { peer, reason }),
            Message::Award(award) => self.on_award(id, peer, payload, award),
            Message::Cancel { job, attempt, .. } => self.on_cancel(id, (peer, job, attempt)),
            Message::Resume { job, attempt, epoch, next } => self.on_resume(id, (peer, job, attempt), epoch, next),
            _ => return Err(Violation::Unexpected),
        }
        Ok(())
    }

    fn on_cancel(&mut self, stream: StreamId, name: Name) {
        match self.cx.by_name.get(&name) {
            Some(&id) => self.drive(id, |job, _| job.on_cancel(stream)),
            None => self.cx.gone(stream, GoneReason::Unknown),
        }
    }

    fn on_resume(&mut self, stream: StreamId, name: Name, epoch: u32, next: u64) {
        // [R5] By the peer that the channel proved, too.
        match self.cx.by_name.get(&name) {
            Some(&id) => self.drive(id, |job, cx| job.on_resume(cx, stream, epoch, next)),
            None if self.cx.was_lost(&name) => self.cx.gone(stream, GoneReason::Evicted),
            None => self.cx.gone(stream, GoneReason::Unknown),
        }
    }

    fn on_violation(&mut self, stream: StreamId, violation: Violation) {
        match self.cx.streams.get(&stream).and_then(|stream| stream.job) {
            Some(id) => {
                self.drive(id, |_, _| Next::Forget(ServedReason::Violation(violation), Farewell::Reset));
            }
            None => self.cx.reset_stream(stream),
        }
    }

    fn on_stream_closed(&mut self, id: StreamId) {
        self.cx.outbox.forget(id);
        if let Some(attempt) = self.cx.drop_stream(id).and_then(|stream| stream.job) {
            self.drive(attempt, Job::on_cut);
        }
    }
}

impl Context {
    /// Takes a message off a stream, which is charged for it; says whose it is. `None`: there is nothing to answer.
    fn take_message(&mut self, id: StreamId, message: &Message<'_>) -> Result<Option<Speaker>, Violation> {
        let Some(stream) = self.streams.get_mut(&id) else {
            debug_assert!(false, "nothing is read from a stream that is over");
            return Ok(None);
        };
        if let Message::Ack { voucher: Some(_), .. } | Message::Cancel { voucher: Some(_), .. } = message {
            // [S2] No attempt is paid yet.
            return Err(Violation::Voucher);
        }
        if let Some(job) = stream.job {
            return Ok(Some(Speaker::Job(job)));
        }
        stream.until = self.now.after(self.service.idle);
        if let Message::Body { bytes, .. } = message {
            // The unasked part of an award that was declined meanwhile.
            // [A7]
            let left = stream.stray_body.checked_sub(bytes.len() as u64);
            stream.stray_body = left.ok_or(Violation::Unexpected)?;
            return Ok(None);
        }
        // [C2]
        if !stream.idle_frames.charge(self.now) {
            return Err(Violation::Flood);
        }
        let crossed = stream.is_displaced && matches!(message, Message::Ack { end: false, .. });
        Ok((!crossed).then_some(Speaker::Peer(stream.peer)))
    }

    /// A stream on which nothing runs may have been silent for too long.
    fn on_stream_timeout(&mut self, id: StreamId) {
        // [T5]
        let silent = self.streams.get(&id).is_some_and(|stream| stream.job.is_none() && stream.until <= self.now);
        if silent {
            self.close_stream(id);
        }
        self.index_stream(id);
    }

    /// The stream of a job that made room stays: what was credited may be on its way.
    fn keep_displaced(&mut self, id: StreamId, to_come: u64) {
        let until = self.now.after(self.service.idle);
        if let Some(stream) = self.streams.get_mut(&id) {
            (stream.stray_body, stream.is_displaced, stream.until) = (to_come, true, until);
        }
    }
}

/// Who said a message.
enum Speaker {
    /// The requester of a job, on the job's stream.
    Job(AttemptId),
    /// A peer whose stream has no job.
    Peer(PeerId),
}

impl Inbound for Provider {
    fn deframer(&mut self, stream: StreamId) -> Option<&mut Deframer> {
        self.cx.streams.get_mut(&stream).map(|stream| &mut stream.deframer)
    }

    fn on_frame(&mut self, stream: StreamId, payload: &[u8], message: Message<'_>) -> Result<(), Violation> {
        match self.cx.take_message(stream, &message)? {
            Some(Speaker::Job(id)) => {
                debug_assert!(self.jobs.contains_key(&id), "a job leaves its stream when it is forgotten");
                self.try_drive(id, |job, cx| job.on_message(cx, stream, message))
            }
            Some(Speaker::Peer(peer)) => self.on_message((stream, peer), payload, message),
            None => Ok(()),
        }
    }
}

impl Machine for Provider {
    type Event<'a> = ProviderEvent;

    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        self.cx.advance_clock(now);
        match input {
            Input::Timeout => self.on_timeout(),
            Input::Received(stream, bytes) => self.on_received(stream, bytes),
            Input::StreamClosed(stream) | Input::StreamFailed(stream, _) => self.on_stream_closed(stream),
            Input::PeerGone(peer) => {
                let streams = self.cx.streams.iter().filter(|(_, stream)| stream.peer == peer);
                let lost: Vec<StreamId> = streams.map(|(id, _)| *id).collect();
                lost.into_iter().for_each(|stream| self.on_stream_closed(stream));
            }
            // A provider opens no streams and asks nobody.
            Input::StreamOpened(_) | Input::PeersFound(..) | Input::QueryDone(..) | Input::PeerConnected(_) => {}
        }
    }

    fn poll_output(&mut self) -> Option<Output<'_, ProviderEvent>> {
        self.cx.outbox.poll(|event| event)
    }

    fn poll_timeout(&self) -> Option<Timeout> {
        self.cx.deadlines.next()
    }
}
