//! Loss spikes, found by a robust rule on the logarithm of the loss.
//!
//! # Rule
//! ```text
//! score = (ln(loss) - median) / (1.4826 MAD)        over the last `window` accepted losses
//! ```
//! A score above the threshold for `patience` steps in a row asks for a rollback; a single one is let pass, as
//! most spikes recover alone. A loss that is not finite asks at once.
//!
//! # Reference
//! A. Chowdhery et al., "PaLM", 2022 (arXiv 2204.02311): go back about 100 steps and skip 200 to 500 batches.
//!
//! # Differences
//! Lightning's spike detector compares with the mean of ten losses and takes the spike into it. Here median and
//! MAD are of accepted losses only, and the logarithm makes the rule the same at every level of the loss.

use crate::guard::{alone, remembers};
use crate::{Guard, Measured, Verdict};
use burn::config::Config;
use burn::module::Module;
use burn::optim::GradientsParams;
use firebrick_core::{ConfigError, Record, check};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Configuration of [`LossSpike`].
///
/// | field | default | range |
/// | --- | --- | --- |
/// | `threshold` | 8 robust deviations | above 0 |
/// | `window` | 128 steps | at least 2 |
/// | `min_samples` | 32 | 2 to `window` |
/// | `patience` | 3 steps | at least 1 |
/// | `budget` | 3 rollbacks | any |
#[derive(Config, Debug)]
pub struct LossSpikeConfig {
    /// How many robust deviations above the median count as a spike.
    #[config(default = 8.0)]
    pub threshold: f64,
    /// How many accepted losses are remembered.
    #[config(default = 128)]
    pub window: usize,
    /// How many accepted losses must be known before anything is judged.
    #[config(default = 32)]
    pub min_samples: usize,
    /// How many spiked steps in a row ask for a rollback.
    #[config(default = 3)]
    pub patience: usize,
    /// How many rollbacks may be asked for; the next one stops the run.
    #[config(default = 3)]
    pub budget: usize,
}

impl LossSpikeConfig {
    /// Checks the values and builds the guard.
    ///
    /// # Errors
    /// When a value is out of its range.
    pub fn init(&self) -> Result<LossSpike, ConfigError> {
        check::positive("threshold", self.threshold)?;
        check::at_least("window", self.window, 2)?;
        check::at_least("min_samples", self.min_samples, 2)?;
        if self.min_samples > self.window {
            let expected = format!("at most `window`, {}", self.window);
            return Err(ConfigError::new("min_samples", self.min_samples, expected));
        }
        check::at_least("patience", self.patience, 1)?;
        Ok(LossSpike {
            config: self.clone(),
            accepted: VecDeque::new(),
            sorted: Vec::new(),
            streak: 0,
            rollbacks: 0,
            score: None,
        })
    }
}

/// Watches the loss and asks for a rollback when it leaves its course.
///
/// Losses of 0 and below have no logarithm: they are taken as they are, never as spikes.
///
/// ```
/// use firebrick_stabilize::{LossSpikeConfig, Verdict};
///
/// let mut spike = LossSpikeConfig::new().with_min_samples(4).with_patience(2).init()?;
/// for loss in [1.0, 1.1, 0.9, 1.05] {
///     assert_eq!(spike.judge(loss), Verdict::Proceed);
/// }
/// assert_eq!(spike.judge(30.0), Verdict::Proceed); // it may recover alone
/// assert_eq!(spike.judge(25.0), Verdict::Rollback);
/// assert_eq!(spike.judge(1.0), Verdict::Proceed);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LossSpike {
    config: LossSpikeConfig,
    /// Logarithms of the accepted losses.
    accepted: VecDeque<f64>,
    /// The same in ascending order; not in a state, out of which it is made anew.
    #[serde(skip)]
    sorted: Vec<f64>,
    streak: usize,
    rollbacks: usize,
    score: Option<f64>,
}

impl LossSpike {
    /// Judges the loss of a step.
    pub fn judge(&mut self, loss: f64) -> Verdict {
        if !loss.is_finite() {
            self.score = Some(f64::INFINITY);
            return self.roll_back();
        }
        if loss <= 0.0 {
            self.score = None;
            self.streak = 0;
            return Verdict::Proceed;
        }
        let value = loss.ln();
        if self.sorted.len() != self.accepted.len() {
            self.sorted = self.accepted.iter().copied().collect();
            self.sorted.sort_unstable_by(f64::total_cmp);
        }
        self.score = self.score(value);
        if self.score.is_some_and(|score| score > self.config.threshold) {
            self.streak += 1;
            return if self.streak < self.config.patience {
                Verdict::Proceed
            } else {
                self.roll_back()
            };
        }
        self.streak = 0;
        if self.accepted.len() == self.config.window
            && let Some(oldest) = self.accepted.pop_front()
        {
            self.sorted.remove(self.place(oldest));
        }
        self.accepted.push_back(value);
        self.sorted.insert(self.place(value), value);
        Verdict::Proceed
    }

