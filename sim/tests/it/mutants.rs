//! Planted mistakes stay plantable.

use std::path::Path;

use haggle_sim::mutants;

#[test]
fn every_patch_fits_the_core_as_it_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mutants = mutants::all().unwrap();
    assert!(mutants.len() >= 40, "{}", mutants.len());
    for mutant in &mutants {
        let planted = mutant.plant_in(&root).unwrap_or_else(|error| panic!("{error}: mend the patch, or drop it"));
        assert_ne!(planted, std::fs::read_to_string(root.join(&mutant.file)).unwrap(), "{}", mutant.name);
        assert!(!mutant.what.is_empty() && !mutant.rule.is_empty(), "{}", mutant.name);
    }
    // At least two for each rule that the simulator is to keep.
    for number in 1..=15 {
        let named = |rule: &str| rule.split(' ').any(|word| word == format!("I{number}"));
        assert!(mutants.iter().filter(|mutant| named(&mutant.rule)).count() >= 2, "I{number}");
    }
}
