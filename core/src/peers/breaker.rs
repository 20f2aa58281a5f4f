//! The circuit breaker of one provider: it stops asking who does not answer, and finds out with one probe at a time
//! whether that is still so.
//!
//! It counts liveness only: accepted, and first token in time. Busy providers, cancelled jobs and the caller's own errors
//! count nothing. Time passing changes no state; every call first does what the time since the last one demands.

use crate::time::{Instant, Millis};

const BUCKETS: usize = 10;
/// The longest that a probe may be out, whatever the provider asks for.
pub(crate) const MAX_PATIENCE: Millis = Millis::from_secs(600);

/// When it opens, and for how long.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Rules {
    /// Failures in a row that open it.
    pub in_a_row: u32,
    /// Results that still count before their share of failures is looked at. Half of them open it.
    pub volume: u32,
    /// How far back results count, in ten buckets.
    pub interval: Millis,
    /// How long it stays open at the first time; at the k-th, k times as long.
    pub open: Millis,
    /// The longest that it stays open, jitter apart.
    pub open_cap: Millis,
    /// Closed and without a failure for so long, k falls by one.
    pub ease: Millis,
    /// Successful probes that close it.
    pub probes: u32,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            in_a_row: 5,
            volume: 10,
            interval: Millis::from_secs(30),
            open: Millis::from_secs(30),
            open_cap: Millis::from_secs(300),
            ease: Millis::from_secs(10),
            probes: 2,
        }
    }
}

/// A provider's circuit breaker. It starts closed.
#[derive(Clone, PartialEq, Eq, Hash, Debug, minicbor::Encode, minicbor::Decode)]
#[cbor(map, context_bound = "crate::snapshot::Clock")]
pub(crate) struct Breaker {
    #[n(0)]
    state: State,
    /// Permits of an older generation have no effect.
    #[n(1)]
    generation: u64,
    /// k: how often it opened lately.
    #[n(2)]
    opened: u32,
    /// Since when k falls: closing, or the last failure.
    #[n(3)]
    healthy_since: Option<Instant>,
    #[n(4)]
    in_a_row: u32,
    #[n(5)]
    recent: Recent,
    /// Successful probes since it opened.
    #[n(6)]
    proofs: u32,
}

/// What is known when asking: a probe has to bring its first token within `patience`; a failure keeps the breaker open for
/// up to a tenth longer, the drawn `jitter` decides how much.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Ask {
    /// Cut to [`MAX_PATIENCE`].
    pub patience: Millis,
    /// Uniformly drawn from all of `u32`.
    pub jitter: u32,
}

/// Leave to ask the provider once. To be given back with [`Breaker::success`], [`Breaker::failure`] or [`Breaker::release`].
#[derive(Clone, PartialEq, Eq, Hash, Debug, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub(crate) struct Permit {
    #[n(0)]
    generation: u64,
    #[n(1)]
    jitter: u32,
}

/// Why the provider is not asked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Blocked {
    /// Open until then.
    Open(Instant),
    /// A probe is out, until then at the latest.
    Probing(Instant),
}

/// The state as others see it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Circuit {
    /// Asked freely.
    Closed,
    /// Not asked.
    Open,
    /// Asked by one probe at a time.
    HalfOpen,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, minicbor::Encode, minicbor::Decode)]
#[cbor(map, context_bound = "crate::snapshot::Clock")]
enum State {
    #[n(0)]
    Closed,
    #[n(1)]
    Open {
        #[n(0)]
        until: Instant,
    },
    /// The probe that is out is known by its jitter.
    #[n(2)]
    HalfOpen {
        #[n(0)]
        deadline: Instant,
        #[n(1)]
        probe: Option<u32>,
    },
}

/// The generation of permits that count for nothing.
const UNCOUNTED: u64 = 0;

impl Default for Breaker {
    fn default() -> Self {
        Self {
            state: State::Closed,
            generation: UNCOUNTED + 1,
            opened: 0,
            healthy_since: None,
            in_a_row: 0,
            recent: Recent::default(),
            proofs: 0,
        }
    }
}

