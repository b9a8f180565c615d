//! Early stopping: ends a run whose validation loss no longer improves, and says which epoch was best.
//!
//! # Rule
//! An epoch improves when `loss < best - min_delta`. The run stops after more than `patience` epochs in a row
//! without improvement. NaN is never an improvement; an equal loss is none.
//!
//! # Reference
//! L. Prechelt, "Early stopping: but when?", 1998. Stopping on held-out data reduces variance at the price of
//! bias.

use burn::config::Config;
use firebrick_core::{ConfigError, check};

/// Configuration of [`EarlyStopping`].
///
/// | field | default | range |
/// | --- | --- | --- |
/// | `patience` | required; 5 to 20 | any |
/// | `min_delta` | 0, absolute | at least 0 |
#[derive(Config, Debug)]
pub struct EarlyStoppingConfig {
    /// Epochs in a row without improvement that are allowed.
    pub patience: usize,
    /// How much lower the loss must be to count, in the loss's own unit.
    #[config(default = 0.0)]
    pub min_delta: f64,
}

impl EarlyStoppingConfig {
    /// Checks the values and builds the rule.
    ///
    /// # Errors
    /// When `min_delta` is negative, NaN or infinite.
    pub fn init(&self) -> Result<EarlyStopping, ConfigError> {
        let min_delta = check::non_negative("min_delta", self.min_delta)?;
        Ok(EarlyStopping { patience: self.patience, min_delta, best: None, waited: 0 })
    }
}

/// What an epoch's loss means for the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement {
    /// The loss is the best so far.
    pub improved: bool,
    /// The patience is used up.
    pub stop: bool,
}

/// The rule and what it remembers.
///
/// ```
/// use firebrick_train::EarlyStoppingConfig;
///
/// let mut rule = EarlyStoppingConfig::new(1).init()?;
/// let losses = [0.9, 0.5, 0.6, f64::NAN];
/// let stops: Vec<bool> = losses.iter().zip(1..).map(|(&loss, epoch)| rule.judge(epoch, loss).stop).collect();
/// assert_eq!(stops, [false, false, false, true]);
/// assert_eq!(rule.best(), Some((2, 0.5)));
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct EarlyStopping {
    patience: usize,
    min_delta: f64,
    best: Option<(usize, f64)>,
    waited: usize,
}

impl EarlyStopping {
    /// Takes note of the validation loss of `epoch`.
    pub fn judge(&mut self, epoch: usize, loss: f64) -> Judgement {
        let improved = match self.best {
            Some((_, best)) => loss < best - self.min_delta,
            None => !loss.is_nan(),
        };
        if improved {
            self.best = Some((epoch, loss));
            self.waited = 0;
        } else {
            self.waited += 1;
        }
        Judgement { improved, stop: self.waited > self.patience }
    }

    /// The best epoch and its loss; `None` while every loss was NaN.
    #[must_use]
    pub fn best(&self) -> Option<(usize, f64)> {
        self.best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(patience: usize, min_delta: f64, losses: &[f64]) -> (Option<usize>, Option<usize>) {
        let mut rule =
            EarlyStoppingConfig::new(patience).with_min_delta(min_delta).init().expect("valid");
        let stopped = losses.iter().zip(1..).find(|&(&loss, epoch)| rule.judge(epoch, loss).stop);
        (stopped.map(|(_, epoch)| epoch), rule.best().map(|(epoch, _)| epoch))
    }

    #[test]
    fn patience_counts_epochs_without_improvement() {
        assert_eq!(run(0, 0.0, &[3.0, 2.0, 2.0]), (Some(3), Some(2)));
        assert_eq!(run(2, 0.0, &[3.0, 4.0, 4.0, 2.0, 4.0, 4.0, 4.0]), (Some(7), Some(4)));
        assert_eq!(run(2, 0.0, &[3.0, 4.0, 4.0]), (None, Some(1)));
    }

    #[test]
    fn small_gains_do_not_count() {
        assert_eq!(run(1, 0.5, &[3.0, 2.6, 2.55]), (Some(3), Some(1)));
        assert_eq!(run(1, 0.5, &[3.0, 2.4, 1.8]), (None, Some(3)));
    }

    #[test]
    fn nan_is_never_best_and_infinity_gives_way() {
        assert_eq!(run(1, 0.0, &[f64::NAN, f64::NAN]), (Some(2), None));
        assert_eq!(run(1, 0.0, &[f64::INFINITY, 1.0, f64::NAN, f64::NAN]), (Some(4), Some(2)));
    }

    #[test]
    fn bad_deltas_are_refused() {
        for min_delta in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(EarlyStoppingConfig::new(1).with_min_delta(min_delta).init().is_err());
        }
    }
}
