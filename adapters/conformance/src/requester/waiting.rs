//! Working: what is done while no token can be told.

use haggle_core::{
    Millis,
    wire::{Message, message::Phase},
};

use super::seller::Seller;
use crate::verdict::Step;

/// Word of work, with all that it may tell.
const fn working(phase: Phase) -> Message<'static> {
    Message::Working { phase, done: Some(1), of: Some(3), eta: Some(Millis::from_secs(5)) }
}

/// Whatever is said, and however long that may take: it goes on with the first token.
pub(super) async fn works(mut seller: Seller) -> Step {
    let mut deal = seller.award().await?;
    deal.accept().await?;
    let alone = Message::Working { phase: Phase::Thinking, done: None, of: None, eta: None };
    let unbelievable =
        Message::Working { phase: Phase::Reading, done: Some(9), of: Some(0), eta: Some(Millis(u64::MAX)) };
    for message in [working(Phase::Queued), working(Phase::Loading), unbelievable, alone] {
        deal.line.say(&message);
        deal.lives("C7", "Working").await?;
    }
    deal.write(1);
    deal.acked(deal.next()).await?;
    deal.finish().await
}

pub(super) async fn before_accepted(mut seller: Seller) -> Step {
    let mut deal = seller.award().await?;
    deal.whole_body().await?;
    deal.line.say(&working(Phase::Queued));
    deal.abandoned("C1", "Working before Accepted").await
}

pub(super) async fn among_tokens(mut seller: Seller) -> Step {
    let mut deal = seller.award().await?;
    deal.accept().await?;
    deal.write(1);
    deal.acked(deal.next()).await?;
    deal.line.say(&working(Phase::Thinking));
    deal.lives("C1", "Working after the first token").await?;
    deal.write(1);
    deal.acked(deal.next()).await?;
    deal.finish().await
}

/// Some are borne, as many as there may be Keepalives.
pub(super) async fn flood(mut seller: Seller) -> Step {
    let mut deal = seller.award().await?;
    deal.accept().await?;
    (0..50).for_each(|_| deal.line.say(&working(Phase::Loading)));
    deal.lives("C2", "fifty Workings").await?;
    (0..1_000).for_each(|_| deal.line.say(&working(Phase::Loading)));
    deal.abandoned("C2", "a thousand Workings").await
}
