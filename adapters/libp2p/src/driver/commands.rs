//! What the handles of a node ask for.

use std::time::{Duration, Instant as Clock};

use futures::channel::oneshot;
use haggle_core::{
    Instant, JobId, provider,
    requester::{Command as Ask, Reply},
};

use super::{
    Driver, Order,
    job_table::{JobTable, Waiter},
    requester_api::{LocalRequester, RequesterApi},
};
use crate::{
    ConfigError, Error, Sale,
    command::{Command, Start},
    feed::JobSignal,
    id,
    sale::servings,
};

/// A node that is being stopped.
#[derive(Default)]
pub(super) struct Stop {
    pub(super) until: Option<Clock>,
    pub(super) replies: Vec<oneshot::Sender<()>>,
}

/// What a stopping node still has to say has so long to leave.
pub(crate) const GOODBYE: Duration = Duration::from_secs(2);

impl JobTable {
    /// Has the requester do what a handle asks for. What is not for the requester comes back.
    pub(crate) fn on_command(&mut self, command: Command, requester: &mut impl RequesterApi) -> Option<Command> {
        match command {
            Command::Start(command, start) => match requester.command(command) {
                Ok(Reply::Job(job)) => self.start(job, start),
                Ok(_) => debug_assert!(false, "it starts a job"),
                Err(refusal) => start.refuse(refusal.into()),
            },
            Command::Do(command, reply) => {
                let done = requester.command(command);
                let _ = reply.send(done.map(drop).map_err(Error::from));
            }
            Command::Reliability(peer, reply) => {
                let known = id::to_core(&peer).and_then(|peer| requester.reliability(&peer));
                let _ = reply.send(known);
            }
            other => return Some(other),
        }
        None
    }

    fn start(&mut self, job: JobId, start: Start) {
        match start {
            Start::Job(reply) => drop(reply.send(Ok(self.open_job(job)))),
            Start::Quote(reply) => self.open(job, Waiter::Quote(reply)),
            Start::Discovery(reply) => self.open(job, Waiter::Discovery(reply)),
        }
    }

    /// Tells the requester what the handle of a job says.
    pub(crate) fn on_note(&mut self, note: JobSignal, requester: &mut impl RequesterApi) {
        let command = match note {
            JobSignal::Consumed(job) => Ask::Consumed { job, tokens: self.take_consumed(job) },
            JobSignal::Cancel(job) => Ask::Cancel(job),
            JobSignal::Concluded(job) => Ask::Concluded(job),
            // Nobody will take what waits in the channel.
            JobSignal::Detach(job) => Ask::Consumed { job, tokens: self.detach(job) },
        };
        // A job that is over needs none of it.
        let _ = requester.command(command);
    }
}

impl Driver {
    pub(super) fn on_note(&mut self, note: JobSignal) {
        let is_concluded = matches!(note, JobSignal::Concluded(_));
        let now = self.now();
        self.job_table.on_note(note, &mut LocalRequester(&mut self.requester, now));
        if is_concluded {
            self.keep_later();
        }
    }

    /// `None`: every handle is gone.
    pub(super) fn on_command(&mut self, command: Option<Command>) {
        let now = self.now();
        let Some(command) = command else { return self.shut_down(now) };
        if self.stop.until.is_some() {
            if let Command::Stop(reply) = command {
                self.stop.replies.push(reply);
            }
            return;
        }
        // Questions can be asked again.
        if matches!(command, Command::Start(_, Start::Job(_)) | Command::Do(..)) {
            self.keep_at_once();
        }
        match self.job_table.on_command(command, &mut LocalRequester(&mut self.requester, now)) {
            Some(Command::AddAddress(peer, address)) => self.orders.push_back(Order::AddAddress(peer, address)),
            Some(Command::Sell(sales, reply)) => drop(reply.send(self.sell(now, sales))),
            Some(Command::Serve(command, reply)) => {
                let done = match &mut self.provider {
                    Some(provider) => provider.command(now, command).map(drop).map_err(Error::from),
                    None => Err(sells_nothing()),
                };
                let _ = reply.send(done);
            }
            Some(Command::Drain(patience, reply)) => {
                if let Some(provider) = &mut self.provider {
                    let _ = provider.command(now, provider::Command::Drain { patience });
                }
                self.orders.push_back(Order::Withdraw);
                self.draining.push(reply);
            }
            Some(Command::Stop(reply)) => {
                self.stop.replies.push(reply);
                self.shut_down(now);
            }
            _ => {}
        }
    }

    /// Sells these models from now on, and no others. Engines that go on are not touched.
    fn sell(&mut self, now: Instant, sales: Vec<Sale>) -> Result<(), Error> {
        let Some(provider) = &mut self.provider else { return Err(sells_nothing()) };
        let models = servings(&sales)?;
        let names = models.iter().map(|serving| serving.advert.model.clone());
        let engines = names.zip(sales.into_iter().map(|sale| sale.engine)).collect();
        // What may fail comes first: the threads, then what the core takes.
        let next = self.engines.prepare(engines).map_err(Error::Runtime)?;
        provider.command(now, provider::Command::SetModels(models))?;
        for model in self.engines.change(next) {
            // What was told of the engine before is not true of this one.
            let _ = provider.command(now, provider::Command::SetOutage { model, lasts: None });
        }
        self.orders.push_back(Order::Announce(provider.names()));
        Ok(())
    }

    /// Ends every job, typed, on both sides.
    pub(super) fn shut_down(&mut self, now: Instant) {
        self.stop.until = Some(Clock::now() + GOODBYE);
        for job in self.job_table.open_jobs().collect::<Vec<_>>() {
            let _ = self.requester.command(now, Ask::Cancel(job));
        }
        if let Some(provider) = &mut self.provider {
            let _ = provider.command(now, provider::Command::ShutDown);
        }
    }
}

fn sells_nothing() -> Error {
    let problem = "this node was started without a model to sell; start it with one".into();
    ConfigError { path: "models".into(), problem }.into()
}
