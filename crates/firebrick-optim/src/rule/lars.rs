//! LARS: momentum whose rate, in each weight, is proportional to the norm of the weight over that of its gradient. For
//! very large batches.
//!
//! # Update
//! ```text
//! q   = tc |p| / (|g| + wd |p| + eps)      1 where a norm is 0
//! d   = q (g + wd p)                       (1)
//! b_t = mu b_{t-1} + (1 - damp) d, b_1 = d (2)
//! p_t = p_{t-1} - lr b_t                   (3)
//! ```
//! Biases, norm scales and whatever else does not decay take plain momentum steps (q = 1) unless `always_adapt`.
//!
//! # Reference
//! Y. You, I. Gitman, B. Ginsburg, "Large batch training of convolutional networks", 2017, arXiv 1708.03888.
//!
//! # Differences
//! The sum of norms in q is timm's and apex's; optax has the norm of g + wd p.

use super::reduce::{norm, ratio, take};
use crate::decay::Decay;
use crate::elementwise::Elementwise;
use crate::recurrence::Clock;
use crate::tensor_rule::TensorRule;
use crate::value::Value;
use burn::config::Config;
use burn::tensor::Tensor;
use firebrick_core::{ConfigError, check};

/// Configuration of [LARS](self).
#[derive(Config, Debug)]
pub struct LarsConfig {
    /// Share of the buffer that is kept, mu, in `[0, 1)`.
    #[config(default = 0.9)]
    pub momentum: f64,
    /// Share of the step left out of the buffer, in `[0, 1]`.
    #[config(default = 0.0)]
    pub dampening: f64,
    /// Whether to look ahead by one momentum step.
    #[config(default = false)]
    pub nesterov: bool,
    /// tc, above 0.
    #[config(default = 1e-3)]
    pub trust_coefficient: f64,
    /// Keeps the denominator from zero, in `[0, inf)`.
    #[config(default = 1e-8)]
    pub epsilon: f64,
    /// Strength of weight decay, in `[0, inf)`.
    #[config(default = 0.0)]
    pub weight_decay: f64,
    /// Whether parameters that do not decay are adapted too.
    #[config(default = false)]
    pub always_adapt: bool,
}

impl LarsConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let rule = Lars {
            momentum: check::range("momentum", self.momentum, 0.0..1.0)?,
            dampening: check::range("dampening", self.dampening, 0.0..=1.0)?,
            nesterov: self.nesterov,
            trust: check::positive("trust_coefficient", self.trust_coefficient)?,
            epsilon: check::non_negative("epsilon", self.epsilon)?,
            weight_decay: self.weight_decay,
            always: self.always_adapt,
        };
        Elementwise::of_tensor(rule).with_decay(Decay::Inner(self.weight_decay))
    }
}
super::doors!(LarsConfig);

#[derive(Debug)]
struct Lars {
    momentum: f64,
    dampening: f64,
    nesterov: bool,
    trust: f64,
    epsilon: f64,
    weight_decay: f64,
    always: bool,
}

impl TensorRule for Lars {
    fn name(&self) -> &'static str {
        "lars"
    }

    fn slots(&self) -> &'static [&'static str] {
        &["momentum_buffer"]
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
        let [b] = take(state, &p);
        let wd = if clock.decays { self.weight_decay } else { 0.0 };
        let mut d = g.clone() + p.clone().mul_scalar(wd);
        if clock.decays || self.always {
            let (size, grad) = (norm(p.clone()), norm(g));
            let sum = grad.clone() + size.clone().mul_scalar(wd) + self.epsilon;
            let quotient = ratio(size * self.trust, sum);
            let one = quotient.ones_like();
            d = d * Value::where_positive(grad, quotient, one); // (1)
        }
        let fresh = if clock.t == 1 { 1.0 } else { 1.0 - self.dampening };
        let b = b.mul_scalar(self.momentum) + d.clone().mul_scalar(fresh); // (2)
        let step = if self.nesterov { d + b.clone().mul_scalar(self.momentum) } else { b.clone() };
        (p - step.mul_scalar(clock.lr), vec![b]) // (3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{golden, refused};

    #[test]
    fn golden_trajectory() {
        let rule = LarsConfig::new().with_weight_decay(0.01).build().expect("valid");
        golden(&rule, 1.0, [0.998905744, 0.998588422, 0.986116882, -0.507764671]);
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(
            LarsConfig::new().with_trust_coefficient(0.0).build(),
            "`trust_coefficient` must be in (0, inf), got 0",
        );
        refused(
            LarsConfig::new().with_momentum(1.0).build(),
            "`momentum` must be in [0, 1), got 1",
        );
    }
}
