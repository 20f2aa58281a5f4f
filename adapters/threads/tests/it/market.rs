//! Nodes on threads, as the suite wants them.

use std::{
    collections::BTreeMap,
    sync::mpsc::{Receiver, Sender, channel},
    time::Duration,
};

use haggle_core::{
    AttemptId, Criteria, Event, Instant, JobId, JobSpec, Model, PeerId, Provider, ProviderEvent, Refusal, Requester,
    StreamId,
    event::{Finished, Outcome},
    money::Price,
    provider::{Piece, Service, Serving},
    time::Millis,
    wire::message::{EndReason, Exactness, ExactnessKind, ModelAdvert},
};
use haggle_sim::conformance::{
    Adapter, Answered, Deed, MODEL, Need, Said, Scenario, Seller, Writer, Written, limits, policy,
};
use haggle_threads::{Around, Handle, Node};

/// No machine is so busy that it takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a job's application hears.
enum Heard {
    Said(JobId, Said),
    Found(Vec<(PeerId, Price)>),
}

/// The application of all jobs of a buyer.
struct Application(Sender<Heard>);

impl Around<Requester> for Application {
    fn hear(&mut self, event: Event<'_>) {
        let heard = match &event {
            Event::Tokens { job, n, text, .. } => {
                Heard::Said(*job, Said::Tokens { n: u64::from(*n), text: (*text).to_owned() })
            }
            Event::Ended { job, ending } => match &ending.outcome {
                Outcome::Finished(Finished::Providers { found, .. }) => {
                    Heard::Found(found.iter().map(|(peer, advert)| (*peer, advert.models[0].price_out)).collect())
                }
                _ => Heard::Said(*job, Said::Ended(ending.clone())),
            },
            Event::Asked { job, .. }
            | Event::Offered { job, .. }
            | Event::PassedOver { job, .. }
            | Event::Awarded { job, .. }
            | Event::Negotiated { job, .. }
            | Event::Working { job, .. }
            | Event::Cut { job, .. }
            | Event::Resumed { job, .. }
            | Event::TakenOver { job, .. } => Heard::Said(*job, Said::Event(event.name())),
            _ => return,
        };
        let _ = self.0.send(heard);
    }

    fn work(&mut self, _: &mut Requester, _: Instant) -> bool {
        false
    }

    fn accept(&mut self, _: &mut Requester, _: Instant, _: PeerId) -> Option<StreamId> {
        None
    }
}

type Token = (&'static str, u32);

/// The engine of a seller: it writes whenever there is room.
struct Engine {
    seller: Seller,
    events: Vec<ProviderEvent>,
    /// What each attempt writes, and the token that waits for room.
    live: BTreeMap<AttemptId, (Writer, Option<Token>)>,
}

impl Around<Provider> for Engine {
    fn hear(&mut self, event: ProviderEvent) {
        self.events.push(event);
    }

    fn work(&mut self, provider: &mut Provider, now: Instant) -> bool {
        let mut busy = !self.events.is_empty();
        for event in self.events.drain(..) {
            match event {
                ProviderEvent::Start { attempt, work } => {
                    let (seed, prefix) = (work.sampling.seed, work.prefix_tokens);
                    let writer = Writer::new(&self.seller, &work.prompt, seed, prefix, work.max_tokens);
                    provider.started(attempt, writer.prompt_tokens(), None);
                    self.live.insert(attempt, (writer, None));
                }
                ProviderEvent::Stop { attempt } => drop(self.live.remove(&attempt)),
                _ => {}
            }
        }
        self.live.retain(|attempt, (writer, waiting)| {
            let (text, id) = match waiting.take() {
                Some(token) => token,
                None => match writer.write() {
                    Written::Token { text, id } => (text, id),
                    Written::Hangs => return true,
                    Written::Ended(reason) => {
                        busy = true;
                        let _ = provider.finish(now, *attempt, reason);
                        return false;
                    }
                },
            };
            match provider.push(now, *attempt, Piece { n: 1, text, ids: Some(&id.to_le_bytes()), channel: None }) {
                Ok(_) => busy = true,
                Err(Refusal::NoRoom) => *waiting = Some((text, id)),
                Err(_) => {
                    let _ = provider.finish(now, *attempt, EndReason::Engine);
                    return false;
                }
            }
            true
        });
        busy
    }

    fn accept(&mut self, provider: &mut Provider, now: Instant, peer: PeerId) -> Option<StreamId> {
        provider.accept_stream(now, peer).ok()
    }
}

/// A market of nodes on threads.
#[derive(Default)]
pub(crate) struct Market {
    sellers: Vec<(Handle<Provider, Engine>, PeerId)>,
    buyer: Option<Handle<Requester, Application>>,
    heard: Option<Receiver<Heard>>,
    jobs: Vec<JobId>,
    /// What jobs said that nobody has asked for yet.
    unread: Vec<(JobId, Said)>,
}

impl Market {
    fn call<T: Send + 'static>(
        &self,
        command: impl FnOnce(&mut Node<Requester, Application>) -> T + Send + 'static,
    ) -> Answered<T> {
        let buyer = self.buyer.as_ref().ok_or("the market is closed")?;
        buyer.call(command).ok_or_else(|| "the buyer is gone".into())
    }

    fn hear(&self) -> Answered<Heard> {
        Ok(self.heard.as_ref().ok_or("the market is closed")?.recv_timeout(PATIENCE)?)
    }
}

