//! What the operator of a server should know, and nobody else.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Something about a server that its operator can mend, or should know before buyers tell.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// The server's own words with an error, 400 bytes at most. They may quote a prompt or the key: they are for an
    /// operator who has asked for them, and for no log that others read.
    Words(String),
    /// The server says that another model writes than the one that was asked for.
    OtherModel {
        /// What was asked for.
        asked: String,
        /// What the server says.
        writes: String,
    },
    /// The server does not take this field, which no requester has asked for. It is left out from now on.
    LeftOut(&'static str),
}

/// Told of each notice, from inside of a step.
pub type Listener = Box<dyn Fn(&Notice) + Send>;

/// Notices of one kind come no faster than this: buyers decide how often there is one.
const EVERY: Duration = Duration::from_secs(60);
/// Of a name, so many characters are told.
const MAX_NAME: usize = 128;

/// Who is told, and when that was.
#[derive(Default)]
pub(super) struct Notices(Mutex<Told>);

#[derive(Default)]
struct Told {
    listener: Option<Listener>,
    words: Option<Instant>,
    other: Option<Instant>,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Words(words) => write!(f, "the upstream server says: {words}"),
            Self::OtherModel { asked, writes } => {
                write!(f, "the upstream server was asked for {asked:?} and says that {writes:?} writes")
            }
            Self::LeftOut(field) => write!(f, "the upstream server does not take {field}; it is left out from now on"),
        }
    }
}

impl Notices {
    pub(super) fn listen(&self, listener: Listener) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).listener = Some(listener);
    }

    pub(super) fn tell(&self, notice: &Notice) {
        self.tell_at(notice, Instant::now());
    }

    /// The words of an error, if there are any.
    pub(super) fn tell_words(&self, words: &str) {
        if !words.trim().is_empty() {
            self.tell(&Notice::Words(words.into()));
        }
    }

    /// A model that writes by another name than it was asked by, if the two cannot be meant for one.
    pub(super) fn tell_of_model(&self, asked: &str, writes: &str) {
        let short = |name: &str| {
            let name = name.rsplit('/').next().unwrap_or_default();
            name.strip_suffix(":latest").unwrap_or(name).to_ascii_lowercase()
        };
        let (one, other) = (short(asked), short(writes));
        if !one.contains(&other) && !other.contains(&one) {
            let writes = writes.chars().take(MAX_NAME).collect();
            self.tell(&Notice::OtherModel { asked: asked.into(), writes });
        }
    }

    fn tell_at(&self, notice: &Notice, now: Instant) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match notice {
            Notice::Words(_) => told.words.replace(now),
            Notice::OtherModel { .. } => told.other.replace(now),
            Notice::LeftOut(_) => None,
        };
        if let Some(before) = before.filter(|before| now.saturating_duration_since(*before) < EVERY) {
            match notice {
                Notice::Words(_) => told.words = Some(before),
                _ => told.other = Some(before),
            }
        } else if let Some(listener) = &told.listener {
            listener(notice);
        }
    }
}

impl fmt::Debug for Notices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notices(…)")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn heard() -> (Notices, mpsc::Receiver<Notice>) {
        let (notices, (sender, receiver)) = (Notices::default(), mpsc::channel());
        notices.listen(Box::new(move |notice| drop(sender.send(notice.clone()))));
        (notices, receiver)
    }

    #[test]
    fn one_of_a_kind_a_minute() {
        let (notices, told) = heard();
        let now = Instant::now();
        for (after, expected) in [(0, 1), (1, 0), (59, 0), (60, 1), (61, 0)] {
            notices.tell_at(&Notice::Words("no".into()), now + Duration::from_secs(after));
            assert_eq!(told.try_iter().count(), expected, "{after}");
        }
        notices.tell_at(&Notice::LeftOut("seed"), now);
        notices.tell_at(&Notice::LeftOut("top_p"), now);
        assert_eq!(told.try_iter().count(), 2, "these are few");
    }

    #[test]
    fn a_name_that_can_be_meant_is_no_other_model() {
        for (asked, writes, expected) in [
            ("llama3", "llama3", 0),
            ("llama3:latest", "llama3", 0),
            ("Llama3", "org/llama3-8b", 0),
            ("/models/llama3.gguf", "llama3.gguf", 0),
            ("gpt-4", "gpt-4-0613", 0),
            ("llama3", "qwen2", 1),
        ] {
            let (notices, told) = heard();
            notices.tell_of_model(asked, writes);
            assert_eq!(told.try_iter().count(), expected, "{asked} {writes}");
        }
    }
}
