use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use haggle::core::{event::Settlement as CoreSettlement, money::Tariff};

use super::*;

fn entry(attempt: u32) -> Entry {
    Entry {
        time: 1_795_363_457,
        side: Side::Sold,
        peer: "12D3KooWJWoaqZhDaoEFshF7Rh1bpY9ohihFhzcW6d69Lr2NASuq".parse().expect("a peer"),
        model: Model::new("ein Modell \u{1f600} \n".as_bytes()).expect("a name"),
        job: JobId([7; 16]),
        attempt,
        fee_in: 1,
        price_out: 500_000,
        tokens: 30,
        owed: u128::MAX,
        outcome: "stop".into(),
        settlement: Settlement::None,
    }
}

/// A file of a test's own, removed with it.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let file = std::env::temp_dir().join(format!("haggle-ledger-{name}-{}", std::process::id()));
        let _ = fs::remove_file(&file);
        Scratch(file)
    }

    fn read(&self) -> (Vec<Entry>, Option<Torn>) {
        let mut entries = Entries::read(&self.0).expect("there");
        let read = entries.by_ref().map(|entry| entry.expect("a line")).collect();
        (read, entries.torn())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn what_is_written_is_read_back_and_only_its_owner_can_read_it() {
    let file = Scratch::new("whole");
    for attempt in 1..=3 {
        let (mut ledger, torn) = Ledger::open(&file.0).expect("open");
        assert_eq!(torn, None);
        ledger.add(&entry(attempt)).expect("written");
        ledger.sync().expect("on the disk");
    }
    assert_eq!(file.read(), ((1..=3).map(entry).collect(), None));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(file.0.metadata().expect("there").permissions().mode() & 0o777, 0o600);
    }
    let text = fs::read_to_string(&file.0).expect("text");
    assert!(
        text.lines().all(|line| line.contains(r#""settlement":"none""#) && line.contains(r#""fee_in":"0.000001""#))
    );
}

#[test]
fn cut_at_any_byte_it_is_read_up_to_there_and_written_on() {
    let (whole, cut) = (Scratch::new("uncut"), Scratch::new("cut"));
    let (mut ledger, _) = Ledger::open(&whole.0).expect("open");
    (1..=2).for_each(|attempt| ledger.add(&entry(attempt)).expect("written"));
    let bytes = fs::read(&whole.0).expect("there");
    let line = bytes.len() / 2;
    for at in 0..=bytes.len() {
        fs::write(&cut.0, &bytes[..at]).expect("written");
        // A line that lacks nothing but its end is a line.
        let (lines, rest) = ((at + 1) / line, at % line);
        let is_torn = rest > 0 && rest + 1 < line;
        let torn = is_torn.then_some(Torn { bytes: rest });
        assert_eq!(cut.read(), ((1..=2).take(lines).map(entry).collect(), torn), "cut at {at}");
        let (mut ledger, told) = Ledger::open(&cut.0).expect("open");
        assert_eq!(told, torn, "cut at {at}");
        ledger.add(&entry(9)).expect("written");
        let expected: Vec<_> = (1..=2).take(lines).chain([9]).map(entry).collect();
        assert_eq!(cut.read(), (expected, None), "cut at {at}");
    }
}

/// The disk is full in the midst of a line: a process that may not write longer files stands for that.
#[cfg(unix)]
#[test]
fn a_line_that_has_no_room_leaves_nothing_behind() {
    const FILE: &str = "HAGGLE_TEST_FULL_LEDGER";
    if let Some(file) = std::env::var_os(FILE) {
        let (mut ledger, _) = Ledger::open(file.as_ref()).expect("open");
        let full = (1..=99).find_map(|attempt| ledger.add(&entry(attempt)).err()).expect("there is no room");
        assert!(matches!(full, LedgerError::Write { .. }), "{full}");
        return;
    }
    let file = Scratch::new("full");
    let test = std::env::current_exe().expect("this program");
    let status = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 2; exec \"$0\" --exact ledger::tests::a_line_that_has_no_room_leaves_nothing_behind"])
        .arg(test)
        .env(FILE, &file.0)
        .stdout(std::process::Stdio::null())
        .status();
    assert!(status.expect("a shell").success());
    let (lines, torn) = file.read();
    assert!((1..99).contains(&lines.len()), "{}", lines.len());
    assert_eq!(torn, None);
}

