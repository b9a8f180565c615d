//! QHAdam: Adam that mixes the current gradient into both moments, a family that contains Adam, NAdam and RMSProp.
//!
//! # Update
//! With Adam's corrected moments `m = m_t / (1 - b1^t)` and `v = v_t / (1 - b2^t)`:
//! ```text
//! p_t = p_{t-1} - lr ((1 - n1) g_t + n1 m) / (sqrt((1 - n2) g_t^2 + n2 v) + eps)
//! ```
//! # Reference
//! J. Ma, D. Yarats, "Quasi-hyperbolic momentum and Adam for deep learning", 2018, arXiv 1810.06801; there n1 = 0.7 and
//! n2 = 1 are recommended, 1 and 1 give Adam.

use super::moments::{Moments, Step};
use crate::elementwise::Elementwise;
use crate::recurrence::{Clock, Rule};
use crate::value::Value;
use burn::config::Config;
use firebrick_core::{ConfigError, check};

/// Configuration of [QHAdam](self).
#[derive(Config, Debug)]
pub struct QHAdamConfig {
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
    /// Share of the first moment, n1, in `[0, 1]`.
    #[config(default = 1.0)]
    pub nu_1: f64,
    /// Share of the second moment, n2, in `[0, 1]`.
    #[config(default = 1.0)]
    pub nu_2: f64,
}

impl QHAdamConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let moments = Moments::new(self.beta_1, self.beta_2, self.epsilon)?;
        let nu_1 = check::range("nu_1", self.nu_1, 0.0..=1.0)?;
        let nu_2 = check::range("nu_2", self.nu_2, 0.0..=1.0)?;
        Elementwise::new(QHAdam { moments, nu_1, nu_2 })
            .with_decay(super::decay(self.weight_decay, self.decoupled))
    }
}
super::doors!(QHAdamConfig);

#[derive(Debug, Clone)]
struct QHAdam {
    moments: Moments,
    nu_1: f64,
    nu_2: f64,
}

#[derive(Clone, Copy)]
struct MixedStep {
    adam: Step,
    grad: f64,
    momentum: f64,
    square: f64,
    second: f64,
}

impl Rule<2> for QHAdam {
    type Step = MixedStep;
    const NAME: &'static str = "qhadam";
    const SLOTS: [&'static str; 2] = ["exp_avg", "exp_avg_sq"];

    fn at(&self, clock: &Clock, _: &mut [f64]) -> MixedStep {
        let adam = self.moments.step(clock);
        MixedStep {
            adam,
            grad: clock.lr * (1.0 - self.nu_1),
            momentum: adam.lr * self.nu_1,
            square: 1.0 - self.nu_2,
            second: adam.correct * self.nu_2,
        }
    }

    #[inline(always)]
    fn update<V: Value>(s: &MixedStep, p: V, g: V, [m, v]: [V; 2]) -> (V, [V; 2]) {
        let m = s.adam.first(m, g.clone());
        let v = s.adam.second(v, g.clone());
        let d = g.clone().scale(s.grad) + m.clone().scale(s.momentum);
        let n =
            (g.square().scale(s.square) + v.clone().scale(s.second)).sqrt().offset(s.adam.epsilon);
        (p - d / n, [m, v])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{golden, refused};

    #[test]
    fn one_and_one_is_adam_and_the_mixture_is_the_formula() {
        let adam = QHAdamConfig::new().build().expect("valid");
        golden(&adam, 0.1, [0.900000002, 0.873366299, 0.595822295, -0.911238019]);
        let mixed = QHAdamConfig::new().with_nu_1(0.7).with_nu_2(0.9).build().expect("valid");
        let formula =
            |g: f64, m: f64, v: f64| (0.3 * g + 0.7 * m) / ((0.1 * g * g + 0.9 * v).sqrt() + 1e-8);
        golden(&mixed, 0.1, crate::testing::adam_like(0.1, formula));
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(QHAdamConfig::new().with_beta_1(1.0).build(), "`beta_1` must be in [0, 1), got 1");
        refused(
            QHAdamConfig::new().with_weight_decay(-1.0).build(),
            "`weight_decay` must be in [0, inf), got -1",
        );
        refused(
            QHAdamConfig::new().with_epsilon(f64::NAN).build(),
            "`epsilon` must be in [0, inf), got NaN",
        );
    }
}
