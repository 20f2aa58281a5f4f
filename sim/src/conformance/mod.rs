//! The suite that every adapter has to pass: scripted scenarios, played on the adapter and in a [`World`](crate::World),
//! with the same outcome.
//!
//! An author implements [`Adapter`] for his market (nodes, and what can happen to them) and writes one line:
//!
//! ```
//! # let mut adapter = haggle_sim::conformance::Simulated::default();
//! haggle_sim::conformance::check(&mut adapter).unwrap();
//! ```
//!
//! What is compared, job by job: which kinds of events the application heard, the milestones in their order, the text, the
//! ending, and the bill. What depends on who is faster is not: [`TIMING`]. [`check_stops`] stops the market after every
//! step of every scenario and asks what is left.
//!
//! Nothing here is async, nothing waits for a time to pass, and no scenario depends on speed: where a moment matters, an
//! engine [hangs](Seller::hangs_at) there.

mod play;
mod scenarios;
mod simulated;
mod writer;

use std::{error::Error, fmt};

use haggle_core::{JobSpec, PeerId, event::Ending, money::Price};

pub use play::{Line, Told, Transcript, check, check_stops, play};
pub use scenarios::{MODEL, limits, policy, scenarios};
pub use simulated::Simulated;
pub use writer::{Writer, Written};

/// What an adapter answers; an error fails the suite, with its text.
pub type Answered<T> = Result<T, Box<dyn Error>>;

/// A market on an adapter under test: one buyer, and the sellers of a scenario.
///
/// Every method may wait, and has to give up with an error after a time that no healthy market needs.
pub trait Adapter {
    /// What this adapter has no means for; scenarios that need it are left out.
    fn lacks(&self) -> &[Need] {
        &[]
    }

    /// Starts the scenario's sellers, each with [`Writer`]s for its jobs, and a buyer that finds all of them; with
    /// [`policy`] and [`limits`].
    ///
    /// # Errors
    /// Whatever failed.
    fn open(&mut self, scenario: &Scenario) -> Answered<()>;

    /// The peer id of a seller, by its number in the scenario.
    fn peer(&self, seller: usize) -> PeerId;

    /// Asks who serves [`MODEL`]: who, and the posted price of 1,000,000 tokens written, in the order told.
    ///
    /// # Errors
    /// Whatever failed.
    fn discover(&mut self) -> Answered<Vec<(PeerId, Price)>>;

    /// Has the buyer submit a job; jobs are counted from 0.
    ///
    /// # Errors
    /// Whatever failed, a refusal included.
    fn submit(&mut self, spec: JobSpec) -> Answered<()>;

    /// Waits for what a job's application hears next, and takes it. Not called again after [`Said::Ended`].
    ///
    /// # Errors
    /// Whatever failed; also when nothing comes.
    fn next(&mut self, job: usize) -> Answered<Said>;

    /// Makes something happen, and returns when it has.
    ///
    /// # Errors
    /// Whatever failed.
    fn act(&mut self, deed: Deed) -> Answered<()>;

    /// Stops the buyer, then the sellers that still run. What jobs have to tell can still be heard.
    ///
    /// # Errors
    /// Whatever failed.
    fn close(&mut self) -> Answered<()>;

    /// What a closed market has left running or open, each in a few words: tasks, threads, sockets.
    fn left(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// What an application hears of its job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    /// An event without tokens, by [`Event::name`](haggle_core::Event::name).
    Event(&'static str),
    /// Tokens.
    Tokens {
        /// How many.
        n: u64,
        /// Their text.
        text: String,
    },
    /// The ending: nothing follows.
    Ended(Ending),
}

/// Something that happens to a market.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deed {
    /// Every connection is cut; new ones can be made.
    Cut,
    /// A seller is gone from one moment to the next; its connections end.
    Kill(usize),
    /// A seller is stopped as its owner would.
    Stop(usize),
    /// The application cancels a job.
    Cancel(usize),
    /// A stranger opens a stream to a seller, sends these bytes, and leaves.
    Pester(usize, &'static [u8]),
}

/// What a scenario asks of an adapter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// More than one seller.
    Sellers,
    /// [`Adapter::discover`].
    Discovery,
    /// [`Deed::Cut`].
    Cut,
    /// [`Deed::Kill`].
    Kill,
    /// [`Deed::Pester`].
    Pester,
}

/// A seller of a scenario. Its texts, prices and troubles are all that differs from the defaults.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seller {
    /// Micro-units per 1,000,000 tokens read; a token is counted for 4 bytes.
    pub price_in: Price,
    /// Micro-units per 1,000,000 tokens written.
    pub price_out: Price,
    /// The lowest bid taken, in thousandths of the price.
    pub floor_permille: u32,
    /// Jobs at once.
    pub slots: u32,
    /// Its exactness class (`Seeded`, 32 such bytes): engines of one class write the same text.
    pub class: u8,
    /// Its engine writes so many tokens of a job, then nothing more.
    pub hangs_at: Option<u64>,
    /// Its engine breaks after so many tokens of a job.
    pub fails_at: Option<u64>,
}

/// A step of a scenario.
#[derive(Clone, PartialEq, Eq)]
pub enum Step {
    /// The buyer asks who is there.
    Discover,
    /// The buyer submits a job.
    Submit(Box<JobSpec>),
    /// The application takes what a job has to say until it has so many of its tokens.
    Read(usize, u64),
    /// The application takes what a job has to say until it ends.
    Finish(usize),
    /// Something happens.
    Do(Deed),
}

/// A scenario: sellers, and what happens, step by step.
#[derive(Clone, PartialEq, Eq)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// Who sells.
    pub sellers: Vec<Seller>,
    /// What happens.
    pub steps: Vec<Step>,
}

impl Scenario {
    /// What it asks of an adapter.
    pub fn needs(&self) -> impl Iterator<Item = Need> + '_ {
        let several = (self.sellers.len() > 1).then_some(Need::Sellers);
        let need = |step: &Step| match step {
            Step::Discover => Some(Need::Discovery),
            Step::Do(Deed::Cut) => Some(Need::Cut),
            Step::Do(Deed::Kill(_)) => Some(Need::Kill),
            Step::Do(Deed::Pester(..)) => Some(Need::Pester),
            _ => None,
        };
        several.into_iter().chain(self.steps.iter().filter_map(need))
    }
}

/// Events that come or do not come by who was faster.
pub const TIMING: [&str; 1] = ["job:passed-over"];

/// Why an adapter does not pass.
#[derive(Debug)]
pub struct Mismatch {
    /// The scenario.
    pub scenario: &'static str,
    /// What differs, or failed.
    pub what: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "scenario {:?}: {}", self.scenario, self.what)
    }
}

impl Error for Mismatch {}
