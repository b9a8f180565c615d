//! The learning-rate range test: a short run with growing rates, and four rules that read a rate off its losses.
//!
//! # Reference
//! Smith: Cyclical Learning Rates for Training Neural Networks, 2017, arXiv 1506.01186; the rules are fastai's.
//!
//! # Differences
//! fastai's stop at 4 times the best loss stops at once when losses are negative; here it is the best plus 3 times
//! its size. The state is restored also when a step fails or panics.

use burn::config::Config;
use firebrick_core::{ConfigError, check};

/// Configuration of the range test.
///
/// | field | default | range |
/// | --- | --- | --- |
/// | `start_lr` | 1e-7 | `(0, end_lr)` |
/// | `end_lr` | 10 | `(0, inf)` |
/// | `num_steps` | 100 | at least 2 |
/// | `smoothing` | 0.98 | `[0, 1)` |
/// | `divergence` | 4 | `(1, inf)` |
///
/// ```
/// use firebrick_optim::schedule::{RangeRule, RangeTestConfig};
/// use std::convert::Infallible;
///
/// // Gradient descent on x^2 / 2 from 1: any rate below 2 falls.
/// let mut x = 1.0f64;
/// let test = RangeTestConfig::new().with_start_lr(1e-3).run(
///     &mut x,
///     |x| *x,
///     |x, lr| {
///         let loss = *x * *x / 2.0;
///         *x -= lr * *x;
///         Ok::<_, Infallible>(loss)
///     },
///     |x, saved| *x = saved,
/// )?;
/// assert_eq!(x, 1.0); // as it was
/// let suggested = test.suggest(RangeRule::Valley)?;
/// assert!((1e-2..2.0).contains(&suggested));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Config, Debug)]
pub struct RangeTestConfig {
    /// Rate of the first step.
    #[config(default = 1e-7)]
    pub start_lr: f64,
    /// Rate that the steps lead to.
    #[config(default = 10.0)]
    pub end_lr: f64,
    /// Steps, if the loss does not diverge before.
    #[config(default = 100)]
    pub num_steps: usize,
    /// Weight of the past in the running mean of the losses, which is corrected for its start.
    #[config(default = 0.98)]
    pub smoothing: f64,
    /// The run ends when the smoothed loss exceeds its best by `divergence - 1` times the size of the best.
    #[config(default = 4.0)]
    pub divergence: f64,
}

/// A range test that could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RangeTestError<E: std::error::Error + 'static> {
    /// The configuration is wrong; nothing was run.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A training step failed; the state was restored.
    #[error("step {step} of the range test failed: {source}")]
    Step {
        /// Number of the step, from 0.
        step: usize,
        /// What the step said.
        source: E,
    },
}

/// A suggestion that the recorded losses do not bear.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the rule `{rule}` needs at least {needed} losses after trimming, the range test has {found}"
)]
pub struct TooFewLosses {
    /// The rule.
    pub rule: &'static str,
    /// How many losses it needs.
    pub needed: usize,
    /// How many are left after the first tenth and the last five are dropped.
    pub found: usize,
}

/// How to read a rate off a range test, after fastai.
#[derive(Config, Debug, PartialEq, Eq, Copy)]
pub enum RangeRule {
    /// A third to a half along the longest falling subsequence of the losses; fastai's default.
    Valley,
    /// Where the loss falls fastest over the logarithm of the rate.
    Steep,
    /// A tenth of the rate with the lowest loss.
    Minimum,
    /// Where the slopes at the two ends of a window of 15, sliding left from the end, come within 0.005.
    Slide,
}

/// The losses of a range test.
#[derive(Debug, Clone, PartialEq)]
pub struct RangeTest {
    /// The rate of each step.
    pub rates: Vec<f64>,
    /// The loss of each step, before its update.
    pub losses: Vec<f64>,
    /// Their running mean.
    pub smoothed: Vec<f64>,
    num_steps: usize,
}

impl RangeTestConfig {
    /// Checks the configuration.
    ///
    /// # Errors
    /// When a value is out of its range.
    pub fn check(&self) -> Result<(), ConfigError> {
        check::positive("end_lr", self.end_lr)?;
        use std::ops::Bound::{Excluded, Unbounded};
        check::range("start_lr", self.start_lr, (Excluded(0.0), Excluded(self.end_lr)))?;
        check::at_least("num_steps", self.num_steps, 2)?;
        check::range("smoothing", self.smoothing, 0.0..1.0)?;
        check::range("divergence", self.divergence, (Excluded(1.0), Unbounded))?;
        Ok(())
    }

