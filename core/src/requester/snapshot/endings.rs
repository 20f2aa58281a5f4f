//! How endings of answers are written down, and told again until the application has stored them.

use alloc::{collections::BTreeMap, vec::Vec};

use minicbor::{Decode, Encode};

use crate::{
    event::{Bill, Ending, Event, Failure, Interrupted, NoRetry},
    id::JobId,
    snapshot::{SnapshotError, require},
};

use super::{
    super::{
        Requester,
        concluded::{Concluded, How},
        context::Context,
        job::{Goal, Job},
        transcript::Transcript,
    },
    lines::{SavedLine, kept_lines},
    stored::{Holding, Stored},
};

#[derive(Encode, Decode)]
#[cbor(map)]
pub(super) struct SavedEnding {
    #[n(0)]
    id: JobId,
    #[n(1)]
    transcript: Transcript,
    #[n(2)]
    how: How,
    #[n(3)]
    lines: Vec<SavedLine>,
    #[n(4)]
    before: u32,
}

impl Requester {
    /// For a node whose state is stored; call it before the first job. From now on the ending of an answer is part of snapshots
    /// until [`Self::concluded`], so that what was not stored before the process died is told again, and the text of every
    /// answer is kept, whatever its failover.
    pub fn keep_endings(&mut self) {
        self.cx.endings.get_or_insert_default();
    }

    /// The application has stored how a job ended, or does not care to: it is forgotten.
    pub fn concluded(&mut self, job: JobId) {
        if let Some(ending) = self.cx.endings.as_mut().and_then(|endings| endings.remove(&job)) {
            self.cx.held = self.cx.held.saturating_sub(ending.transcript.bytes());
        }
    }
}

impl Context {
    /// Endings that wait to be concluded.
    pub(in crate::requester) fn kept_endings(&self) -> usize {
        self.endings.as_ref().map_or(0, BTreeMap::len)
    }

    /// Keeps how an answer ended.
    pub(in crate::requester) fn keep_ending(&mut self, job: Job, ending: &Ending) {
        if let (Some(endings), Goal::Answer(_), Some(how)) = (&mut self.endings, &job.goal, How::of(ending)) {
            self.held = self.held.saturating_add(job.transcript.bytes());
            let lines = ending.bill.lines.clone();
            endings.insert(job.id, Concluded { transcript: job.transcript, how, lines, before: job.before });
        }
    }

    pub(super) fn restore_ending(&mut self, kept: SavedEnding, stored: &[Stored<'_>]) -> Result<(), SnapshotError> {
        let SavedEnding { id, mut transcript, how, lines, before } = kept;
        require(transcript.is_possible())?;
        let lines = kept_lines(lines)?;
        let known = Holding::of(id, stored, &lines, None, before)?;
        let missing = known.is_missing(&transcript);
        let (true, true) = (known.agrees(&transcript), known.tokens <= transcript.tokens()) else {
            return Err(SnapshotError::Disagrees { job: id });
        };
        transcript.set_consumed(known.tokens);
        let writer = lines.iter().rfind(|line| line.tokens > 0).map(|line| line.peer);
        if let Some(peer) = writer.filter(|_| !missing) {
            self.tell_again(
                (id, peer),
                &transcript,
                (known.tokens, known.text.len()),
                (transcript.tokens(), transcript.text().len()),
            );
        }
        // What is missing nobody has any more.
        let lost = How::Failed(Failure::Interrupted(Interrupted::Lost), Some(NoRetry::Forgotten));
        let (outcome, no_retry) = if missing { lost } else { how }.outcome(transcript.tokens());
        let ending = Ending { outcome, no_retry, bill: Bill::of(lines.clone()) };
        self.tell(Event::Ended { job: id, ending });
        self.held = self.held.saturating_add(transcript.bytes());
        self.endings.get_or_insert_default().insert(id, Concluded { transcript, how, lines, before });
        Ok(())
    }
}

impl Concluded {
    pub(super) fn keep(&self, id: JobId) -> SavedEnding {
        let lines = self.lines.iter().map(SavedLine::of).collect();
        SavedEnding { id, transcript: self.transcript.clone(), how: self.how, lines, before: self.before }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::{Outcome, PassedOver, Violation},
        limits::{Limits, Policy},
        machine::{Machine, Output, QueryOutcome, StreamFailure},
        time::{Instant, Millis},
        wire::message::DeclineReason,
    };

    fn no_retry(failure: &Failure) -> Option<NoRetry> {
        match failure {
            Failure::Declined(_) => Some(NoRetry::Attempts),
            Failure::Interrupted(_) => Some(NoRetry::Quota),
            _ => None,
        }
    }

    #[test]
    fn every_failure_is_told_again_until_it_is_concluded() {
        let failures = [
            Failure::Cancelled,
            Failure::Deadline,
            Failure::NobodyFound { outcome: QueryOutcome::TimedOut, unfit: 7 },
            Failure::Declined(PassedOver::Interrupted(Interrupted::Violation(Violation::Seq))),
            Failure::Declined(PassedOver::Declined(DeclineReason::Busy)),
            Failure::Declined(PassedOver::Stream(StreamFailure::WrongPeer)),
            Failure::OverBudget { cheapest: u128::MAX, budget: 1 },
            Failure::Context,
            Failure::BadRequest,
            Failure::Interrupted(Interrupted::Violation(Violation::Digest)),
        ];
        let mut requester = Requester::new(Policy::default(), Limits::default(), [0; 32]).unwrap();
        for (n, failure) in failures.iter().enumerate() {
            let ending =
                Ending { outcome: Outcome::Failed(*failure), no_retry: no_retry(failure), bill: Bill::default() };
            let how = How::of(&ending).unwrap();
            let ended = Concluded { transcript: Transcript::default(), how, lines: Vec::new(), before: 0 };
            requester.cx.endings.get_or_insert_default().insert(JobId([n as u8; 16]), ended);
        }
        let bytes = requester.snapshot(Instant::ZERO);
        let at = (Instant::ZERO, Millis::ZERO);
        let mut again = Requester::restore(at, &bytes, &[], Policy::default(), Limits::default(), [0; 32]).unwrap();
        let mut told = Vec::new();
        while let Some(output) = again.poll_output() {
            if let Output::Event(Event::Ended { ending, .. }) = output {
                told.push((ending.outcome, ending.no_retry));
            }
        }
        assert_eq!(told, failures.map(|failure| (Outcome::Failed(failure), no_retry(&failure))));
    }
}
