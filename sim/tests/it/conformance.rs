//! The suite agrees with itself, and sees what an adapter does wrong.

use haggle_core::{JobSpec, PeerId, money::Price};
use haggle_sim::conformance::*;

#[test]
fn the_simulator_passes_its_own_suite() {
    let played = check(&mut Simulated::default()).unwrap();
    assert_eq!(played.len(), scenarios().len());
    assert!(check_stops(&mut Simulated::default()).unwrap() > 50);
}

#[test]
fn an_adapter_without_means_plays_the_rest() {
    const LACKS: [Need; 3] = [Need::Sellers, Need::Cut, Need::Pester];
    let played = check(&mut Wrong { lacks: &LACKS, ..Wrong::default() }).unwrap();
    assert_eq!(played, ["haggle", "stream", "twice", "back-pressure", "cancel", "shutdown"]);
}

#[test]
fn every_kind_of_mistake_is_seen() {
    type Lie = fn(&mut Said);
    let lies: [(&str, Lie); 6] = [
        ("text", |said| {
            if let Said::Tokens { text, .. } = said {
                text.pop();
            }
        }),
        ("text", |said| {
            if let Said::Tokens { n, .. } = said {
                *n += 1;
            }
        }),
        ("kinds", |said| {
            if *said == Said::Event("job:asked") {
                *said = Said::Event("another event");
            }
        }),
        ("turns", |said| {
            if *said == Said::Event("job:negotiated") {
                *said = Said::Event("job:cut");
            }
        }),
        ("bill", |said| {
            if let Said::Ended(ending) = said {
                ending.bill.owed += 1;
            }
        }),
        ("bill", |said| {
            if let Said::Ended(ending) = said {
                ending.bill.lines.pop();
            }
        }),
    ];
    for (what, lie) in lies {
        let error = check(&mut Wrong { lie, ..Wrong::default() }).unwrap_err();
        assert!(error.what.contains(what), "{error}");
    }
    let error = check(&mut Wrong { left: "a thread", ..Wrong::default() }).unwrap_err();
    assert!(error.what.contains("left over: a thread"), "{error}");
    let error = check_stops(&mut Wrong { left: "a thread", ..Wrong::default() }).unwrap_err();
    assert!(error.what.contains("left over: a thread"), "{error}");
}

/// The simulator, with a mistake.
struct Wrong {
    inner: Simulated,
    lacks: &'static [Need],
    lie: fn(&mut Said),
    left: &'static str,
}

impl Default for Wrong {
    fn default() -> Self {
        Self { inner: Simulated::default(), lacks: &[], lie: |_| {}, left: "" }
    }
}

impl Adapter for Wrong {
    fn lacks(&self) -> &[Need] {
        self.lacks
    }
    fn open(&mut self, scenario: &Scenario) -> Answered<()> {
        self.inner.open(scenario)
    }
    fn peer(&self, seller: usize) -> PeerId {
        self.inner.peer(seller)
    }
    fn discover(&mut self) -> Answered<Vec<(PeerId, Price)>> {
        self.inner.discover()
    }
    fn submit(&mut self, spec: JobSpec) -> Answered<()> {
        self.inner.submit(spec)
    }
    fn next(&mut self, job: usize) -> Answered<Said> {
        let mut said = self.inner.next(job)?;
        (self.lie)(&mut said);
        Ok(said)
    }
    fn act(&mut self, deed: Deed) -> Answered<()> {
        self.inner.act(deed)
    }
    fn close(&mut self) -> Answered<()> {
        self.inner.close()
    }
    fn left(&mut self) -> Vec<String> {
        let mut left = self.inner.left();
        if !self.left.is_empty() {
            left.push(self.left.into());
        }
        left
    }
}
