//! Money as JSON has it: numbers of units.

use haggle::decimal::decimal;
use serde_json::Value;

/// Micro-units as a number of units. What has no more than fifteen digits, which is all that is ever owed here, is exact.
pub(crate) fn units(micro: impl Into<u128>) -> Value {
    let text = decimal(micro);
    text.parse::<f64>().ok().and_then(serde_json::Number::from_f64).map_or(Value::String(text), Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_micro_unit_is_not_lost() {
        assert_eq!(units(12_u64).to_string(), "0.000012");
        assert_eq!(units(u64::from(u32::MAX)).to_string(), "4294.967295");
        assert_eq!(units(2_000_000_u64).to_string(), "2.0");
    }
}
