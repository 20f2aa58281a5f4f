//! The suite agrees with itself, and sees what an adapter does wrong.

use haggle_core::{JobSpec, PeerId, money::Price};
use haggle_sim::conformance::*;

#[test]
fn the_simulator_passes_its_own_suite() {
    let played = check(&mut Simulated::default()).unwrap();
    assert_eq!(played.len(), scenarios().len());
    assert!(check_stops(&mut Simulated::default()).unwrap() > 50);
    for scenario in scenarios() {
        let transcript = play(&mut Simulated::default(), &scenario).unwrap();
        println!(
            "{}: {:?}",
            scenario.name,
            transcript
                .jobs
                .iter()
                .map(|job| (&job.turns, &job.kinds, job.tokens, &job.ending, &job.lines))
                .collect::<Vec<_>>()
        );
    }
}
