//! What can be written on the command line.

use std::path::PathBuf;

use clap::{
    ArgAction, Args, Parser, Subcommand,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};
use haggle::{
    config::span,
    core::{
        money::{Amount, Price},
        spec::Failover,
        time::Millis,
    },
    engine::TINY_STORIES,
    libp2p::PeerId,
};

use crate::{
    exit,
    money::{parse_amount, parse_price, parse_temperature},
    runtime::Choice,
};

/// A market for language models without a middleman: find a provider, agree a price, stream the answer.
#[derive(Debug, Parser)]
#[command(name = "haggle", version, after_help = EXAMPLES, disable_help_subcommand = true)]
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

Prices are units per 1,000,000 tokens, budgets are units. Nothing is paid in this version: a bill
says what would be owed. Settings come from a TOML file, then HAGGLE_... variables, then flags;
`haggle config` shows them all. Exit codes: `haggle ask --help`.";

/// For every command.
#[derive(Debug, Args)]
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
    /// Ask for prices; nothing is awarded and no prompt is sent
    #[command(after_help = "Example:\n  haggle quote --bootstrap ADDR --prompt-bytes 4000 --max-tokens 200")]
    Quote(Quote),
    /// Have a prompt answered
    #[command(after_help = ask_help())]
    Ask(Ask),
    /// See a market on this machine: five real nodes, offers, a choice, tokens and the bill
    Demo(Demo),
    /// Run a recording again, and compare what the node decided
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay(Replay),
    /// Show what was sold and bought, by peer
    #[command(after_help = LEDGER_EXAMPLES)]
    Ledger(ReadLedger),
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
    Config(NodeArgs),
}

const SERVE_EXAMPLES: &str = "\
Examples:
  haggle serve                                     free, and on this machine only
  haggle serve --listen /ip4/0.0.0.0/tcp/4001 --listen /ip4/0.0.0.0/tcp/4002/ws \\
      --announce /dns4/example.org/tcp/4001 --bootstrap ADDR --price-in 0.1 --price-out 0.5
  haggle serve --model-file SmolLM2-135M-Instruct.Q4_1.gguf --model smollm2-135m --slots 2
  haggle serve --model llama3 --upstream http://127.0.0.1:11434/v1    the idle time of a server

Several providers on one machine need a key each: --key FILE, or --data-dir DIR.
SIGTERM or the first Ctrl-C takes no new jobs and waits for those that run, as long as --drain says;
the second ends them.";

const LEDGER_EXAMPLES: &str = "\
Examples:
  haggle serve --ledger sold.jsonl --bootstrap ADDR --price-out 0.5
  haggle ledger sold.jsonl
  HAGGLE_LEDGER=sold.jsonl haggle ledger --json

A ledger is a file of JSON lines, one for each attempt that was sold or bought: time (seconds since
1970), side, peer, model, job, attempt, fee_in and price_out (units), tokens, owed (units), outcome,
settlement. Both sides of a job name the same job and attempt; the buyer's count stands. Nothing is
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

