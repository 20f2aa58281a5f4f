//! How a plan is written down: as TOML.

use std::fmt;

use super::Plan;

/// A plan that can not be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlanError(pub(super) String);

impl PlanError {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PlanError {}

impl Plan {
    /// Reads a plan; what is not said is as in the default of each part.
    ///
    /// # Errors
    /// What can not be read or run, with its place.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        let plan: Self = toml::from_str(text).map_err(|error| PlanError(error.to_string()))?;
        plan.check()?;
        Ok(plan)
    }

    /// The plan as TOML, complete: [`Plan::parse`] gives an equal one, whatever a generator draws by then.
    ///
    /// # Panics
    /// Never: every plan can be written.
    #[must_use]
    pub fn to_text(&self) -> String {
        match toml::to_string(self) {
            Ok(text) => text,
            Err(error) => unreachable!("every plan can be written: {error}"),
        }
    }
}
