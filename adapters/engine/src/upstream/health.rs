//! Is the server able to answer? It is asked for its models, and believed what it shows in jobs.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use serde::Deserialize;

use crate::{Outage, Watcher};

use super::{http::Client, refusal};

/// Whether the server can answer, and who wants to know.
pub(super) struct Health {
    state: Mutex<State>,
    /// When to look next. Full: it will look soon anyway.
    look: SyncSender<Duration>,
}

#[derive(Default)]
struct State {
    outage: Option<Outage>,
    /// What jobs were refused for that looking does not show.
    refused: Option<Refused>,
    watchers: Vec<Watcher>,
}

/// A server that lists its models for whoever asks may refuse every prompt all the same.
struct Refused {
    outage: Outage,
    /// Until then the server is not believed to be well.
    until: Instant,
}

/// No longer than this is a server left alone that refuses job after job.
const LONGEST: Duration = Duration::from_secs(3600);

/// A model as the server lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Listed {
    pub(super) id: String,
    pub(super) owned_by: Option<String>,
    /// Tokens of its context, where vLLM says it.
    pub(super) max_model_len: Option<u32>,
    pub(super) meta: Option<Meta>,
}

/// What llama-server adds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Meta {
    pub(super) n_ctx: Option<u32>,
}

#[derive(Deserialize)]
struct List {
    data: Vec<Listed>,
}

