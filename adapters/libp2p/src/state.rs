//! What a node keeps on disk: its key, its machines' snapshots, and a lock against a second process.
//!
//! ```text
//! DIR/lock                held as long as a process uses the directory; its id is in it
//! DIR/key                 the node's key
//! DIR/requester.snapshot  jobs, answers so far, what is owed, scores and bans
//! DIR/provider.snapshot   attempts that are not to be computed twice
//! ```
//!
//! A snapshot is written whole or not at all (another file, synced, renamed) and is for its owner only: prompts and answers
//! are in it. One that cannot be read is never passed over: the error says which file to move away.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use haggle_core::{JobId, SnapshotError, limits::MAX_SNAPSHOT, time::Millis, wire::message::Channel};
use libp2p::identity::Keypair;

use crate::{id, key, key::KeyFileError};

/// Moments before a crash are to be on the clock of the process after it: it begins so late.
pub(crate) const CLOCK_START: Millis = Millis::from_secs(30 * 24 * 3600);

/// The snapshot of what a node buys.
pub(crate) const REQUESTER: &str = "requester.snapshot";
/// The snapshot of what a node sells.
pub(crate) const PROVIDER: &str = "provider.snapshot";

/// Why a state directory cannot be used. Nothing was changed in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// It cannot be read or written.
    #[error("cannot use the state directory's {path}: {source}; choose another directory, or make it writable")]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is a file.
    #[error("{path} is no folder, and a state directory is one: choose another name, or move the file away")]
    NotAFolder {
        /// Which file.
        path: PathBuf,
    },
    /// Another process uses it.
    #[error(
        "another process uses the state directory {path}{}: end it first, or choose another directory",
        key::named(*pid)
    )]
    InUse {
        /// Which directory.
        path: PathBuf,
        /// The other process, if it could say so.
        pid: Option<u32>,
    },
    /// A snapshot cannot be restored.
    #[error("cannot restore {path}: {source}; to begin anew without what it holds, move the file away")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: SnapshotError,
    },
    /// A file is open to other users.
    #[error(
        "{path} is open to other users (mode {mode:04o}), and prompts and answers are in it; run: chmod 600 {path}"
    )]
    OpenToOthers {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key in it cannot be used.
    #[error(transparent)]
    Key(#[from] KeyFileError),
}

impl StateError {
    /// A stable name for scripts, logs and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            StateError::Unusable { source, .. } if is_full(source) => "disk_full",
            StateError::Unusable { .. } | StateError::NotAFolder { .. } => "state",
            StateError::InUse { .. } => "state_in_use",
            StateError::Damaged { .. } => "state_damaged",
            StateError::OpenToOthers { .. } => "state_open",
            StateError::Key(_) => "key",
        }
    }
}

/// What an application has itself stored of a job's answer: whole pieces, as [`JobEvent::Tokens`](crate::JobEvent::Tokens)
/// brought them, from token 0 or from the last [`TakeOver::Restarted`](haggle_core::event::TakeOver::Restarted).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAnswer {
    /// Which job.
    pub job: JobId,
    /// Its pieces, in order.
    pub pieces: Vec<StoredPiece>,
}

/// Tokens that an application has stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPiece {
    /// Who wrote them.
    pub peer: libp2p::PeerId,
    /// How many.
    pub n: u32,
    /// Their text.
    pub text: String,
    /// Their ids, if they came.
    pub ids: Option<Vec<u32>>,
    /// What they are, if not the answer's text.
    pub channel: Option<Channel>,
}

/// A directory that this process alone uses, as long as this value lives.
#[derive(Debug)]
pub struct State {
    path: PathBuf,
    _lock: File,
}

