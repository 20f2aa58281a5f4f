//! What an application asks of its requester, as data: for whoever records, replays, queues or carries commands.
//! A new command is a variant here, its words, and the method that carries it out.

use alloc::vec::Vec;
use core::fmt;

use crate::{
    id::{JobId, PeerId},
    money::Amount,
    peers::bans::BanRecord,
    refusal::Refusal,
    spec::{Criteria, JobSpec, QuoteSpec},
    time::{Instant, Millis},
};

use super::Requester;

/// Everything that can be asked of a [`Requester`]; each is a method of it, too, where limits and errors are told.
/// Shown as text ([`fmt::Display`], [`fmt::Debug`]) it holds nothing of a prompt.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Command {
    /// [`Requester::submit`]; answered with [`Reply::Job`].
    Submit(JobSpec),
    /// [`Requester::quote`]; answered with [`Reply::Job`].
    Quote(QuoteSpec),
    /// [`Requester::discover`]; answered with [`Reply::Job`].
    Discover {
        /// Who comes into question.
        criteria: Criteria,
        /// Time in all, if shorter than the policy's.
        deadline: Option<Millis>,
    },
    /// [`Requester::award`].
    Award {
        /// Which job.
        job: JobId,
        /// Whose offer.
        peer: PeerId,
    },
    /// [`Requester::cancel`].
    Cancel(JobId),
    /// [`Requester::consumed`].
    Consumed {
        /// Which job.
        job: JobId,
        /// How many tokens more than before.
        tokens: u64,
    },
    /// [`Requester::keep_endings`].
    KeepEndings,
    /// [`Requester::concluded`].
    Concluded(JobId),
    /// [`Requester::set_account_budget`].
    SetAccountBudget(Option<Amount>),
    /// [`Requester::ban`].
    Ban(PeerId),
    /// [`Requester::allow`].
    Allow(PeerId),
    /// [`Requester::import_bans`].
    ImportBans {
        /// How long ago they were told.
        away: Millis,
        /// The bans.
        records: Vec<BanRecord>,
    },
}

/// What a [`Command`] answers when it is not refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Reply {
    /// It is done.
    Done,
    /// This job was started.
    Job(JobId),
}

impl Requester {
    /// Does what a command says, as its method does.
    ///
    /// # Errors
    /// The method's.
    pub fn command(&mut self, now: Instant, command: Command) -> Result<Reply, Refusal> {
        match command {
            Command::Submit(spec) => return self.submit(now, spec).map(Reply::Job),
            Command::Quote(spec) => return self.quote(now, spec).map(Reply::Job),
            Command::Discover { criteria, deadline } => {
                return self.discover(now, criteria, deadline).map(Reply::Job);
            }
            Command::Award { job, peer } => self.award(now, job, peer)?,
            Command::Cancel(job) => self.cancel(now, job)?,
            Command::Consumed { job, tokens } => self.consumed(now, job, tokens),
            Command::KeepEndings => self.keep_endings(),
            Command::Concluded(job) => self.concluded(job),
            Command::SetAccountBudget(budget) => self.set_account_budget(budget),
            Command::Ban(peer) => self.ban(peer)?,
            Command::Allow(peer) => self.allow(&peer),
            Command::ImportBans { away, records } => self.import_bans(now, away, &records)?,
        }
        Ok(Reply::Done)
    }
}

