//! Who would have chosen what, and what it would have cost.

use crate::cell::Cell;
use crate::shift::Shift;
use firebrick::transfer::advise::{QuadrantRule, RevisedRule, Tuning};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// Whoever chooses a recipe for a cell.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Chooser {
    /// The survey's table, told which shifts are similar.
    TableKnown,
    /// The survey's table, with the lift's border.
    Table(QuadrantRule),
    /// The same recipe always.
    Always(Tuning),
    /// The adviser where it may not measure.
    Revised(RevisedRule),
    /// The measurement.
    Measured,
}

impl Chooser {
    /// Its choice; none where it was not run.
    pub(crate) fn choose(self, cell: &Cell) -> Option<Tuning> {
        let per_class = cell.per_class as f64;
        match self {
            Self::TableKnown => {
                let lift = if known_similar(cell.shift) { 1.0 } else { -1.0 };
                Some(QuadrantRule::default().choose(per_class, lift))
            }
            Self::Table(rule) => Some(rule.choose(per_class, cell.lift.value)),
            Self::Always(tuning) => Some(tuning),
            Self::Revised(rule) => Some(rule.choose(per_class, cell.lift.value)),
            Self::Measured => cell.measured.as_ref().map(|choice| choice.tuning),
        }
    }
}

impl fmt::Display for Chooser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&match self {
            Self::TableKnown => "table, similarity known".to_owned(),
            Self::Table(_) => "table, similarity by lift".to_owned(),
            Self::Always(tuning) => format!("always {tuning}"),
            Self::Revised(_) => "adviser, not measuring".to_owned(),
            Self::Measured => "adviser, measuring".to_owned(),
        })
    }
}

/// What a person would call similar to upright MNIST digits.
pub(crate) fn known_similar(shift: Shift) -> bool {
    matches!(shift, Shift::Identity | Shift::Rotation20 | Shift::OtherDigits)
}

/// What a choice lost against the best recipe on the same test images, in shares.
pub(crate) fn regret(cell: &Cell, choice: Tuning) -> f64 {
    let best = cell.accuracy.values().copied().fold(f64::NEG_INFINITY, f64::max);
    best - cell.accuracy[&choice]
}

/// The recipe that is best in the mean over the other repetitions of the same shift and size: choosing the best on
/// the very images one is judged on counts luck as skill, this does not.
pub(crate) fn best_elsewhere(cells: &[Cell], cell: &Cell) -> Option<Tuning> {
    let others = cells.iter().filter(|other| {
        (other.shift, other.per_class) == (cell.shift, cell.per_class)
            && other.repetition != cell.repetition
    });
    let mut sums = BTreeMap::new();
    for other in others {
        for (tuning, accuracy) in &other.accuracy {
            *sums.entry(*tuning).or_insert(0.0) += accuracy;
        }
    }
    let best = sums.iter().reduce(|best, next| if next.1 > best.1 { next } else { best });
    best.map(|(tuning, _)| *tuning)
}

/// The regrets of a chooser over some cells.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Regret {
    pub(crate) name: String,
    pub(crate) cells: usize,
    pub(crate) mean: f64,
    /// Against the recipe that is best in the other repetitions.
    pub(crate) without_luck: f64,
    pub(crate) ninety: f64,
    pub(crate) worst: f64,
    /// Mean by size.
    pub(crate) by_size: BTreeMap<usize, f64>,
}

impl Regret {
    /// Over `part`; `all` holds the other repetitions. None where the chooser was not run.
    pub(crate) fn of(chooser: Chooser, part: &[&Cell], all: &[Cell]) -> Option<Self> {
        let mut values = Vec::new();
        let mut fair = Vec::new();
        let mut sizes: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for cell in part {
            let Some(choice) = chooser.choose(cell) else { continue };
            let value = regret(cell, choice);
            values.push(value);
            sizes.entry(cell.per_class).or_default().push(value);
            if let Some(best) = best_elsewhere(all, cell) {
                fair.push(cell.accuracy[&best] - cell.accuracy[&choice]);
            }
        }
        if values.is_empty() {
            return None;
        }
        values.sort_unstable_by(f64::total_cmp);
        Some(Self {
            name: chooser.to_string(),
            cells: values.len(),
            mean: mean(&values),
            without_luck: mean(&fair),
            ninety: values[((values.len() - 1) as f64 * 0.9).round() as usize],
            worst: values[values.len() - 1],
            by_size: sizes.iter().map(|(size, values)| (*size, mean(values))).collect(),
        })
    }
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Whether a combination of shift and size is one of those that the borders are fixed on: every other one, as on a
/// chess board.
pub(crate) fn calibrates(cell: &Cell, sizes: &[usize]) -> bool {
    let shift = Shift::ALL.iter().position(|shift| *shift == cell.shift).unwrap_or(0);
    let size = sizes.iter().position(|size| *size == cell.per_class).unwrap_or(0);
    (shift + size).is_multiple_of(2)
}

/// The borders with the smallest mean regret over `cells`; the first in the order of the grid among equals.
pub(crate) fn calibrate(cells: &[&Cell]) -> (QuadrantRule, RevisedRule) {
    let total = |chooser: Chooser| -> f64 {
        cells.iter().filter_map(|cell| chooser.choose(cell).map(|c| regret(cell, c))).sum()
    };
    let least = |choosers: Vec<Chooser>| {
        let scored = choosers.into_iter().map(|chooser| (total(chooser), chooser));
        scored.reduce(|best, next| if next.0 < best.0 - 1e-9 { next } else { best })
    };
    let borders = || (0..15).map(|i| f64::from(i) * 0.05);
    let base = QuadrantRule::default();
    let tables =
        borders().map(|similar_above| Chooser::Table(QuadrantRule { similar_above, ..base }));
    let mut rules = Vec::new();
    for otherwise in [Tuning::LpFt, Tuning::Full, Tuning::FreezeFirst] {
        for head_above in (2..=16).map(|i| f64::from(i) * 0.05) {
            for scratch_below in (0..8).map(|i| f64::from(i) * 0.05) {
                let base = RevisedRule::default();
                let rule = RevisedRule { head_above, scratch_below, otherwise, ..base };
                rules.push(Chooser::Revised(rule));
            }
        }
    }
    let table = match least(tables.collect()) {
        Some((_, Chooser::Table(rule))) => rule,
        _ => base,
    };
    let revised = match least(rules) {
        Some((_, Chooser::Revised(rule))) => rule,
        _ => RevisedRule::default(),
    };
    (table, revised)
}
