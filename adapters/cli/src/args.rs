//! What can be written on the command line.

mod buying;
mod gateway;
mod parsers;
mod selling;

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};
use clap_complete::Shell;
use haggle::{
    core::time::Millis,
    libp2p::{Multiaddr, PeerId},
};

pub(crate) use self::buying::{Ask, Chat, Discover, Models, Order, Quote, Waits, Wanted};
use self::parsers::{parse_peer, parse_span};
pub(crate) use self::{gateway::Gateway, selling::Goods};
use crate::{exit, runtime::Choice};

/// A market for language models without a middleman: find a provider, agree a price, stream the answer.
#[derive(Debug, Parser)]
#[command(name = "haggle", version, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

const EXAMPLES: &str = "\
Examples:
  haggle demo \"Once upon a time\"         a whole market on this machine, in seconds
  haggle bootstrap --listen /ip4/0.0.0.0/tcp/4000
  haggle serve --listen /ip4/0.0.0.0/tcp/4001 --bootstrap ADDR --price-out 0.5
  haggle ask --bootstrap ADDR --budget 0.01 \"Once upon a time\"

Prices are units per 1,000,000 tokens, budgets are units. Nothing is paid in this version: a bill \
says what would be owed. Settings come from a TOML file, then HAGGLE_... variables, then flags; \
`haggle config` shows them all. Exit codes: `haggle ask --help`.";

/// For every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "For every command")]
pub(crate) struct Global {
    /// Print data as JSON on stdout
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The configuration file [default: haggle/config.toml in the XDG configuration folder, if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where keys are kept [default: haggle in the XDG data folder]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The async runtime to run on [default: tokio, if this build has it]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) runtime: Option<Choice>,
    /// Log more on stderr; twice for details. RUST_LOG=target=level says it exactly
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Sell a model's tokens
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Serve),
    /// Run a node by which others find each other
    #[command(after_help = "Example:\n  haggle bootstrap --listen /ip4/0.0.0.0/tcp/4000")]
    Bootstrap(Bootstrap),
    /// Find who serves a model, and at what posted price
    #[command(after_help = "Example:\n  haggle discover --bootstrap ADDR --max-price-out 0.5")]
    Discover(Discover),
    /// Who sells which model, at what posted price
    #[command(after_help = "Example:\n  haggle models --bootstrap ADDR")]
    Models(Models),
    /// Ask for prices; nothing is awarded and no prompt is sent
    #[command(after_help = "Example:\n  haggle quote --bootstrap ADDR --prompt-bytes 4000 --max-tokens 200")]
    Quote(Quote),
    /// Have a prompt answered
    #[command(after_help = ask_help())]
    Ask(Ask),
    /// Talk with a model: each line is a message, and every answer knows what was said before
    #[command(after_help = CHAT_HELP)]
    Chat(Chat),
    /// Play the other side to a provider or a requester in any language, and say which rule of the protocol it breaks
    #[command(after_help = CONFORMANCE_HELP)]
    Conformance(Conformance),
    /// Buy for OpenAI clients: they point their base URL here
    #[command(after_help = GATEWAY_HELP)]
    Gateway(Gateway),
    /// See a market on this machine: five real nodes, offers, a choice, tokens and the bill
    Demo(Demo),
    /// Run a recording again, and compare what the node decided
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay(Replay),
    /// Show what was sold and bought, by peer
    #[command(after_help = LEDGER_EXAMPLES)]
    Ledger(ReadLedger),
    /// How the nodes are that run here: peers, models, jobs, totals, reachability
    #[command(after_help = "Example:\n  haggle serve & haggle status --json")]
    Status,
    /// Who is banned; take it elsewhere, or bring it from there
    #[command(after_help = TRUST_HELP)]
    Bans(Bans),
    /// Never ask a provider again
    #[command(after_help = TRUST_HELP)]
    Ban(OnePeer),
    /// Lift every ban of a provider, and forget what it was banned for
    #[command(after_help = TRUST_HELP)]
    Allow(OnePeer),
    /// How providers have served
    #[command(after_help = TRUST_HELP)]
    Reliability(SomePeer),
    /// Show the settings in effect and where each comes from
    #[command(after_help = CONFIG_EXAMPLES)]
    Config(ShowConfig),
    /// Write what a shell needs to complete commands and options to stdout
    #[command(after_help = COMPLETIONS_HELP)]
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Write manual pages
    #[command(after_help = "Example:\n  haggle man /usr/local/share/man/man1 && man haggle-ask")]
    Man {
        /// The folder they go to; it is made if need be
        folder: PathBuf,
    },
}

