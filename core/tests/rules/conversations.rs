//! Whole conversations, byte by byte, as files that another language can replay without a network: our provider says in each
//! exactly what stands there.
//!
//! A line is `R stream payload` (what the requester says, as hexadecimal digits, without the frame's length), `P stream payload`
//! (what the provider answers), `cut stream` (by the network), `ends stream` (by the provider), `writes text` (its engine, a
//! token) or `done` (its engine is). What stands after `#` is for people.

use std::{collections::BTreeMap, fs, path::PathBuf};

use haggle_core::{StreamId, wire, wire::message::EndReason};

use super::seller::Seller;

const ALL: [&str; 5] = ["counter", "resume", "repeated-award", "overlap", "cancel"];

/// [R1] [R3] [N3] [K2] [W1]
#[test]
fn our_provider_says_what_the_conversations_say() {
    for name in ALL {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/vectors/conversations/{name}.txt"));
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(replayed(&text), text, "{name}");
        let says = |who: &str| text.lines().filter(|line| line.starts_with(who)).count();
        assert!(says("R ") >= 3 && says("P ") >= 3, "{name}");
    }
}

/// The same with what our provider answers.
fn replayed(text: &str) -> String {
    let mut seller = Seller::new();
    let mut streams: BTreeMap<String, StreamId> = BTreeMap::new();
    let mut told = String::new();
    for line in text.lines().filter(|line| !line.starts_with("P ") && !line.starts_with("ends ")) {
        told += &format!("{line}\n");
        let said = line.split('#').next().unwrap();
        let words: Vec<&str> = said.split_whitespace().collect();
        match words[..] {
            ["R", name, payload] => {
                let stream = *streams.entry(name.into()).or_insert_with(|| seller.open());
                let payload = unhex(payload);
                let len = u16::try_from(payload.len()).unwrap().to_be_bytes();
                seller.send(stream, &[&len[..], &payload].concat());
            }
            ["cut", name] => seller.cut(streams[name]),
            ["writes", text] => drop(seller.push(*seller.started.last().unwrap(), text).unwrap()),
            ["done"] => seller.finish(*seller.started.last().unwrap(), EndReason::Stop),
            [] => {}
            _ => panic!("{line}"),
        }
        for (name, stream) in &streams {
            let heard = seller.heard(*stream);
            for message in heard.messages() {
                let mut payload = Vec::new();
                wire::encode(&message, &mut payload);
                let hex: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
                let kind = format!("{message:?}");
                let kind = kind.split([' ', '(']).next().unwrap();
                told += &format!("P {name} {hex} # {kind}\n");
            }
            if heard.is_closed || heard.is_reset {
                told += &format!("ends {name}\n");
            }
        }
    }
    told
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16).unwrap() as u8).collect();
    digits.as_chunks::<2>().0.iter().map(|[high, low]| high << 4 | low).collect()
}
