use alloc::vec;

use proptest::prelude::*;

use super::*;
use crate::{
    digest::Digester,
    peers::{
        bans::{BanCause, FIRST_BAN, LONGEST_BAN},
        breaker::Circuit,
        score::{AFTER_BAN, HALF_LIFE, Standing},
    },
    rand::Rng,
};

const fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn peer(n: u32) -> PeerId {
    PeerId::new(&n.to_be_bytes()).unwrap()
}

fn peers() -> Peers {
    Peers::new(Rules::default(), 4096, 1000)
}

const ASK: Ask = Ask { tokens: 100, patience: Millis::from_secs(60), jitter: 0, retry: false, lift: Lift::Nothing };

fn fail(peers: &mut Peers, now: Instant, n: u32) {
    let permit = peers.permit(now, peer(n), &ASK).unwrap();
    peers.failed(now, permit);
}

fn finish(peers: &mut Peers, now: Instant, n: u32) {
    let permit = peers.permit(now, peer(n), &ASK).unwrap();
    peers.verified_end(now, permit, 10);
}

fn open(peers: &mut Peers, now: Instant, n: u32) {
    (0..5).for_each(|_| fail(peers, now, n));
}

fn blame(peers: &mut Peers, now: Instant, n: u32, times: u32) {
    (0..times).for_each(|_| {
        peers.violation(now, peer(n), Severity::Grave);
    });
}

#[test]
fn a_peer_goes_from_unknown_to_healthy_avoided_banned_probation_and_back() {
    let mut peers = peers();
    let now = at(0);
    assert_eq!(peers.standing(now, &peer(1)), Standing::Unknown);
    assert_eq!(peers.excluded(now, &peer(1), u64::MAX), None, "who is unknown gets jobs");
    finish(&mut peers, now, 1);
    assert_eq!(peers.standing(now, &peer(1)), Standing::Healthy);
    blame(&mut peers, now, 1, 2);
    assert_eq!(peers.standing(now, &peer(1)), Standing::Avoided);
    assert_eq!(peers.excluded(now, &peer(1), 1), Some(Excluded::Avoided));
    blame(&mut peers, now, 1, 2);
    assert_eq!(peers.standing(now, &peer(1)), Standing::Avoided, "-40");
    assert_eq!(peers.violation(now, peer(1), Severity::Grave), Some(now.after(FIRST_BAN)));
    let until = now.after(FIRST_BAN);
    assert_eq!(peers.standing(now, &peer(1)), Standing::Banned);
    assert_eq!(peers.excluded(at(599_999), &peer(1), 1), Some(Excluded::Banned(until)));
    assert_eq!(peers.standing(until, &peer(1)), Standing::Probation);
    assert_eq!(peers.reliability(until, &peer(1)).unwrap().score, AFTER_BAN);
    finish(&mut peers, until, 1);
    assert_eq!(peers.standing(until, &peer(1)), Standing::Healthy);
    assert_eq!(peers.reliability(until, &peer(1)).unwrap().counts.violations, 5);
}

#[test]
fn twenty_points_are_avoidance_and_fifty_a_ban_to_the_thousandth() {
    let mut peers = peers();
    let set = |peers: &mut Peers, value| {
        finish(peers, at(0), 1);
        peers.known.get_mut(&peer(1)).unwrap().score = Score::of(at(0), value);
    };
    set(&mut peers, -19_999);
    assert_eq!(peers.excluded(at(0), &peer(1), 1), None);
    set(&mut peers, -20_000);
    assert_eq!(peers.excluded(at(0), &peer(1), 1), Some(Excluded::Avoided));
    peers.known.get_mut(&peer(1)).unwrap().score = Score::of(at(0), -48_999);
    assert_eq!(peers.violation(at(0), peer(1), Severity::Slight), None, "-49.999");
    peers.known.get_mut(&peer(1)).unwrap().score = Score::of(at(0), -49_000);
    assert!(peers.violation(at(0), peer(1), Severity::Slight).is_some(), "-50");
}

#[test]
fn avoidance_ends_by_itself() {
    let mut peers = peers();
    blame(&mut peers, at(0), 1, 4);
    assert_eq!(peers.excluded(at(HALF_LIFE.0), &peer(1), 1), Some(Excluded::Avoided), "-20");
    assert_eq!(peers.excluded(at(HALF_LIFE.0 + 100), &peer(1), 1), None);
}

