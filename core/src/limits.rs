//! Every bound of the core that can be set, with its source. Reaching one is a typed refusal or back-pressure, never growth.
//!
//! # What cannot be set
//!
//! What two peers have to agree on, and what nobody has a reason to change, stands beside the code that it bounds (in this file, if
//! that is several rooms), with its source:
//!
//! | file | constants |
//! | --- | --- |
//! | `backoff.rs` | `FLOOR`, `CAP` |
//! | `id.rs` | `MAX_PEER_BYTES`, `MAX_MODEL_BYTES` |
//! | `money.rs` | `TOKENS_PER_PRICE`, `BODY_QUANTUM` |
//! | `outbox.rs` | `LENT_CAPACITY` |
//! | `peers/bans.rs` | `FIRST_BAN`, `LONGEST_BAN`, `MEMORY`, `MOST_BANS` |
//! | `peers/breaker.rs` | `BUCKETS`, `MAX_PATIENCE` |
//! | `peers/decay.rs` | `HALF_LIFE` |
//! | `peers/latency.rs` | `COLD`, `FAILURE`, `LONGEST`, `HALF_LIFE`, `RECENT` |
//! | `peers/score.rs` | `MAX_SCORE`, `AVOID`, `BAN`, `AFTER_BAN`, `VERIFIED_END`, `HALF_LIFE`, `HALVINGS`, `LONGEST` |
//! | `peers/table.rs` | `PROBATION_TOKENS`, `MEMORY` |
//! | `provider/admission.rs` | `MAX_TEMPERATURE_MILLI` |
//! | `provider/conduct.rs` | `FORGIVEN`, `MEMORY` |
//! | `provider/eta.rs` | `MEMORY` |
//! | `provider/haggling.rs` | `BIDS`, `BID_EVERY` |
//! | `provider/job.rs` | `RESUMES`, `YIELD_AFTER`, `WORD_AFTER` |
//! | `provider/outage.rs` | `MAX_OUTAGE` |
//! | `provider/quoting.rs` | `MAX_TOKEN_BYTES` |
//! | `provider/service.rs` | `MAX_QUEUE` |
//! | `requester/attempt/saved.rs` | `EPOCHS`, `MAX_TOKENS` |
//! | `requester/negotiation.rs` | `MAX_STALE` |
//! | `requester/resume.rs` | `TRIES`, `VAIN_DIALS` |
//! | `requester/snapshot/lines.rs` | `MAX_LINES` |
//! | `requester/snapshot/saved.rs` | `SKIPPED`, `MAX_ATTEMPTS` |
//! | `retry.rs` | `FULL`, `EARNED`, `RETRY`, `RETRY_AFTER_TIMEOUT`, `SHORTEST_PUSHBACK`, `LONGEST_PUSHBACK` |
//! | `snapshot.rs` | `MAX_DEPTH` |
//! | `wire/advert.rs` | `MAX_MODELS`, `MAX_ALIASES` |
//! | `wire/bounds.rs` | `CHUNK_COST`, `MAX_WINDOW_TOKENS`, `MIN_WINDOW_BYTES`, `MAX_WINDOW_BYTES`, `MAX_OVERLAP`, `MAX_BIDS` |
//! | `wire/codec.rs` | `MAX_DEPTH` |
//! | `wire/message.rs` | `MAX_STOPS`, `MAX_STOP_BYTES` |
//! | `wire/mod.rs` | `MAX_FRAME`, `MAX_CHUNK_TEXT`, `MAX_CHUNK_IDS`, `MAX_BODY_PIECE` |
//! | `wire/prompt.rs` | `MAX_MESSAGES`, `MAX_ROLE` |
//! | `wire/settlement.rs` | `MAX_METHODS`, `MAX_RAIL`, `MAX_KEY` |

use crate::{
    time::Millis,
    wire::{MAX_WINDOW_BYTES, MAX_WINDOW_TOKENS, MIN_WINDOW_BYTES},
};

pub use crate::wire::CHUNK_COST;

