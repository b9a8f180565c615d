//! Everything that a run came to, in the form of the JSON file.

use crate::recipe::{Kind, PLAIN, Recipe};
use crate::run::{FOLDS, Request, Setting};
use firebrick::select::{CandidateReport, Report, SelectError, Spread, corrected_interval};
use firebrick_examples::failure::Failure;
use serde::Serialize;

/// Level of every interval.
const LEVEL: f64 = 0.95;

/// A mean over the folds with its 95 % interval.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Estimate {
    pub(crate) mean: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// One number a fold.
    pub(crate) values: Vec<f64>,
}

impl Estimate {
    fn of(values: Vec<f64>, ratio: f64, level: f64) -> Result<Self, SelectError> {
        let (low, high) = corrected_interval(&values, ratio, level)?;
        let mean = Spread::of(values.clone())?.mean;
        Ok(Self { mean, low, high, values })
    }
}

/// One recipe with one number of labels.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Cell {
    pub(crate) labels: usize,
    /// Error on the test rows.
    pub(crate) error: Estimate,
    /// Error on the labelled rows.
    pub(crate) train_error: f64,
    /// Error less that of plain training, fold by fold.
    pub(crate) over_plain: Option<Estimate>,
    /// Error less that of the recipe it is compared with, where that is another one.
    pub(crate) over_against: Option<Estimate>,
    /// Labelled rows that were augmented over a training; a method for unlabelled rows has as many as its baseline.
    pub(crate) augmented: f64,
    /// Share of the unlabelled rows whose prediction counts as a label at the end.
    pub(crate) kept_share: Option<f64>,
    /// Share of those that are right.
    pub(crate) pseudo_accuracy: Option<f64>,
    /// Share of those in the largest class; one class taking all is collapse.
    pub(crate) largest_share: Option<f64>,
}

/// One recipe.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    /// Whether it needs no other data and no other network than plain training.
    pub(crate) regularizer: bool,
    pub(crate) description: String,
    pub(crate) against: &'static str,
    /// In the order of the numbers of labels.
    pub(crate) cells: Vec<Cell>,
}

/// The recipe with the smallest error of the first fold, averaged over the numbers of labels; those with other labelled
/// rows than plain training are no candidates.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Best {
    pub(crate) name: String,
    /// Error less that of plain training with the fewest labels, on the other folds: those have no part in the choice, so
    /// that the interval need not pay for it.
    pub(crate) gain: Estimate,
    /// How much better than plain training it is at least.
    pub(crate) margin: f64,
}

/// A whole run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    pub(crate) format: u32,
    pub(crate) seed: u64,
    pub(crate) backend: String,
    pub(crate) steps: usize,
    /// How often rows were given labels in a fold.
    pub(crate) draws: usize,
    pub(crate) folds: usize,
    pub(crate) labels: Vec<usize>,
    /// Weights and biases of the network.
    pub(crate) parameters: usize,
    /// Test and training rows of a fold.
    pub(crate) test_rows: usize,
    pub(crate) pool_rows: usize,
    pub(crate) rows: Vec<Row>,
    pub(crate) best: Best,
    pub(crate) seconds: f64,
}