#[test]
fn a_fatal_violation_bans_anybody_at_once_and_nothing_lifts_it() {
    let mut peers = peers();
    (0..200).for_each(|_| finish(&mut peers, at(0), 1));
    let until = at(LONGEST_BAN.0);
    assert_eq!(peers.violation(at(0), peer(1), Severity::Fatal), Some(until));
    assert_eq!(peers.excluded(at(0), &peer(1), 1), Some(Excluded::Fatal(until)));
    assert_eq!(peers.filter(at(0), &[peer(1)], 1).allowed, []);
    let ask = Ask { lift: Lift::Panic, ..ASK };
    assert_eq!(peers.permit(at(0), peer(1), &ask), Err(Excluded::Fatal(until)));
    // A score ban becomes a fatal one.
    blame(&mut peers, at(0), 2, 5);
    assert_eq!(peers.violation(at(1), peer(2), Severity::Fatal), Some(until.after(Millis(1))));
    assert!(matches!(peers.excluded(at(1), &peer(2), 1), Some(Excluded::Fatal(_))));
}

#[test]
fn while_banned_a_score_stands_still() {
    let mut peers = peers();
    blame(&mut peers, at(0), 1, 5);
    let before = peers.known[&peer(1)].score;
    assert_eq!(peers.violation(at(1), peer(1), Severity::Grave), None);
    let permit = peers.permit(at(1), peer(1), &Ask { lift: Lift::Panic, ..ASK }).unwrap();
    peers.verified_end(at(1), permit, 1);
    assert_eq!(peers.known[&peer(1)].score, before);
    assert_eq!(peers.standing(at(FIRST_BAN.0), &peer(1)), Standing::Probation, "a job during the ban proves nothing");
}

#[test]
fn probation_means_small_jobs_one_at_a_time() {
    let mut peers = peers();
    blame(&mut peers, at(0), 1, 5);
    let now = at(FIRST_BAN.0);
    let ask = |tokens| Ask { tokens, ..ASK };
    assert_eq!(peers.permit(now, peer(1), &ask(257)), Err(Excluded::Probation));
    let permit = peers.permit(now, peer(1), &ask(256)).unwrap();
    assert_eq!(peers.permit(now, peer(1), &ask(1)), Err(Excluded::Probation), "one at a time");
    peers.released(now, permit);
    assert_eq!(peers.excluded(now, &peer(1), 1), None);
    // Somebody else is there; then nobody is.
    let seen = peers.filter(now, &[peer(1), peer(2)], 1000);
    assert_eq!(seen, Filtered { allowed: vec![peer(2)], lift: Lift::Nothing });
    let seen = peers.filter(now, &[peer(1)], 1000);
    assert_eq!(seen, Filtered { allowed: vec![peer(1)], lift: Lift::Probation });
    let permit = peers.permit(now, peer(1), &Ask { lift: Lift::Probation, ..ask(1000) }).unwrap();
    peers.verified_end(now, permit, 1);
    assert_eq!(peers.excluded(now, &peer(1), 1000), None);
}

#[test]
fn fewer_than_half_left_is_a_panic() {
    let mut peers = peers();
    let now = at(0);
    let all = [1, 2, 3, 4].map(peer);
    open(&mut peers, now, 1);
    blame(&mut peers, now, 2, 2);
    let seen = peers.filter(now, &all, 1);
    assert_eq!(seen, Filtered { allowed: vec![peer(3), peer(4)], lift: Lift::Nothing }, "exactly half");
    blame(&mut peers, now, 3, 5);
    let seen = peers.filter(now, &all, 1);
    assert_eq!(seen, Filtered { allowed: all.to_vec(), lift: Lift::Panic });
    for peer in all {
        assert!(peers.permit(now, peer, &Ask { lift: seen.lift, ..ASK }).is_ok(), "{peer:?}");
    }
    assert_eq!(peers.filter(now, &[], 1), Filtered { allowed: vec![], lift: Lift::Nothing });
}

#[test]
fn a_panic_lifts_neither_bans_by_hand_nor_fatal_ones_nor_counts_them() {
    let mut peers = peers();
    let now = at(0);
    peers.ban(peer(1)).unwrap();
    peers.violation(now, peer(2), Severity::Fatal);
    let all = [1, 2, 4, 5].map(peer);
    let seen = peers.filter(now, &all, 1);
    assert_eq!(seen, Filtered { allowed: vec![peer(4), peer(5)], lift: Lift::Nothing }, "two of two are left");
    open(&mut peers, now, 4);
    open(&mut peers, now, 5);
    let seen = peers.filter(now, &all, 1);
    assert_eq!(seen, Filtered { allowed: vec![peer(4), peer(5)], lift: Lift::Panic });
    let asked = [1, 2].map(|n| peers.permit(now, peer(n), &Ask { lift: Lift::Panic, ..ASK }).unwrap_err());
    assert_eq!(asked, [Excluded::Manual, Excluded::Fatal(at(LONGEST_BAN.0))]);
}

