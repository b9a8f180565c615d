//! LARS: momentum whose rate, in each weight, is proportional to the norm of the weight over that of its gradient. For
//! very large batches.
//!
//! # Update
//! ```text
//! q   = tc |p| / (|g| + wd |p| + eps)      1 where a norm is 0
//! d   = q (g + wd p)                       (1)
//! b_t = mu b_{t-1} + (1 - damp) d, b_1 = d (2)     b_t = d without momentum
//! p_t = p_{t-1} - lr b_t                   (3)
//! ```
//! Biases, norm scales and whatever else does not decay take plain momentum steps (q = 1) unless `always_adapt`.
//!
//! # Reference
//! Y. You, I. Gitman, B. Ginsburg, "Large batch training of convolutional networks", 2017, arXiv 1708.03888.
//!
//! # Differences
//! The sum of norms in q is timm's and apex's; optax has the norm of g + wd p. `dampen_first` dampens b_1 too, as
//! pytorch_optimizer does.

use super::reduce::ratio;
use crate::decay::Decay;
use crate::elementwise::Elementwise;
use crate::recurrence::Clock;
use crate::reducing::ReducingRule;
use crate::value::Value;
use burn::config::Config;
use firebrick_core::{ConfigError, check};

/// Configuration of [LARS](self).
#[derive(Config, Debug)]
pub struct LarsConfig {
    /// Share of the buffer that is kept, mu, in `[0, 1)`.
    #[config(default = 0.9)]
    pub momentum: f64,
    /// Share of the step left out of the buffer, in `[0, 1]`.
    #[config(default = 0.0)]
    pub dampening: f64,
    /// Whether that holds for the first step.
    #[config(default = false)]
    pub dampen_first: bool,
    /// Whether to look ahead by one momentum step.
    #[config(default = false)]
    pub nesterov: bool,
    /// tc, above 0.
    #[config(default = 1e-3)]
    pub trust_coefficient: f64,
    /// Keeps the denominator from zero, in `[0, inf)`.
    #[config(default = 1e-8)]
    pub epsilon: f64,
    /// Strength of weight decay, in `[0, inf)`.
    #[config(default = 0.0)]
    pub weight_decay: f64,
    /// Whether parameters that do not decay are adapted too.
    #[config(default = false)]
    pub always_adapt: bool,
}

impl LarsConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let rule = Lars {
            momentum: check::range("momentum", self.momentum, 0.0..1.0)?,
            dampening: check::range("dampening", self.dampening, 0.0..=1.0)?,
            dampen_first: self.dampen_first,
            nesterov: self.nesterov,
            trust: check::positive("trust_coefficient", self.trust_coefficient)?,
            epsilon: check::non_negative("epsilon", self.epsilon)?,
            weight_decay: self.weight_decay,
            always: self.always_adapt,
        };
        Elementwise::reducing(rule).with_decay(Decay::Inner(self.weight_decay))
    }
}
super::doors!(LarsConfig);

#[derive(Debug)]
struct Lars {
    momentum: f64,
    dampening: f64,
    dampen_first: bool,
    nesterov: bool,
    trust: f64,
    epsilon: f64,
    weight_decay: f64,
    always: bool,
}

#[derive(Clone, Copy)]
struct Step {
    lr: f64,
    weight_decay: f64,
    momentum: f64,
    /// Share of the new direction.
    fresh: f64,
    nesterov: bool,
    adapts: bool,
    trust: f64,
    epsilon: f64,
}

