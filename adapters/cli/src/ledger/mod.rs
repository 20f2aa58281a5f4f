//! The books of one side: a file with one line of JSON for each attempt that was served, or that was bought.
//!
//! Lines are only ever added, each with one write, so that a program that is killed leaves at most its last line torn. Both
//! sides of a run name the same job, attempt and price; the count that stands is the buyer's. Nothing is paid.

mod books;
mod file;

use std::fmt;

use haggle::{
    JobError, JobId, Model, NodeEvent, Receipt,
    core::{
        event::{Bill, BillLine, ServedReason},
        wire::message::EndReason,
    },
    id,
    libp2p::PeerId,
};
use serde::{Deserialize, Serialize};

use crate::clock::now;

pub(crate) use self::{
    books::{Books, Late},
    file::{Entries, Ledger, LedgerError, Torn},
};

/// A line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// When it was written, in seconds since 1970.
    pub(crate) time: u64,
    pub(crate) side: Side,
    /// The other side.
    #[serde(with = "text")]
    pub(crate) peer: PeerId,
    /// By the name under which it was asked for.
    pub(crate) model: Model,
    pub(crate) job: JobId,
    pub(crate) attempt: u32,
    /// Units for reading the prompt.
    #[serde(with = "units")]
    pub(crate) fee_in: u128,
    /// Units per 1,000,000 tokens written.
    #[serde(with = "units")]
    pub(crate) price_out: u128,
    /// Tokens that are owed for: those that arrived.
    pub(crate) tokens: u64,
    /// Units.
    #[serde(with = "units")]
    pub(crate) owed: u128,
    /// How it ended: `stop`, `length`, `cancelled`, `lost`, ...
    pub(crate) outcome: String,
    pub(crate) settlement: Settlement,
}

/// Whose line it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Side {
    Sold,
    Bought,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Side::Sold => "sold",
            Side::Bought => "bought",
        })
    }
}

/// How it is paid: not at all in this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Settlement {
    None,
}

impl Entry {
    /// What a provider's event says, if it is the end of an attempt.
    pub(crate) fn sold(event: &NodeEvent) -> Option<Self> {
        let NodeEvent::Served { peer, model, job, attempt, tariff, reason, acked, owed, .. } = event else {
            return None;
        };
        Some(Entry {
            time: now(),
            side: Side::Sold,
            peer: *peer,
            model: model.clone(),
            job: *job,
            attempt: *attempt,
            fee_in: tariff.fee_in.into(),
            price_out: tariff.price_out.into(),
            tokens: *acked,
            owed: *owed,
            outcome: served(*reason).into(),
            settlement: Settlement::None,
        })
    }

    /// The lines of a bill. Only the last attempt can have done what the job came to.
    pub(crate) fn bought(job: JobId, model: &Model, ended: Result<&Receipt, &JobError>) -> Vec<Self> {
        let outcome = ended.map_or_else(JobError::code, |receipt| end(receipt.reason));
        let Bill { lines, .. } = ended.map_or_else(|error| &*error.bill, |receipt| &receipt.bill);
        let entry = |(index, line): (usize, &BillLine)| {
            let last = index + 1 == lines.len();
            Some(Entry {
                time: now(),
                side: Side::Bought,
                peer: id::to_libp2p(&line.peer)?,
                model: model.clone(),
                job,
                attempt: line.attempt,
                fee_in: line.tariff.fee_in.into(),
                price_out: line.tariff.price_out.into(),
                tokens: line.tokens,
                owed: line.owed,
                outcome: if last { outcome } else { "interrupted" }.into(),
                settlement: Settlement::None,
            })
        };
        lines.iter().enumerate().filter_map(entry).collect()
    }
}

fn served(reason: ServedReason) -> &'static str {
    match reason {
        ServedReason::Acknowledged(reason) => end(reason),
        ServedReason::Unacknowledged(_) => "unacknowledged",
        ServedReason::Cancelled => "cancelled",
        ServedReason::Lost => "lost",
        ServedReason::Violation(_) => "violation",
        ServedReason::Displaced => "displaced",
    }
}

fn end(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Stop => "stop",
        EndReason::Length => "length",
        EndReason::Context => "context",
        EndReason::BadRequest => "bad_request",
        EndReason::Engine => "engine",
        EndReason::Shutdown => "shutdown",
        EndReason::Cancelled => "cancelled",
        EndReason::Violation => "violation",
        EndReason::TooSlow => "too_slow",
        EndReason::ToolCalls => "tool_calls",
        EndReason::Filtered => "filtered",
        EndReason::Settlement => "settlement",
    }
}

/// Values as people write them.
mod text {
    use std::{fmt::Display, str::FromStr};

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|error| D::Error::custom(format!("{text:?}: {error}")))
    }
}

/// Micro-units as a decimal of units.
mod units {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::money::{decimal, parse_sum};

    pub(super) fn serialize<S: Serializer>(micro: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&decimal(*micro))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_sum(&text).map_err(|error| D::Error::custom(format!("{text:?}: {error}")))
    }
}

#[cfg(test)]
mod tests;
