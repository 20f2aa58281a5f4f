//! One model that is sold: its settings, and the engine that computes it.

use std::{io::Write, sync::Arc};

use haggle::{
    Sale,
    core::money::Price,
    engine::{Engine, upstream::Upstream},
};
use serde_json::{Value, json};

use crate::{
    exit::Failed,
    money::decimal,
    node,
    paced::Paced,
    screen::Screen,
    settings::{Sales, Settings},
    upstream,
};

/// A model that is sold.
#[derive(Clone)]
pub(crate) struct Good {
    /// As they were given.
    given: Sales,
    pub(crate) name: String,
    pub(crate) price_in: Price,
    pub(crate) price_out: Price,
    pub(crate) slots: u32,
    pub(crate) made: Made,
}

/// What computes a model.
#[derive(Clone)]
pub(crate) struct Made {
    engine: Arc<dyn Engine>,
    pub(crate) upstream: Option<Arc<Upstream>>,
    /// Whether it takes conversations.
    pub(crate) is_chat: bool,
}

impl Good {
    /// Makes a model ready to be sold. What is sold already and computed in the same way keeps its engine.
    pub(crate) fn open(settings: &Settings, before: &[Good]) -> Result<Self, Failed> {
        let (mut sales, price_in, price_out) = settings.sales()?;
        let given = sales.clone();
        let kept = before.iter().find(|good| good.given.computed() == given.computed());
        let made = match kept {
            Some(good) => good.made.clone(),
            None => Made::open(settings, &mut sales)?,
        };
        let name = if sales.model.is_empty() { made.engine.info().name.clone() } else { sales.model };
        let slots = match &made.upstream {
            Some(upstream) if settings.is_default("slots") => upstream.slots(),
            _ => settings.config()?.slots,
        };
        Ok(Good { given, name, price_in, price_out, slots, made })
    }

    pub(crate) fn aliases(&self) -> &[String] {
        &self.given.aliases
    }

    pub(crate) fn context(&self) -> u32 {
        self.made.engine.info().context
    }

    pub(crate) fn sale(&self) -> Sale {
        Sale {
            aliases: self.given.aliases.clone(),
            price_in: self.price_in,
            price_out: self.price_out,
            floor_permille: self.given.floor_permille,
            ..Sale::new(self.made.engine.clone())
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "model": self.name, "aliases": self.aliases(), "price_in": decimal(self.price_in),
            "price_out": decimal(self.price_out), "context": self.context(), "slots": self.slots,
            "upstream": self.made.upstream.as_deref().map(upstream::described),
        })
    }
}

impl Made {
    fn open(settings: &Settings, sales: &mut Sales) -> Result<Self, Failed> {
        let upstream = upstream::open(settings, sales)?;
        let (engine, is_chat): (Arc<dyn Engine>, bool) = if let Some(upstream) = &upstream {
            (upstream.clone(), true)
        } else if sales.model_file.is_empty() {
            (node::engine(&sales.model, sales.context)?, false)
        } else {
            let llama = node::model_file(sales)?;
            let is_chat = llama.is_chat();
            (Arc::new(llama), is_chat)
        };
        let most = engine.info().context;
        if sales.context > most {
            let cut = format!(
                "haggle: --context {}: the model takes {most} tokens at most, and is sold with these",
                sales.context
            );
            let _ = writeln!(Screen::Err, "{cut}");
        }
        let engine = Paced::limit(engine, sales.tokens_per_second);
        Ok(Made { engine, upstream, is_chat })
    }
}
