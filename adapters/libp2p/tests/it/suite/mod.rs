//! The conformance suite on every runtime.

mod faulty;
#[cfg(target_os = "linux")]
mod stops;

use std::{error::Error, future::Future, sync::Arc, time::Duration};

use futures::{AsyncReadExt, AsyncWriteExt, FutureExt, StreamExt, future::Either};
use futures_timer::Delay;
use haggle::{
    AsyncStd, Config, Criteria, Job, JobEvent, JobSpec, Model, Node, Receipt, Sale, Smol, Tokio,
    core::{
        PeerId,
        event::{Ending, Finished, Outcome},
        money::Price,
        time::Millis,
        wire,
        wire::message::EndReason,
    },
    engine::{
        Done, Engine, ExactKind, Exactness, Failure, Generation, ModelInfo, Piece, PrefixUse, Prompt, Request, Started,
        Step, Stop, Why,
    },
    id,
    libp2p::{
        self, Multiaddr, Swarm,
        identity::Keypair,
        swarm::{self, SwarmEvent},
    },
    runtime::{Runtime, TransportLimits},
    sessions,
};
use haggle_sim::conformance::{
    Adapter, Answered, Deed, MODEL, Said, Scenario, Seller, Writer, Written, check, limits, policy,
};

use self::faulty::Faulty;
use crate::world::local;

