//! The virtual network: links, streams and the table of who serves what.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use haggle_core::{PeerId, QueryId, StreamId, machine::StreamFailure, wire::Deframer};

use crate::dice::{self, Stream};

/// How a link from one node to another behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkConfig {
    /// Travel time in ms, at least 1.
    pub delay: u64,
    /// Up to so many ms more, drawn for each instant of sending. Bytes of a stream never overtake each other.
    pub jitter: u64,
    /// Mean length of the pieces that bytes arrive in; 0 is whole, 1 is byte by byte.
    pub split: u32,
    /// What a dial meets.
    pub dial: Dial,
}

/// What a dial meets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
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
        Self { delay: 10, jitter: 0, split: 0, dial: Dial::Answers }
    }
}

/// A link that was used or changed.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) config: LinkConfig,
    pub(crate) stalled_until: u64,
    /// Bytes that still arrive before all streams are cut.
    pub(crate) cut_in: Option<u64>,
    /// Bytes that have arrived.
    pub(crate) arrived: u64,
    /// Streams opened over it so far: the key of their draws.
    pub(crate) opened: u64,
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
    /// `pipes[i]` carries from end `i` to the other.
    pub(crate) pipes: [Pipe; 2],
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
    items: VecDeque<(u64, Item)>,
    last: u64,
    /// Bytes that came out so far: the key of where they are cut.
    taken: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Item {
    Bytes(Vec<u8>),
    Closed,
}

impl Pipe {
    /// Puts an item in for `at` or later; when it has to be pumped, if no event of that time is due already.
    pub(crate) fn put(&mut self, at: u64, item: Item) -> Option<u64> {
        let at = at.max(self.last);
        let scheduled = self.items.back().is_some_and(|(last, _)| *last == at);
        self.last = at;
        if let (Item::Bytes(bytes), Some((last, Item::Bytes(earlier)))) = (&item, self.items.back_mut())
            && *last == at
        {
            earlier.extend_from_slice(bytes);
            return None;
        }
        self.items.push_back((at, item));
        (!scheduled).then_some(at)
    }

    /// Lets nothing out before `at`.
    pub(crate) fn hold(&mut self, at: u64) {
        self.last = self.last.max(at);
    }

    /// The next item that is due.
    pub(crate) fn take(&mut self, now: u64) -> Option<Item> {
        if self.items.front()?.0 > now {
            return None;
        }
        self.items.pop_front().map(|(_, item)| item)
    }

    pub(crate) fn clear(&mut self) {
        self.items.clear();
    }

    /// Bytes on their way.
    pub(crate) fn len(&self) -> usize {
        self.items.iter().map(|(_, item)| if let Item::Bytes(bytes) = item { bytes.len() } else { 0 }).sum()
    }

    /// Cuts bytes that arrive together into pieces. Where depends on the bytes' place in the stream alone.
    pub(crate) fn split(&mut self, bytes: &[u8], seed: u64, stream: Stream, key: u64, mean: u32) -> Vec<usize> {
        let start = self.taken;
        self.taken += bytes.len() as u64;
        if mean == 0 {
            return vec![bytes.len()];
        }
        let cut = |offset: &u64| dice::below(seed, stream, key.wrapping_shl(40) ^ *offset, u64::from(mean)) == 0;
        let mut cuts: Vec<usize> =
            (start + 1..self.taken).filter(cut).map(|offset| (offset - start) as usize).collect();
        cuts.push(bytes.len());
        cuts
    }
}

/// What a query for peers meets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
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
}

/// The table of who serves what, as a DHT would answer it.
#[derive(Clone, Debug)]
pub struct Dht {
    /// What queries meet.
    pub lookup: Lookup,
    /// How long a complete answer takes, in ms; the first part takes half of it. A source gives up after ten times that.
    pub delay: u64,
    pub(crate) records: BTreeMap<Vec<u8>, Vec<PeerId>>,
    /// Queries whose end a requester still waits for.
    pub(crate) live: BTreeSet<(u32, QueryId)>,
    pub(crate) queries: u64,
}

impl Dht {
    pub(crate) const fn new() -> Self {
        Self { lookup: Lookup::Answers, delay: 100, records: BTreeMap::new(), live: BTreeSet::new(), queries: 0 }
    }

    pub(crate) fn publish(&mut self, model: &[u8], peer: PeerId) {
        let peers = self.records.entry(model.to_vec()).or_default();
        if !peers.contains(&peer) {
            peers.push(peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Purpose;

    #[test]
    fn bytes_never_overtake_each_other_and_leave_together() {
        let mut pipe = Pipe::default();
        assert_eq!(pipe.put(20, Item::Bytes(vec![1])), Some(20));
        assert_eq!(pipe.put(15, Item::Bytes(vec![2])), None);
        assert_eq!(pipe.put(30, Item::Closed), Some(30));
        assert_eq!(pipe.take(19), None);
        assert_eq!(pipe.take(20), Some(Item::Bytes(vec![1, 2])));
        assert_eq!(pipe.take(20), None);
        assert_eq!(pipe.take(30), Some(Item::Closed));
    }

    #[test]
    fn where_bytes_are_cut_depends_on_their_place_alone() {
        let stream = Stream::new(1, 2, Purpose::Split);
        let bytes = [0_u8; 200];
        let whole: Vec<u64> =
            Pipe::default().split(&bytes, 3, stream, 1, 8).into_iter().map(|cut| cut as u64).collect();
        let mut pipe = Pipe::default();
        let mut parts: Vec<u64> = pipe.split(&bytes[..90], 3, stream, 1, 8).into_iter().map(|cut| cut as u64).collect();
        parts.extend(pipe.split(&bytes[90..], 3, stream, 1, 8).into_iter().map(|cut| cut as u64 + 90));
        parts.retain(|cut| *cut != 90 || whole.contains(cut));
        assert_eq!(parts, whole);
        assert_eq!(Pipe::default().split(&bytes, 3, stream, 1, 1).len(), 200);
    }
}
