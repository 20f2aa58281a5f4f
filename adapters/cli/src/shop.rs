//! The settings of a provider that runs: read at its start, and again when the operator says so.

use std::fmt;

use haggle::Node;
use serde_json::{Value, json};

use crate::{
    args::{Global, Serve},
    exit::Failed,
    settings::Settings,
};

/// What a provider was told, and where that comes from.
pub(crate) struct Shop<'a> {
    global: &'a Global,
    args: &'a Serve,
    settings: Settings,
}

/// What a second reading has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// Settings that hold from now on.
    now: Vec<String>,
    /// Settings that hold after a restart.
    later: Vec<String>,
}

impl<'a> Shop<'a> {
    pub(crate) fn open(global: &'a Global, args: &'a Serve) -> Result<Self, Failed> {
        Ok(Shop { global, args, settings: read(global, args)? })
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Reads the settings again and does what they say, as far as a node that runs can.
    ///
    /// # Errors
    /// Something in them cannot work. Nothing was changed.
    pub(crate) async fn reload(&mut self, _node: &Node) -> Result<Change, Failed> {
        let new = read(self.global, self.args)?;
        let (now, later) = self.settings.changes(&new).into_iter().partition(|path| is_live(path));
        self.settings = new;
        Ok(Change { now, later })
    }
}

/// Reads every layer, and checks all that is in them.
fn read(global: &Global, args: &Serve) -> Result<Settings, Failed> {
    let mut settings = Settings::load(global, &args.node)?;
    settings.add_serve(args)?;
    settings.listen_by_default()?;
    settings.config()?;
    settings.sales()?;
    settings.running()?;
    Ok(settings)
}

/// Whether a setting can change while the node runs.
fn is_live(path: &str) -> bool {
    matches!(path, "status_every" | "drain")
}

impl Change {
    pub(crate) fn to_json(&self) -> Value {
        json!({"changed": self.now, "after_a_restart": self.later})
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.now.as_slice() {
            [] => f.write_str("nothing is different")?,
            now => write!(f, "changed: {}", now.join(", "))?,
        }
        match self.later.as_slice() {
            [] => Ok(()),
            later => write!(f, "; only a restart changes {}", later.join(", ")),
        }
    }
}
