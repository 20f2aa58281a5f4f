//! What people see. Every text leaves the program through here, for it may be a stranger's: an answer, a model's name, a
//! reason, a log line that quotes one. Nothing in it commands a terminal, hides, or shows in another order than it has.
//!
//! Text goes out as it is only where a program reads it: as JSON, into a file, and through a pipe if that is said.

use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use futures::{Future, FutureExt, select};
use futures_timer::Delay;
use serde_json::Value;
use terminal_size::{Width, terminal_size_of};

/// A text, made harmless: what a terminal would obey, and what nobody would see, is shown as `�`. What honest text of some
/// languages needs and can be read without is left out. Lines and tabs stay.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| fate(c) == Fate::Kept) {
        return text.into();
    }
    text.chars().filter_map(|c| fate(c).of(c)).collect()
}

/// The same for what is a part of a line: a name or a reason cannot begin another one.
pub(crate) fn in_line(text: &str) -> String {
    visible(text).replace(['\n', '\t'], " ")
}

/// Where people read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Screen {
    Out,
    Err,
}

impl Screen {
    pub(crate) fn is_terminal(self) -> bool {
        match self {
            Screen::Out => io::stdout().is_terminal(),
            Screen::Err => io::stderr().is_terminal(),
        }
    }

    /// A terminal that can do more than write on.
    fn is_clever(self) -> bool {
        self.is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
    }

    /// Colours for a terminal, unless `NO_COLOR` is set.
    pub(crate) fn style(self) -> Style {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Style(self.is_clever() && !unwanted)
    }

    /// Columns; of what is no terminal, those of the usual one.
    pub(crate) fn width(self) -> usize {
        let size = match self {
            Screen::Out => terminal_size_of(io::stdout()),
            Screen::Err => terminal_size_of(io::stderr()),
        };
        size.map(|(Width(columns), _)| usize::from(columns)).filter(|columns| *columns > 0).unwrap_or(80)
    }

    /// Writes what was painted, at once.
    pub(crate) fn paint(self, text: &Painted) -> io::Result<()> {
        self.put(text.0.as_bytes())
    }

    /// Writes for a program: every byte as it is.
    pub(crate) fn put(self, bytes: &[u8]) -> io::Result<()> {
        Transient::vanish();
        match self {
            Screen::Out => put(io::stdout().lock(), bytes),
            Screen::Err => {
                // What is told beside the work stops nothing if nobody listens.
                let _ = put(io::stderr().lock(), bytes);
                Ok(())
            }
        }
    }
}