#[test]
fn in_a_panic_many_may_ask_but_one_is_the_probe() {
    let mut peers = peers();
    open(&mut peers, at(0), 1);
    let ask = Ask { lift: Lift::Panic, ..ASK };
    let mut probe = peers.permit(at(1), peer(1), &ask).unwrap();
    let besides = peers.permit(at(1), peer(1), &ask).unwrap();
    peers.failed(at(2), besides);
    assert_eq!(peers.excluded(at(2), &peer(1), 1), Some(Excluded::Probing(at(60_001))), "it counts for nothing");
    peers.first_token(at(3), &mut probe);
    assert_eq!(peers.excluded(at(3), &peer(1), 1), None);
    assert_eq!(peers.reliability(at(3), &peer(1)).unwrap().circuit, Circuit::HalfOpen);
    peers.verified_end(at(4), probe, 1);
    assert_eq!(peers.reliability(at(4), &peer(1)).unwrap().circuit, Circuit::HalfOpen, "one success, told twice");
}

#[test]
fn bans_by_hand_act_at_once_and_allow_undoes_everything() {
    let mut peers = peers();
    blame(&mut peers, at(0), 1, 5);
    open(&mut peers, at(0), 2);
    peers.ban(peer(2)).unwrap();
    assert_eq!(peers.excluded(Instant::MAX, &peer(2), 1), Some(Excluded::Manual));
    [1, 2].iter().for_each(|n| peers.allow(&peer(*n)));
    assert_eq!([1, 2].map(|n| peers.excluded(at(0), &peer(n), u64::MAX)), [None, None]);
    assert_eq!(peers.standing(at(FIRST_BAN.0), &peer(1)), Standing::Unknown);
}

#[test]
fn the_breaker_is_released_at_the_first_token() {
    let mut peers = peers();
    for _ in 0..20 {
        let mut permit = peers.permit(at(0), peer(1), &ASK).unwrap();
        peers.first_token(at(0), &mut permit);
        peers.failed(at(0), permit);
    }
    let seen = peers.reliability(at(0), &peer(1)).unwrap();
    assert_eq!(
        (seen.circuit, seen.counts.failures),
        (Circuit::Closed, 20),
        "broken answers are no question of liveness"
    );
    assert_eq!(seen.expected, latency::FAILURE, "but of what to expect");
}

#[test]
fn busy_cancelled_and_declined_are_no_failures() {
    let mut peers = peers();
    for _ in 0..100 {
        let permit = peers.permit(at(0), peer(1), &ASK).unwrap();
        peers.busy(at(0), permit, Millis(u64::MAX));
        let permit = peers.permit(at(0), peer(2), &ASK).unwrap();
        peers.released(at(0), permit);
    }
    let [busy, released] = [1, 2].map(|n| peers.reliability(at(0), &peer(n)).unwrap());
    assert_eq!((busy.circuit, busy.score, busy.counts.failures, busy.counts.busy), (Circuit::Closed, 0, 0, 100));
    assert_eq!(busy.expected, Millis::from_secs(60), "clamped");
    assert_eq!((released.circuit, released.score, released.counts.released), (Circuit::Closed, 0, 100));
    assert_eq!(released.expected, latency::COLD);
}

#[test]
fn expected_time_grows_with_load_and_believes_no_boast() {
    let mut peers = peers();
    let expected = |peers: &Peers, eta, load| peers.expected_time(at(0), &peer(1), Millis(eta), load).0;
    assert_eq!([expected(&peers, 0, 0), expected(&peers, 0, 3)], [1000, 4000], "cold");
    assert_eq!(expected(&peers, 2500, 1), 5000, "slower by its own word");
    let permit = peers.permit(at(0), peer(1), &ASK).unwrap();
    assert_eq!(expected(&peers, 0, 1), 3000, "our own attempts are load");
    peers.failed(at(0), permit);
    assert_eq!(expected(&peers, 10, 0), 30_000, "a failure is no speed");
    assert_eq!(peers.expected_time(Instant::MAX, &peer(9), Millis(u64::MAX), u32::MAX).0, 600_000 << 32, "clamped");
}

