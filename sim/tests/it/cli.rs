//! The program `haggle-sim`.

use std::process::{Command, Output};

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_haggle-sim")).args(args).output().unwrap()
}

#[test]
fn it_runs_seeds_and_sums_up() {
    let output = run(&["run", "--seeds", "5", "--from", "100"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("5 seeds: "));
}

#[test]
fn it_refuses_to_check_nothing() {
    for args in [&["run", "--seeds", "0"][..], &["run"], &["run", "--seeds"], &["run", "--seeds", "x"], &["walk"]] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(String::from_utf8(output.stderr).unwrap().contains("usage: haggle-sim"));
    }
    assert_eq!(run(&[]).status.code(), Some(0));
}
