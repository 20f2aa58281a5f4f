//! The cut of a byte stream into frames does not depend on how it arrives.

use haggle_core::wire::{Deframer, FrameError, MAX_FRAME};
use proptest::{collection::vec, prelude::*};

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u16).to_be_bytes().to_vec();
    frame.extend_from_slice(payload);
    frame
}

/// All payloads in a stream that arrives in pieces, and the error that ended it.
fn cut<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Option<FrameError>) {
    let mut deframer = Deframer::default();
    let mut payloads = Vec::new();
    for mut piece in pieces {
        loop {
            match deframer.next(&mut piece) {
                Ok(Some(payload)) => payloads.push(payload.to_vec()),
                Ok(None) => break,
                Err(error) => return (payloads, Some(error)),
            }
            assert!(deframer.held() < 2 + MAX_FRAME);
        }
        assert!(piece.is_empty());
    }
    (payloads, None)
}

/// [F2]
#[test]
fn impossible_lengths_are_refused_at_their_second_byte() {
    for len in [0, MAX_FRAME as u16 + 1, u16::MAX] {
        let head = len.to_be_bytes();
        assert_eq!(cut([&head[..]]), (vec![], Some(FrameError(len))));
        assert_eq!(cut([&head[..1], &head[1..]]), (vec![], Some(FrameError(len))));
        let mut deframer = Deframer::default();
        for _ in 0..3 {
            assert_eq!(deframer.next(&mut &head[..]), Err(FrameError(len)));
        }
    }
    let longest = frame(&[7; MAX_FRAME]);
    assert_eq!(cut([&longest[..]]).0, [vec![7; MAX_FRAME]]);
}

#[test]
fn a_whole_frame_is_not_copied() {
    let bytes = [frame(b"one"), frame(b"two")].concat();
    let mut deframer = Deframer::default();
    let mut input = &bytes[..];
    for start in [2, 7] {
        let payload = deframer.next(&mut input).unwrap().unwrap();
        assert!(std::ptr::eq(payload, &bytes[start..start + 3]));
    }
    assert_eq!(deframer.held(), 0);
}

#[test]
fn nothing_that_is_held_is_shown() {
    let mut deframer = Deframer::default();
    assert_eq!(deframer.next(&mut &b"\0\x09secret"[..]), Ok(None));
    assert_eq!(format!("{deframer:?}"), "Deframer { held: 8 }");
}

proptest! {
    #[test]
    fn any_chunking_yields_the_same_frames(
        payloads in vec(prop_oneof![vec(any::<u8>(), 1..40), vec(any::<u8>(), 1000..3000)], 0..6),
        broken in any::<bool>(),
        lengths in vec(prop_oneof![0..4_usize, 0..2000_usize], 1..20),
    ) {
        let mut stream: Vec<u8> = payloads.iter().flat_map(|payload| frame(payload)).collect();
        if broken {
            stream.extend_from_slice(&[0, 0, 1, 2]);
        }
        let error = broken.then_some(FrameError(0));
        prop_assert_eq!(cut([&stream[..]]), (payloads.clone(), error));
        prop_assert_eq!(cut(stream.chunks(1)), (payloads.clone(), error));
        let mut rest = &stream[..];
        let mut pieces = Vec::new();
        for length in lengths.iter().cycle().take(stream.len() * 2 + 2) {
            let (piece, after) = rest.split_at((*length).min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        pieces.push(rest);
        prop_assert_eq!(cut(pieces), (payloads, error));
    }

    #[test]
    fn any_bytes_are_cut_without_a_panic(stream in vec(any::<u8>(), 0..200), at in 0..200_usize) {
        let (head, tail) = stream.split_at(at.min(stream.len()));
        prop_assert_eq!(cut([head, tail]), cut([&stream[..]]));
    }
}
