//! How many tokens a text is. Servers send text, seldom counts, and not every piece is one token.
//!
//! The rule: where the server says with each piece how many tokens it has written so far, that is believed as long as it
//! grows with the text; else a piece is one token, and the last one is held back, so that it can carry what the usage
//! says in the end beyond that. Never more than asked for, never more than bytes of text, never less than one a piece: a
//! server that cuts its pieces finer than tokens without saying so is counted by its pieces. Where the usage says more
//! than text is left to carry, the requester owes less. Thoughts are text here, too: a total counts them as well.

use crate::{Channel, Piece};

/// Text of one piece, in bytes, at most.
pub(super) const MAX_TEXT: usize = 8 << 10;

/// Texts in a row with which a total may stay as it is: some are a part of a token. With one more it is no total.
const STALLS: u32 = 1;

/// Counts one answer.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    max: u32,
    /// Tokens delivered.
    counted: u32,
    /// Bytes delivered.
    bytes: u64,
    /// Text that waits: for its count, or for the end.
    held: String,
    /// What that is, and what comes next.
    channel: Option<Channel>,
    /// In so many pieces it came.
    pieces: u32,
    said: Said,
}

/// What is to be thought of the totals that come with the text.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    /// The last one.
    total: u64,
    /// Texts that it did not grow with.
    stalls: u32,
    /// It did not grow often enough: what the server tells with a piece is told of that piece, or of nothing.
    is_none: bool,
}

/// The answer has all the text that fits its last token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Tally {
    pub(super) fn new(max_tokens: u32) -> Self {
        Self {
            max: max_tokens,
            counted: 0,
            bytes: 0,
            held: String::new(),
            channel: None,
            pieces: 0,
            said: Said::default(),
        }
    }

    /// Tokens delivered so far.
    pub(super) fn counted(&self) -> u32 {
        self.counted
    }

    /// Bytes of text so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes + self.held.len() as u64
    }

    /// True if there was no text yet.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes() == 0
    }

    /// What comes next is of this channel. Returns what has waited and is no part of the same.
    ///
    /// # Errors
    /// [`Full`]: that takes the last token.
    pub(super) fn turn(&mut self, channel: Option<Channel>) -> Result<Option<Piece>, Full> {
        // A piece of a call is an object of its own.
        let goes_on = channel == self.channel && channel != Some(Channel::ToolCall);
        if goes_on || self.held.is_empty() {
            self.channel = channel;
            return Ok(None);
        }
        let left = self.max.saturating_sub(self.counted);
        if left <= 1 {
            return Err(Full);
        }
        let ready = self.deliver(self.pieces.clamp(1, left - 1));
        self.channel = channel;
        Ok(ready)
    }

    /// Takes text, at most [`MAX_TEXT`], and how many tokens the server says it has written with it in all. Returns what
    /// can be delivered.
    ///
    /// # Errors
    /// [`Full`]: the answer ends here, whatever else the server writes.
    pub(super) fn push(&mut self, text: &str, total: Option<u64>) -> Result<Option<Piece>, Full> {
        let total = total.filter(|total| self.said.is_total(*total));
        // The last token that may be written waits for the end: whatever text is left belongs to it.
        let last = self.max.saturating_sub(self.counted) <= 1;
        let too_long = self.held.len() + text.len() > MAX_TEXT;
        if too_long && last {
            return Err(Full);
        }
        // More than one token can be, or nobody says what it is.
        let is_ready = too_long || total.is_none() && !last;
        let ready = if is_ready { self.deliver(self.pieces.min(self.max - self.counted - 1)) } else { None };
        self.held.push_str(text);
        self.pieces += 1;
        let Some(total) = total.filter(|_| !too_long) else { return Ok(ready) };
        let n = if self.said.stalls == 0 { self.fitting(total) } else { 0 };
        Ok(if n >= 1 && n < self.max - self.counted { self.deliver(n) } else { None })
    }

    /// The answer is over; the server says that it wrote `total` tokens.
    pub(super) fn finish(&mut self, total: Option<u64>) -> Option<Piece> {
        let total = total.filter(|total| !self.said.is_none || *total > self.said.total);
        let n = total.map_or(0, |total| self.fitting(total)).max(self.pieces);
        self.deliver(n.min(self.max - self.counted))
    }

    /// How many tokens of a total are not counted yet, as far as they can be: `counted` stays below `max` before.
    fn fitting(&self, total: u64) -> u32 {
        let fitting = total.min(self.bytes()).min(self.max.into());
        u32::try_from(fitting).unwrap_or(u32::MAX).saturating_sub(self.counted)
    }

    /// Delivers what is held as `n` tokens. The last one that may be written is not among them before the end.
    fn deliver(&mut self, n: u32) -> Option<Piece> {
        if self.held.is_empty() {
            return None;
        }
        self.pieces = 0;
        self.counted += n;
        self.bytes += self.held.len() as u64;
        Some(Piece { n, text: std::mem::take(&mut self.held), ids: None, channel: self.channel })
    }
}