/// Sizes and counts. The defaults suit a node on the open internet.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Limits {
    /// Jobs a node has open at once, on each side; at a provider those that wait to be resumed or acknowledged count too.
    pub jobs: u32,
    /// Peers the directory remembers.
    pub known_peers: u32,
    /// Bans that a requester remembers.
    pub bans: u32,
    /// Models whose lookup is remembered.
    pub lookups: u32,
    /// Bytes of one body: prompt and prefix.
    pub body_bytes: u64,
    /// Bytes of all bodies and texts that a node holds, at most 64 MiB.
    pub node_bytes: u64,
    /// Body bytes sent, or taken, before Accepted.
    pub body_unasked: u64,
    /// Tokens sent and not yet consumed, per job. yamux' own 256 KiB would brake far too late.
    pub window_tokens: u32,
    /// Cost of chunks sent and not yet consumed, per job, in bytes; a chunk costs its text, its ids and [`CHUNK_COST`].
    pub window_bytes: u32,
    /// Streams one peer has open at a provider at once.
    pub streams_per_peer: u32,
    /// Streams all peers have open at a provider at once.
    pub streams: u32,
    /// Offers one peer has outstanding at a provider; the oldest is replaced.
    pub offers_per_peer: u32,
    /// Offers outstanding at a provider.
    pub offers: u32,
    /// Jobs one peer has at a provider, queued ones included.
    pub jobs_per_peer: u32,
    /// Frames without progress that a stream may carry before it is a violation; refills at 10 a second.
    pub idle_frames: u32,
    /// Cancels that wait for a provider to be reached.
    pub pending_cancels: u32,
}

/// Bytes in a snapshot, at most: bodies and texts of one node, and what is known of its peers.
pub const MAX_SNAPSHOT: usize = 96 << 20;
/// What can be written into a snapshot can be read again: the rest of it is for what is known of peers (at most 1 KiB each),
/// for terms and bills of jobs, and for attempts that were lost.
const MAX_NODE_BYTES: u64 = 64 << 20;
const _: () = assert!(MAX_NODE_BYTES + (32 << 20) <= MAX_SNAPSHOT as u64);

/// Peers of one search that are kept. Kademlia names 20 per key; further sources add theirs. An adapter that tells of as many, no
/// peer twice, has told enough.
pub const MAX_HINTS: usize = 256;

/// No provider's promise of time is believed beyond this.
pub(crate) const MAX_ETA: Millis = Millis::from_secs(3600);

impl Default for Limits {
    fn default() -> Self {
        Self {
            jobs: 1024,
            known_peers: 4096,
            bans: 1000,
            lookups: 256,
            body_bytes: 2 << 20,
            node_bytes: 64 << 20,
            body_unasked: 32 << 10,
            window_tokens: 1024,
            window_bytes: 128 << 10,
            streams_per_peer: 32,
            streams: 256,
            offers_per_peer: 64,
            offers: 1024,
            jobs_per_peer: 16,
            idle_frames: 100,
            pending_cancels: 1024,
        }
    }
}

/// Times and tries of a requester.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Policy {
    /// A query that is not done by then has timed out. (Kademlia's own 60 s is too long to wait for nobody.)
    pub query_timeout: Millis,
    /// How long what was found stays true.
    pub found_ttl: Millis,
    /// How long "nobody" stays true.
    pub nobody_ttl: Millis,
    /// A provider that does not describe itself by then is passed over.
    pub describe_timeout: Millis,
    /// Describes at once.
    pub describes: u32,
    /// Time given to further adverts after the first that fits.
    pub search_window: Millis,
    /// Providers asked for an offer.
    pub candidates: u32,
    /// Time given to further offers after the first acceptable one.
    pub offer_window: Millis,
    /// Time given to offers in all.
    pub offer_timeout: Millis,
    /// Longest time that an offer of a peer is taken to bind.
    pub offer_expiry: Millis,
    /// End of the Award to Accepted.
    pub request_timeout: Millis,
    /// Before the first token, no word comes of the work on it: four times the offered eta, at least this long.
    pub work_gap: Millis,
    /// The first token, counted from its Award, however often its provider says that it works.
    pub first_token: Millis,
    /// Nothing at all is heard.
    pub idle: Millis,
    /// No token comes, though less than half of the window is full.
    pub token_gap: Millis,
    /// How long tokens are counted. Fewer than `pace_tokens` in it, at a pace that would not bring the rest by the deadline: the
    /// provider is left, if another one is known.
    pub pace_window: Millis,
    /// See `pace_window`; 0 leaves nobody for its pace.
    pub pace_tokens: u32,
    /// An acknowledgement waits at most this long for company.
    pub ack_delay: Millis,
    /// An acknowledgement is sent at least this often, as a sign of life.
    pub keepalive: Millis,
    /// A cut stream is resumed within, if somebody else could take the job over.
    pub resume_grace: Millis,
    /// A cut stream is resumed within, if nobody else is known; a Cancel is repeated as long. Providers keep cut jobs for 120 s.
    pub resume_timeout: Millis,
    /// A job's time over all attempts, unless its own is shorter.
    pub job_deadline: Millis,
    /// Attempts are at most one more.
    pub max_retries: u32,
    /// Base of the pause before a retry.
    pub retry_delay: Millis,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            query_timeout: Millis::from_secs(10),
            found_ttl: Millis::from_secs(60),
            nobody_ttl: Millis::from_secs(5),
            describe_timeout: Millis::from_secs(5),
            describes: 8,
            search_window: Millis(500),
            candidates: 4,
            offer_window: Millis(500),
            offer_timeout: Millis::from_secs(5),
            offer_expiry: Millis::from_secs(300),
            request_timeout: Millis::from_secs(60),
            work_gap: Millis::from_secs(60),
            first_token: Millis::from_secs(600),
            idle: Millis::from_secs(30),
            token_gap: Millis::from_secs(60),
            pace_window: Millis::from_secs(30),
            pace_tokens: 15,
            ack_delay: Millis(250),
            keepalive: Millis::from_secs(10),
            resume_grace: Millis::from_secs(5),
            resume_timeout: Millis::from_secs(120),
            job_deadline: Millis::from_secs(600),
            max_retries: 3,
            retry_delay: Millis::from_secs(1),
        }
    }
}

