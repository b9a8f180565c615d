//! What the run says: each combination of shift and size, the regrets, the claims.

use crate::cell::Cell;
use crate::goal::{Goal, goals};
use crate::plan::Plan;
use crate::regret::{Chooser, Regret, calibrate, calibrates, mean, regret};
use crate::shift::Shift;
use firebrick::select::corrected_interval;
use firebrick::transfer::advise::{QuadrantRule, RevisedRule, Tuning};
use serde::Serialize;
use std::collections::BTreeMap;

/// Test images over all others of a repetition: parts of one set of images overlap between repetitions, and this
/// is how much the Nadeau-Bengio correction widens intervals for it.
const OVERLAP: f64 = 0.25;
/// Level of all intervals.
pub(crate) const LEVEL: f64 = 0.9;

/// A mean over the repetitions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Mean {
    pub(crate) mean: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Mean {
    pub(crate) fn of(values: &[f64]) -> Self {
        let mean = mean(values);
        // With one repetition there is no interval: the mean stands for both ends.
        let (low, high) = corrected_interval(values, OVERLAP, LEVEL).unwrap_or((mean, mean));
        Self { mean, low, high }
    }
}

/// One shift at one size, over the repetitions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Combination {
    pub(crate) shift: Shift,
    pub(crate) per_class: usize,
    pub(crate) accuracy: BTreeMap<Tuning, Mean>,
    pub(crate) lift: f64,
    /// The best recipe in the mean.
    pub(crate) best: Tuning,
    /// The table's choice by the lift, the most frequent over the repetitions.
    pub(crate) table: Tuning,
    /// The adviser's without measuring.
    pub(crate) revised: Tuning,
    /// The adviser's with measuring.
    pub(crate) measured: Option<Tuning>,
    /// Best less table's, paired.
    pub(crate) table_behind: Mean,
    /// Mean regrets against the best recipe of each repetition.
    pub(crate) regrets: BTreeMap<String, f64>,
}

/// A difference that was declared before the run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Claim {
    pub(crate) text: String,
    pub(crate) difference: Mean,
    /// Repetitions with a difference above 0.
    pub(crate) above: usize,
    pub(crate) repetitions: usize,
}

/// The whole.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) plan: Plan,
    /// Accuracy of the source models on images of their own kind.
    pub(crate) source: BTreeMap<String, f64>,
    pub(crate) combinations: Vec<Combination>,
    /// The borders fixed on every other combination.
    pub(crate) table: QuadrantRule,
    pub(crate) revised: RevisedRule,
    /// Over the combinations that the borders were not fixed on, with those borders.
    pub(crate) held_out: Vec<Regret>,
    /// Over all combinations, with the borders of the library.
    pub(crate) all: Vec<Regret>,
    pub(crate) claims: Vec<Claim>,
    /// What the adviser is held to.
    pub(crate) goals: Vec<Goal>,
    /// Kendall's tau of each score with what the source is worth, over all cells of a size.
    pub(crate) scores: Vec<(String, Vec<(usize, f64)>)>,
    pub(crate) cells: Vec<Cell>,
}

impl Summary {
    pub(crate) fn new(plan: &Plan, cells: Vec<Cell>) -> Self {
        let (fixed, held): (Vec<&Cell>, Vec<&Cell>) =
            cells.iter().partition(|cell| calibrates(cell, &plan.sizes));
        let (table, revised) = calibrate(&fixed);
        let choosers = |table, revised| {
            let mut list =
                vec![Chooser::Measured, Chooser::Revised(revised), Chooser::Table(table)];
            list.push(Chooser::TableKnown);
            list.extend(Tuning::ALL.map(Chooser::Always));
            list
        };
        let over = |part: &[&Cell], choosers: Vec<Chooser>| -> Vec<Regret> {
            choosers.into_iter().filter_map(|c| Regret::of(c, part, &cells)).collect()
        };
        let everything: Vec<&Cell> = cells.iter().collect();
        let own = choosers(QuadrantRule::default(), RevisedRule::default());
        let (held_out, all) = (over(&held, choosers(table, revised)), over(&everything, own));
        let claims = claims(&cells);
        let mut source: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for cell in &cells {
            let name = if cell.shift == Shift::OtherDigits { "UCI digits" } else { "MNIST" };
            source.entry(name.into()).or_default().push(cell.source);
        }
        Self {
            plan: plan.clone(),
            source: source.iter().map(|(name, values)| (name.clone(), mean(values))).collect(),
            combinations: combinations(plan, &cells),
            goals: goals(&held_out, &all, &claims),
            held_out,
            all,
            table,
            revised,
            claims,
            scores: scores(plan, &cells),
            cells,
        }
    }
}

fn combinations(plan: &Plan, cells: &[Cell]) -> Vec<Combination> {
    let mut list = Vec::new();
    for &shift in &plan.shifts {
        for &per_class in &plan.sizes {
            let part: Vec<&Cell> = cells
                .iter()
                .filter(|cell| (cell.shift, cell.per_class) == (shift, per_class))
                .collect();
            let of = |tuning: Tuning| -> Vec<f64> {
                part.iter().map(|cell| cell.accuracy[&tuning]).collect()
            };
            let accuracy: BTreeMap<Tuning, Mean> =
                Tuning::ALL.iter().map(|&tuning| (tuning, Mean::of(&of(tuning)))).collect();
            let best = Tuning::ALL.into_iter().reduce(|best, next| {
                if accuracy[&next].mean > accuracy[&best].mean { next } else { best }
            });
            let best = best.unwrap_or(Tuning::LpFt);
            let most = |chooser: Chooser| frequent(part.iter().filter_map(|c| chooser.choose(c)));
            let table = Chooser::Table(QuadrantRule::default());
            let revised = Chooser::Revised(RevisedRule::default());
            let named = [table, revised, Chooser::Measured];
            let regrets = named.into_iter().filter_map(|chooser| {
                let values: Vec<f64> = part
                    .iter()
                    .filter_map(|cell| chooser.choose(cell).map(|choice| regret(cell, choice)))
                    .collect();
                (!values.is_empty()).then(|| (chooser.to_string(), mean(&values)))
            });
            let chosen = most(table).unwrap_or(Tuning::LpFt);
            let behind: Vec<f64> = of(best).iter().zip(of(chosen)).map(|(a, b)| a - b).collect();
            list.push(Combination {
                shift,
                per_class,
                lift: mean(&part.iter().map(|cell| cell.lift.value).collect::<Vec<_>>()),
                best,
                table: chosen,
                revised: most(revised).unwrap_or(Tuning::LpFt),
                measured: most(Chooser::Measured),
                table_behind: Mean::of(&behind),
                regrets: regrets.collect(),
                accuracy,
            });
        }
    }
    list
}