impl ReducingRule<1, 2> for Lars {
    type Step = Step;
    const NAME: &'static str = "lars";
    const SLOTS: [&'static str; 1] = ["momentum_buffer"];

    fn at(&self, clock: &Clock, _: &[usize]) -> Step {
        // Without momentum there is no buffer to dampen.
        let dampens = self.momentum > 0.0 && (clock.t > 1 || self.dampen_first);
        Step {
            lr: clock.lr,
            weight_decay: if clock.decays { self.weight_decay } else { 0.0 },
            momentum: self.momentum,
            fresh: if dampens { 1.0 - self.dampening } else { 1.0 },
            nesterov: self.nesterov,
            adapts: clock.decays || self.always,
            trust: self.trust,
            epsilon: self.epsilon,
        }
    }

    #[inline(always)]
    fn begin<V: Value>(_: &Step, p: &V, g: &V, state: [V; 1]) -> ([V; 1], [V; 2]) {
        (state, [p.clone().square(), g.clone().square()])
    }

    fn factor<V: Value>(s: &Step, [p, g]: [V; 2]) -> V {
        let one = p.constant(1.0);
        if !s.adapts {
            return one;
        }
        let (size, grad) = (p.sqrt(), g.sqrt());
        let sum = grad.clone() + size.clone().scale(s.weight_decay).offset(s.epsilon);
        grad.where_positive(ratio(size.scale(s.trust), sum, 0.0), one) // (1)
    }

    #[inline(always)]
    fn finish<V: Value>(s: &Step, q: V, p: V, g: V, [b]: [V; 1]) -> (V, [V; 1]) {
        let d = (g + p.clone().scale(s.weight_decay)) * q;
        let b = b.scale(s.momentum) + d.clone().scale(s.fresh); // (2)
        let step = if s.nesterov { d + b.clone().scale(s.momentum) } else { b.clone() };
        (p - step.scale(s.lr), [b]) // (3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{golden, refused};

    #[test]
    fn golden_trajectory() {
        let rule = LarsConfig::new().with_weight_decay(0.01).build().expect("valid");
        golden(&rule, 1.0, [0.998905744, 0.998588422, 0.986116882, -0.507764671]);
    }

    #[test]
    fn a_norm_of_zero_adapts_nothing() {
        let rule = LarsConfig::new().with_weight_decay(0.5).build().expect("valid");
        let first = |p: [f64; 2], g: [f64; 2]| crate::Walk::new(&rule, &p).step(0.1, &g).to_vec();
        let near = |seen: Vec<f64>, expected: [f64; 2]| {
            assert!(seen.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-10), "{seen:?}");
        };
        near(first([0.0, 0.0], [3.0, 4.0]), [-0.3, -0.4]);
        near(first([3.0, 4.0], [0.0, 0.0]), [3.0 * 0.95, 4.0 * 0.95]);
        // q = 0.001 * 5 / (10 + 0.5 * 5) = 4e-4, and g + wd p = (7.5, 10).
        near(first([3.0, 4.0], [6.0, 8.0]), [3.0 - 3e-4, 4.0 - 4e-4]);
    }

    /// p = (3, 4) and g = (6, 8) without decay: q = 0.001 * 5 / 10, d = q g, of which a quarter is left out.
    #[test]
    fn the_first_step_is_dampened_where_that_is_asked_for() {
        let config = LarsConfig::new().with_dampening(0.25).with_always_adapt(true);
        for (first, share) in [(false, 1.0), (true, 0.75)] {
            let rule = config.clone().with_dampen_first(first).build().expect("valid");
            let seen = crate::Walk::new(&rule, &[3.0, 4.0]).step(0.1, &[6.0, 8.0])[0];
            assert!((seen - (3.0 - 0.1 * share * 5e-4 * 6.0)).abs() < 1e-12, "{first}: {seen}");
        }
        // Without momentum nothing is: the same ratio again, of a point 1e-4 nearer.
        let plain = config.with_momentum(0.0).with_dampen_first(true).build().expect("valid");
        let mut walk = crate::Walk::new(&plain, &[3.0, 4.0]);
        walk.step(0.1, &[6.0, 8.0]);
        let second = walk.step(0.1, &[6.0, 8.0])[0];
        assert!((second - 3.0 * (1.0 - 1e-4) * (1.0 - 1e-4)).abs() < 1e-12, "{second}");
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(
            LarsConfig::new().with_trust_coefficient(0.0).build(),
            "`trust_coefficient` must be in (0, inf), got 0",
        );
        refused(
            LarsConfig::new().with_momentum(1.0).build(),
            "`momentum` must be in [0, 1), got 1",
        );
    }
}
