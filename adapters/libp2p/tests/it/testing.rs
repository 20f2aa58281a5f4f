//! The simulated market behind the public handles. Nothing here sleeps, and no clock but the virtual one is read.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, future::join, join};
use haggle::{
    Config, Error, Events, Job, JobError, JobEvent, JobSpec, Model, Node, NodeEvent, Prompt, QuoteSpec, Sale,
    core::{
        event::{Failure, Outcome, Settlement, TakeOver},
        spec::Failover,
        wire::message::EndReason,
    },
    id,
    testing::{EngineScript, FaultKind, Market, ProviderConfig, Trouble},
};

use crate::world::{Does, MODEL, Script, words};

const STORY: &str = "story";

fn spec(model: &str, max_tokens: u64) -> JobSpec {
    let model = Model::new(model.as_bytes()).expect("a name");
    let spec = JobSpec::new(model, Prompt::Raw("Once upon a time".into()), max_tokens);
    JobSpec { budget: Some(100_000), ..spec }
}

fn quote() -> QuoteSpec {
    let JobSpec { criteria, max_tokens, deadline, haggle, .. } = spec(STORY, 40);
    QuoteSpec { criteria, body_bytes: 16, max_tokens, deadline, haggle }
}

fn seller(price: u64) -> ProviderConfig {
    ProviderConfig::new(STORY, price, 4 * price)
}

/// Two sellers, the cheaper first, and a buyer.
fn market(seed: u64) -> (Market, Node, Node, Node) {
    let market = Market::new(seed);
    let cheap = market.provider(seller(100_000)).expect("a provider");
    let dear = market.provider(seller(200_000)).expect("a provider");
    let me = market.node(Config::default()).expect("a node");
    (market, cheap, dear, me)
}

/// Everything a job tells, with `at` called after so many tokens.
async fn read(job: &mut Job, at: u64, mut then: impl FnMut()) -> Result<Vec<JobEvent>, JobError> {
    let (mut events, mut tokens) = (Vec::new(), 0);
    while let Some(event) = job.next().await {
        let event = event?;
        if let JobEvent::Tokens { n, .. } = &event {
            tokens += u64::from(*n);
            if tokens == at {
                then();
            }
        }
        events.push(event);
    }
    Ok(events)
}

fn text(events: &[JobEvent]) -> String {
    let mut whole = String::new();
    for event in events {
        match event {
            JobEvent::TakenOver { how: TakeOver::Restarted, .. } => whole.clear(),
            JobEvent::Tokens { text, .. } => whole.push_str(text),
            _ => {}
        }
    }
    whole
}

fn told(events: &mut Events) -> Vec<NodeEvent> {
    std::iter::from_fn(|| events.next().now_or_never().flatten()).collect()
}

/// Whoever gives up waiting for a job's handle never gets one: nobody else could end the job.
#[test]
fn a_submit_that_is_dropped_leaves_no_job() {
    let (market, _cheap, _dear, me) = market(3);
    let mut events = me.events();
    for is_taken in [false, true] {
        let mut submit = Box::pin(me.submit(spec(STORY, 40)));
        assert!((&mut submit).now_or_never().is_none(), "it was sent");
        if is_taken {
            market.advance(Duration::ZERO);
        }
        drop(submit);
        market.advance(Duration::from_secs(60));
        let told = told(&mut events);
        let ended = told.iter().filter_map(|event| match event {
            NodeEvent::JobEnded { outcome, bill, .. } => Some((outcome, bill.tokens)),
            _ => None,
        });
        assert_eq!(ended.collect::<Vec<_>>(), [(&Outcome::Failed(Failure::Cancelled), 0)], "taken: {is_taken}");
    }
}

/// The answer without trouble.
fn whole() -> String {
    let (market, _cheap, _dear, me) = market(1);
    market.run(async { me.submit(spec(STORY, 40)).await.expect("taken").answer().await.expect("an answer").text })
}

