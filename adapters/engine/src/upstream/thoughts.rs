//! Thoughts that a server writes into the answer's text, between tags, instead of apart from it.

use crate::Channel;

/// How servers begin and end such thoughts.
const TAGS: [(&str, &str); 3] = [("<think>", "</think>"), ("<thinking>", "</thinking>"), ("[THINK]", "[/THINK]")];
/// An answer that begins with more white space than this begins with text.
const MOST_SPACE: usize = 256;

/// Sorts thoughts from text. They are such only at the very beginning of an answer: later on the same tags are what a
/// model writes of them. Tags, and the white space around them, say what stands between and are no part of it.
#[derive(Clone, Debug)]
pub(super) struct Thoughts {
    state: State,
    /// What may still become a tag.
    held: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing but white space came, and perhaps the beginning of a tag.
    Before,
    /// Until this tag it is a thought; nothing but white space came of it.
    Blank(&'static str),
    /// Until this tag it is a thought.
    Within(&'static str),
    /// The thought is over; nothing but white space came of the text.
    Behind,
    Text,
}

/// What was sorted: the channel, and what is said on it.
pub(super) type Sorted = Vec<(Option<Channel>, String)>;

impl Thoughts {
    /// Where none can be, all is text.
    pub(super) fn new(can_be: bool) -> Self {
        Self { state: if can_be { State::Before } else { State::Text }, held: String::new() }
    }

    /// Takes text, and returns what can be told of it. At most [`MOST_SPACE`] bytes, or a tag, wait.
    pub(super) fn push(&mut self, text: &str) -> Sorted {
        let mut sorted = Sorted::new();
        self.held.push_str(text);
        while self.step(&mut sorted) {}
        sorted
    }

    /// There will be no more: what has waited is what it was before it could become a tag.
    pub(super) fn finish(&mut self) -> Sorted {
        let held = std::mem::take(&mut self.held);
        let channel = match self.state {
            State::Blank(_) | State::Within(_) => Some(Channel::Thought),
            State::Before | State::Behind | State::Text => None,
        };
        if held.is_empty() { Sorted::new() } else { vec![(channel, held)] }
    }

    /// Sorts a part of what is held. False: nothing more can be said of it yet.
    fn step(&mut self, sorted: &mut Sorted) -> bool {
        let trimmed = self.held.trim_start();
        match self.state {
            State::Before => {
                let may_be = |tag: &str| tag.starts_with(trimmed) && tag.len() > trimmed.len();
                if self.held.len() - trimmed.len() > MOST_SPACE {
                    self.state = State::Text;
                } else if let Some((tag, end)) = TAGS.into_iter().find(|(tag, _)| trimmed.starts_with(tag)) {
                    self.held = trimmed.split_at(tag.len()).1.to_owned();
                    self.state = State::Blank(end);
                } else if !TAGS.into_iter().any(|(tag, _)| may_be(tag)) {
                    self.state = State::Text;
                } else {
                    return false;
                }
            }
            State::Blank(end) => {
                self.held = trimmed.to_owned();
                if self.held.is_empty() {
                    return false;
                }
                self.state = State::Within(end);
            }
            State::Within(end) => return self.think(end, sorted),
            State::Behind => {
                self.held = trimmed.to_owned();
                if self.held.is_empty() {
                    return false;
                }
                self.state = State::Text;
            }
            State::Text => {
                if !self.held.is_empty() {
                    sorted.push((None, std::mem::take(&mut self.held)));
                }
                return false;
            }
        }
        true
    }

    /// Tells a thought, up to its end or to what may become that.
    fn think(&mut self, end: &str, sorted: &mut Sorted) -> bool {
        let (thought, over) = match self.held.find(end) {
            Some(at) => (at, Some(at + end.len())),
            None => (self.held.len() - begun(&self.held, end), None),
        };
        let rest = self.held.split_off(over.unwrap_or(thought));
        let mut told = std::mem::replace(&mut self.held, rest);
        told.truncate(thought);
        if !told.is_empty() {
            sorted.push((Some(Channel::Thought), told));
        }
        if over.is_some() {
            self.state = State::Behind;
        }
        over.is_some()
    }
}

/// How many bytes at the end of a text are the beginning of a tag.
fn begun(text: &str, tag: &str) -> usize {
    (1..tag.len()).rev().find(|n| text.ends_with(&tag[..*n])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Thought and text, in pieces of so many characters.
    fn sorted(said: &str, size: usize) -> (String, String) {
        let (mut thoughts, mut all) = (Thoughts::new(true), Sorted::new());
        let characters: Vec<char> = said.chars().collect();
        for piece in characters.chunks(size) {
            all.extend(thoughts.push(&piece.iter().collect::<String>()));
            assert!(thoughts.held.len() <= MOST_SPACE + 4 * size);
        }
        all.extend(thoughts.finish());
        assert!(all.iter().all(|(_, part)| !part.is_empty()));
        let of = |channel| all.iter().filter(|(of, _)| *of == channel).map(|(_, part)| part.as_str()).collect();
        (of(Some(Channel::Thought)), of(None))
    }

    #[test]
    fn a_block_at_the_beginning_is_thought_however_it_is_cut() {
        let spaces = " ".repeat(MOST_SPACE + 1);
        let late = format!("{spaces}<think>a</think>b");
        for (said, thought, text) in [
            ("<think>hm\n</think>\n\nHi", "hm\n", "Hi"),
            ("\n <think>\n hm</thin</think>Hi <think>no</think>", "hm</thin", "Hi <think>no</think>"),
            ("<thinking>hm</thinking> Hi", "hm", "Hi"),
            ("[THINK]hm[/THINK]Hi", "hm", "Hi"),
            ("<think>\n\n</think>\n\nHi", "", "Hi"),
            ("<think>hm, never done </th", "hm, never done </th", ""),
            ("<thin air", "", "<thin air"),
            (" <thi", "", " <thi"),
            ("Hi <think>no</think>", "", "Hi <think>no</think>"),
            ("<think>日本</think>日本", "日本", "日本"),
            (&late, "", &late),
            ("", "", ""),
        ] {
            for size in 1..12 {
                assert_eq!(sorted(said, size), (thought.to_owned(), text.to_owned()), "{said:?} by {size}");
            }
        }
        let said = "<think>a</think>b";
        assert_eq!(Thoughts::new(false).push(said), [(None, said.to_owned())], "a text that is continued has none");
    }
}
