//! `protocol.cddl` says what the codec does.

use cddl_cat::{
    cbor::validate_cbor,
    context::{BasicContext, LookupContext},
    flatten::flatten_from_str,
};
use ciborium::Value;
use haggle_core::wire::{ChatMessage, Prompt};
use proptest::prelude::*;

use crate::{
    encoded,
    samples::{all, any_message},
    vectors,
};

struct Schema(BasicContext);

impl Schema {
    fn new() -> Self {
        // cddl-cat knows no ranges of sizes: the bounds of the codec are tested by themselves.
        let mut cddl = include_str!("../../protocol.cddl").to_owned();
        while let Some(start) = cddl.find(" .size (") {
            let end = start + cddl[start..].find(')').unwrap();
            cddl.replace_range(start..=end, "");
        }
        Self(BasicContext::new(flatten_from_str(&cddl).unwrap()))
    }

    /// Whether bytes are one CBOR item, and match a rule.
    fn matches(&self, rule: &str, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        let Ok(value) = ciborium::from_reader::<Value, _>(&mut rest) else { return false };
        rest.is_empty() && validate_cbor(self.0.lookup_rule(rule).unwrap(), &value, &self.0).is_ok()
    }
}

#[test]
fn every_valid_vector_matches_its_own_rule_alone() {
    let schema = Schema::new();
    for (file, name, message) in all() {
        let (_, rule) = file.split_once('-').unwrap();
        let bytes = encoded(&message);
        assert!(schema.matches("message", &bytes), "{file}: {name}");
        for (other, ..) in all() {
            let (_, other) = other.split_once('-').unwrap();
            assert_eq!(schema.matches(other, &bytes), other == rule, "{file}: {name} as {other}");
        }
    }
}

#[test]
fn invalid_vectors_are_refused_where_a_schema_can_tell() {
    let schema = Schema::new();
    let mut refused = 0;
    let mut wrong = Vec::new();
    for line in vectors::read("invalid") {
        let tells = match &line.columns[1][..] {
            "schema" => true,
            "bytes" => false,
            other => panic!("unknown column {other}"),
        };
        refused += usize::from(tells);
        if schema.matches("message", &line.bytes) == tells {
            wrong.push(line.columns);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(refused >= 40, "{refused}");
}

#[test]
fn a_chat_matches() {
    let message = ChatMessage { role: "user".into(), content: String::new() };
    let chat = Prompt::Chat(vec![message.clone(), message]).encode();
    let schema = Schema::new();
    assert!(schema.matches("chat", &chat));
    assert!(!schema.matches("chat", &[0x80]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_message_matches(owned in any_message()) {
        prop_assert!(Schema::new().matches("message", &encoded(&owned.message())));
    }
}
