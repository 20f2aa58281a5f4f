//! Several models at once: each is what the settings say, with what its own table says instead.

use serde_json::Value;

use super::{
    Settings, leaves,
    parts::{Part, part_of},
};
use crate::{args::Goods, exit::Failed, names::did_you_mean};

const MODELS: &str = "models";

impl Settings {
    /// The settings of each model that is sold.
    ///
    /// # Errors
    /// What a table says cannot be.
    pub(crate) fn each(&self) -> Result<Vec<Settings>, Failed> {
        let tables = self.tree[MODELS].as_array().filter(|tables| !tables.is_empty());
        let Some(tables) = tables else { return Ok(vec![self.clone()]) };
        tables.iter().enumerate().map(|(at, table)| self.one(at, table)).collect()
    }

    fn one(&self, at: usize, table: &Value) -> Result<Settings, Failed> {
        let origin = self.origin(MODELS).to_owned();
        let mut one = self.clone();
        one.tree[MODELS] = Value::Array(Vec::new());
        for (key, value) in table.as_object().into_iter().flatten() {
            if !Settings::is_of_model(key) {
                let paths = leaves(&self.tree);
                let known = paths.iter().map(|(path, _)| path.as_str()).filter(|path| Settings::is_of_model(path));
                let known: Vec<&str> = known.collect();
                let hint = match did_you_mean(key, known.iter().copied()) {
                    hint if hint.is_empty() => format!("; it can have {}", known.join(", ")),
                    hint => hint,
                };
                let text = format!("{MODELS}[{at}].{key}: a model has no such setting{hint} ({origin})");
                return Err(Failed::config(text));
            }
            // A flag or a variable for all models stands above a file's table.
            let is_above = ["flag ", "environment "].iter().any(|layer| self.origin(key).starts_with(layer));
            if !is_above || origin.starts_with("flag ") {
                one.put(key, value.clone(), &format!("{MODELS}[{at}], {origin}"))?;
            }
        }
        Ok(one)
    }

    /// Puts what is sold, by flags. What a file says of that holds no more if they name a model.
    pub(crate) fn add_goods(&mut self, goods: &Goods) -> Result<(), Failed> {
        for given in &goods.common {
            self.put(given.key, given.value.clone(), &format!("flag {}", given.flag))?;
        }
        if goods.is_named() {
            let models: Vec<Value> = goods.models.iter().cloned().map(Value::from).collect();
            self.put(MODELS, models.into(), "flag --model")?;
        }
        Ok(())
    }

    /// Whether each of several models can have its own.
    pub(crate) fn is_of_model(key: &str) -> bool {
        key != MODELS && (key == "slots" || part_of(key) == Part::Sales)
    }
}
