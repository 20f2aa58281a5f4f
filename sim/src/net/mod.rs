//! The virtual network: links, streams and the table of who serves what.

mod buffers;
mod conns;
mod latency;
mod links;
mod network;
mod partition;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use haggle_core::{PeerId, QueryId, StreamId, machine::StreamFailure, wire::Deframer};

use crate::dice::{self, Stream};

pub use self::{
    latency::{REGIONS, Spread},
    partition::Side,
};

pub(crate) use self::{
    buffers::Buffers,
    conns::Conns,
    latency::DISTANCE,
    links::{Link, Links},
    network::Network,
    partition::{Partitions, region},
};

/// How a link from one node to another behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LinkConfig {
    /// Travel time in ms, at least 1.
    pub delay: u64,
    /// Up to so many ms more, drawn for each instant of sending. Bytes of a stream never overtake each other.
    pub jitter: u64,
    /// How the jitter is spread.
    pub spread: Spread,
    /// Bytes a ms that each stream gets; 0 is any number. What is more waits.
    pub rate: u32,
    /// Mean length of the pieces that bytes arrive in; 0 is whole, 1 is byte by byte.
    pub split: u32,
    /// What a dial meets.
    pub dial: Dial,
}

/// What a dial meets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dial {
    /// An answer.
    Answers,
    /// An answer, so many ms late.
    Slow(u64),
    /// A refusal.
    Refused(StreamFailure),
    /// Nothing: the dialler gives up after [`DIAL_TIMEOUT`].
    Hangs,
}

/// When a dialler gives up, in ms.
pub const DIAL_TIMEOUT: u64 = 30_000;

impl Default for LinkConfig {
    fn default() -> Self {
        Self { delay: 10, jitter: 0, spread: Spread::Even, rate: 0, split: 0, dial: Dial::Answers }
    }
}

/// Which machine of a node has an end of a stream.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Role {
    Requester,
    Provider,
    Script,
}

/// One end of a stream.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) node: u32,
    pub(crate) role: Role,
    /// What its machine calls the stream.
    pub(crate) id: StreamId,
    pub(crate) state: EndState,
    /// Frames for a scripted end.
    pub(crate) deframer: Deframer,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum EndState {
    /// Ordered, not yet answered.
    Dialling,
    Open,
    Closed,
}

/// A stream between two nodes; end 0 dialled.
#[derive(Clone, Debug)]
pub(crate) struct Conn {
    pub(crate) ends: [End; 2],
    /// `pipes[i]` carries from end `i` to the other, over `links[i]`.
    pub(crate) pipes: [Pipe; 2],
    pub(crate) links: [u32; 2],
    pub(crate) key: u64,
    /// Sent before the stream was open.
    pub(crate) waiting: Vec<u8>,
    /// The dialler closed it before it was open: what waits still goes out.
    pub(crate) closing: bool,
    /// Cut: nothing travels any more.
    pub(crate) severed: bool,
}

/// Bytes on their way in one direction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pipe {
    /// The first of them: mostly it is the only one.
    first: Option<(u64, Item)>,
    rest: VecDeque<(u64, Item)>,
    last: u64,
    len: usize,
    /// Until when bytes leave that were sent, and how many of them in that ms, where a stream has a rate.
    busy: (u64, u64),
    /// Bytes that came out so far: the key of where they are cut.
    taken: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Item {
    Bytes(Vec<u8>),
    Closed,
}

impl Pipe {
    /// Puts bytes in for `at` or later; when they have to be pumped, if no event of that time is due already.
    pub(crate) fn put(&mut self, at: u64, bytes: Vec<u8>, spare: &mut Buffers) -> Option<u64> {
        let at = at.max(self.last);
        self.len += bytes.len();
        if let Some((last, Item::Bytes(earlier))) = self.back_mut()
            && *last == at
        {
            earlier.extend_from_slice(&bytes);
            spare.give(bytes);
            return None;
        }
        self.append(at, Item::Bytes(bytes))
    }

    /// Puts the end in behind everything else, at `at` or later.
    pub(crate) fn close(&mut self, at: u64) -> Option<u64> {
        self.append(at.max(self.last), Item::Closed)
    }

    fn append(&mut self, at: u64, item: Item) -> Option<u64> {
        let scheduled = self.back_mut().is_some_and(|(last, _)| *last == at);
        self.last = at;
        if self.first.is_none() {
            self.first = Some((at, item));
        } else {
            self.rest.push_back((at, item));
        }
        (!scheduled).then_some(at)
    }

