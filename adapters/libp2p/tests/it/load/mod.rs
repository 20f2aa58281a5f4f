//! Many at once, and hostile ones: every honest job ends, what is too much is refused typed, and memory stays within what
//! the configuration allows. `cargo test` plays it small; all of it, in a build that is as fast as a node's:
//!
//! ```text
//! HAGGLE_LOAD=full cargo test --release -p haggle --test it load:: -- --nocapture --test-threads 1
//! ```

mod hostile;
mod many;

use std::{env, fs, future::Future, time::Duration};

use haggle::{Config, Limits};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How much of a load is played.
fn size(full: usize, small: usize) -> usize {
    if is_full() { full } else { small }
}

fn is_full() -> bool {
    env::var("HAGGLE_LOAD").is_ok_and(|load| load == "full")
}

/// Plays a load, with room for its sockets.
fn play(files: usize, load: impl Future<Output = ()>) {
    allow_files(files as u64 + 64);
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let patience = Duration::from_secs(if is_full() { 240 } else { 60 });
    runtime.block_on(async { tokio::time::timeout(patience, load).await.expect("the load took too long") });
}

/// Raises the limit of open files as far as this process may.
fn allow_files(wanted: u64) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < wanted) {
        let raised = Rlimit { current: Some(maximum.map_or(wanted, |maximum| maximum.min(wanted))), maximum };
        setrlimit(Resource::Nofile, raised).expect("the soft limit may be raised to the hard one");
        assert!(raised.current >= Some(wanted), "{wanted} open files are needed: ulimit -Hn {wanted}");
    }
}

/// The memory of this process, and how far it has risen since.
pub(crate) struct Memory(u64);

impl Memory {
    pub(crate) fn now() -> Self {
        // From here on the kernel's high-water mark is counted anew.
        fs::write("/proc/self/clear_refs", "5").expect("Linux");
        Memory(kib("VmRSS"))
    }

    pub(crate) fn risen(&self) -> u64 {
        kib("VmHWM").saturating_sub(self.0) << 10
    }

    /// Says what a load took, and checks that against the caps of all nodes that took part.
    fn check(&self, load: &str, caps: impl IntoIterator<Item = u64>) {
        let (risen, cap) = (self.risen(), caps.into_iter().sum::<u64>());
        println!("{load}: {:.1} MiB of {:.1} MiB", mib(risen), mib(cap));
        assert!(risen <= cap, "{load}: {risen} bytes, the caps are {cap}");
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn kib(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).expect("it is there");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Yamux may hold so much unread, of each stream.
const UNREAD: u64 = 256 << 10;
/// Of each stream: what is read at once, a frame that is put together, and the task.
const STREAM: u64 = (16 << 10) + (16 << 10) + (4 << 10);
/// Of each job: its state, and events without tokens that wait for the application.
const JOB: u64 = 64 << 10;
/// Of each connection: buffers of the kernel's side of Noise and Yamux, the tasks, and what the DHT and identify keep.
const CONNECTION: u64 = 256 << 10;

/// The sum of what a node's configuration allows: `connections`, each with `streams` of `jobs` in all.
fn caps(config: &Config, connections: usize, streams: usize, jobs: usize) -> u64 {
    let Limits { window_bytes, window_tokens, node_bytes, offers, .. } = config.limits;
    let (connections, streams, jobs) = (connections as u64, streams as u64, jobs as u64);
    // What was sent and not consumed is kept to be sent again, or waits for the application.
    let window = u64::from(window_bytes) + u64::from(window_tokens) * 64;
    connections * CONNECTION
        + streams * (UNREAD + STREAM)
        + jobs * (window + JOB)
        + node_bytes
        + u64::from(offers) * 256
}