impl Health {
    /// A server that is well, looked at from now on, as long as this lives.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn watch(client: Arc<Client>, model: String) -> std::io::Result<Arc<Self>> {
        let (look, looks) = sync_channel(4);
        let health = Arc::new(Self { state: Mutex::default(), look });
        let watched = Arc::downgrade(&health);
        thread::Builder::new().name("upstream health".into()).spawn(move || run(&watched, &client, &model, &looks))?;
        Ok(health)
    }

    pub(super) fn outage(&self) -> Option<Outage> {
        self.lock().outage.clone()
    }

    /// Has somebody told of every change, and of an outage that is.
    pub(super) fn tell(&self, watcher: Watcher) {
        let mut state = self.lock();
        if state.outage.as_ref().is_none_or(|outage| watcher(Some(outage))) {
            state.watchers.push(watcher);
        }
    }

    /// A job has shown that others would not fare better.
    pub(super) fn is_out(&self, outage: Outage) {
        let _ = self.look.try_send(outage.lasts);
        self.set(Some(outage));
    }

    /// A job was refused for what the provider has to mend. Each time that this happens again when the outage was over,
    /// with no job taken in between, the next one lasts twice as long.
    pub(super) fn is_broken(&self, outage: Outage, now: Instant) {
        let mut state = self.lock();
        let (lasts, until) = match &state.refused {
            // Jobs that were under way together are refused together.
            Some(Refused { outage: before, until }) if before.detail == outage.detail && now < *until => {
                (before.lasts, *until)
            }
            Some(Refused { outage: before, .. }) if before.detail == outage.detail => {
                let lasts = before.lasts.saturating_mul(2).min(LONGEST);
                (lasts, now + lasts)
            }
            _ => (outage.lasts, now + outage.lasts),
        };
        let outage = Outage { lasts, ..outage };
        state.refused = Some(Refused { outage: outage.clone(), until });
        drop(state);
        self.is_out(outage);
    }

    /// A job was taken: what others were refused for is mended.
    pub(super) fn takes_jobs(&self) {
        self.lock().refused = None;
    }

    /// What a look has shown.
    fn looked(&self, outage: Option<Outage>, now: Instant) {
        let is_refusing = self.lock().refused.as_ref().is_some_and(|refused| now < refused.until);
        if outage.is_some() || !is_refusing {
            self.set(outage);
        }
    }

    /// A job went wrong: look at once whether the server is well.
    pub(super) fn suspect(&self) {
        let _ = self.look.try_send(Duration::ZERO);
    }

    fn set(&self, outage: Option<Outage>) {
        let mut state = self.lock();
        if state.outage != outage {
            state.outage = outage;
            let State { outage, watchers, .. } = &mut *state;
            watchers.retain(|watcher| watcher(outage.as_ref()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").field("outage", &self.outage()).finish_non_exhaustive()
    }
}

/// Looks every now and then, and when it is told to. Ends when nobody is left who could ask.
fn run(health: &Weak<Health>, client: &Client, model: &str, looks: &Receiver<Duration>) {
    let every = client.patience().probe_every;
    let mut at = Instant::now() + every;
    loop {
        match looks.recv_timeout(at.saturating_duration_since(Instant::now())) {
            Ok(after) => {
                at = Instant::now() + after;
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let outage = probe(client, model).err();
        let Some(health) = health.upgrade() else { return };
        at = Instant::now() + outage.as_ref().map_or(every, |outage| outage.lasts.min(every));
        health.looked(outage, Instant::now());
    }
}

/// Asks whether the server has the model.
///
/// # Errors
/// The outage that this is.
fn probe(client: &Client, model: &str) -> Result<(), Outage> {
    let listed = list(client)?;
    if listed.iter().any(|listed| is_named(listed, model)) {
        return Ok(());
    }
    let detail = format!("the upstream server at {} has no model {model:?} any more", client.base());
    Err(Outage { lasts: client.patience().probe_every, detail })
}

/// The models that the server lists.
///
/// # Errors
/// The outage that this is.
pub(super) fn list(client: &Client) -> Result<Vec<Listed>, Outage> {
    let every = client.patience().probe_every;
    let out = |lasts, detail: String| Outage { lasts, detail };
    let base = client.base();
    match client.get(&format!("{base}/models")) {
        Err(error) => Err(out(every, format!("the upstream server at {base} cannot be reached: {error}"))),
        Ok((200, _, body)) => match serde_json::from_slice::<List>(&body) {
            Ok(list) => Ok(list.data),
            Err(_) => Err(out(every, format!("{base}/models lists no models: is {base} the right address?"))),
        },
        Ok((status, retry_after, body)) => {
            let refusal = refusal::of_status(status, retry_after, &body);
            let lasts = refusal.outage.map_or(every, |outage| outage.lasts);
            Err(out(lasts, format!("asked for its models, {}", refusal.failure.detail)))
        }
    }
}

/// Ollama lists a model with the tag that others leave out.
pub(super) fn is_named(listed: &Listed, model: &str) -> bool {
    listed.id == model || listed.id.strip_suffix(":latest") == Some(model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_lists_models_and_refuses_jobs_is_left_alone_for_longer_and_longer() {
        let (look, _looks) = sync_channel(4);
        let health = Health { state: Mutex::default(), look };
        let refusal = Outage { lasts: refusal::BROKEN, detail: "HTTP 402".into() };
        let lasts = || health.outage().map(|outage| outage.lasts.as_secs());
        let mut now = Instant::now();
        for expected in [30, 60, 120, 240, 480, 960, 1920, 3600, 3600] {
            health.is_broken(refusal.clone(), now);
            assert_eq!(lasts(), Some(expected));
            health.is_broken(refusal.clone(), now + Duration::from_secs(1));
            assert_eq!(lasts(), Some(expected), "one refusal of several jobs");
            now += Duration::from_secs(expected);
            health.looked(None, now - Duration::from_secs(1));
            assert_eq!(lasts(), Some(expected), "what a look shows is no proof yet");
            health.looked(None, now);
            assert_eq!(lasts(), None);
        }
        health.takes_jobs();
        health.is_broken(refusal.clone(), now);
        assert_eq!(lasts(), Some(30), "it was mended in between");
        health.is_broken(Outage { detail: "HTTP 401".into(), ..refusal }, now);
        assert_eq!(lasts(), Some(30), "another fault begins anew");
    }
}
