//! What is answered, however it is divided.

use haggle_engine::{Engine, Piece, PrefixUse, Prompt, Request, Sampling, Step, Stop};

use crate::{MODEL, finish, prefix, request, run, text};

/// Cuts an answer after every piece and lets another generation go on.
fn resumes_everywhere(request: &Request) -> Vec<Piece> {
    let (whole, done) = run(request, 1);
    for cut in 0..whole.len() {
        let before = prefix(&whole[..cut]);
        let rest = Request { max_tokens: request.max_tokens - before.tokens, prefix: Some(before), ..request.clone() };
        let (pieces, end) = run(&rest, 64);
        assert_eq!(pieces, whole[cut..], "cut {cut}");
        assert_eq!((end.stop, end.prompt_tokens), (done.stop, done.prompt_tokens));
    }
    whole
}

#[test]
fn a_sampled_answer_goes_on_as_if_uncut() {
    let long = (0..).map(|seed| request("Once upon a time", 800, seed, 200)).find(|r| run(r, 64).1.new_tokens == 200);
    assert_eq!(resumes_everywhere(&long.expect("some seed tells a long story")).len(), 200);
}

#[test]
fn a_greedy_answer_goes_on_as_if_uncut() {
    assert!(resumes_everywhere(&request("Once upon a time", 0, 1, 200)).len() > 50);
}

#[test]
fn a_wild_answer_goes_on_as_if_uncut() {
    // So hot that most tokens are single bytes, many of them within characters.
    let hot = request("Smile \u{1f600}, \u{fc}ber \u{4e16}\u{754c}!", 20_000, 3, 150);
    let pieces = resumes_everywhere(&hot);
    let text = text(&pieces);
    assert!(text.chars().any(|c| c.len_utf8() > 1), "{text:?}");
    assert!(pieces.iter().any(|piece| piece.n > 1), "no token was ever held back: {text:?}");
}

#[test]
fn an_answer_with_stop_strings_goes_on_as_if_uncut() {
    let plain = request("Once upon a time", 800, 1, 100);
    let (free, unstopped) = run(&plain, 64);
    let free = text(&free);
    // Within tokens, across them, at their borders; the last one is only begun, again and again.
    for stop in ["ed ", "e d", ". On", " the ", "t.", "e said no"] {
        let stopped = Request { stop: vec![stop.into(), "never met".into()], ..plain.clone() };
        let pieces = resumes_everywhere(&stopped);
        let expected = free.find(stop).map_or(free.as_str(), |at| &free[..at]);
        assert_eq!(text(&pieces), expected, "{stop:?}");
        let stop_reason = if free.contains(stop) { Stop::Text } else { unstopped.stop };
        assert_eq!(run(&stopped, 7).1.stop, stop_reason, "{stop:?}");
    }
}

#[test]
fn what_is_held_back_is_delivered_at_the_end() {
    let plain = request("Once upon a time", 800, 1, 20);
    let expected = text(&run(&plain, 64).0);
    let begun = format!("{} but not this", expected.split_at(expected.len() - 5).1);
    let (pieces, done) = run(&Request { stop: vec![begun], ..plain }, 64);
    assert_eq!((text(&pieces), done.stop, done.new_tokens), (expected, Stop::MaxTokens, 20));
    assert!(pieces.last().is_some_and(|piece| piece.n > 1), "nothing was held back");
}

#[test]
fn a_prefix_without_its_ids_is_continued_as_text() {
    let whole = run(&request("Once upon a time", 800, 1, 60), 64).0;
    let good = prefix(&whole[..30]);
    let mut wrong_ids = good.clone();
    wrong_ids.ids.as_mut().expect("ids")[3] += 1;
    let mut control = good.clone();
    control.ids.as_mut().expect("ids").insert(2, 1);
    control.tokens += 1;
    let without = haggle_engine::Prefix { ids: None, ..good.clone() };
    let uses =
        [(good, PrefixUse::Ids), (wrong_ids, PrefixUse::Text), (control, PrefixUse::Text), (without, PrefixUse::Text)];
    for (prefix, expected) in uses {
        let request = Request { prefix: Some(prefix), ..request("Once upon a time", 800, 1, 30) };
        let mut generation = MODEL.start(request).expect("a good request");
        let Step::Started(started) = generation.step(1000) else { panic!("not started") };
        assert_eq!(started.prefix, expected);
        assert!(matches!(generation.step(1), Step::Piece(_)));
    }
}

