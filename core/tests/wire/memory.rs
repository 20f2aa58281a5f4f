//! What decoding costs: never more than four times the input and 4 KiB. And what a provider holds of bodies.
#![expect(unsafe_code, reason = "a global allocator can not be written without")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    hint::black_box,
};

use haggle_core::{
    Input, Instant, JobId, Limits, Machine, Millis, Model, PeerId, Provider,
    money::Tariff,
    provider::{Service, Serving},
    wire::{self, ChatMessage, Deframer, MAX_BODY_PIECE, Message, Prompt, decode, encode, message::*},
};
use proptest::{collection::vec, prelude::*};
use sha2::{Digest, Sha256};

use crate::{
    encoded,
    samples::{all, any_message, largest_advert, model},
};

/// Counts what the current thread allocates, then asks the system.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    /// Bytes allocated and not yet freed, their peak, and the number of allocations.
    static COUNTS: Cell<(isize, isize, usize)> = const { Cell::new((0, 0, 0)) };
}

fn count(bytes: isize) {
    let _exiting = COUNTS.try_with(|counts| {
        let (live, peak, allocations) = counts.get();
        let live = live + bytes;
        counts.set((live, peak.max(live), allocations + usize::from(bytes > 0)));
    });
}

// SAFETY: every call is passed on as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // The worst case: old and new exist side by side for a moment.
        count(new_size as isize);
        count(-(layout.size() as isize));
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

/// The most memory that `work` held at once, and how often it allocated.
fn cost(work: impl FnOnce()) -> (usize, usize) {
    COUNTS.set((0, 0, 0));
    work();
    let (_, peak, allocations) = COUNTS.get();
    (peak as usize, allocations)
}

fn assert_bounded(input: &[u8], what: &str) {
    let bound = 4 * input.len() + 4096;
    let (peak, _) = cost(|| drop(black_box(decode(black_box(input)))));
    assert!(peak <= bound, "decode {what}: {peak} bytes for {}", input.len());
    for kind in [BodyKind::Chat, BodyKind::Raw, BodyKind::Tokens, BodyKind::Request] {
        let (peak, _) = cost(|| drop(black_box(Prompt::decode(kind, black_box(input)))));
        assert!(peak <= bound, "{kind:?} {what}: {peak} bytes for {}", input.len());
    }
    for pieces in [1, 7, 4096, usize::MAX] {
        let (peak, _) = cost(|| {
            let mut deframer = Deframer::default();
            for mut piece in input.chunks(pieces) {
                while let Ok(Some(payload)) = deframer.next(&mut piece) {
                    black_box(payload);
                }
            }
        });
        assert!(peak <= bound.min(2 * 16_386), "deframe {what} by {pieces}: {peak} bytes for {}", input.len());
    }
}

/// Bytes that are allocated now.
fn live() -> isize {
    COUNTS.get().0
}

/// What bodies hold is what is counted of them, and all of it is given back when their peers are gone for good.
#[test]
fn bodies_hold_what_they_were_awarded_and_give_it_back() {
    const BODY: usize = 2 << 20;
    let body = vec![b'x'; BODY];
    let hash: [u8; 32] = Sha256::digest(&body).into();
    let base = live();
    let service = Service { queue: 64, models: vec![free_model()], ..Service::default() };
    let mut provider = Provider::new(service, Limits::default(), [1; 32]).unwrap();
    let peers: Vec<PeerId> = (0..32_u8).map(|n| PeerId::new(&[n]).unwrap()).collect();
    for (n, peer) in peers.iter().enumerate() {
        let stream = provider.accept_stream(Instant::ZERO, *peer).unwrap();
        let mut said = encoded_frame(&Message::Award(free_award(n as u8, BODY as u64, hash)));
        for (n, bytes) in body.chunks(MAX_BODY_PIECE).enumerate() {
            said.extend(encoded_frame(&Message::Body { offset: (n * MAX_BODY_PIECE) as u64, bytes }));
            provider.handle_input(Instant::ZERO, Input::Received(stream, &said));
            said.clear();
            while provider.poll_output().is_some() {}
        }
    }
    assert_eq!(provider.held_bytes(), 31 * BODY as u64, "one runs, the others wait");
    let slack = 2 << 20;
    let held = live() - base;
    assert!(held < 31 * BODY as isize + slack, "{held} bytes for 31 bodies");
    for peer in peers {
        provider.handle_input(Instant::ZERO, Input::PeerGone(peer));
    }
    while let Some(due) = provider.poll_timeout() {
        provider.handle_input(due.at, Input::Timeout);
        while provider.poll_output().is_some() {}
    }
    assert_eq!((provider.open_jobs(), provider.held_bytes()), (0, 0));
    let left = live() - base;
    assert!(left < 256 << 10, "{left} bytes are kept when everybody is gone");
}

fn encoded_frame(message: &Message<'_>) -> Vec<u8> {
    let mut frame = Vec::new();
    wire::encode_frame(message, &mut frame);
    frame
}

fn free_model() -> Serving {
    let advert = ModelAdvert {
        model: Model::new(b"m").unwrap(),
        aliases: Vec::new(),
        context: 1 << 20,
        price_in: 0,
        bytes_per_token: 4,
        price_out: 0,
        eta: Millis(500),
        can_continue: true,
        exactness: Exactness::default(),
        features: None,
        longest: None,
        price_part: None,
    };
    Serving { advert, floor_permille: 1000 }
}