const CHAT_HELP: &str = "\
Examples:
  haggle chat --bootstrap ADDR --model llama3.2 --budget 0.05
  haggle chat --provider ADDR --model llama3.2 --system \"Answer in one sentence.\"

A line is a message; an empty one is none. /new forgets what was said, /bye or Ctrl-D ends the talk; a message that begins \
with / is written with two. Ctrl-C ends the \
answer that is being written, and the talk where none is. --budget is for all answers together.";

const CONFORMANCE_HELP: &str = "\
Examples:
  haggle conformance --peer ADDR                   ask a provider, scenario by scenario
  haggle conformance --peer ADDR --only third-counter --only window
  haggle conformance --serve                       be a provider for the requester under test
  haggle conformance --list

With --serve there is one address for each scenario (two where it is about going elsewhere), and a provider that was never met \
behind it. Give the requester one job for each: its prompt as large as is said, or a request with tools, 16 tokens at most, and \
no other provider. A rule is named by its label in \
core/PROTOCOL.md. The exit code is 1 if any is broken.";

const COMPLETIONS_HELP: &str = "\
Examples:
  haggle completions bash > ~/.local/share/bash-completion/completions/haggle
  haggle completions zsh > \"${fpath[1]}/_haggle\"";

const GATEWAY_HELP: &str = "\
Examples:
  haggle gateway --bootstrap ADDR --budget 0.01
  OPENAI_BASE_URL=http://127.0.0.1:8484/v1 OPENAI_API_KEY=none python3 your_program.py
  GATEWAY_KEY=a-long-secret haggle gateway --listen 0.0.0.0:8484 --key-env GATEWAY_KEY --bootstrap ADDR --budget 0.01

Every request is bought within its budget: --budget, or the header x-haggle-budget. A request that cannot be honoured \
as it is, is refused by name. Without a key only this machine is listened to. Keys are never arguments: others see those.";

const SERVE_EXAMPLES: &str = "\
Examples:
  haggle serve                                     free, and on this machine only
  haggle serve --listen /ip4/0.0.0.0/tcp/4001 --listen /ip4/0.0.0.0/tcp/4002/ws \\
      --announce /dns4/example.org/tcp/4001 --bootstrap ADDR --price-in 0.1 --price-out 0.5
  haggle serve --model-file SmolLM2-135M-Instruct.Q4_1.gguf --model smollm2-135m --slots 2
  haggle serve --model llama3 --upstream http://127.0.0.1:11434/v1    the idle time of a server
  haggle serve --upstream http://127.0.0.1:8000/v1 --model a --price-out 0.5 --model b --price-out 2 --slots 4

Several providers on one machine need a key each: --key FILE, or --data-dir DIR. \
SIGTERM or the first Ctrl-C takes no new jobs and waits for those that run, as long as --drain says; \
the second ends them. A terminal that is closed drains, too; where there is none, SIGHUP opens the ledger anew and \
reads the settings again.";

const LEDGER_EXAMPLES: &str = "\
Examples:
  haggle serve --ledger sold.jsonl --bootstrap ADDR --price-out 0.5
  haggle ledger sold.jsonl
  HAGGLE_LEDGER=sold.jsonl haggle ledger --json

