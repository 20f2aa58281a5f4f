//! When the machines' state is written down: at once where it must not be lost, else at a calm pace.
//!
//! What happens is judged here, by its event; what is ordered, such as a ban by hand, in [`commands`](super::commands).

use std::time::{Duration, Instant as Clock};

use haggle_core::{Event, Instant, ProviderEvent};

use super::Driver;
use crate::state::{PROVIDER, REQUESTER, State, StateError};

/// What is not urgent is written no more often.
const PACE: Duration = Duration::from_secs(1);
/// Writing takes no more than one part in so many of the time.
const SHARE: u32 = 20;
/// What cannot be written is told no more often.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// The state directory, and what in it is out of date.
pub(super) struct Persistence {
    pub(super) state: State,
    requester: Dirty,
    provider: Dirty,
    /// When what can wait is written.
    pub(super) due: Option<Clock>,
    pause: Duration,
    /// When the provider was written last, by the core's clock.
    written: Instant,
    /// When it was told that something cannot be written; once everything is, that is forgotten.
    told: Option<Clock>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Dirty {
    No,
    Soon,
    Now,
}

impl Dirty {
    /// What could not be written is tried again after the pause, not at once: a full disk stays full for a while.
    fn after(written: &Result<(), StateError>) -> Self {
        if written.is_ok() { Dirty::No } else { Dirty::Soon }
    }
}

impl Persistence {
    pub(super) fn new(state: State) -> Self {
        // What was restored goes on under new names: that is written before it is said.
        Persistence {
            state,
            requester: Dirty::Now,
            provider: Dirty::Now,
            due: None,
            pause: PACE,
            written: Instant::ZERO,
            told: None,
        }
    }

    pub(super) fn heard(&mut self, event: &Event<'_>) {
        let dirty = match event {
            Event::Awarded { .. } | Event::Resumed { .. } | Event::TakenOver { .. } | Event::Ended { .. } => Dirty::Now,
            Event::Tokens { .. } | Event::PassedOver { .. } | Event::Cut { .. } => Dirty::Soon,
            _ => Dirty::No,
        };
        self.requester = self.requester.max(dirty);
    }

    pub(super) fn served(&mut self, event: &ProviderEvent) {
        if matches!(event, ProviderEvent::Start { .. } | ProviderEvent::Served { .. }) {
            self.provider = Dirty::Now;
        }
    }
}

impl Driver {
    /// The requester was changed by its application, and that must not be lost.
    pub(super) fn keep_at_once(&mut self) {
        if let Some(persistence) = &mut self.persistence {
            persistence.requester = Dirty::Now;
        }
    }

    /// It was changed, and that can wait.
    pub(super) fn keep_later(&mut self) {
        if let Some(persistence) = &mut self.persistence {
            persistence.requester = persistence.requester.max(Dirty::Soon);
        }
    }

    /// When the provider is to be written though nothing happens; not if it waits to be written anyway.
    pub(super) fn renewal(&self) -> Option<Instant> {
        let persistence = self.persistence.as_ref().filter(|persistence| persistence.provider == Dirty::No)?;
        self.provider.as_ref()?.snapshot_due(persistence.written)
    }

