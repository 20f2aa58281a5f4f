//! Jobs over real sockets: asked, streamed, cut, ended.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, atomic::Ordering},
};

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use haggle::{
    Config, Criteria, Error, JobEvent, Node, NodeEvent, QuoteSpec, Tokio,
    core::{
        event::{Failure, Interrupted, PassedOver},
        machine::QueryOutcome,
        spec::Haggle,
    },
};

use crate::{
    bounded,
    sessions::{Peer, roomy},
    world::*,
};

#[tokio::test]
async fn ten_jobs_at_once_share_one_connection_and_one_search_and_the_wire_tells_nothing() {
    bounded(async {
        let (relay, _provider, requester) = behind_a_relay(Script::new(Does::Writes), hasty()).await;
        for _ in 0..2 {
            let jobs = (0..10).map(|_| async {
                let job = requester.submit(spec("The secret prompt nobody may read", 50)).await.expect("taken");
                job.answer().await.expect("answered").text
            });
            let texts = futures::future::join_all(jobs).await;
            assert!(texts.iter().all(|text| *text == words(50)));
        }
        assert_eq!(relay.connections.load(Ordering::SeqCst), 1, "one connection for twenty jobs");
        assert_eq!(metric(&requester, "haggle_queries_total"), 1, "one search within its time to live");
        assert!(relay.bytes() > 20 * words(50).len(), "the relay did see the traffic");
        for secret in ["secret prompt", "word 1", MODEL, "/haggle/2"] {
            assert!(!relay.saw(secret), "{secret:?} crossed the wire in clear");
        }
        assert!(relay.saw("/noise"), "a capture that sees what is in clear");
    })
    .await;
}

#[tokio::test]
async fn events_come_in_order_under_the_seeds_names() {
    bounded(async {
        let provider = provider(Script::new(Does::Writes)).await;
        let config = Config { enable_dht: false, providers: vec![address(&provider)], ..local() };
        let requester = start(builder(config)).await;
        let mut events = requester.events();
        let mut job = requester.submit(spec("Hello", 3)).await.expect("taken");
        let mut of_job = Vec::new();
        while let Some(item) = job.next().await {
            of_job.push(match item.expect("no failure") {
                JobEvent::Asked { .. } => "asked",
                JobEvent::Offered(_) => "offered",
                JobEvent::Awarded { .. } => "awarded",
                JobEvent::Negotiated { .. } => "negotiated",
                JobEvent::Tokens { .. } => "tokens",
                JobEvent::Finished(_) => "finished",
                _ => "other",
            });
        }
        of_job.dedup();
        let negotiated = of_job.iter().position(|name| *name == "awarded").expect("awarded");
        assert_eq!(of_job[negotiated..], ["awarded", "negotiated", "tokens", "finished"]);
        requester.stop().await;
        let mut names = Vec::new();
        while let Some(event) = events.next().await {
            names.push(event.name());
        }
        names.dedup();
        let golden = ["peer:connect", "node:discovered", "job:negotiated", "stream:token", "job:ended", "p2p:stopped"];
        assert_eq!(names, golden);
    })
    .await;
}

#[tokio::test]
async fn metrics_equal_the_event_log_after_20_jobs_of_which_3_fail() {
    bounded(async {
        let provider = provider(Script::new(Does::Writes)).await;
        let requester = requester(&provider).await;
        let log = Arc::new(Mutex::new(BTreeMap::<&str, u64>::new()));
        let (mut events, written) = (requester.events(), log.clone());
        let reader = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                assert!(!matches!(event, NodeEvent::Missed(_)));
                *written.lock().expect("not poisoned").entry(event.name()).or_default() += 1;
            }
        });
        let mut failed = 0;
        for n in 0..20 {
            let budget = if n % 7 == 3 { Some(1) } else { Some(1_000_000) };
            let job = requester.submit(haggle::JobSpec { budget, ..spec("Hello", 5) }).await.expect("taken");
            failed += u64::from(job.answer().await.is_err());
        }
        assert_eq!(failed, 3);
        requester.stop().await;
        reader.await.expect("no panic");
        let log = log.lock().expect("not poisoned").clone();
        let text = requester.metrics();
        for (name, n) in &log {
            // The log began after the node: `p2p:started` is not in it.
            let line = format!("haggle_events_total{{event=\"{name}\"}} {n}");
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert_eq!(log["job:ended"], 20);
        assert!(text.contains("haggle_jobs_ended_total{outcome=\"finished\"} 17"), "{text}");
        assert!(text.contains("haggle_jobs_ended_total{outcome=\"over_budget\"} 3"), "{text}");
        assert!(text.contains("haggle_tokens_received_total 85"), "{text}");
    })
    .await;
}