    fn back_mut(&mut self) -> Option<&mut (u64, Item)> {
        self.rest.back_mut().or(self.first.as_mut())
    }

    /// When the next bytes leave at a rate of so many a ms, and how many of `left` leave then.
    pub(crate) fn leave(&mut self, now: u64, rate: u64, left: usize) -> (u64, usize) {
        if self.busy.0 < now {
            self.busy = (now, 0);
        } else if self.busy.1 >= rate {
            self.busy = (self.busy.0 + 1, 0);
        }
        let room = usize::try_from(rate.saturating_sub(self.busy.1)).unwrap_or(usize::MAX).max(1).min(left);
        self.busy.1 += room as u64;
        (self.busy.0, room)
    }

    /// Lets nothing out before `at`.
    pub(crate) fn hold(&mut self, at: u64) {
        self.last = self.last.max(at);
    }

    /// The next item that is due.
    pub(crate) fn take(&mut self, now: u64) -> Option<Item> {
        let (_, item) = self.first.take_if(|(at, _)| *at <= now)?;
        self.first = self.rest.pop_front();
        if let Item::Bytes(bytes) = &item {
            self.len -= bytes.len();
        }
        Some(item)
    }

    pub(crate) fn clear(&mut self) {
        self.first = None;
        self.rest.clear();
        self.len = 0;
    }

    /// Bytes on their way.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Counts bytes that come out; their place in the stream.
    pub(crate) const fn count(&mut self, bytes: usize) -> u64 {
        let start = self.taken;
        self.taken += bytes as u64;
        start
    }
}

/// A stream's first so many bytes may arrive one by one: more than an honest job's. Who floods a stream is not to make a world
/// of a million events.
const FINE: u64 = 4 * 1024;
/// The least mean length of the pieces of what comes after.
const COARSE: u64 = 512;

/// Where the bytes of a stream are cut into pieces. It depends on their place in the stream alone: how they were put
/// together before changes nothing. Each run of `mean` bytes has one cut, at a place drawn for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cuts {
    pub(crate) seed: u64,
    pub(crate) stream: Stream,
    pub(crate) key: u64,
    pub(crate) mean: u32,
}

impl Cuts {
    /// The first cut after `place`; `None` where bytes are not cut.
    pub(crate) fn after(&self, place: u64) -> Option<u64> {
        let mean = u64::from(self.mean);
        if mean == 0 {
            return None;
        }
        let mean = if place < FINE { mean } else { mean.max(COARSE) };
        let in_run =
            |run: u64| run * mean + 1 + dice::below(self.seed, self.stream, self.key.wrapping_shl(40) ^ run, mean);
        let run = place / mean;
        Some(in_run(run)).filter(|cut| *cut > place).or_else(|| Some(in_run(run + 1)))
    }
}

/// What a query for peers meets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lookup {
    /// All who serve the model, in two parts.
    Answers,
    /// Only the first so many, and a source that does not answer in time.
    Partial(u32),
    /// Nobody, though every source answered.
    Empty,
    /// No source answers in time.
    TimesOut,
    /// Nothing at all, not even an end of the query.
    Silent,
    /// There is no source to be asked.
    NoSource,
    /// So many peers that are not there, and then all who serve the model.
    Poisoned(u32),
    /// So many peers that are not there, and nobody else.
    Eclipsed(u32),
}

/// The table of who serves what, as a DHT would answer it.
#[derive(Clone, Debug)]
pub struct Dht {
    /// What queries meet.
    pub lookup: Lookup,
    /// How long a complete answer takes, in ms; the first part takes half of it. A source gives up after ten times that.
    pub delay: u64,
    /// Providers of a model that are kept, at most: those whose ids are nearest to its key.
    pub per_model: usize,
    pub(crate) records: BTreeMap<Vec<u8>, Record>,
    /// Queries whose end a requester still waits for.
    pub(crate) live: BTreeSet<(u32, QueryId)>,
    pub(crate) queries: u64,
}

/// Who serves a model.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    /// In the order in which they said so.
    pub(crate) peers: Vec<PeerId>,
    /// The same by their distance from the key.
    nearest: BTreeMap<u64, PeerId>,
}

/// As many providers as a Kademlia node keeps for a key.
const PER_MODEL: usize = 20;

impl Dht {
    pub(crate) const fn new() -> Self {
        Self {
            lookup: Lookup::Answers,
            delay: 100,
            per_model: PER_MODEL,
            records: BTreeMap::new(),
            live: BTreeSet::new(),
            queries: 0,
        }
    }