A file holds the same keys: `bootstrap_nodes = [\"/ip4/...\"]`, `price_out = \"0.5\"`. A variable is
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
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    #[command(flatten)]
    pub(crate) record: Record,
    /// The model to sell [default: haggle-tiny-stories, which is part of this program, or as the file calls itself]
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// Sell the model in this file: GGUF, llama architecture, tensors of F32, F16, Q8_0, Q4_0 or Q4_1
    #[arg(long, value_name = "FILE.gguf")]
    pub(crate) model_file: Option<String>,
    /// Threads that compute a token together [default: as the machine has, up to 8]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<u32>,
    /// Tokens of prompt and answer together, at most; each job needs memory for them [default: the model's, up to
    /// 4096; with --upstream the server's, 4096 if it does not say]
    #[arg(long, value_name = "TOKENS")]
    pub(crate) context: Option<u32>,
    /// Another name for it; repeatable
    #[arg(long, value_name = "NAME")]
    pub(crate) alias: Vec<String>,
    /// Price of 1,000,000 tokens read, in units [default: 0]
    #[arg(long, value_name = "N", value_parser = parse_price, allow_negative_numbers = true)]
    pub(crate) price_in: Option<Price>,
    /// Price of 1,000,000 tokens written, in units [default: 0]
    #[arg(long, value_name = "N", value_parser = parse_price, allow_negative_numbers = true)]
    pub(crate) price_out: Option<Price>,
    /// The lowest bid taken, in thousandths of the price; 1000 does not haggle [default: 1000]
    #[arg(long, value_name = "PERMILLE")]
    pub(crate) floor: Option<u32>,
    /// Keep the key, and which jobs are not to be computed twice, in a directory of its own
    #[arg(long, value_name = "DIR", conflicts_with = "record")]
    pub(crate) state: Option<PathBuf>,
    /// Jobs computed at once [default: 1; with --upstream as many as the server says, else 4]
    #[arg(long, value_name = "N")]
    pub(crate) slots: Option<u32>,
    /// Tokens written per second, at most, all jobs together; 0 is no limit [default: 0]
    #[arg(long, value_name = "N")]
    pub(crate) tokens_per_second: Option<u32>,
    /// Sell what this OpenAI-compatible server writes (llama-server, vLLM, Ollama, ...), under the name that --model says
    #[arg(long, value_name = "URL")]
    pub(crate) upstream: Option<String>,
    /// The model's name there [default: as --model, or the only one it has]
    #[arg(long, value_name = "NAME")]
    pub(crate) upstream_model: Option<String>,
    /// The environment variable that holds the server's key; its name must not begin with HAGGLE_
    #[arg(long, value_name = "VAR")]
    pub(crate) upstream_key_env: Option<String>,
    /// What kind of server it is: llama, vllm, ollama or openai [default: as it says of itself]
    #[arg(long, value_name = "KIND")]
    pub(crate) upstream_dialect: Option<String>,
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
}

/// Which providers come into question.
#[derive(Debug, Args)]
pub(crate) struct Wanted {
    /// The model, by name or alias
    #[arg(long, value_name = "NAME", default_value = TINY_STORIES)]
    pub(crate) model: String,
    /// Ask this provider, as ADDRESS/p2p/PEER_ID, and search for no others; repeatable
    #[arg(long, value_name = "ADDR")]
    pub(crate) provider: Vec<String>,
    /// Posted price of 1,000,000 tokens read, at most
    #[arg(long, value_name = "N", value_parser = parse_price, allow_negative_numbers = true)]
    pub(crate) max_price_in: Option<Price>,
    /// Posted price of 1,000,000 tokens written, at most
    #[arg(long, value_name = "N", value_parser = parse_price, allow_negative_numbers = true)]
    pub(crate) max_price_out: Option<Price>,
    /// Context in tokens, at least
    #[arg(long, value_name = "TOKENS", default_value_t = 0)]
    pub(crate) min_context: u32,
    /// A peer to be asked first, if it fits; repeatable
    #[arg(long, value_name = "PEER")]
    pub(crate) prefer: Vec<PeerId>,
    /// A peer that is never asked; repeatable
    #[arg(long, value_name = "PEER")]
    pub(crate) exclude: Vec<PeerId>,
    /// Ask anew, whatever is known
    #[arg(long)]
    pub(crate) refresh: bool,
    /// Time in all, such as 5s or 2m
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    pub(crate) deadline: Option<Millis>,
}