    /// Writes down what has to be, before anything else happens.
    pub(super) fn keep(&mut self, all: bool) {
        let now = self.now();
        let is_renewed = self.renewal().is_some_and(|at| at <= now);
        let Some(persistence) = &mut self.persistence else { return };
        if is_renewed {
            persistence.provider = Dirty::Now;
        }
        let clock = Clock::now();
        let is_due = persistence.due.is_some_and(|due| due <= clock);
        let write = |dirty: Dirty| dirty == Dirty::Now || (dirty == Dirty::Soon && is_due) || all;
        let mut written = Ok(());
        if write(persistence.requester) {
            written = persistence.state.store(REQUESTER, &self.requester.snapshot(now));
            persistence.requester = Dirty::after(&written);
            persistence.pause = PACE.max(clock.elapsed() * SHARE);
        }
        if let Some(provider) = self.provider.as_ref().filter(|_| write(persistence.provider)) {
            let stored = persistence.state.store(PROVIDER, &provider.snapshot(now));
            persistence.provider = Dirty::after(&stored);
            persistence.written = now;
            written = written.and(stored);
        }
        let waits = [persistence.requester, persistence.provider].contains(&Dirty::Soon);
        let due = persistence.due.filter(|due| *due > clock).or_else(|| clock.checked_add(persistence.pause));
        persistence.due = due.filter(|_| waits);
        match written {
            Ok(()) if waits => {}
            Ok(()) => persistence.told = None,
            Err(_) if persistence.told.is_some_and(|told| clock.duration_since(told) < TOLD_EVERY) => {}
            Err(error) => {
                persistence.told = Some(clock);
                self.on_failure(error.code(), error.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf, sync::Arc};

    use futures::{FutureExt, StreamExt};
    use haggle_core::{
        Input, JobId, Limits, Machine, Model, Policy,
        money::Tariff,
        provider::{Command, Reply, Service, Serving},
        wire::{
            Message, encode_frame,
            message::{Award, BodyKind, ModelAdvert, Sampling},
        },
    };
    use libp2p::PeerId;

    use super::*;
    use crate::{NodeEvent, driver::Parts, time_source::TimeSource};

    /// A folder of its own that is removed at the end.
    struct Folder(PathBuf);

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn model() -> Model {
        Model::new(b"model").expect("a name")
    }

    /// A driver that sells, and where its state is.
    fn driver(name: &str) -> (Driver, Folder) {
        let folder = Folder(std::env::temp_dir().join(format!("haggle-persistence-{name}-{}", std::process::id())));
        let _ = fs::remove_dir_all(&folder.0);
        let advert = ModelAdvert {
            model: model(),
            aliases: Vec::new(),
            context: 4096,
            price_in: 0,
            bytes_per_token: 4,
            price_out: 0,
            eta: Default::default(),
            can_continue: false,
            exactness: Default::default(),
            features: None,
            longest: None,
            price_part: None,
        };
        let service = Service { models: vec![Serving { advert, floor_permille: 1000 }], ..Service::default() };
        let (driver, _) = Driver::new(Parts {
            me: PeerId::random(),
            network: "test".into(),
            limits: Limits::default(),
            policy: Policy::default(),
            account_budget: None,
            service,
            engines: Vec::new(),
            spawn: Arc::new(drop),
            recorder: None,
            state: Some(State::open(&folder.0).expect("a folder")),
            stored: Vec::new(),
        })
        .expect("a driver");
        (driver, folder)
    }

    #[test]
    fn what_could_not_be_written_is_written_after_a_pause() {
        for name in [REQUESTER, PROVIDER] {
            let (mut driver, folder) = driver(name);
            let (file, in_the_way) = (folder.0.join(name), folder.0.join(format!("{name}.new")));
            fs::remove_file(&file).expect("it was written at the start");
            fs::create_dir(&in_the_way).expect("a folder");
            driver.keep(true);
            let due = driver.persistence.as_ref().and_then(|persistence| persistence.due);
            assert!(due.is_some_and(|due| due > Clock::now()), "{name}: not at once");
            assert!(
                driver.persistence.as_ref().is_some_and(|persistence| persistence.told.is_some()),
                "{name}: it is told"
            );
            let mut events = driver.shared.subscribers.subscribe(TimeSource::default());
            driver.keep(true);
            assert_eq!(events.next().now_or_never(), None, "{name}: once a minute");
            driver.persistence.as_mut().expect("it has one").told = Clock::now().checked_sub(TOLD_EVERY);
            driver.keep(true);
            let told = events.next().now_or_never().flatten();
            assert!(matches!(told, Some(NodeEvent::Failed { code: "state", .. })), "{name}: {told:?}");
            fs::remove_dir(&in_the_way).expect("out of the way");
            driver.keep(false);
            assert!(!file.exists(), "{name}: not before it is due");
            driver.persistence.as_mut().expect("it has one").due = Some(Clock::now());
            driver.keep(false);
            assert!(file.exists(), "{name}");
            assert!(
                driver
                    .persistence
                    .as_ref()
                    .is_some_and(|persistence| persistence.due.is_none() && persistence.told.is_none()),
                "{name}"
            );
        }
    }

    #[test]
    fn a_provider_that_computes_for_long_is_written_again() {
        let (mut driver, folder) = driver("renewal");
        let file = folder.0.join(PROVIDER);
        let now = driver.now();
        assert_eq!(driver.renewal(), None, "nothing runs");
        let provider = driver.provider.as_mut().expect("it sells");
        let peer = haggle_core::PeerId::new(b"p").expect("an id");
        let Ok(Reply::Stream(stream)) = provider.command(now, Command::AcceptStream(peer)) else {
            panic!("there is room")
        };
        let mut bytes = Vec::new();
        encode_frame(&award(), &mut bytes);
        provider.handle_input(now, Input::Received(stream, &bytes));
        let due = driver.renewal().expect("an attempt is open");
        assert!(due > now);

        fs::remove_file(&file).expect("it was written at the start");
        driver.keep(false);
        assert!(!file.exists(), "not before it is due");
        // As if it had been written when the clock began.
        driver.persistence.as_mut().expect("it has one").written = Instant::ZERO;
        driver.keep(false);
        assert!(file.exists());
        assert!(driver.renewal().is_some_and(|at| at > now), "and so on");
    }

    fn award() -> Message<'static> {
        Message::Award(Award {
            job: JobId([1; 16]),
            attempt: 1,
            epoch: 1,
            offer: None,
            model: model(),
            tariff: Tariff::default(),
            max_tokens: 10,
            kind: BodyKind::Raw,
            body_bytes: 4,
            body_hash: [0; 32],
            prefix_bytes: 0,
            prefix_tokens: 0,
            prefix_id_bytes: None,
            overlap: 0,
            sampling: Sampling::default(),
            stop: Vec::new(),
            window_tokens: 1024,
            window_bytes: 128 << 10,
            features: None,
            voucher: None,
            choice: None,
        })
    }
}
