//! An engine that panics ends one job.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use haggle_engine::{Engine, Failure, Generation, Guarded, Llama, ModelInfo, Request, Step, Why};

use crate::{MODEL, request};

/// Panics where it is told to.
struct Broken {
    at_start: bool,
    at_drop: bool,
    dropped: Arc<AtomicBool>,
}

struct BrokenGeneration {
    steps: u32,
    at_drop: bool,
    dropped: Arc<AtomicBool>,
}

impl Engine for Broken {
    fn info(&self) -> &ModelInfo {
        Llama::info(&MODEL)
    }

    fn start(&self, _: Request) -> Result<Box<dyn Generation>, Failure> {
        assert!(!self.at_start, "broken at the start");
        Ok(Box::new(BrokenGeneration { steps: 0, at_drop: self.at_drop, dropped: self.dropped.clone() }))
    }
}

impl Generation for BrokenGeneration {
    fn step(&mut self, _: u32) -> Step {
        self.steps += 1;
        assert!(self.steps < 3, "broken after {} steps", self.steps);
        Step::Working
    }
}

impl Drop for BrokenGeneration {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::SeqCst);
        assert!(!self.at_drop, "broken at the drop");
    }
}

fn engine(at_start: bool, at_drop: bool) -> Broken {
    Broken { at_start, at_drop, dropped: Arc::new(AtomicBool::new(false)) }
}

#[test]
fn a_panic_becomes_a_failure() {
    let failure = Guarded::start(&engine(true, false), request("Hi", 0, 1, 5)).err().expect("failed");
    assert!(failure.why == Why::Engine && failure.why.another_may_help());

    for at_drop in [false, true] {
        let broken = engine(false, at_drop);
        let mut generation = Guarded::start(&broken, request("Hi", 0, 1, 5)).expect("starts");
        assert_eq!((generation.step(1), generation.step(1)), (Step::Working, Step::Working));
        let ending = generation.step(1);
        assert!(matches!(&ending, Step::Failed(failure) if failure.why == Why::Engine));
        assert!(broken.dropped.load(Ordering::SeqCst), "what it held is free at once");
        assert_eq!(generation.step(1), ending);
    }
    drop(Guarded::start(&engine(false, true), request("Hi", 0, 1, 5)).expect("starts"));
}

#[test]
fn a_guarded_generation_is_the_generation() {
    let request = request("Once upon a time", 800, 1, 40);
    let guarded = Guarded::start(&*MODEL, request.clone()).expect("starts");
    assert_eq!(crate::finish(Box::new(guarded), 9), crate::run(&request, 64));
}
