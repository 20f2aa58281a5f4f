//! Processes of `haggle`, and what they write.

use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// Whatever a test waits for comes within this time, or it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A folder of a test's own, removed with it.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("cli-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).expect("a file");
        path
    }

    /// `haggle` in this folder, without mDNS and without the tester's own settings.
    pub(crate) fn haggle(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_haggle"));
        self.prepare(&mut command);
        command.env("HAGGLE_ENABLE_MDNS", "false").args(args);
        command
    }

    pub(crate) fn prepare(&self, command: &mut Command) {
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("PATH", path).env("HOME", &self.0).env("XDG_DATA_HOME", self.0.join("data"));
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A stream of a process, read as it comes.
struct Pipe {
    chunks: Receiver<Vec<u8>>,
    /// All that was read.
    bytes: Vec<u8>,
    /// How much of it was handed out.
    taken: usize,
}

impl Pipe {
    fn new(mut from: impl Read + Send + 'static) -> Self {
        let (sender, chunks) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4_096];
            while let Ok(n @ 1..) = from.read(&mut buffer) {
                if sender.send(buffer[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        Pipe { chunks, bytes: Vec::new(), taken: 0 }
    }

    /// Reads until `is_there` finds what it looks for, or the stream ends.
    fn read<T>(
        &mut self,
        until: Instant,
        is_there: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, RecvTimeoutError> {
        loop {
            if let Some(found) = is_there(&self.bytes) {
                return Ok(Some(found));
            }
            match self.chunks.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(chunk) => self.bytes.extend(chunk),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(timeout) => return Err(timeout),
            }
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// A process that runs, and is killed if the test forgets it.
pub(crate) struct Running {
    child: Child,
    out: Pipe,
    err: Pipe,
    what: String,
}

/// A process that is over.
pub(crate) struct Over {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Running {
    pub(crate) fn spawn(mut command: Command) -> Self {
        let what = format!("{command:?}");
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.unwrap_or_else(|error| panic!("{what}: {error}"));
        let out = Pipe::new(child.stdout.take().expect("piped"));
        let err = Pipe::new(child.stderr.take().expect("piped"));
        Running { child, out, err, what }
    }

    /// Writes to its stdin, and closes it.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let mut stdin = self.child.stdin.take().expect("piped");
        // It may refuse to read all of it.
        let _ = stdin.write_all(bytes);
    }

    /// Writes a line to its stdin, which stays open.
    pub(crate) fn say(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("piped");
        writeln!(stdin, "{line}").expect("it listens");
    }

    /// The next line of stdout.
    pub(crate) fn line(&mut self) -> String {
        let taken = self.out.taken;
        let line = self.out.read(Instant::now() + PATIENCE, |bytes| {
            let rest = bytes.get(taken..)?;
            Some(rest[..rest.iter().position(|byte| *byte == b'\n')?].to_vec())
        });
        let Ok(Some(line)) = line else { self.fail("wrote no line") };
        self.out.taken += line.len() + 1;
        String::from_utf8(line).expect("text")
    }

    pub(crate) fn json(&mut self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?} is not JSON: {error}"))
    }

    /// Waits until stdout has more bytes than were handed out.
    pub(crate) fn wait_for_output(&mut self) {
        let taken = self.out.taken;
        let there = self.out.read(Instant::now() + PATIENCE, |bytes| (bytes.len() > taken).then_some(()));
        if !matches!(there, Ok(Some(()))) {
            self.fail("wrote nothing");
        }
    }

    /// Waits until stdout holds a text.
    pub(crate) fn wait_for_text(&mut self, text: &str) {
        let holds = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(text).then_some(());
        if !matches!(self.out.read(Instant::now() + PATIENCE, holds), Ok(Some(()))) {
            self.fail(&format!("did not write {text:?}"));
        }
    }

    /// Waits until stderr holds a text.
    pub(crate) fn wait_for_log(&mut self, text: &str) {
        let holds = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(text).then_some(());
        if !matches!(self.err.read(Instant::now() + PATIENCE, holds), Ok(Some(()))) {
            self.fail(&format!("did not say {text:?}"));
        }
    }

    pub(crate) fn id(&self) -> String {
        self.child.id().to_string()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("sh").args(["-c", &format!("kill -{signal} {}", self.id())]).status();
        assert!(sent.expect("a shell").success());
    }

    /// Waits until it ends by itself, for want of input at the latest.
    pub(crate) fn over(mut self) -> Over {
        drop(self.child.stdin.take());
        self.wait_to_end()
    }

    /// Waits until it ends by itself, whatever it might still read.
    pub(crate) fn wait_to_end(mut self) -> Over {
        let until = Instant::now() + PATIENCE;
        if self.out.read(until, |_| None::<()>).is_err() || self.err.read(until, |_| None::<()>).is_err() {
            self.fail("did not end");
        }
        let status = self.child.wait().expect("a child");
        let over = Over { code: status.code(), out: self.out.text(), err: self.err.text() };
        assert!(!over.err.contains("panicked"), "{}: {}", self.what, over.err);
        over
    }

    fn fail(&mut self, problem: &str) -> ! {
        let _ = self.child.kill();
        let until = Instant::now() + Duration::from_secs(5);
        let _ = (self.out.read(until, |_| None::<()>), self.err.read(until, |_| None::<()>));
        panic!("{} {problem}\nstdout: {}\nstderr: {}", self.what, self.out.text(), self.err.text());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Over {
    /// Demands an exit code, and gives the error text.
    pub(crate) fn exits(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.out, self.err);
        &self.err
    }

    /// Demands an exit code and every text on stderr.
    pub(crate) fn says(&self, code: i32, texts: &[&str]) {
        let said = self.exits(code);
        texts.iter().for_each(|text| assert!(said.contains(text), "{text:?} is not in {said:?}"));
    }

    /// The lines of stdout, each JSON.
    pub(crate) fn json_lines(&self) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        self.out.lines().map(parse).collect()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{:?}: {error}\n{}", self.out, self.err))
    }

    /// The events of a name.
    pub(crate) fn events(&self, name: &str) -> Vec<Value> {
        self.json_lines().into_iter().filter(|event| event["event"] == name).collect()
    }
}

pub(crate) fn run(command: Command) -> Over {
    Running::spawn(command).over()
}

/// A node that serves or helps others to find each other, with what it printed when it was ready.
pub(crate) struct Node {
    pub(crate) process: Running,
    pub(crate) address: String,
    pub(crate) peer: String,
    _folder: Folder,
}

impl Node {
    /// Starts `serve` or `bootstrap` in a folder of its own.
    pub(crate) fn start(args: &[&str]) -> Self {
        let folder = Folder::new();
        let mut command = folder.haggle(args);
        command.args(["--json", "-v"]);
        Node::ready(Running::spawn(command), folder)
    }

    pub(crate) fn ready(mut process: Running, folder: Folder) -> Self {
        let said = process.json();
        let address = said["addresses"][0].as_str().expect("an address").to_owned();
        Node { process, address, peer: said["peer"].as_str().expect("an id").to_owned(), _folder: folder }
    }

    pub(crate) fn port(&self) -> u16 {
        let port = self.address.split("/tcp/").nth(1).and_then(|rest| rest.split('/').next());
        port.and_then(|port| port.parse().ok()).expect("a port")
    }
}
