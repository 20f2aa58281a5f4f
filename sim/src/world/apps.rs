//! Applications: what they were told of their jobs, and when they take it.

use std::collections::{BTreeMap, VecDeque};

use haggle_core::{Event, JobId, event::TakeOver};

use super::{Happening, Lane, World, embed::Told};
use crate::{
    job::{Job, Stored, keep},
    node::{NodeId, Pace},
};

/// What all applications of a world know.
#[derive(Clone, Default)]
pub(super) struct Apps {
    pub(super) jobs: BTreeMap<JobId, Job>,
    /// Ids in the order of submission; `None` where it was refused, or is still to come.
    pub(super) submissions: Vec<Option<JobId>>,
    /// What nodes told, if somebody listens.
    pub(super) told: Option<VecDeque<(NodeId, Told)>>,
}

impl Apps {
    /// Keeps what a node tells, if somebody listens.
    pub(super) fn hear(&mut self, node: NodeId, told: impl FnOnce() -> Option<Told>) {
        if let Some(queue) = &mut self.told
            && let Some(told) = told()
        {
            queue.push_back((node, told));
        }
    }

    /// Tells an application's record of an event; a job whose application is to look at its tokens at the time named.
    pub(super) fn note(&mut self, stores: bool, now: u64, event: &Event<'_>) -> Option<(JobId, u64)> {
        let id = event.job()?;
        Some((id, self.jobs.get_mut(&id)?.note(stores, now, event)?))
    }
}

impl Job {
    fn note(&mut self, stores: bool, now: u64, event: &Event<'_>) -> Option<u64> {
        if let Some(event) = keep(event) {
            if let Event::TakenOver { how: TakeOver::Restarted, .. } = &event {
                self.text.clear();
                self.tokens = 0;
                self.pieces.clear();
            }
            if let Event::Ended { ending, .. } = &event {
                self.ending.get_or_insert((now, ending.clone()));
            }
            self.events.push((now, event));
            return None;
        }
        let Event::Tokens { peer, n, text, ids, channel, .. } = event else { return None };
        if stores {
            let (ids, channel) = (ids.map(<[u8]>::to_vec), *channel);
            self.pieces.push(Stored { peer: *peer, n: *n, len: text.len(), ids, channel });
        }
        self.tokens += u64::from(*n);
        self.delivered += u64::from(*n);
        self.text.push_str(text);
        self.first_token.get_or_insert(now);
        let pause = match self.pace {
            Pace::AtOnce => 1,
            Pace::Every(ms) => ms.max(1),
            Pace::Never => return None,
        };
        if self.app_due {
            return None;
        }
        self.app_due = true;
        Some(now + pause)
    }
}

impl World {
    pub(super) fn app_step(&mut self, id: JobId) {
        let Some(job) = self.apps.jobs.get_mut(&id) else { return };
        let (owner, asleep) = (job.node.0, self.nodes[job.node.0 as usize].asleep_until);
        if asleep > self.now {
            return self.push(asleep, Lane::told(owner), Happening::App { job: id });
        }
        job.app_due = false;
        let has_ended = job.ending.is_some();
        if has_ended {
            self.conclude(owner, id);
        }
        let Some(job) = self.apps.jobs.get_mut(&id) else { return };
        let waiting = job.delivered - job.consumed;
        let (n, again) = match job.pace {
            Pace::AtOnce => (waiting, None),
            Pace::Every(ms) => (waiting.min(1), Some(ms.max(1)).filter(|_| waiting > 1)),
            Pace::Never => return,
        };
        if let Some(ms) = again {
            job.app_due = true;
            self.push(self.now + ms, Lane::told(owner), Happening::App { job: id });
        }
        self.consume(id, n);
    }
}
