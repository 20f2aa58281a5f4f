//! What a provider's events come to: the figures of one line. Pure; nothing here knows a clock or a node.

use std::{collections::BTreeMap, fmt::Write as _};

use haggle::{
    NodeEvent,
    core::wire::message::{DeclineReason, ReleaseReason},
};
use serde_json::{Value, json};

use crate::money::decimal;

/// Counts since some moment. The reasons are names from fixed lists: their number is bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Requests for a price.
    asked: u64,
    /// Of these, answered with one.
    offered: u64,
    /// Awards that were accepted, those at the posted price included: who knows it need not ask.
    won: u64,
    /// Offers that another provider's won over, or that nobody took, by why.
    lost: BTreeMap<&'static str, u64>,
    /// Requests, bids and awards that were refused, by why.
    declined: BTreeMap<&'static str, u64>,
    /// Attempts that are over.
    served: u64,
    /// Owed for these, in micro-units.
    owed: u128,
    /// Events that were not seen: the figures lack them.
    missed: u64,
}

/// How long a tally took, and what was written meanwhile.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Span {
    pub(crate) millis: u64,
    pub(crate) tokens: u64,
}

impl Tally {
    /// Counts an event, if it is one of a provider's.
    pub(crate) fn count(&mut self, event: &NodeEvent) {
        match event {
            NodeEvent::Quoted { answer, .. } => {
                self.asked += 1;
                match answer {
                    Ok(_) => self.offered += 1,
                    Err(reason) => *self.declined.entry(declined(*reason)).or_default() += 1,
                }
            }
            NodeEvent::Declined { reason, .. } => *self.declined.entry(declined(*reason)).or_default() += 1,
            NodeEvent::Accepted { .. } => self.won += 1,
            NodeEvent::Released { reason, .. } => *self.lost.entry(lost(*reason)).or_default() += 1,
            NodeEvent::Served { owed, .. } => {
                self.served += 1;
                self.owed = self.owed.saturating_add(*owed);
            }
            NodeEvent::Missed(n) => self.missed += n,
            _ => {}
        }
    }

    /// Owed for the attempts that are over, in micro-units.
    pub(crate) const fn owed(&self) -> u128 {
        self.owed
    }

    /// One line for people. `owed` is what is owed in all, `running` the jobs that are not over.
    pub(crate) fn line(&self, span: Span, owed: u128, running: usize) -> String {
        let mut line = format!(
            "{} s: asked {}, offered {}, won {}, lost {}, declined {}, {} tokens/s, owed {} ({} in all), {running} running",
            span.millis.div_ceil(1_000),
            self.asked,
            self.offered,
            self.won,
            with_reasons(&self.lost),
            with_reasons(&self.declined),
            span.per_second(),
            decimal(self.owed),
            decimal(owed),
        );
        if self.missed > 0 {
            let _ = write!(line, "; {} events were missed, the figures are too low", self.missed);
        }
        line
    }

    /// The same for programs.
    pub(crate) fn to_json(&self, span: Span, owed: u128, running: usize) -> Value {
        json!({
            "event": "status", "millis": span.millis, "asked": self.asked, "offered": self.offered, "won": self.won,
            "lost": self.lost, "declined": self.declined, "served": self.served, "tokens": span.tokens,
            "tokens_per_second": span.per_second(), "owed": decimal(self.owed), "owed_in_all": decimal(owed),
            "running": running, "missed": self.missed, "settlement": "none",
        })
    }
}

impl Span {
    /// With one digit behind the point.
    fn per_second(self) -> String {
        let tenths = u128::from(self.tokens) * 10_000 / u128::from(self.millis.max(1));
        format!("{}.{}", tenths / 10, tenths % 10)
    }
}

/// `5 (price 4, time 1)`, the most frequent first.
fn with_reasons(counts: &BTreeMap<&'static str, u64>) -> String {
    let mut reasons: Vec<_> = counts.iter().collect();
    reasons.sort_by_key(|(name, n)| (std::cmp::Reverse(**n), **name));
    let all: u64 = counts.values().sum();
    match reasons.as_slice() {
        [] => all.to_string(),
        reasons => {
            let reasons: Vec<_> = reasons.iter().map(|(name, n)| format!("{} {n}", name.replace('_', " "))).collect();
            format!("{all} ({})", reasons.join(", "))
        }
    }
}

