//! Shows the settings in effect, or writes a file to begin with.

use std::{fs, io::Write, path::Path};

use serde_json::{Map, Value, json};

use crate::{
    args::{Global, ShowConfig},
    exit::{Exit, Failed},
    screen::{Screen, print_json},
    settings::{Settings, default_file},
};

pub(crate) fn run(global: &Global, args: &ShowConfig) -> Result<Exit, Failed> {
    if args.init {
        return init(global);
    }
    let settings = Settings::load(global, &args.node)?;
    settings.config()?;
    for one in settings.each()? {
        one.sales()?;
    }
    settings.budget()?;
    settings.running()?;
    let all = settings.all();
    if global.json {
        let entry = |(path, value, origin)| (path, json!({"value": value, "origin": origin}));
        let all: Map<String, Value> = all.into_iter().map(entry).collect();
        print_json(&json!({"settings": all, "data_dir": settings.data_dir().ok()}))?;
        return Ok(Exit::Done);
    }
    let mut out = Screen::Out;
    match settings.data_dir() {
        Ok(folder) => writeln!(out, "# data folder: {}", folder.display())?,
        Err(unknown) => writeln!(out, "# {}", unknown.message)?,
    }
    // Each line is TOML: dotted keys, and JSON's strings are TOML's.
    for (path, value, origin) in all {
        writeln!(out, "{:<60} # {origin}", format!("{path} = {}", toml(value)))?;
    }
    Ok(Exit::Done)
}