/// Whoever writes a part of a text writes whole characters: the macros do.
impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(visible(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The lines of a log, on stderr: each comes in one piece, and none of them looks like two.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Log {
    /// Each says who speaks, and nothing else.
    pub(crate) is_plain: bool,
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(bytes);
        let who = if self.is_plain { "haggle: " } else { "" };
        Screen::Err.put(format!("{who}{}\n", in_line(line.trim().trim_end_matches('\n'))).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes one line of JSON to stdout. What a screen must not get is escaped there: programs read the same.
pub(crate) fn print_json(value: &Value) -> io::Result<()> {
    Screen::Out.put(format!("{}\n", escaped(&value.to_string())).as_bytes())
}

/// The same beside work that goes on: it stops nothing if nobody listens.
pub(crate) fn tell_json(value: &Value) {
    let _ = print_json(value);
}

/// Whether an answer goes out byte for byte: into a file, or through a pipe whose reader is said to be a program.
pub(crate) fn takes_raw(wanted: bool) -> bool {
    !Screen::Out.is_terminal() && (wanted || is_file())
}

/// A line on the terminal of whoever waits: whom for, what for, how long by now. It vanishes before anything else is told.
pub(crate) struct Transient {
    what: String,
    since: Instant,
}

/// A transient line is on the screen.
static DRAWN: AtomicBool = AtomicBool::new(false);

impl Transient {
    /// How often it is drawn: it counts seconds, and what took less is not worth a line.
    pub(crate) const EVERY: Duration = Duration::from_secs(1);

    pub(crate) fn new(what: impl Into<String>) -> Self {
        Transient { what: what.into(), since: Instant::now() }
    }

    /// Waits for something, and shows that.
    pub(crate) async fn during<T>(what: &str, work: impl Future<Output = T>) -> T {
        let line = Transient::new(what);
        let mut work = pin!(work.fuse());
        loop {
            select! {
                done = work => {
                    Transient::vanish();
                    return done;
                }
                () = Delay::new(Self::EVERY).fuse() => line.draw(),
            }
        }
    }

    /// Draws it, if there is a terminal to be seen on.
    pub(crate) fn draw(&self) {
        if !Screen::Err.is_clever() {
            return;
        }
        let text = format!("{} ... {} s", in_line(&self.what), self.since.elapsed().as_secs());
        // A line that is broken cannot be taken back.
        let most = Screen::Err.width().saturating_sub(1);
        let text: String = text.chars().take(most).collect();
        Transient::vanish();
        let _ = put(io::stderr().lock(), Screen::Err.style().dim(&text).0.as_bytes());
        DRAWN.store(true, Ordering::Relaxed);
    }

    pub(crate) fn vanish() {
        if DRAWN.swap(false, Ordering::Relaxed) {
            let _ = put(io::stderr().lock(), b"\r\x1b[2K");
        }
    }
}

/// Colours, or none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Style(bool);

impl Style {
    pub(crate) fn dim(self, text: &str) -> Painted {
        self.wrap("2", text)
    }

    pub(crate) fn bold(self, text: &str) -> Painted {
        self.wrap("1", text)
    }

    pub(crate) fn good(self, text: &str) -> Painted {
        self.wrap("32", text)
    }

    fn wrap(self, code: &str, text: &str) -> Painted {
        let text = visible(text);
        Painted(if self.0 && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.into_owned() })
    }
}

/// Text that was made harmless, with the colours of this program, which no other text can have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Painted(String);

impl Painted {
    /// Both, one after the other.
    pub(crate) fn then(mut self, more: impl Into<Painted>) -> Self {
        self.0.push_str(&more.into().0);
        self
    }
}

impl<T: AsRef<str>> From<T> for Painted {
    fn from(text: T) -> Self {
        Painted(visible(text.as_ref()).into_owned())
    }
}

/// What becomes of a character.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Shown,
    Dropped,
}

impl Fate {
    fn of(self, c: char) -> Option<char> {
        match self {
            Fate::Kept => Some(c),
            Fate::Shown => Some(char::REPLACEMENT_CHARACTER),
            Fate::Dropped => None,
        }
    }
}

/// No state from one character to the next, so that text may come in any pieces.
fn fate(c: char) -> Fate {
    match c {
        '\n' | '\t' => Fate::Kept,
        // The other half of a line's end; joiners and marks of direction of a single place; soft hyphen, byte order mark.
        '\r' | '\u{200c}'..='\u{200f}' | '\u{61c}' | '\u{ad}' | '\u{feff}' => Fate::Dropped,
        c if c.is_control() => Fate::Shown,
        // Spaces without width, lines' and paragraphs' ends, changes of direction, and formats that are not seen.
        '\u{200b}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}' => Fate::Shown,
        '\u{34f}' | '\u{180e}' | '\u{17b4}' | '\u{17b5}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' => {
            Fate::Shown
        }
        // Letters that are blank.
        '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' => Fate::Shown,
        // Tags and selectors in which a text can be hidden.
        '\u{e0000}'..='\u{e0fff}' => Fate::Shown,
        _ => Fate::Kept,
    }
}

fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match fate(c) {
            Fate::Kept => text.push(c),
            _ => c.encode_utf16(&mut [0; 2]).iter().for_each(|half| text.push_str(&format!("\\u{half:04x}"))),
        }
    }
    text
}

fn put(mut to: impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}

