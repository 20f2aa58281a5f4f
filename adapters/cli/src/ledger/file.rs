//! A ledger's file: written line by line, read strictly.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use super::Entry;

/// No line is longer; one that is was not written here.
const MAX_LINE: u64 = 16 << 10;

/// Why a ledger cannot be kept or read.
#[derive(Debug)]
pub(crate) enum LedgerError {
    Open {
        file: PathBuf,
        source: io::Error,
    },
    Write {
        file: PathBuf,
        source: io::Error,
    },
    Read {
        file: PathBuf,
        source: io::Error,
    },
    /// A line is not what this program writes; `None`: the last one.
    Line {
        file: PathBuf,
        line: Option<u64>,
        problem: String,
    },
}

impl fmt::Display for LedgerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LedgerError::Open { file, source } => write!(f, "cannot open the ledger {}: {source}", file.display()),
            LedgerError::Write { file, source } => {
                write!(f, "cannot write the ledger {}: {source}; without books nothing is sold", file.display())
            }
            LedgerError::Read { file, source } => write!(f, "cannot read the ledger {}: {source}", file.display()),
            LedgerError::Line { file, line, problem } => {
                let line = line.map_or("the last line".into(), |line| format!("line {line}"));
                write!(f, "{}: {line} is no line of a ledger ({problem})", file.display())
            }
        }
    }
}

impl std::error::Error for LedgerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LedgerError::Open { source, .. } | LedgerError::Write { source, .. } | LedgerError::Read { source, .. } => {
                Some(source)
            }
            LedgerError::Line { .. } => None,
        }
    }
}

impl LedgerError {
    /// A stable name for scripts.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            LedgerError::Write { source, .. } if is_full(source) => "disk_full",
            _ => "ledger",
        }
    }
}

/// Whether it is for want of room that something cannot be written.
fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// A last line that a program could not finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Torn {
    pub(crate) bytes: usize,
}

impl fmt::Display for Torn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "its last line was never finished ({} bytes): the program that wrote it was killed", self.bytes)
    }
}

/// A ledger to which lines are added.
#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    file: File,
    /// How long the whole lines are, if the last one could not be finished and is still there.
    whole: Option<u64>,
}

impl Ledger {
    /// Opens a ledger, or makes one that only its owner can read. A torn last line is cut off and told: what follows must
    /// not be joined to it.
    pub(crate) fn open(path: &Path) -> Result<(Self, Option<Torn>), LedgerError> {
        let failed = |source| LedgerError::Open { file: path.into(), source };
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path).map_err(failed)?;
        let tail = tail(&mut file).map_err(failed)?;
        let mut torn = None;
        if !tail.is_empty() {
            match serde_json::from_slice::<Entry>(&tail) {
                // Whole, but for its end: somebody has edited the file.
                Ok(_) => file.write_all(b"\n").map_err(failed)?,
                Err(error) if error.is_eof() => {
                    let end = file.seek(SeekFrom::End(0)).map_err(failed)?;
                    file.set_len(end.saturating_sub(tail.len() as u64)).map_err(failed)?;
                    torn = Some(Torn { bytes: tail.len() });
                }
                Err(error) => {
                    let problem = format!("it does not end, and {error}");
                    return Err(LedgerError::Line { file: path.into(), line: None, problem });
                }
            }
        }
        Ok((Ledger { path: path.into(), file, whole: None }, torn))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a line, or nothing: what follows must not be joined to a part of it. It outlives the program, though perhaps
    /// not the machine, until [`sync`](Self::sync).
    pub(crate) fn add(&mut self, entry: &Entry) -> Result<(), LedgerError> {
        let mut line = serde_json::to_vec(entry).map_err(|error| self.failed(error.into()))?;
        line.push(b'\n');
        self.cut_off().map_err(|error| self.failed(error))?;
        let whole = self.file.metadata().map_err(|error| self.failed(error))?.len();
        let written = self.file.write_all(&line);
        if written.is_err() {
            self.whole = Some(whole);
            // If not even this works it is tried again before the next line, or when the ledger is opened.
            let _ = self.cut_off();
        }
        written.map_err(|error| self.failed(error))
    }

    /// Removes the part of a line that was written last.
    fn cut_off(&mut self) -> io::Result<()> {
        if let Some(whole) = self.whole {
            self.file.set_len(whole)?;
            self.whole = None;
        }
        Ok(())
    }

    /// Waits until all lines are on the disk.
    pub(crate) fn sync(&self) -> Result<(), LedgerError> {
        self.file.sync_data().map_err(|error| self.failed(error))
    }

    fn failed(&self, source: io::Error) -> LedgerError {
        LedgerError::Write { file: self.path.clone(), source }
    }
}

/// What follows the last end of a line.
fn tail(file: &mut File) -> io::Result<Vec<u8>> {
    let end = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(end.saturating_sub(MAX_LINE)))?;
    let mut tail = Vec::new();
    Read::take(&mut *file, MAX_LINE).read_to_end(&mut tail)?;
    let begin = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    Ok(tail.split_off(begin))
}

/// The lines of a ledger, one after the other. After the last one, [`torn`](Self::torn) says if one more was begun.
#[derive(Debug)]
pub(crate) struct Entries {
    path: PathBuf,
    reader: BufReader<File>,
    line: u64,
    torn: Option<Torn>,
    over: bool,
}

impl Entries {
    pub(crate) fn read(path: &Path) -> Result<Self, LedgerError> {
        let file = File::open(path).map_err(|source| LedgerError::Open { file: path.into(), source })?;
        Ok(Entries { path: path.into(), reader: BufReader::new(file), line: 0, torn: None, over: false })
    }

    /// The last line, if it was never finished.
    pub(crate) const fn torn(&self) -> Option<Torn> {
        self.torn
    }

    fn next_entry(&mut self) -> Result<Option<Entry>, LedgerError> {
        let mut bytes = Vec::new();
        let read = self.reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut bytes);
        read.map_err(|source| LedgerError::Read { file: self.path.clone(), source })?;
        if bytes.is_empty() {
            return Ok(None);
        }
        self.line += 1;
        let ends = bytes.last() == Some(&b'\n') || bytes.len() as u64 == MAX_LINE;
        match serde_json::from_slice(&bytes) {
            Ok(entry) => Ok(Some(entry)),
            Err(error) if !ends && error.is_eof() => {
                self.torn = Some(Torn { bytes: bytes.len() });
                Ok(None)
            }
            Err(error) => {
                let (file, line) = (self.path.clone(), Some(self.line));
                Err(LedgerError::Line { file, line, problem: error.to_string() })
            }
        }
    }
}

impl Iterator for Entries {
    type Item = Result<Entry, LedgerError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let next = self.next_entry().transpose();
        self.over = !matches!(next, Some(Ok(_)));
        next
    }
}
