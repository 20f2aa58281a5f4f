//! One stream, as a scenario speaks on it.

use haggle_core::{
    Millis, StreamId,
    wire::{
        self, Message,
        message::{Decline, DeclineReason, GoneReason, Offer},
    },
};

use crate::{
    stage::{Arrival, Order, Stage, no_message},
    verdict::{Fault, Step, broken, demand, unplayed},
};

/// What is answered at once comes within; so much longer than any network takes that only silence takes longer.
pub(crate) const ANSWER: Millis = Millis::from_secs(10);
/// What was to come unasked would be here by then.
pub(crate) const SETTLE: Millis = Millis(300);

/// A message as it came.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Frame(pub(crate) Vec<u8>);

impl Frame {
    pub(crate) fn message(&self) -> Message<'_> {
        wire::decode(&self.0).unwrap_or(Message::Keepalive)
    }

    /// It is another message than the one that was to come.
    pub(crate) fn instead_of(&self, rule: &'static str, wanted: &str) -> Fault {
        match self.message() {
            // Whoever has no room for the question cannot be asked it.
            Message::Decline(Decline { reason, .. }) if is_passing(reason) => {
                unplayed(format!("it declined ({reason:?}); play again when it has nothing else to do"))
            }
            message => broken(rule, format!("{message:?} instead of {wanted}")),
        }
    }
}

/// Reasons that tell of the peer's day and not of the question.
fn is_passing(reason: DeclineReason) -> bool {
    matches!(reason, DeclineReason::Busy | DeclineReason::PeerLimit | DeclineReason::Draining)
}

/// What says no more than that its provider lives, and what it does.
pub(crate) const fn is_sign(message: &Message<'_>) -> bool {
    matches!(message, Message::Keepalive | Message::Working { .. })
}

/// A message's frame, whatever its bounds: mistakes are said, too.
pub(crate) fn frame(message: &Message<'_>) -> Vec<u8> {
    let mut payload = Vec::new();
    wire::encode(message, &mut payload);
    framed(&payload)
}

/// The payload with its length before it.
pub(crate) fn framed(payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    [&len.to_be_bytes()[..], payload].concat()
}

#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) stage: Stage,
    pub(crate) stream: StreamId,
}

impl Line {
    /// Opens a stream to the peer.
    pub(crate) fn open(stage: &Stage) -> Self {
        Self { stage: stage.clone(), stream: stage.open(false) }
    }

    /// Opens one under another identity.
    pub(crate) fn open_as_stranger(stage: &Stage) -> Self {
        Self { stage: stage.clone(), stream: stage.open(true) }
    }

    pub(crate) fn say(&self, message: &Message<'_>) {
        self.send(&frame(message));
    }

    pub(crate) fn send(&self, bytes: &[u8]) {
        self.stage.transmit(self.stream, bytes);
    }

    /// Ends it after what was said.
    pub(crate) fn close(&self) {
        self.stage.end(self.stream, Order::Close);
    }

    /// Ends it at once, as a network does.
    pub(crate) fn cut(&self) {
        self.stage.end(self.stream, Order::Reset);
    }

    pub(crate) async fn arrival(&self, patience: Millis) -> Option<Arrival> {
        self.stage.arrival(Some(self.stream), patience).await.map(|(_, arrival)| arrival)
    }

    /// The next message; what is `wanted` is said if there is none.
    pub(crate) async fn frame(&self, rule: &'static str, wanted: &str) -> Step<Frame> {
        self.frame_within(rule, wanted, ANSWER).await
    }

    pub(crate) async fn frame_within(&self, rule: &'static str, wanted: &str, patience: Millis) -> Step<Frame> {
        match self.arrival(patience).await {
            Some(Arrival::Frame(payload)) => Ok(Frame(payload)),
            other => Err(no_message(rule, wanted, other)),
        }
    }

    pub(crate) async fn offer(&self, rule: &'static str) -> Step<Offer> {
        let frame = self.frame(rule, "an Offer").await?;
        let Message::Offer(offer) = frame.message() else { return Err(frame.instead_of(rule, "an Offer")) };
        Ok(offer)
    }

    pub(crate) async fn decline(&self, rule: &'static str, reason: DeclineReason) -> Step<Option<Offer>> {
        let wanted = format!("Decline {{{reason:?}}}");
        let frame = self.frame(rule, &wanted).await?;
        match frame.message() {
            Message::Decline(decline) if decline.reason == reason => Ok(decline.offer),
            _ => Err(frame.instead_of(rule, &wanted)),
        }
    }

    pub(crate) async fn gone(&self, rule: &'static str, reason: GoneReason) -> Step {
        let wanted = format!("Gone {{{reason:?}}}");
        let frame = self.frame(rule, &wanted).await?;
        match frame.message() {
            Message::Gone(found) if found == reason => Ok(()),
            _ => Err(frame.instead_of(rule, &wanted)),
        }
    }

    /// The peer ends the stream; what it said before, while it could not know, is passed over by `crosses`.
    pub(crate) async fn over(&self, rule: &'static str, after: &str, crosses: fn(&Message<'_>) -> bool) -> Step {
        loop {
            match self.arrival(ANSWER).await {
                Some(Arrival::Over) => return Ok(()),
                Some(Arrival::Wrong(wrong)) => return Err(Fault::Broken(wrong)),
                Some(Arrival::Frame(payload)) => {
                    let frame = Frame(payload);
                    demand(rule, crosses(&frame.message()), || format!("{:?} after {after}", frame.message()))?;
                }
                None => return Err(broken(rule, format!("the stream was not ended after {after}"))),
            }
        }
    }

    /// The peer has nothing more to say for a moment.
    pub(crate) async fn quiet(&self, rule: &'static str, after: &str) -> Step {
        match self.arrival(SETTLE).await {
            None => Ok(()),
            Some(Arrival::Frame(payload)) => Err(broken(rule, format!("{:?} after {after}", Frame(payload).message()))),
            Some(other) => Err(no_message(rule, &format!("silence after {after}"), Some(other))),
        }
    }

    /// The stream still lives: a provider describes itself on it.
    pub(crate) async fn lives(&self, rule: &'static str, after: &str) -> Step {
        self.say(&Message::Describe);
        let wanted = format!("an Advert: the stream was to go on after {after}");
        let frame = self.frame(rule, &wanted).await?;
        match frame.message() {
            Message::Advert(_) => Ok(()),
            _ => Err(frame.instead_of(rule, &wanted)),
        }
    }
}
