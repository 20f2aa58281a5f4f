//! Every short input there is.

use haggle_core::wire::{Message, decode};

use crate::{encoded, hex};

/// All inputs of up to `len` bytes behind `prefix` that decode.
fn accepted(prefix: &[u8], len: u32) -> Vec<String> {
    let mut payload = prefix.to_vec();
    let mut found = Vec::new();
    for len in 0..=len {
        payload.resize(prefix.len() + len as usize, 0);
        for bits in 0..1_u64 << (8 * len) {
            payload[prefix.len()..].copy_from_slice(&bits.to_be_bytes()[8 - len as usize..]);
            if let Ok(message) = decode(&payload) {
                // Equal values would have equal encodings: inputs that encode to themselves are distinct values.
                assert_eq!(encoded(&message), payload, "{message:?}");
                found.push(hex(&payload));
            }
        }
    }
    found
}

#[test]
fn of_all_inputs_up_to_three_bytes_two_are_messages() {
    assert_eq!(accepted(&[], 3), ["8200a0", "820ba0"]);
    assert_eq!(decode(&[0x82, 0x00, 0xa0]), Ok(Message::Describe));
    assert_eq!(decode(&[0x82, 0x0b, 0xa0]), Ok(Message::Keepalive));
}

#[test]
fn of_all_short_contents_each_kind_takes_one_encoding_per_value() {
    let counts: Vec<usize> =
        (0..24).map(|kind| accepted(&[0x82, kind], 2).len() + accepted(&[0x82, kind, 0xa1, 0x00], 2).len()).collect();
    // Describe and Keepalive have no content. Release has five reasons, Gone three. Resumed has the numbers 0 to 23 in
    // one byte and 24 to 255 in two. Working alone is in four phases. All others are longer.
    let mut expected = [0; 24];
    expected[0] = 1;
    expected[6] = 5;
    expected[11] = 1;
    expected[16] = 256;
    expected[17] = 3;
    expected[18] = 4;
    assert_eq!(counts, expected);
}

/// The inside of an acknowledgement: a number and a boolean, every encoding of either.
#[test]
fn of_all_acknowledgements_of_small_numbers_two_each_are_accepted() {
    let mut count = 0;
    for last in [0xf4, 0xf5] {
        for bits in 0..1_u32 << 16 {
            let [a, b] = (bits as u16).to_be_bytes();
            count += usize::from(decode(&[0x82, 0x0d, 0xa2, 0x00, a, b, 0x01, last]).is_ok());
            if a == 0 {
                count += usize::from(decode(&[0x82, 0x0d, 0xa2, 0x00, b, 0x01, last]).is_ok());
            }
        }
    }
    assert_eq!(count, 2 * 256);
}
