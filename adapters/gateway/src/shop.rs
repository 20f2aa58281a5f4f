//! What all requests of a gateway share.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures::{channel::oneshot, future};
use haggle::{Node, runtime::Task};
use hyper::StatusCode;

use crate::{
    catalog::Catalog, config::Config, errors::Refused, jobs::Jobs, metrics::Metrics, owner::Owner, purse::Purse,
    repeats::Repeats,
};

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
}

/// A place among the jobs that run, given back when it is dropped.
pub(crate) struct Permit(Arc<AtomicUsize>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shop {
    /// A place for one more job.
    pub(crate) fn permit(&self) -> Result<Permit, Refused> {
        let permit = Permit(self.running.clone());
        if self.running.fetch_add(1, Ordering::Relaxed) < self.config.max_jobs {
            return Ok(permit);
        }
        let text = format!("{} jobs run already, which is the limit", self.config.max_jobs);
        let refused = Refused::new(StatusCode::TOO_MANY_REQUESTS, "too_many_jobs", text);
        Err(refused.retry_after(std::time::Duration::from_secs(1)))
    }
}