#[tokio::test]
async fn an_engine_that_fails_or_panics_ends_its_job_typed_and_frees_the_slot() {
    for does in [Does::FailsAfter(3), Does::PanicsAfter(3), Does::PanicsAfter(0)] {
        bounded(async {
            let engine = Script::new(does);
            let provider = provider(engine.clone()).await;
            let requester = requester(&provider).await;
            let mut job = requester.submit(spec("Hello", 10)).await.expect("taken");
            let mut text = String::new();
            let error = loop {
                match job.next().await.expect("an ending") {
                    Ok(JobEvent::Tokens { text: more, .. }) => text.push_str(&more),
                    Ok(_) => {}
                    Err(error) => break error,
                }
            };
            let before_a_token = matches!(does, Does::PanicsAfter(0));
            let (failure, code) = match before_a_token {
                true => (Failure::Declined(PassedOver::Interrupted(Interrupted::Engine)), "declined"),
                false => (Failure::Interrupted(Interrupted::Engine), "interrupted"),
            };
            assert_eq!((error.failure, error.code()), (failure, code), "{does:?}");
            let written = if before_a_token { 0 } else { 3 };
            assert_eq!((error.tokens_delivered(), text), (written, words(written)));
            assert_eq!(error.billed() > 0, written > 0);
            assert!(std::error::Error::source(&error).is_some());
            assert!(job.next().await.is_none(), "nothing follows the ending");
            until(|| engine.live.load(Ordering::SeqCst) == 0).await;
            until(|| metric(&provider, "haggle_served_total") >= 1).await;
        })
        .await;
    }
}

#[tokio::test]
async fn a_slow_reader_stops_the_engine_and_a_dropped_job_ends_it() {
    bounded(async {
        let engine = Script::new(Does::Writes);
        let provider = provider(engine.clone()).await;
        let requester = requester(&provider).await;
        let mut job = requester.submit(spec("Hello", 100_000)).await.expect("taken");
        let window = u64::from(haggle::Limits::default().window_tokens);
        // Nothing is read: the engine fills the window and what may be under way, then it rests.
        until(|| engine.written.load(Ordering::SeqCst) as u64 >= window).await;
        let mut before = 0;
        loop {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            let now = engine.written.load(Ordering::SeqCst);
            if now == before {
                break;
            }
            before = now;
        }
        assert!(before as u64 <= window + 64, "{before} tokens were written for a reader that took none");
        let mut taken = 0;
        while taken < 3 * window {
            if let JobEvent::Tokens { n, seq, .. } = job.next().await.expect("more").expect("no failure") {
                assert_eq!(seq, taken);
                taken += u64::from(n);
            }
        }
        drop(job);
        until(|| engine.live.load(Ordering::SeqCst) == 0).await;
        until(|| metric(&provider, "haggle_served_total") == 1).await;
        assert!(provider.metrics().contains("haggle_served_total{outcome=\"cancelled\"} 1"), "{}", provider.metrics());
    })
    .await;
}

#[tokio::test]
async fn a_detached_job_goes_on_unread() {
    bounded(async {
        let engine = Script::new(Does::Writes);
        let provider = provider(engine.clone()).await;
        let requester = requester(&provider).await;
        requester.submit(spec("Hello", 5_000)).await.expect("taken").detach();
        until(|| metric(&requester, "haggle_tokens_received_total") == 5_000).await;
        until(|| metric(&requester, "haggle_jobs_open") == 0).await;
        assert!(requester.metrics().contains("haggle_jobs_ended_total{outcome=\"finished\"} 1"));
    })
    .await;
}

