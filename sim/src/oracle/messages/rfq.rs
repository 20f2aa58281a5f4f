//! Rfq: a question about a price tells the size of a prompt only roughly.

use haggle_core::wire::message::Rfq;

use super::Sent;
use crate::oracle::{Judge, Rule};

impl Judge {
    pub(super) fn rfq_sent(&mut self, sent: Sent, rfq: &Rfq) {
        if sent.core && !rfq.body_bytes.is_multiple_of(256) {
            self.fail(Rule::Secrecy, format_args!("the exact size of a prompt is told: {}", rfq.body_bytes));
        }
    }
}
