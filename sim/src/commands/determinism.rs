//! That the same seed runs the same way everywhere.

use std::process::{Command, Stdio};

use haggle_sim::golden;

use super::{Failed, Words};

/// `seed trace`, line by line.
fn listing(words: &mut Words) -> Result<String, Failed> {
    let (seeds, threads) = (words.seeds()?, words.threads()?);
    Ok(golden::lines(&golden::traces(&seeds, threads)))
}

pub(crate) fn traces(mut words: Words) -> Result<(), Failed> {
    let listing = listing(&mut words)?;
    words.done()?;
    show!("{listing}");
    Ok(())
}

pub(crate) fn same(mut words: Words) -> Result<(), Failed> {
    let this = std::env::current_exe().map_err(|error| Failed::Broken(format!("which program is this: {error}")))?;
    let other = words.option("as").map_or(this, Into::into);
    let (seeds, from) = (words.number::<u64>("seeds")?, words.number::<u64>("from")?.unwrap_or(0));
    let seeds = seeds.ok_or_else(|| Failed::Usage("--seeds says how many seeds to run".into()))?;
    let range = ["--seeds".to_owned(), seeds.to_string(), "--from".to_owned(), from.to_string()];
    let mut here = Words::new(&range)?;
    here.options.append(&mut words.options);
    let here = listing(&mut here)?;
    words.done()?;
    let run =
        Command::new(&other).arg("traces").args(&range).args(["--threads", "1"]).stderr(Stdio::inherit()).output();
    let there = run.map_err(|error| Failed::Broken(format!("{} does not run: {error}", other.display())))?;
    if !there.status.success() {
        return Err(Failed::Broken(format!("{} ended with {}", other.display(), there.status)));
    }
    let there = String::from_utf8_lossy(&there.stdout).into_owned();
    if here == there {
        say!("{seeds} seeds: every trace is equal in both processes");
        return Ok(());
    }
    let differs = here.lines().zip(there.lines()).find(|(here, there)| here != there);
    Err(Failed::Broken(match differs {
        Some((here, there)) => format!("'{here}' in this process, '{there}' in the other"),
        None => "one process ran more seeds than the other".into(),
    }))
}

pub(crate) fn bless(words: Words) -> Result<(), Failed> {
    words.done()?;
    let lines = golden::lines(&golden::traces(&golden::seeds(), haggle_sim::volume::all_cores()));
    for (path, text) in [(golden::FILE, &lines), (golden::PROFILES, &golden::profiles())] {
        std::fs::write(path, text).map_err(|error| Failed::Broken(format!("{path} can not be written: {error}")))?;
    }
    say!(
        "{} and {} are written. In CHANGELOG.md, say why, and: {}",
        golden::FILE,
        golden::PROFILES,
        golden::mark(&lines)
    );
    Ok(())
}
