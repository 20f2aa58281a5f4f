//! Planted mistakes, built one after the other in a copy of core and simulator, and hunted.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use haggle_sim::{
    Plan,
    mutants::{self, Mutant},
    repro,
    shrink::shrink,
    swarm,
};

use super::{Failed, Words};

/// Seeds that a mistake is hunted in, unless it is said otherwise.
const SEEDS: u64 = 20_000;
/// The median that the seeds until a mistake is found have to keep.
const MEDIAN: u64 = 500;

/// Runs seeds until one breaks a rule, and cuts that one down.
pub(crate) fn hunt(mut words: Words) -> Result<(), Failed> {
    let seeds = words.number("seeds")?.unwrap_or(SEEDS);
    words.done()?;
    // A mistake may well be a panic; the report says so.
    std::panic::set_hook(Box::new(|_| {}));
    let found = (0..seeds).find_map(|seed| {
        let broken = swarm::run(seed).broken.into_iter().next()?;
        Some((seed, broken))
    });
    let Some((seed, broken)) = found else {
        say!("not found");
        return Ok(());
    };
    let plan = broken.line.as_deref().and_then(|line| repro::seed_plan(line).ok());
    let small = shrink(&plan.unwrap_or_else(|| Plan::draw(seed)), Duration::from_secs(5));
    let size = small.map_or_else(
        || "does not shrink".into(),
        |small| format!("{} faults {} nodes {} runs", small.plan.faults.len(), small.plan.present(), small.runs),
    );
    say!("{} seeds, {:?}: {size}", seed + 1, broken.rule);
    Ok(())
}

pub(crate) fn mutants(mut words: Words) -> Result<(), Failed> {
    let all = mutants::all().map_err(|error| Failed::Usage(format!("{}: {error}", mutants::FOLDER)))?;
    let seeds = words.number("seeds")?.unwrap_or(SEEDS);
    let folder = PathBuf::from(words.option("in").unwrap_or_else(|| "target/mutants".into()));
    let names: Vec<String> = std::iter::from_fn(|| words.word()).collect();
    words.done()?;
    if let Some(unknown) = names.iter().find(|name| all.iter().all(|mutant| mutant.name != **name)) {
        return Err(Failed::Usage(format!("there is no mutant '{unknown}' in {}", mutants::FOLDER)));
    }
    let copy = Copy::new(&folder).map_err(|error| Failed::Usage(format!("{}: {error}", folder.display())))?;
    let canary = copy.hunt(seeds.min(300))?;
    if canary != "not found" {
        return Err(Failed::Broken(format!("a rule is broken without any mutant: {canary}")));
    }
    let (mut counts, mut survivors) = (Vec::new(), Vec::new());
    for mutant in all.iter().filter(|mutant| names.is_empty() || names.contains(&mutant.name)) {
        let found = copy.try_out(mutant, seeds)?;
        say!("{:<24} {:<12} {found}", mutant.name, mutant.rule);
        match found.split_once(" seeds").and_then(|(count, _)| count.parse::<u64>().ok()) {
            Some(count) => counts.push(count),
            None if found.starts_with("test") => counts.push(u64::MAX),
            None => survivors.push(mutant.name.clone()),
        }
    }
    counts.sort_unstable();
    let median = counts.get(counts.len() / 2).copied().unwrap_or(0);
    let by_test = counts.iter().filter(|count| **count == u64::MAX).count();
    // A few of them say nothing about all: who names them sees each one's figure.
    let is_whole = names.is_empty();
    let middle = if is_whole { format!(", median {median} seeds") } else { String::new() };
    say!("{} found, {by_test} of them by a test alone{middle}; {} survive", counts.len(), survivors.len());
    if !survivors.is_empty() {
        return Err(Failed::Broken(format!("nothing finds {}", survivors.join(", "))));
    }
    if is_whole && median > MEDIAN {
        return Err(Failed::Broken(format!("half of the mutants take more than {MEDIAN} seeds")));
    }
    Ok(())
}

/// A workspace of core and simulator alone, with a target folder of its own.
struct Copy {
    root: PathBuf,
}

