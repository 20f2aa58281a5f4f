//! What the system asks of a program that runs: that it ends, or that it looks again at what it was told.

use futures::{SinkExt, StreamExt, channel::mpsc, executor::block_on};

use crate::exit::Failed;

/// What a signal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    End,
    /// Open files anew and read the settings again.
    Reload,
}

/// Wishes that the program has not looked at yet. Further ones wait in the system, which joins equal ones.
const WAITING: usize = 4;

/// The signals, which no longer end the program by themselves.
pub(crate) struct Signals {
    heard: mpsc::Receiver<Wish>,
    #[cfg(unix)]
    source: signal_hook::iterator::Handle,
}

impl Signals {
    /// For a command that ends by itself: Ctrl-C and SIGTERM end it earlier.
    #[cfg(unix)]
    pub(crate) fn listen() -> Result<Self, Failed> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        Self::hear(&[SIGINT, SIGTERM])
    }

    /// For a command that runs until it is told to end: SIGHUP is heard, too.
    #[cfg(unix)]
    pub(crate) fn of_service() -> Result<Self, Failed> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        Self::hear(&[SIGINT, SIGTERM, SIGHUP])
    }

    #[cfg(unix)]
    fn hear(signals: &[i32]) -> Result<Self, Failed> {
        let failed = |error: std::io::Error| Failed::new(crate::exit::Exit::Other, "signals", error.to_string());
        let mut signals = signal_hook::iterator::Signals::new(signals).map_err(failed)?;
        let source = signals.handle();
        // Now: once it is closed, nothing tells that there was one.
        let in_terminal = is_in_terminal();
        let (mut tell, heard) = mpsc::channel(WAITING);
        let tell = move || {
            for signal in signals.forever() {
                if block_on(tell.send(meaning(signal, in_terminal))).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("signals".into()).spawn(tell).map_err(failed)?;
        Ok(Signals { heard, source })
    }

    /// Without a handler the system ends the program itself.
    #[cfg(not(unix))]
    pub(crate) fn listen() -> Result<Self, Failed> {
        let (_, heard) = mpsc::channel(WAITING);
        Ok(Signals { heard })
    }

    /// As [`listen`](Self::listen).
    #[cfg(not(unix))]
    pub(crate) fn of_service() -> Result<Self, Failed> {
        Self::listen()
    }

    /// The next wish.
    pub(crate) async fn wish(&mut self) -> Wish {
        match self.heard.next().await {
            Some(wish) => wish,
            None => futures::future::pending().await,
        }
    }

    /// The next wish that the program end.
    pub(crate) async fn next(&mut self) {
        while self.wish().await != Wish::End {}
    }
}

#[cfg(unix)]
impl Drop for Signals {
    fn drop(&mut self) {
        self.source.close();
    }
}

/// SIGHUP says to who runs in a terminal that it was closed; to any other it is the operator's wish.
#[cfg(unix)]
fn meaning(signal: i32, in_terminal: bool) -> Wish {
    if signal == signal_hook::consts::SIGHUP && !in_terminal { Wish::Reload } else { Wish::End }
}

#[cfg(unix)]
fn is_in_terminal() -> bool {
    use std::io::{IsTerminal, stdin};

    use crate::screen::Screen;
    stdin().is_terminal() || Screen::Out.is_terminal() || Screen::Err.is_terminal()
}

#[cfg(all(test, unix))]
mod tests {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

    use super::*;

    #[test]
    fn a_terminal_that_was_closed_ends_what_ran_in_it_and_an_operators_hangup_does_not() {
        assert_eq!((meaning(SIGHUP, true), meaning(SIGHUP, false)), (Wish::End, Wish::Reload));
        for ends in [SIGINT, SIGTERM] {
            assert_eq!((meaning(ends, true), meaning(ends, false)), (Wish::End, Wish::End));
        }
    }
}