fn frequent(choices: impl Iterator<Item = Tuning>) -> Option<Tuning> {
    let mut counts: BTreeMap<Tuning, usize> = BTreeMap::new();
    choices.for_each(|choice| *counts.entry(choice).or_default() += 1);
    counts.into_iter().reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|c| c.0)
}

/// The differences to look at, declared before the run; those whose cells were not run are left out.
fn claims(cells: &[Cell]) -> Vec<Claim> {
    use Tuning::{Full, HeadOnly, LpFt, Scratch};
    [
        (Shift::Identity, 5, HeadOnly, Scratch),
        (Shift::Identity, 5, HeadOnly, Full),
        (Shift::Rotation20, 5, HeadOnly, Scratch),
        (Shift::Identity, 20, Full, Scratch),
        (Shift::Identity, 150, Full, HeadOnly),
        (Shift::Identity, 150, Full, Scratch),
        (Shift::Rotation45, 5, Tuning::FreezeFirst, Full),
        (Shift::Inversion, 5, LpFt, Tuning::FreezeFirst),
        (Shift::Inversion, 150, Scratch, Full),
        (Shift::Permutation, 150, Scratch, Full),
    ]
    .into_iter()
    .filter_map(|(shift, per_class, one, other)| {
        let part = cells.iter().filter(|cell| (cell.shift, cell.per_class) == (shift, per_class));
        let values: Vec<f64> =
            part.map(|cell| cell.accuracy[&one] - cell.accuracy[&other]).collect();
        (!values.is_empty()).then(|| Claim {
            text: format!("{shift}, {per_class} a class: {one} less {other}"),
            difference: Mean::of(&values),
            above: values.iter().filter(|value| **value > 0.0).count(),
            repetitions: values.len(),
        })
    })
    .collect()
}

/// Kendall's tau-b of each score with the gain of the best transfer over scratch, by size.
fn scores(plan: &Plan, cells: &[Cell]) -> Vec<(String, Vec<(usize, f64)>)> {
    let gain = |cell: &Cell| {
        let transfers = cell.accuracy.iter().filter(|(tuning, _)| **tuning != Tuning::Scratch);
        transfers.map(|(_, accuracy)| *accuracy).fold(f64::NEG_INFINITY, f64::max)
            - cell.accuracy[&Tuning::Scratch]
    };
    let names = cells.first().map_or_else(Vec::new, |cell| {
        let others = cell.scores.iter().map(|score| score.name.clone());
        ["lift".to_owned(), "ridge probe".to_owned()].into_iter().chain(others).collect()
    });
    let value = |cell: &Cell, name: &str| match name {
        "lift" => Some(cell.lift.value),
        "ridge probe" => Some(cell.probe),
        _ => cell.scores.iter().find(|score| score.name == name).and_then(|score| score.value),
    };
    names
        .into_iter()
        .map(|name| {
            let by_size = plan.sizes.iter().map(|&size| {
                let part = cells.iter().filter(|cell| cell.per_class == size);
                let pairs: Vec<(f64, f64)> =
                    part.filter_map(|cell| Some((value(cell, &name)?, gain(cell)))).collect();
                (size, kendall(&pairs))
            });
            let by_size = by_size.collect();
            (name, by_size)
        })
        .collect()
}

/// Kendall's tau-b; 0 where one side is constant.
fn kendall(pairs: &[(f64, f64)]) -> f64 {
    let (mut agree, mut left, mut right) = (0.0, 0.0, 0.0);
    for (at, a) in pairs.iter().enumerate() {
        for b in &pairs[..at] {
            let (x, y) = ((a.0 - b.0).total_cmp(&0.0) as i8, (a.1 - b.1).total_cmp(&0.0) as i8);
            let (x, y) = (if a.0 == b.0 { 0 } else { x }, if a.1 == b.1 { 0 } else { y });
            agree += f64::from(x * y);
            left += f64::from(x * x);
            right += f64::from(y * y);
        }
    }
    if left * right > 0.0 { agree / f64::sqrt(left * right) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kendall_s_tau_is_as_defined() {
        assert_eq!(kendall(&[(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]), 1.0);
        assert_eq!(kendall(&[(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)]), -1.0);
        assert_eq!(kendall(&[(1.0, 1.0), (2.0, 3.0), (3.0, 2.0)]), 1.0 / 3.0);
        // One tie on the left: 2 agreeing pairs over sqrt(2 * 3).
        let tied = kendall(&[(1.0, 1.0), (1.0, 2.0), (2.0, 3.0)]);
        assert!((tied - 2.0 / 6f64.sqrt()).abs() < 1e-15);
        assert_eq!(kendall(&[(1.0, 1.0), (1.0, 2.0)]), 0.0);
    }
}