    /// How many of the accepted lie below `value`.
    fn place(&self, value: f64) -> usize {
        self.sorted.partition_point(|known| known.total_cmp(&value).is_lt())
    }

    fn roll_back(&mut self) -> Verdict {
        self.streak = 0;
        if self.rollbacks == self.config.budget {
            return Verdict::Stop;
        }
        self.rollbacks += 1;
        Verdict::Rollback
    }

    fn score(&self, value: f64) -> Option<f64> {
        if self.sorted.len() < self.config.min_samples {
            return None;
        }
        let middle = median(self.sorted.len(), self.sorted.iter().copied());
        // The floor, a thousandth in the logarithm, keeps a flat loss from making every change a spike.
        let deviation = (1.4826 * median_gap(&self.sorted, middle)).max(1e-3);
        Some((value - middle) / deviation)
    }

    /// The score of the last loss, in robust deviations; `None` while too few losses are known.
    #[must_use]
    pub fn last_score(&self) -> Option<f64> {
        self.score
    }

    /// How many rollbacks were asked for.
    #[must_use]
    pub fn rollbacks(&self) -> usize {
        self.rollbacks
    }
}

/// How many of the values of the last `length` steps are left without those of the last `steps`.
pub(crate) fn kept(length: usize, steps: u64) -> usize {
    length.saturating_sub(usize::try_from(steps).unwrap_or(usize::MAX))
}

/// The median of `count` values, at least one, that come in ascending order.
fn median(count: usize, ascending: impl Iterator<Item = f64>) -> f64 {
    let odd = !count.is_multiple_of(2);
    let mut middle = ascending.skip(count / 2 - usize::from(!odd));
    let first = middle.next().unwrap_or(f64::NAN);
    if odd { first } else { middle.next().map_or(first, |second| f64::midpoint(first, second)) }
}

/// The median of the distances from `middle`: the nearer half of the values, met on the way outwards from it.
fn median_gap(sorted: &[f64], middle: f64) -> f64 {
    let (below, above) = sorted.split_at(sorted.partition_point(|&value| value < middle));
    let gap = |value: &f64| (value - middle).abs();
    let mut below = below.iter().rev().map(gap).peekable();
    let mut above = above.iter().map(gap).peekable();
    let nearest = std::iter::from_fn(|| match (below.peek(), above.peek()) {
        (Some(left), Some(right)) if right < left => above.next(),
        (None, _) => above.next(),
        _ => below.next(),
    });
    median(sorted.len(), nearest)
}

impl Guard for LossSpike {
    remembers!(LossSpike);

    alone!();

    // It leaves the gradients alone: what was measured of them stays true.
    fn before_step_sharing<M: Module>(
        &mut self,
        _: &M,
        _: &mut GradientsParams,
        loss: f64,
        _: &mut Measured,
    ) -> Verdict {
        self.judge(loss)
    }

    // Losses from further on would make those of the weights that are back look like spikes.
    fn rolled_back(&mut self, steps: u64) {
        self.accepted.truncate(kept(self.accepted.len(), steps));
    }

