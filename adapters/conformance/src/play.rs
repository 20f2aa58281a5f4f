//! A scenario being played: bytes in, bytes out, a verdict in the end.

use std::task::{Context, Poll, Waker};

use haggle_core::{
    Input, Instant, Machine, Output, StreamId,
    machine::{Cause, Timeout},
};

use crate::{
    scenario::{Playing, Scenario, Scene, Setting},
    stage::{Order, Stage},
    verdict::Verdict,
};

/// One scenario with one peer. Run it as every [`Machine`]; it is over when it has told its [`Verdict`]. A requester that comes
/// after that is turned down for as long as the play is run: it need not wait for what is over.
pub struct Play {
    stage: Stage,
    /// `None` when it is over.
    playing: Option<Playing>,
    is_told: bool,
    lent: Vec<u8>,
}

impl Play {
    /// Begins. A scenario for requesters waits for the first stream ([`accept_stream`](Self::accept_stream)).
    #[must_use]
    pub fn new(scenario: &Scenario, setting: Setting, now: Instant) -> Self {
        let stage = Stage::new(now, setting.peer, setting.seed);
        let playing = (scenario.play)(Scene { stage: stage.clone(), model: setting.model });
        let mut play = Self { stage, playing: Some(playing), is_told: false, lent: Vec::new() };
        play.go_on();
        play
    }

    /// Takes up a stream that the peer opened.
    pub fn accept_stream(&mut self, now: Instant) -> StreamId {
        let stream = self.stage.with(|table| {
            table.now = table.now.max(now);
            table.accept()
        });
        self.go_on();
        stream
    }

    /// Whether a stream that is to be opened has to be opened under another identity than the others: jobs belong to the
    /// peer that awarded them.
    #[must_use]
    pub fn is_strangers(&self, stream: StreamId) -> bool {
        self.stage.with(|table| table.is_strangers(stream))
    }

    /// What was found, once it is over.
    #[must_use]
    pub fn verdict(&self) -> Option<Verdict> {
        self.stage.with(|table| table.verdict.clone())
    }

    /// Has the scenario take what there is for it.
    fn go_on(&mut self) {
        let Some(playing) = &mut self.playing else { return };
        let Poll::Ready(step) = playing.as_mut().poll(&mut Context::from_waker(Waker::noop())) else { return };
        self.playing = None;
        self.stage.tell(step.into());
    }
}

impl Machine for Play {
    type Event<'a> = Verdict;

    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        self.stage.with(|table| {
            table.now = table.now.max(now);
            match input {
                Input::Received(stream, bytes) => table.on_received(stream, bytes),
                Input::StreamClosed(stream) | Input::StreamFailed(stream, _) => table.on_closed(stream),
                Input::PeerConnected(_) => table.is_gone = false,
                Input::PeerGone(_) => table.is_gone = true,
                _ => {}
            }
        });
        self.go_on();
    }

    fn poll_output(&mut self) -> Option<Output<'_, Verdict>> {
        match self.stage.with(|table| table.orders.pop_front()) {
            Some(Order::Open(stream, peer)) => Some(Output::Open { stream, peer }),
            Some(Order::Transmit(stream, bytes)) => {
                self.lent = bytes;
                Some(Output::Transmit { stream, bytes: &self.lent })
            }
            Some(Order::Close(stream)) => Some(Output::Close(stream)),
            Some(Order::Reset(stream)) => Some(Output::Reset(stream)),
            None if self.is_told => None,
            None => {
                let verdict = self.verdict()?;
                self.is_told = true;
                Some(Output::Event(verdict))
            }
        }
    }

    fn poll_timeout(&self) -> Option<Timeout> {
        let at = self.playing.as_ref().and(self.stage.with(|table| table.wakes))?;
        Some(Timeout { at, cause: Cause::Request })
    }
}
