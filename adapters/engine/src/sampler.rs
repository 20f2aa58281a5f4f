//! Chooses the next token. The draw is keyed by seed and position, so that it does not matter who drew before.

use std::cmp::Ordering;

use sha2::{Digest, Sha256};

use crate::Sampling;
use crate::math::exp;

/// A token and its logit, or its weight in the draw.
pub(crate) type Candidate = (u32, f32);

/// Chooses among the tokens allowed, by the logits of all. `None` if none is allowed or some logit is not finite. The
/// list of candidates is room that is used again.
pub(crate) fn choose(
    logits: &[f32],
    allowed: impl Fn(u32) -> bool,
    sampling: &Sampling,
    position: u64,
    candidates: &mut Vec<Candidate>,
) -> Option<u32> {
    if !logits.iter().all(|x| x.is_finite()) {
        return None;
    }
    let tokens = (0u32..).zip(logits.iter().copied()).filter(|&(token, _)| allowed(token));
    if sampling.temperature_milli == 0 || sampling.top_k == 1 {
        return tokens.min_by(likelier).map(|(token, _)| token);
    }
    candidates.clear();
    candidates.extend(tokens);
    let top = candidates.iter().fold(f32::MIN, |top, &(_, x)| top.max(x));
    let temperature = sampling.temperature_milli as f32 / 1000.0;
    let sorted = sampling.top_k > 0 || sampling.top_p_milli < 1000;
    if sorted {
        candidates.sort_unstable_by(likelier);
    }
    if sampling.top_k > 0 {
        candidates.truncate(sampling.top_k as usize);
    }
    candidates.iter_mut().for_each(|(_, x)| *x = exp((*x - top) / temperature));
    let mut total = total(candidates);
    if sampling.top_p_milli < 1000 {
        let enough = total * f64::from(sampling.top_p_milli) / 1000.0;
        let mut sum = 0.0;
        let needed = candidates.iter().position(|&(_, p)| {
            sum += f64::from(p);
            sum >= enough
        });
        candidates.truncate(needed.map_or(candidates.len(), |last| last + 1));
        total = self::total(candidates);
    }
    let point = draw(sampling.seed, position) * total;
    let mut sum = 0.0;
    let chosen = candidates.iter().find(|&&(_, p)| {
        sum += f64::from(p);
        sum > point
    });
    // Rounding may leave the point at the very end.
    chosen.or(candidates.last()).map(|&(token, _)| token)
}

/// The likelier token first, of equals the lower one.
fn likelier(a: &Candidate, b: &Candidate) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

fn total(candidates: &[Candidate]) -> f64 {
    candidates.iter().fold(0.0, |sum, &(_, p)| sum + f64::from(p))
}

/// Evenly distributed from 0 to below 1.
fn draw(seed: u64, position: u64) -> f64 {
    let hash = Sha256::new()
        .chain_update(b"haggle-engine/draw/1")
        .chain_update(seed.to_le_bytes())
        .chain_update(position.to_le_bytes())
        .finalize();
    let bits = hash.iter().take(8).fold(0u64, |bits, &byte| bits << 8 | u64::from(byte));
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::choose;
    use crate::Sampling;

    const LOGITS: [f32; 5] = [0.0, 2.0, 2.0, 1.0, -3.0];

    fn counts(sampling: Sampling, allowed: impl Fn(u32) -> bool) -> [u32; 5] {
        let mut counts = [0; 5];
        for position in 0..10_000 {
            counts[choose(&LOGITS, &allowed, &sampling, position, &mut Vec::new()).unwrap() as usize] += 1;
        }
        counts
    }

    /// The tokens that are ever chosen.
    fn chosen(sampling: Sampling, allowed: impl Fn(u32) -> bool) -> Vec<usize> {
        let counts = counts(sampling, allowed);
        (0..counts.len()).filter(|&token| counts[token] > 0).collect()
    }

    #[test]
    fn draws_follow_the_distribution() {
        let sampling = Sampling { temperature_milli: 1000, top_k: 0, top_p_milli: 1000, seed: 1 };
        let sum: f32 = LOGITS.iter().map(|x| x.exp()).sum();
        for (count, logit) in counts(sampling, |_| true).into_iter().zip(LOGITS) {
            let expected = 10_000.0 * logit.exp() / sum;
            assert!((count as f32 - expected).abs() < 4.0 * expected.sqrt() + 4.0, "{count} instead of {expected}");
        }
        assert_ne!(counts(sampling, |_| true), counts(Sampling { seed: 2, ..sampling }, |_| true));
    }

    #[test]
    fn limits_leave_out_the_unlikely() {
        let free = Sampling { temperature_milli: 1000, top_k: 0, top_p_milli: 1000, seed: 1 };
        assert_eq!(chosen(Sampling { top_k: 2, ..free }, |_| true), [1, 2]);
        assert_eq!(chosen(Sampling { top_p_milli: 900, ..free }, |_| true), [1, 2, 3]);
        assert_eq!(chosen(Sampling { top_p_milli: 0, ..free }, |_| true), [1]);
        assert_eq!(chosen(Sampling { temperature_milli: 0, ..free }, |_| true), [1]);
        assert_eq!(chosen(Sampling { temperature_milli: 0, ..free }, |token| token > 1), [2]);
        assert_eq!(chosen(free, |token| token == 0 || token == 4), [0, 4]);
    }

    #[test]
    fn no_number_is_no_token() {
        let sampling = Sampling::default();
        assert_eq!(choose(&[1.0, f32::NAN], |_| true, &sampling, 0, &mut Vec::new()), None);
        assert_eq!(choose(&[1.0], |_| false, &sampling, 0, &mut Vec::new()), None);
        assert_eq!(choose(&[1.0, f32::NEG_INFINITY], |_| true, &sampling, 0, &mut Vec::new()), None);
    }
}
