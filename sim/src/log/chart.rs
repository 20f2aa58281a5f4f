//! A sequence chart in text: a lane for each node, time downwards.

use std::collections::BTreeSet;

use super::Entry;

/// Letters between two lanes.
const LANE: usize = 14;

/// Draws what was sent and told; what was merely heard is left out, since it was sent before.
#[must_use]
pub fn chart(entries: &[&Entry]) -> String {
    let shown: Vec<&&Entry> = entries.iter().filter(|entry| entry.does != "hears").collect();
    let nodes: BTreeSet<u32> = shown.iter().flat_map(|entry| [entry.node, entry.peer]).flatten().collect();
    let nodes: Vec<u32> = nodes.into_iter().collect();
    let lane = |node: u32| nodes.iter().position(|other| *other == node);
    let mut text = format!("{:>12}", "");
    for node in &nodes {
        text.push_str(&format!("{:<LANE$}", format!("node {node}")));
    }
    text.push('\n');
    for entry in shown {
        let line = match (entry.does, entry.node.and_then(lane), entry.peer.and_then(lane)) {
            ("sends", Some(from), Some(to)) => arrow(nodes.len(), from, to),
            (_, Some(own), _) => point(nodes.len(), own, if entry.does == "fault" { 'X' } else { '*' }),
            _ => point(nodes.len(), usize::MAX, ' '),
        };
        text.push_str(&format!("{:>9} ms{line}  {}\n", entry.at, entry.what));
    }
    text
}

fn lanes(count: usize) -> Vec<char> {
    let mut line = vec![' '; count * LANE];
    line.iter_mut().step_by(LANE).for_each(|letter| *letter = '|');
    line
}

fn point(count: usize, own: usize, mark: char) -> String {
    let mut line = lanes(count);
    if let Some(letter) = own.checked_mul(LANE).and_then(|at| line.get_mut(at)) {
        *letter = mark;
    }
    line.into_iter().collect()
}

fn arrow(count: usize, from: usize, to: usize) -> String {
    let mut line = lanes(count);
    let (start, end) = (from.min(to) * LANE, from.max(to) * LANE);
    line[start..=end].iter_mut().for_each(|letter| *letter = '-');
    line[from * LANE] = 'o';
    line[to * LANE] = if to > from { '>' } else { '<' };
    line.into_iter().collect()
}
