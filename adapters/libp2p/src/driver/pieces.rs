//! Engines yield pieces of any size; what crosses the wire is bounded.

use haggle_core::wire::{MAX_CHUNK_IDS, MAX_CHUNK_TEXT, message};
use haggle_engine::{Channel, Piece};

/// Whether a piece fits a chunk as it is, as nearly all do. `window` tokens are the most that can be under way.
pub(crate) fn fits(piece: &Piece, window: u32) -> bool {
    piece.n <= most(window) && piece.text.len() <= MAX_CHUNK_TEXT
}

/// A piece's channel, as it crosses the wire.
pub(crate) fn channel(piece: &Piece) -> Option<message::Channel> {
    piece.channel.map(|channel| match channel {
        Channel::Thought => message::Channel::Thought,
        Channel::Refusal => message::Channel::Refusal,
        Channel::ToolCall => message::Channel::ToolCall,
    })
}

/// Splits a piece into what fits a chunk: text between characters, tokens by their share of the bytes.
///
/// Each part has at least one token. A piece with fewer tokens than that takes loses its ids and gains the difference, one
/// token for 8 KiB; one with more tokens than its characters can carry is counted short. No engine of this project makes
/// either.
pub(crate) fn split(piece: Piece, window: u32) -> Vec<Piece> {
    let most = most(window);
    if piece.channel == Some(Channel::ToolCall) && piece.text.len() <= MAX_CHUNK_TEXT {
        // A part of an object is none: it is counted short instead.
        return vec![Piece { n: piece.n.min(most), ids: None, ..piece }];
    }
    let (mut text, mut left) = (piece.text.as_str(), u64::from(piece.n));
    let channel = piece.channel;
    let mut ids = piece.ids.as_deref().filter(|ids| ids.len() as u64 == left);
    let mut parts = Vec::new();
    while !text.is_empty() {
        let bytes = text.len() as u64;
        // A part may end 3 bytes before its share, so that it ends between characters.
        let wanted = bytes.div_ceil(MAX_CHUNK_TEXT as u64 - 3).max(left.div_ceil(most.into())).max(1);
        let share = usize::try_from(bytes.div_ceil(wanted)).unwrap_or(MAX_CHUNK_TEXT).min(MAX_CHUNK_TEXT);
        let first = text.chars().next().map_or(1, char::len_utf8);
        let end = (first..=share.max(first)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(first);
        let (part, rest) = text.split_at(end);
        let fair = if rest.is_empty() { left } else { left * end as u64 / bytes };
        let n = u32::try_from(fair).unwrap_or(most).clamp(1, most);
        left = left.saturating_sub(n.into());
        let own = ids.and_then(|ids| ids.split_at_checked(n as usize));
        ids = own.map(|(_, rest)| rest);
        parts.push(Piece { n, text: part.to_owned(), ids: own.map(|(own, _)| own.to_vec()), channel });
        text = rest;
    }
    parts
}

fn most(window: u32) -> u32 {
    // An id has four bytes.
    window.clamp(1, MAX_CHUNK_IDS as u32 / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Splits, and checks what holds for all.
    fn parts(n: u32, text: &str, window: u32) -> Vec<Piece> {
        let ids: Vec<u32> = (0..n).collect();
        let parts =
            split(Piece { n, text: text.into(), ids: Some(ids.clone()), channel: Some(Channel::Thought) }, window);
        assert_eq!(parts.iter().map(|part| part.text.as_str()).collect::<String>(), text);
        let (mut tokens, mut bytes) = (0, 0);
        for part in &parts {
            assert!(fits(part, window) && part.n > 0 && !part.text.is_empty(), "{n} tokens, window {window}: {part:?}");
            assert_eq!(part.channel, Some(Channel::Thought));
            assert!(part.ids.as_ref().is_none_or(|ids| ids.len() == part.n as usize));
            tokens += part.n;
            bytes += part.text.len();
            assert!(tokens as usize <= bytes, "{n} tokens, window {window}");
        }
        let known: Vec<u32> = parts.iter().filter_map(|part| part.ids.clone()).flatten().collect();
        assert!(ids.starts_with(&known));
        parts
    }

    #[test]
    fn what_is_too_wide_is_split_between_characters_and_its_tokens_with_it() {
        let counted = |parts: &[Piece]| parts.iter().map(|part| part.n).sum::<u32>();
        for text in ["a".repeat(20_000), "é".repeat(12_000), "日本語".repeat(4_000), "👩‍👩‍👧".repeat(1_200)]
        {
            for n in [3, 4, 100, 1_024, 1_025, 5_000] {
                for window in [1_024, 100] {
                    let parts = parts(n, &text, window);
                    assert_eq!(counted(&parts), n.max(parts.len() as u32), "{n} tokens, window {window}");
                }
            }
        }
        assert_eq!(counted(&parts(3_000, &"x".repeat(3_000), 8)), 3_000);
        let all = parts(5_000, &"x".repeat(20_000), 1_024);
        assert!(all.iter().all(|part| part.ids.is_some()));
    }

    #[test]
    fn what_cannot_be_split_evenly_is_counted_as_near_as_can_be() {
        assert_eq!(parts(1, &"x".repeat(20_000), 1_024).len(), 3, "one token for 8 KiB");
        let call = Piece { n: 100, text: "{}".into(), ids: None, channel: Some(Channel::ToolCall) };
        assert_eq!(split(call.clone(), 8), [Piece { n: 8, ..call }], "an object stays whole");
        let few = split(Piece { n: 100, text: "xy".into(), ids: None, channel: None }, 8);
        assert_eq!(few.iter().map(|part| part.n).collect::<Vec<_>>(), [8, 8], "two characters carry no more");
    }
}
