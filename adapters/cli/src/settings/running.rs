//! How commands run beside their nodes.

use std::time::Duration;

use haggle::config::span;
use serde::{Deserialize, Serialize};

/// How a command runs beside its node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Running {
    /// What an answer, or a talk, may cost in units; if empty, only free providers are taken.
    pub(super) budget: String,
    /// The file into which what is sold and bought is written; none if empty.
    pub(crate) ledger: String,
    /// Where HTTP is answered, for those who watch over it; nowhere if empty.
    pub(crate) metrics: String,
    /// How often `serve` tells how business goes; 0 is never.
    #[serde(with = "span")]
    pub(crate) status_every: Duration,
    /// How long jobs that run may go on after the first signal.
    #[serde(with = "span")]
    pub(crate) drain: Duration,
    pub(crate) gateway: GatewayTable,
}

impl Default for Running {
    fn default() -> Self {
        Running {
            budget: String::new(),
            ledger: String::new(),
            metrics: String::new(),
            status_every: Duration::from_secs(60),
            drain: Duration::from_secs(30),
            gateway: GatewayTable::default(),
        }
    }
}

/// What `gateway` is told in a file only.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GatewayTable {
    pub(crate) key: Vec<KeyTable>,
}

/// A key that clients send, and what it may do. Where the secret is, and never the secret: settings are shown.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct KeyTable {
    pub(crate) name: String,
    /// The variable that holds it, or
    pub(crate) key_env: String,
    /// the file that has it in its first line.
    pub(crate) key_file: String,
    /// In units, in UTC; empty: no limit of its own.
    pub(crate) budget_per_day: String,
    /// Requests for answers in any 60 s; 0 is no limit.
    pub(crate) rate: u32,
    /// The models it may ask for, by the names it asks by; none: all.
    pub(crate) models: Vec<String>,
}
