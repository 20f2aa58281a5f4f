//! How long things travel: distributions by tables, in whole numbers, so that every machine draws alike.

/// How the jitter of a link is spread.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spread {
    /// Evenly, up to the jitter.
    #[default]
    Even,
    /// Exponentially, around the jitter; six times as long in one of 400.
    Exponential,
    /// Mostly far below the jitter, but fifty times as long in one of 1,000.
    HeavyTail,
    /// Hardly any in nine of ten, one to two times the jitter in the tenth.
    Bimodal,
    /// Evenly, but equal for all that is sent within a tenth of a second.
    Bursts,
}

/// −ln(1 − u) for u = 0, 1/64 … 1, in 1/256; the end stands for u = 0.9966.
const EXPONENTIAL: [u32; 65] = [
    0, 4, 8, 12, 17, 21, 25, 30, 34, 39, 43, 48, 53, 58, 63, 68, 74, 79, 85, 90, 96, 102, 108, 114, 120, 127, 133, 140,
    147, 155, 162, 170, 177, 186, 194, 203, 212, 221, 231, 241, 251, 262, 273, 285, 298, 311, 325, 339, 355, 371, 389,
    408, 429, 451, 475, 502, 532, 567, 606, 653, 710, 783, 887, 1065, 1420,
];

/// ((1 − u)^(−2/3) − 1) / 2, a Pareto tail, likewise; the end stands for u = 0.999.
const HEAVY_TAIL: [u32; 65] = [
    0, 1, 3, 4, 6, 7, 9, 10, 12, 14, 15, 17, 19, 21, 23, 25, 27, 29, 32, 34, 36, 39, 41, 44, 47, 50, 53, 56, 60, 63,
    67, 71, 75, 80, 84, 89, 94, 100, 105, 112, 118, 125, 133, 141, 150, 160, 170, 182, 195, 209, 225, 242, 263, 286,
    313, 345, 384, 432, 492, 572, 685, 857, 1162, 1920, 12876,
];

impl Spread {
    /// The instant that keys the draw.
    pub(crate) const fn key(self, now: u64) -> u64 {
        match self {
            Self::Bursts => now / 100,
            _ => now,
        }
    }

    /// How much longer than its delay something travels, by 64 drawn bits.
    pub(crate) fn stretch(self, jitter: u64, draw: u64) -> u64 {
        let scaled = |thing: u64, bits: u64| ((u128::from(thing) * u128::from(bits)) >> 64) as u64;
        match self {
            Self::Even | Self::Bursts => scaled(jitter.saturating_add(1), draw),
            Self::Exponential => by_table(&EXPONENTIAL, jitter, draw),
            Self::HeavyTail => by_table(&HEAVY_TAIL, jitter, draw),
            Self::Bimodal if scaled(10, draw) == 0 => jitter.saturating_add(scaled(jitter, draw.wrapping_mul(10))),
            Self::Bimodal => scaled(jitter / 8 + 1, draw.wrapping_mul(10)),
        }
    }
}

/// A quantile between two entries of a table, in units of `scale`.
fn by_table(table: &[u32; 65], scale: u64, draw: u64) -> u64 {
    let (index, part) = ((draw >> 58) as usize, u64::from((draw >> 26) as u32));
    let (low, high) = (u64::from(table[index]), u64::from(table[index + 1]));
    let quantile = (low << 32) + (high - low) * part;
    ((u128::from(scale) * u128::from(quantile)) >> 40).try_into().unwrap_or(u64::MAX)
}

/// Regions of the earth.
pub const REGIONS: u8 = 8;

/// Ms on the way from one region to another: North America west and east, South America, Europe, Africa, India, East
/// Asia, Oceania. Round figures of public measurements between data centres, one way.
pub(crate) const DISTANCE: [[u64; REGIONS as usize]; REGIONS as usize] = [
    [3, 31, 88, 70, 140, 110, 55, 70],
    [31, 3, 58, 40, 110, 95, 80, 100],
    [88, 58, 5, 95, 165, 150, 130, 155],
    [70, 40, 95, 4, 75, 60, 110, 135],
    [140, 110, 165, 75, 8, 100, 150, 160],
    [110, 95, 150, 60, 100, 6, 60, 75],
    [55, 80, 130, 110, 150, 60, 5, 60],
    [70, 100, 155, 135, 160, 75, 60, 5],
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::mix;

    fn drawn(spread: Spread) -> Vec<u64> {
        let mut all: Vec<u64> = (0..10_000).map(|nth| spread.stretch(100, mix(mix(nth)))).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn distributions_have_the_shape_they_are_named_for() {
        let figures = |spread| {
            let all = drawn(spread);
            (all.iter().sum::<u64>() / 10_000, all[5000], all[9900], all[9999])
        };
        let (mean, median, p99, most) = figures(Spread::Even);
        assert!((49..52).contains(&mean) && (48..53).contains(&median) && p99 < 101 && most == 100);
        let (mean, median, p99, most) = figures(Spread::Exponential);
        assert!((95..106).contains(&mean) && (66..73).contains(&median) && (400..520).contains(&p99) && most <= 555);
        let (mean, median, p99, most) = figures(Spread::HeavyTail);
        assert!(
            mean > 2 * median && (27..32).contains(&median) && p99 > 800 && most > 4000,
            "{mean} {median} {p99} {most}"
        );
        let (_, median, p99, most) = figures(Spread::Bimodal);
        assert!(median <= 13 && p99 > 150 && most < 200);
        assert_eq!(drawn(Spread::Bursts), drawn(Spread::Even));
        assert_eq!((Spread::Bursts.key(199), Spread::Bursts.key(200)), (1, 2));
    }

    #[test]
    fn no_draw_overflows() {
        for spread in [Spread::Even, Spread::Exponential, Spread::HeavyTail, Spread::Bimodal, Spread::Bursts] {
            for draw in [0, 1, u64::MAX / 2, u64::MAX] {
                assert_eq!(spread.stretch(0, draw), 0);
                let _any = spread.stretch(u64::MAX, draw);
            }
        }
    }

    #[test]
    fn the_way_back_is_as_long() {
        for (a, row) in DISTANCE.iter().enumerate() {
            assert!((0..8).all(|b| row[b] == DISTANCE[b][a] && row[a] <= row[b]), "region {a}");
        }
    }
}
