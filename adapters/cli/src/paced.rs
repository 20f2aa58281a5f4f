//! An engine that takes its time.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use haggle::engine::{Engine, Failure, Generation, ModelInfo, Phase, Request, Step, Watcher};

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

    fn first_text(&self) -> Option<Duration> {
        self.engine.first_text()
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

    fn phase(&self) -> Phase {
        self.generation.phase()
    }
}

#[cfg(test)]
mod tests {
    use haggle::engine::{Llama, Outage};

    use super::*;

    /// An engine of which all is told.
    struct Told(Llama);

    impl Engine for Told {
        fn info(&self) -> &ModelInfo {
            self.0.info()
        }

        fn start(&self, request: Request) -> Result<Box<dyn Generation>, Failure> {
            self.0.start(request).map(|_| Box::new(Thinker) as Box<dyn Generation>)
        }

        fn first_text(&self) -> Option<Duration> {
            Some(Duration::from_secs(7))
        }

        fn watch(&self, watcher: Watcher) {
            watcher(Some(&Outage { lasts: Duration::from_secs(1), detail: String::new() }));
        }
    }

    struct Thinker;

    impl Generation for Thinker {
        fn step(&mut self, _: u32) -> Step {
            Step::Working
        }

        fn phase(&self) -> Phase {
            Phase::Thinking
        }
    }

    #[test]
    fn what_an_engine_tells_passes_whatever_its_pace() {
        let told = Told(Llama::tiny_stories().expect("the embedded model is sound"));
        let paced = Paced::limit(Arc::new(told), 1_000);
        assert_eq!(paced.first_text(), Some(Duration::from_secs(7)));
        let (tell, outages) = std::sync::mpsc::channel();
        paced.watch(Box::new(move |outage| tell.send(outage.is_some()).is_ok()));
        assert_eq!(outages.try_recv(), Ok(true));
        let request = Request {
            prompt: haggle::engine::Prompt::Raw("a".into()),
            prefix: None,
            sampling: haggle::engine::Sampling::default(),
            max_tokens: 1,
            stop: Vec::new(),
        };
        assert_eq!(paced.start(request).expect("taken").phase(), Phase::Thinking);
    }
}
