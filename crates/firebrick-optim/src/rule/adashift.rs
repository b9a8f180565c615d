//! AdaShift: Adam whose second moment comes from a gradient that is out of the first moment's window, so that the two
//! are independent. Where Adam's large steps for rare gradients hurt.
//!
//! # Update
//! With n = `keep` gradients kept, for t > n (before that the gradients are only collected):
//! ```text
//! v_t = b2 v_{t-1} + (1 - b2) phi(g_{t-n}^2)                       (1)
//! m_t = sum_{i<n} b1^i g_{t-i} / sum_{i<n} b1^i                    (2)
//! p_t = p_{t-1} - lr m_t / (sqrt(v_t / (1 - b2^(t-n))) + eps)      (3)
//! ```
//! phi is the maximum over the tensor, or nothing.
//!
//! # Reference
//! Z. Zhou et al., "AdaShift: decorrelation and convergence of adaptive learning rate methods", 2018, arXiv 1810.00143.

use super::reduce::take;
use crate::decay::Decay;
use crate::elementwise::Elementwise;
use crate::recurrence::Clock;
use crate::tensor_rule::TensorRule;
use burn::config::Config;
use burn::tensor::{DType, Tensor, TensorData};
use firebrick_core::{ConfigError, check};
use serde::{Deserialize, Serialize};

/// phi: what the squares of an old gradient are reduced to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ShiftReduce {
    /// The largest of the tensor, as the paper recommends.
    #[default]
    Max,
    /// Each element its own.
    Element,
}

/// Configuration of [AdaShift](self).
#[derive(Config, Debug)]
pub struct AdaShiftConfig {
    /// Weight of a gradient against the one after it, in `[0, 1)`.
    #[config(default = 0.9)]
    pub beta_1: f64,
    /// Decay rate of the second moment, in `[0, 1)`.
    #[config(default = 0.999)]
    pub beta_2: f64,
    /// Gradients that are kept, n, at least 1.
    #[config(default = 10)]
    pub keep: usize,
    /// What the squares are reduced to.
    #[config(default = "ShiftReduce::Max")]
    pub reduce: ShiftReduce,
    /// Keeps the denominator from zero, in `[0, inf)`.
    #[config(default = 1e-10)]
    pub epsilon: f64,
    /// Strength of decoupled weight decay, in `[0, inf)`.
    #[config(default = 0.0)]
    pub weight_decay: f64,
}

impl AdaShiftConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let rule = AdaShift {
            beta_1: check::range("beta_1", self.beta_1, 0.0..1.0)?,
            beta_2: check::range("beta_2", self.beta_2, 0.0..1.0)?,
            keep: check::at_least("keep", self.keep, 1)?,
            epsilon: check::non_negative("epsilon", self.epsilon)?,
            reduce: self.reduce,
        };
        Elementwise::of_tensor(rule).with_decay(Decay::Decoupled(self.weight_decay))
    }
}
super::doors!(AdaShiftConfig);

#[derive(Debug)]
struct AdaShift {
    beta_1: f64,
    beta_2: f64,
    keep: usize,
    epsilon: f64,
    reduce: ShiftReduce,
}

