//! What outlives a process: a machine's state as bytes, and back ("When a process dies" in `ARCHITECTURE.md`).
//!
//! A snapshot is an envelope (magic, version, length, SHA-256) around canonical CBOR. Its moments are relative to the one at
//! which it was taken, so that it can be read on another clock. The checksum finds accidents, not forgers: whoever may write
//! the file owns the node.

use alloc::vec::Vec;
use core::fmt;

use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};

use crate::{
    digest,
    id::JobId,
    limits::{ConfigError, MAX_SNAPSHOT},
    time::{Instant, Millis},
    wire::{Unwritten, check_shape},
};

/// Levels of lists and maps in a snapshot, at most.
const MAX_DEPTH: usize = 12;
/// Changes with every change of what is kept.
const VERSION: u32 = 2;
const MAGIC: [u8; 8] = *b"haggle/s";
/// Magic, kind, version, length, checksum.
const HEADER: usize = MAGIC.len() + 1 + 4 + 8 + 32;

/// Whose state it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Requester = 1,
    Provider = 2,
}

/// Why a snapshot can not be restored. Nothing of it was used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The bytes are no snapshot of this machine.
    Foreign,
    /// Another version of haggle wrote it.
    Version {
        /// Its version.
        found: u32,
    },
    /// It is shorter, or longer, than it says: writing it was not finished.
    Torn,
    /// Its checksum does not fit: it was changed since it was written.
    Damaged,
    /// Its checksum fits, but no machine can be in such a state.
    Impossible,
    /// It holds more than the limits allow: they were larger when it was written.
    TooLarge,
    /// What the application stored of a job is not what the snapshot says of it: they are of different times.
    Disagrees {
        /// Which job.
        job: JobId,
    },
    /// A setting can not work.
    Config(ConfigError),
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => f.write_str("it is no snapshot of this machine"),
            Self::Version { found } => write!(f, "it was written in format {found}, and this is format {VERSION}"),
            Self::Torn => f.write_str("it was not written to its end"),
            Self::Damaged => f.write_str("its checksum does not fit"),
            Self::Impossible => f.write_str("it describes a state that can not be"),
            Self::TooLarge => f.write_str("it holds more than the limits allow: raise limits.* to what they were"),
            Self::Disagrees { job } => write!(f, "what was stored of job {job} is not of the same time"),
            Self::Config(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for SnapshotError {}

impl From<ConfigError> for SnapshotError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

/// What moments in a snapshot are relative to.
pub(crate) trait Clock {
    fn base(&self) -> Instant;
}

/// When the snapshot was taken, on the clock of whoever reads or writes it.
pub(crate) struct Taken(Instant);

impl Clock for Taken {
    fn base(&self) -> Instant {
        self.0
    }
}

impl Taken {
    pub(crate) const fn now(now: Instant) -> Self {
        Self(now)
    }

    /// A moment before the clock's start is taken for its start.
    pub(crate) const fn ago(now: Instant, away: Millis) -> Self {
        Self(Instant::from_millis(now.as_millis().saturating_sub(away.0)))
    }
}

/// Never: it is as far away on every clock.
const NEVER: i64 = i64::MAX;
/// Every moment that can be written down is on a clock that shows this: none is rounded.
const ANY_MOMENT: Instant = Instant::from_millis(1 << 63);

impl<C: Clock> Encode<C> for Instant {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, clock: &mut C) -> Result<(), encode::Error<W::Error>> {
        let relative = i128::from(self.as_millis()) - i128::from(clock.base().as_millis());
        let bounded = relative.clamp(i128::from(i64::MIN), i128::from(NEVER - 1)) as i64;
        e.i64(if *self == Self::MAX { NEVER } else { bounded })?.ok()
    }
}

