//! What may be spent a day, by the gateway and by each of its keys.
//!
//! What a purchase can come to is set aside before it, what it came to is settled after it; both are in the book before they count.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{FutureExt, channel::oneshot, select_biased};
use futures_timer::Delay;
use haggle::core::money::{Account, Amount};
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::{
    book::{Book, Spent},
    config::{Config, Key},
    errors::Refused,
    failure, jobs,
    units::units,
};

/// What others have set aside may become free again: it is waited for so long.
const PATIENCE: Duration = Duration::from_secs(60);
const A_DAY: u64 = 24 * 60 * 60;

#[derive(Debug)]
pub(crate) struct Purse {
    keys: Vec<Key>,
    day_budget: Option<Amount>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Since 1970, in UTC.
    day: u64,
    gateway: Account,
    of_keys: Vec<Account>,
    book: Option<Book>,
    jobs: u64,
    waiting: Vec<oneshot::Sender<()>>,
}

/// What is set aside for one purchase. Dropped without being settled, it counts as spent.
#[derive(Debug)]
pub(crate) struct Reservation {
    purse: Arc<Purse>,
    owner: Option<usize>,
    day: u64,
    job: u64,
    pub(crate) amount: Amount,
}

impl Purse {
    pub(crate) fn open(config: &Config) -> io::Result<Self> {
        Self::open_on(config, today())
    }

    fn open_on(config: &Config, day: u64) -> io::Result<Self> {
        let (book, spent) = match &config.spent {
            Some(path) => Book::open(PathBuf::from(path), day).map(|(book, spent)| (Some(book), spent))?,
            None => (None, Spent::default()),
        };
        let of_keys = config.keys.iter().map(|key| {
            let owed = spent.get(&Some(key.name.clone())).copied().unwrap_or(0);
            account(key.day_budget, owed)
        });
        let state = State {
            day,
            gateway: account(config.day_budget, spent.values().sum()),
            of_keys: of_keys.collect(),
            book,
            jobs: 0,
            waiting: Vec::new(),
        };
        Ok(Purse { keys: config.keys.clone(), day_budget: config.day_budget, state: Mutex::new(state) })
    }

    /// Whether anything bounds what an owner spends a day.
    pub(crate) fn bounds(&self, owner: Option<usize>) -> bool {
        self.day_budget.is_some() || owner.and_then(|at| self.keys.get(at)).is_some_and(|key| key.day_budget.is_some())
    }

    /// What an owner may spend today and has spent: the gateway's budget, and that of the key if there is one. In units.
    pub(crate) fn left(&self, owner: Option<usize>) -> Vec<Value> {
        let mut state = self.lock();
        if let Err(error) = state.turn(self, today()) {
            tracing::debug!(%error, "a new day cannot be begun in the book");
        }
        let key = owner.and_then(|at| self.keys.get(at));
        let limits = [(None, self.day_budget)].into_iter().chain(key.map(|key| (Some(&key.name), key.day_budget)));
        let accounts = state.accounts(owner).into_iter().zip(limits);
        let bounded = accounts.filter_map(|(account, (key, limit))| Some((account.remaining()?, account, key, limit?)));
        let told = bounded.map(|(left, account, key, limit)| {
            let (owed, reserved) = (units(account.owed()), units(account.reserved()));
            json!({"key": key, "limit": units(limit), "left": units(left), "owed": owed, "reserved": reserved})
        });
        told.collect()
    }

    /// Sets `wanted` aside, or what there is, at least `needed`. Waits while others may leave enough of what is theirs.
    pub(crate) async fn reserve(
        self: &Arc<Self>,
        owner: Option<usize>,
        needed: Amount,
        wanted: Amount,
    ) -> Result<Reservation, Refused> {
        let mut patience = Delay::new(PATIENCE).fuse();
        loop {
            let waiter = match self.try_reserve(owner, needed, wanted, today())? {
                Ok(reservation) => return Ok(reservation),
                Err(waiter) => waiter,
            };
            select_biased! {
                _ = waiter.fuse() => {}
                () = patience => return Err(self.exhausted(owner, needed)),
            }
        }
    }

    fn try_reserve(
        self: &Arc<Self>,
        owner: Option<usize>,
        needed: Amount,
        wanted: Amount,
        day: u64,
    ) -> Result<Result<Reservation, oneshot::Receiver<()>>, Refused> {
        let mut state = self.lock();
        state.turn(self, day).map_err(|error| unwritable(&error))?;
        let (room, hope) = state.room(owner);
        if room < needed.into() {
            if hope < needed.into() {
                drop(state);
                return Err(self.exhausted(owner, needed));
            }
            let (sender, waiter) = oneshot::channel();
            state.waiting.retain(|other| !other.is_canceled());
            state.waiting.push(sender);
            return Ok(Err(waiter));
        }
        let amount = wanted.max(needed).min(Amount::try_from(room).unwrap_or(Amount::MAX));
        let (day, job) = (state.day, state.jobs);
        state.jobs += 1;
        let key = owner.and_then(|at| self.keys.get(at)).map(|key| key.name.as_str());
        if let Some(book) = &mut state.book {
            book.reserve(day, job, key, amount.into()).map_err(|error| unwritable(&error))?;
        }
        let is_set_aside = state.accounts(owner).into_iter().all(|account| account.reserve(amount.into()));
        debug_assert!(is_set_aside, "there was room");
        Ok(Ok(Reservation { purse: self.clone(), owner, day, job, amount }))
    }

