//! What the adviser says.

use crate::advise::{Cell, Tuning};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How many samples there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Size {
    /// Few.
    Few,
    /// Between, or the learning curve still rises.
    Unclear,
    /// Many.
    Many,
}

/// How similar the data are to those of the source, as far as the task goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Similarity {
    /// Similar: the source features help.
    Similar,
    /// The interval covers a border, or there is too little to tell.
    Unclear,
    /// Not similar: the source features help little or hurt.
    Different,
}

/// An estimate with its bootstrap interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The estimate.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} [{:.3}, {:.3}]", self.value, self.low, self.high)
    }
}

/// A score by its name, or why it has no value here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Named {
    /// The score.
    pub name: String,
    /// Its value.
    pub value: Option<f64>,
    /// Why there is none.
    pub problem: Option<String>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// Use this.
    Recipe(Tuning),
    /// Not sure enough: measure these, the cheaper first.
    Measure(Vec<Tuning>),
}

/// The adviser's findings and its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Advice {
    /// Few or many.
    pub size: Size,
    /// Samples.
    pub samples: usize,
    /// Classes of the head.
    pub classes: usize,
    /// Samples per class.
    pub per_class: f64,
    /// Samples of the rarest class.
    pub rarest: usize,
    /// For each recipe its trainable parameters and the samples per trainable parameter.
    pub ratios: Vec<(Tuning, usize, f64)>,
    /// Similar or not.
    pub similarity: Similarity,
    /// Leave-one-out accuracy of the ridge probe on the source features.
    pub probe: Interval,
    /// The same on the raw inputs.
    pub raw: Option<Interval>,
    /// The same on the features of a fresh copy.
    pub fresh: Option<Interval>,
    /// `(probe - best baseline) / (1 - best baseline)`: the share of the baseline's errors that the source features
    /// take away; below 0 where they destroy information.
    pub lift: Option<Interval>,
    /// The same by nearest neighbours.
    pub neighbour_lift: Option<f64>,
    /// Share of constant features.
    pub dead: f64,
    /// Other scores, for the record: they do not enter.
    pub scores: Vec<Named>,
    /// The survey's cell, by the estimates; none without a baseline to tell the similarity by.
    pub cell: Option<Cell>,
    /// How sure the cell is: the share of bootstrap resamples that fall into it, 0 where the size is unclear.
    pub confidence: f64,
    /// What the survey's table says, by the estimates.
    pub survey: Option<Tuning>,
    /// What the revised rule says, by the estimates: the answer for those who cannot measure.
    pub revised: Tuning,
    /// The answer.
    pub verdict: Verdict,
    /// Why, in words with the numbers.
    pub reasons: Vec<String>,
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.verdict {
            Verdict::Recipe(tuning) => writeln!(f, "advice: {tuning}")?,
            Verdict::Measure(list) => {
                let list: Vec<String> = list.iter().map(Tuning::to_string).collect();
                writeln!(f, "advice: measure {}", list.join("; "))?;
            }
        }
        match self.cell {
            Some(cell) => {
                writeln!(f, "cell: {cell} (confidence {:.2})", self.confidence)?;
                writeln!(f, "the table says: {}", cell.survey())?;
            }
            None => writeln!(f, "cell: cannot be told without a baseline")?,
        }
        writeln!(f, "without measuring: {}", self.revised)?;
        for reason in &self.reasons {
            writeln!(f, "- {reason}")?;
        }
        for score in &self.scores {
            match (score.value, &score.problem) {
                (Some(value), _) => writeln!(f, "  {:<24} {value:.4}", score.name)?,
                (None, problem) => {
                    writeln!(f, "  {:<24} {}", score.name, problem.as_deref().unwrap_or("none"))?;
                }
            }
        }
        Ok(())
    }
}
