//! An OpenAI-compatible server that fails as told. It speaks HTTP/1.1 over std::net, one request a connection.

use std::{
    fmt::Write as _,
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    ops::ControlFlow,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// The only model it has.
pub(crate) const MODEL: &str = "served-model";

/// What it does with a prompt. It writes `word 0 `, `word 1 `, ... as many as are asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Does {
    /// One event a token, usage in an event of its own, `[DONE]`.
    Writes,
    /// The same in writes of one byte.
    WritesBytes,
    /// Says the usage with the finish reason, and ends without `[DONE]`.
    UsageOnFinish,
    /// Says the usage only after a while.
    UsageLate(Duration),
    /// Says neither usage nor `[DONE]` and keeps the connection.
    NeverCloses,
    /// Several tokens an event, with no count until the end.
    SeveralPerEvent,
    /// Comments and empty deltas first.
    Heartbeats,
    SlowFirst(Duration),
    /// One JSON object instead of events.
    Whole,
    /// Repeats what it was to continue.
    Echoes,
    /// Ignores `max_tokens`.
    Endless,
    /// After two tokens nothing more.
    Stalls,
    /// Nothing at all.
    Hangs,
    /// After two tokens the body ends.
    SilentEnd,
    /// After two tokens the connection is cut in the midst of a chunk.
    Cut,
    /// After so many tokens an error event.
    ErrorAfter(usize, Value),
    /// After two tokens a line without end.
    GiantLine,
    /// After two tokens a piece that is cut in its midst.
    Damaged,
    /// A text of so many bytes in one event.
    Wide(usize),
    /// Refuses with a status, a Retry-After and a body.
    Refuses(u16, Option<&'static str>, &'static str),
    /// These texts, one event each.
    Says(&'static [&'static str]),
    /// Refuses by name the first of these fields that a request has; writes, if it has none.
    Picky(&'static [&'static str]),
    /// Closes the connection without a word.
    Drops,
    /// Writes slowly, and drops what it writes when anything else is asked.
    OneAtATime,
    /// After a thought nothing more.
    Thinks,
    /// Calls the first tool that it is offered, in pieces; says what that answered.
    CallsTools,
    /// These bytes as a body of this kind, which ends with the connection.
    Sends(&'static str, Vec<u8>),
}

#[derive(Debug)]
struct Shared {
    does: Mutex<Does>,
    /// How it answers when asked for its models.
    lists: Mutex<(u16, Value)>,
    key: Option<&'static str>,
    asked: Mutex<Vec<Value>>,
    probes: AtomicUsize,
    /// Answers being written.
    writing: AtomicUsize,
    /// Answers that the client did not want to the end.
    left: AtomicUsize,
    stopped: AtomicBool,
}

/// The server. Dropping it closes its port and its connections.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

impl Server {
    pub(crate) fn start(does: Does) -> Self {
        Self::start_on(0, does, None)
    }