#[test]
fn what_handles_do_they_do_here() {
    let (market, cheap, dear, me) = market(1);
    market.run(async {
        let offers = me.quote(quote()).await.expect("offers");
        assert_eq!(offers.iter().map(|offer| offer.peer).collect::<Vec<_>>(), [cheap.peer_id(), dear.peer_id()]);
        let found = me.discover(spec(STORY, 40).criteria, None).await.expect("found");
        assert_eq!(found.providers.len(), 2);

        let mut job = me.submit(spec(STORY, 40)).await.expect("taken");
        let events = read(&mut job, 0, || {}).await.expect("an answer");
        let Some(JobEvent::Finished(receipt)) = events.last() else { panic!("{events:?}") };
        assert_eq!((receipt.tokens, receipt.reason), (40, EndReason::Stop));
        assert_eq!(receipt.bill.lines.len(), 1);
        assert_eq!(me.connected_peers().len(), 2);
        assert!(me.reliability(cheap.peer_id()).await.expect("alive").is_some());

        let mut job = me.submit(spec(STORY, 40)).await.expect("taken");
        while !matches!(job.next().await, Some(Ok(JobEvent::Tokens { .. }))) {}
        job.cancel();
        let Err(ended) = read(&mut job, 0, || {}).await else { panic!("it was cancelled") };
        assert_eq!(ended.failure, Failure::Cancelled);

        me.ban(cheap.peer_id()).await.expect("banned");
        let answer = me.submit(spec(STORY, 40)).await.expect("taken").answer().await.expect("an answer");
        assert_eq!(id::to_libp2p(&answer.receipt.bill.lines[0].peer), Some(dear.peer_id()));
    });
    assert!(market.now() > Duration::from_millis(800), "two answers and a part of one, at 10 ms a token");
    assert_eq!(cheap.load().jobs, 0);
    assert!(cheap.load().tokens >= 40);
}

#[test]
fn a_provider_that_is_killed_in_mid_answer_is_replaced() {
    let (market, cheap, dear, me) = market(1);
    let events = market.run(async {
        let mut job = me.submit(spec(STORY, 40)).await.expect("taken");
        read(&mut job, 10, || market.kill(&cheap)).await.expect("an answer")
    });
    assert_eq!(text(&events), whole());
    assert!(events.iter().any(|event| matches!(event, JobEvent::TakenOver { how: TakeOver::Exact, .. })), "{events:?}");
    let Some(JobEvent::Finished(receipt)) = events.last() else { panic!("{events:?}") };
    let paid: Vec<_> = receipt.bill.lines.iter().filter_map(|line| id::to_libp2p(&line.peer)).collect();
    assert_eq!(paid, [cheap.peer_id(), dear.peer_id()]);
    assert!(matches!(market.run(cheap.submit(spec(STORY, 1))), Err(Error::Stopped)), "its process is dead");
    assert_eq!(cheap.connected_peers(), []);

    let again = market.restart(&cheap);
    assert_eq!(again.peer_id(), cheap.peer_id());
    market.advance(Duration::from_secs(300));
    let answer = market.run(async { me.submit(spec(STORY, 40)).await.expect("taken").answer().await });
    let bill = answer.expect("an answer").receipt.bill;
    assert_eq!(id::to_libp2p(&bill.lines[0].peer), Some(again.peer_id()), "it is trusted again");
}

#[test]
fn a_cut_is_resumed_at_the_same_provider() {
    let (market, cheap, _dear, me) = market(1);
    let events = market.run(async {
        let mut job = me.submit(spec(STORY, 40)).await.expect("taken");
        read(&mut job, 10, || market.cut(&me, &cheap)).await.expect("an answer")
    });
    assert_eq!(text(&events), whole());
    assert!(events.iter().any(|event| matches!(event, JobEvent::Resumed { .. })), "{events:?}");
    let Some(JobEvent::Finished(receipt)) = events.last() else { panic!("{events:?}") };
    assert_eq!(receipt.bill.lines.len(), 1);
}

#[test]
fn links_are_slow_where_they_are_told_to_be() {
    let took = |delay: u64| {
        let (market, cheap, dear, me) = market(1);
        for provider in [&cheap, &dear] {
            market.delay(&me, provider, Duration::from_millis(delay));
        }
        market.run(async { me.submit(spec(STORY, 40)).await.expect("taken").answer().await.expect("an answer") });
        market.now()
    };
    assert!(took(200) >= took(5) + Duration::from_millis(4 * 195), "adverts and the answer, there and back");

    let (market, cheap, _dear, me) = market(1);
    market.run(async {
        let mut job = me.submit(spec(STORY, 40)).await.expect("taken");
        read(&mut job, 10, || market.stall(&me, &cheap, Duration::from_secs(2))).await.expect("an answer");
    });
    assert!(market.now() >= Duration::from_secs(2));
}

