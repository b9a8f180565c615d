//! Adafactor: the second moment of a matrix as the product of a row and a column. State of a vector for a matrix; for
//! when memory is short.
//!
//! # Update
//! With `b_t = 1 - t^decay` and, of a matrix, row and column means of the squares r, c (a vector keeps all of v):
//! ```text
//! PyTorch's form                                   Original
//! r, c of g^2                                      r, c of g^2 + eps1               (1)
//! v = max(r c / max(mean(r), eps1), eps1^2)        v = r c / mean(r)                (2)
//! u = g / sqrt(v), then u / max(1, rms(u) / d)     the same                         (3)
//! a = max(eps2, rms(p)) min(lr, 1 / sqrt(t))       a = max(eps2, rms(p)) lr         (4)
//! p = (1 - lr wd) p - a u                          p = (1 - wd a) p - a u           (5)
//! ```
//! With `relative_step`, lr in (4) of the original is `min(1e-2, 1 / sqrt(t))` and the given rate counts for nothing.
//! Without `scale_parameter` the factor `max(eps2, rms(p))` is left out there.
//!
//! # Reference
//! N. Shazeer, M. Stern, "Adafactor: adaptive learning rates with sublinear memory cost", 2018, arXiv 1804.04235.
//!
//! # Differences
//! PyTorch's is the default; its usual rate is 1e-2. eps1 is there the machine epsilon of f32. burn has the original.

use super::reduce::{matrices, rms, take};
use crate::decay::Decay;
use crate::elementwise::Elementwise;
use crate::recurrence::Clock;
use crate::tensor_rule::TensorRule;
use crate::value::Value;
use burn::config::Config;
use burn::tensor::Tensor;
use firebrick_core::{ConfigError, check};
use serde::{Deserialize, Serialize};
use std::ops::Bound;

/// Which of the two Adafactors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum AdafactorForm {
    /// That of `torch.optim`.
    #[default]
    Torch,
    /// That of the paper and of fairseq.
    Original,
}

/// Configuration of [Adafactor](self).
#[derive(Config, Debug)]
pub struct AdafactorConfig {
    /// Exponent of the decay rate, below or equal to 0.
    #[config(default = -0.8)]
    pub decay: f64,
    /// eps1, in `[0, inf)`; none for the form's own: 1.1920929e-7 or 1e-30.
    pub epsilon: Option<f64>,
    /// eps2: the least size of a parameter that counts, in `[0, inf)`.
    #[config(default = 1e-3)]
    pub epsilon_scale: f64,
    /// d: largest root mean square of a step, above 0.
    #[config(default = 1.0)]
    pub threshold: f64,
    /// Strength of weight decay, in `[0, inf)`.
    #[config(default = 0.0)]
    pub weight_decay: f64,
    /// Which of the two.
    #[config(default = "AdafactorForm::Torch")]
    pub form: AdafactorForm,
    /// Whether the original's rate follows the step alone.
    #[config(default = false)]
    pub relative_step: bool,
    /// Whether the original's rate is scaled by the parameter's size.
    #[config(default = true)]
    pub scale_parameter: bool,
}

impl AdafactorConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let range = (Bound::Unbounded, Bound::Included(0.0));
        let own = if self.form == AdafactorForm::Torch { f64::from(f32::EPSILON) } else { 1e-30 };
        let rule = Adafactor {
            decay: check::range("decay", self.decay, range)?,
            floor: check::non_negative("epsilon", self.epsilon.unwrap_or(own))?,
            least: check::non_negative("epsilon_scale", self.epsilon_scale)?,
            threshold: check::positive("threshold", self.threshold)?,
            weight_decay: self.weight_decay,
            torch: self.form == AdafactorForm::Torch,
            relative: self.relative_step,
            scaled: self.scale_parameter,
        };
        Elementwise::of_tensor(rule).with_decay(Decay::Inner(self.weight_decay))
    }
}
super::doors!(AdafactorConfig);

#[derive(Debug)]
struct Adafactor {
    decay: f64,
    floor: f64,
    least: f64,
    threshold: f64,
    weight_decay: f64,
    torch: bool,
    relative: bool,
    scaled: bool,
}

impl Adafactor {
    /// The state of (1) after this step, and the estimate of (2).
    fn estimate(
        &self,
        shape: &[usize],
        fresh: f64,
        square: Tensor<1>,
        [a, b]: [Tensor<1>; 2],
    ) -> (Tensor<1>, [Tensor<1>; 2]) {
        let Some([batch, rows, columns]) = matrices(shape) else {
            let v = a.lerp(square, fresh);
            return (v.clone(), [v, b]);
        };
        let square = square.reshape([batch, rows, columns]);
        let row = a.lerp(square.clone().mean_dim(2).reshape([batch * rows]), fresh);
        let column = b.lerp(square.mean_dim(1).reshape([batch * columns]), fresh);
        let r = row.clone().reshape([batch, rows, 1]);
        let c = column.clone().reshape([batch, 1, columns]);
        let mean = r.clone().mean_dim(1);
        let mean = if self.torch { mean.clamp_min(self.floor) } else { mean };
        let estimate = (r / mean * c).reshape([batch * rows * columns]);
        (estimate, [row, column])
    }
}

