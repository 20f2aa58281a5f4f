//! A node that was stopped leaves nothing behind, whenever that was. Threads and sockets belong to a whole process, so
//! each runtime is tried in one of its own.

use std::fs;

use haggle::{
    AsyncStd, Smol, Tokio,
    core::{JobSpec, PeerId, money::Price},
    runtime::Runtime,
    timers,
};
use haggle_sim::conformance::{Adapter, Answered, Deed, Said, Scenario, check_stops, play, scenarios};

use super::Market;
use crate::alone;

#[test]
fn on_tokio_nothing_is_left() {
    alone("suite::stops::on_tokio_nothing_is_left", || stops(Tokio::start().expect("threads")));
}

#[test]
fn on_smol_nothing_is_left() {
    alone("suite::stops::on_smol_nothing_is_left", || stops(Smol::global()));
}

#[test]
fn on_async_std_nothing_is_left() {
    alone("suite::stops::on_async_std_nothing_is_left", || stops(AsyncStd));
}

fn stops(runtime: impl Runtime) {
    let mut market = Market::on(runtime);
    // Runtimes start their own threads when they are first used; so do timers.
    for scenario in scenarios().iter().filter(|scenario| ["stream", "cut"].contains(&scenario.name)) {
        play(&mut market, scenario).expect("played");
        assert_eq!(market.left(), Vec::<String>::new());
    }
    market.forget();
    market.until(|| !Open::has_engine()).expect("engines end with their nodes");
    assert_eq!(timers(), 0, "libp2p has its own");
    let mut market = Counted { before: Open::now(), market };
    let stops = check_stops(&mut market).unwrap_or_else(|error| panic!("{error}"));
    assert!(stops > 50, "{stops}");
}

/// What a process has open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Open {
    threads: usize,
    sockets: usize,
    timers: usize,
}

impl Open {
    fn now() -> Self {
        let entries = |of: &str| fs::read_dir(of).expect("Linux").filter_map(Result::ok);
        let is_socket = |path: std::path::PathBuf| path.to_string_lossy().starts_with("socket:");
        let sockets =
            entries("/proc/self/fd").filter_map(|fd| fs::read_link(fd.path()).ok()).filter(|to| is_socket(to.clone()));
        Open { threads: entries("/proc/self/task").count(), sockets: sockets.count(), timers: timers() }
    }

    /// Every engine has a thread of that name.
    fn has_engine() -> bool {
        let tasks = fs::read_dir("/proc/self/task").expect("Linux").filter_map(Result::ok);
        let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
        names.into_iter().any(|name| name.starts_with("engine"))
    }

    fn no_more_than(self, before: Self) -> bool {
        self.threads <= before.threads && self.sockets <= before.sockets && self.timers <= before.timers
    }
}

/// A market that asks the system what is left.
struct Counted<R> {
    before: Open,
    market: Market<R>,
}

impl<R: Runtime> Adapter for Counted<R> {
    fn open(&mut self, scenario: &Scenario) -> Answered<()> {
        self.market.open(scenario)
    }
    fn peer(&self, seller: usize) -> PeerId {
        self.market.peer(seller)
    }
    fn discover(&mut self) -> Answered<Vec<(PeerId, Price)>> {
        self.market.discover()
    }
    fn submit(&mut self, spec: JobSpec) -> Answered<()> {
        self.market.submit(spec)
    }
    fn next(&mut self, job: usize) -> Answered<Said> {
        self.market.next(job)
    }
    fn act(&mut self, deed: Deed) -> Answered<()> {
        self.market.act(deed)
    }
    fn close(&mut self) -> Answered<()> {
        self.market.close()
    }
    fn left(&mut self) -> Vec<String> {
        let mut left = self.market.left();
        self.market.forget();
        if self.market.until(|| Open::now().no_more_than(self.before)).is_err() {
            left.push(format!("{:?}, before there were {:?}", Open::now(), self.before));
        }
        left
    }
}
