//! The stage of a play: its streams, what came on them, what is to be sent, and the time.
//!
//! Scenarios are written as plain sequences, with `async` for the places where they wait. Nothing else is meant by it: a play
//! is one future that is polled after every input, and all that it waits for is here.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    rc::Rc,
    task::Poll,
};

use haggle_core::{
    Instant, JobId, Millis, PeerId, StreamId,
    rand::Rng,
    wire::{self, Deframer},
};

use crate::{
    diagnose::diagnose,
    verdict::{Broken, Fault, Verdict, broken, unplayed},
};

/// Frames that wait to be looked at, at most: more than any window lets out. A stream that brings more is cut.
const MAX_ARRIVALS: usize = 1 << 15;

/// What came on a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Arrival {
    /// A frame's payload, which is a message.
    Frame(Vec<u8>),
    /// Bytes that are none.
    Wrong(Broken),
    /// The stream is over.
    Over,
}

/// An order to whoever runs the play.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    Open(StreamId, PeerId),
    Transmit(StreamId, Vec<u8>),
    Close(StreamId),
    Reset(StreamId),
}

/// All that the play and its scenario share.
pub(crate) struct Table {
    pub(crate) now: Instant,
    pub(crate) orders: VecDeque<Order>,
    /// When the scenario waits no longer.
    pub(crate) wakes: Option<Instant>,
    /// Streams that are open, with the beginning of a frame.
    streams: BTreeMap<StreamId, Deframer>,
    /// Streams that another identity than the play's opens.
    strangers: Vec<StreamId>,
    arrivals: VecDeque<(StreamId, Arrival)>,
    /// Attempts that were awarded and may still run.
    pub(crate) awarded: Vec<(JobId, u32)>,
    /// The peer is not connected any more.
    pub(crate) is_gone: bool,
    /// What was found. Whoever goes on after it only takes leave.
    pub(crate) verdict: Option<Verdict>,
    rng: Rng,
    next: u64,
    peer: PeerId,
}

/// A handle to the table.
#[derive(Clone)]
pub(crate) struct Stage(Rc<RefCell<Table>>);

impl Stage {
    pub(crate) fn new(now: Instant, peer: PeerId, seed: [u8; 32]) -> Self {
        Self(Rc::new(RefCell::new(Table {
            now,
            orders: VecDeque::new(),
            wakes: None,
            streams: BTreeMap::new(),
            strangers: Vec::new(),
            arrivals: VecDeque::new(),
            awarded: Vec::new(),
            is_gone: false,
            verdict: None,
            rng: Rng::new(seed),
            next: 0,
            peer,
        })))
    }

    /// Looks at the table, or changes it. Never across a wait.
    pub(crate) fn with<T>(&self, what: impl FnOnce(&mut Table) -> T) -> T {
        what(&mut self.0.borrow_mut())
    }

    pub(crate) fn bits(&self) -> u64 {
        self.with(|table| table.rng.bits()).max(1)
    }

    pub(crate) fn job(&self) -> JobId {
        JobId(self.with(|table| table.rng.bytes()))
    }

    /// What comes next on a stream, or on any; `None` if that takes longer than `patience`.
    pub(crate) async fn arrival(&self, on: Option<StreamId>, patience: Millis) -> Option<(StreamId, Arrival)> {
        self.wait(patience, |table| {
            let at = table.arrivals.iter().position(|(stream, _)| on.is_none_or(|on| on == *stream))?;
            table.arrivals.remove(at)
        })
        .await
    }

    /// Lets time pass.
    pub(crate) async fn pause(&self, span: Millis) {
        self.wait(span, |_| None::<()>).await;
    }

    /// Waits until something is there, for a time.
    async fn wait<T>(&self, patience: Millis, mut is_there: impl FnMut(&mut Table) -> Option<T>) -> Option<T> {
        let until = self.with(|table| table.now.after(patience));
        poll_fn(|_| {
            self.with(|table| {
                let found = is_there(table);
                if found.is_some() || table.now >= until {
                    table.wakes = None;
                    return Poll::Ready(found);
                }
                table.wakes = Some(until);
                Poll::Pending
            })
        })
        .await
    }

    /// The scenario has its answer; what is open is ended.
    pub(crate) fn tell(&self, verdict: Verdict) {
        self.with(|table| {
            table.verdict.get_or_insert(verdict);
            table.end_all();
        });
    }

    pub(crate) fn open(&self, as_stranger: bool) -> StreamId {
        self.with(|table| {
            let stream = table.add();
            if as_stranger {
                table.strangers.push(stream);
            }
            table.orders.push_back(Order::Open(stream, table.peer));
            stream
        })
    }

    pub(crate) fn transmit(&self, stream: StreamId, bytes: &[u8]) {
        self.with(|table| {
            if table.streams.contains_key(&stream) {
                table.orders.push_back(Order::Transmit(stream, bytes.to_vec()));
            }
        });
    }

    pub(crate) fn end(&self, stream: StreamId, order: impl FnOnce(StreamId) -> Order) {
        self.with(|table| {
            if table.streams.remove(&stream).is_some() {
                table.orders.push_back(order(stream));
            }
        });
    }
}

impl Table {
    fn add(&mut self) -> StreamId {
        let stream = StreamId(self.next);
        self.next += 1;
        self.streams.insert(stream, Deframer::default());
        stream
    }

    /// Takes up a stream that the peer opened.
    pub(crate) fn accept(&mut self) -> StreamId {
        self.add()
    }

    pub(crate) fn is_strangers(&self, stream: StreamId) -> bool {
        self.strangers.contains(&stream)
    }

    pub(crate) fn on_received(&mut self, stream: StreamId, mut bytes: &[u8]) {
        let Some(deframer) = self.streams.get_mut(&stream) else { return };
        loop {
            let arrival = match deframer.next(&mut bytes) {
                Ok(None) => return,
                Ok(Some(payload)) => match wire::decode(payload) {
                    Ok(_) => Arrival::Frame(payload.to_vec()),
                    Err(error) => Arrival::Wrong(diagnose(payload, error)),
                },
                Err(error) => Arrival::Wrong(Broken { rule: "F2", told: error.to_string() }),
            };
            let ends = matches!(arrival, Arrival::Wrong(_)) || self.arrivals.len() >= MAX_ARRIVALS;
            self.arrivals.push_back((stream, arrival));
            if ends {
                self.streams.remove(&stream);
                self.orders.push_back(Order::Reset(stream));
                return;
            }
        }
    }

    pub(crate) fn on_closed(&mut self, stream: StreamId) {
        if self.streams.remove(&stream).is_some() {
            self.arrivals.push_back((stream, Arrival::Over));
        }
    }

    /// Ends whatever is open.
    fn end_all(&mut self) {
        for stream in std::mem::take(&mut self.streams).into_keys() {
            self.orders.push_back(Order::Reset(stream));
        }
        self.arrivals.clear();
    }
}

/// What a scenario says of a stream that brought something else than a message.
pub(crate) fn no_message(rule: &'static str, wanted: &str, arrival: Option<Arrival>) -> Fault {
    match arrival {
        Some(Arrival::Wrong(wrong)) => Fault::Broken(wrong),
        Some(Arrival::Over) => broken(rule, format!("the stream was ended instead of {wanted}")),
        Some(Arrival::Frame(_)) => unplayed("a message was taken for none"),
        None => broken(rule, format!("nothing came in time instead of {wanted}")),
    }
}
