//! Encoding and decoding are each other's inverse, and nothing else decodes.

use ciborium::Value;
use haggle_core::wire::{DecodeError, MAX_FRAME, Message, decode, encode_frame};
use proptest::prelude::*;

use crate::{
    encoded,
    samples::{all, any_message, largest_advert},
};

#[test]
fn the_largest_messages_fit_a_frame() {
    let advert = Message::Advert(largest_advert());
    let len = encoded(&advert).len();
    assert!((14_000..=MAX_FRAME).contains(&len), "{len}");
    assert_eq!(decode(&encoded(&advert)), Ok(advert));
}

#[test]
fn a_frame_is_its_length_and_its_message() {
    let mut out = vec![1, 2, 3];
    encode_frame(&Message::Keepalive, &mut out);
    assert_eq!(out, [1, 2, 3, 0, 3, 0x82, 0x0b, 0xa0]);
}

#[test]
fn more_than_a_frame_is_refused_unread() {
    assert_eq!(decode(&vec![0x82; MAX_FRAME + 1]), Err(DecodeError::TooLong));
}

/// [E3] Field 20 everywhere, the others where no message has them.
#[test]
fn reserved_fields_are_refused_in_every_map() {
    let mut refused = 0;
    for (_, _, message) in all() {
        let value: Value = ciborium::from_reader(&encoded(&message)[..]).unwrap();
        for field in 20..24_u64 {
            for map in 0..maps(&value) {
                let mut value = value.clone();
                add_to_map(&mut value, map, &mut 0, field);
                let mut bytes = Vec::new();
                ciborium::into_writer(&value, &mut bytes).unwrap();
                let found = decode(&bytes);
                // Where the field is known, a 0 is none.
                let is_refused = matches!(found, Err(DecodeError::NotCanonical))
                    || (field > 20 && matches!(found, Err(DecodeError::Malformed)));
                assert!(is_refused, "{message:?} with field {field} in map {map}: {found:?}");
                refused += 1;
            }
        }
    }
    assert!(refused > 300, "{refused}");
}

/// How many maps there are in a value.
fn maps(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(maps).sum(),
        Value::Map(entries) => 1 + entries.iter().map(|(_, value)| maps(value)).sum::<usize>(),
        _ => 0,
    }
}

/// Puts a field into the map of that index.
fn add_to_map(value: &mut Value, index: usize, seen: &mut usize, field: u64) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| add_to_map(item, index, seen, field)),
        Value::Map(entries) => {
            let here = *seen == index;
            *seen += 1;
            entries.iter_mut().for_each(|(_, value)| add_to_map(value, index, seen, field));
            if here {
                entries.push((field.into(), 0.into()));
            }
        }
        _ => {}
    }
}

proptest! {
    #[test]
    fn every_message_round_trips(owned in any_message()) {
        let message = owned.message();
        prop_assert!(message.is_in_bounds());
        let bytes = encoded(&message);
        prop_assert!(bytes.len() <= MAX_FRAME);
        prop_assert_eq!(decode(&bytes), Ok(message));
    }

    /// ciborium writes shortest heads and definite lengths as well, and keeps the order of a map.
    #[test]
    fn a_second_codec_reads_and_writes_the_same(owned in any_message()) {
        let bytes = encoded(&owned.message());
        let value: Value = ciborium::from_reader(&bytes[..]).unwrap();
        let mut again = Vec::new();
        ciborium::into_writer(&value, &mut again).unwrap();
        prop_assert_eq!(again, bytes);
    }

    #[test]
    fn what_decodes_encodes_to_itself(owned in any_message(), edits in proptest::collection::vec(any::<(u16, u8, u8)>(), 1..4)) {
        let mut bytes = encoded(&owned.message());
        for (at, byte, how) in edits {
            let at = usize::from(at) % bytes.len();
            match how % 4 {
                0 => bytes[at] = byte,
                1 => bytes[at] ^= 1 << (byte % 8),
                2 => bytes.insert(at, byte),
                _ if bytes.len() > 1 => { bytes.remove(at); }
                _ => {}
            }
        }
        if let Ok(message) = decode(&bytes) {
            prop_assert_eq!(encoded(&message), &bytes[..]);
            prop_assert!(message.is_in_bounds());
        }
    }

    #[test]
    fn any_cut_is_refused(owned in any_message(), at in any::<u16>()) {
        let bytes = encoded(&owned.message());
        let cut = &bytes[..usize::from(at) % bytes.len()];
        prop_assert_eq!(decode(cut), Err(DecodeError::Malformed));
    }

    #[test]
    fn no_message_shows_its_text(text in "[a-z]{12}") {
        let chunk = Message::Chunk { seq: 0, n: 1, text: &text, ids: Some(b"aaaa"), channel: None };
        let body = Message::Body { offset: 0, bytes: text.as_bytes() };
        for shown in [format!("{chunk:?}"), format!("{body:?}"), format!("{body:#?}")] {
            prop_assert!(!shown.contains(&text) && !shown.contains("97"), "{}", shown);
        }
    }
}
