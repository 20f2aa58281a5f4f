//! Shows what was sold and bought.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    path::{Path, PathBuf},
};

use haggle::{JobId, libp2p::PeerId};
use serde_json::{Value, json};

use crate::{
    args::{Global, NodeArgs, ReadLedger},
    exit::{Exit, Failed},
    ledger::{Entries, Side, Torn},
    money::decimal,
    screen::{Screen, print_json},
    settings::Settings,
    table::Table,
};

pub(crate) fn run(global: &Global, args: &ReadLedger) -> Result<Exit, Failed> {
    let file = match &args.file {
        Some(file) => file.clone(),
        None => PathBuf::from(Settings::load(global, &NodeArgs::default())?.running()?.ledger),
    };
    if file.as_os_str().is_empty() {
        return Err(Failed::usage("usage", "name a ledger: haggle ledger FILE, or set `ledger`"));
    }
    let (sums, torn) = read(&file)?;
    if global.json {
        print_json(&to_json(&file, &sums, torn))?;
    } else {
        print(&sums)?;
    }
    if let Some(torn) = torn {
        writeln!(Screen::Err, "haggle: {}: {torn}", file.display())?;
    }
    Ok(Exit::Done)
}

/// What came of one peer, on one side.
#[derive(Default)]
struct Sum {
    jobs: BTreeSet<JobId>,
    attempts: u64,
    tokens: u64,
    owed: u128,
}

type Sums = BTreeMap<(Side, PeerId), Sum>;

fn read(file: &Path) -> Result<(Sums, Option<Torn>), Failed> {
    let mut entries = Entries::read(file)?;
    let mut sums = Sums::new();
    for entry in entries.by_ref() {
        let entry = entry?;
        let sum = sums.entry((entry.side, entry.peer)).or_default();
        sum.jobs.insert(entry.job);
        sum.attempts += 1;
        sum.tokens = sum.tokens.saturating_add(entry.tokens);
        sum.owed = sum.owed.saturating_add(entry.owed);
    }
    Ok((sums, entries.torn()))
}

fn in_all(sums: &Sums, side: Side) -> (u64, u128) {
    let of_side = sums.iter().filter(|((of, _), _)| *of == side).map(|(_, sum)| sum);
    of_side.fold((0, 0), |(tokens, owed): (u64, u128), sum| {
        (tokens.saturating_add(sum.tokens), owed.saturating_add(sum.owed))
    })
}

fn print(sums: &Sums) -> io::Result<()> {
    let mut table = Table::new(["side", "peer", "jobs", "tokens", "owed"], 1);
    let mut row = |side: &Side, peer: String, jobs: String, tokens: u64, owed: u128| {
        table.add([side.to_string(), peer, jobs, tokens.to_string(), decimal(owed)]);
    };
    for ((side, peer), sum) in sums {
        row(side, peer.to_string(), sum.jobs.len().to_string(), sum.tokens, sum.owed);
    }
    for side in [Side::Sold, Side::Bought] {
        let (tokens, owed) = in_all(sums, side);
        row(&side, "in all".into(), String::new(), tokens, owed);
    }
    table.note("settlement: none (this version pays nothing); owed in units");
    table.print()
}

fn to_json(file: &Path, sums: &Sums, torn: Option<Torn>) -> Value {
    let peer = |((side, peer), sum): (&(Side, PeerId), &Sum)| {
        json!({
            "side": side, "peer": peer.to_string(), "jobs": sum.jobs.len(), "attempts": sum.attempts,
            "tokens": sum.tokens, "owed": decimal(sum.owed),
        })
    };
    let total = |side| {
        let (tokens, owed) = in_all(sums, side);
        json!({"tokens": tokens, "owed": decimal(owed)})
    };
    json!({
        "file": file, "peers": sums.iter().map(peer).collect::<Vec<_>>(), "sold": total(Side::Sold),
        "bought": total(Side::Bought), "torn_bytes": torn.map(|torn| torn.bytes), "asset": "units", "settlement": "none",
    })
}
