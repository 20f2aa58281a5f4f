//! Shows the settings in effect.

use std::io::Write;

use serde_json::{Map, Value, json};

use crate::{
    args::{Global, NodeArgs},
    exit::{Exit, Failed},
    screen::{Screen, print_json},
    settings::Settings,
};

pub(crate) fn run(global: &Global, args: &NodeArgs) -> Result<Exit, Failed> {
    let settings = Settings::load(global, args)?;
    settings.config()?;
    settings.sales()?;
    let all = settings.all();
    if global.json {
        let entry = |(path, value, origin)| (path, json!({"value": value, "origin": origin}));
        let all: Map<String, Value> = all.into_iter().map(entry).collect();
        print_json(&json!({"settings": all, "data_dir": settings.data_dir().ok()}))?;
        return Ok(Exit::Done);
    }
    let mut out = Screen::Out;
    match settings.data_dir() {
        Ok(folder) => writeln!(out, "# data folder: {}", folder.display())?,
        Err(unknown) => writeln!(out, "# {}", unknown.message)?,
    }
    // Each line is TOML as it is: dotted keys, and JSON's strings and lists are TOML's.
    for (path, value, origin) in all {
        writeln!(out, "{:<60} # {origin}", format!("{path} = {value}"))?;
    }
    Ok(Exit::Done)
}
