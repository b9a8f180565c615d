//! Grams: Adam decides how far to go, the gradient's sign decides where.
//!
//! # Update
//! With Adam's moments m, v:
//! ```text
//! p_t = p_{t-1} - lr sign(g_t) |m_t / (1 - b1^t) / (sqrt(v_t / (1 - b2^t)) + eps)|
//! ```
//! # Reference
//! Y. Cao et al., "Grams: gradient descent with adaptive momentum scaling", 2024, arXiv 2412.17107.

use super::moments::{Moments, Step};
use crate::decay::Decay;
use crate::elementwise::Elementwise;
use crate::recurrence::{Clock, Rule};
use crate::value::Value;
use burn::config::Config;
use firebrick_core::ConfigError;

/// Configuration of [Grams](self).
#[derive(Config, Debug)]
pub struct GramsConfig {
    /// Decay rate of the first moment, in `[0, 1)`.
    #[config(default = 0.9)]
    pub beta_1: f64,
    /// Decay rate of the second moment, in `[0, 1)`.
    #[config(default = 0.999)]
    pub beta_2: f64,
    /// Keeps the denominator from zero, in `[0, inf)`.
    #[config(default = 1e-6)]
    pub epsilon: f64,
    /// Strength of decoupled weight decay, in `[0, inf)`.
    #[config(default = 0.0)]
    pub weight_decay: f64,
}

impl GramsConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let moments = Moments::new(self.beta_1, self.beta_2, self.epsilon)?;
        Elementwise::new(Grams(moments)).with_decay(Decay::Decoupled(self.weight_decay))
    }
}
super::doors!(GramsConfig);

#[derive(Debug, Clone)]
struct Grams(Moments);

impl Rule<2> for Grams {
    type Step = Step;
    const NAME: &'static str = "grams";
    const SLOTS: [&'static str; 2] = ["exp_avg", "exp_avg_sq"];

    fn at(&self, clock: &Clock, _: &mut [f64]) -> Step {
        self.0.step(clock)
    }

    #[inline(always)]
    fn update<V: Value>(s: &Step, p: V, g: V, [m, v]: [V; 2]) -> (V, [V; 2]) {
        let m = s.first(m, g.clone());
        let v = s.second(v, g.clone());
        let d = (m.clone() / s.denominator(v.clone())).abs() * g.sign();
        (p - d.scale(s.lr), [m, v])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{golden, refused};

    #[test]
    fn golden_trajectory() {
        let rule = GramsConfig::new().build().expect("valid");
        golden(&rule, 0.1, [0.900000200, 0.926633837, 0.696782776, -0.819773758]);
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(GramsConfig::new().with_beta_1(1.0).build(), "`beta_1` must be in [0, 1), got 1");
        refused(
            GramsConfig::new().with_weight_decay(-1.0).build(),
            "`weight_decay` must be in [0, inf), got -1",
        );
        refused(
            GramsConfig::new().with_epsilon(f64::NAN).build(),
            "`epsilon` must be in [0, inf), got NaN",
        );
    }
}