/// In words, for people who read what happened.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Submit(spec) => write!(f, "is given a job for {}", spec.criteria.model.to_text()),
            Self::Quote(spec) => write!(f, "is asked for quotes for {}", spec.criteria.model.to_text()),
            Self::Discover { criteria, .. } => write!(f, "is asked who serves {}", criteria.model.to_text()),
            Self::Award { peer, .. } => write!(f, "is told to award {peer:?}"),
            Self::Cancel(job) => write!(f, "is told to cancel {job}"),
            Self::Consumed { tokens, .. } => write!(f, "is told that {tokens} tokens were taken"),
            Self::KeepEndings => f.write_str("is told to keep endings"),
            Self::Concluded(job) => write!(f, "is told that {job} is concluded"),
            Self::SetAccountBudget(Some(budget)) => write!(f, "is given an account of {budget} micro-units"),
            Self::SetAccountBudget(None) => f.write_str("is given an account without a limit"),
            Self::Ban(peer) => write!(f, "is told to ban {peer:?}"),
            Self::Allow(peer) => write!(f, "is told to allow {peer:?}"),
            Self::ImportBans { records, .. } => write!(f, "is told of {} bans", records.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::{format, vec};

    use super::*;
    use crate::{Limits, Machine, Model, Policy, money::Account, peers::bans::BanCause, spec::Haggle, wire::Prompt};

    fn requester() -> Requester {
        Requester::new(Policy::default(), Limits::default(), [7; 32]).unwrap()
    }

    fn spec() -> JobSpec {
        JobSpec::new(Model::new(b"m").unwrap(), Prompt::Raw("a secret".into()), 5)
    }

    fn quote() -> QuoteSpec {
        let criteria = Criteria::new(Model::new(b"m").unwrap());
        QuoteSpec { criteria, body_bytes: 256, max_tokens: 5, deadline: None, haggle: Haggle::No }
    }

    fn bans(peer: PeerId) -> Vec<BanRecord> {
        let time = Millis::from_secs(60);
        vec![BanRecord { peer, cause: BanCause::Score, remaining: time, remembered: time, proven: false }]
    }

    #[test]
    fn a_command_does_what_its_method_does() {
        let (mut one, mut other) = (requester(), requester());
        let at = Instant::from_millis(5);
        let peer = PeerId::new(b"p").unwrap();
        let job = JobId([9; 16]);
        one.keep_endings();
        assert_eq!(other.command(at, Command::KeepEndings), Ok(Reply::Done));
        let submitted = one.submit(at, spec()).unwrap();
        assert_eq!(other.command(at, Command::Submit(spec())), Ok(Reply::Job(submitted)));
        let asked = one.quote(at, quote()).unwrap();
        assert_eq!(other.command(at, Command::Quote(quote())), Ok(Reply::Job(asked)));
        let asked = one.discover(at, quote().criteria, Some(Millis(7))).unwrap();
        let discover = Command::Discover { criteria: quote().criteria, deadline: Some(Millis(7)) };
        assert_eq!(other.command(at, discover), Ok(Reply::Job(asked)));
        let award = Command::Award { job: submitted, peer };
        assert_eq!(other.command(at, award).unwrap_err(), one.award(at, submitted, peer).unwrap_err());
        one.consumed(at, job, 3);
        assert_eq!(other.command(at, Command::Consumed { job, tokens: 3 }), Ok(Reply::Done));
        one.cancel(at, submitted).unwrap();
        assert_eq!(other.command(at, Command::Cancel(submitted)), Ok(Reply::Done));
        assert_eq!(other.command(at, Command::Cancel(job)), Err(Refusal::UnknownJob));
        let kept = other.held_bytes();
        one.concluded(submitted);
        assert_eq!(other.command(at, Command::Concluded(submitted)), Ok(Reply::Done));
        assert!(other.held_bytes() <= kept);
        one.set_account_budget(Some(5));
        assert_eq!(other.command(at, Command::SetAccountBudget(Some(5))), Ok(Reply::Done));
        assert_ne!(*other.account(), Account::default());
        one.import_bans(at, Millis(1), &bans(peer)).unwrap();
        assert_eq!(other.command(at, Command::ImportBans { away: Millis(1), records: bans(peer) }), Ok(Reply::Done));
        assert_eq!(other.bans(at).len(), 1);
        one.ban(peer).unwrap();
        assert_eq!(other.command(at, Command::Ban(peer)), Ok(Reply::Done));
        assert_eq!(one.digest(at), other.digest(at));
        one.allow(&peer);
        assert_eq!(other.command(at, Command::Allow(peer)), Ok(Reply::Done));
        assert_eq!(other.bans(at), []);
        assert_eq!(one.digest(at), other.digest(at));
        let mut said = 0;
        loop {
            let (next, also) = (format!("{:?}", one.poll_output()), format!("{:?}", other.poll_output()));
            assert_eq!(next, also);
            if next == "None" {
                break;
            }
            said += 1;
        }
        assert!(said > 1, "there was something to compare");
    }

    #[test]
    fn a_prompt_shows_in_no_text() {
        let submit = Command::Submit(spec());
        let shown = format!("{submit} {submit:?}");
        assert!(shown.contains("Raw(8 bytes)") && !shown.contains("secret"), "{shown}");
    }
}
