//! The scenarios, as data.

use haggle_core::{
    JobSpec, Limits, Policy,
    spec::{Failover, Haggle},
    time::Millis,
};

use super::{Deed, Scenario, Seller, Step};

/// The model that is sold.
pub const MODEL: &str = "conformance";

/// Tokens of an answer: several windows.
const LONG: u64 = 400;
/// Where engines hang and fail.
const MIDDLE: u64 = 100;
/// Tokens on their way, at most: nobody is done before it is read.
const WINDOW: u32 = 32;

/// The times of buyers. Patience with the only seller is long: no machine is so busy that a resume takes longer.
#[must_use]
pub fn policy() -> Policy {
    Policy {
        retry_delay: Millis(100),
        resume_grace: Millis(500),
        resume_timeout: Millis(20_000),
        query_timeout: Millis(5_000),
        ..Policy::default()
    }
}

/// The sizes of buyers and sellers.
#[must_use]
pub fn limits() -> Limits {
    Limits { window_tokens: WINDOW, ..Limits::default() }
}

/// All scenarios.
#[must_use]
pub fn scenarios() -> Vec<Scenario> {
    let mut all = straight();
    all.extend(broken());
    all.extend(rude());
    all
}

fn scenario(name: &'static str, sellers: &[Seller], steps: &[Step]) -> Scenario {
    Scenario { name, sellers: sellers.to_vec(), steps: steps.to_vec() }
}

fn seller() -> Seller {
    Seller {
        price_in: 1_000_000,
        price_out: 2_000_000,
        floor_permille: 1_000,
        slots: 4,
        class: 1,
        hangs_at: None,
        fails_at: None,
    }
}

fn dearer() -> Seller {
    Seller { price_out: 5_000_000, ..seller() }
}

fn hangs() -> Seller {
    Seller { hangs_at: Some(MIDDLE), ..seller() }
}

fn job(tokens: u64) -> JobSpec {
    let mut job = crate::job(MODEL, "Tell me of the market, and of its prices.", tokens, 100_000);
    job.haggle = Haggle::Offers;
    job.sampling.seed = 11;
    job
}

fn submit(job: JobSpec) -> Step {
    Step::Submit(Box::new(job))
}

/// What happens where nothing goes wrong.
fn straight() -> Vec<Scenario> {
    let stream = [submit(job(LONG)), Step::Finish(0)];
    let bid = JobSpec { haggle: Haggle::Bid(700), ..job(20) };
    let poor = JobSpec { budget: Some(1), ..job(LONG) };
    vec![
        scenario("discover", &[dearer(), seller()], &[Step::Discover]),
        scenario("haggle", &[Seller { floor_permille: 800, ..seller() }], &[submit(bid), Step::Finish(0)]),
        scenario("choose", &[dearer(), seller()], &stream),
        scenario("over budget", &[dearer(), seller()], &[submit(poor), Step::Finish(0)]),
        scenario("stream", &[seller()], &stream),
        // The posted price is known the second time.
        scenario(
            "twice",
            &[seller()],
            &[submit(job(20)), Step::Finish(0), submit(JobSpec { haggle: Haggle::No, ..job(20) }), Step::Finish(1)],
        ),
        scenario(
            "back-pressure",
            &[seller()],
            &[submit(job(LONG)), Step::Read(0, 1), submit(job(LONG)), Step::Finish(1), Step::Finish(0)],
        ),
        scenario(
            "cancel",
            &[hangs()],
            &[submit(job(LONG)), Step::Read(0, MIDDLE), Step::Do(Deed::Cancel(0)), Step::Finish(0)],
        ),
        scenario(
            "shutdown",
            &[hangs()],
            &[
                submit(JobSpec { failover: Failover::Never, ..job(LONG) }),
                Step::Read(0, MIDDLE),
                Step::Do(Deed::Stop(0)),
                Step::Finish(0),
            ],
        ),
    ]
}

/// What happens to connections, nodes and engines.
fn broken() -> Vec<Scenario> {
    let cut_at = |at| [Step::Read(0, at), Step::Do(Deed::Cut)];
    let begun = [submit(job(LONG))];
    let cut: Vec<_> = begun.iter().cloned().chain(cut_at(MIDDLE)).chain([Step::Finish(0)]).collect();
    let cuts = [1, 90, 180, 270].into_iter().flat_map(cut_at);
    let cuts: Vec<_> = begun.iter().cloned().chain(cuts).chain([Step::Finish(0)]).collect();
    let lost = |failover| {
        [submit(JobSpec { failover, ..job(LONG) }), Step::Read(0, MIDDLE), Step::Do(Deed::Kill(0)), Step::Finish(0)]
    };
    let other_class = Seller { class: 2, ..dearer() };
    let breaks = |at| Seller { fails_at: Some(at), ..seller() };
    vec![
        scenario("cut", &[seller()], &cut),
        scenario("resume again and again", &[seller()], &cuts),
        scenario("failover, exact", &[hangs(), dearer()], &lost(Failover::Continue)),
        scenario("failover, spliced", &[hangs(), other_class], &lost(Failover::Continue)),
        scenario("lost", &[hangs(), dearer()], &lost(Failover::Never)),
        scenario("an engine breaks at once", &[breaks(0), dearer()], &[submit(job(20)), Step::Finish(0)]),
        scenario("an engine breaks later", &[breaks(50), dearer()], &[submit(job(LONG)), Step::Finish(0)]),
    ]
}

/// What strangers send.
fn rude() -> Vec<Scenario> {
    const GARBAGE: [&[u8]; 4] = [b"GET / HTTP/1.1\r\n\r\n", &[0xff; 64], &[0; 64], &[0x00, 0x02, 0xff, 0xff]];
    let pester = GARBAGE.map(|bytes| Step::Do(Deed::Pester(0, bytes)));
    let steps = [submit(job(LONG)), Step::Read(0, MIDDLE)];
    let steps: Vec<_> = steps.into_iter().chain(pester).chain([Step::Finish(0)]).collect();
    vec![scenario("bad peer", &[seller()], &steps)]
}
