//! Asks the nodes that run here how they are.

use std::{fs, io::Write};

use serde_json::{Value, json};

use crate::{
    args::{Global, NodeArgs},
    counter,
    exit::{Exit, Failed},
    screen::{Screen, print_json},
    settings::Settings,
};

pub(crate) fn run(global: &Global) -> Result<Exit, Failed> {
    let settings = Settings::load(global, &NodeArgs::default())?;
    let data = settings.data_dir()?;
    let mut nodes = Vec::new();
    // No folder, no nodes.
    for entry in fs::read_dir(counter::folder(data)).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "sock") {
            let said = counter::ring(&path);
            let explain = |error| Failed::new(Exit::Other, "status", format!("cannot ask {}: {error}", path.display()));
            nodes.extend(said.map_err(explain)?);
        }
    }
    if nodes.is_empty() {
        let text = format!(
            "no node of yours runs with the data folder {}; `haggle serve` and `haggle bootstrap` are asked here, by the \
             user who started them: say --data-dir if it is another",
            data.display()
        );
        return Err(Failed::new(Exit::NobodyFound, "not_running", text));
    }
    nodes.sort_by_key(|node| node["peer"].to_string());
    match global.json {
        true => print_json(&json!({"event": "status", "nodes": nodes}))?,
        false => nodes.iter().try_for_each(print)?,
    }
    Ok(Exit::Done)
}

fn print(node: &Value) -> std::io::Result<()> {
    let mut out = Screen::Out;
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let list = |value: &Value| value.as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join(", ");
    let totals = &node["totals"];
    writeln!(out, "{} (pid {}), up for {} s", text(&node["peer"]), node["pid"], node["uptime_seconds"])?;
    match node["ready"] == true {
        true => writeln!(out, "  ready")?,
        false => writeln!(out, "  not ready: {}", list(&node["troubles"]))?,
    }
    writeln!(out, "  on {}", list(&node["addresses"]))?;
    let bootstrap = &node["bootstrap"];
    let (peers, met, given) = (&node["peers"], &bootstrap["connected"], &bootstrap["given"]);
    writeln!(out, "  {peers} peers, {met} of {given} bootstrap nodes, network {}", text(&node["network"]))?;
    writeln!(out, "  {}", node["reached_from"].as_str().unwrap_or("nobody has dialled this node yet"))?;
    for one in node["models"].as_array().into_iter().flatten() {
        let (name, price_in, price_out) = (text(&one["model"]), text(&one["price_in"]), text(&one["price_out"]));
        let state = node["out"].get(&name).map(|why| format!(", out: {}", text(why))).unwrap_or_default();
        writeln!(out, "  sells {name} at {price_in} in, {price_out} out, {} at once{state}", one["slots"])?;
    }
    if node["models"].as_array().is_some_and(|models| !models.is_empty()) {
        let (jobs, won, served) = (&node["jobs"], &totals["won"], &totals["served"]);
        writeln!(out, "  {jobs} jobs run; {won} won, {served} served, {} units owed in all", text(&totals["owed"]))?;
    }
    Ok(())
}
