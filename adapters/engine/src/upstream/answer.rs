//! An answer as a server sends it, turned into steps: bytes in, steps out. No I/O and no clock: however the bytes were
//! cut, the steps are the same.

use std::collections::VecDeque;

use crate::{Channel, Done, Failure, Outage, Piece, PrefixUse, Started, Step, Stop, Why};

use super::{
    calls::Calls,
    error::ErrorBody,
    halves::Halves,
    json::Json,
    refusal::{self, Refusal},
    reply::{Reason, Reply, Said},
    sse::{Event, MAX_EVENT, Parser},
    tally::{Full, MAX_TEXT, Tally},
    thoughts::Thoughts,
};

/// What is to be known of the question to read its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Tokens asked for, at least 1.
    pub max_tokens: u32,
    /// Tokens that fit the server's context, prompt and answer together.
    pub context: u32,
    /// It was a text to be continued, not a conversation: a block of thoughts in it is text.
    pub is_text: bool,
    /// The text that was to be continued, and of how many tokens it was. A server that repeats it is not believed to have
    /// written it again.
    pub prefix: Option<(String, u32)>,
}

/// Reads one answer.
#[derive(Clone, Debug)]
pub struct Answer {
    asked: Asked,
    parser: Parser,
    /// What the server tells, each apart.
    text: Strand,
    thought: Strand,
    refusal: Strand,
    calls: Calls,
    tally: Tally,
    /// What of the prefix the answer may still repeat; `None` once that is decided.
    echo: Option<Echo>,
    /// Thoughts among the text.
    thoughts: Thoughts,
    started: bool,
    /// Something of the answer came, if not necessarily what can be delivered.
    said: bool,
    /// Thoughts are delivered; and so is the answer.
    thinks: bool,
    writes: bool,
    /// Something like an error that the server told in a form of its own: the cause, if there is no more.
    complaint: Option<Vec<u8>>,
    /// Something was understood.
    understood: bool,
    outage: Option<Outage>,
    words: Option<String>,
    model: Option<String>,
    prompt_tokens: Option<u64>,
    cached: Option<u64>,
    /// Tokens thought, as the server says: they are among those written.
    thought_tokens: Option<u64>,
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

/// What is said in one way, piece by piece or at once.
#[derive(Clone, Debug, Default)]
struct Strand {
    /// Characters that are not whole yet.
    halves: Halves,
    /// It comes piece by piece, so that a whole message repeats it.
    in_pieces: bool,
}

#[derive(Clone, Debug)]
struct Echo {
    prefix: String,
    /// The beginning of the answer, as long as it is the beginning of the prefix too.
    seen: String,
}

impl Answer {
    /// An answer of which nothing has come yet.
    pub fn new(asked: Asked) -> Self {
        // One token may well be written twice; more than one from the very beginning is an echo.
        let prefix = asked.prefix.clone().filter(|(text, tokens)| *tokens > 1 && !text.is_empty());
        let echo = prefix.map(|(prefix, _)| Echo { prefix, seen: String::new() });
        Self {
            parser: Parser::default(),
            text: Strand::default(),
            thought: Strand::default(),
            refusal: Strand::default(),
            calls: Calls::default(),
            tally: Tally::new(asked.max_tokens.max(1)),
            echo,
            // A prefix has its own behind it.
            thoughts: Thoughts::new(!asked.is_text && asked.prefix.is_none()),
            started: false,
            said: false,
            thinks: false,
            writes: false,
            complaint: None,
            understood: false,
            outage: None,
            words: None,
            model: None,
            prompt_tokens: None,
            cached: None,
            thought_tokens: None,
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

    /// Whether what has come are thoughts, and no text yet.
    pub fn is_thinking(&self) -> bool {
        self.thinks && !self.writes
    }

    /// Whether the ending is among the steps, or was.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// What an error that ended it means for the answers that follow.
    pub fn outage(&self) -> Option<&Outage> {
        self.outage.as_ref()
    }

    /// The server's own words with an error that ended it. They may quote the prompt.
    pub fn words(&self) -> Option<&str> {
        self.words.as_deref()
    }

    /// The model that writes, as the server says.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Takes the next bytes of the body. What follows the ending is ignored.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        let mut parser = std::mem::take(&mut self.parser);
        while !self.ended {
            match parser.next(&mut bytes) {
                Ok(Some(event)) => self.on_event(event),
                Ok(None) => break,
                Err(_) => self.fail(Failure::new(Why::Engine, too_long())),
            }
        }
        self.parser = parser;
    }

    /// The body is over, well (`None`) or broken off.
    pub fn end(&mut self, broken: Option<&str>) {
        if self.ended {
            return;
        }
        if let Some(event) = std::mem::take(&mut self.parser).finish() {
            self.on_event(event);
        }
        match (self.reason, broken) {
            _ if self.ended => {}
            (Some(reason), None) => self.conclude(reason),
            (Some(reason), Some(_)) if self.firm => self.conclude(reason),
            _ if self.complaint.is_some() && !self.said => {
                let complaint = self.complaint.take().unwrap_or_default();
                self.on_error(&complaint);
            }
            (_, None) if !self.understood => {
                let detail = "the upstream server sent something else than an answer: is the address right?";
                self.fail(Failure::new(Why::Engine, detail));
            }
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
        let mut data = event.data.trim_ascii();
        // Framed twice.
        while let Some(inner) = data.strip_prefix(b"data:") {
            data = inner.trim_ascii();
        }
        if data.eq_ignore_ascii_case(b"[DONE]") {
            return self.done();
        }
        if event.name == b"error" {
            return self.on_error(data);
        }
        // Some put several into one.
        while let Some((json, rest)) = Json::first(data) {
            data = rest.trim_ascii_start().strip_prefix(b",").unwrap_or(rest).trim_ascii();
            match json.is_list() {
                true => json.items().for_each(|json| self.on_json(json)),
                false => self.on_json(json),
            }
        }
        // Text may be lost in it. What does not even begin like this is none: some say `ping`.
        if data.starts_with(b"{") {
            self.fail(Failure::new(Why::Engine, "the upstream server sent a piece of its answer that is damaged"));
        }
    }

    fn on_json(&mut self, json: Json<'_>) {
        if self.ended {
            return;
        }
        let reply = Reply::read(json);
        if reply.is_error {
            return self.on_error(json.bytes());
        }
        self.understood |= reply.is_part;
        self.model = self.model.take().or_else(|| reply.model.clone());
        if reply.is_complaint {
            self.complaint = Some(json.bytes().to_vec());
        }
        self.on_reply(&reply);
    }

    fn on_reply(&mut self, reply: &Reply) {
        self.prompt_tokens = reply.prompt_tokens.or(self.prompt_tokens);
        self.cached = reply.cached.or(self.cached);
        self.total = reply.total.or(self.total);
        self.thought_tokens = reply.thought.or(self.thought_tokens);
        let is_empty = reply.delta.is_empty() && reply.message.is_empty();
        self.said |= !is_empty;
        if self.on_said(&reply.delta, &reply.message, reply.total).is_err() {
            return self.finish(Stop::MaxTokens);
        }
        if !is_empty {
            self.firm = false;
        }
        if let Some(reason) = reply.reason {
            self.reason = Some(reason);
            self.firm = is_empty && self.writes;
        }
    }

    /// Takes what an event says, in the order in which models do.
    ///
    /// # Errors
    /// [`Full`]: the answer is over with what was taken.
    fn on_said(&mut self, delta: &Said, message: &Said, total: Option<u64>) -> Result<(), Full> {
        let thought = self.thought.take(&delta.thought, &message.thought);
        let text = self.text.take(&delta.text, &message.text);
        let refusal = self.refusal.take(&delta.refusal, &message.refusal);
        let Ok(calls) = self.calls.take(&delta.calls, &message.calls) else {
            self.fail(Failure::new(
                Why::Engine,
                "the upstream server calls a tool by a number or a name that none has",
            ));
            return Ok(());
        };
        // A total is of all that the event says.
        let more = usize::from(!text.is_empty()) + usize::from(!refusal.is_empty()) + calls.len();
        self.write(Some(Channel::Thought), &thought, total.filter(|_| more == 0))?;
        let more = usize::from(!refusal.is_empty()) + calls.len();
        self.on_text(&text, total.filter(|_| more == 0))?;
        self.write(Some(Channel::Refusal), &refusal, total.filter(|_| calls.is_empty()))?;
        let last = calls.len();
        let mut calls = calls.into_iter().zip(1..);
        calls.try_for_each(|(call, at)| self.write(Some(Channel::ToolCall), &call, total.filter(|_| at == last)))
    }

    /// The server says that it is done. That is an ending, with or without a reason, unless there was nothing at all.
    fn done(&mut self) {
        if self.reason.is_none() && self.said {
            self.reason = Some(Reason::Stop(Stop::End));
        }
        self.end(None);
    }

    fn conclude(&mut self, reason: Reason) {
        match reason {
            Reason::Stop(_) if !self.said && self.thought_tokens.is_some_and(|tokens| tokens > 0) => {
                let detail = "the upstream server shows no thoughts, and they left no token for text";
                self.fail(Failure::new(Why::Unavailable, detail));
            }
            Reason::Stop(Stop::Filtered) if !self.said => {
                self.fail(Failure::new(Why::Unavailable, "the upstream server filters what this answer would say"));
            }
            // Some say that they stop, and mean it.
            Reason::Stop(Stop::End) if !self.calls.is_empty() => self.finish(Stop::ToolCalls),
            Reason::Stop(stop) => self.finish(stop),
            Reason::Broken => {
                let detail = "the upstream server broke its answer off, as it says";
                self.fail(Failure::new(Why::Truncated, detail));
            }
        }
    }

    fn on_error(&mut self, data: &[u8]) {
        if self.firm {
            // The answer is whole: what went wrong then is the usage.
            return self.end(None);
        }
        let begun = self.started || !self.tally.is_empty();
        let error = ErrorBody::read(data);
        let Refusal { failure, outage } = refusal::of_event(&error, begun);
        (self.outage, self.words) = (outage, Some(error.words));
        self.fail(failure);
    }

    /// Takes text.
    ///
    /// # Errors
    /// [`Full`]: the answer is over with what was taken.
    fn on_text(&mut self, text: &str, total: Option<u64>) -> Result<(), Full> {
        let Some(Echo { prefix, mut seen }) = self.echo.take() else { return self.sort(text, total) };
        seen.push_str(text);
        if let Some(rest) = seen.strip_prefix(&prefix) {
            return self.sort(rest, total);
        }
        if prefix.starts_with(&seen) {
            self.echo = Some(Echo { prefix, seen });
            return Ok(());
        }
        self.sort(&seen, total)
    }

    /// Takes text that may hold thoughts.
    fn sort(&mut self, text: &str, total: Option<u64>) -> Result<(), Full> {
        let parts = self.thoughts.push(text);
        let last = parts.len();
        let mut parts = parts.into_iter().zip(1..);
        parts.try_for_each(|((channel, part), at)| self.write(channel, &part, total.filter(|_| at == last)))
    }

    /// Counts what was said on one channel, and delivers what can be.
    fn write(&mut self, channel: Option<Channel>, mut text: &str, total: Option<u64>) -> Result<(), Full> {
        if text.is_empty() {
            return Ok(());
        }
        self.thinks |= channel == Some(Channel::Thought);
        self.writes |= channel != Some(Channel::Thought);
        let total = total.map(|total| self.delivered(total));
        let before = self.tally.turn(channel)?;
        self.deliver(before);
        while !text.is_empty() {
            let (part, rest) = text.split_at(boundary(text));
            text = rest;
            let piece = self.tally.push(part, total.filter(|_| rest.is_empty()))?;
            self.deliver(piece);
        }
        Ok(())
    }

    /// Of a total what is delivered: without thoughts that the server counts and does not show.
    fn delivered(&self, total: u64) -> u64 {
        if self.thinks { total } else { total.saturating_sub(self.thought_tokens.unwrap_or(0)) }
    }

    fn deliver(&mut self, piece: Option<Piece>) {
        let Some(piece) = piece else { return };
        self.start();
        self.steps.push_back(Step::Piece(piece));
    }

    fn start(&mut self) {
        if !std::mem::replace(&mut self.started, true) {
            let prefix = if self.asked.prefix.is_some() { PrefixUse::Text } else { PrefixUse::None };
            let (prompt_tokens, cached) = (self.prompt_tokens(), self.cached());
            self.steps.push_back(Step::Started(Started { prompt_tokens, cached, prefix }));
        }
    }

    /// What was held back, with the tokens that are left for it.
    fn flush(&mut self) {
        // What is left is too short to tell what it is. What has no room is beyond what was asked for.
        if let Some(echo) = self.echo.take() {
            let _ = self.sort(&echo.seen, None);
        }
        for (channel, part) in self.thoughts.finish() {
            let _ = self.write(channel, &part, None);
        }
        let total = self.total.map(|total| self.delivered(total));
        let piece = self.tally.finish(total);
        self.deliver(piece);
    }

    fn finish(&mut self, stop: Stop) {
        self.flush();
        self.start();
        let (prompt_tokens, new_tokens) = (self.prompt_tokens(), self.tally.counted());
        let all = self.prompt_tokens.unwrap_or(0).saturating_add(self.total.unwrap_or(0));
        let full = all >= u64::from(self.asked.context);
        let is_short = self.total.is_some_and(|total| total < self.asked.max_tokens.into());
        let stop = if stop == Stop::MaxTokens && full && is_short { Stop::Context } else { stop };
        self.steps.push_back(Step::Done(Done { stop, prompt_tokens, new_tokens, cached: self.cached() }));
        self.ended = true;
    }

    /// The server counts what it was given of the answer, too.
    fn prompt_tokens(&self) -> u32 {
        let given = self.asked.prefix.as_ref().map_or(0, |(_, tokens)| u64::from(*tokens));
        let own = self.prompt_tokens.map_or(0, |tokens| tokens.saturating_sub(given));
        u32::try_from(own).unwrap_or(u32::MAX)
    }

    /// Never more than were read.
    fn cached(&self) -> Option<u32> {
        self.cached.map(|cached| u32::try_from(cached).unwrap_or(u32::MAX).min(self.prompt_tokens()))
    }
}

impl Strand {
    /// The text of what an event adds, or of the whole message where nothing was added.
    fn take(&mut self, delta: &[u8], message: &[u8]) -> String {
        self.in_pieces |= !delta.is_empty();
        self.halves.push(if self.in_pieces { delta } else { message })
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
        let mut answer = Answer::new(Asked { max_tokens: 5, context: 100, is_text: false, prefix: None });
        answer.feed(said.as_bytes());
        answer.end(None);
        let steps: Vec<Step> = std::iter::from_fn(|| answer.step()).collect();
        let done = Done { stop: Stop::MaxTokens, prompt_tokens: u32::MAX, new_tokens: 4, cached: None };
        assert_eq!(steps.last(), Some(&Step::Done(done)), "{steps:?}");
    }

    #[test]
    fn what_was_given_of_the_answer_is_not_counted_as_prompt() {
        let said = "data: {\"choices\":[{\"delta\":{\"content\":\"c\"},\"finish_reason\":\"stop\"}],\
                    \"usage\":{\"prompt_tokens\":9,\"completion_tokens\":1,\"prompt_tokens_details\":{\"cached_tokens\":8}}}\n\n";
        let prefix = Some(("a b ".to_owned(), 2));
        let mut answer = Answer::new(Asked { max_tokens: 5, context: 100, is_text: false, prefix });
        answer.feed(said.as_bytes());
        answer.end(None);
        let steps: Vec<Step> = std::iter::from_fn(|| answer.step()).collect();
        let done = Done { stop: Stop::End, prompt_tokens: 7, new_tokens: 1, cached: Some(7) };
        assert_eq!(steps.last(), Some(&Step::Done(done)), "{steps:?}");
    }
}
