//! Who is measured, and how.

use crate::advise::AdviseError;
use firebrick_core::{ConfigError, Seed, check};
use serde::{Deserialize, Serialize};

/// When the cheaper of two counts as being as good.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tie {
    /// When its mean is at most this much lower, 0.01 being what most people call equal.
    Margin(f64),
    /// When the interval of the difference covers 0. Costs accuracy where there is little data: there it covers 0
    /// for nearly everything.
    Interval,
}

/// Configuration of [`Measured`](crate::advise::Measured).
///
/// | field | default | range |
/// | --- | --- | --- |
/// | `folds` | 5 | at least 2; cut to the samples of the rarest class |
/// | `repeats` | 1 | at least 1 |
/// | `inner_folds` | 2 | at least 2; for the choice of the rate |
/// | `tie` | margin 0.01 | not negative |
/// | `level` | 0.9 | in (0, 1) |
/// | `race` | none | above 0 |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeasureConfig {
    /// Stratified folds of the labelled data.
    pub folds: usize,
    /// How often, with other folds.
    pub repeats: usize,
    /// Folds inside a training part, by which a contender with several rates chooses among them.
    pub inner_folds: usize,
    /// When a cheaper contender is preferred.
    pub tie: Tie,
    /// Level of the intervals.
    pub level: f64,
    /// From the second fold on, a contender is dropped that is so many standard errors of a share behind the best.
    pub race: Option<f64>,
}

impl Default for MeasureConfig {
    fn default() -> Self {
        Self {
            folds: 5,
            repeats: 1,
            inner_folds: 2,
            tie: Tie::Margin(0.01),
            level: 0.9,
            race: None,
        }
    }
}

impl MeasureConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        check::at_least("folds", self.folds, 2)?;
        check::at_least("repeats", self.repeats, 1)?;
        check::at_least("inner_folds", self.inner_folds, 2)?;
        if let Tie::Margin(margin) = self.tie {
            check::non_negative("tie.margin", margin)?;
        }
        if !(self.level > 0.0 && self.level < 1.0) {
            return Err(ConfigError::new("level", self.level, "in (0, 1)"));
        }
        if let Some(race) = self.race {
            check::positive("race", race)?;
        }
        Ok(())
    }
}

/// A recipe on the short list.
#[derive(Debug, Clone, PartialEq)]
pub struct Contender<R> {
    /// Its name, unique.
    pub name: String,
    /// What the training needs to know.
    pub recipe: R,
    /// Trainable parameters: cost comes first by these.
    pub parameters: usize,
    /// Steps: then by these.
    pub steps: usize,
    /// Its own learning rates, at least one; three or more for an honest comparison, unless they were tuned on other
    /// data before.
    pub rates: Vec<f64>,
}

/// One training to be done and scored.
#[derive(Debug)]
pub struct Trial<'a, R> {
    /// Who.
    pub contender: &'a Contender<R>,
    /// The learning rate.
    pub rate: f64,
    /// Rows to train on.
    pub train: &'a [u32],
    /// Rows to score on.
    pub held: &'a [u32],
    /// The same for all contenders on these rows.
    pub seed: Seed,
    /// Number of the outer fold, from 0.
    pub fold: usize,
}

/// The place of `expected` among the contenders.
pub(super) fn check_contenders<R>(
    contenders: &[Contender<R>],
    expected: Option<&str>,
) -> Result<Option<usize>, AdviseError> {
    check::at_least("contenders", contenders.len(), 1)?;
    for (index, contender) in contenders.iter().enumerate() {
        let field = |name: &str| format!("contenders[{index}].{name}");
        if contenders[..index].iter().any(|other| other.name == contender.name) {
            return Err(ConfigError::new(field("name"), &contender.name, "unique").into());
        }
        check::at_least(&field("rates"), contender.rates.len(), 1)?;
        for (at, rate) in contender.rates.iter().enumerate() {
            check::positive(&format!("contenders[{index}].rates[{at}]"), *rate)?;
        }
    }
    let Some(expected) = expected else { return Ok(None) };
    let at = contenders.iter().position(|contender| contender.name == expected);
    match at {
        Some(at) => Ok(Some(at)),
        None => {
            let names: Vec<&str> = contenders.iter().map(|c| c.name.as_str()).collect();
            let expected_one = format!("one of {}", names.join(", "));
            Err(ConfigError::new("expected", expected, expected_one).into())
        }
    }
}