    /// The rate of step `i`: `start (end / start)^(i / num_steps)`.
    #[must_use]
    pub fn rate(&self, i: usize) -> f64 {
        self.start_lr * (self.end_lr / self.start_lr).powf(i as f64 / self.num_steps as f64)
    }

    /// Trains for a short while with growing rates and puts the state back.
    ///
    /// `snapshot` copies the state; `step` makes one training step with the given rate and returns its loss; `restore` puts
    /// the copy back, always and exactly once, also when `step` fails or panics. Clones of a burn module share
    /// the running statistics of batch norms, so a snapshot of a model with some has to be a record
    /// (`model.clone().into_record().into_bytes()`), loaded into a fresh model.
    ///
    /// # Errors
    /// When the configuration is wrong or a step fails. A loss that is not finite ends the test, it is no error.
    pub fn run<T, S, E: std::error::Error + 'static>(
        &self,
        state: &mut T,
        snapshot: impl FnOnce(&T) -> S,
        mut step: impl FnMut(&mut T, f64) -> Result<f64, E>,
        restore: impl FnOnce(&mut T, S),
    ) -> Result<RangeTest, RangeTestError<E>> {
        self.check()?;
        let saved = snapshot(state);
        let guard = Restore { state, back: Some((saved, restore)) };
        let mut test = RangeTest {
            rates: Vec::new(),
            losses: Vec::new(),
            smoothed: Vec::new(),
            num_steps: self.num_steps,
        };
        let (mut mean, mut best) = (0.0, f64::INFINITY);
        for i in 0..self.num_steps {
            let rate = self.rate(i);
            let loss = step(guard.state, rate)
                .map_err(|source| RangeTestError::Step { step: i, source })?;
            mean = self.smoothing * mean + (1.0 - self.smoothing) * loss;
            let smoothed = mean / (1.0 - self.smoothing.powf(i as f64 + 1.0));
            test.rates.push(rate);
            test.losses.push(loss);
            test.smoothed.push(smoothed);
            best = best.min(smoothed);
            if !smoothed.is_finite() || smoothed > best + (self.divergence - 1.0) * best.abs() {
                break;
            }
        }
        Ok(test)
    }
}

/// Puts the state back when it goes out of scope.
struct Restore<'a, T, S, R: FnOnce(&mut T, S)> {
    state: &'a mut T,
    back: Option<(S, R)>,
}

impl<T, S, R: FnOnce(&mut T, S)> Drop for Restore<'_, T, S, R> {
    fn drop(&mut self) {
        if let Some((saved, restore)) = self.back.take() {
            restore(self.state, saved);
        }
    }
}

impl RangeTest {
    /// The rate that a rule suggests.
    ///
    /// As in fastai the smoothed losses count, without the first tenth of the configured steps, the last five, and what follows
    /// the first that is not finite.
    ///
    /// # Errors
    /// When too few losses are left.
    pub fn suggest(&self, rule: RangeRule) -> Result<f64, TooFewLosses> {
        let first = (self.num_steps / 10).min(self.smoothed.len());
        let last = self.smoothed.len().saturating_sub(5).max(first);
        let (rates, losses) = (&self.rates[first..last], &self.smoothed[first..last]);
        let finite = losses.iter().position(|loss| !loss.is_finite()).unwrap_or(losses.len());
        let (rates, losses) = (&rates[..finite], &losses[..finite]);
        let (name, needed) = match rule {
            RangeRule::Valley => ("valley", 1),
            RangeRule::Minimum => ("minimum", 1),
            RangeRule::Steep => ("steep", 2),
            RangeRule::Slide => ("slide", WINDOW + 1),
        };
        if losses.len() < needed {
            return Err(TooFewLosses { rule: name, needed, found: losses.len() });
        }
        Ok(match rule {
            RangeRule::Valley => rates[valley(losses)],
            RangeRule::Minimum => rates[first_smallest(losses.iter().copied())] / 10.0,
            RangeRule::Steep => {
                let slopes = losses
                    .windows(2)
                    .zip(rates.windows(2))
                    .map(|(loss, rate)| (loss[1] - loss[0]) / (rate[1].ln() - rate[0].ln()));
                rates[first_smallest(slopes)]
            }
            RangeRule::Slide => rates[slide(losses)],
        })
    }
}

