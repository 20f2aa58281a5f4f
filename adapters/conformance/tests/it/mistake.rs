//! One planted mistake: what a second implementer gets wrong, between one of our machines and the wire.

use std::collections::BTreeMap;

use haggle_core::{
    Limits, StreamId,
    wire::{self, Message},
};

/// A mistake between one of our machines and the wire: what it hears instead of what was said, and what it says instead.
#[derive(Clone, Copy)]
pub(crate) struct Mistake {
    pub(crate) name: &'static str,
    /// The rule that it breaks.
    pub(crate) rule: &'static str,
    /// The payload that came; those that the machine is given.
    pub(crate) hears: fn(&mut Notes, StreamId, &[u8]) -> Vec<Vec<u8>>,
    /// The payload that the machine sends; those that go out.
    pub(crate) says: fn(&mut Notes, StreamId, &[u8]) -> Vec<Vec<u8>>,
    /// Bytes as they came, before they are cut into frames.
    pub(crate) takes: fn(&mut Notes, StreamId, &[u8]) -> Vec<u8>,
    /// Jobs that the provider computes at once.
    pub(crate) slots: u32,
    /// Whether a stream that the machine ends is left open.
    pub(crate) stays: bool,
    /// Whether every peer is taken for the same.
    pub(crate) knows_no_peers: bool,
    /// Whether its engine reads of a request what it likes.
    pub(crate) takes_any_request: bool,
    /// Bounds that are others than the protocol's.
    pub(crate) limits: fn(&mut Limits),
}

impl Mistake {
    pub(crate) const NONE: Self = Self {
        name: "none",
        rule: "",
        hears: |_, _, payload| vec![payload.to_vec()],
        says: |_, _, payload| vec![payload.to_vec()],
        takes: |_, _, bytes| bytes.to_vec(),
        slots: 1,
        stays: false,
        knows_no_peers: false,
        takes_any_request: false,
        limits: |_| {},
    };
}

/// What a mistake remembers.
#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) count: u64,
    pub(crate) kept: BTreeMap<StreamId, Vec<u8>>,
}

/// Whole frames of what comes in pieces.
#[derive(Default)]
pub(crate) struct Frames(BTreeMap<StreamId, Vec<u8>>);

impl Frames {
    /// What the machine is given of bytes that came.
    pub(crate) fn hear(&mut self, mistake: Mistake, notes: &mut Notes, stream: StreamId, bytes: &[u8]) -> Vec<u8> {
        let bytes = (mistake.takes)(notes, stream, bytes);
        let partial = self.0.entry(stream).or_default();
        partial.extend_from_slice(&bytes);
        let mut said = Vec::new();
        while let [high, low, rest @ ..] = &partial[..] {
            let len = usize::from(u16::from_be_bytes([*high, *low]));
            if !(1..=16_384).contains(&len) {
                said.append(partial);
                break;
            }
            if rest.len() < len {
                break;
            }
            let frame: Vec<u8> = partial.drain(..2 + len).collect();
            let heard = (mistake.hears)(notes, stream, &frame[2..]);
            said.extend(heard.into_iter().flat_map(|payload| framed(&payload)));
        }
        said
    }
}

/// The payloads of whole frames.
pub(crate) fn payloads(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    while let [high, low, rest @ ..] = bytes {
        let (payload, rest) = rest.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        payloads.push(payload.to_vec());
        bytes = rest;
    }
    payloads
}

pub(crate) fn framed(payload: &[u8]) -> Vec<u8> {
    [&u16::try_from(payload.len()).unwrap().to_be_bytes()[..], payload].concat()
}

/// A payload whose message was changed.
pub(crate) fn edit(payload: &[u8], change: impl FnOnce(&mut Message<'_>)) -> Vec<Vec<u8>> {
    let mut edited = Vec::new();
    if let Ok(mut message) = wire::decode(payload) {
        change(&mut message);
        wire::encode(&message, &mut edited);
        return vec![edited];
    }
    vec![payload.to_vec()]
}

/// The message of a payload; what is none is taken for a Keepalive.
pub(crate) fn read(payload: &[u8]) -> Message<'_> {
    wire::decode(payload).unwrap_or(Message::Keepalive)
}
