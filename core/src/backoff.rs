//! Pauses between tries: exponential, capped, with full jitter above a floor.

use crate::{rand::Rng, time::Millis};

/// No pause is shorter: without a floor, full jitter lets a share of callers come back at once.
pub const FLOOR: Millis = Millis(100);

/// No pause is longer.
pub const CAP: Millis = Millis::from_secs(30);

/// The pause before try `n + 1` after `n` failures in a row (0 is the first): the floor plus a uniform draw up to
/// `min(cap, base · 2ⁿ)`. (AWS' "full jitter", with a floor.)
#[must_use]
pub fn pause(rng: &mut Rng, base: Millis, cap: Millis, n: u32) -> Millis {
    let ceiling = base.0.saturating_mul(1_u64.checked_shl(n).unwrap_or(u64::MAX)).min(cap.0);
    let spread = ceiling.saturating_sub(FLOOR.0);
    Millis(FLOOR.0 + rng.below(spread.saturating_add(1)))
}
