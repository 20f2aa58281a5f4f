//! What goes wrong in a random world.

use haggle_core::{machine::StreamFailure, wire::message::EndReason};

use super::{CALM_AT, Cast};
use crate::{
    Fault, FaultKind, Lookup, NodeId, REGIONS, Side, Spread, Trouble,
    dice::{Draws, Purpose, Stream},
    net::Dial,
};

/// A random subset of fault kinds, a few faults of each.
pub(super) fn faults(seed: u64, cast: &Cast, jobs: u64) -> Vec<Fault> {
    let Cast { providers, requesters, hostile, .. } = cast;
    let nodes: Vec<NodeId> = providers.iter().chain(requesters).chain(hostile).copied().collect();
    let mut draws = Draws::new(seed, Stream::new(0, 0, Purpose::Fault));
    let kinds: Vec<u64> = (0..26).filter(|_| draws.chance(1, 4)).collect();
    let mut faults = Vec::new();
    for kind in kinds {
        for _ in 0..=draws.below(3) {
            let a = requesters[draws.below(requesters.len() as u64) as usize];
            let b = nodes[draws.below(nodes.len() as u64) as usize];
            let provider = providers[draws.below(providers.len() as u64) as usize];
            let what = match kind {
                0 => FaultKind::Cut(a, b),
                1 => FaultKind::HalfCut(if draws.chance(1, 2) { a } else { b }, a),
                2 => FaultKind::Stall(a, b, draws.below(90_000)),
                3 => FaultKind::Dial(a, b, dial(&mut draws)),
                4 => FaultKind::Delay(a, b, 1 + draws.below(3000), draws.below(1000)),
                5 => FaultKind::Split(a, b, 1 + draws.below(5) as u32),
                6 => FaultKind::Kill(b, draws.chance(2, 3).then(|| draws.below(5000))),
                7 => FaultKind::Restart(b),
                8 => FaultKind::Engine(provider, Some((draws.below(30), trouble(&mut draws)))),
                9 => FaultKind::Lookup(lookup(&mut draws)),
                10 => FaultKind::Price(provider, draws.below(500_000), draws.below(2_000_000)),
                11 => FaultKind::Drain(provider, draws.below(60_000)),
                12 => FaultKind::OneWay(b, a, draws.below(90_000)),
                13 => FaultKind::Flap(a, b, draws.below(5000), 1 + draws.below(10) as u32),
                14 => FaultKind::Partition(side(b, &mut draws), draws.below(90_000)),
                15 => FaultKind::Spread(a, b, spread(&mut draws)),
                16 => FaultKind::Bandwidth(a, b, 20 + draws.below(200) as u32),
                17 => FaultKind::Sleep(b, draws.below(90_000)),
                18 => FaultKind::ClockStep(b, draws.below(172_800_000).cast_signed() - 86_400_000),
                19 => FaultKind::ClockDrift(b, draws.below(1001) as i32 - 500),
                20 => FaultKind::Slow(provider, 2 + draws.below(60) as u32),
                21 => FaultKind::Unpublish(provider),
                22 => FaultKind::Sleep(a, draws.below(28_800_000)),
                23 => FaultKind::ShutDown(provider),
                24 => FaultKind::Ban(a, if b == a { provider } else { b }),
                _ => FaultKind::Cancel(draws.below(jobs) as usize),
            };
            faults.push(Fault { at: draws.below(CALM_AT), what });
        }
    }
    faults
}

/// Processes that die and come back with what they had stored, in some worlds.
pub(super) fn crashes(seed: u64, cast: &Cast) -> Vec<Fault> {
    let mut draws = Draws::new(seed, Stream::new(0, 0, Purpose::Crash));
    let mut faults = Vec::new();
    for nodes in [&cast.requesters, &cast.providers] {
        let crashes = if draws.chance(1, 4) { 1 + draws.below(3) } else { 0 };
        for _ in 0..crashes {
            let node = nodes[draws.below(nodes.len() as u64) as usize];
            let longest = [20, 1000, 20_000][draws.below(3) as usize];
            let what = FaultKind::Crash(node, 1 + draws.below(longest));
            faults.push(Fault { at: draws.below(CALM_AT), what });
        }
    }
    faults
}

fn dial(draws: &mut Draws) -> Dial {
    match draws.below(4) {
        0 => Dial::Refused(StreamFailure::Unreachable),
        1 => Dial::Refused([StreamFailure::Refused, StreamFailure::Unsupported][draws.below(2) as usize]),
        2 => Dial::Slow(draws.below(20_000)),
        _ => Dial::Hangs,
    }
}

fn trouble(draws: &mut Draws) -> Trouble {
    match draws.below(4) {
        0 => Trouble::Fail(EndReason::Engine),
        1 => Trouble::Panic,
        2 => Trouble::Pause(draws.below(100_000)),
        _ => Trouble::Hang,
    }
}

fn lookup(draws: &mut Draws) -> Lookup {
    let nobodies = 1 + draws.below(30) as u32;
    [
        Lookup::Partial(1),
        Lookup::Empty,
        Lookup::TimesOut,
        Lookup::Silent,
        Lookup::NoSource,
        Lookup::Poisoned(nobodies),
        Lookup::Eclipsed(nobodies),
    ][draws.below(7) as usize]
}

pub(super) fn spread(draws: &mut Draws) -> Spread {
    [Spread::Even, Spread::Exponential, Spread::HeavyTail, Spread::Bimodal, Spread::Bursts][draws.below(5) as usize]
}

fn side(node: NodeId, draws: &mut Draws) -> Side {
    let (region, half) = (draws.below(u64::from(REGIONS)) as u8, draws.below(256) as u8);
    [Side::Node(node), Side::Region(region), Side::Half(half)][draws.below(3) as usize]
}
