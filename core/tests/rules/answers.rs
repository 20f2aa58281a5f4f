//! What a requester is answered, byte by byte, and what it makes of that: the other side of `conversations`, as files that
//! another language can replay. Our requester says in each exactly what stands there.

use std::collections::BTreeMap;

use haggle_core::{
    JobId, Millis, StreamId,
    spec::Haggle,
    wire::{
        Prompt,
        message::{Exactness, ExactnessKind, Features, ModelAdvert},
    },
};

use super::{
    advert,
    buyer::{Buyer, Ended},
    conversations::{compare, framed, scripts, shown, unhex},
};

/// A request with tools, in as many bytes as a body has at least.
const REQUEST: &str = r#"{"messages":[{"role":"user","content":"Paris?"}],"tools":[]}"#;

/// [A1] [A5] [A8] [A9] [W1] [W2] [W4] [X1] [X3] [K2] [R1] [R3] [R9] [N4]
#[test]
fn our_requester_does_what_the_answers_say() {
    let all = scripts("answers");
    assert!(all.len() >= 5, "{:?}", all.keys());
    all.iter().for_each(|(name, text)| compare(name, text, replayed));
}

/// The same conversation with what our requester says.
fn replayed(case: &str) -> String {
    let mut script = Script::new();
    for line in case.lines().filter(|line| !["R ", "ends ", "resets "].iter().any(|told| line.starts_with(told))) {
        script.step(line);
        script.hear();
    }
    script.told
}

struct Script {
    buyer: Buyer,
    job: JobId,
    /// Streams in the order in which something was said on them first.
    names: BTreeMap<String, StreamId>,
    /// What was said last, and where.
    last: (StreamId, Vec<u8>),
    told: String,
}

impl Script {
    fn new() -> Self {
        let (job, last) = (JobId([0; 16]), (StreamId(0), Vec::new()));
        Self { buyer: Buyer::new(), job, names: BTreeMap::new(), last, told: String::new() }
    }

    fn step(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        if word == "P" {
            let [stream, payload, ..] = rest.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            self.last = (self.names[stream], framed(&unhex(payload)));
            self.told += &shown('P', stream, &unhex(payload));
            return self.say(1);
        }
        self.told += &format!("{line}\n");
        match word {
            "#" => {}
            "job" => self.begin(rest),
            "again" => self.say(rest.parse().unwrap()),
            "cut" => self.buyer.cut(self.names[rest]),
            "reads" => self.buyer.reads(self.job, rest.parse().unwrap()),
            "wait" => self.buyer.wait(Millis(rest.parse().unwrap())),
            _ => panic!("{line}"),
        }
    }

    fn say(&mut self, times: u32) {
        let (stream, frame) = &self.last;
        (0..times).for_each(|_| self.buyer.receives(*stream, frame));
    }

    /// A job of 30 tokens for a provider that is known; for two of them; a bid; or a request with tools.
    fn begin(&mut self, what: &str) {
        let exactness = Exactness { kind: ExactnessKind::Seeded, class: [5; 32] };
        let able = ModelAdvert { features: Some(Features::TOOLS), exactness, ..advert() };
        let two: &[&str] = &["seller", "other"];
        let names = if what == "of two" { two } else { &two[..1] };
        names.iter().for_each(|name| self.buyer.knows(name, able.clone()));
        // What was said until now is of no interest.
        self.buyer.news();
        self.job = self.buyer.submit(names, |spec| match what {
            "bids" => spec.haggle = Haggle::Bid(800),
            "request" => {
                spec.prompt = Prompt::Request(REQUEST.into());
                spec.criteria.require = Some(Features::TOOLS);
            }
            _ => {}
        });
    }

    fn hear(&mut self) {
        for news in self.buyer.news() {
            let known = self.names.iter().find(|(_, stream)| **stream == news.stream).map(|(name, _)| name.clone());
            let name = known.unwrap_or_else(|| (self.names.len() + 1).to_string());
            self.names.insert(name.clone(), news.stream);
            news.payloads.iter().for_each(|payload| self.told += &shown('R', &name, payload));
            match news.ended {
                Some(Ended::Closed) => self.told += &format!("ends {name}\n"),
                Some(Ended::Reset) => self.told += &format!("resets {name}\n"),
                None => {}
            }
        }
    }
}
