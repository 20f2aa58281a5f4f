//! Planted mistakes: each patch of `mutants/` breaks a rule of the core, and the simulator has to find it.

use std::{fs, io, path::Path};

/// Where the patches are kept.
pub const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/mutants");

/// A planted mistake.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mutant {
    /// Its name.
    pub name: String,
    /// What is wrong.
    pub what: String,
    /// Which rule it breaks.
    pub rule: String,
    /// The tests that find it where random worlds do not: `core:FILTER`, `rules:FILTER` (the core's conversations), or a
    /// filter of the simulator's.
    pub test: Option<String>,
    /// The file that it changes, from the workspace's root.
    pub file: String,
    hunks: Vec<Hunk>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Hunk {
    before: String,
    after: String,
}

/// Every planted mistake, by name.
///
/// # Errors
/// A folder or file that can not be read.
pub fn all() -> io::Result<Vec<Mutant>> {
    let mut mutants = Vec::new();
    for entry in fs::read_dir(FOLDER)? {
        let path = entry?.path();
        if let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".patch")) {
            mutants.push(parse(name, &fs::read_to_string(&path)?));
        }
    }
    mutants.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(mutants)
}

fn parse(name: &str, patch: &str) -> Mutant {
    let mut hunks: Vec<Hunk> = Vec::new();
    let (mut what, mut rule, mut test, mut file) = (String::new(), String::new(), None, String::new());
    for line in patch.split_inclusive('\n') {
        let word = |prefix| line.trim_end().strip_prefix(prefix).map(str::to_owned);
        if let Some(path) = word("+++ b/") {
            file = path;
        } else if line.starts_with("--- ") {
        } else if let Some(named) = word("# rule: ") {
            rule = named;
        } else if let Some(named) = word("# test: ") {
            test = Some(named);
        } else if let Some(said) = word("# ") {
            what = said;
        } else if line.starts_with("@@") {
            hunks.push(Hunk::default());
        } else if let (Some(hunk), Some(text)) = (hunks.last_mut(), line.get(1..)) {
            if !line.starts_with('+') {
                hunk.before.push_str(text);
            }
            if !line.starts_with('-') {
                hunk.after.push_str(text);
            }
        }
    }
    Mutant { name: name.into(), what, rule, test, file, hunks }
}

impl Mutant {
    /// The file with the mistake in it. Lines may have moved since; what a hunk changes and what stands around it may not.
    ///
    /// # Errors
    /// Which hunk fits nowhere, or at more than one place.
    pub fn plant(&self, text: &str) -> Result<String, String> {
        let mut text = text.to_owned();
        for hunk in &self.hunks {
            match text.matches(&hunk.before).count() {
                1 => text = text.replacen(&hunk.before, &hunk.after, 1),
                places => {
                    return Err(format!("{}: fits at {places} places of {}:\n{}", self.name, self.file, hunk.before));
                }
            }
        }
        Ok(text)
    }

    /// Its file in a copy of the workspace.
    ///
    /// # Errors
    /// What [`Self::plant`] says, or a file that can not be read.
    pub fn plant_in(&self, root: &Path) -> Result<String, String> {
        let text = fs::read_to_string(root.join(&self.file)).map_err(|error| format!("{}: {error}", self.file))?;
        self.plant(&text)
    }
}
