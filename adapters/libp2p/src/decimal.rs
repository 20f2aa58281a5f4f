//! Money as people write it: decimals of units, and the integers they stand for. No float is involved.

use std::fmt;

use haggle_core::money::{Amount, Price};

/// Digits behind the point of a price or an amount: the integers are millionths.
const MONEY_DIGITS: u32 = 6;

/// Why a decimal cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecimalError {
    /// No decimal.
    NotANumber,
    /// Less than nothing.
    Negative,
    /// More digits behind the point than there are.
    TooFine(u32),
    /// More than can be counted.
    TooLarge,
}

impl fmt::Display for DecimalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotANumber => f.write_str("write a decimal such as 2 or 0.35"),
            Self::Negative => f.write_str("it must not be negative"),
            Self::TooFine(digits) => write!(f, "at most {digits} digits may stand behind the point"),
            Self::TooLarge => f.write_str("it is too large"),
        }
    }
}

impl std::error::Error for DecimalError {}

/// A price in units per million tokens, as micro-units per million tokens.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_price(text: &str) -> Result<Price, DecimalError> {
    Price::try_from(parse_sum(text)?).map_err(|_| DecimalError::TooLarge)
}

/// An amount in units, as micro-units.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_amount(text: &str) -> Result<Amount, DecimalError> {
    Amount::try_from(parse_sum(text)?).map_err(|_| DecimalError::TooLarge)
}

/// A sum of amounts in units, as micro-units.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_sum(text: &str) -> Result<u128, DecimalError> {
    parse_scaled(text, MONEY_DIGITS)
}

/// A temperature, as thousandths.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_temperature(text: &str) -> Result<u32, DecimalError> {
    u32::try_from(parse_scaled(text, 3)?).map_err(|_| DecimalError::TooLarge)
}

/// Micro-units as a decimal of units, without needless digits.
pub fn decimal(micro: impl Into<u128>) -> String {
    let micro = micro.into();
    let (whole, rest) = (micro / 1_000_000, micro % 1_000_000);
    match rest {
        0 => whole.to_string(),
        rest => format!("{whole}.{rest:06}").trim_end_matches('0').to_owned(),
    }
}

fn parse_scaled(text: &str, digits: u32) -> Result<u128, DecimalError> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if text.starts_with('-') {
        return Err(DecimalError::Negative);
    }
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !is_number(whole) || !is_number(fraction) {
        return Err(DecimalError::NotANumber);
    }
    let fraction = fraction.trim_end_matches('0');
    let missing = u32::try_from(fraction.len()).ok().and_then(|used| digits.checked_sub(used));
    let missing = missing.ok_or(DecimalError::TooFine(digits))?;
    let number =
        |part: &str| if part.is_empty() { Ok(0) } else { part.parse::<u128>().map_err(|_| DecimalError::TooLarge) };
    let whole = number(whole)?.checked_mul(10_u128.pow(digits));
    let fraction = number(fraction)? * 10_u128.pow(missing);
    whole.and_then(|whole| whole.checked_add(fraction)).ok_or(DecimalError::TooLarge)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decimals_are_read_exactly_or_refused_by_kind() {
        for (text, expected) in [
            ("0", Ok(0)),
            ("2", Ok(2_000_000)),
            ("0.35", Ok(350_000)),
            (".5", Ok(500_000)),
            ("1.", Ok(1_000_000)),
            ("0.000001", Ok(1)),
            ("0.0000010", Ok(1)),
            ("007", Ok(7_000_000)),
            ("18446744073709.551615", Ok(u64::MAX)),
            ("18446744073709.551616", Err(DecimalError::TooLarge)),
            ("99999999999999999999999", Err(DecimalError::TooLarge)),
            ("0.0000001", Err(DecimalError::TooFine(6))),
            ("-1", Err(DecimalError::Negative)),
            ("", Err(DecimalError::NotANumber)),
            (".", Err(DecimalError::NotANumber)),
            ("+1", Err(DecimalError::NotANumber)),
            ("1e3", Err(DecimalError::NotANumber)),
            ("1.2.3", Err(DecimalError::NotANumber)),
            ("1,5", Err(DecimalError::NotANumber)),
            ("٣", Err(DecimalError::NotANumber)),
        ] {
            assert_eq!(parse_price(text), expected, "{text:?}");
        }
        assert_eq!(parse_temperature("0.8"), Ok(800));
        assert_eq!(parse_temperature("0.0001"), Err(DecimalError::TooFine(3)));
        assert_eq!(parse_temperature("5000000"), Err(DecimalError::TooLarge));
    }

    proptest! {
        #[test]
        fn every_amount_is_read_back_as_it_was_written(micro: u64) {
            prop_assert_eq!(parse_amount(&decimal(micro)), Ok(micro));
        }

        #[test]
        fn every_sum_is_read_back_as_it_was_written(micro: u128) {
            prop_assert_eq!(parse_sum(&decimal(micro)), Ok(micro));
        }

        #[test]
        fn what_is_read_is_the_same_number(text in "[0-9]{0,16}\\.?[0-9]{0,8}") {
            if let Ok(micro) = parse_amount(&text) {
                let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
                let padded = format!("{whole}{fraction:0<8}");
                prop_assert_eq!(padded.parse::<u128>().unwrap(), u128::from(micro) * 100);
            }
        }

        #[test]
        fn no_text_is_a_panic(text in ".*") {
            let _ = parse_amount(&text);
        }
    }
}
