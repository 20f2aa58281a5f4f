//! What happened in a world, event by event, for people and for comparison. Nothing is written unless it was asked for.

mod chart;
mod words;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use haggle_core::{Event, Input, JobId, ProviderEvent, StreamId, wire::Deframer};

pub use self::chart::chart;
use crate::{FaultKind, net::Role, node::node_of};

/// One thing that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// When, in virtual ms.
    pub at: u64,
    /// At which node; none for faults of the network.
    pub node: Option<u32>,
    /// Which part of it.
    pub part: &'static str,
    /// `hears`, `sends`, `tells`, `submits`, or `fault`.
    pub does: &'static str,
    /// What.
    pub what: String,
    /// Whom it is about.
    pub peer: Option<u32>,
    /// On which stream.
    pub stream: Option<u64>,
    /// For which job, as far as that is known.
    pub job: Option<JobId>,
}

/// Everything that happened, in order.
#[derive(Clone, Debug, Default)]
pub struct Log {
    entries: Vec<Entry>,
    /// Which stream a machine means, and the node at its other end.
    streams: BTreeMap<(u32, Role, StreamId), (u64, u32)>,
    deframers: BTreeMap<(u64, u32), Deframer>,
    /// Streams in the order in which they are first told of.
    numbers: BTreeMap<u64, u64>,
    /// The job that a stream is for, once it is known.
    jobs: BTreeMap<u64, JobId>,
}

impl Log {
    /// What happened, oldest first.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries = self.entries.clone();
        for entry in &mut entries {
            entry.job = entry.job.or_else(|| self.jobs.get(&entry.stream?).copied());
        }
        entries
    }

    fn push(&mut self, mut entry: Entry) {
        if let Some(stream) = &mut entry.stream {
            let next = self.numbers.len() as u64 + 1;
            *stream = *self.numbers.entry(*stream).or_insert(next);
        }
        if let (Some(stream), Some(job)) = (entry.stream, entry.job) {
            self.jobs.insert(stream, job);
        }
        self.entries.push(entry);
    }

    pub(crate) fn bound(&mut self, node: u32, role: Role, id: StreamId, stream: u64, peer: u32) {
        self.streams.insert((node, role, id), (stream, peer));
    }

    pub(crate) fn input(&mut self, at: u64, node: u32, role: Role, input: &Input<'_>) {
        let id = match input {
            Input::StreamOpened(id) | Input::StreamFailed(id, _) | Input::StreamClosed(id) => Some(*id),
            Input::Received(id, _) => Some(*id),
            _ => None,
        };
        let known = id.and_then(|id| self.streams.get(&(node, role, id)).copied());
        let (what, peer, job) = match input {
            Input::Received(_, bytes) => {
                let deframer = self.deframers.entry((known.map_or(0, |known| known.0), node)).or_default();
                let (what, job) = words::arrived(deframer, bytes);
                (what, known.map(|known| known.1), job)
            }
            Input::PeerConnected(peer) | Input::PeerGone(peer) => (words::input(input), node_of(*peer), None),
            _ => (words::input(input), known.map(|known| known.1), None),
        };
        let stream = known.map(|known| known.0);
        self.push(Entry { at, node: Some(node), part: part(role), does: "hears", what, peer, stream, job });
    }

    pub(crate) fn sent(&mut self, at: u64, node: u32, role: Role, stream: u64, peer: u32, bytes: &[u8]) {
        for (what, job) in words::frames(bytes) {
            let (peer, stream) = (Some(peer), Some(stream));
            self.push(Entry { at, node: Some(node), part: part(role), does: "sends", what, peer, stream, job });
        }
    }

    pub(crate) fn event(&mut self, at: u64, node: u32, event: &Event<'_>) {
        let (what, job, peer) = words::event(event);
        let peer = peer.and_then(node_of);
        self.push(Entry { at, node: Some(node), part: "requester", does: "tells", what, peer, stream: None, job });
    }

    pub(crate) fn provider_event(&mut self, at: u64, node: u32, event: &ProviderEvent) {
        let (what, peer) = words::provider_event(event);
        let peer = peer.and_then(node_of);
        self.push(Entry { at, node: Some(node), part: "provider", does: "tells", what, peer, stream: None, job: None });
    }

    pub(crate) fn submitted(&mut self, at: u64, node: u32, job: JobId, what: &str) {
        let (part, what, job) = ("requester", what.into(), Some(job));
        self.push(Entry { at, node: Some(node), part, does: "submits", what, peer: None, stream: None, job });
    }

    pub(crate) fn returned(&mut self, at: u64, node: u32) {
        let (node, what) = (Some(node), "after its crash, with what it had stored".into());
        self.push(Entry { at, node, part: "world", does: "returns", what, peer: None, stream: None, job: None });
    }

    pub(crate) fn fault(&mut self, at: u64, fault: FaultKind) {
        let nodes = fault.nodes();
        let (node, peer) = (nodes.first().map(|node| node.0), nodes.get(1).map(|node| node.0));
        let what = format!("{fault:?}");
        self.push(Entry { at, node, part: "world", does: "fault", what, peer, stream: None, job: None });
    }
}