#[cfg(unix)]
fn is_file() -> bool {
    use std::{fs::File, os::fd::AsFd};
    let out = io::stdout().as_fd().try_clone_to_owned();
    out.and_then(|out| File::from(out).metadata()).is_ok_and(|out| out.is_file())
}

/// Where nothing better is known, what is no terminal may still end in one.
#[cfg(not(unix))]
fn is_file() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use proptest::prelude::*;

    use super::*;

    /// By their names in Unicode, apart from the table above.
    fn is_harmful(c: char) -> bool {
        let code = u32::from(c);
        let ranges = [(0x00, 0x08), (0x0b, 0x1f), (0x7f, 0x9f), (0x200b, 0x200f), (0x2028, 0x202e), (0x2060, 0x206f)];
        ranges.iter().any(|(from, to)| (*from..=*to).contains(&code)) || c == '\u{feff}' || code >> 12 == 0xe0
    }

    /// Text of which half would do harm.
    fn bad_text() -> impl Strategy<Value = String> {
        let small =
            prop::char::ranges(vec!['\0'..='\u{a0}', '\u{2000}'..='\u{2070}', '\u{e0000}'..='\u{e0100}'].into());
        let any = prop_oneof![any::<char>(), small, prop::char::range('a', 'z')];
        prop::collection::vec(any, 0..40).prop_map(|all| all.into_iter().collect())
    }

    proptest! {
        #[test]
        fn nothing_harmful_is_seen_and_nothing_else_is_changed(text in bad_text(), more in bad_text()) {
            let seen = visible(&text);
            prop_assert!(!seen.chars().any(is_harmful), "{seen:?}");
            prop_assert_eq!(visible(&seen), seen.clone());
            // In whatever pieces it comes.
            prop_assert_eq!(visible(&format!("{text}{more}")).into_owned(), format!("{seen}{}", visible(&more)));
            let harmless: String = text.chars().filter(|c| fate(*c) == Fate::Kept).collect();
            prop_assert_eq!(seen.replace('\u{fffd}', ""), harmless.replace('\u{fffd}', ""));
            prop_assert!(!in_line(&text).contains(['\n', '\t']));
        }

        #[test]
        fn json_hides_nothing_and_means_the_same(text in bad_text()) {
            let value = Value::from(text.as_str());
            let line = escaped(&value.to_string());
            prop_assert!(!line.chars().any(is_harmful), "{line:?}");
            prop_assert_eq!(serde_json::from_str::<Value>(&line).expect("JSON"), value);
        }

        #[test]
        fn colours_are_this_programs_own(text in bad_text()) {
            let Painted(painted) = Style(true).bold(&text).then(&text);
            prop_assert_eq!(painted.matches('\x1b').count(), if visible(&text).is_empty() { 0 } else { 2 });
        }
    }

    #[test]
    fn what_is_seen_of_a_text() {
        for (text, seen) in [
            ("a\x1b[2Jb\u{9b}\r\n\tc", "a\u{fffd}[2Jb\u{fffd}\n\tc"),
            ("pay \u{202e}01", "pay \u{fffd}01"),
            ("a\u{200b}b\u{2066}c\u{e0041}d\u{2028}", "a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}"),
            ("\u{feff}می\u{200c}خواهم", "میخواهم"),
            ("naïve 日本 🙂\u{fe0f}", "naïve 日本 🙂\u{fe0f}"),
        ] {
            assert_eq!(visible(text), seen, "{text:?}");
        }
        assert_eq!(in_line("a\nb\tc\r\n"), "a b c ");
    }

    #[test]
    fn nobody_writes_past_the_screen() {
        fn check(folder: &Path) {
            for entry in fs::read_dir(folder).expect("the sources") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    check(&path);
                } else if !path.ends_with("screen.rs") {
                    let source = fs::read_to_string(&path).expect("text");
                    for past in ["io::stdout", "io::stderr", "println!", "print!("] {
                        assert!(!source.contains(past), "{} has {past}: write to a `Screen`", path.display());
                    }
                }
            }
        }
        check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    }
}
