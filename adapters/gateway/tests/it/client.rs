//! An HTTP client that sends what it is told, byte for byte.

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

/// Whatever a test waits for comes within this time, or it fails.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

/// The head of an answer.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
}

pub(crate) struct Answer {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("UTF-8")
    }

    /// Status, code and field of an error.
    pub(crate) fn error(&self) -> (u16, String, String) {
        let error = self.json()["error"].clone();
        assert!(error["message"].is_string() && error["type"].is_string(), "{error}");
        assert!(self.head.header("x-request-id").is_some(), "{:?}", self.head);
        let text = |name: &str| error[name].as_str().unwrap_or("").to_owned();
        (self.head.status, text("code"), text("param"))
    }

    /// The `data:` of each event.
    pub(crate) fn events(&self) -> Vec<String> {
        let text = self.text();
        text.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).map(str::to_owned).collect()
    }
}

impl Client {
    pub(crate) fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).expect("the gateway listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        Client { stream: BufReader::new(stream) }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // Whoever is refused early may not read all of it.
        let _ = self.stream.get_mut().write_all(bytes.as_ref());
    }

    /// Sends something again and again until it is answered, or taken no more.
    pub(crate) fn drip(&mut self, bytes: &[u8]) {
        let stream = self.stream.get_mut();
        stream.set_read_timeout(Some(Duration::from_millis(5))).expect("a socket");
        while stream.write_all(bytes).is_ok() && stream.peek(&mut [0]).is_err() {}
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    }

    /// Sends as long as it is taken, at most so often. How often it was.
    pub(crate) fn pour(&mut self, bytes: &[u8], most: usize) -> usize {
        (0..most).take_while(|_| self.stream.get_mut().write_all(bytes).is_ok()).count()
    }

    pub(crate) fn shut(&mut self) {
        let _ = self.stream.get_ref().shutdown(Shutdown::Write);
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a line in time");
        line.trim_end_matches(['\r', '\n']).to_owned()
    }

    pub(crate) fn head(&mut self) -> Head {
        let first = self.line();
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("{first:?} is no status line"));
        let mut headers = Vec::new();
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Head { status, headers }
    }

    /// The next piece of a chunked body; `None` at its clean end.
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = self.line();
        let size = usize::from_str_radix(&size, 16).unwrap_or_else(|_| panic!("{size:?} is no chunk's size"));
        let mut bytes = vec![0; size];
        self.stream.read_exact(&mut bytes).expect("a chunk");
        assert_eq!(self.line(), "");
        (size > 0).then_some(bytes)
    }

    pub(crate) fn answer(&mut self) -> Answer {
        let head = self.head();
        let mut body = Vec::new();
        if head.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk() {
                body.extend(chunk);
            }
        } else {
            let length = head.header("content-length").map_or(0, |length| length.parse().expect("a length"));
            body.resize(length, 0);
            self.stream.read_exact(&mut body).expect("a body");
        }
        Answer { head, body }
    }

    /// Whether the other side has closed the connection.
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        let is_over = match self.stream.read_to_end(&mut rest) {
            Ok(_) => true,
            // It had not read all.
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        };
        is_over && rest.is_empty()
    }

    /// Whether there comes any answer at all, and not the connection's end.
    pub(crate) fn is_answered(&mut self) -> bool {
        self.stream.fill_buf().is_ok_and(|bytes| !bytes.is_empty())
    }

    pub(crate) fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.send(request(method, path, headers, body));
        self.answer()
    }
}

pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        head.push_str("Host: localhost\r\n");
    }
    if method == "POST" {
        head.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
    }
    headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
    [head.as_bytes(), b"\r\n", body].concat()
}

pub(crate) fn get(at: SocketAddr, path: &str) -> Answer {
    Client::connect(at).ask("GET", path, &[], b"")
}

pub(crate) fn post(at: SocketAddr, path: &str, body: &Value) -> Answer {
    Client::connect(at).ask("POST", path, &[], body.to_string().as_bytes())
}