fn free_award(job: u8, body_bytes: u64, body_hash: [u8; 32]) -> Award {
    Award {
        job: JobId([job; 16]),
        attempt: 1,
        epoch: 1,
        offer: None,
        model: Model::new(b"m").unwrap(),
        tariff: Tariff::default(),
        max_tokens: 10,
        kind: BodyKind::Raw,
        body_bytes,
        body_hash,
        prefix_bytes: 0,
        prefix_tokens: 0,
        prefix_id_bytes: None,
        overlap: 0,
        sampling: Sampling::default(),
        stop: Vec::new(),
        window_tokens: 1024,
        window_bytes: 128 << 10,
        features: None,
        voucher: None,
        choice: None,
    }
}

#[test]
fn the_counter_counts() {
    assert_eq!(cost(|| drop(black_box(vec![0_u8; 1000]))), (1000, 1));
    assert_eq!(cost(|| drop(black_box((vec![0_u8; 10], vec![0_u8; 20])))), (30, 2));
}

/// [E5]
#[test]
fn hostile_inputs_are_bounded() {
    // Heads that nest, promise or repeat, alone and in turn, from a few bytes to 64 KiB.
    let heads: [&[u8]; 22] = [
        &[0x81],
        &[0x9f],
        &[0xa1],
        &[0xa1, 0x00],
        &[0xbf],
        &[0xbf, 0x00],
        &[0x82, 0x9f],
        &[0x82, 0x00, 0x9f],
        &[0x81, 0x9f],
        &[0x9f, 0x81],
        &[0x84, 0x9f, 0x9f],
        &[0xc1],
        &[0xd8, 0xff],
        &[0x5f],
        &[0x7f],
        &[0x9b, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
        &[0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x00],
        &[0xf6],
        &[0x82, 0x61, 0x75, 0x60],
        &[0x41, 0x61],
    ];
    let fronts: [&[u8]; 8] = [
        &[],
        &[0x82, 0x01, 0xa1, 0x00],
        &[0x82, 0x01, 0xa1, 0x00, 0xa4, 0x00, 0x90],
        &[0x82, 0x01, 0xa1, 0x00, 0xa4, 0x00, 0x90, 0xa9, 0x00, 0x41, 0x61, 0x01, 0x86],
        &[0x82, 0x07, 0xa1, 0x00, 0xb1, 0x0e, 0x84],
        &[0x82, 0x0a, 0xa4, 0x18, 0x63],
        &[0x99, 0x04, 0x00],
        &[0x3f, 0xff],
    ];
    for len in [1, 3, 100, 4096, 16_000, 65_536] {
        for head in heads {
            for front in fronts {
                let mut input = front.to_vec();
                while input.len() + head.len() <= len {
                    input.extend_from_slice(head);
                }
                assert_bounded(&input, &format!("{front:02x?} then {head:02x?}"));
            }
        }
    }
}

#[test]
fn the_most_expensive_messages_are_bounded() {
    let tiny = model("a");
    let mut advert = largest_advert();
    assert_bounded(&encoded(&Message::Advert(advert.clone())), "the largest advert");
    for entry in &mut advert.models {
        *entry = ModelAdvert {
            model: tiny.clone(),
            aliases: vec![tiny.clone(); MAX_ALIASES],
            context: 0,
            price_in: 0,
            bytes_per_token: 1,
            price_out: 0,
            eta: Millis::ZERO,
            can_continue: true,
            exactness: Exactness::default(),
            features: None,
            longest: None,
            price_part: None,
        };
    }
    assert_bounded(&encoded(&Message::Advert(advert)), "the densest advert");
    for count in [1, 64, 65, 90, 100, 128, 200, 500, 1024] {
        for len in [0, 4, 12, 20] {
            let message = ChatMessage { role: "u".into(), content: "x".repeat(len) };
            assert_bounded(&Prompt::Chat(vec![message; count]).encode(), &format!("{count} messages of {len}"));
        }
    }
}

#[test]
fn an_announced_length_reserves_nothing() {
    let (peak, _) = cost(|| {
        let mut deframer = Deframer::default();
        assert_eq!(deframer.next(&mut &[0x40, 0x00, 1][..]), Ok(None));
    });
    assert!(peak < 64, "{peak}");
}

#[test]
fn a_token_costs_no_allocation() {
    let mut out = Vec::with_capacity(64 << 10);
    for (_, name, message) in all() {
        let (_, allocations) = cost(|| {
            out.clear();
            encode(&message, &mut out);
        });
        assert_eq!(allocations, 0, "encoding {name}");
        let (_, allocations) = cost(|| drop(black_box(decode(&out))));
        let lists = matches!(&message, Message::Offer(offer) if offer.methods.is_some());
        let borrows = !lists && !matches!(message, Message::Advert(_) | Message::Rfq(_) | Message::Award(_));
        assert_eq!(allocations == 0, borrows || message == Message::Advert(Advert::default()), "decoding {name}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_bounded(input in vec(any::<u8>(), 0..2000)) {
        assert_bounded(&input, "any bytes");
    }

    #[test]
    fn any_message_is_bounded(owned in any_message(), at in any::<u16>(), byte in any::<u8>()) {
        let mut bytes = encoded(&owned.message());
        assert_bounded(&bytes, "a message");
        let at = usize::from(at) % bytes.len();
        bytes[at] = byte;
        assert_bounded(&bytes, "a mutated message");
    }
}