    pub(crate) fn publish(&mut self, model: &[u8], peer: PeerId) {
        let record = self.records.entry(model.to_vec()).or_default();
        let distance = distance(model, peer);
        if record.nearest.insert(distance, peer).is_some() {
            return;
        }
        record.peers.push(peer);
        if record.peers.len() > self.per_model
            && let Some((_, farthest)) = record.nearest.pop_last()
        {
            record.peers.retain(|peer| *peer != farthest);
        }
    }

    /// Its records expire everywhere.
    pub(crate) fn unpublish(&mut self, peer: PeerId) {
        for (model, record) in &mut self.records {
            if record.nearest.remove(&distance(model, peer)).is_some() {
                record.peers.retain(|known| *known != peer);
            }
        }
    }
}

/// How far a peer is from a model's key: as good as drawn, and the same for ever.
fn distance(model: &[u8], peer: PeerId) -> u64 {
    let hash = |start: u64, bytes: &[u8]| bytes.iter().fold(start, |hash, byte| dice::mix(hash ^ u64::from(*byte)));
    hash(hash(1, model), peer.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Purpose;

    #[test]
    fn bytes_never_overtake_each_other_and_leave_together() {
        let (mut pipe, mut spare) = (Pipe::default(), Buffers::default());
        assert_eq!(pipe.put(20, vec![1], &mut spare), Some(20));
        assert_eq!(pipe.put(15, vec![2], &mut spare), None);
        assert_eq!((pipe.close(30), pipe.len()), (Some(30), 2));
        assert_eq!(pipe.take(19), None);
        assert_eq!(pipe.take(20), Some(Item::Bytes(vec![1, 2])));
        assert_eq!((pipe.take(20), pipe.len()), (None, 0));
        assert_eq!(pipe.take(30), Some(Item::Closed));
    }

    #[test]
    fn a_model_has_the_providers_nearest_to_its_key() {
        let mut dht = Dht::new();
        let peers: Vec<PeerId> = (0..100).map(crate::node::peer_id).collect();
        peers.iter().chain(&peers).for_each(|peer| dht.publish(b"m", *peer));
        let kept = dht.records[&b"m"[..]].peers.clone();
        let mut nearest = peers.clone();
        nearest.sort_unstable_by_key(|peer| distance(b"m", *peer));
        assert!(kept.len() == PER_MODEL && nearest[..PER_MODEL].iter().all(|peer| kept.contains(peer)));
        dht.unpublish(kept[0]);
        assert_eq!(dht.records[&b"m"[..]].peers, kept[1..]);
    }

    #[test]
    fn a_rate_lets_so_many_bytes_out_each_ms_however_they_were_put_in() {
        let times = |sent: &[(u64, usize)]| {
            let (mut pipe, mut bytes) = (Pipe::default(), Vec::new());
            for (now, mut left) in sent.iter().copied() {
                while left > 0 {
                    let (at, some) = pipe.leave(now, 4, left);
                    bytes.extend(std::iter::repeat_n(at, some));
                    left -= some;
                }
            }
            bytes
        };
        let whole = times(&[(7, 10), (20, 3)]);
        assert_eq!(whole, [7, 7, 7, 7, 8, 8, 8, 8, 9, 9, 20, 20, 20]);
        assert_eq!(times(&[(7, 1), (7, 6), (7, 3), (20, 1), (20, 2)]), whole);
    }

    #[test]
    fn bytes_are_cut_once_in_every_run() {
        let cuts = |mean| Cuts { seed: 3, stream: Stream::new(1, 2, Purpose::Split), key: 1, mean };
        let all = |mean, until| {
            let next = |place: &u64| cuts(mean).after(*place).filter(|cut| *cut < until);
            std::iter::successors(next(&0), next).collect::<Vec<u64>>()
        };
        assert_eq!(all(1, 200), (1..200).collect::<Vec<u64>>());
        assert_eq!(all(0, 200), []);
        let places = all(8, 4001);
        assert_eq!(places.len(), 500);
        assert!(places.iter().enumerate().all(|(run, cut)| (cut - 1) / 8 == run as u64), "{places:?}");
        assert!(places.windows(2).any(|pair| pair[1] - pair[0] != 8));
        let flood = all(1, 1024 * 1024).len() as u64;
        assert!(flood < FINE + 1024 * 1024 / COARSE, "{flood} pieces");
    }
}