#[test]
fn tokio_passes_the_suite() {
    check(&mut Market::on(Tokio::start().expect("threads"))).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn smol_passes_the_suite() {
    check(&mut Market::on(Smol::global())).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn async_std_passes_the_suite() {
    check(&mut Market::on(AsyncStd)).unwrap_or_else(|error| panic!("{error}"));
}

/// No machine is so busy that it takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Nodes of this crate on one runtime.
struct Market<R> {
    runtime: R,
    sellers: Vec<Shop<R>>,
    buyer: Option<Shop<R>>,
    jobs: Vec<Job>,
}

struct Shop<R> {
    node: Node,
    runs_on: Faulty<R>,
}

impl<R: Runtime> Market<R> {
    fn on(runtime: R) -> Self {
        Market { runtime, sellers: Vec::new(), buyer: None, jobs: Vec::new() }
    }

    fn wait<T>(&self, what: impl Future<Output = T>) -> Answered<T> {
        let what = std::pin::pin!(what);
        match self.runtime.block_on(futures::future::select(what, Delay::new(PATIENCE))) {
            Either::Left((done, _)) => Ok(done),
            Either::Right(_) => Err("it takes too long".into()),
        }
    }

    fn until(&self, what: impl Fn() -> bool) -> Answered<()> {
        self.wait(async {
            while !what() {
                Delay::new(Duration::from_millis(1)).await;
            }
        })
    }

    fn shop(&self, config: Config, sale: Option<Sale>) -> Answered<Shop<R>> {
        let runs_on = Faulty::new(self.runtime.clone());
        let (policy, span) = (policy(), |millis: Millis| Duration::from_millis(millis.0));
        let config = Config {
            limits: limits(),
            first_token: span(policy.first_token),
            retry_delay: span(policy.retry_delay),
            resume_grace: span(policy.resume_grace),
            resume_timeout: span(policy.resume_timeout),
            ..config
        };
        let mut builder = Node::builder(config).policy(policy);
        if let Some(sale) = sale {
            builder = builder.sell(sale);
        }
        let node = self.wait(builder.start(runs_on.clone()))??;
        Ok(Shop { node, runs_on })
    }

    /// Lets go of all handles.
    fn forget(&mut self) {
        self.jobs.clear();
        self.sellers.clear();
        self.buyer = None;
    }

    fn buyer(&self) -> Answered<&Shop<R>> {
        self.buyer.as_ref().ok_or_else(|| "the market is closed".into())
    }

    /// A stranger of its own key opens a stream, sends bytes, and reads until it is thrown out.
    async fn pester(runtime: &R, to: libp2p::PeerId, at: Multiaddr, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
        let key = Keypair::generate_ed25519();
        let (me, tasks) = (key.public().to_peer_id(), runtime.clone());
        let config = swarm::Config::with_executor(move |task| tasks.spawn(task));
        let behaviour = sessions::Behaviour::new(me, sessions::Config::default());
        let mut swarm = Swarm::new(runtime.transport(&key, &TransportLimits::default())?, behaviour, me, config);
        swarm.add_peer_address(to, at);
        swarm.behaviour_mut().open(to)?;
        let mut stream = loop {
            match swarm.select_next_some().await {
                SwarmEvent::Behaviour(sessions::Event::Opened { stream, .. }) => break stream,
                SwarmEvent::Behaviour(sessions::Event::OpenFailed { error, .. }) => return Err(error.into()),
                _ => {}
            }
        };
        let talk = async {
            // Whoever is thrown out may not get to say all.
            let _ = stream.write_all(bytes).await;
            let _ = stream.close().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        };
        futures::select! {
            () = talk.fuse() => {}
            () = async { loop { swarm.select_next_some().await; } }.fuse() => {}
        }
        Ok(())
    }
}

impl<R: Runtime> Adapter for Market<R> {
    fn open(&mut self, scenario: &Scenario) -> Answered<()> {
        self.jobs.clear();
        self.sellers.clear();
        let local = Config { enable_dht: false, ..local() };
        for seller in &scenario.sellers {
            let config = Config {
                listen_addresses: vec!["/ip4/127.0.0.1/tcp/0".into()],
                slots: seller.slots,
                queue: 0,
                ..local.clone()
            };
            let sale = Sale {
                price_in: seller.price_in,
                price_out: seller.price_out,
                floor_permille: seller.floor_permille,
                eta: Millis(100),
                ..Sale::new(Arc::new(Scripted::new(seller.clone())))
            };
            let shop = self.shop(config, Some(sale))?;
            self.sellers.push(shop);
        }
        let providers = self.sellers.iter().map(|shop| shop.node.listen_addresses()[0].to_string()).collect();
        self.buyer = Some(self.shop(Config { providers, ..local }, None)?);
        Ok(())
    }

    fn peer(&self, seller: usize) -> PeerId {
        id::to_core(&self.sellers[seller].node.peer_id()).expect("every id fits")
    }

    fn discover(&mut self) -> Answered<Vec<(PeerId, Price)>> {
        let model = Model::new(MODEL.as_bytes()).ok_or("no name")?;
        let found = self.wait(self.buyer()?.node.discover(Criteria::new(model), None))??;
        let told = found.providers.iter();
        Ok(told.filter_map(|(peer, advert)| Some((id::to_core(peer)?, advert.models[0].price_out))).collect())
    }

    fn submit(&mut self, spec: JobSpec) -> Answered<()> {
        let job = self.wait(self.buyer()?.node.submit(spec))??;
        self.jobs.push(job);
        Ok(())
    }

    fn next(&mut self, job: usize) -> Answered<Said> {
        let next = futures::future::select(self.jobs[job].next(), Delay::new(PATIENCE));
        match self.runtime.block_on(next) {
            Either::Left((Some(item), _)) => Ok(said(item)),
            Either::Left((None, _)) => Err("the job is over without an ending".into()),
            Either::Right(_) => Err("nothing comes".into()),
        }
    }

    fn act(&mut self, deed: Deed) -> Answered<()> {
        match deed {
            Deed::Cut => {
                let wired = self.buyer()?.runs_on.cut();
                self.until(|| wired.get() == 0)
            }
            Deed::Kill(seller) => {
                let runs_on = &self.sellers[seller].runs_on;
                runs_on.kill();
                self.until(|| runs_on.tasks.get() == 0)
            }
            Deed::Stop(seller) => self.wait(self.sellers[seller].node.stop()),
            Deed::Cancel(job) => {
                self.jobs[job].cancel();
                Ok(())
            }
            Deed::Pester(seller, bytes) => {
                let node = &self.sellers[seller].node;
                let (peer, at) = (node.peer_id(), node.listen_addresses()[0].clone());
                self.wait(Self::pester(&self.runtime, peer, at, bytes))?
            }
        }
    }

    fn close(&mut self) -> Answered<()> {
        for shop in self.buyer.iter().chain(&self.sellers) {
            self.wait(shop.node.stop())?;
        }
        Ok(())
    }

    fn left(&mut self) -> Vec<String> {
        let tasks = || self.buyer.iter().chain(&self.sellers).map(|shop| shop.runs_on.tasks.get()).sum::<usize>();
        match self.until(|| tasks() == 0) {
            Ok(()) => Vec::new(),
            Err(_) => vec![format!("{} tasks", tasks())],
        }
    }
}

fn said(item: Result<JobEvent, haggle::JobError>) -> Said {
    Said::Event(match item {
        Ok(JobEvent::Asked { .. }) => "job:asked",
        Ok(JobEvent::Offered(_)) => "job:offered",
        Ok(JobEvent::PassedOver { .. }) => "job:passed-over",
        Ok(JobEvent::Awarded { .. }) => "job:awarded",
        Ok(JobEvent::Negotiated { .. }) => "job:negotiated",
        Ok(JobEvent::Working { .. }) => "job:working",
        Ok(JobEvent::Cut { .. }) => "job:cut",
        Ok(JobEvent::Resumed { .. }) => "job:resumed",
        Ok(JobEvent::TakenOver { .. }) => "job:taken-over",
        Ok(JobEvent::Tokens { n, text, .. }) => return Said::Tokens { n: n.into(), text },
        Ok(JobEvent::Finished(receipt)) => {
            let Receipt { reason, prompt_tokens, tokens, thought, cached, bill } = receipt;
            let outcome = Outcome::Finished(Finished::Answer { reason, prompt_tokens, tokens, thought, cached });
            return Said::Ended(Ending { outcome, no_retry: None, bill });
        }
        Ok(_) => "another event",
        Err(haggle::JobError { failure, no_retry, bill, .. }) => {
            return Said::Ended(Ending { outcome: Outcome::Failed(failure), no_retry, bill: *bill });
        }
    })
}

/// The suite's engine behind this crate's trait.
struct Scripted(Seller, ModelInfo);

impl Scripted {
    fn new(seller: Seller) -> Self {
        let exactness = Exactness { kind: ExactKind::Seeded, class: [seller.class; 32] };
        let info = ModelInfo {
            features: None,
            name: MODEL.into(),
            weights: [0; 32],
            context: 1 << 20,
            can_continue: true,
            exactness,
        };
        Scripted(seller, info)
    }
}

impl Engine for Scripted {
    fn info(&self) -> &ModelInfo {
        &self.1
    }

    fn start(&self, request: Request) -> Result<Box<dyn Generation>, Failure> {
        let Prompt::Raw(text) = request.prompt else { return Err(Failure::new(Why::BadRequest, "plain text only")) };
        let prefix = request.prefix.map_or(0, |prefix| prefix.tokens);
        let (seed, max) = (request.sampling.seed, request.max_tokens);
        let writer = Writer::new(&self.0, &wire::Prompt::Raw(text), seed, prefix.into(), max.into());
        Ok(Box::new(Writing { writer, started: false, written: 0 }))
    }
}

struct Writing {
    writer: Writer,
    started: bool,
    written: u32,
}

impl Generation for Writing {
    fn step(&mut self, _: u32) -> Step {
        let prompt_tokens = self.writer.prompt_tokens() as u32;
        if !std::mem::replace(&mut self.started, true) {
            return Step::Started(Started { prompt_tokens, cached: None, prefix: PrefixUse::None });
        }
        match self.writer.write() {
            Written::Token { text, id } => {
                self.written += 1;
                Step::Piece(Piece { n: 1, text: text.into(), ids: Some(vec![id]), channel: None })
            }
            Written::Hangs => Step::Waiting,
            Written::Ended(EndReason::Length) => {
                Step::Done(Done { stop: Stop::MaxTokens, prompt_tokens, new_tokens: self.written, cached: None })
            }
            Written::Ended(_) => Step::Failed(Failure::new(Why::Engine, "as scripted")),
        }
    }
}