impl State {
    /// Opens a directory, which is made if need be, and locks it.
    ///
    /// # Errors
    /// [`StateError::InUse`] if another process has it; [`StateError::NotAFolder`]; [`StateError::Unusable`].
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let unusable = |source| StateError::Unusable { path: path.into(), source };
        if path.is_file() {
            return Err(StateError::NotAFolder { path: path.into() });
        }
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(path).map_err(unusable)?;
        let file = path.join("lock");
        let mut lock = private(OpenOptions::new().create(true).truncate(false)).open(&file).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {
                // The lock decides; a name that cannot be written is only not told.
                let _ = lock.set_len(0).and_then(|()| write!(lock, "{}", std::process::id()));
                Ok(State { path: path.into(), _lock: lock })
            }
            Err(TryLockError::WouldBlock) => Err(StateError::InUse { path: path.into(), pid: key::holder(&file) }),
            Err(TryLockError::Error(source)) => Err(unusable(source)),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The node's key, made at the first time.
    ///
    /// # Errors
    /// When the file cannot be read or made, holds something else, or is open to other users.
    pub fn key(&self) -> Result<Keypair, StateError> {
        Ok(key::load_or_create(&self.path.join("key"))?)
    }

    /// A snapshot, and how long ago it was written by the wall clock; a clock that went back says 0.
    pub(crate) fn load(&self, name: &str) -> Result<Option<(Vec<u8>, Millis)>, StateError> {
        let path = self.path.join(name);
        let unusable = |source| StateError::Unusable { path: path.clone(), source };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(unusable(source)),
        };
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = file.metadata().map_err(unusable)?.permissions().mode() & 0o7777;
            if mode & 0o077 != 0 {
                return Err(StateError::OpenToOthers { path, mode });
            }
        }
        let mut bytes = Vec::new();
        file.take((MAX_SNAPSHOT + STAMP) as u64 + 1).read_to_end(&mut bytes).map_err(unusable)?;
        let Some((stamp, _)) = bytes.split_at_checked(STAMP) else {
            return Err(self.damaged(name, SnapshotError::Torn));
        };
        let (at, again) = stamp.split_at(STAMP / 2);
        if at != again {
            return Err(self.damaged(name, SnapshotError::Damaged));
        }
        let at = at.iter().fold(0, |at: u64, byte| at << 8 | u64::from(*byte));
        bytes.drain(..STAMP);
        Ok(Some((bytes, Millis(wall_clock().saturating_sub(at)))))
    }

    pub(crate) fn store(&self, name: &str, snapshot: &[u8]) -> Result<(), StateError> {
        let path = self.path.join(name);
        let new = self.path.join(format!("{name}.new"));
        let at = wall_clock().to_be_bytes();
        let write = || {
            let mut file = private(OpenOptions::new().create(true).truncate(true)).open(&new)?;
            file.write_all(&at)?;
            file.write_all(&at)?;
            file.write_all(snapshot)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            sync_folder(&self.path)
        };
        write().map_err(|source| StateError::Unusable { path: path.clone(), source })
    }

    pub(crate) fn damaged(&self, name: &str, source: SnapshotError) -> StateError {
        StateError::Damaged { path: self.path.join(name), source }
    }
}

/// The wall clock's time, written twice: what is not equal is damaged.
const STAMP: usize = 16;

/// Milliseconds since 1970 by the wall clock.
pub fn wall_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Whether it is for want of room that something cannot be written.
fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options.write(true)
}

/// A name is safe only when its folder is.
#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

/// What is stored, as the core takes it: ids as bytes.
pub(crate) struct Bytes<'a> {
    answer: &'a StoredAnswer,
    ids: Vec<Option<Vec<u8>>>,
}

impl<'a> Bytes<'a> {
    pub(crate) fn of(answer: &'a StoredAnswer) -> Self {
        let bytes = |ids: &Vec<u32>| ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        Bytes { answer, ids: answer.pieces.iter().map(|piece| piece.ids.as_ref().map(bytes)).collect() }
    }

    pub(crate) fn stored(&self) -> haggle_core::requester::Stored<'_> {
        let pieces = self.answer.pieces.iter().zip(&self.ids).filter_map(|(piece, ids)| {
            let peer = id::to_core(&piece.peer)?;
            let StoredPiece { n, text, channel, .. } = piece;
            Some(haggle_core::requester::Piece { peer, n: *n, text, ids: ids.as_deref(), channel: *channel })
        });
        haggle_core::requester::Stored { job: self.answer.job, pieces: pieces.collect() }
    }
}
