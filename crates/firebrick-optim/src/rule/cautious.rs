//! Cautious AdamW and Lion: elements whose step opposes the gradient wait; the others step further to make up for it.
//!
//! # Update
//! With the step u of AdamW (its `m`) or Lion, and n elements:
//! ```text
//! k = 1 where u g > 0, else 0
//! p_t = (1 - lr wd) p_{t-1} - lr u k / max(mean(k), 1e-3)     AdamW
//! p_t = (1 - lr wd) p_{t-1} - lr u k n / (sum(k) + 1)         Lion
//! ```
//! # Reference
//! K. Liang et al., "Cautious optimizers: improving training with one line of code", 2024, arXiv 2411.16085, in the
//! two normalizations of the authors' code.

use super::moments::Moments;
use super::reduce::{adam, positive, take};
use crate::decay::Decay;
use crate::elementwise::Elementwise;
use crate::recurrence::Clock;
use crate::tensor_rule::TensorRule;
use crate::value::Value;
use burn::config::Config;
use burn::tensor::Tensor;
use firebrick_core::{ConfigError, check};

/// Configuration of [Cautious AdamW](self).
#[derive(Config, Debug)]
pub struct CautiousAdamWConfig {
    /// Decay rate of the first moment, in `[0, 1)`.
    #[config(default = 0.9)]
    pub beta_1: f64,
    /// Decay rate of the second moment, in `[0, 1)`.
    #[config(default = 0.999)]
    pub beta_2: f64,
    /// Keeps the denominator from zero, in `[0, inf)`.
    #[config(default = 1e-8)]
    pub epsilon: f64,
    /// Strength of decoupled weight decay, in `[0, inf)`.
    #[config(default = 0.01)]
    pub weight_decay: f64,
}

impl CautiousAdamWConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let moments = Moments::new(self.beta_1, self.beta_2, self.epsilon)?;
        Elementwise::of_tensor(CautiousAdamW(moments))
            .with_decay(Decay::Decoupled(self.weight_decay))
    }
}
super::doors!(CautiousAdamWConfig);

/// Configuration of [Cautious Lion](self).
#[derive(Config, Debug)]
pub struct CautiousLionConfig {
    /// Share of the momentum in the direction, in `[0, 1)`.
    #[config(default = 0.95)]
    pub beta_1: f64,
    /// Decay rate of the momentum, in `[0, 1)`.
    #[config(default = 0.98)]
    pub beta_2: f64,
    /// Strength of decoupled weight decay, in `[0, inf)`.
    #[config(default = 0.0)]
    pub weight_decay: f64,
}

impl CautiousLionConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let rule = CautiousLion {
            beta_1: check::range("beta_1", self.beta_1, 0.0..1.0)?,
            beta_2: check::range("beta_2", self.beta_2, 0.0..1.0)?,
        };
        Elementwise::of_tensor(rule).with_decay(Decay::Decoupled(self.weight_decay))
    }
}
super::doors!(CautiousLionConfig);

#[derive(Debug)]
struct CautiousAdamW(Moments);

impl TensorRule for CautiousAdamW {
    fn name(&self) -> &'static str {
        "cautious_adamw"
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
        let s = self.0.step(clock);
        let (m, v) = adam(&s, g.clone(), m, v);
        let mask = positive(m.clone() * g);
        let mask = mask.clone() / mask.mean().clamp_min(1e-3);
        let step = m.clone().mul_scalar(s.lr) / s.denominator(v.clone()) * mask;
        (p - step, vec![m, v])
    }
}

#[derive(Debug)]
struct CautiousLion {
    beta_1: f64,
    beta_2: f64,
}

impl TensorRule for CautiousLion {
    fn name(&self) -> &'static str {
        "cautious_lion"
    }

    fn slots(&self) -> &'static [&'static str] {
        &["exp_avg"]
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
        let [m] = take(state, &p);
        let n = p.dims().into_iter().product::<usize>() as f64;
        let u = m.clone().mul_scalar(self.beta_1) + g.clone().mul_scalar(1.0 - self.beta_1);
        let u = Value::sign(u);
        let mask = positive(u.clone() * g.clone());
        let mask = mask.clone() * mask.sum().add_scalar(1.0).recip().mul_scalar(n);
        (p - (u * mask).mul_scalar(clock.lr), vec![m.lerp(g, 1.0 - self.beta_2)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{golden, refused};

    #[test]
    fn golden_trajectories() {
        let adamw = CautiousAdamWConfig::new().with_weight_decay(0.0).build().expect("valid");
        golden(&adamw, 0.1, [0.900000002, 0.900000002, 0.553367373, -1.014376058]);
        let lion = CautiousLionConfig::new().with_weight_decay(0.1).build().expect("valid");
        golden(&lion, 0.01, [0.992333333, 0.998007667, 0.965441118, -0.522574212]);
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(
            CautiousAdamWConfig::new().with_beta_1(1.0).build(),
            "`beta_1` must be in [0, 1), got 1",
        );
        refused(
            CautiousAdamWConfig::new().with_weight_decay(-1.0).build(),
            "`weight_decay` must be in [0, inf), got -1",
        );
        refused(
            CautiousAdamWConfig::new().with_epsilon(f64::NAN).build(),
            "`epsilon` must be in [0, inf), got NaN",
        );
    }
}