impl Breaker {
    /// Leave to ask the provider now. `lifted` (nobody else is left) asks an open one early, and beside a probe that is
    /// out without counting.
    ///
    /// # Errors
    /// Why not, and until when.
    pub(crate) fn acquire(&mut self, rules: &Rules, now: Instant, ask: Ask, lifted: bool) -> Result<Permit, Blocked> {
        self.expire(rules, now);
        match self.state {
            State::Closed => {}
            State::Open { until } if now < until && !lifted => return Err(Blocked::Open(until)),
            State::HalfOpen { probe: Some(_), .. } if lifted => {
                return Ok(Permit { generation: UNCOUNTED, jitter: ask.jitter });
            }
            State::HalfOpen { probe: Some(_), deadline } => return Err(Blocked::Probing(deadline)),
            State::Open { .. } | State::HalfOpen { probe: None, .. } => self.probe(now, ask),
        }
        Ok(Permit { generation: self.generation, jitter: ask.jitter })
    }

    /// The provider gave its first token in time.
    pub(crate) fn success(&mut self, rules: &Rules, now: Instant, permit: Permit) {
        self.expire(rules, now);
        if permit.generation != self.generation {
            return;
        }
        match self.state {
            State::Closed => {
                self.in_a_row = 0;
                self.recent.count(rules, now, false);
                self.trip(rules, now, permit.jitter);
            }
            State::HalfOpen { deadline, .. } => {
                self.proofs = self.proofs.saturating_add(1);
                if self.proofs >= rules.probes {
                    self.close(now);
                } else {
                    self.enter(State::HalfOpen { deadline, probe: None });
                }
            }
            _ => {}
        }
    }

    /// The provider did not answer, reset, or sent what is no answer.
    pub(crate) fn failure(&mut self, rules: &Rules, now: Instant, permit: Permit) {
        self.expire(rules, now);
        if permit.generation != self.generation {
            return;
        }
        match self.state {
            State::Closed => {
                self.opened = self.eased(rules, now);
                self.healthy_since = (self.opened > 0).then_some(now);
                self.in_a_row = self.in_a_row.saturating_add(1);
                self.recent.count(rules, now, true);
                self.trip(rules, now, permit.jitter);
            }
            State::HalfOpen { .. } => self.open(rules, now, permit.jitter),
            _ => {}
        }
    }

    /// The permit was not used, or what came of it says nothing of the provider's liveness.
    pub(crate) fn release(&mut self, rules: &Rules, now: Instant, permit: Permit) {
        self.expire(rules, now);
        if let State::HalfOpen { deadline, .. } = self.state
            && permit.generation == self.generation
        {
            self.enter(State::HalfOpen { deadline, probe: None });
        }
    }

    /// Closes it by hand: it begins without a past.
    pub(crate) fn reset(&mut self) {
        *self = Self { generation: self.generation, ..Self::default() };
        self.enter(State::Closed);
    }

    /// Whether a permit would be refused now, and why.
    #[must_use]
    pub(crate) fn blocked(&self, rules: &Rules, now: Instant) -> Option<Blocked> {
        match self.settled(rules, now).state {
            State::Open { until } if now < until => Some(Blocked::Open(until)),
            State::HalfOpen { probe: Some(_), deadline } => Some(Blocked::Probing(deadline)),
            _ => None,
        }
    }

    /// The state now.
    #[must_use]
    pub(crate) fn circuit(&self, rules: &Rules, now: Instant) -> Circuit {
        match self.settled(rules, now).state {
            State::Closed => Circuit::Closed,
            State::Open { .. } => Circuit::Open,
            State::HalfOpen { .. } => Circuit::HalfOpen,
        }
    }

    /// What the next call will find.
    fn settled(&self, rules: &Rules, now: Instant) -> Self {
        let mut settled = self.clone();
        settled.expire(rules, now);
        settled
    }

    /// A half-open breaker leaves at its deadline. A probe that is out has failed by then; if none is, nothing was learned,
    /// and the next may come at once.
    fn expire(&mut self, rules: &Rules, now: Instant) {
        let State::HalfOpen { deadline, probe } = self.state else { return };
        if deadline <= now {
            match probe {
                Some(jitter) => self.open(rules, deadline, jitter),
                None => self.enter(State::Open { until: deadline }),
            }
        }
    }