const WINDOW: usize = 15;

/// The index of the smallest value, the first of several.
fn first_smallest(values: impl Iterator<Item = f64>) -> usize {
    let start = (0, f64::INFINITY);
    let smallest =
        values.enumerate().fold(start, |best, next| if next.1 < best.1 { next } else { best });
    smallest.0
}

/// The index in the longest falling subsequence, by dynamic programming over its last element.
fn valley(losses: &[f64]) -> usize {
    let mut length = vec![1usize; losses.len()];
    for i in 1..losses.len() {
        for j in 0..i {
            if losses[i] < losses[j] {
                length[i] = length[i].max(length[j] + 1);
            }
        }
    }
    let end = first_smallest(length.iter().map(|&length| -(length as f64)));
    // fastai takes the elements to be neighbours, also when they are not.
    let third = length[end] as f64 / 3.0;
    (end + third as usize + (third / 2.0) as usize).saturating_sub(length[end])
}

/// The left end of the window when the slopes at its ends first agree.
fn slide(losses: &[f64]) -> usize {
    let last = losses.len() - 1;
    let slope = |i: usize| match i {
        0 => losses[1] - losses[0],
        i if i == last => losses[last] - losses[last - 1],
        i => (losses[i + 1] - losses[i - 1]) / 2.0,
    };
    let (mut right, mut found) = (last, last - WINDOW);
    while right >= WINDOW && (slope(right) - slope(right - WINDOW)).abs() > 0.005 {
        found = right - WINDOW;
        right -= 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    const RULES: [RangeRule; 4] =
        [RangeRule::Valley, RangeRule::Steep, RangeRule::Minimum, RangeRule::Slide];

    /// A test whose smoothed losses after trimming are `losses`, at the rates 1, 2, 3 and so on.
    fn of(losses: &[f64]) -> RangeTest {
        let smoothed: Vec<f64> = losses.iter().copied().chain([0.0; 5]).collect();
        let rates = (1..=smoothed.len()).map(|i| i as f64).collect();
        RangeTest { rates, losses: smoothed.clone(), smoothed, num_steps: 9 }
    }

    #[test]
    fn rates_grow_geometrically() {
        let config = RangeTestConfig::new().with_start_lr(1e-4).with_end_lr(1.0).with_num_steps(4);
        let rates: Vec<f64> = (0..4).map(|i| config.rate(i)).collect();
        for (rate, expected) in rates.into_iter().zip([1e-4, 1e-3, 1e-2, 1e-1]) {
            assert!((rate / expected - 1.0).abs() < 1e-14);
        }
    }

    #[test]
    fn losses_are_smoothed_without_bias_and_divergence_stops() {
        let losses = [2.0, 1.0, 3.0, 50.0, 1.0];
        let mut next = 0;
        let test = RangeTestConfig::new()
            .with_smoothing(0.5)
            .run(
                &mut next,
                |_| 0,
                |i, _| {
                    *i += 1;
                    Ok::<_, Infallible>(losses[*i - 1])
                },
                |i, s| *i = s,
            )
            .expect("no step fails");
        // By hand: weights 1/2, 1/4, .. over their sum.
        let expected = [2.0, (1.0 + 1.0) / 1.5, (3.0 + 0.5 + 0.5) / 1.75];
        for (smoothed, expected) in test.smoothed.iter().zip(expected) {
            assert!((smoothed - expected).abs() < 1e-15);
        }
        assert_eq!((test.losses.len(), next), (4, 0), "50 is more than 4 times the best");
    }

    #[test]
    fn negative_losses_are_no_divergence_and_nan_ends_the_test() {
        let run = |loss: fn(usize) -> f64| {
            let config = RangeTestConfig::new().with_num_steps(40);
            let step = |i: &mut usize, _: f64| {
                *i += 1;
                Ok::<_, Infallible>(loss(*i))
            };
            config.run(&mut 0, |i| *i, step, |i, saved| *i = saved).expect("no step fails")
        };
        assert_eq!(run(|i| -1.0 - i as f64 / 40.0).losses.len(), 40);
        let nan = run(|i| if i > 30 { f64::NAN } else { 2.0 - i as f64 / 40.0 });
        assert_eq!(nan.losses.len(), 31);
        for rule in RULES {
            assert!(nan.suggest(rule).expect("22 losses are left").is_finite());
        }
    }

    #[test]
    fn the_state_comes_back_whatever_happens() {
        let config = RangeTestConfig::new();
        let mut state = vec![1.0, 2.0];
        let failed = config.run(
            &mut state,
            Clone::clone,
            |state, _| {
                state[0] += 1.0;
                if state[0] > 3.0 { Err(std::fmt::Error) } else { Ok(1.0) }
            },
            |state, saved| *state = saved,
        );
        let message = failed.expect_err("the third step fails").to_string();
        assert!(message.starts_with("step 2 of the range test failed"), "{message}");
        assert_eq!(state, [1.0, 2.0]);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            config.run::<_, _, Infallible>(
                &mut state,
                Clone::clone,
                |state, _| {
                    state.clear();
                    panic!("a broken step")
                },
                |state, saved| *state = saved,
            )
        }));
        assert!(panicked.is_err());
        assert_eq!(state, [1.0, 2.0]);
    }

    #[test]
    fn suggestions_agree_with_numpy() {
        #[derive(serde::Deserialize)]
        struct Case {
            losses: Vec<f64>,
            valley: f64,
            steep: f64,
            minimum: f64,
            slide: f64,
        }
        let text = include_str!("../../../../tests/references/schedule_range.json");
        let cases: Vec<Case> = serde_json::from_str(text).expect("recorded cases");
        assert_eq!(cases.len(), 6);
        for case in cases {
            let config = RangeTestConfig::new();
            let rates = (0..case.losses.len()).map(|i| config.rate(i)).collect();
            let smoothed = case.losses.clone();
            let test = RangeTest { rates, losses: case.losses, smoothed, num_steps: 100 };
            let expected = [case.valley, case.steep, case.minimum, case.slide];
            for (rule, expected) in RULES.into_iter().zip(expected) {
                let found = test.suggest(rule).expect("enough losses");
                assert!((found / expected - 1.0).abs() < 1e-12, "{rule:?}: {found}, {expected}");
            }
        }
    }

    #[test]
    fn valley_by_hand() {
        // Falls over the indices 1 to 6: length 6, end 6, a third is 2: index 6 - 6 + 2 + 1 = 3, the rate 4.
        let losses = [4.0, 9.0, 8.0, 7.0, 6.0, 5.0, 3.0, 5.0, 6.0];
        assert_eq!(of(&losses).suggest(RangeRule::Valley), Ok(4.0));
        // 9 8 7 2 with a rise between: the length is 4, the end index 5, so 5 - 4 + 1 + 0 = 2.
        assert_eq!(of(&[9.0, 8.0, 9.5, 9.5, 7.0, 2.0]).suggest(RangeRule::Valley), Ok(3.0));
        assert_eq!(of(&[1.0]).suggest(RangeRule::Valley), Ok(1.0));
        assert_eq!(of(&[1.0, 2.0, 3.0]).suggest(RangeRule::Valley), Ok(1.0));
    }

    #[test]
    fn steep_and_minimum_by_hand() {
        // Slopes over ln rate: (2 - 4) / ln 2 = -2.9, (1.5 - 2) / ln 1.5 = -1.2, (0 - 1.5) / ln(4/3) = -5.2.
        assert_eq!(of(&[4.0, 2.0, 1.5, 0.0, 1.0]).suggest(RangeRule::Steep), Ok(3.0));
        assert_eq!(of(&[4.0, 2.0, 1.5, 0.0, 1.0]).suggest(RangeRule::Minimum), Ok(0.4));
        assert_eq!(of(&[4.0, 1.0, 1.0]).suggest(RangeRule::Minimum), Ok(0.2));
    }

    #[test]
    fn slide_by_hand() {
        // A parabola around index 10 has slope 2 (i - 10) inside: ends of any window differ by 30, so it slides to 0.
        let parabola: Vec<f64> = (0..40).map(|i| f64::from(i - 10) * f64::from(i - 10)).collect();
        assert_eq!(of(&parabola).suggest(RangeRule::Slide), Ok(1.0));
        // A line: the slopes agree at once, 15 from the end.
        let line: Vec<f64> = (0..40).map(f64::from).collect();
        assert_eq!(of(&line).suggest(RangeRule::Slide), Ok(25.0));
        // A line with one steep step at its very end: the slopes agree when the window has left the last two points.
        let mut bent = line;
        bent[39] = 100.0;
        assert_eq!(of(&bent).suggest(RangeRule::Slide), Ok(24.0));
    }

    #[test]
    fn too_few_losses_are_said() {
        let error =
            of(&[1.0; 15]).suggest(RangeRule::Slide).expect_err("16 are needed").to_string();
        assert_eq!(
            error,
            "the rule `slide` needs at least 16 losses after trimming, the range test has 15"
        );
        for rule in RULES {
            assert!(of(&[]).suggest(rule).is_err());
            assert!(of(&[f64::NAN, 1.0]).suggest(rule).is_err());
        }
    }

    #[test]
    fn refuses() {
        let run = |config: RangeTestConfig| {
            let step = |(): &mut (), _: f64| Ok::<_, Infallible>(1.0);
            config.run(&mut (), |()| (), step, |(), ()| ()).map_err(|e| e.to_string())
        };
        let new = RangeTestConfig::new;
        for (config, field) in [
            (new().with_start_lr(0.0), "`start_lr` must be in (0, 10)"),
            (new().with_start_lr(20.0), "`start_lr` must be in (0, 10)"),
            (new().with_end_lr(f64::NAN), "`end_lr`"),
            (new().with_num_steps(1), "`num_steps` must be at least 2"),
            (new().with_smoothing(1.0), "`smoothing` must be in [0, 1)"),
            (new().with_divergence(1.0), "`divergence` must be in (1, inf)"),
        ] {
            let error = run(config).expect_err("refused");
            assert!(error.starts_with(field), "{error}");
        }
    }

    #[cfg(any(feature = "flex", feature = "ndarray"))]
    #[test]
    fn a_burn_model_and_its_optimizer_come_back_bit_by_bit() {
        use burn::nn::{Linear, LinearConfig};
        use burn::optim::{GradientsParams, ModuleOptimizer, SgdConfig, momentum::MomentumConfig};
        use burn::tensor::{Device, Distribution, Tensor};

        struct State {
            model: Linear,
            optim: ModuleOptimizer,
        }
        fn step(state: &mut State, lr: f64, data: &(Tensor<2>, Tensor<2>)) -> f64 {
            let error = state.model.forward(data.0.clone()) - data.1.clone();
            let loss = error.square().mean();
            let value = loss.clone().into_scalar::<f64>();
            let grads = GradientsParams::from_grads(loss.backward(), &state.model);
            state.model = state.optim.step(lr, state.model.clone(), grads);
            value
        }
        let weights = |state: &State| state.model.weight.val().into_data();
        for device in firebrick_backend::testing::devices() {
            let device: Device = device.autodiff();
            let random = |shape: [usize; 2]| Tensor::random(shape, Distribution::Default, &device);
            let data = (random([8, 3]), random([8, 2]));
            let make = || SgdConfig::new().with_momentum(Some(MomentumConfig::new())).init();
            let mut state = State { model: LinearConfig::new(3, 2).init(&device), optim: make() };
            step(&mut state, 0.1, &data);
            let (before, record) = (weights(&state), state.optim.to_record());
            let mut twin = State { model: state.model.clone(), optim: make().load_record(record) };

            let test = RangeTestConfig::new()
                .run(
                    &mut state,
                    |state| (state.model.clone(), state.optim.to_record()),
                    |state, lr| Ok::<_, Infallible>(step(state, lr, &data)),
                    |state, (model, record)| {
                        *state = State { model, optim: make().load_record(record) };
                    },
                )
                .expect("no step fails");
            assert!(test.losses.len() > 20);
            assert_eq!(weights(&state), before);
            for _ in 0..3 {
                assert_eq!(step(&mut state, 0.1, &data), step(&mut twin, 0.1, &data));
            }
            assert_eq!(weights(&state), weights(&twin));
        }
    }
}
