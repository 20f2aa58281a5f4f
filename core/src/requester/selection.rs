//! Who is asked, and who wins ("A requester's job" in `ARCHITECTURE.md`).

use alloc::vec::Vec;

use crate::{
    event::{ChoiceReason, Quote, explain::LeftOut},
    id::PeerId,
    money::{self, Amount, Price, Tariff},
    peers::table::Record,
    rand::Rng,
    spec::Criteria,
    time::Millis,
    wire::message::{Advert, ModelAdvert},
};

/// A provider whose advert fits, as the choice sees it.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) peer: PeerId,
    pub(super) preferred: bool,
    /// What the job costs at the posted price; `None` beyond `u64`.
    pub(super) posted: Option<Tariff>,
    pub(super) eta: Millis,
    pub(super) is_free: bool,
    /// Jobs that wait there already.
    pub(super) ahead: u32,
    /// Expected time to the first token.
    pub(super) wait: Millis,
    /// How little is to be expected of it: see [`Doubts`].
    pub(super) doubt: u8,
}

impl Candidate {
    pub(super) fn new(
        peer: PeerId,
        criteria: &Criteria,
        advert: &Advert,
        entry: &ModelAdvert,
        body_bytes: u64,
    ) -> Self {
        let posted = money::fee_in(entry.price_in, entry.bytes_per_token, body_bytes)
            .map(|fee_in| Tariff { fee_in, price_out: entry.price_out });
        Self {
            peer,
            preferred: criteria.prefer.contains(&peer),
            posted,
            eta: entry.eta,
            is_free: advert.free > 0,
            ahead: if advert.free > 0 { 0 } else { advert.queued.saturating_add(1) },
            wait: entry.eta,
            doubt: 0,
        }
    }

    /// The posted price as a quote; `None` if it is beyond `u64`.
    pub(super) fn quote(&self, max_tokens: u64) -> Option<Quote> {
        let tariff = self.posted?;
        Some(Quote { peer: self.peer, offer: None, tariff, cost: tariff.cost(max_tokens), eta: self.eta })
    }

    /// What the job costs at most at the posted price.
    pub(super) fn cost(&self, max_tokens: u64) -> u128 {
        self.posted.map_or(u128::MAX, |tariff| tariff.cost(max_tokens))
    }
}

/// Why a model's entry does not fit the criteria, if so.
pub(super) fn misfit(criteria: &Criteria, entry: &ModelAdvert) -> Option<LeftOut> {
    let fits = |max: Option<Price>, price| max.is_none_or(|max| price <= max);
    if !fits(criteria.max_price_in, entry.price_in) || !fits(criteria.max_price_out, entry.price_out) {
        return Some(LeftOut::Price);
    }
    if let Some(needed) = criteria.require
        && !entry.features.is_some_and(|has| has.contain(needed))
    {
        return Some(LeftOut::Capability);
    }
    (entry.context < criteria.min_context).then_some(LeftOut::Context)
}

/// Takes up to `k` candidates: preferred ones first, then those in least doubt, then those that the funds cover, each the
/// shorter wait of two drawn at random ("the power of two choices": it spreads load without a herd).
pub(super) fn choose_asked(
    rng: &mut Rng,
    mut pool: Vec<Candidate>,
    k: usize,
    max_tokens: u64,
    funds: Option<u128>,
) -> Vec<Candidate> {
    let affordable = |candidate: &Candidate| funds.is_none_or(|funds| candidate.cost(max_tokens) <= funds);
    let mut asked = Vec::new();
    while asked.len() < k && !pool.is_empty() {
        let tier = |candidate: &Candidate| (!candidate.preferred, candidate.doubt, !affordable(candidate));
        let best = pool.iter().map(tier).min();
        let mut rest: Vec<usize> = (0..pool.len()).filter(|at| Some(tier(&pool[*at])) == best).collect();
        let mut draw = || {
            let at = rng.below(rest.len() as u64) as usize;
            if rest.len() > 1 { rest.swap_remove(at) } else { rest[at] }
        };
        let (one, other) = (draw(), draw());
        let chosen = if pool[other].wait < pool[one].wait { other } else { one };
        asked.push(pool.swap_remove(chosen));
    }
    asked
}

/// Who is in doubt, because jobs were let wait by providers that had never served. A price costs nothing to say: whoever baits has
/// many names, and one price.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Doubts {
    /// This job was let wait: whoever has served goes before whoever has not.
    pub(super) was_let_wait: bool,
    /// What the last one that did so asked for a token, if that was lately: others at this price come after the other unknown.
    pub(super) bait: Option<Price>,
}

impl Doubts {
    /// How little is to be expected of a provider: the least first.
    pub(super) fn of(self, record: Record, price_out: Price) -> u8 {
        match record {
            Record::Served => 0,
            Record::Unknown if self.bait == Some(price_out) => 2,
            Record::Unknown => u8::from(self.was_let_wait),
            Record::LetWait => 3,
        }
    }
}

