//! LAMB: Adam's step, rescaled in each weight to the weight's norm. For large-batch training of transformers.
//!
//! # Update
//! With Adam's moments m, v:
//! ```text
//! u   = m_t / (1 - b1^t) / (sqrt(v_t / (1 - b2^t)) + eps) + wd p    (1)
//! q   = |p| / (|u| + ratio_epsilon)        1 where a norm is 0
//! p_t = p_{t-1} - lr q u                   (2)
//! ```
//! Whatever does not decay takes Adam's steps (q = 1) unless `always_adapt`. With `largest_norm`, |p| in q is at most that.
//! Without `correct_bias` m and v stand in (1) as they are, as in the paper's first version; with `correct_rate` lr in (2) is
//! divided by `1 - b1^t`. With `decoupled` weight decay (1)
//! has no wd p; `p *= 1 - lr wd` comes first.
//!
//! # Reference
//! Y. You et al., "Large batch optimization for deep learning: training BERT in 76 minutes", 2019, arXiv 1904.00962.
//!
//! # Differences
//! timm also clips the global norm of the gradients to 1 by default; here that is left to the clipping of gradients.

use super::moments::{self, Moments};
use super::reduce::{adam, ratio};
use crate::decay::Decay;
use crate::elementwise::Elementwise;
use crate::recurrence::Clock;
use crate::reducing::ReducingRule;
use crate::value::Value;
use burn::config::Config;
use firebrick_core::{ConfigError, check};

/// Configuration of [LAMB](self).
#[derive(Config, Debug)]
pub struct LambConfig {
    /// Decay rate of the first moment, in `[0, 1)`.
    #[config(default = 0.9)]
    pub beta_1: f64,
    /// Decay rate of the second moment, in `[0, 1)`.
    #[config(default = 0.999)]
    pub beta_2: f64,
    /// Keeps the denominator from zero, in `[0, inf)`.
    #[config(default = 1e-6)]
    pub epsilon: f64,
    /// Strength of weight decay, in `[0, inf)`.
    #[config(default = 0.0)]
    pub weight_decay: f64,
    /// Whether weight decay is decoupled from the step.
    #[config(default = false)]
    pub decoupled: bool,
    /// Whether the moments are corrected for their start at zero.
    #[config(default = true)]
    pub correct_bias: bool,
    /// Whether the rate is corrected for the first moment's start at zero.
    #[config(default = false)]
    pub correct_rate: bool,
    /// Largest norm of a weight that counts, above 0; none for any.
    pub largest_norm: Option<f64>,
    /// Added to the norm of the step in q, in `[0, inf)`.
    #[config(default = 0.0)]
    pub ratio_epsilon: f64,
    /// Whether parameters that do not decay are adapted too.
    #[config(default = false)]
    pub always_adapt: bool,
}

impl LambConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let moments = Moments::new(self.beta_1, self.beta_2, self.epsilon)?;
        let largest = self.largest_norm.map(|norm| check::positive("largest_norm", norm));
        let rule = Lamb {
            moments,
            weight_decay: if self.decoupled { 0.0 } else { self.weight_decay },
            correct: self.correct_bias,
            correct_rate: self.correct_rate,
            largest: largest.transpose()?,
            ratio_epsilon: check::non_negative("ratio_epsilon", self.ratio_epsilon)?,
            always: self.always_adapt,
        };
        let optimizer = Elementwise::reducing(rule);
        optimizer.with_decay(if self.decoupled {
            Decay::Decoupled(self.weight_decay)
        } else {
            Decay::Inner(self.weight_decay)
        })
    }
}
super::doors!(LambConfig);

#[derive(Debug)]
struct Lamb {
    moments: Moments,
    weight_decay: f64,
    correct: bool,
    correct_rate: bool,
    largest: Option<f64>,
    ratio_epsilon: f64,
    always: bool,
}

#[derive(Clone, Copy)]
struct Step {
    moments: moments::Step,
    lr: f64,
    /// 0 for what does not decay.
    weight_decay: f64,
    corrects: bool,
    /// Cap on the norm of the weights.
    largest: Option<f64>,
    ratio_epsilon: f64,
    adapts: bool,
}

impl Step {
    #[inline(always)]
    fn direction<V: Value>(&self, p: V, m: V, v: V) -> V {
        let u = if self.corrects {
            m.scale(self.moments.correct_1) / self.moments.denominator(v)
        } else {
            m / v.sqrt().offset(self.moments.epsilon)
        };
        u + p.scale(self.weight_decay) // (1)
    }
}

