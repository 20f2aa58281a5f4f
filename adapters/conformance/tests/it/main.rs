//! The kit against our own machines, in memory: all is kept; and each planted mistake is named by its rule.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a conversation that can not be held has failed")]

mod buyer;
mod buyers_mistakes;
mod buying;
mod labels;
mod mistake;
mod mistakes;
mod newer_mistakes;
mod seller;
mod sellers_mistakes;
mod selling;
