//! Messages, facts and events in a few words. Prompts are not told.

use haggle_core::{
    Event, Input, JobId, PeerId, ProviderEvent,
    event::{Finished, Outcome},
    wire::{self, Deframer, Message},
};

/// What the bytes bring to an end: messages, or nothing yet.
pub(super) fn arrived(deframer: &mut Deframer, bytes: &[u8]) -> (String, Option<JobId>) {
    let (mut rest, mut told, mut job) = (bytes, Vec::new(), None);
    loop {
        match deframer.next(&mut rest) {
            Ok(Some(frame)) => {
                let (words, about) = payload(frame);
                job = job.or(about);
                told.push(words);
            }
            Ok(None) => break,
            Err(_) => {
                told.push("a frame of impossible length".into());
                break;
            }
        }
    }
    if told.is_empty() {
        told.push(format!("{} bytes of a message", bytes.len()));
    }
    (told.join(", "), job)
}

/// The whole frames that a sender put together.
pub(super) fn frames(mut bytes: &[u8]) -> Vec<(String, Option<JobId>)> {
    let mut told = Vec::new();
    while let [high, low, rest @ ..] = bytes {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        let Some(frame) = rest.get(..len) else { break };
        told.push(payload(frame));
        bytes = &rest[len..];
    }
    if !bytes.is_empty() {
        told.push((format!("{} bytes that are no frame", bytes.len()), None));
    }
    told
}

fn payload(frame: &[u8]) -> (String, Option<JobId>) {
    wire::decode(frame).map_or_else(|_| (format!("{} bytes that are no message", frame.len()), None), |m| message(&m))
}

fn message(message: &Message<'_>) -> (String, Option<JobId>) {
    let words = match message {
        Message::Body { offset, bytes } => format!("Body {offset}+{}", bytes.len()),
        Message::Chunk { seq, n, text, channel: None, .. } => format!("Chunk {seq}+{n} {text:?}"),
        Message::Chunk { seq, n, text, channel: Some(channel), .. } => format!("Chunk {seq}+{n} {channel:?} {text:?}"),
        Message::Advert(advert) => {
            let prices = advert.models.iter().map(|model| format!("{}/{}", model.price_in, model.price_out));
            format!("Advert {}", prices.collect::<Vec<_>>().join(" "))
        }
        Message::Rfq(rfq) => format!("Rfq {} bytes, {} tokens", rfq.body_bytes, rfq.max_tokens),
        Message::Offer(offer) => format!("Offer {} + {}", offer.tariff.fee_in, offer.tariff.price_out),
        Message::Counter(counter) => format!("Counter {} + {}", counter.tariff.fee_in, counter.tariff.price_out),
        Message::Award(award) => {
            let what = format!(
                "Award attempt {} epoch {}, {} tokens at {} + {}",
                award.attempt, award.epoch, award.max_tokens, award.tariff.fee_in, award.tariff.price_out
            );
            return (what, Some(award.job));
        }
        Message::Resume { job, attempt, epoch, next } => {
            return (format!("Resume attempt {attempt} epoch {epoch} at {next}"), Some(*job));
        }
        Message::Cancel { job, attempt, .. } => return (format!("Cancel attempt {attempt}"), Some(*job)),
        Message::Ack { next, end, .. } => format!("Ack {next}{}", if *end { " and the end" } else { "" }),
        Message::End(end) => format!("End {:?} after {}", end.reason, end.tokens),
        Message::Accepted(accepted) => format!("Accepted, window {}", accepted.window_tokens),
        Message::Decline(decline) => format!("Decline {:?}", decline.reason),
        other => format!("{other:?}"),
    };
    (words, None)
}