#[test]
fn budgets_do_not_change_the_answer() {
    let long_prompt = "Tell me a story about a cat and an owl. ".repeat(10);
    let request = request(&long_prompt, 800, 5, 100);
    let expected = run(&request, 1);
    for budget in [0, 2, 7, 64, u32::MAX] {
        assert_eq!(run(&request, budget), expected, "budget {budget}");
    }
}

#[test]
fn a_budget_bounds_the_work_of_a_step() {
    let request = request("Once upon a time", 800, 5, 10);
    let prompt_tokens = run(&request, 1).1.prompt_tokens;
    let mut generation = MODEL.start(request).expect("a good request");
    let mut steps = 1;
    while generation.step(3) == Step::Working {
        steps += 1;
    }
    assert_eq!(steps, prompt_tokens.div_ceil(3));
}

#[test]
fn generations_stepped_in_turn_do_not_disturb_each_other() {
    let requests: Vec<Request> = (0..5).map(|seed| request("Once upon a time", 900, seed, 80)).collect();
    let expected: Vec<String> = requests.iter().map(|request| text(&run(request, 64).0)).collect();
    let mut running: Vec<_> = requests.into_iter().map(|r| (MODEL.start(r).expect("good"), String::new())).collect();
    let mut ended = 0;
    for round in 0.. {
        ended = 0;
        for (i, (generation, text)) in running.iter_mut().enumerate() {
            match generation.step(1 + (round + i as u32) % 3) {
                Step::Piece(piece) => text.push_str(&piece.text),
                Step::Done(_) => ended += 1,
                _ => {}
            }
        }
        if ended == 5 || round > 10_000 {
            break;
        }
    }
    assert_eq!(ended, 5);
    let texts: Vec<String> = running.into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, expected);
    assert!(texts.windows(2).all(|pair| pair[0] != pair[1]), "seeds make a difference");
}

#[test]
fn the_model_tells_a_story_with_an_end() {
    let mut ends = 0;
    for seed in 0..20 {
        let (pieces, done) = run(&request("Once upon a time", 800, seed, 600), 64);
        let story = text(&pieces);
        ends += u32::from(done.stop == Stop::End && story.ends_with('.') && story.len() > 200);
        assert!(story.starts_with(','), "{story}");
    }
    assert!(ends >= 18, "{ends} of 20 stories came to an end");
}

/// If this fails, other nodes of the same exactness class would write other text: change `NUMERICS`, then this.
#[test]
fn the_numbers_are_those_of_the_class() {
    let sampling = Sampling { temperature_milli: 1000, top_k: 40, top_p_milli: 950, seed: 7 };
    let sampled = Request { sampling, ..request("The dragon", 0, 0, 250) };
    let mut ids = Vec::new();
    for request in [sampled, request("Hello!", 0, 0, 250), request("", 30_000, 9, 250)] {
        ids.extend(run(&request, 64).0.into_iter().filter_map(|piece| piece.ids).flatten());
    }
    let digest =
        ids.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, id| (hash ^ u64::from(*id)).wrapping_mul(0x100_0000_01b3));
    assert_eq!((ids.len(), digest), (710, 2_455_565_394_112_033_767));
}

#[test]
fn conversations_become_lines() {
    let message = |role: &str, content: &str| haggle_engine::Message { role: role.into(), content: content.into() };
    let chat = Prompt::Chat(vec![message("system", "Be kind."), message("user", "Hello!")]);
    let flat = request("Be kind.\nHello!", 800, 2, 50);
    assert_eq!(run(&Request { prompt: chat, ..flat.clone() }, 64), run(&flat, 64));
}

#[test]
fn a_dropped_generation_leaves_the_others_alone() {
    let request = request("Once upon a time", 800, 1, 50);
    let mut cancelled = MODEL.start(request.clone()).expect("a good request");
    let kept = MODEL.start(request.clone()).expect("a good request");
    cancelled.step(20);
    drop(cancelled);
    assert_eq!(finish(kept, 5), run(&request, 64));
}
