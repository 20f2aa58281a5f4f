//! How bills are written down.

use alloc::vec::Vec;

use minicbor::{Decode, Encode};

use crate::{
    event::BillLine,
    id::PeerId,
    money::Tariff,
    snapshot::{SnapshotError, require},
};

use super::super::attempt;

/// More lines no bill has: attempts are bounded.
pub(super) const MAX_LINES: usize = 4096;

#[derive(Encode, Decode)]
#[cbor(map)]
pub(super) struct SavedLine {
    #[n(0)]
    attempt: u32,
    #[n(1)]
    peer: PeerId,
    #[n(2)]
    tariff: Tariff,
    #[n(3)]
    reread: u64,
    #[n(4)]
    tokens: u64,
    #[n(5)]
    text_bytes: u64,
}

impl SavedLine {
    pub(super) const fn of(line: &BillLine) -> Self {
        let BillLine { attempt, peer, tariff, reread, tokens, text_bytes, owed: _ } = *line;
        Self { attempt, peer, tariff, reread, tokens, text_bytes }
    }

    const fn line(self) -> BillLine {
        let Self { attempt, peer, tariff, reread, tokens, text_bytes } = self;
        BillLine { attempt, peer, tariff, reread, tokens, text_bytes, owed: tariff.owed(tokens) }
    }
}

pub(super) fn kept_lines(kept: Vec<SavedLine>) -> Result<Vec<BillLine>, SnapshotError> {
    require(kept.len() <= MAX_LINES && kept.iter().all(|line| line.tokens < attempt::Saved::MAX_TOKENS))?;
    Ok(kept.into_iter().map(SavedLine::line).collect())
}
