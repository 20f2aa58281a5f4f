//! What holds on every runtime.

use std::collections::BTreeSet;

use haggle::{AsyncStd, Config, Error, Node, Smol, runtime::Runtime};

use crate::world::local;

/// Embedders change one line to change the runtime.
#[test]
fn the_examples_differ_in_the_runtimes_line_only() {
    let lines = |text: &'static str| text.lines().skip(1).collect::<Vec<_>>();
    let tokio = lines(include_str!("../../examples/local_market.rs"));
    assert!(tokio.len() < 25);
    for other in
        [include_str!("../../examples/local_market_smol.rs"), include_str!("../../examples/local_market_async_std.rs")]
    {
        let other = lines(other);
        assert_eq!(other.len(), tokio.len());
        let differ: BTreeSet<_> = tokio.iter().zip(other).filter(|(a, b)| *a != b).collect();
        assert!(differ.len() == 1 && differ.iter().all(|(line, _)| line.contains("let runtime =")), "{differ:?}");
    }
}

/// Whoever has a swarm joins the market to it in few lines.
#[test]
fn the_example_of_an_own_swarm_is_short() {
    let text = include_str!("../../examples/own_swarm.rs");
    assert!(text.lines().filter(|line| !line.is_empty()).count() <= 40);
    assert!(text.contains("ping::Behaviour") && text.contains("drive("));
}

#[test]
fn what_a_runtime_lacks_is_told_with_those_that_have_it() {
    fn refused(runtime: impl Runtime, name: &str) {
        assert!(!runtime.has_mdns(), "{name}");
        let started = runtime.block_on(Node::start(Config { enable_mdns: true, ..local() }, runtime.clone()));
        let error = started.expect_err("there is no mDNS");
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(name) && text.contains("mDNS") && text.contains("tokio"), "{text}");
        assert!(text.contains("enable_mdns = false"), "{text}");
    }
    refused(Smol::global(), "smol");
    refused(AsyncStd, "async-std");
}
