//! Where a node that runs is asked how it is: `/metrics`, `/health` and `/ready` over HTTP, and a socket in its data folder.
//!
//! Each is one thread that answers one caller after the other, within a short time: nobody can hold up more than that.

use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::{exit::Failed, screen::Screen, settings::Settings, vitals::Vitals};

/// Whoever has not asked, or not read the answer, by then is left.
const PATIENCE: Duration = Duration::from_secs(2);
/// No question is longer.
const MAX_HEAD: usize = 8 << 10;

/// Opens both for a node, as its settings say. Without a folder, or where a socket cannot be made, there is no socket, and
/// that is told: nothing is sold less well for it.
pub(crate) fn of(settings: &Settings, vitals: &Vitals) -> Result<(Option<SocketAddr>, Option<Bell>), Failed> {
    let at = settings.running()?.metrics;
    let address = (!at.is_empty()).then(|| open(&at, vitals.clone())).transpose()?;
    let Ok(data) = settings.data_dir() else { return Ok((address, None)) };
    let bell = Bell::hang(data, &vitals.peer(), vitals.clone());
    if let Err(error) = &bell {
        let _ = writeln!(Screen::Err, "haggle: `haggle status` cannot ask this node, in {}: {error}", data.display());
    }
    Ok((address, bell.ok()))
}

/// Answers HTTP there from now on, as long as the process lives. Returns where that is.
fn open(at: &str, vitals: Vitals) -> Result<SocketAddr, Failed> {
    let wrong = |problem: String| Failed::config(format!("metrics: {at:?} {problem}"));
    let address: SocketAddr =
        at.parse().map_err(|_| wrong("is no address; write IP:PORT, such as 127.0.0.1:9464".into()))?;
    let listener = TcpListener::bind(address)
        .map_err(|error| wrong(format!("cannot be listened on: {error}; choose another port or address")))?;
    let address = listener.local_addr().map_err(|error| wrong(error.to_string()))?;
    let answer = move || {
        for stream in listener.incoming().flatten() {
            // A caller that leaves is its own affair.
            let _ = serve(&stream, &vitals);
        }
    };
    thread::Builder::new().name("metrics".into()).spawn(answer).map_err(|error| wrong(error.to_string()))?;
    Ok(address)
}

fn serve(mut stream: &TcpStream, vitals: &Vitals) -> io::Result<()> {
    let until = Instant::now() + PATIENCE;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut head = Vec::new();
    let mut buffer = [0; 1_024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() > MAX_HEAD {
            return stream.write_all(&response(431, "the question is too long\n", true));
        }
        let left = until.saturating_duration_since(Instant::now());
        // No time at all would be without end.
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            n => head.extend_from_slice(&buffer[..n]),
        }
        if left.is_zero() {
            return Ok(());
        }
    }
    stream.write_all(&answer(&head, vitals))
}

/// The answer to a request's head.
fn answer(head: &[u8], vitals: &Vitals) -> Vec<u8> {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let has_body = method != "HEAD";
    if !matches!(method, "GET" | "HEAD") {
        return response(405, "only GET and HEAD are answered\n", true);
    }
    match target.split('?').next().unwrap_or_default() {
        "/metrics" => response(200, &vitals.metrics(), has_body),
        "/health" => response(200, "alive\n", has_body),
        "/ready" => match vitals.troubles().as_slice() {
            [] => response(200, "ready\n", has_body),
            troubles => response(503, &format!("{}\n", troubles.join("\n")), has_body),
        },
        _ => response(404, "there are /metrics, /health and /ready\n", has_body),
    }
}

fn response(status: u16, body: &str, has_body: bool) -> Vec<u8> {
    let reason = match status {
        200 => "OK",
        404 => "Not Found",
        405 => "Method Not Allowed",
        431 => "Request Header Fields Too Large",
        _ => "Service Unavailable",
    };
    let allow = if status == 405 { "Allow: GET, HEAD\r\n" } else { "" };
    let mut response = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n{allow}Content-Length: {}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n",
        body.len()
    )
    .into_bytes();
    if has_body {
        response.extend_from_slice(body.as_bytes());
    }
    response
}

/// Where the sockets of the nodes that use a data folder are.
pub(crate) fn folder(data: &Path) -> PathBuf {
    data.join("run")
}

/// A socket by which its owner asks how a node is. It goes with this value.
#[derive(Debug)]
pub(crate) struct Bell(#[cfg_attr(not(unix), expect(dead_code, reason = "there is none"))] PathBuf);

impl Bell {
    /// Answers whoever connects with one line of JSON. Only the user of this process can.
    #[cfg(unix)]
    fn hang(data: &Path, peer: &str, vitals: Vitals) -> io::Result<Self> {
        use std::os::unix::{
            fs::{DirBuilderExt, PermissionsExt},
            net::UnixListener,
        };
        let folder = folder(data);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        // Short, for so must a socket's name be; of one that is there the process is dead, for the key is ours.
        let name = &peer[peer.len().saturating_sub(10)..];
        let path = folder.join(format!("{name}.sock"));
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        let answer = move || {
            for mut stream in listener.incoming().flatten() {
                let line = format!("{}\n", vitals.to_json());
                let _ = stream.set_write_timeout(Some(PATIENCE)).and_then(|()| stream.write_all(line.as_bytes()));
            }
        };
        thread::Builder::new().name("status".into()).spawn(answer)?;
        Ok(Bell(path))
    }

    #[cfg(not(unix))]
    pub(crate) fn hang(_: &Path, _: &str, _: Vitals) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        #[cfg(unix)]
        let _ = fs::remove_file(&self.0);
    }
}

/// What the node behind a socket says; `None`: there is none any more.
#[cfg(unix)]
pub(crate) fn ring(socket: &Path) -> io::Result<Option<serde_json::Value>> {
    use std::os::unix::net::UnixStream;
    const MAX_ANSWER: u64 = 1 << 20;
    let stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut text)?;
    Ok(Some(serde_json::from_str(&text)?))
}

#[cfg(not(unix))]
pub(crate) fn ring(_: &Path) -> io::Result<Option<serde_json::Value>> {
    Err(io::ErrorKind::Unsupported.into())
}
