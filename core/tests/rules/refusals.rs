//! Every Decline, End and Gone reaches its reader, whatever of the body is still on its way, and however it comes: with the
//! Award in one packet, later, in pieces. A stream that is reset may lose what was said on it.

use haggle_core::{
    JobId, Limits, Millis, Model, StreamId,
    wire::{
        Message,
        message::{Award, BodyKind, DeclineReason, EndReason, GoneReason, Sampling},
    },
};
use proptest::{collection::vec, prelude::*, sample::select};

use super::{JOB, PROMPT, advert, award, peer, seller::Seller, service, sha256};

/// How a provider can refuse.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Refusal {
    Busy,
    Stale,
    UnknownModel,
    Context,
    PeerLimit,
    Draining,
    /// The name is known with another content.
    Conflict,
    /// The name is known with this epoch.
    OldEpoch,
    Unsupported,
    BodyMismatch,
    /// It was accepted, and somebody else got its bytes.
    Displaced,
    TooSlow,
    Shutdown,
    BadRequest,
    /// Over another stream.
    Cancelled,
    /// Of a Resume, with all that follows it.
    Gone,
}

use Refusal::*;

const ALL: [Refusal; 16] = [
    Busy,
    Stale,
    UnknownModel,
    Context,
    PeerLimit,
    Draining,
    Conflict,
    OldEpoch,
    Unsupported,
    BodyMismatch,
    Displaced,
    TooSlow,
    Shutdown,
    BadRequest,
    Cancelled,
    Gone,
];

impl Refusal {
    /// What comes only after Accepted, and so may meet a body of any size.
    const fn is_late(self) -> bool {
        matches!(self, BodyMismatch | Displaced | TooSlow | Shutdown | BadRequest | Cancelled)
    }

    /// A provider at which it will come.
    fn seller(self) -> Seller {
        let limits = Limits { body_bytes: 64 << 10, node_bytes: 64 << 10, ..Limits::default() };
        let mut seller = Seller::with(service(), limits);
        match self {
            Busy => {
                for name in ["a", "b", "c", "d", "e"] {
                    seller.buyer = peer(name);
                    seller.running(&award());
                }
            }
            PeerLimit => {
                for attempt in 5..7 {
                    let stream = seller.open();
                    seller.award(stream, &Award { attempt, ..award() });
                }
            }
            Draining => seller.provider.drain(seller.now, Millis::from_secs(60)),
            Conflict | OldEpoch => {
                seller.running(&award());
            }
            _ => {}
        }
        seller.buyer = peer(if matches!(self, Busy) { "f" } else { "buyer" });
        seller
    }

    /// An award that it answers, of a body.
    fn award(self, body: &[u8]) -> Award {
        let fee_in = haggle_core::money::fee_in(advert().price_in, 4, body.len() as u64).unwrap();
        let usual = Award { body_bytes: body.len() as u64, body_hash: sha256(body), ..award() };
        let mut usual = Award { tariff: haggle_core::money::Tariff { fee_in, ..usual.tariff }, ..usual };
        match self {
            Stale => usual.offer = Some(77),
            UnknownModel => usual.model = Model::new(b"another").unwrap(),
            Context => usual.max_tokens = 5_000,
            Unsupported => usual.sampling = Sampling { top_p_milli: 0, ..usual.sampling },
            BodyMismatch => usual.body_hash = [0; 32],
            BadRequest => usual.kind = BodyKind::Chat,
            // Unlike the one that runs, but for its name.
            Conflict => usual.epoch = 2,
            _ => {}
        }
        usual
    }

    /// What makes a late one come, if the body alone does not; the stream on which it is heard.
    fn happen(self, seller: &mut Seller, stream: StreamId) -> StreamId {
        match self {
            Displaced => {
                seller.buyer = peer("another");
                let other = seller.open();
                let body = vec![b'x'; 64 << 10];
                seller.award(other, &Award { job: JobId([8; 16]), ..self.award(&body) });
            }
            TooSlow => seller.wait(Millis::from_secs(29)),
            Shutdown => {
                seller.provider.shut_down(seller.now);
                seller.send(stream, &[]);
            }
            Cancelled => {
                let other = seller.open();
                seller.say(other, &Message::Cancel { job: JOB, attempt: 1, voucher: None });
                return other;
            }
            _ => {}
        }
        stream
    }