#[test]
fn the_report_is_what_happened() {
    let mut peers = peers();
    let mut now = at(0);
    for wait in [100, 300, 200] {
        let mut permit = peers.permit(now, peer(1), &Ask { retry: wait == 300, ..ASK }).unwrap();
        now = now.after(Millis(wait));
        peers.first_token(now, &mut permit);
        peers.first_token(now.after(Millis(5)), &mut permit);
        peers.verified_end(now, permit, 50);
    }
    let _open = peers.permit(now, peer(1), &ASK).unwrap();
    let seen = peers.reliability(now, &peer(1)).unwrap();
    let counts = Counts { attempts: 4, retries: 1, verified_ends: 3, bytes: 150, ..Counts::default() };
    assert_eq!((seen.counts, seen.load, seen.p50, seen.p95), (counts, 1, Some(Millis(200)), Some(Millis(300))));
    assert!((2990..=3000).contains(&seen.score) && seen.banned_for.is_none(), "{}", seen.score);
    assert_eq!(peers.reliability(now, &peer(2)), None);
}

#[test]
fn the_table_is_bounded_and_forgets_the_longest_unheard_of() {
    let mut peers = Peers::new(Rules::default(), 3, 10);
    for n in 1..=3 {
        finish(&mut peers, at(u64::from(n)), n);
    }
    let held = peers.permit(at(10), peer(1), &ASK).unwrap();
    finish(&mut peers, at(11), 2);
    finish(&mut peers, at(12), 4);
    let table = |peers: &Peers| peers.iter().copied().collect::<Vec<_>>();
    assert_eq!(table(&peers), [1, 2, 4].map(peer), "3 was heard of before 2, and 1 has an attempt");
    let others = [2, 4].map(|n| peers.permit(at(13), peer(n), &ASK).unwrap());
    assert_eq!(peers.permit(at(13), peer(5), &ASK), Err(Excluded::TableFull));
    assert_eq!(peers.violation(at(13), peer(5), Severity::Fatal), Some(at(13 + LONGEST_BAN.0)), "a ban needs no room");
    others.into_iter().chain([held]).for_each(|permit| peers.released(at(14), permit));
    assert!(peers.permit(at(14), peer(5), &ASK).is_err());
    finish(&mut peers, at(14), 6);
    assert_eq!((peers.known.len(), peers.idle.len()), (3, 3));
}

#[test]
fn whom_the_table_forgot_comes_back_from_its_ban_just_above_avoidance() {
    let mut peers = Peers::new(Rules::default(), 1, 10);
    blame(&mut peers, at(0), 1, 5);
    finish(&mut peers, at(1), 2);
    let until = at(FIRST_BAN.0);
    assert_eq!(peers.standing(at(1), &peer(1)), Standing::Banned);
    assert_eq!(peers.reliability(until, &peer(1)).map(|seen| seen.score), Some(AFTER_BAN));
    finish(&mut peers, until, 1);
    peers.violation(until, peer(1), Severity::Serious);
    assert_eq!(peers.standing(until, &peer(1)), Standing::Avoided);
}

#[test]
fn a_million_offenders_cost_a_bounded_table() {
    let mut peers = peers();
    for n in 0..1_000_000 {
        peers.violation(at(u64::from(n)), peer(n), if n % 2 == 0 { Severity::Fatal } else { Severity::Slight });
    }
    assert_eq!((peers.known.len(), peers.idle.len(), peers.bans.len()), (4096, 4096, 1000));
}

#[test]
fn bans_come_back_after_time_away() {
    let mut peers = peers();
    blame(&mut peers, at(0), 1, 5);
    peers.ban(peer(2)).unwrap();
    let records = peers.bans().export(at(100_000));
    let mut restored = self::peers();
    finish(&mut restored, at(7), 1);
    assert_eq!(restored.import_bans(at(7), Millis(200_000), &records), Ok(()));
    let until = at(7 + 600_000 - 300_000);
    assert_eq!(restored.excluded(at(7), &peer(1), 1), Some(Excluded::Banned(until)));
    assert_eq!(restored.excluded(at(7), &peer(2), 1), Some(Excluded::Manual));
    assert_eq!(restored.reliability(until, &peer(1)).map(|seen| seen.score), Some(AFTER_BAN));
    assert_eq!(records.iter().filter(|record| record.cause == BanCause::Manual).count(), 1);
}