    fn exhausted(&self, owner: Option<usize>, needed: Amount) -> Refused {
        let (room, _) = self.lock().room(owner);
        failure::day_is_spent(needed.into(), room)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The accounts that a purchase of this owner is charged to.
    fn accounts(&mut self, owner: Option<usize>) -> Vec<&mut Account> {
        let of_key = owner.and_then(|at| self.of_keys.get_mut(at));
        [&mut self.gateway].into_iter().chain(of_key).collect()
    }

    /// What can be set aside, and what could be if all that is set aside came to nothing.
    fn room(&mut self, owner: Option<usize>) -> (u128, u128) {
        self.accounts(owner).into_iter().fold((u128::MAX, u128::MAX), |(room, hope), account| {
            let of_it = account.remaining().unwrap_or(u128::MAX);
            (room.min(of_it), hope.min(of_it.saturating_add(account.reserved())))
        })
    }

    fn turn(&mut self, purse: &Purse, day: u64) -> io::Result<()> {
        // A clock that goes back gives nobody a second budget.
        if day <= self.day {
            return Ok(());
        }
        if let Some(book) = &mut self.book {
            book.turn(day)?;
        }
        self.day = day;
        self.gateway = Account::new(purse.day_budget);
        self.of_keys = purse.keys.iter().map(|key| Account::new(key.day_budget)).collect();
        Ok(())
    }
}

impl Reservation {
    /// The purchase is over, and came to this.
    pub(crate) fn settle(self, owed: u128) {
        let mut state = self.purse.lock();
        // Of a day that is over, nothing is left to be given back.
        if state.day != self.day {
            return;
        }
        let (day, job, amount) = (self.day, self.job, u128::from(self.amount));
        debug_assert!(owed <= amount, "the node's budget was what is set aside");
        if let Some(Err(error)) = state.book.as_mut().map(|book| book.settle(day, job, owed)) {
            // It counts in full after a restart, which spends nothing that there is not.
            tracing::error!(%error, "what was spent could not be written down");
        }
        state.accounts(self.owner).into_iter().for_each(|account| account.settle(amount, owed));
        state.waiting.clear();
    }
}

fn account(limit: Option<Amount>, owed: u128) -> Account {
    let mut account = Account::default();
    let is_unbounded = account.reserve(owed);
    debug_assert!(is_unbounded, "it has no limit yet");
    account.settle(owed, owed);
    account.set_limit(limit);
    account
}

fn today() -> u64 {
    jobs::now() / A_DAY
}

fn unwritable(error: &io::Error) -> Refused {
    tracing::error!(%error, "what is spent cannot be written down; nothing is bought");
    let text = "what is spent cannot be written down on the gateway's disk, so nothing is bought";
    Refused::new(StatusCode::SERVICE_UNAVAILABLE, "book_unwritable", text).retry_after(Duration::from_secs(60))
}

#[cfg(test)]
mod races;

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    fn purse(day_budget: Option<Amount>, of_key: Option<Amount>) -> Arc<Purse> {
        let key = |name: &str| Key::new(name, "long-secret").expect("a key").with_day_budget(of_key);
        let config = Config { day_budget, keys: vec![key("a"), key("b")], ..Config::default() };
        Arc::new(Purse::open(&config).expect("no file is needed"))
    }

    #[test]
    fn the_lesser_of_both_budgets_bounds_and_what_is_left_over_comes_back() {
        let purse = purse(Some(100), Some(70));
        let take = |owner, needed, wanted| block_on(purse.reserve(Some(owner), needed, wanted));
        let first = take(0, 10, 80).expect("there is enough");
        assert_eq!(first.amount, 70, "no more than the key has");
        let second = take(1, 10, 80).expect("there is enough");
        assert_eq!(second.amount, 30, "no more than the gateway has");
        first.settle(50);
        second.settle(0);
        let refused = take(0, 21, 21).expect_err("the key has 20 left");
        assert_eq!((refused.status.as_u16(), refused.code), (402, "budget_exceeded"));
        assert_eq!(take(0, 20, 99).expect("that is there").amount, 20);
    }

    #[test]
    fn who_finds_all_set_aside_waits_for_what_is_given_back() {
        let purse = purse(Some(100), None);
        let first = block_on(purse.reserve(None, 60, 100)).expect("there is enough");
        let mut second = Box::pin(purse.reserve(None, 60, 60));
        assert!(second.as_mut().now_or_never().is_none(), "it waits");
        first.settle(40);
        assert_eq!(block_on(second).expect("60 are left").amount, 60);
        let mut third = Box::pin(purse.reserve(None, 61, 61));
        assert!(third.as_mut().now_or_never().is_some_and(|refused| refused.is_err()), "40 are owed, 60 at most left");
    }

    #[test]
    fn a_new_day_has_a_new_budget_and_an_old_clock_has_not() {
        let purse = purse(Some(10), None);
        let held = block_on(purse.reserve(None, 10, 10)).expect("there is enough");
        let day = held.day;
        purse.lock().turn(&purse, day - 1).expect("no file is needed");
        assert_eq!(purse.lock().room(None).0, 0);
        purse.lock().turn(&purse, day + 1).expect("no file is needed");
        held.settle(10);
        assert_eq!(purse.lock().room(None).0, 10);
    }
}
