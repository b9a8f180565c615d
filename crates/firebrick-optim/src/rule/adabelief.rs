//! AdaBelief: scales by how far the gradient is from what was expected, not by how large it is.
//!
//! # Update
//! ```text
//! m_t = b1 m_{t-1} + (1 - b1) g_t                                        (1)
//! s_t = b2 s_{t-1} + (1 - b2) (g_t - m_t)^2 + eps                        (2)
//! p_t = p_{t-1} - lr m_t / (1 - b1^t) / (sqrt(s_t / (1 - b2^t)) + eps)   (3)
//! ```
//! # Reference
//! J. Zhuang et al., "AdaBelief optimizer", 2020, arXiv 2010.07468; the authors' code for the default epsilon 1e-16.
//!
//! # Differences
//! Decay is decoupled, as in the authors' code; its rectified variant is not offered.

use super::moments::{Moments, Step};
use crate::elementwise::Elementwise;
use crate::recurrence::{Clock, Rule};
use crate::value::Value;
use burn::config::Config;
use firebrick_core::ConfigError;

/// Configuration of [AdaBelief](self).
#[derive(Config, Debug)]
pub struct AdaBeliefConfig {
    /// Decay rate of the first moment, in `[0, 1)`.
    #[config(default = 0.9)]
    pub beta_1: f64,
    /// Decay rate of the second moment, in `[0, 1)`.
    #[config(default = 0.999)]
    pub beta_2: f64,
    /// Keeps the denominator from zero, in `[0, inf)`.
    #[config(default = 1e-16)]
    pub epsilon: f64,
    /// Strength of weight decay, in `[0, inf)`.
    #[config(default = 0.0)]
    pub weight_decay: f64,
    /// Whether weight decay is decoupled from the gradient.
    #[config(default = true)]
    pub decoupled: bool,
}

impl AdaBeliefConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let moments = Moments::new(self.beta_1, self.beta_2, self.epsilon)?;
        Elementwise::new(AdaBelief(moments))
            .with_decay(super::decay(self.weight_decay, self.decoupled))
    }
}
super::doors!(AdaBeliefConfig);

#[derive(Debug, Clone)]
struct AdaBelief(Moments);

impl Rule<2> for AdaBelief {
    type Step = Step;
    const NAME: &'static str = "adabelief";
    const SLOTS: [&'static str; 2] = ["exp_avg", "exp_avg_var"];

    fn at(&self, clock: &Clock, _: &mut [f64]) -> Step {
        self.0.step(clock)
    }

    #[inline(always)]
    fn update<V: Value>(s: &Step, p: V, g: V, [m, v]: [V; 2]) -> (V, [V; 2]) {
        let m = s.first(m, g.clone()); // (1)
        let v = s.second(v, g - m.clone()).offset(s.epsilon); // (2)
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
        let rule = AdaBeliefConfig::new().build().expect("valid");
        golden(&rule, 0.1, [0.888888889, 0.860518810, 0.550450039, -0.958323327]);
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(
            AdaBeliefConfig::new().with_beta_1(1.0).build(),
            "`beta_1` must be in [0, 1), got 1",
        );
        refused(
            AdaBeliefConfig::new().with_weight_decay(-1.0).build(),
            "`weight_decay` must be in [0, inf), got -1",
        );
        refused(
            AdaBeliefConfig::new().with_epsilon(f64::NAN).build(),
            "`epsilon` must be in [0, inf), got NaN",
        );
    }
}
