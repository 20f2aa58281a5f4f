//! Each planted mistake is named by the rule that it breaks.

use std::collections::BTreeMap;

use haggle_conformance::{Broken, PROVIDER, REQUESTER, Scenario, Verdict};

use crate::{buyer, buyers_mistakes, mistake::Mistake, newer_mistakes, seller, sellers_mistakes};

type Player = fn(&Scenario, Mistake) -> Verdict;

#[test]
fn a_providers_mistakes_are_named() {
    named(PROVIDER, seller::play, &[sellers_mistakes::SELLERS, newer_mistakes::SELLERS].concat());
}

#[test]
fn a_requesters_mistakes_are_named() {
    named(REQUESTER, buyer::play, &[buyers_mistakes::BUYERS, newer_mistakes::BUYERS].concat());
}

fn named(scenarios: &[Scenario], play: Player, mistakes: &[Mistake]) {
    let mut wrong = Vec::new();
    for mistake in mistakes {
        // By each rule, the first scenario that named it.
        let mut told: BTreeMap<&str, (&str, String)> = BTreeMap::new();
        for scenario in scenarios {
            if let Verdict::Broken(Broken { rule, told: what }) = play(scenario, *mistake) {
                told.entry(rule).or_insert((scenario.name, what));
            }
        }
        let all: Vec<&str> = told.keys().copied().collect();
        match told.get(mistake.rule) {
            Some((scenario, what)) => println!("{} → [{}] by {scenario}: {what} {all:?}", mistake.name, mistake.rule),
            None => wrong.push(format!("{}: not [{}] but {told:#?}", mistake.name, mistake.rule)),
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(mistakes.len() >= 20, "{} mistakes", mistakes.len());
}
