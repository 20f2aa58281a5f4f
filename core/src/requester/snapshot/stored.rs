//! What the application itself has stored of answers, held against a run.

use alloc::{string::String, vec::Vec};

use crate::{
    event::BillLine,
    id::{JobId, PeerId},
    snapshot::SnapshotError,
    wire::message::Channel,
};

use super::super::transcript::Transcript;

/// What the application itself has stored of a job's current run: every piece as [`Event::Tokens`](crate::Event::Tokens) told it, from token 0.
/// After [`TakeOver::Restarted`](crate::event::TakeOver::Restarted) it begins anew.
#[derive(Clone, Debug)]
pub struct Stored<'a> {
    /// Which job.
    pub job: JobId,
    /// Its pieces, in order.
    pub pieces: Vec<Piece<'a>>,
}

/// Tokens that the application has stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece<'a> {
    /// Who wrote them.
    pub peer: PeerId,
    /// How many.
    pub n: u32,
    /// Their text.
    pub text: &'a str,
    /// Their ids, four little-endian bytes each, if they were told.
    pub ids: Option<&'a [u8]>,
    /// What they are, if not the answer's text.
    pub channel: Option<Channel>,
}

/// What the application holds of a job's current run.
pub(super) struct Holding<'a> {
    pieces: Vec<Piece<'a>>,
    pub(super) tokens: u64,
    pub(super) text: String,
}

impl<'a> Holding<'a> {
    /// What is stored belongs to the run that goes on, to an older one, or to nothing that the snapshot knows of.
    pub(super) fn of(
        id: JobId,
        stored: &[Stored<'a>],
        lines: &[BillLine],
        current: Option<PeerId>,
        before: u32,
    ) -> Result<Self, SnapshotError> {
        let pieces = stored.iter().find(|stored| stored.job == id).map(|stored| stored.pieces.clone());
        let mut pieces = pieces.unwrap_or_default();
        let wrote = |piece: &Piece<'_>, old: bool| {
            let line = |line: &BillLine| line.peer == piece.peer && (line.attempt <= before) == old;
            lines.iter().any(line) || (!old && current == Some(piece.peer))
        };
        if !pieces.iter().all(|piece| wrote(piece, false)) {
            if !pieces.iter().all(|piece| wrote(piece, true)) {
                return Err(SnapshotError::Disagrees { job: id });
            }
            pieces.clear();
        }
        let tokens = pieces.iter().fold(0, |sum: u64, piece| sum.saturating_add(u64::from(piece.n)));
        let text = pieces.iter().map(|piece| piece.text).collect();
        Ok(Self { pieces, tokens, text })
    }

    /// Whether one is the beginning of the other.
    pub(super) fn agrees(&self, transcript: &Transcript) -> bool {
        match self.tokens >= transcript.tokens() {
            _ if transcript.is_forgotten() => true,
            true => self.text.starts_with(transcript.text()),
            false => transcript.text().starts_with(&self.text),
        }
    }

    /// Whether there are tokens that nobody holds any more.
    pub(super) fn is_missing(&self, transcript: &Transcript) -> bool {
        transcript.is_forgotten() && self.tokens < transcript.tokens()
    }

    /// The text of the first tokens, if a piece ends there.
    pub(super) fn before(&self, tokens: u64) -> Option<&str> {
        let (mut at, mut text_at) = (0, 0);
        let mut pieces = self.pieces.iter();
        while at < tokens {
            let piece = pieces.next()?;
            at += u64::from(piece.n);
            text_at += piece.text.len();
        }
        self.text.get(..text_at).filter(|_| at == tokens)
    }

    /// All text, by channels.
    pub(super) fn spans(&self) -> Vec<(Option<Channel>, &str)> {
        self.pieces.iter().map(|piece| (piece.channel, piece.text)).collect()
    }

    /// The pieces after a place in the run. Where one lies across, its rest.
    pub(super) fn after(&self, tokens: u64, text: usize) -> Vec<Piece<'_>> {
        let (mut at, mut text_at) = (0_u64, 0_usize);
        let mut rest = Vec::new();
        for piece in &self.pieces {
            let (end, text_end) = (at.saturating_add(u64::from(piece.n)), text_at + piece.text.len());
            if at >= tokens {
                rest.push(*piece);
            } else if end > tokens {
                let n = (end - tokens) as u32;
                let ids = piece.ids.and_then(|ids| ids.get(ids.len().saturating_sub(4 * n as usize)..));
                let text = self.text.get(text..text_end).unwrap_or_default();
                rest.push(Piece { n, text, ids, ..*piece });
            }
            (at, text_at) = (end, text_end);
        }
        rest
    }
}
