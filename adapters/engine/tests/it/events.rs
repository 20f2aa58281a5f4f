//! Server-sent events and answers: however the bytes are cut, they say the same.

use haggle_engine::{
    Step,
    upstream::{
        answer::{Answer, Asked},
        sse::{MAX_EVENT, Parser, TooLong},
    },
};
use proptest::{collection::vec, prelude::*, sample::select};

type Named = (&'static str, &'static str);
type Events = Result<Vec<(Vec<u8>, Vec<u8>)>, TooLong>;

fn events<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Events {
    let mut parser = Parser::default();
    let mut events = Vec::new();
    for mut piece in pieces {
        while let Some(event) = parser.next(&mut piece)? {
            events.push((event.name.to_vec(), event.data.to_vec()));
        }
        assert!(piece.is_empty() && parser.held() <= MAX_EVENT);
    }
    events.extend(parser.finish().map(|event| (event.name.to_vec(), event.data.to_vec())));
    Ok(events)
}

/// The rules once more, over whole text and without a state: slow, and easy to believe.
fn expected(bytes: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let text: Vec<u8> = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).to_vec();
    let mut lines: Vec<Vec<u8>> = vec![Vec::new()];
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        at += 1;
        match byte {
            b'\r' | b'\n' => {
                at += usize::from(*byte == b'\r' && text.get(at) == Some(&b'\n'));
                lines.push(Vec::new());
            }
            other => lines.last_mut().expect("never empty").push(*other),
        }
    }
    // What the last line end is followed by counts only if it closes a bracket.
    lines.pop_if(|last| last.is_empty());
    let (mut found, mut name, mut data, mut bare) = (Vec::new(), Vec::new(), None::<Vec<u8>>, false);
    let begins = |line: &[u8]| matches!(line.trim_ascii_start().first(), Some(b'{' | b'['));
    for line in lines {
        bare |= data.is_none() && begins(&line);
        if line.is_empty() && !bare {
            let name = std::mem::take(&mut name);
            found.extend(data.take().map(|data| (name, data)));
            continue;
        }
        let (field, value) = match line.iter().position(|byte| *byte == b':') {
            _ if bare => (&b"data"[..], &line[..]),
            Some(colon) => (&line[..colon], line[colon + 1..].strip_prefix(b" ").unwrap_or(&line[colon + 1..])),
            None => (&line[..], &b""[..]),
        };
        match field {
            b"event" => name = value.to_vec(),
            b"data" => {
                // Lines are joined by line feeds.
                let begun = data.is_some();
                let data = data.get_or_insert_with(Vec::new);
                data.extend(begun.then_some(b'\n'));
                data.extend_from_slice(value);
            }
            _ => {}
        }
        if let Some(whole) = data.take_if(|data| begins(data) && is_closed(data)) {
            found.push((std::mem::take(&mut name), whole));
            bare = false;
        }
    }
    found
}

/// Whether every bracket outside of texts has its partner.
fn is_closed(data: &[u8]) -> bool {
    let (mut depth, mut bytes) = (0_usize, data.iter());
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => loop {
                match bytes.next() {
                    None => return false,
                    Some(b'"') => break,
                    Some(b'\\') => drop(bytes.next()),
                    Some(_) => {}
                }
            },
            _ => {}
        }
    }
    depth == 0
}

