//! Everything that a run found out, as it is printed, written as JSON and drawn in the report.

use firebrick::core::History;
use firebrick::diagnose::Finding;
use firebrick::select::Spread;
use serde::Serialize;

/// The result of a run. Two runs with the same seed on the same back-end differ in `seconds` alone.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    /// Version of this form.
    pub(crate) format: u32,
    pub(crate) seed: u64,
    /// Name of the back-end, as on the command line.
    pub(crate) backend: String,
    /// Most epochs a training had, the horizon of the schedule.
    pub(crate) epochs: usize,
    pub(crate) data: DataSummary,
    /// In the order in which they are listed, simplest first.
    pub(crate) candidates: Vec<CandidateSummary>,
    /// Name of the chosen candidate.
    pub(crate) chosen: String,
    /// The rule of choice and why it chose so, in words.
    pub(crate) reason: String,
    /// Epochs of the last training: the median over the folds of the chosen candidate's best epochs.
    pub(crate) chosen_epochs: usize,
    /// Error of the final model on the rows it was trained on, training and validation part together.
    pub(crate) train_error: f64,
    /// Error of the chosen candidate, trained on the training part alone, on the validation part, which took no
    /// part in the choice.
    pub(crate) validation_error: f64,
    pub(crate) test: TestSummary,
    /// Test error less training error.
    pub(crate) gap: f64,
    pub(crate) gaps: Gaps,
    /// Most urgent first.
    pub(crate) diagnosis: Vec<Finding>,
    /// What the splits and the data warned of.
    pub(crate) warnings: Vec<String>,
    /// Epoch by epoch: the chosen candidate on the training part, judged on the validation part.
    pub(crate) learning: History,
    /// Gradient norms of the final training, by layer (`grad_norm/<layer>`).
    pub(crate) gradients: History,
    /// Wall-clock time of the run.
    pub(crate) seconds: f64,
    /// How the test part was opened; printed and in the report. Not in the JSON, as it differs between equal runs.
    #[serde(skip)]
    pub(crate) opening: OpeningSummary,
}

/// What was learned from.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct DataSummary {
    pub(crate) name: String,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) classes: usize,
    /// Rows of each role.
    pub(crate) train: usize,
    pub(crate) validation: usize,
    pub(crate) test: usize,
    pub(crate) folds: usize,
    /// Fingerprint of the rows' content, whatever their order.
    pub(crate) fingerprint: String,
}

/// A candidate and how cross-validation judged it. Deviations are sample deviations over the folds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct CandidateSummary {
    pub(crate) name: String,
    /// Weights and biases, counted by element.
    pub(crate) parameters: usize,
    pub(crate) depth: usize,
    pub(crate) width: usize,
    pub(crate) dropout: f64,
    pub(crate) weight_decay: f64,
    pub(crate) label_smoothing: f64,
    pub(crate) optimizer: String,
    pub(crate) learning_rate: f64,
    /// `None` in all four where the candidate was disqualified.
    pub(crate) train_error: Option<Spread>,
    pub(crate) validation_error: Option<Spread>,
    pub(crate) train_loss: Option<Spread>,
    pub(crate) validation_loss: Option<Spread>,
    /// Why the candidate could not win, where it could not.
    pub(crate) disqualified: Option<String>,
}

/// What the sealed part said.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct TestSummary {
    /// Share of the test rows that the final model got wrong.
    pub(crate) error: f64,
    /// Number of test rows.
    pub(crate) n: usize,
    /// Exact 95 % interval of the error (Clopper and Pearson).
    pub(crate) interval: (f64, f64),
    /// Rows by true class, columns by predicted class.
    pub(crate) confusion: Vec<Vec<usize>>,
    /// The reason of a re-opening, where the test part had been opened for another model before.
    pub(crate) reopened: Option<String>,
}

/// Differences between the three errors.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Gaps {
    pub(crate) validation_minus_train: f64,
    pub(crate) test_minus_train: f64,
    pub(crate) test_minus_validation: f64,
}

/// How the test part was opened.
#[derive(Debug, Clone, Default)]
pub(crate) struct OpeningSummary {
    /// When it was first opened for this model, in UTC.
    pub(crate) time: String,
    /// Whether this run repeats an earlier opening: same model, same figures.
    pub(crate) repetition: bool,
    /// How often the rows were opened, this time included.
    pub(crate) uses: usize,
}
