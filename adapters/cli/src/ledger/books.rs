//! A ledger that is kept as long as something is sold: its file may be moved away, and its disk may be full for a while.

use std::{
    collections::VecDeque,
    fmt,
    path::Path,
    time::{Duration, Instant},
};

use super::{Entry, Ledger, LedgerError, Torn};

/// Lines that may wait for a disk that is full. Who could write down no more sells nothing.
const MOST_LATE: usize = 1_024;
/// What cannot be written is told no more often.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// A ledger, and the lines that could not be written into it yet.
#[derive(Debug)]
pub(crate) struct Books {
    ledger: Ledger,
    /// The oldest first: they keep their order.
    late: VecDeque<Entry>,
    /// When it was told that lines are late; again on time, it is forgotten.
    told: Option<Instant>,
}

/// Lines wait in memory.
#[derive(Debug)]
pub(crate) struct Late {
    pub(crate) lines: usize,
    pub(crate) error: LedgerError,
}

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Late { lines, error } = self;
        write!(f, "{error}; {lines} of its lines wait in memory, at most {MOST_LATE} can: make room")
    }
}

impl Books {
    pub(crate) fn new(ledger: Ledger) -> Self {
        Books { ledger, late: VecDeque::new(), told: None }
    }

    /// Writes a line after those that wait. If it has to wait itself, that is told once a minute.
    ///
    /// # Errors
    /// No further line could wait.
    pub(crate) fn add(&mut self, now: Instant, entry: Entry) -> Result<Option<Late>, LedgerError> {
        self.late.push_back(entry);
        self.write(now)
    }

    /// Tries again to write what waits.
    ///
    /// # Errors
    /// No further line could wait.
    pub(crate) fn write(&mut self, now: Instant) -> Result<Option<Late>, LedgerError> {
        while let Some(entry) = self.late.front() {
            if let Err(error) = self.ledger.add(entry) {
                let lines = self.late.len();
                if lines >= MOST_LATE {
                    return Err(error);
                }
                let is_due = self.told.is_none_or(|told| now.saturating_duration_since(told) >= TOLD_EVERY);
                self.told = if is_due { Some(now) } else { self.told };
                return Ok(is_due.then_some(Late { lines, error }));
            }
            self.late.pop_front();
        }
        self.told = None;
        Ok(None)
    }

    /// Goes on in the file that has the name now: the one before may have been moved away.
    ///
    /// # Errors
    /// It cannot be opened, and the one before is kept.
    pub(crate) fn reopen(&mut self, path: &Path) -> Result<Option<Torn>, LedgerError> {
        let (ledger, torn) = Ledger::open(path)?;
        // Of the file before, every line was handed to the system; whether it is on the disk by now loses none.
        let _ = self.ledger.sync();
        self.ledger = ledger;
        Ok(torn)
    }

    pub(crate) fn path(&self) -> &Path {
        self.ledger.path()
    }

    /// Lines that are not in the file.
    pub(crate) fn late(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.late.iter()
    }

    /// Waits until all lines are on the disk.
    pub(crate) fn sync(&self) -> Result<(), LedgerError> {
        self.ledger.sync()
    }
}
