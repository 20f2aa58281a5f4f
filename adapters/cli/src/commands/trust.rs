//! Who is trusted, in a state directory that no node uses: bans, scores, and how providers have served.

use std::{fs, io, path::Path};

use haggle::{
    Error,
    core::{
        Limits, PeerId as CorePeerId, Refusal,
        peers::{BanCause, BanRecord, Reliability},
        time::Millis,
    },
    id,
    libp2p::PeerId,
    state::{State, wall_clock},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    args::{Bans, Global, NodeArgs, OnePeer, SomePeer, StateDir},
    exit::{Exit, Failed},
    screen::{Screen, print_json},
    settings::Settings,
    spans::span,
    table::Table,
};

/// The first line of a file of bans: remaining times count from there.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    haggle_bans: u32,
    exported_at_ms: u64,
}

/// A ban in a file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    peer: String,
    cause: BanCause,
    remaining_ms: u64,
    remembered_ms: u64,
    proven: bool,
}

const VERSION: u32 = 1;
/// More cannot be in a file of bans.
const MAX_FILE: u64 = 16 << 20;

pub(crate) fn bans(global: &Global, args: &Bans) -> Result<Exit, Failed> {
    let (state, limits) = open(global, &args.dir)?;
    if let Some(file) = &args.import {
        let (records, away) = read(file)?;
        state.trust(limits.clone(), |requester, now| requester.import_bans(now, away, &records))?;
    }
    let records = state.trust(limits, |requester, now| Ok(requester.bans(now)))?;
    let lines: Vec<Line> = records.iter().filter_map(line).collect();
    if let Some(file) = &args.export {
        let header = json!(Header { haggle_bans: VERSION, exported_at_ms: wall_clock() });
        let lines = std::iter::once(header).chain(lines.iter().map(|line| json!(line)));
        let text: String = lines.map(|line| format!("{line}\n")).collect();
        fs::write(file, text).map_err(|error| bad_file(file, &error))?;
        return Ok(Exit::Done);
    }
    if global.json {
        lines.iter().try_for_each(|line| print_json(&json!(line)))?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(["provider", "why", "for"], 0);
    lines.iter().for_each(|line| table.add(told(line)));
    match lines.is_empty() {
        true => say("nobody is banned")?,
        false => table.print()?,
    }
    Ok(Exit::Done)
}

pub(crate) fn ban(global: &Global, args: &OnePeer) -> Result<Exit, Failed> {
    let peer = core(&args.peer)?;
    let (state, limits) = open(global, &args.dir)?;
    state.trust(limits, |requester, _| requester.ban(peer))?;
    done(global, "banned", &args.peer)
}

pub(crate) fn allow(global: &Global, args: &OnePeer) -> Result<Exit, Failed> {
    let peer = core(&args.peer)?;
    let (state, limits) = open(global, &args.dir)?;
    state.trust(limits, |requester, _| {
        requester.allow(&peer);
        Ok(())
    })?;
    done(global, "allowed", &args.peer)
}

pub(crate) fn reliability(global: &Global, args: &SomePeer) -> Result<Exit, Failed> {
    let wanted = args.peer.as_ref().map(core).transpose()?;
    let (state, limits) = open(global, &args.dir)?;
    let known = state.trust(limits, |requester, now| {
        let peers: Vec<CorePeerId> =
            wanted.map_or_else(|| requester.known_peers().copied().collect(), |peer| vec![peer]);
        let known = |peer: CorePeerId| Some((id::to_libp2p(&peer)?, requester.reliability(now, &peer)?));
        Ok(peers.into_iter().filter_map(known).collect::<Vec<_>>())
    })?;
    if global.json {
        let entry = |(peer, known): &(PeerId, Reliability)| json!({"peer": peer.to_string(), "reliability": known});
        known.iter().try_for_each(|known| print_json(&entry(known)))?;
        return Ok(Exit::Done);
    }
    let heading = ["provider", "standing", "score", "attempts", "whole", "failed", "broke rules", "first token"];
    let mut table = Table::new(heading, 0);
    known.iter().for_each(|(peer, known)| table.add(served(peer, known)));
    match known.is_empty() {
        true => say("nothing is known")?,
        false => table.print()?,
    }
    Ok(Exit::Done)
}

/// The directory, and the limits of the node whose it is.
fn open(global: &Global, dir: &StateDir) -> Result<(State, Limits), Failed> {
    let settings = Settings::load(global, &NodeArgs { set: dir.set.clone(), ..NodeArgs::default() })?;
    let limits = settings.config()?.limits;
    Ok((State::open(&dir.state).map_err(Error::from)?, limits))
}

fn core(peer: &PeerId) -> Result<CorePeerId, Failed> {
    id::to_core(peer).ok_or_else(|| Failed::from(Error::from(Refusal::NoSuchOffer)))
}

fn done(global: &Global, what: &str, peer: &PeerId) -> Result<Exit, Failed> {
    match global.json {
        true => print_json(&json!({"event": what, "peer": peer.to_string()}))?,
        false => say(&format!("{peer} is {what}"))?,
    }
    Ok(Exit::Done)
}

fn line(record: &BanRecord) -> Option<Line> {
    Some(Line {
        peer: id::to_libp2p(&record.peer)?.to_string(),
        cause: record.cause,
        remaining_ms: record.remaining.0,
        remembered_ms: record.remembered.0,
        proven: record.proven,
    })
}

fn told(line: &Line) -> [String; 3] {
    let left = line.remaining_ms.div_ceil(1000);
    let (why, left) = match line.cause {
        BanCause::Manual => ("by hand", "ever".into()),
        _ if left == 0 => ("was banned", "it has to prove itself".into()),
        BanCause::Fatal => ("broke the protocol", format!("{left} s")),
        BanCause::Score => ("score", format!("{left} s")),
    };
    [line.peer.clone(), why.into(), left]
}

fn served(peer: &PeerId, known: &Reliability) -> [String; 8] {
    let counts = known.counts;
    let standing = json!(known.standing);
    [
        peer.to_string(),
        standing.as_str().unwrap_or_default().into(),
        (known.score / 1000).to_string(),
        counts.attempts.to_string(),
        counts.verified_ends.to_string(),
        counts.failures.to_string(),
        counts.violations.to_string(),
        span(known.expected),
    ]
}

/// Reads a file of bans, and how long ago it was written.
fn read(file: &Path) -> Result<(Vec<BanRecord>, Millis), Failed> {
    let wrong_text = |why: String| bad_file(file, &io::Error::new(io::ErrorKind::InvalidData, why));
    let wrong = |number: usize, why: &dyn std::fmt::Display| wrong_text(format!("line {}: {why}", number + 1));
    if fs::metadata(file).map_err(|error| bad_file(file, &error))?.len() > MAX_FILE {
        return Err(wrong_text("it is too long".into()));
    }
    let text = fs::read_to_string(file).map_err(|error| bad_file(file, &error))?;
    let mut lines = text.lines().enumerate();
    let (number, first) = lines.next().unwrap_or((0, ""));
    let header: Header = serde_json::from_str(first).map_err(|error| wrong(number, &error))?;
    if header.haggle_bans != VERSION {
        return Err(wrong(number, &format!("format {} is not known", header.haggle_bans)));
    }
    let mut records = Vec::new();
    for (number, line) in lines {
        let Line { peer, cause, remaining_ms, remembered_ms, proven } =
            serde_json::from_str(line).map_err(|error| wrong(number, &error))?;
        let peer = peer.parse::<PeerId>().ok().and_then(|peer| id::to_core(&peer));
        let peer = peer.ok_or_else(|| wrong(number, &"not a peer"))?;
        let (remaining, remembered) = (Millis(remaining_ms), Millis(remembered_ms));
        records.push(BanRecord { peer, cause, remaining, remembered, proven });
    }
    Ok((records, Millis(wall_clock().saturating_sub(header.exported_at_ms))))
}

fn bad_file(file: &Path, error: &io::Error) -> Failed {
    Failed::usage("bans_file", format!("cannot use {}: {error}", file.display()))
}

fn say(line: &str) -> io::Result<()> {
    use io::Write;
    writeln!(Screen::Out, "{line}")
}
