//! Who is trusted, seen and changed while no node runs.

use haggle_core::{Instant, Limits, Policy, Refusal, Requester, SnapshotError, time::Millis};

use crate::{
    Error,
    config::field,
    entropy,
    state::{CLOCK_START, REQUESTER, State},
};

impl State {
    /// Looks at, or changes, who is trusted, without starting a node. Jobs stay as they are. `limits` are those of the node:
    /// what has no room in them is lost, as it would be there.
    ///
    /// # Errors
    /// A limit that cannot work, a snapshot that cannot be restored or written, or what `change` refuses: nothing is stored
    /// then.
    pub fn trust<T>(
        &self,
        limits: Limits,
        change: impl FnOnce(&mut Requester, Instant) -> Result<T, Refusal>,
    ) -> Result<T, Error> {
        let now = Instant::from_millis(CLOCK_START.0);
        // No deadline is cut short by a policy that is not the node's.
        let policy = Policy { job_deadline: Millis(u64::MAX), ..Policy::default() };
        let seed = entropy::seed().map_err(Error::Runtime)?;
        let mut requester = match self.load(REQUESTER)? {
            Some((bytes, away)) => {
                let restored = Requester::restore((now, away), &bytes, &[], policy, limits, seed);
                restored.map_err(|source| match source {
                    SnapshotError::Config(error) => Error::from(field("limits.")(error)),
                    source => self.damaged(REQUESTER, source).into(),
                })?
            }
            None => Requester::new(policy, limits, seed).map_err(field("limits."))?,
        };
        let before = requester.snapshot(now);
        let outcome = change(&mut requester, now)?;
        let after = requester.snapshot(now);
        if after != before {
            self.store(REQUESTER, &after)?;
        }
        Ok(outcome)
    }
}
