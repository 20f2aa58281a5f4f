//! After a cut: at the exact token, once, and for the peer that awarded it.

use haggle_core::wire::{
    Message,
    message::{Award, DeclineReason, GoneReason},
};

use super::buyer::{Answer, Buyer, PROMPT, accepted, say_award, say_body};
use crate::{
    line::Line,
    run::Run,
    verdict::{Step, demand},
};

const LONG: u64 = 64;

/// Where every chunk began, and at the end; then it goes on to its End.
pub(super) async fn at_each_chunk(buyer: Buyer) -> Step {
    let mut answer = buyer.answer(16, 4).await?;
    answer.until_full().await?;
    let mut places: Vec<u64> = answer.run.chunks.iter().map(|chunk| chunk.seq).collect();
    places.push(answer.run.next());
    let first = places[0];
    for next in places {
        answer.resume(&buyer, next).await?;
        answer.until_full().await?;
        // Tokens that are new give the resumes back.
        if next == first {
            answer.ack(answer.run.chunks[0].seq + answer.run.chunks[0].n);
            answer.until_full().await?;
            answer.resume(&buyer, answer.run.next()).await?;
        }
    }
    answer.ack(answer.run.next());
    answer.read_to_end().await?;
    answer.finish();
    Ok(())
}

pub(super) async fn after_end(buyer: Buyer) -> Step {
    let mut answer = buyer.answer(8, 1_024).await?;
    answer.read_to_end().await?;
    answer.resume(&buyer, 0).await?;
    answer.read_to_end().await?;
    answer.resume(&buyer, answer.run.next()).await?;
    answer.read_to_end().await?;
    answer.finish();
    Ok(())
}

pub(super) async fn acknowledged(buyer: Buyer) -> Step {
    let mut answer = buyer.answer(LONG, 4).await?;
    answer.until_full().await?;
    let next = answer.run.next();
    answer.ack(next);
    answer.until(next + 1).await?;
    answer.line.cut();
    let line = buyer.line();
    line.say(&answer.resume_message(0));
    line.gone("R2", GoneReason::Evicted).await
}

pub(super) async fn old_epoch(buyer: Buyer) -> Step {
    let mut answer = buyer.answer(LONG, 4).await?;
    answer.until_full().await?;
    let next = answer.run.next();
    answer.resume(&buyer, next).await?;
    for epoch in [1, 2] {
        let line = buyer.line();
        line.say(&Message::Resume { job: answer.award.job, attempt: 1, epoch, next });
        line.gone("R4", GoneReason::Stale).await?;
    }
    // The one that has it keeps it.
    answer.ack(next);
    answer.until(next + 1).await
}

pub(super) async fn two_streams(buyer: Buyer) -> Step {
    let mut answer = buyer.answer(LONG, 4).await?;
    answer.until_full().await?;
    let older = answer.line.clone();
    answer.reattach(&buyer, answer.run.next()).await?;
    older.over("R4", "a Resume with a higher epoch", |message| matches!(message, Message::Keepalive)).await
}

pub(super) async fn of_nothing(buyer: Buyer) -> Step {
    let line = buyer.line();
    line.say(&Message::Resume { job: buyer.stage.job(), attempt: 1, epoch: 1, next: 0 });
    line.gone("R5", GoneReason::Unknown).await
}

pub(super) async fn by_a_stranger(buyer: Buyer) -> Step {
    let mut answer = buyer.answer(LONG, 4).await?;
    answer.until_full().await?;
    let stranger = Line::open_as_stranger(&buyer.stage);
    stranger.say(&answer.resume_message(0));
    stranger.gone("R5", GoneReason::Unknown).await?;
    answer.ack(answer.run.next());
    answer.until(5).await
}

pub(super) async fn five(buyer: Buyer) -> Step {
    let mut answer = buyer.answer(LONG, 4).await?;
    answer.until_full().await?;
    for _ in 0..5 {
        answer.resume(&buyer, 0).await?;
    }
    answer.until_full().await
}

/// The whole body once more, unasked: it is there, or asked for again.
pub(super) async fn award_again(buyer: Buyer) -> Step {
    let mut answer = buyer.answer(16, 4).await?;
    answer.until_full().await?;
    answer.line.cut();
    let line = buyer.line();
    let award = Award { epoch: 2, ..answer.award.clone() };
    say_award(&line, &award);
    say_body(&line, PROMPT, 0, PROMPT.len());
    let granted = accepted(&line, &award, true).await?;
    demand("R3", granted.body_credit == 0, || "the body is asked for again, though it was there".into())?;
    answer.run.rewind(0);
    let mut answer = Answer::resumed(line, award, answer.run);
    answer.until_full().await?;
    answer.ack(answer.run.next());
    answer.read_to_end().await?;
    answer.finish();
    Ok(())
}

pub(super) async fn award_again_before_the_body(buyer: Buyer) -> Step {
    let (line, award) = (buyer.line(), buyer.award(PROMPT, 8));
    say_award(&line, &award);
    say_body(&line, PROMPT, 0, 8);
    accepted(&line, &award, false).await?;
    line.cut();
    let again = Award { epoch: 2, ..award };
    let line = buyer.line();
    say_award(&line, &again);
    say_body(&line, PROMPT, 0, PROMPT.len());
    let granted = accepted(&line, &again, true).await?;
    demand("R3", granted.body_credit >= again.body_bytes, || "half of the body is said to be all of it".into())?;
    let run = Run::new(0, b"", again.max_tokens, (granted.window_tokens, granted.window_bytes));
    let mut answer = Answer::resumed(line, again, run);
    answer.read_to_end().await?;
    answer.finish();
    Ok(())
}

pub(super) async fn award_again_old_epoch(buyer: Buyer) -> Step {
    let mut answer = buyer.answer(LONG, 4).await?;
    answer.until_full().await?;
    let line = buyer.line();
    say_award(&line, &answer.award);
    say_body(&line, PROMPT, 0, PROMPT.len());
    line.decline("R4", DeclineReason::Conflict).await?;
    line.lives("A7", "Decline {Conflict}, whose body came unasked").await?;
    // The one that has it keeps it.
    answer.ack(answer.run.next());
    answer.until(5).await
}