impl Said {
    /// Whether what is said with more text is a total.
    fn is_total(&mut self, total: u64) -> bool {
        if total > self.total {
            self.stalls = 0;
        } else {
            self.stalls += 1;
            self.is_none |= total < self.total || self.stalls > STALLS;
        }
        self.total = total;
        !self.is_none
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(max: u32, pushes: &[(&str, Option<u64>)], total: Option<u64>) -> Vec<(u32, String)> {
        let mut tally = Tally::new(max);
        let mut pieces = Vec::new();
        for (text, total) in pushes {
            pieces.extend(tally.push(text, *total).expect("fits"));
        }
        pieces.extend(tally.finish(total));
        assert_eq!(pieces.iter().map(|piece| piece.n).sum::<u32>(), tally.counted());
        pieces.into_iter().map(|piece| (piece.n, piece.text)).collect()
    }

    fn pieces(expected: &[(u32, &str)]) -> Vec<(u32, String)> {
        expected.iter().map(|(n, text)| (*n, (*text).to_owned())).collect()
    }

    #[test]
    fn a_piece_is_a_token_unless_the_usage_says_more() {
        let three = [("one", None), (" two", None), (" three", None)];
        assert_eq!(run(9, &three, None), pieces(&[(1, "one"), (1, " two"), (1, " three")]));
        assert_eq!(run(9, &three, Some(7)), pieces(&[(1, "one"), (1, " two"), (5, " three")]));
        assert_eq!(
            run(9, &three, Some(1)),
            pieces(&[(1, "one"), (1, " two"), (1, " three")]),
            "delivered is delivered"
        );
        assert_eq!(
            run(6, &three, Some(99)),
            pieces(&[(1, "one"), (1, " two"), (4, " three")]),
            "never more than asked"
        );
        assert_eq!(run(9, &[("ab", None), ("c", None)], Some(8)), pieces(&[(1, "ab"), (2, "c")]), "nor than bytes");
        assert_eq!(run(9, &[], Some(3)), pieces(&[]), "without text nothing is owed");
    }

    #[test]
    fn what_the_server_says_with_each_piece_is_believed() {
        let said = [("one", Some(1)), (" two three", Some(3)), (" fo", Some(3)), ("ur", Some(4)), (" five", Some(5))];
        assert_eq!(run(9, &said, Some(5)), pieces(&[(1, "one"), (2, " two three"), (1, " four"), (1, " five")]));
    }

    #[test]
    fn a_total_that_does_not_grow_with_the_text_is_none() {
        let alone = [("one", Some(1)), (" two", Some(1)), (" three", Some(1)), (" four", Some(1)), (" five", Some(1))];
        let each = [(1, "one"), (1, " two"), (1, " three"), (1, " four"), (1, " five")];
        assert_eq!(run(9, &alone, Some(1)), pieces(&each), "each is told alone");
        assert_eq!(run(9, &alone, Some(7)).last(), Some(&(3, " five".to_owned())), "the end says more");
        assert_eq!(run(3, &alone, Some(1)), pieces(&[(1, "one"), (1, " two"), (1, " three four five")]));
        let sizes = [("a b c", Some(3)), (" d e", Some(2)), (" f g h i", Some(4))];
        assert_eq!(run(9, &sizes, Some(4)), pieces(&[(3, "a b c"), (1, " d e"), (1, " f g h i")]));
        let mut tally = Tally::new(100);
        let held = |tally: &mut Tally| tally.push("word ", Some(40)).map(|_| tally.held.len()).expect("fits");
        assert!((0..20).all(|_| held(&mut tally) <= 10), "nothing is held back for long");
        assert_eq!(tally.counted(), 5 + 18, "the first as many tokens as bytes, then one a piece, and one waits");
    }

    #[test]
    fn a_piece_of_a_call_is_joined_with_no_other() {
        let mut tally = Tally::new(9);
        let mut pieces = Vec::new();
        // The total stands still for one, so that text would wait for the next.
        for total in [1, 1, 2, 3] {
            pieces.extend(tally.turn(Some(Channel::ToolCall)).expect("fits"));
            pieces.extend(tally.push("{}", Some(total)).expect("fits"));
        }
        pieces.extend(tally.finish(None));
        assert!(
            pieces.iter().all(|piece| piece.text == "{}" && piece.channel == Some(Channel::ToolCall)),
            "{pieces:?}"
        );
        assert_eq!(pieces.len(), 4);
        let mut last = Tally::new(1);
        assert_eq!((last.turn(Some(Channel::ToolCall)), last.push("{}", None)), (Ok(None), Ok(None)));
        assert_eq!(last.turn(Some(Channel::ToolCall)), Err(Full), "text would be added to the last token");
    }

    #[test]
    fn the_last_token_takes_all_text_that_is_left() {
        let four = [("a", None), ("b", None), ("c", None), ("d", None)];
        assert_eq!(run(2, &four, None), pieces(&[(1, "a"), (1, "bcd")]));
        assert_eq!(run(1, &four, None), pieces(&[(1, "abcd")]));
        let mut tally = Tally::new(1);
        let long = "x".repeat(MAX_TEXT);
        assert_eq!(tally.push(&long, None), Ok(None));
        assert_eq!(tally.push("y", None), Err(Full));
        assert_eq!(tally.finish(None).map(|piece| (piece.n, piece.text.len())), Some((1, MAX_TEXT)));
    }
}
