//! The two machines of a node, begun anew or restored.

use haggle_core::{
    Instant, Limits, Millis, Policy, Provider, Requester, SnapshotError, provider::Service, requester::Command,
};
use haggle_flight::{Recorded, Recorder};

use super::Parts;
use crate::{
    ConfigError, Error,
    config::field,
    entropy,
    state::{Bytes, CLOCK_START, PROVIDER, REQUESTER, State, StoredAnswer},
};

pub(super) struct Machines {
    /// What the core's clock shows at the start.
    pub(super) started: Millis,
    pub(super) requester: Recorded<Requester>,
    /// Of a node that sells.
    pub(super) provider: Option<Recorded<Provider>>,
}

impl Machines {
    pub(super) fn start(parts: &mut Parts) -> Result<Self, Error> {
        if parts.recorder.is_some() && parts.state.is_some() {
            let problem = "cannot be together with a state directory: a recording begins without a past".into();
            return Err(ConfigError { path: "record".into(), problem }.into());
        }
        let (service, policy) = (std::mem::take(&mut parts.service), parts.policy.clone());
        let (limits, stored) = (parts.limits.clone(), std::mem::take(&mut parts.stored));
        let provider = match (service.models.is_empty(), &parts.state) {
            (true, _) => None,
            (false, None) => Some(fresh_provider(service, limits.clone(), parts.recorder.as_ref())?),
            (false, Some(state)) => Some(kept_provider(state, service, limits.clone())?),
        };
        let mut requester = match &parts.state {
            None => fresh_requester(policy, limits, parts.recorder.as_ref())?,
            Some(state) => kept_requester(state, &stored, policy, limits)?,
        };
        // Before anything that was restored goes on.
        if parts.account_budget.is_some() {
            let _ = requester.command(Instant::ZERO, Command::SetAccountBudget(parts.account_budget));
        }
        let started = parts.state.as_ref().map_or(Millis::ZERO, |_| CLOCK_START);
        Ok(Machines { started, requester, provider })
    }
}

fn fresh_requester(policy: Policy, limits: Limits, recorder: Option<&Recorder>) -> Result<Recorded<Requester>, Error> {
    Ok(Recorded::requester(policy, limits, seed()?, recorder).map_err(field("limits."))?)
}

fn kept_requester(
    state: &State,
    stored: &[StoredAnswer],
    policy: Policy,
    limits: Limits,
) -> Result<Recorded<Requester>, Error> {
    let Some((bytes, away)) = state.load(REQUESTER)? else {
        let mut fresh = Requester::new(policy, limits, seed()?).map_err(field("limits."))?;
        fresh.keep_endings();
        return Ok(Recorded::unrecorded(fresh));
    };
    let stored: Vec<Bytes<'_>> = stored.iter().map(Bytes::of).collect();
    let stored: Vec<_> = stored.iter().map(Bytes::stored).collect();
    let restored = Requester::restore((start(), away), &bytes, &stored, policy, limits, seed()?);
    Ok(Recorded::unrecorded(restored.map_err(|error| damaged(state, REQUESTER, error))?))
}

fn fresh_provider(service: Service, limits: Limits, recorder: Option<&Recorder>) -> Result<Recorded<Provider>, Error> {
    Ok(Recorded::provider(service, limits, seed()?, recorder).map_err(field(""))?)
}

fn kept_provider(state: &State, service: Service, limits: Limits) -> Result<Recorded<Provider>, Error> {
    let Some((bytes, away)) = state.load(PROVIDER)? else { return fresh_provider(service, limits, None) };
    let restored = Provider::restore((start(), away), &bytes, service, limits, seed()?);
    Ok(Recorded::unrecorded(restored.map_err(|error| damaged(state, PROVIDER, error))?))
}

fn start() -> Instant {
    Instant::from_millis(CLOCK_START.0)
}

fn seed() -> Result<[u8; 32], Error> {
    entropy::seed().map_err(Error::Runtime)
}

fn damaged(state: &State, name: &str, error: SnapshotError) -> Error {
    match error {
        SnapshotError::Config(error) => field("")(error).into(),
        error => state.damaged(name, error).into(),
    }
}