fn lost(reason: ReleaseReason) -> &'static str {
    match reason {
        ReleaseReason::Price => "price",
        ReleaseReason::Time => "time",
        ReleaseReason::Late => "late",
        ReleaseReason::NoJob => "no_job",
        ReleaseReason::Unaffordable => "unaffordable",
    }
}

fn declined(reason: DeclineReason) -> &'static str {
    match reason {
        DeclineReason::Busy => "busy",
        DeclineReason::Stale => "stale",
        DeclineReason::UnknownModel => "unknown_model",
        DeclineReason::Context => "context",
        DeclineReason::TooCheap => "too_cheap",
        DeclineReason::PeerLimit => "peer_limit",
        DeclineReason::Draining => "draining",
        DeclineReason::Conflict => "conflict",
        DeclineReason::Unsupported => "unsupported",
        DeclineReason::BodyMismatch => "body_mismatch",
        DeclineReason::Settlement => "settlement",
    }
}

#[cfg(test)]
mod tests {
    use haggle::{
        JobId, Model,
        core::{event::ServedReason, money::Tariff, wire::message::EndReason},
        libp2p::PeerId,
    };

    use super::*;

    fn events() -> Vec<NodeEvent> {
        let (peer, model) = (PeerId::random(), Model::new(b"m").expect("a name"));
        let tariff = Tariff { fee_in: 1, price_out: 500_000 };
        let quoted = |answer| NodeEvent::Quoted { peer, model: model.clone(), answer };
        let (job, attempt) = (JobId([1; 16]), 1);
        vec![
            quoted(Ok(tariff)),
            quoted(Ok(tariff)),
            quoted(Ok(tariff)),
            quoted(Err(DeclineReason::Busy)),
            NodeEvent::Declined { peer, reason: DeclineReason::Busy },
            NodeEvent::Declined { peer, reason: DeclineReason::Context },
            NodeEvent::Released { peer, reason: ReleaseReason::Price },
            NodeEvent::Released { peer, reason: ReleaseReason::Time },
            NodeEvent::Released { peer, reason: ReleaseReason::Price },
            NodeEvent::Accepted { peer, model: model.clone(), job, attempt, tariff },
            NodeEvent::Served {
                peer,
                model: model.clone(),
                job,
                attempt,
                tariff,
                reason: ServedReason::Acknowledged(EndReason::Stop),
                tokens: 30,
                acked: 30,
                owed: 16,
            },
            NodeEvent::Started { peer },
        ]
    }

    #[test]
    fn every_figure_of_the_line_comes_from_its_event() {
        let mut tally = Tally::default();
        events().iter().for_each(|event| tally.count(event));
        let span = Span { millis: 60_000, tokens: 2_470 };
        assert_eq!(
            tally.line(span, 1_000_016, 2),
            "60 s: asked 4, offered 3, won 1, lost 3 (price 2, time 1), declined 3 (busy 2, context 1), \
             41.1 tokens/s, owed 0.000016 (1.000016 in all), 2 running"
        );
        let json = tally.to_json(span, 16, 0);
        assert_eq!((&json["lost"]["price"], &json["served"]), (&2.into(), &1.into()));
        tally.count(&NodeEvent::Missed(7));
        assert!(tally.line(span, 0, 0).ends_with("7 events were missed, the figures are too low"));
    }

    #[test]
    fn nothing_at_all_is_a_line_too() {
        let span = Span::default();
        assert_eq!(
            Tally::default().line(span, 0, 0),
            "0 s: asked 0, offered 0, won 0, lost 0, declined 0, 0.0 tokens/s, owed 0 (0 in all), 0 running"
        );
        let most = Span { millis: 1, tokens: u64::MAX };
        assert!(most.per_second().starts_with("184467440737095516150"), "no overflow");
    }
}
