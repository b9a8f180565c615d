//! The constants of the adviser: calibration, not theory.

use crate::advise::{QuadrantRule, RevisedRule};
use firebrick_core::{ConfigError, Seed, check};
use serde::{Deserialize, Serialize};

/// Configuration of [`Adviser`](crate::advise::Adviser).
///
/// The borders come from measurements on digits (`cargo run --bin transfer`); they are printed with the advice.
///
/// | field | default | range |
/// | --- | --- | --- |
/// | `few_per_class` | 20 | above 0, below `many_per_class` |
/// | `many_per_class` | 150 | above `few_per_class` |
/// | `similar_above` | 0.25 | finite, not below `different_below` |
/// | `different_below` | 0.2 | finite |
/// | `least_per_class` | 5 | at least 2 |
/// | `level` | 0.9 | in (0, 1) |
/// | `resamples` | 1000 | at least 100 |
/// | `neighbours` | 5 | at least 1 |
/// | `overturn` | 1 | not negative |
/// | `seed` | 0 | |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdviserConfig {
    /// Samples per class up to which they are few.
    pub few_per_class: f64,
    /// Samples per class from which they are many.
    pub many_per_class: f64,
    /// The data are similar if the interval of the lift lies above.
    pub similar_above: f64,
    /// The data are not similar if the interval of the lift lies below.
    pub different_below: f64,
    /// With fewer samples per class nothing is said about similarity.
    pub least_per_class: f64,
    /// Level of all intervals.
    pub level: f64,
    /// Bootstrap resamples.
    pub resamples: usize,
    /// Neighbours of the second probe.
    pub neighbours: usize,
    /// By how many standard errors of a share on the labelled samples a measurement has to see another recipe ahead of
    /// the revised rule's, for [`Adviser::choose`](crate::advise::Adviser::choose) to take it.
    pub overturn: f64,
    /// Seed of the bootstrap and of the scores that draw.
    pub seed: Seed,
    /// The rule for a first answer.
    pub revised: RevisedRule,
}

impl Default for AdviserConfig {
    fn default() -> Self {
        Self {
            few_per_class: 20.0,
            many_per_class: 150.0,
            similar_above: 0.25,
            different_below: 0.2,
            least_per_class: 5.0,
            level: 0.9,
            resamples: 1000,
            neighbours: 5,
            overturn: 1.0,
            seed: Seed(0),
            revised: RevisedRule::default(),
        }
    }
}

impl AdviserConfig {
    /// The survey's table with the borders of this configuration.
    #[must_use]
    pub fn quadrant(&self) -> QuadrantRule {
        QuadrantRule { few_per_class: self.few_per_class, similar_above: self.similar_above }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        check::positive("few_per_class", self.few_per_class)?;
        check::finite("many_per_class", self.many_per_class)?;
        if self.many_per_class <= self.few_per_class {
            let expected = format!("above few_per_class {}", self.few_per_class);
            return Err(ConfigError::new("many_per_class", self.many_per_class, expected));
        }
        check::finite("different_below", self.different_below)?;
        check::range("similar_above", self.similar_above, self.different_below..)?;
        check::range("least_per_class", self.least_per_class, 2.0..)?;
        if !(self.level > 0.0 && self.level < 1.0) {
            return Err(ConfigError::new("level", self.level, "in (0, 1)"));
        }
        check::at_least("resamples", self.resamples, 100)?;
        check::at_least("neighbours", self.neighbours, 1)?;
        check::non_negative("overturn", self.overturn)?;
        Ok(())
    }
}
