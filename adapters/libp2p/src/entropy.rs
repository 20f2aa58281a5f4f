//! Chance, as the system gives it.

use std::io;

/// Fresh for every machine: a seed used twice would mint the same ids.
pub(crate) fn seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(io::Error::other)?;
    Ok(seed)
}
