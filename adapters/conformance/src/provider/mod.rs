//! Scenarios that ask a provider: the kit is the requester.

mod asking;
mod awarding;
mod body;
mod buyer;
mod cancelling;
mod framing;
mod requests;
mod resuming;
mod streaming;

use std::future::Future;

use self::buyer::{Buyer, cancel_all};
use crate::{
    scenario::{Playing, Scenario, Scene},
    verdict::Step,
};

/// What a provider is asked, simple things first. The last two take some ten seconds each.
pub static PROVIDER: &[Scenario] = &[
    Scenario::new("describe", &["C4", "B1"], "It describes itself, as often as it is asked", |scene| {
        with(scene, framing::describe)
    }),
    Scenario::new("bytes-one-by-one", &["F3"], "Frames come byte by byte", |scene| {
        with(scene, framing::bytes_one_by_one)
    }),
    Scenario::new("frames-in-one-packet", &["F3"], "Three frames and a half come at once", |scene| {
        with(scene, framing::frames_in_one_packet)
    }),
    Scenario::new("empty-frame", &["F2"], "A frame of no bytes", |scene| with(scene, framing::empty_frame)),
    Scenario::new("frame-too-long", &["F2"], "A length of 16,385 bytes, and nothing after it", |scene| {
        with(scene, framing::frame_too_long)
    }),
    Scenario::new("number-in-a-long-form", &["E1"], "Numbers take the shortest head", |scene| {
        with(scene, framing::long_number)
    }),
    Scenario::new("indefinite-lengths", &["E1"], "Lists and maps say how long they are", |scene| {
        with(scene, framing::indefinite)
    }),
    Scenario::new("keys-out-of-order", &["E2"], "Keys rise, each once", |scene| with(scene, framing::keys)),
    Scenario::new("null-for-absent", &["E1"], "What is absent is left out, never null", |scene| {
        with(scene, framing::null)
    }),
    Scenario::new("unknown-fields-and-kinds", &["E3"], "What is not known is refused, not skipped", |scene| {
        with(scene, framing::unknown)
    }),
    Scenario::new("reserved-field", &["E3"], "Field 20 is reserved for a signature", |scene| {
        with(scene, framing::reserved)
    }),
    Scenario::new("trailing-bytes", &["E4"], "A payload is one message", |scene| with(scene, framing::trailing)),
    Scenario::new("deep-nesting", &["E4"], "Lists within lists, 4,000 deep", |scene| with(scene, framing::deep)),
    Scenario::new("announced-size", &["E5"], "Four gigabytes of a name are announced", |scene| {
        with(scene, framing::announced)
    }),
    Scenario::new("bounds-of-an-rfq", &["B2"], "A size that is no multiple of 256, and no tokens", |scene| {
        with(scene, asking::bounds)
    }),
    Scenario::new("offer", &["N4", "N6"], "A request for quote is answered with an offer", |scene| {
        with(scene, asking::offer)
    }),
    Scenario::new("unknown-model", &["N6"], "A model that is not served", |scene| with(scene, asking::unknown_model)),
    Scenario::new("beyond-the-context", &["N6"], "More tokens than the model's context", |scene| {
        with(scene, asking::beyond_the_context)
    }),
    Scenario::new("release", &["C5"], "Release is answered with nothing", |scene| with(scene, asking::release)),
    Scenario::new("counter", &["N4"], "Bids never raise a price", |scene| with(scene, asking::counter)),
    Scenario::new("third-counter", &["N3"], "The third bid gets what was asked last, and that binds", |scene| {
        with(scene, asking::third_counter)
    }),
    Scenario::new("countered-offer", &["N3"], "An offer that was bid on binds no longer", |scene| {
        with(scene, asking::countered_offer)
    }),
    Scenario::new("unknown-offer", &["N5"], "A bid on an offer, and an award of one, that nobody made", |scene| {
        with(scene, asking::unknown_offer)
    }),
    Scenario::new("strangers-offer", &["N5"], "An offer that was made to another peer", |scene| {
        with(scene, asking::strangers_offer)
    }),
    Scenario::new("offer-taken-twice", &["N2"], "An offer binds once", |scene| with(scene, asking::taken_twice)),
    Scenario::new("more-than-offered", &["N2"], "An offer binds for what was asked, no more", |scene| {
        with(scene, asking::more_than_offered)
    }),
    Scenario::new("another-tariff", &["A2"], "The award's tariff is not the offer's, nor the posted one", |scene| {
        with(scene, awarding::another_tariff)
    }),
    Scenario::new("posted-price", &["M2", "A8", "A9", "X1"], "The posted price is taken at once", |scene| {
        with(scene, awarding::posted_price)
    }),
    Scenario::new("offered-price", &["N2", "A2"], "An offer is taken", |scene| with(scene, awarding::offered_price)),
    Scenario::new("any-epoch", &["A3"], "A first award may have any epoch and attempt", |scene| {
        with(scene, awarding::any_epoch)
    }),
    Scenario::new("senseless-sampling", &["A10"], "A temperature of 101 and a top-p of nothing", |scene| {
        with(scene, awarding::senseless_sampling)
    }),
    Scenario::new("another-body-of-that-name", &["A3", "A7"], "One name, two contents: and its body comes", |scene| {
        with(scene, awarding::conflict)
    }),
    Scenario::new("award-out-of-bounds", &["B5"], "A prefix that is longer than its body", |scene| {
        with(scene, awarding::out_of_bounds)
    }),
    Scenario::new("body-in-pieces", &["A4", "A5"], "A body byte by byte", |scene| with(scene, body::in_pieces)),
    Scenario::new("large-body", &["A5"], "48 KiB, of which 16 are under credit", |scene| with(scene, body::large)),
    Scenario::new("body-with-a-gap", &["A4"], "Pieces come without gap or overlap", |scene| with(scene, body::gap)),
    Scenario::new("body-too-long", &["A4"], "Nothing comes beyond the body's end", |scene| with(scene, body::too_long)),
    Scenario::new("another-body", &["A4"], "A body of another hash", |scene| with(scene, body::mismatch)),
    Scenario::new("body-of-another-kind", &["A4"], "What is announced as a chat is none", |scene| {
        with(scene, body::of_another_kind)
    }),
    Scenario::new("body-after-decline", &["A7"], "What is on its way when an award is declined", |scene| {
        with(scene, body::after_decline)
    }),
    Scenario::new("chat", &["A4"], "A conversation as prompt", |scene| with(scene, body::chat)),
    Scenario::new("window-of-one", &["W4"], "One token at a time", |scene| with(scene, streaming::window_of_one)),
    Scenario::new("window", &["W4"], "Four tokens ahead, and no further", |scene| with(scene, streaming::window)),
    Scenario::new("max-tokens", &["W2", "X1"], "An answer of one token", |scene| with(scene, streaming::max_tokens)),
    Scenario::new("ack-falls", &["W5"], "An Ack takes back what one said before", |scene| {
        with(scene, streaming::ack_falls)
    }),
    Scenario::new("ack-beyond", &["W5"], "An Ack of tokens that were not sent", |scene| {
        with(scene, streaming::ack_beyond)
    }),
    Scenario::new("end-acknowledged-early", &["X3"], "Ack {end} before End", |scene| with(scene, streaming::early_end)),
    Scenario::new("flood", &["C2"], "A few frames without progress are borne, a thousand are not", |scene| {
        with(scene, streaming::flood)
    }),
    Scenario::new("out-of-place", &["C1"], "An Rfq while an answer is written, and an Offer from a buyer", |scene| {
        with(scene, streaming::out_of_place)
    }),
    Scenario::new("prefix", &["W1", "X1"], "An answer that somebody else began is continued", |scene| {
        with(scene, streaming::prefix)
    }),
    Scenario::new("end-acknowledged", &["X4"], "After Ack {end} the job is forgotten", |scene| {
        with(scene, streaming::acknowledged)
    }),
    Scenario::new("cancel", &["K2"], "Cancel on the job's stream", |scene| with(scene, cancelling::own_stream)),
    Scenario::new("cancel-elsewhere", &["K1", "K2"], "Cancel on another stream", |scene| {
        with(scene, cancelling::other_stream)
    }),
    Scenario::new("cancel-before-the-body", &["K2"], "Cancel before the body is whole", |scene| {
        with(scene, cancelling::before_the_body)
    }),
    Scenario::new("cancel-of-nothing", &["K2"], "Cancel of an unknown attempt", |scene| {
        with(scene, cancelling::of_nothing)
    }),
    Scenario::new("strangers-cancel", &["R5"], "Another peer cannot cancel a job", |scene| {
        with(scene, cancelling::by_a_stranger)
    }),
    Scenario::new("resume-at-each-chunk", &["R1"], "After a cut it goes on wherever a chunk began", |scene| {
        with(scene, resuming::at_each_chunk)
    }),
    Scenario::new("resume-after-end", &["R1", "X4"], "End is said again after a cut", |scene| {
        with(scene, resuming::after_end)
    }),
    Scenario::new("resume-of-the-acknowledged", &["R2"], "What was acknowledged is gone", |scene| {
        with(scene, resuming::acknowledged)
    }),
    Scenario::new("old-epoch", &["R4"], "The newest epoch has the job", |scene| with(scene, resuming::old_epoch)),
    Scenario::new("two-streams", &["R4"], "The older stream is reset", |scene| with(scene, resuming::two_streams)),
    Scenario::new("resume-of-nothing", &["R5"], "An unknown job", |scene| with(scene, resuming::of_nothing)),
    Scenario::new("strangers-resume", &["R5"], "Another peer cannot resume a job", |scene| {
        with(scene, resuming::by_a_stranger)
    }),
    Scenario::new("five-resumes", &["R6"], "Five resumes without a new token are borne", |scene| {
        with(scene, resuming::five)
    }),
    Scenario::new("award-again", &["R3"], "The award again after a cut: computed once", |scene| {
        with(scene, resuming::award_again)
    }),
    Scenario::new("award-again-before-the-body", &["R3"], "The award again when half of the body was there", |scene| {
        with(scene, resuming::award_again_before_the_body)
    }),
    Scenario::new("award-again-old-epoch", &["R4"], "The award again with its old epoch", |scene| {
        with(scene, resuming::award_again_old_epoch)
    }),
    Scenario::new("request", &["A13"], "A request: taken where requests are, declined where they are not", |scene| {
        with(scene, requests::request)
    }),
    Scenario::new("features-that-it-lacks", &["A13"], "An award of what the engine cannot do", |scene| {
        with(scene, requests::lacking)
    }),
    Scenario::new(
        "request-that-is-none",
        &["A4"],
        "No object, a key twice, 40 lists deep, or what the Award says",
        |scene| with(scene, requests::wrong),
    ),
    Scenario::new("request-out-of-bounds", &["B5"], "A request of a byte, and one that is to be continued", |scene| {
        with(scene, requests::out_of_bounds)
    }),
    Scenario::new(
        "tools",
        &["W1", "W2", "X1"],
        "A call of a tool: objects in their channel, counted and hashed",
        |scene| with(scene, requests::tools),
    ),
    Scenario::new("resume-among-channels", &["R1", "X1"], "A cut after each piece of a call", |scene| {
        with(scene, requests::resumed)
    }),
    Scenario::new("another-way-to-pay", &["S1"], "A way to pay that was not listed", |scene| {
        with(scene, requests::another_way_to_pay)
    }),
    Scenario::new("voucher-unasked", &["S2"], "A voucher in an Ack, and in a Cancel, of what is not paid", |scene| {
        with(scene, requests::voucher)
    }),
    Scenario::new(
        "waits-for-a-slot",
        &["C6", "C7"],
        "A job for which there is no slot yet is computed when there is",
        |scene| with(scene, streaming::waits),
    ),
    Scenario::new("forty-streams", &["T4"], "Too many streams end none that was there", |scene| {
        with(scene, streaming::forty_streams)
    }),
    Scenario::new("slow-body", &["A6"], "A body that does not come", |scene| with(scene, body::slow)),
    Scenario::new("sign-of-life", &["W6"], "A full window is no silence", |scene| with(scene, streaming::sign_of_life)),
];

/// Has the provider describe itself, plays, and leaves nothing behind.
fn with<F: Future<Output = Step> + 'static>(scene: Scene, play: fn(Buyer) -> F) -> Playing {
    Box::pin(async move {
        let buyer = Buyer::visit(&scene).await?;
        let step = play(buyer).await;
        cancel_all(&scene.stage).await;
        step
    })
}