#[test]
fn nobody_is_an_error_with_a_name() {
    let market = Market::new(1);
    let me = market.node(Config::default()).expect("a node");
    let Err(Error::Job(error)) = market.run(async { me.submit(spec(STORY, 40)).await.expect("taken").answer().await })
    else {
        panic!("there is nobody")
    };
    assert!(matches!(error.failure, Failure::NobodyFound { .. }), "{error:?}");
    assert!(error.retry_safe());
    assert_eq!(error.bill.settlement, Settlement::Simulated);
    assert!(matches!(market.run(me.quote(quote())), Err(Error::Job(_))));
    assert!(matches!(market.run(me.submit(spec(STORY, 0))), Err(Error::Refused(_))));
    assert!(matches!(market.run(me.connect("/ip4/127.0.0.1/tcp/1")), Err(Error::Config(_))), "no real address");
}

/// What several tasks hear, and when.
fn diary(seed: u64) -> Vec<String> {
    let (market, cheap, _dear, me) = market(seed);
    market.world(|world| world.config.default_link.jitter = 7);
    let diary = std::cell::RefCell::new(Vec::new());
    let note = |what: String| diary.borrow_mut().push(format!("{:?} {what}", market.now()));
    let buy = async |name: &str, pause: u64| {
        market.sleep(Duration::from_millis(pause)).await;
        let mut job = me.submit(spec(STORY, 40)).await.expect("taken");
        while let Some(event) = job.next().await {
            note(format!("{name} {event:?}"));
        }
    };
    let mut events = me.events();
    let listen = async {
        while let Some(event) = events.next().await {
            note(format!("{event:?}"));
        }
    };
    let kill = async {
        market.sleep(Duration::from_millis(400)).await;
        note("kill".into());
        market.kill(&cheap);
    };
    let work = async {
        join!(buy("first", 0), buy("second", 3), kill);
        me.stop().await;
    };
    market.run(join(listen, work));
    diary.into_inner()
}

#[test]
fn equal_seeds_make_equal_events_at_equal_times() {
    let first = diary(5);
    assert_eq!(first, diary(5));
    assert_ne!(first, diary(6), "the seed counts");
    assert!(first.iter().any(|line| line.starts_with("400ms kill")), "{first:?}");
    assert!(first.iter().any(|line| line.contains("TakenOver")));
    let ends = first.iter().filter(|line| line.contains("Finished(Receipt")).count();
    assert_eq!(ends, 2);
}

#[test]
fn all_that_is_told_says_that_it_is_simulated() {
    let (market, cheap, dear, me) = market(1);
    let mut listening: Vec<_> = [&me, &cheap, &dear].map(Node::events).into();
    market.run(async {
        let mut job = me.submit(spec(STORY, 40)).await.expect("taken");
        assert!(job.is_simulated());
        let events = read(&mut job, 10, || market.cut(&me, &cheap)).await.expect("an answer");
        let Some(JobEvent::Finished(receipt)) = events.last() else { panic!("{events:?}") };
        assert_eq!(receipt.bill.settlement, Settlement::Simulated);
        assert!(format!("{receipt:?}").contains("Simulated"));
        let found = me.discover(spec(STORY, 40).criteria, None).await.expect("found");
        assert!(found.providers.iter().all(|(peer, _)| id::is_simulated(peer)));
        me.stop().await;
        join!(cheap.stop(), dear.stop());
    });
    let told: Vec<NodeEvent> = listening.iter_mut().flat_map(told).collect();
    for name in
        ["peer:connect", "node:discovered", "job:negotiated", "stream:token", "job:ended", "job:served", "p2p:stopped"]
    {
        assert!(told.iter().any(|event| event.name() == name), "no {name} in {told:?}");
    }
    for event in &told {
        assert!(event.is_simulated(), "{event:?} could be taken for real");
    }
    for node in [&me, &cheap, &dear] {
        assert!(node.is_simulated() && node.node_info().simulated && id::is_simulated(&node.peer_id()));
        let metrics = node.metrics();
        let counted: Vec<_> = metrics.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(counted.len() > 5 && counted.iter().all(|line| line.contains("simulated=\"true\"")), "{metrics}");
    }
}