/// A setting that can not work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConfigError {
    /// The field, as written in a configuration file.
    pub field: &'static str,
    /// What it has to be.
    pub must: &'static str,
}

impl core::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} must be {}", self.field, self.must)
    }
}

impl core::error::Error for ConfigError {}

impl Limits {
    /// Checks what depends on each other.
    ///
    /// # Errors
    /// The first field that can not work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let counts = [
            ("jobs", self.jobs),
            ("known_peers", self.known_peers),
            ("bans", self.bans),
            ("lookups", self.lookups),
            ("streams_per_peer", self.streams_per_peer),
            ("streams", self.streams),
            ("offers_per_peer", self.offers_per_peer),
            ("offers", self.offers),
            ("jobs_per_peer", self.jobs_per_peer),
            ("idle_frames", self.idle_frames),
            ("pending_cancels", self.pending_cancels),
        ];
        if let Some((field, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return Err(ConfigError { field, must: "at least 1" });
        }
        check("window_tokens", (1..=MAX_WINDOW_TOKENS).contains(&self.window_tokens), "1 to 8192")?;
        check("window_bytes", (MIN_WINDOW_BYTES..=MAX_WINDOW_BYTES).contains(&self.window_bytes), "16512 to 1048576")?;
        check("body_unasked", (0..=1 << 20).contains(&self.body_unasked), "at most 1048576")?;
        check("body_bytes", (1..=64 << 20).contains(&self.body_bytes), "1 to 67108864")?;
        let node_bytes = self.body_bytes..=MAX_NODE_BYTES;
        check("node_bytes", node_bytes.contains(&self.node_bytes), "at least body_bytes, and at most 67108864")
    }
}

impl Policy {
    /// Checks what depends on each other. No retries is legal, a zero timeout is not.
    ///
    /// # Errors
    /// The first field that can not work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let times = [
            ("query_timeout", self.query_timeout),
            ("found_ttl", self.found_ttl),
            ("nobody_ttl", self.nobody_ttl),
            ("describe_timeout", self.describe_timeout),
            ("search_window", self.search_window),
            ("offer_window", self.offer_window),
            ("offer_timeout", self.offer_timeout),
            ("offer_expiry", self.offer_expiry),
            ("request_timeout", self.request_timeout),
            ("work_gap", self.work_gap),
            ("first_token", self.first_token),
            ("idle", self.idle),
            ("token_gap", self.token_gap),
            ("pace_window", self.pace_window),
            ("ack_delay", self.ack_delay),
            ("keepalive", self.keepalive),
            ("resume_grace", self.resume_grace),
            ("resume_timeout", self.resume_timeout),
            ("job_deadline", self.job_deadline),
            ("retry_delay", self.retry_delay),
        ];
        if let Some((field, _)) = times.into_iter().find(|(_, time)| *time == Millis::ZERO) {
            return Err(ConfigError { field, must: "longer than 0" });
        }
        check("describes", self.describes > 0, "at least 1")?;
        check("candidates", (1..=64).contains(&self.candidates), "1 to 64")?;
        check("max_retries", self.max_retries <= 100, "at most 100")?;
        check("keepalive", self.keepalive < self.idle, "shorter than idle")
    }

    /// How long a first token is waited for that was promised after `eta`, as long as nothing is told of the work on it.
    pub(crate) fn patience(&self, eta: Millis) -> Millis {
        eta.times(4).max(self.work_gap).min(self.first_token)
    }
}

fn check(field: &'static str, ok: bool, must: &'static str) -> Result<(), ConfigError> {
    if ok { Ok(()) } else { Err(ConfigError { field, must }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_holds_no_more_than_a_snapshot_can() {
        let limits = |node_bytes| Limits { node_bytes, ..Limits::default() };
        assert_eq!(limits(64 << 20).validate(), Ok(()));
        assert_eq!(limits((64 << 20) + 1).validate().map_err(|error| error.field), Err("node_bytes"));
    }
}
