//! The answer of `ask --state` on disk: `answer.txt` holds its text, `journal.jsonl` where each piece of it ends.
//!
//! A piece is written to the text first, then to the journal; only then is it taken, and the provider may forget it. So
//! whenever the process dies, text beyond the journal is cut off, and the rest is told again. Both files survive the
//! process, not a loss of power: they are not synced with every token.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
};

use haggle::{
    Channel, JobError, JobEvent, JobId,
    core::event::TakeOver,
    state::{StoredAnswer, StoredPiece},
};
use serde::{Deserialize, Serialize};

use crate::exit::{Exit, Failed};

/// How the network was reached: a resumed job is looked for in the same way.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Way {
    pub(crate) bootstrap: Vec<String>,
    pub(crate) providers: Vec<String>,
    pub(crate) network: Option<String>,
    pub(crate) mdns: Option<bool>,
    pub(crate) dht: Option<bool>,
    pub(crate) set: Vec<String>,
    pub(crate) model: String,
    pub(crate) ledger: Option<PathBuf>,
}

/// A line of the journal.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    Asked(Way),
    Job(JobId),
    Piece {
        peer: String,
        n: u32,
        bytes: usize,
        ids: Option<Vec<u32>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        channel: Option<Channel>,
    },
    /// Another provider began anew: the text does, too.
    Restart,
    Ended(End),
}

/// How the job ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct End {
    pub(crate) code: String,
    pub(crate) exit: u8,
    pub(crate) message: String,
}

impl End {
    /// How a job ended.
    pub(crate) fn of(ended: Result<(), &JobError>) -> Self {
        match ended {
            Ok(()) => End { code: "finished".into(), exit: 0, message: String::new() },
            Err(error) => {
                let failed = Failed::from(haggle::Error::Job(error.clone()));
                End { code: failed.code.into_owned(), exit: failed.exit as u8, message: failed.message }
            }
        }
    }
}

/// An answer that is being written.
pub(crate) struct Journal {
    text: File,
    lines: File,
    path: PathBuf,
    pub(crate) way: Way,
    pub(crate) job: Option<JobId>,
    pub(crate) ended: Option<End>,
    pieces: Vec<StoredPiece>,
}

impl Journal {
    /// Whether a new one can begin here: what is here is complete, and was written by a journal. Changes nothing.
    pub(crate) fn check(folder: &Path) -> Result<(), Failed> {
        let text = if folder.join(LINES).try_exists().map_err(|error| unusable(folder, &error))? {
            let mut journal = Journal::open(folder)?;
            let path = journal.path.clone();
            journal.read().map_err(|error| unusable(&path, &error))?;
            if journal.ended.is_some() {
                return Ok(());
            }
            "holds an answer that is not complete: go on with it by --resume, or choose another directory"
        } else if fs::metadata(folder.join(TEXT)).is_ok_and(|text| text.len() > 0) {
            "holds an answer.txt that no journal tells of: move it away, or choose another directory"
        } else {
            return Ok(());
        };
        Err(Failed::new(Exit::Config, "unfinished", format!("{} {text}", folder.display())))
    }

    /// Begins a new one for a job that was taken, in place of one that is complete.
    pub(crate) fn begin(folder: &Path, way: Way, job: JobId) -> Result<Self, Failed> {
        // The lines in one step, then the text: whenever the process dies, this is the old answer or the new one.
        let path = folder.join(LINES);
        let begin = || {
            let mut bytes = Vec::new();
            for line in [Line::Asked(way.clone()), Line::Job(job)] {
                serde_json::to_writer(&mut bytes, &line)?;
                bytes.push(b'\n');
            }
            let text = private(OpenOptions::new().create(true)).open(folder.join(TEXT))?;
            let new = folder.join(format!("{LINES}.new"));
            let mut lines = private(OpenOptions::new().create(true).truncate(true)).open(&new)?;
            lines.write_all(&bytes)?;
            lines.sync_all()?;
            fs::rename(new, &path)?;
            text.set_len(0)
        };
        begin().map_err(|error| unusable(&path, &error))?;
        Journal::load(folder)
    }

    /// Reads one back, and cuts off what was not written to its end.
    pub(crate) fn load(folder: &Path) -> Result<Self, Failed> {
        let mut journal = Journal::open(folder)?;
        let path = journal.path.clone();
        journal.read().and_then(|ends| journal.cut(ends)).map_err(|error| unusable(&path, &error))?;
        Ok(journal)
    }

