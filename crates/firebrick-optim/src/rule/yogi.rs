//! Yogi: Adam whose second moment moves by a step that does not depend on how far it has to go.
//!
//! # Update
//! ```text
//! m_t = b1 m_{t-1} + (1 - b1) g_t                                        (1)
//! v_t = v_{t-1} - (1 - b2) sign(v_{t-1} - g_t^2) g_t^2                   (2)
//! p_t = p_{t-1} - lr m_t / (1 - b1^t) / (sqrt(v_t / (1 - b2^t)) + eps)   (3)
//! ```
//! Both moments start at `initial`.
//!
//! # Reference
//! M. Zaheer et al., "Adaptive methods for nonconvex optimization", NeurIPS 2018; its epsilon, start and rate (1e-2).

use super::moments::{Moments, Step};
use crate::elementwise::Elementwise;
use crate::recurrence::{Clock, Rule};
use crate::value::Value;
use burn::config::Config;
use firebrick_core::{ConfigError, check};

/// Configuration of [Yogi](self).
#[derive(Config, Debug)]
pub struct YogiConfig {
    /// Decay rate of the first moment, in `[0, 1)`.
    #[config(default = 0.9)]
    pub beta_1: f64,
    /// Decay rate of the second moment, in `[0, 1)`.
    #[config(default = 0.999)]
    pub beta_2: f64,
    /// Keeps the denominator from zero, in `[0, inf)`.
    #[config(default = 1e-3)]
    pub epsilon: f64,
    /// Strength of weight decay, in `[0, inf)`.
    #[config(default = 0.0)]
    pub weight_decay: f64,
    /// Whether weight decay is decoupled from the gradient.
    #[config(default = true)]
    pub decoupled: bool,
    /// What both moments start from, in `[0, inf)`.
    #[config(default = 1e-6)]
    pub initial: f64,
}

impl YogiConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let moments = Moments::new(self.beta_1, self.beta_2, self.epsilon)?;
        let initial = check::non_negative("initial", self.initial)?;
        Elementwise::new(Yogi(moments, initial))
            .with_decay(super::decay(self.weight_decay, self.decoupled))
    }
}
super::doors!(YogiConfig);

#[derive(Debug, Clone)]
struct Yogi(Moments, f64);

impl Rule<2> for Yogi {
    type Step = Step;
    const NAME: &'static str = "yogi";
    const SLOTS: [&'static str; 2] = ["exp_avg", "exp_avg_sq"];

    fn start(&self, _: f64) -> [f64; 2] {
        [self.1; 2]
    }

    fn at(&self, clock: &Clock, _: &mut [f64]) -> Step {
        self.0.step(clock)
    }

    #[inline(always)]
    fn update<V: Value>(s: &Step, p: V, g: V, [m, v]: [V; 2]) -> (V, [V; 2]) {
        let m = s.first(m, g.clone()); // (1)
        let g2 = g.square();
        let v = v.clone() - ((v - g2.clone()).sign() * g2).scale(s.fresh_2); // (2)
        let d = m.clone() / s.denominator(v.clone());
        (p - d.scale(s.lr), [m, v]) // (3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{golden, refused};

    #[test]
    fn golden_trajectory() {
        let rule = YogiConfig::new().build().expect("valid");
        golden(&rule, 0.1, [0.900396416, 0.873881739, 0.597307109, -0.903229529]);
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(YogiConfig::new().with_beta_1(1.0).build(), "`beta_1` must be in [0, 1), got 1");
        refused(
            YogiConfig::new().with_weight_decay(-1.0).build(),
            "`weight_decay` must be in [0, inf), got -1",
        );
        refused(
            YogiConfig::new().with_epsilon(f64::NAN).build(),
            "`epsilon` must be in [0, inf), got NaN",
        );
    }
}
