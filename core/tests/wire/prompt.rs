//! The body of a job.

use haggle_core::wire::{ChatMessage, MAX_MESSAGES, MAX_ROLE, Prompt, PromptError, message::BodyKind};
use proptest::{collection::vec, prelude::*};

use crate::unhex;

fn chat(messages: &[(&str, &str)]) -> Prompt {
    Prompt::Chat(
        messages
            .iter()
            .map(|(role, content)| ChatMessage { role: (*role).into(), content: (*content).into() })
            .collect(),
    )
}

fn any_prompt() -> impl Strategy<Value = Prompt> {
    let message = ("[a-z]{1,32}", ".{0,80}").prop_map(|(role, content)| ChatMessage { role, content });
    prop_oneof![
        vec(message, 1..40).prop_map(Prompt::Chat),
        ".{1,200}".prop_map(Prompt::Raw),
        vec(any::<u32>(), 1..100).prop_map(Prompt::Tokens),
    ]
}

#[test]
fn bodies_look_as_documented() {
    assert_eq!(
        chat(&[("user", "Hi"), ("assistant", "")]).encode(),
        unhex("82 82 6475736572 624869 82 69617373697374616e74 60")
    );
    assert_eq!(Prompt::Raw("é".into()).encode(), [0xc3, 0xa9]);
    assert_eq!(Prompt::Tokens(vec![1, 0x0102_0304]).encode(), [1, 0, 0, 0, 4, 3, 2, 1]);
}

/// [E3] [A4] What another language has to take and to refuse; what is taken is written in the same bytes again.
#[test]
fn bodies_are_taken_and_refused_as_the_vectors_say() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/bodies.txt")).unwrap();
    let lines: Vec<_> = text.lines().filter(|line| line.contains(" | ") && !line.starts_with('#')).collect();
    assert!(lines.len() >= 20, "{}", lines.len());
    for line in lines {
        let [kind, bytes, verdict, _] = line.split(" | ").collect::<Vec<_>>()[..] else { panic!("{line}") };
        let kind = match kind {
            "chat" => BodyKind::Chat,
            "raw" => BodyKind::Raw,
            "request" => BodyKind::Request,
            _ => BodyKind::Tokens,
        };
        let (bytes, read) = (unhex(bytes), Prompt::decode(kind, &unhex(bytes)));
        assert_eq!(read.is_ok(), verdict == "taken", "{line}");
        assert!(read.is_err() || read.is_ok_and(|prompt| prompt.encode() == bytes), "{line}");
    }
}

#[test]
fn each_kind_refuses_what_it_is_not() {
    let refused = |kind, body: &str| Prompt::decode(kind, &unhex(body)).unwrap_err();
    for kind in [BodyKind::Chat, BodyKind::Raw, BodyKind::Tokens] {
        assert_eq!(refused(kind, ""), PromptError::Empty);
    }
    assert_eq!(refused(BodyKind::Raw, "c3"), PromptError::NotUtf8);
    assert_eq!(refused(BodyKind::Tokens, "0102030405"), PromptError::NotTokens);
    assert_eq!(refused(BodyKind::Chat, "80"), PromptError::Empty);
    for not_canonical in [
        "a0",                // a map
        "818161 75",         // one part only
        "81836175617500",    // three parts
        "81826175617500",    // trailing
        "8182617561",        // cut off
        "9f8261756175ff",    // indefinite list
        "819f61756175ff",    // indefinite pair
        "81827f6175ff6175",  // indefinite role
        "9801 82 6175 6175", // longer head than needed
        "8182 780175 6175",  // longer length than needed
        "8182 6175 4175",    // bytes for text
        "8182 6175 61c3",    // not UTF-8
        "81c1 82 6175 6175", // tagged
        "8182 6175 f6",      // null
        "c1",                // nothing but a tag
    ] {
        assert_eq!(refused(BodyKind::Chat, not_canonical), PromptError::NotChat, "{not_canonical}");
    }
    assert_eq!(refused(BodyKind::Chat, "8182 60 6175"), PromptError::BadRole);
    assert_eq!(refused(BodyKind::Chat, "8182 62c3a9 6175"), PromptError::BadRole);
    let long = format!("8182 7821 {} 6175", "75".repeat(MAX_ROLE + 1));
    assert_eq!(refused(BodyKind::Chat, &long), PromptError::BadRole);
    assert_eq!(refused(BodyKind::Chat, "9bffffffffffffffff"), PromptError::TooManyMessages);
}

#[test]
fn a_chat_has_a_bounded_number_of_messages() {
    let many = |count: usize, content: &str| chat(&vec![("user", content); count]);
    let long = "a message of usual length";
    for (prompt, sound) in [
        (many(MAX_MESSAGES, long), true),
        (many(MAX_MESSAGES + 1, long), false),
        (many(100, ""), true),
        (many(200, ""), false),
    ] {
        let error = if sound { Ok(()) } else { Err(PromptError::TooManyMessages) };
        assert_eq!(prompt.check(), error);
        assert_eq!(Prompt::decode(BodyKind::Chat, &prompt.encode()).map(|_| ()), error);
    }
    assert_eq!(chat(&[("ü", "")]).check(), Err(PromptError::BadRole));
    assert_eq!(Prompt::Raw(String::new()).check(), Err(PromptError::Empty));
    assert_eq!(Prompt::Tokens(vec![]).check(), Err(PromptError::Empty));
}

#[test]
fn nothing_of_a_prompt_is_shown() {
    let prompts = [chat(&[("user", "secret")]), Prompt::Raw("secret".into()), Prompt::Tokens(vec![737_373])];
    let shown = format!("{prompts:?}");
    assert_eq!(shown, "[Chat([Message(6 bytes)]), Raw(6 bytes), Tokens(1)]");
}

proptest! {
    #[test]
    fn every_prompt_round_trips(prompt in any_prompt()) {
        prop_assert_eq!(prompt.check(), Ok(()));
        prop_assert_eq!(Prompt::decode(prompt.kind(), &prompt.encode()), Ok(prompt));
    }

    #[test]
    fn what_decodes_encodes_to_itself(prompt in any_prompt(), at in any::<u16>(), byte in any::<u8>()) {
        let mut body = prompt.encode();
        let at = usize::from(at) % body.len();
        body[at] = byte;
        for kind in [BodyKind::Chat, BodyKind::Raw, BodyKind::Tokens] {
            if let Ok(decoded) = Prompt::decode(kind, &body) {
                prop_assert_eq!(decoded.encode(), &body[..]);
                prop_assert_eq!(decoded.check(), Ok(()));
            }
        }
    }
}