    fn open(folder: &Path) -> Result<Self, Failed> {
        let open = |name: &str| {
            private(&mut OpenOptions::new()).open(folder.join(name)).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => {
                    let text = format!("there is no answer in {} to go on with: ask first", folder.display());
                    Failed::new(Exit::Config, "nothing_to_resume", text)
                }
                _ => unusable(&folder.join(name), &error),
            })
        };
        let (lines, text) = (open(LINES)?, open(TEXT)?);
        let path = folder.join(LINES);
        Ok(Journal { text, lines, path, way: Way::default(), job: None, ended: None, pieces: Vec::new() })
    }

    /// Where lines and text that were written to their end, end.
    fn read(&mut self) -> io::Result<(u64, u64)> {
        let damaged = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let (mut written, mut text) = (String::new(), String::new());
        self.lines.read_to_string(&mut written)?;
        let mut bytes = Vec::new();
        self.text.read_to_end(&mut bytes)?;
        let whole = written.rfind('\n').map_or(0, |at| at + 1);
        let mut ends = Vec::new();
        for (number, line) in written[..whole].lines().enumerate() {
            let line = serde_json::from_str(line).map_err(|error| damaged(format!("line {}: {error}", number + 1)))?;
            match line {
                Line::Asked(way) => self.way = way,
                Line::Job(job) => self.job = Some(job),
                Line::Restart => {
                    self.pieces.clear();
                    ends.clear();
                }
                Line::Piece { peer, n, bytes, ids, channel } => {
                    let peer = peer.parse().map_err(|_| damaged(format!("line {}: not a peer", number + 1)))?;
                    self.pieces.push(StoredPiece { peer, n, text: String::new(), ids, channel });
                    ends.push(ends.last().copied().unwrap_or(0_usize).saturating_add(bytes));
                }
                Line::Ended(end) => self.ended = Some(end),
            }
        }
        let known = ends.last().copied().unwrap_or(0);
        let stored = bytes.get(..known).ok_or_else(|| damaged(format!("{TEXT} is shorter than {known} bytes")))?;
        text.push_str(str::from_utf8(stored).map_err(|_| damaged(format!("{TEXT} is not UTF-8")))?);
        let mut from = 0;
        for (piece, end) in self.pieces.iter_mut().zip(ends) {
            piece.text = text.get(from..end).ok_or_else(|| damaged(format!("{TEXT} was changed")))?.to_owned();
            from = end;
        }
        Ok((whole as u64, known as u64))
    }

    /// Cuts off what was being written when the process died.
    fn cut(&mut self, (lines, text): (u64, u64)) -> io::Result<()> {
        self.lines.set_len(lines)?;
        self.lines.seek(io::SeekFrom::End(0))?;
        self.text.set_len(text)?;
        self.text.seek(io::SeekFrom::End(0)).map(drop)
    }

    /// What is stored of the answer.
    pub(crate) fn stored(&self) -> Vec<StoredAnswer> {
        self.job.map(|job| StoredAnswer { job, pieces: self.pieces.clone() }).into_iter().collect()
    }

    /// The answer's text so far.
    pub(crate) fn text(&self) -> String {
        self.pieces.iter().filter(|piece| piece.channel.is_none()).map(|piece| piece.text.as_str()).collect()
    }

    /// Stores what an event brought: text first, then its record.
    pub(crate) fn event(&mut self, event: &JobEvent) -> io::Result<()> {
        match event {
            JobEvent::Tokens { peer, n, text, ids, channel, .. } => {
                self.text.write_all(text.as_bytes())?;
                let (peer, ids) = (peer.to_string(), ids.clone());
                self.write(&Line::Piece { peer, n: *n, bytes: text.len(), ids, channel: *channel })
            }
            JobEvent::TakenOver { how: TakeOver::Restarted, .. } => {
                self.write(&Line::Restart)?;
                self.text.set_len(0)?;
                self.text.seek(io::SeekFrom::Start(0)).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Stores how the job ended.
    pub(crate) fn end(&mut self, end: End) -> io::Result<()> {
        self.write(&Line::Ended(end))?;
        self.text.sync_all()?;
        self.lines.sync_all()
    }

    fn write(&mut self, line: &Line) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.lines.write_all(&bytes)
    }
}

/// For its owner only: answers are in it.
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

const TEXT: &str = "answer.txt";
const LINES: &str = "journal.jsonl";

fn unusable(path: &Path, error: &io::Error) -> Failed {
    let text =
        format!("cannot use {}: {error}; move it away to begin anew, or choose another directory", path.display());
    Failed::new(Exit::Config, "journal", text)
}
