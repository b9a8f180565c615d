//! What a measurement found.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A mean difference over the folds with its corrected interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// Mean over the folds that both were scored on.
    pub mean: f64,
    /// Lower end; none for one fold.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
    /// Folds.
    pub folds: usize,
}

/// How a contender did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Entry {
    /// The contender.
    pub name: String,
    /// Its score by fold; shorter where it was dropped.
    pub scores: Vec<f64>,
    /// The rate it chose in each.
    pub rates: Vec<f64>,
    /// Mean score.
    pub mean: f64,
    /// Nadeau-Bengio interval of the mean; none for one fold.
    pub interval: Option<(f64, f64)>,
    /// Its score less that of the rule's choice.
    pub to_expected: Option<Paired>,
    /// Its score less that of the contender with the largest mean.
    pub to_best: Paired,
    /// Whether it was dropped before the last fold.
    pub dropped: bool,
    /// Whether it chose the smallest or largest of three or more rates in most folds: the grid may be too narrow.
    pub at_edge: bool,
}

/// The result of a measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Measurement {
    /// In the order of the contenders.
    pub entries: Vec<Entry>,
    /// Number of the one with the largest mean.
    pub best: usize,
    /// Number of the one to take.
    pub choice: usize,
    /// Whether the interval of its difference to the runner-up covers 0.
    pub tie: bool,
    /// What the rule's choice would have lost against this one, as measured; optimistic for the winner.
    pub regret_of_expected: Option<f64>,
    /// Trainings done.
    pub fits: usize,
    /// Why, in words.
    pub reason: String,
}

impl Measurement {
    /// Name of the one to take.
    #[must_use]
    pub fn chosen(&self) -> &str {
        &self.entries[self.choice].name
    }
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "take {}: {}", self.chosen(), self.reason)?;
        for entry in &self.entries {
            let interval =
                entry.interval.map_or(String::new(), |(a, b)| format!(" [{a:.3}, {b:.3}]"));
            let dropped = if entry.dropped { ", dropped" } else { "" };
            let (mean, best) = (entry.mean, entry.to_best.mean);
            writeln!(
                f,
                "  {:<18} {mean:.3}{interval}, {best:+.3} to the best{dropped}",
                entry.name
            )?;
        }
        Ok(())
    }
}
