//! What a node keeps on disk, and when others may have it.

use std::{
    future::Future,
    net::TcpListener,
    path::PathBuf,
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Wake, Waker},
};

use haggle::{
    Config, Error,
    core::{
        Limits, PeerId, Refusal,
        peers::{BanCause, BanRecord},
        time::Millis,
    },
    state::State,
};

use crate::{bounded, key::Folder, world::*};

/// Tries to open a state directory at the very moment in which somebody is told something.
struct Look {
    path: PathBuf,
    was_free: Mutex<Option<bool>>,
}

impl Wake for Look {
    fn wake(self: Arc<Self>) {
        let is_free = State::open(&self.path).is_ok();
        self.was_free.lock().expect("a look").get_or_insert(is_free);
    }
}

/// What comes out, and whether the directory was free when it was told.
async fn look<T>(folder: &Folder, what: impl Future<Output = T>) -> (T, Option<bool>) {
    let look = Arc::new(Look { path: folder.0.clone(), was_free: Mutex::new(None) });
    let waker = Waker::from(look.clone());
    let mut what = pin!(what);
    loop {
        if let Poll::Ready(out) = what.as_mut().poll(&mut Context::from_waker(&waker)) {
            let was_free = *look.was_free.lock().expect("a look");
            return (out, was_free);
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_state_directory_is_free_when_its_node_says_that_it_has_stopped() {
    bounded(async {
        let folder = Folder::new("stopped");
        let state = State::open(&folder.0).expect("a folder");
        let node = start(builder(local()).state(state)).await;
        assert!(State::open(&folder.0).is_err(), "the node has it");
        let ((), was_free) = look(&folder, node.stop()).await;
        assert_eq!(was_free, Some(true));
    })
    .await;
}

#[tokio::test]
async fn a_state_directory_is_free_when_its_node_says_that_it_cannot_start() {
    bounded(async {
        let folder = Folder::new("failed");
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = taken.local_addr().expect("bound").port();
        let listen_addresses = vec![format!("/ip4/127.0.0.1/tcp/{port}")];
        let state = State::open(&folder.0).expect("a folder");
        let starts = builder(Config { listen_addresses, ..local() }).state(state).start(runtime());
        let (started, was_free) = look(&folder, starts).await;
        assert!(matches!(started, Err(Error::Listen { .. })), "{started:?}");
        assert_eq!(was_free, Some(true));
    })
    .await;
}

fn ban(n: u32, cause: BanCause) -> BanRecord {
    let peer = PeerId::new(&n.to_be_bytes()).expect("a peer");
    BanRecord { peer, cause, remaining: Millis(60_000), remembered: Millis(120_000), proven: false }
}

#[test]
fn as_many_bans_are_kept_as_the_limits_of_the_node_allow_and_what_is_refused_changes_nothing() {
    let folder = Folder::new("trust");
    let state = State::open(&folder.0).expect("a folder");
    let n = Limits::default().bans + 2;
    let limits = Limits { bans: n, ..Limits::default() };
    let records: Vec<_> = (0..n).map(|n| ban(n, BanCause::Score)).collect();
    let take = |records: &[BanRecord]| {
        state.trust(limits.clone(), |requester, now| requester.import_bans(now, Millis::ZERO, records))
    };
    let bans = || state.trust(limits.clone(), |requester, now| Ok(requester.bans(now))).expect("readable").len();
    take(&records).expect("there is room");
    let peer = ban(0, BanCause::Score).peer;
    state
        .trust(limits.clone(), |requester, _| {
            requester.allow(&peer);
            Ok(())
        })
        .expect("a change");
    assert_eq!(bans(), records.len() - 1);

    let manual: Vec<_> = (n..=2 * n).map(|n| ban(n, BanCause::Manual)).collect();
    match take(&manual) {
        Err(Error::Refused(Refusal::BansFull)) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(bans(), records.len() - 1);
}
