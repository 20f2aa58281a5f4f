//! How many tokens a second this engine reads and writes, for one answer at a time.
//!
//! ```text
//! cargo run --release -p haggle-engine --example speed -- [FILE.gguf [THREADS [TOKENS]]]
//! ```

use std::{env, error::Error, path::Path, time::Instant};

use haggle_engine::{Engine, Generation, Guarded, Llama, Message, Prompt, Request, Sampling, Step};

const QUESTIONS: [&str; 3] = [
    "What is the capital of France?",
    "Write a short poem about the sea.",
    "Explain in three sentences how a bicycle stays upright.",
];

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let engine = match args.next() {
        Some(file) => Llama::open(Path::new(&file))?,
        None => Llama::tiny_stories()?,
    };
    let threads = args.next().map_or(Ok(1), |threads| threads.parse())?;
    let max_tokens = args.next().map_or(Ok(60), |tokens| tokens.parse())?;
    let engine = engine.with_threads(threads);
    println!("{} with {} threads", engine.info().name, engine.threads());
    for question in QUESTIONS {
        let prompt = Prompt::Chat(vec![Message { role: "user".into(), content: question.into() }]);
        let sampling = Sampling { temperature_milli: 0, ..Sampling::default() };
        let request = Request { prompt, prefix: None, sampling, max_tokens, stop: Vec::new() };
        answer(&engine, request)?;
    }
    Ok(())
}

fn answer(engine: &Llama, request: Request) -> Result<(), Box<dyn Error>> {
    let mut generation = Guarded::start(engine, request)?;
    let (mut text, mut ids) = (String::new(), Vec::new());
    let began = Instant::now();
    let mut reading = None;
    let done = loop {
        match generation.step(64) {
            Step::Started(_) => reading = Some(began.elapsed()),
            Step::Piece(piece) => {
                text += &piece.text;
                ids.extend(piece.ids.unwrap_or_default());
            }
            Step::Done(done) => break done,
            Step::Failed(failure) => return Err(failure.into()),
            Step::Working | Step::Waiting => {}
        }
    };
    let reading = reading.ok_or("nothing was read")?;
    let read = f64::from(done.prompt_tokens) / reading.as_secs_f64();
    let wrote = f64::from(done.new_tokens) / (began.elapsed() - reading).as_secs_f64();
    println!("read {} at {read:.1}/s, wrote {} at {wrote:.1}/s: {text:?} {ids:?}", done.prompt_tokens, done.new_tokens);
    Ok(())
}
