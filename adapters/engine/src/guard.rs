//! What every adapter needs around an engine: a panic must end one job, not the node.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{Engine, Failure, Generation, Phase, Request, Step, Why};

/// A generation whose panics become a [`Failure`] with [`Why::Engine`], and which frees everything it holds as soon
/// as it has ended. Needs `panic = "unwind"`, the default.
///
/// ```
/// use haggle_engine::{Engine, Failure, Generation, Guarded, Prompt, Request, Step};
///
/// fn answer(engine: &dyn Engine, request: Request) -> Result<String, Failure> {
///     let mut generation = Guarded::start(engine, request)?;
///     let mut answer = String::new();
///     loop {
///         match generation.step(64) {
///             Step::Piece(piece) => answer.push_str(&piece.text),
///             Step::Done(_) => return Ok(answer),
///             Step::Failed(failure) => return Err(failure),
///             Step::Working | Step::Waiting | Step::Started(_) => {}
///         }
///     }
/// }
/// ```
pub struct Guarded {
    generation: Option<Box<dyn Generation>>,
    ending: Option<Step>,
}

impl Guarded {
    /// [`Engine::start`], guarded.
    ///
    /// # Errors
    /// Those of the engine, and [`Why::Engine`] if it panics.
    pub fn start(engine: &dyn Engine, request: Request) -> Result<Self, Failure> {
        // Unwind safety: whatever a panic leaves half done inside the generation is dropped, never used again. What
        // is shared in the engine is the engine's own care, as with every `Sync` value.
        match catch_unwind(AssertUnwindSafe(|| engine.start(request))) {
            Ok(started) => started.map(|generation| Self { generation: Some(generation), ending: None }),
            Err(panic) => Err(panicked(panic)),
        }
    }
}

impl Generation for Guarded {
    fn step(&mut self, budget: u32) -> Step {
        let Some(generation) = &mut self.generation else {
            return self.ending.clone().unwrap_or_else(|| Step::Failed(broken()));
        };
        let step = catch_unwind(AssertUnwindSafe(|| generation.step(budget)))
            .unwrap_or_else(|panic| Step::Failed(panicked(panic)));
        if step.is_ending() {
            self.ending = Some(step.clone());
            discard(self.generation.take());
        }
        step
    }

    fn phase(&self) -> Phase {
        let Some(generation) = &self.generation else { return Phase::Unknown };
        catch_unwind(AssertUnwindSafe(|| generation.phase())).unwrap_or_else(|panic| {
            discard(panic);
            Phase::Unknown
        })
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        discard(self.generation.take());
    }
}

/// Drops a value that may panic while it is dropped. Its job has its ending already, so there is nobody left to tell;
/// the panic hook has reported it.
fn discard<T>(value: T) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        std::mem::forget(panic);
    }
}

/// The message stays with the panic hook: it may quote the prompt.
fn panicked(panic: Box<dyn Any + Send>) -> Failure {
    discard(panic);
    broken()
}

fn broken() -> Failure {
    Failure::new(Why::Engine, "the engine panicked, a bug of the engine; the provider's standard error says where")
}