A ledger is a file of JSON lines, one for each attempt that was sold or bought: time (seconds since \
1970), side, peer, model, job, attempt, fee_in and price_out (units), tokens, owed (units), outcome, \
settlement. Both sides of a job name the same job and attempt; the buyer's count stands. Nothing is \
paid in this version: `settlement` is always `none`.";

const REPLAY_EXAMPLES: &str = "\
Examples:
  haggle ask --record flight.jsonl --provider ADDR \"Once upon a time\"
  haggle replay flight.jsonl
  haggle replay flight.jsonl --explain --until 5s";

const CONFIG_EXAMPLES: &str = "\
Examples:
  haggle config
  HAGGLE_ENABLE_MDNS=false haggle config --set limits.jobs=10

  haggle config --init             a file in which every setting stands, with what it is for

A file holds the same keys: `bootstrap_nodes = [\"/ip4/...\"]`, `price_out = \"0.5\"`. A variable is \
HAGGLE_ and the key in capitals, a list separated by commas: HAGGLE_BOOTSTRAP_NODES=A,B.";

fn ask_help() -> String {
    format!(
        "\
Examples:
  haggle ask --bootstrap ADDR --budget 0.01 \"Once upon a time\"
  haggle ask --provider ADDR --max-tokens 50 --seed 7 --temperature 0.8 < prompt.txt

The answer goes to stdout; who was asked, their offers, the choice and the bill go to stderr.

{}",
        exit::HELP
    )
}

/// What every node needs to know.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "The network")]
pub(crate) struct NodeArgs {
    /// A node by which the network is entered, as ADDRESS/p2p/PEER_ID; repeatable
    #[arg(long, value_name = "ADDR")]
    pub(crate) bootstrap: Vec<String>,
    /// Where to listen, for instance /ip4/0.0.0.0/tcp/4001 or /ip4/0.0.0.0/tcp/4002/ws; repeatable
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Vec<String>,
    /// Where others reach this node, if not where it listens; repeatable
    #[arg(long, value_name = "ADDR")]
    pub(crate) announce: Vec<String>,
    /// The network's name; nodes of other networks are not found
    #[arg(long, value_name = "NAME")]
    pub(crate) network: Option<String>,
    /// Find nodes on the local network
    #[arg(long, value_name = "true|false")]
    pub(crate) mdns: Option<bool>,
    /// Find nodes in the distributed hash table
    #[arg(long, value_name = "true|false")]
    pub(crate) dht: Option<bool>,
    /// Set anything that `haggle config` shows; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// The key file [default: serve and bootstrap keep one in the data folder, others make a new key every time]
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "What is sold, and how")]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    #[command(flatten)]
    pub(crate) record: Record,
    #[command(flatten)]
    pub(crate) goods: Goods,
    /// Sell at prices above 1,000 units, which look like micro-units, though nobody is asked
    #[arg(long)]
    pub(crate) yes: bool,
    /// Keep the key, and which jobs are not to be computed twice, in a directory of its own
    #[arg(long, value_name = "DIR", conflicts_with = "record")]
    pub(crate) state: Option<PathBuf>,
    /// Show on stderr what the server itself says of an error, at most one a minute; it may quote prompts or the key
    #[arg(long)]
    pub(crate) upstream_errors: bool,
    /// Answer /metrics (for Prometheus), /health and /ready over HTTP there, such as 127.0.0.1:9464 [default: nowhere]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) metrics: Option<String>,
    /// Write a line for each attempt that was served into this file; see `haggle ledger` [default: none]
    #[arg(long, value_name = "FILE")]
    pub(crate) ledger: Option<PathBuf>,
    /// Tell on stderr how business goes, every so often [default: 60s]
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    pub(crate) status_every: Option<Millis>,
    /// Do not tell how business goes
    #[arg(long, conflicts_with = "status_every")]
    pub(crate) quiet: bool,
    /// How long jobs that run may go on after the first Ctrl-C or SIGTERM [default: 30s]
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    pub(crate) drain: Option<Millis>,
}