/// Orders quotes best first: least doubt, then least `cost + time value × expected time`, then the faster, then by lot. What is
/// expected of a provider is what was seen of it; what it says itself decides between those of whom nothing else is known.
pub(super) fn rank(
    rng: &mut Rng,
    quotes: &mut [Quote],
    time_value: Amount,
    expected: impl Fn(&Quote) -> Millis,
    doubt: impl Fn(&Quote) -> u8,
) -> ChoiceReason {
    // Shuffled first, and sorted stably: equals stay in the order of the lot.
    for at in (1..quotes.len()).rev() {
        quotes.swap(at, rng.below(at as u64 + 1) as usize);
    }
    let key = |quote: &Quote| {
        let time = expected(quote);
        (doubt(quote), (value(quote, time, time_value), time, quote.eta))
    };
    quotes.sort_by_cached_key(key);
    match quotes {
        [best, others @ ..] if others.iter().any(|other| key(other).1 < key(best).1) => ChoiceReason::Proven,
        [best, next, ..] if key(best).1.0 < key(next).1.0 => ChoiceReason::Cheapest,
        [best, next, ..] if key(best).1 < key(next).1 => ChoiceReason::Fastest,
        [_, _, ..] => ChoiceReason::Lot,
        _ => ChoiceReason::Only,
    }
}

/// What taking a quote is worth giving: its cost, and the wait at `time_value` a second.
fn value(quote: &Quote, expected: Millis, time_value: Amount) -> u128 {
    let time = (u128::from(time_value) * u128::from(expected.0)).div_ceil(1000);
    quote.cost.saturating_add(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quote(id: u8, cost: u128, eta: u64) -> Quote {
        let peer = PeerId::new(&[id]).unwrap();
        Quote { peer, offer: Some(1), tariff: Tariff::default(), cost, eta: Millis(eta) }
    }

    fn ranked(quotes: &mut [Quote], time_value: Amount) -> ChoiceReason {
        rank(&mut Rng::new([1; 32]), quotes, time_value, |quote| quote.eta, |_| 0)
    }

    #[test]
    fn the_least_cost_wins_then_speed_then_lot() {
        let mut quotes = [quote(1, 30, 10), quote(2, 20, 90), quote(3, 20, 80)];
        assert_eq!(ranked(&mut quotes, 0), ChoiceReason::Fastest);
        assert_eq!(quotes.map(|quote| quote.peer.as_bytes()[0]), [3, 2, 1]);
        assert_eq!(ranked(&mut [quote(1, 1, 1), quote(2, 2, 2)], 0), ChoiceReason::Cheapest);
        assert_eq!(ranked(&mut [quote(1, 1, 1), quote(2, 1, 1)], 0), ChoiceReason::Lot);
        assert_eq!(ranked(&mut [quote(1, 1, 1)], 0), ChoiceReason::Only);
    }

    #[test]
    fn time_has_its_price() {
        let mut quotes = [quote(1, 100, 10_000), quote(2, 150, 1_000)];
        ranked(&mut quotes, 5);
        assert_eq!(quotes[0].peer.as_bytes(), [1], "9 s at 5 a second are not worth 50");
        ranked(&mut quotes, 6);
        assert_eq!(quotes[0].peer.as_bytes(), [2], "9 s at 6 a second are");
    }

    #[test]
    fn what_was_seen_counts_more_than_what_is_said() {
        let mut quotes = [quote(1, 5, 10), quote(2, 5, 900)];
        let seen = |quote: &Quote| Millis(if quote.peer.as_bytes() == [1] { 4000 } else { 1000 });
        rank(&mut Rng::new([1; 32]), &mut quotes, 0, seen, |_| 0);
        assert_eq!(quotes[0].peer.as_bytes(), [2]);
    }

    #[test]
    fn who_brought_something_goes_before_who_only_says_so() {
        let doubts = |was_let_wait, bait| {
            let doubts = Doubts { was_let_wait, bait };
            [(Record::Served, 1), (Record::Unknown, 9), (Record::Unknown, 1), (Record::LetWait, 9)]
                .map(|(record, price)| doubts.of(record, price))
        };
        assert_eq!((doubts(false, None), doubts(false, Some(1))), ([0, 0, 0, 3], [0, 0, 2, 3]));
        assert_eq!((doubts(true, None), doubts(true, Some(1))), ([0, 1, 1, 3], [0, 1, 2, 3]));
        let ranked = |doubts: [u8; 2]| {
            let mut quotes = [quote(0, 1, 1), quote(1, 9, 9)];
            let doubt = |quote: &Quote| doubts[usize::from(quote.peer.as_bytes()[0])];
            let reason = rank(&mut Rng::new([1; 32]), &mut quotes, 0, |quote| quote.eta, doubt);
            (quotes[0].peer.as_bytes()[0], reason)
        };
        assert_eq!(ranked([0, 0]), (0, ChoiceReason::Cheapest));
        assert_eq!(ranked([3, 0]), (1, ChoiceReason::Proven), "dearer");
        assert_eq!(ranked([0, 3]), (0, ChoiceReason::Cheapest), "the cheaper one is the better one, too");
    }

    #[test]
    fn the_lot_is_fair() {
        let mut rng = Rng::new([7; 32]);
        let mut wins = 0;
        for _ in 0..1000 {
            let mut quotes = [quote(1, 5, 5), quote(2, 5, 5)];
            rank(&mut rng, &mut quotes, 0, |quote| quote.eta, |_| 0);
            wins += u32::from(quotes[0].peer.as_bytes() == [1]);
        }
        assert!((400..600).contains(&wins), "{wins} of 1000");
    }
}