/// The last so many entries that a job, or a node, can have depended on.
#[must_use]
pub fn related(entries: &[Entry], job: Option<JobId>, last: usize) -> Vec<&Entry> {
    let own = |entry: &&Entry| job.is_none() || entry.job == job;
    let nodes: BTreeSet<u32> =
        entries.iter().filter(own).flat_map(|entry| [entry.node, entry.peer]).flatten().collect();
    let touches = |entry: &&Entry| {
        let named: Vec<u32> = [entry.node, entry.peer].into_iter().flatten().collect();
        own(entry) || (entry.does == "fault" && named.iter().all(|node| nodes.contains(node)))
    };
    let mut kept: Vec<&Entry> = entries.iter().rev().filter(touches).take(last).collect();
    kept.reverse();
    kept
}

/// Where two lists part: the first index at which they differ; `None` if they are equal.
#[must_use]
pub fn diverge<T: PartialEq>(left: &[T], right: &[T]) -> Option<usize> {
    let same = left.iter().zip(right).take_while(|(left, right)| left == right).count();
    (same < left.len().max(right.len())).then_some(same)
}

impl Entry {
    /// One line of JSON.
    #[must_use]
    pub fn json(&self) -> String {
        let mut line = format!(r#"{{"at":{}"#, self.at);
        let mut number = |name: &str, value: Option<u64>| {
            if let Some(value) = value {
                line.push_str(&format!(r#","{name}":{value}"#));
            }
        };
        number("node", self.node.map(u64::from));
        number("peer", self.peer.map(u64::from));
        number("stream", self.stream);
        line.push_str(&format!(r#","part":"{}","does":"{}","what":"{}""#, self.part, self.does, escape(&self.what)));
        if let Some(job) = self.job {
            line.push_str(&format!(r#","job":"{job}""#));
        }
        line.push('}');
        line
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>9} ms", self.at)?;
        match self.node {
            Some(node) => write!(f, "  node {node} {}", self.part)?,
            None => write!(f, "  {}", self.part)?,
        }
        write!(f, " {} {}", self.does, self.what)?;
        match (self.does, self.peer) {
            ("sends", Some(peer)) => write!(f, " to {peer}")?,
            (_, Some(peer)) => write!(f, " ({peer})")?,
            _ => {}
        }
        if let Some(stream) = self.stream {
            write!(f, " #{stream}")?;
        }
        self.job.map_or(Ok(()), |job| write!(f, " {job:?}"))
    }
}

const fn part(role: Role) -> &'static str {
    match role {
        Role::Requester => "requester",
        Role::Provider => "provider",
        Role::Script => "script",
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '"' => escaped.push_str("\\\""),
            '\\' => escaped.push_str("\\\\"),
            letter if letter < ' ' => escaped.push_str(&format!("\\u{:04x}", u32::from(letter))),
            letter => escaped.push(letter),
        }
    }
    escaped
}
