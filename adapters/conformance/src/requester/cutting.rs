//! Streams that are cut: the requester comes again, at the exact token.

use haggle_core::{
    Millis,
    wire::{
        Message,
        message::{Accepted, Channel, GoneReason},
    },
};

use super::seller::{Deal, Seller};
use crate::{
    line::Line,
    verdict::{Step, demand},
};

/// A cut is noticed at once, and the first answer to it needs no pause.
const AGAIN: Millis = Millis::from_secs(30);

async fn begun(seller: &mut Seller) -> Step<Deal> {
    let mut deal = seller.award().await?;
    deal.accept().await?;
    deal.write(2);
    deal.acked(deal.next()).await?;
    Ok(deal)
}

/// Hears the Resume that is due after a cut: of this attempt, with a higher epoch, at the token that comes next.
async fn resume(seller: &Seller, deal: &Deal, before: u32) -> Step<(Line, u32)> {
    let (line, frame) = seller.first("R1", "Resume on another stream", AGAIN).await?;
    let Message::Resume { job, attempt, epoch, next } = frame.message() else {
        return Err(frame.instead_of("R1", "Resume on another stream"));
    };
    let named = (job, attempt) == (deal.award.job, deal.award.attempt);
    demand("R1", named, || "a Resume of another attempt".into())?;
    demand("R4", epoch > before, || format!("epoch {epoch} after {before}"))?;
    demand("R1", next == deal.next(), || format!("a Resume at {next}; the first token not taken is {}", deal.next()))?;
    Ok((line, epoch))
}

pub(super) async fn cut(mut seller: Seller) -> Step {
    let mut deal = begun(&mut seller).await?;
    let mut epoch = deal.award.epoch;
    for _ in 0..2 {
        deal.cut();
        let (line, newer) = resume(&seller, &deal, epoch).await?;
        epoch = newer;
        deal.moved(line);
        deal.line.say(&Message::Resumed { next: deal.next() });
        deal.write(2);
        deal.acked(deal.next()).await?;
    }
    deal.finish().await
}

/// What was written, and not acknowledged, when the stream was cut at its End.
pub(super) async fn cut_at_the_end(mut seller: Seller) -> Step {
    let mut deal = begun(&mut seller).await?;
    deal.cut();
    let (line, _) = resume(&seller, &deal, deal.award.epoch).await?;
    deal.moved(line);
    deal.line.say(&Message::Resumed { next: deal.next() });
    deal.finish().await
}

/// The channel goes on where it was; the hash says so.
pub(super) async fn among_thoughts(mut seller: Seller) -> Step {
    let mut deal = seller.award().await?;
    deal.accept().await?;
    deal.tell(" hm", Some(Channel::Thought));
    deal.acked(deal.next()).await?;
    deal.cut();
    let (line, _) = resume(&seller, &deal, deal.award.epoch).await?;
    deal.moved(line);
    deal.line.say(&Message::Resumed { next: deal.next() });
    deal.tell(" so", Some(Channel::Thought));
    deal.write(1);
    deal.finish().await
}

pub(super) async fn resumed_elsewhere(mut seller: Seller) -> Step {
    let mut deal = begun(&mut seller).await?;
    deal.cut();
    let (line, _) = resume(&seller, &deal, deal.award.epoch).await?;
    deal.moved(line);
    deal.line.say(&Message::Resumed { next: deal.next() - 1 });
    deal.abandoned("R1", "Resumed at another token").await
}

/// Whoever is told that there is nothing does not ask again.
pub(super) async fn gone(mut seller: Seller) -> Step {
    let deal = begun(&mut seller).await?;
    deal.cut();
    let (line, _) = resume(&seller, &deal, deal.award.epoch).await?;
    line.say(&Message::Gone(GoneReason::Unknown));
    line.close();
    while let Ok((line, frame)) = seller.first("R5", "nothing", Millis::from_secs(5)).await {
        let again = matches!(frame.message(), Message::Resume { job, attempt, .. }
            if (job, attempt) == (deal.award.job, deal.award.attempt));
        demand("R5", !again, || "a Resume of what is gone".into())?;
        line.close();
    }
    Ok(())
}

/// Hears the Award again: the same but for its epoch.
async fn award_again(seller: &mut Seller, deal: &Deal) -> Step<Deal> {
    let again = seller.award_within(AGAIN).await?;
    let again = again.ok_or_else(|| crate::verdict::broken("R3", "the Award is not sent again after a cut"))?;
    let same = haggle_core::wire::message::Award { epoch: deal.award.epoch, ..again.award.clone() };
    demand("R3", same == deal.award, || "the Award that is sent again has another content".into())?;
    demand("R4", again.award.epoch > deal.award.epoch, || format!("epoch {} again", again.award.epoch))?;
    Ok(again)
}

pub(super) async fn before_the_first_token(mut seller: Seller) -> Step {
    let mut deal = seller.award().await?;
    deal.accept().await?;
    deal.cut();
    let mut again = award_again(&mut seller, &deal).await?;
    again.accept().await?;
    again.write(2);
    again.finish().await
}

/// The body is there already: no more of it comes than came unasked.
pub(super) async fn body_is_there(mut seller: Seller) -> Step {
    let mut deal = seller.award().await?;
    deal.accept().await?;
    deal.cut();
    let mut again = award_again(&mut seller, &deal).await?;
    again.unasked_body().await?;
    again.line.say(&Message::Accepted(Accepted { body_credit: 0, ..again.accepted() }));
    again.write(2);
    again.acked(again.next()).await?;
    again.finish().await
}
