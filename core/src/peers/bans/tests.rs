use alloc::vec;

use proptest::prelude::*;

use super::*;

const fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn peer(n: u32) -> PeerId {
    PeerId::new(&n.to_be_bytes()).unwrap()
}

const T: u64 = FIRST_BAN.0;
const DAY: u64 = LONGEST_BAN.0;

#[test]
fn a_ban_ends_at_its_moment_exactly() {
    for (fatal, span) in [(false, T), (true, DAY)] {
        let mut bans = Bans::new(10);
        let until = bans.ban(at(5), peer(1), fatal);
        assert_eq!(until, at(5 + span));
        let ban = if fatal { Ban::Fatal(until) } else { Ban::Score(until) };
        assert_eq!(bans.check(at(5 + span - 1), &peer(1)), Some(ban), "T - 1");
        assert_eq!(bans.check(at(5 + span), &peer(1)), None, "T");
        assert_eq!(bans.check(at(5 + span + 1), &peer(1)), None, "T + 1");
        let probation = [5 + span - 1, 5 + span, 5 + span + 1].map(|now| bans.is_on_probation(at(now), &peer(1)));
        assert_eq!(probation, [false, true, true]);
        assert_eq!(bans.check(at(5), &peer(2)), None);
    }
}

#[test]
fn each_ban_is_twice_as_long_up_to_a_day() {
    let mut bans = Bans::new(10);
    let mut now = at(0);
    let minutes = [10, 20, 40, 80, 160, 320, 640, 1280, 1440, 1440, 1440];
    for expected in minutes {
        let until = bans.ban(now, peer(1), false);
        assert_eq!(until.since(now), Millis::from_secs(60 * expected));
        now = until;
    }
}

#[test]
fn a_day_without_a_ban_forgets_one() {
    let ban_after = |pause: u64| {
        let mut bans = Bans::new(10);
        let first = bans.ban(at(0), peer(1), false);
        let second = bans.ban(first, peer(1), false);
        bans.ban(second.after(Millis(pause)), peer(1), false).since(second.after(Millis(pause))).0 / T
    };
    assert_eq!([0, DAY - 1, DAY, 2 * DAY - 1, 2 * DAY].map(ban_after), [4, 4, 2, 2, 1]);
    let mut bans = Bans::new(10);
    let until = bans.ban(at(0), peer(1), false);
    let forgotten = until.after(MEMORY);
    assert!(bans.is_on_probation(at(forgotten.as_millis() - 1), &peer(1)));
    assert!(!bans.is_on_probation(forgotten, &peer(1)));
    assert!(bans.export(forgotten).is_empty());
}

#[test]
fn probation_ends_with_a_job_after_the_ban() {
    let mut bans = Bans::new(10);
    let until = bans.ban(at(0), peer(1), false);
    bans.prove(at(1), &peer(1));
    assert!(bans.is_on_probation(until, &peer(1)), "a job that ended during the ban proves nothing");
    bans.prove(until, &peer(1));
    assert!(!bans.is_on_probation(until, &peer(1)));
    let again = bans.ban(until, peer(1), false);
    assert_eq!(again.since(until).0, 2 * T, "it is remembered all the same");
    assert!(bans.is_on_probation(again, &peer(1)));
}

#[test]
fn a_longer_ban_is_never_cut_short() {
    let mut bans = Bans::new(10);
    let until = bans.ban(at(0), peer(1), true);
    assert_eq!(bans.ban(at(1), peer(1), false), until);
    assert_eq!(bans.check(at(1), &peer(1)), Some(Ban::Fatal(until)), "and a fatal one stays fatal");
    let later = bans.ban(until, peer(1), false);
    assert_eq!(bans.check(until, &peer(1)), Some(Ban::Score(later)), "until it is over");
}

#[test]
fn only_bans_by_hand_are_for_good_and_only_allow_lifts_them() {
    let mut bans = Bans::new(2);
    bans.ban(at(0), peer(1), true);
    for n in [1, 2, 2] {
        assert_eq!(bans.ban_by_hand(peer(n)), Ok(()));
    }
    assert_eq!(bans.ban_by_hand(peer(3)), Err(BookFull));
    assert_eq!(bans.check(Instant::MAX, &peer(1)), Some(Ban::Manual));
    (10..100).for_each(|n| {
        bans.ban(at(0), peer(n), true);
    });
    assert_eq!(bans.check(Instant::MAX, &peer(2)), Some(Ban::Manual), "no flood pushes it out");
    bans.ban(at(0), peer(1), false);
    bans.allow(&peer(1));
    assert_eq!(bans.check(at(0), &peer(1)), None, "all bans are lifted");
    assert_eq!(bans.ban(at(0), peer(1), false), at(T), "and forgotten");
}

#[test]
fn at_the_limit_the_longest_free_go_first_then_the_least_banned() {
    let mut bans = Bans::new(3);
    bans.ban(at(0), peer(1), true);
    bans.ban(at(0), peer(2), false);
    bans.ban(at(1), peer(3), false);
    let kept = |bans: &Bans| vec![1, 2, 3, 4, 5].into_iter().filter(|n| bans.entries.contains_key(&peer(*n))).collect();
    bans.ban(at(T + 1), peer(4), false);
    let one: Vec<u32> = kept(&bans);
    assert_eq!(one, [1, 3, 4], "of two that are free, the one that is so for longer");
    bans.ban(at(T + 1), peer(5), false);
    assert_eq!(kept(&bans), [1, 4, 5]);
    bans.ban(at(T + 2), peer(2), false);
    assert_eq!(kept(&bans), [1, 2, 5], "of three that are banned, the one with the least left");
}

