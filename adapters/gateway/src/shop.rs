//! What all requests of a gateway share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{channel::oneshot, future};
use haggle::{Node, runtime::Task};
use hyper::StatusCode;

use crate::{
    catalog::Catalog, config::Config, errors::Refused, jobs::Jobs, metrics::Metrics, owner::Owner, purse::Purse,
    repeats::Repeats,
};

/// Pages that are told at once what happens.
const MAX_WATCHING: usize = 16;

pub(crate) struct Shop {
    pub(crate) node: Node,
    pub(crate) config: Config,
    pub(crate) owner: Owner,
    pub(crate) purse: Arc<Purse>,
    pub(crate) catalog: Catalog,
    pub(crate) jobs: Jobs,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) repeats: Arc<Repeats>,
    /// Connections that are open.
    pub(crate) open: AtomicUsize,
    pub(crate) spawn: Arc<dyn Fn(Task) + Send + Sync>,
    /// Resolves when the gateway is told to stop.
    pub(crate) stopping: future::Shared<oneshot::Receiver<()>>,
    pub(crate) running: Arc<AtomicUsize>,
    pub(crate) watching: Arc<AtomicUsize>,
}

/// A place among the jobs that run, or among those who watch; given back when it is dropped.
pub(crate) struct Permit(Arc<AtomicUsize>);

impl Permit {
    fn of(places: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let permit = Permit(places.clone());
        (places.fetch_add(1, Ordering::Relaxed) < most).then_some(permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shop {
    /// A place for one more job.
    pub(crate) fn permit(&self) -> Result<Permit, Refused> {
        let text = || format!("{} jobs run already, which is the limit", self.config.max_jobs);
        Permit::of(&self.running, self.config.max_jobs).ok_or_else(|| too_many("too_many_jobs", text()))
    }

    /// A place for one more who watches.
    pub(crate) fn seat(&self) -> Result<Permit, Refused> {
        let text = || format!("{MAX_WATCHING} pages watch already, which is the limit; close one");
        Permit::of(&self.watching, MAX_WATCHING).ok_or_else(|| too_many("too_many_watching", text()))
    }
}

fn too_many(code: &'static str, text: String) -> Refused {
    Refused::new(StatusCode::TOO_MANY_REQUESTS, code, text).retry_after(Duration::from_secs(1))
}
