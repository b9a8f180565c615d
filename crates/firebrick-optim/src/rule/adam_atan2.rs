//! Adam-atan2: Adam without an epsilon, and blind to the gradient's scale.
//!
//! # Update
//! With Adam's moments m, v:
//! ```text
//! p_t = p_{t-1} - lr a atan2(m_t / (1 - b1^t), b sqrt(v_t / (1 - b2^t)))
//! ```
//! A step is at most `lr a pi / 2`.
//!
//! # Reference
//! K. Everett et al., "Scaling exponents across parameterizations and optimizers", 2024, arXiv 2407.05872.

use super::moments::{Moments, Step};
use crate::decay::Decay;
use crate::elementwise::Elementwise;
use crate::recurrence::{Clock, Rule};
use crate::value::Value;
use burn::config::Config;
use firebrick_core::{ConfigError, check};

/// Configuration of [Adam-atan2](self).
#[derive(Config, Debug)]
pub struct AdamAtan2Config {
    /// Decay rate of the first moment, in `[0, 1)`.
    #[config(default = 0.9)]
    pub beta_1: f64,
    /// Decay rate of the second moment, in `[0, 1)`.
    #[config(default = 0.999)]
    pub beta_2: f64,
    /// Factor of the angle, above 0; 1.27 makes a typical step as long as Adam's.
    #[config(default = 1.27)]
    pub a: f64,
    /// Factor of the root, above 0.
    #[config(default = 1.0)]
    pub b: f64,
    /// Strength of decoupled weight decay, in `[0, inf)`.
    #[config(default = 0.0)]
    pub weight_decay: f64,
}

impl AdamAtan2Config {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let moments = Moments::new(self.beta_1, self.beta_2, 0.0)?;
        let (a, b) = (check::positive("a", self.a)?, check::positive("b", self.b)?);
        Elementwise::new(AdamAtan2 { moments, a, b })
            .with_decay(Decay::Decoupled(self.weight_decay))
    }
}
super::doors!(AdamAtan2Config);

#[derive(Debug, Clone)]
struct AdamAtan2 {
    moments: Moments,
    a: f64,
    b: f64,
}

#[derive(Clone, Copy)]
struct AngleStep {
    adam: Step,
    lr: f64,
    /// 1 / (1 - b1^t).
    correct_1: f64,
    root: f64,
}

impl Rule<2> for AdamAtan2 {
    type Step = AngleStep;
    const NAME: &'static str = "adam_atan2";
    const SLOTS: [&'static str; 2] = ["exp_avg", "exp_avg_sq"];

    fn at(&self, clock: &Clock, _: &mut [f64]) -> AngleStep {
        let adam = self.moments.step(clock);
        let correct_1 = 1.0 / (1.0 - self.moments.beta_1.powf(clock.t as f64));
        AngleStep { adam, lr: clock.lr * self.a, correct_1, root: adam.root * self.b }
    }

    #[inline(always)]
    fn update<V: Value>(s: &AngleStep, p: V, g: V, [m, v]: [V; 2]) -> (V, [V; 2]) {
        let m = s.adam.first(m, g.clone());
        let v = s.adam.second(v, g);
        let angle = m.clone().scale(s.correct_1).atan2(v.clone().sqrt().scale(s.root));
        (p - angle.scale(s.lr), [m, v])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{golden, refused};

    #[test]
    fn golden_trajectory() {
        let rule = AdamAtan2Config::new().build().expect("valid");
        golden(&rule, 0.1, crate::testing::adam_like(0.1, |_, m, v| 1.27 * m.atan2(v.sqrt())));
    }

    #[test]
    fn the_first_step_is_blind_to_scale_and_no_gradient_moves_nothing() {
        let rule = AdamAtan2Config::new().build().expect("valid");
        for g in [1e-30, 1.0, 1e30] {
            let mut walk = crate::Walk::new(&rule, &[0.0, 0.0]);
            let point = walk.step(0.1, &[g, 0.0]);
            assert!((point[0] + 0.127 * std::f64::consts::FRAC_PI_4).abs() < 1e-12);
            assert_eq!(point[1], 0.0);
        }
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(AdamAtan2Config::new().with_a(0.0).build(), "`a` must be in (0, inf), got 0");
        refused(AdamAtan2Config::new().with_b(-1.0).build(), "`b` must be in (0, inf), got -1");
    }
}
