use alloc::{collections::BTreeSet, vec::Vec};

use super::*;
use crate::{digest::Digester, rand::Rng};

const fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

const ASK: Ask = Ask { patience: Millis(4), jitter: 0 };

/// Small enough to be exhausted; buckets of 1 ms, so that a plain list of results says the same.
fn small() -> Rules {
    Rules {
        in_a_row: 2,
        volume: 3,
        interval: Millis(10),
        open: Millis(2),
        open_cap: Millis(4),
        ease: Millis(3),
        probes: 2,
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Op {
    Wait(u64),
    Acquire { lifted: bool },
    Success(usize),
    Failure(usize),
    Release(usize),
    Reset,
}

impl Breaker {
    /// k: how often it opened lately.
    fn level(&self, rules: &Rules, now: Instant) -> u32 {
        self.settled(rules, now).eased(rules, now)
    }
}

/// The breaker as its rules read: no laziness, no generations, a list of results instead of buckets.
#[derive(Clone, Debug)]
struct Model {
    circuit: Circuit,
    now: u64,
    until: u64,
    k: u32,
    healthy: u64,
    in_a_row: u32,
    results: Vec<(u64, bool)>,
    proofs: u32,
    probing: bool,
    /// For each permit that is out, whether it still counts.
    permits: Vec<bool>,
}

impl Model {
    fn new() -> Self {
        let results = Vec::new();
        let permits = Vec::new();
        let circuit = Circuit::Closed;
        Self { circuit, now: 0, until: 0, k: 0, healthy: 0, in_a_row: 0, results, proofs: 0, probing: false, permits }
    }

    fn enter(&mut self, circuit: Circuit) {
        self.circuit = circuit;
        self.permits.fill(false);
        self.probing = false;
    }

    fn open(&mut self, rules: &Rules) {
        self.k = (self.k + 1).min((rules.open_cap.0 / rules.open.0) as u32);
        self.until = self.now + (rules.open.0 * u64::from(self.k)).min(rules.open_cap.0);
        self.proofs = 0;
        self.enter(Circuit::Open);
    }

    fn close(&mut self) {
        self.in_a_row = 0;
        self.results.clear();
        self.proofs = 0;
        self.healthy = self.now;
        self.enter(Circuit::Closed);
    }

    fn reset(&mut self) {
        self.close();
        self.k = 0;
    }

    fn wait(&mut self, rules: &Rules) {
        self.now += 1;
        if self.circuit == Circuit::HalfOpen && self.now >= self.until {
            if self.probing {
                self.open(rules);
            } else {
                self.until = self.now;
                self.enter(Circuit::Open);
            }
        }
        if self.circuit == Circuit::Closed && self.now - self.healthy >= rules.ease.0 {
            self.k = self.k.saturating_sub(1);
            self.healthy = self.now;
        }
    }

    fn result(&mut self, rules: &Rules, permit: usize, failed: bool) {
        if !self.permits.remove(permit) {
            return;
        }
        match self.circuit {
            Circuit::Closed => {
                if failed {
                    self.healthy = self.now;
                }
                self.in_a_row = if failed { self.in_a_row + 1 } else { 0 };
                self.results.push((self.now, failed));
                let kept = self.results.iter().filter(|(when, _)| self.now - when < rules.interval.0);
                let (all, bad) = kept.fold((0, 0), |(all, bad), (_, failed)| (all + 1, bad + u32::from(*failed)));
                if self.in_a_row >= rules.in_a_row || (all >= rules.volume && 2 * bad >= all) {
                    self.open(rules);
                }
            }
            Circuit::HalfOpen if failed => self.open(rules),
            Circuit::HalfOpen => {
                self.proofs += 1;
                self.probing = false;
                if self.proofs >= rules.probes {
                    self.close();
                }
            }
            _ => {}
        }
    }

    /// Says what an acquire is answered: `None` is refused.
    fn apply(&mut self, rules: &Rules, op: Op) -> Option<bool> {
        match op {
            Op::Wait(millis) => (0..millis).for_each(|_| self.wait(rules)),
            Op::Acquire { lifted } => {
                let counts = match self.circuit {
                    Circuit::Closed => true,
                    Circuit::Open if self.now < self.until && !lifted => return None,
                    Circuit::HalfOpen if self.probing && lifted => false,
                    Circuit::HalfOpen if self.probing => return None,
                    Circuit::Open | Circuit::HalfOpen => {
                        self.enter(Circuit::HalfOpen);
                        self.probing = true;
                        self.until = self.now + ASK.patience.0;
                        true
                    }
                };
                self.permits.push(counts);
                return Some(counts);
            }
            Op::Success(permit) => self.result(rules, permit, false),
            Op::Failure(permit) => self.result(rules, permit, true),
            Op::Release(permit) => {
                if self.permits.remove(permit) {
                    self.probing = false;
                }
            }
            Op::Reset => self.reset(),
        }
        None
    }
}

#[derive(Clone, Debug)]
struct World {
    rules: Rules,
    breaker: Breaker,
    permits: Vec<Permit>,
    model: Model,
}

impl World {
    fn new(rules: Rules) -> Self {
        Self { rules, breaker: Breaker::default(), permits: Vec::new(), model: Model::new() }
    }

    fn now(&self) -> Instant {
        at(self.model.now)
    }

    fn ops(&self, most_permits: usize) -> Vec<Op> {
        let mut ops = Vec::from([Op::Wait(1), Op::Reset]);
        if self.permits.len() < most_permits {
            ops.extend([false, true].map(|lifted| Op::Acquire { lifted }));
        }
        for permit in 0..self.permits.len() {
            ops.extend([Op::Success(permit), Op::Failure(permit), Op::Release(permit)]);
        }
        ops
    }

    /// Applies an operation to both, and compares all that can be seen.
    fn apply(&mut self, op: Op) {
        let before = self.clone();
        let expected = self.model.apply(&self.rules, op);
        let (rules, now) = (&self.rules, at(self.model.now));
        let mut late = false;
        let mut take = |at: usize| {
            let permit: Permit = self.permits.remove(at);
            late = permit.generation != before.breaker.generation;
            permit
        };
        match op {
            Op::Wait(_) => {}
            Op::Acquire { lifted } => {
                let granted = self.breaker.acquire(rules, now, ASK, lifted);
                let counts = granted.as_ref().ok().map(|permit| permit.generation == self.breaker.generation);
                assert_eq!(counts, expected, "{op:?} after {before:#?}");
                self.permits.extend(granted.ok());
            }
            Op::Success(permit) => self.breaker.success(rules, now, take(permit)),
            Op::Failure(permit) => self.breaker.failure(rules, now, take(permit)),
            Op::Release(permit) => self.breaker.release(rules, now, take(permit)),
            Op::Reset => self.breaker.reset(),
        }
        if late {
            let mut settled = before.breaker.clone();
            settled.expire(rules, now);
            assert_eq!(self.breaker, settled, "a late result had an effect: {op:?} after {before:#?}");
        }
        self.compare(op, &before);
    }

    fn compare(&self, op: Op, before: &Self) {
        let (rules, now, model) = (&self.rules, self.now(), &self.model);
        let circuit = self.breaker.circuit(rules, now);
        assert_eq!(circuit, model.circuit, "{op:?} after {before:#?}");
        assert_eq!(self.breaker.level(rules, now), model.k, "{op:?} after {before:#?}");
        let blocked = match circuit {
            Circuit::Open if model.now < model.until => Some(Blocked::Open(at(model.until))),
            Circuit::HalfOpen if model.probing => Some(Blocked::Probing(at(model.until))),
            _ => None,
        };
        assert_eq!(self.breaker.blocked(rules, now), blocked, "{op:?} after {before:#?}");
        let mut settled = self.breaker.clone();
        settled.expire(rules, now);
        let counting = self.permits.iter().map(|permit| permit.generation == settled.generation);
        assert!(counting.clone().eq(model.permits.iter().copied()), "{op:?} after {before:#?}");
        if circuit == Circuit::HalfOpen {
            assert!(counting.filter(|counts| *counts).count() <= 1, "two probes: {op:?} after {before:#?}");
            assert!(now < at(model.until), "stuck half-open");
        }
        assert!(settled.generation >= before.breaker.generation);
    }

    /// Equal keys behave equally from here on: generations and times count relative to now, and what is too old not at all.
    fn key(&self) -> [u8; 32] {
        let mut breaker = self.breaker.clone();
        breaker.expire(&self.rules, self.now());
        let permits: Vec<bool> = self.permits.iter().map(|permit| permit.generation == breaker.generation).collect();
        breaker.generation = 0;
        if breaker.recent.passed(&self.rules, self.now()) == BUCKETS {
            breaker.recent = Recent::default();
        }
        if let State::Open { until } = &mut breaker.state {
            *until = (*until).max(self.now());
        }
        Digester::new(self.now()).with(&breaker).with(&permits).done()
    }
}

#[test]
fn agrees_with_its_rules_on_every_way_to_every_state() {
    let mut worlds = Vec::from([World::new(small())]);
    let mut seen = BTreeSet::from([worlds[0].key()]);
    let (mut circuits, mut ways, mut most) = (BTreeSet::new(), BTreeSet::new(), 0);
    for _depth in 0..18 {
        let mut next = Vec::new();
        for world in &worlds {
            for op in world.ops(3) {
                let mut after = world.clone();
                after.apply(op);
                let (from, to) = (world.model.circuit, after.model.circuit);
                circuits.insert(to);
                if from != to && !matches!(op, Op::Reset) {
                    ways.insert((from, to));
                }
                most = most.max(after.model.k);
                if seen.insert(after.key()) {
                    next.push(after);
                }
            }
        }
        worlds = next;
    }
    assert_eq!(circuits.len(), 3, "not every state was reached: {circuits:?}");
    let (closed, open, half_open) = (Circuit::Closed, Circuit::Open, Circuit::HalfOpen);
    let expected = [(closed, open), (open, half_open), (half_open, open), (half_open, closed)];
    assert_eq!(ways, BTreeSet::from(expected), "ways that the breaker takes by itself");
    assert_eq!(most, 2, "the cap was reached");
    assert!(seen.len() > 150_000, "{} states", seen.len());
}

#[test]
fn agrees_with_its_rules_on_long_random_ways() {
    for seed in 0..40 {
        let mut rng = Rng::new([seed; 32]);
        let mut world = World::new(small());
        for _ in 0..2000 {
            let mut ops = world.ops(4);
            // By hand less often than by itself; long waits let what is old fade.
            ops.retain(|op| !matches!(op, Op::Reset) || rng.below(40) == 0);
            ops.push(Op::Wait(rng.below(15)));
            let op = ops[rng.below(ops.len() as u64) as usize];
            world.apply(op);
            let now = world.model.now;
            world.model.results.retain(|(when, _)| now - when < world.rules.interval.0);
        }
    }
}

#[test]
fn ten_million_random_operations_never_leave_it_stuck_half_open() {
    let rules = Rules::default();
    let mut rng = Rng::new([3; 32]);
    let (mut breaker, mut now) = (Breaker::default(), Instant::ZERO);
    let mut permits: Vec<Permit> = Vec::new();
    let mut half_open: Option<Instant> = None;
    let mut visits = 0_u64;
    for _ in 0..10_000_000 {
        let draw = rng.bits();
        let (op, figure) = (draw % 16, draw >> 40);
        match op {
            0..=6 => {
                let ask = Ask { patience: Millis(figure % 60_000), jitter: draw as u32 };
                if let Ok(permit) = breaker.acquire(&rules, now, ask, draw >> 39 & 31 == 0) {
                    permits.push(permit);
                }
            }
            7..=13 if !permits.is_empty() => {
                let permit = permits.swap_remove(figure as usize % permits.len());
                match op {
                    7..=10 => breaker.failure(&rules, now, permit),
                    11 | 12 => breaker.success(&rules, now, permit),
                    _ => breaker.release(&rules, now, permit),
                }
            }
            // Dropped without a word.
            14 if permits.len() > 8 => permits.clear(),
            _ => now = now.after(Millis(figure % 20_000)),
        }
        match (breaker.circuit(&rules, now), breaker.state) {
            (Circuit::HalfOpen, State::HalfOpen { deadline, .. }) => {
                visits += u64::from(half_open != Some(deadline));
                half_open = Some(deadline);
                assert!(now < deadline && deadline <= now.after(MAX_PATIENCE), "half-open beyond its deadline");
            }
            (Circuit::HalfOpen, _) => panic!("half-open without a deadline"),
            _ => half_open = None,
        }
        debug_assert!(breaker.level(&rules, now) <= 10);
    }
    assert!(visits > 100_000, "{visits} probes only");
}

/// Drives a breaker by its real constants.
struct Driver {
    rules: Rules,
    breaker: Breaker,
    now: Instant,
}

impl Driver {
    fn new() -> Self {
        Self { rules: Rules::default(), breaker: Breaker::default(), now: at(1000) }
    }

    fn acquire(&mut self, jitter: u32) -> Result<Permit, Blocked> {
        let ask = Ask { patience: Millis::from_secs(60), jitter };
        self.breaker.acquire(&self.rules, self.now, ask, false)
    }

    fn result(&mut self, ok: bool, jitter: u32) {
        let permit = self.acquire(jitter).unwrap();
        if ok {
            self.breaker.success(&self.rules, self.now, permit);
        } else {
            self.breaker.failure(&self.rules, self.now, permit);
        }
    }

    fn wait(&mut self, millis: u64) {
        self.now = self.now.after(Millis(millis));
    }

    fn circuit(&self) -> Circuit {
        self.breaker.circuit(&self.rules, self.now)
    }

    fn open_for(&self) -> u64 {
        match self.breaker.blocked(&self.rules, self.now) {
            Some(Blocked::Open(until)) => until.since(self.now).0,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_fifth_failure_in_a_row_opens_it_for_thirty_seconds() {
    let mut one = Driver::new();
    (0..4).for_each(|_| one.result(false, 0));
    one.result(true, 0);
    (0..4).for_each(|_| one.result(false, 0));
    // 8 of 9 failed: too few results for their share to count.
    assert_eq!(one.circuit(), Circuit::Closed);
    let mut one = Driver::new();
    (0..4).for_each(|_| one.result(false, 0));
    assert_eq!(one.circuit(), Circuit::Closed);
    one.result(false, 0);
    assert_eq!((one.circuit(), one.open_for()), (Circuit::Open, 30_000));
    one.wait(29_999);
    assert_eq!(one.acquire(0), Err(Blocked::Open(at(31_000))));
    one.wait(1);
    assert!(one.acquire(0).is_ok());
    assert_eq!(one.circuit(), Circuit::HalfOpen);
}

#[test]
fn half_of_ten_within_thirty_seconds_open_it() {
    for (failures, pause, opens) in [(5, 0, true), (4, 0, false), (5, 26_999, true), (5, 30_000, false)] {
        let mut one = Driver::new();
        // Failures first, then, after the pause, what else makes ten.
        for failure in 0..failures {
            one.result(false, 0);
            if failure == 2 {
                one.result(true, 0);
            }
        }
        one.wait(pause);
        for _ in 0..9 - failures {
            assert_eq!(one.circuit(), Circuit::Closed, "{failures} failures, nine results");
            one.result(true, 0);
        }
        assert_eq!(one.circuit() == Circuit::Open, opens, "{failures} failures, {pause} ms between");
    }
}

#[test]
fn it_stays_open_longer_each_time_up_to_the_cap_with_a_tenth_of_jitter() {
    for (jitter, tenths) in [(0, 0), (u32::MAX, 1)] {
        let mut one = Driver::new();
        (0..5).for_each(|_| one.result(false, jitter));
        for k in 1..=12_u64 {
            let base = (30_000 * k).min(300_000);
            assert_eq!(one.open_for(), base + tenths * base / 10, "k = {k}");
            one.wait(base + tenths * base / 10);
            one.result(false, jitter);
        }
        assert_eq!(one.breaker.level(&one.rules, one.now), 10, "k ends where the cap is reached");
    }
    let half = span(&Rules::default(), 1, 1 << 31).0;
    assert!((31_499..=31_500).contains(&half), "{half}");
}

#[test]
fn ten_healthy_seconds_take_one_off() {
    let mut one = Driver::new();
    (0..5).for_each(|_| one.result(false, 0));
    for _ in 0..2 {
        one.wait(90_000);
        one.result(false, 0);
    }
    one.wait(90_000);
    (0..2).for_each(|_| one.result(true, 0));
    let level = |one: &Driver| one.breaker.level(&one.rules, one.now);
    assert_eq!((one.circuit(), level(&one)), (Circuit::Closed, 3));
    one.wait(9999);
    assert_eq!(level(&one), 3);
    one.wait(1);
    assert_eq!(level(&one), 2);
    one.wait(9999);
    // A failure begins the ten seconds anew.
    one.result(false, 0);
    one.wait(9999);
    assert_eq!(level(&one), 2);
    one.wait(1);
    assert_eq!(level(&one), 1);
    (0..4).for_each(|_| one.result(false, 0));
    assert_eq!(one.open_for(), 60_000);
}

#[test]
fn concurrent_callers_get_one_probe_and_two_successes_close() {
    let mut one = Driver::new();
    (0..5).for_each(|_| one.result(false, 0));
    one.wait(30_000);
    let first = one.acquire(0).unwrap();
    assert!((0..100).all(|_| one.acquire(0) == Err(Blocked::Probing(at(91_000)))));
    one.breaker.success(&one.rules, one.now, first.clone());
    assert_eq!(one.circuit(), Circuit::HalfOpen, "one success is not enough");
    one.breaker.success(&one.rules, one.now, first);
    assert_eq!(one.circuit(), Circuit::HalfOpen, "the same success does not count twice");
    one.result(true, 0);
    assert_eq!(one.circuit(), Circuit::Closed);
}

#[test]
fn a_silent_probe_fails_at_its_deadline_exactly() {
    let mut one = Driver::new();
    (0..5).for_each(|_| one.result(false, 0));
    one.wait(30_000);
    let silent = one.acquire(0).unwrap();
    one.wait(59_999);
    assert_eq!(one.circuit(), Circuit::HalfOpen);
    one.wait(1);
    assert_eq!((one.circuit(), one.open_for()), (Circuit::Open, 60_000), "k is two, from the deadline on");
    let before = one.breaker.clone();
    one.breaker.success(&one.rules, one.now, silent);
    assert_eq!(one.circuit(), Circuit::Open, "the late answer has no effect");
    assert_eq!(one.breaker.blocked(&one.rules, one.now), before.blocked(&one.rules, one.now));
}

#[test]
fn a_dropped_probe_frees_its_place_and_counts_nothing() {
    let mut one = Driver::new();
    (0..5).for_each(|_| one.result(false, 0));
    one.wait(30_000);
    let dropped = one.acquire(0).unwrap();
    one.breaker.release(&one.rules, one.now, dropped);
    assert_eq!(one.circuit(), Circuit::HalfOpen);
    one.result(true, 0);
    // Nobody asks for the second probe until the deadline: nothing is held against the provider.
    one.wait(600_000);
    assert_eq!((one.circuit(), one.breaker.level(&one.rules, one.now)), (Circuit::Open, 1));
    one.result(true, 0);
    assert_eq!(one.circuit(), Circuit::Closed, "the first success is not forgotten");
}

#[test]
fn no_probe_is_out_for_longer_than_ten_minutes() {
    for (asked, granted) in [(0, 1), (1, 1), (600_000, 600_000), (600_001, 600_000), (u64::MAX, 600_000)] {
        let mut one = Driver::new();
        (0..5).for_each(|_| one.result(false, 0));
        let ask = Ask { patience: Millis(asked), jitter: 0 };
        let _probe = one.breaker.acquire(&one.rules, one.now, ask, true).unwrap();
        assert_eq!(one.acquire(0), Err(Blocked::Probing(at(1000 + granted))), "{asked} ms");
    }
}

#[test]
fn any_moment_and_patience_is_legal() {
    let rules = Rules::default();
    for now in [Instant::ZERO, Instant::MAX] {
        for patience in [Millis::ZERO, Millis(u64::MAX)] {
            let mut breaker = Breaker::default();
            for round in 0..100 {
                let ask = Ask { patience, jitter: u32::MAX };
                if let Ok(permit) = breaker.acquire(&rules, now, ask, round % 2 == 0) {
                    breaker.failure(&rules, now, permit);
                }
                breaker.release(&rules, Instant::MAX, Permit { generation: 0, jitter: 0 });
            }
            assert!(breaker.acquire(&rules, Instant::MAX, ASK, false).is_ok(), "the end of time finds it open");
        }
    }
}
