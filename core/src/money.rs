//! Money in integers: prices, amounts, what an attempt costs, and the account that bounds it.
//!
//! A price is micro-units of one named asset per 1,000,000 tokens; an amount is micro-units. Sums are `u128` inside;
//! the fee for reading and the price of what was written are each rounded up once per attempt.

/// Tokens that a price speaks of.
pub const TOKENS_PER_PRICE: u128 = 1_000_000;
/// Body sizes are rounded up to this many bytes before they are priced, so that a request for quote tells little of the prompt.
pub const BODY_QUANTUM: u64 = 256;

/// What something costs, in micro-units of the asset.
pub type Amount = u64;
/// Micro-units of the asset per 1,000,000 tokens.
pub type Price = u64;

/// The two figures that fix what an attempt costs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, minicbor::Encode, minicbor::Decode)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cbor(map)]
pub struct Tariff {
    /// Absolute amount for reading the body.
    #[n(0)]
    pub fee_in: Amount,
    /// Price of the tokens written.
    #[n(1)]
    pub price_out: Price,
}

impl Tariff {
    /// What `tokens` written tokens cost together with reading the body. Exact: it can exceed `u64`, never wrap.
    // [M1]
    #[must_use]
    pub const fn cost(&self, tokens: u64) -> u128 {
        let out = per_price(self.price_out as u128 * tokens as u128);
        self.fee_in as u128 + out
    }

    /// What is owed for an attempt: nothing before its first accepted token.
    // [M3]
    #[must_use]
    pub const fn owed(&self, tokens: u64) -> u128 {
        if tokens == 0 { 0 } else { self.cost(tokens) }
    }
}

/// The size under which a body is quoted and priced.
// [M2]
#[must_use]
pub const fn quoted_size(body_bytes: u64) -> u64 {
    body_bytes.div_ceil(BODY_QUANTUM).saturating_mul(BODY_QUANTUM)
}

/// The fee for reading a body: its quoted size, counted at `bytes_per_token`, at `price_in`.
/// `None` if it exceeds `u64`: no such offer can be made.
// [M2]
#[must_use]
pub fn fee_in(price_in: Price, bytes_per_token: u32, body_bytes: u64) -> Option<Amount> {
    let tokens = quoted_size(body_bytes).div_ceil(u64::from(bytes_per_token.max(1)));
    u64::try_from(per_price(u128::from(price_in) * u128::from(tokens))).ok()
}

/// A budget with what is owed from it and what is reserved in it: `owed + reserved ≤ limit` at every instant,
/// unless the limit was lowered since: what stands then stays, and nothing new is reserved.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Account {
    limit: Option<u128>,
    owed: u128,
    reserved: u128,
}

impl Account {
    /// An account that can spend `limit`; `None` spends without a limit of its own.
    #[must_use]
    pub const fn new(limit: Option<Amount>) -> Self {
        Self { limit: widen(limit), owed: 0, reserved: 0 }
    }

    /// Changes the limit. What is owed and reserved already stays; under it nothing new is reserved.
    pub fn set_limit(&mut self, limit: Option<Amount>) {
        self.limit = widen(limit);
    }

    /// What can still be reserved; `None` is without limit.
    #[must_use]
    pub fn remaining(&self) -> Option<u128> {
        self.limit.map(|limit| limit.saturating_sub(self.owed).saturating_sub(self.reserved))
    }

    /// Owed by closed and open attempts so far.
    #[must_use]
    pub const fn owed(&self) -> u128 {
        self.owed
    }

    /// Reserved for open attempts, beyond what they are owed.
    #[must_use]
    pub const fn reserved(&self) -> u128 {
        self.reserved
    }

    /// Sets `amount` aside; `false`, and nothing changes, if there is no room.
    // [M4]
    #[must_use]
    pub fn reserve(&mut self, amount: u128) -> bool {
        let fits = self.remaining().is_none_or(|room| amount <= room);
        if fits {
            self.reserved = self.reserved.saturating_add(amount);
        }
        fits
    }

    /// Closes a reservation: of `reserved`, `owed` is owed for good and the rest is free again.
    pub fn settle(&mut self, reserved: u128, owed: u128) {
        self.reserved = self.reserved.saturating_sub(reserved);
        self.owed = self.owed.saturating_add(owed.min(reserved));
    }
}

/// Sets `amount` aside in both accounts; `false`, and nothing changes in either, if there is no room in one.
#[must_use]
pub(crate) fn reserve_in_both(one: &mut Account, other: &mut Account, amount: u128) -> bool {
    let fits = one.reserve(amount);
    if fits && !other.reserve(amount) {
        one.settle(amount, 0);
        return false;
    }
    fits
}

/// Rounded up. Asked for every token: what fits into 64 bits divides far faster there.
const fn per_price(micros: u128) -> u128 {
    if micros <= u64::MAX as u128 {
        (micros as u64).div_ceil(TOKENS_PER_PRICE as u64) as u128
    } else {
        micros.div_ceil(TOKENS_PER_PRICE)
    }
}

const fn widen(limit: Option<Amount>) -> Option<u128> {
    match limit {
        Some(limit) => Some(limit as u128),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rounds_up_once() {
        let tariff = Tariff { fee_in: 1, price_out: 1 };
        assert_eq!(tariff.cost(1), 2);
        assert_eq!(tariff.cost(1_000_000), 2);
        assert_eq!(tariff.cost(1_000_001), 3);
        assert_eq!(tariff.owed(0), 0);
    }

    #[test]
    fn edges_do_not_wrap() {
        let tariff = Tariff { fee_in: u64::MAX, price_out: u64::MAX };
        let cost = tariff.cost(u64::MAX);
        assert!(cost > u128::from(u64::MAX));
        assert_eq!(fee_in(u64::MAX, 1, u64::MAX), None);
        assert_eq!(fee_in(0, 0, u64::MAX), Some(0));
        let mut account = Account::new(Some(u64::MAX));
        assert!(!account.reserve(cost));
        assert!(account.reserve(u128::from(u64::MAX)));
        assert!(!account.reserve(1));
    }

    #[test]
    fn what_fits_into_one_of_two_accounts_is_set_aside_in_none() {
        let (mut small, mut large) = (Account::new(Some(10)), Account::new(Some(20)));
        assert!(!reserve_in_both(&mut small, &mut large, 15));
        assert!(!reserve_in_both(&mut large, &mut small, 15));
        assert_eq!((small.reserved(), large.reserved()), (0, 0));
        assert!(reserve_in_both(&mut large, &mut small, 10));
        assert_eq!((small.reserved(), large.reserved()), (10, 10));
    }

    proptest! {
        #[test]
        fn an_account_never_exceeds_its_limit(limit: u64, steps in proptest::collection::vec((any::<u64>(), any::<u64>()), 0..40)) {
            let mut account = Account::new(Some(limit));
            let mut open = alloc::vec::Vec::new();
            for (amount, used) in steps {
                if account.reserve(u128::from(amount)) {
                    open.push(amount);
                } else if let Some(reserved) = open.pop() {
                    account.settle(u128::from(reserved), u128::from(used));
                }
                prop_assert!(account.owed() + account.reserved() <= u128::from(limit));
            }
        }
    }
}
