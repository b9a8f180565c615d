//! Early stopping: ends a run whose validation loss no longer improves, and says which epoch was best.
//!
//! # Rules
//! A check, one an epoch by default, improves when `loss < best - delta`. The run stops after more than `patience`
//! checks in a row without improvement, or when the [`Criterion`] fires. NaN is never an improvement; an equal loss
//! is none.
//!
//! # Reference
//! L. Prechelt, "Early stopping: but when?", 1998. Stopping on held-out data reduces variance at the price of
//! bias.

use crate::bits::Bits;
use burn::config::Config;
use firebrick_core::{ConfigError, check};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// The unit of `min_delta`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delta {
    /// That of the loss.
    Absolute,
    /// The magnitude of the best loss so far.
    Relative,
}

/// What a loss that is NaN means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NanRule {
    /// It is no improvement, and the run goes on.
    NoImprovement,
    /// The run stops at once.
    Stop,
}

/// Prechelt's criteria; `E` is the validation loss of a check, `E_opt` the lowest so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Criterion {
    /// Generalization loss: `GL = 100 (E / E_opt - 1) > alpha`, and `E - E_opt` beyond the delta, in its unit. 1 to 5
    /// are usual.
    ///
    /// Where `E_opt` comes near 0 every run ends by it: give an absolute `min_delta`. Below 0 the quotient means
    /// nothing, and it never fires.
    GeneralizationLoss {
        /// Bound in per cent.
        alpha: f64,
    },
    /// At the end of each strip: `GL / P > alpha` with the progress
    /// `P = 1000 (mean of the strip's training losses / their minimum - 1)`. 0.5 to 3 and strips of 5 are usual. It
    /// does not fire below 0 either.
    ProgressQuotient {
        /// Bound of the quotient.
        alpha: f64,
        /// Checks in a strip, at least 2: over one there is no progress.
        strip: usize,
    },
    /// The loss was higher at the end of each of `strips` strips in a row than at the end of the one before. 2 to 8
    /// and strips of 5 are usual.
    Rising {
        /// How many strips in a row.
        strips: usize,
        /// Checks in a strip.
        strip: usize,
    },
}

/// Configuration of [`EarlyStopping`].
///
/// | field | default | range |
/// | --- | --- | --- |
/// | `patience` | required; 5 to 20 | any; `usize::MAX` leaves the end to the criterion |
/// | `min_delta` | 0 | at least 0; relative: below 1 |
/// | `delta` | `Delta::Absolute` | |
/// | `on_nan` | `NanRule::NoImprovement` | |
/// | `criterion` | none | bounds above 0, strips at least 1, of the progress quotient at least 2 |
#[derive(Config, Debug)]
pub struct EarlyStoppingConfig {
    /// Checks in a row without improvement that are allowed.
    pub patience: usize,
    /// How much lower the loss must be to count.
    #[config(default = 0.0)]
    pub min_delta: f64,
    /// The unit of `min_delta`.
    #[config(default = "Delta::Absolute")]
    pub delta: Delta,
    /// What a loss that is NaN means.
    #[config(default = "NanRule::NoImprovement")]
    pub on_nan: NanRule,
    /// A further reason to stop.
    pub criterion: Option<Criterion>,
}

impl EarlyStoppingConfig {
    /// Checks the values and builds the rule.
    ///
    /// # Errors
    /// When `min_delta` is negative, NaN, infinite, or relative and not below 1; when a bound of the criterion is
    /// not above 0, a strip has no check, or the progress quotient's fewer than 2.
    pub fn init(&self) -> Result<EarlyStopping, ConfigError> {
        match self.delta {
            Delta::Absolute => check::non_negative("min_delta", self.min_delta)?,
            Delta::Relative => check::range("min_delta", self.min_delta, 0.0..1.0)?,
        };
        match self.criterion {
            Some(Criterion::GeneralizationLoss { alpha }) => {
                check::positive("alpha", alpha)?;
            }
            Some(Criterion::ProgressQuotient { alpha, strip }) => {
                check::positive("alpha", alpha)?;
                check::at_least("strip", strip, 2)?;
            }
            Some(Criterion::Rising { strips, strip }) => {
                check::at_least("strips", strips, 1)?;
                check::at_least("strip", strip, 1)?;
            }
            None => {}
        }
        Ok(EarlyStopping { config: self.clone(), state: State::default() })
    }

