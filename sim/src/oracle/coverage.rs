//! What a run covers: notes points as the books are kept.

use haggle_core::{
    Event, PeerId, ProviderEvent,
    event::{Finished, Outcome, TakeOver},
    machine::Cause,
    wire::Message,
};

use super::{Book, Judge};
use crate::{
    FaultKind,
    points::{self, Group},
    schedule::NAMES,
};

impl Judge {
    /// A scripted node, and what it is.
    pub(crate) fn actor(&mut self, peer: PeerId, group: Group, kind: usize) {
        self.actors.insert(peer, (group, kind));
    }

    pub(crate) fn cover(&mut self, group: Group, place: usize) {
        self.points.hit(group, place);
    }

    pub(crate) fn cover_input(&mut self, is_provider: bool, kind: u8) {
        self.cover(Group::Input, usize::from(is_provider) * points::inputs() + usize::from(kind));
    }

    pub(crate) fn cover_deadline(&mut self, is_provider: bool, cause: Cause) {
        self.cover(Group::Deadline, usize::from(is_provider) * points::causes() + points::cause(cause));
    }

    pub(crate) fn cover_fault(&mut self, fault: FaultKind) {
        let kind = NAMES.iter().position(|name| *name == fault.name()).unwrap_or(NAMES.len());
        self.cover(Group::Fault, kind);
        let phases: Vec<u8> = self.open.iter().filter_map(|(_, job)| Some(self.jobs.get(job)?.phase)).collect();
        phases.into_iter().for_each(|phase| self.cover(Group::FaultDuring, usize::from(phase)));
    }

    pub(super) fn cover_message(&mut self, message: &Message<'_>, core: bool) {
        self.cover(if core { Group::Message } else { Group::Scripted }, points::message(message));
        match message {
            _ if !core => {}
            Message::Decline(decline) => self.cover(Group::Decline, points::decline(decline.reason)),
            Message::End(end) => self.cover(Group::End, points::end(end.reason)),
            Message::Gone(reason) => self.cover(Group::Gone, points::gone(*reason)),
            Message::Release(reason) => self.cover(Group::Release, points::release(*reason)),
            _ => {}
        }
    }

    /// A scripted node has its say: it is awarded, or speaks by itself.
    pub(super) fn cover_actor(&mut self, peer: PeerId) {
        if let Some((group, kind)) = self.actors.get(&peer).copied() {
            self.cover(group, kind);
        }
    }

    pub(crate) fn cover_provider_event(&mut self, event: &ProviderEvent) {
        let place = match event {
            ProviderEvent::Quoted { answer: Ok(_), .. } => 0,
            ProviderEvent::Quoted { .. } => 1,
            ProviderEvent::Released { .. } => 2,
            ProviderEvent::Start { work, .. } if work.prefix_ids.is_some() => 5,
            ProviderEvent::Start { work, .. } if work.prefix_tokens > 0 => 4,
            ProviderEvent::Start { .. } => 3,
            ProviderEvent::Room { .. } => 6,
            ProviderEvent::Stop { .. } => 7,
            ProviderEvent::Declined { .. } => 8,
            ProviderEvent::Accepted { .. } => 9,
            ProviderEvent::Served { reason, .. } => return self.cover(Group::Served, points::served(*reason)),
        };
        self.cover(Group::ProviderEvent, place);
    }

    /// What a requester tells, in the phase that its job is in; and the phase that follows.
    pub(super) fn cover_event(&mut self, event: &Event<'_>) {
        let job = event.job();
        let phase = job.and_then(|job| self.jobs.get(&job)).map_or(0, |book| usize::from(book.phase));
        let (place, next) = match event {
            Event::Discovered { .. } => (0, None),
            Event::Weighed { .. } => (1, None),
            Event::Asked { .. } => (2, Some(1)),
            Event::Offered { .. } => (3, Some(2)),
            Event::PassedOver { why, .. } => {
                self.cover(Group::PassedOver, points::passed_over(*why));
                (4, Some(1))
            }
            Event::ChoiceDue { .. } => (5, None),
            Event::Awarded { reason, .. } => {
                self.cover(Group::Choice, points::choice(*reason));
                (6, Some(3))
            }
            Event::Negotiated { .. } => (7, Some(4)),
            Event::Working { .. } => (13, None),
            Event::Cut { .. } => (8, Some(6)),
            Event::Resumed { .. } => (9, Some(5)),
            Event::TakenOver { how, .. } => {
                let how = [TakeOver::Exact, TakeOver::Spliced, TakeOver::Restarted].iter().position(|own| own == how);
                self.cover(Group::TakeOver, how.unwrap_or(0));
                (10, None)
            }
            Event::Tokens { .. } => (11, Some(5)),
            Event::Ended { ending, .. } => {
                match &ending.outcome {
                    Outcome::Failed(failure) => self.cover(Group::Failure, points::failure(*failure)),
                    Outcome::Finished(Finished::Answer { .. }) => {
                        let book = job.and_then(|job| self.jobs.get(&job));
                        let places = book.map_or_else(Vec::new, answer_places);
                        places.into_iter().for_each(|place| self.cover(Group::Answer, place));
                    }
                    Outcome::Finished(_) => {}
                }
                (12, None)
            }
        };
        self.cover(Group::Event, phase * points::EVENTS.len() + place);
        if let (Some(book), Some(next)) = (job.and_then(|job| self.jobs.get_mut(&job)), next) {
            book.phase = next;
            book.resumed |= place == 9;
        }
    }
}

/// What is worth noting of a finished answer.
fn answer_places(book: &Book) -> Vec<usize> {
    let wrote = book.lines.iter().filter(|line| line.tokens > 0).count();
    let length = book.spec.as_ref().is_some_and(|spec| spec.max_tokens == book.tokens);
    let marks = [!length, length, wrote == 2, wrote > 2, book.resumed, book.owed() == 0];
    marks.into_iter().enumerate().filter(|(_, holds)| *holds).map(|(place, _)| place).collect()
}
