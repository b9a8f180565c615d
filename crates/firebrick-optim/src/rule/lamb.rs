//! LAMB: Adam's step, rescaled in each weight to the weight's norm. For large-batch training of transformers.
//!
//! # Update
//! With Adam's moments m, v:
//! ```text
//! u   = m_t / (1 - b1^t) / (sqrt(v_t / (1 - b2^t)) + eps) + wd p    (1)
//! q   = |p| / |u|                          1 where a norm is 0
//! p_t = p_{t-1} - lr q u                   (2)
//! ```
//! Whatever does not decay takes Adam's steps (q = 1) unless `always_adapt`.
//!
//! # Reference
//! Y. You et al., "Large batch optimization for deep learning: training BERT in 76 minutes", 2019, arXiv 1904.00962.
//!
//! # Differences
//! timm also clips the global norm of the gradients to 1 by default; here that is left to the clipping of gradients.

use super::moments::Moments;
use super::reduce::{adam, norm, ratio, take};
use crate::decay::Decay;
use crate::elementwise::Elementwise;
use crate::recurrence::Clock;
use crate::tensor_rule::TensorRule;
use burn::config::Config;
use burn::tensor::Tensor;
use firebrick_core::ConfigError;

/// Configuration of [LAMB](self).
#[derive(Config, Debug)]
pub struct LambConfig {
    /// Decay rate of the first moment, in `[0, 1)`.
    #[config(default = 0.9)]
    pub beta_1: f64,
    /// Decay rate of the second moment, in `[0, 1)`.
    #[config(default = 0.999)]
    pub beta_2: f64,
    /// Keeps the denominator from zero, in `[0, inf)`.
    #[config(default = 1e-6)]
    pub epsilon: f64,
    /// Strength of weight decay, in `[0, inf)`.
    #[config(default = 0.0)]
    pub weight_decay: f64,
    /// Whether parameters that do not decay are adapted too.
    #[config(default = false)]
    pub always_adapt: bool,
}

impl LambConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let moments = Moments::new(self.beta_1, self.beta_2, self.epsilon)?;
        let rule = Lamb { moments, weight_decay: self.weight_decay, always: self.always_adapt };
        Elementwise::of_tensor(rule).with_decay(Decay::Inner(self.weight_decay))
    }
}
super::doors!(LambConfig);

#[derive(Debug)]
struct Lamb {
    moments: Moments,
    weight_decay: f64,
    always: bool,
}

impl TensorRule for Lamb {
    fn name(&self) -> &'static str {
        "lamb"
    }

    fn slots(&self) -> &'static [&'static str] {
        &["exp_avg", "exp_avg_sq"]
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
        let [m, v] = take(state, &p);
        let s = self.moments.step(clock);
        let (m, v) = adam(&s, g, m, v);
        let mut u = m.clone().mul_scalar(s.correct_1) / s.denominator(v.clone());
        if clock.decays {
            u = u + p.clone().mul_scalar(self.weight_decay); // (1)
        }
        if clock.decays || self.always {
            u = u.clone() * ratio(norm(p.clone()), norm(u));
        }
        (p - u.mul_scalar(clock.lr), vec![m, v]) // (2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{golden, refused};

    #[test]
    fn golden_trajectory() {
        let rule = LambConfig::new().with_weight_decay(0.01).build().expect("valid");
        golden(&rule, 0.1, [0.920353522, 0.888914224, 0.391781924, -1.058545532]);
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(LambConfig::new().with_beta_1(1.0).build(), "`beta_1` must be in [0, 1), got 1");
        refused(
            LambConfig::new().with_weight_decay(-1.0).build(),
            "`weight_decay` must be in [0, inf), got -1",
        );
        refused(
            LambConfig::new().with_epsilon(f64::NAN).build(),
            "`epsilon` must be in [0, inf), got NaN",
        );
    }
}
