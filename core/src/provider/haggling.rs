//! What a bid is answered with. A pure function of prices, bid and round, so that it can be argued and exhausted.
//!
//! It cannot be milked: whatever is bid, and however often, no price is taken below [`Prices::reserve`] of the last round,
//! which is three quarters of the way from the posted price down to the floor, and no ask falls below that of its own round.
//! The floor itself is nobody's price. A low bid moves the ask less than one near the reserve, so that the way to a good
//! price is a good bid; and [`Bidders`] counts bids over all conversations of a peer, so that asking anew is no new game.

use alloc::collections::BTreeMap;

use crate::{
    id::{Model, PeerId},
    limits::Limits,
    money::Tariff,
    time::{Instant, Millis},
    wire::MAX_BIDS,
};

/// Bids that a peer may make for a model before each further one is refused: four conversations of two.
const BIDS: u32 = 8;
/// One more of them, as long after. An award gives all back: who bids and buys is welcome.
const BID_EVERY: Millis = Millis::from_secs(60);

/// What a bid is measured by. The floor is nowhere above the posted price, nor is what was asked last.
pub(super) struct Prices {
    pub(super) posted: Tariff,
    pub(super) floor: Tariff,
    /// What was asked last.
    pub(super) ask: Tariff,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BidAnswer {
    /// The bid is taken, or what was asked if that is less.
    Taken(Tariff),
    /// Something lower than was asked.
    Lowered(Tariff),
    /// What was asked last stands.
    TooCheap,
}

impl Prices {
    /// What is taken in a round, 0 being the first: half of the way down to the floor, then three quarters.
    pub(super) fn reserve(&self, round: u32) -> Tariff {
        let way = |posted: u64, floor: u64, ask: u64| {
            let whole = posted.saturating_sub(floor);
            let down = whole - (whole >> (round + 1).min(MAX_BIDS));
            (posted - down).min(ask)
        };
        Tariff {
            fee_in: way(self.posted.fee_in, self.floor.fee_in, self.ask.fee_in),
            price_out: way(self.posted.price_out, self.floor.price_out, self.ask.price_out),
        }
    }
}

/// The answer to the bid of a round.
pub(super) fn answer(prices: &Prices, bid: Tariff, round: u32) -> BidAnswer {
    if round >= MAX_BIDS {
        return BidAnswer::TooCheap;
    }
    let (ask, reserve) = (prices.ask, prices.reserve(round));
    if bid.fee_in >= reserve.fee_in && bid.price_out >= reserve.price_out {
        return BidAnswer::Taken(Tariff {
            fee_in: bid.fee_in.min(ask.fee_in),
            price_out: bid.price_out.min(ask.price_out),
        });
    }
    if round + 1 == MAX_BIDS {
        return BidAnswer::TooCheap;
    }
    // As far down to the reserve as the bid comes up to it.
    let met = |ask: u64, reserve: u64, bid: u64| {
        let way = u128::from(ask - reserve) * u128::from(bid.min(reserve)) / u128::from(reserve.max(1));
        ask - u64::try_from(way).unwrap_or(0)
    };
    BidAnswer::Lowered(Tariff {
        fee_in: met(ask.fee_in, reserve.fee_in, bid.fee_in),
        price_out: met(ask.price_out, reserve.price_out, bid.price_out),
    })
}

/// How often each peer has bid for a model lately.
#[derive(Clone, Hash, Debug, Default)]
pub(super) struct Bidders(BTreeMap<(PeerId, Model), Bids>);

#[derive(Clone, Hash, Debug)]
struct Bids {
    made: u32,
    /// One of those made is forgotten then.
    next: Instant,
}

impl Bidders {
    /// Counts a bid. `false`: there were too many.
    pub(super) fn bid(&mut self, now: Instant, limits: &Limits, bidder: (PeerId, Model)) -> bool {
        self.0.retain(|_, bids| {
            while bids.made > 0 && bids.next <= now {
                bids.made -= 1;
                bids.next = bids.next.after(BID_EVERY);
            }
            bids.made > 0
        });
        if self.0.len() >= limits.offers as usize && !self.0.contains_key(&bidder) {
            // Nobody is forgotten for a stranger, who might be one of many: the price that is posted stands.
            return false;
        }
        let bids = self.0.entry(bidder).or_insert(Bids { made: 0, next: now.after(BID_EVERY) });
        let may = bids.made < BIDS;
        bids.made += u32::from(may);
        may
    }

    /// A bidder that buys may bid again.
    pub(super) fn awarded(&mut self, bidder: &(PeerId, Model)) {
        self.0.remove(bidder);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prices(posted: u64, floor: u64) -> Prices {
        let tariff = |price| Tariff { fee_in: price, price_out: price };
        Prices { posted: tariff(posted), floor: tariff(floor), ask: tariff(posted) }
    }

    #[test]
    fn reserves_are_half_and_three_quarters_of_the_way_down() {
        let prices = prices(1_000, 600);
        assert_eq!([0, 1, 2].map(|round| prices.reserve(round).price_out), [800, 700, 700]);
    }

    #[test]
    fn the_floor_at_once_is_not_taken_and_a_near_bid_moves_more() {
        let prices = prices(1_000, 500);
        let lowered = |bid| match answer(&prices, Tariff { fee_in: bid, price_out: bid }, 0) {
            BidAnswer::Lowered(tariff) => tariff.price_out,
            other => panic!("{other:?}"),
        };
        assert!(lowered(500) > 750);
        assert!(lowered(1) > lowered(500) && lowered(500) > lowered(749));
        assert_eq!(lowered(0), 1_000);
        assert!(matches!(answer(&prices, Tariff { fee_in: 750, price_out: 750 }, 0), BidAnswer::Taken(_)));
        // One half of a bid does not carry the other.
        assert!(matches!(answer(&prices, Tariff { fee_in: 1_000, price_out: 749 }, 0), BidAnswer::Lowered(_)));
    }

    #[test]
    fn eight_bids_and_one_more_a_minute() {
        let (limits, bidder) = (Limits::default(), (PeerId::new(b"a").unwrap(), Model::new(b"m").unwrap()));
        let mut bidders = Bidders::default();
        let mut bid = |at| bidders.bid(Instant::from_millis(at), &limits, bidder.clone());
        assert!((0..8).all(|_| bid(0)) && !bid(0) && !bid(59_999));
        assert!(bid(60_000) && !bid(60_000));
        assert!(bid(u64::MAX));
    }

    proptest! {
        /// Whatever is bid in both rounds, asks only fall, and nothing is offered or taken below the round's reserve.
        #[test]
        fn nothing_goes_below_the_reserve(posted: u64, floor: u64, bids in proptest::array::uniform4(any::<u64>())) {
            let mut prices = prices(posted, floor.min(posted));
            for round in 0..3 {
                let bid = Tariff { fee_in: bids[round as usize % 4], price_out: bids[(round as usize + 1) % 4] };
                let reserve = prices.reserve(round);
                match answer(&prices, bid, round) {
                    BidAnswer::Taken(tariff) | BidAnswer::Lowered(tariff) => {
                        prop_assert!(tariff.fee_in <= prices.ask.fee_in && tariff.price_out <= prices.ask.price_out);
                        prop_assert!(tariff.fee_in >= reserve.fee_in && tariff.price_out >= reserve.price_out);
                        prop_assert!(round < MAX_BIDS);
                        prices.ask = tariff;
                    }
                    BidAnswer::TooCheap => prop_assert!(round + 1 >= MAX_BIDS),
                }
            }
        }
    }
}
