//! Who has a place: slots and the queue, shared among peers.
//!
//! A place is held by bytes that came, not by words: an award whose body is still to come holds none, and goes first when room
//! is needed. Who has more than others makes room for them, who left answers behind makes room for everybody; what runs
//! is never displaced, except where nobody is there to hear it. Here jobs are compared with each other; what one of them does
//! is its own affair.

use core::cmp::Reverse;

use crate::{
    event::ServedReason,
    id::{AttemptId, PeerId},
    wire::message::{Award, DeclineReason, EndReason},
};

use super::{
    Provider,
    conduct::Preference,
    context::Context,
    job::{Farewell, Job, JobState, Next},
};

impl Provider {
    /// Jobs that are not over.
    pub(super) fn unended(&self) -> usize {
        self.jobs.values().filter(|job| !job.is_ended()).count()
    }

    /// Whether every place is taken.
    pub(super) fn is_busy(&self) -> bool {
        self.holding() as u64 >= u64::from(self.cx.places())
    }

    /// Jobs that hold a slot or a place in the queue.
    pub(super) fn holding(&self) -> usize {
        self.jobs.values().filter(|job| self.holds(job)).count()
    }

    fn holds(&self, job: &Job) -> bool {
        job.holds_place(self.cx.limits.body_unasked)
    }

    fn held_by(&self, peer: &PeerId) -> usize {
        self.jobs.values().filter(|job| job.peer == *peer && self.holds(job)).count()
    }

    /// Whether a peer has as much here as one may: jobs, or awards whose body is still to come.
    pub(super) fn is_over_share(&self, peer: &PeerId) -> bool {
        let open = self.cx.peers.get(peer).map_or(0, |load| load.jobs);
        let unended = || self.jobs.values().filter(|job| job.peer == *peer && !job.is_ended());
        let to_come = unended().filter(|job| !self.holds(job)).count();
        let doubtful = self.cx.preference(peer) == Preference::Doubtful;
        open >= self.cx.limits.jobs_per_peer || to_come >= self.cx.share() || (doubtful && unended().count() > 0)
    }

    /// Makes room for a peer's award: its bytes, and a place. `false`: there is none.
    pub(super) fn make_room(&mut self, peer: PeerId, award: &Award) -> bool {
        while self.cx.held.saturating_add(award.body_bytes) > self.cx.limits.node_bytes {
            // What was announced and did not come gives way, the oldest first.
            let waits = |job: &Job| job.is_receiving() && !self.holds(job);
            let Some(oldest) = self.jobs.iter().find(|(_, job)| waits(job)).map(|(id, _)| *id) else { return false };
            self.displace(oldest, DeclineReason::Busy);
        }
        !self.is_busy() || self.displace_for(peer)
    }

    /// Whether there is a place for a job of a peer that has so much of its body, be it one that is made.
    pub(super) fn has_place_for(&mut self, peer: PeerId) -> bool {
        self.holding() as u64 <= u64::from(self.cx.places()) || self.displace_for(peer)
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

    /// A job that waits and whose peer has more than its share, more than this one, or is preferred less.
    fn victim_for(&self, peer: PeerId) -> Option<AttemptId> {
        let (own, preference) = (self.held_by(&peer), self.cx.preference(&peer));
        let waiting = self.jobs.iter().filter(|(_, job)| {
            job.peer != peer && self.holds(job) && matches!(job.state, JobState::Queued | JobState::Receiving)
        });
        waiting
            .map(|(id, job)| (self.cx.preference(&job.peer), self.held_by(&job.peer), *id))
            .filter(|(other, held, _)| {
                (*other == Preference::Doubtful && preference > Preference::Doubtful)
                    || *held > self.cx.share().max(own)
                    || *held > own + 1
            })
            // The least preferred, of these who has most, of these the newest.
            .min_by_key(|(other, held, id)| (*other, Reverse(*held), Reverse(*id)))
            .map(|(_, _, id)| id)
    }

    /// Takes its place from a job that did not begin: its requester is told to come again.
    pub(super) fn displace(&mut self, id: AttemptId, reason: DeclineReason) {
        self.drive(id, |job, _| job.displace(reason));
    }

    /// Gives free slots to who waits.
    pub(super) fn fill_slots(&mut self) {
        self.yield_slots();
        while self.cx.running < self.cx.service.slots {
            let Some(id) = self.cx.take_queued() else { return };
            debug_assert!(self.jobs.contains_key(&id), "a job leaves the queue when it is forgotten");
            self.drive(id, Job::start);
        }
    }

    /// Slots of jobs whose requester is gone for so long that somebody who waits goes first. Its tokens are kept.
    fn yield_slots(&mut self) {
        while self.cx.running >= self.cx.service.slots && !self.cx.queue.is_empty() {
            let gone = |job: &Job| job.is_running() && job.yields_at() <= self.cx.now;
            let Some(attempt) = self.jobs.values().find(|job| gone(job)).map(|job| job.id) else { return };
            // What it wrote can still be resumed; then it ends without blame, and goes on elsewhere.
            self.drive(attempt, |job, cx| job.stop(cx, EndReason::Shutdown));
        }
    }
}

impl Context {
    /// Slots and places in the queue.
    const fn places(&self) -> u32 {
        self.service.slots.saturating_add(self.service.queue)
    }

    /// What one peer may have of them while others ask; and awards of it whose body is still to come, at any time.
    fn share(&self) -> usize {
        (self.places() / 2).max(1) as usize
    }

    fn preference(&self, peer: &PeerId) -> Preference {
        self.conducts.preference(self.now, peer)
    }

    /// Takes the job out of the queue that is next: those of doubtful peers wait for all others.
    fn take_queued(&mut self) -> Option<AttemptId> {
        let at = self.queue.iter().position(|(_, peer)| self.preference(peer) != Preference::Doubtful);
        self.queue.remove(at.unwrap_or(0)).map(|(id, _)| id)
    }
}

impl Job {
    /// A job holds a place from when its body came, or as much of it as may come unasked; cut off from it, it holds none.
    fn holds_place(&self, unasked: u64) -> bool {
        match self.state {
            JobState::Receiving => {
                let pledge = self.award.body_bytes.min(unasked).max(1);
                self.stream().is_some() && self.body.len() as u64 >= pledge
            }
            JobState::Queued | JobState::Running => true,
            JobState::Ended { .. } => false,
        }
    }

    /// It makes room for another.
    fn displace(&self, reason: DeclineReason) -> Next {
        debug_assert!(matches!(self.state, JobState::Queued | JobState::Receiving), "what runs is not displaced");
        Next::Forget(ServedReason::Displaced, Farewell::Displace(reason, self.body_to_come()))
    }
}
