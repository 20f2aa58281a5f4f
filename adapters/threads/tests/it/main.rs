//! The suite of all adapters, on this one.

mod market;

use haggle_sim::conformance::check;

#[test]
fn threads_pass_the_suite() {
    let played = check(&mut market::Market::default()).unwrap_or_else(|error| panic!("{error}"));
    assert!(played.len() >= 15, "{played:?}");
}