#[test]
fn what_was_not_written_here_is_refused_by_its_line() {
    let good = serde_json::to_string(&entry(1)).expect("JSON");
    let long = format!("{{\"outcome\":\"{}\"", "x".repeat(20_000));
    for (bad, problem) in [
        ("{}", "missing field"),
        ("", "EOF"),
        ("\u{0}\u{0}", "expected value"),
        (&good.replace("\"stop\"", "\"stop\",\"tip\":1"), "unknown field `tip`"),
        (&good.replace("0.000001", "1e3"), "1e3"),
        (&good.replace("12D3KooW", "12D3K00W"), "12D3K00W"),
        (&good.replace("\"none\"", "\"cash\""), "unknown variant `cash`"),
        (&good.replace("\"sold\"", "\"given\""), "unknown variant `given`"),
        (&good.replace("0707", "07"), "16 bytes"),
        (&format!("{good}{good}"), "trailing"),
        (&long, "EOF"),
    ] {
        let file = Scratch::new("bad");
        fs::write(&file.0, format!("{good}\n{bad}\n{good}\n")).expect("written");
        let read: Result<Vec<_>, _> = Entries::read(&file.0).expect("there").collect();
        let error = read.expect_err(bad).to_string();
        assert!(error.contains("line 2 ") && error.contains(problem), "{bad}: {error}");
    }
    let file = Scratch::new("foreign");
    fs::write(&file.0, "not a ledger").expect("written");
    let error = Ledger::open(&file.0).expect_err("no ledger").to_string();
    assert!(error.contains("the last line is no line of a ledger"), "{error}");
    assert_eq!(fs::read(&file.0).expect("there"), b"not a ledger", "it is left as it is");
    assert!(matches!(Ledger::open(&std::env::temp_dir()), Err(LedgerError::Open { .. })));
}

#[test]
fn a_bill_becomes_a_line_for_each_attempt_and_the_last_tells_the_ending() {
    let peer = entry(1).peer;
    let line = |attempt, tokens: u64| {
        let tariff = Tariff { fee_in: 5, price_out: 1_000_000 };
        BillLine {
            attempt,
            peer: id::to_core(&peer).expect("an id"),
            tariff,
            reread: 0,
            tokens,
            text_bytes: tokens,
            owed: tariff.owed(tokens),
        }
    };
    let bill =
        Bill { lines: vec![line(1, 3), line(2, 0), line(3, 4)], owed: 17, tokens: 7, settlement: CoreSettlement::None };
    let receipt = Receipt { reason: EndReason::Length, prompt_tokens: 2, tokens: 7, thought: None, cached: None, bill };
    let lines = Entry::bought(JobId([1; 16]), &entry(1).model, Ok(&receipt));
    let figures: Vec<_> = lines.iter().map(|l| (l.attempt, l.tokens, l.owed, l.outcome.as_str())).collect();
    assert_eq!(figures, [(1, 3, 8, "interrupted"), (2, 0, 0, "interrupted"), (3, 4, 9, "length")]);
    assert!(lines.iter().all(|line| line.side == Side::Bought && line.peer == peer));
}

/// As long as the disk is full, lines wait, and that is told once a minute.
#[cfg(unix)]
#[test]
fn while_there_is_no_room_lines_wait_in_order_and_that_is_told_once_a_minute() {
    const FILE: &str = "HAGGLE_TEST_LATE_LEDGER";
    if let Some(file) = std::env::var_os(FILE) {
        return wait_for_room(file.as_ref());
    }
    let file = Scratch::new("late");
    let test = std::env::current_exe().expect("this program");
    let name = "ledger::tests::while_there_is_no_room_lines_wait_in_order_and_that_is_told_once_a_minute";
    let status = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$0\" --exact \"$1\""])
        .arg(test)
        .arg(name)
        .env(FILE, &file.0)
        .stdout(std::process::Stdio::null())
        .status();
    assert!(status.expect("a shell").success());
}

#[cfg(unix)]
fn wait_for_room(path: &Path) {
    let (start, secs) = (Instant::now(), Duration::from_secs);
    let mut books = Books::new(Ledger::open(path).expect("open").0);
    let mut lines = 0;
    let first = loop {
        lines += 1;
        if let Some(late) = books.add(start, entry(lines)).expect("it can wait") {
            break late;
        }
    };
    assert_eq!((first.lines, first.error.code()), (1, "disk_full"), "{first}");
    for (after, is_told) in [(0, false), (59, false), (60, true), (61, false)] {
        lines += 1;
        let told = books.add(start + secs(after), entry(lines)).expect("it can wait");
        assert_eq!(told.is_some(), is_told, "after {after} s");
    }
    // The file was moved away, and there is room.
    let moved = path.with_extension("moved");
    fs::rename(path, &moved).expect("moved");
    books.reopen(path).expect("a new file");
    assert!(books.write(start + secs(62)).expect("written").is_none());
    assert_eq!(books.late().len(), 0);
    let read = |path: &Path| Entries::read(path).expect("there").map(|entry| entry.expect("a line").attempt);
    let written: Vec<u32> = read(&moved).chain(read(path)).collect();
    fs::remove_file(moved).expect("there");
    assert_eq!(written, (1..=lines).collect::<Vec<_>>());
    // Not without end.
    let full = (1..=2_000).find_map(|attempt| books.add(start, entry(attempt)).err());
    assert_eq!(full.expect("it is full").code(), "disk_full");
    assert_eq!(books.late().len(), 1_024);
}
