//! What of a provider outlives its process: which attempts it had, so that none is computed twice.
//!
//! What was computed is lost with the process. Whoever resumes is told so at once, and goes on elsewhere.

use alloc::vec::Vec;

use minicbor::{Decode, Encode};

use crate::{
    id::{JobId, PeerId},
    limits::Limits,
    snapshot::{self, Kind, SnapshotError, Taken, require},
    time::{Instant, Millis},
};

use super::{
    Provider, Service,
    context::{Context, Name},
};

#[derive(Encode, Decode)]
#[cbor(map, context_bound = "crate::snapshot::Clock")]
struct State {
    #[n(0)]
    typical: Millis,
    #[n(1)]
    lost: Vec<Lost>,
}

/// An attempt that was lost with its process.
#[derive(Encode, Decode)]
#[cbor(map, context_bound = "crate::snapshot::Clock")]
struct Lost {
    #[n(0)]
    peer: PeerId,
    #[n(1)]
    job: JobId,
    #[n(2)]
    attempt: u32,
    /// Nobody asks for it later.
    #[n(3)]
    until: Instant,
}

impl Provider {
    /// Everything that is to outlive the process, as bytes. Take one, and have it stored, before what follows
    /// [`crate::ProviderEvent::Start`] leaves the node, and when an attempt is over.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> Vec<u8> {
        let now = self.cx.now.max(now);
        let until = now.after(self.cx.service.job_ttl);
        let open = self.cx.by_name.keys().map(|name| (*name, until));
        let before = self.cx.lost.iter().filter(|(_, until)| now < **until).map(|(name, until)| (*name, *until));
        let lost = |((peer, job, attempt), until)| Lost { peer, job, attempt, until };
        let state = State { typical: self.cx.typical, lost: open.chain(before).map(lost).collect() };
        snapshot::seal(Kind::Provider, now, &state)
    }

    /// When the next snapshot is to be taken though nothing happens, if the last one was taken then: in it, open attempts are
    /// remembered only for so long as nobody asks for them later. `None` while there are none.
    #[must_use]
    pub fn snapshot_due(&self, taken: Instant) -> Option<Instant> {
        let half = Millis(self.cx.service.job_ttl.0 / 2).max(Millis(1));
        (!self.cx.by_name.is_empty()).then(|| taken.after(half))
    }

    /// The provider that a snapshot was taken of, `away` ago. It has no jobs: an attempt of then is answered with
    /// `Gone{Evicted}`, and not computed again when it is awarded again.
    ///
    /// # Errors
    /// [`SnapshotError`]: nothing was restored.
    pub fn restore(
        (now, away): (Instant, Millis),
        bytes: &[u8],
        service: Service,
        limits: Limits,
        seed: [u8; 32],
    ) -> Result<Self, SnapshotError> {
        let state: State = snapshot::open(Kind::Provider, bytes, Taken::ago(now, away))?;
        let mut provider = Self::new(service, limits, seed)?;
        provider.cx.now = now;
        provider.cx.typical = state.typical;
        for Lost { peer, job, attempt, until } in state.lost {
            let until = until.min(now.after(provider.cx.service.job_ttl));
            require(provider.cx.lost.insert((peer, job, attempt), until).is_none())?;
        }
        provider.cx.lost.retain(|_, until| now < *until);
        if provider.cx.lost.len() > provider.most_lost() {
            return Err(SnapshotError::TooLarge);
        }
        Ok(provider)
    }

    /// Open jobs of this process and, each for as long as it may be asked for, of those before it.
    fn most_lost(&self) -> usize {
        16 * self.cx.limits.jobs as usize
    }
}

impl Context {
    /// Whether an attempt was lost with an earlier process.
    pub(super) fn was_lost(&self, name: &Name) -> bool {
        self.lost.get(name).is_some_and(|until| self.now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AttemptId;

    #[test]
    fn an_attempt_of_any_length_is_remembered_if_snapshots_are_taken_when_they_are_due() {
        let mut provider = Provider::new(Service::default(), Limits::default(), [7; 32]).unwrap();
        let name = (PeerId::new(b"p").unwrap(), JobId([1; 16]), 1);
        assert_eq!(provider.snapshot_due(Instant::ZERO), None);
        provider.cx.by_name.insert(name, AttemptId(0));
        let mut taken = Instant::ZERO;
        for _ in 0..10 {
            let bytes = provider.snapshot(taken);
            let due = provider.snapshot_due(taken).unwrap();
            assert!(taken < due);
            let (service, limits) = (Service::default(), Limits::default());
            let restored = Provider::restore((due, due.since(taken)), &bytes, service, limits, [8; 32]).unwrap();
            assert!(restored.cx.was_lost(&name));
            taken = due;
        }
        assert!(taken.since(Instant::ZERO) > Service::default().job_ttl);
    }
}