impl<'b, C: Clock> Decode<'b, C> for Instant {
    fn decode(d: &mut Decoder<'b>, clock: &mut C) -> Result<Self, decode::Error> {
        let relative = d.i64()?;
        let base = clock.base().as_millis();
        Ok(if relative == NEVER { Self::MAX } else { Self::from_millis(base.saturating_add_signed(relative)) })
    }
}

/// Sums of money, which CBOR's integers do not hold.
pub(crate) mod wide {
    use minicbor::{Decoder, Encoder, decode::Error, encode::Error as EncodeError, encode::Write};

    pub(crate) fn encode<C, W: Write>(sum: &u128, e: &mut Encoder<W>, _: &mut C) -> Result<(), EncodeError<W::Error>> {
        e.bytes(&sum.to_be_bytes())?.ok()
    }

    pub(crate) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<u128, Error> {
        let bytes = d.bytes()?.try_into().map_err(|_| Error::message("a sum has 16 bytes"))?;
        Ok(u128::from_be_bytes(bytes))
    }
}

/// Puts state into its envelope.
pub(crate) fn seal(kind: Kind, now: Instant, state: &impl Encode<Taken>) -> Vec<u8> {
    let mut bytes = Vec::from(MAGIC);
    bytes.push(kind as u8);
    bytes.extend(VERSION.to_be_bytes());
    bytes.resize(HEADER, 0);
    // Writing to a vector can not fail, and no state carries an encoder that does.
    let _infallible = minicbor::encode_with(state, &mut bytes, &mut Taken::now(now));
    let len = (bytes.len() - HEADER) as u64;
    bytes[HEADER - 40..HEADER - 32].copy_from_slice(&len.to_be_bytes());
    let sum = checksum(&bytes);
    bytes[HEADER - 32..HEADER].copy_from_slice(&sum);
    bytes
}

/// Takes state out of its envelope. It has exactly one encoding, and nothing else is accepted.
pub(crate) fn open<'b, T>(kind: Kind, bytes: &'b [u8], mut taken: Taken) -> Result<T, SnapshotError>
where
    T: Decode<'b, Taken> + Encode<Taken>,
{
    if bytes.len() > MAX_SNAPSHOT {
        return Err(SnapshotError::TooLarge);
    }
    let (header, payload) = bytes.split_at_checked(HEADER).ok_or(SnapshotError::Torn)?;
    if header[..MAGIC.len()] != MAGIC {
        return Err(SnapshotError::Foreign);
    }
    let number =
        |range: core::ops::Range<usize>| header[range].iter().fold(0, |n: u64, byte| n << 8 | u64::from(*byte));
    let found = number(9..13) as u32;
    if found != VERSION {
        return Err(SnapshotError::Version { found });
    }
    if number(13..21) != payload.len() as u64 {
        return Err(SnapshotError::Torn);
    }
    if header[HEADER - 32..] != checksum(bytes) {
        return Err(SnapshotError::Damaged);
    }
    if header[MAGIC.len()] != kind as u8 {
        return Err(SnapshotError::Foreign);
    }
    check_shape::<{ MAX_DEPTH + 1 }>(payload).map_err(|_| SnapshotError::Impossible)?;
    let state: T = minicbor::decode_with(payload, &mut Taken(ANY_MOMENT)).map_err(|_| SnapshotError::Impossible)?;
    let mut rest = Unwritten(payload);
    let is_written = minicbor::encode_with(&state, &mut rest, &mut Taken(ANY_MOMENT)).is_ok();
    require(is_written && rest.0.is_empty())?;
    drop(state);
    minicbor::decode_with(payload, &mut taken).map_err(|_| SnapshotError::Impossible)
}

fn checksum(bytes: &[u8]) -> [u8; 32] {
    digest::sha256_of(&[&bytes[..HEADER - 32], &bytes[HEADER..]])
}

/// `Impossible`, unless it is so.
pub(crate) fn require(possible: bool) -> Result<(), SnapshotError> {
    if possible { Ok(()) } else { Err(SnapshotError::Impossible) }
}
