//! What servers send as an answer, in the many forms they have for it.

use haggle_engine::{
    Channel, Engine, Generation, Guarded, Phase, Prompt, Request, Step, Stop, Why,
    upstream::{Config, Upstream},
};
use serde_json::json;

use super::{chat, config, open, raw, run, until};
use crate::server::{Does, Server, events, words};

/// A piece of an answer, with what else is in its event.
fn piece(text: &str, reason: Option<&str>, more: &str) -> String {
    let choice = json!({ "index": 0, "delta": { "content": text }, "finish_reason": reason });
    format!("{{\"choices\":[{choice}]{more}}}")
}

#[test]
fn text_is_text_until_the_end_whatever_reasons_were_given_before() {
    let (stop, done) = (Some("stop"), "[DONE]".to_owned());
    let usage = |n: u32| format!(r#"{{"choices":[],"usage":{{"prompt_tokens":7,"completion_tokens":{n}}}}}"#);
    let with = |n: u32| format!(r#","usage":{{"prompt_tokens":7,"completion_tokens":{n}}}"#);
    let end = piece("", stop, "");
    let thought = r#"{"choices":[{"delta":{"reasoning_content":"hm"},"finish_reason":"stop"}]}"#.to_owned();
    let streams = [
        (
            "in every piece",
            vec![piece("a ", stop, ""), piece("b ", stop, ""), piece("c", stop, ""), usage(3), done.clone()],
        ),
        ("in every piece, no more", vec![piece("a ", stop, ""), piece("b ", stop, ""), piece("c", stop, "")]),
        (
            "the end twice",
            vec![
                piece("a b ", None, ""),
                piece("c", None, ""),
                end.clone(),
                end.clone(),
                usage(3),
                usage(3),
                done.clone(),
                done.clone(),
            ],
        ),
        (
            "too early",
            vec![piece("a ", None, ""), end.clone(), usage(1), piece("b c", None, ""), end.clone(), done.clone()],
        ),
        (
            "with the usage",
            vec![piece("a ", stop, &with(1)), piece("b ", stop, &with(2)), piece("c", stop, &with(3)), done.clone()],
        ),
        (
            "for a thought",
            vec![thought, piece("a b ", None, ""), piece("c", None, ""), end.clone(), usage(3), done.clone()],
        ),
        ("none", vec![piece("a b ", None, ""), piece("c", Some("null"), ""), usage(3), done]),
    ];
    let server = Server::start(Does::Writes);
    let engine = open(&server);
    for (name, data) in streams {
        server.does(events(data.iter().map(String::as_str)));
        let outcome = run(&engine, chat(9));
        assert_eq!((outcome.text(), outcome.done().stop), ("a b c".into(), Stop::End), "{name}");
        assert!(outcome.done().new_tokens <= 3, "{name}: {:?}", outcome.pieces);
    }
    server.does(events([&*piece("a ", Some("stop"), ""), &piece("b", None, "")]));
    assert_eq!(run(&engine, chat(9)).done().stop, Stop::End, "the last reason counts");
    server.does(events([&*piece("a ", Some("stop"), ""), &piece("b", Some("length"), "")]));
    assert_eq!(run(&engine, chat(9)).done().stop, Stop::MaxTokens, "the last reason counts");
}

#[test]
fn what_nobody_needs_is_no_reason_to_lose_an_answer() {
    const END: &str = r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
    let delta = |content: &str| format!(r#"{{"choices":[{{"index":0,"delta":{{"content":{content}}}}}]}}"#);
    let around = |middle: &str| format!("data: {}\n\ndata: {middle}\n\ndata: {END}\n\n", delta("\"a \""));
    let plain = |middle: &str| around(&format!(r#"{{"choices":[{{"delta":{{"content":"b"}}{middle}}}]}}"#));
    let top = |field: &str| around(&format!(r#"{{"choices":[{{"delta":{{"content":"b"}}}}],{field}}}"#));
    let whole = r#"{"choices":[{"message":{"content":"a b","reasoning_content":null},"finish_reason":"stop"}]}"#;
    let halves = format!("data: {}\n\ndata: {}\n\ndata: {END}\n\n", delta(r#""a \ud83d""#), delta(r#""\ude00""#));
    let streams: Vec<(&str, String)> = vec![
        ("a b", around(&delta(r#"[{"type":"text","text":"b"}]"#))),
        ("a b", around(&delta(r#"["b"]"#))),
        ("a b", around(&delta(r#"{"type":"text","text":"b"}"#))),
        ("a 7", around(&delta("7"))),
        ("a ", around(&delta("null"))),
        ("a ", around(&delta(r#"[{"type":"thinking","thinking":[{"type":"text","text":"b"}]},null]"#))),
        ("a b", around(r#"{"choices":[{"delta":{"content":"b"},"message":{"content":"a b"}}]}"#)),
        ("a ", around(r#"{"choices":[{"delta":{},"message":{"content":"a b"}}]}"#)),
        ("a b", around(r#"{"choices":[null,"x",{"index":1,"text":"c"},{"index":0,"text":"b"}]}"#)),
        ("a b", plain(r#","logprobs":{"content":[{"logprob":-Infinity}]},"index":"0""#)),
        ("a b", plain(r#","finish_reason":"null""#)),
        ("a b", plain(r#","finish_reason":"STOP""#)),
        ("a b", plain(r#","finish_reason":"of its own""#)),
        ("a b", plain(r#","finish_reason":null,"finishReason":"stop""#)),
        ("a b", top(r#""error":null"#)),
        ("a b", top(r#""error":"""#)),
        ("a b", top(r#""error":{"message":null,"code":0}"#)),
        ("a b", top(r#""usage":{"prompt_tokens":7.0,"completion_tokens":"2"},"created":1.5e9"#)),
        ("a b", top(r#""usage":{"prompt_tokens":-1,"completion_tokens":-1},"timings":[]"#)),
        ("a b", top(r#""usage":{"completion_tokens_details":{"reasoning_tokens":null}},"object":{}"#)),
        ("a b", top(r#""usage":null,"timings":{"predicted_n":1.5},"id":"\ud800""#)),
        ("a b", format!("event: ping\ndata: ping\n\n{}", around(&delta("\"b\"")))),
        ("a b", around(&delta("\"b\"")).replace("\n\n", "\n")),
        ("a b", around(&delta("\"b\"")).replace("\n\n", "\r\n\r\n").trim_end().to_owned()),
        ("a b", around(&delta("\"b\"")).replace("data: ", "")),
        ("a b", whole.to_owned()),
        ("a b", whole.replace(',', ",\n\n")),
        ("a b", format!("data: {whole}\n\n")),
        ("a b", format!("[{},\n{},\n{END}]", delta("\"a \""), delta("\"b\""))),
        ("a b", format!("data: {}{}\n\ndata: {END},\n\n", delta("\"a \""), delta("\"b\""))),
        ("a b", around(&delta("\"b\"")).replace("data: ", "data: data: ")),
        ("a b", around(r#"{"choices":[{"delta":"b"}]}"#)),
        ("a b", around(r#"{"choices":{"delta":{"content":"b"}}}"#)),
        ("a b", format!("{}data: {{\"error\":\"no usage\"}}\n\n", around(&delta("\"b\"")))),
        ("a 😀", halves),
    ];
    let server = Server::start(Does::Writes);
    let engine = open(&server);
    for (n, (text, body)) in streams.into_iter().enumerate() {
        let kind = ["text/event-stream", "application/json", "text/plain"][n % 3];
        server.does(Does::Sends(kind, body.clone().into()));
        let outcome = run(&engine, chat(9));
        assert_eq!((&*outcome.text(), outcome.done().stop), (text, Stop::End), "{body}");
    }
    let cut = [
        b"data: {\"choices\":[{\"delta\":{\"content\":\"\xe2\x82\"}}]}\n\n",
        &b"data: {\"choices\":[{\"text\":\"\xac \xff\"}]}\n"[..],
    ];
    server.does(Does::Sends("text/event-stream", [&cut.concat(), &b"data: [DONE]"[..]].concat()));
    assert_eq!(run(&engine, chat(9)).text(), "€ �", "bytes that were cut are one character");
}

#[test]
fn usage_for_each_piece_alone_neither_holds_text_back_nor_costs_the_seller() {
    let alone = r#","usage":{"prompt_tokens":7,"completion_tokens":1}"#;
    let data: Vec<String> = (0..20).map(|n| piece(&format!("word {n} "), None, alone)).collect();
    let server = Server::start(events(data.iter().map(String::as_str).chain(["[DONE]"])));
    let outcome = run(&open(&server), chat(50));
    assert_eq!((outcome.text(), outcome.done().new_tokens), (words(20), 20));
    assert_eq!(outcome.pieces.len(), 20, "as it came");
}

#[test]
fn a_packed_answer_is_read_or_named() {
    let body = format!("data: {}\n\ndata: [DONE]\n\n", piece("a b", Some("stop"), ""));
    let server = Server::start(Does::Sends("text/event-stream\r\nContent-Encoding: gzip", gzip(body.as_bytes())));
    let engine = open(&server);
    assert_eq!(run(&engine, chat(9)).text(), "a b");
    server.does(Does::Sends("text/event-stream\r\nContent-Encoding: br", b"?".to_vec()));
    let Step::Failed(failure) = run(&engine, chat(9)).end else { panic!("it cannot be read") };
    assert!(failure.why == Why::Engine && failure.detail.contains("\"br\""), "{failure}");
}

/// Bytes as a gzip file, without making them any smaller.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        (0..8).for_each(|_| crc = crc >> 1 ^ if crc & 1 > 0 { 0xedb8_8320 } else { 0 });
    }
    let length = u16::try_from(bytes.len()).expect("a short one");
    let head =
        [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1][..], &length.to_le_bytes(), &(!length).to_le_bytes()].concat();
    [&head[..], bytes, &(!crc).to_le_bytes(), &u32::from(length).to_le_bytes()].concat()
}

#[test]
fn thoughts_come_apart_from_the_answer_whatever_they_are_called() {
    let thought = |field: &str| format!(r#"{{"choices":[{{"delta":{{{field}}}}}]}}"#);
    let text = |content: &str| piece(content, None, "");
    let usage = r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":6,"prompt_tokens_details":{"cached_tokens":5},"completion_tokens_details":{"reasoning_tokens":3}}}"#;
    let ways = [
        vec![thought(r#""reasoning_content":"hm ""#), thought(r#""reasoning_content":"so ""#), text("a b")],
        vec![thought(r#""reasoning":"hm ""#), thought(r#""reasoning":"so ","reasoning_content":"so ""#), text("a b")],
        vec![thought(r#""reasoning_content":"hm so ","content":"a ""#), text("b")],
        vec![text("<think>\nhm "), text("so </thi"), text("nk>\n\na b")],
        vec![thought(r#""content":[{"type":"thinking","thinking":[{"type":"text","text":"hm so "}]}]"#), text("a b")],
        vec![r#"{"choices":[{"message":{"reasoning_content":"hm so ","content":"a b"}}]}"#.to_owned()],
        vec![r#"{"choices":[{"message":{"content":"<think>hm so </think>a b"}}]}"#.to_owned()],
    ];
    let server = Server::start(Does::Writes);
    let engine = open(&server);
    for data in ways {
        let end = piece("", Some("stop"), "");
        server.does(events(data.iter().map(String::as_str).chain([&*end, usage, "[DONE]"])));
        let outcome = run(&engine, chat(9));
        assert_eq!((&*outcome.on(Some(Channel::Thought)), &*outcome.text()), ("hm so ", "a b"), "{data:?}");
        let done = outcome.done();
        assert_eq!((done.new_tokens, done.prompt_tokens, done.cached), (6, 7, Some(5)), "both are owed: {data:?}");
    }
    server.does(events([r#"{"choices":[{"text":"<think>hm</think>a","finish_reason":"stop"}]}"#]));
    assert_eq!(run(&engine, raw(9)).text(), "<think>hm</think>a", "in a text that is continued the tags are text");
    let hidden = usage.replace("\"completion_tokens\":6", "\"completion_tokens\":5");
    server.does(events([&*text("a b c d e f"), &piece("", Some("stop"), ""), &hidden, "[DONE]"]));
    assert_eq!(run(&engine, chat(9)).done().new_tokens, 2, "what is not shown is not owed");
}

#[test]
fn thoughts_without_an_answer_are_owed_and_show_that_it_works() {
    let thought = r#"{"choices":[{"delta":{"reasoning_content":"hm "}}]}"#;
    let usage = r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}"#;
    let length = piece("", Some("length"), "");
    let server = Server::start(events([thought, thought, thought, &length, usage, "[DONE]"]));
    let engine = open(&server);
    let outcome = run(&engine, chat(3));
    assert_eq!((&*outcome.on(Some(Channel::Thought)), &*outcome.text()), ("hm hm hm ", ""));
    assert_eq!((outcome.done().stop, outcome.done().new_tokens), (Stop::MaxTokens, 3));
    assert!(engine.outage().is_none() && engine.first_text().is_some(), "no guess any more");
    let fresh = open(&server);
    assert_eq!(Guarded::start(&fresh, chat(9)).expect("taken").phase(), Phase::Loading, "it answered nobody yet");

    let hidden = r#"{"choices":[],"usage":{"completion_tokens":3,"completion_tokens_details":{"reasoning_tokens":3}}}"#;
    server.does(events([&*length, hidden, "[DONE]"]));
    let Step::Failed(failure) = run(&engine, chat(3)).end else { panic!("nothing came") };
    assert!(failure.why == Why::Unavailable && failure.detail.contains("thoughts"), "{failure}");

    server.does(Does::Thinks);
    let mut generation = Guarded::start(&engine, chat(9)).expect("taken");
    assert_eq!(generation.phase(), Phase::Queued, "it answered just now: its model is in memory");
    until("it thinks", || {
        assert!(matches!(generation.step(8), Step::Working | Step::Waiting));
        generation.phase() == Phase::Thinking
    });
}

#[test]
fn calls_of_tools_come_as_objects_and_end_the_answer_as_such() {
    let server = Server::start(Does::CallsTools);
    let able = Upstream::open(Config { features: Some(1), ..config(&server) }).expect("a server that is well");
    let asked = r#"{"messages":[{"role":"user","content":"Hi"}],"tools":[{"function":{"name":"weather"}}]}"#;
    let request = Request { prompt: Prompt::Request(asked.into()), ..chat(9) };
    let outcome = run(&able, request.clone());
    let objects: Vec<serde_json::Value> =
        outcome.pieces.iter().map(|piece| serde_json::from_str(&piece.text).expect("an object each")).collect();
    assert!(outcome.pieces.iter().all(|piece| piece.channel == Some(Channel::ToolCall)));
    assert_eq!(objects.len(), 3);
    assert_eq!(objects[0], json!({ "index": 0, "id": "call_1", "name": "weather", "arguments": "" }));
    assert_eq!(outcome.done().stop, Stop::ToolCalls);
    let unable = Guarded::start(&open(&server), request).err().expect("refused");
    assert_eq!((unable.why, server.asked().len()), (Why::Unavailable, 1), "{unable}");
}
