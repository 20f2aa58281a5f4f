//! Is the server able to answer? It is asked for its models, and believed what it shows in jobs.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{Failure, Outage, Watcher};

use super::{error::ErrorBody, http::Client, json::Json, refusal};

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
    /// Jobs in a row that failed, for whatever reason, with no text in between.
    failed: u32,
    /// Answers that the server is asked for.
    flights: usize,
    /// When bytes of one came last.
    heard: Option<Instant>,
    /// It was to be looked at while an answer was on its way.
    overdue: bool,
    /// How long the first text of the last answers took.
    waits: VecDeque<Duration>,
}

/// A server that lists its models for whoever asks may refuse every prompt all the same.
struct Refused {
    outage: Outage,
    /// Until then the server is not believed to be well.
    until: Instant,
}

/// So many jobs in a row that fail are the server's fault, whatever it says of each.
const IN_A_ROW: u32 = 4;
/// So many answers are remembered to tell how long the next may take.
const REMEMBERED: usize = 9;
/// A server that answers nobody for so long may let its model go: Ollama does, unless it is told otherwise.
const IDLE: Duration = Duration::from_secs(300);
/// No longer than this is a server left alone that refuses job after job.
const LONGEST: Duration = Duration::from_secs(3600);

/// A model as the server lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) id: String,
    pub(super) owned_by: Option<String>,
    /// Tokens of its context, where the server says it.
    pub(super) context: Option<u32>,
}

impl Health {
    /// A server that is well, looked at from now on, as long as this lives: whether it lists the model, or, without one,
    /// whether it answers at all.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn watch(client: Arc<Client>, model: Option<String>) -> std::io::Result<Arc<Self>> {
        let (look, looks) = sync_channel(4);
        let health = Arc::new(Self { state: Mutex::default(), look });
        let watched = Arc::downgrade(&health);
        thread::Builder::new()
            .name("upstream health".into())
            .spawn(move || run(&watched, &client, model.as_deref(), &looks))?;
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
    pub(super) fn mark_out(&self, outage: Outage) {
        let _ = self.look.try_send(outage.lasts);
        self.set(Some(outage));
    }

    /// A job was refused for what the provider has to mend. Each time that this happens again when the outage was over,
    /// with no job taken in between, the next one lasts twice as long.
    pub(super) fn mark_broken(&self, outage: Outage, now: Instant) {
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
        self.mark_out(outage);
    }

    /// A job went wrong in a way that is not known to be the server's: it is looked at at once. Where several do in a row,
    /// the server is out, whatever the look shows.
    pub(super) fn count_failure(&self, failure: &Failure, now: Instant) {
        let mut state = self.lock();
        state.failed += 1;
        if state.failed < IN_A_ROW {
            drop(state);
            return self.look_at_once();
        }
        drop(state);
        let detail = format!("the upstream server fails every job; the last: {}", failure.detail);
        self.mark_broken(Outage { lasts: refusal::BROKEN, detail }, now);
    }

    /// A prompt was answered as a page that is not there, by a server that has never answered one: its address is doubted
    /// at once. Later it is not: what was right once says that this is about the prompt.
    pub(super) fn doubts(&self, url: &str, base: &str, status: u16) -> Option<Outage> {
        let detail = || format!("{url} answers HTTP {status}: {}", doubt(base));
        self.lock().waits.is_empty().then(|| Outage { lasts: refusal::BROKEN, detail: detail() })
    }

    /// A job was taken, and its first text came: what others were refused for is mended.
    pub(super) fn count_answer(&self, wait: Duration) {
        let mut state = self.lock();
        (state.refused, state.failed) = (None, 0);
        state.waits.push_back(wait);
        if state.waits.len() > REMEMBERED {
            state.waits.pop_front();
        }
    }

    /// Whether it answered nobody for so long, or ever, that its model may not be in memory.
    pub(super) fn is_cold(&self) -> bool {
        self.lock().heard.is_none_or(|heard| heard.elapsed() >= IDLE)
    }

    /// How long the first text took, of half of the last answers at most. `None`: there was none yet.
    pub(super) fn wait(&self) -> Option<Duration> {
        let mut waits: Vec<Duration> = self.lock().waits.iter().copied().collect();
        waits.sort_unstable();
        waits.get(waits.len() / 2).copied()
    }

