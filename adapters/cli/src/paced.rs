//! An engine that takes its time.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use haggle::engine::{Engine, Failure, Generation, ModelInfo, Request, Step, Watcher};

/// Another engine, slowed down to so many tokens a second over all its answers, so that a machine stays usable for
/// other things.
pub(crate) struct Paced {
    engine: Arc<dyn Engine>,
    pace: Arc<Pace>,
}

impl Paced {
    /// `None`, and the engine as it is, for 0 tokens per second.
    pub(crate) fn limit(engine: Arc<dyn Engine>, tokens_per_second: u32) -> Arc<dyn Engine> {
        match Duration::from_secs(1).checked_div(tokens_per_second) {
            Some(pause) => Arc::new(Paced { engine, pace: Arc::new(Pace { pause, next: Mutex::default() }) }),
            None => engine,
        }
    }
}

struct Pace {
    pause: Duration,
    /// When the next token may come.
    next: Mutex<Option<Instant>>,
}

impl Pace {
    /// An engine has a thread of its own, which may sleep.
    fn wait(&self, tokens: u32) {
        let now = Instant::now();
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let at = next.unwrap_or(now).max(now);
        *next = at.checked_add(self.pause.saturating_mul(tokens));
        drop(next);
        thread::sleep(at - now);
    }
}

impl Engine for Paced {
    fn info(&self) -> &ModelInfo {
        self.engine.info()
    }

    fn start(&self, request: Request) -> Result<Box<dyn Generation>, Failure> {
        let generation = self.engine.start(request)?;
        Ok(Box::new(PacedGeneration { generation, pace: self.pace.clone() }))
    }

    fn watch(&self, watcher: Watcher) {
        self.engine.watch(watcher);
    }
}

struct PacedGeneration {
    generation: Box<dyn Generation>,
    pace: Arc<Pace>,
}

impl Generation for PacedGeneration {
    fn step(&mut self, budget: u32) -> Step {
        let step = self.generation.step(budget);
        if let Step::Piece(piece) = &step {
            self.pace.wait(piece.n);
        }
        step
    }
}
