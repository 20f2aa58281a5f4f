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
    watchers: Vec<Watcher>,
}

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

    /// A job went wrong: look at once whether the server is well.
    pub(super) fn suspect(&self) {
        let _ = self.look.try_send(Duration::ZERO);
    }

    fn set(&self, outage: Option<Outage>) {
        let mut state = self.lock();
        if state.outage != outage {
            state.outage = outage;
            let State { outage, watchers } = &mut *state;
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
        health.set(outage);
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
