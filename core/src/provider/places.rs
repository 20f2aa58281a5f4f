//! Who has a place: slots and the queue, shared among peers.
//!
//! A place is held by bytes that came, not by words: an award whose body is still to come holds none, and goes first when room
//! is needed. Who has more than others makes room for them, who left answers behind makes room for everybody; what runs
//! is never displaced, except where nobody is there to hear it.

use alloc::collections::BTreeMap;
use core::cmp::Reverse;

use crate::{
    event::{ProviderEvent, ServedReason},
    id::{AttemptId, PeerId},
    limits::Limits,
    time::{Instant, Millis},
    wire::message::{Award, DeclineReason, EndReason},
};

use super::{
    Provider,
    job::{Job, JobState},
};

/// Answers more that may be left behind than are taken: lines break, processes die.
const FORGIVEN: u32 = 2;
/// Half of what is known of a peer's conduct is forgotten after so long.
const MEMORY: Millis = Millis::from_secs(600);

/// How peers have treated the answers that they asked for.
#[derive(Clone, Hash, Debug, Default)]
pub(super) struct Conducts(BTreeMap<PeerId, Conduct>);

#[derive(Clone, Copy, Hash, Debug)]
struct Conduct {
    /// Answers that were taken to their end.
    kept: u32,
    /// Answers that were left behind: without their body, or without a word.
    left: u32,
    /// From when on it is half as much.
    fades: Instant,
}

/// How far a peer is to be preferred to others, ascending.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Standing {
    /// It left clearly more answers behind than it took.
    Doubtful,
    /// Nothing is known.
    New,
    /// It took answers.
    Known,
}

impl Conducts {
    pub(super) fn standing(&self, now: Instant, peer: &PeerId) -> Standing {
        match self.0.get(peer).map(|conduct| conduct.at(now)) {
            Some(Conduct { kept, left, .. }) if left > kept.saturating_add(FORGIVEN) => Standing::Doubtful,
            Some(Conduct { kept: 1.., .. }) => Standing::Known,
            _ => Standing::New,
        }
    }

    /// Notes how an answer was treated.
    fn note(&mut self, now: Instant, limits: &Limits, peer: PeerId, kept: bool) {
        if self.0.len() >= limits.known_peers as usize && !self.0.contains_key(&peer) {
            let oldest = self.0.iter().min_by_key(|(_, conduct)| conduct.fades).map(|(peer, _)| *peer);
            oldest.map(|oldest| self.0.remove(&oldest));
        }
        let new = Conduct { kept: 0, left: 0, fades: now.after(MEMORY) };
        let conduct = self.0.entry(peer).or_insert(new);
        *conduct = conduct.at(now);
        let count = if kept { &mut conduct.kept } else { &mut conduct.left };
        *count = count.saturating_add(1);
    }
}

impl Conduct {
    /// As it is now, faded.
    fn at(mut self, now: Instant) -> Self {
        while self.fades <= now && (self.kept, self.left) != (0, 0) {
            (self.kept, self.left) = (self.kept / 2, self.left / 2);
            self.fades = self.fades.after(MEMORY);
        }
        Self { fades: self.fades.max(now), ..self }
    }
}

impl Provider {
    /// Slots and places in the queue.
    const fn places(&self) -> u32 {
        self.service.slots.saturating_add(self.service.queue)
    }

    /// What one peer may have of them while others ask; and awards of it whose body is still to come, at any time.
    fn share(&self) -> usize {
        (self.places() / 2).max(1) as usize
    }

    /// Whether every place is taken.
    pub(super) fn is_busy(&self) -> bool {
        self.holding() as u64 >= u64::from(self.places())
    }

    /// Jobs that hold a slot or a place in the queue.
    pub(super) fn holding(&self) -> usize {
        self.jobs.values().filter(|job| self.holds(job)).count()
    }

    /// A job holds a place from when its body came, or as much of it as may come unasked; cut off from it, it holds none.
    fn holds(&self, job: &Job) -> bool {
        match job.state {
            JobState::Receiving => {
                let pledge = job.award.body_bytes.min(self.limits.body_unasked).max(1);
                job.stream().is_some() && job.body.len() as u64 >= pledge
            }
            JobState::Queued | JobState::Running => true,
            JobState::Ended { .. } => false,
        }
    }

    fn held_by(&self, peer: &PeerId) -> usize {
        self.jobs.values().filter(|job| job.peer == *peer && self.holds(job)).count()
    }

    /// Whether a peer has as much here as one may: jobs, or awards whose body is still to come.
    pub(super) fn is_over_share(&self, peer: &PeerId) -> bool {
        let open = self.peers.get(peer).map_or(0, |load| load.jobs);
        let unended = || self.jobs.values().filter(|job| job.peer == *peer && !job.is_ended());
        let to_come = unended().filter(|job| !self.holds(job)).count();
        let doubtful = self.conducts.standing(self.now, peer) == Standing::Doubtful;
        open >= self.limits.jobs_per_peer || to_come >= self.share() || (doubtful && unended().count() > 0)
    }

