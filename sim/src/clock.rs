//! A node's own clock: it may be set, run fast or slow, and stand still; the world's time does not.

use haggle_core::Instant;

/// What a node's clock shows, as a function of the world's time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct NodeClock {
    /// When the clock was last changed, and what it showed.
    world: u64,
    own: u64,
    /// Millionths that it runs fast; slow, if negative.
    ppm: i32,
    /// The latest that it ever showed: machines keep that when it is set back.
    latest: u64,
}

const MILLION: u64 = 1_000_000;
/// No clock is worse than this.
const WORST: i32 = 500_000;

impl NodeClock {
    /// What a machine is told.
    pub(crate) fn read(&mut self, now: u64) -> Instant {
        let own = self.shows(now);
        self.latest = self.latest.max(own);
        Instant::from_millis(own)
    }

    /// The latest that a machine was told, or is about to be.
    pub(crate) fn latest(&self, now: u64) -> u64 {
        self.latest.max(self.shows(now))
    }

    /// What it shows.
    pub(crate) fn shows(&self, now: u64) -> u64 {
        if self.ppm == 0 {
            return self.own.saturating_add(now - self.world);
        }
        let run = u128::from(now - self.world) * u128::from(self.rate()) / u128::from(MILLION);
        self.own.saturating_add(u64::try_from(run).unwrap_or(u64::MAX))
    }

    /// The world's time when it will show `own`.
    pub(crate) fn when(&self, own: u64) -> u64 {
        let left = own.saturating_sub(self.own);
        if self.ppm == 0 {
            return self.world.saturating_add(left);
        }
        let run = (u128::from(left) * u128::from(MILLION)).div_ceil(u128::from(self.rate()));
        self.world.saturating_add(u64::try_from(run).unwrap_or(u64::MAX))
    }

    /// The world's time when a span has passed for a machine that begins to count now.
    pub(crate) fn after(&self, now: u64, span: u64) -> u64 {
        self.when(self.shows(now).max(self.latest).saturating_add(span))
    }

    /// Sets it forward if it shows less.
    pub(crate) fn begin_after(&mut self, now: u64, own: u64) {
        if self.shows(now) < own {
            (self.world, self.own) = (now, own);
        }
    }

    /// Sets it forward or back; how much later, in the world's time, a machine's deadlines come at worst.
    pub(crate) fn step(&mut self, now: u64, ms: i64) -> u64 {
        let own = self.shows(now);
        (self.world, self.own) = (now, own.saturating_add_signed(ms));
        self.when(own) - now
    }

    /// Lets it run fast or slow from now on; how much later a deadline within `span` comes at worst.
    pub(crate) fn drift(&mut self, now: u64, ppm: i32, span: u64) -> u64 {
        let own = self.shows(now);
        let before = self.rate();
        (self.world, self.own, self.ppm) = (now, own, ppm.clamp(-WORST, WORST));
        // A clock that was set back has to come to its latest first. Rates are never below a half.
        let span = u128::from(span) + u128::from(self.latest.saturating_sub(own));
        2 + (u128::from(before.saturating_sub(self.rate())) * 4 * span / u128::from(MILLION)) as u64
    }

    const fn rate(&self) -> u64 {
        MILLION.saturating_add_signed(self.ppm as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_when_it_is_said_to_be() {
        for ppm in [-500, -1, 0, 1, 500, 90_000, i32::MIN, i32::MAX] {
            let mut clock = NodeClock::default();
            clock.step(1000, 86_400_000);
            clock.drift(2000, ppm, 0);
            for own in [86_402_000, 86_402_001, 86_900_000, 99_999_999] {
                let when = clock.when(own);
                assert!(clock.shows(when) >= own && (when == 2000 || clock.shows(when - 1) < own), "{ppm} {own}");
            }
        }
    }

    #[test]
    fn a_clock_set_back_shows_less_and_its_machine_waits() {
        let mut clock = NodeClock::default();
        assert_eq!(clock.read(5000), Instant::from_millis(5000));
        assert_eq!(clock.step(5000, -3000), 3000);
        assert_eq!((clock.shows(5000), clock.after(5000, 100)), (2000, 8100));
        assert_eq!(clock.step(5000, 10_000), 0);
        assert_eq!(clock.after(5000, 100), 5100);
        assert_eq!(clock.step(5000, i64::MIN), 12_000);
    }

    #[test]
    fn how_late_a_clock_makes_its_machine_is_told_in_the_time_of_the_world() {
        let mut clock = NodeClock::default();
        clock.drift(0, -100_000, 0);
        assert_eq!(clock.read(10_000), Instant::from_millis(9000));
        // It needs 10,000 ms to show 9,000 more.
        assert_eq!(clock.step(10_000, i64::MIN), 10_000);
        let before = clock.after(10_000, 100);
        let late = clock.drift(10_000, -200_000, 100);
        assert!(clock.after(10_000, 100) <= before + late);
    }
}
