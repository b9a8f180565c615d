//! Prodigy: Adam that estimates its own rate from how far the parameter has come; the given rate is 1, under a cosine.
//!
//! # Update
//! With `d_1 = d0`, `b3 = sqrt(b2)` and a = d lr:
//! ```text
//! n_t = b3 n_{t-1} + (d / d0) a <g_t, p_0 - p_{t-1}>                      (1)
//! s_t = b3 s_{t-1} + (d / d0) a g_t                                       (2)
//! m_t = b1 m_{t-1} + (1 - b1) d g_t,   v_t = b2 v_{t-1} + (1 - b2) d^2 g_t^2   (3)
//! d'  = max(d, coefficient n_t / |s_t|_1), at most growth d               (4)
//! p_t = (1 - a wd) p_{t-1} - a m_t / (sqrt(v_t) + d' eps)                 (5)
//! ```
//! # Reference
//! K. Mishchenko, A. Defazio, "Prodigy: an expeditiously adaptive parameter-free learner", 2023, arXiv 2306.06101.
//!
//! # Differences
//! The authors' code has ONE d for all parameters of an optimizer; here every tensor estimates its own, which is the
//! same for a single tensor and a different method for a model of many.

use super::reduce::take;
use crate::decay::Decay;
use crate::elementwise::Elementwise;
use crate::recurrence::Clock;
use crate::tensor_rule::TensorRule;
use crate::value::Value;
use burn::config::Config;
use burn::tensor::Tensor;
use firebrick_core::{ConfigError, check};

/// Configuration of [Prodigy](self).
#[derive(Config, Debug)]
pub struct ProdigyConfig {
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
    #[config(default = 0.0)]
    pub weight_decay: f64,
    /// First estimate of d, above 0.
    #[config(default = 1e-6)]
    pub d0: f64,
    /// Factor of the estimate, above 0.
    #[config(default = 1.0)]
    pub d_coefficient: f64,
    /// Largest growth of d in a step, at least 1.
    #[config(default = 1e30)]
    pub growth: f64,
}

impl ProdigyConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let growth = check::range("growth", self.growth, 1.0..)?;
        let rule = Prodigy {
            beta_1: check::range("beta_1", self.beta_1, 0.0..1.0)?,
            beta_2: check::range("beta_2", self.beta_2, 0.0..1.0)?,
            epsilon: check::non_negative("epsilon", self.epsilon)?,
            d0: check::positive("d0", self.d0)?,
            coefficient: check::positive("d_coefficient", self.d_coefficient)?,
            growth,
            weight_decay: self.weight_decay,
        };
        Elementwise::of_tensor(rule).with_decay(Decay::Inner(self.weight_decay))
    }
}
super::doors!(ProdigyConfig);

#[derive(Debug)]
struct Prodigy {
    beta_1: f64,
    beta_2: f64,
    epsilon: f64,
    d0: f64,
    coefficient: f64,
    growth: f64,
    weight_decay: f64,
}

impl TensorRule for Prodigy {
    fn name(&self) -> &'static str {
        "prodigy"
    }

    fn slots(&self) -> &'static [&'static str] {
        &["exp_avg", "exp_avg_sq", "s", "p0", "d", "numerator"]
    }

    fn lengths(&self, shape: &[usize]) -> Vec<usize> {
        let n = shape.iter().product();
        vec![n, n, n, n, 1, 1]
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
        let [m, v, s, p0, d, n] = take(state, &p);
        let (p0, d) = if clock.t == 1 { (p.clone(), d.add_scalar(self.d0)) } else { (p0, d) };
        let beta_3 = self.beta_2.sqrt();
        let rate = d.clone().mul_scalar(clock.lr);
        let weight = d.clone().mul_scalar(1.0 / self.d0) * rate.clone();
        let along = (g.clone() * (p0.clone() - p.clone())).sum();
        let n = n.mul_scalar(beta_3) + weight.clone() * along; // (1)
        let s = s.mul_scalar(beta_3) + g.clone() * weight; // (2)
        let scaled = g * d.clone();
        let m = m.mul_scalar(self.beta_1) + scaled.clone().mul_scalar(1.0 - self.beta_1); // (3)
        let v = v.mul_scalar(self.beta_2) + scaled.square().mul_scalar(1.0 - self.beta_2);
        let sum = s.clone().abs().sum();
        let guess = n.clone().mul_scalar(self.coefficient) / sum.clone();
        // Without any gradient so far there is nothing to estimate from.
        let guess = sum.where_positive(guess, d.clone());
        let new = Value::max(d.clone(), guess);
        let new = new.min_pair(d.mul_scalar(self.growth)); // (4)
        let kept = if clock.decays && self.weight_decay > 0.0 {
            p.clone() - p * rate.clone().mul_scalar(self.weight_decay)
        } else {
            p
        };
        let root = v.clone().sqrt() + new.clone().mul_scalar(self.epsilon);
        // Where the root is 0 the gradient has always been 0.
        let one = root.ones_like();
        let step = m.clone() / root.clone().where_positive(root, one);
        (kept - step * rate, vec![m, v, s, p0, new, n]) // (5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{golden, refused};

    #[test]
    fn golden_trajectory() {
        let rule = ProdigyConfig::new().build().expect("valid");
        golden(&rule, 1.0, [0.999996838, 0.999995706, 0.999997314, -0.500072167]);
    }

    #[test]
    fn the_estimate_grows_until_it_fits_a_parabola() {
        let rule = ProdigyConfig::new().build().expect("valid");
        let mut walk = crate::Walk::new(&rule, &[3.0, -2.0]);
        for _ in 0..300 {
            let grad: Vec<f64> = walk.point().to_vec();
            walk.step(1.0, &grad);
        }
        assert!(walk.point().iter().all(|x| x.abs() < 0.5), "{:?}", walk.point());
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(ProdigyConfig::new().with_beta_1(1.0).build(), "`beta_1` must be in [0, 1), got 1");
        refused(
            ProdigyConfig::new().with_weight_decay(-1.0).build(),
            "`weight_decay` must be in [0, inf), got -1",
        );
        refused(
            ProdigyConfig::new().with_epsilon(f64::NAN).build(),
            "`epsilon` must be in [0, inf), got NaN",
        );
    }
}