#[tokio::test]
async fn a_long_prompt_travels_under_credit() {
    bounded(async {
        let provider = provider(Script::new(Does::Writes)).await;
        let requester = requester(&provider).await;
        let prompt = "All work and no play makes a long prompt. ".repeat(38_000);
        assert!(prompt.len() > 3 << 19);
        let job = requester.submit(spec(&prompt, 4)).await.expect("taken");
        assert_eq!(job.answer().await.expect("answered").text, words(4));
        let too_long = requester.submit(spec(&prompt.repeat(2), 4)).await.expect_err("over the limit");
        assert_eq!(too_long.code(), "prompt_too_long");
    })
    .await;
}

#[tokio::test]
async fn quotes_and_discoveries_tell_prices_and_award_nothing() {
    bounded(async {
        let engine = Script::new(Does::Writes);
        let provider = provider(engine.clone()).await;
        let requester = requester(&provider).await;
        let found = requester.discover(Criteria::new(model()), None).await.expect("found");
        assert_eq!(found.outcome, QueryOutcome::Complete);
        assert_eq!(found.providers.len(), 1);
        let (peer, advert) = &found.providers[0];
        assert_eq!((*peer, advert.models[0].price_out), (provider.peer_id(), 2_000_000));
        let quote = QuoteSpec {
            criteria: Criteria::new(model()),
            body_bytes: 1_000,
            max_tokens: 10,
            deadline: None,
            haggle: Haggle::No,
        };
        let offers = requester.quote(quote).await.expect("offers");
        assert_eq!((offers.len(), offers[0].peer), (1, provider.peer_id()));
        assert_eq!(offers[0].cost, 256 + 20, "1,024 bytes are 256 tokens read, and 10 written");
        assert_eq!(engine.written.load(Ordering::SeqCst), 0);
        assert_eq!(metric(&provider, "haggle_served_total"), 0);
    })
    .await;
}

