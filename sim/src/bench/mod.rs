//! How fast the simulator is: one run of everything, so that a busy machine slows all of it down alike.

pub mod churn;
pub mod market;
pub mod messages;

use std::{fs, time::Instant};

/// What something took.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Took {
    /// How often it was done.
    pub count: u64,
    /// Time of this thread on a core, in ns; where the system does not tell, time of the clock.
    pub nanos: u64,
}

impl Took {
    /// Does something that counts itself.
    pub fn measure(work: impl FnOnce() -> u64) -> Self {
        let clock = Clock::start();
        let count = work();
        Self { count, nanos: clock.nanos().max(1) }
    }

    /// How often in a second.
    #[must_use]
    pub const fn per_second(self) -> u64 {
        (self.count as u128 * 1_000_000_000 / self.nanos as u128) as u64
    }

    /// How many of 1,000 of another rate this one reaches.
    #[must_use]
    pub const fn permille_of(self, other: Self) -> u64 {
        match (self.per_second() * 1000).checked_div(other.per_second()) {
            Some(permille) => permille,
            None => 0,
        }
    }
}

/// Time of this thread on a core: what others do on the machine is not in it.
#[derive(Debug)]
pub struct Clock {
    wall: Instant,
    on_core: Option<u64>,
}

impl Clock {
    /// Starts counting.
    #[must_use]
    pub fn start() -> Self {
        Self { wall: Instant::now(), on_core: on_core() }
    }

    /// Nanoseconds since the start.
    #[must_use]
    pub fn nanos(&self) -> u64 {
        match (self.on_core, on_core()) {
            (Some(start), Some(now)) => now - start,
            _ => u64::try_from(self.wall.elapsed().as_nanos()).unwrap_or(u64::MAX),
        }
    }
}

/// Nanoseconds that this thread has been on a core (Linux).
fn on_core() -> Option<u64> {
    fs::read_to_string("/proc/thread-self/schedstat").ok()?.split_whitespace().next()?.parse().ok()
}

/// Bytes of memory that this process holds (Linux); 0 where the system does not tell.
#[must_use]
pub fn resident_bytes() -> u64 {
    let pages = || fs::read_to_string("/proc/self/statm").ok()?.split_whitespace().nth(1)?.parse::<u64>().ok();
    pages().map_or(0, |pages| pages * 4096)
}
