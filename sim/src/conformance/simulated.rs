//! The market of a scenario in a world: what adapters are compared with.

use haggle_core::{Criteria, JobId, JobSpec, PeerId, event::Finished, money::Price, wire::message::EndReason};

use super::{Adapter, Answered, Deed, Said, Scenario, Seller, limits, policy, scenarios::MODEL};
use crate::{
    EngineScript, Fault, FaultKind, Heard, NodeId, Pace, ProviderConfig, RequesterConfig, Schedule, Talk, Trouble,
    World, name,
};

/// The simulator as an adapter.
#[derive(Debug)]
pub struct Simulated {
    world: World,
    sellers: Vec<NodeId>,
    buyer: NodeId,
    jobs: Vec<Reading>,
}

/// How far a job was read.
#[derive(Debug)]
struct Reading {
    job: JobId,
    events: usize,
    tokens: u64,
    bytes: usize,
}

impl Default for Simulated {
    fn default() -> Self {
        Self { world: World::new(1), sellers: Vec::new(), buyer: NodeId(0), jobs: Vec::new() }
    }
}

impl Simulated {
    fn fault(&mut self, after: u64, what: FaultKind) {
        let fault = Fault { at: self.world.now() + after, what };
        self.world.apply(&Schedule { faults: vec![fault] });
    }

    /// What is there to be said of a job and was not; events come before the tokens that came after them.
    fn unheard(&mut self, nth: usize) -> Option<Said> {
        let reading = &mut self.jobs[nth];
        let job = self.world.job(reading.job);
        if let Some((_, event)) = job.events.get(reading.events).filter(|(_, event)| event.name() != "job:ended") {
            reading.events += 1;
            return Some(Said::Event(event.name()));
        }
        if job.tokens > reading.tokens {
            let said = Said::Tokens { n: job.tokens - reading.tokens, text: job.text[reading.bytes..].to_owned() };
            (reading.tokens, reading.bytes) = (job.tokens, job.text.len());
            return Some(said);
        }
        job.ending.as_ref().map(|(_, ending)| Said::Ended(ending.clone()))
    }
}

impl Adapter for Simulated {
    fn open(&mut self, scenario: &Scenario) -> Answered<()> {
        let mut world = World::new(7);
        self.sellers = scenario.sellers.iter().map(|seller| world.add_provider(config(seller))).collect();
        self.buyer = world.add_requester(RequesterConfig {
            policy: policy(),
            limits: limits(),
            account_budget: None,
            pace: Pace::Never,
        });
        self.world = world;
        self.jobs.clear();
        Ok(())
    }

    fn peer(&self, seller: usize) -> PeerId {
        self.sellers[seller].peer()
    }

    fn discover(&mut self) -> Answered<Vec<(PeerId, Price)>> {
        let job = self.world.discover(self.buyer, Criteria::new(name(MODEL)), None)?;
        while self.world.job(job).ending.is_none() && self.world.step() {}
        match self.world.job(job).finished() {
            Some(Finished::Providers { found, .. }) => {
                Ok(found.iter().map(|(peer, advert)| (*peer, advert.models[0].price_out)).collect())
            }
            _ => Err(format!("nobody was found: {:?}", self.world.job(job).failure()).into()),
        }
    }

    fn submit(&mut self, spec: JobSpec) -> Answered<()> {
        let job = self.world.submit(self.buyer, spec)?;
        self.jobs.push(Reading { job, events: 0, tokens: 0, bytes: 0 });
        Ok(())
    }

    fn next(&mut self, nth: usize) -> Answered<Said> {
        let job = self.jobs[nth].job;
        self.world.set_pace(job, Pace::AtOnce);
        loop {
            if let Some(said) = self.unheard(nth) {
                self.world.set_pace(job, Pace::Never);
                return Ok(said);
            }
            if !self.world.step() {
                return Err("nothing more happens in the world".into());
            }
        }
    }

    fn act(&mut self, deed: Deed) -> Answered<()> {
        match deed {
            Deed::Cut => {
                for seller in self.sellers.clone() {
                    self.fault(0, FaultKind::Cut(self.buyer, seller));
                }
            }
            Deed::Kill(seller) => self.fault(0, FaultKind::Kill(self.sellers[seller], Some(1))),
            // A node that is stopped says goodbye, then it is gone.
            Deed::Stop(seller) => {
                self.fault(0, FaultKind::ShutDown(self.sellers[seller]));
                self.fault(1_000, FaultKind::Kill(self.sellers[seller], Some(1)));
            }
            Deed::Cancel(job) => self.world.cancel(self.jobs[job].job)?,
            Deed::Pester(seller, bytes) => {
                let target = self.sellers[seller];
                self.world.add_script(&[], move |talk: &mut Talk<'_>, heard: Heard<'_>| match heard {
                    Heard::Start => talk.open(target),
                    Heard::Opened => {
                        talk.raw(bytes.to_vec());
                        talk.close();
                    }
                    _ => {}
                });
            }
        }
        Ok(())
    }

    fn close(&mut self) -> Answered<()> {
        for reading in &self.jobs {
            if self.world.job(reading.job).ending.is_none() {
                self.world.cancel(reading.job)?;
            }
        }
        Ok(())
    }

    fn left(&mut self) -> Vec<String> {
        self.world.run_to_end();
        self.world.broken().iter().map(|broken| format!("{broken:?}")).collect()
    }
}

fn config(seller: &Seller) -> ProviderConfig {
    let hangs = seller.hangs_at.map(|at| (at, Trouble::Hang));
    let fails = seller.fails_at.map(|at| (at, Trouble::Fail(EndReason::Engine)));
    let script = EngineScript {
        prefill: 1,
        token: 1,
        length: u64::MAX,
        class: seller.class,
        trouble: hangs.or(fails),
        ..EngineScript::default()
    };
    let mut config = ProviderConfig::new(MODEL, seller.price_in, seller.price_out).slots(seller.slots).engine(script);
    config.service.models[0].floor_permille = seller.floor_permille;
    config.limits = limits();
    config
}