#[test]
fn the_rules_by_example() {
    let cases: [(&[u8], &[Named]); 21] = [
        (b"data: a\r\ndata: b\r\n\r\n", &[("", "a\nb")]),
        (b"data: a\n\n", &[("", "a")]),
        (b"data: a\r\n\r\ndata:b\r\rdata:  c\n\n", &[("", "a"), ("", "b"), ("", " c")]),
        (b"\xef\xbb\xbfdata: a\n\n", &[("", "a")]),
        (b": comment\n\n:\n\ndata: a\n\n", &[("", "a")]),
        (b"event: error\ndata: a\nid: 1\nretry: 2\nother: 3\n\n", &[("error", "a")]),
        (b"data: a\ndata\ndata: b\n\n", &[("", "a\n\nb")]),
        (b"data\n\n", &[("", "")]),
        (b"event: x\n\ndata: a\n\n", &[("", "a")]),
        (b"data: a\n", &[]),
        (b"data: a", &[]),
        (b"\n\n\n\r\r\n", &[]),
        (b"data: \xff\n\n", &[]),
        (b"data: {}\ndata: [1]\nevent: e\ndata: {}\n\n", &[("", "{}"), ("", "[1]"), ("e", "{}")]),
        (b"data: {\ndata: }\ndata: a\n\n", &[("", "{\n}"), ("", "a")]),
        (b"data: {\"}\ndata: \\\"\"}\n", &[("", "{\"}\n\\\"\"}")]),
        (b"{\"a\":\n\n1}\n{}\n[DONE]", &[("", "{\"a\":\n\n1}"), ("", "{}"), ("", "[DONE]")]),
        (b"data: {}", &[("", "{}")]),
        (b"data: {", &[]),
        (b"data: {\n\ndata: a\n\n", &[("", "{"), ("", "a")]),
        (b"data: a\n{}\n\n", &[("", "a")]),
    ];
    for (bytes, wanted) in cases {
        if bytes.contains(&0xff) {
            assert_eq!(events([bytes]), Ok(vec![(vec![], vec![0xff])]), "bytes are passed on as they are");
            continue;
        }
        let wanted = wanted.iter().map(|(name, data)| (name.as_bytes().to_vec(), data.as_bytes().to_vec())).collect();
        assert_eq!(events([bytes]), Ok(wanted), "{:?}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn a_line_without_end_is_refused_for_ever_and_not_held() {
    let mut parser = Parser::default();
    let block = [b'x'; 4096];
    for _ in 0..MAX_EVENT / block.len() {
        assert_eq!(parser.next(&mut &block[..]), Ok(None));
    }
    assert_eq!(parser.next(&mut &b"x"[..]), Err(TooLong));
    assert_eq!(parser.next(&mut &b"\n\ndata: a\n\n"[..]), Err(TooLong));
    let many = b"data: xxxxxxxx\n".repeat(MAX_EVENT / 8);
    assert_eq!(events([&many[..]]), Err(TooLong), "nor many lines");
}

fn steps<'a>(asked: &Asked, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Step> {
    let mut answer = Answer::new(asked.clone());
    pieces.into_iter().for_each(|piece| answer.feed(piece));
    answer.end(None);
    answer.end(Some("twice"));
    std::iter::from_fn(|| answer.step()).collect()
}

/// Something like a stream: parts of events in any order.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let parts: Vec<&[u8]> = vec![
        b"data: ",
        b"data:",
        b"event: error",
        b": beat",
        b"\n",
        b"\n\n",
        b"\r\n",
        b"\r\n\r\n",
        b"\r",
        b"\xef\xbb\xbf",
        b"[DONE]",
        br#"{"choices":[{"index":0,"delta":{"content":"word "}}]}"#,
        "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"日本 👩‍👩‍👧\"}}]}".as_bytes(),
        br#"{"choices":[{"index":0,"text":"x"}],"usage":{"completion_tokens":3}}"#,
        br#"{"choices":[{"index":0,"delta":{"content":"once"},"finish_reason":"stop"}]}"#,
        br#"{"choices":[{"index":0,"delta":{"reasoning_content":"hm"}}],"timings":{"predicted_n":4}}"#,
        br#"{"choices":[{"delta":{"content":"<think>hm</think> so"}}]}"#,
        br#"{"choices":[{"delta":{"content":"</think> well"}}]}"#,
        br#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":9}}"#,
        br#"{"error":{"code":400,"message":"context length"}}"#,
        br#"{"choices":null}"#,
        b"{}",
        b"null",
        b"{",
        b"\"}",
        b"[",
        b"]",
        b"\xff",
    ];
    vec(select(parts), 0..24).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn any_cut_of_the_same_bytes_gives_the_same_events(bytes in streams(), cuts in vec(1_usize..9, 1..40)) {
        let whole = events([&bytes[..]]);
        prop_assert_eq!(events(cut(&bytes, &cuts)), whole.clone());
        prop_assert_eq!(whole, Ok(expected(&bytes)));
    }

    #[test]
    fn any_cut_gives_the_same_steps_and_one_ending(
        bytes in streams(),
        cuts in vec(1_usize..9, 1..40),
        max_tokens in 1_u32..12,
        prefix in proptest::option::of(select(vec!["word ", "word word ", "日本"])),
    ) {
        let asked = Asked { max_tokens, context: 64, is_text: false, prefix: prefix.map(|text| (text.to_owned(), 2)) };
        let steps_of_all = steps(&asked, [&bytes[..]]);
        prop_assert_eq!(&steps(&asked, cut(&bytes, &cuts)), &steps_of_all);
        let (mut tokens, mut written, mut started, mut ended) = (0, 0, 0, 0);
        for step in &steps_of_all {
            prop_assert_eq!(ended, 0, "nothing follows the ending");
            match step {
                Step::Started(_) => started += 1,
                Step::Piece(piece) => {
                    tokens += piece.n;
                    written += piece.text.len();
                    prop_assert!(started == 1 && piece.n > 0 && !piece.text.is_empty() && tokens as usize <= written);
                }
                Step::Done(done) => prop_assert_eq!((started, done.new_tokens), (1, tokens)),
                _ => {}
            }
            ended += u32::from(step.is_ending());
        }
        prop_assert_eq!(ended, 1);
        prop_assert!(tokens <= max_tokens);
    }
}

/// The bytes in pieces of these lengths, again and again.
fn cut<'a>(mut bytes: &'a [u8], lengths: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut lengths = lengths.iter().cycle();
    std::iter::from_fn(move || {
        let (piece, rest) = bytes.split_at(bytes.len().min(*lengths.next()?));
        bytes = rest;
        (!piece.is_empty()).then_some(piece)
    })
}