impl Summary {
    pub(crate) fn of(
        request: &Request,
        recipes: &[Recipe],
        settings: &[Setting],
        report: &Report,
        parameters: usize,
        classes: usize,
    ) -> Result<Self, Failure> {
        let (pool_rows, test_rows) = report.sizes.first().copied().unwrap_or_default();
        let ratio = |labels: usize| correlation_ratio(labels * classes, pool_rows);
        let errors = |name: &str, labels: usize| -> Option<Vec<f64>> {
            let at = settings.iter().position(|s| s.recipe.name == name && s.labels == labels)?;
            values(&report.candidates[at], |score| Some(score.validation_error))
        };
        let cell = |recipe: &Recipe, labels: usize| -> Result<Cell, Failure> {
            let at = settings
                .iter()
                .position(|s| s.recipe.name == recipe.name && s.labels == labels)
                .ok_or_else(|| Failure::run("a setting is missing"))?;
            let candidate = &report.candidates[at];
            let own = errors(recipe.name, labels).ok_or_else(|| {
                let why = candidate.disqualified.clone().unwrap_or_default();
                Failure::run(format_args!("{} cannot be trained: {why}", candidate.name))
            })?;
            let over = |other: &str| -> Result<Option<Estimate>, Failure> {
                if other == recipe.name {
                    return Ok(None);
                }
                let Some(other) = errors(other, labels) else { return Ok(None) };
                let differences = own.iter().zip(other).map(|(own, other)| own - other);
                Ok(Some(Estimate::of(differences.collect(), ratio(labels), LEVEL)?))
            };
            let mean = |values: Option<Vec<f64>>| {
                values.map(|values| values.iter().sum::<f64>() / values.len() as f64)
            };
            let noted = |name: &str| {
                let fold = |score: &firebrick::select::FoldScore| {
                    let series = score.history.series(name);
                    (!series.is_empty()).then(|| series.iter().sum::<f64>() / series.len() as f64)
                };
                mean(values(candidate, fold))
            };
            Ok(Cell {
                labels,
                error: Estimate::of(own.clone(), ratio(labels), LEVEL)?,
                train_error: mean(values(candidate, |score| Some(score.train_error)))
                    .unwrap_or(f64::NAN),
                over_plain: over(PLAIN)?,
                over_against: if recipe.against == PLAIN { None } else { over(recipe.against)? },
                augmented: noted("augmented").unwrap_or(0.0),
                kept_share: noted("kept_share"),
                pseudo_accuracy: noted("pseudo_accuracy"),
                largest_share: noted("largest_share"),
            })
        };
        let rows = recipes
            .iter()
            .map(|recipe| {
                let cells = request.labels.iter().map(|&labels| cell(recipe, labels));
                Ok(Row {
                    name: recipe.name.to_owned(),
                    kind: recipe.kind.name(),
                    regularizer: recipe.kind.regularizes(),
                    description: recipe.description(),
                    against: recipe.against,
                    cells: cells.collect::<Result<_, Failure>>()?,
                })
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        Ok(Self {
            format: 1,
            seed: request.seed,
            backend: request.backend.to_string(),
            steps: request.steps,
            draws: request.draws,
            folds: FOLDS,
            labels: request.labels.clone(),
            parameters,
            test_rows,
            pool_rows,
            best: best(&rows, ratio(request.labels.first().copied().unwrap_or(1)))?,
            rows,
            seconds: 0.0,
        })
    }

    pub(crate) fn with_seconds(self, seconds: f64) -> Self {
        Self { seconds, ..self }
    }

    pub(crate) fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }
}

/// `rho / (1 - rho)`, which Nadeau and Bengio add to `1 / folds` for the correlation `rho` of two folds. Test rows are
/// disjoint, so what correlates folds is the labelled rows that they share: on average this part of them.
fn correlation_ratio(labelled: usize, pool: usize) -> f64 {
    let rho = (labelled as f64 / pool.max(1) as f64).clamp(1e-6, 0.9);
    rho / (1.0 - rho)
}

/// A number of each fold; none where one lacks it.
fn values(
    candidate: &CandidateReport,
    of: impl Fn(&firebrick::select::FoldScore) -> Option<f64>,
) -> Option<Vec<f64>> {
    candidate.folds.iter().map(|fold| fold.outcome.score().and_then(&of)).collect()
}

/// Chosen on the first fold among all that have the labelled rows of plain training, judged on the others.
fn best(rows: &[Row], ratio: f64) -> Result<Best, Failure> {
    let first = |row: &Row| {
        let error = |cell: &Cell| cell.error.values.first().copied().unwrap_or(f64::NAN);
        row.cells.iter().map(error).sum::<f64>()
    };
    let best = rows
        .iter()
        .filter(|row| row.name != PLAIN && row.kind != Kind::Skewed.name())
        .min_by(|a, b| first(a).total_cmp(&first(b)))
        .ok_or_else(|| Failure::run("there is no recipe but the plain one"))?;
    let gain = best
        .cells
        .first()
        .and_then(|cell| cell.over_plain.as_ref())
        .ok_or_else(|| Failure::run("the plain recipe is missing"))?;
    let gain = Estimate::of(gain.values.iter().skip(1).copied().collect(), ratio, LEVEL)?;
    Ok(Best { name: best.name.clone(), margin: -gain.high, gain })
}