    /// The server is asked for an answer. Until that is over it is not looked at: some servers drop what they write when
    /// somebody else asks for something.
    pub(super) fn begin(self: &Arc<Self>) -> Flight {
        self.lock().flights += 1;
        Flight(self.clone())
    }

    /// Bytes of an answer came.
    pub(super) fn note_bytes(&self) {
        self.lock().heard = Some(Instant::now());
    }

    /// Whether it is better not looked at now. Bytes that flowed since `then` are as good as a look.
    fn put_off_look(&self, then: Instant, now: Instant) -> bool {
        let mut state = self.lock();
        if state.flights == 0 {
            return false;
        }
        state.overdue = true;
        let flows = state.heard.is_some_and(|heard| heard >= then);
        drop(state);
        if flows {
            self.looked(None, now);
        }
        true
    }

    /// What a look has shown.
    fn looked(&self, outage: Option<Outage>, now: Instant) {
        let is_refusing = self.lock().refused.as_ref().is_some_and(|refused| now < refused.until);
        if outage.is_some() || !is_refusing {
            self.set(outage);
        }
    }

    fn look_at_once(&self) {
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

/// An answer that the server is asked for, as long as this lives.
#[derive(Debug)]
pub(super) struct Flight(Arc<Health>);

impl Drop for Flight {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.flights = state.flights.saturating_sub(1);
        if state.flights == 0 && std::mem::take(&mut state.overdue) {
            drop(state);
            self.0.look_at_once();
        }
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").field("outage", &self.outage()).finish_non_exhaustive()
    }
}

/// Looks every now and then, and when it is told to. Ends when nobody is left who could ask.
fn run(health: &Weak<Health>, client: &Client, model: Option<&str>, looks: &Receiver<Duration>) {
    let every = client.patience().probe_every;
    let (mut since, mut at) = (Instant::now(), Instant::now() + every);
    loop {
        match looks.recv_timeout(at.saturating_duration_since(Instant::now())) {
            Ok(after) => {
                at = Instant::now() + after;
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let now = Instant::now();
        let Some(answering) = health.upgrade().map(|health| health.put_off_look(since, now)) else { return };
        if answering {
            (since, at) = (now, now + every);
            continue;
        }
        let outage = probe(client, model).err();
        let Some(health) = health.upgrade() else { return };
        since = now;
        at = Instant::now() + outage.as_ref().map_or(every, |outage| outage.lasts.min(every));
        health.looked(outage, Instant::now());
    }
}

/// Asks whether the server has the model.
///
/// # Errors
/// The outage that this is.
fn probe(client: &Client, model: Option<&str>) -> Result<(), Outage> {
    let listed = match (list(client), model) {
        (Ok(listed), _) => listed,
        (Err(NoList::Missing(_)), None) => return Ok(()),
        (Err(NoList::Missing(outage) | NoList::Locked(outage) | NoList::Out(outage)), _) => return Err(outage),
    };
    let Some(model) = model.filter(|model| !listed.iter().any(|listed| is_named(listed, model))) else { return Ok(()) };
    let detail = format!("the upstream server at {} has no model {model:?} any more", client.base());
    Err(Outage { lasts: client.patience().probe_every, detail })
}

/// Why there is no list of models.
pub(super) enum NoList {
    /// The server answers, and has no such list.
    Missing(Outage),
    /// It wants a key, or another one.
    Locked(Outage),
    /// It cannot answer.
    Out(Outage),
}

/// The models that the server lists.
///
/// # Errors
/// What this comes to.
pub(super) fn list(client: &Client) -> Result<Vec<Listed>, NoList> {
    let every = client.patience().probe_every;
    let out = |lasts, detail: String| NoList::Out(Outage { lasts, detail });
    let base = client.base();
    match client.get(&format!("{base}/models")) {
        Err(error) => Err(out(every, format!("the upstream server at {base} cannot be reached: {error}"))),
        Ok((200, _, body)) => match read(&body) {
            Some(list) => Ok(list),
            None => Err(out(every, format!("{base}/models lists no models: {}", doubt(base)))),
        },
        Ok((status @ (404 | 405 | 501), ..)) => {
            let detail = format!("{base}/models answers HTTP {status}: {}", doubt(base));
            Err(NoList::Missing(Outage { lasts: every, detail }))
        }
        Ok((status, retry_after, body)) => {
            let refusal = refusal::of_status(status, retry_after, &ErrorBody::read(&body));
            let lasts = refusal.outage.map_or(every, |outage| outage.lasts);
            let detail = format!("asked for its models, {}", refusal.failure.detail);
            match status {
                401 | 403 => Err(NoList::Locked(Outage { lasts, detail })),
                _ => Err(out(lasts, detail)),
            }
        }
    }
}

/// What is to be said where there is no list.
fn doubt(base: &str) -> String {
    let usual = usual(base).map_or(String::new(), |usual| format!(" Most end in /v1: {usual}."));
    format!("is {base} the right address?{usual}")
}

/// The address as most servers have it, if this one is another.
fn usual(base: &str) -> Option<String> {
    if let Some(before) = base.strip_suffix("/v1") {
        return before.ends_with("/v1").then(|| before.to_owned());
    }
    let (before, last) = base.rsplit_once('/')?;
    let is_version =
        last.strip_prefix('v').is_some_and(|n| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit()));
    Some(match base.rfind("/v1/") {
        Some(at) => base[..at + "/v1".len()].to_owned(),
        None if is_version => format!("{before}/v1"),
        None => format!("{base}/v1"),
    })
}

/// A list of models, as OpenAI's interface has it, or bare. Entries that are none are left out.
fn read(body: &[u8]) -> Option<Vec<Listed>> {
    let json = Json::whole(body)?;
    let list = if json.is_list() { json } else { json.any(&["data", "models"]).filter(|list| list.is_list())? };
    Some(list.items().filter_map(Listed::read).collect())
}

impl Listed {
    fn read(entry: Json<'_>) -> Option<Self> {
        let id = if entry.is_object() { entry.any(&["id", "name", "model"])? } else { entry };
        let sizes = ["max_model_len", "context_length", "max_context_length", "context_window"];
        let meta = entry.field("meta").and_then(|meta| meta.field("n_ctx"));
        let context = entry.any(&sizes).or(meta).and_then(Json::count);
        Some(Self {
            id: id.lossy()?,
            owned_by: entry.field("owned_by").and_then(Json::lossy),
            context: context.and_then(|context| u32::try_from(context).ok()).filter(|context| *context > 0),
        })
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
    fn an_address_is_doubted_with_the_one_that_it_was_perhaps_to_be() {
        for (base, expected) in [
            ("http://a:1", Some("http://a:1/v1")),
            ("http://a:1/api", Some("http://a:1/api/v1")),
            ("http://a:1/v2", Some("http://a:1/v1")),
            ("http://a:1/api/v1/chat", Some("http://a:1/api/v1")),
            ("http://a:1/v1/v1", Some("http://a:1/v1")),
            ("http://a:1/v1", None),
        ] {
            assert_eq!(usual(base).as_deref(), expected, "{base}");
        }
    }

    #[test]
    fn a_server_that_lists_models_and_refuses_jobs_is_left_alone_for_longer_and_longer() {
        let (look, _looks) = sync_channel(4);
        let health = Health { state: Mutex::default(), look };
        let refusal = Outage { lasts: refusal::BROKEN, detail: "HTTP 402".into() };
        let lasts = || health.outage().map(|outage| outage.lasts.as_secs());
        let mut now = Instant::now();
        for expected in [30, 60, 120, 240, 480, 960, 1920, 3600, 3600] {
            health.mark_broken(refusal.clone(), now);
            assert_eq!(lasts(), Some(expected));
            health.mark_broken(refusal.clone(), now + Duration::from_secs(1));
            assert_eq!(lasts(), Some(expected), "one refusal of several jobs");
            now += Duration::from_secs(expected);
            health.looked(None, now - Duration::from_secs(1));
            assert_eq!(lasts(), Some(expected), "what a look shows is no proof yet");
            health.looked(None, now);
            assert_eq!(lasts(), None);
        }
        health.count_answer(Duration::from_secs(3));
        health.mark_broken(refusal.clone(), now);
        assert_eq!(lasts(), Some(30), "it was mended in between");
        health.mark_broken(Outage { detail: "HTTP 401".into(), ..refusal }, now);
        assert_eq!(lasts(), Some(30), "another fault begins anew");
    }
}
