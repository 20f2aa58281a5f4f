//! What was spent today, on disk: a line before each purchase and one after it.
//!
//! Lines are only ever added, each with one write, so whatever kills the process leaves at most the last one torn. A purchase whose second
//! line is missing counts with all that was set aside for it: what it came to was never heard of. At a start, and when a day is
//! over, the file is written anew (another one, synced, renamed) with one line for each key.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

/// Bytes that are read of a file. Lines of a day are rewritten at every start; this is some 600,000 purchases between two.
const MAX_FILE: u64 = 64 << 20;

/// By key, `None` where nobody needs one: micro-units.
pub(crate) type Spent = BTreeMap<Option<String>, u128>;

#[derive(Debug)]
pub(crate) struct Book {
    path: PathBuf,
    file: File,
}

impl Book {
    /// Opens a day's book. What was spent in it already.
    pub(crate) fn open(path: PathBuf, day: u64) -> io::Result<(Self, Spent)> {
        let spent = match fs::metadata(&path) {
            Ok(about) if about.len() > MAX_FILE => {
                return Err(io::Error::other(format!("it has more than {MAX_FILE} bytes; move it away")));
            }
            Ok(_) => read(&fs::read_to_string(&path)?, day)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Spent::default(),
            Err(error) => return Err(error),
        };
        let file = anew(&path, day, &spent)?;
        Ok((Book { path, file }, spent))
    }

    /// A new day, in which nothing was spent.
    pub(crate) fn turn(&mut self, day: u64) -> io::Result<()> {
        self.file = anew(&self.path, day, &Spent::default())?;
        Ok(())
    }

    pub(crate) fn reserve(&mut self, day: u64, job: u64, key: Option<&str>, amount: u128) -> io::Result<()> {
        self.add(&json!({"day": day, "job": job, "key": key, "reserved": amount.to_string()}))
    }

    pub(crate) fn settle(&mut self, day: u64, job: u64, owed: u128) -> io::Result<()> {
        self.add(&json!({"day": day, "job": job, "owed": owed.to_string()}))
    }

    fn add(&mut self, line: &Value) -> io::Result<()> {
        self.file.write_all(format!("{line}\n").as_bytes())
    }
}

fn anew(path: &Path, day: u64, spent: &Spent) -> io::Result<File> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    for (key, owed) in spent {
        writeln!(file, "{}", json!({"day": day, "key": key, "owed": owed.to_string()}))?;
    }
    file.sync_all()?;
    fs::rename(&beside, path)?;
    OpenOptions::new().append(true).open(path)
}

fn read(text: &str, day: u64) -> io::Result<Spent> {
    let mut spent = Spent::default();
    let mut open = BTreeMap::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((at, line)) = lines.next() {
        let Ok(line) = serde_json::from_str::<Value>(line) else {
            // Torn: nothing was bought under a line that was not written.
            if lines.peek().is_none() {
                break;
            }
            return Err(io::Error::other(format!("line {} is not what a gateway writes; move the file away", at + 1)));
        };
        if line["day"].as_u64() != Some(day) {
            continue;
        }
        let amount = |name: &str| line[name].as_str().and_then(|text| text.parse::<u128>().ok());
        let key = || line["key"].as_str().map(str::to_owned);
        match (line["job"].as_u64(), amount("reserved"), amount("owed")) {
            (Some(job), Some(reserved), None) => drop(open.insert(job, (key(), reserved))),
            (Some(job), None, Some(owed)) => {
                // One of an earlier process is in its total already.
                let Some((key, reserved)) = open.remove(&job) else { continue };
                *spent.entry(key).or_default() += owed.min(reserved);
            }
            (None, None, Some(owed)) => *spent.entry(key()).or_default() += owed,
            _ => {
                return Err(io::Error::other(format!(
                    "line {} is not what a gateway writes; move the file away",
                    at + 1
                )));
            }
        }
    }
    for (key, reserved) in open.into_values() {
        *spent.entry(key).or_default() += reserved;
    }
    Ok(spent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("haggle-book-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        folder.join("spent.jsonl")
    }

    #[test]
    fn whatever_is_torn_off_nothing_that_was_bought_is_forgotten() {
        let path = in_folder("torn");
        let (mut book, spent) = Book::open(path.clone(), 7).expect("a book");
        assert!(spent.is_empty());
        book.reserve(7, 1, Some("a"), 100).expect("written");
        book.settle(7, 1, 60).expect("written");
        book.reserve(7, 2, Some("a"), 100).expect("written");
        book.reserve(7, 3, None, 5).expect("written");
        let whole = fs::read_to_string(&path).expect("text");
        let ends: Vec<usize> = whole.match_indices('\n').map(|(at, _)| at + 1).collect();
        for cut in 0..=whole.len() {
            let spent = read(&whole[..cut], 7).expect("it is read");
            let lines = ends.iter().filter(|end| **end <= cut + 1).count();
            let of_a = [0, 100, 60, 160, 160][lines];
            assert_eq!(spent.get(&Some("a".into())).copied().unwrap_or(0), of_a, "cut at {cut}");
        }
        drop(book);
        // A process that was killed with two purchases open; and the next one.
        for _ in 0..2 {
            let (_, spent) = Book::open(path.clone(), 7).expect("a book");
            assert_eq!(spent, Spent::from([(Some("a".into()), 160), (None, 5)]));
        }
        let (_, spent) = Book::open(path.clone(), 8).expect("a book");
        assert!(spent.is_empty(), "yesterday's is forgotten");
        fs::write(&path, "{}\nx\n{}\n").expect("written");
        assert!(Book::open(path, 7).is_err(), "what cannot be read is never passed over");
    }
}
