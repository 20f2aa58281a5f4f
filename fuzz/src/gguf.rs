//! Model files from anywhere: a typed error, or a model that answers.

use haggle_engine::{Engine, Failure, Generation, Llama, Message, Prompt, Request, Sampling, Step};

/// A file that loads answers twice alike, in whole characters, however the work is divided.
pub fn gguf(data: &[u8]) {
    let model = match Llama::from_gguf("fuzz", data, None) {
        Ok(model) => model,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let message = Message { role: "user".into(), content: "the <|im_end|>".into() };
    for prompt in
        [Prompt::Raw("he \u{e9}\u{1f600} 12".into()), Prompt::Chat(vec![message]), Prompt::Tokens(vec![5; 20])]
    {
        let sampling = Sampling { temperature_milli: 900, seed: data.len() as u64, ..Sampling::default() };
        let request = Request { prompt, prefix: None, sampling, max_tokens: 6, stop: Vec::new() };
        assert_eq!(answer(&model, request.clone(), 64), answer(&model, request, 1));
    }
}

/// The tokens and the text, or the failure.
fn answer(model: &Llama, request: Request, budget: u32) -> Result<(Vec<u32>, String), Failure> {
    let mut generation: Box<dyn Generation> = model.start(request)?;
    let (mut ids, mut text) = (Vec::new(), String::new());
    // A prompt has at most 512 tokens here, and each step takes one at least.
    for _ in 0..1_000 {
        match generation.step(budget) {
            Step::Piece(piece) => {
                assert!(piece.n as usize <= piece.text.len());
                ids.extend(piece.ids.into_iter().flatten());
                text += &piece.text;
            }
            Step::Done(done) => {
                assert_eq!(done.new_tokens as usize, ids.len());
                return Ok((ids, text));
            }
            Step::Failed(failure) => return Err(failure),
            Step::Working | Step::Waiting | Step::Started(_) => {}
        }
    }
    panic!("it does not end");
}
