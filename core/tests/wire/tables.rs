//! Tables for other languages: how a stream is cut into frames, what is owed, under which key a model is found.

use haggle_core::{
    Model,
    money::{Tariff, fee_in},
    wire::{Deframer, dht_key},
};

use crate::{hex, unhex};

/// The lines of a table, in columns.
fn rows(name: &str) -> Vec<Vec<String>> {
    let path = format!("{}/tests/vectors/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let rows: Vec<_> = lines.map(|line| line.split('|').map(|column| column.trim().to_owned()).collect()).collect();
    assert!(rows.len() >= 5, "{name}");
    rows
}

/// [F1] [F2] [F3]
#[test]
fn a_stream_is_cut_as_the_table_says() {
    for row in rows("frames") {
        let [packets, payloads, what] = &row[..] else { panic!("{row:?}") };
        let mut deframer = Deframer::default();
        let (mut found, mut refused) = (Vec::new(), None);
        for (at, packet) in packets.split(' ').enumerate() {
            let packet = unhex(packet);
            let mut rest = &packet[..];
            assert_eq!(refused, None, "{what}: refused before its last byte");
            loop {
                match deframer.next(&mut rest) {
                    Ok(Some(payload)) => found.push(hex(payload)),
                    Ok(None) => break,
                    Err(_) => {
                        refused = Some(at);
                        break;
                    }
                }
            }
        }
        match &payloads[..] {
            "refused" => assert!(refused.is_some(), "{what}"),
            wanted => assert_eq!((found.join(" "), refused), (wanted.to_owned(), None), "{what}"),
        }
    }
}

/// [M1] [M2] [M3] [M4]
#[test]
fn what_is_asked_and_owed_is_what_the_table_says() {
    let number = |text: &String| text.parse::<u64>().unwrap();
    for row in rows("prices") {
        let [of, one, two, three, result, what] = &row[..] else { panic!("{row:?}") };
        let (one, two, three) = (number(one), number(two), number(three));
        let found = if of == "fee" {
            fee_in(one, u32::try_from(two).unwrap(), three).map_or("none".into(), |fee| fee.to_string())
        } else {
            Tariff { fee_in: one, price_out: two }.owed(three).to_string()
        };
        assert_eq!(found, *result, "{of}: {what}");
    }
}

/// [D1]
#[test]
fn a_model_is_found_under_the_key_that_the_table_says() {
    for row in rows("keys") {
        let [network, model, key] = &row[..] else { panic!("{row:?}") };
        let model = Model::new(&unhex(model)).unwrap();
        assert_eq!(hex(&dht_key(network, &model)), *key, "{row:?}");
    }
}
