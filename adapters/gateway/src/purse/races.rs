//! Whatever number of purchases race for the same budgets, and however each ends.

use std::fs;

use proptest::prelude::*;

use super::*;

const KEYS: [&str; 3] = ["a", "b", "c"];
const DAY: u64 = 20_000;

/// What happens next. Numbers choose among what there is then.
#[derive(Clone, Debug)]
enum Turn {
    /// A request of one of the keys, which needs so much and wants more.
    Asks { key: usize, needed: u64, more: u64 },
    /// A purchase is over: complete, cancelled or failed, at so many thousandths of what was set aside.
    Ends { which: usize, share: u128 },
    /// Nobody hears how a purchase ends.
    Lost { which: usize },
    /// The process is killed with all that runs, and begins again.
    Killed,
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let turn = prop_oneof![
        6 => (0..KEYS.len(), 0..60_u64, 0..60_u64).prop_map(|(key, needed, more)| Turn::Asks { key, needed, more }),
        4 => (any::<usize>(), 0..=1_000_u128).prop_map(|(which, share)| Turn::Ends { which, share }),
        1 => any::<usize>().prop_map(|which| Turn::Lost { which }),
        1 => Just(Turn::Killed),
    ];
    prop::collection::vec(turn, 1..80)
}

/// The purse, and what it must come to.
struct Race {
    config: Config,
    purse: Arc<Purse>,
    running: Vec<Reservation>,
    waiting: Vec<oneshot::Receiver<()>>,
    /// Bills of each key, and what nobody heard the end of, in full.
    spent: [u128; KEYS.len()],
    /// Of that, what the purse holds as set aside, as long as it lives.
    lost: [u128; KEYS.len()],
}

impl Race {
    fn turn(&mut self, turn: &Turn) {
        match *turn {
            Turn::Asks { key, needed, more } => match self.purse.try_reserve(Some(key), needed, needed + more, DAY) {
                Ok(Ok(reserved)) => {
                    assert!((needed..=needed + more).contains(&reserved.amount), "{}", reserved.amount);
                    self.running.push(reserved);
                }
                Ok(Err(waiter)) => self.waiting.push(waiter),
                Err(refused) => assert_eq!(refused.code, "budget_exceeded"),
            },
            Turn::Ends { which, share } => {
                let Some(reserved) = self.take(which) else { return };
                let owed = u128::from(reserved.amount) * share / 1_000;
                self.spent[reserved.owner.unwrap_or_default()] += owed;
                reserved.settle(owed);
                // Whoever waits looks again.
                assert!(self.waiting.drain(..).all(|waiter| waiter.now_or_never().is_some()));
            }
            Turn::Lost { which } => {
                let Some(reserved) = self.take(which) else { return };
                let (key, amount) = (reserved.owner.unwrap_or_default(), u128::from(reserved.amount));
                self.spent[key] += amount;
                self.lost[key] += amount;
            }
            Turn::Killed => {
                for reserved in self.running.drain(..) {
                    self.spent[reserved.owner.unwrap_or_default()] += u128::from(reserved.amount);
                }
                self.waiting.clear();
                self.lost = Default::default();
                self.purse = Arc::new(Purse::open_on(&self.config, DAY).expect("its own book"));
            }
        }
    }

    fn take(&mut self, which: usize) -> Option<Reservation> {
        (!self.running.is_empty()).then(|| self.running.swap_remove(which % self.running.len()))
    }

    /// Nothing is ever spent or set aside beyond a budget, and all of it is accounted for.
    fn holds(&self) {
        let state = self.purse.lock();
        let all = state.of_keys.iter().map(|account| (account.owed(), account.reserved()));
        let sum = all.fold((0, 0), |sum, (owed, reserved)| (sum.0 + owed, sum.1 + reserved));
        assert_eq!(sum, (state.gateway.owed(), state.gateway.reserved()), "of the keys, and of the gateway");
        for (key, account) in state.of_keys.iter().enumerate() {
            let runs = self.running.iter().filter(|reserved| reserved.owner == Some(key));
            let set_aside = runs.map(|reserved| u128::from(reserved.amount)).sum::<u128>() + self.lost[key];
            assert_eq!((account.owed(), account.reserved()), (self.spent[key] - self.lost[key], set_aside), "{key}");
        }
        let budgets = [self.config.day_budget].into_iter().chain(self.config.keys.iter().map(|key| key.day_budget));
        for (account, budget) in [&state.gateway].into_iter().chain(&state.of_keys).zip(budgets) {
            let most = budget.map_or(u128::MAX, u128::from);
            assert!(account.owed() + account.reserved() <= most, "{account:?} of {budget:?}");
        }
    }
}

proptest! {
    // Each opens a book on disk, some of them often.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_race_spends_beyond_a_budget_and_in_the_end_the_bills_are_spent(
        turns in turns(),
        day_budget in prop::option::of(0..400_u64),
        of_keys in prop::array::uniform3(prop::option::of(0..200_u64)),
    ) {
        let folder = std::env::temp_dir().join(format!("haggle-races-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("spent.jsonl");
        let _ = fs::remove_file(&path);
        let keys = KEYS.iter().zip(of_keys).map(|(name, budget)| {
            Key::new(*name, "long-secret").expect("a key").with_day_budget(budget)
        });
        let config = Config { day_budget, keys: keys.collect(), spent: Some(path), ..Config::default() };
        let purse = Arc::new(Purse::open_on(&config, DAY).expect("a book"));
        let (running, waiting) = (Vec::new(), Vec::new());
        let mut race = Race { config, purse, running, waiting, spent: [0; KEYS.len()], lost: [0; KEYS.len()] };
        for turn in &turns {
            race.turn(turn);
            race.holds();
        }
        while !race.running.is_empty() {
            race.turn(&Turn::Ends { which: 0, share: 500 });
        }
        race.holds();
        // What the next process reads is the sum of the bills.
        race.turn(&Turn::Killed);
        race.holds();
        let _ = fs::remove_dir_all(folder);
    }
}
