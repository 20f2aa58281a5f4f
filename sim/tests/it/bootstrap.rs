//! The schedule of bootstrap dials, exact per seed in virtual time.

use haggle_core::{
    Instant, Policy,
    backoff::CAP as PACE,
    bootstrap::{Bootstrap, BootstrapInput, BootstrapOutput},
    time::Millis,
};

const DIAL_TIMEOUT: Millis = Millis(3000);
/// Time between a dial and its answer, in ms.
const ANSWER: u64 = 20;

/// How a node behaves from a time on.
#[derive(Clone, Copy, PartialEq)]
enum Is {
    Alive,
    Refusing,
    Silent,
}

/// Runs a schedule for `until` ms against nodes of which each changes once; says when which node was dialled or given up.
fn run(seed: u8, nodes: &[(Is, u64, Is)], until: u64) -> Vec<(u64, BootstrapOutput)> {
    let policy = Policy::default();
    let mut schedule = Bootstrap::new(Instant::ZERO, nodes.len(), DIAL_TIMEOUT, &policy, [seed; 32]);
    let mut log = Vec::new();
    let mut answers: Vec<(u64, BootstrapInput)> = Vec::new();
    let mut now = 0;
    loop {
        while let Some(output) = schedule.poll_output() {
            log.push((now, output));
            if let BootstrapOutput::Dial(node) = output {
                let (before, change, after) = nodes[node];
                match if now < change { before } else { after } {
                    Is::Alive => answers.push((now + ANSWER, BootstrapInput::Connected(node))),
                    Is::Refusing => answers.push((now + ANSWER, BootstrapInput::Failed(node))),
                    Is::Silent => {}
                }
            }
        }
        answers.sort_by_key(|(at, _)| *at);
        let timer = schedule.poll_timeout().map(|due| due.at.as_millis());
        let answer = answers.first().map(|(at, _)| *at);
        let Some(next) = timer.into_iter().chain(answer).min().filter(|next| *next <= until) else { return log };
        now = next;
        if answer == Some(now) {
            let (_, input) = answers.remove(0);
            schedule.handle_input(Instant::from_millis(now), input);
        } else {
            schedule.handle_input(Instant::from_millis(now), BootstrapInput::Timeout);
            let due = schedule.poll_timeout();
            assert!(due.is_none_or(|due| due.at > Instant::from_millis(now)));
        }
    }
}

fn dials(log: &[(u64, BootstrapOutput)], node: usize) -> Vec<u64> {
    log.iter().filter(|(_, output)| *output == BootstrapOutput::Dial(node)).map(|(at, _)| *at).collect()
}

fn given_up(log: &[(u64, BootstrapOutput)], node: usize) -> Vec<u64> {
    log.iter().filter(|(_, output)| *output == BootstrapOutput::Unreachable(node)).map(|(at, _)| *at).collect()
}

#[test]
fn a_seed_fixes_every_dial() {
    let nodes = [(Is::Refusing, 0, Is::Refusing), (Is::Silent, 0, Is::Silent), (Is::Alive, 0, Is::Alive)];
    assert_eq!(run(1, &nodes, 600_000), run(1, &nodes, 600_000));
    assert_ne!(run(1, &nodes, 600_000), run(2, &nodes, 600_000));
}

#[test]
fn one_alive_is_dialled_once_and_the_dead_do_not_hinder_it() {
    let nodes = [(Is::Silent, 0, Is::Silent), (Is::Alive, 0, Is::Alive)];
    let log = run(3, &nodes, 600_000);
    assert_eq!(dials(&log, 1), [0]);
    assert_eq!(given_up(&log, 1), [0; 0]);
    assert!(dials(&log, 0).len() > 10);
}

#[test]
fn all_dead_is_said_once_each_after_four_failures_and_dials_go_on_at_the_pace() {
    for seed in 0..50 {
        let nodes = [(Is::Silent, 0, Is::Silent), (Is::Refusing, 0, Is::Refusing)];
        let log = run(seed, &nodes, 3_600_000);
        for (node, failing) in [(0, DIAL_TIMEOUT.0), (1, ANSWER)] {
            let times = dials(&log, node);
            assert_eq!(given_up(&log, node), [times[3] + failing], "at the fourth failure");
            // Pauses of 100 ms to 1, 2 and 4 s, then 15 to 30 s for ever.
            for (nth, pair) in times.windows(2).enumerate() {
                let pause = pair[1] - pair[0] - failing;
                let allowed = match nth {
                    0 => 100..=1000,
                    1 => 100..=2000,
                    2 => 100..=4000,
                    _ => PACE.0 / 2..=PACE.0,
                };
                assert!(allowed.contains(&pause), "pause {nth} of {pause} ms");
            }
            assert!(times.len() > 100, "{} dials in an hour", times.len());
        }
    }
}

#[test]
fn a_node_that_comes_back_is_found_within_the_pace() {
    for seed in 0..50 {
        let log = run(seed, &[(Is::Refusing, 500_000, Is::Alive)], 3_600_000);
        let last = *dials(&log, 0).last().unwrap();
        assert!((500_000..500_000 + PACE.0 + ANSWER).contains(&last), "{last}");
    }
}

#[test]
fn a_lost_connection_is_dialled_again_after_a_pause() {
    let policy = Policy::default();
    let mut schedule = Bootstrap::new(Instant::ZERO, 1, DIAL_TIMEOUT, &policy, [9; 32]);
    assert_eq!(schedule.poll_output(), Some(BootstrapOutput::Dial(0)));
    schedule.handle_input(Instant::from_millis(5), BootstrapInput::Connected(0));
    assert!(schedule.is_connected(0) && schedule.poll_timeout().is_none());
    schedule.handle_input(Instant::from_millis(1000), BootstrapInput::Gone(0));
    let due = schedule.poll_timeout().unwrap().at;
    assert!((1100..=2000).contains(&due.as_millis()), "{due:?}");
    schedule.handle_input(due, BootstrapInput::Timeout);
    assert_eq!(schedule.poll_output(), Some(BootstrapOutput::Dial(0)));
    // Facts about nodes that are not there are ignored.
    schedule.handle_input(due, BootstrapInput::Connected(7));
    assert_eq!(schedule.poll_output(), None);
}