pub(super) fn input(input: &Input<'_>) -> String {
    match input {
        Input::Timeout => "that its time has come".into(),
        Input::StreamOpened(_) => "that the stream is open".into(),
        Input::StreamFailed(_, why) => format!("that the stream failed: {why:?}"),
        Input::StreamClosed(_) => "that the stream is over".into(),
        Input::Received(_, bytes) => format!("{} bytes", bytes.len()),
        Input::PeersFound(_, peers) => format!("of {} peers", peers.len()),
        Input::QueryDone(_, outcome) => format!("that the query is done: {outcome:?}"),
        Input::PeerConnected(_) => "that a peer is connected".into(),
        Input::PeerGone(_) => "that a peer is gone".into(),
    }
}

pub(super) fn event(event: &Event<'_>) -> (String, Option<JobId>, Option<PeerId>) {
    let name = event.name();
    match event {
        Event::Discovered { peer, .. } => (name.into(), None, Some(*peer)),
        Event::Asked { job, peer } => (name.into(), Some(*job), Some(*peer)),
        Event::Offered { job, quote } => (format!("{name} at most {}", quote.cost), Some(*job), Some(quote.peer)),
        Event::PassedOver { job, peer, why } => (format!("{name} {why:?}"), Some(*job), Some(*peer)),
        Event::ChoiceDue { job, quotes } => (format!("{name} {}", quotes.len()), Some(*job), None),
        Event::Awarded { job, attempt, quote, reason } => {
            (format!("{name} attempt {attempt} {reason:?}"), Some(*job), Some(quote.peer))
        }
        Event::Negotiated { job, attempt, peer, .. } => (format!("{name} attempt {attempt}"), Some(*job), Some(*peer)),
        Event::Working { job, peer, phase, .. } => (format!("{name} {phase:?}"), Some(*job), Some(*peer)),
        Event::Cut { job, attempt, peer, .. } => (format!("{name} attempt {attempt}"), Some(*job), Some(*peer)),
        Event::Resumed { job, peer, seq, .. } => (format!("{name} at {seq}"), Some(*job), Some(*peer)),
        Event::TakenOver { job, peer, seq, how, .. } => (format!("{name} at {seq} {how:?}"), Some(*job), Some(*peer)),
        Event::Tokens { job, peer, seq, n, .. } => (format!("{name} {seq}+{n}"), Some(*job), Some(*peer)),
        Event::Ended { job, ending } => {
            let outcome = match &ending.outcome {
                Outcome::Finished(Finished::Answer { tokens, .. }) => format!("finished after {tokens} tokens"),
                Outcome::Finished(_) => "finished".into(),
                Outcome::Failed(failure) => match ending.no_retry {
                    Some(why) => format!("failed: {failure:?}, given up: {why:?}"),
                    None => format!("failed: {failure:?}"),
                },
            };
            (format!("{name} {outcome}, owes {}", ending.bill.owed), Some(*job), None)
        }
        Event::Weighed { job, weighing } => (format!("{name} {:?}", weighing.step), Some(*job), None),
    }
}

pub(super) fn provider_event(event: &ProviderEvent) -> (String, Option<PeerId>) {
    match event {
        ProviderEvent::Quoted { peer, answer, .. } => (format!("quoted {answer:?}"), Some(*peer)),
        ProviderEvent::Declined { peer, reason } => (format!("declined {reason:?}"), Some(*peer)),
        ProviderEvent::Accepted { peer, attempt, .. } => (format!("accepted attempt {attempt}"), Some(*peer)),
        ProviderEvent::Released { peer, reason } => (format!("released {reason:?}"), Some(*peer)),
        ProviderEvent::Start { attempt, work } => (format!("start {attempt:?}"), Some(work.peer)),
        ProviderEvent::Room { attempt, tokens } => (format!("room {attempt:?} {tokens}"), None),
        ProviderEvent::Stop { attempt } => (format!("stop {attempt:?}"), None),
        ProviderEvent::Served { peer, reason, tokens, acked, .. } => {
            (format!("served {reason:?}, {tokens} tokens, {acked} acknowledged"), Some(*peer))
        }
    }
}