#[derive(Debug, Args)]
pub(crate) struct Discover {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    #[command(flatten)]
    pub(crate) wanted: Wanted,
    /// Stop after so many; 0 is no limit
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Quote {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    #[command(flatten)]
    pub(crate) wanted: Wanted,
    /// Show so many offers, the best first; 0 shows all
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) limit: u32,
    /// Tokens to be written, at most
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = at_least_one)]
    pub(crate) max_tokens: u64,
    /// Bytes of the prompt, if it is not given
    #[arg(long, value_name = "N", conflicts_with = "prompt")]
    pub(crate) prompt_bytes: Option<u64>,
    /// Bid so many thousandths of the first offer, 1 to 999
    #[arg(long, value_name = "PERMILLE", value_parser = clap::value_parser!(u32).range(1..=999))]
    pub(crate) haggle: Option<u32>,
    /// Only its length is used, and not sent exactly
    pub(crate) prompt: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Ask {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    #[command(flatten)]
    pub(crate) wanted: Wanted,
    /// Tokens to be written, at most
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = at_least_one)]
    pub(crate) max_tokens: u64,
    /// What the answer may cost, in units; without one, only free providers are taken
    #[arg(long, value_name = "N", value_parser = parse_amount, allow_negative_numbers = true)]
    pub(crate) budget: Option<Amount>,
    /// What a second of waiting is worth, in units, when offers are compared
    #[arg(long, value_name = "N", value_parser = parse_amount, default_value = "0", allow_negative_numbers = true)]
    pub(crate) time_value: Amount,
    /// How the tokens are drawn; the same seed at the same provider gives the same answer [default: a new one]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// How freely the tokens are drawn; 0 always takes the likeliest
    #[arg(long, value_name = "T", value_parser = parse_temperature, default_value = "0.8", allow_negative_numbers = true)]
    pub(crate) temperature: u32,
    /// A text that ends the answer; repeatable, at most 4
    #[arg(long, value_name = "TEXT")]
    pub(crate) stop: Vec<String>,
    /// Bid so many thousandths of the first offer, 1 to 999
    #[arg(long, value_name = "PERMILLE", value_parser = clap::value_parser!(u32).range(1..=999))]
    pub(crate) haggle: Option<u32>,
    /// How long a provider that is lost in mid-answer is waited for, at most 2m [default: 5s, or 2m if nobody else is known]
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    pub(crate) patience: Option<Millis>,
    /// What follows if a provider is lost for good in mid-answer
    #[arg(long, value_name = "HOW", value_parser = failover(), default_value = "continue")]
    pub(crate) failover: Failover,
    #[command(flatten)]
    pub(crate) record: Record,
    /// Keep the answer in DIR/answer.txt, and all that is needed to go on after this process died
    #[arg(long, value_name = "DIR", conflicts_with = "record")]
    pub(crate) state: Option<PathBuf>,
    /// Go on with the answer in --state DIR; stdout gets the whole of it
    #[arg(long, requires = "state", conflicts_with_all = ["prompt", "chat"])]
    pub(crate) resume: bool,
    /// Tell of every choice who was looked at, and how each fared
    #[arg(long)]
    pub(crate) explain: bool,
    /// Write a line for each attempt that was bought into this file; see `haggle ledger` [default: none]
    #[arg(long, value_name = "FILE")]
    pub(crate) ledger: Option<PathBuf>,
    /// Send the prompt as a user's message instead of a text to be continued
    #[arg(long)]
    pub(crate) chat: bool,
    /// Pass the answer through a pipe as it is, byte for byte, for a program that reads it; into a file it always is
    #[arg(long)]
    pub(crate) raw: bool,
    /// The prompt; without one, or with -, it is read from stdin
    pub(crate) prompt: Option<String>,
}

/// Where a command's decisions are recorded.
#[derive(Debug, Args)]
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
Scores and bans belong to a state directory, as kept by `haggle ask --state DIR`. They can be looked at
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
    pub(crate) peer: PeerId,
}

#[derive(Debug, Args)]
pub(crate) struct SomePeer {
    #[command(flatten)]
    pub(crate) dir: StateDir,
    /// The provider's id [default: all that are known]
    pub(crate) peer: Option<PeerId>,
}

#[derive(Debug, Args)]
pub(crate) struct ReadLedger {
    /// The ledger [default: the setting `ledger`]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Leave all providers alive; else the one that was chosen is switched off in mid-answer
    #[arg(long)]
    pub(crate) no_failure: bool,
    /// The beginning of a story
    #[arg(default_value = "Once upon a time")]
    pub(crate) prompt: String,
}

fn parse_span(text: &str) -> Result<Millis, String> {
    match span::parse(text)?.as_millis() {
        0 => Err("it must be longer than 0".into()),
        millis => Ok(Millis(u64::try_from(millis).unwrap_or(u64::MAX))),
    }
}

fn failover() -> impl TypedValueParser<Value = Failover> {
    let values = [
        PossibleValue::new("continue").help("Another one reads prompt and answer, and goes on after the last token"),
        PossibleValue::new("restart").help("Another one begins anew, below what was written; both are owed"),
        PossibleValue::new("never").help("The answer ends there, with exit code 7"),
    ];
    PossibleValuesParser::new(values).map(|how| match how.as_str() {
        "restart" => Failover::Restart,
        "never" => Failover::Never,
        _ => Failover::Continue,
    })
}

fn at_least_one(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(0) => Err("it must be at least 1".into()),
        Ok(number) => Ok(number),
        Err(_) => Err("write a whole number of at least 1".into()),
    }
}