    /// On a port, and locked by a key.
    pub(crate) fn start_on(port: u16, does: Does, key: Option<&'static str>) -> Self {
        // The port of a server that was dropped becomes free when its thread notices.
        let began = Instant::now();
        let listener = loop {
            match TcpListener::bind(("127.0.0.1", port)) {
                Ok(listener) => break listener,
                Err(error) => assert!(began.elapsed() < Duration::from_secs(20), "no port: {error}"),
            }
            thread::sleep(Duration::from_millis(5));
        };
        let port = listener.local_addr().expect("a port").port();
        let lists = json!({ "object": "list", "data": [{ "id": MODEL, "object": "model", "owned_by": "llamacpp" }] });
        let shared = Arc::new(Shared {
            does: Mutex::new(does),
            lists: Mutex::new((200, lists)),
            key,
            asked: Mutex::default(),
            probes: AtomicUsize::new(0),
            writing: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        });
        let serving = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), serving) = (stream, serving.clone()) else { continue };
                thread::spawn(move || drop(answer(&serving, &stream)));
            }
        });
        Server { port, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    pub(crate) fn does(&self, does: Does) {
        *self.shared.does.lock().expect("not poisoned") = does;
    }

    /// How it answers when it is asked for its models.
    pub(crate) fn lists(&self, status: u16, body: Value) {
        *self.shared.lists.lock().expect("not poisoned") = (status, body);
    }

    /// The prompts that came, as JSON.
    pub(crate) fn asked(&self) -> Vec<Value> {
        self.shared.asked.lock().expect("not poisoned").clone()
    }

    /// How often it was asked for its models.
    pub(crate) fn probes(&self) -> usize {
        self.shared.probes.load(Ordering::SeqCst)
    }

    /// Answers that it is writing.
    pub(crate) fn writing(&self) -> usize {
        self.shared.writing.load(Ordering::SeqCst)
    }

    /// Answers that were left before their end.
    pub(crate) fn left(&self) -> usize {
        self.shared.left.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// A stream of events with this data.
pub(crate) fn events<'a>(data: impl IntoIterator<Item = &'a str>) -> Does {
    Does::Sends(
        "text/event-stream",
        data.into_iter().map(|data| format!("data: {data}\n\n")).collect::<String>().into(),
    )
}

/// What it writes.
pub(crate) fn words(n: usize) -> String {
    (0..n).map(|n| format!("word {n} ")).collect()
}

fn answer(shared: &Shared, stream: &TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut path, mut length, mut key) = (String::new(), String::new(), 0, None);
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let header = line.trim();
        if path.is_empty() {
            path = header.split(' ').nth(1).unwrap_or_default().to_owned();
        } else if header.is_empty() {
            break;
        } else if let Some((name, value)) = header.split_once(':') {
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().expect("a length"),
                "authorization" => key = Some(value.trim().to_owned()),
                "transfer-encoding" => panic!("a body is sent with its length"),
                _ => {}
            }
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut out = stream;
    if shared.key.is_some_and(|wanted| key != Some(format!("Bearer {wanted}"))) {
        return refuse(
            &mut out,
            401,
            None,
            r#"{"error":{"message":"Incorrect API key","type":"invalid_request_error"}}"#,
        );
    }
    if path.ends_with("/models") {
        shared.probes.fetch_add(1, Ordering::SeqCst);
        let (status, body) = shared.lists.lock().expect("not poisoned").clone();
        return refuse(&mut out, status, None, &body.to_string());
    }
    if path.ends_with("/props") {
        let props = json!({ "total_slots": 3, "default_generation_settings": { "n_ctx": 2048 } });
        return refuse(&mut out, 200, None, &props.to_string());
    }
    let asked: Value = serde_json::from_slice(&body).expect("JSON was sent");
    shared.asked.lock().expect("not poisoned").push(asked.clone());
    let does = shared.does.lock().expect("not poisoned").clone();
    shared.writing.fetch_add(1, Ordering::SeqCst);
    let chat = path.ends_with("/chat/completions");
    let written = Writer { out, chat, asked, bytewise: does == Does::WritesBytes, next: 0 }.write(&does, shared);
    if written.is_err() {
        shared.left.fetch_add(1, Ordering::SeqCst);
    }
    shared.writing.fetch_sub(1, Ordering::SeqCst);
    Ok(())
}

fn refuse(out: &mut &TcpStream, status: u16, retry_after: Option<&str>, body: &str) -> io::Result<()> {
    let retry = retry_after.map(|after| format!("Retry-After: {after}\r\n")).unwrap_or_default();
    let length = body.len();
    let head = format!("HTTP/1.1 {status} Told\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n");
    out.write_all(format!("{head}{retry}Connection: close\r\n\r\n{body}").as_bytes())
}

struct Writer<'a> {
    out: &'a TcpStream,
    chat: bool,
    asked: Value,
    bytewise: bool,
    next: usize,
}