/// One table under random use; `look` asks all there is to ask, which may change nothing.
fn play(seed: u8, start: u64, look: bool) -> [u8; 32] {
    let mut rng = Rng::new([seed; 32]);
    let mut peers = Peers::new(Rules::default(), 6, 4);
    let mut permits: Vec<Permit> = Vec::new();
    let mut now = at(start);
    for _ in 0..400 {
        let one = peer(rng.below(9) as u32);
        let pick = rng.bits();
        let any = !permits.is_empty();
        let mut take = || permits.swap_remove(pick as usize % permits.len());
        match rng.below(12) {
            0..=3 => {
                let lift = [Lift::Nothing, Lift::Probation, Lift::Panic][pick as usize % 3];
                permits.extend(peers.permit(now, one, &Ask { lift, jitter: pick as u32, ..ASK }).ok());
            }
            4 if any => peers.verified_end(now, take(), 1),
            5 | 6 if any => peers.failed(now, take()),
            7 if any => peers.busy(now, take(), Millis(pick)),
            8 if any => peers.released(now, take()),
            9 => _ = peers.violation(now, one, Severity::Grave),
            10 if pick.is_multiple_of(8) => _ = peers.violation(now, one, Severity::Fatal),
            _ => now = now.after(Millis(rng.below(if pick.is_multiple_of(16) { 2_000_000 } else { 20_000 }))),
        }
        if look {
            let candidates: Vec<PeerId> = (0..9).map(peer).collect();
            let _seen = peers.filter(now, &candidates, pick % 512);
            candidates.iter().for_each(|peer| _ = peers.reliability(now, peer));
        }
        assert!(peers.known.len() <= 6 && peers.bans.len() <= 4);
        let load: u32 = peers.known.values().map(|known| known.load).sum();
        assert_eq!(load as usize, permits.len(), "every permit is load until it is handed back");
        let idle = peers.known.iter().filter(|(_, known)| known.load == 0).map(|(peer, known)| (known.heard, *peer));
        assert_eq!(idle.collect::<BTreeSet<_>>(), peers.idle, "the index is in step");
    }
    Digester::new(now).with(&peers).done()
}

#[test]
fn looking_changes_nothing_and_the_clocks_start_does_not_matter() {
    for seed in 0..60 {
        let plain = play(seed, 1_000_000, false);
        assert_eq!(plain, play(seed, 1_000_000, true), "seed {seed}");
        assert_eq!(plain, play(seed, 987_654_321, false), "seed {seed}");
    }
}

proptest! {
    #[test]
    fn whoever_is_allowed_gets_a_permit(states in prop::collection::vec(0_u8..8, 1..12), tokens in 0_u64..600) {
        let (mut peers, now) = (peers(), at(FIRST_BAN.0));
        let all: Vec<PeerId> = (0..states.len() as u32).map(peer).collect();
        for (n, state) in (0..).zip(&states) {
            match state {
                1 => open(&mut peers, now, n),
                2 => blame(&mut peers, now, n, 3),
                3 => blame(&mut peers, now, n, 5),
                4 => blame(&mut peers, at(0), n, 5),
                5 => _ = peers.violation(now, peer(n), Severity::Fatal),
                6 => peers.ban(peer(n)).unwrap(),
                _ => {}
            }
        }
        let seen = peers.filter(now, &all, tokens);
        let liftable = states.iter().filter(|state| !(5..=6).contains(*state)).count();
        let left = states.iter().filter(|state| [0, 4, 7].contains(*state)).count();
        prop_assert_eq!(seen.lift == Lift::Panic, 2 * left < liftable);
        prop_assert_eq!(seen.allowed.is_empty(), liftable == 0, "somebody is always asked, if anybody may be");
        for peer in all {
            let granted = peers.permit(now, peer, &Ask { tokens, lift: seen.lift, ..ASK });
            prop_assert_eq!(granted.is_ok(), seen.allowed.contains(&peer), "{:?}", granted);
        }
    }

    #[test]
    fn any_moment_is_legal(moments in prop::collection::vec(any::<u64>(), 1..40)) {
        let mut peers = Peers::new(Rules::default(), 2, 2);
        for (n, moment) in (0..).zip(&moments) {
            let now = at(*moment);
            if let Ok(mut permit) = peers.permit(now, peer(n % 3), &Ask { patience: Millis(*moment), lift: Lift::Panic, ..ASK }) {
                match n % 5 {
                    0 => peers.first_token(at(moment / 2), &mut permit),
                    1 => _ = peers.violation(now, peer(n % 3), Severity::Fatal),
                    _ => {}
                }
                match n % 3 {
                    0 => peers.verified_end(now, permit, *moment),
                    1 => peers.busy(now, permit, Millis(*moment)),
                    _ => peers.failed(now, permit),
                }
            }
            let _seen = peers.filter(at(moments[0]), &[peer(0), peer(1), peer(2)], *moment);
            _ = peers.import_bans(now, Millis(*moment), &peers.bans().export(at(moments[0])));
        }
    }
}
