//! An answer as a server sends it, turned into steps: bytes in, steps out. No I/O and no clock: however the bytes were
//! cut, the steps are the same.

use std::collections::VecDeque;

use crate::{Done, Failure, Piece, PrefixUse, Started, Step, Stop, Why};

use super::{
    refusal,
    reply::Reply,
    sse::{Event, MAX_EVENT, Parser},
    tally::{Full, MAX_TEXT, Tally},
};

/// What is to be known of the question to read its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Tokens asked for, at least 1.
    pub max_tokens: u32,
    /// Tokens that fit the server's context, prompt and answer together.
    pub context: u32,
    /// The text that was to be continued, and of how many tokens it was. A server that repeats it is not believed to have
    /// written it again.
    pub prefix: Option<(String, u32)>,
}

/// Reads one answer.
#[derive(Clone, Debug)]
pub struct Answer {
    asked: Asked,
    reading: Reading,
    tally: Tally,
    /// What of the prefix the answer may still repeat; `None` once that is decided.
    echo: Option<Echo>,
    started: bool,
    /// Tokens that were thought and not written.
    hidden: u64,
    prompt_tokens: Option<u64>,
    /// Tokens written, the last that was said of it.
    total: Option<u64>,
    /// The last reason that the server gave for an end. Only `[DONE]` and the end of the body are one: some servers give
    /// a reason with every piece, or for their thoughts alone.
    reason: Option<Reason>,
    /// The reason stands alone behind the text, so that nothing but the usage is expected.
    firm: bool,
    steps: VecDeque<Step>,
    ended: bool,
}

/// How the body is to be read.
#[derive(Clone, Debug)]
enum Reading {
    /// Event by event.
    Events(Parser),
    /// One JSON object, from a server that does not stream.
    Whole(Vec<u8>),
}

/// Why a server says that it ends an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Stop(Stop),
    Filtered,
    Unknown,
}

#[derive(Clone, Debug)]
struct Echo {
    prefix: String,
    /// The beginning of the answer, as long as it is the beginning of the prefix too.
    seen: String,
}

impl Answer {
    /// An answer that comes in events, or, with `whole`, as one JSON object.
    pub fn new(asked: Asked, whole: bool) -> Self {
        // One token may well be written twice; more than one from the very beginning is an echo.
        let prefix = asked.prefix.clone().filter(|(text, tokens)| *tokens > 1 && !text.is_empty());
        let echo = prefix.map(|(prefix, _)| Echo { prefix, seen: String::new() });
        Self {
            reading: if whole { Reading::Whole(Vec::new()) } else { Reading::Events(Parser::default()) },
            tally: Tally::new(asked.max_tokens.max(1)),
            echo,
            started: false,
            hidden: 0,
            prompt_tokens: None,
            total: None,
            reason: None,
            firm: false,
            steps: VecDeque::new(),
            ended: false,
            asked,
        }
    }

    /// The next thing worth telling, if the bytes so far came to one. At most one ending, and nothing after it.
    pub fn step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// Whether all that may still come is the usage, as far as the server can be believed.
    pub fn is_finished(&self) -> bool {
        self.firm || self.ended
    }