impl Adapter for Market {
    /// Whoever comes from this machine is the same peer: there are no strangers.
    fn lacks(&self) -> &[Need] {
        &[Need::Pester]
    }

    fn open(&mut self, scenario: &Scenario) -> Answered<()> {
        self.close()?;
        *self = Market::default();
        for (seed, seller) in (1..).zip(&scenario.sellers) {
            let provider = Provider::new(service(seller), limits(), [seed; 32])?;
            let engine = Engine { seller: seller.clone(), events: Vec::new(), live: BTreeMap::new() };
            self.sellers.push(Node::seller(provider, engine)?);
        }
        let requester = Requester::new(policy(), limits(), [99; 32])?;
        let (tell, heard) = channel();
        let known = self.sellers.iter().map(|(_, peer)| *peer).collect();
        self.buyer = Some(Node::buyer(requester, Application(tell), known));
        self.heard = Some(heard);
        Ok(())
    }

    fn peer(&self, seller: usize) -> PeerId {
        self.sellers[seller].1
    }

    fn discover(&mut self) -> Answered<Vec<(PeerId, Price)>> {
        let criteria = Criteria::new(Model::new(MODEL.as_bytes()).ok_or("no name")?);
        self.call(|node| node.machine.discover(node.now(), criteria, None))??;
        loop {
            if let Heard::Found(found) = self.hear()? {
                return Ok(found);
            }
        }
    }

    fn submit(&mut self, spec: JobSpec) -> Answered<()> {
        let job = self.call(|node| node.machine.submit(node.now(), spec))??;
        self.jobs.push(job);
        Ok(())
    }

    fn next(&mut self, job: usize) -> Answered<Said> {
        let job = self.jobs[job];
        while !self.unread.iter().any(|(of, _)| *of == job) {
            if let Heard::Said(of, said) = self.hear()? {
                self.unread.push((of, said));
            }
        }
        let at = self.unread.iter().position(|(of, _)| *of == job).ok_or("nothing was said")?;
        let (_, said) = self.unread.remove(at);
        if let Said::Tokens { n, .. } = said {
            // A node that is over needs to know nothing more.
            let _ = self.call(move |node| node.machine.consumed(node.now(), job, n));
        }
        Ok(said)
    }

    fn act(&mut self, deed: Deed) -> Answered<()> {
        match deed {
            Deed::Cut => self.call(|node| node.cut()),
            Deed::Kill(seller) => self.sellers[seller].0.call(|node| node.over = true).ok_or_else(|| "gone".into()),
            Deed::Stop(seller) => {
                let stop = |node: &mut Node<Provider, Engine>| node.machine.shut_down(node.now());
                self.sellers[seller].0.call(stop).ok_or_else(|| "gone".into())
            }
            Deed::Cancel(job) => {
                let job = self.jobs[job];
                Ok(self.call(move |node| node.machine.cancel(node.now(), job))??)
            }
            Deed::Pester(..) => Err("there are no strangers".into()),
        }
    }

    fn close(&mut self) -> Answered<()> {
        if let Some(buyer) = &self.buyer {
            let jobs = self.jobs.clone();
            buyer.call(move |node| {
                // What has ended needs no cancel.
                for job in jobs {
                    let _ = node.machine.cancel(node.now(), job);
                }
            });
            buyer.call(|node| node.over = true);
        }
        for (seller, _) in &self.sellers {
            seller.call(|node| node.over = true);
        }
        Ok(())
    }
}

fn service(seller: &Seller) -> Service {
    let advert = ModelAdvert {
        model: Model::new(MODEL.as_bytes()).expect("a name"),
        aliases: Vec::new(),
        context: 1 << 20,
        price_in: seller.price_in,
        bytes_per_token: 4,
        price_out: seller.price_out,
        eta: Millis(100),
        can_continue: true,
        exactness: Exactness { kind: ExactnessKind::Seeded, class: [seller.class; 32] },
        features: None,
        longest: None,
        price_part: None,
    };
    let models = vec![Serving { advert, floor_permille: seller.floor_permille }];
    Service { models, slots: seller.slots, ..Service::default() }
}
