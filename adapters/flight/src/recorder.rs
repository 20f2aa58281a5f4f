//! The file: a header, then a line a step, each with a digest of everything before it.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, BufWriter, Read, Write},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{hex, step::Line};

/// The first field of every recording: another format gets another number.
const FORMAT: &str = "haggle-flight/2";
/// Bytes of the running digest that a line shows.
const SHOWN: usize = 8;

/// Where a node's machines write down what happens to them. Cloned, it is the same recorder.
#[derive(Clone)]
pub struct Recorder {
    inner: Arc<Mutex<Inner>>,
    redacted: bool,
}

struct Inner {
    out: BufWriter<File>,
    chain: Chain,
    /// Why nothing is written any more; taken when told.
    broken: Option<io::Error>,
    is_broken: bool,
}

/// What a recording says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    pub(crate) format: String,
    /// The version of the core that decided.
    pub(crate) version: String,
    /// When the recording began, in milliseconds since 1970.
    pub(crate) began: u64,
    pub(crate) redacted: bool,
    pub(crate) notice: String,
}

/// Why a recording can not be read to its end.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// It does not begin like a recording.
    #[error("this is no recording of haggle")]
    NoRecording,
    /// It was written in a format of another version.
    #[error("this recording has the format {0}, and {FORMAT} is read: use the version of haggle that wrote it")]
    Format(String),
    /// Its bytes are not those that were written.
    #[error(
        "line {0} is not what was recorded: the file was changed or damaged, and nothing from there on is followed"
    )]
    Changed(u64),
    /// A line that was recorded, but says nothing that can be done.
    #[error("line {0} can not be read: {1}")]
    Line(u64, String),
}

impl Recorder {
    /// Begins a recording in a new file that only its owner can read. A redacted one holds no prompts, answers or bytes of
    /// the wire: it can be explained, but not replayed.
    ///
    /// # Errors
    /// When the file can not be made, or is there already.
    pub fn create(path: &Path, redacted: bool) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let inner =
            Inner { out: BufWriter::new(options.open(path)?), chain: Chain::default(), broken: None, is_broken: false };
        let recorder = Self { inner: Arc::new(Mutex::new(inner)), redacted };
        let began = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let notice = match redacted {
            true => "prompts, answers and bytes of the wire are left out",
            false => "PROMPTS AND ANSWERS ARE INSIDE",
        };
        recorder.write(&Header {
            format: FORMAT.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            began: u64::try_from(began.as_millis()).unwrap_or(u64::MAX),
            redacted,
            notice: notice.into(),
        });
        match recorder.take_error() {
            Some(error) => Err(error),
            None => Ok(recorder),
        }
    }

    /// Whether contents are left out.
    #[must_use]
    pub const fn is_redacted(&self) -> bool {
        self.redacted
    }

    /// Why nothing is recorded any more; told once. The node goes on without.
    #[must_use]
    pub fn take_error(&self) -> Option<io::Error> {
        self.lock().broken.take()
    }

    /// Writes a line; it is in the system's hands when this returns.
    pub(crate) fn write(&self, line: &impl Serialize) {
        let mut inner = self.lock();
        if inner.is_broken {
            return;
        }
        let written = serde_json::to_string(line).map_err(io::Error::from).and_then(|json| {
            let digest = inner.chain.add(json.as_bytes());
            writeln!(inner.out, "{digest} {json}")?;
            inner.out.flush()
        });
        if let Err(error) = written {
            inner.is_broken = true;
            inner.broken = Some(error);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("redacted", &self.redacted).finish_non_exhaustive()
    }
}

/// The running digest of all lines.
#[derive(Default)]
struct Chain([u8; 32]);

impl Chain {
    fn add(&mut self, line: &[u8]) -> String {
        self.0 = Sha256::new().chain_update(self.0).chain_update(line).finalize().into();
        hex::encode(&self.0[..SHOWN])
    }
}

/// Reads a recording line by line, and checks each.
pub(crate) struct Lines<'a> {
    rest: &'a str,
    chain: Chain,
    number: u64,
    /// The last line was not written to its end: the process was killed there.
    pub(crate) torn: bool,
}

impl<'a> Lines<'a> {
    pub(crate) fn begin(text: &'a str) -> Result<(Header, Self), Damage> {
        let mut lines = Self { rest: text, chain: Chain::default(), number: 0, torn: false };
        if !text.get(..2 * SHOWN + 2).is_some_and(|start| start.ends_with(" {")) {
            return Err(Damage::NoRecording);
        }
        let Some(json) = lines.next_json()? else { return Err(Damage::NoRecording) };
        let header: Header = serde_json::from_str(json).map_err(|_| Damage::NoRecording)?;
        if header.format != FORMAT {
            return Err(Damage::Format(header.format));
        }
        Ok((header, lines))
    }

    /// The number of the last line that was read, from 1.
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn next_line(&mut self) -> Result<Option<Line<'static>>, Damage> {
        let Some(json) = self.next_json()? else { return Ok(None) };
        let line = serde_json::from_str(json).map_err(|error| Damage::Line(self.number, error.to_string()))?;
        Ok(Some(line))
    }

    fn next_json(&mut self) -> Result<Option<&'a str>, Damage> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        let Some((line, rest)) = self.rest.split_once('\n') else {
            self.torn = true;
            self.rest = "";
            return Ok(None);
        };
        self.rest = rest;
        let changed = Damage::Changed(self.number);
        let Some((digest, json)) = line.split_once(' ') else { return Err(changed) };
        if self.chain.add(json.as_bytes()) == digest { Ok(Some(json)) } else { Err(changed) }
    }
}

/// Reads a whole recording, as far as it is text.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    // A byte that is no text is found by the digest of its line.
    Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}