    fn record(&self, record: &mut Record) {
        if let Some(score) = self.score {
            record.values.insert("spike_score".into(), score);
        }
        record.values.insert("rollbacks".into(), self.rollbacks as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firebrick_core::Seed;

    #[test]
    fn a_decaying_noisy_loss_raises_no_alarm() {
        for seed in 0..20 {
            let mut stream = Seed(seed).stream("loss");
            let mut spike = LossSpikeConfig::new().with_patience(1).init().expect("valid");
            for step in 0..3000 {
                let course = 0.1 + 3.0 * (-f64::from(step) / 400.0).exp();
                let loss = course * (0.2 * stream.normal()).exp();
                assert_eq!(spike.judge(loss), Verdict::Proceed, "seed {seed}, step {step}");
            }
        }
    }

    #[test]
    fn what_was_undone_is_forgotten_and_the_budget_is_not() {
        let mut spike = LossSpikeConfig::new()
            .with_patience(1)
            .with_min_samples(10)
            .with_budget(2)
            .init()
            .expect("valid");
        let course = |step: i32| 2.3 * 0.96f64.powi(step) * (1.0 + 0.1 * f64::from(step % 3));
        let run = |spike: &mut LossSpike, steps: std::ops::Range<i32>| {
            steps.into_iter().all(|step| spike.judge(course(step)) == Verdict::Proceed)
        };
        assert!(run(&mut spike, 0..100));
        assert_eq!(spike.judge(f64::NAN), Verdict::Rollback);
        // Back at step 20, whose loss is 25 times that of step 100.
        spike.rolled_back(80);
        assert!(run(&mut spike, 20..100));
        assert_eq!(spike.judge(f64::NAN), Verdict::Rollback);
        spike.rolled_back(1000);
        assert!(run(&mut spike, 0..50));
        assert_eq!(spike.judge(f64::NAN), Verdict::Stop, "the budget was two");
    }

    #[test]
    fn spikes_are_found_at_every_level_and_leave_no_trace() {
        let mut stream = Seed(1).stream("loss");
        let mut spike =
            LossSpikeConfig::new().with_patience(1).with_budget(100).init().expect("valid");
        let mut found = Vec::new();
        for step in 0..2000 {
            let course = 3.0 * (-f64::from(step) / 200.0).exp();
            let noise = (0.1 * stream.normal()).exp();
            let loss = match step {
                700 => f64::NAN,
                300 | 301 | 900 | 1500 => course * 20.0,
                _ => course * noise,
            };
            if spike.judge(loss) == Verdict::Rollback {
                found.push(step);
            }
        }
        assert_eq!(found, [300, 301, 700, 900, 1500]);
    }

    #[test]
    fn median_and_its_gap_are_those_of_a_full_sort() {
        let plain = |values: &mut Vec<f64>| {
            values.sort_by(f64::total_cmp);
            let (low, high) = ((values.len() - 1) / 2, values.len() / 2);
            f64::midpoint(values[low], values[high])
        };
        let mut stream = Seed(3).stream("losses");
        // Rounded, so that some are equal.
        let mut draw = || (4.0 * stream.normal()).round() / 4.0;
        for count in 1..40 {
            let mut values: Vec<f64> = (0..count).map(|_| draw()).collect();
            let middle = plain(&mut values);
            assert_eq!(median(count, values.iter().copied()), middle);
            let mut gaps: Vec<f64> = values.iter().map(|value| (value - middle).abs()).collect();
            assert_eq!(median_gap(&values, middle), plain(&mut gaps));
        }
    }

    #[test]
    fn the_order_is_kept_while_the_window_moves_and_made_anew_out_of_a_state() {
        let config = LossSpikeConfig::new().with_window(6).with_min_samples(2);
        let mut spike = config.init().expect("valid");
        let mut stream = Seed(4).stream("losses");
        for step in 0..50 {
            if step == 20 {
                let state = Guard::state(&spike).expect("saves");
                let mut resumed = config.init().expect("valid");
                resumed.take_over(&state, &Vec::<burn::nn::Linear>::new()).expect("fits");
                spike = resumed;
            }
            spike.judge(1.0 + (8.0 * stream.uniform()).round());
            let mut expected: Vec<f64> = spike.accepted.iter().copied().collect();
            expected.sort_by(f64::total_cmp);
            assert_eq!(spike.sorted, expected);
        }
    }

    #[test]
    fn the_budget_ends_the_run() {
        let mut spike = LossSpikeConfig::new().with_budget(2).init().expect("valid");
        let verdicts: Vec<Verdict> = (0..3).map(|_| spike.judge(f64::INFINITY)).collect();
        assert_eq!(verdicts, [Verdict::Rollback, Verdict::Rollback, Verdict::Stop]);
        assert_eq!(spike.judge(-1.0), Verdict::Proceed);
        assert_eq!(spike.judge(0.0), Verdict::Proceed);
    }

    #[test]
    fn values_out_of_range_are_refused() {
        assert!(LossSpikeConfig::new().with_threshold(0.0).init().is_err());
        assert!(LossSpikeConfig::new().with_window(1).init().is_err());
        assert!(LossSpikeConfig::new().with_min_samples(1).init().is_err());
        assert!(LossSpikeConfig::new().with_window(10).init().is_err());
        assert!(LossSpikeConfig::new().with_patience(0).init().is_err());
    }
}