impl ReducingRule<2, 2> for Lamb {
    type Step = Step;
    const NAME: &'static str = "lamb";
    const SLOTS: [&'static str; 2] = ["exp_avg", "exp_avg_sq"];

    fn at(&self, clock: &Clock, _: &[usize]) -> Step {
        let moments = self.moments.step(clock);
        Step {
            moments,
            lr: if self.correct_rate { moments.lr } else { clock.lr },
            weight_decay: if clock.decays { self.weight_decay } else { 0.0 },
            corrects: self.correct,
            largest: self.largest,
            ratio_epsilon: self.ratio_epsilon,
            adapts: clock.decays || self.always,
        }
    }

    #[inline(always)]
    fn begin<V: Value>(s: &Step, p: &V, g: &V, [m, v]: [V; 2]) -> ([V; 2], [V; 2]) {
        let (m, v) = adam(&s.moments, g.clone(), m, v);
        let u = s.direction(p.clone(), m.clone(), v.clone());
        ([m, v], [p.clone().square(), u.square()])
    }

    fn factor<V: Value>(s: &Step, [p, u]: [V; 2]) -> V {
        if !s.adapts {
            return p.constant(1.0);
        }
        let size = p.sqrt();
        let size = s.largest.map_or(size.clone(), |largest| size.clamp(0.0, largest));
        ratio(size, u.sqrt(), s.ratio_epsilon)
    }

    #[inline(always)]
    fn finish<V: Value>(s: &Step, q: V, p: V, _: V, [m, v]: [V; 2]) -> (V, [V; 2]) {
        let u = s.direction(p.clone(), m.clone(), v.clone());
        (p - (u * q).scale(s.lr), [m, v]) // (2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{golden, refused};

    #[test]
    fn golden_trajectory() {
        let rule = LambConfig::new().with_weight_decay(0.01).build().expect("valid");
        golden(&rule, 0.1, [0.920353522, 0.888914224, 0.391781924, -1.058545532]);
    }

    /// p = (3, 4) and g = (1, 1): m = 0.1 g, v = 0.001 g^2.
    #[test]
    fn the_first_versions_step_by_hand() {
        let config = LambConfig::new().with_epsilon(0.0).with_always_adapt(true);
        let first = |config: LambConfig| {
            let mut walk = crate::Walk::new(&config.build().expect("valid"), &[3.0, 4.0]);
            walk.step(0.1, &[1.0, 1.0])[0]
        };
        // |u| counts for nothing but the direction, so the missing correction cancels.
        let along = 1.0 / 2f64.sqrt();
        let plain = first(config.clone().with_correct_bias(false));
        assert!((plain - (3.0 - 0.1 * 5.0 * along)).abs() < 1e-12, "{plain}");
        let clamped = first(config.clone().with_largest_norm(Some(2.0)));
        assert!((clamped - (3.0 - 0.1 * 2.0 * along)).abs() < 1e-12, "{clamped}");
        // 1 - b1 = 0.1.
        let fast = config.clone().with_correct_bias(false).with_correct_rate(true);
        assert!((first(fast) - (3.0 - 5.0 * along)).abs() < 1e-12);
        // |u| is the root of 2.
        let damped = first(config.clone().with_ratio_epsilon(0.5));
        let q = 5.0 / (2f64.sqrt() + 0.5);
        assert!((damped - (3.0 - 0.1 * q)).abs() < 1e-12, "{damped}");
        let late = first(config.with_decoupled(true).with_weight_decay(0.5));
        assert!((late - 0.95 * (3.0 - 0.1 * 5.0 * along)).abs() < 1e-12, "{late}");
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(
            LambConfig::new().with_ratio_epsilon(-1.0).build(),
            "`ratio_epsilon` must be in [0, inf), got -1",
        );
        refused(LambConfig::new().with_beta_1(1.0).build(), "`beta_1` must be in [0, 1), got 1");
        refused(
            LambConfig::new().with_weight_decay(-1.0).build(),
            "`weight_decay` must be in [0, inf), got -1",
        );
        refused(
            LambConfig::new().with_epsilon(f64::NAN).build(),
            "`epsilon` must be in [0, inf), got NaN",
        );
    }
}
