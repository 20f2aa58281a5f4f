//! Whole conversations, byte by byte, as files that another language can replay without a network: `tests/vectors/README.md`
//! says how. Our provider says in each exactly what stands there.

use std::{collections::BTreeMap, fs, path::PathBuf};

use haggle_core::{
    Limits, Millis, Refusal, StreamId,
    provider::Piece,
    wire::{
        self,
        message::{Channel, EndReason, Features, Phase},
    },
};

use super::{seller::Seller, service};

/// The files of a folder of vectors, by name, with their text.
pub(super) fn scripts(folder: &str) -> BTreeMap<String, String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(folder);
    let files = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.file_name().unwrap().to_str().unwrap().into(), fs::read_to_string(path).unwrap())).collect()
}

/// A message as a line of a script shows it: on which stream, its payload, what it is.
pub(super) fn shown(who: char, stream: &str, payload: &[u8]) -> String {
    let kind = wire::decode(payload).map(|message| format!("{message:?}"));
    let kind = kind.as_ref().map_or("no message", |kind| kind.split([' ', '(']).next().unwrap());
    format!("{who} {stream} {} # {kind}\n", hex(payload))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16).unwrap() as u8).collect();
    digits.as_chunks::<2>().0.iter().map(|[high, low]| high << 4 | low).collect()
}

/// The payload in its frame.
pub(super) fn framed(payload: &[u8]) -> Vec<u8> {
    [&u16::try_from(payload.len()).unwrap().to_be_bytes()[..], payload].concat()
}

/// [R1] [R3] [N3] [K2] [W1] [A6] [C7] [S1] [S2]
#[test]
fn our_provider_says_what_the_conversations_say() {
    let all = scripts("conversations");
    assert!(all.len() >= 9, "{:?}", all.keys());
    all.iter().for_each(|(name, text)| compare(name, text, replayed));
}

/// Plays the conversations of a file, and compares what is said with what stands there.
pub(super) fn compare(name: &str, text: &str, replayed: fn(&str) -> String) {
    let told: Vec<String> = text.split("\n\n").map(|case| replayed(case.trim_end())).collect();
    let told = told.join("\n");
    let line = told.lines().zip(text.lines()).position(|(told, stands)| told != stands);
    if told != text {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&path, told).unwrap();
        panic!(
            "{name} differs from line {:?} on; what is said now stands in {}",
            line.map(|at| at + 1),
            path.display()
        );
    }
}

/// The same conversation with what our provider answers.
fn replayed(case: &str) -> String {
    let mut script = Script::new();
    for line in case.lines().filter(|line| !["P ", "ends ", "resets "].iter().any(|told| line.starts_with(told))) {
        script.step(line);
        script.hear();
    }
    script.told
}

struct Script {
    seller: Seller,
    streams: BTreeMap<String, StreamId>,
    /// What was said last, and where.
    last: (String, Vec<u8>),
    told: String,
}

impl Script {
    fn new() -> Self {
        let mut service = service();
        service.models[0].advert.features = Some(Features::TOOLS);
        let (seller, streams) = (Seller::with(service, Limits::default()), BTreeMap::new());
        Self { seller, streams, last: (String::new(), Vec::new()), told: String::new() }
    }

    fn step(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        if word == "R" {
            let [stream, payload, ..] = rest.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            self.last = (stream.into(), unhex(payload));
            self.told += &shown('R', stream, &self.last.1);
            return self.say(1);
        }
        self.told += &format!("{line}\n");
        match word {
            "#" => {}
            "again" => self.say(rest.parse().unwrap()),
            "cut" => self.seller.cut(self.streams[rest]),
            "wait" => self.seller.wait(Millis(rest.parse().unwrap())),
            "works" => {
                let phase = if rest == "loading" { Phase::Loading } else { Phase::Reading };
                self.seller.provider.working(self.seller.now, *self.seller.started.last().unwrap(), phase);
            }
            "writes" => assert!(self.write(rest, None).is_ok(), "{line}"),
            "thinks" => assert!(self.write(rest, Some(Channel::Thought)).is_ok(), "{line}"),
            "refuses" => assert!(self.write(rest, Some(Channel::Refusal)).is_ok(), "{line}"),
            "calls" => assert!(self.write(rest, Some(Channel::ToolCall)).is_ok(), "{line}"),
            "waits" => assert_eq!(self.write(rest, None), Err(Refusal::NoRoom), "{line}"),
            "done" => {
                let reason = match rest {
                    "tool-calls" => EndReason::ToolCalls,
                    "filtered" => EndReason::Filtered,
                    _ => EndReason::Stop,
                };
                self.seller.finish(*self.seller.started.last().unwrap(), reason);
            }
            _ => panic!("{line}"),
        }
    }

    fn say(&mut self, times: u32) {
        let (name, payload) = &self.last;
        let stream = *self.streams.entry(name.clone()).or_insert_with(|| self.seller.open());
        (0..times).for_each(|_| self.seller.send(stream, &framed(payload)));
    }

    fn write(&mut self, text: &str, channel: Option<Channel>) -> Result<u32, Refusal> {
        let attempt = *self.seller.started.last().unwrap();
        self.seller.piece(attempt, Piece { n: 1, text, ids: None, channel })
    }

    fn hear(&mut self) {
        for (name, stream) in &self.streams {
            let heard = self.seller.heard(*stream);
            for message in heard.messages() {
                let mut payload = Vec::new();
                wire::encode(&message, &mut payload);
                self.told += &shown('P', name, &payload);
            }
            if heard.is_closed {
                self.told += &format!("ends {name}\n");
            }
            if heard.is_reset {
                self.told += &format!("resets {name}\n");
            }
        }
    }
}
