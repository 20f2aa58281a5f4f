//! What has to be true of a world: within bounds while it runs, at rest in the end.

use haggle_core::{JobId, Machine};

use super::{World, node::Node};
use crate::{
    job::Job,
    net::Role,
    node::NodeId,
    oracle::{Judge, Rule},
};

impl World {
    /// Judges how many awards each provider got of all that were made.
    pub(crate) fn judge_shares(&mut self) {
        let sells = |index: &usize| self.nodes[*index].provider.is_some();
        let peers: Vec<_> = (0..self.nodes.len()).filter(sells).map(|index| NodeId(index as u32).peer()).collect();
        let awards: Vec<_> = self.apps.jobs.values().flat_map(Job::awarded).collect();
        for peer in &peers {
            let own = awards.iter().filter(|awarded| *awarded == peer).count();
            if own * 2 * peers.len() < awards.len() {
                let what = format_args!("{peer:?} got {own} of {} awards among {} equals", awards.len(), peers.len());
                self.judge.fail(Rule::Fairness, what);
            }
        }
    }

    /// Judges how many streams were ordered.
    pub(crate) fn judge_dials(&mut self, most: u64) {
        if self.net.dials > most {
            self.judge.fail(Rule::Livelock, format_args!("{} streams were ordered, {most} would do", self.net.dials));
        }
    }

    /// Checks that a machine's tables are within its limits.
    pub(super) fn check_bounds(&mut self, node: u32, role: Role) {
        let place = &self.nodes[node as usize];
        let Some(side) = place.side(role) else { return };
        side.machine.each_table(place, &mut |what, is, limit| {
            if is > limit {
                self.judge.fail(Rule::Bounds, format_args!("{role:?} {node}: {is} {what}, the limit is {limit}"));
            }
        });
    }

    /// Checks that nothing is left over when nothing is left to happen.
    pub(super) fn check_rest(&mut self) {
        if self.judge.is_away() {
            return;
        }
        let unended: Vec<JobId> = self.judge.unended().collect();
        for job in unended {
            self.judge.subject = Some(job);
            self.judge.fail(Rule::Ending, format_args!("{job:?} never ended"));
            self.judge.subject = None;
        }
        self.judge.check_fences();
        for (index, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.alive) {
            check_requester(&mut self.judge, index, node);
            check_provider(&mut self.judge, index, node);
        }
    }
}

fn check_requester(judge: &mut Judge, index: usize, node: &Node) {
    let Some(side) = &node.requester else { return };
    let (jobs, streams) = (side.machine.open_jobs(), side.streams.len() + side.machine.open_streams());
    if jobs + streams > 0 || side.machine.account().reserved() > 0 {
        judge.fail(Rule::Tables, format_args!("requester {index}: {jobs} jobs, {streams} streams left"));
    }
    if side.machine.jobs().next().is_none() && side.machine.held_bytes() > 0 {
        judge.fail(Rule::Tables, format_args!("requester {index} holds bytes of no job"));
    }
    let (counted, own) = (side.machine.account().owed(), judge.closed(index as u32));
    if counted != own {
        judge.fail(Rule::Account, format_args!("requester {index} owes {own}, and counts {counted}"));
    }
    if let Some(due) = side.machine.poll_timeout() {
        judge.fail(Rule::Rest, format_args!("requester {index} waits for {due:?}"));
    }
}

fn check_provider(judge: &mut Judge, index: usize, node: &Node) {
    let Some(side) = &node.provider else { return };
    let (jobs, streams, runs) = (side.machine.open_jobs(), side.streams.len(), node.runs.len());
    if jobs + streams + runs > 0 {
        let what = format_args!("provider {index}: {jobs} jobs, {streams} streams, {runs} computations left");
        judge.fail(Rule::Tables, what);
    }
    if let Some(due) = side.machine.poll_timeout() {
        judge.fail(Rule::Rest, format_args!("provider {index} waits for {due:?}"));
    }
    let taken = side.machine.taken_slots();
    if taken > 0 {
        judge.fail(Rule::Slots, format_args!("provider {index}: {taken} slots taken"));
    }
    if side.machine.held_bytes() > 0 || side.machine.open_offers() > 0 || side.machine.open_streams() > 0 {
        judge.fail(Rule::Tables, format_args!("provider {index} holds bytes, offers or streams"));
    }
}