    /// Whether the ending is among the steps, or was.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Takes the next bytes of the body. What follows the ending is ignored.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        match &mut self.reading {
            Reading::Whole(body) => {
                if body.len() + bytes.len() > MAX_EVENT {
                    return self.fail(Failure::new(Why::Engine, too_long()));
                }
                body.extend_from_slice(bytes);
            }
            Reading::Events(parser) => {
                let mut parser = std::mem::take(parser);
                while !self.ended {
                    match parser.next(&mut bytes) {
                        Ok(Some(event)) => self.on_event(event),
                        Ok(None) => break,
                        Err(_) => self.fail(Failure::new(Why::Engine, too_long())),
                    }
                }
                self.reading = Reading::Events(parser);
            }
        }
    }

    /// The body is over, well (`None`) or broken off.
    pub fn end(&mut self, broken: Option<&str>) {
        if self.ended {
            return;
        }
        if let (Reading::Whole(body), None) = (&mut self.reading, broken) {
            let body = std::mem::take(body);
            self.on_reply(&body);
        }
        match (self.reason, broken) {
            _ if self.ended => {}
            (Some(reason), None) => self.conclude(reason),
            (Some(reason), Some(_)) if self.firm => self.conclude(reason),
            (_, broken) => {
                let how = broken.unwrap_or("the connection was closed");
                let detail = format!("the upstream server's answer broke off without an ending: {how}");
                self.fail(Failure::new(Why::Truncated, detail));
            }
        }
    }

    /// Ends the answer: it cannot go on.
    pub fn fail(&mut self, failure: Failure) {
        if !self.ended {
            self.flush();
            self.steps.push_back(Step::Failed(failure));
            self.ended = true;
        }
    }

    fn on_event(&mut self, event: Event<'_>) {
        match (event.name, event.data.trim_ascii()) {
            (_, b"") => {}
            (_, b"[DONE]") => self.done(),
            (b"error", data) => self.on_error(data),
            (_, data) => self.on_reply(data),
        }
    }

    fn on_reply(&mut self, data: &[u8]) {
        let reply = match Reply::read(data) {
            Ok(reply) if reply.is_error() => return self.on_error(data),
            Ok(reply) => reply,
            Err(failure) => return self.fail(failure),
        };
        self.prompt_tokens = reply.prompt_tokens().or(self.prompt_tokens);
        self.total = reply.total().or(self.total);
        if reply.is_thought() {
            let one_more = self.hidden.saturating_add(1);
            self.hidden = reply.total().map_or(one_more, |total| total.saturating_sub(self.tally.counted().into()));
        }
        self.hidden = reply.hidden().unwrap_or(self.hidden);
        let total = reply.total().map(|total| total.saturating_sub(self.hidden));
        if self.on_text(reply.text(), total).is_err() {
            return self.finish(Stop::MaxTokens);
        }
        if !reply.text().is_empty() {
            self.firm = false;
        }
        if let Some(reason) = reply.finish_reason() {
            self.reason = Some(Reason::read(reason));
            self.firm = reply.text().is_empty() && !reply.is_thought() && !self.tally.is_empty();
        }
    }

    /// The server says that it is done. That is an ending, with or without a reason, unless there was nothing at all.
    fn done(&mut self) {
        if self.reason.is_none() && !self.tally.is_empty() {
            self.reason = Some(Reason::Stop(Stop::End));
        }
        self.end(None);
    }

    fn conclude(&mut self, reason: Reason) {
        match reason {
            Reason::Stop(stop) => self.finish(stop),
            Reason::Filtered => {
                self.fail(Failure::new(Why::Unavailable, "the upstream server filters what this answer would say"));
            }
            Reason::Unknown => {
                let detail = "the upstream server ended the answer for a reason that is not known here";
                self.fail(Failure::new(Why::Engine, detail));
            }
        }
    }

    fn on_error(&mut self, data: &[u8]) {
        let begun = self.started || !self.tally.is_empty();
        self.fail(refusal::of_event(data, begun));
    }

    /// Takes text.
    ///
    /// # Errors
    /// [`Full`]: the answer is over with what was taken.
    fn on_text(&mut self, text: &str, total: Option<u64>) -> Result<(), Full> {
        let Some(Echo { prefix, mut seen }) = self.echo.take() else { return self.write(text, total) };
        seen.push_str(text);
        if let Some(rest) = seen.strip_prefix(&prefix) {
            return self.write(rest, total);
        }
        if prefix.starts_with(&seen) {
            self.echo = Some(Echo { prefix, seen });
            return Ok(());
        }
        self.write(&seen, total)
    }

    /// Counts text and delivers what can be.
    fn write(&mut self, mut text: &str, total: Option<u64>) -> Result<(), Full> {
        while !text.is_empty() {
            let (part, rest) = text.split_at(boundary(text));
            text = rest;
            let piece = self.tally.push(part, total.filter(|_| rest.is_empty()))?;
            self.deliver(piece);
        }
        Ok(())
    }

    fn deliver(&mut self, piece: Option<Piece>) {
        let Some(piece) = piece else { return };
        self.start();
        self.steps.push_back(Step::Piece(piece));
    }

    fn start(&mut self) {
        if !std::mem::replace(&mut self.started, true) {
            let prefix = if self.asked.prefix.is_some() { PrefixUse::Text } else { PrefixUse::None };
            self.steps.push_back(Step::Started(Started { prompt_tokens: self.prompt_tokens(), cached: 0, prefix }));
        }
    }

    /// What was held back, with the tokens that are left for it.
    fn flush(&mut self) {
        if let Some(echo) = self.echo.take() {
            // It was not all of an echo: the answer is too short to tell. What has no room is beyond what was asked for.
            let _ = self.write(&echo.seen, None);
        }
        let total = self.total.map(|total| total.saturating_sub(self.hidden));
        let piece = self.tally.finish(total);
        self.deliver(piece);
    }

    fn finish(&mut self, stop: Stop) {
        self.flush();
        self.start();
        let (prompt_tokens, new_tokens) = (self.prompt_tokens(), self.tally.counted());
        let all = u64::from(prompt_tokens).saturating_add(self.total.unwrap_or(0));
        let full = all >= u64::from(self.asked.context);
        let is_short = self.total.is_some_and(|total| total < self.asked.max_tokens.into());
        let stop = if stop == Stop::MaxTokens && full && is_short { Stop::Context } else { stop };
        self.steps.push_back(Step::Done(Done { stop, prompt_tokens, new_tokens }));
        self.ended = true;
    }

    fn prompt_tokens(&self) -> u32 {
        self.prompt_tokens.map_or(0, |tokens| u32::try_from(tokens).unwrap_or(u32::MAX))
    }
}

impl Reason {
    fn read(name: &str) -> Self {
        match name {
            "stop" | "eos" | "eos_token" | "stop_sequence" | "end_turn" => Self::Stop(Stop::End),
            "length" | "max_tokens" => Self::Stop(Stop::MaxTokens),
            "content_filter" => Self::Filtered,
            _ => Self::Unknown,
        }
    }
}

/// The last place between characters where a piece may end.
fn boundary(text: &str) -> usize {
    (0..=MAX_TEXT.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

fn too_long() -> String {
    format!("the upstream server sent more than {MAX_EVENT} bytes in one event")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_counts_overflow_nothing() {
        let max = u64::MAX;
        let said = format!(
            "data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":{max},\"completion_tokens\":{max},\
             \"completion_tokens_details\":{{\"reasoning_tokens\":{max}}}}}}}\n\n\
             data: {{\"choices\":[{{\"delta\":{{\"reasoning\":\"hm\"}}}}]}}\n\n\
             data: {{\"choices\":[{{\"delta\":{{\"content\":\"ab\"}},\"finish_reason\":\"length\"}}]}}\n\n"
        );
        let mut answer = Answer::new(Asked { max_tokens: 5, context: 100, prefix: None }, false);
        answer.feed(said.as_bytes());
        answer.end(None);
        let steps: Vec<Step> = std::iter::from_fn(|| answer.step()).collect();
        let done = Done { stop: Stop::MaxTokens, prompt_tokens: u32::MAX, new_tokens: 1 };
        assert_eq!(steps.last(), Some(&Step::Done(done)), "{steps:?}");
    }
}
