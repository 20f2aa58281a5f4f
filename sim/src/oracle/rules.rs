//! What is checked.

use std::fmt;

use haggle_core::JobId;

/// A rule that every run keeps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Rule {
    /// Each job has exactly one ending, and nothing comes after it.
    Ending,
    /// It comes by the deadline.
    Deadline,
    /// Tokens are dense from 0, once and in order.
    Seq,
    /// The text is a prefix of what the provider's engine wrote, each token in its channel; a finished answer is all of it.
    Text,
    /// What is owed and reserved is within the job's budget at every event.
    Budget,
    /// What is owed and reserved is within the account's budget at every event.
    Account,
    /// The bill is the oracle's own count.
    Bill,
    /// The provider's count is the requester's where the end was acknowledged, and never more.
    Ledger,
    /// What is agreed is what was awarded.
    Terms,
    /// A prompt goes to those who were awarded, and to nobody else.
    Secrecy,
    /// A body is what was asked to be sent, and within its credit.
    Body,
    /// A provider sends no more than the window.
    Window,
    /// A requester acknowledges no more than its application consumed.
    Ack,
    /// A provider computes no more than its slots, and all are free in the end.
    Slots,
    /// What a provider computes is what was asked.
    Work,
    /// When everything has ended, nothing is left.
    Tables,
    /// After a due timeout was handled the next one is later.
    Timer,
    /// The world comes to rest.
    Rest,
    /// Transmitted bytes are whole frames.
    Frames,
    /// A calm network wastes nothing.
    Calm,
    /// What can be served is served once the network is calm.
    Liveness,
    /// Who serves at the same price and speed as others gets at least half of an equal share.
    Fairness,
    /// What leads nowhere is not tried again and again.
    Livelock,
    /// Equal seeds run alike.
    Determinism,
    /// The core does not panic.
    Panic,
    /// Nobody who keeps the protocol is said to break it.
    Blame,
    /// A job is tried no more often than its policy allows, and never again at once.
    Attempts,
    /// After a loss it goes on as was ordered, and says truthfully how.
    Failover,
    /// Who is banned by hand, or excluded, is not turned to.
    Excluded,
    /// What a job needs is awarded to who said that it can do it, and declined by who cannot.
    Features,
    /// How an answer ended, and what of it was thought and of its prompt known, is what its engine said.
    Usage,
    /// What does not bind any more is not awarded.
    Offers,
    /// A stream of an epoch that is not newer attaches to nothing.
    Epoch,
    /// A first token is waited for as long as was promised, and no longer than the requester's patience; who has written says no
    /// more that it works.
    Patience,
    /// A provider that is left is told.
    Fence,
    /// No table grows beyond its limit.
    Bounds,
    /// What a node stored as it was told to, it can come back with; and nothing is computed twice.
    Recovery,
    /// Somebody looks: a world without oracles proves nothing.
    Watched,
}

/// A broken rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    /// Which.
    pub rule: Rule,
    /// When, in virtual ms.
    pub at: u64,
    /// For which job, if it is about one.
    pub job: Option<JobId>,
    /// What happened.
    pub what: String,
    /// The line that replays it, if it is not the seed's own world that broke it: one that is healed, or one for a law.
    pub line: Option<String>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {} ms: {}", self.rule, self.at, self.what)
    }
}
