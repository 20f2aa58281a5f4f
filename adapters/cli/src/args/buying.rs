//! What can be written on the command line by those who buy.

use std::path::PathBuf;

use clap::Args;
use haggle::{
    core::{
        money::{Amount, Price},
        spec::Failover,
        time::Millis,
    },
    engine::TINY_STORIES,
    libp2p::PeerId,
};

use super::{
    NodeArgs, Record,
    parsers::{at_least_one, failover, parse_bid, parse_peer, parse_share, parse_span, parse_whole},
};
use crate::money::{parse_amount, parse_price, parse_temperature};

/// Which providers come into question.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which providers")]
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
    #[arg(long, value_name = "TOKENS", default_value_t = 0, value_parser = parse_whole::<u32>)]
    pub(crate) min_context: u32,
    /// A peer to be asked first, if it fits; repeatable
    #[arg(long, value_name = "PEER", value_parser = parse_peer)]
    pub(crate) prefer: Vec<PeerId>,
    /// A peer that is never asked; repeatable
    #[arg(long, value_name = "PEER", value_parser = parse_peer)]
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
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = parse_whole::<u32>)]
    pub(crate) limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Quote {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    #[command(flatten)]
    pub(crate) wanted: Wanted,
    /// Show so many offers, the best first; 0 shows all
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = parse_whole::<u32>)]
    pub(crate) limit: u32,
    /// Tokens to be written, at most
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = at_least_one)]
    pub(crate) max_tokens: u64,
    /// Bytes of the prompt, if it is not given
    #[arg(long, value_name = "N", conflicts_with = "prompt", value_parser = parse_whole::<u64>)]
    pub(crate) prompt_bytes: Option<u64>,
    /// Bid so many thousandths of the first offer, 1 to 999
    #[arg(long, value_name = "PERMILLE", value_parser = parse_bid, allow_negative_numbers = true)]
    pub(crate) haggle: Option<u32>,
    /// Only its length is used, and not sent exactly
    pub(crate) prompt: Option<String>,
}

/// How long a provider is waited for.
#[derive(Debug, Default, Args)]
pub(crate) struct Waits {
    /// How long a provider may take for its first token, as long as it says that it works (it loads, reads, thinks) and nobody
    /// else is known; of one that says nothing a minute is enough, or four times what it promised [default: 10m]
    #[arg(long, value_name = "SPAN", value_parser = parse_span, help_heading = TROUBLE)]
    pub(crate) first_token: Option<Millis>,
    /// How long a provider that is lost in mid-answer is waited for, at most 2m [default: 5s, or 2m if nobody else is known]
    #[arg(long, value_name = "SPAN", value_parser = parse_span, help_heading = TROUBLE)]
    pub(crate) patience: Option<Millis>,
}

/// What is ordered, and on which terms.
#[derive(Debug, Args)]
#[command(next_help_heading = "The answer")]
pub(crate) struct Order {
    /// Tokens to be written, at most
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = at_least_one)]
    pub(crate) max_tokens: u64,
    /// What the model is told first, as the system's message; with it the prompt is a message, too
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// How the tokens are drawn; the same seed at the same provider gives the same answer [default: a new one]
    #[arg(long, value_name = "N", value_parser = parse_whole::<u64>)]
    pub(crate) seed: Option<u64>,
    /// How freely the tokens are drawn; 0 always takes the likeliest
    #[arg(long, value_name = "T", value_parser = parse_temperature, default_value = "0.8", allow_negative_numbers = true)]
    pub(crate) temperature: u32,
    /// Draw only from the likeliest tokens that have this share of the probability together, such as 0.9
    #[arg(long, value_name = "P", value_parser = parse_share, default_value = "1", allow_negative_numbers = true)]
    pub(crate) top_p: u32,
    /// Draw only from so many of the likeliest tokens; 0 is all
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = parse_whole::<u32>)]
    pub(crate) top_k: u32,
    /// A text that ends the answer; repeatable, at most 4
    #[arg(long, value_name = "TEXT")]
    pub(crate) stop: Vec<String>,
    /// What may be owed in all, in units [default: the setting `budget`; without one, only free providers are taken]
    #[arg(long, value_name = "N", value_parser = parse_amount, allow_negative_numbers = true, help_heading = MONEY)]
    pub(crate) budget: Option<Amount>,
    /// Bid so many thousandths of the first offer, 1 to 999
    #[arg(long, value_name = "PERMILLE", value_parser = parse_bid, allow_negative_numbers = true, help_heading = MONEY)]
    pub(crate) haggle: Option<u32>,
    /// What a second of waiting is worth, in units, when offers are compared
    #[arg(long, value_name = "N", value_parser = parse_amount, default_value = "0", allow_negative_numbers = true,
        help_heading = MONEY)]
    pub(crate) time_value: Amount,
    /// Write a line for each attempt that was bought into this file; see `haggle ledger` [default: none]
    #[arg(long, value_name = "FILE", help_heading = MONEY)]
    pub(crate) ledger: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) waits: Waits,
    /// What follows if a provider is lost for good in mid-answer [default: continue, and continue-or-restart on a terminal]
    #[arg(long, value_name = "HOW", value_parser = failover(), help_heading = TROUBLE)]
    pub(crate) failover: Option<Failover>,
    /// Pass the answer through a pipe as it is, byte for byte, for a program that reads it; into a file it always is
    #[arg(long, help_heading = OUTPUT)]
    pub(crate) raw: bool,
    /// Show what the model thinks before it answers, beside the answer; it is paid for either way
    #[arg(long, help_heading = OUTPUT)]
    pub(crate) thoughts: bool,
    /// Tell of every choice who was looked at, and how each fared
    #[arg(long, help_heading = OUTPUT)]
    pub(crate) explain: bool,
}

const MONEY: &str = "Money";
const TROUBLE: &str = "If something goes wrong";
const OUTPUT: &str = "What is shown and kept";

#[derive(Debug, Args)]
pub(crate) struct Ask {
    #[command(flatten)]
    pub(crate) order: Order,
    #[command(flatten)]
    pub(crate) wanted: Wanted,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    #[command(flatten)]
    pub(crate) record: Record,
    /// Keep the answer in DIR/answer.txt, and all that is needed to go on after this process died
    #[arg(long, value_name = "DIR", conflicts_with = "record", help_heading = TROUBLE)]
    pub(crate) state: Option<PathBuf>,
    /// Go on with the answer in --state DIR; stdout gets the whole of it
    #[arg(long, requires = "state", conflicts_with_all = ["prompt", "chat", "messages", "system"], help_heading = TROUBLE)]
    pub(crate) resume: bool,
    /// Send the prompt as a user's message instead of a text to be continued
    #[arg(long, help_heading = "The answer")]
    pub(crate) chat: bool,
    /// Go on with the conversation in this file: a JSON list of {"role": ..., "content": ...}; the prompt, if one is
    /// given, is the user's next message
    #[arg(long, value_name = "FILE", help_heading = "The answer")]
    pub(crate) messages: Option<PathBuf>,
    /// The prompt; without one, or with -, it is read from stdin
    pub(crate) prompt: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Chat {
    #[command(flatten)]
    pub(crate) order: Order,
    #[command(flatten)]
    pub(crate) wanted: Wanted,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Models {
    /// Ask this provider, as ADDRESS/p2p/PEER_ID, and search for no others; repeatable
    #[arg(long, value_name = "ADDR")]
    pub(crate) provider: Vec<String>,
    /// Time in all, such as 5s or 2m
    #[arg(long, value_name = "SPAN", value_parser = parse_span, default_value = "5s")]
    pub(crate) deadline: Millis,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}
