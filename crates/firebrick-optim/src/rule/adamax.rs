//! Adamax: Adam with the largest recent gradient in place of the root of the second moment.
//!
//! # Update
//! ```text
//! m_t = b1 m_{t-1} + (1 - b1) g_t                 (1)
//! u_t = max(b2 u_{t-1}, |g_t| + eps)              (2)
//! p_t = p_{t-1} - lr / (1 - b1^t) m_t / u_t       (3)
//! ```
//! # Reference
//! D. Kingma, J. Ba, "Adam", 2014, arXiv 1412.6980, section 7.1.
//!
//! # Differences
//! As PyTorch: epsilon inside the maximum; usual rate 2e-3.

use super::moments::{Moments, Step};
use crate::elementwise::Elementwise;
use crate::recurrence::{Clock, Rule};
use crate::value::Value;
use burn::config::Config;
use firebrick_core::ConfigError;

/// Configuration of [Adamax](self).
#[derive(Config, Debug)]
pub struct AdamaxConfig {
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

impl AdamaxConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let moments = Moments::new(self.beta_1, self.beta_2, self.epsilon)?;
        Elementwise::new(Adamax(moments))
            .with_decay(super::decay(self.weight_decay, self.decoupled))
    }
}
super::doors!(AdamaxConfig);

#[derive(Debug, Clone)]
struct Adamax(Moments);

impl Rule<2> for Adamax {
    type Step = Step;
    const NAME: &'static str = "adamax";
    const SLOTS: [&'static str; 2] = ["exp_avg", "exp_inf"];

    fn at(&self, clock: &Clock, _: &mut [f64]) -> Step {
        self.0.step(clock)
    }

    #[inline(always)]
    fn update<V: Value>(s: &Step, p: V, g: V, [m, u]: [V; 2]) -> (V, [V; 2]) {
        let m = s.first(m, g.clone()); // (1)
        let u = u.scale(s.beta_2).max(g.abs().offset(s.epsilon)); // (2)
        (p - (m.clone() / u.clone()).scale(s.lr), [m, u]) // (3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{golden, refused};

    #[test]
    fn golden_trajectory() {
        let rule = AdamaxConfig::new().build().expect("valid");
        golden(&rule, 0.1, [0.900000002, 0.878926297, 0.706519033, -0.802985012]);
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(AdamaxConfig::new().with_beta_1(1.0).build(), "`beta_1` must be in [0, 1), got 1");
        refused(
            AdamaxConfig::new().with_weight_decay(-1.0).build(),
            "`weight_decay` must be in [0, inf), got -1",
        );
        refused(
            AdamaxConfig::new().with_epsilon(f64::NAN).build(),
            "`epsilon` must be in [0, inf), got NaN",
        );
    }
}
