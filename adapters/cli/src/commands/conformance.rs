//! Does a peer keep the protocol? The other side is played to it, scenario by scenario.

use std::io::{self, Write};

use futures::{StreamExt, channel::mpsc, select, stream::FuturesUnordered};
use haggle::{
    Model, config,
    libp2p::{Multiaddr, multiaddr::Protocol},
};
use haggle_conformance::{PROVIDER, REQUESTER, Scenario, Verdict};
use serde_json::{Value, json};

use crate::{
    args::{Conformance, Global},
    exit::{Exit, Failed},
    kit::{self, Stall},
    names::did_you_mean,
    node,
    screen::{Screen, Transient, print_json},
    table::Table,
};

/// The model that is sold to a requester that was told of none.
const MODEL: &str = "conformance";

pub(crate) async fn run(global: &Global, args: &Conformance) -> Result<Exit, Failed> {
    if args.list {
        list(global.json)?;
        return Ok(Exit::Done);
    }
    let model = args.model.as_deref().map(node::model).transpose()?;
    let mut report = Report { json: global.json, ..Report::default() };
    match &args.peer {
        Some(peer) => {
            let contact =
                config::contact(peer).map_err(|wrong| Failed::usage("peer", format!("--peer {peer:?} {wrong}")))?;
            for scenario in chosen(PROVIDER, &args.only)? {
                let verdict = Transient::during(scenario.name, kit::ask(scenario, &contact, model.clone())).await?;
                report.add(scenario, verdict)?;
            }
        }
        None => serve(args, model.map_or_else(|| node::model(MODEL), Ok)?, &mut report).await?,
    }
    report.end()
}

/// Opens a stall for each scenario, and waits until each had its customer.
async fn serve(args: &Conformance, model: Model, report: &mut Report) -> Result<(), Failed> {
    let scenarios = chosen(REQUESTER, &args.only)?;
    let (told, mut verdicts) = mpsc::unbounded();
    let mut stalls = FuturesUnordered::new();
    for (at, scenario) in scenarios.iter().copied().enumerate() {
        let other = scenario.needs.two_providers.then(|| further(&args.listen, scenarios.len() + at));
        let stall = Stall::open(further(&args.listen, at), other).await?;
        report.opens(scenario, &stall, &model)?;
        let (told, model) = (told.clone(), model.clone());
        stalls.push(stall.play(scenario, model, move |verdict| {
            let _ = told.unbounded_send((scenario, verdict));
        }));
    }
    for _ in scenarios {
        let (scenario, verdict) = select! {
            failed = stalls.select_next_some() => return Err(failed),
            told = verdicts.select_next_some() => told,
        };
        report.add(scenario, verdict)?;
    }
    Ok(())
}

/// The address for the n-th scenario: the n-th port from there on, or any.
fn further(address: &Multiaddr, n: usize) -> Multiaddr {
    let n = u16::try_from(n).unwrap_or(u16::MAX);
    let port = |part| match part {
        Protocol::Tcp(port @ 1..) => Protocol::Tcp(port.saturating_add(n)),
        part => part,
    };
    address.iter().map(port).collect()
}

fn chosen<'a>(all: &'a [Scenario], only: &[String]) -> Result<Vec<&'a Scenario>, Failed> {
    let find = |name: &String| {
        let found = all.iter().find(|scenario| scenario.name == name);
        found.ok_or_else(|| {
            let hint = did_you_mean(name, all.iter().map(|scenario| scenario.name));
            Failed::usage(
                "scenario",
                format!("there is no scenario {name:?}{hint} `haggle conformance --list` shows all"),
            )
        })
    };
    if only.is_empty() { Ok(all.iter().collect()) } else { only.iter().map(find).collect() }
}

fn list(as_json: bool) -> io::Result<()> {
    let of = [("provider", PROVIDER), ("requester", REQUESTER)];
    let all = of.into_iter().flat_map(|(role, all)| all.iter().map(move |scenario| (role, scenario)));
    if as_json {
        let one = |(role, Scenario { name, about, rules, .. }): (&str, &Scenario)| json!({"role": role, "scenario": name, "about": about, "rules": rules});
        return print_json(&all.map(one).collect::<Value>());
    }
    let mut table = Table::new(["of a", "scenario", "rules", "what is asked"], 3);
    all.for_each(|(role, scenario)| {
        table.add([role.into(), scenario.name.into(), scenario.rules.join(" "), scenario.about.into()]);
    });
    table.print()
}

/// What was found, told as it comes.
#[derive(Default)]
struct Report {
    json: bool,
    kept: usize,
    unplayed: usize,
    /// Rules, with the scenarios that named them.
    broken: Vec<String>,
}

impl Report {
    fn opens(&self, scenario: &Scenario, Stall { address, other, .. }: &Stall, model: &Model) -> io::Result<()> {
        let needs = scenario.needs;
        let other = other.as_ref().map(Multiaddr::to_string);
        if self.json {
            return print_json(&json!({
                "event": "listening", "scenario": scenario.name, "address": address.to_string(), "model": model.to_text(),
                "other_address": other, "prompt_bytes": needs.prompt_bytes, "bids": needs.bids, "request": needs.request,
                "gives_up_after_ms": needs.gives_up_after.map(|span| span.0),
            }));
        }
        let mut also = Vec::new();
        also.extend((needs.prompt_bytes > 1).then(|| format!("a prompt of {} bytes", needs.prompt_bytes)));
        also.extend(needs.bids.then(|| "a budget, and bids".to_owned()));
        also.extend(needs.request.then(|| "a request with tools".to_owned()));
        also.extend(other.map(|other| format!("and a second provider, {other}")));
        also.extend(needs.gives_up_after.map(|span| format!("given up after {} ms", span.0)));
        let also = if also.is_empty() { String::new() } else { format!("  ({})", also.join(", ")) };
        writeln!(Screen::Out, "{:<26} {address}{also}", scenario.name)
    }

    fn add(&mut self, scenario: &Scenario, verdict: Verdict) -> io::Result<()> {
        let (word, rule, told) = match &verdict {
            Verdict::Kept => ("kept", None, None),
            Verdict::Broken(broken) => ("broken", Some(broken.rule), Some(&broken.told)),
            Verdict::Unplayed(why) => ("not played", None, Some(why)),
        };
        match &verdict {
            Verdict::Kept => self.kept += 1,
            Verdict::Broken(broken) => self.broken.push(format!("[{}] in {}", broken.rule, scenario.name)),
            Verdict::Unplayed(_) => self.unplayed += 1,
        }
        if self.json {
            let name = scenario.name;
            return print_json(
                &json!({"event": "verdict", "scenario": name, "verdict": word, "rule": rule, "told": told}),
            );
        }
        let rule = rule.map_or(String::new(), |rule| format!(" [{rule}]"));
        let told = told.map_or(String::new(), |told| format!(" {told}"));
        writeln!(Screen::Out, "{word:<10} {}{rule}{told}", scenario.name)
    }

    fn end(self) -> Result<Exit, Failed> {
        let (kept, unplayed, broken) = (self.kept, self.unplayed, self.broken.len());
        if self.json {
            print_json(&json!({"event": "conformance", "kept": kept, "broken": broken, "not_played": unplayed}))?;
        } else {
            writeln!(Screen::Out, "{kept} kept, {broken} broken, {unplayed} not played")?;
        }
        if self.broken.is_empty() {
            return Ok(Exit::Done);
        }
        let rules = self.broken.join(", ");
        Err(Failed::new(Exit::Other, "broken_rules", format!("broken: {rules}; see core/PROTOCOL.md for the labels")))
    }
}
