//! What can be written on the command line of `haggle gateway`.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use haggle::core::money::Amount;

use super::{
    NodeArgs,
    parsers::{at_least_one, parse_socket},
};
use crate::money::parse_amount;

#[derive(Debug, Args)]
pub(crate) struct Gateway {
    /// Where HTTP is answered, as IP:PORT; beyond this machine only with a key
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8484", value_parser = parse_socket)]
    pub(crate) listen: SocketAddr,
    /// What one answer may cost, in units, unless its request says otherwise [default: the setting `budget`; without
    /// one, only free providers are taken]
    #[arg(long, value_name = "N", value_parser = parse_amount, allow_negative_numbers = true)]
    pub(crate) budget: Option<Amount>,
    /// What all answers of a day, in UTC, may cost together, in units; needs --state
    #[arg(long, value_name = "N", value_parser = parse_amount, allow_negative_numbers = true, requires = "state")]
    pub(crate) budget_per_day: Option<Amount>,
    /// Tokens of an answer at most, where its request names no number
    #[arg(long, value_name = "N", default_value_t = 1_024, value_parser = at_least_one)]
    pub(crate) max_tokens: u64,
    /// The variable that holds a key, which clients then have to send, and what it may spend a day; repeatable
    #[arg(long, value_name = "VAR[=N]")]
    pub(crate) key_env: Vec<String>,
    /// A file with a key in each line, which clients then have to send, and behind it what it may spend a day; repeatable
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Vec<PathBuf>,
    /// Another name that clients may call the gateway by; repeatable
    #[arg(long, value_name = "NAME")]
    pub(crate) allow_host: Vec<String>,
    /// A web page that may spend: its origin, scheme and host as a browser tells them; repeatable
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) allow_origin: Vec<String>,
    /// Keep what was spent today, how providers have served, and this node's key in a directory
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) network: Network,
}

/// The network, for a node that only buys: it listens for HTTP and nothing else.
#[derive(Debug, Args)]
#[command(next_help_heading = "The network")]
pub(crate) struct Network {
    /// A node by which the network is entered, as ADDRESS/p2p/PEER_ID; repeatable
    #[arg(long, value_name = "ADDR")]
    bootstrap: Vec<String>,
    /// Ask this provider, as ADDRESS/p2p/PEER_ID, in every search; repeatable
    #[arg(long, value_name = "ADDR")]
    pub(crate) provider: Vec<String>,
    /// The network's name; nodes of other networks are not found
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
    /// Find nodes on the local network
    #[arg(long, value_name = "true|false")]
    mdns: Option<bool>,
    /// Find nodes in the distributed hash table
    #[arg(long, value_name = "true|false")]
    dht: Option<bool>,
    /// Set anything that `haggle config` shows; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Network {
    /// The same, as every node is told.
    pub(crate) fn node(&self) -> NodeArgs {
        NodeArgs {
            bootstrap: self.bootstrap.clone(),
            network: self.network.clone(),
            mdns: self.mdns,
            dht: self.dht,
            set: self.set.clone(),
            ..NodeArgs::default()
        }
    }
}
