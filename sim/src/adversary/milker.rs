//! A requester that only bids, to learn how low its provider goes.

use std::sync::{Arc, Mutex, PoisonError};

use haggle_core::{
    money::{Price, Tariff},
    wire::{
        Message,
        message::{Counter, Decline, Rfq},
    },
};

use crate::{
    NodeId,
    node::name,
    script::{Heard, Script, Talk},
};

/// What came of a [`milker`]'s bids.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Milked {
    /// Bids made.
    pub bids: u32,
    /// The lowest price for a token that was offered for them.
    pub lowest: Price,
}

/// A requester that makes `count` bids, two a conversation, in the order of `bids` and then from the start; it never buys.
pub fn milker(
    target: NodeId,
    model: &str,
    bids: &[Price],
    count: u32,
    milked: &Arc<Mutex<Milked>>,
) -> impl Script + use<> {
    let (model, bids, milked) = (name(model), bids.to_vec(), Arc::clone(milked));
    let mut round = 0;
    move |talk: &mut Talk<'_>, heard: Heard<'_>| match heard {
        Heard::Start | Heard::Woken => talk.open(target),
        Heard::Opened => {
            round = 0;
            talk.send(&Message::Rfq(Rfq { rfq: 7, model: model.clone(), body_bytes: 256, max_tokens: 10 }));
        }
        Heard::Message(Message::Offer(offer) | Message::Decline(Decline { offer: Some(offer), .. })) => {
            let mut milked = milked.lock().unwrap_or_else(PoisonError::into_inner);
            milked.lowest = milked.lowest.min(offer.tariff.price_out);
            if milked.bids == count {
                talk.close();
            } else if round == 2 {
                talk.close();
                talk.wake(100);
            } else {
                let price_out = bids[milked.bids as usize % bids.len()];
                (round, milked.bids) = (round + 1, milked.bids + 1);
                let tariff = Tariff { fee_in: offer.tariff.fee_in, price_out };
                talk.send(&Message::Counter(Counter { rfq: 7, offer: offer.offer, tariff }));
            }
        }
        _ => {}
    }
}
