//! Rprop: only signs count; each element has a step that grows while the sign holds and shrinks when it turns. For
//! full-batch training.
//!
//! # Update
//! ```text
//! a   = sign(g_t g_{t-1})
//! s_t = clamp(s_{t-1} {eta_plus if a > 0, eta_minus if a < 0, 1 else}, s_min, s_max)    (1)
//! g_t = 0 if a < 0                                                                      (2)
//! p_t = p_{t-1} - sign(g_t) s_t                                                         (3)
//! ```
//! The steps start at the learning rate of the first step, which counts for nothing later.
//!
//! # Reference
//! M. Riedmiller, H. Braun, 1993; without back-tracking: C. Igel, M. Huesken, 2000.
//!
//! # Differences
//! As PyTorch. The usual rate is 1e-2.

use crate::elementwise::Elementwise;
use crate::recurrence::{Clock, Rule};
use crate::value::Value;
use burn::config::Config;
use firebrick_core::{ConfigError, check};
use std::ops::Bound;

/// Configuration of [Rprop](self).
#[derive(Config, Debug)]
pub struct RpropConfig {
    /// Factor when the sign turns, in `(0, 1)`.
    #[config(default = 0.5)]
    pub eta_minus: f64,
    /// Factor while it holds, above 1.
    #[config(default = 1.2)]
    pub eta_plus: f64,
    /// Smallest step, in `[0, step_max]`.
    #[config(default = 1e-6)]
    pub step_min: f64,
    /// Largest step.
    #[config(default = 50.0)]
    pub step_max: f64,
}

impl RpropConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let minus = check::range(
            "eta_minus",
            self.eta_minus,
            (Bound::Excluded(0.0), Bound::Excluded(1.0)),
        )?;
        let plus =
            check::range("eta_plus", self.eta_plus, (Bound::Excluded(1.0), Bound::Unbounded))?;
        let high = check::positive("step_max", self.step_max)?;
        let low = check::range("step_min", self.step_min, 0.0..=high)?;
        Ok(Elementwise::new(Rprop { plus, minus, low, high }))
    }
}
super::doors!(RpropConfig);

#[derive(Debug, Clone, Copy)]
struct Rprop {
    plus: f64,
    minus: f64,
    low: f64,
    high: f64,
}

impl Rule<2> for Rprop {
    type Step = Self;
    const NAME: &'static str = "rprop";
    const SLOTS: [&'static str; 2] = ["prev", "step_size"];

    fn start(&self, lr: f64) -> [f64; 2] {
        [0.0, lr]
    }

    fn at(&self, _: &Clock, _: &mut [f64]) -> Self {
        *self
    }

    #[inline(always)]
    fn update<V: Value>(s: &Self, p: V, g: V, [last, size]: [V; 2]) -> (V, [V; 2]) {
        let agree = (g.clone() * last).sign();
        let grown = agree.clone().where_positive(size.clone().scale(s.plus), size.clone());
        let turned = -agree;
        let size = turned.clone().where_positive(size.scale(s.minus), grown).clamp(s.low, s.high); // (1)
        let g = turned.where_positive(g.clone().scale(0.0), g); // (2)
        (p - g.clone().sign() * size.clone(), [g, size]) // (3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{golden, refused};

    #[test]
    fn golden_trajectory() {
        let rule = RpropConfig::new().build().expect("valid");
        golden(&rule, 0.1, [0.900000000, 0.900000000, 0.638800000, -0.981600000]);
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(
            RpropConfig::new().with_eta_minus(1.0).build(),
            "`eta_minus` must be in (0, 1), got 1",
        );
        refused(
            RpropConfig::new().with_eta_plus(1.0).build(),
            "`eta_plus` must be in (1, inf), got 1",
        );
        refused(
            RpropConfig::new().with_step_min(60.0).build(),
            "`step_min` must be in [0, 50], got 60",
        );
    }
}
