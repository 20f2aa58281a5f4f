//! The engine of the suite's sellers.

use haggle_core::wire::{Prompt, message::EndReason};

use super::Seller;
use crate::engine::{Answer, prompt_tokens};

/// Writes the answer to one job, token by token: the text is a function of model, class, prompt and seed.
#[derive(Clone, Debug)]
pub struct Writer {
    answer: Answer,
    prompt_tokens: u64,
    next: u64,
    end: u64,
    hangs_at: Option<u64>,
    fails_at: Option<u64>,
}

/// What a writer does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Written {
    /// It writes one token.
    Token {
        /// Its text.
        text: &'static str,
        /// Its id.
        id: u32,
    },
    /// It says nothing more, ever.
    Hangs,
    /// The answer is over.
    Ended(EndReason),
}

impl Writer {
    /// The engine of a seller, at work: the prompt, the sampling seed, the tokens that are there already, and how many
    /// more are wanted at most.
    #[must_use]
    pub fn new(seller: &Seller, prompt: &Prompt, seed: u64, prefix_tokens: u64, max_tokens: u64) -> Self {
        Self {
            answer: Answer::new(super::MODEL.as_bytes(), seller.class, prompt, seed),
            prompt_tokens: prompt_tokens(prompt),
            next: prefix_tokens,
            end: prefix_tokens.saturating_add(max_tokens),
            hangs_at: seller.hangs_at,
            fails_at: seller.fails_at,
        }
    }

    /// Tokens of the prompt, to be told before the first token.
    #[must_use]
    pub const fn prompt_tokens(&self) -> u64 {
        self.prompt_tokens
    }

    /// The next token.
    pub fn write(&mut self) -> Written {
        let index = self.next;
        if self.fails_at == Some(index) {
            return Written::Ended(EndReason::Engine);
        }
        if self.hangs_at == Some(index) {
            return Written::Hangs;
        }
        if index >= self.end {
            return Written::Ended(EndReason::Length);
        }
        self.next += 1;
        Written::Token { text: self.answer.token(index), id: self.answer.id(index) }
    }
}
