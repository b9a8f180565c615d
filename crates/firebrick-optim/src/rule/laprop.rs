//! LaProp: scales the gradient first and takes momentum after, so that the two decay rates are free of each other.
//!
//! # Update
//! ```text
//! v_t = b2 v_{t-1} + (1 - b2) g_t^2                                                  (1)
//! m_t = b1 m_{t-1} + (1 - b1) lr_t g_t / (sqrt(v_t / (1 - b2^t)) + eps)              (2)
//! p_t = p_{t-1} - m_t / c_t,   c_t = l_t / lr_t,   l_t = b1 l_{t-1} + (1 - b1) lr_t   (3)
//! ```
//! While the rate is constant, `c_t = 1 - b1^t`. With `amsgrad` the largest v so far stands in (2).
//!
//! # Reference
//! L. Ziyin, Z. Wang, M. Ueda, "LaProp: separating momentum and adaptivity in Adam", 2020, arXiv 2002.04839. The usual
//! rate is 4e-4.

use super::moments::{Moments, Step};
use crate::decay::Decay;
use crate::elementwise::Elementwise;
use crate::recurrence::{Clock, Rule};
use crate::value::Value;
use burn::config::Config;
use firebrick_core::ConfigError;

/// Configuration of [LaProp](self).
#[derive(Config, Debug)]
pub struct LaPropConfig {
    /// Decay rate of the first moment, in `[0, 1)`.
    #[config(default = 0.9)]
    pub beta_1: f64,
    /// Decay rate of the second moment, in `[0, 1)`.
    #[config(default = 0.999)]
    pub beta_2: f64,
    /// Keeps the denominator from zero, in `[0, inf)`.
    #[config(default = 1e-15)]
    pub epsilon: f64,
    /// Strength of decoupled weight decay after the step, as in the authors' code, in `[0, inf)`.
    #[config(default = 0.0)]
    pub weight_decay: f64,
    /// Whether the second moment may not fall.
    #[config(default = false)]
    pub amsgrad: bool,
}

impl LaPropConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let moments = Moments::new(self.beta_1, self.beta_2, self.epsilon)?;
        let optimizer = if self.amsgrad {
            Elementwise::new(LaProp::<true>(moments))
        } else {
            Elementwise::new(LaProp::<false>(moments))
        };
        optimizer.with_decay(Decay::Late(self.weight_decay))
    }
}
super::doors!(LaPropConfig);

#[derive(Debug, Clone)]
struct LaProp<const AMS: bool>(Moments);

#[derive(Clone, Copy)]
struct InnerStep {
    adam: Step,
    /// (1 - b1) lr.
    fresh: f64,
    /// 1 / c.
    out: f64,
}

impl<const AMS: bool> LaProp<AMS> {
    fn step(&self, clock: &Clock, memory: &mut [f64]) -> InnerStep {
        let (adam, b1) = (self.0.step(clock), self.0.beta_1);
        let mean = b1 * memory.first().copied().unwrap_or(0.0) + (1.0 - b1) * clock.lr;
        if let Some(memory) = memory.first_mut() {
            *memory = mean;
        }
        let out = if clock.lr == 0.0 { 1.0 } else { clock.lr / mean };
        InnerStep { adam, fresh: (1.0 - b1) * clock.lr, out }
    }
}

impl InnerStep {
    /// The momentum, from the second moment that counts.
    #[inline(always)]
    fn first<V: Value>(&self, m: V, v: V, g: V) -> V {
        m.scale(self.adam.beta_1) + (g / self.adam.denominator(v)).scale(self.fresh) // (2)
    }
}

impl Rule<2> for LaProp<false> {
    type Step = InnerStep;
    const NAME: &'static str = "laprop";
    const SLOTS: [&'static str; 2] = ["exp_avg", "exp_avg_sq"];

    /// The moving average of the rate.
    fn memory(&self) -> Vec<f64> {
        vec![0.0]
    }

    fn at(&self, clock: &Clock, memory: &mut [f64]) -> InnerStep {
        self.step(clock, memory)
    }

    #[inline(always)]
    fn update<V: Value>(s: &InnerStep, p: V, g: V, [m, v]: [V; 2]) -> (V, [V; 2]) {
        let v = s.adam.second(v, g.clone()); // (1)
        let m = s.first(m, v.clone(), g);
        (p - m.clone().scale(s.out), [m, v]) // (3)
    }
}

impl Rule<3> for LaProp<true> {
    type Step = InnerStep;
    const NAME: &'static str = "laprop_amsgrad";
    const SLOTS: [&'static str; 3] = ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"];

    fn memory(&self) -> Vec<f64> {
        vec![0.0]
    }

    fn at(&self, clock: &Clock, memory: &mut [f64]) -> InnerStep {
        self.step(clock, memory)
    }

    #[inline(always)]
    fn update<V: Value>(s: &InnerStep, p: V, g: V, [m, v, x]: [V; 3]) -> (V, [V; 3]) {
        let v = s.adam.second(v, g.clone());
        let x = x.max(v.clone());
        let m = s.first(m, x.clone(), g);
        (p - m.clone().scale(s.out), [m, v, x])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::refused;

    #[test]
    fn by_hand() {
        // At t = 1: v = 0.001 g^2, corrected g^2, so the step is lr sign(g).
        let rule = LaPropConfig::new().build().expect("valid");
        let mut walk = crate::Walk::new(&rule, &[1.0]);
        assert!((walk.step(0.1, &[0.5])[0] - 0.9).abs() < 1e-12);
        // At t = 2 with g = -0.25.
        let root = ((0.999 * 0.25 + 0.0625) / 1.999f64).sqrt();
        let m = 0.9 * 0.1 * 0.1 + 0.1 * 0.1 * (-0.25 / root);
        assert!((walk.step(0.1, &[-0.25])[0] - (0.9 - m / 0.19)).abs() < 1e-12);
    }

    #[test]
    fn the_largest_moment_counts() {
        // b2 = 0.5: v is 2 after g = 2 and 1.5 after g = 1, of which 2 counts, corrected by 3 / 4.
        let config = LaPropConfig::new().with_beta_1(0.0).with_beta_2(0.5).with_amsgrad(true);
        let mut walk = crate::Walk::new(&config.build().expect("valid"), &[0.0]);
        assert!((walk.step(0.1, &[2.0])[0] + 0.1).abs() < 1e-12);
        let second = walk.step(0.1, &[1.0])[0];
        assert!((second + 0.1 + 0.1 / (2.0 / 0.75f64).sqrt()).abs() < 1e-12, "{second}");
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(LaPropConfig::new().with_beta_1(1.0).build(), "`beta_1` must be in [0, 1), got 1");
        refused(
            LaPropConfig::new().with_weight_decay(-1.0).build(),
            "`weight_decay` must be in [0, inf), got -1",
        );
        refused(
            LaPropConfig::new().with_epsilon(f64::NAN).build(),
            "`epsilon` must be in [0, inf), got NaN",
        );
    }
}
