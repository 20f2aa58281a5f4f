//! A failing world again: replayed, cut down, compared, told.

use std::{fs, path::Path, time::Duration};

use haggle_sim::{Plan, log, repro, shrink::shrink as smaller};

use super::{Failed, Words};

/// A seed, a line, or a file with a plan.
fn plan(what: &str) -> Result<Plan, Failed> {
    let read = if Path::new(what).is_file() {
        let text =
            fs::read_to_string(what).map_err(|error| Failed::Usage(format!("{what} can not be read: {error}")))?;
        Plan::parse(&text)
    } else {
        repro::seed_plan(what)
    };
    read.map_err(|error| Failed::Usage(format!("{what}: {error}")))
}

fn source(words: &mut Words) -> Result<String, Failed> {
    words.word().ok_or_else(|| Failed::Usage("a seed, a line v1:SEED:MARK, or a file is needed".into()))
}

fn write(path: &str, text: &str) -> Result<(), Failed> {
    fs::write(path, text).map_err(|error| Failed::Usage(format!("{path} can not be written: {error}")))
}

/// Writes a world down, whatever the generator draws later.
pub(crate) fn keep(folder: &str, line: &str) -> Result<(), Failed> {
    fs::create_dir_all(folder).map_err(|error| Failed::Usage(format!("{folder} can not be made: {error}")))?;
    let path = format!("{folder}/{}.toml", line.replace(':', "-"));
    write(&path, &plan(line)?.to_text())?;
    say!("  or:    {}", repro::command(&path));
    Ok(())
}

pub(crate) fn replay(mut words: Words) -> Result<(), Failed> {
    let plan = plan(&source(&mut words)?)?;
    words.done()?;
    let report = plan.run();
    show!("{report}");
    match repro::story(&plan) {
        None => Ok(()),
        Some(story) => {
            show!("{story}");
            Err(Failed::Broken("a rule is broken".into()))
        }
    }
}

/// The same for a file that a person wrote.
pub(crate) fn scenario(mut words: Words) -> Result<(), Failed> {
    let path = words.word().ok_or_else(|| Failed::Usage("scenario needs a file".into()))?;
    if !Path::new(&path).is_file() {
        return Err(Failed::Usage(format!("there is no file {path}")));
    }
    let plan = plan(&path)?;
    words.done()?;
    let mut world = plan.world();
    plan.finish(&mut world);
    show!("{}", world.report());
    for (nth, _) in plan.jobs.iter().enumerate() {
        match world.submitted(nth) {
            Some(job) => say!("  job {nth}: {job}"),
            None => say!("  job {nth}: refused"),
        }
    }
    world.report().verdict().map_err(|broken| Failed::Broken(broken.to_string()))
}

pub(crate) fn shrink(mut words: Words) -> Result<(), Failed> {
    let plan = plan(&source(&mut words)?)?;
    let time = Duration::from_secs(words.number("time")?.unwrap_or(5));
    let out = words.option("out");
    words.done()?;
    let Some(small) = smaller(&plan, time) else { return Err(Failed::Usage("no rule is broken there".into())) };
    let text = small.plan.to_text();
    show!("{}", repro::story(&small.plan).unwrap_or_default());
    if let Some(broken) = small.plan.run().broken.iter().find(|broken| broken.rule == small.rule) {
        say!("\n{}", repro::as_test(&small.plan, broken));
    }
    say!(
        "{} faults of {}, {} jobs of {}, {} nodes of {}, in {} runs",
        small.plan.faults.len(),
        plan.faults.len(),
        small.plan.jobs.len(),
        plan.jobs.len(),
        small.plan.present(),
        plan.present(),
        small.runs
    );
    match out {
        Some(path) => write(&path, &text).map(|()| say!("kept in {path}")),
        None => Ok(()),
    }
}

/// Every event as a line of JSON: of a run, or of a file that `trace` wrote, maybe by another build.
fn recorded(what: &str) -> Result<Vec<String>, Failed> {
    if what.ends_with(".jsonl") {
        let text =
            fs::read_to_string(what).map_err(|error| Failed::Usage(format!("{what} can not be read: {error}")))?;
        return Ok(text.lines().map(str::to_owned).collect());
    }
    Ok(entries(&plan(what)?).iter().map(log::Entry::json).collect())
}

fn entries(plan: &Plan) -> Vec<log::Entry> {
    let mut world = plan.world();
    world.keep_log();
    plan.finish(&mut world);
    world.log()
}

/// Events shown before two runs part, and after.
const AROUND: usize = 8;

pub(crate) fn diff(mut words: Words) -> Result<(), Failed> {
    let (left, right) = (source(&mut words)?, source(&mut words)?);
    words.done()?;
    let (one, other) = (recorded(&left)?, recorded(&right)?);
    let Some(at) = log::diverge(&one, &other) else {
        say!("equal: {} events", one.len());
        return Ok(());
    };
    say!("the same for {at} events, then they part");
    one[at.saturating_sub(AROUND)..at].iter().for_each(|line| say!("  {line}"));
    for (name, lines) in [(&left, &one), (&right, &other)] {
        say!("{name}:");
        lines[at.min(lines.len())..].iter().take(AROUND).for_each(|line| say!("  {line}"));
    }
    Err(Failed::Broken("they differ".into()))
}

pub(crate) fn trace(mut words: Words) -> Result<(), Failed> {
    let plan = plan(&source(&mut words)?)?;
    let (form, nth) = (words.option("form"), words.number::<usize>("job")?);
    words.done()?;
    let mut world = plan.world();
    world.keep_log();
    plan.finish(&mut world);
    let job = match nth {
        Some(nth) => Some(world.submission(nth).ok_or_else(|| Failed::Usage(format!("job {nth} was not submitted")))?),
        None => None,
    };
    let entries = world.log();
    let shown: Vec<&log::Entry> = match job {
        Some(_) => log::related(&entries, job, usize::MAX),
        None => entries.iter().collect(),
    };
    match form.as_deref() {
        None | Some("jsonl") => shown.iter().for_each(|entry| say!("{}", entry.json())),
        Some("text") => shown.iter().for_each(|entry| say!("{entry}")),
        Some("chart") => show!("{}", log::chart(&shown)),
        Some(other) => return Err(Failed::Usage(format!("--form is jsonl, text or chart, not '{other}'"))),
    }
    Ok(())
}
