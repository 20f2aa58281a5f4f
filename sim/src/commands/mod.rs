//! What the program can be asked for.

/// Prints a line. Who stops reading, as `head` does, has what it wanted: the verdict stands.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::commands::print(format_args!("{}\n", format_args!($($text)*)))
    };
}

/// Prints without ending the line.
macro_rules! show {
    ($($text:tt)*) => {
        $crate::commands::print(format_args!($($text)*))
    };
}

pub(crate) mod bench;
pub(crate) mod determinism;
pub(crate) mod figures;
pub(crate) mod mutants;
pub(crate) mod repro;
pub(crate) mod run;

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Write},
    str::FromStr,
};

use haggle_sim::volume::{self, Seeds};

pub(crate) fn print(text: fmt::Arguments<'_>) {
    drop(io::stdout().write_fmt(text));
}

/// Why a command did not succeed.
pub(crate) enum Failed {
    /// A rule, or a promise, is broken.
    Broken(String),
    /// It was not asked for rightly.
    Usage(String),
}

/// A command's words: options with their values, and what is none. Every one has to be taken.
pub(crate) struct Words {
    options: BTreeMap<String, String>,
    rest: Vec<String>,
}

impl Words {
    pub(crate) fn new(args: &[String]) -> Result<Self, Failed> {
        let (mut options, mut rest, mut words) = (BTreeMap::new(), Vec::new(), args.iter());
        while let Some(word) = words.next() {
            match word.strip_prefix("--") {
                Some(name) => {
                    let value = words.next().ok_or_else(|| Failed::Usage(format!("{word} needs a value")))?;
                    options.insert(name.to_owned(), value.clone());
                }
                None => rest.push(word.clone()),
            }
        }
        rest.reverse();
        Ok(Self { options, rest })
    }

    /// The next word that is no option.
    pub(crate) fn word(&mut self) -> Option<String> {
        self.rest.pop()
    }

    pub(crate) fn option(&mut self, name: &str) -> Option<String> {
        self.options.remove(name)
    }

    pub(crate) fn number<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, Failed> {
        let Some(value) = self.option(name) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| Failed::Usage(format!("--{name} needs a number, not '{value}'")))
    }

    /// `--seeds N [--from S | --from-commit HASH]`
    pub(crate) fn seeds(&mut self) -> Result<Seeds, Failed> {
        let (count, from, commit) = (self.number("seeds")?, self.number("from")?, self.option("from-commit"));
        let count: u64 = count.ok_or_else(|| Failed::Usage("--seeds says how many seeds to run".into()))?;
        if count == 0 {
            return Err(Failed::Usage("--seeds 0 would check nothing: ask for at least 1".into()));
        }
        let seeds = match (from, commit) {
            (Some(_), Some(_)) => return Err(Failed::Usage("--from and --from-commit exclude each other".into())),
            (_, Some(commit)) => Seeds::of_commit(&commit, count),
            (from, None) => Seeds::from(from.unwrap_or(0), count),
        };
        seeds.ok_or_else(|| Failed::Usage("--from and --seeds together are too large".into()))
    }

    /// `[--threads T]`
    pub(crate) fn threads(&mut self) -> Result<usize, Failed> {
        match self.number("threads")? {
            Some(0) => Err(Failed::Usage("--threads 0 would run nothing".into())),
            threads => Ok(threads.unwrap_or_else(volume::all_cores)),
        }
    }

    /// Nothing is left that was not understood.
    pub(crate) fn done(self) -> Result<(), Failed> {
        match (self.options.into_keys().next(), self.rest.into_iter().next()) {
            (Some(option), _) => Err(Failed::Usage(format!("there is no option '--{option}'"))),
            (_, Some(word)) => Err(Failed::Usage(format!("'{word}' is one word too many"))),
            (None, None) => Ok(()),
        }
    }
}