#[test]
fn a_million_offenders_leave_a_thousand_entries() {
    let mut bans = Bans::new(1000);
    let worst = peer(u32::MAX);
    bans.ban(at(0), worst, true);
    for n in 0..1_000_000 {
        bans.ban(at(u64::from(n)), peer(n), false);
        assert!(bans.len() <= 1000 && bans.order.len() == bans.len());
    }
    assert_eq!(bans.len(), 1000);
    let last = at(999_999);
    assert!(bans.check(last, &worst).is_some(), "who did worse is not pushed out by many who did less");
    assert!((999_001..1_000_000).all(|n| bans.check(last, &peer(n)).is_some()));
}

/// Everything that can be asked of a book about a peer in the coming time.
fn future(bans: &Bans, now: Instant, n: u32) -> Vec<(Option<Millis>, bool, u64)> {
    let moments = [0, 1, T - 1, T, T + 1, 2 * T, DAY - 1, DAY, DAY + T, 2 * DAY, 3 * DAY, 9 * DAY, 11 * DAY];
    let ask = |later: u64| {
        let now = now.after(Millis(later));
        let left = match bans.check(now, &peer(n)) {
            None => None,
            Some(Ban::Manual) => Some(Millis(u64::MAX)),
            Some(Ban::Score(until)) => Some(until.since(now)),
            Some(Ban::Fatal(until)) => Some(Millis(until.since(now).0 + 1_000_000_000)),
        };
        let next = bans.clone().ban(now, peer(n), false).since(now).0;
        (left, bans.is_on_probation(now, &peer(n)), next)
    };
    moments.into_iter().map(ask).collect()
}

fn books() -> impl Strategy<Value = (Bans, u64)> {
    let step = (0_u32..5, 0..3 * T, 0_u8..8);
    prop::collection::vec(step, 1..30).prop_map(|steps| {
        let (mut bans, mut now) = (Bans::new(4), 0);
        for (n, wait, what) in steps {
            now += wait;
            match what {
                0 => bans.ban_by_hand(peer(n)).unwrap_or(()),
                1 => bans.prove(at(now), &peer(n)),
                _ => {
                    bans.ban(at(now), peer(n), what == 2);
                }
            }
        }
        (bans, now)
    })
}

proptest! {
    #[test]
    fn time_away_is_time_passed((bans, now) in books(), away in 0..2 * DAY, clock in prop_oneof![Just(0), 0..u64::MAX / 2]) {
        let records = bans.export(at(now));
        let mut restored = Bans::new(4);
        prop_assert_eq!(restored.import(at(clock), Millis(away), &records), Ok(()));
        for n in 0..5 {
            prop_assert_eq!(future(&restored, at(clock), n), future(&bans, at(now + away), n), "peer {}", n);
        }
        let (mut kept, again) = (bans.clone(), restored.export(at(clock)));
        prop_assert_eq!(&again, &kept.export(at(now + away)));
        // What is known already changes nothing.
        prop_assert_eq!(kept.import(at(now), Millis::ZERO, &records), Ok(()));
        prop_assert_eq!(kept.export(at(now)), records);
    }

    #[test]
    fn of_two_books_the_worse_stays((one, then) in books(), (other, later) in books(), passed in 0..3 * DAY) {
        let now = at(then.max(later) + passed);
        let merged = |first: &Bans, second: &Bans| {
            let mut both = Bans::new(1000);
            both.import(now, Millis::ZERO, &first.export(now)).unwrap();
            both.import(now, Millis::ZERO, &second.export(now)).unwrap();
            both
        };
        let both = merged(&one, &other);
        prop_assert_eq!(both.export(now), merged(&other, &one).export(now));
        for n in 0..5 {
            let left = |bans: &Bans| future(bans, now, n)[0].0;
            prop_assert_eq!(left(&both).is_some(), left(&one).is_some() || left(&other).is_some());
            for book in [&one, &other] {
                let (single, merged) = (book.entries.get(&peer(n)), both.entries.get(&peer(n)));
                if let Some(single) = single.filter(|entry| now < entry.forgotten) {
                    let merged = merged.unwrap();
                    prop_assert!(single.until.max(now) <= merged.until && single.forgotten <= merged.forgotten);
                    prop_assert!(single.proven || !merged.proven);
                    prop_assert!(!(single.fatal && now < single.until) || merged.fatal);
                }
            }
        }
    }

    #[test]
    fn records_from_elsewhere_ban_no_longer_than_a_day(remaining: u64, remembered: u64, away in prop_oneof![0..DAY, any::<u64>()], now: u64, proven: bool) {
        let record = BanRecord {
            peer: peer(1),
            cause: BanCause::Fatal,
            remaining: Millis(remaining),
            remembered: Millis(remembered),
            proven,
        };
        let mut bans = Bans::new(1);
        prop_assert_eq!(bans.import(at(now), Millis(away), &[record, record]), Ok(()));
        if let Some(Ban::Fatal(until)) = bans.check(at(now), &peer(1)) {
            prop_assert!(until.since(at(now)).0 <= DAY);
        }
        let again = bans.ban(at(now), peer(1), false).since(at(now)).0;
        prop_assert!(again <= DAY);
    }
}
