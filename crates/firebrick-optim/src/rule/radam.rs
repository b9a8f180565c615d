//! RAdam: Adam that waits, by plain momentum, until the second moment can be trusted.
//!
//! # Update
//! With Adam's moments m, v and `r_inf = 2 / (1 - b2) - 1`:
//! ```text
//! r_t = r_inf - 2 t b2^t / (1 - b2^t)
//! r_t > 5:  p -= lr m_t / (1 - b1^t) R_t sqrt(1 - b2^t) / (sqrt(v_t) + eps)
//!           R_t = sqrt((r_t - 4) (r_t - 2) r_inf / ((r_inf - 4) (r_inf - 2) r_t))
//! else:     p -= lr m_t / (1 - b1^t)
//! ```
//! # Reference
//! L. Liu et al., "On the variance of the adaptive learning rate and beyond", 2019, arXiv 1908.03265.
//!
//! # Differences
//! As PyTorch: threshold 5 where the paper says 4; epsilon before the correction.

use super::moments::{Moments, Step};
use crate::elementwise::Elementwise;
use crate::recurrence::{Clock, Rule};
use crate::value::Value;
use burn::config::Config;
use firebrick_core::ConfigError;

/// Configuration of [RAdam](self).
#[derive(Config, Debug)]
pub struct RAdamConfig {
    /// Decay rate of the first moment, in `[0, 1)`.
    #[config(default = 0.9)]
    pub beta_1: f64,
    /// Decay rate of the second moment, in `[0, 1)`.
    #[config(default = 0.999)]
    pub beta_2: f64,
    /// Keeps the denominator from zero, in `[0, inf)`.
    #[config(default = 1e-8)]
    pub epsilon: f64,
    /// Strength of weight decay, in `[0, inf)`.
    #[config(default = 0.0)]
    pub weight_decay: f64,
    /// Whether weight decay is decoupled from the gradient.
    #[config(default = false)]
    pub decoupled: bool,
}

impl RAdamConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let moments = Moments::new(self.beta_1, self.beta_2, self.epsilon)?;
        Elementwise::new(RAdam(moments)).with_decay(super::decay(self.weight_decay, self.decoupled))
    }
}
super::doors!(RAdamConfig);

#[derive(Debug, Clone)]
struct RAdam(Moments);

#[derive(Clone, Copy)]
struct RectifiedStep {
    adam: Step,
    /// Factor of `m / (sqrt(v) + eps)`, the rate among it.
    adaptive: f64,
    /// Factor of `m` before that.
    plain: f64,
    rectified: bool,
}

/// r_t and R_t.
pub(super) fn rectification(beta_2: f64, t: u64) -> (f64, f64) {
    let power = beta_2.powf(t as f64);
    let limit = 2.0 / (1.0 - beta_2) - 1.0;
    let r = limit - 2.0 * t as f64 * power / (1.0 - power);
    (r, ((r - 4.0) * (r - 2.0) * limit / ((limit - 4.0) * (limit - 2.0) * r)).sqrt())
}

impl Rule<2> for RAdam {
    type Step = RectifiedStep;
    const NAME: &'static str = "radam";
    const SLOTS: [&'static str; 2] = ["exp_avg", "exp_avg_sq"];

    fn at(&self, clock: &Clock, _: &mut [f64]) -> RectifiedStep {
        let (adam, t) = (self.0.step(clock), clock.t as f64);
        let power = self.0.beta_2.powf(t);
        let (r, factor) = rectification(self.0.beta_2, clock.t);
        let rectified = r > 5.0;
        let adaptive = if rectified { adam.lr * factor * (1.0 - power).sqrt() } else { 0.0 };
        RectifiedStep { adam, adaptive, plain: adam.lr, rectified }
    }

    #[inline(always)]
    fn update<V: Value>(s: &RectifiedStep, p: V, g: V, [m, v]: [V; 2]) -> (V, [V; 2]) {
        let m = s.adam.first(m, g.clone());
        let v = s.adam.second(v, g);
        let d = if s.rectified {
            m.clone().scale(s.adaptive) / v.clone().sqrt().offset(s.adam.epsilon)
        } else {
            m.clone().scale(s.plain)
        };
        (p - d, [m, v])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{golden, refused};

    #[test]
    fn golden_trajectory() {
        let rule = RAdamConfig::new().build().expect("valid");
        golden(&rule, 0.1, [0.950000000, 0.939473684, 0.840439993, -0.558711984]);
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(RAdamConfig::new().with_beta_1(1.0).build(), "`beta_1` must be in [0, 1), got 1");
        refused(
            RAdamConfig::new().with_weight_decay(-1.0).build(),
            "`weight_decay` must be in [0, inf), got -1",
        );
        refused(
            RAdamConfig::new().with_epsilon(f64::NAN).build(),
            "`epsilon` must be in [0, inf), got NaN",
        );
    }
}
