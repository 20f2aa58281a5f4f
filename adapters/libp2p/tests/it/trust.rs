//! What is remembered of providers, and who goes on when one is lost. With the real engine.

use std::sync::Arc;

use futures::StreamExt;
use haggle::{
    Config, Criteria, Error, JobEvent, JobSpec, Model, Node, Prompt, Sale,
    core::{
        Limits,
        event::{Failure, Settlement, TakeOver},
        wire::message::Sampling,
    },
    engine::{Llama, TINY_STORIES},
};

use crate::{bounded, world::*};

const TOKENS: u64 = 300;

/// A provider that computes hardly further than its requester reads.
async fn storyteller(price_out: u64) -> Node {
    let limits = Limits { window_tokens: 8, ..Limits::default() };
    let config = Config { enable_dht: false, limits, ..listening() };
    let engine = Arc::new(Llama::tiny_stories().expect("the embedded model"));
    start(builder(config).sell(Sale { price_out, ..Sale::new(engine) })).await
}

async fn reader(providers: &[&Node]) -> Node {
    let providers = providers.iter().map(|node| address(node)).collect();
    start(builder(Config { enable_dht: false, providers, ..local() })).await
}

fn story() -> JobSpec {
    let model = Model::try_from(TINY_STORIES).expect("a name");
    let prompt = Prompt::Raw("Once upon a time".into());
    let sampling = Sampling { seed: 7, ..Sampling::default() };
    JobSpec { sampling, budget: Some(1_000_000_000), ..JobSpec::new(model, prompt, TOKENS) }
}

#[tokio::test]
async fn a_provider_that_is_lost_in_mid_answer_is_replaced_by_the_same_text() {
    bounded(async {
        let (first, second) = (storyteller(1_000_000).await, storyteller(2_000_000).await);
        let alone = reader(&[&second]).await;
        let uncut = alone.submit(story()).await.expect("taken").answer().await.expect("answered");

        let reader = reader(&[&first, &second]).await;
        let mut job = reader.submit(story()).await.expect("taken");
        let (mut text, mut tokens, mut over) = (String::new(), 0, Vec::new());
        let receipt = loop {
            match job.next().await.expect("an ending comes").expect("the answer is finished") {
                JobEvent::Tokens { text: more, n, seq, .. } => {
                    assert_eq!(seq, tokens, "dense, across providers");
                    tokens += u64::from(n);
                    text.push_str(&more);
                    if tokens == 50 {
                        first.stop().await;
                    }
                }
                JobEvent::TakenOver { peer, seq, how, .. } => over.push((peer, seq, how)),
                JobEvent::Finished(receipt) => break receipt,
                _ => {}
            }
        };
        assert_eq!(text, uncut.text);
        let [(peer, seq, TakeOver::Exact)] = over[..] else { panic!("{over:?}") };
        assert_eq!(peer, second.peer_id());
        let bill = receipt.bill;
        assert_eq!(bill.settlement, Settlement::None);
        let delivered: Vec<u64> = bill.lines.iter().map(|line| line.tokens).collect();
        assert_eq!(delivered, [seq, uncut.receipt.tokens - seq], "each is owed what it delivered");
        assert!(bill.lines[1].reread > 0 && bill.lines[1].reread <= seq);
        for node in [alone, reader, second] {
            node.stop().await;
        }
    })
    .await;
}

#[tokio::test]
async fn reliability_is_counted_at_verified_ends_and_bans_act_at_once() {
    bounded(async {
        let (cheap, dear) = (storyteller(1_000_000).await, storyteller(2_000_000).await);
        let reader = reader(&[&cheap, &dear]).await;
        assert_eq!(reader.reliability(cheap.peer_id()).await.expect("runs"), None);
        let peer = async || {
            let answer = reader.submit(story()).await.expect("taken").answer().await.expect("answered");
            answer.receipt.bill.lines[0].peer
        };
        let to_core = |node: &Node| haggle::id::to_core(&node.peer_id()).expect("an id");
        assert_eq!(peer().await, to_core(&cheap));
        let known = reader.reliability(cheap.peer_id()).await.expect("runs").expect("it was asked");
        assert_eq!((known.counts.attempts, known.counts.verified_ends, known.load), (1, 1, 0));
        assert!(known.p50.is_some());

        reader.ban(cheap.peer_id()).await.expect("there is room");
        assert_eq!(peer().await, to_core(&dear), "a ban acts after every cache");
        reader.ban(dear.peer_id()).await.expect("there is room");
        let criteria = Criteria::new(Model::try_from(TINY_STORIES).expect("a name"));
        match reader.discover(criteria, None).await {
            Err(Error::Job(error)) => assert!(matches!(error.failure, Failure::NobodyFound { unfit: 2, .. })),
            other => panic!("{other:?}"),
        }
        reader.allow(cheap.peer_id()).await.expect("runs");
        assert_eq!(peer().await, to_core(&cheap));
        for node in [reader, cheap, dear] {
            node.stop().await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_account_has_its_budget_from_the_start() {
    bounded(async {
        let provider = storyteller(1_000_000).await;
        for (budget, is_answered) in [(None, true), (Some(1_000_000_000), true), (Some(1), false)] {
            let config = Config { enable_dht: false, providers: vec![address(&provider)], ..local() };
            let reader = start(builder(config).account_budget(budget)).await;
            let answer = match reader.submit(story()).await {
                Ok(job) => job.answer().await,
                Err(error) => Err(error),
            };
            assert_eq!(answer.is_ok(), is_answered, "{budget:?}: {answer:?}");
            reader.stop().await;
        }
        provider.stop().await;
    })
    .await;
}
