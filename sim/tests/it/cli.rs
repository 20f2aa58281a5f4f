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
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.lines().count() == 1 && said.contains("haggle-sim help"), "{said}");
    }
    let help = run(&[]);
    assert_eq!(help.status.code(), Some(0));
    assert!(String::from_utf8(help.stdout).unwrap().contains("usage: haggle-sim"));
}

/// `haggle-sim run … | head -1`
#[test]
fn the_verdict_stands_when_nobody_reads() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_haggle-sim"));
    program.args(["run", "--seeds", "1"]).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = program.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn two_processes_run_a_seed_alike() {
    let output = run(&["same", "--seeds", "60", "--threads", "3"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{error}");
    // Seeds 0 to 59 against 1 to 60.
    let script = std::env::temp_dir().join(format!("haggle-sim-shifted-{}", std::process::id()));
    std::fs::write(
        &script,
        format!("#!/bin/sh\nexec {} traces --seeds 60 --from 1\n", env!("CARGO_BIN_EXE_haggle-sim")),
    )
    .unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, mode).unwrap();
    let output = run(&["same", "--seeds", "60", "--as", script.to_str().unwrap()]);
    std::fs::remove_file(&script).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("in the other"));
}

#[test]
fn a_commit_asks_for_seeds_of_its_own() {
    let seeds = |commit| String::from_utf8(run(&["traces", "--seeds", "8", "--from-commit", commit]).stdout).unwrap();
    let (a, b) = (seeds("0123abcd"), seeds("0123abce"));
    assert_eq!(a, seeds("0123abcd"));
    let fixed = |listing: &str| listing.lines().take(2).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(fixed(&a), fixed(&b));
    assert!(a.lines().skip(2).all(|line| !b.contains(line)), "{a}{b}");
}

#[test]
fn it_replays_traces_and_compares() {
    let out = |args: &[&str]| {
        let output = run(args);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(out(&["replay", "3"]).0, Some(0));
    assert_eq!(out(&["diff", "3", "3"]).0, Some(0));
    let (code, text) = out(&["diff", "3", "4"]);
    assert!(code == Some(1) && text.contains("then they part"), "{text}");
    let (code, text) = out(&["trace", "3"]);
    assert!(code == Some(0) && text.lines().all(|line| line.starts_with("{\"at\":") && line.ends_with('}')), "{text}");
    let (code, text) = out(&["trace", "3", "--form", "chart", "--job", "0"]);
    assert!(code == Some(0) && text.contains("o----"), "{text}");
    assert_eq!(out(&["shrink", "3"]).0, Some(2), "there is nothing to shrink");
    assert_eq!(out(&["replay", "v1:3:00000000"]).0, Some(2));
}
