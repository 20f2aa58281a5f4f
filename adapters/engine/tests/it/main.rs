//! The engine as an adapter sees it.

mod answers;
#[cfg(feature = "upstream")]
mod events;
mod files;
mod guard;
mod models;
mod requests;
mod sample;
#[cfg(feature = "upstream")]
mod server;
#[cfg(feature = "upstream")]
mod upstream;

use std::sync::LazyLock;

use haggle_engine::{Done, Engine, Generation, Llama, Piece, Prefix, Prompt, Request, Sampling, Step};

static MODEL: LazyLock<Llama> = LazyLock::new(|| Llama::tiny_stories().expect("the embedded model is sound"));

fn request(prompt: &str, temperature_milli: u32, seed: u64, max_tokens: u32) -> Request {
    Request {
        prompt: Prompt::Raw(prompt.into()),
        prefix: None,
        sampling: Sampling { temperature_milli, seed, ..Sampling::default() },
        max_tokens,
        stop: Vec::new(),
    }
}

/// Runs to the end, and checks what holds for every generation.
fn finish(mut generation: Box<dyn Generation>, budget: u32) -> (Vec<Piece>, Done) {
    let mut pieces = Vec::new();
    let mut started = None;
    let done = loop {
        match generation.step(budget) {
            Step::Working => {}
            Step::Started(told) => assert_eq!(started.replace(told), None, "started twice"),
            Step::Piece(piece) => pieces.push(piece),
            Step::Done(done) => break done,
            step => panic!("{step:?}"),
        }
    };
    assert_eq!(generation.step(budget), Step::Done(done), "the ending is repeated");
    assert_eq!(started.map(|s| s.prompt_tokens), Some(done.prompt_tokens));
    let (mut tokens, mut bytes) = (0, 0);
    for piece in &pieces {
        tokens += piece.n;
        bytes += piece.text.len();
        assert!(piece.n > 0 && !piece.text.is_empty() && tokens as usize <= bytes, "{piece:?}");
        assert_eq!(piece.ids.as_ref().map(Vec::len), Some(piece.n as usize));
    }
    assert_eq!(done.new_tokens, tokens);
    (pieces, done)
}

fn run(request: &Request, budget: u32) -> (Vec<Piece>, Done) {
    run_on(&MODEL, request, budget)
}

fn run_on(model: &Llama, request: &Request, budget: u32) -> (Vec<Piece>, Done) {
    finish(model.start(request.clone()).expect("a good request"), budget)
}

fn text(pieces: &[Piece]) -> String {
    pieces.iter().map(|piece| piece.text.as_str()).collect()
}

/// What was delivered, as the beginning for another generation.
fn prefix(pieces: &[Piece]) -> Prefix {
    Prefix {
        text: text(pieces),
        tokens: pieces.iter().map(|piece| piece.n).sum(),
        ids: pieces.iter().map(|piece| piece.ids.clone()).collect::<Option<Vec<_>>>().map(|ids| ids.concat()),
    }
}
