//! Nodes that do nothing but pass 16 bytes on, over links of 1 to 10 ms: what the engine itself costs.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::{Draws, Heard, LinkConfig, NodeId, Purpose, Script, Stream, Talk, World, dice::mix};

/// Bytes of a message.
pub const BYTES: usize = 16;
/// To how many others each node passes messages on.
const NEIGHBOURS: u64 = 2;

/// Time, number, node and message.
type Bare = (u64, u64, u32, [u8; BYTES]);

/// The least that an event loop can do: a heap, a draw for the delay, a draw for the next node. Returns the messages
/// that arrived.
#[must_use]
pub fn bare(nodes: u32, messages: u64, seed: u64) -> u64 {
    let mut heap: BinaryHeap<Reverse<Bare>> = BinaryHeap::new();
    let mut heard = vec![0_u64; nodes as usize];
    let (mut seq, mut random) = (0, seed);
    let mut draw = |bound: u64| {
        random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        ((u128::from(mix(random)) * u128::from(bound)) >> 64) as u64
    };
    for node in 0..nodes {
        seq += 1;
        heap.push(Reverse((draw(10), seq, node, [node as u8; BYTES])));
    }
    for _ in 0..messages {
        let Some(Reverse((at, _, node, bytes))) = heap.pop() else { break };
        heard[node as usize] += u64::from(bytes[0]) + 1;
        seq += 1;
        let to = (u64::from(node) + 1 + draw(NEIGHBOURS)) % u64::from(nodes);
        heap.push(Reverse((at + 1 + draw(10), seq, to as u32, bytes)));
    }
    std::hint::black_box(&heard);
    messages
}

/// The same in a [`World`]: streams, links with jitter, the trace, every kind of fault at hand.
#[must_use]
pub fn world(nodes: u32, seed: u64) -> World {
    let mut world = World::new(seed);
    world.config.max_events = u64::MAX;
    world.config.default_link = LinkConfig { delay: 1, jitter: 9, ..LinkConfig::default() };
    for node in 0..nodes {
        let mut draws = Draws::new(seed, Stream::new(node, node, Purpose::Shape));
        let neighbours = (1..=NEIGHBOURS).map(|ahead| NodeId(((u64::from(node) + ahead) % u64::from(nodes)) as u32));
        world.add_script(
            &[],
            Pass { neighbours: neighbours.collect(), streams: Vec::new(), key: draws.below(u64::MAX), heard: 0 },
        );
    }
    // Every stream is open, and every node has a message on its way.
    world.run_until(100);
    world
}

/// Passes so many messages; returns how many.
pub fn pass(world: &mut World, messages: u64) -> u64 {
    let from = world.events();
    let before = world.arrived_in_all();
    while world.events() - from < messages && world.step() {}
    // Two that travel a stream together arrive together.
    (world.arrived_in_all() - before) / BYTES as u64
}

#[derive(Clone)]
struct Pass {
    neighbours: Vec<NodeId>,
    streams: Vec<u64>,
    key: u64,
    heard: u64,
}

impl Script for Pass {
    fn hear(&mut self, talk: &mut Talk<'_>, heard: Heard<'_>) {
        match heard {
            Heard::Start => self.neighbours.iter().for_each(|neighbour| talk.open(*neighbour)),
            Heard::Opened => {
                if self.streams.is_empty() {
                    talk.send_on(talk.stream(), &[0; BYTES]);
                }
                self.streams.push(talk.stream());
            }
            Heard::Bytes(bytes) => {
                for message in bytes.chunks(BYTES) {
                    self.heard += 1;
                    let random = mix(self.key ^ self.heard);
                    let next = (u128::from(random) * self.streams.len() as u128) >> 64;
                    if let Some(stream) = self.streams.get(next as usize) {
                        talk.send_on(*stream, message);
                    }
                }
            }
            _ => {}
        }
    }

    fn fork(&self) -> Box<dyn Script> {
        Box::new(self.clone())
    }

    fn reads_bytes(&self) -> bool {
        true
    }
}
