//! Scenarios that a requester answers by what it does with a job: the kit is the provider.

mod channels;
mod cutting;
mod seller;
mod waiting;
mod working;

use std::future::Future;

use haggle_core::Millis;

use self::seller::{Seller, farewell};
use crate::{
    scenario::{Needs, Playing, Scenario, Scene},
    verdict::Step,
};

/// A prompt that is larger than what may come unasked.
const LARGE: Needs = Needs { prompt_bytes: 40_000, ..Needs::ANY };
const BIDS: Needs = Needs { bids: true, ..Needs::ANY };
const REQUEST: Needs = Needs { request: true, two_providers: true, ..Needs::ANY };
const TWO: Needs = Needs { two_providers: true, ..Needs::ANY };

/// What a requester is asked. Each needs a job of its own ([`Scenario::needs`](crate::Needs)), and a provider that it did not
/// meet before: what it thinks of one must not decide what it does with the next.
pub static REQUESTER: &[Scenario] = &[
    Scenario::new("job", &["A1", "A4", "X3"], "A job from its price to its end", |scene| with(scene, working::job)),
    Scenario::new("answer-byte-by-byte", &["F3"], "The answer comes byte by byte", |scene| {
        with(scene, working::bytes_one_by_one)
    }),
    Scenario::new("answer-in-one-packet", &["F3"], "Accepted, tokens and End come at once", |scene| {
        with(scene, working::all_in_one_packet)
    }),
    Scenario::new("answers-empty-frame", &["F2"], "A frame of no bytes", |scene| with(scene, working::empty_frame)),
    Scenario::new("chunk-in-a-long-form", &["E1"], "Numbers take the shortest head", |scene| {
        with(scene, working::long_number)
    }),
    Scenario::new("half-a-character", &["E1"], "Text is UTF-8, whole characters", |scene| {
        with(scene, working::half_a_character)
    }),
    Scenario::new("chunks-reserved-field", &["E3"], "Field 20 is reserved for a signature", |scene| {
        with(scene, working::reserved)
    }),
    Scenario::new("chunk-and-more", &["E4"], "A payload is one message", |scene| with(scene, working::trailing)),
    Scenario::new("chunk-before-accepted", &["C1"], "Tokens of a job that was not accepted", |scene| {
        with(scene, working::chunk_before_accepted)
    }),
    Scenario::new("offer-in-mid-answer", &["C1"], "An Offer does not belong there", |scene| {
        with(scene, working::out_of_place)
    }),
    Scenario::new("other-terms", &["A8"], "The terms of another Award", |scene| with(scene, working::other_terms)),
    Scenario::new("wider-window", &["A9"], "A wider window than was awarded", |scene| {
        with(scene, working::wider_window)
    }),
    Scenario::new("too-little-credit", &["A5"], "A credit that is a byte short", |scene| {
        with(scene, working::credit_too_small)
    }),
    Scenario::new("body-under-credit", &["A5"], "32 KiB unasked, the rest under credit", |scene| {
        with(scene, working::large_body)
    })
    .needs(LARGE),
    Scenario::new("token-left-out", &["W1"], "Tokens are dense", |scene| with(scene, working::gap)),
    Scenario::new("chunk-twice", &["W1"], "A repetition is a violation, too", |scene| with(scene, working::twice)),
    Scenario::new("more-than-ordered", &["W2"], "More tokens than max_tokens", |scene| {
        with(scene, working::too_many_tokens)
    }),
    Scenario::new("padded-count", &["W2"], "More tokens than bytes", |scene| with(scene, working::padded_count)),
    Scenario::new("beyond-the-window", &["W4"], "Two tokens in a window of one", |scene| {
        with(scene, working::beyond_the_window)
    }),
    Scenario::new("ends-count", &["X1"], "End tells of another count", |scene| with(scene, working::wrong_count)),
    Scenario::new("ends-hash", &["X1"], "End tells of another text", |scene| with(scene, working::wrong_hash)),
    Scenario::new("cancelled-by-nobody", &["K2"], "End {cancelled} without a Cancel", |scene| {
        with(scene, working::cancelled_by_nobody)
    }),
    Scenario::new("keepalives", &["C2"], "Fifty are borne, a thousand are a flood", |scene| {
        with(scene, working::flood)
    }),
    Scenario::new("works", &["C7"], "Working, one phase after the other, and tokens in the end", |scene| {
        with(scene, waiting::works)
    }),
    Scenario::new("works-before-accepted", &["C1"], "Working on a job that was not accepted", |scene| {
        with(scene, waiting::before_accepted)
    }),
    Scenario::new("works-among-tokens", &["C1"], "After the first token Working is a sign of life", |scene| {
        with(scene, waiting::among_tokens)
    }),
    Scenario::new("works-too-often", &["C2"], "A thousand Workings are a flood", |scene| with(scene, waiting::flood)),
    Scenario::new("thoughts", &["W2", "X1"], "Thoughts before the answer are tokens like others", |scene| {
        with(scene, channels::thoughts)
    }),
    Scenario::new("every-channel", &["X1", "X2"], "From channel to channel, and filtered in the end", |scene| {
        with(scene, channels::every)
    }),
    Scenario::new("channels-hash", &["X1"], "A hash of the text alone, its channels passed over", |scene| {
        with(scene, channels::hash_of_the_text)
    }),
    Scenario::new("thought-for-text", &["X1"], "The same bytes in another channel are another answer", |scene| {
        with(scene, channels::hash_of_another_channel)
    }),
    Scenario::new("unknown-channel", &["E3"], "A channel that there is not", |scene| {
        with(scene, channels::unknown_channel)
    }),
    Scenario::new("thoughts-without-end", &["W2"], "Thoughts count among the tokens that were ordered", |scene| {
        with(scene, channels::too_many_thoughts)
    }),
    Scenario::new("more-thoughts-than-tokens", &["B9"], "End tells of more thought tokens than tokens", |scene| {
        with(scene, channels::more_thoughts_than_tokens)
    }),
    Scenario::new("receipt", &["S2"], "A receipt that nobody asked for is not relied on", |scene| {
        with(scene, channels::receipt)
    }),
    Scenario::new("byte-order-mark", &["E3"], "U+FEFF is a character like others", |scene| {
        with(scene, channels::byte_order_mark)
    }),
    Scenario::new("cut-among-thoughts", &["R1", "X1"], "A cut between two thoughts", |scene| {
        with(scene, cutting::among_thoughts)
    }),
    Scenario::new("continued", &["R9"], "Another provider goes on after the text so far", |scene| {
        with(scene, channels::continued)
    })
    .needs(TWO),
    Scenario::new("thoughts-not-continued", &["R9"], "A run with thoughts is continued by nobody", |scene| {
        with(scene, channels::not_continued)
    })
    .needs(TWO),
    Scenario::new("filtered", &["X2"], "What was filtered is a complete answer", |scene| {
        with(scene, channels::filtered)
    })
    .needs(TWO),
    Scenario::new(
        "request-not-continued",
        &["R9", "B5"],
        "What was begun of a request is continued by nobody",
        |scene| with(scene, channels::request_not_continued),
    )
    .needs(REQUEST),
    Scenario::new("request-with-tools", &["A13", "X2"], "A request with tools, and a call in answer", |scene| {
        with(scene, channels::request)
    })
    .needs(REQUEST),
    Scenario::new("busy", &["A3"], "Decline {busy} is no fault, and its attempt is over", |scene| {
        with(scene, working::busy)
    }),
    Scenario::new("stale", &["A2", "A3"], "Decline {stale} with the offer that would bind", |scene| {
        with(scene, working::stale)
    }),
    Scenario::new("bids", &["N3"], "At most two bids, each on the last offer", |scene| with(scene, working::bids))
        .needs(BIDS),
    Scenario::new("raised-price", &["N4"], "A price that rises after a bid", |scene| {
        with(scene, working::raised_price)
    })
    .needs(BIDS),
    Scenario::new("cut", &["R1", "R4"], "It resumes at the exact token, twice", |scene| with(scene, cutting::cut)),
    Scenario::new("cut-at-the-end", &["R1", "X3"], "End comes after a Resume", |scene| {
        with(scene, cutting::cut_at_the_end)
    }),
    Scenario::new("resumed-elsewhere", &["R1"], "Resumed at another token", |scene| {
        with(scene, cutting::resumed_elsewhere)
    }),
    Scenario::new("gone", &["R5"], "What is gone is not resumed", |scene| with(scene, cutting::gone)),
    Scenario::new("cut-before-a-token", &["R3", "R4"], "The same Award again", |scene| {
        with(scene, cutting::before_the_first_token)
    }),
    Scenario::new("body-is-there", &["R3"], "The same Award again, and its body is there", |scene| {
        with(scene, cutting::body_is_there)
    }),
    Scenario::new("sign-of-life-of-a-reader", &["W6"], "An Ack every ten seconds", |scene| {
        with(scene, working::sign_of_life)
    }),
    Scenario::new("given-up", &["K1", "K3"], "Cancel is said until it is confirmed", |scene| {
        with(scene, working::cancel)
    })
    .needs(Needs { gives_up_after: Some(Millis::from_secs(3)), ..Needs::ANY }),
];

/// Plays, tells, and turns down what still comes.
fn with<F: Future<Output = Step> + 'static>(scene: Scene, play: fn(Seller) -> F) -> Playing {
    Box::pin(async move {
        let stage = scene.stage.clone();
        let step = match Seller::new(scene) {
            Ok(seller) => play(seller).await,
            Err(fault) => Err(fault),
        };
        stage.tell(step.into());
        farewell(stage).await;
        Ok(())
    })
}