impl TensorRule for Adafactor {
    fn name(&self) -> &'static str {
        "adafactor"
    }

    fn slots(&self) -> &'static [&'static str] {
        &["row_or_all", "column"]
    }

    fn lengths(&self, shape: &[usize]) -> Vec<usize> {
        match matrices(shape) {
            Some([batch, rows, columns]) => vec![batch * rows, batch * columns],
            None => vec![shape.iter().product(), 0],
        }
    }

    fn step(
        &self,
        clock: &Clock,
        shape: &[usize],
        _: &mut [f64],
        p: Tensor<1>,
        g: Tensor<1>,
        state: Vec<Tensor<1>>,
    ) -> (Tensor<1>, Vec<Tensor<1>>) {
        let state = take(state, &p);
        let t = clock.t as f64;
        let square = g.clone().square();
        let square = if self.torch { square } else { square.add_scalar(self.floor) };
        let (v, state) = self.estimate(shape, t.powf(self.decay), square, state); // (1), (2)
        let v = if self.torch {
            // In f32 the square of a smaller floor would be 0.
            v.clamp_min((self.floor * self.floor).max(f64::from(f32::MIN_POSITIVE)))
        } else {
            v
        };
        let u = g / v.sqrt();
        let u = u.clone() / rms(u).div_scalar(self.threshold).clamp_min(1.0); // (3)
        let rate = match (self.torch, self.relative) {
            (true, _) => clock.lr.min(1.0 / t.sqrt()),
            (false, true) => (1.0 / t.sqrt()).min(1e-2),
            (false, false) => clock.lr,
        };
        let size = rms(p.clone()).clamp_min(self.least);
        let size = if self.torch || self.scaled { size } else { size.ones_like() };
        let a = size.mul_scalar(rate); // (4)
        let wd = if clock.decays { self.weight_decay } else { 0.0 };
        let kept = match (wd == 0.0, self.torch) {
            (true, _) => p,
            (false, true) => p.mul_scalar(1.0 - clock.lr * wd),
            (false, false) => p.clone() - p * a.clone().mul_scalar(wd),
        };
        (kept - u * a, state.into()) // (5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::refused;

    fn walk(
        rule: &Elementwise,
        lr: f64,
        p: [[f64; 2]; 2],
        g: [[f64; 2]; 2],
        steps: usize,
    ) -> Vec<Vec<f64>> {
        use burn::optim::Optimizer;
        let device = burn::tensor::Device::default();
        let matrix = |values| Tensor::<2>::from_data(values, (&device, burn::tensor::DType::F64));
        let (mut p, mut state) = (matrix(p), None);
        (0..steps)
            .map(|_| {
                let (new, next) = rule.step(lr, p.clone(), matrix(g), state.take());
                (p, state) = (new, next);
                p.clone().into_data().try_into_vec().expect("f64")
            })
            .collect()
    }

    #[test]
    fn golden_trajectory() {
        let rule = AdafactorConfig::new().build().expect("valid");
        let path = walk(&rule, 0.01, [[1.0, -0.5], [0.25, 2.0]], [[0.5, -0.25], [0.8, 0.1]], 2);
        let expected = [
            [0.990203771, -0.482838513, 0.239132060, 1.995240260],
            [0.980463664, -0.465775342, 0.228326382, 1.990507788],
        ];
        for (seen, expected) in path.iter().flatten().zip(expected.iter().flatten()) {
            assert!((seen - expected).abs() < 6e-10, "{seen} {expected}");
        }
    }

    #[test]
    fn the_original_by_hand() {
        // g = 1 everywhere: u = 1, rms 1, so the step is lr rms(p); then decay wd a p.
        let config =
            AdafactorConfig::new().with_form(AdafactorForm::Original).with_weight_decay(0.5);
        let step = |config: AdafactorConfig| {
            let path = walk(&config.build().expect("valid"), 0.1, [[2.0; 2]; 2], [[1.0; 2]; 2], 1);
            path[0][0]
        };
        assert!((step(config.clone()) - (2.0 - 0.5 * 0.2 * 2.0 - 0.2)).abs() < 1e-12);
        assert!(
            (step(config.clone().with_scale_parameter(false)) - (2.0 - 0.5 * 0.1 * 2.0 - 0.1))
                .abs()
                < 1e-12
        );
        assert!(
            (step(config.with_relative_step(true)) - (2.0 - 0.5 * 0.02 * 2.0 - 0.02)).abs() < 1e-12
        );
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(
            AdafactorConfig::new().with_decay(0.5).build(),
            "`decay` must be in (-inf, 0], got 0.5",
        );
        refused(
            AdafactorConfig::new().with_threshold(0.0).build(),
            "`threshold` must be in (0, inf), got 0",
        );
    }
}
