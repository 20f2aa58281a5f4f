//! What is refused, and what is at its limits.

use haggle_engine::{Engine, ExactKind, Failure, Message, Prefix, Prompt, Request, Stop, Why};

use crate::{MODEL, request, run};

fn refused(request: Request) -> Failure {
    MODEL.start(request).err().expect("refused")
}

fn tokens(n: usize) -> Prompt {
    Prompt::Tokens(vec![100; n])
}

#[test]
fn bad_requests_are_refused_with_their_fault() {
    let good = request("Hello!", 800, 1, 10);
    let chat = |role: &str| Prompt::Chat(vec![Message { role: role.into(), content: "Hi".into() }]);
    let padded = Prefix { text: "ab".into(), tokens: 3, ids: None };
    let bad = [
        Request { max_tokens: 0, ..good.clone() },
        Request { stop: vec![String::new()], ..good.clone() },
        Request { stop: vec!["x".repeat(257)], ..good.clone() },
        Request { stop: vec!["x".into(); 17], ..good.clone() },
        Request { prompt: tokens(0), ..good.clone() },
        Request { prompt: Prompt::Tokens(vec![512]), ..good.clone() },
        Request { prompt: Prompt::Tokens(vec![u32::MAX]), ..good.clone() },
        Request { prompt: Prompt::Chat(Vec::new()), ..good.clone() },
        Request { prompt: chat("tool"), ..good.clone() },
        Request { prefix: Some(padded), ..good.clone() },
    ];
    for request in bad {
        let failure = refused(request.clone());
        assert_eq!(failure.why, Why::BadRequest, "{request:?}");
        assert!(!failure.why.another_may_help());
    }
    assert!(MODEL.start(good).is_ok());
}

#[test]
fn a_prompt_over_the_context_is_refused_at_once() {
    let context = MODEL.info().context as usize;
    let good = request("Hello!", 800, 1, 10);
    for prompt in
        [tokens(context), tokens(5000), Prompt::Raw("story ".repeat(context)), Prompt::Raw("x".repeat(2 << 20))]
    {
        let failure = refused(Request { prompt, ..good.clone() });
        assert_eq!(failure.why, Why::ContextOverflow);
        assert!(failure.detail.contains(&context.to_string()), "{failure}");
    }
    let prefix = Some(Prefix { text: "a story ".repeat(context), tokens: 9, ids: None });
    assert_eq!(refused(Request { prefix, ..good }).why, Why::ContextOverflow);
}

#[test]
fn an_answer_ends_where_the_context_ends() {
    let prompt = tokens(MODEL.info().context as usize - 3);
    let (_, done) = run(&Request { prompt, ..request("", 0, 1, 100) }, 64);
    assert_eq!((done.stop, done.new_tokens), (Stop::Context, 3));
}

#[test]
fn max_tokens_ends_an_answer() {
    let (pieces, done) = run(&request("Once upon a time", 800, 1, 1), 64);
    assert_eq!((done.stop, done.new_tokens, pieces.len()), (Stop::MaxTokens, 1, 1));
}

#[test]
fn any_prompt_can_be_read() {
    for prompt in ["", " ", "\n\n  \t", "\u{0}", "\u{1f469}\u{200d}\u{1f680}", "<|end|>", "\u{202e}abc", "I'll 've '"] {
        assert!(run(&request(prompt, 800, 1, 5), 64).1.new_tokens > 0, "{prompt:?}");
    }
}

#[test]
fn the_model_says_what_it_is() {
    let info = MODEL.info();
    assert_eq!(info.name, haggle_engine::TINY_STORIES);
    assert_eq!(info.weights, haggle_engine::TINY_STORIES_SHA256);
    assert!(info.context >= 512 && info.can_continue);
    assert_eq!(info.exactness.kind, ExactKind::Seeded);
    assert_ne!(info.exactness.class, info.weights);
}
