//! Servers whose idle time is sold.

use std::{
    env,
    io::Write,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use haggle::{
    core::wire::message::Features,
    engine::{
        Engine,
        upstream::{Config, Dialect, Key, Notice, OpenError, Patience, Upstream},
    },
};
use serde_json::{Value, json};

use crate::{
    exit::{Exit, Failed},
    names::did_you_mean,
    screen::{Screen, in_line},
    settings::{Sales, Settings},
};

/// The server that the settings name, if they name one. It has to answer now: what it says goes into the advert.
pub(crate) fn open(settings: &Settings, sales: &Sales) -> Result<Option<Arc<Upstream>>, Failed> {
    if sales.upstream.is_empty() {
        let named = [
            "upstream_model",
            "upstream_key_env",
            "upstream_dialect",
            "upstream_patience",
            "upstream_errors",
            "features",
        ];
        return match named.into_iter().find(|key| !settings.is_default(key)) {
            Some(key) => Err(Failed::config(format!("{key}: without upstream it means nothing; give --upstream URL"))),
            None => Ok(None),
        };
    }
    if !sales.model_file.is_empty() {
        return Err(Failed::config(
            "upstream: a node sells a file's model or a server's, not both; leave one of them out",
        ));
    }
    if settings.is_default("model") {
        return Err(Failed::config(
            "model: say under which name the upstream server's model is sold, with --model NAME",
        ));
    }
    if sales.upstream_patience.is_zero() {
        return Err(Failed::config("upstream_patience: no server answers in no time; it must be above 0"));
    }
    let config = Config {
        model: given(&sales.upstream_model).map(str::to_owned),
        key: given(&sales.upstream_key_env).map(key).transpose()?,
        dialect: given(&sales.upstream_dialect).map(dialect).transpose()?,
        features: features(&sales.features)?,
        context: Some(sales.context).filter(|context| *context > 0),
        patience: Patience { first_token: sales.upstream_patience, ..Patience::default() },
        ..Config::new(&sales.model, &sales.upstream)
    };
    let opened = patiently(&sales.upstream, || Upstream::open(config));
    let upstream = opened.map_err(|error| match error {
        OpenError::Url(_) | OpenError::Context => Failed::config(format!("upstream: {error}")),
        // A server that loads, or pulls the model, will have it.
        OpenError::UnknownModel { .. } => {
            Failed::new(Exit::Upstream, "unknown_model", format!("{error}; choose with --upstream-model"))
        }
        OpenError::Out(_) => Failed::new(Exit::Upstream, "upstream", error.to_string()),
        OpenError::Locked(_) => Failed::config(format!("{error}; {}", where_keys_are(&sales.upstream_key_env))),
        OpenError::NoList(_) => Failed::usage("unknown_model", format!("{error} with --upstream-model")),
        error => Failed::new(Exit::Other, "upstream", error.to_string()),
    })?;
    tell_other_name(&upstream, sales);
    let shows_words = sales.upstream_errors;
    upstream.listen(Box::new(move |notice| {
        if shows_words || !matches!(notice, Notice::Words(_)) {
            let _ = writeln!(Screen::Err, "{}", in_line(&notice.to_string()));
        }
    }));
    Ok(Some(Arc::new(upstream)))
}

/// The only model of a server is sold under any name. Who meant another one is to know.
fn tell_other_name(upstream: &Upstream, sales: &Sales) {
    let (there, here) = (upstream.model(), sales.model.as_str());
    if sales.upstream_model.is_empty() && there.strip_suffix(":latest").unwrap_or(there) != here && there != here {
        let text = format!(
            "the server has no model {here:?}; its only one, {there:?}, is sold under that name; if that is meant, say \
             --upstream-model {there:?}"
        );
        let _ = writeln!(Screen::Err, "haggle: {}", in_line(&text));
    }
}

/// Asks a server, and says what is waited for if that takes its time.
fn patiently<T>(url: &str, ask: impl FnOnce() -> T) -> T {
    const NOTICED: Duration = Duration::from_secs(1);
    let (done, over) = mpsc::channel::<()>();
    let wait = move || {
        if over.recv_timeout(NOTICED) == Err(mpsc::RecvTimeoutError::Timeout) {
            let most = Patience::default().probe.as_secs();
            let _ = writeln!(Screen::Err, "haggle: waiting for {} to say what it has, {most} s at most", in_line(url));
        }
    };
    thread::scope(|scope| {
        // Without a thread nothing is said, and it is asked all the same.
        let _ = thread::Builder::new().spawn_scoped(scope, wait);
        let answer = ask();
        drop(done);
        answer
    })
}

fn where_keys_are(variable: &str) -> String {
    match given(variable) {
        None => "--upstream-key-env VAR names the environment variable that holds it".into(),
        Some(variable) => format!("it is the one in the environment variable {variable} (--upstream-key-env)"),
    }
}

fn given(setting: &str) -> Option<&str> {
    Some(setting).filter(|setting| !setting.is_empty())
}

/// The key itself is read from the environment only: arguments and files are seen by others. What names no variable is
/// perhaps the key, and not shown.
fn key(variable: &str) -> Result<Key, Failed> {
    let wrong = |problem: &str| Failed::config(format!("upstream_key_env: the variable {variable} {problem}"));
    let key = env::var(variable).map_err(|error| match error {
        env::VarError::NotPresent => Failed::config(
            "upstream_key_env (--upstream-key-env): it takes the NAME of an environment variable that holds the key, not \
             the key, and no variable of the name that was given is set",
        ),
        env::VarError::NotUnicode(_) => wrong("holds no text"),
    })?;
    Key::new(&key).map_err(|_| wrong("is empty, or holds what cannot be sent"))
}

fn dialect(name: &str) -> Result<Dialect, Failed> {
    Dialect::from_name(name).ok_or_else(|| {
        let names = Dialect::ALL.map(Dialect::name);
        let hint = did_you_mean(name, names);
        Failed::config(format!("upstream_dialect: {name:?} is not known{hint} Known: {}", names.join(", ")))
    })
}

/// What whole requests may ask for; `None`: there are none.
fn features(names: &[String]) -> Result<Option<u32>, Failed> {
    let mut all = None;
    for name in names {
        let feature = Features::named(name).filter(|feature| *feature != Features::LOGPROBS).ok_or_else(|| {
            let known = || Features::NAMES.into_iter().filter(|name| *name != "logprobs");
            let hint = did_you_mean(name, known());
            let names: Vec<&str> = known().collect();
            Failed::config(format!("features: {name:?} is not known{hint} Known: {}", names.join(", ")))
        })?;
        all = Some(all.unwrap_or(0) | feature.0);
    }
    Ok(all)
}

fn names(upstream: &Upstream) -> impl Iterator<Item = &'static str> {
    Features(upstream.info().features.unwrap_or(0)).names()
}

/// What a person should know of it.
pub(crate) fn line(upstream: &Upstream, slots: u32) -> String {
    let (model, kind, context) = (upstream.model(), upstream.dialect().name(), upstream.info().context);
    let continues = if upstream.info().can_continue { "" } else { "; it cannot continue what others began" };
    let guessed = !upstream.tells_slots() && slots == upstream.slots();
    let guessed = if guessed { " (a guess, for it does not say; --slots)" } else { "" };
    let names: Vec<&str> = names(upstream).collect();
    let able = if names.is_empty() { String::new() } else { format!("; takes requests with {}", names.join(", ")) };
    format!("written by {model} ({kind}, context {context}), {slots} at once{guessed}{continues}{able}")
}

/// The same for programs.
pub(crate) fn described(upstream: &Upstream) -> Value {
    json!({
        "model": upstream.model(), "dialect": upstream.dialect().name(), "context": upstream.info().context,
        "features": names(upstream).collect::<Vec<_>>(), "can_continue": upstream.info().can_continue, "tells_slots": upstream.tells_slots(),
    })
}