#[tokio::test]
async fn a_real_node_is_never_simulated() {
    let node =
        Node::start(crate::world::local(), haggle::Tokio::current().expect("a runtime")).await.expect("it starts");
    assert!(!node.is_simulated() && !node.node_info().simulated && !id::is_simulated(&node.peer_id()));
    assert!(!node.metrics().contains("simulated"));
    let mut events = node.events();
    let Err(Error::Job(error)) = node.submit(spec(STORY, 40)).await.expect("taken").answer().await else {
        panic!("there is nobody")
    };
    assert_eq!(error.bill.settlement, Settlement::None);
    node.stop().await;
    assert!(told(&mut events).iter().all(|event| !event.is_simulated()));
}

#[test]
fn a_node_that_is_stopped_ends_its_jobs_with_a_name() {
    let (market, cheap, dear, me) = market(1);
    let mut events = me.events();
    market.run(async {
        let mut bought = me.submit(spec(STORY, 40)).await.expect("taken");
        while !matches!(bought.next().await, Some(Ok(JobEvent::Tokens { .. }))) {}
        me.stop().await;
        me.stop().await;
        let Err(ended) = read(&mut bought, 0, || {}).await else { panic!("it was stopped") };
        assert_eq!(ended.failure, Failure::Cancelled);
        assert_eq!(ended.bill.settlement, Settlement::Simulated);
        assert!(matches!(me.submit(spec(STORY, 40)).await, Err(Error::Stopped)));
    });
    assert_eq!(told(&mut events).last(), Some(&NodeEvent::Stopped { peer: me.peer_id() }));

    // A seller that goes says so, and the buyer goes on elsewhere; the last handle stops a node, too.
    let other = market.node(Config::default()).expect("a node");
    let mut cheap = Some(cheap);
    let events = market.run(async {
        let mut job = other.submit(spec(STORY, 40)).await.expect("taken");
        read(&mut job, 10, || drop(cheap.take())).await.expect("an answer")
    });
    assert_eq!(text(&events), whole());

    let job = market.run(other.submit(spec(STORY, 40))).expect("taken");
    drop(market);
    assert!(matches!(job.answer().now_or_never(), Some(Err(Error::Stopped))), "its network is no more");
    assert!(
        dear.events().next().now_or_never().is_some_and(|event| event.is_none()) || dear.connected_peers().is_empty()
    );
}

#[test]
fn a_seller_that_drains_ends_what_runs() {
    let market = Market::new(1);
    let seller = market.provider(seller(100_000)).expect("a provider");
    let me = market.node(Config::default()).expect("a node");
    market.run(async {
        let mut job = me.submit(spec(STORY, 40)).await.expect("taken");
        while !matches!(job.next().await, Some(Ok(JobEvent::Tokens { .. }))) {}
        let drained = seller.drain(Duration::from_secs(60));
        let (drained, events) = join!(drained, read(&mut job, 0, || {}));
        drained.expect("drained");
        assert!(matches!(events.expect("an answer").last(), Some(JobEvent::Finished(_))));
        assert!(matches!(me.submit(spec(STORY, 40)).await.expect("taken").answer().await, Err(Error::Job(_))));
    });
}

