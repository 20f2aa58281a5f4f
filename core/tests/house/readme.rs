//! The README quotes an example that is built and run.

use std::fs;

use super::top;

#[test]
fn the_readme_quotes_its_example_word_for_word() {
    let readme = fs::read_to_string(top().join("README.md")).unwrap();
    let quoted = readme.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let example = fs::read_to_string(top().join("adapters/libp2p/examples/local_market.rs")).unwrap();
    let code = &example[example.find("use std::").unwrap()..];
    assert_eq!(quoted, code);
}