/// A value as TOML writes it.
fn toml(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(",")),
        Value::Object(table) => {
            let pairs: Vec<_> = table.iter().map(|(key, value)| format!("{key} = {}", toml(value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        value => value.to_string(),
    }
}

/// Writes a file in which nothing is set and everything explained.
fn init(global: &Global) -> Result<Exit, Failed> {
    let unknown =
        || Failed::config("no folder for settings is known: set HOME or XDG_CONFIG_HOME, or say --config FILE");
    let file = global.config.clone().or_else(default_file).ok_or_else(unknown)?;
    write(&file).map_err(|error| {
        Failed::config(match error.kind() {
            std::io::ErrorKind::AlreadyExists => format!("{} is there already, and stays as it is", file.display()),
            _ => format!("cannot write {}: {error}", file.display()),
        })
    })?;
    match global.json {
        true => print_json(&json!({"event": "config:written", "file": file}))?,
        false => writeln!(Screen::Out, "every setting is explained in {}", file.display())?,
    }
    Ok(Exit::Done)
}

fn write(file: &Path) -> std::io::Result<()> {
    let text = text().map_err(|failed| std::io::Error::other(failed.message))?;
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::File::create_new(file)?.write_all(text.as_bytes())
}

/// The file: each setting's default behind a `#`, after what it is for.
fn text() -> Result<String, Failed> {
    let mut text = String::from(
        "# Settings of haggle: take the # away and change the value. Variables (HAGGLE_ and the key in capitals)\n\
         # and flags stand above this file; `haggle config` shows what is in effect, and why.\n",
    );
    let defaults = Settings::defaults()?;
    let all = defaults.all();
    for (title, keys) in WORDS {
        text.push_str(&format!("\n# {title}\n"));
        for (key, words) in *keys {
            let value = all.iter().find(|(path, ..)| path == key).map(|(_, value, _)| value);
            debug_assert!(value.is_some(), "{key} is a setting");
            text.extend(value.map(|value| format!("\n# {words}\n#{key} = {value}\n")));
        }
    }
    text.push_str("\n# Sizes and counts of the protocol: what reaches one is refused, never cut.\n\n");
    let limits = all.iter().filter(|(path, ..)| path.starts_with(LIMITS));
    text.extend(limits.map(|(path, value, _)| format!("#{path} = {value}\n")));
    Ok(text)
}

const LIMITS: &str = "limits.";

type Words = [(&'static str, &'static str)];

/// What each setting is for.
const WORDS: &[(&str, &Words)] = &[
    (
        "The network",
        &[
            ("bootstrap_nodes", "Nodes by which the network is entered, each as ADDRESS/p2p/PEER_ID."),
            ("providers", "Providers that are known already, each as ADDRESS/p2p/PEER_ID; asked in every search."),
            ("network", "Its name; nodes of other networks are not found."),
            ("enable_dht", "Find providers, and be found, in the distributed hash table."),
            ("enable_mdns", "Find nodes on the local network."),
            ("listen_addresses", "Where to listen, such as \"/ip4/0.0.0.0/tcp/4001\" or \"/ip4/0.0.0.0/tcp/4002/ws\"."),
            ("announce_addresses", "Where others reach this node, if that is not where it listens."),
        ],
    ),
    (
        "Buying",
        &[
            (
                "budget",
                "What an answer, or a talk, may cost in units, such as \"0.01\"; empty: only free providers are taken.",
            ),
            ("request_timeout", "How long an award waits to be accepted."),
            (
                "first_token",
                "How long a first token is waited for while its provider says that it works, and nobody else is known.",
            ),
            ("max_retries", "Attempts after the first; 0 is one attempt."),
            ("retry_delay", "The pause before the first retry; later ones are longer."),
            ("resume_grace", "How long a provider that is lost in mid-answer is waited for, if another could go on."),
            (
                "resume_timeout",
                "How long it is waited for if nobody else is known; providers keep a job for their job_ttl.",
            ),
        ],
    ),
    (
        "Selling",
        &[
            ("model", "The model's name."),
            (
                "models",
                "Several models: a table [[models]] for each, with whatever of these it has of its own; slots add up.",
            ),
            ("aliases", "Other names for it."),
            ("price_in", "Units for 1,000,000 tokens read, such as \"0.1\"; nothing is paid in this version."),
            ("price_out", "Units for 1,000,000 tokens written."),
            (
                "floor_permille",
                "Bids go three quarters of the way down to this at most, in thousandths of the price; 1000 does not haggle.",
            ),
            ("slots", "Jobs computed at once."),
            ("queue", "Jobs that wait for a slot; further ones are told that this node is busy."),
            ("tokens_per_second", "Tokens written per second, all jobs together; 0 is no limit."),
            ("model_file", "A GGUF file to sell; empty: the model that is part of this program."),
            ("threads", "Threads that compute a token together; 0: as the machine has, up to 8."),
            ("context", "Tokens of prompt and answer together; 0: the model's, up to 4096."),
            ("upstream", "The address of an OpenAI-compatible server to sell, such as \"http://127.0.0.1:11434/v1\"."),
            ("upstream_model", "The model's name there; empty: as `model`, or the only one it has."),
            (
                "upstream_patience",
                "How long it may take for the first byte of an answer, for instance to load its model.",
            ),
            ("upstream_errors", "Show what it says itself of an error; it may quote prompts or the key."),
            ("upstream_key_env", "The environment variable that holds the server's key."),
            ("upstream_dialect", "What server it is: llama, vllm, ollama or openai; empty: as it says of itself."),
            (
                "features",
                "What requests may ask of it beside text, such as [\"tools\", \"json_schema\"]; empty: it is given prompts only.",
            ),
            ("job_ttl", "How long a job is kept whose requester was lost."),
            ("stall_timeout", "When a job ends whose requester takes nothing."),
            (
                "metrics",
                "Where /metrics, /health and /ready are answered over HTTP, such as \"127.0.0.1:9464\"; empty: nowhere.",
            ),
            ("status_every", "How often `serve` tells how business goes; \"0s\": never."),
            ("drain", "How long jobs may go on after the first Ctrl-C."),
        ],
    ),
    (
        "The gateway",
        &[(
            "gateway.key",
            "Keys that clients have to send: a table [[gateway.key]] for each, with name, key_env or key_file (where it is), \
             and budget_per_day, rate (requests a minute) and models, as far as it is bound.",
        )],
    ),
    ("Books", &[("ledger", "A file that gets a line for each attempt that was sold or bought; empty: none.")]),
    (
        "Connections",
        &[
            ("dial_timeout", "From the first packet to an open stream."),
            ("idle_connection_timeout", "How long a connection without a stream is kept for the next job."),
            ("max_connections", "Connections in all."),
            ("max_connections_per_peer", "Connections to one peer."),
            ("max_connections_per_group", "Inbound connections of one group of addresses (IPv4 /24, IPv6 /48)."),
            ("max_pending_connections", "Connections that are being made, each way."),
            ("max_streams_to_peer", "Live streams to one peer; each job has one."),
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_explained_once() {
        let defaults = Settings::defaults().expect("defaults");
        let mut known: Vec<String> = defaults.all().into_iter().map(|(path, ..)| path).collect();
        known.retain(|path| !path.starts_with(LIMITS));
        let mut told: Vec<&str> = WORDS.iter().flat_map(|(_, keys)| keys.iter().map(|(key, _)| *key)).collect();
        told.sort_unstable();
        assert_eq!(told, known, "`haggle config --init` tells of each setting: add its words to WORDS");
        let text = text().expect("a file");
        assert!(text.lines().all(|line| line.is_empty() || line.starts_with('#')), "{text}");
        assert!(text.contains("\n#limits.jobs = 1024\n"), "{text}");
        // Without the signs it is a configuration.
        let set: String =
            text.lines().filter(|line| line.contains(" = ")).map(|line| format!("{}\n", &line[1..])).collect();
        let table: toml::Table = set.parse().unwrap_or_else(|error| panic!("{error}: {set}"));
        assert!(table.contains_key("listen_addresses"));
    }
}
