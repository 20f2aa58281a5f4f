//! What arrives is not what was sent.

use haggle_core::{
    Input, Machine,
    event::{Finished, Outcome},
    spec::Failover,
    wire::{
        self, Message,
        message::{Accepted, End, EndReason},
    },
};

use super::{
    buyer::{Buyer, accepted},
    sha256,
};

/// [X1] [F3] [E1] Any one bit of an answer's frames may flip: the answer that is called complete is the one that was written.
#[test]
fn no_flipped_bit_changes_an_answer_unseen() {
    let (buyer, stream, award) = Buyer::awarded(|spec| spec.failover = Failover::Never);
    let text = " and so on";
    let chunk = |seq, text| Message::Chunk { seq, n: 1, text, ids: None, channel: None };
    let end = End {
        reason: EndReason::Stop,
        prompt_tokens: 4,
        tokens: 3,
        hash: sha256(text.as_bytes()),
        thought: None,
        cached: None,
        receipt: None,
    };
    let mut frames = Vec::new();
    let granted: Accepted = accepted(&award);
    for message in [Message::Accepted(granted), chunk(0, " and"), chunk(1, " so"), chunk(2, " on"), Message::End(end)] {
        wire::encode_frame(&message, &mut frames);
    }
    let mut complete = 0;
    for bit in 0..8 * frames.len() {
        let mut damaged = frames.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let mut buyer = buyer.clone();
        buyer.requester.handle_input(buyer.now, Input::Received(stream, &damaged));
        buyer.drain();
        if let Some(Outcome::Finished(Finished::Answer { reason, tokens, .. })) = buyer.outcome {
            complete += 1;
            assert_eq!((&buyer.text[..], tokens), (text, 3), "bit {bit}, {reason:?}");
        }
        // A count may be wrong up to what its text can hold.
        assert!(buyer.owed <= 256 + text.len() as u128, "bit {bit}");
    }
    // Why it ended, how many tokens were read, how long a wait was expected: these may be told wrong, and no more.
    assert!(complete > 0 && complete < 128, "{complete}");
}