    /// `min_delta` in the unit of the loss, where `best` is the best so far.
    fn delta_at(&self, best: f64) -> f64 {
        match self.delta {
            Delta::Absolute => self.min_delta,
            // The magnitude of an infinite best times 0 is no number.
            Delta::Relative if best.is_infinite() => 0.0,
            Delta::Relative => self.min_delta * best.abs(),
        }
    }
}

/// What a check's loss means for the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement {
    /// The loss is the best so far.
    pub improved: bool,
    /// The run is to end.
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
#[derive(Debug, Clone)]
pub struct EarlyStopping {
    config: EarlyStoppingConfig,
    state: State,
}

/// What moves on; a checkpoint keeps it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    best: Option<(usize, Bits)>,
    /// The lowest loss, which may be lower than the best by less than the delta.
    lowest: Option<Bits>,
    waited: usize,
    checks: usize,
    /// Training losses of the running strip.
    strip: VecDeque<Bits>,
    /// Loss at the end of the last strip.
    strip_end: Option<Bits>,
    /// Strips in a row that ended higher.
    risen: usize,
}

impl EarlyStopping {
    /// Takes note of the validation loss of `epoch`.
    ///
    /// The progress quotient also needs the training loss: [`judge_both`](Self::judge_both).
    pub fn judge(&mut self, epoch: usize, loss: f64) -> Judgement {
        self.judge_both(epoch, loss, f64::NAN)
    }

    /// Takes note of the validation and the training loss of `epoch`.
    pub fn judge_both(&mut self, epoch: usize, loss: f64, train_loss: f64) -> Judgement {
        let state = &mut self.state;
        let improved = match state.best {
            Some((_, Bits(best))) => loss < best - self.config.delta_at(best),
            None => !loss.is_nan(),
        };
        if improved {
            state.best = Some((epoch, Bits(loss)));
            state.waited = 0;
        } else {
            state.waited += 1;
        }
        if !loss.is_nan() && state.lowest.is_none_or(|Bits(lowest)| loss < lowest) {
            state.lowest = Some(Bits(loss));
        }
        let fires = self.criterion(loss, train_loss);
        let broken = loss.is_nan() && self.config.on_nan == NanRule::Stop;
        let stop = self.state.waited > self.config.patience || fires || broken;
        Judgement { improved, stop }
    }

    fn criterion(&mut self, loss: f64, train_loss: f64) -> bool {
        let state = &mut self.state;
        state.checks += 1;
        let lowest = state.lowest.map_or(f64::NAN, |Bits(lowest)| lowest);
        let loss_over = 100.0 * (loss / lowest - 1.0);
        match self.config.criterion {
            None => false,
            Some(Criterion::GeneralizationLoss { alpha }) => {
                loss_over > alpha && loss - lowest > self.config.delta_at(lowest)
            }
            Some(Criterion::ProgressQuotient { alpha, strip }) => {
                state.strip.push_back(Bits(train_loss));
                if state.strip.len() > strip {
                    state.strip.pop_front();
                }
                if !state.checks.is_multiple_of(strip) {
                    return false;
                }
                let sum: f64 = state.strip.iter().map(|Bits(loss)| loss).sum();
                let least =
                    state.strip.iter().map(|Bits(loss)| *loss).fold(f64::INFINITY, f64::min);
                // All of them 0 is a strip without progress, and not 0 of 0.
                let mean = sum / strip as f64;
                let progress = if mean == least { 0.0 } else { 1000.0 * (mean / least - 1.0) };
                // Without progress every loss of generalization is too much; without such a loss none is.
                loss_over > 0.0 && loss_over / progress > alpha
            }
            Some(Criterion::Rising { strips, strip }) => {
                if !state.checks.is_multiple_of(strip) {
                    return false;
                }
                let risen = state.strip_end.is_some_and(|Bits(before)| loss > before);
                state.risen = if risen { state.risen + 1 } else { 0 };
                state.strip_end = Some(Bits(loss));
                state.risen >= strips
            }
        }
    }

