//! The numbers of a training: how long it is, when it is judged, what is recorded.

use crate::EarlyStoppingConfig;
use burn::config::Config;

/// Configuration of [`Fit`](crate::Fit).
///
/// | field | default | range |
/// | --- | --- | --- |
/// | `max_epochs` | required | at least 1 |
/// | `max_steps` | none | at least 1 |
/// | `accumulation` | 1 | at least 1 |
/// | `early_stopping` | none | needs validation data |
/// | `judge_every` | 1 epoch | at least 1 |
/// | `judge_every_steps` | 0: at the ends of epochs | any number of steps |
/// | `judge_training` | true | |
/// | `record_every` | 0: once an epoch | any number of steps |
/// | `watch_every` | 0: never | any number of steps |
/// | `progress` | true | |
#[derive(Config, Debug)]
pub struct FitConfig {
    /// Passes over the training data, at most.
    pub max_epochs: usize,
    /// Optimizer steps, at most.
    pub max_steps: Option<u64>,
    /// How many batches make one step: their mean loss, weighted by their samples. The last step of an epoch takes
    /// what is left.
    #[config(default = 1)]
    pub accumulation: usize,
    /// When to end before, and to return the weights of the best epoch.
    pub early_stopping: Option<EarlyStoppingConfig>,
    /// After every how many epochs the model is judged; after the last it always is.
    #[config(default = 1)]
    pub judge_every: usize,
    /// After every how many steps the model is judged besides; 0 for none. Each is a check of early stopping.
    #[config(default = 0)]
    pub judge_every_steps: u64,
    /// Every how many steps a record goes into the history besides the one an epoch; 0 for none.
    #[config(default = 0)]
    pub record_every: usize,
    /// Every how many steps [`Learn::watch`](crate::Learn::watch) shows the hidden values of the step's first batch,
    /// whose statistics go into a record of the history; 0 for never.
    #[config(default = 0)]
    pub watch_every: u64,
    /// Whether the training data are judged in evaluation mode too, one more forward pass; if not, `train_loss` is
    /// the mean of the losses of the steps taken in the epoch, and there is a `train_error` only at the end.
    #[config(default = true)]
    pub judge_training: bool,
    /// Whether to draw a progress bar when a terminal is there.
    #[config(default = true)]
    pub progress: bool,
}
