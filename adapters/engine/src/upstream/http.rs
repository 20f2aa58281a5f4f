//! Requests to the server. One thread reads one answer; it ends, and the connection is closed, when nobody listens.

use std::{
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    },
    thread,
    time::Duration,
};

use ureq::{
    Agent, Body,
    http::{Response, header},
};

use super::{
    config::{OpenError, Patience},
    dialect::Post,
    key::Key,
    refusal,
};

/// Bytes that are read at once.
const BLOCK: usize = 8 << 10;
/// Blocks that may wait for the engine's thread; then the server waits.
const BLOCKS: usize = 8;
/// Of an error's body, so many bytes are read.
const MAX_ERROR: u64 = 64 << 10;
/// Of an answer to a question about models, so many bytes are read.
const MAX_LIST: u64 = 4 << 20;
/// What stands behind the address of a server.
const ENDPOINTS: [&str; 5] = ["/chat/completions", "/completions", "/embeddings", "/models", "/responses"];
/// Threads that read, at most, those included that still have to notice that nobody listens.
const MAX_READERS: usize = 256;

/// Speaks HTTP with one server.
#[derive(Debug)]
pub(super) struct Client {
    /// Without a slash at its end.
    base: String,
    key: Option<Key>,
    patience: Patience,
    readers: Arc<AtomicUsize>,
}

/// What a reading thread tells.
#[derive(Debug)]
pub(super) enum Received {
    /// The answer begins.
    Head,
    Bytes(Vec<u8>),
    /// The body is over; what broke it off, if it did not end well.
    End(Option<String>),
    /// The server did not take the request.
    Refused {
        status: u16,
        retry_after: Option<Duration>,
        body: Vec<u8>,
    },
    /// The body is compressed, in this way. One that can be read does not show it.
    Packed(String),
    /// The server could not be reached, or said nothing.
    Failed {
        silent: bool,
        detail: String,
    },
}

