//! Trains the embedded model, `haggle-tiny-stories`, and writes it as a GGUF file. The same seed and number of steps
//! give the same file, byte for byte.
//!
//! ```text
//! cargo run --release -p haggle-engine --example train -- OUT.gguf [STEPS [SEED]]
//! ```

mod bpe;
mod export;
#[path = "../../src/math.rs"]
#[expect(dead_code, reason = "the engine uses more of it than the trainer")]
mod math;
mod matmul;
mod net;
#[cfg(test)]
mod tests;
mod text;
#[path = "../../src/words.rs"]
#[expect(dead_code, reason = "the trainer knows one rule only")]
mod words;

use std::process::ExitCode;

use bpe::Vocab;
use net::{Net, Shape};
use text::Rng;

const NAME: &str = "haggle-tiny-stories";
const SHAPE: Shape = Shape { vocab: 512, dim: 64, layers: 4, heads: 4, kv_heads: 2, ffn: 192, context: 1024 };
/// Tokens of one sequence, and sequences of one step.
const LENGTH: usize = 512;
const BATCH: usize = 2;
const PEAK_RATE: f32 = 3e-3;
const WARM_UP: usize = 200;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, default: usize| args.get(i).map_or(Ok(default), |arg| arg.parse());
    match (args.first(), number(1, 6500), number(2, 1)) {
        (Some(out), Ok(steps), Ok(seed)) => match std::fs::write(out, train(steps, seed as u64)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&format!("cannot write {out}: {error}")),
        },
        _ => fail("usage: train OUT.gguf [STEPS [SEED]], for instance: train model.gguf 6500 1"),
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("{message}");
    ExitCode::FAILURE
}

fn train(steps: usize, seed: u64) -> Vec<u8> {
    let mut rng = Rng(seed);
    let documents: Vec<String> = (0..3000).map(|_| text::document(&mut rng)).collect();
    let mut vocab = Vocab::learn(&documents, SHAPE.vocab);
    let mut net = Net::new(SHAPE, &mut rng);
    let mut adam = Adam::new(net.params.len());
    eprintln!("{} parameters, for instance of what is learned: {}", net.params.len(), documents[0]);

    let mut grad = vec![0.0; net.params.len()];
    let mut recent = 0.0;
    for step in 0..steps {
        grad.fill(0.0);
        let mut loss = 0.0;
        for _ in 0..BATCH {
            loss += net.loss(&sequence(&mut vocab, &mut rng), &mut grad) / BATCH as f64;
        }
        adam.update(&mut net.params, &grad, rate(step, steps));
        recent = if step == 0 { loss } else { recent * 0.95 + loss * 0.05 };
        if step % 100 == 0 || step + 1 == steps {
            eprintln!("step {step} of {steps}: loss {recent:.3}");
        }
    }
    export::gguf(&net, &vocab, NAME)
}

/// Whole documents one after the other, the last one cut.
fn sequence(vocab: &mut Vocab, rng: &mut Rng) -> Vec<u16> {
    let mut tokens = Vec::new();
    while tokens.len() <= LENGTH {
        vocab.encode(&text::document(rng), &mut tokens);
    }
    tokens.truncate(LENGTH + 1);
    tokens
}

/// Up in a line, then down to nothing.
fn rate(step: usize, steps: usize) -> f32 {
    let up = (step + 1) as f32 / WARM_UP as f32;
    let down = (steps - step) as f32 / (steps.saturating_sub(WARM_UP)).max(1) as f32;
    PEAK_RATE * up.min(down).min(1.0)
}

/// Adam, with the gradient clipped to length 1.
struct Adam {
    mean: Vec<f32>,
    square: Vec<f32>,
    steps: i32,
}

impl Adam {
    fn new(len: usize) -> Self {
        Self { mean: vec![0.0; len], square: vec![0.0; len], steps: 0 }
    }

    fn update(&mut self, params: &mut [f32], grad: &[f32], rate: f32) {
        const KEEP: (f32, f32) = (0.9, 0.99);
        self.steps += 1;
        let length = grad.iter().map(|g| g * g).sum::<f32>().sqrt() / BATCH as f32;
        let clip = 1.0 / length.max(1.0) / BATCH as f32;
        let (fresh_mean, fresh_square) = (1.0 - power(KEEP.0, self.steps), 1.0 - power(KEEP.1, self.steps));
        for i in 0..params.len() {
            let g = grad[i] * clip;
            self.mean[i] = KEEP.0 * self.mean[i] + (1.0 - KEEP.0) * g;
            self.square[i] = KEEP.1 * self.square[i] + (1.0 - KEEP.1) * g * g;
            params[i] -= rate * (self.mean[i] / fresh_mean) / ((self.square[i] / fresh_square).sqrt() + 1e-8);
        }
    }
}

/// Without `powi`, whose result may differ between machines.
fn power(x: f32, n: i32) -> f32 {
    (0..n).fold(1.0, |product, _| product * x)
}
