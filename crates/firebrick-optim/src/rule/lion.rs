//! Lion: the sign of an interpolated momentum. Half of AdamW's state; rate 3 to 10 times smaller, decay as much larger.
//!
//! # Update
//! ```text
//! p   = (1 - lr wd) p_{t-1}
//! p_t = p - lr sign(b1 m_{t-1} + (1 - b1) g_t)     (1)
//! m_t = b2 m_{t-1} + (1 - b2) g_t                  (2)
//! ```
//! # Reference
//! X. Chen et al., "Symbolic discovery of optimization algorithms", 2023, arXiv 2302.06675. The usual rate is 1e-4.

use crate::decay::Decay;
use crate::elementwise::Elementwise;
use crate::recurrence::{Clock, Rule};
use crate::value::Value;
use burn::config::Config;
use firebrick_core::{ConfigError, check};

/// Configuration of [Lion](self).
#[derive(Config, Debug)]
pub struct LionConfig {
    /// Share of the momentum in the direction, in `[0, 1)`.
    #[config(default = 0.9)]
    pub beta_1: f64,
    /// Decay rate of the momentum, in `[0, 1)`.
    #[config(default = 0.99)]
    pub beta_2: f64,
    /// Strength of decoupled weight decay, in `[0, inf)`.
    #[config(default = 0.0)]
    pub weight_decay: f64,
}

impl LionConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let rule = Lion {
            beta_1: check::range("beta_1", self.beta_1, 0.0..1.0)?,
            beta_2: check::range("beta_2", self.beta_2, 0.0..1.0)?,
        };
        Elementwise::new(rule).with_decay(Decay::Decoupled(self.weight_decay))
    }
}
super::doors!(LionConfig);

#[derive(Debug, Clone)]
struct Lion {
    beta_1: f64,
    beta_2: f64,
}

#[derive(Clone, Copy)]
struct Step {
    beta_1: f64,
    fresh_1: f64,
    fresh_2: f64,
    lr: f64,
}

impl Rule<1> for Lion {
    type Step = Step;
    const NAME: &'static str = "lion";
    const SLOTS: [&'static str; 1] = ["exp_avg"];

    fn at(&self, clock: &Clock, _: &mut [f64]) -> Step {
        let Self { beta_1, beta_2 } = *self;
        Step { beta_1, fresh_1: 1.0 - beta_1, fresh_2: 1.0 - beta_2, lr: clock.lr }
    }

    #[inline(always)]
    fn update<V: Value>(s: &Step, p: V, g: V, [m]: [V; 1]) -> (V, [V; 1]) {
        let u = (m.clone().scale(s.beta_1) + g.clone().scale(s.fresh_1)).sign(); // (1)
        (p - u.scale(s.lr), [m.lerp(g, s.fresh_2)]) // (2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{golden, refused};

    #[test]
    fn golden_trajectory() {
        let rule = LionConfig::new().with_weight_decay(0.1).build().expect("valid");
        golden(&rule, 0.01, [0.989000000, 0.998011000, 0.952147704, -0.535854332]);
    }

    #[test]
    fn no_gradient_is_no_step() {
        let rule = LionConfig::new().build().expect("valid");
        assert_eq!(crate::Walk::new(&rule, &[1.0]).step(0.1, &[0.0]), [1.0]);
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(LionConfig::new().with_beta_1(1.0).build(), "`beta_1` must be in [0, 1), got 1");
    }
}