    fn is_it(self, message: &Message<'_>) -> bool {
        match (self, message) {
            (Gone, Message::Gone(reason)) => *reason == GoneReason::Unknown,
            (TooSlow, Message::End(end)) => end.reason == EndReason::TooSlow,
            (Shutdown, Message::End(end)) => end.reason == EndReason::Shutdown,
            (BadRequest, Message::End(end)) => end.reason == EndReason::BadRequest,
            (Cancelled, Message::End(end)) => end.reason == EndReason::Cancelled,
            (Displaced | Busy, Message::Decline(decline)) => decline.reason == DeclineReason::Busy,
            (Stale, Message::Decline(decline)) => decline.reason == DeclineReason::Stale,
            (UnknownModel, Message::Decline(decline)) => decline.reason == DeclineReason::UnknownModel,
            (Context, Message::Decline(decline)) => decline.reason == DeclineReason::Context,
            (PeerLimit, Message::Decline(decline)) => decline.reason == DeclineReason::PeerLimit,
            (Draining, Message::Decline(decline)) => decline.reason == DeclineReason::Draining,
            (Conflict | OldEpoch, Message::Decline(decline)) => decline.reason == DeclineReason::Conflict,
            (Unsupported, Message::Decline(decline)) => decline.reason == DeclineReason::Unsupported,
            (BodyMismatch, Message::Decline(decline)) => decline.reason == DeclineReason::BodyMismatch,
            _ => false,
        }
    }
}

fn framed(message: &Message<'_>) -> Vec<u8> {
    let mut frame = Vec::new();
    haggle_core::wire::encode_frame(message, &mut frame);
    frame
}

/// The frames of a body, cut at some places.
fn pieces(body: &[u8], cuts: &[prop::sample::Index]) -> Vec<Vec<u8>> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len())).collect();
    at.extend((0..body.len()).step_by(12 << 10));
    at.push(body.len());
    at.sort_unstable();
    at.dedup();
    at.windows(2).map(|at| framed(&Message::Body { offset: at[0] as u64, bytes: &body[at[0]..at[1]] })).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// [A7] [R4]
    #[test]
    fn a_refusal_reaches_its_reader_though_bytes_are_on_their_way(
        refusal in select(&ALL[..]),
        bytes in prop_oneof![1_usize..200, Just(32 << 10), 20_000_usize..48_000],
        cuts in vec(any::<prop::sample::Index>(), 0..6),
        early in 0_usize..8,
        in_one_packet: bool,
    ) {
        let body = match refusal {
            // The one that runs already.
            OldEpoch => PROMPT.to_vec(),
            _ if refusal.is_late() => vec![b'x'; bytes],
            _ => vec![b'x'; bytes.min(32 << 10)],
        };
        let mut seller = refusal.seller();
        let stream = seller.open();
        let first = match refusal {
            Gone => framed(&Message::Resume { job: JOB, attempt: 1, epoch: 1, next: 0 }),
            _ => framed(&Message::Award(refusal.award(&body))),
        };
        let mut pieces = pieces(&body, &cuts);
        if refusal == Gone {
            pieces = vec![framed(&Message::Ack { next: 0, end: false, voucher: None }), framed(&Message::Cancel { job: JOB, attempt: 1, voucher: None })];
        }
        let mut late = pieces.split_off(early.min(pieces.len()));
        let came: usize = pieces.iter().map(Vec::len).sum();
        // A body that is whole is neither slow nor in nobody's place, and one that came so far has a place.
        prop_assume!(!matches!(refusal, TooSlow | Displaced) || (!late.is_empty() && came < bytes.min(32 << 10)));
        // What ends when its body is whole needs all of it.
        if matches!(refusal, BodyMismatch | BadRequest) {
            pieces.append(&mut late);
        }
        if in_one_packet {
            seller.send(stream, &[first, pieces.concat()].concat());
        } else {
            seller.send(stream, &first);
            pieces.iter().for_each(|piece| seller.send(stream, piece));
        }
        let on = refusal.happen(&mut seller, stream);
        late.iter().for_each(|piece| seller.send(stream, piece));
        let heard = seller.heard(on);
        let told = heard.messages().into_iter().filter(|message| refusal.is_it(message)).count();
        prop_assert_eq!(told, 1, "{:?}", heard.messages());
        prop_assert!(!heard.is_reset && (on == stream || !seller.heard(stream).is_reset));
        if matches!(refusal, Busy | Stale | Conflict | OldEpoch | PeerLimit | Draining | Displaced) {
            seller.say(stream, &Message::Describe);
            prop_assert!(matches!(seller.heard(stream).one(), Message::Advert(_)), "the conversation goes on");
        }
    }
}
