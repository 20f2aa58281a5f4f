//! The worked examples of `PROTOCOL.md`.

use haggle_core::{
    Limits, Model,
    limits::CHUNK_COST,
    money::{Tariff, fee_in, quoted_size},
    wire::{self, Message, dht_key, encode_frame},
};

use sha2::{Digest, Sha256};

use crate::hex;

const PROTOCOL: &str = include_str!("../../PROTOCOL.md");

/// [D1] [F1] [T2]
#[test]
fn keys_and_frames() {
    let key = hex(&dht_key("main", &Model::new(b"story").unwrap()));
    assert_eq!(key, "ed8eba8f17294bf654b96c3eaed615e18dc5b9b78287906f7c95b536e4a05fd3");
    assert!(PROTOCOL.contains(&key));
    assert!(PROTOCOL.contains(&format!("under the name `{}`", wire::ANY_MODEL)));
    assert!(PROTOCOL.contains(&format!("MUST be `{}`", wire::PROTOCOL)));
    for message in [Message::Keepalive, Message::Ack { next: 32, end: false, voucher: None }] {
        let mut frame = Vec::new();
        encode_frame(&message, &mut frame);
        let spelled: Vec<String> = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(PROTOCOL.contains(&spelled.join(" ")), "{spelled:?}");
    }
}

/// [M2] [M3]
#[test]
fn prices() {
    assert_eq!(quoted_size(300), 512);
    assert_eq!(fee_in(100_000, 4, 300), Some(13));
    let tariff = Tariff { fee_in: 13, price_out: 400_000 };
    assert_eq!((tariff.cost(256), tariff.owed(10), tariff.owed(0)), (116, 17, 0));
}

/// [X1]
#[test]
fn hashes_over_channels() {
    let worked = hex(&Sha256::digest(b"\xff\x01 hm\xff\x00Hi"));
    assert!(PROTOCOL.contains(&format!("`{worked}`")), "{worked}");
}

/// [W3] [W4]
#[test]
fn windows() {
    let fit = |text| Limits::default().window_bytes / (text + CHUNK_COST);
    assert_eq!((fit(4), fit(8192)), (1927, 15));
    assert_eq!(16 * (8192 + CHUNK_COST), 132_096);
}

/// Every rule has a label of its own.
#[test]
fn labels_are_unique() {
    let labels: Vec<&str> = PROTOCOL
        .lines()
        .filter_map(|line| line.strip_prefix("- ["))
        .filter_map(|line| line.split_once(']'))
        .map(|(label, _)| label)
        .collect();
    let mut unique = labels.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), labels.len());
    assert!(labels.len() > 50, "{}", labels.len());
}