impl Client {
    pub(super) fn new(base: &str, key: Option<Key>, patience: Patience) -> Result<Self, OpenError> {
        let wrong = |problem: &str| OpenError::Url(problem.to_owned());
        let base = base.trim_end_matches('/');
        if !base.contains("://") {
            // What stands before an `@` is a secret.
            let example = if base.is_empty() || base.contains('@') { "127.0.0.1:11434/v1" } else { base };
            return Err(wrong(&format!("it must begin with http:// or https://, as in http://{example}")));
        }
        let uri: ureq::http::Uri = base.parse().map_err(|_| wrong("it is no URL"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(wrong("it must begin with http:// or https://"));
        }
        let authority = uri.authority().filter(|authority| !authority.host().is_empty());
        if authority.ok_or_else(|| wrong("it names no host"))?.as_str().contains('@') {
            return Err(wrong("it must not hold a password; a key comes from a variable"));
        }
        if let Some(server) = ENDPOINTS.iter().find_map(|end| base.strip_suffix(end)) {
            return Err(wrong(&format!("it is that of a kind of question, not of the server: write {server}")));
        }
        if uri.query().is_some() {
            return Err(wrong("it must not have a query"));
        }
        Ok(Self { base: base.to_owned(), key, patience, readers: Arc::default() })
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    pub(super) fn patience(&self) -> &Patience {
        &self.patience
    }

    /// Threads that read now.
    pub(super) fn readers(&self) -> usize {
        self.readers.load(Ordering::SeqCst)
    }

    /// A small question, answered at once: the status and the body.
    pub(super) fn get(&self, url: &str) -> Result<(u16, Option<Duration>, Vec<u8>), String> {
        let config = self.config().timeout_global(Some(self.patience.probe)).build();
        let mut request = Agent::new_with_config(config).get(url);
        if let Some(Key(key)) = &self.key {
            request = request.header(header::AUTHORIZATION, key.clone());
        }
        let response = request.call().map_err(|error| self.why_not(&error))?;
        let (status, retry_after) = (response.status().as_u16(), refusal::retry_after(response.headers()));
        let mut body = Vec::new();
        let read = response.into_body().into_reader().take(MAX_LIST).read_to_end(&mut body);
        read.map(|_| (status, retry_after, body)).map_err(|error| error.to_string())
    }

    /// Why there is no answer. Who speaks TLS with a server that does not, or the other way round, is not told so.
    fn why_not(&self, error: &ureq::Error) -> String {
        let other = match (self.base.split_once("://"), error) {
            // It answers in plain text, or hangs up.
            (Some(("https", rest)), ureq::Error::Io(error))
                if matches!(
                    error.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
                ) =>
            {
                Some(format!("if it speaks no TLS, its address is http://{rest}"))
            }
            (Some(("http", rest)), ureq::Error::Protocol(_)) => {
                Some(format!("if it speaks TLS, its address is https://{rest}"))
            }
            (_, ureq::Error::Timeout(_)) => return format!("no answer within {} s", self.patience.probe.as_secs()),
            _ => None,
        };
        other.map_or(error.to_string(), |other| format!("{error}; {other}"))
    }

    /// Sends a request and has a thread read the answer. `None`: as many threads read as may.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn post(&self, post: &Post) -> io::Result<Option<Connection>> {
        let reader = Reader::count(&self.readers);
        if self.readers() > MAX_READERS {
            return Ok(None);
        }
        // An agent of its own: shutting it down closes this connection, whatever its thread waits for, and no other.
        let agent = Agent::new_with_config(self.config().build());
        let (sender, received) = sync_channel(BLOCKS);
        let (url, body) = (format!("{}{}", self.base, post.path), post.bytes());
        let (key, asking) = (self.key.clone(), agent.clone());
        thread::Builder::new().name("upstream".into()).spawn(move || {
            let _reader = reader;
            let mut request = asking.post(&url).header(header::CONTENT_TYPE, "application/json");
            if let Some(Key(key)) = key {
                request = request.header(header::AUTHORIZATION, key);
            }
            let answered = request.header(header::ACCEPT, "text/event-stream, application/json").send(&body[..]);
            drop(body);
            read(answered, &sender);
        })?;
        Ok(Some(Connection { agent: Some(agent), received }))
    }

    fn config(&self) -> ureq::config::ConfigBuilder<ureq::typestate::AgentScope> {
        Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            // A proxy of the environment is not meant for a server in the same room.
            .proxy(None)
            // Nothing is gained by packing an answer that is sent piece by piece; some pack it all the same.
            .accept_encoding("identity")
            .user_agent(concat!("haggle/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(self.patience.connect))
            .timeout_connect(Some(self.patience.connect))
            .timeout_send_body(Some(self.patience.gap))
            .timeout_recv_response(Some(self.patience.first_token))
    }
}

/// Counts a thread as long as it lives.
struct Reader(Arc<AtomicUsize>);

impl Reader {
    fn count(readers: &Arc<AtomicUsize>) -> Self {
        readers.fetch_add(1, Ordering::SeqCst);
        Self(readers.clone())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// An answer that is being read. Dropping it closes the connection, so that the server stops computing.
#[derive(Debug)]
pub(super) struct Connection {
    agent: Option<Agent>,
    received: Receiver<Received>,
}

impl Connection {
    /// What came next; nothing, if nothing came yet.
    pub(super) fn receive(&self) -> Option<Received> {
        match self.received.try_recv() {
            Ok(received) => Some(received),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                Some(Received::Failed { silent: false, detail: "the thread that reads it is gone".into() })
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The thread is woken from its read; if it waits for us to take something, it sees that we are gone.
        if let Some(agent) = self.agent.take() {
            agent.shutdown();
        }
    }
}

/// Runs on a thread of its own. Ends when the answer does, or nobody listens.
fn read(answered: Result<Response<Body>, ureq::Error>, sender: &SyncSender<Received>) {
    let response = match answered {
        Ok(response) => response,
        Err(error) => {
            let silent = matches!(&error, ureq::Error::Timeout(at) if *at == ureq::Timeout::RecvResponse);
            return drop(sender.send(Received::Failed { silent, detail: error.to_string() }));
        }
    };
    let (status, retry_after) = (response.status().as_u16(), refusal::retry_after(response.headers()));
    let packed = response.headers().get(header::CONTENT_ENCODING).filter(|packed| *packed != "identity").cloned();
    let mut reader = response.into_body().into_reader();
    if !(200..300).contains(&status) {
        let mut body = Vec::new();
        // An error's body that breaks off is an error all the same.
        let _ = reader.take(MAX_ERROR).read_to_end(&mut body);
        return drop(sender.send(Received::Refused { status, retry_after, body }));
    }
    if let Some(packed) = packed {
        return drop(sender.send(Received::Packed(format!("{packed:?}"))));
    }
    if sender.send(Received::Head).is_err() {
        return;
    }
    let mut block = [0; BLOCK];
    loop {
        let received = match reader.read(&mut block) {
            Ok(0) => Received::End(None),
            Ok(n) => Received::Bytes(block[..n].to_vec()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Received::End(Some(error.to_string())),
        };
        let over = matches!(received, Received::End(_));
        if sender.send(received).is_err() || over {
            return;
        }
    }
}
