//! Keyed randomness: a draw is a pure function of seed, stream and counter. There is no shared generator whose sequence
//! an added or removed fault could shift.

/// What a draw is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Purpose {
    /// The seed of a machine.
    Machine,
    /// How much longer than the link's delay bytes travel.
    Jitter,
    /// Where bytes are cut.
    Split,
    /// What a seed's world looks like.
    Shape,
    /// What a seed's jobs ask for.
    Job,
    /// Which faults a seed meets.
    Fault,
    /// Which attempts of an engine meet its trouble.
    Engine,
    /// Where on the earth a node is, and on which side of a partition.
    Place,
    /// Who is named by a source of peers that lies.
    Lookup,
    /// When a seed's world is healed.
    Heal,
    /// How a seed's nodes are set, beyond what their shape says.
    Knob,
    /// Which crashes a seed meets.
    Crash,
    /// A world that shows one law.
    Law,
    /// Whether a node stores its state though nothing asks for it.
    Disk,
    /// What jobs need beyond text, and which engines can do it.
    Features,
}

/// A source of draws: from whom, to whom, what for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Stream {
    /// From which node.
    pub src: u32,
    /// To which node.
    pub dst: u32,
    /// What for.
    pub purpose: Purpose,
}

impl Stream {
    /// The stream of draws from `src` to `dst` for `purpose`.
    #[must_use]
    pub const fn new(src: u32, dst: u32, purpose: Purpose) -> Self {
        Self { src, dst, purpose }
    }
}

/// The draw number `counter` of a stream: 64 bits.
#[must_use]
pub const fn rand(seed: u64, stream: Stream, counter: u64) -> u64 {
    let pair = ((stream.src as u64) << 32) | stream.dst as u64;
    let keyed = mix(seed ^ mix(pair ^ mix(stream.purpose as u64 ^ 0x9e37_79b9_7f4a_7c15)));
    mix(keyed ^ mix(counter.wrapping_add(0xd1b5_4a32_d192_ed03)))
}

/// A draw from `0..bound`; 0 if `bound` is 0.
#[must_use]
pub const fn below(seed: u64, stream: Stream, counter: u64, bound: u64) -> u64 {
    ((rand(seed, stream, counter) as u128 * bound as u128) >> 64) as u64
}

/// Consecutive draws of one stream, for code that makes one thing out of many draws.
#[derive(Clone, Debug)]
pub struct Draws {
    seed: u64,
    stream: Stream,
    counter: u64,
}

impl Draws {
    /// The stream's draws from the first.
    #[must_use]
    pub const fn new(seed: u64, stream: Stream) -> Self {
        Self { seed, stream, counter: 0 }
    }

    /// The next draw from `0..bound`.
    pub const fn below(&mut self, bound: u64) -> u64 {
        self.counter += 1;
        below(self.seed, self.stream, self.counter, bound)
    }

    /// True `n` times in `of`.
    pub const fn chance(&mut self, n: u64, of: u64) -> bool {
        self.below(of) < n
    }
}

/// A bijection that spreads every input bit over all output bits (the finaliser of splitmix64).
pub(crate) const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_of_one_stream_say_nothing_of_another() {
        let a = Stream::new(1, 2, Purpose::Jitter);
        let others = [Stream::new(2, 1, Purpose::Jitter), Stream::new(1, 2, Purpose::Split)];
        for other in others {
            assert!((0..64).all(|counter| rand(7, a, counter) != rand(7, other, counter)));
        }
        assert_ne!(rand(7, a, 0), rand(8, a, 0));
    }

    #[test]
    fn a_draw_stays_below_its_bound_and_reaches_it() {
        let stream = Stream::new(0, 0, Purpose::Shape);
        let draws: Vec<u64> = (0..1000).map(|counter| below(1, stream, counter, 10)).collect();
        assert!((0..10).all(|value| draws.contains(&value)) && draws.iter().all(|draw| *draw < 10));
        assert_eq!(below(1, stream, 0, 0), 0);
    }
}
