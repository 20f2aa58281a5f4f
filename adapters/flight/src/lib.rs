//! The flight recorder: everything that went into a node's machines, and a digest of everything that came out.
//!
//! The machines of `haggle-core` are pure, so the same steps give the same outputs, byte for byte, on any machine:
//! a recording made in production is replayed on a desk, with the real decisions and no network.
//!
//! - [`Recorder`]: the file. One line a step; each line carries a digest of all lines up to it, so that a flipped byte is
//!   reported and not followed. **Prompts and answers are inside**, unless it is redacted; the file is for its owner only.
//! - [`Recorded`]: a machine whose every input, command and drain is written to a recorder, if there is one.
//! - [`replay`]: runs a recording again and compares.
#![forbid(unsafe_code)]

mod hex;
mod recorded;
mod recorder;
mod replay;
mod step;

pub use self::{
    recorded::Recorded,
    recorder::{Damage, Recorder},
    replay::{Moment, ReplayError, Summary, What, replay},
    step::Who,
};
