//! The node's key in a file, and the lock that keeps it to one process.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use libp2p::identity::{KeyType, Keypair};

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The file cannot be read.
    #[error("cannot read the key file {path}: {source}; choose another file, or make it readable for this user")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot create the key file {path}: {source}; choose another place, or make its folder writable")]
    NotCreated {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others can read the file.
    #[error("the key file {path} is open to other users (mode {mode:04o}); run: chmod 600 {path}")]
    OpenToOthers {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another process is the node whose key it is.
    #[error(
        "the key file {path} is used by another process already{}: a key is one node's name; end that one, or give \
         this one another key file",
        named(*pid)
    )]
    InUse {
        /// Which file.
        path: PathBuf,
        /// The other process, if it could say so.
        pid: Option<u32>,
    },
    /// The file holds something else.
    #[error("{path} is not an Ed25519 key file; choose another path, or move the file away and a new key is made")]
    NotAKey {
        /// Which file.
        path: PathBuf,
    },
}

/// More cannot be a key.
const MAX_LEN: u64 = 1_024;

/// Reads the key at `path`, or makes one if nothing is there.
///
/// A new file has mode 0600 and appears whole or not at all; of several processes that make it at once, one wins and
/// all read its key. The format is libp2p's own (protobuf).
///
/// # Errors
/// When the file cannot be read or made, holds something else, or is open to other users.
pub fn load_or_create(path: &Path) -> Result<Keypair, KeyFileError> {
    match File::open(path) {
        Ok(file) => read(path, file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(path),
        Err(source) => Err(KeyFileError::Unreadable { path: path.into(), source }),
    }
}

/// As long as it lives, no other process can [`lock`] the key.
#[derive(Debug)]
pub struct KeyLock {
    _file: File,
}

/// Keeps a key that is there to this process: two nodes of one name would each get half of what is sent to it. Which
/// process it is stands in a file beside the key, `.pid` at the end of its name. The lock ends with the process, however
/// that ends; a file system that has no locks gives one that keeps nobody out.
///
/// # Errors
/// [`KeyFileError::InUse`] if another process has it, or this one has it already; the key file cannot be read.
pub fn lock(path: &Path) -> Result<KeyLock, KeyFileError> {
    let file = File::open(path).map_err(|source| KeyFileError::Unreadable { path: path.into(), source })?;
    let beside = beside(path);
    if let Err(TryLockError::WouldBlock) = file.try_lock() {
        return Err(KeyFileError::InUse { path: path.into(), pid: holder(&beside) });
    }
    // The lock decides; a name that cannot be written is only not told.
    let _ = fs::write(beside, std::process::id().to_string());
    Ok(KeyLock { _file: file })
}

/// Where it stands which process uses a key.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pid");
    name.into()
}

/// The process that has written its id into a file.
pub(crate) fn holder(file: &Path) -> Option<u32> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// A process in a message.
pub(crate) fn named(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

fn read(path: &Path, file: File) -> Result<Keypair, KeyFileError> {
    let unreadable = |source| KeyFileError::Unreadable { path: path.into(), source };
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() || metadata.len() > MAX_LEN {
        return Err(KeyFileError::NotAKey { path: path.into() });
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(KeyFileError::OpenToOthers { path: path.into(), mode });
        }
    }
    let mut bytes = Vec::new();
    file.take(MAX_LEN).read_to_end(&mut bytes).map_err(unreadable)?;
    match Keypair::from_protobuf_encoding(&bytes) {
        Ok(key) if key.key_type() == KeyType::Ed25519 => Ok(key),
        _ => Err(KeyFileError::NotAKey { path: path.into() }),
    }
}

fn create(path: &Path) -> Result<Keypair, KeyFileError> {
    let key = Keypair::generate_ed25519();
    match write_once(path, &key) {
        Ok(()) => Ok(key),
        // Somebody was faster: theirs is the key.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let file = File::open(path).map_err(|source| KeyFileError::Unreadable { path: path.into(), source })?;
            read(path, file)
        }
        Err(source) => Err(KeyFileError::NotCreated { path: path.into(), source }),
    }
}

/// Writes a file of another name, then gives it its name, which fails if the name is taken.
fn write_once(path: &Path, key: &Keypair) -> io::Result<()> {
    let bytes = key.to_protobuf_encoding().map_err(io::Error::other)?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".{}.new", key.public().to_peer_id()));
    let new = path.with_file_name(name);
    let written = write_private(&new, &bytes).and_then(|()| fs::hard_link(&new, path));
    let removed = fs::remove_file(&new);
    written.and(removed)
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
