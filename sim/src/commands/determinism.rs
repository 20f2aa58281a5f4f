//! That the same seed runs the same way everywhere.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

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
    print!("{listing}");
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
        println!("{seeds} seeds: every trace is equal in both processes");
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
    let path = Path::new(golden::FILE);
    let lines = golden::lines(&golden::traces(&golden::seeds(), haggle_sim::volume::all_cores()));
    let write = std::fs::File::create(path).and_then(|mut file| file.write_all(lines.as_bytes()));
    write.map_err(|error| Failed::Broken(format!("{} can not be written: {error}", path.display())))?;
    println!("{} is written. In CHANGELOG.md, say why, and: {}", path.display(), golden::mark(&lines));
    Ok(())
}