    /// The best epoch and its loss; `None` while every loss was NaN.
    #[must_use]
    pub fn best(&self) -> Option<(usize, f64)> {
        self.state.best.map(|(epoch, Bits(loss))| (epoch, loss))
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn set_state(&mut self, state: State) {
        self.state = state;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stops(config: &EarlyStoppingConfig, losses: &[f64], train: &[f64]) -> Option<usize> {
        let mut rule = config.init().expect("valid");
        let train = train.iter().chain(std::iter::repeat(&f64::NAN));
        let mut checks = losses.iter().zip(train).zip(1..);
        checks
            .find(|&((&loss, &train), epoch)| rule.judge_both(epoch, loss, train).stop)
            .map(|(_, epoch)| epoch)
    }

    fn run(patience: usize, min_delta: f64, losses: &[f64]) -> (Option<usize>, Option<usize>) {
        let mut rule =
            EarlyStoppingConfig::new(patience).with_min_delta(min_delta).init().expect("valid");
        let stopped = losses.iter().zip(1..).find(|&(&loss, epoch)| rule.judge(epoch, loss).stop);
        (stopped.map(|(_, epoch)| epoch), rule.best().map(|(epoch, _)| epoch))
    }

    fn prechelt(criterion: Criterion) -> EarlyStoppingConfig {
        EarlyStoppingConfig::new(usize::MAX).with_criterion(Some(criterion))
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
        let relative = EarlyStoppingConfig::new(0).with_min_delta(0.1).with_delta(Delta::Relative);
        assert_eq!(stops(&relative, &[100.0, 89.0, 80.0, 73.0], &[]), Some(4));
        // Below 0 a tenth of the magnitude is still a decrease.
        assert_eq!(stops(&relative, &[-1.0, -1.2, -1.25], &[]), Some(3));
        assert_eq!(stops(&relative, &[f64::INFINITY, 5.0, 4.0], &[]), None);
    }

    #[test]
    fn nan_is_never_best_and_infinity_gives_way() {
        assert_eq!(run(1, 0.0, &[f64::NAN, f64::NAN]), (Some(2), None));
        assert_eq!(run(1, 0.0, &[f64::INFINITY, 1.0, f64::NAN, f64::NAN]), (Some(4), Some(2)));
        let strict = EarlyStoppingConfig::new(9).with_on_nan(NanRule::Stop);
        assert_eq!(stops(&strict, &[1.0, 2.0, f64::NAN, 0.5], &[]), Some(3));
    }

    #[test]
    fn the_generalization_loss_is_in_per_cent_over_the_lowest() {
        let config = prechelt(Criterion::GeneralizationLoss { alpha: 5.0 });
        assert_eq!(stops(&config, &[2.0, 1.0, 1.04, 1.049, 1.06], &[]), Some(5));
        let held = config.with_min_delta(0.1);
        assert_eq!(stops(&held, &[2.0, 1.0, 1.04, 1.06, 1.11], &[]), Some(5));
        // A tenth of the lowest, 40: 43 is 7.5 % over it and within, 45 is beyond.
        let relative = held.with_delta(Delta::Relative);
        assert_eq!(stops(&relative, &[80.0, 40.0, 43.0, 45.0], &[]), Some(4));
        assert_eq!(stops(&relative, &[0.8, 0.4, 0.43, 0.45], &[]), Some(4));
        let config = prechelt(Criterion::GeneralizationLoss { alpha: 5.0 });
        assert_eq!(stops(&config, &[-1.0, -2.0, -1.0, 3.0], &[]), None, "below 0 it is silent");
    }

    #[test]
    fn the_progress_quotient_is_asked_at_the_end_of_a_strip() {
        // Strip 1: P = 1000 (1.5 / 1 - 1) = 500, strip 2: P = 1000 (0.95 / 0.9 - 1) = 55.6.
        let config = prechelt(Criterion::ProgressQuotient { alpha: 0.5, strip: 2 });
        let train = [2.0, 1.0, 1.0, 0.9];
        // GL at check 4 is 30, 30 / 55.6 = 0.54.
        assert_eq!(stops(&config, &[1.0, 1.3, 1.3, 1.3], &train), Some(4));
        // 27 / 55.6 = 0.49.
        assert_eq!(stops(&config, &[1.0, 1.3, 1.3, 1.27], &train), None);
        // No progress at all.
        assert_eq!(stops(&config, &[1.0, 1.001], &[1.0, 1.0]), Some(2));
        assert_eq!(stops(&config, &[1.0, 1.0], &[1.0, 1.0]), None);
        assert_eq!(stops(&config, &[1.0, 1.001], &[0.0, 0.0]), Some(2), "0 is no progress either");
    }

    #[test]
    fn rising_looks_at_the_ends_of_strips() {
        let config = prechelt(Criterion::Rising { strips: 2, strip: 2 });
        assert_eq!(stops(&config, &[9.0, 1.0, 9.0, 1.1, 0.0, 1.2], &[]), Some(6));
        assert_eq!(stops(&config, &[9.0, 1.0, 9.0, 1.1, 9.0, 1.1, 9.0, 1.2], &[]), None);
    }

    #[test]
    fn the_state_goes_on_in_mid_patience() {
        let config = EarlyStoppingConfig::new(2);
        let (mut whole, mut first) = (config.init().expect("valid"), config.init().expect("valid"));
        let losses = [f64::INFINITY, 2.0, 3.0, f64::NAN, 3.0, 3.0];
        for (epoch, &loss) in losses[..4].iter().enumerate() {
            assert_eq!(first.judge(epoch, loss), whole.judge(epoch, loss));
        }
        let text = serde_json::to_string(first.state()).expect("serializes");
        let mut second = config.init().expect("valid");
        second.set_state(serde_json::from_str(&text).expect("reads back"));
        for (epoch, &loss) in losses[4..].iter().enumerate() {
            assert_eq!(second.judge(epoch, loss), whole.judge(epoch, loss));
        }
    }

    #[test]
    fn bad_values_are_refused() {
        for min_delta in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(EarlyStoppingConfig::new(1).with_min_delta(min_delta).init().is_err());
        }
        let relative = EarlyStoppingConfig::new(1).with_delta(Delta::Relative).with_min_delta(1.0);
        assert!(relative.init().is_err());
        for criterion in [
            Criterion::GeneralizationLoss { alpha: 0.0 },
            Criterion::ProgressQuotient { alpha: f64::NAN, strip: 5 },
            Criterion::ProgressQuotient { alpha: 1.0, strip: 0 },
            Criterion::ProgressQuotient { alpha: 1.0, strip: 1 },
            Criterion::Rising { strips: 0, strip: 5 },
            Criterion::Rising { strips: 1, strip: 0 },
        ] {
            assert!(prechelt(criterion).init().is_err(), "{criterion:?}");
        }
        let short = prechelt(Criterion::ProgressQuotient { alpha: 1.0, strip: 1 });
        let error = short.init().expect_err("one check has no progress").to_string();
        assert_eq!(error, "`strip` must be at least 2, got 1");
    }
}