impl TensorRule for AdaShift {
    fn name(&self) -> &'static str {
        "adashift"
    }

    fn slots(&self) -> &'static [&'static str] {
        &["exp_avg_sq", "grads"]
    }

    fn lengths(&self, shape: &[usize]) -> Vec<usize> {
        let n = shape.iter().product();
        vec![if self.reduce == ShiftReduce::Max { 1 } else { n }, self.keep * n]
    }

    fn moves(&self, t: u64) -> bool {
        t > self.keep as u64
    }

    fn step(
        &self,
        clock: &Clock,
        _: &[usize],
        _: &mut [f64],
        p: Tensor<1>,
        g: Tensor<1>,
        state: Vec<Tensor<1>>,
    ) -> (Tensor<1>, Vec<Tensor<1>>) {
        let [v, grads] = take(state, &p);
        let [n] = p.dims();
        // A ring: the gradient of step s lies in row (s - 1) mod keep.
        let row = ((clock.t - 1) % self.keep as u64) as usize;
        let mut rows = grads.reshape([self.keep, n]);
        let old = rows.clone().narrow(0, row, 1).reshape([n]);
        rows = rows.slice_assign([row..row + 1, 0..n], g.reshape([1, n]));
        if !self.moves(clock.t) {
            return (p, vec![v, rows.reshape([self.keep * n])]);
        }
        let square = old.square();
        let square = if self.reduce == ShiftReduce::Max { square.max() } else { square };
        let v = v.mul_scalar(self.beta_2) + square.mul_scalar(1.0 - self.beta_2); // (1)
        let age = |k: usize| (row + self.keep - k) % self.keep;
        let weights = (0..self.keep).map(|k| self.beta_1.powi(age(k) as i32));
        let sum: f64 = weights.clone().sum();
        let weights: Vec<f64> = weights.map(|weight| weight / sum).collect();
        let data = TensorData::new(weights, [1, self.keep]);
        let data = if p.dtype() == DType::F64 { data } else { data.convert::<f32>() };
        let weights = Tensor::<2>::from_data(data, (&p.device(), p.dtype()));
        let m = weights.matmul(rows.clone()).reshape([n]); // (2)
        let correct = 1.0 - self.beta_2.powf((clock.t - self.keep as u64) as f64);
        let root = v.clone().div_scalar(correct).sqrt().add_scalar(self.epsilon);
        (p - m.mul_scalar(clock.lr) / root, vec![v, rows.reshape([self.keep * n])]) // (3)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::Walk;
    use crate::testing::{GRADS, refused};

    /// Sums written out over all gradients so far; the rule keeps a ring.
    fn expected(t: usize, keep: usize, reduce: ShiftReduce) -> [f64; 2] {
        let mut p = [1.0, -0.5];
        for now in keep..t {
            let total: f64 = (0..keep).map(|i| 0.8f64.powi(i as i32)).sum();
            for k in 0..2 {
                let m: f64 =
                    (0..keep).map(|i| 0.8f64.powi(i as i32) * GRADS[now - i][k]).sum::<f64>()
                        / total;
                let square = |s: usize| match reduce {
                    ShiftReduce::Max => GRADS[s].iter().fold(0.0f64, |a, g| a.max(g * g)),
                    ShiftReduce::Element => GRADS[s][k] * GRADS[s][k],
                };
                let last = now - keep;
                let v: f64 =
                    (0..=last).map(|s| 0.1 * 0.9f64.powi((last - s) as i32) * square(s)).sum();
                let correct = 1.0 - 0.9f64.powi(last as i32 + 1);
                p[k] -= 0.1 * m / ((v / correct).sqrt() + 1e-10);
            }
        }
        p
    }

    #[test]
    fn the_ring_gives_the_sums_over_the_last_gradients() {
        for reduce in [ShiftReduce::Max, ShiftReduce::Element] {
            for keep in 1..5 {
                let config = AdaShiftConfig::new().with_beta_1(0.8).with_beta_2(0.9);
                let config = config.with_keep(keep).with_reduce(reduce).with_weight_decay(0.0);
                let mut walk = Walk::new(&config.build().expect("valid"), &[1.0, -0.5]);
                for (t, grad) in GRADS.iter().enumerate() {
                    let seen = walk.step(0.1, grad).to_vec();
                    for (seen, expected) in seen.iter().zip(expected(t + 1, keep, reduce)) {
                        assert!((seen - expected).abs() < 1e-12, "{keep} {t}: {seen} {expected}");
                    }
                }
            }
        }
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(AdaShiftConfig::new().with_keep(0).build(), "`keep` must be at least 1, got 0");
        refused(
            AdaShiftConfig::new().with_beta_1(1.0).build(),
            "`beta_1` must be in [0, 1), got 1",
        );
    }
}
