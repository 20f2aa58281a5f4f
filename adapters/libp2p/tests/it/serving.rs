//! What a provider's owner sees, and how it leaves.

use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use futures::StreamExt;
use haggle::{
    Config, Error, NodeEvent, Reachability, Scope,
    core::{
        event::{Failure, Interrupted, PassedOver},
        time::Millis,
        wire::message::DeclineReason,
    },
};

use crate::{bounded, world::*};

#[tokio::test]
async fn a_draining_provider_finishes_what_it_can_and_ends_the_rest_typed() {
    bounded(async {
        let engine = Script::new(Does::Hangs);
        let provider = provider(engine.clone()).await;
        let (requester, late) = (requester(&provider).await, requester(&provider).await);
        let mut events = provider.events();
        let job = requester.submit(spec("Hello", 10)).await.expect("taken");
        let id = job.id();
        until(|| engine.live.load(Ordering::SeqCst) == 1).await;
        assert_eq!((provider.load().jobs, provider.load().tokens), (1, 0));
        let drain = tokio::spawn({
            let provider = provider.clone();
            async move { provider.drain(Duration::from_secs(3)).await }
        });
        let declined = loop {
            // The command may be on its way still: whoever asks before it arrives waits for a slot.
            let begun = late.submit(haggle::JobSpec { deadline: Some(Millis(500)), ..spec("Hello", 10) }).await;
            match begun.expect("taken").answer().await {
                Err(Error::Job(error)) if error.failure == Failure::Deadline => {}
                Err(Error::Job(error)) => break error.failure,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(declined, Failure::Declined(PassedOver::Declined(DeclineReason::Draining)));
        drain.await.expect("no panic").expect("drained");
        assert_eq!(provider.load().jobs, 0);
        let Err(Error::Job(ended)) = job.answer().await else { panic!("it never wrote") };
        assert_eq!(ended.failure, Failure::Declined(PassedOver::Interrupted(Interrupted::Shutdown)));
        provider.stop().await;
        let told: Vec<_> = events.by_ref().collect().await;
        let served = told.iter().filter(|event| matches!(event, NodeEvent::Served { job, .. } if *job == id)).count();
        let accepted =
            told.iter().filter(|event| matches!(event, NodeEvent::Accepted { job, .. } if *job == id)).count();
        assert_eq!((accepted, served), (1, 1), "{told:?}");
        assert_eq!(told.last(), Some(&NodeEvent::Stopped { peer: provider.peer_id() }));
    })
    .await;
}

#[tokio::test]
async fn a_job_whose_end_nobody_acknowledges_is_in_the_books_when_the_node_is_gone() {
    bounded(async {
        let engine = Script::new(Does::Hangs);
        let provider = provider(engine.clone()).await;
        let relay = Relay::start(Arc::new(Mutex::new(port(&provider)))).await;
        let config = Config { enable_dht: false, providers: vec![via(&relay, provider.peer_id())], ..local() };
        let requester = start(builder(config)).await;
        let mut events = provider.events();
        let job = requester.submit(spec("Hello", 10)).await.expect("taken");
        until(|| engine.live.load(Ordering::SeqCst) == 1).await;
        // Nobody can be told any more.
        drop(relay);
        requester.stop().await;
        provider.stop().await;
        let told: Vec<_> = events.by_ref().collect().await;
        let served = |event: &NodeEvent| matches!(event, NodeEvent::Served { job: id, .. } if *id == job.id());
        assert_eq!(told.iter().filter(|event| served(event)).count(), 1, "{told:?}");
    })
    .await;
}

#[tokio::test]
async fn what_is_known_of_being_reached_is_told_truthfully() {
    bounded(async {
        let provider = provider(Script::new(Does::Writes)).await;
        let mut events = provider.events();
        assert_eq!(provider.reachability(), Reachability::default(), "nothing is known yet");
        let requester = requester(&provider).await;
        requester.submit(spec("Hello", 3)).await.expect("taken").answer().await.expect("answered");
        // Who dials from the same machine has not shown more than that.
        assert_eq!(provider.reachability().dialled_from, Some(Scope::Loopback));
        assert_eq!(provider.reachability().observed.len(), 0, "an address of the own network is no news");
        assert_eq!(requester.reachability().dialled_from, None, "it has dialled, and was not");
        provider.stop().await;
        let told: Vec<_> = events.by_ref().collect().await;
        assert!(told.contains(&NodeEvent::Dialled { from: Scope::Loopback }), "{told:?}");
    })
    .await;
}
