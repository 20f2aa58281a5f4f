//! Lets the embedded model answer a prompt, without any network.
//!
//! ```text
//! cargo run -p haggle-engine --example tell -- "Once upon a time" [SEED]
//! ```

use std::io::Write;

use haggle_engine::{Generation, Guarded, Llama, Prompt, Request, Sampling, Step};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let prompt = args.next().unwrap_or_else(|| "Once upon a time".to_string());
    let seed = args.next().map_or(Ok(1), |seed| seed.parse())?;
    let request = Request {
        prompt: Prompt::Raw(prompt.clone()),
        prefix: None,
        sampling: Sampling { seed, ..Sampling::default() },
        max_tokens: 500,
        stop: Vec::new(),
    };
    let mut generation = Guarded::start(&Llama::tiny_stories()?, request)?;
    print!("{prompt}");
    loop {
        match generation.step(64) {
            Step::Piece(piece) => print!("{}", piece.text),
            Step::Done(done) => {
                println!("\n[{} tokens, {:?}]", done.new_tokens, done.stop);
                return Ok(());
            }
            Step::Failed(failure) => return Err(failure.into()),
            Step::Working | Step::Waiting | Step::Started(_) => {}
        }
        std::io::stdout().flush()?;
    }
}
