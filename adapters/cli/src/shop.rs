//! The settings of a provider that runs: read at its start, and again when the operator says so.

use std::{
    fmt,
    io::{IsTerminal, Write, stdin},
};

use haggle::{Config, Node, Sale, core::money::Price};
use serde_json::{Value, json};

use crate::{
    args::{Global, Serve},
    exit::Failed,
    goods::Good,
    money::decimal,
    screen::Screen,
    settings::Settings,
};

/// What a provider was told, and where that comes from.
pub(crate) struct Shop<'a> {
    global: &'a Global,
    args: &'a Serve,
    settings: Settings,
    goods: Vec<Good>,
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
        let (settings, each) = read(global, args)?;
        let goods = each.iter().map(|one| Good::open(one, &[])).collect::<Result<_, _>>()?;
        Ok(Shop { global, args, settings, goods })
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn goods(&self) -> &[Good] {
        &self.goods
    }

    /// The node's configuration, with room for the jobs of all models.
    pub(crate) fn config(&self) -> Result<Config, Failed> {
        Ok(Config { slots: slots(&self.goods), ..self.settings.config()? })
    }

    /// Everything that is sold, for programs.
    pub(crate) fn described(&self) -> Vec<Value> {
        self.goods.iter().map(Good::to_json).collect()
    }

    pub(crate) fn sales(&self) -> Vec<Sale> {
        self.goods.iter().map(Good::sale).collect()
    }

    /// Reads the settings again and does what they say, as far as a node that runs can.
    ///
    /// # Errors
    /// Something in them cannot work. Nothing was changed.
    pub(crate) async fn reload(&mut self, node: &Node) -> Result<Change, Failed> {
        let (new, each) = read(self.global, self.args)?;
        // What is computed as before keeps its engine, and its jobs.
        let goods = each.iter().map(|one| Good::open(one, &self.goods)).collect::<Result<Vec<_>, _>>()?;
        node.sell(goods.iter().map(Good::sale).collect()).await?;
        node.set_slots(slots(&goods), new.config()?.queue).await?;
        self.goods = goods;
        let (now, later) = self.settings.changes(&new).into_iter().partition(|path| is_live(path));
        self.settings = new;
        Ok(Change { now, later })
    }
}

/// Reads every layer, and checks all that is in them.
fn read(global: &Global, args: &Serve) -> Result<(Settings, Vec<Settings>), Failed> {
    let mut settings = Settings::load(global, &args.node)?;
    settings.add_serve(args)?;
    settings.listen_by_default()?;
    settings.config()?;
    settings.running()?;
    let each = settings.each()?;
    for one in &each {
        let (_, price_in, price_out) = one.sales()?;
        for (key, price) in [("price_in", price_in), ("price_out", price_out)] {
            if let Some(warning) = check_price(key, price, args.yes, stdin().is_terminal())? {
                let _ = writeln!(Screen::Err, "haggle: {warning}");
            }
        }
    }
    Ok((settings, each))
}

/// A price that was perhaps meant in micro-units, as programs count them, is refused where somebody can be asked, and
/// doubted where a program may mean it.
fn check_price(key: &str, price: Price, is_meant: bool, can_ask: bool) -> Result<Option<String>, Failed> {
    const UNIT: Price = 1_000_000;
    if price <= 1_000 * UNIT || is_meant {
        return Ok(None);
    }
    let (units, perhaps) = (decimal(price), decimal(price / UNIT));
    let doubt = format!(
        "{key}: {units} units per 1,000,000 tokens is much; prices are in units, not in micro-units: if those were \
         meant, write {perhaps}"
    );
    match can_ask {
        true => Err(Failed::config(format!("{doubt}; if it is right, say --yes"))),
        false => Ok(Some(format!("{doubt}; it is sold at that price (--yes: do not say this)"))),
    }
}

/// Whether a setting can change while the node runs.
fn is_live(path: &str) -> bool {
    Settings::is_of_model(path) || matches!(path, "models" | "queue" | "status_every" | "drain")
}

/// Jobs of all models that are computed at once.
fn slots(goods: &[Good]) -> u32 {
    goods.iter().fold(0, |slots, good| slots.saturating_add(good.slots))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_in_micro_units_is_doubted_and_refused_where_somebody_can_be_asked() {
        const MUCH: Price = 500_000_000_000;
        let text = |can_ask| match check_price("price_out", MUCH, false, can_ask) {
            Ok(warning) => (0, warning.expect("a doubt")),
            Err(failed) => (failed.exit as u8, failed.message),
        };
        for (can_ask, exit) in [(true, 3), (false, 0)] {
            let (code, text) = text(can_ask);
            assert_eq!(code, exit, "{text}");
            assert!(
                ["price_out", "500000 units", "write 0.5", "--yes"].iter().all(|part| text.contains(part)),
                "{text}"
            );
        }
        for can_ask in [true, false] {
            assert!(check_price("price_out", MUCH, true, can_ask).is_ok_and(|doubt| doubt.is_none()));
            assert!(check_price("price_out", 1_000_000_000, false, can_ask).is_ok_and(|doubt| doubt.is_none()));
            assert!(check_price("price_out", 1_000_000_001, false, can_ask).map_or(true, |doubt| doubt.is_some()));
        }
    }
}
