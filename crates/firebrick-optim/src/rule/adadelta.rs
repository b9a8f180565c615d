//! AdaDelta: steps in the parameter's own units, from the ratio of two moving averages; needs no rate.
//!
//! # Update
//! ```text
//! v_t = rho v_{t-1} + (1 - rho) g_t^2                  (1)
//! d_t = sqrt(u_{t-1} + eps) / sqrt(v_t + eps) g_t      (2)
//! u_t = rho u_{t-1} + (1 - rho) d_t^2                  (3)
//! p_t = p_{t-1} - lr d_t                               (4)
//! ```
//! With `use_rate` off, (4) has no rate, as in the paper.
//!
//! # Reference
//! M. Zeiler, "ADADELTA: an adaptive learning rate method", 2012, arXiv 1212.5701.
//!
//! # Differences
//! Defaults are PyTorch's, whose rate is 1; Keras has 1e-3 and rho 0.95.

use crate::decay::Decay;
use crate::elementwise::Elementwise;
use crate::recurrence::{Clock, Rule};
use crate::value::Value;
use burn::config::Config;
use firebrick_core::{ConfigError, check};

/// Configuration of [AdaDelta](self).
#[derive(Config, Debug)]
pub struct AdaDeltaConfig {
    /// Decay rate of both averages, in `[0, 1]`.
    #[config(default = 0.9)]
    pub rho: f64,
    /// Keeps both roots from zero and sets the first step, in `(0, inf)`.
    #[config(default = 1e-6)]
    pub epsilon: f64,
    /// Whether the learning rate multiplies the step.
    #[config(default = true)]
    pub use_rate: bool,
    /// Strength of coupled weight decay, in `[0, inf)`.
    #[config(default = 0.0)]
    pub weight_decay: f64,
}

impl AdaDeltaConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let rule = AdaDelta {
            rho: check::range("rho", self.rho, 0.0..=1.0)?,
            epsilon: check::positive("epsilon", self.epsilon)?,
            use_rate: self.use_rate,
        };
        Elementwise::new(rule).with_decay(Decay::Coupled(self.weight_decay))
    }
}
super::doors!(AdaDeltaConfig);

#[derive(Debug, Clone)]
struct AdaDelta {
    rho: f64,
    epsilon: f64,
    use_rate: bool,
}

#[derive(Clone, Copy)]
struct Step {
    rho: f64,
    fresh: f64,
    epsilon: f64,
    lr: f64,
}

impl Rule<2> for AdaDelta {
    type Step = Step;
    const NAME: &'static str = "adadelta";
    const SLOTS: [&'static str; 2] = ["square_avg", "acc_delta"];

    fn at(&self, clock: &Clock, _: &mut [f64]) -> Step {
        let lr = if self.use_rate { clock.lr } else { 1.0 };
        Step { rho: self.rho, fresh: 1.0 - self.rho, epsilon: self.epsilon, lr }
    }

    #[inline(always)]
    fn update<V: Value>(s: &Step, p: V, g: V, [v, u]: [V; 2]) -> (V, [V; 2]) {
        let v = v.scale(s.rho) + g.clone().square().scale(s.fresh); // (1)
        let d = u.clone().offset(s.epsilon).sqrt() / v.clone().offset(s.epsilon).sqrt() * g; // (2)
        let u = u.scale(s.rho) + d.clone().square().scale(s.fresh); // (3)
        (p - d.scale(s.lr), [v, u]) // (4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{golden, refused};

    #[test]
    fn golden_trajectory() {
        let rule = AdaDeltaConfig::new().build().expect("valid");
        golden(&rule, 1.0, [0.996837786, 0.998922873, 0.991791896, -0.510552334]);
        let free = AdaDeltaConfig::new().with_use_rate(false).build().expect("valid");
        golden(&free, 123.0, [0.996837786, 0.998922873, 0.991791896, -0.510552334]);
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(AdaDeltaConfig::new().with_rho(1.5).build(), "`rho` must be in [0, 1], got 1.5");
        refused(
            AdaDeltaConfig::new().with_epsilon(0.0).build(),
            "`epsilon` must be in (0, inf), got 0",
        );
    }
}