    /// Makes room for a peer's award: its bytes, and a place. `false`: there is none.
    pub(super) fn make_room(&mut self, peer: PeerId, award: &Award) -> bool {
        while self.held.saturating_add(award.body_bytes) > self.limits.node_bytes {
            // What was announced and did not come gives way, the oldest first.
            let waits = |job: &Job| matches!(job.state, JobState::Receiving) && !self.holds(job);
            let Some(oldest) = self.jobs.iter().find(|(_, job)| waits(job)).map(|(id, _)| *id) else { return false };
            self.displace(oldest, DeclineReason::Busy);
        }
        !self.is_busy() || self.displace_for(peer)
    }

    /// A body has come so far that its job holds a place: there has to be one. `false`: it was declined.
    pub(super) fn take_place(&mut self, id: AttemptId) -> bool {
        let Some(peer) = self.jobs.get(&id).map(|job| job.peer) else { return false };
        let fits = self.holding() as u64 <= u64::from(self.places()) || self.displace_for(peer);
        if !fits {
            self.displace(id, DeclineReason::Busy);
        }
        fits
    }

    /// Whether there is no place for a further job of a peer, not even one that somebody else has too much.
    pub(super) fn is_full_for(&self, peer: PeerId) -> bool {
        self.is_busy() && self.victim_for(peer).is_none()
    }

    fn displace_for(&mut self, peer: PeerId) -> bool {
        let victim = self.victim_for(peer);
        if let Some(victim) = victim {
            self.displace(victim, DeclineReason::PeerLimit);
        }
        victim.is_some()
    }

    /// A job that waits and whose peer has more than its share, more than this one, or a lower standing.
    fn victim_for(&self, peer: PeerId) -> Option<AttemptId> {
        let (own, standing) = (self.held_by(&peer), self.conducts.standing(self.now, &peer));
        let waiting = self.jobs.iter().filter(|(_, job)| {
            job.peer != peer && self.holds(job) && matches!(job.state, JobState::Queued | JobState::Receiving)
        });
        waiting
            .map(|(id, job)| (self.conducts.standing(self.now, &job.peer), self.held_by(&job.peer), *id))
            .filter(|(other, held, _)| {
                (*other == Standing::Doubtful && standing > Standing::Doubtful)
                    || *held > self.share().max(own)
                    || *held > own + 1
            })
            // The least in standing, of these who has most, of these the newest.
            .min_by_key(|(other, held, id)| (*other, Reverse(*held), Reverse(*id)))
            .map(|(_, _, id)| id)
    }

    /// Takes its place from a job that did not begin: its requester is told to come again.
    fn displace(&mut self, id: AttemptId, reason: DeclineReason) {
        let Some(job) = self.jobs.get(&id) else { return };
        debug_assert!(matches!(job.state, JobState::Queued | JobState::Receiving), "what runs is not displaced");
        let (stream, to_come) = (job.stream(), job.award.body_bytes.saturating_sub(job.body.len() as u64));
        let to_come = if matches!(job.state, JobState::Receiving) { to_come } else { 0 };
        self.drop_job(id, ServedReason::Displaced);
        if let Some(stream) = stream {
            if let Some(stream) = self.streams.get_mut(&stream) {
                // It was credited, and may be on its way.
                stream.stray_body = to_come;
                stream.is_displaced = true;
                stream.until = self.now.after(self.service.idle);
            }
            self.decline(stream, reason, None);
            self.index_stream(stream);
        }
    }

    /// Slots of jobs whose requester is gone for so long that somebody who waits goes first. Its tokens are kept.
    pub(super) fn yield_slots(&mut self) {
        while self.running >= self.service.slots && !self.queue.is_empty() {
            let gone = |job: &Job| job.is_running() && job.yields_at() <= self.now;
            let Some(attempt) = self.jobs.iter().find(|(_, job)| gone(job)).map(|(id, _)| *id) else { return };
            self.outbox.event(ProviderEvent::Stop { attempt });
            // What it wrote can still be resumed; then it ends without blame, and goes on elsewhere.
            self.end_attempt(attempt, EndReason::Shutdown);
        }
    }

    /// Notes what an end says of the peer.
    pub(super) fn note_conduct(&mut self, job: &Job, reason: ServedReason) {
        let kept = match reason {
            ServedReason::Acknowledged(EndReason::TooSlow) => false,
            ServedReason::Acknowledged(_) => true,
            ServedReason::Unacknowledged(_) | ServedReason::Lost | ServedReason::Violation(_) => false,
            // Who cancels after it took tokens is a customer; before them, nothing was owed for what was computed.
            ServedReason::Cancelled if job.acked() > 0 => true,
            ServedReason::Cancelled | ServedReason::Displaced => return,
        };
        self.conducts.note(self.now, &self.limits, job.peer, kept);
    }

    /// The job in the queue that is next: those of doubtful peers wait for all others.
    pub(super) fn next_queued(&mut self) -> Option<AttemptId> {
        let doubtful = |id: &AttemptId| {
            let peer = self.jobs.get(id).map(|job| job.peer);
            peer.is_some_and(|peer| self.conducts.standing(self.now, &peer) == Standing::Doubtful)
        };
        let at = self.queue.iter().position(|id| !doubtful(id)).unwrap_or(0);
        self.queue.remove(at)
    }
}