impl Writer<'_> {
    /// An error: the client is gone.
    fn write(mut self, does: &Does, shared: &Shared) -> io::Result<()> {
        let over = self.instead(does)?.is_break() || self.begin(does, shared)?.is_break();
        if over || self.words_then_trouble(does, shared)?.is_break() { Ok(()) } else { self.end(does) }
    }

    fn max(&self) -> usize {
        let max = self.asked.get("max_tokens").unwrap_or(&self.asked["max_completion_tokens"]).as_u64();
        max.and_then(|max| usize::try_from(max).ok()).expect("a number")
    }

    /// What is no stream of events.
    fn instead(&mut self, does: &Does) -> io::Result<ControlFlow<()>> {
        match does {
            Does::Refuses(status, retry, body) => refuse(&mut self.out, *status, *retry, body)?,
            Does::Hangs => self.until_closed()?,
            Does::Drops => {}
            Does::Picky(fields) => {
                let has = |field: &&&str| {
                    let options = self.asked.get("stream_options");
                    [Some(&self.asked), options].into_iter().flatten().any(|fields| fields.get(**field).is_some())
                };
                let Some(field) = fields.iter().find(has) else { return Ok(ControlFlow::Continue(())) };
                let error =
                    json!({ "error": { "message": format!("Unsupported parameter: '{field}'"), "param": field } });
                refuse(&mut self.out, 400, None, &error.to_string())?;
            }
            Does::CallsTools => self.send("text/event-stream", self.tools().as_bytes())?,
            Does::Sends(kind, body) => self.send(kind, body)?,
            Does::Whole => {
                let text = words(self.max());
                let choice = match self.chat {
                    true => {
                        json!({ "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": "length" })
                    }
                    false => json!({ "index": 0, "text": text, "finish_reason": "length" }),
                };
                let usage = json!({ "prompt_tokens": 7, "completion_tokens": self.max() });
                refuse(&mut self.out, 200, None, &json!({ "choices": [choice], "usage": usage }).to_string())?;
            }
            _ => return Ok(ControlFlow::Continue(())),
        }
        Ok(ControlFlow::Break(()))
    }

    /// A body that ends with the connection.
    fn send(&mut self, kind: &str, body: &[u8]) -> io::Result<()> {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n");
        self.out.write_all(&[head.as_bytes(), body].concat())
    }

    /// A call of the first tool, or what it has answered.
    fn tools(&self) -> String {
        let last = self.asked["messages"].as_array().and_then(|messages| messages.last()).cloned().unwrap_or_default();
        let call = |call: Value| json!({ "tool_calls": [call] });
        let (deltas, reason) = match last["role"].as_str() {
            Some("tool") => {
                let answered = format!("It is {}.", last["content"].as_str().unwrap_or_default());
                (vec![json!({ "content": answered })], "stop")
            }
            _ => {
                let name = &self.asked["tools"][0]["function"]["name"];
                let function = json!({ "name": name, "arguments": "" });
                let first = call(json!({ "index": 0, "id": "call_1", "type": "function", "function": function }));
                let rest = |part: &str| call(json!({ "index": 0, "function": { "arguments": part } }));
                (vec![first, rest("{\"city\":"), rest("\"Turin\"}")], "tool_calls")
            }
        };
        let end = json!({ "choices": [{ "delta": {}, "finish_reason": reason }] });
        let pieces = deltas.into_iter().map(|delta| json!({ "choices": [{ "index": 0, "delta": delta }] }));
        let events = pieces.chain([end]).map(|event| format!("data: {event}\n\n"));
        events.chain(["data: [DONE]\n\n".to_owned()]).collect()
    }

    /// The head, and what comes before or in place of plain words.
    fn begin(&mut self, does: &Does, shared: &Shared) -> io::Result<ControlFlow<()>> {
        if let Does::SlowFirst(pause) = does {
            thread::sleep(*pause);
        }
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        self.out.write_all(head.as_bytes())?;
        if self.chat {
            self.event(&json!({ "choices": [{ "index": 0, "delta": { "role": "assistant", "content": null } }] }))?;
        }
        let max = self.max();
        match does {
            Does::Heartbeats => {
                for _ in 0..20 {
                    self.raw(b": still reading the prompt\n\n")?;
                    self.text("")?;
                }
            }
            Does::Echoes => {
                let messages = self.asked["messages"].as_array().cloned().unwrap_or_default();
                let begun = messages.last().and_then(|last| last["content"].as_str()).unwrap_or_default().to_owned();
                self.text(&begun)?;
            }
            Does::Wide(bytes) => self.text(&"€".repeat(bytes / 3))?,
            Does::Says(texts) => texts.iter().try_for_each(|text| self.text(text))?,
            Does::SeveralPerEvent => {
                for first in (0..max).step_by(3) {
                    let text: String = (first..max.min(first + 3)).map(|n| format!("word {n} ")).collect();
                    self.text(&text)?;
                }
            }
            Does::Endless => loop {
                self.word(shared)?;
            },
            Does::OneAtATime => {
                let probes = shared.probes.load(Ordering::SeqCst);
                for _ in 0..max {
                    thread::sleep(Duration::from_millis(10));
                    if shared.probes.load(Ordering::SeqCst) > probes {
                        return Ok(ControlFlow::Break(()));
                    }
                    self.word(shared)?;
                }
            }
            Does::Thinks => {
                self.event(&json!({ "choices": [{ "index": 0, "delta": { "reasoning": "hm" } }] }))?;
                self.until_closed()?;
                return Ok(ControlFlow::Break(()));
            }
            _ => {}
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Plain words, and what breaks an answer after some of them.
    fn words_then_trouble(&mut self, does: &Does, shared: &Shared) -> io::Result<ControlFlow<()>> {
        let words = match does {
            Does::Wide(_) | Does::Says(_) | Does::SeveralPerEvent | Does::OneAtATime => 0,
            Does::ErrorAfter(words, _) => *words,
            Does::Stalls | Does::SilentEnd | Does::Cut | Does::GiantLine | Does::Damaged => 2,
            _ => self.max(),
        };
        for _ in 0..words {
            self.word(shared)?;
        }
        match does {
            Does::Stalls => self.until_closed()?,
            Does::SilentEnd => self.out.write_all(b"0\r\n\r\n")?,
            Does::Cut => self.out.write_all(b"40\r\ndata: {\"choices\":[{\"ind")?,
            Does::ErrorAfter(_, error) => {
                self.event(error)?;
                self.until_closed()?;
            }
            Does::GiantLine => loop {
                self.raw(&[b'x'; 4096])?;
            },
            Does::Damaged => {
                self.raw(b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"lost\n\n")?;
                self.until_closed()?;
            }
            _ => return Ok(ControlFlow::Continue(())),
        }
        Ok(ControlFlow::Break(()))
    }

    fn end(mut self, does: &Does) -> io::Result<()> {
        let delta = if self.chat { json!({}) } else { Value::Null };
        let mut last = json!({ "choices": [{ "index": 0, "delta": delta, "text": "", "finish_reason": "length" }] });
        let max = self.max();
        let usage = json!({ "prompt_tokens": 7, "completion_tokens": max, "total_tokens": max + 7 });
        if *does == Does::UsageOnFinish {
            last["usage"] = usage;
            self.event(&last)?;
            return self.out.write_all(b"0\r\n\r\n");
        }
        self.event(&last)?;
        match does {
            Does::NeverCloses => return self.until_closed(),
            Does::UsageLate(pause) => thread::sleep(*pause),
            _ => {}
        }
        self.event(&json!({ "choices": [], "usage": usage }))?;
        self.raw(b"data: [DONE]\n\n")?;
        self.out.write_all(b"0\r\n\r\n")
    }

    fn word(&mut self, shared: &Shared) -> io::Result<()> {
        if shared.stopped.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let word = format!("word {} ", self.next);
        self.next += 1;
        self.text(&word)
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        let choice = match self.chat {
            true => json!({ "index": 0, "delta": { "content": text }, "finish_reason": null }),
            false => json!({ "index": 0, "text": text, "finish_reason": null }),
        };
        self.event(&json!({ "object": "chunk", "choices": [choice] }))
    }

    fn event(&mut self, event: &Value) -> io::Result<()> {
        self.raw(format!("data: {event}\n\n").as_bytes())
    }

    /// One chunk of the body.
    fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut head = String::new();
        write!(head, "{:x}\r\n", bytes.len()).expect("a string takes all");
        let chunk = [head.as_bytes(), bytes, b"\r\n"].concat();
        match self.bytewise {
            true => chunk.iter().try_for_each(|byte| self.out.write_all(&[*byte])),
            false => self.out.write_all(&chunk),
        }
    }

    /// Waits until the client closes: an error, as every leave-taking.
    fn until_closed(&mut self) -> io::Result<()> {
        while self.out.read(&mut [0; 64])? > 0 {}
        Err(io::ErrorKind::ConnectionAborted.into())
    }
}