impl Copy {
    fn new(folder: &Path) -> io::Result<Self> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
        fs::create_dir_all(folder)?;
        let root = folder.canonicalize()?;
        for part in ["core", "sim"] {
            copy_tree(&source.join(part), &root.join(part))?;
        }
        // The tests read the changelog: a new trace has its line there.
        for file in ["Cargo.lock", "CHANGELOG.md"] {
            fs::copy(source.join(file), root.join(file))?;
        }
        let manifest = fs::read_to_string(source.join("Cargo.toml"))?;
        let own = manifest.lines().map(|line| match line {
            line if line.starts_with("members") => "members = [\"core\", \"sim\"]",
            line if line.starts_with("default-members") => "default-members = [\"core\"]",
            // Built often and run shortly.
            "opt-level = 2" => "opt-level = 1",
            line => line,
        });
        write_if_new(&root.join("Cargo.toml"), &own.collect::<Vec<_>>().join("\n"))?;
        Ok(Self { root })
    }

    fn cargo(&self, args: &[&str]) -> Result<std::process::Output, Failed> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(args)
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", self.root.join("target"))
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .env("CARGO_INCREMENTAL", "1")
            .env("RUSTFLAGS", "-Awarnings")
            .output();
        output.map_err(|error| Failed::Broken(format!("cargo does not run: {error}")))
    }

    fn hunt(&self, seeds: u64) -> Result<String, Failed> {
        let built = self.cargo(&["build", "--offline", "-q", "-p", "haggle-sim"])?;
        if !built.status.success() {
            return Err(Failed::Broken(format!("does not build: {}", String::from_utf8_lossy(&built.stderr))));
        }
        let program = self.root.join("target/debug/haggle-sim");
        let output = Command::new(program).args(["hunt", "--seeds", &seeds.to_string()]).output();
        let output = output.map_err(|error| Failed::Broken(format!("the hunt does not run: {error}")))?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok(if said.is_empty() { format!("1 seeds, the run ended with {}", output.status) } else { said })
    }

    /// Plants a mutant, hunts it, and takes it out again.
    fn try_out(&self, mutant: &Mutant, seeds: u64) -> Result<String, Failed> {
        let path = self.root.join(&mutant.file);
        let whole = fs::read_to_string(&path).map_err(|error| Failed::Broken(format!("{}: {error}", mutant.file)))?;
        let planted = mutant.plant_in(&self.root).map_err(Failed::Broken)?;
        let write = |text: &str| fs::write(&path, text).map_err(|error| Failed::Broken(error.to_string()));
        write(&planted)?;
        let found = self.hunt(seeds).and_then(|found| match &mutant.test {
            Some(test) if found == "not found" => self.test(test),
            _ => Ok(found),
        });
        write(&whole)?;
        found
    }

    fn test(&self, filter: &str) -> Result<String, Failed> {
        let (of, filter): (&[&str], _) = match filter.split_once(':') {
            Some(("core", filter)) => (&["haggle-core", "--lib"], filter),
            Some(("rules", filter)) => (&["haggle-core", "--test", "rules"], filter),
            _ => (&["haggle-sim", "--test", "it"], filter),
        };
        let output = self.cargo(&[&["test", "--offline", "-q", "-p"], of, &[filter]].concat())?;
        let said = String::from_utf8_lossy(&output.stdout);
        let failed = said.contains("test result: FAILED");
        if !failed && !said.lines().any(|line| line.starts_with("running") && line != "running 0 tests") {
            return Err(Failed::Broken(format!("no test is called {filter}")));
        }
        Ok(if failed { format!("test {filter}") } else { format!("not found, {filter} passes") })
    }
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(to)? {
        let entry = entry?;
        if !from.join(entry.file_name()).exists() {
            if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
        }
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &to)?;
        } else if let Ok(text) = fs::read_to_string(entry.path()) {
            write_if_new(&to, &text)?;
        }
    }
    Ok(())
}

/// What did not change need not be built again.
fn write_if_new(path: &Path, text: &str) -> io::Result<()> {
    if fs::read_to_string(path).is_ok_and(|known| known == text) { Ok(()) } else { fs::write(path, text) }
}
