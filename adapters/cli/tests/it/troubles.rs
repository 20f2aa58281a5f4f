//! What networks do to an answer of 2,000 tokens: nothing of it is lost.

use std::time::Duration;

use serde_json::Value;

use crate::{
    line::Trouble,
    matrix::{Play, Played, RUNTIMES},
    world::Over,
};

/// An answer through a line in trouble, from one runtime to the next.
fn through(trouble: Trouble, nth: usize) -> Over {
    let (seller, buyer) = (RUNTIMES[nth % RUNTIMES.len()], RUNTIMES[(nth + 1) % RUNTIMES.len()]);
    let play = Play { seller, buyer, transport: "", tokens: 2_000 };
    let Played { over, line, took } = play.through(trouble);
    println!("{trouble:?}: {took:.1?}, {} connections", line.connections());
    play.is_complete(&over);
    assert!(line.has_struck(), "nothing passed the line");
    over
}

fn names(over: &Over) -> Vec<Value> {
    over.json_lines().into_iter().map(|event| event["event"].clone()).collect()
}

#[test]
fn a_slow_line_only_takes_its_time() {
    let over = through(Trouble::Delay(Duration::from_millis(40)), 0);
    assert!(!names(&over).contains(&"job:cut".into()), "{:?}", names(&over));
}

#[test]
fn a_line_that_stalls_goes_on() {
    let over = through(Trouble::Stall(Duration::from_secs(5)), 1);
    assert!(!names(&over).contains(&"job:cut".into()), "{:?}", names(&over));
}

#[test]
fn a_reset_is_resumed() {
    let over = through(Trouble::Reset, 2);
    assert_eq!((over.events("job:cut").len(), over.events("job:resumed").len()), (1, 1));
}

#[test]
#[ignore = "half a minute: whoever waits for a dead connection waits long"]
fn a_line_that_dies_without_a_word_is_replaced() {
    let over = through(Trouble::Silence, 0);
    assert!(!over.events("job:resumed").is_empty());
}
