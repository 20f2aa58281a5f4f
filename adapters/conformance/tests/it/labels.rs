//! Every label that a scenario names is a rule of the specification.

use std::{collections::BTreeSet, fs, path::Path};

use haggle_conformance::{PROVIDER, REQUESTER};

#[test]
fn scenarios_have_names_of_their_own_and_ask_for_rules_that_there_are() {
    let protocol = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../core/PROTOCOL.md");
    let protocol = fs::read_to_string(protocol).unwrap();
    let mut names = BTreeSet::new();
    for scenario in PROVIDER.iter().chain(REQUESTER) {
        assert!(names.insert(scenario.name), "{} twice", scenario.name);
        assert!(!scenario.rules.is_empty(), "{} asks for nothing", scenario.name);
        for rule in scenario.rules {
            assert!(protocol.contains(&format!("\n- [{rule}] ")), "{}: [{rule}] is no rule", scenario.name);
        }
    }
    assert!(names.len() >= 40, "{} scenarios", names.len());
}