#[test]
fn an_engine_of_ones_own_answers_here() {
    let market = Market::new(1);
    let sell = |does, price_out| {
        let sale = Sale { price_out, ..Sale::new(Script::new(does)) };
        Node::builder(Config::default()).sell(sale).start_in(&market).expect("a provider")
    };
    let (broken, works) = (sell(Does::PanicsAfter(5), 100), sell(Does::Writes, 900));
    let me = market.node(Config::default()).expect("a node");
    // It continues nobody's text.
    let anew = JobSpec { failover: Failover::Restart, ..spec(MODEL, 30) };
    let answer = market.run(async { me.submit(anew).await.expect("taken").answer().await }).expect("an answer");
    assert_eq!(answer.text, words(30), "without what the first has written");
    let paid: Vec<_> = answer.receipt.bill.lines.iter().filter_map(|line| id::to_libp2p(&line.peer)).collect();
    assert_eq!(paid, [broken.peer_id(), works.peer_id()]);
    assert!(market.now() > Duration::from_millis(300), "its tokens take their time");

    // A fault of the world strikes it as any other, and a reader that is slow holds it back.
    let hangs = FaultKind::Engine(market.id(&works), Some((3, Trouble::Hang)));
    market.strike(hangs);
    market.kill(&broken);
    let ended = market.run(async { me.submit(spec(MODEL, 30)).await.expect("taken").answer().await });
    assert!(matches!(ended, Err(Error::Job(_))), "{ended:?}");
    market.strike(FaultKind::Engine(market.id(&works), None));
    market.advance(Duration::from_secs(600));
    let job = market.run(me.submit(spec(MODEL, 5_000))).expect("taken");
    market.advance(Duration::from_secs(20));
    let (ahead, window) = (works.load().tokens, u64::from(Config::default().limits.window_tokens));
    assert!(ahead <= 30 + 30 + window, "{ahead} tokens, unread");
    let answer = market.run(job.answer()).expect("an answer");
    assert_eq!(answer.receipt.tokens, 5_000);

    let key = libp2p::identity::Keypair::generate_ed25519();
    let refused = Node::builder(Config::default()).key(key).start_in(&market);
    let Err(Error::Config(error)) = refused else { panic!("{refused:?}") };
    assert_eq!(error.path, "key");
}

#[test]
fn an_address_makes_a_provider_known() {
    let market = Market::new(1);
    let hidden = market.provider(ProviderConfig { published: false, ..seller(100_000) }).expect("a provider");
    let me = market.node(Config::default()).expect("a node");
    market.run(async {
        assert!(me.discover(spec(STORY, 1).criteria, None).await.is_err());
        let peer = me.connect(&hidden.listen_addresses()[0].to_string()).await.expect("an address");
        assert_eq!(peer, hidden.peer_id());
        market.sleep(Duration::from_secs(60)).await;
        assert_eq!(me.discover(spec(STORY, 1).criteria, None).await.expect("found").providers[0].0, peer);
    });
}

#[test]
fn minutes_of_waiting_cost_nothing() {
    let market = Market::new(1);
    let slow = EngineScript { prefill: 1_000, token: 12_000, ..EngineScript::default() };
    let _seller = market.provider(seller(100_000).engine(slow)).expect("a provider");
    let me = market.node(Config::default()).expect("a node");
    let answer = market.run(async { me.submit(spec(STORY, 40)).await.expect("taken").answer().await });
    assert!(market.now() >= Duration::from_secs(39 * 12), "{answer:?} at {:?}", market.now());
    assert_eq!(answer.expect("an answer").receipt.tokens, 40);
}

#[tokio::test]
async fn it_runs_under_a_runtime_too() {
    let (market, cheap, _dear, me) = market(1);
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let me = me.clone();
            tokio::spawn(async move { me.submit(spec(STORY, 40)).await?.answer().await })
        })
        .collect();
    let killer = market.clone();
    tokio::spawn(async move {
        killer.sleep(Duration::from_millis(300)).await;
        killer.kill(&cheap);
    });
    for task in tasks {
        let answer = crate::bounded(task).await.expect("no panic").expect("an answer");
        assert_eq!(answer.text, whole());
    }
}

#[test]
#[should_panic(expected = "everybody waits, and nothing is left to happen")]
fn a_test_that_would_hang_is_told() {
    let (market, _cheap, _dear, me) = market(1);
    let mut events = me.events();
    let _job = market.run(me.submit(spec(STORY, 40))).map(Job::detach).map(drop);
    market.run(async { while events.next().await.is_some() {} });
}

#[test]
#[should_panic(expected = "is no node of this market")]
fn nodes_of_other_markets_are_not_touched() {
    let (market, ..) = market(1);
    let (_other, cheap, ..) = self::market(1);
    market.kill(&cheap);
}

#[test]
fn handles_may_go_to_other_threads() {
    fn check<T: Send + Sync + 'static>(_: &T) {}
    let (market, cheap, ..) = market(1);
    check(&market);
    check(&cheap);
    check(&Arc::new(market.sleep(Duration::ZERO)));
}
