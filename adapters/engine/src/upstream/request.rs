//! A request as its requester wrote it: what must hold of it, and nothing else. It goes to the server as it came.

use std::collections::BTreeSet;

use serde::de::IgnoredAny;

use crate::{Failure, Why};

use super::json::Json;

/// Objects and lists in one another, at most.
const MAX_DEPTH: u32 = 32;
/// What is said elsewhere, or is nobody's business here.
const RESERVED: [&str; 14] = [
    "model",
    "stream",
    "stream_options",
    "n",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "stop",
    "user",
    "metadata",
    "store",
];

/// The names of a request's fields, once it is found to be one that can be sent.
///
/// # Errors
/// [`Why::BadRequest`], and what is wrong.
pub(super) fn check(request: &str) -> Result<BTreeSet<String>, Failure> {
    let bad = |detail: &str| Failure::new(Why::BadRequest, format!("the request {detail}"));
    serde_json::from_str::<IgnoredAny>(request).map_err(|_| bad("is no JSON"))?;
    let whole = Json::whole(request.as_bytes()).filter(|json| json.is_object());
    let whole = whole.ok_or_else(|| bad("is no JSON object"))?;
    let mut open = vec![(whole, 1)];
    while let Some((value, depth)) = open.pop() {
        if depth > MAX_DEPTH {
            return Err(bad("is nested more than 32 deep"));
        }
        let mut names = BTreeSet::new();
        for (name, value) in value.fields() {
            if !names.insert(name.text()) {
                return Err(bad("has a field twice"));
            }
            open.extend(value.is_open().then_some((value, depth + 1)));
        }
        open.extend(value.items().filter(|value| value.is_open()).map(|value| (value, depth + 1)));
    }
    if let Some(reserved) = RESERVED.into_iter().find(|name| whole.field(name).is_some()) {
        return Err(bad(&format!("has the field {reserved}, which is told apart from it")));
    }
    let messages = whole.field("messages").filter(|messages| messages.is_list());
    let messages = messages.ok_or_else(|| bad("has no list of messages"))?;
    let parts = messages.items().filter_map(|message| message.field("content")).flat_map(Json::items);
    if parts.flat_map(Json::fields).any(|(name, value)| names_address(name) && !is_data(value)) {
        return Err(bad("names an address: what belongs to it has to be in it, as a data: URL"));
    }
    Ok(whole.fields().filter_map(|(name, _)| name.lossy()).collect())
}

/// Whether a part of a message has the place of its content in this field.
fn names_address(field: Json<'_>) -> bool {
    field.text().is_some_and(|name| name.ends_with(b"_url") || *name == *b"url")
}

fn is_data(value: Json<'_>) -> bool {
    let url = if value.is_object() { value.field("url") } else { Some(value) };
    url.and_then(Json::text).is_some_and(|url| url.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"data:")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a provider in another language takes and refuses.
    #[test]
    fn bodies_are_taken_and_refused_as_the_vectors_say() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../core/tests/vectors/requests.txt");
        let text = std::fs::read_to_string(path).expect("the vectors of the protocol");
        let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        assert!(lines.len() >= 30, "{}", lines.len());
        for line in lines {
            let [verdict, what, body] = line.splitn(3, " | ").collect::<Vec<_>>()[..] else { panic!("{line}") };
            let body = body.replace("\\x20", " ");
            assert_eq!(check(&body).is_ok(), verdict == "taken", "{what}: {body}");
        }
    }

    #[test]
    fn a_request_is_an_object_of_what_is_said_nowhere_else() {
        let good = r#" {"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:x,y"}}]}],
            "tools":[{"function":{"name":"model","parameters":{"url":"http://x/"}}}],"x":1e400} "#;
        let names = check(good).expect("it is one");
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["messages", "tools", "x"]);
        let deep = format!(r#"{{"messages":[],"x":{}{}}}"#, "[".repeat(32), "]".repeat(32));
        let wrong = [
            "{}",
            "[]",
            "{\"messages\":[]} {}",
            "{\"messages\":[],}",
            r#"{"messages":{}}"#,
            r#"{"messages":[],"a":1,"\u0061":2}"#,
            r#"{"messages":[{"role":"user","x":{"b":1,"b":2}}]}"#,
            r#"{"messages":[{"content":[{"image_url":{"url":"https://x/"}}]}]}"#,
            r#"{"messages":[{"content":[{"image_url":"file:///etc/passwd"}]}]}"#,
            r#"{"messages":[{"content":[{"video_url":{"url":["data:"]}}]}]}"#,
            &deep,
        ];
        for wrong in wrong {
            assert_eq!(check(wrong).map_err(|failure| failure.why), Err(Why::BadRequest), "{wrong}");
        }
        for reserved in RESERVED {
            let failure = check(&format!(r#"{{"messages":[],"{reserved}":1}}"#)).expect_err(reserved);
            assert!(failure.detail.contains(reserved), "{failure}");
        }
    }
}
