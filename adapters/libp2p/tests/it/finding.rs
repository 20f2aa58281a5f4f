//! Who is found, by whom, and what is said if nobody is.

use futures::StreamExt;
use haggle::{
    Config, Criteria, Error, Node, NodeEvent,
    core::{event::Failure, machine::QueryOutcome, wire::message::EndReason},
    libp2p::{PeerId, identity::Keypair},
};

use crate::{bounded, world::*};

#[tokio::test]
async fn a_provider_is_found_through_a_third_node_only() {
    for suffix in ["", "/ws"] {
        bounded(async {
            let listen = || vec![format!("/ip4/127.0.0.1/tcp/0{suffix}")];
            let bootstrap = start(builder(Config { listen_addresses: listen(), ..local() })).await;
            let known = vec![address(&bootstrap)];
            let config = Config { listen_addresses: listen(), bootstrap_nodes: known.clone(), ..local() };
            let provider = start(builder(config).sell(sale(Script::new(Does::Writes)))).await;
            until(|| metric(&provider, "haggle_peers_connected") == 1).await;
            let requester = start(builder(Config { bootstrap_nodes: known, ..local() })).await;

            // What was announced may take a moment to arrive; the search says truthfully that it is empty until then.
            let answer = loop {
                let job = requester.submit(spec("Once upon a time", 20)).await.expect("taken");
                match job.answer().await {
                    Ok(answer) => break answer,
                    Err(Error::Job(error)) if matches!(error.failure, Failure::NobodyFound { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            };
            assert_eq!(answer.text, words(20));
            assert_eq!((answer.receipt.tokens, answer.receipt.reason), (20, EndReason::Length));
            assert!(requester.connected_peers().contains(&provider.peer_id()));
            let info = provider.node_info();
            assert_eq!((info.peer_id, info.listen_addresses), (provider.peer_id(), provider.listen_addresses()));
            assert!(info.connected_peers.contains(&requester.peer_id()));
            assert_eq!(metric(&bootstrap, "haggle_tokens_served_total"), 0);
            for node in [requester, provider, bootstrap] {
                node.stop().await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn nobody_is_told_truthfully() {
    bounded(async {
        let nowhere = start(builder(local())).await;
        let error = nowhere.discover(Criteria::new(model()), None).await.expect_err("nobody");
        assert!(error.to_string().contains("no source of peers"), "{error}");
        assert_eq!((error.code(), error.retry_safe(), error.billed()), ("nobody_found", true, 0));

        let other = start(builder(listening())).await;
        let member = start(builder(Config { bootstrap_nodes: vec![address(&other)], ..local() })).await;
        let Err(Error::Job(error)) = member.discover(Criteria::new(model()), None).await else { panic!("nobody") };
        let empty = Failure::NobodyFound { outcome: QueryOutcome::Complete, unfit: 0 };
        assert_eq!(error.failure, empty, "the DHT answered, and knows nobody");

        let dead = address(&other);
        other.stop().await;
        // It has a connection, but not to the DHT.
        let outside = provider(Script::new(Does::Writes)).await;
        let lonely = Config { bootstrap_nodes: vec![dead], providers: vec![address(&outside)], ..local() };
        let policy = haggle::Policy { query_timeout: haggle::core::time::Millis(700), ..hasty() };
        let lonely = start(Node::builder(lonely).policy(policy)).await;
        let mut events = lonely.events();
        let other_model = Criteria::new(haggle::Model::new(b"another").expect("a name"));
        let Err(Error::Job(error)) = lonely.discover(other_model, None).await else { panic!("nobody") };
        assert_eq!(lonely.connected_peers(), [outside.peer_id()]);
        let timed_out = Failure::NobodyFound { outcome: QueryOutcome::TimedOut, unfit: 0 };
        assert_eq!(error.failure, timed_out, "the DHT was not reached, and nobody knows");
        loop {
            if let NodeEvent::Failed { code, detail } = events.next().await.expect("runs") {
                assert_eq!(code, "bootstrap_unreachable");
                assert!(detail.contains("check that it runs"), "{detail}");
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_bootstrap_node_that_comes_back_is_found_again() {
    bounded(async {
        let key = Keypair::generate_ed25519();
        let first = start(builder(listening()).key(key.clone())).await;
        let at = first.listen_addresses()[0].clone();
        let member = start(builder(Config { bootstrap_nodes: vec![at.to_string()], ..local() })).await;
        until(|| member.connected_peers() == [first.peer_id()]).await;
        first.stop().await;
        until(|| member.connected_peers().is_empty()).await;
        let listen = at.to_string().split("/p2p/").next().expect("an address").to_owned();
        let again = Config { listen_addresses: vec![listen], ..local() };
        let again = start(builder(again).key(key)).await;
        until(|| member.connected_peers() == [again.peer_id()]).await;
    })
    .await;
}

#[tokio::test]
async fn a_wrong_peer_id_in_an_address_is_told() {
    bounded(async {
        let provider = provider(Script::new(Does::Writes)).await;
        let stranger = PeerId::random();
        let wrong = address(&provider).replace(&provider.peer_id().to_string(), &stranger.to_string());
        let requester = start(builder(Config { enable_dht: false, providers: vec![wrong], ..local() })).await;
        let job = requester.submit(spec("Hello", 5)).await.expect("taken");
        let error = job.answer().await.expect_err("nobody");
        assert!(requester.metrics().contains("haggle_streams_failed_total{reason=\"wrong_peer\"}"), "{error}");
        assert_eq!(requester.connect("/ip4/1.2.3.4/tcp/1").await.expect_err("no id").code(), "config");
        requester.connect(&address(&provider)).await.expect("an address");
    })
    .await;
}

#[tokio::test]
async fn in_a_larger_dht_every_provider_is_found_by_every_name() {
    bounded(async {
        let bootstrap = start(builder(listening())).await;
        let entered = || Config { bootstrap_nodes: vec![address(&bootstrap)], ..listening() };
        let mut providers = Vec::new();
        for n in 0..3 {
            let sale = haggle::Sale { aliases: vec![format!("alias-{n}")], ..sale(Script::new(Does::Writes)) };
            let node = builder(entered()).sell(sale);
            providers.push(start(node).await);
        }
        let mut others = Vec::new();
        for _ in 0..4 {
            others.push(start(builder(entered())).await);
        }
        let requester = start(builder(Config { listen_addresses: Vec::new(), ..entered() })).await;
        let mut all: Vec<_> = providers.iter().map(Node::peer_id).collect();
        all.sort_unstable();
        let ask = async |name: &str| {
            let model = haggle::Model::new(name.as_bytes()).expect("a name");
            let criteria = Criteria { refresh: true, ..Criteria::new(model) };
            let found = requester.discover(criteria, None).await.map(|found| found.providers).unwrap_or_default();
            let mut peers: Vec<_> = found.into_iter().map(|(peer, _)| peer).collect();
            peers.sort_unstable();
            peers
        };
        while ask(MODEL).await != all {}
        for (n, provider) in providers.iter().enumerate() {
            while ask(&format!("alias-{n}")).await != [provider.peer_id()] {}
        }
    })
    .await;
}
