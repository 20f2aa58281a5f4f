//! How many tokens this engine reads and writes for one answer at a time: in a second, and in a second of one core's
//! time (Linux, one thread), which means more where other programs run.
//!
//! ```text
//! cargo run --release -p haggle-engine --example speed -- [FILE.gguf [THREADS [TOKENS]]]
//! ```

use std::{
    env,
    error::Error,
    fs,
    path::Path,
    time::{Duration, Instant},
};

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
    let began = Clock::now();
    let mut first = None;
    let done = loop {
        match generation.step(64) {
            Step::Started(_) => first = Some(Clock::now()),
            Step::Piece(piece) => {
                text += &piece.text;
                ids.extend(piece.ids.unwrap_or_default());
            }
            Step::Done(done) => break done,
            Step::Failed(failure) => return Err(failure.into()),
            Step::Working | Step::Waiting => {}
        }
    };
    let first = first.ok_or("nothing was read")?;
    let read = began.rate(&first, done.prompt_tokens);
    let wrote = first.rate(&Clock::now(), done.new_tokens);
    println!("read {}, wrote {}: {text:?} {ids:?}", read, wrote);
    Ok(())
}

/// A moment, and the time this thread has had a core until then.
struct Clock {
    wall: Instant,
    core: Option<Duration>,
}

impl Clock {
    fn now() -> Self {
        let core = fs::read_to_string("/proc/self/schedstat").ok();
        let core = core.and_then(|text| text.split(' ').next()?.parse().ok()).map(Duration::from_nanos);
        Self { wall: Instant::now(), core }
    }

    fn rate(&self, end: &Self, tokens: u32) -> String {
        let rate = |time: Duration| f64::from(tokens) / time.as_secs_f64();
        let core = self.core.zip(end.core).map_or(f64::NAN, |(began, ended)| rate(ended - began));
        format!("{tokens} at {:.1}/s, {core:.1} a core second", rate(end.wall - self.wall))
    }
}