#[derive(Debug, Args)]
pub(crate) struct Bootstrap {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// Answer /metrics (for Prometheus), /health and /ready over HTTP there, such as 127.0.0.1:9465 [default: nowhere]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) metrics: Option<String>,
}

/// Where a command's decisions are recorded.
#[derive(Debug, Args)]
#[command(next_help_heading = "What is shown and kept")]
pub(crate) struct Record {
    /// Record every step of this node in a new file, for `haggle replay`; PROMPTS AND ANSWERS ARE INSIDE
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
    /// Record without prompts, answers and bytes of the wire: to be explained, not to be run again
    #[arg(long, requires = "record")]
    pub(crate) redact: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// Stop at this time after the node's start, such as 5s or 2m
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    pub(crate) until: Option<Millis>,
    /// Tell every moment: what happened, and what was decided and why
    #[arg(long)]
    pub(crate) explain: bool,
    /// What `--record` wrote
    pub(crate) file: PathBuf,
}

const TRUST_HELP: &str = "\
Scores and bans belong to a state directory, as kept by `haggle ask --state DIR`. They can be looked at \
and changed while no node uses the directory.";

/// Where a node's state is.
#[derive(Debug, Args)]
pub(crate) struct StateDir {
    /// The state directory
    #[arg(long, value_name = "DIR")]
    pub(crate) state: PathBuf,
    /// Set anything that `haggle config` shows, for instance the limits of the node whose directory it is; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Bans {
    #[command(flatten)]
    pub(crate) dir: StateDir,
    /// Write the bans to a file, as JSON lines
    #[arg(long, value_name = "FILE", conflicts_with = "import")]
    pub(crate) export: Option<PathBuf>,
    /// Add the bans of a file; of two bans of a peer the worse stays
    #[arg(long, value_name = "FILE")]
    pub(crate) import: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct OnePeer {
    #[command(flatten)]
    pub(crate) dir: StateDir,
    /// The provider's id
    #[arg(value_parser = parse_peer)]
    pub(crate) peer: PeerId,
}

#[derive(Debug, Args)]
pub(crate) struct SomePeer {
    #[command(flatten)]
    pub(crate) dir: StateDir,
    /// The provider's id [default: all that are known]
    #[arg(value_parser = parse_peer)]
    pub(crate) peer: Option<PeerId>,
}

#[derive(Debug, Args)]
pub(crate) struct ReadLedger {
    /// The ledger [default: the setting `ledger`]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ShowConfig {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// Write a file in which every setting stands, commented out, with what it is for; no file is overwritten
    #[arg(long)]
    pub(crate) init: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Conformance {
    /// The provider under test, as ADDRESS/p2p/PEER_ID
    #[arg(long, value_name = "ADDR", required_unless_present_any = ["serve", "list"], conflicts_with = "serve")]
    pub(crate) peer: Option<String>,
    /// Be a provider for the requester under test
    #[arg(long)]
    pub(crate) serve: bool,
    /// Where to listen; each further scenario has the next port
    #[arg(long, value_name = "ADDR", default_value = "/ip4/127.0.0.1/tcp/0", requires = "serve")]
    pub(crate) listen: Multiaddr,
    /// The model that is asked for, or sold [default: the first that the provider advertises; conformance]
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// Only this scenario; repeatable
    #[arg(long, value_name = "NAME")]
    pub(crate) only: Vec<String>,
    /// Show the scenarios and the rules that they ask for
    #[arg(long)]
    pub(crate) list: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Leave all providers alive; else the one that was chosen is switched off in mid-answer
    #[arg(long)]
    pub(crate) no_failure: bool,
    /// Keep the market running, and buy there for OpenAI clients at this address [default: 127.0.0.1:8484]
    #[arg(long, value_name = "IP:PORT", num_args = 0..=1, require_equals = true, default_missing_value = "127.0.0.1:8484")]
    pub(crate) gateway: Option<std::net::SocketAddr>,
    /// The beginning of a story
    #[arg(default_value = "Once upon a time")]
    pub(crate) prompt: String,
}