#[tokio::test]
async fn stopping_ends_jobs_typed_on_both_sides_and_is_idempotent() {
    bounded(async {
        let (engine, other) = (Script::new(Does::Hangs), Script::new(Does::Hangs));
        let provider_a = provider(engine.clone()).await;
        let provider_b = provider(other.clone()).await;
        let (a, b) = (requester(&provider_a).await, requester(&provider_b).await);
        let mut left = a.submit(spec("Hello", 10)).await.expect("taken");
        let mut right = b.submit(spec("Hello", 10)).await.expect("taken");
        until(|| engine.live.load(Ordering::SeqCst) == 1 && other.live.load(Ordering::SeqCst) == 1).await;
        a.stop().await;
        a.stop().await;
        let ended = loop {
            match left.next().await.expect("an ending") {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(ended.failure, Failure::Cancelled);
        assert!(matches!(a.submit(spec("Hello", 10)).await, Err(Error::Stopped)));
        until(|| engine.live.load(Ordering::SeqCst) == 0).await;
        provider_b.stop().await;
        let ended = loop {
            match right.next().await.expect("an ending") {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(ended.failure, Failure::Declined(PassedOver::Interrupted(Interrupted::Shutdown)));
        until(|| other.live.load(Ordering::SeqCst) == 0).await;
        let listen = provider_a.listen_addresses()[0].to_string().split("/p2p/").next().expect("one").to_owned();
        let taken = builder(Config { listen_addresses: vec![listen.clone()], ..local() }).start(runtime()).await;
        let Err(error) = taken else { panic!("two nodes on one port") };
        assert!(error.code() == "listen" && error.to_string().contains(&listen), "{error}");
        provider_a.stop().await;
        start(builder(Config { listen_addresses: vec![listen], ..local() })).await;
    })
    .await;
}

/// A requester whose provider is behind a relay.
async fn behind_a_relay(engine: Arc<Script>, policy: haggle::Policy) -> (Relay, Node, Node) {
    let target = Arc::new(Mutex::new(0));
    let relay = Relay::start(target.clone()).await;
    let provider = provider(engine).await;
    *target.lock().expect("not poisoned") = port(&provider);
    let config = Config { enable_dht: false, providers: vec![via(&relay, provider.peer_id())], ..local() };
    let requester = start(builder(config).policy(policy)).await;
    (relay, provider, requester)
}

#[tokio::test]
async fn a_cut_in_mid_answer_is_resumed_at_the_exact_token() {
    bounded(async {
        let engine = Script::new(Does::Writes);
        let (relay, provider, requester) = behind_a_relay(engine.clone(), hasty()).await;
        let mut job = requester.submit(spec("Hello", 9_000)).await.expect("taken");
        let (mut text, mut taken, mut cuts) = (String::new(), 0, 0);
        let receipt = loop {
            match job.next().await.expect("an ending").expect("resumed") {
                JobEvent::Tokens { seq, n, text: more, .. } => {
                    assert_eq!(seq, taken);
                    taken += u64::from(n);
                    text += &more;
                    if taken / 2_000 > cuts {
                        cuts += 1;
                        relay.cut();
                    }
                }
                JobEvent::Finished(receipt) => break receipt,
                _ => {}
            }
        };
        assert_eq!(cuts, 4);
        assert!(relay.connections.load(Ordering::SeqCst) > 1, "the cuts were felt");
        assert!(text == words(9_000), "the same text as if uncut");
        assert_eq!((receipt.tokens, receipt.bill.lines.len()), (9_000, 1));
        assert_eq!(engine.written.load(Ordering::SeqCst), 9_000, "computed once");
        until(|| metric(&provider, "haggle_served_total") == 1).await;
    })
    .await;
}

#[tokio::test]
async fn a_provider_that_is_gone_ends_the_job_typed_with_what_is_owed() {
    bounded(async {
        // A runtime of its own, which takes everything of the provider with it.
        let machine = tokio::runtime::Runtime::new().expect("a runtime");
        let config = Config { enable_dht: false, ..listening() };
        let provider = builder(config).sell(sale(Script::new(Does::Writes)));
        let provider = provider.start(Tokio::new(machine.handle().clone())).await.expect("a node");
        let resume_timeout = std::time::Duration::from_millis(500);
        let config = Config { enable_dht: false, providers: vec![address(&provider)], resume_timeout, ..local() };
        let requester = start(builder(config)).await;
        let mut job = requester.submit(spec("Hello", 100_000)).await.expect("taken");
        let (mut machine, mut delivered) = (Some(machine), 0);
        let error = loop {
            match job.next().await.expect("an ending") {
                Ok(JobEvent::Tokens { n, .. }) => {
                    delivered += u64::from(n);
                    if delivered >= 100
                        && let Some(machine) = machine.take()
                    {
                        machine.shutdown_background();
                    }
                }
                Ok(JobEvent::Finished(receipt)) => panic!("the job cannot finish: {receipt:?}"),
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error.failure, Failure::Interrupted(Interrupted::Lost));
        assert_eq!(error.tokens_delivered(), delivered);
        assert_eq!(error.billed(), u128::from(error.bill.lines[0].tariff.fee_in) + u128::from(delivered) * 2);
    })
    .await;
}

#[tokio::test]
async fn a_rude_peer_is_cut_off_and_others_are_served() {
    bounded(async {
        let provider = provider(Script::new(Does::Writes)).await;
        let at = provider.listen_addresses()[0].clone();
        let rude = Peer::start(roomy()).await;
        let open = || rude.open_at(provider.peer_id(), at.clone());
        let junk = [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 64], &[0; 64], &[0x00, 0x02, 0xff, 0xff]];
        for bytes in junk {
            let mut stream = open().await.expect("an answer").expect("a stream");
            let _ = stream.write_all(bytes).await;
            let _ = stream.flush().await;
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
        }
        let mut held = Vec::new();
        for _ in 0..40 {
            held.push(open().await.expect("an answer").expect("negotiated before it is refused"));
        }
        until(|| provider.metrics().contains("haggle_streams_refused_total{reason=\"peer_full\"} 8")).await;
        assert_eq!(metric(&provider, "haggle_streams_inbound"), 32);
        let requester = requester(&provider).await;
        let job = requester.submit(spec("Hello", 3)).await.expect("taken");
        assert_eq!(job.answer().await.expect("answered").text, words(3));
        let refusing = start(builder(listening())).await;
        let to = refusing.listen_addresses()[0].clone();
        let mut stream = rude.open_at(refusing.peer_id(), to).await.expect("an answer").expect("a stream");
        assert_eq!(stream.read(&mut [0]).await.ok(), Some(0), "a node that sells nothing closes at once");
        assert!(refusing.metrics().contains("haggle_streams_refused_total{reason=\"not_serving\"} 1"));
    })
    .await;
}