    /// k, less what it fell since the last failure.
    fn eased(&self, rules: &Rules, now: Instant) -> u32 {
        let steps = self.healthy_since.map_or(0, |since| now.since(since).0 / rules.ease.0.max(1));
        self.opened.saturating_sub(u32::try_from(steps).unwrap_or(u32::MAX))
    }

    fn probe(&mut self, now: Instant, ask: Ask) {
        let deadline = now.after(ask.patience.clamped(Millis(1), MAX_PATIENCE));
        self.enter(State::HalfOpen { deadline, probe: Some(ask.jitter) });
    }

    fn trip(&mut self, rules: &Rules, now: Instant, jitter: u32) {
        if self.in_a_row >= rules.in_a_row || self.recent.is_bad(rules) {
            self.open(rules, now, jitter);
        }
    }

    fn open(&mut self, rules: &Rules, from: Instant, jitter: u32) {
        self.opened = self.opened.saturating_add(1);
        let open = span(rules, self.opened, jitter);
        // Beyond the cap k would only be remembered longer.
        self.opened =
            self.opened.min(u32::try_from(rules.open_cap.0.div_ceil(rules.open.0.max(1))).unwrap_or(u32::MAX));
        self.healthy_since = None;
        self.proofs = 0;
        self.enter(State::Open { until: from.after(open) });
    }

    fn close(&mut self, now: Instant) {
        self.healthy_since = (self.opened > 0).then_some(now);
        self.in_a_row = 0;
        self.recent = Recent::default();
        self.proofs = 0;
        self.enter(State::Closed);
    }

    /// Every change of state, and every end of a probe, makes older permits void.
    fn enter(&mut self, state: State) {
        self.state = state;
        self.generation = self.generation.saturating_add(1);
    }
}

/// How long it stays open at the k-th time.
fn span(rules: &Rules, k: u32, jitter: u32) -> Millis {
    let base = rules.open.times(u64::from(k)).min(rules.open_cap);
    let more = (u128::from(base.0 / 10) * (u128::from(jitter) + 1)) >> 32;
    Millis(base.0.saturating_add(more as u64))
}

/// Results of the last while, in buckets that move on in whole steps.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, minicbor::Encode, minicbor::Decode)]
#[cbor(map, context_bound = "crate::snapshot::Clock")]
struct Recent {
    /// Newest first: results, and failures among them.
    #[n(0)]
    buckets: [(u32, u32); BUCKETS],
    /// When the newest bucket began.
    #[n(1)]
    since: Option<Instant>,
}

impl Recent {
    fn count(&mut self, rules: &Rules, now: Instant, failed: bool) {
        let passed = self.passed(rules, now);
        if passed >= BUCKETS {
            *self = Self { since: Some(now), ..Self::default() };
        } else {
            self.buckets.rotate_right(passed);
            self.buckets[..passed].fill((0, 0));
            self.since = self.since.map(|since| since.after(bucket(rules).times(passed as u64)));
        }
        let (results, failures) = &mut self.buckets[0];
        *results = results.saturating_add(1);
        *failures = failures.saturating_add(u32::from(failed));
    }

    /// Half of enough results are failures. Asked after counting one: nothing in here is too old then.
    fn is_bad(&self, rules: &Rules) -> bool {
        let sum = |part: fn(&(u32, u32)) -> u32| self.buckets.iter().map(|bucket| u64::from(part(bucket))).sum::<u64>();
        let (results, failures) = (sum(|bucket| bucket.0), sum(|bucket| bucket.1));
        results >= u64::from(rules.volume) && 2 * failures >= results
    }

    /// Whole buckets since the newest one began, at most all.
    fn passed(&self, rules: &Rules, now: Instant) -> usize {
        let passed = self.since.map_or(u64::MAX, |since| now.since(since).0 / bucket(rules).0);
        passed.min(BUCKETS as u64) as usize
    }
}

fn bucket(rules: &Rules) -> Millis {
    Millis((rules.interval.0 / BUCKETS as u64).max(1))
}

#[cfg(test)]
mod tests;
